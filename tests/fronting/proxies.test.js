/**
 * Each proxy in its recommended configuration, in front of the real server. Prints a table of results by check.
 * Figures are only reported: a check fails if something does not happen, or by an order of magnitude.
 */

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

import { ask, post, raw, Stream } from './support/client.js';
import { Origin } from './support/origin.js';
import { until } from './support/process.js';
import { PROXIES, Proxy } from './support/proxies.js';

const STREAMS = 200;
/** A longer latency means that the event was held back: the next heartbeat, after at most 2 s, would push it out. */
const HELD_BACK_MS = 1000;

/** Results by check and proxy. */
const seen = new Map();

const median = (values) => values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)];
const ms = (value) => `${value < 10 ? value.toFixed(1) : value.toFixed(0)} ms`;

const noStreams = (origin) =>
  until('the origin has no stream', async () => (await origin.metric('hookcast_streams')) === 0);

/** A client that reconnects as an EventSource does, and never gives up. */
async function persistent(url) {
  const client = { contents: [], refused: 0, reconnects: 0, closed: false };
  const run = async () => {
    let headers = {};
    while (!client.closed) {
      let stream;
      try {
        stream = await Stream.open(url, { headers, onMessage: ({ content }) => client.contents.push(content) });
      } catch {
        client.refused += 1;
      }
      if (stream?.status === 200) {
        client.stream = stream;
        await until('the stream ends', () => stream.ended || client.closed);
        client.reconnects += 1;
        if (stream.lastEventId) headers = { 'Last-Event-ID': stream.lastEventId };
        stream.close();
      } else if (stream) {
        client.refused += 1;
        stream.close();
      }
      await sleep(100);
    }
  };
  client.finished = run();
  await until('the client is connected', () => client.stream?.connected);
  return client;
}

/** The checks in the order of the table; each returns its result as text. */
const CHECKS = {
  async 'event after its post (median, worst of 20)'({ proxy }) {
    const times = new Map();
    const stream = await Stream.open(proxy.url, { onMessage: ({ content }, at) => times.set(content, at) });
    await stream.isConnected();
    const took = [];
    for (let index = 0; index < 20; index += 1) {
      const began = performance.now();
      await post(proxy.url, `latency ${index}`);
      await stream.saw(`latency ${index}`);
      took.push(times.get(`latency ${index}`) - began);
    }
    stream.close();
    assert.ok(median(took) < HELD_BACK_MS, `held back: ${took.map(ms)}`);
    return `${ms(median(took))}, ${ms(Math.max(...took))}`;
  },

  async '200 streams: one message to all'({ proxy, origin }) {
    await noStreams(origin);
    const arrived = [];
    const onMessage = ({ content }, at) => content === 'to all' && arrived.push(at);
    const open = () => Stream.open(proxy.url, { onMessage }).then((stream) => stream.isConnected());
    const streams = await Promise.all(Array.from({ length: STREAMS }, open));
    const atOrigin = await origin.metric('hookcast_streams');
    const began = performance.now();
    await post(proxy.url, 'to all');
    await until('all streams have it', () => arrived.length === STREAMS);
    const last = Math.max(...arrived) - began;
    assert.equal(atOrigin, STREAMS);
    for (const stream of streams) stream.close();
    return `last after ${ms(last)}`;
  },

  async 'client gone: origin stream closed after'({ proxy, origin }) {
    await noStreams(origin);
    const stream = await (await Stream.open(proxy.url)).isConnected();
    assert.equal(await origin.metric('hookcast_streams'), 1);
    const heartbeats = await origin.metric('hookcast_heartbeats_total');
    const began = performance.now();
    stream.close();
    await noStreams(origin);
    const took = ms(performance.now() - began);
    // The first write to a closed peer is answered by a reset, and the next one fails. The wait is counted in
    // heartbeats, because a busy machine's clock says little: with `--heartbeat 1s` three of them are 3 s.
    const wasted = (await origin.metric('hookcast_heartbeats_total')) - heartbeats;
    assert.ok(wasted <= 3, `${wasted} heartbeats went to a closed client`);
    return took;
  },

  async 'the same with --heartbeat 1s'({ proxy, origin }) {
    await origin.drain();
    await origin.start(['--heartbeat', '1s']);
    await until('the proxy serves', async () => (await ask(proxy.url)).status === 200);
    const took = await CHECKS['client gone: origin stream closed after']({ proxy, origin });
    await origin.drain();
    await origin.start();
    await until('the proxy serves', async () => (await ask(proxy.url)).status === 200);
    return took;
  },

  async 'origin restarted: the client resumes'({ proxy, origin }) {
    const client = await persistent(proxy.url);
    const before = client.contents.length;
    await post(proxy.url, 'before the restart');
    await until('it arrives', () => client.contents.includes('before the restart'));
    const began = performance.now();
    await origin.drain();
    await origin.start();
    await post(origin.url, 'after the restart');
    await until('the stream resumes', () => client.contents.includes('after the restart'));
    const took = performance.now() - began;
    client.closed = true;
    await client.finished;
    assert.deepEqual(client.contents.slice(before), ['before the restart', 'after the restart'], 'once each');
    return `after ${ms(took)}, ${client.refused} refused`;
  },

  async '50 requests: connections to the origin'({ proxy, origin }) {
    const accepts = () => origin.metric('hookcast_accepts_total');
    const began = await accepts();
    for (let index = 0; index < 50; index += 1) {
      const answer = await ask(proxy.url, { headers: { Connection: 'close' } });
      assert.equal(answer.text, '{"status":"ok"}');
    }
    const opened = (await accepts()) - began;
    assert.ok(opened < 25, `${opened} connections for 50 requests`);
    return `${opened}`;
  },

  async 'HEAD of a stream'({ proxy, origin }) {
    const answer = await ask(proxy.url, { method: 'HEAD', path: '/api/webhook/stream' });
    assert.equal(answer.status, 200);
    assert.equal(answer.headers['content-type'], 'text/event-stream; charset=utf-8');
    assert.equal(answer.text, '');
    await noStreams(origin);
    return 'headers only';
  },

  async 'Last-Event-ID in any letter case'({ proxy, origin }) {
    await post(origin.url, 'known');
    const all = JSON.parse((await ask(origin.url, { path: '/api/webhook/messages' })).text);
    await post(origin.url, 'unknown');
    for (const name of ['Last-Event-ID', 'last-event-id', 'LAST-EVENT-ID', 'Last-Event-Id']) {
      const head = `GET /api/webhook/stream HTTP/1.1\r\nHost: a\r\n${name}: ${all.lastEventId}\r\n\r\n`;
      const text = await raw(proxy.port, head, (text) => text.includes('"unknown"'));
      assert.match(text, /"replay":1\}/, name);
      assert.doesNotMatch(text, /"known"/, name);
    }
    return 'resumes';
  },

  async 'headers of a stream'({ proxy }) {
    const stream = await Stream.open(proxy.url, { headers: { 'Accept-Encoding': 'gzip, br' } });
    stream.close();
    assert.equal(stream.headers['content-type'], 'text/event-stream; charset=utf-8');
    assert.equal(stream.headers['cache-control'], 'private, no-store, no-transform');
    assert.equal(stream.headers['content-encoding'], undefined);
    return 'as sent, not compressed';
  },

  async '--compress-streams: a client with gzip, one without'({ proxy, origin }) {
    await origin.drain();
    await origin.start(['--compress-streams']);
    await until('the proxy serves', async () => (await ask(proxy.url)).status === 200);
    const results = [];
    const streams = [];
    for (const headers of [{ 'Accept-Encoding': 'gzip' }, {}]) {
      const times = new Map();
      const stream = await Stream.open(proxy.url, { headers, onMessage: ({ content }, at) => times.set(content, at) });
      await stream.isConnected();
      const took = [];
      for (let index = 0; index < 10; index += 1) {
        const content = `${streams.length} ${index}`;
        const began = performance.now();
        await post(proxy.url, content);
        await stream.saw(content);
        took.push(times.get(content) - began);
      }
      assert.ok(median(took) < HELD_BACK_MS, `held back: ${took.map(ms)}`);
      results.push(`${stream.headers['content-encoding'] ?? 'plain'} ${ms(median(took))}`);
      streams.push(stream);
    }
    await origin.drain();
    for (const stream of streams) {
      await until('the stream ends', () => stream.ended);
      assert.equal(stream.error, undefined);
    }
    await origin.start();
    await until('the proxy serves', async () => (await ask(proxy.url)).status === 200);
    return results.join(', ');
  },

  async 'chunked upload'({ proxy }) {
    const content = 'x'.repeat(50_000);
    const body = JSON.stringify({ message: content, sessionId: 'upload' });
    const stream = await (await Stream.open(proxy.url, { query: '?sessionId=upload' })).isConnected();
    const headers = { 'Transfer-Encoding': 'chunked' };
    const answer = await ask(proxy.url, { method: 'POST', headers, body });
    assert.equal(answer.status, 200, answer.text);
    await stream.saw(content);
    stream.close();
    return 'whole';
  },

  async 'Expect: 100-continue'({ proxy }) {
    const body = JSON.stringify({ message: 'expected', sessionId: 'upload' });
    const headers = { Expect: '100-continue', 'Content-Length': Buffer.byteLength(body) };
    const answer = await ask(proxy.url, { method: 'POST', headers, body });
    assert.equal(answer.status, 200, answer.text);
    return 'gets 100, then whole';
  },

  async 'health check (HTTP/1.0)'({ proxy, origin }) {
    for (const port of [origin.port, proxy.port]) {
      const text = await raw(port, 'GET /api/webhook HTTP/1.0\r\n\r\n');
      assert.match(text, /^HTTP\/1\.[01] 200 /);
      assert.match(text, /\{"status":"ok"\}$/);
    }
    return '200, closed';
  },

  async 'history, long poll'({ proxy }) {
    const path = '/api/webhook/messages';
    const { lastEventId } = JSON.parse((await ask(proxy.url, { path })).text);
    const waiting = ask(proxy.url, { path: `${path}?since=${lastEventId}&wait=25` });
    await sleep(200);
    const began = performance.now();
    await post(proxy.url, 'polled');
    const page = JSON.parse((await waiting).text);
    assert.equal(page.messages.at(-1).content, 'polled');
    return ms(performance.now() - began);
  },
};

for (const name of PROXIES) {
  describe(name, () => {
    let origin;
    let proxy;
    before(async () => {
      origin = await Origin.start(['--drain', '1s']);
      proxy = await Proxy.start(name, origin.port);
      // The proxy may wait for a health check first.
      await until('the proxy serves', async () => (await ask(proxy.url)).status === 200);
    });
    after(async () => {
      await proxy?.close();
      await origin?.close();
    });
    for (const [check, run] of Object.entries(CHECKS)) {
      test(check, async () => {
        const row = seen.get(check) ?? new Map();
        seen.set(check, row.set(name, 'FAILED'));
        row.set(name, await run({ origin, proxy }));
      });
    }
  });
}

after(() => {
  console.log(`\n| check | ${PROXIES.join(' | ')} |\n|---|${'---|'.repeat(PROXIES.length)}`);
  for (const [check, row] of seen) {
    console.log(`| ${check} | ${PROXIES.map((name) => row.get(name) ?? '').join(' | ')} |`);
  }
});
