/** Tokens in hookcast.js, in Node, against a scripted server. */

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, it } from 'node:test';

import { publish } from '../../src/chat/hookcast.js';
import { follow, script } from './support/follow.js';
import { randomFrom, seed } from './support/random.js';
import { connected, ending, failing, frame, scripted, streaming } from './support/script.js';
import { EXPIRED, expiring } from './support/token.js';

const REFUSAL = failing(401, { 'Content-Type': 'application/json' }, '{"error":"Unauthorized","detail":"The token has expired"}');

const tokensOf = ({ requests, url }) => requests.map((request) => new URL(request.url, url).searchParams.get('token'));
const queryOf = ({ requests, url }, i) => new URL(requests[i].url, url).searchParams;

/** A source of tokens that gives these in turn, the last one again and again. An error is thrown, a function called. */
function tokens(...given) {
  const source = () => {
    source.calls += 1;
    const next = given[Math.min(source.calls, given.length) - 1];
    if (next instanceof Error) throw next;
    return typeof next === 'function' ? next() : next;
  };
  source.calls = 0;
  return source;
}

/** A stream with a message, whose token ends in a moment, and that stays open. */
const dying = (id, leftMs = 300) => (request, response) => {
  streaming(connected(1), frame(`e-${id}`, id), expiring(Date.now() + leftMs))(request, response);
};

/** A promise and the function that resolves it. */
function later() {
  let resolve;
  const promise = new Promise((done) => (resolve = done));
  return { promise, resolve };
}

const EVENT_SOURCE_CLOSED = 2;

/** How much faster time runs after `hasten`. */
const HASTE = 100;

/** Makes timers and `performance.now` run faster until the test ends. */
function hasten(t) {
  const { setTimeout } = globalThis;
  const now = performance.now.bind(performance);
  const start = now();
  t.mock.method(performance, 'now', () => start + (now() - start) * HASTE);
  t.mock.method(globalThis, 'setTimeout', (callback, ms, ...more) => setTimeout(callback, ms / HASTE, ...more));
}

/** The seconds between requests, and a bit more: timers of Node may be a moment early. */
const gapsOf = ({ requests }) => requests.slice(1).map(({ at }, i) => (at - requests[i].at) / 1_000 + 0.2);

/** Waits until all pending work is done that needs no timer. */
async function settle() {
  for (let turn = 0; turn < 20; turn += 1) await new Promise(setImmediate);
}

/** Waits until `isDone`, which is asked often. */
async function until(isDone) {
  while (!isDone()) await new Promise((resolve) => setTimeout(resolve, 5));
}

describe('a token', () => {
  it('is asked for before each connection, and stands in the query of the stream', async (t) => {
    const server = await script(t, ending(connected(), frame('e-1', 'a')), streaming(connected(), frame('e-2', 'b')));
    const followed = follow(t, { url: server.url, sessionId: 'ana', token: async () => `t${server.requests.length}` });
    await followed.message('b');
    assert.deepEqual(tokensOf(server), ['t0', 't1']);
    assert.deepEqual([...queryOf(server, 1)], [['sessionId', 'ana'], ['lastEventId', 'e-1'], ['token', 't1']]);
  });

  it('may be the same for each connection, as long as it lasts', async (t) => {
    const server = await script(t, ending(connected()), failing(502), streaming(connected()));
    const followed = follow(t, { url: server.url, token: tokens('t') });
    await followed.times(2, 'live');
    followed.stream.reconnect();
    await followed.times(3, 'live');
    assert.deepEqual(tokensOf(server), ['t', 't', 't', 't']);
  });

  it('goes to no target of a redirect', async (t) => {
    const other = await script(t, streaming(connected()));
    const server = await script(t, (request, response) => response.writeHead(307, { Location: other.url + request.url }).end());
    const { error } = await follow(t, { url: server.url, token: tokens('t') }).state('waiting', 'redirect');
    assert.match(error, /token/);
    assert.deepEqual(other.requests, []);
  });

  it('is renewed before it ends: the stream moves, and stays live', async (t) => {
    hasten(t);
    const server = await script(t, dying('a'), streaming(connected(1), frame('e-b', 'b')));
    const followed = follow(t, { url: server.url, token: tokens('t1', 't2') });
    const replay = [];
    followed.stream.on('message', (message) => replay.push(message.replay));
    await followed.message('b');
    assert.deepEqual(tokensOf(server), ['t1', 't2']);
    assert.equal(queryOf(server, 1).get('lastEventId'), 'e-a');
    const { expiresAt } = followed.log.find((entry) => entry.expiresAt);
    assert.ok(Math.abs(expiresAt - Date.now()) < 60_000);
    const states = followed.log.filter(({ state }) => state);
    assert.deepEqual(states, [{ state: 'connecting' }, { state: 'live' }, { state: 'live', expiresAt }, { state: 'live' }]);
    assert.deepEqual(followed.contents(), ['a', 'b']);
    // What came while it moved is no history.
    assert.deepEqual(replay, [true, false]);
  });

  it('is renewed at a random time in the first half of the last minute, so that not all streams ask at once', async (t) => {
    const { mock } = t.mock.method(globalThis, 'setTimeout');
    const longest = () => Math.max(...mock.calls.map(({ arguments: [, ms] }) => ms).filter((ms) => ms <= 60_000 && ms > 15_000), 0);
    t.mock.method(Math, 'random', () => 0.9);
    const server = await script(t, dying('a', 60_000));
    const source = tokens('t1');
    await follow(t, { url: server.url, token: source, heartbeatIntervalMs: 60_000 }).times(2, 'live');
    assert.ok(longest() > 17_000 && longest() <= 27_000, `${longest()}`);
    // A server may announce the end early.
    const early = await script(t, dying('a', 7_200_000));
    await follow(t, { url: early.url, token: source, heartbeatIntervalMs: 60_000 }).times(2, 'live');
    assert.equal(longest(), 27_000);
    assert.equal(source.calls, 2);
  });

  for (const hours of [-1, 1, 24 * 365]) {
    it(`is renewed in time, with a clock that is wrong by ${hours} h`, async (t) => {
      const waits = [];
      const { setTimeout } = globalThis;
      t.mock.method(globalThis, 'setTimeout', (callback, ms, ...more) => {
        waits.push(ms);
        return setTimeout(callback, ms, ...more);
      });
      t.mock.method(Math, 'random', () => 0.9);
      const now = Date.now() + hours * 3_600_000;
      const server = await script(t, streaming(connected(0, 10, '', now), expiring(now + 50_000)));
      await follow(t, { url: server.url, token: tokens('t1'), heartbeatIntervalMs: 60_000 }).times(2, 'live');
      assert.ok(waits.some((ms) => ms > 15_000 && ms <= 22_500), `${waits}`);
    });
  }

  for (const [retryMs, leastS] of [[10, 1], [0, 1], [3_000, 3]]) {
    it(`that is always short is not renewed sooner than ${leastS} s after the connection (retry: ${retryMs})`, async (t) => {
      hasten(t);
      t.mock.method(Math, 'random', () => 0);
      let next = 0;
      const server = await script(t, (request, response) => {
        next += 1;
        streaming(connected(0, retryMs), expiring(Date.now() + next))(request, response);
      });
      const followed = follow(t, { url: server.url, token: () => `t${next}` });
      await until(() => server.requests.length > 10);
      assert.ok(Math.min(...gapsOf(server)) >= leastS, `${gapsOf(server)}`);
      assert.deepEqual([...new Set(followed.states())], ['connecting', 'live']);
    });
  }

  it('that ends no later than the one before is a failure: the next move is later', async (t) => {
    hasten(t);
    t.mock.method(Math, 'random', () => 1);
    const end = Date.now();
    let next = 0;
    // The sixth and the eighth end later than those before.
    const ends = [0, 0, 0, -5_000, 0, 1, 0, 2];
    const server = await script(t, (request, response) => {
      streaming(connected(0, 10, '', end), expiring(end + (ends[next] ?? 3)))(request, response);
      next += 1;
    });
    const followed = follow(t, { url: server.url, token: () => `t${next}` });
    await until(() => server.requests.length > 7);
    const gaps = gapsOf(server);
    for (const [i, leastS] of [1, 2, 4, 8, 16, 1, 2].entries()) assert.ok(gaps[i] >= leastS, `${gaps}`);
    assert.ok(gaps[5] < gaps[4], `${gaps}`);
    await until(() => followed.log.filter(({ expiresAt }) => expiresAt).length === 13);
    const vain = followed.log.filter(({ error }) => error);
    assert.deepEqual(vain.map(({ state, reason, expiresAt }) => [state, reason, expiresAt - end]), [0, 0, -5_000, 0, 0].map((ms) => ['live', 'token', ms]));
    assert.match(vain[0].error, /no later/);
  });

  it('is asked for once, however often its end is announced', async (t) => {
    hasten(t);
    const source = tokens('t1', later().promise);
    const server = await script(t, streaming(connected(), ...Array(100).fill(expiring(Date.now()))));
    await follow(t, { url: server.url, token: source }).times(101, 'live');
    await until(() => source.calls > 1);
    await new Promise((resolve) => setTimeout(resolve, 5_000));
    assert.deepEqual([source.calls, server.requests.length], [2, 1]);
  });

  it('is asked for again, with backoff, while there is none for a renewal', async (t) => {
    hasten(t);
    t.mock.method(Math, 'random', () => 0);
    const server = await script(t, dying('a', 100), streaming(connected()));
    const source = tokens('t1', new Error('login first'), 't1', '', 7, 't2');
    const asked = [];
    const token = () => {
      asked.push({ at: performance.now() });
      return source();
    };
    const followed = follow(t, { url: server.url, token });
    await until(() => server.requests.length === 2);
    const errors = followed.log.filter(({ reason }) => reason).map(({ state, error, expiresAt }) => `${state}: ${error}, ${expiresAt > 0}`);
    assert.deepEqual(errors, ['live: login first, true', 'live: `token` gave the token that ends, true', 'live: `token` gave no token, true', 'live: `token` gave no token, true']);
    assert.deepEqual(tokensOf(server), ['t1', 't2']);
    const gaps = gapsOf({ requests: asked });
    for (const [i, leastS] of [1, 0.5, 1, 2, 4].entries()) assert.ok(gaps[i] >= leastS, `${gaps}`);
    await followed.times(7, 'live');
    assert.deepEqual(followed.states(), ['connecting', 'live', 'live', 'token', 'token', 'token', 'token', 'live']);
  });

  it('that rejects at the start is asked for again', async (t) => {
    t.mock.timers.enable({ apis: ['setTimeout', 'Date'], now: Date.now() });
    const server = await script(t, streaming(connected()));
    const followed = follow(t, { url: server.url, token: tokens(new Error('no network'), () => Promise.reject(new Error('still none')), 't') });
    const { error } = await followed.state('waiting', 'token');
    assert.equal(error, 'no network');
    t.mock.timers.tick(2_000);
    await followed.times(2, 'waiting');
    t.mock.timers.tick(4_000);
    t.mock.timers.reset();
    await followed.state('live');
    assert.deepEqual(followed.states(), ['connecting', 'token', 'connecting', 'token', 'connecting', 'live']);
    assert.deepEqual(tokensOf(server), ['t']);
  });

  /** A stream whose first token ends when `end` is called. */
  async function expiringStream(t, source, ...answers) {
    hasten(t);
    let response;
    const first = (request, answer) => {
      response = answer;
      dying('a', 20)(request, answer);
    };
    const server = await script(t, first, ...answers);
    const followed = follow(t, { url: server.url, token: source });
    await followed.times(2, 'live');
    return { server, followed, end: (text) => response.end(text), cut: () => response.destroy() };
  }

  it('that comes after the end of the old one is used once it is there, from one call', async (t) => {
    const second = later();
    const source = tokens('t1', second.promise);
    const { server, followed, end } = await expiringStream(t, source, streaming(connected(2), frame('e-b', 'b'), frame('e-c', 'c')));
    await until(() => source.calls === 2);
    end(frame('e-b', 'b') + EXPIRED);
    await followed.state('waiting', 'token');
    await followed.times(2, 'connecting');
    await settle();
    assert.deepEqual([server.requests.length, source.calls], [1, 2]);
    second.resolve('t2');
    await followed.message('c');
    assert.deepEqual([tokensOf(server), source.calls], [['t1', 't2'], 2]);
    assert.deepEqual(followed.contents(), ['a', 'b', 'c']);
  });

  it('that never comes is given up after two minutes, and asked for again', async (t) => {
    let giveUp;
    const { setTimeout } = globalThis;
    t.mock.method(globalThis, 'setTimeout', (callback, ms, ...more) => {
      if (ms === 120_000) giveUp ??= callback;
      return setTimeout(callback, ms, ...more);
    });
    const server = await script(t, streaming(connected()));
    const source = tokens(new Promise(() => {}), 't');
    const followed = follow(t, { url: server.url, token: source });
    await settle();
    assert.deepEqual(followed.states(), ['connecting']);
    giveUp();
    assert.match((await followed.state('waiting', 'token')).error, /too long/);
    followed.stream.reconnect();
    await followed.state('live');
    assert.equal(source.calls, 2);
  });

  it('that ended is not sent again, and ends the stream for good once the server has refused it', async (t) => {
    const server = await script(t, ending(connected(1), frame('e-1', 'a'), expiring(Date.now() + 1), EXPIRED), streaming(connected()), REFUSAL);
    const source = tokens('t1', 't1', 't1', 't1', 't2', 't2');
    const followed = follow(t, { url: server.url, token: source });
    await followed.times(3, 'live');
    // Asked with backoff, without a request to the server.
    assert.deepEqual([tokensOf(server), source.calls], [['t1', 't2'], 5]);
    assert.ok(followed.log.some(({ state, error }) => state === 'waiting' && error === '`token` gave the token that ends'));

    followed.stream.reconnect();
    const { status, error, retryAt } = await followed.state('waiting', 'status');
    assert.deepEqual([status, error, retryAt > 0], [401, 'Unauthorized: The token has expired', true]);
    await followed.state('refused', 'status');
    assert.deepEqual(followed.stream.state, { state: 'refused', reason: 'status', status: 401, error: 'Unauthorized: The token has expired' });
    assert.equal(server.requests.length, 3);
    // Only a call of `reconnect` sends it again.
    followed.stream.reconnect();
    await followed.times(2, 'refused');
    assert.equal(server.requests.length, 4);
  });

  it('that is refused is replaced by another one', async (t) => {
    const server = await script(t, ending(connected()), REFUSAL, REFUSAL, streaming(connected()));
    const followed = follow(t, { url: server.url, token: tokens('first', 'old', 'older', 'new') });
    await followed.times(2, 'live');
    assert.deepEqual(tokensOf(server), ['first', 'old', 'older', 'new']);
  });

  it('with too few rights is refused for good', async (t) => {
    const server = await script(t, failing(403, { 'Content-Type': 'application/json' }, '{"error":"The token does not name this session"}'));
    const source = tokens('t1', 't2');
    const { error } = await follow(t, { url: server.url, token: source }).state('refused', 'status');
    assert.match(error, /session/);
    assert.equal(source.calls, 1);
  });

  it('that ended while the machine slept is renewed when it wakes', async (t) => {
    // No timer of the renewal fires: the end of the stream is read first.
    t.mock.method(Math, 'random', () => 1);
    let response;
    const first = (request, answer) => {
      response = answer;
      dying('a', 60_000)(request, answer);
    };
    const source = tokens('t1', 't2');
    const server = await script(t, first, streaming(connected(1), frame('e-b', 'b')));
    const followed = follow(t, { url: server.url, token: source });
    await followed.times(2, 'live');
    const { now } = Date;
    t.mock.method(Date, 'now', () => now() + 3_600_000);
    response.end(EXPIRED);
    await followed.message('b');
    assert.deepEqual([followed.contents(), tokensOf(server), source.calls], [['a', 'b'], ['t1', 't2'], 2]);
    assert.ok(!followed.states().includes('status'));
  });

  it('that ended in a sleep that broke the connection, too', async (t) => {
    const server = await script(t, dying('a', 60_000), streaming(connected(1), frame('e-b', 'b')));
    const followed = follow(t, { url: server.url, token: tokens('t1', 't2') });
    await followed.times(2, 'live');
    const { now } = Date;
    t.mock.method(Date, 'now', () => now() + 3_600_000);
    followed.stream.check();
    await followed.state('waiting', 'silent');
    await followed.message('b');
    assert.deepEqual(tokensOf(server), ['t1', 't2']);
  });

  it('that comes while the connection is down is used for the next connection', async (t) => {
    const second = later();
    const source = tokens('t1', second.promise, 't3');
    const { server, followed, cut } = await expiringStream(t, source, failing(502), failing(502), streaming(connected()));
    await until(() => source.calls === 2);
    cut();
    await followed.state('waiting', 'lost');
    second.resolve('t2');
    await followed.times(3, 'live');
    // Each try asks anew, since minutes may lie between two.
    assert.deepEqual(tokensOf(server), ['t1', 't2', 't3', 't3']);
  });

  it('waits for nothing after close, and starts anew after reconnect', async (t) => {
    const never = tokens(new Promise(() => {}));
    const server = await script(t, streaming(connected()));
    const closed = follow(t, { url: server.url, token: never });
    await settle();
    closed.stream.close();
    await settle();
    assert.deepEqual(closed.states(), ['connecting', 'closed']);

    const slow = later();
    const source = tokens(slow.promise, 't2');
    const followed = follow(t, { url: server.url, token: source });
    await settle();
    followed.stream.reconnect();
    await followed.state('live');
    slow.resolve('t1');
    await settle();
    assert.deepEqual([tokensOf(server), followed.states()], [['t2'], ['connecting', 'connecting', 'live']]);
  });

  it('leaves a closed stream closed, whatever follows in the same read', async (t) => {
    const server = await script(t, streaming(connected(1) + frame('e-1', 'a') + expiring(Date.now()) + EXPIRED));
    const source = tokens('t1', 't2');
    const followed = follow(t, { url: server.url, token: source });
    followed.stream.on('message', () => followed.stream.close());
    await followed.state('closed');
    await settle();
    assert.deepEqual([followed.states(), server.requests.length], [['connecting', 'live', 'closed'], 1]);
  });

  it('of a cookie or an address is reported, too', async (t) => {
    const server = await script(t, ending(connected(), expiring(7e12), 'data: {"type":"token_expiring"}\n\n', EXPIRED), REFUSAL);
    const followed = follow(t, { url: server.url });
    await followed.state('refused', 'status');
    assert.deepEqual(followed.states(), ['connecting', 'live', 'live', 'token', 'connecting', 'status']);
    assert.equal(followed.log[2].expiresAt, 7e12);
  });

  it('may be that of a sender', async (t) => {
    const server = await scripted((request, response) => response.setHeader('Content-Type', 'application/json').end('{"success":true,"messageId":"m","timestamp":1}'));
    t.after(server.close);
    await publish('x', { url: server.url, token: async () => 'abc' });
    assert.equal(server.requests[0].headers.authorization, 'Bearer abc');
    await assert.rejects(publish('x', { url: server.url, token: tokens(new Error('login first')) }), /login first/);
    assert.equal(server.requests.length, 1);
  });
});

describe('100 renewals', () => {
  it('lose and repeat no message, while messages flow all the time', async (t) => {
    hasten(t);
    const random = randomFrom(seed());
    const frames = [];
    const open = new Set();
    const used = [];
    let end = 0;
    let isOver = false;
    /** Sends a part of what a connection lacks, cut anywhere. */
    const send = (connection) => {
      connection.rest += frames.slice(connection.next).join('');
      connection.next = frames.length;
      const length = Math.ceil(random() * connection.rest.length);
      connection.response.write(connection.rest.slice(0, length));
      connection.rest = connection.rest.slice(length);
    };
    const server = await script(t, (request, response) => {
      const query = new URL(request.url, 'http://x').searchParams;
      used.push(query.get('token'));
      const next = Number(query.get('lastEventId')?.slice(2) ?? 0);
      // Each token ends later than the one before. With this haste, the renewal comes after 10 to 20 ms.
      end = Math.max(end + 1, Date.now() + Math.floor(random() * 4_000));
      const rest = connected(frames.length - next) + expiring(end);
      const connection = { response, next, rest };
      streaming()(request, response);
      open.add(connection);
      response.on('close', () => open.delete(connection));
    });
    const load = setInterval(() => {
      for (let i = 0; i < 3 && !isOver; i += 1) frames.push(frame(`e-${frames.length + 1}`, String(frames.length + 1)));
      for (const connection of open) send(connection);
    }, 1);
    t.after(() => clearInterval(load));

    let given = 0;
    const source = async () => {
      given += 1;
      await new Promise((resolve) => setTimeout(resolve, random() * 5));
      return `t${given}`;
    };
    const followed = follow(t, { url: server.url, token: source });
    while (server.requests.length <= 100) await new Promise((resolve) => setTimeout(resolve, 20));
    isOver = true;
    const last = frames.length;
    await followed.message(String(last));
    assert.deepEqual(followed.contents(), Array.from({ length: last }, (_, i) => String(i + 1)));
    assert.deepEqual(used, Array.from({ length: used.length }, (_, i) => `t${i + 1}`));
    assert.ok(last > 300, `${last} messages`);
    // Live without an interruption.
    assert.deepEqual([...new Set(followed.states())], ['connecting', 'live']);
    console.log(`${used.length - 1} renewals, ${last} messages`);
  });
});

describe('the program for a plain EventSource on the page', () => {
  const page = readFileSync(new URL('../../src/chat/README.md', import.meta.url), 'utf8');
  const [, section] = page.split('\n## A plain EventSource\n');
  const code = section.match(/^```js\n(let lastEventId.*?)^```$/ms)[1];

  /** Runs the program, with a clock that the test advances, and records what it opens. */
  function run(fetchToken) {
    const opened = [];
    const logged = [];
    let timers = [];
    let nowMs = 0;
    class EventSource {
      static CLOSED = 2;
      readyState = 1;
      constructor(url) {
        const open = opened.filter(({ readyState }) => readyState !== 2);
        assert.deepEqual(open, [], 'the old one is closed first');
        opened.push(Object.assign(this, { query: url.searchParams, at: nowMs }));
      }
      close() {
        this.readyState = 2;
      }
      receive(data, lastEventId = '') {
        this.onmessage({ data: JSON.stringify(data), lastEventId });
      }
    }
    const setTimeout = (callback, ms) => timers.push({ callback, at: nowMs + ms });
    const fetch = async (address) => ({ text: async () => fetchToken(address) });
    new Function('EventSource', 'fetch', 'setTimeout', 'console', code)(EventSource, fetch, setTimeout, { log: (text) => logged.push(text) });
    const advance = async () => {
      assert.ok(timers.length <= 1, 'one timer at a time');
      const [timer] = timers;
      timers = [];
      nowMs = timer?.at ?? nowMs;
      timer?.callback();
      await settle();
    };
    return { opened, logged, advance };
  }

  it('opens the next stream at the same place, after 5 s or more, even if each token ends at once', async () => {
    let given = 0;
    const { opened, logged, advance } = run(() => `t${(given += 1)}`);
    await settle();
    for (let i = 0; i < 20; i += 1) {
      const events = opened.at(-1);
      events.receive({ type: 'connected' });
      events.receive({ type: 'token_expiring', expiresAt: 0 });
      events.receive({ type: 'token_expiring', expiresAt: 0 });
      // The old one still shows messages.
      events.receive({ type: 'webhook_message', id: i, content: i }, `e-${i}`);
      events.receive({ type: 'token_expired' });
      events.readyState = i % 2 ? 0 : EVENT_SOURCE_CLOSED;
      events.onerror();
      await advance();
    }
    assert.deepEqual(logged, Array.from({ length: 20 }, (_, i) => i));
    for (const [i, { at, query }] of opened.entries()) {
      assert.deepEqual([query.get('token'), query.get('lastEventId')], [`t${i + 1}`, i ? `e-${i - 1}` : null]);
      const gapMs = i ? at - opened[i - 1].at : 5_000;
      assert.ok(gapMs >= 5_000 && gapMs <= 25_000, `${gapMs} ms`);
    }
    assert.equal(opened.length, 21);
  });

  it('asks again, no sooner, if there is no token or it is refused', async () => {
    const given = [new Error('offline'), new Error('offline'), 'refused', 't'];
    const { opened, advance } = run(() => {
      const next = given.shift();
      if (next instanceof Error) throw next;
      return next;
    });
    await settle();
    await advance();
    assert.deepEqual([opened.length, given.length], [0, 2]);
    await advance();
    assert.ok(opened[0].at >= 10_000, `${opened[0].at}`);
    opened[0].readyState = EVENT_SOURCE_CLOSED;
    opened[0].onerror();
    await advance();
    assert.equal(opened[1].query.get('token'), 't');
    assert.ok(opened[1].at >= 15_000, `${opened[1].at}`);
  });
});

describe('a stream of several sessions, from a place', () => {
  it('names each session, and the place until it has an event to resume from', async (t) => {
    const server = await script(t, failing(502), ending(connected(0, 10, 'e-7')), streaming(connected()));
    const followed = follow(t, { url: server.url, sessionId: ['a', 'b c', ''], replay: 0, since: new Date(5) });
    await followed.times(2, 'live');
    const begin = [['sessionId', 'a'], ['sessionId', 'b c'], ['replay', '0'], ['since', '5']];
    assert.deepEqual([0, 1, 2].map((i) => [...queryOf(server, i)]), [begin, begin, [...begin.slice(0, 2), ['lastEventId', 'e-7']]]);
  });

  it('accepts one session, none, and any kind of time', async (t) => {
    const server = await script(t, streaming(connected()));
    const options = [{ sessionId: 'a' }, { sessionId: '' }, {}, { since: '10m' }, { since: 7 }, { replay: 5, since: '2026-01-01T00:00:00Z' }, { replay: 5, lastEventId: 'e-1' }];
    for (const each of options) await follow(t, { url: server.url, ...each }).state('live');
    assert.deepEqual(
      options.map((_, i) => queryOf(server, i).toString()),
      ['sessionId=a', '', '', 'since=10m', 'since=7', 'replay=5&since=2026-01-01T00%3A00%3A00Z', 'lastEventId=e-1'],
    );
  });
});
