/** hookcast.js in Node, against a scripted server and against the real one. */

import assert from 'node:assert/strict';
import { after, describe, it } from 'node:test';

import { Parser } from '../../src/chat/hookcast.js';
import { follow, script } from './support/follow.js';
import { Proxy } from './support/proxy.js';
import { randomFrom, seed } from './support/random.js';
import { HEARTBEAT, connected, ending, failing, frame, gapFrame, streaming } from './support/script.js';
import { Server } from './support/server.js';

describe('the parser', () => {
  /** The parser's events for a text in these pieces. */
  function parse(pieces) {
    const seen = [];
    const parser = new Parser({
      event: (data, id) => seen.push(['event', data, id]),
      comment: () => seen.push(['comment']),
      retry: (ms) => seen.push(['retry', ms]),
    });
    for (const piece of pieces) parser.feed(piece);
    return seen;
  }

  it('follows the HTML standard in fields, line ends and comments', () => {
    const text = [
      ': hello\n',
      'retry: 1500\nretry: soon\nretry:20\n',
      'id: a-1\rdata: one\r\r',
      'data:two\r\ndata:  lines\r\n\r\n',
      'id: b\0c\ndata\n\n',
      'id\ndata: no id\n\n',
      'event: x\nunknown: y\n\n',
      'data: unfinished',
    ].join('');
    assert.deepEqual(parse([text]), [
      ['comment'],
      ['retry', 1500],
      ['retry', 20],
      ['event', 'one', 'a-1'],
      ['event', 'two\n lines', 'a-1'],
      ['event', '', 'a-1'],
      ['event', 'no id', ''],
    ]);
  });

  it('gives the same events however the text is cut', () => {
    const random = randomFrom(seed());
    const atoms = ['\r', '\n', '\r\n', '\n\n', 'data: ', 'id: 7-', 'retry: 5', ': c', ':', ' ', 'x', 'ü', '😀'];
    for (let round = 0; round < 500; round += 1) {
      const text = Array.from({ length: 60 }, () => atoms[Math.floor(random() * atoms.length)]).join('');
      const pieces = [];
      for (let start = 0; start < text.length; ) {
        const end = start + 1 + Math.floor(random() * 6);
        pieces.push(text.slice(start, end));
        start = end;
      }
      assert.deepEqual(parse(pieces), parse([text]), JSON.stringify(text));
    }
  });

  it('reports an error for an endless event', () => {
    for (const piece of ['x'.repeat(4 * 1024 * 1024), `data: ${'x'.repeat(4 * 1024 * 1024)}\n`, 'data\n'.repeat(1024 * 1024)]) {
      const parser = new Parser({ event: () => {}, comment: () => {}, retry: () => {} });
      assert.throws(() => {
        for (let i = 0; i < 26; i += 1) parser.feed(piece);
      }, RangeError);
    }
  });

  it('accepts any number of heartbeats that end with one newline', () => {
    let heartbeats = 0;
    const parser = new Parser({ event: () => {}, comment: () => (heartbeats += 1), retry: () => {} });
    const piece = `${HEARTBEAT}: ${'x'.repeat(1024 * 1024)}\n`;
    for (let i = 0; i < 120; i += 1) {
      parser.feed(piece.slice(0, -100));
      parser.feed(piece.slice(-100));
    }
    assert.equal(heartbeats, 240);
  });
});

/** Waits until all pending work is done that needs no timer. */
async function settle() {
  for (let turn = 0; turn < 20; turn += 1) await new Promise(setImmediate);
}

describe('a scripted stream', () => {
  it('resumes after the last event and drops repeats', async (t) => {
    const server = await script(
      t,
      ending(connected(1), frame('e-1', 'a'), frame('e-2', 'b')),
      streaming(connected(1), frame('e-2', 'b'), frame('e-3', 'c')),
    );
    const followed = follow(t, { url: server.url, sessionId: 'käse & brot' });
    await followed.message('c');
    assert.deepEqual(followed.contents(), ['a', 'b', 'c']);
    const asked = server.requests.map(({ url }) => new URL(url, server.url).searchParams);
    assert.deepEqual(asked.map((query) => query.get('lastEventId')), [null, 'e-2']);
    assert.deepEqual(asked.map((query) => query.get('sessionId')), ['käse & brot', 'käse & brot']);
    assert.equal(followed.stream.lastEventId, 'e-3');
  });

  it('resumes after `connected` if there was no message', async (t) => {
    const server = await script(t, ending(connected(0, 10, 'e-7')), streaming(connected(1, 10, 'e-7'), frame('e-8', 'a')));
    const followed = follow(t, { url: server.url });
    await followed.message('a');
    assert.match(server.requests[1].url, /lastEventId=e-7/);
  });

  it('resumes after messages of the caller', async (t) => {
    const server = await script(t, streaming(connected(2), frame('f-8', 'a'), frame('f-9', 'b')));
    const followed = follow(t, { url: server.url, lastEventId: 'e-1', seenIds: ['a'] });
    await followed.message('b');
    assert.deepEqual(followed.contents(), ['b']);
    assert.match(server.requests[0].url, /lastEventId=e-1/);
  });

  it('distinguishes replay and live messages', async (t) => {
    const server = await script(t, streaming(connected(2), frame('e-1', 'a'), frame('e-2', 'b'), frame('e-3', 'c')));
    const replay = [];
    const followed = follow(t, { url: server.url, seenIds: ['a'] });
    followed.stream.on('message', (message) => replay.push([message.content, message.replay]));
    await followed.message('c');
    assert.deepEqual(replay, [['b', true], ['c', false]]);
  });

  it('joins characters that arrive in parts', async (t) => {
    const bytes = Buffer.from(frame('e-2', 'ü😀ش'));
    const cut = bytes.lastIndexOf('😀') + 2;
    let response;
    const server = await script(t, (request, answer) => {
      response = answer;
      streaming(connected(), frame('e-1', 'a'), bytes.subarray(0, cut))(request, answer);
    });
    const followed = follow(t, { url: server.url });
    await followed.message('a');
    response.write(bytes.subarray(cut));
    await followed.message('ü😀ش');
  });

  it('reports a gap', async (t) => {
    const server = await script(t, streaming(connected(1), gapFrame(7), frame('e-9', 'a')));
    const followed = follow(t, { url: server.url, lastEventId: 'e-1' });
    await followed.message('a');
    assert.deepEqual(followed.contents(), ['gap 7', 'a']);
  });

  it('reports a gap of unknown size if another history has no known message', async (t) => {
    const server = await script(
      t,
      ending(connected(), frame('e-1', 'a')),
      ending(connected(2), frame('f-1', 'a'), frame('f-2', 'b')),
      streaming(connected(1), frame('g-1', 'c')),
    );
    const followed = follow(t, { url: server.url });
    await followed.message('c');
    // The second history overlaps with known messages, the third does not.
    assert.deepEqual(followed.contents(), ['a', 'b', 'gap null', 'c']);
  });

  it('names the source and the event of a message, if it has them', async (t) => {
    const odd = { source: 1, event: ['push'] };
    const frames = [frame('e-1', 'a', { source: 'github', event: 'push' }), frame('e-2', 'b'), frame('e-3', 'c', odd), frame('e-4', 'd', { source: 'x', event: '' })];
    const server = await script(t, streaming(connected(4), ...frames));
    const followed = follow(t, { url: server.url });
    const labels = [];
    followed.stream.on('message', (message) => labels.push(['source', 'event'].filter((name) => name in message).map((name) => message[name])));
    await followed.message('d');
    assert.deepEqual(labels, [['github', 'push'], [], [], ['x', '']]);
  });

  it('ignores events that it does not know', async (t) => {
    const odd = ['data: {"type":"later"}', 'data: nonsense', 'data: null', 'data: {"type":"webhook_message"}'];
    const server = await script(t, streaming(connected(), `${odd.join('\n\n')}\n\n`, frame('e-2', 'a')));
    const followed = follow(t, { url: server.url });
    await followed.message('a');
    assert.deepEqual(followed.contents(), ['a']);
  });

  it('waits for the `retry` of a full server', async (t) => {
    const server = await script(t, ending('retry: 30000\n\n'), streaming(connected()));
    const followed = follow(t, { url: server.url });
    const { retryAt } = await followed.state('waiting', 'overload');
    assert.ok(Math.abs(retryAt - Date.now() - 30_000) < 5_000);
    followed.stream.reconnect();
    await followed.state('live');
  });

  it('distinguishes a drain from a broken connection', async (t) => {
    const broken = (request, response) => {
      streaming(connected())(request, response);
      response.socket.end();
    };
    const server = await script(t, broken, ending(connected(), 'retry: 20\n\n'), streaming(connected()));
    const followed = follow(t, { url: server.url });
    await followed.times(3, 'live');
    assert.deepEqual(followed.states(), ['connecting', 'live', 'lost', 'connecting', 'live', 'drain', 'connecting', 'live']);
  });

  it('retries temporary failures with growing delays, and resets the delay once live', async (t) => {
    const page = failing(200, { 'Content-Type': 'text/html' }, '<p>Please log in');
    const server = await script(t, ending(connected()), failing(502), failing(404), page, ending(connected()), streaming(connected()));
    const followed = follow(t, { url: server.url });
    await followed.times(3, 'live');
    const waits = followed.log.filter(({ state }) => state === 'waiting');
    assert.deepEqual(waits.map(({ reason, status }) => status ?? reason), ['lost', 502, 404, 200, 'lost']);
    const [first, second, third, fourth] = server.requests.slice(1).map(({ at }, i) => at - server.requests[i].at);
    assert.ok(first >= 8 && second >= 8 && third >= 16 && fourth >= 32, `${[first, second, third, fourth]}`);
  });

  it('waits longer after each failed connect, up to a bound', async (t) => {
    t.mock.timers.enable({ apis: ['setTimeout', 'Date'], now: Date.now() });
    const followed = follow(t, { url: 'http://127.0.0.1:9/api/webhook/stream' });
    const waits = [];
    for (let i = 1; i <= 9; i += 1) {
      const { retryAt } = await followed.times(i, 'waiting');
      waits.push(retryAt - Date.now());
      t.mock.timers.tick(waits.at(-1) + 1);
    }
    assert.equal(waits[0], 2_000);
    for (const [i, wait] of waits.slice(1).entries()) {
      const most = Math.min(2_000 * 2 ** (i + 1), 30_000);
      assert.ok(wait >= most / 2 && wait <= most, `${waits}`);
    }
    assert.notEqual(waits[7], waits[8]);
  });

  it('waits for Retry-After, with jitter', async (t) => {
    const server = await script(t, failing(503, { 'Retry-After': '40' }));
    const { retryAt, status } = await follow(t, { url: server.url }).state('waiting', 'status');
    assert.equal(status, 503);
    const seconds = (retryAt - Date.now()) / 1_000;
    assert.ok(seconds > 35 && seconds <= 50, `${seconds}`);
  });

  it('stops after a refusal until it is asked to reconnect', async (t) => {
    const refusal = failing(401, { 'Content-Type': 'application/json' }, '{"error":"Unauthorized"}');
    const server = await script(t, refusal, streaming(connected()));
    const followed = follow(t, { url: server.url, secret: 'guess' });
    const { status, error, retryAt } = await followed.state('refused', 'status');
    assert.deepEqual({ status, error, retryAt }, { status: 401, error: 'Unauthorized', retryAt: undefined });
    assert.equal(server.requests[0].headers['x-webhook-secret'], 'guess');
    followed.stream.reconnect();
    await followed.state('live');
  });

  it('ends for good on 204 and on close', async (t) => {
    const server = await script(t, failing(204), streaming(connected()));
    const stopped = follow(t, { url: server.url });
    await stopped.state('closed');
    const closed = follow(t, { url: server.url });
    await closed.state('live');
    closed.stream.close();
    closed.stream.reconnect();
    assert.deepEqual(closed.states(), ['connecting', 'live', 'closed']);
    assert.equal(server.requests.length, 2);
  });

  it('replaces an open connection when asked to reconnect', async (t) => {
    const server = await script(t, streaming(connected()));
    const followed = follow(t, { url: server.url });
    await followed.state('live');
    followed.stream.reconnect();
    await followed.times(2, 'live');
    assert.deepEqual(followed.states(), ['connecting', 'live', 'connecting', 'live']);
  });

  it('reports a server that never answers as silent', async (t) => {
    t.mock.timers.enable({ apis: ['setTimeout', 'Date'], now: Date.now() });
    let asked;
    const request = new Promise((resolve) => (asked = resolve));
    const server = await script(t, asked);
    const followed = follow(t, { url: server.url });
    await request;
    t.mock.timers.tick(9_999);
    await settle();
    assert.deepEqual(followed.states(), ['connecting']);
    t.mock.timers.tick(1);
    await followed.state('waiting', 'silent');
  });

  /** A live stream with a mocked clock; the test decides what the server sends. */
  async function clocked(t, options) {
    t.mock.timers.enable({ apis: ['setTimeout', 'Date'], now: Date.now() });
    let response;
    const server = await script(t, (request, answer) => {
      response = answer;
      streaming(connected())(request, answer);
    });
    const followed = follow(t, { url: server.url, ...options });
    await followed.state('live');
    let sent = 0;
    /** Advances the clock by `ms`, then sends `text` and waits until it was read. */
    const later = async (ms, text) => {
      t.mock.timers.tick(ms);
      response.write(`${text}${frame(`e-${sent}`, `m${sent}`)}`);
      await followed.message(`m${sent}`);
      sent += 1;
    };
    /** The stream is live for all but the last of these milliseconds. */
    const isLiveUntil = async (ms) => {
      t.mock.timers.tick(ms - 1);
      await settle();
      assert.equal(followed.stream.state.state, 'live', `after ${ms - 1}`);
      t.mock.timers.tick(1);
    };
    return { followed, later, isLiveUntil };
  }

  it('gives up after three missed heartbeats and a margin', async (t) => {
    const { followed, later, isLiveUntil } = await clocked(t);
    for (let i = 0; i < 5; i += 1) await later(2_000, HEARTBEAT);
    await isLiveUntil(7_000);
    await followed.state('waiting', 'silent');
  });

  it('learns a slower heartbeat', async (t) => {
    const { followed, later, isLiveUntil } = await clocked(t);
    // First within the default limit, then within the learnt one.
    for (const ms of [6_000, 6_000, 6_000, 15_000]) await later(ms, HEARTBEAT);
    // The new limit is three times the longest pause, and the margin.
    await isLiveUntil(46_000);
    await followed.state('waiting', 'silent');
  });

  it('extends its limit while the first heartbeat is too late', async (t) => {
    const { followed, isLiveUntil } = await clocked(t);
    for (const [i, limit] of [7_000, 13_000, 25_000].entries()) {
      await isLiveUntil(limit);
      await followed.times(i + 1, 'waiting');
      t.mock.timers.tick(60_000);
      await followed.times(i + 2, 'live');
    }
  });

  it('notices at once that the machine slept, and does not learn from it', async (t) => {
    const { followed, later } = await clocked(t);
    await later(2_000, HEARTBEAT);
    t.mock.timers.setTime(Date.now() + 3_600_000);
    followed.stream.check();
    await followed.state('waiting', 'silent');
    // The wait ends by the clock, even if its timer has not fired.
    t.mock.timers.setTime(Date.now() + 3_600_000);
    followed.stream.check();
    await followed.times(2, 'live');
    t.mock.timers.tick(7_000);
    await followed.times(2, 'waiting');
  });
});

describe('the real server', () => {
  let server;
  let proxy;
  const start = async (...flags) => {
    server ??= await Server.start(['--heartbeat', '200ms', '--drain', '300ms', ...flags]);
    proxy ??= await Proxy.start(server.port);
    return new URL('api/webhook/stream', proxy.url);
  };
  after(async () => {
    await proxy?.close();
    await server?.close();
  });

  it('replays, then goes live, each message once and in order', async (t) => {
    const url = await start();
    await server.postAll(['r1', 'r2']);
    const followed = follow(t, { url });
    await followed.state('live');
    await server.postAll(['r3', 'r4']);
    await followed.message('r4');
    assert.deepEqual(followed.contents(), ['r1', 'r2', 'r3', 'r4']);
  });

  it('loses and repeats nothing over cuts, a freeze, a kill and a drain', async (t) => {
    const url = await start();
    const followed = follow(t, { url, heartbeatIntervalMs: 200 });
    await followed.message('r4');
    followed.log.length = 0;
    const wanted = [];
    const post = async (name) => {
      wanted.push(name);
      await server.post(name);
    };

    await post('before');
    await followed.message('before');
    proxy.cut();
    await followed.state('waiting', 'lost');
    await post('during the cut');
    await followed.message('during the cut');

    proxy.freezeStreams();
    await post('into the ice');
    await followed.state('waiting', 'silent');
    await followed.message('into the ice');

    await server.kill();
    proxy.refuse();
    await server.restart();
    proxy.retarget(server.port);
    proxy.pass();
    await post('after the kill');
    await followed.message('after the kill');

    const gone = server.drain();
    await followed.state('waiting', 'drain');
    await gone;
    await server.restart();
    proxy.retarget(server.port);
    await post('after the drain');
    await followed.message('after the drain');
    assert.deepEqual(followed.contents(), wanted);
  });

  it('gets a gap for messages that the history lacks', async (t) => {
    const url = await start();
    const followed = follow(t, { url });
    await followed.message('after the drain');
    followed.log.length = 0;
    proxy.refuse();
    proxy.cut();
    await followed.state('waiting', 'lost');
    await server.postAll(Array.from({ length: 130 }, (_, i) => `many ${i}`));
    // Messages older than the last 100 are only in the memory of the killed server.
    await server.kill();
    await server.restart();
    proxy.retarget(server.port);
    proxy.pass();
    followed.stream.reconnect();
    await followed.message('many 129');
    assert.equal(followed.contents()[0], 'gap 30');
    assert.equal(followed.contents()[1], 'many 30');
    assert.equal(followed.contents().length, 101);
  });

  it('is refused with a wrong secret, and sees all messages with the right one', async (t) => {
    const guarded = await Server.startFor(t, [], { WEBHOOK_SECRET: 'right' });
    const url = new URL('api/webhook/stream', guarded.url);
    const wrong = await follow(t, { url, secret: 'wrong' }).state('refused', 'status');
    assert.equal(wrong.status, 401);
    const [none, right] = [follow(t, { url }), follow(t, { url, secret: 'right' })];
    await Promise.all([none.state('live'), right.state('live')]);
    await guarded.post('for one', { sessionId: 's', secret: 'right' });
    await guarded.post('for all', { secret: 'right' });
    await Promise.all([none.message('for all'), right.message('for all')]);
    assert.deepEqual(none.contents(), ['for all']);
    assert.deepEqual(right.contents(), ['for one', 'for all']);
  });
});
