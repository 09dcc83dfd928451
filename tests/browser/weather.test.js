/** The page under faults: the server is down, full or draining, the network is cut or frozen. */

import assert from 'node:assert/strict';
import net from 'node:net';
import { once } from 'node:events';
import { describe, it } from 'node:test';

import { launch, openIn, setHidden, shows, state, texts, withoutSharedWorker } from './support/page.js';
import { closePage, live, openPage, page, proxy, replaceServer, restart, server, useBrowser, usePages } from './support/rig.js';

const FLAGS = ['--drain', '500ms'];

describe('under faults of server and network, the page', () => {
  // Browsers have a back-forward cache; the driver turns it off by default.
  useBrowser(() => launch({ ignoreDefaultArgs: ['--disable-back-forward-cache'] }));
  usePages({ flags: FLAGS, proxied: true });

  const status = () => page.locator('#status [role=status]').textContent();
  const reconnectNow = () => page.getByRole('button', { name: 'Reconnect now' }).click();

  it('reconnects after a kill and shows messages posted meanwhile', async () => {
    await server.post('before');
    await live();
    await shows(page, 'before');
    proxy.refuse();
    await server.kill();
    await state(page, 'waiting', 'lost');
    assert.equal(await status(), 'Connection lost');
    assert.match(await page.locator('#status .countdown').textContent(), /^reconnecting in \d s$/);
    await restart();
    await server.post('meanwhile');
    await state(page, 'live');
    await server.post('after');
    await shows(page, 'after');
    assert.deepEqual(await texts(page), ['before', 'meanwhile', 'after']);
  });

  it('recognises a drain and reconnects after it', async () => {
    await server.post('before');
    await live();
    const gone = server.drain();
    await state(page, 'waiting', 'drain');
    assert.equal(await status(), 'Server is restarting');
    await gone;
    await restart();
    await server.post('after');
    await shows(page, 'after');
    assert.deepEqual(await texts(page), ['before', 'after']);
  });

  it('waits for a full server and connects once there is a place', async () => {
    await replaceServer(...FLAGS, '--max-connections', '20');
    await live();
    // Fills all places, later also the one that the page loses.
    const others = [];
    const fill = async () => {
      for (;;) {
        const socket = net.connect(server.port, '127.0.0.1');
        socket.on('error', () => {});
        socket.write('GET /api/webhook/stream HTTP/1.1\r\nHost: x\r\n\r\n');
        const [bytes] = await once(socket, 'data');
        if (!bytes.includes('connected')) return socket.destroy();
        others.push(socket);
      }
    };
    await fill();
    proxy.refuse();
    proxy.cut();
    await state(page, 'waiting', 'lost');
    await fill();
    proxy.pass();
    await reconnectNow();
    await state(page, 'waiting', 'overload');
    assert.equal(await status(), 'Server is full');
    assert.match(await page.locator('#status .countdown').textContent(), /^reconnecting in [23]\d s$/);
    for (const socket of others) socket.destroy();
    await reconnectNow();
    await page.waitForFunction(async () => {
      const { state, reason } = document.getElementById('status').dataset;
      // A place becomes free once the server has processed the close.
      if (reason === 'overload') document.querySelector('#status button').click();
      return state === 'live';
    });
  });

  it('loses nothing to a cut inside a message', async () => {
    await live();
    const long = 'x'.repeat(60_000);
    await Promise.all([...Array(10).keys()].map((i) => server.post(`${i} ${long}`)));
    proxy.cut();
    await state(page, 'waiting', 'lost');
    await state(page, 'live');
    await server.post('after');
    await shows(page, 'after');
    assert.equal(await page.locator('#count').textContent(), '11 messages');
  });

  it('notices a frozen stream', async () => {
    await live();
    proxy.freezeStreams();
    await server.post('into the ice');
    await state(page, 'waiting', 'silent');
    assert.equal(await status(), 'Connection went silent');
    await shows(page, 'into the ice');
    await state(page, 'live');
  });

  it('reconnects after answers that end an EventSource for good', async () => {
    await live();
    proxy.answer('HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n');
    proxy.cut();
    await state(page, 'waiting', 'status');
    assert.equal(await status(), 'Server answered 502 Bad Gateway');
    await server.post('meanwhile');
    proxy.pass();
    await reconnectNow();
    await shows(page, 'meanwhile');
  });

  it('shows messages lost in a long absence as a gap', async () => {
    await server.post('before');
    await live();
    await shows(page, 'before');
    proxy.refuse();
    proxy.cut();
    await state(page, 'waiting', 'lost');
    await server.postAll(Array.from({ length: 105 }, (_, i) => `m${i}`));
    await server.kill();
    await restart();
    await reconnectNow();
    await shows(page, 'm104');
    await page.locator('#log').evaluate((log) => (log.scrollTop = 0));
    await page.locator('.gap').waitFor();
    assert.deepEqual(await page.locator('.gap').allTextContents(), ['5 messages missed here']);
    assert.equal(await page.locator('#count').textContent(), '101 messages');
  });

  it('counts messages as unread that arrive with a reconnect in the background', async () => {
    await server.post('read');
    await live();
    await shows(page, 'read');
    await setHidden(page, true);
    proxy.cut();
    await server.postAll(['missed 1', 'missed 2']);
    await page.waitForFunction(() => document.title === '(2) hookcast');
  });

  it('shows that it is offline, and reconnects at once when it is online', async () => {
    await live('', { alone: true });
    // Without the `online` event it would wait for minutes.
    proxy.answer('HTTP/1.1 503 Busy\r\nRetry-After: 300\r\nContent-Length: 0\r\nConnection: close\r\n\r\n');
    proxy.cut();
    await state(page, 'waiting', 'status');
    await page.context().setOffline(true);
    await page.locator('#status').getByText('Offline').waitFor();
    await server.post('meanwhile');
    proxy.pass();
    await page.context().setOffline(false);
    await shows(page, 'meanwhile');
  });

  it('keeps its history over a reload and resumes', async () => {
    await server.postAll(Array.from({ length: 150 }, (_, i) => `m${i}`));
    await live();
    await server.post('last');
    await shows(page, 'last');
    assert.equal(await page.locator('#count').textContent(), '101 messages');
    await page.reload();
    await state(page, 'live');
    await shows(page, 'last');
    assert.match(proxy.streamRequests.at(-1), /lastEventId=[0-9a-f]+-\d+/);
    assert.equal(await page.locator('#count').textContent(), '101 messages');
    // The same with a restart of the server in between.
    await page.goto('about:blank');
    await server.kill();
    await restart();
    await server.post('in between');
    // The browser may use a preconnected connection that was cut with the server; then a reload works.
    await page.goto(proxy.url).catch(() => page.goto(proxy.url));
    await shows(page, 'in between');
    assert.equal(await page.locator('#count').textContent(), '102 messages');
    assert.equal(await page.locator('.gap').count(), 0);
  });

  it('resumes when it is restored from the back-forward cache', async () => {
    await server.post('before');
    await live();
    await shows(page, 'before');
    await page.evaluate(() => {
      window.sameDocument = true;
    });
    await page.goto(`${server.url}api/webhook`);
    await proxy.streams(0);
    await server.post('while away');
    // There is no load event for a page from that cache.
    await page.goBack({ waitUntil: 'commit' });
    await shows(page, 'while away');
    await state(page, 'live');
    assert.deepEqual(await texts(page), ['before', 'while away']);
    assert.ok(await page.evaluate(() => window.sameDocument));
  });

  it('resumes after the browser froze the page', async () => {
    await live();
    const session = await page.context().newCDPSession(page);
    await session.send('Page.setWebLifecycleState', { state: 'frozen' });
    await server.postAll(['one', 'two']);
    await session.send('Page.setWebLifecycleState', { state: 'active' });
    await shows(page, 'two');
    assert.deepEqual(await texts(page), ['one', 'two']);
  });

  it('shares one stream among ten tabs', async () => {
    await server.post('history');
    await live();
    const tabs = [page];
    for (let i = 1; i < 10; i += 1) tabs.push(await openIn(page.context(), proxy.url));
    await Promise.all(tabs.map((tab) => state(tab, 'live')));
    await server.post('to all tabs');
    await Promise.all(tabs.map((tab) => shows(tab, 'to all tabs')));
    assert.equal(proxy.openStreams, 1);
    assert.equal(proxy.streamRequests.length, 1);
    // The tab that opened the stream is closed; the stream stays open.
    await tabs.shift().close();
    await server.post('to the rest');
    await Promise.all(tabs.map((tab) => shows(tab, 'to the rest')));
    for (const tab of tabs) assert.deepEqual(await texts(tab), ['history', 'to all tabs', 'to the rest']);
    assert.equal(proxy.streamRequests.length, 1);
    // All tabs show its state, and any of them can reconnect.
    proxy.refuse();
    proxy.cut();
    await Promise.all(tabs.map((tab) => state(tab, 'waiting')));
    proxy.pass();
    // On a slow machine the wait may end before the click.
    await tabs[3].locator('button', { hasText: 'Reconnect now' }).dispatchEvent('click');
    await Promise.all(tabs.map((tab) => state(tab, 'live')));
    await closePage();
    await proxy.streams(0);
  });

  it('gives each session a stream of its own', async () => {
    await live();
    const other = await openIn(page.context(), `${proxy.url}?sessionId=other`);
    await state(other, 'live');
    await server.post('for the other', { sessionId: 'other' });
    await server.post('for all');
    await Promise.all([shows(page, 'for all'), shows(other, 'for all')]);
    assert.deepEqual(await texts(page), ['for all']);
    assert.deepEqual(await texts(other), ['for the other', 'for all']);
    assert.equal(proxy.openStreams, 2);
  });

  for (const [why, disable] of [
    ['has no shared worker', withoutSharedWorker],
    ['denies a shared worker', (context) => context.addInitScript(() => {
      globalThis.SharedWorker = class {
        constructor() {
          throw new DOMException('denied', 'SecurityError');
        }
      };
    })],
    // The answer to the script is a 404. On a busy machine Chromium fires no error event after one in ten of them; then
    // the page waits for its timeout.
    ['fails to load the worker', (context) => context.addInitScript(() => {
      const Real = SharedWorker;
      globalThis.SharedWorker = function (url, options) {
        return new Real(new URL('nowhere.js', url), options);
      };
    })],
    ['reports an error of the worker', (context) => context.addInitScript(() => {
      const { setTimeout } = globalThis;
      globalThis.SharedWorker = class {
        port = new MessageChannel().port1;

        constructor() {
          setTimeout(() => this.onerror(new Event('error')));
        }
      };
      // With an error event the page needs no timeout.
      globalThis.setTimeout = (action, ms) => (ms === 5_000 ? 0 : setTimeout(action, ms));
    })],
    ['starts a worker that does not answer', (context) => context.addInitScript(() => {
      const Real = SharedWorker;
      globalThis.SharedWorker = function (url, options) {
        return new Real(new URL('hookcast.js', url), options);
      };
    })],
  ]) {
    it(`opens a stream of its own if the browser ${why}`, async () => {
      await server.post('history');
      await openPage('about:blank');
      await disable(page.context());
      await page.goto(proxy.url);
      await state(page, 'live');
      const second = await openIn(page.context(), proxy.url);
      await state(second, 'live');
      assert.equal(proxy.openStreams, 2);
      await server.post('news');
      await Promise.all([shows(page, 'news'), shows(second, 'news')]);
      proxy.cut();
      await state(page, 'waiting');
      await state(page, 'live');
      await server.post('again');
      await shows(page, 'again');
      assert.deepEqual(await texts(page), ['history', 'news', 'again']);
    });
  }
});
