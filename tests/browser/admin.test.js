/** The page of the admin address: its figures follow the server, and it is readable and accessible. */

import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import { after, before, describe, it } from 'node:test';
import axe from 'axe-core';

import { launch, open } from './support/page.js';
import { Server } from './support/server.js';

const ARTEFACTS = new URL('../../artefacts/', import.meta.url).pathname;

describe('the admin page', () => {
  let browser;
  let server;
  before(async () => {
    mkdirSync(ARTEFACTS, { recursive: true });
    browser = await launch();
    server = await Server.start(['--admin', '127.0.0.1:0']);
  });
  after(async () => {
    await browser.close();
    await server.close();
  });

  /** A row of a table, by its name. */
  const row = (page, table, name) =>
    page.locator(`#${table} tr`, { has: page.locator('th', { hasText: new RegExp(`^${name}$`) }) }).locator('td').last();
  /** Waits until an element's text matches. */
  const reads = (page, locator, text) => locator.filter({ hasText: text }).waitFor();

  it('shows the figures of the server', async (t) => {
    const page = await open(browser, server.adminUrl);
    t.after(() => page.context().close());
    await reads(page, page.locator('#state'), /^ready$/);
    await reads(page, page.locator('#about'), /^version \d+\.\d+\.\d+, up for /);
    await reads(page, row(page, 'ring', 'messages'), /^0$/);

    const stop = new AbortController();
    const stream = await fetch(new URL('api/webhook/stream', server.url), { signal: stop.signal });
    await server.postAll(['one', 'two', 'three']);
    await fetch(new URL('api/webhook', server.url), { method: 'POST', body: 'no JSON' });
    await reads(page, row(page, 'ring', 'messages'), /^3$/);
    await reads(page, row(page, 'ring', 'last seq'), /^3$/);
    await reads(page, row(page, 'requests', '/api/webhook 200'), /^3$/);
    await reads(page, row(page, 'refused', 'invalid message'), /^1$/);
    await reads(page, row(page, 'streams', 'opened, replay'), /^1$/);
    const streams = page.locator('.figure', { hasText: 'Streams' }).locator('strong');
    await reads(page, streams, /^1$/);
    // The quantiles are of these three webhooks.
    await reads(page, row(page, 'latency', 'webhook read to answered'), /^3$/);
    const median = page.locator('#latency tr').first().locator('td').first();
    assert.match(await median.textContent(), /^[\d.]+ (µs|ms|s)$/);

    stop.abort();
    await stream.body.cancel().catch(() => {});
    await reads(page, row(page, 'streams', 'closed, peer'), /^1$/);
    await reads(page, streams, /^0$/);
    assert.deepEqual(page.complaints, [], 'the page violates its own policy');
  });

  it('reports a lost server, and continues when it is back', async (t) => {
    const own = await Server.start(['--admin', '127.0.0.1:0']);
    t.after(() => own.close());
    const page = await open(browser, own.adminUrl);
    t.after(() => page.context().close());
    await reads(page, page.locator('#state'), /^ready$/);
    const { adminUrl } = own;
    await own.kill();
    await reads(page, page.locator('#state'), /^no answer$/);
    await own.restart();
    // The new process has another port, and the page requests the old one. If the browser were redirected, the
    // request would go to another origin, which is refused.
    await page.route(`${adminUrl}metrics`, async (route) => {
      const answer = await fetch(`${own.adminUrl}metrics`);
      await route.fulfill({ status: answer.status, contentType: 'text/plain', body: await answer.text() });
    });
    await reads(page, page.locator('#state'), /^ready$/);
  });

  for (const theme of ['light', 'dark']) {
    for (const width of [360, 1280]) {
      it(`can be read at ${width} pixels, ${theme}`, async (t) => {
        const page = await open(browser, server.adminUrl, { viewport: { width, height: 900 }, colorScheme: theme });
        t.after(() => page.context().close());
        await reads(page, page.locator('#state'), /^ready$/);
        // Rates appear with the second sample.
        await server.post('A picture is taken');
        await reads(page, page.locator('.figure', { hasText: 'Messages' }).locator('strong'), /^[\d.]+\/s$/);
        await page.screenshot({ path: `${ARTEFACTS}admin-${theme}-${width}.png`, fullPage: true });
        const overflow = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
        assert.ok(overflow <= 0, `${overflow} pixels too wide`);
        await page.evaluate(axe.source);
        const { violations } = await page.evaluate(() =>
          globalThis.axe.run(document, { runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'] }));
        assert.deepEqual(violations.map(({ id, nodes }) => [id, nodes.map(({ html }) => html.slice(0, 200))]), []);
      });
    }
  }
});
