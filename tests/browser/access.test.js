/** Access by token in the chat window, in Chromium: the real page, with a scripted stream. */

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, it } from 'node:test';

import { artefact } from './support/artefacts.js';
import { findings } from './support/axe.js';
import { shows, state, texts, until } from './support/page.js';
import { closePage, openPage, page, server, useBrowser, usePages } from './support/rig.js';
import { connected, ending, failing, frame, scripted, streaming } from './support/script.js';
import { EXPIRED, expiring, tokenOf } from './support/token.js';

const refusal = (status, error) => failing(status, { 'Content-Type': 'application/json' }, JSON.stringify({ error }));
const DEAD = refusal(401, 'The token has expired');

const EVENING = Date.parse('2026-03-01T22:40:00Z');

/** A stream with these messages that stays open; the token ends in `leftMs`. */
const dying = (leftMs, ...contents) => (request, response) => {
  const frames = contents.map((content, i) => frame(`e-${i + 1}`, content, { timestamp: EVENING + i * 500_000 }));
  streaming(connected(frames.length), ...frames, expiring(Date.now() + leftMs))(request, response);
};

describe('the chat window with a token', () => {
  useBrowser();
  usePages();

  /** Opens the page at `path`. The n-th request for a stream gets the n-th answer. */
  async function view(t, path, answers, options = {}) {
    const script = await scripted(...answers);
    t.after(script.close);
    await openPage('about:blank', { alone: true, ...options });
    await page.route('**/api/webhook/stream*', (route) => {
      route.continue({ url: script.url + new URL(route.request().url()).search });
    });
    await page.goto(new URL(path, server.url).href);
    return script;
  }

  const queries = ({ requests }) => requests.map(({ url }) => Object.fromEntries(new URL(url, 'http://x').searchParams));
  const notice = () => page.locator('#access');
  const field = () => page.getByLabel('New token, or a link with one');
  const ended = (text) => until(page, notice().getByRole('status'), text);

  /** Continues with this text in the field. */
  async function paste(text) {
    await field().fill(text);
    await page.getByRole('button', { name: 'Continue' }).click();
  }

  /** No text, attribute or entry of the history has a part of the token. */
  async function checkHidden(token) {
    const session = await page.context().newCDPSession(page);
    const { entries } = await session.send('Page.getNavigationHistory');
    const seen = await page.evaluate(() => [
      document.documentElement.outerHTML,
      location.href,
      JSON.stringify(history.state),
      document.title,
      JSON.stringify(localStorage),
      ...[...document.querySelectorAll('input, textarea')].map(({ value }) => value),
    ]);
    // `userTypedURL` is what Chromium itself remembers; no page can read or change it.
    const visited = entries.map(({ url, title }) => `${url} ${title}`);
    for (const part of token.split('.').slice(1)) {
      assert.deepEqual([...seen, ...visited].filter((text) => text.includes(part)), [], part);
    }
    assert.deepEqual(visited.filter((text) => text.includes('#')), []);
  }

  it('lets the user choose a session if there are more than a stream shows', async (t) => {
    const sessions = Array.from({ length: 17 }, (_, i) => `room ${i}&<b>`);
    const token = tokenOf({ sessions });
    const tooMany = refusal(400, 'The token has more than 16 sessions: name up to 16 with sessionId');
    const script = await view(t, `#token=${token}`, [tooMany, streaming(connected(1), frame('e-1', 'hello'))]);
    await state(page, 'refused');
    const choice = page.getByLabel('This access has more sessions than one page shows');
    assert.deepEqual(await choice.locator('option').allTextContents(), sessions);
    await choice.selectOption(sessions[3]);
    await page.getByRole('button', { name: 'Show it' }).click();
    await shows(page, 'hello');
    assert.deepEqual(queries(script).at(-1), { sessionId: sessions[3], token });
    assert.equal(await choice.isVisible(), false);
    await checkHidden(token);
  });

  it('takes it out of the address at once, and keeps it in the tab alone', async (t) => {
    const token = tokenOf({ sessions: ['ana'] });
    const script = await view(t, `#token=${token}`, [streaming(connected(1), frame('e-1', 'hello', { sessionId: 'ana' }))]);
    await shows(page, 'hello');
    assert.equal(page.url(), server.url);
    // A blank page and this one.
    assert.deepEqual(await page.evaluate(() => [history.length, history.state, document.referrer]), [2, null, '']);
    // Without a session: the server shows all that the token names.
    assert.deepEqual(queries(script), [{ token }]);
    await checkHidden(token);
    assert.equal(await page.locator('.mine .badge').textContent(), 'only for you');
    assert.equal(await page.locator('#session').textContent(), 'ana');

    await page.reload();
    await shows(page, 'hello');
    assert.equal(queries(script).at(-1).token, token);
    await checkHidden(token);
    assert.deepEqual(page.complaints, []);
  });

  it('sends no referrer, and comes back from another page with it', async (t) => {
    const token = tokenOf({ everything: true });
    const script = await view(t, `?sessionId=ana#token=${token}`, [streaming(connected(1), frame('e-1', 'see https://other.example/'))]);
    await page.locator('.content a').waitFor();
    assert.deepEqual(queries(script), [{ sessionId: 'ana', token }]);
    const referrers = [];
    await page.context().route('https://other.example/', (route) => {
      referrers.push(route.request().headers().referer);
      route.fulfill({ contentType: 'text/html', body: '<title>other</title>' });
    });
    await page.evaluate(() => location.assign('https://other.example/'));
    await page.waitForURL('https://other.example/');
    assert.deepEqual(referrers, [undefined]);
    await page.goBack();
    await shows(page, 'see https://other.example/');
    assert.equal(page.url(), `${server.url}?sessionId=ana`);
    assert.equal(queries(script).at(-1).token, token);
    await checkHidden(token);
  });

  it('puts it into no command, no copy and no export', async (t) => {
    const token = tokenOf({ sessions: ['ana'], publish: true });
    await view(t, `#token=${token}`, [streaming(connected(1), frame('e-1', 'hello'))], { permissions: ['clipboard-read', 'clipboard-write'] });
    await shows(page, 'hello');
    for (const id of ['send-curl', 'session-curl']) {
      await page.locator(`[data-copy=${id}]`).click();
      const command = await page.evaluate(() => navigator.clipboard.readText());
      assert.match(command, /-H "Authorization: Bearer \$HOOKCAST_TOKEN"/);
      assert.ok(!command.includes(token.split('.')[1]));
    }
    const [download] = await Promise.all([page.waitForEvent('download'), page.locator('#export').click()]);
    assert.equal(readFileSync(await download.path(), 'utf8'), '{"id":"hello","content":"hello","timestamp":1}\n');
    const link = await page.locator('#session-link').evaluate(({ href }) => href);
    assert.equal(link, `${server.url}?sessionId=ana`);
    assert.deepEqual(await page.evaluate(() => Object.keys(sessionStorage).filter((key) => sessionStorage[key].includes('.'))), ['hookcast.token']);
  });

  it('sends messages with it, but none that a provider would send', async (t) => {
    const token = tokenOf({ publish: true });
    const sent = [];
    await openPage('about:blank', { alone: true });
    await page.route('**/api/webhook/sources', (route) => route.fulfill({ json: { sources: [{ name: 'ci', preset: 'token', title: 'ci', open: true }] } }));
    const statuses = [200, 403, 200, 200];
    for (const path of ['**/api/webhook', '**/api/webhook/in/*']) {
      await page.route(path, async (route) => {
        sent.push(await route.request().allHeaders());
        route.fulfill({ status: statuses[sent.length - 1], json: {} });
      });
    }
    await page.goto(`${server.url}#token=${token}`);
    await state(page, 'live');
    const send = page.getByRole('button', { name: 'Send', exact: true });
    await send.click();
    await page.locator('#answer').getByText('200').waitFor();
    assert.ok(!(await page.getByLabel('Secret').isVisible()));
    // A token that may not publish: the secret does.
    await send.click();
    await page.getByLabel('Secret').fill('swordfish');
    assert.match(await page.locator('#send-curl').textContent(), /X-Webhook-Secret: \$WEBHOOK_SECRET/);
    await send.click();
    await page.locator('#answer').getByText('200').waitFor();
    await page.getByLabel('Simulate').selectOption('ci');
    assert.doesNotMatch(await page.locator('#send-curl').textContent(), /Authorization/);
    await send.click();
    while (sent.length < 4) await page.waitForEvent('requestfinished');
    const fields = sent.map(({ authorization, 'x-webhook-secret': secret }) => [authorization, secret]);
    const bearer = `Bearer ${token}`;
    assert.deepEqual(fields, [[bearer, undefined], [bearer, undefined], [bearer, 'swordfish'], [undefined, undefined]]);
  });

  it('shows when access ends, and counts the last minute down', async (t) => {
    const first = tokenOf({ sessions: ['ana'] }, 7_200_000);
    let response;
    await view(t, `#token=${first}`, [(request, answer) => streaming(connected())(request, (response = answer))]);
    await state(page, 'live');
    assert.match(await page.locator('#status').textContent(), /access until .*\d:\d\d/);
    assert.ok(!(await field().isVisible()));
    const endsAt = Date.now() + 58_900;
    response.write(expiring(endsAt));
    await ended('Access ends');
    const countdown = notice().locator('.countdown');
    // The seconds are outside the live region, so that they are not read out.
    assert.equal(await notice().getByRole('status').locator('.countdown').count(), 0);
    assert.match(await countdown.textContent(), /^in [1-5]?\d s$/);
    const before = await countdown.textContent();
    await page.waitForFunction(([e, text]) => e.textContent !== text, [await countdown.elementHandle(), before]);
    assert.equal(await page.locator('#status .countdown').textContent(), '');
    assert.ok(await field().isVisible());
    assert.equal(await field().getAttribute('type'), 'password');
    await state(page, 'live');
  });

  it('continues at its place with the token of a link that is opened in the same tab', async (t) => {
    const [first, second] = [tokenOf({ sessions: ['ana'] }, 60_000), tokenOf({ sessions: ['ana'] }, 7_200_000)];
    const script = await view(t, `#token=${first}`, [dying(58_000, 'a', 'b'), streaming(connected(2), frame('e-2', 'b'), frame('e-3', 'c'))]);
    await ended('Access ends');
    const entries = await page.evaluate(() => history.length);
    await page.goto(`${server.url}#token=${second}`);
    await shows(page, 'c');
    await ended('');
    assert.deepEqual(await texts(page), ['a', 'b', 'c']);
    assert.deepEqual(queries(script), [{ token: first }, { token: second, lastEventId: 'e-2' }]);
    assert.equal(page.url(), server.url);
    assert.equal(await page.evaluate(() => history.length), entries + 1);
    assert.ok(!(await field().isVisible()));
    assert.equal(await page.evaluate(() => document.activeElement.id), 'log');
    await checkHidden(second);
    await page.goBack();
    await checkHidden(first);
    await page.reload();
    await until(page, page.locator('#count'), '3 messages');
    assert.equal(queries(script).at(-1).token, second);
    assert.deepEqual(page.complaints, []);
  });

  it('says that access has ended, and continues with a token or a link that is pasted', async (t) => {
    const tokens = [0, 1, 2].map((i) => tokenOf({ sessions: ['ana'] }, 60_000, { jti: i }));
    const script = await view(t, `#token=${tokens[0]}`, [
      ending(connected(1), frame('e-1', 'a'), expiring(Date.now() + 1), EXPIRED),
      ending(connected(0, 10, 'e-1'), expiring(Date.now() + 1), EXPIRED),
      streaming(connected(1), frame('e-2', 'b')),
    ]);
    await ended('Access has ended');
    await until(page, page.locator('#status').getByRole('status'), 'Stopped');
    assert.ok(!(await page.getByRole('button', { name: 'Reconnect now' }).isVisible()));
    assert.deepEqual(await texts(page), ['a']);
    for (const wrong of ['https://hooks.example/?sessionId=ana', 'two words', 'x'.repeat(5_000), 'tökén']) {
      await paste(wrong);
      assert.ok(await field().evaluate((input) => input.validationMessage.includes('neither a token nor a link')), wrong);
    }
    assert.equal(script.requests.length, 1);
    await paste(` ${tokens[1]}\n`);
    while (script.requests.length < 2) await page.waitForEvent('request');
    await ended('Access has ended');
    await paste(`https://hooks.example/chat/?sessionId=ana#token=${tokens[2]}`);
    await shows(page, 'b');
    await ended('');
    assert.deepEqual(await texts(page), ['a', 'b']);
    assert.deepEqual(queries(script).map(({ token, lastEventId }) => [token, lastEventId]), [[tokens[0], undefined], [tokens[1], 'e-1'], [tokens[2], 'e-1']]);
    await checkHidden(tokens[2]);
    assert.deepEqual(page.complaints, []);
  });

  it('shows a refusal at once, and asks again only when it is told to', async (t) => {
    const [dead, good] = [tokenOf({ sessions: ['ana'] }, -1_000), tokenOf({ sessions: ['ana'] })];
    const script = await view(t, `#token=${dead}`, [DEAD, DEAD, refusal(403, 'The token does not name this session'), streaming(connected())]);
    await ended('Access was refused');
    await state(page, 'refused');
    await until(page, page.locator('#status').getByRole('status'), 'Refused: The token has expired');
    await page.getByRole('button', { name: 'Reconnect now' }).click();
    while (script.requests.length < 2) await page.waitForTimeout(10);
    await state(page, 'refused');
    await paste(good);
    await until(page, page.locator('#status').getByRole('status'), 'Refused: The token does not name this session');
    await ended('Access was refused');
    await page.getByRole('button', { name: 'Reconnect now' }).click();
    await state(page, 'live');
    await ended('');
    assert.deepEqual(queries(script).map(({ token }) => token), [dead, dead, good, good]);
  });

  it('asks for a token where one is needed, and begins anew with what it shows', async (t) => {
    const token = tokenOf({ sessions: ['ana', 'bo'] });
    const script = await view(t, '', [refusal(401, 'A token is required'), refusal(401, 'A token is required'), streaming(connected(1), frame('e-1', 'for bo', { sessionId: 'bo' }))]);
    await ended('Access needs a token');
    await paste(token);
    await shows(page, 'for bo');
    assert.deepEqual(queries(script).at(-1), { token });
    assert.equal(await page.locator('#session').textContent(), 'ana');
    // A token that shows something else begins with its whole history.
    const other = tokenOf({ everything: true });
    await page.goto(`${server.url}#token=${other}`);
    while (script.requests.length < 4) await page.waitForTimeout(10);
    await state(page, 'live');
    assert.deepEqual(queries(script).at(-1), { token: other });
    assert.match(await page.locator('#session').textContent(), /^[0-9a-f]{32}$/);
    await checkHidden(other);
  });

  it('shows what is for everyone if a server with keys refuses the session of this browser', async (t) => {
    const script = await view(t, '', [refusal(401, 'A session needs a token'), streaming(connected(1), frame('e-1', 'for all'))]);
    await shows(page, 'for all');
    const [{ sessionId }, second] = queries(script);
    assert.match(sessionId, /^[0-9a-f]{32}$/);
    assert.deepEqual(second, {});
    assert.ok(!(await field().isVisible()));
    // A session that was asked for is not left out.
    await page.goto(`${server.url}?sessionId=ana`);
    script.answer(refusal(401, 'A session needs a token'));
    await page.reload();
    await ended('Access needs a token');
    assert.equal(queries(script).at(-1).sessionId, 'ana');
  });

  it('says so if the token of a link is not usable, and goes on without', async (t) => {
    const script = await view(t, '#token=t%20oken', [streaming(connected())]);
    await ended('This is neither a token nor a link with one');
    assert.equal(page.url(), server.url);
    await state(page, 'live');
    assert.equal(queries(script)[0].token, undefined);
  });

  it('works without storage', async (t) => {
    const [first, second] = [tokenOf({ sessions: ['ana'] }), tokenOf({ everything: true })];
    const script = await scripted(dying(50_000, 'a'), streaming(connected(1), frame('e-2', 'b')));
    t.after(script.close);
    await openPage('about:blank', { alone: true });
    await page.addInitScript(() => {
      for (const name of ['sessionStorage', 'localStorage']) Object.defineProperty(globalThis, name, { get: () => { throw new DOMException('', 'SecurityError'); } });
    });
    await page.route('**/api/webhook/stream*', (route) => route.continue({ url: script.url + new URL(route.request().url()).search }));
    await page.goto(`${server.url}#token=${first}`);
    await ended('Access ends');
    await page.goto(`${server.url}#token=${second}`);
    await shows(page, 'b');
    assert.deepEqual(queries(script).map(({ token }) => token), [first, second]);
    assert.equal(page.url(), server.url);
  });

  for (const theme of ['light', 'dark']) {
    for (const width of [360, 1280]) {
      it(`is accessible and fits at ${width} px, ${theme}`, async (t) => {
        const [first, second] = [tokenOf({ sessions: ['ana'] }, 60_000), tokenOf({ sessions: ['ana'] }, 1_200_000)];
        const report = ['Deployment of api-gateway v2.14.0 started by Ana', 'Build #4812 passed in 3 min 20 s', 'Your export is ready'];
        let response;
        const kept = (request, answer) => dying(58_900, ...report)(request, (response = answer));
        await view(t, `#token=${first}`, [kept, streaming(connected(1), frame('e-4', 'Access was renewed, and this came meanwhile', { timestamp: EVENING + 1_500_000 }))], {
          ...{ viewport: { width, height: width < 700 ? 740 : 800 }, colorScheme: theme },
        });
        await page.evaluate(() => document.fonts.ready);
        const examine = async (name) => {
          await page.screenshot({ path: artefact(`chat-access-${name}-${width}-${theme}.png`), animations: 'disabled' });
          assert.deepEqual((await findings(page)).violations, [], name);
          const isWide = await page.evaluate(() => [document.documentElement, ...document.querySelectorAll('main, #log, #access')].some(({ scrollWidth, clientWidth }) => scrollWidth > clientWidth));
          assert.ok(!isWide, name);
        };
        await ended('Access ends');
        await shows(page, report[2]);
        await examine('ends');
        response.end(EXPIRED);
        await ended('Access has ended');
        await field().fill('neither');
        await field().fill(second);
        await examine('ended');
        await page.getByRole('button', { name: 'Continue' }).click();
        await shows(page, 'Access was renewed, and this came meanwhile');
        await ended('');
        await examine('renewed');
        await closePage();
      });
    }
  }
});
