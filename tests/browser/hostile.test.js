/**
 * Messages with any content, in Chromium and Firefox: a message stays in its box, costs time in proportion to
 * its length, and shows the real targets of its links.
 */

import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { describe, it } from 'node:test';

import { artefact } from './support/artefacts.js';
import { readPng } from './support/png.js';
import { hostileText, randomFrom, seed } from './support/random.js';
import { BROWSERS, browser, server, useBrowser, useServer } from './support/rig.js';

const SEED = seed();
const WIDTH = 700;
/** How far a message may paint outside of its box: `overflow-clip-margin`, and a pixel of rounding. */
const MARGIN_PX = 5;

const MARKS = '\u0300\u0301\u0302\u0303\u0304\u0306\u0307\u0308\u030a\u030b\u030c\u0316\u0317\u0318\u0319\u031c\u031d\u0323\u0324';
const HOSTILE = [
  `Marks: e${MARKS.repeat(16)} and m${'\u0363\u0364\u0365'.repeat(100)}`,
  `${'\u0489'.repeat(300)} ${'\u20dd'.repeat(100)}`,
  '\u202ehttps://moc.knab-doog//:sptth.evil.example/',
  `Nested ${'\u202a\u202e'.repeat(70)}see https://evil.example/abc and http://ü.evil.example/`,
  `${'\u2067\u202e'.repeat(70)}https://evil.example/\nhttps://evil.example/ in the next line`,
  '\u202eevil https://good.example/\u05d0\u05d1/1.2.3.4 \u05d0 https://evil.example:8080/\u05d0',
  '\u05d0\u05d1\u05d2 https://evil.example/ \u05d3\n\u2067\u2069\u05d0 https://evil.example/ \u05d3',
  '\u05d0\u05d1\u05d2 https://evil.example/ \u05d3',
  'https://good.example\u2044login.evil.example/x https://good.example\u2215x.evil.example https://good.example\u29f8x.evil.example',
  'https://good.example@evil.example/ https://:good.example@evil.example/ https://good\uff0eexample/',
  `https://evil.example/a\u0301\u0301\u0301\u0301${'\u0489'.repeat(8)}/${'\u202f'}x ${'x'.repeat(200)}`,
  `${'\u{1242b}'.repeat(30)} ${'\ufdfd'.repeat(9)} ${'\u{12219}'.repeat(9)}`,
  `\u0628${'\u064b\u064e'.repeat(200)} \u0f40${'\u0f90\u0f74'.repeat(100)} \u0e01${'\u0e49'.repeat(200)}`,
  `${'\u{1f469}\u200d'.repeat(100)} ${'\u{e0067}'.repeat(100)} ${'\u0c95\u0ccd'.repeat(200)}`,
];
/** Longer than the part that is shown at first. */
const LONG = 'word '.repeat(300);
const HONEST = [
  'Thai: \u0e17\u0e35\u0e48\u0e19\u0e35\u0e48 \u0e1b\u0e39\u0e48 \u0e0d\u0e39\u0e48 \u0e19\u0e49\u0e33\u0e43\u0e08',
  'Vietnamese: Vie\u0323\u0302t Nam, \u1ec6\u1ed4\u1eea \u1ebf, E\u0302\u0301 U\u031b\u0303',
  'Hebrew: \u05d1\u05bc\u05b0\u05e8\u05b5\u05d0\u05e9\u05c1\u05b4\u0596\u05d9\u05ea \u05d1\u05bc\u05b8\u05e8\u05b8\u05a3\u05d0 \u05d0\u05b1\u05dc\u05b9\u05d4\u05b4\u0591\u05d9\u05dd',
  'Arabic: \u0628\u0650\u0633\u0652\u0645\u0650 \u0671\u0644\u0644\u0651\u064e\u0647\u0650 \u0671\u0644\u0631\u0651\u064e\u062d\u0652\u0645\u064e\u0670\u0646\u0650 \u0671\u0644\u0631\u0651\u064e\u062d\u0650\u064a\u0645\u0650',
  'Devanagari: \u0939\u093f\u0928\u094d\u0926\u0940 \u0915\u094d\u0937\u094d\u0924\u094d\u0930 \u0930\u093e\u0937\u094d\u091f\u094d\u0930\u0940\u092f \u0924\u094d\u0930\u0948\u0902',
  'Emoji: \u{1f469}\u200d\u{1f469}\u200d\u{1f467}\u200d\u{1f466} \u{1f3f3}\ufe0f\u200d\u{1f308} \u2764\ufe0f\u200d\u{1f525} \u{1f44d}\u{1f3fd} 1\ufe0f\u20e3 \u{1f3f4}\u{e0067}\u{e0062}\u{e0065}\u{e006e}\u{e0067}\u{e007f}',
  'jJfÅ ÄÖÜ gjpqy |Ǻ| ʃ ʒ https://example.com/Åj',
];

for (const [name, launchBrowser] of Object.entries(BROWSERS)) {
  describe(`in ${name}, a message with any content`, { concurrency: false }, () => {
    useBrowser(launchBrowser);
    useServer();

    /** A page that shows all these messages at once. */
    async function show(t, session, messages) {
      await server.postAll(messages, { sessionId: session });
      const page = await browser.newPage();
      t.after(() => page.close());
      const setSize = (height) =>
        page.setViewport ? page.setViewport({ width: WIDTH, height }) : page.setViewportSize({ width: WIDTH, height });
      await setSize(800);
      await page.goto(`${server.url}?sessionId=${session}`);
      await waitFor(page, (count) => document.querySelectorAll('.mine').length === count, messages.length);
      await setSize(800 + (await page.evaluate(() => document.getElementById('log').scrollHeight)));
      await settled(page);
      const texts = await page.evaluate(() => Array.from(document.querySelectorAll('.content:not(.json)'), (e) => e.textContent));
      const shown = (text) => (text.startsWith(LONG) ? `${text.slice(0, 1_000)}…` : text);
      assert.deepEqual(texts, messages.filter((text) => !text.startsWith('{')).map(shown));
      return page;
    }

    /** Pixels outside of `boxes` that change when `change` runs in the page. */
    async function changes(page, boxes, change) {
      const before = await page.screenshot();
      await page.evaluate(change);
      const after = await page.screenshot();
      return differences(Buffer.from(before), Buffer.from(after), boxes);
    }

    const boxesOf = (page) =>
      page.evaluate(() =>
        Array.from(document.querySelectorAll('.content'), (content) => {
          const { left, top, right, bottom } = content.getBoundingClientRect();
          const header = content.parentElement.querySelector('header').getBoundingClientRect();
          return { left, top, right, bottom, above: header.bottom };
        }),
      );
    const hideContents = () => {
      for (const content of document.querySelectorAll('.content')) content.style.visibility = 'hidden';
    };

    /** Links: the text and address of each, the layout of its host, and what a click on it hits. */
    const linksOf = (page) => page.evaluate(measureLinks);

    async function examine(page) {
      const boxes = await boxesOf(page);
      for (const { top, above } of boxes) assert.ok(above <= top - 3.5, 'the message must not reach the time and the badge');
      for (const link of await linksOf(page)) checkLink(link);
      for (const { line, height, overflow } of await page.evaluate(measureStacks)) {
        assert.ok(Math.abs(height - line) < 1 && overflow.startsWith('clip'), `${height} px, ${overflow}`);
      }
      const wide = await page.evaluate(() => document.getElementById('log').scrollWidth - document.getElementById('log').clientWidth);
      assert.ok(wide <= 0, `${wide} px too wide`);
      assert.deepEqual(await changes(page, boxes, hideContents), []);
    }

    it('stays in its box and shows the targets of its links', async (t) => {
      const page = await show(t, 'known', HOSTILE);
      writeFileSync(artefact(`hostile-${name.toLowerCase()}.png`), await page.screenshot());
      await examine(page);
    });

    it('does so with random messages', async (t) => {
      const random = randomFrom(SEED);
      for (let round = 0; round < 6; round += 1) {
        const messages = Array.from({ length: 12 }, () => hostileText(random));
        await examine(await show(t, `random-${round}`, messages));
      }
    });

    it('does so as JSON, in keys and in values', async (t) => {
      const random = randomFrom(SEED);
      const texts = [...HOSTILE, ...Array.from({ length: 12 }, () => hostileText(random))];
      const page = await show(t, 'json', texts.map((text) => JSON.stringify({ [text]: text, list: [text] })));
      assert.equal(await page.evaluate(() => document.querySelectorAll('.json').length), texts.length);
      writeFileSync(artefact(`hostile-json-${name.toLowerCase()}.png`), await page.screenshot());
      await examine(page);
    });

    it('does so in the excerpt of a search', async (t) => {
      const random = randomFrom(SEED);
      const texts = [...HOSTILE, ...Array.from({ length: 12 }, () => hostileText(random))];
      const page = await show(t, 'quoted', texts.map((text) => `${LONG}NEEDLE ${text}`));
      await page.evaluate(() => {
        document.getElementById('search').value = 'needle';
        document.getElementById('search').dispatchEvent(new Event('input'));
      });
      await waitFor(page, (count) => document.querySelectorAll('.excerpt').length === count, texts.length);
      await settled(page);
      const boxes = await page.evaluate(() =>
        Array.from(document.querySelectorAll('.excerpt'), (excerpt) => {
          const { left, top, right, bottom } = excerpt.getBoundingClientRect();
          return { left, top, right, bottom };
        }),
      );
      const hide = () => {
        for (const excerpt of document.querySelectorAll('.excerpt')) excerpt.style.visibility = 'hidden';
      };
      assert.deepEqual(await changes(page, boxes, hide), []);
    });

    it('is not cut if it is harmless', async (t) => {
      const page = await show(t, 'honest', HONEST);
      // Chromium's first choice for the Hebrew letters is a font that lacks some of the marks.
      const marks = await page.evaluate(() => {
        for (const content of document.querySelectorAll('.content')) content.style.fontFamily = "system-ui, 'Noto Sans Hebrew'";
        return document.querySelectorAll('.stack, wbr').length;
      });
      assert.equal(marks, 0);
      const unclip = () => {
        for (const content of document.querySelectorAll('.content')) content.style.overflow = 'visible';
      };
      assert.deepEqual(await changes(page, await boxesOf(page), unclip), []);
    });

    it('stays in its box as the name of a session too', async (t) => {
      const page = await show(t, 'panel', ['x']);
      // The first session is among the recent ones when the second is shown.
      for (const end of 'ab') {
        await page.goto(`${server.url}?sessionId=${encodeURIComponent(`\u202ee${'\u0301'.repeat(100)}${end}`)}`);
        await waitFor(page, () => document.querySelector('#status[data-state=live]') !== null);
      }
      const boxes = await page.evaluate(() => {
        document.getElementById('open-panel').click();
        document.getElementById('recent').open = true;
        // No caret, no focus ring, no marks of a spelling checker.
        document.activeElement.blur();
        document.getElementById('message').style.visibility = 'hidden';
        return Array.from(document.querySelectorAll('pre, li'), (element) => {
          const { left, top, right, bottom } = element.getBoundingClientRect();
          return { left, top, right, bottom };
        });
      });
      const hide = () => {
        for (const element of document.querySelectorAll('pre, li')) element.style.visibility = 'hidden';
      };
      const bullet = boxes.map((box) => ({ ...box, left: box.left - 20 }));
      assert.deepEqual(await changes(page, bullet, hide), []);
      // A command is displayed in the order in which it runs.
      const command = await page.evaluate(() => document.getElementById('session-curl').textContent);
      assert.match(command, /"sessionId":"\\u202ee/);
    });

    /** Texts whose layout as one block would take far more time than in proportion to their length. */
    const units = {
      ...{ brackets: ')', square: '[', keys: '{"key":', marks: '\u0301', two: '\u0316\u0301', nine: `e${'\u0301'.repeat(9)}`, sara: '\u0e33', coeng: '\u1780\u17d2' },
      ...{ kannada: '\u0c95\u0ccd', ninety: `${'\u0c95\u0ccd'.repeat(47)}a`, arabic: '\u0628', tibetan: '\u0f90', fraction: '1\u20442', ligature: '\ufdfd' },
      ...{ directions: '\u05d01 a', isolates: '\u2067a\u2066\u05d0', overrides: '\u202ea\n', joined: '\u{1f469}\u200d', joiners: '\u200d', lines: '\n', word: 'x', private: '\ue000' },
      ...{ links: 'http://a ', hosts: 'http://ü ', turned: '\u202ehttp://a/\u05d0 ' },
    };
    for (const json of [false, true]) it(`costs time in proportion to its length${json ? ' as JSON' : ''}`, async (t) => {
      const page = await show(t, `time-${json}`, ['x']);
      const plain = await page.evaluate(measureTime, ['word '.repeat(400), 15, json]);
      const report = [];
      for (const [kind, unit] of Object.entries(units)) {
        const text = (length) => `x${unit.repeat(Math.ceil(length / unit.length))}`;
        let [long, short] = [Infinity, Infinity];
        for (let i = 0; i < 2; i += 1) {
          long = Math.min(long, await page.evaluate(measureTime, [text(30_000), 1, json]));
          short = Math.min(short, await page.evaluate(measureTime, [text(30_000 / 15), 15, json]));
        }
        report.push({ kind, longMs: Math.round(long), shortMs: Math.round(short) });
        // The one message has as much text as the fifteen together: quadratic time takes fifteen times as
        // long.
        assert.ok(long < 5 * (short + 20), `${kind}: ${long} ms in one, ${short} ms in fifteen`);
        assert.ok(short < 300 * (plain + 5), `${kind}: ${short} ms, ${plain} ms for words`);
      }
      console.table(report);
    });
  });
}

/** Waits until two pictures of the page are equal: layout and painting are complete. */
async function settled(page) {
  for (let before = Buffer.alloc(0); ; ) {
    const now = Buffer.from(await page.screenshot());
    if (now.equals(before)) return;
    before = now;
  }
}

/** Both drivers pass a single argument in the same way. */
function waitFor(page, test, argument) {
  return page.setViewport ? page.waitForFunction(test, {}, argument) : page.waitForFunction(test, argument);
}

/** In the page: the time to open and lay out `count` messages with this text, or with a JSON list of it. */
async function measureTime([text, count, json]) {
  const { renderEntry } = await import(document.querySelector('script[type=module]').src.replace('app.js', 'render.js'));
  const log = document.getElementById('log');
  log.replaceChildren();
  const content = json ? JSON.stringify([text]) : text;
  for (let i = 0; i < count; i += 1) log.append(renderEntry({ message: { content, timestamp: 1, id: 'x' } }, undefined, ''));
  log.getBoundingClientRect();
  const start = performance.now();
  for (const more of document.querySelectorAll('.more')) more.click();
  for (const content of document.querySelectorAll('.content')) content.getBoundingClientRect();
  const ms = performance.now() - start;
  const shown = json ? JSON.parse(log.querySelector('.string').textContent) : log.querySelector('.content').textContent;
  if (shown !== text) throw new Error('the text is incomplete');
  log.replaceChildren();
  return ms;
}

/** In the page: letters with many marks, which must stay in their line. */
function measureStacks() {
  return Array.from(document.querySelectorAll('.stack'), (stack) => ({
    line: parseFloat(getComputedStyle(stack.parentElement).lineHeight),
    height: stack.getBoundingClientRect().height,
    overflow: getComputedStyle(stack).overflow,
  }));
}

/** In the page: each link, and the positions of the first characters of its text. */
function measureLinks() {
  return Array.from(document.querySelectorAll('.content a'), (link) => {
    const { textContent: text, href, target, rel, referrerPolicy } = link;
    const { hostname, protocol, username, password } = new URL(href);
    // Includes the character behind the host, such as the slash: it must not move to the other end.
    const plainLength = link.dataset.host ? 0 : Math.min(`${protocol}//${hostname}`.length + 1, text.length);
    const letters = [];
    for (let i = 0; i < plainLength; i += 1) {
      const range = new Range();
      range.setStart(link.firstChild, i);
      range.setEnd(link.firstChild, i + 1);
      const { left, right, top, bottom } = range.getBoundingClientRect();
      const hit = document.elementFromPoint((left + right) / 2, (top + bottom) / 2);
      letters.push({ left, top, bottom, isHit: hit === link });
    }
    const label = getComputedStyle(link, '::after');
    return {
      ...{ text, hostname, protocol, target, rel, referrerPolicy, letters, host: link.dataset.host ?? '' },
      ...{ hasCredentials: `${username}${password}` !== '', label: label.content, labelSize: parseFloat(label.fontSize) },
    };
  });
}

function checkLink({ text, hostname, protocol, target, rel, referrerPolicy, letters, host, hasCredentials, label, labelSize }) {
  const about = JSON.stringify(text);
  assert.match(protocol, /^https?:$/, about);
  assert.ok(!hasCredentials, about);
  assert.doesNotMatch(text, /[\s\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/, about);
  assert.deepEqual([target, rel, referrerPolicy], ['_blank', 'noopener noreferrer nofollow ugc', 'no-referrer']);
  if (host) {
    assert.equal(host, hostname, about);
    assert.match(host, /^[\x21-\x7e]+$/, about);
    assert.ok(label.includes('data-host') || label.includes(host), `${about}: ${label}`);
    assert.ok(labelSize >= 10, about);
    return;
  }
  // The text reads from left to right, line by line, and a click on each letter opens the link.
  assert.ok(text.toLowerCase().startsWith(`${protocol}//${hostname}`), about);
  assert.match(text.slice(`${protocol}//${hostname}`.length), /^(:\d*)?([/?#]|$)/, about);
  for (const [i, { left, top, bottom, isHit }] of letters.entries()) {
    assert.ok(isHit, `${about}: a click on letter ${i} leads elsewhere`);
    const before = letters[i - 1];
    if (before) assert.ok(top >= before.bottom - 1 || (left >= before.left && bottom > before.top), `${about}: letter ${i} stands before the one in front`);
  }
}

/** Chromium may paint the edge of a round corner a level lighter or darker the second time. */
function isSame(one, other) {
  return [0, 8, 16].every((shift) => Math.abs(((one >> shift) & 255) - ((other >> shift) & 255)) <= 1);
}

/** The first pixels outside of `boxes` that differ. */
function differences(beforeBytes, afterBytes, boxes) {
  if (beforeBytes.equals(afterBytes)) return [];
  const [one, other] = [readPng(beforeBytes), readPng(afterBytes)];
  assert.deepEqual([one.width, one.height], [other.width, other.height]);
  const found = [];
  for (let y = 0; y < one.height && found.length < 5; y += 1) {
    const here = boxes.filter(({ top, bottom }) => y >= top - MARGIN_PX && y < bottom + MARGIN_PX);
    for (let x = 0; x < one.width; x += 1) {
      if (isSame(one.at(x, y), other.at(x, y))) continue;
      if (here.some(({ left, right }) => x >= left - MARGIN_PX && x < right + MARGIN_PX)) continue;
      found.push([x, y]);
      break;
    }
  }
  return found;
}
