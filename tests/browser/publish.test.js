/** `publish` of hookcast.js in Node, against the real server and a scripted one. */

import assert from 'node:assert/strict';
import net from 'node:net';
import { once } from 'node:events';
import { describe, it } from 'node:test';

import { PublishError, connect, publish } from '../../src/chat/hookcast.js';
import { failing, scripted } from './support/script.js';
import { Server } from './support/server.js';

const STORED = JSON.stringify({ success: true, messageId: 'm-1', timestamp: 7 });
const json = { 'Content-Type': 'application/json' };

/** A server with scripted answers, and the address to publish to. */
async function script(t, ...answers) {
  const server = await scripted(...answers);
  t.after(server.close);
  return { ...server, url: server.url.replace('/stream', '') };
}

/** The error of a failed publish. */
async function failure(promise) {
  const error = await promise.then(
    (answer) => assert.fail(`publish succeeded: ${JSON.stringify(answer)}`),
    (reason) => reason,
  );
  assert.ok(error instanceof PublishError && error instanceof Error, String(error));
  assert.equal(error.name, 'PublishError');
  return error;
}

describe('publish', () => {
  it('posts to everyone or to a session, and names the message as the stream does', async (t) => {
    const server = await Server.startFor(t);
    const url = new URL('api/webhook', server.url);
    const text = 'it\'s "quoted" \u05d0 😀 \u2028\n{"a":1}';
    const toAll = await publish(text, { url });
    const toOne = await publish('for ana', { url: String(url), sessionId: 'ana' });
    const stream = connect({ url: `${url}/stream`, sessionId: 'ana' });
    t.after(() => stream.close());
    const messages = [];
    await new Promise((resolve) => stream.on('message', (message) => messages.push(message) === 2 && resolve()));
    assert.deepEqual(
      messages.map(({ id, content, timestamp, sessionId }) => ({ id, content, timestamp, sessionId })),
      [
        { id: toAll.messageId, content: text, timestamp: toAll.timestamp, sessionId: undefined },
        { id: toOne.messageId, content: 'for ana', timestamp: toOne.timestamp, sessionId: 'ana' },
      ],
    );
    assert.deepEqual(Object.keys(toAll), ['messageId', 'timestamp']);
  });

  it('sends the secret, and reports the reason of a refusal', async (t) => {
    const server = await Server.startFor(t, [], { WEBHOOK_SECRET: 'swordfish' });
    const url = new URL('api/webhook', server.url);
    for (const secret of [undefined, 'wrong']) {
      const { status, message } = await failure(publish('x', { url, secret }));
      assert.equal(status, 401);
      assert.match(message, /Unauthorized/);
    }
    assert.ok((await publish('x', { url, secret: 'swordfish' })).messageId);
    const { status, message } = await failure(publish('  ', { url, secret: 'swordfish' }));
    assert.deepEqual([status, message], [400, 'Message is required and must be a non-empty string']);
    assert.equal((await failure(publish(undefined, { url, secret: 'swordfish' }))).status, 400);
  });

  it('reports Retry-After', async (t) => {
    const server = await script(t, failing(503, { ...json, 'Retry-After': '7' }, '{"error":"full"}'), failing(502, {}, '<p>Bad'));
    const full = await failure(publish('x', { url: server.url }));
    assert.deepEqual([full.status, full.message, full.retryAfterMs], [503, 'full', 7_000]);
    const bad = await failure(publish('x', { url: server.url }));
    assert.deepEqual([bad.status, bad.message, bad.retryAfterMs], [502, 'Bad Gateway', undefined]);
  });

  it('counts only an answer of hookcast as a success', async (t) => {
    const answers = [
      failing(200, { 'Content-Type': 'text/html' }, '<form>Log in'),
      failing(200, json, '{"status":"ok"}'),
      failing(200, json, '{"success":true}'),
      failing(200, json, '{"success":tr'),
      failing(204),
    ];
    const server = await script(t, ...answers);
    for (const _ of answers) {
      const { message } = await failure(publish('x', { url: server.url }));
      assert.match(message, /not that of a hookcast server/);
    }
  });

  it('follows no redirect, with a secret or without', async (t) => {
    const other = await script(t, failing(200, json, STORED));
    for (const status of [301, 302, 303, 307, 308]) {
      const server = await script(t, failing(status, { Location: other.url }));
      for (const secret of [undefined, 'sesame']) {
        const error = await failure(publish('x', { url: server.url, secret }));
        assert.equal(error.status, status);
        assert.match(error.message, /redirect/);
      }
    }
    assert.deepEqual(other.requests, []);
  });

  it('has no status without an answer', async (t) => {
    const listener = net.createServer((socket) => socket.resetAndDestroy()).listen(0, '127.0.0.1');
    await once(listener, 'listening');
    t.after(() => listener.close());
    const error = await failure(publish('x', { url: `http://127.0.0.1:${listener.address().port}/` }));
    assert.deepEqual([error.status, error.message], [undefined, 'The server cannot be reached']);
    assert.ok(error.cause);

    const silent = await script(t, () => {});
    const late = await failure(publish('x', { url: silent.url, timeoutMs: 20 }));
    assert.deepEqual([late.status, late.message], [undefined, 'No answer in time']);
    // The headers arrived, the body did not.
    const half = await script(t, (_, response) => response.writeHead(200, json).write('{"success":'));
    const cut = await failure(publish('x', { url: half.url, timeoutMs: 100 }));
    assert.deepEqual([cut.status, cut.message], [undefined, 'No answer in time']);
  });

  it('can be aborted', async (t) => {
    const silent = await script(t, () => {});
    const reason = new Error('enough');
    await assert.rejects(publish('x', { url: silent.url, signal: AbortSignal.abort(reason) }), reason);
    const caller = new AbortController();
    const attempt = publish('x', { url: silent.url, signal: caller.signal });
    caller.abort(reason);
    await assert.rejects(attempt, reason);
  });

  it('waits for a token no longer than for the answer', async (t) => {
    const server = await script(t, failing(200, json, STORED));
    const never = () => new Promise(() => {});
    const late = await failure(publish('x', { url: server.url, token: never, timeoutMs: 20 }));
    assert.deepEqual([late.status, late.message], [undefined, '`token` took too long']);
    const reason = new Error('enough');
    const caller = new AbortController();
    const attempt = publish('x', { url: server.url, token: never, signal: caller.signal });
    caller.abort(reason);
    await assert.rejects(attempt, reason);
    let calls = 0;
    const counted = async () => (calls += 1);
    await assert.rejects(publish('x', { url: server.url, token: counted, signal: caller.signal }), reason);
    assert.deepEqual([calls, server.requests.length], [0, 0]);
  });

  it('has one deadline for the token and the answer', async (t) => {
    const silent = await script(t, () => {});
    const signals = t.mock.method(AbortSignal, 'timeout');
    const late = await failure(publish('x', { url: silent.url, token: async () => 't', timeoutMs: 100 }));
    assert.deepEqual([late.message, silent.requests.length], ['No answer in time', 1]);
    assert.deepEqual(signals.mock.calls.map(({ arguments: [ms] }) => ms), [100]);
  });

  it('sends nothing without the token that it was promised', async (t) => {
    const server = await script(t, failing(200, json, STORED));
    for (const none of [undefined, null, '', 7]) {
      await assert.rejects(publish('x', { url: server.url, token: () => none }), /gave no token/);
      await assert.rejects(publish('x', { url: server.url, token: async () => none }), TypeError);
    }
    assert.deepEqual(server.requests, []);
  });

  it('needs a URL if the module has none, and so does connect', async () => {
    await assert.rejects(publish('x'), /Give `url`/);
    assert.throws(() => connect(), /Give `url`/);
    assert.throws(() => connect({ url: '/api/webhook/stream' }), TypeError);
  });
});
