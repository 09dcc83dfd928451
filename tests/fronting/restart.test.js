/**
 * Restarts behind each recommended proxy, and without one, under webhooks and with `EventSource` clients. No
 * connection is refused, every webhook gets a 200, and no message is lost or repeated. RESTARTS sets the number,
 * for each of the two ways.
 */

import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import { Agent, request } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';

import { EventSource } from 'eventsource';

import { ask } from './support/client.js';
import { PATIENCE_MS, until } from './support/process.js';
import { PROXIES, Proxy } from './support/proxies.js';
import { HandedOver, Supervised } from './support/restarts.js';

const RESTARTS = Number(process.env.RESTARTS ?? 4);
const CLIENTS = 8;
/**
 * An EventSource is disconnected for up to 3 s, and a restart keeps the last 100 messages. At this pace 100
 * messages take 10 s or more.
 */
const STEADY_PACE_MS = 200;
/**
 * The pace of publishers that pause while a client is far behind, so that they publish at the moment of each
 * restart.
 */
const EAGER_PACE_MS = 4;
const EAGER_AHEAD_MAX = 40;
/** The least number of webhooks between two restarts. */
const POSTS_BETWEEN = 40;

/** Results by kind of restart and proxy. */
const seen = new Map();

class Client {
  contents = [];
  seqs = [];
  connected = 0;
  gaveUp = undefined;
  refused = [];

  constructor(url) {
    this.source = new EventSource(`${url}/api/webhook/stream`);
    this.source.onmessage = ({ data, lastEventId }) => {
      const event = JSON.parse(data);
      if (event.type === 'connected') this.connected += 1;
      if (event.type !== 'webhook_message') return;
      this.contents.push(event.content);
      this.seqs.push(Number(lastEventId.split('-')[1]));
    };
    this.source.onerror = ({ code, message }) => {
      // The end of a stream is an error without a message. After any status but 200 the client does not
      // reconnect.
      if (this.source.readyState === EventSource.CLOSED) this.gaveUp = `${code} ${message}`;
      else if (message) this.refused.push(message);
    };
  }
}

class Load {
  acknowledged = [];
  failed = [];
  longestMs = 0;
  #isOver = false;
  #publishers = [];

  constructor(url) {
    this.url = url;
    this.clients = Array.from({ length: CLIENTS }, () => new Client(url));
  }

  async begin() {
    await this.allConnected(1);
    const kept = () => new Agent({ keepAlive: true, maxSockets: 1 });
    this.#publishers = [
      this.#publish('steady, new connections', false, STEADY_PACE_MS),
      this.#publish('steady, kept connection', kept(), STEADY_PACE_MS),
      this.#publish('eager, new connections', false, EAGER_PACE_MS, EAGER_AHEAD_MAX),
      this.#publish('eager, kept connection', kept(), EAGER_PACE_MS, EAGER_AHEAD_MAX),
    ];
  }

  /** Waits until every client has connected this many times. */
  async allConnected(times) {
    await until(`every client is connected, ${times} times`, () => {
      const lost = this.clients.find(({ gaveUp }) => gaveUp);
      assert.equal(lost?.gaveUp, undefined, 'a client has given up');
      return this.clients.every(({ connected }) => connected >= times);
    });
  }

  async awaitPosts(posts) {
    const wanted = this.acknowledged.length + posts;
    await until(`${posts} more webhooks are answered`, () => this.acknowledged.length >= wanted || this.failed.length > 0);
  }

  async end() {
    this.#isOver = true;
    await Promise.all(this.#publishers);
    await until('every client has the last message', () =>
      this.clients.every(({ contents }) => contents.length >= this.acknowledged.length));
  }

  close() {
    this.#isOver = true;
    for (const { source } of this.clients) source.close();
  }

  async #publish(name, agent, paceMs, aheadMax = Infinity) {
    const ahead = () => this.acknowledged.length - Math.min(...this.clients.map(({ contents }) => contents.length));
    for (let number = 0; !this.#isOver; number += 1) {
      await sleep(paceMs);
      if (ahead() > aheadMax) continue;
      const content = `${name} ${number}`;
      const began = performance.now();
      try {
        const { status, text } = await send(this.url, agent, JSON.stringify({ message: content }));
        if (status === 200) this.acknowledged.push(content);
        else this.failed.push(`${content}: ${status} ${text}`);
      } catch (error) {
        this.failed.push(`${content}: ${error}`);
      }
      this.longestMs = Math.max(this.longestMs, performance.now() - began);
    }
    agent?.destroy?.();
  }

  check() {
    assert.deepEqual(this.failed, [], 'webhooks without a 200');
    const expected = this.acknowledged.toSorted();
    for (const { contents, seqs, gaveUp, refused } of this.clients) {
      assert.equal(gaveUp, undefined);
      assert.deepEqual(refused, [], 'attempts to connect that failed');
      assert.deepEqual(contents.toSorted(), expected, 'every message once');
      assert.deepEqual(contents, this.clients[0].contents, 'all in the same order');
      assert.deepEqual(seqs, Array.from(seqs, (_, index) => index + 1), 'event ids have no holes');
    }
  }
}

function send(url, agent, body) {
  return new Promise((resolve, reject) => {
    const headers = { 'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(body) };
    const options = { method: 'POST', headers, agent, timeout: PATIENCE_MS };
    const sent = request(`${url}/api/webhook`, options, async (response) => {
      try {
        let text = '';
        for await (const data of response) text += data;
        resolve({ status: response.statusCode, text });
      } catch (error) {
        reject(error);
      }
    });
    sent.on('error', reject).on('timeout', () => sent.destroy(new Error('no answer')));
    sent.end(body);
  });
}

async function restartAll(kind, proxyName) {
  const servers = await kind.start();
  let proxy;
  let load;
  try {
    if (proxyName) proxy = await Proxy.start(proxyName, servers.port);
    const { url } = proxy ?? servers;
    await until('the proxy serves', async () => (await ask(url)).status === 200);
    load = new Load(url);
    await load.begin();
    for (let nth = 1; nth <= RESTARTS; nth += 1) {
      await load.awaitPosts(POSTS_BETWEEN);
      await servers.restart(nth);
      await load.allConnected(nth + 1);
    }
    await load.awaitPosts(POSTS_BETWEEN);
    await load.end();
    load.check();
    assert.deepEqual(servers.troubles, []);
    return `${RESTARTS} restarts, ${load.acknowledged.length} webhooks, longest wait ${load.longestMs.toFixed(0)} ms`;
  } finally {
    load?.close();
    await proxy?.close();
    await servers.close();
  }
}

// All at the same time: tests mostly wait for clients to reconnect.
describe('restarts under load', { concurrency: true }, () => {
  for (const kind of [HandedOver, Supervised]) {
    for (const proxy of [...PROXIES, undefined]) {
      const place = proxy ?? 'no proxy';
      test(`${kind.title}, ${place}`, async () => {
        const row = seen.get(kind.title) ?? new Map();
        seen.set(kind.title, row.set(place, 'FAILED'));
        row.set(place, await restartAll(kind, proxy));
      });
    }
  }
});

after(() => {
  const places = [...PROXIES, 'no proxy'];
  console.log(`\n| ${CLIENTS} clients each | ${places.join(' | ')} |\n|---|${'---|'.repeat(places.length)}`);
  for (const [title, row] of seen) {
    console.log(`| ${title} | ${places.map((place) => row.get(place) ?? '').join(' | ')} |`);
  }
});
