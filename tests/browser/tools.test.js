/** Search, pause and export of the page, in Chromium. */

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, it } from 'node:test';

import { shows, texts, until } from './support/page.js';
import { live, openScripted, page, server, streamOf, useBrowser, usePages } from './support/rig.js';
import { connected, frame } from './support/script.js';

describe('the tools of the chat window', () => {
  useBrowser();
  usePages();

  const liveAsMe = (options) => live('?sessionId=me', options);

  const search = () => page.getByRole('searchbox', { name: 'Search messages' });
  const pause = () => page.getByRole('button', { name: 'Pause' });
  const jump = () => page.locator('#jump');
  const count = (text) => until(page, page.locator('#count'), text);
  /** The marked texts. */
  const marked = () =>
    page.evaluate(() => [...(CSS.highlights.get('found') ?? [])].map((range) => {
      const live = new Range();
      live.setStart(range.startContainer, range.startOffset);
      live.setEnd(range.endContainer, range.endOffset);
      return String(live);
    }));
  const marks = (...expected) =>
    page.waitForFunction((wanted) => {
      const found = [...(CSS.highlights.get('found') ?? [])].map(({ startContainer, startOffset, endContainer, endOffset }) => {
        if (!startContainer.isConnected) return 'gone';
        const live = new Range();
        live.setStart(startContainer, startOffset);
        live.setEnd(endContainer, endOffset);
        return String(live);
      });
      return JSON.stringify(found) === JSON.stringify(wanted);
    }, expected).catch(async () => assert.deepEqual(await marked(), expected));

  async function exported() {
    const [download] = await Promise.all([page.waitForEvent('download'), page.getByRole('button', { name: 'Export' }).click()]);
    assert.match(download.suggestedFilename(), /^hookcast-\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d\.jsonl$/);
    return readFileSync(await download.path(), 'utf8');
  }

  it('search filters, counts and marks messages, and Escape clears it', async () => {
    await server.postAll(['An apple', 'a pear', 'pineAPPLE and apple juice', 'nothing']);
    await server.post('my apple', { sessionId: 'me' });
    await liveAsMe();
    await shows(page, 'my apple');
    await search().fill('apple');
    await count('3 of 5 messages');
    assert.deepEqual(await texts(page), ['An apple', 'pineAPPLE and apple juice', 'my apple']);
    await marks('apple', 'APPLE', 'apple', 'apple');
    await until(page, page.locator('#news[aria-live=polite]'), '3 of 5 messages');
    // New messages are filtered, too.
    await server.postAll(['plum', 'apple tart']);
    await count('4 of 7 messages');
    await marks('apple', 'APPLE', 'apple', 'apple', 'apple');
    await page.getByLabel('Only mine').check({ force: true });
    await count('1 of 1 message');
    await page.getByLabel('Everyone').first().check({ force: true });
    await search().press('Escape');
    await count('7 messages');
    assert.equal(await search().inputValue(), '');
    assert.equal(await page.evaluate(() => document.activeElement.id), 'search');
    assert.equal((await texts(page)).length, 7);
    await marks();
  });

  it('search reports that nothing matches, and takes any text literally', async () => {
    await server.postAll(['a.b', 'axb', '(a)[b]{c}^$|\\?*+-/', 'Straße', 'x']);
    await liveAsMe();
    await shows(page, 'x');
    await search().fill('zebra');
    await count('0 of 5 messages');
    await page.getByText('No message matches').waitFor();
    assert.ok(await page.getByRole('button', { name: 'Export' }).isDisabled());
    for (const [query, found] of [['a.b', 'a.b'], ['(a)[b]{c}^$|\\?*+-/', '(a)[b]{c}^$|\\?*+-/'], ['STRAßE', 'Straße'], ['  axb ', 'axb']]) {
      await search().fill(query);
      await page.waitForFunction((text) => {
        const shown = document.querySelectorAll('.message .content');
        return shown.length === 1 && shown[0].textContent === text;
      }, found);
      await count('1 of 5 messages');
    }
    await search().fill('   ');
    await count('5 messages');
    assert.deepEqual(page.complaints, []);
  });

  it('search finds JSON as shown and as sent, and shows the place', async () => {
    const list = JSON.stringify({ list: Array.from({ length: 200 }, (_, i) => `entry ${i}`) });
    await server.postAll(['{"name":"caf\\u00e9","total":59.9}', list, `${'word '.repeat(1_000)}needle in it`, 'other']);
    await liveAsMe();
    await shows(page, 'other');
    for (const query of ['café', '"total":59.9', '"total": 59.9', 'caf\\u00e9']) {
      await search().fill(query);
      await count('1 of 4 messages');
    }
    await search().fill('"total": 59.9');
    await marks('"total": 59.9');
    // If the place is in a folded part or beyond the shown part of a long text, it is quoted.
    await search().fill('entry 150');
    await until(page, page.locator('.excerpt'), `…${list.slice(list.indexOf('entry 150') - 60, list.indexOf('entry 150') + 120)}…`);
    await marks('entry 150');
    await search().fill('NEEDLE');
    await page.locator('.excerpt').getByText('needle in it').waitFor();
    await marks('needle');
    await page.getByRole('button', { name: /^Show more/ }).click();
    await marks('needle', 'needle');
  });

  it('search stays fast, and marks only messages that are elements', async () => {
    const text = (i) => `message ${i} ${i % 2 ? 'odd' : 'even'}`;
    const many = Array.from({ length: 9_000 }, (_, i) => frame(`e-${i}`, text(i)));
    await openScripted(() => streamOf(connected(9_000, 60_000) + many.join('')));
    await page.goto(server.url);
    await count('9,000 messages');
    await search().fill('odd');
    await count('4,500 of 9,000 messages');
    await shows(page, text(8_999));
    await page.waitForFunction(() => CSS.highlights.get('found')?.size >= 20);
    assert.ok((await marked()).length < 400);
    await page.locator('#log').evaluate((log) => (log.scrollTop = 0));
    await shows(page, text(1));
    await page.waitForFunction(() => [...CSS.highlights.get('found')].some(({ startContainer }) => startContainer.data.startsWith('message 1 ')));
    assert.ok((await marked()).length < 400);
  });

  it('pause keeps the page unchanged and counts new messages, and resume shows them', async () => {
    await server.postAll(Array.from({ length: 30 }, (_, i) => `message ${i}`));
    await liveAsMe();
    await shows(page, 'message 29');
    await pause().press('Enter');
    assert.equal(await pause().getAttribute('aria-pressed'), 'true');
    await until(page, jump(), 'Resume');
    const [last, button] = [await page.locator('.message').last().boundingBox(), await jump().boundingBox()];
    assert.ok(last.y + last.height <= button.y, 'the button covers the last message');
    const before = await texts(page);
    await server.postAll(['news 1', 'news 2']);
    await server.post('for me', { sessionId: 'me' });
    await until(page, jump(), '3 new, resume');
    assert.equal(await page.title(), '(3) hookcast');
    assert.deepEqual(await texts(page), before);
    await count('30 messages');
    // Filter and search work while the page is paused.
    await search().fill('news');
    await count('0 of 30 messages');
    await until(page, jump(), '2 new, resume');
    await search().press('Escape');
    await until(page, jump(), '3 new, resume');
    assert.equal((await exported()).trim().split('\n').length, 30);
    await jump().click();
    await shows(page, 'for me');
    assert.deepEqual((await texts(page)).slice(-4), ['message 29', 'news 1', 'news 2', 'for me']);
    await count('33 messages');
    assert.equal(await pause().getAttribute('aria-pressed'), 'false');
    assert.ok(!(await jump().isVisible()));
    assert.equal(await page.title(), 'hookcast');
    await server.post('goes on');
    await shows(page, 'goes on');
  });

  it('pause ends with its own button too', async () => {
    await server.post('before');
    await liveAsMe();
    await shows(page, 'before');
    await pause().click();
    await server.post('meanwhile');
    await until(page, jump(), '1 new, resume');
    await page.getByRole('button', { name: 'Pause' }).click();
    await shows(page, 'meanwhile');
    assert.deepEqual(await texts(page), ['before', 'meanwhile']);
  });

  it('pause reports messages above the capacity of the chat window', async () => {
    const frames = (from, to) => Array.from({ length: to - from }, (_, i) => frame(`e-${from + i}`, `message ${from + i}`)).join('');
    let text = connected(10, 60_000) + frames(0, 10);
    await openScripted(() => streamOf(text));
    await page.goto(server.url);
    await shows(page, 'message 9');
    await pause().click();
    text = connected(0, 60_000) + frames(10, 11_010);
    await page.getByRole('button', { name: 'Reconnect now' }).click();
    await until(page, jump(), '11,000 new, resume');
    assert.deepEqual(await texts(page), Array.from({ length: 10 }, (_, i) => `message ${i}`));
    await jump().click();
    await shows(page, 'message 11009');
    await count('10,000 messages');
    await page.locator('#log').evaluate((log) => (log.scrollTop = 0));
    await page.locator('.gap').waitFor();
    assert.equal(await page.locator('.gap').textContent(), '1,000 messages missed here');
  });

  it('export downloads the shown messages, one line for each, as received', async () => {
    const odd = 'odd "quotes" \\ \u2028 \u05d0 😀\r\n{"a":1}';
    await server.postAll(['first', odd]);
    await server.post('mine', { sessionId: 'me' });
    await liveAsMe();
    await shows(page, 'mine');
    const history = await (await fetch(new URL('api/webhook/messages', server.url))).json();
    const lines = (await exported()).split('\n');
    assert.equal(lines.pop(), '');
    const messages = lines.map((line) => JSON.parse(line));
    assert.deepEqual(messages.map(({ content }) => content), ['first', odd, 'mine']);
    assert.deepEqual(messages.map((message) => Object.keys(message)), [
      ['id', 'content', 'timestamp'],
      ['id', 'content', 'timestamp'],
      ['id', 'content', 'timestamp', 'sessionId'],
    ]);
    const kept = (history.messages ?? history).filter?.(({ sessionId }) => !sessionId);
    if (kept?.length) assert.deepEqual(messages.slice(0, 2), kept.slice(-2).map(({ id, content, timestamp }) => ({ id, content, timestamp })));
    await search().fill('FIRST');
    await count('1 of 3 messages');
    assert.equal(JSON.parse(await exported()).content, 'first');
    assert.deepEqual(page.complaints, []);
  });
});
