/** Pages of other origins in Chromium and Firefox: the headers of common clients pass the preflight. */

import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';

import { BROWSERS, browser, useBrowser } from './support/rig.js';
import { Server } from './support/server.js';
import { serve } from './support/site.js';

/** Headers that clients add to a stream or a webhook. `X-Own` stands for any other. */
const HEADERS = {
  // eventsource 2, and pollers.
  'Cache-Control': 'no-cache',
  // fetch-event-source and polyfills, which resume by it.
  'Last-Event-ID': '0000000000000000-1',
  // Clients behind a gateway with a log-in.
  Authorization: 'Bearer x',
  // OpenTelemetry.
  traceparent: '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01',
  // jQuery and others.
  'X-Requested-With': 'XMLHttpRequest',
  'Content-Type': 'application/json',
  'X-Own': 'x',
};

for (const [name, launchBrowser] of Object.entries(BROWSERS)) {
  describe(name, () => {
    let site;
    let page;

    useBrowser(launchBrowser);
    before(async () => {
      site = await serve((_, response) => response.setHeader('Content-Type', 'text/html').end('<!doctype html>'));
      page = await browser.newPage();
      await page.goto(site.url);
    });
    after(() => site?.close());

    /** Posts a message and reads its event by fetch; returns the content or the error. */
    const roundTrip = (url, init) =>
      page.evaluate(
        async ([url, init]) => {
          try {
            const stream = await fetch(`${url}/stream`, init);
            const body = JSON.stringify({ message: 'through' });
            const posted = await fetch(url, { ...init, method: 'POST', body });
            if (!posted.ok) return `posted: ${posted.status}`;
            const reader = stream.body.pipeThrough(new TextDecoderStream()).getReader();
            let text = '';
            for (let piece; !text.includes('"through"') && !(piece = await reader.read()).done; ) text += piece.value;
            await reader.cancel();
            return /"content":"([^"]*)"/.exec(text)?.[1];
          } catch (error) {
            return String(error);
          }
        },
        [`${url}api/webhook`, init],
      );

    /** Opens an EventSource; returns the result. */
    const subscribe = (url, init) =>
      page.evaluate(
        ([url, init]) =>
          new Promise((resolve) => {
            const source = new EventSource(url, init);
            source.onmessage = ({ data }) => {
              source.close();
              resolve(JSON.parse(data).type);
            };
            source.onerror = () => resolve(`error ${source.readyState}`);
          }),
        [`${url}api/webhook/stream`, init],
      );

    it('any page may send the headers of clients, without credentials', async (t) => {
      const server = await Server.startFor(t);
      assert.equal(await roundTrip(server.url, { headers: HEADERS }), 'through');
      assert.equal(await subscribe(server.url, {}), 'connected');
      assert.match(await subscribe(server.url, { withCredentials: true }), /^error/);
    });

    it('only a page of a listed origin may send credentials', async (t) => {
      const server = await Server.startFor(t, ['--allow-origin', new URL(site.url).origin]);
      // With credentials a wildcard allows no header.
      const { 'X-Own': _, ...headers } = HEADERS;
      assert.equal(await roundTrip(server.url, { headers, credentials: 'include' }), 'through');
      assert.equal(await subscribe(server.url, { withCredentials: true }), 'connected');

      const other = await Server.startFor(t, ['--allow-origin', 'https://a.example']);
      assert.match(await roundTrip(other.url, { headers }), /Error/);
      assert.match(await subscribe(other.url, {}), /^error/);
    });

    it('a page can read Retry-After and the ETag of a history', async (t) => {
      const server = await Server.startFor(t, ['--max-connections', '1']);
      const held = await fetch(new URL('api/webhook/stream', server.url));
      t.after(() => held.body.cancel());
      const read = (target, field, init = {}) =>
        page.evaluate(async ([url, field, init]) => (await fetch(url, init)).headers.get(field), [target, field, init]);
      const post = { method: 'POST', body: '{"message":"x"}' };
      assert.equal(await read(`${server.url}api/webhook`, 'retry-after', post), '5');

      const roomy = await Server.startFor(t);
      assert.match(await read(`${roomy.url}api/webhook/messages`, 'etag'), /^"/);
    });
  });
}
