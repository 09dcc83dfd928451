/** Tokens with the real server: in hookcast.js, in `EventSource` and in the chat window. */

import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';

import { PublishError, publish } from '../../src/chat/hookcast.js';
import { launchFirefox } from './support/firefox.js';
import { follow } from './support/follow.js';
import { openIn, shows, state, texts, until } from './support/page.js';
import { Proxy } from './support/proxy.js';
import { browser, live, openPage, page, proxy, server, useBrowser, usePages } from './support/rig.js';
import { Server } from './support/server.js';
import { KEY, tokenOf } from './support/token.js';

const directory = mkdtempSync(join(tmpdir(), 'hookcast-tokens-'));
after(() => rmSync(directory, { recursive: true }));
writeFileSync(join(directory, 'token.key'), `${KEY}\n`, { mode: 0o600 });
const FLAGS = ['--token-key', join(directory, 'token.key'), '--heartbeat', '500ms'];
const SECRET = 'the secret of the senders';

const streamOf = ({ url }) => new URL('api/webhook/stream', url);

describe('hookcast.js with tokens', () => {
  const start = (t, ...flags) => Server.startFor(t, [...FLAGS, ...flags], { WEBHOOK_SECRET: SECRET });

  it('loses and repeats nothing over 100 renewals, while messages flow all the time', async (t) => {
    const own = await start(t);
    let isOver = false;
    let sent = 0;
    const sessions = ['ana', 'bo', undefined];
    const sender = (async () => {
      for (; !isOver; sent += 1) await own.post(String(sent), { sessionId: sessions[sent % 3], secret: SECRET });
    })();
    const kinds = [['ana'], ['ana', 'bo'], [], ['bo']];
    const streams = Array.from({ length: 28 }, (_, i) => kinds[i % kinds.length]).map((names) => {
      let given = 0;
      // The server sets a retry of 3 s at most. No move is sooner, and the end is announced after 4 s at the latest.
      const token = async () => tokenOf({ sessions: ['ana', 'bo'] }, 8_000, { jti: (given += 1) });
      return { names, calls: () => given, ...follow(t, { url: streamOf(own), sessionId: names, token, replay: 0, lastEventId: undefined }) };
    });
    while (streams.some(({ calls }) => calls() <= 4)) await new Promise((resolve) => setTimeout(resolve, 50));
    isOver = true;
    await sender;
    const last = await own.post('the end', { secret: SECRET });
    assert.ok(last.messageId);
    for (const { names, message, contents, states, calls } of streams) {
      await message('the end');
      const numbers = contents().slice(0, -1).map(Number);
      const isSeen = (number) => number % 3 === 2 || names.length !== 1 || sessions[number % 3] === names[0];
      const wanted = Array.from({ length: sent }, (_, number) => number).filter((number) => number >= numbers[0] && isSeen(number));
      assert.deepEqual(numbers, wanted, String(names));
      assert.ok(numbers.length > 100, `${numbers.length} messages`);
      assert.deepEqual([...new Set(states())], ['connecting', 'live'], String(names));
    }
    const renewals = streams.reduce((sum, { calls }) => sum + calls() - 1, 0);
    assert.ok(renewals >= 100, `${renewals} renewals`);
    console.log(`${renewals} renewals, ${sent} messages`);
  });

  it('connects once a second at most with tokens of 2 s, also if its clock is an hour ahead, and misses nothing', async (t) => {
    const own = await start(t);
    const { now } = Date;
    for (const aheadMs of [0, 3_600_000]) {
      t.mock.method(Date, 'now', () => now() + aheadMs);
      const began = performance.now();
      let given = 0;
      const token = () => tokenOf({ sessions: ['ana'] }, 2_000 - aheadMs, { jti: (given += 1) });
      const followed = follow(t, { url: streamOf(own), sessionId: 'ana', token, replay: 0 });
      await followed.state('live');
      const sent = [];
      while (given < 3) {
        sent.push(`${aheadMs} ${sent.length}`);
        await own.post(sent.at(-1), { sessionId: 'ana', secret: SECRET });
        await new Promise((resolve) => setTimeout(resolve, 100));
      }
      await followed.message(sent.at(-1));
      assert.deepEqual(followed.contents(), sent);
      const seconds = (performance.now() - began) / 1_000;
      assert.ok(given <= 1 + seconds, `${given} connections in ${seconds} s`);
      assert.ok(!followed.states().includes('status'), `${followed.states()}`);
      followed.stream.close();
    }
  });

  it('continues after a token that ended, with a token that comes late', async (t) => {
    const own = await start(t);
    const waiting = [];
    let given = 0;
    const token = () => {
      given += 1;
      return given === 1 ? tokenOf({ sessions: ['ana'] }, 500) : new Promise((resolve) => waiting.push(resolve));
    };
    const followed = follow(t, { url: streamOf(own), sessionId: 'ana', token });
    await followed.state('live');
    await followed.state('waiting', 'token');
    await own.postAll(['a', 'b'], { sessionId: 'ana', secret: SECRET });
    // The token ended before the first renewal: the next connection asks.
    await followed.times(2, 'connecting');
    while (waiting.length === 0) await new Promise((resolve) => setTimeout(resolve, 5));
    waiting[0](tokenOf({ sessions: ['ana'] }));
    await followed.message('b');
    assert.deepEqual([followed.contents(), given], [['a', 'b'], 2]);
  });

  it('is refused with a dead token, a forged one and one for another session', async (t) => {
    const own = await start(t);
    const dead = await follow(t, { url: streamOf(own), token: () => tokenOf({ everything: true }, -5_000) }).state('waiting', 'status');
    assert.deepEqual([dead.status, dead.error], [401, 'Unauthorized: the token has expired']);
    const forged = tokenOf({ everything: true }).replace(/.{4}$/, 'AAAA');
    const refused = follow(t, { url: streamOf(own), token: () => forged });
    const { status, error } = await refused.state('refused', 'status');
    assert.equal(status, 401);
    assert.ok(!error.includes(forged.slice(-20)));
    const other = await follow(t, { url: streamOf(own), sessionId: 'bo', token: () => tokenOf({ sessions: ['ana'] }) }).state('refused', 'status');
    assert.equal(other.status, 403);
  });

  it('begins where it is told to', async (t) => {
    const own = await Server.startFor(t);
    await own.postAll(['1', '2', '3']);
    await new Promise((resolve) => setTimeout(resolve, 5));
    const since = Date.now();
    await own.postAll(['4', '5']);
    for (const [options, wanted] of [[{}, '12345'], [{ replay: 2 }, '45'], [{ replay: 0 }, ''], [{ since }, '45'], [{ since: new Date(since).toISOString() }, '45'], [{ since: '1h', replay: 1 }, '5'], [{ since: new Date(since), replay: 5 }, '45']]) {
      const followed = follow(t, { url: streamOf(own), ...options });
      await followed.state('live');
      // The history is in the same read as `connected`, or the next.
      if (wanted) await followed.message(wanted.at(-1));
      assert.equal(followed.contents().join(''), wanted, JSON.stringify(options));
      followed.stream.close();
    }
    const wrong = await follow(t, { url: streamOf(own), since: 'soon' }).state('refused', 'status');
    assert.equal(wrong.status, 400);
  });

  it('publishes with a token that may', async (t) => {
    const own = await start(t);
    const url = new URL('api/webhook', own.url);
    const followed = follow(t, { url: streamOf(own), token: () => tokenOf({ sessions: ['ana'] }) });
    await followed.state('live');
    const token = () => tokenOf({ publish: ['ana'] });
    await publish('for ana', { url, sessionId: 'ana', token });
    await followed.message('for ana');
    for (const [options, status] of [[{ sessionId: 'bo', token }, 403], [{ token }, 403], [{}, 401]]) {
      await assert.rejects(publish('x', { url, ...options }), (error) => error instanceof PublishError && error.status === status);
    }
    const count = async (session) => {
      const response = await fetch(new URL(`api/webhook/sessions/${session}`, own.url), { headers: { Authorization: `Bearer ${token()}` } });
      return response.ok ? (await response.json()).streams : response.status;
    };
    assert.deepEqual([await count('ana'), await count('bo')], [1, 403]);
  });
});

describe('the chat window with tokens', () => {
  useBrowser();
  usePages({ flags: FLAGS, env: { WEBHOOK_SECRET: SECRET }, proxied: true });

  const ana = (lifeMs, more) => tokenOf({ sessions: ['ana'] }, lifeMs, more);
  const post = (text, sessionId) => server.post(text, { sessionId, secret: SECRET });
  const ended = (each, text) => until(each, each.locator('#access').getByRole('status'), text);
  const openLink = (each, token) => each.evaluate((hash) => (location.hash = hash), `#token=${token}`);

  it('shares one stream among the tabs of a token, and renews in one without a hole', async () => {
    const [first, second] = [ana(3_600_000, { jti: 1 }), ana(3_600_000, { jti: 2 })];
    await live(`#token=${first}`);
    const other = await openIn(page.context(), page.url());
    // A tab opened by hand has no token, and shows what is for everyone.
    await state(other, 'live');
    await post('secret', 'ana');
    await post('for all');
    await Promise.all([shows(page, 'for all'), shows(other, 'for all')]);
    assert.deepEqual(await texts(other), ['for all']);
    await openLink(other, first);
    await state(other, 'live');
    await proxy.streams(1);
    await post('a', 'ana');
    await Promise.all([shows(page, 'a'), shows(other, 'a')]);
    await openLink(page, second);
    await proxy.streams(2);
    await state(page, 'live');
    await post('b', 'ana');
    await Promise.all([shows(page, 'b'), shows(other, 'b')]);
    await openLink(other, second);
    await proxy.streams(1);
    await post('c', 'ana');
    for (const each of [page, other]) {
      await shows(each, 'c');
      assert.deepEqual(await texts(each), ['secret', 'for all', 'a', 'b', 'c']);
      assert.equal(new URL(each.url()).hash, '');
    }
  });

  it('counts down, says that access has ended, and continues after a new link', async () => {
    // Long enough for a busy machine to open the page.
    await live(`#token=${ana(8_000)}`);
    await post('a', 'ana');
    await ended(page, 'Access ends');
    await shows(page, 'a');
    await ended(page, 'Access has ended');
    await proxy.streams(0);
    await post('b', 'ana');
    await openLink(page, ana(3_600_000));
    await shows(page, 'b');
    await ended(page, '');
    assert.deepEqual(await texts(page), ['a', 'b']);
    // A token that is dead already: nothing is asked again and again.
    const asked = proxy.streamRequests.length;
    await openLink(page, ana(-5_000));
    await ended(page, 'Access was refused');
    await until(page, page.locator('#status').getByRole('status'), 'Refused: Unauthorized: the token has expired');
    assert.equal(proxy.streamRequests.length, asked + 1);
  });

  it('sends with the token', async () => {
    await live(`#token=${tokenOf({ sessions: ['ana'], publish: true })}`);
    await page.getByRole('button', { name: 'Send', exact: true }).click();
    await page.locator('#answer').getByText('200 OK').waitFor();
    await shows(page, 'Hello from hookcast');
    await page.getByLabel('My session').check();
    await page.getByRole('textbox', { name: 'Message' }).fill('for ana');
    await page.getByRole('button', { name: 'Send', exact: true }).click();
    await page.locator('.mine').getByText('for ana').waitFor();
  });

  it('is how a plain EventSource stops: by token_expiring, token_expired and a 401', async () => {
    await openPage(new URL('api/webhook', server.url).href);
    const seen = await page.evaluate(async (token) => {
      const events = new EventSource(`/api/webhook/stream?sessionId=ana&token=${token}`);
      const types = [];
      events.onmessage = ({ data }) => types.push(JSON.parse(data).type);
      await new Promise((resolve) => (events.onerror = () => events.readyState === EventSource.CLOSED && resolve()));
      return types;
    }, ana(1_500));
    assert.deepEqual(seen, ['connected', 'token_expiring', 'token_expired']);
  });
});

describe('the chat window with tokens, in Firefox', () => {
  useBrowser(launchFirefox);

  it('takes a token from its address, and another one from a link in the same tab', async (t) => {
    const own = await Server.startFor(t, FLAGS);
    const faulty = await Proxy.start(own.port);
    t.after(() => faulty.close());
    const tab = await browser.newPage();
    t.after(() => tab.close());
    const [first, second] = [tokenOf({ sessions: ['ana'] }, 16_000), tokenOf({ sessions: ['ana'] })];
    const text = (selector, wanted) => tab.waitForFunction((s, w) => document.querySelector(s)?.textContent === w, {}, selector, wanted);
    await tab.goto(`${faulty.url}#token=${first}`);
    await text('#access [role=status]', 'Access ends');
    assert.equal(await tab.evaluate(() => location.href), faulty.url);
    await own.post('a', { sessionId: 'ana' });
    await text('.message .content', 'a');
    const length = await tab.evaluate(() => history.length);
    await tab.evaluate((hash) => (location.hash = hash), `#token=${second}`);
    await text('#access [role=status]', '');
    assert.deepEqual(await tab.evaluate(() => [location.href, history.length]), [faulty.url, length + 1]);
    await own.post('b', { sessionId: 'ana' });
    await text('.message:last-of-type .content', 'b').catch(() => {});
    assert.deepEqual(await tab.$$eval('.message .content', (all) => all.map(({ textContent }) => textContent)), ['a', 'b']);
    const tokens = faulty.streamRequests.map((target) => new URL(target, faulty.url).searchParams.get('token'));
    assert.deepEqual(tokens, [first, second]);
  });
});
