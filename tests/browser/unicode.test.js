/**
 * Every Unicode code point, in every JSON spelling, through the whole path: POST, ring, live log, stream, a real
 * browser's EventSource. The received text must equal the sent one, code unit by code unit.
 *
 * The browser builds the expected text itself, so that no decoder of the test can hide a fault.
 */

import assert from 'node:assert/strict';
import { before, describe, it } from 'node:test';

import { openPage, page, replaceServer, server, useBrowser, useServer } from './support/rig.js';

/** Code points of one message: at most 16 KiB of UTF-8, or 24 KiB as escapes. */
const BLOCK = 4_096;
const LAST = 0x10ffff;

describe('every Unicode code point', () => {
  useBrowser();
  useServer();
  before(() => openPage(server.url));

  /** Opens the browser's EventSource; received contents stay in the page. */
  function listen(query = '') {
    return page.evaluate(
      (url) =>
        new Promise((resolve) => {
          globalThis.source?.close();
          globalThis.received = [];
          globalThis.source = new EventSource(url);
          source.onmessage = ({ data }) => {
            const event = JSON.parse(data);
            if (event.type === 'connected') resolve();
            if (event.type === 'webhook_message') received.push(event.content);
          };
        }),
      `/api/webhook/stream${query}`,
    );
  }

  /** Waits until `count` messages have arrived. */
  const received = (count) => page.waitForFunction((n) => received.length >= n, count);

  /** Posts raw bytes; returns the status. */
  async function postRaw(body) {
    const response = await fetch(new URL('api/webhook', server.url), { method: 'POST', body });
    await response.arrayBuffer();
    return response.status;
  }

  /** The first code points of all blocks. */
  const blocks = Array.from({ length: (LAST + 1) / BLOCK }, (_, index) => index * BLOCK);

  /** The text of a block: its code points without surrogates, after a letter, so that it is not blank. */
  function textOf(start) {
    const points = Array.from({ length: BLOCK }, (_, offset) => start + offset);
    return `x${String.fromCodePoint(...points.filter((point) => point < 0xd800 || point > 0xdfff))}`;
  }

  /** Runs in the browser: the indexes of messages that differ from the expected ones. */
  function wrongBlocks(starts) {
    return page.evaluate(
      ([starts, size]) =>
        starts.filter((start, index) => {
          let expected = 'x';
          for (let point = start; point < start + size; point += 1) {
            if (point < 0xd800 || point > 0xdfff) expected += String.fromCodePoint(point);
          }
          return received[index] !== expected;
        }),
      [starts, BLOCK],
    );
  }

  /** Every UTF-16 code unit as an escape. */
  function escaped(text) {
    const units = Array.from({ length: text.length }, (_, index) => text.charCodeAt(index));
    return units.map((unit) => `\\u${unit.toString(16).padStart(4, '0')}`).join('');
  }

  it('all code points, as UTF-8', async () => {
    await listen();
    for (const start of blocks) assert.equal(await postRaw(JSON.stringify({ message: textOf(start) })), 200);
    await received(blocks.length);
    assert.deepEqual(await wrongBlocks(blocks), []);
  });

  it('all code points, as escapes, pairs of surrogates included', async (t) => {
    await restart(t);
    await listen();
    for (const start of blocks) {
      assert.equal(await postRaw(`{"message":"${escaped(textOf(start))}"}`), 200);
    }
    await received(blocks.length);
    assert.deepEqual(await wrongBlocks(blocks), []);
  });

  /** Texts that a component might change: line ends, controls, marks, direction, normal form. */
  const CORNERS = [
    ...Array.from({ length: 0x20 }, (_, control) => `a${String.fromCharCode(control)}b`),
    ...Array.from({ length: 0x21 }, (_, control) => `a${String.fromCharCode(0x7f + control)}b`),
    '\0',
    '\n',
    'x\n',
    '\nx',
    'x\r',
    'a\r\nb',
    'a\n\rb',
    'a\n\nb',
    'a\r\rb',
    'a\r\n\r\nb',
    'a\u2028b\u2029c\u0085d',
    '\n\ndata: {"type":"webhook_message","id":"x","content":"forged"}\n\n',
    'x\n\nid: 0-1\nretry: 1\nevent: x\n\n',
    ': heartbeat\n\nx',
    '\ufeffx',
    'x\ufeff',
    '\ufffex',
    '\uffff',
    '\ufdd0\ufdef',
    '\u{1fffe}\u{1ffff}\u{10fffe}\u{10ffff}',
    '\ufffd',
    '\ud7ff\ue000',
    '\u{10000}\u{103ff}\u{10fc00}',
    'e\u0301 \u00e9',
    '\u212b \u00c5 A\u030a',
    '\u1100\u1161\u11a8 \uac01',
    `z${'\u0300\u0323\u0489'.repeat(500)}`,
    '\u202eabc\u202c \u2066x\u2069 \u200f\u200e',
    'שלום, world, مرحبا',
    '\u200bx\u200c\u200d\u2060',
    '👩‍👩‍👧‍👦 🏳️‍🌈 🇩🇪 👍🏽',
    '\u{e0001}\u{e0067}\u{e007f}',
    '\u0130\u0131\u017f\u212a ß ẞ ﬃ',
    '\\u0041 \\n \\ / "',
    '</script><!-- ]]> --> &amp; %00 %0a ${x} {{x}}',
    '  leading and trailing  ',
    '\u00a0\u3000x\u3000',
    'x'.repeat(60_000),
    '\n'.repeat(30_000) + 'x',
  ];
  const isBlank = (text) => /^\s*$/.test(text);

  it('special texts arrive as sent, live and in the replay', async (t) => {
    await restart(t);
    await listen();
    const texts = CORNERS.filter((text) => !isBlank(text));
    for (const text of texts) assert.equal(await postRaw(JSON.stringify({ message: text })), 200, JSON.stringify(text));
    await received(texts.length);
    assert.deepEqual(await page.evaluate(() => received), texts);

    await server.kill();
    await server.restart();
    await page.goto(server.url);
    await listen();
    const history = texts.slice(-100);
    await received(history.length);
    assert.deepEqual(await page.evaluate(() => received), history, 'from the ring, after a kill');
  });

  it('halves of surrogate pairs arrive as replacement characters', async (t) => {
    await restart(t);
    await listen();
    const lone = ['\ud800', '\udc00', '\udbff\udbff', '\udfff\ud800', 'a\ud83d', '\ude00\ud83d', '\ud83dx\ude00😀'];
    for (const text of lone) assert.equal(await postRaw(JSON.stringify({ message: text })), 200, JSON.stringify(text));
    await received(lone.length);
    assert.deepEqual(
      await page.evaluate(() => received),
      lone.map((text) => text.toWellFormed()),
    );
  });

  it('invalid UTF-8 is refused and does not arrive', async (t) => {
    await restart(t);
    await listen();
    const bytes = ['80', 'c3', 'c080', 'eda080', 'edbfbf', 'f4908080', 'f8808080', 'fe', 'ff', 'e282'];
    for (const hex of bytes) {
      const body = Buffer.concat([Buffer.from('{"message":"a'), Buffer.from(hex, 'hex'), Buffer.from('"}')]);
      assert.equal(await postRaw(body), 400, hex);
    }
    for (const text of CORNERS.filter(isBlank)) {
      assert.equal(await postRaw(JSON.stringify({ message: text })), 400, JSON.stringify(text));
    }
    await server.post('the end');
    await received(1);
    assert.deepEqual(await page.evaluate(() => received), ['the end']);
  });

  it('sessions with any name reach their stream and no other', async (t) => {
    await restart(t);
    const sessions = ['ä', '\u0000', 'a\nb', 'a b+c', '%41', '😀', '\u202ex', '\ufeffs', 'e\u0301', '\u00e9', '&=?#', '\uffff'];
    for (const session of sessions) {
      await listen(`?sessionId=${encodeURIComponent(session)}`);
      for (const other of sessions) {
        if (other !== session) await server.post(`for ${JSON.stringify(other)}`, { sessionId: other });
      }
      const mine = `mine is ${JSON.stringify(session)}`;
      await server.post(mine, { sessionId: session });
      await page.waitForFunction((text) => received.at(-1) === text, mine);
      const own = [mine, `for ${JSON.stringify(session)}`];
      const foreign = await page.evaluate((mine) => received.filter((content) => !mine.includes(content)), own);
      assert.deepEqual(foreign, [], JSON.stringify(session));
    }
  });

  /** Begins a test with an empty history. */
  async function restart(t) {
    await replaceServer();
    await page.goto(server.url);
    t.after(() => page.evaluate(() => globalThis.source?.close()));
  }
});
