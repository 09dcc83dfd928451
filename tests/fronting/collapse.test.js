/**
 * One stream of the origin for many clients: `--cdn-fanout` behind Varnish in its recommended configuration. Counts
 * the origin's requests and streams, and measures the latency that the cache adds to an event. The reference is a
 * direct stream to the origin, in the same process.
 */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

import { ask, post, Stream } from './support/client.js';
import { Origin } from './support/origin.js';
import { until } from './support/process.js';
import { Proxy } from './support/proxies.js';

const CLIENTS = 200;
const LIFE_S = 6;
const LIVES = 4;

/** A client that reconnects after each end, as an EventSource does, and drops repeats by their message id. */
async function follow(url, client, isOver) {
  while (!isOver()) {
    client.askedAt = performance.now();
    const stream = await Stream.open(url, {
      onMessage: ({ id, content }, at) => {
        if (client.arrivals.has(id)) client.repeats += 1;
        else client.arrivals.set(id, { at, content, asked: client.askedAt });
      },
    });
    client.connections += 1;
    assert.equal(stream.status, 200);
    await until('the stream ends', () => stream.ended || isOver());
    stream.close();
    if (!isOver()) await sleep(stream.retryMs);
  }
}

const percentile = (values, share) => values.toSorted((a, b) => a - b)[Math.ceil(values.length * share) - 1];

test(`${CLIENTS} clients on one stream of the origin`, { timeout: 120_000 }, async () => {
  const origin = await Origin.start(['--cdn-fanout', `${LIFE_S}s`, '--drain', '1s']);
  const proxy = await Proxy.start('varnish', origin.port);
  let isOver = false;
  let streamsMost = 0;
  try {
    const direct = new Map();
    const reference = await Stream.open(origin.url, {
      query: '?sessionId=reference',
      onMessage: ({ id }, at) => direct.set(id, at),
    });
    await reference.isConnected();
    const requests = () => origin.metric('hookcast_requests_total{route="/api/webhook/stream"');
    const requestsBefore = await requests();
    const newClient = () => ({ arrivals: new Map(), repeats: 0, connections: 0, askedAt: 0 });
    const clients = Array.from({ length: CLIENTS }, newClient);
    const followers = clients.map((client) => follow(proxy.url, client, () => isOver));
    await until('all are connected', () => clients.every((client) => client.connections > 0));

    const ends = Date.now() + LIVES * LIFE_S * 1000;
    const posted = [];
    while (Date.now() < ends) {
      posted.push(await post(origin.url, `message ${posted.length}`));
      await post(origin.url, 'targeted', 'one session');
      streamsMost = Math.max(streamsMost, (await origin.metric('hookcast_streams')) - 1);
      await sleep(200);
    }
    await until('every client has every message', () =>
      clients.every(({ arrivals }) => posted.every((id) => arrivals.has(id))));
    isOver = true;
    await Promise.all(followers);
    const originRequests = (await requests()) - requestsBefore;

    const connections = clients.reduce((sum, client) => sum + client.connections, 0);
    const live = [];
    const seam = [];
    for (const client of clients) {
      for (const id of posted) {
        const { at, asked } = client.arrivals.get(id);
        // A message that was posted between two streams of the client arrived with the next replay.
        (direct.get(id) > asked ? live : seam).push(at - direct.get(id));
      }
      const targeted = [...client.arrivals.values()].filter(({ content }) => content === 'targeted');
      assert.deepEqual(targeted, []);
      assert.ok(client.connections <= 2 * LIVES + 2, `too many: ${client.connections} connections of one client`);
    }
    // Streams of one lifetime overlap if the second began after the first was no longer fresh in the cache.
    assert.ok(originRequests <= 2 * LIVES + 2, `${originRequests} streams of the origin in ${LIVES} lives`);
    const all = [...live, ...seam];
    console.log(
      `${CLIENTS} clients, streams of ${LIFE_S} s at most, over ${LIVES * LIFE_S} s, ${posted.length} messages\n` +
        `origin: ${originRequests} stream requests, at most ${streamsMost} at once; clients: ${connections} connections\n` +
        `added by the cache, on an open stream: p50 ${percentile(live, 0.5).toFixed(1)} ms, p99 ${percentile(live, 0.99).toFixed(1)} ms\n` +
        `the same with the pauses between two streams (${((100 * seam.length) / all.length).toFixed(1)} % of the deliveries): ` +
        `p50 ${percentile(all, 0.5).toFixed(1)} ms, p99 ${percentile(all, 0.99).toFixed(1)} ms, most ${percentile(all, 1).toFixed(0)} ms`,
    );
    reference.close();
  } finally {
    isOver = true;
    await proxy.close();
    await origin.close();
  }
});

test('the cache does not replay a drained stream', { timeout: 120_000 }, async () => {
  const origin = await Origin.start(['--cdn-fanout', '60s', '--drain', '0s']);
  const proxy = await Proxy.start('varnish', origin.port);
  try {
    const streams = await Promise.all(Array.from({ length: 20 }, () => Stream.open(proxy.url)));
    await post(origin.url, 'before');
    for (const stream of streams) await stream.saw('before');
    assert.equal(await origin.metric('hookcast_streams'), 1);
    await origin.drain();
    await until('the streams are cut off', () => streams.every(({ ended }) => ended));
    await origin.start();
    const again = await Stream.open(proxy.url);
    assert.equal(again.status, 200);
    await post(origin.url, 'after');
    await again.saw('after');
    assert.deepEqual(again.contents, ['before', 'after']);
    for (const stream of [...streams, again]) stream.close();
  } finally {
    await proxy.close();
    await origin.close();
  }
});

test('many polling clients cost the origin one request a second', { timeout: 120_000 }, async () => {
  const origin = await Origin.start();
  const proxy = await Proxy.start('varnish', origin.port);
  try {
    await post(origin.url, 'one');
    const path = '/api/webhook/messages';
    const counted = () => origin.metric('hookcast_requests_total{route="/api/webhook/messages"');
    const began = Date.now();
    const answers = await Promise.all(Array.from({ length: 500 }, () => ask(proxy.url, { path })));
    for (const { text } of answers) assert.equal(JSON.parse(text).messages.length, 1);
    const seconds = Math.ceil((Date.now() - began) / 1000);
    assert.ok((await counted()) <= seconds + 1, `${await counted()} requests in ${seconds} s`);
    console.log(`500 clients polled, the origin got ${await counted()} requests`);
    const etag = answers[0].headers.etag;
    const known = await ask(proxy.url, { path, headers: { 'If-None-Match': etag } });
    assert.equal(known.status, 304);
    await post(origin.url, 'two');
    await until('the new message is visible', async () => (await ask(proxy.url, { path })).text.includes('"two"'));
  } finally {
    await proxy.close();
    await origin.close();
  }
});
