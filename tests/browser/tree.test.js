/** JSON messages on the page, in Chromium. */

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import { until } from './support/page.js';
import { live, openPage, page, server, useBrowser, usePages } from './support/rig.js';

describe('JSON in the chat window', () => {
  useBrowser();
  usePages();

  /** Opens the page with these messages in the history. */
  async function show(messages, options = {}) {
    await server.postAll(messages);
    await live('', { permissions: ['clipboard-read', 'clipboard-write'], ...options });
    await until(page, page.locator('#count'), `${messages.length} message${messages.length === 1 ? '' : 's'}`);
    await page.locator('.message').first().waitFor();
    return page;
  }

  /** The visible rows as text. */
  const rows = (selector = '.json') =>
    page.locator(`${selector} :is(.row, summary)`).evaluateAll((all) =>
      all.filter((row) => row.checkVisibility()).map((row) => row.innerText.trim()),
    );
  const elements = () => page.locator('.json *').count();

  it('opens fewer levels of a long message that is nested deeply, since each level is parsed again', async () => {
    const nested = (filler) => `${'['.repeat(30)}"${'x'.repeat(filler)}"${']'.repeat(30)}`;
    await show([nested(100), nested(50_000)]);
    const open = (nth) => page.locator('.json').nth(nth).locator('details[open]').count();
    assert.ok((await open(0)) >= 10, 'a short one costs nothing');
    // Four times its length is parsed: the outermost, and those that the rest of that pays for.
    assert.equal(await open(1), 4);
  });

  it('is formatted and coloured, with numbers as they were sent', async () => {
    await show(['{"id":12345678901234567890,"total":59.90,"b":{"x":null},"a":[true,"caf\\u00e9"],"a":[],"url":"https:\\/\\/example.com\\/a"}']);
    assert.deepEqual(await rows(), [
      ...['{', '"id": 12345678901234567890,', '"total": 59.90,'],
      ...['"b": {', '"x": null', '},'],
      ...['"a": [', 'true,', '"café"', '],'],
      ...['"a": [],', '"url": "https://example.com/a"', '}'],
    ]);
    const kinds = await page.locator('.json span').evaluateAll((all) => [...new Set(all.map((e) => `${e.className} ${getComputedStyle(e).color}`))]);
    const colours = new Set(kinds.filter((kind) => /^(key|string|number|literal) /.test(kind)).map((kind) => kind.split(' rgb')[1]));
    assert.equal(colours.size, 4, String(kinds));
    const link = page.locator('.json .string a');
    assert.equal(await link.getAttribute('href'), 'https://example.com/a');
    assert.equal(await link.getAttribute('rel'), 'noopener noreferrer nofollow ugc');
    assert.deepEqual(page.complaints, []);
  });

  it('is shown as sent after one click, and copied as sent in both views', async () => {
    const sent = ' {"a" :1.0,\r\n\t"a":[ ], "x":"\\u0041"}\n';
    await show([sent, 'plain\r\ntext']);
    const raw = page.getByRole('button', { name: 'Raw' });
    assert.equal(await raw.count(), 1);
    const clipboard = () => page.evaluate(() => navigator.clipboard.readText());
    const copy = page.locator('.message').first().getByRole('button', { name: 'Copy' });
    const note = () => page.evaluate(() => navigator.clipboard.writeText('nothing'));
    await note();
    await copy.click();
    await page.locator('.message').getByText('Copied').waitFor();
    assert.equal(await clipboard(), sent);
    await raw.press('Enter');
    assert.equal(await raw.getAttribute('aria-pressed'), 'true');
    assert.equal(await page.locator('.message .content').first().evaluate((e) => e.textContent), sent);
    assert.equal(await page.evaluate(() => document.activeElement.textContent), 'Raw');
    await note();
    await copy.click();
    await page.waitForFunction(async (text) => (await navigator.clipboard.readText()) === text, sent);
    await raw.press('Enter');
    assert.equal(await page.locator('.json').count(), 1);
    await page.locator('.message').nth(1).getByRole('button', { name: 'Copy' }).click();
    await page.waitForFunction(async (text) => (await navigator.clipboard.readText()) === text, 'plain\r\ntext');
  });

  it('is copied as sent without a clipboard API, too', async () => {
    await openPage('about:blank');
    await page.addInitScript(() => {
      Object.defineProperty(navigator, 'clipboard', { value: undefined });
      const set = DataTransfer.prototype.setData;
      DataTransfer.prototype.setData = function (type, text) {
        window.copiedText = text;
        return set.call(this, type, text);
      };
    });
    await server.post('{"a":  1}');
    await page.goto(server.url);
    await page.locator('.message').getByRole('button', { name: 'Copy' }).click();
    await page.locator('.message').getByText('Copied').waitFor();
    assert.equal(await page.evaluate(() => window.copiedText), '{"a":  1}');
  });

  it('folds by keyboard, and keeps its state while out of view', async () => {
    await show(['{"small":[1,2],"big":[' + Array.from({ length: 30 }, (_, i) => i).join() + ']}', ...Array.from({ length: 98 }, (_, i) => `line ${i}`)]);
    const log = page.locator('#log');
    const toTop = () => log.evaluate((e) => (e.scrollTop = 0));
    await toTop();
    const summary = (name) => page.locator('summary').filter({ hasText: name });
    await summary('big').waitFor();
    assert.deepEqual(await rows(), ['{', '"small": [', '1,', '2', '],', '"big": [ 30 items ]', '}']);
    await summary('big').press('Enter');
    await page.locator('.json').getByText('29', { exact: true }).waitFor();
    await summary('small').press('Space');
    assert.deepEqual((await rows()).slice(0, 4), ['{', '"small": [ 2 items ],', '"big": [', '0,']);
    await page.evaluate(() => document.activeElement.blur());
    await page.evaluate(() => (document.getElementById('log').scrollTop = 1e9));
    await page.waitForFunction(() => !document.querySelector('.json'));
    await toTop();
    await page.locator('.json').getByText('29', { exact: true }).waitFor();
    assert.deepEqual((await rows()).slice(0, 4), ['{', '"small": [ 2 items ],', '"big": [', '0,']);
  });

  it('keeps the scroll position when a row at the end is opened', async () => {
    await show([...Array.from({ length: 30 }, (_, i) => `line ${i}`), `{"list":[${'"x",'.repeat(90)}"x"]}`]);
    await page.locator('summary').filter({ hasText: 'list' }).click();
    await page.locator('#jump').waitFor();
    const place = () => page.locator('summary').first().evaluate((e) => e.getBoundingClientRect().top);
    const before = await place();
    await server.post('news');
    await until(page, page.locator('#jump'), '1 new, jump to latest');
    assert.equal(await place(), before);
  });

  it('shows a bounded part at first, and the rest step by step', async () => {
    const wide = JSON.stringify(Array.from({ length: 9_000 }, (_, i) => i));
    const nested = JSON.stringify(Array.from({ length: 12 }, () => Array.from({ length: 300 }, () => ({ a: [1, 2, 3] }))));
    const long = JSON.stringify({ [`k${'e'.repeat(20_000)}`]: `${'x'.repeat(40_000)}` });
    const digits = `[1${'0'.repeat(60_000)}]`;
    await show([wide, nested, long, digits]);
    assert.ok((await elements()) < 400, `${await elements()} elements`);
    assert.ok((await page.locator('#log').evaluate((log) => log.textContent.length)) < 8_000);
    const more = page.locator('.json').first().getByRole('button', { name: /^Show more/ });
    assert.equal(await more.textContent(), 'Show more (8,984 items)');
    await more.press('Enter');
    await page.locator('.json').first().getByText('115', { exact: true }).waitFor();
    assert.equal(await more.textContent(), 'Show more (8,884 items)');
    assert.equal(await page.evaluate(() => document.activeElement.textContent), '16,');
    await page.getByRole('button', { name: 'Show more (39,800 characters)' }).click();
    assert.equal(await page.locator('.json .string').filter({ hasText: /^"xx/ }).evaluate((e) => e.textContent.length), 40_002);
  });

  it('has bounded depth', async () => {
    const deep = 30_000;
    await show([`${'['.repeat(deep)}${']'.repeat(deep)}`, `${'{"a":'.repeat(200)}1${'}'.repeat(200)}`]);
    assert.ok((await elements()) < 400, `${await elements()} elements`);
    // Everything is opened, as a persistent user would.
    for (let last = -1, now = 0; now !== last; ) {
      last = now;
      now = await page.evaluate(async () => {
        for (const details of document.querySelectorAll('.json details:not([open])')) details.open = true;
        await new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve)));
        return document.querySelectorAll('.json details').length;
      });
    }
    assert.equal(await page.locator('.json details').count(), 64);
    assert.ok(await page.evaluate(() => document.getElementById('log').scrollWidth <= document.getElementById('log').clientWidth));
    const innermost = await page.locator('.json .array').textContent();
    assert.ok(innermost.startsWith('[[[') && innermost.endsWith('…') && innermost.length < 300);
  });

  it('is not derived from text that only looks like JSON', async () => {
    const texts = ['[INFO] started', '{not json}', '{"a":1} trailing', '"a string"', '12', '[1,2'];
    await show(texts);
    assert.equal(await page.locator('.json').count(), 0);
    assert.deepEqual(await page.locator('.message .content').allTextContents(), texts);
  });

  it('is shown as text, whatever it contains', async () => {
    const hostile = {
      '<img src=x onerror="document.title=1">': '<script>document.title=2</script>',
      __proto__x: 1,
      constructor: { prototype: { polluted: true } },
      '\u202ekey\u2067': '\u202evalue\u202c \u2028 \u0000 \u001b[31m',
      href: 'javascript:alert(1)',
      link: 'https://good.example@evil.example/ https://b\u00fccher.example/x"onmouseover=alert(1)',
    };
    const text = JSON.stringify(hostile).replace('__proto__x', '__proto__');
    await show([text]);
    await page.locator('.json').waitFor();
    assert.equal(await page.locator('.json :is(img, script)').count(), 0);
    assert.equal(await page.title(), 'hookcast');
    assert.equal(await page.evaluate(() => ({}).polluted), undefined);
    const seen = await page.locator('.json').evaluate((e) => e.textContent);
    assert.ok(seen.includes('"__proto__": 1'), seen);
    assert.ok(seen.includes('"\\u202ekey\\u2067": "\\u202evalue\\u202c \\u2028 \\u0000 \\u001b[31m"'), seen);
    assert.doesNotMatch(seen, /[\u2028-\u202e\u2066-\u2069]/);
    const links = await page.locator('.json a').evaluateAll((all) => all.map((a) => [a.getAttribute('href'), a.dataset.host]));
    assert.deepEqual(links, [['https://b\u00fccher.example/x', 'xn--bcher-kva.example']]);
    assert.deepEqual(page.complaints, []);
  });
});
