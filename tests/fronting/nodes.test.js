/**
 * Two nodes on one bus behind one address, as src/bus/README.md recommends: a client that changes nodes misses
 * nothing, a draining node gets no new stream, and an engine that dies takes no node out of service.
 */

import assert from 'node:assert/strict';
import { after, afterEach, before, beforeEach, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

import { EventSource } from 'eventsource';

import { ask, post, Stream } from './support/client.js';
import { Engine, Node } from './support/nodes.js';
import { freePort, until } from './support/process.js';
import { BALANCERS, Proxy } from './support/proxies.js';

const CLIENTS = 6;
const PACE_MS = 25;

/** Contents differ from test to test, because the history outlives them. */
let tests = 0;

/** A browser: reconnects by itself, and never repeats or skips an event id. */
class Browser {
  contents = [];
  seqs = [];
  connected = 0;
  gaveUp = undefined;

  constructor(url) {
    this.source = new EventSource(`${url}/api/webhook/stream`);
    this.source.onmessage = ({ data, lastEventId }) => {
      const event = JSON.parse(data);
      if (event.type === 'connected') this.connected += 1;
      if (event.type === 'gap') this.gaveUp = `gap of ${event.missed}`;
      if (event.type !== 'webhook_message') return;
      this.contents.push(event.content);
      this.seqs.push(Number(lastEventId.split('-')[1]));
    };
    this.source.onerror = ({ code }) => {
      if (this.source.readyState === EventSource.CLOSED) this.gaveUp = `status ${code}`;
    };
  }
}

for (const name of Object.keys(BALANCERS)) {
  describe(`two nodes behind ${name}`, () => {
    let engine;
    let nodes;
    let proxy;
    let browsers;
    let isOver;
    let publishing;
    /** Contents by the status of their answer. */
    let posted;

    before(async () => {
      engine = await Engine.start();
      const ports = { listen: await freePort(), admin: await freePort() };
      nodes = ['127.0.0.1', '127.0.0.2'].map((address) => new Node(address, ports, engine));
      await Promise.all(nodes.map((node) => node.start()));
      proxy = await Proxy.beforeNodes(name, ports);
      await until('the proxy serves', async () => (await ask(proxy.url)).status === 200);
    });

    after(async () => {
      await proxy?.close();
      for (const node of nodes ?? []) await node.close();
      await engine?.close();
    });

    beforeEach(async () => {
      isOver = false;
      posted = new Map();
      tests += 1;
      await until('both nodes get streams', reachesBoth);
      browsers = Array.from({ length: CLIENTS }, () => new Browser(proxy.url));
      await until('all browsers are connected', () => browsers.every(({ connected }) => connected === 1));
      publishing = publish();
    });

    afterEach(async () => {
      isOver = true;
      await publishing;
      for (const { source } of browsers) source.close();
    });

    /** Opens a few streams. True if the balancer has given each node one. */
    async function reachesBoth() {
      const opened = () => Promise.all(nodes.map((node) => node.metric('hookcast_streams_opened_total')));
      const earlier = await opened();
      const streams = await Promise.all([1, 2, 3, 4].map(() => Stream.open(proxy.url)));
      for (const stream of streams) stream.close();
      await until('they are closed', async () => (await nodes[0].streams()) + (await nodes[1].streams()) === 0);
      return (await opened()).every((count, index) => count > earlier[index]);
    }

    const stored = () => posted.get(200) ?? [];
    const awaitPosts = async (count) => {
      const wanted = stored().length + count;
      await until(`${count} further webhooks are stored`, () => stored().length >= wanted);
    };

    /** Posts through the balancer. A broken connection counts as status 0. */
    async function publish() {
      for (let number = 0; !isOver; number += 1) {
        const content = `test ${tests}, message ${number}`;
        const body = JSON.stringify({ message: content });
        const headers = { 'Content-Length': Buffer.byteLength(body) };
        const { status } = await ask(proxy.url, { method: 'POST', headers, body }).catch(() => ({ status: 0 }));
        posted.set(status, [...(posted.get(status) ?? []), content]);
        await sleep(PACE_MS);
      }
    }

    /** Every browser got what was stored, once and in one order, without a hole. */
    async function expectAllSeen() {
      isOver = true;
      await publishing;
      const last = stored().at(-1);
      await until('every browser has the last message', () =>
        browsers.every(({ contents }) => contents.includes(last)));
      for (const { contents, seqs, gaveUp } of browsers) {
        assert.equal(gaveUp, undefined);
        const own = contents.slice(contents.indexOf(stored()[0]));
        assert.equal(new Set(contents).size, new Set(seqs).size, 'each message once');
        assert.deepEqual(stored().filter((content) => !own.includes(content)), [], 'nothing stored is missing');
        assert.deepEqual(seqs, Array.from(seqs, (_, index) => seqs[0] + index), 'one order, without a hole');
        const refused = posted.get(503) ?? [];
        assert.deepEqual(own.filter((content) => refused.includes(content)), [], 'a 503 is never shown');
      }
    }

    const bothBusy = async () => {
      const counts = await Promise.all(nodes.map((node) => node.streams()));
      assert.ok(counts.every((count) => count > 0), `streams on both nodes: ${counts}`);
      return nodes;
    };

    test('clients of a node that is killed continue at the other one', async () => {
      const [first, second] = await bothBusy();
      await awaitPosts(20);
      await first.kill();
      await until('all streams are at the other node', async () => (await second.streams()) === CLIENTS);
      await awaitPosts(20);
      await first.start();
      await awaitPosts(20);
      await expectAllSeen();
    });

    test('a draining node gets no new stream, and its clients continue at the other one', async () => {
      const [first, second] = await bothBusy();
      await awaitPosts(20);
      const ended = first.drain();
      await until('it says so', async () => (await first.ready()) === 503);
      const before = await first.metric('hookcast_streams_opened_total');
      for (let number = 0; number < 10; number += 1) {
        const stream = await Stream.open(proxy.url);
        assert.equal(stream.status, 200);
        // On a connection that the balancer has kept, the node ends the stream at once, with a `retry`.
        await until('the stream begins or ends', () => stream.connected || stream.ended);
        assert.ok(stream.connected || stream.retryMs > 0, 'a client connects again');
        stream.close();
      }
      const opened = await first.metric('hookcast_streams_opened_total').catch(() => before);
      assert.equal(opened, before, 'streams opened at the draining node');
      await ended;
      await until('all browsers are at the other node', async () => (await second.streams()) === CLIENTS);
      await awaitPosts(20);
      await first.start();
      await expectAllSeen();
      assert.deepEqual([...posted.keys()], [200], 'every webhook is stored');
    });

    test('an engine that dies takes no node out of service and ends no stream', async () => {
      await awaitPosts(20);
      const connected = browsers.map((browser) => browser.connected);
      await engine.kill();
      await until('a webhook is refused', () => posted.has(503));
      for (const node of nodes) {
        assert.equal(await node.ready(), 200, 'ready');
        assert.equal(await node.ready('?bus'), 503, 'the bus does not work');
      }
      assert.equal((await ask(proxy.url)).status, 200);
      const history = await ask(proxy.url, { path: '/api/webhook/messages' });
      assert.equal(history.status, 200);
      const stream = await Stream.open(proxy.url);
      await stream.isConnected();
      stream.close();
      await engine.start();
      await awaitPosts(20);
      await expectAllSeen();
      assert.deepEqual(browsers.map((browser) => browser.connected), connected, 'no browser has reconnected');
      assert.equal((await post(proxy.url, 'after')).length, 36);
    });
  });
}
