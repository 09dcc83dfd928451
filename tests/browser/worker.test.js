/** The shared worker in Node: situations that take minutes in a browser. */

import assert from 'node:assert/strict';
import { before, describe, it } from 'node:test';

import { Feed } from '../../src/chat/feed.js';
import { connected, ending, failing, frame, scripted } from './support/script.js';
import { EXPIRED, expiring } from './support/token.js';

describe('the shared worker', () => {
  let onConnect;
  before(async () => {
    globalThis.addEventListener = (type, listener) => {
      assert.equal(type, 'connect');
      onConnect = listener;
    };
    await import('../../src/chat/worker.js');
  });

  /** A server with one stream; the test decides what it sends. */
  async function origin(t) {
    const opened = [];
    const gone = [];
    const server = await scripted((request, response) => {
      response.writeHead(200, { 'Content-Type': 'text/event-stream; charset=utf-8' });
      response.write(connected());
      response.on('close', () => gone.splice(0).forEach((resolve) => resolve()));
      opened.push(response);
    });
    t.after(server.close);
    let count = 0;
    return {
      url: server.url,
      opened,
      requests: server.requests,
      send: (...contents) =>
        opened.at(-1).write(contents.map((content) => frame(`e-${(count += 1)}`, content)).join('')),
      abandoned: () => new Promise((resolve) => gone.push(resolve)),
    };
  }

  /** A tab that answers pings until it is frozen. */
  function tab(t, url, saved = []) {
    const { port1: port, port2 } = new MessageChannel();
    t.after(async () => {
      // Detaches, and waits until the message is processed. Otherwise the stream would keep the process alive.
      port.postMessage({ type: 'detach' });
      await new Promise(setImmediate);
      port.close();
    });
    onConnect({ ports: [port2] });
    const got = [];
    const waiting = new Set();
    let frozen = false;
    port.onmessage = ({ data }) => {
      if (data.type === 'ping' && !frozen) port.postMessage({ type: 'pong' });
      got.push(data);
      for (const check of waiting) check();
    };
    const until = (test) =>
      new Promise((resolve) => {
        const check = () => {
          const found = got.findLast(test);
          if (found) waiting.delete(check), resolve(found);
        };
        waiting.add(check);
        check();
      });
    const attach = (held = saved) => port.postMessage({ type: 'attach', url, sessionId: 's', saved: held });
    attach();
    return {
      got,
      attach,
      say: (type) => port.postMessage({ type }),
      freeze: (value) => (frozen = value),
      type: (type) => until((update) => update.type === type),
      live: () => until((update) => update.state?.state === 'live'),
      message: (content) => until((update) => update.entries?.some(({ message }) => message?.content === content)),
      contents: () => got.flatMap((update) => update.entries ?? []).map(({ message }) => message?.content ?? 'gap'),
    };
  }

  it('opens one stream for all tabs and closes it after the last', async (t) => {
    const server = await origin(t);
    const first = tab(t, server.url);
    await first.live();
    server.send('a', 'b');
    await first.message('b');
    // Messages of one read arrive as one update.
    assert.equal(first.got.filter(({ type }) => type === 'entries').length, 1);
    const second = tab(t, server.url);
    const { entries, whole, state } = await second.type('begin');
    assert.deepEqual([entries.length, whole, state.state], [2, true, 'live']);
    server.send('c');
    await Promise.all([first.message('c'), second.message('c')]);
    assert.equal(server.requests.length, 1);
    const abandoned = server.abandoned();
    first.say('detach');
    server.send('d');
    await second.message('d');
    second.say('detach');
    await abandoned;
    assert.deepEqual(first.contents(), ['a', 'b', 'c']);
  });

  it('resumes after the messages of the first tab, and passes them to the second', async (t) => {
    const server = await origin(t);
    const saved = ['x', 'y'].map((id, i) => ({ id, content: id, timestamp: 1, eventId: `e-${i}`, replay: false }));
    const first = tab(t, server.url, saved);
    await first.live();
    assert.match(server.requests[0].url, /lastEventId=e-1/);
    server.send('y', 'z');
    await first.message('z');
    assert.deepEqual(first.contents(), ['z']);
    const second = tab(t, server.url);
    await second.message('z');
    assert.deepEqual(second.contents(), ['x', 'y', 'z']);
  });

  it('drops a tab that does not answer, and accepts it again without a hole', async (t) => {
    t.mock.timers.enable({ apis: ['setInterval', 'Date'], now: Date.now() });
    const server = await origin(t);
    const [awake, frozen] = [tab(t, server.url), tab(t, server.url)];
    await Promise.all([awake.live(), frozen.live()]);
    server.send('before');
    await Promise.all([awake.message('before'), frozen.message('before')]);
    frozen.freeze(true);
    for (let i = 1; i <= 5; i += 1) {
      const pings = () => awake.got.filter(({ type }) => type === 'ping').length;
      t.mock.timers.tick(15_000);
      while (pings() < i) await new Promise(setImmediate);
      // The pong goes through the same port: after this answer it has been processed.
      server.send(`round ${i}`);
      await awake.message(`round ${i}`);
    }
    await frozen.type('dropped');
    server.send('unseen');
    await awake.message('unseen');
    assert.ok(!awake.got.some(({ type }) => type === 'dropped'));
    assert.ok(!frozen.contents().includes('unseen'));

    frozen.freeze(false);
    const held = frozen.got.flatMap((update) => update.entries ?? []).map(({ message }) => message);
    frozen.attach(held);
    await frozen.message('unseen');
    assert.deepEqual(frozen.contents(), awake.contents());
    assert.equal(frozen.got.findLast(({ type }) => type === 'begin').whole, true);
    assert.equal(server.requests.length, 1);
  });

  it('reports missing messages to a tab that was away for too long', async (t) => {
    const server = await origin(t);
    const first = tab(t, server.url);
    await first.live();
    server.send('old');
    const { entries } = await first.message('old');
    server.send(...Array.from({ length: 1_000 }, (_, i) => `m${i}`));
    await first.message('m999');
    const late = tab(t, server.url, [entries[0].message]);
    const begin = await late.type('begin');
    assert.equal(begin.whole, false);
    assert.equal(begin.entries.length, 1_000);
  });

  it('holds at most its bound of characters', async (t) => {
    const server = await origin(t);
    const first = tab(t, server.url);
    await first.live();
    const megabytes = Array.from({ length: 10 }, (_, i) => `${i}`.repeat(1024 * 1024));
    server.send(...megabytes);
    await first.message(megabytes[9]);
    const begin = await tab(t, server.url).type('begin');
    assert.deepEqual(begin.entries.map(({ message }) => message.content[0]), [...'23456789']);
  });
});

describe('a feed with a token', () => {
  for (const [how, status, answer] of [
    ['ended', undefined, ending(connected(), expiring(Date.now() + 3_600_000), EXPIRED)],
    ['was refused', 401, failing(401, { 'Content-Type': 'application/json' }, '{"error":"Unauthorized"}')],
  ]) {
    it(`that ${how} stops for good, and says so to each tab`, async (t) => {
      const server = await scripted(answer);
      t.after(server.close);
      const feed = new Feed(server.url, '', [], 'one');
      t.after(() => feed.stream.close());
      const states = [];
      await new Promise((resolve) => feed.attach(({ state }) => states.push(state) && state.state === 'refused' && resolve(), undefined));
      // Longer than the first waits of a stream that goes on.
      await new Promise((resolve) => setTimeout(resolve, 100));
      assert.deepEqual(states.filter(({ state }) => state === 'refused').length, 1);
      assert.deepEqual([states.at(-1).state, states.at(-1).status, states.at(-1).retryAt], ['refused', status, undefined]);
      feed.attach(({ type, state }) => states.push({ type, ...state }), undefined);
      assert.deepEqual([states.at(-1).type, states.at(-1).state], ['begin', 'refused']);
      assert.equal(server.requests.length, 1);
    });
  }
});
