/** Compressed streams (`--compress-streams`) in both browsers: each event at once, and the end. */

import assert from 'node:assert/strict';
import { before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

import { BROWSERS, browser, restart, server, useBrowser, useServer } from './support/rig.js';

for (const [name, launchBrowser] of Object.entries(BROWSERS)) {
  describe(`${name}, compressed streams`, () => {
    let page;
    useBrowser(launchBrowser);
    // Heartbeats would push out an event that is held back.
    useServer({ flags: ['--compress-streams', '--drain', '200ms', '--heartbeat', '1m'] });
    before(async () => {
      page = await browser.newPage();
    });

    /** Waits until `isSo` returns true in the page. The two drivers' own waits take different arguments. */
    const until = async (isSo, argument) => {
      const deadline = performance.now() + 30_000;
      while (!(await page.evaluate(isSo, argument))) {
        assert.ok(performance.now() < deadline, String(isSo));
        await sleep(20);
      }
    };

    it('fetch and EventSource see each event before the next one is sent', async () => {
      await page.goto(server.url);
      await page.evaluate(async () => {
        const seen = (globalThis.seen = { fetch: [], source: [], end: '' });
        const contents = (data) => {
          const { type, content } = JSON.parse(data);
          return type === 'webhook_message' ? [content] : [];
        };
        new EventSource('./api/webhook/stream').onmessage = ({ data }) => seen.source.push(...contents(data));
        const response = await fetch('./api/webhook/stream');
        const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
        let text = '';
        const read = async () => {
          for (let piece; !(piece = await reader.read()).done; ) {
            const blocks = (text + piece.value).split('\n\n');
            text = blocks.pop();
            for (const block of blocks) seen.fetch.push(...contents(/^data: (.*)$/m.exec(block)[1]));
          }
        };
        read().then(
          () => (seen.end = 'in order'),
          (error) => (seen.end = String(error)),
        );
      });
      const texts = ['one', 'two', 'three'.repeat(4_000), 'four \u{1f600}'];
      for (const [index, text] of texts.entries()) {
        await server.post(text);
        await until(
          (count) => globalThis.seen.fetch.length === count && globalThis.seen.source.length === count,
          index + 1,
        );
      }
      await server.drain();
      await until(() => globalThis.seen.end !== '');
      const seen = await page.evaluate(() => globalThis.seen);
      assert.deepEqual(seen, { fetch: texts, source: texts, end: 'in order' });
      await restart();
    });

    it('the chat window shows messages', async () => {
      await page.goto(server.url);
      await page.waitForSelector('#status[data-state=live]');
      await server.post('in the window');
      await until(() => [...document.querySelectorAll('.content')].some((e) => e.textContent === 'in the window'));
    });
  });
}
