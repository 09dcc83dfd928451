/** The page of the admin address: its figures follow the server, and it is readable and accessible. */

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import { artefact } from './support/artefacts.js';
import { findings } from './support/axe.js';
import { openPage, page, server, useBrowser, usePages } from './support/rig.js';

/** A row of a table, by its name. */
const row = (table, name) =>
  page.locator(`#${table} tr`, { has: page.locator('th', { hasText: new RegExp(`^${name}$`) }) }).locator('td').last();
/** Waits until an element's text matches. */
const reads = (locator, text) => locator.filter({ hasText: text }).waitFor();

describe('the admin page', () => {
  useBrowser();
  usePages({ flags: ['--admin', '127.0.0.1:0'] });

  it('shows the figures of the server', async () => {
    await openPage(server.adminUrl);
    await reads(page.locator('#state'), /^ready$/);
    await reads(page.locator('#about'), /^version \d+\.\d+\.\d+, up for /);
    await reads(row('ring', 'messages'), /^0$/);
    assert.ok(await page.locator('#bus-section').isHidden(), 'there is no bus');

    const stop = new AbortController();
    const stream = await fetch(new URL('api/webhook/stream', server.url), { signal: stop.signal });
    await server.postAll(['one', 'two', 'three']);
    await fetch(new URL('api/webhook', server.url), { method: 'POST', body: 'no JSON' });
    await reads(row('ring', 'messages'), /^3$/);
    await reads(row('ring', 'last seq'), /^3$/);
    await reads(row('requests', '/api/webhook 200'), /^3$/);
    await reads(row('refused', 'invalid message'), /^1$/);
    await reads(row('streams', 'opened, replay'), /^1$/);
    const streams = page.locator('.figure', { hasText: 'Streams' }).locator('strong');
    await reads(streams, /^1$/);
    // The quantiles are of these three webhooks.
    await reads(row('latency', 'webhook read to answered'), /^3$/);
    const median = page.locator('#latency tr').first().locator('td').first();
    assert.match(await median.textContent(), /^[\d.]+ (µs|ms|s)$/);

    stop.abort();
    await stream.body.cancel().catch(() => {});
    await reads(row('streams', 'closed, peer'), /^1$/);
    await reads(streams, /^0$/);
    assert.deepEqual(page.complaints, [], 'the page violates its own policy');
  });

  it('reports a lost server, and continues when it is back', async () => {
    await openPage(server.adminUrl);
    await reads(page.locator('#state'), /^ready$/);
    const { adminUrl } = server;
    await server.kill();
    await reads(page.locator('#state'), /^no answer$/);
    await server.restart();
    // The new process has another port, and the page requests the old one. If the browser were redirected, the
    // request would go to another origin, which is refused.
    await page.route(`${adminUrl}metrics`, async (route) => {
      const answer = await fetch(`${server.adminUrl}metrics`);
      await route.fulfill({ status: answer.status, contentType: 'text/plain', body: await answer.text() });
    });
    await reads(page.locator('#state'), /^ready$/);
  });

  for (const theme of ['light', 'dark']) {
    for (const width of [360, 1280]) {
      it(`can be read at ${width} pixels, ${theme}`, async () => {
        await openPage(server.adminUrl, { viewport: { width, height: 900 }, colorScheme: theme });
        await reads(page.locator('#state'), /^ready$/);
        // Rates appear with the second sample.
        await server.post('A picture is taken');
        await reads(page.locator('.figure', { hasText: 'Messages' }).locator('strong'), /^[\d.]+\/s$/);
        await page.screenshot({ path: artefact(`admin-${theme}-${width}.png`), fullPage: true });
        const overflow = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
        assert.ok(overflow <= 0, `${overflow} pixels too wide`);
        assert.deepEqual((await findings(page)).violations, []);
      });
    }
  }
});

describe('the admin page of a node whose engine is away', () => {
  useBrowser();
  const bus = ['--bus', 'redis://127.0.0.1:1/browser', '--bus-timeout', '100ms'];
  usePages({ flags: ['--admin', '127.0.0.1:0', ...bus] });

  it('shows the bus, and that it does not work', async () => {
    await openPage(server.adminUrl);
    await reads(page.locator('#state'), /^starting$/);
    await reads(row('bus', 'connected'), /^no$/);
    assert.equal(await row('bus', 'connected').getAttribute('class'), 'is-bad');
    await reads(row('bus', 'read, unreachable'), /^[1-9]/);
    await reads(row('bus', 'messages of all nodes'), /^0$/);
    await reads(row('latency', 'to the bus and back'), /^0$/);
    assert.equal(await row('bus', 'resets').getAttribute('class'), '');
    assert.deepEqual((await findings(page)).violations, []);
    assert.deepEqual(page.complaints, []);
  });
});
