/** Messages of sources on the page, in Chromium: badges, folded JSON, the filter, and simulated events. */

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, it } from 'node:test';

import { shows, state, texts, until } from './support/page.js';
import { openScripted, page, server, streamOf, useBrowser, usePages } from './support/rig.js';
import { connected, frame } from './support/script.js';

const LISTED = [
  { name: 'github', preset: 'github', title: 'GitHub', open: true },
  { name: 'shop', preset: 'stripe', title: 'Stripe', open: false },
  { name: 'ci', preset: 'token', title: 'Webhook', open: true },
];
const PUSH = { source: 'github', event: 'push' };
const PAID = { source: 'shop', event: 'invoice.paid' };

describe('sources in the chat window', () => {
  useBrowser();
  usePages();

  /** Opens the page with these messages, and with this answer to the request for the list of sources. */
  async function show(messages, list = { json: { sources: LISTED } }) {
    const frames = () => messages.map(([content, more], i) => frame(`e-${i}`, content, { id: `${i}`, ...more })).join('');
    await openScripted(() => streamOf(connected(messages.length, 60_000) + frames()));
    await page.route('**/api/webhook/sources', (route) => route.fulfill(list));
    const answered = page.waitForResponse((response) => response.url().endsWith('/sources'));
    await page.goto(`${server.url}?sessionId=me`);
    await state(page, 'waiting');
    await answered;
    // A later answer: the page has read the earlier one.
    await page.evaluate(async () => (await fetch('api/webhook')).text());
  }

  const badges = () => page.locator('.message header').evaluateAll((all) => all.map((e) => [...e.querySelectorAll('.source, .event')].map((badge) => badge.textContent)));
  const count = (text) => until(page, page.locator('#count'), text);
  const choice = () => page.getByRole('combobox', { name: 'Show messages from' });
  const options = (select) => select.locator('option').allTextContents();

  describe('badges', () => {
    it('show the title of the provider and the event, beside text as for other messages', async () => {
      await show([['ana pushed', PUSH], ['paid', PAID], ['plain'], ['mine', { ...PUSH, sessionId: 'me' }], ['no event', { source: 'ci', event: '' }]]);
      await shows(page, 'no event');
      await page.locator('.source').getByText('Stripe (shop)').waitFor();
      assert.deepEqual(await badges(), [['GitHub', 'push'], ['Stripe (shop)', 'invoice.paid'], [], ['GitHub', 'push'], ['ci']]);
      assert.equal(await page.locator('.mine .badge').textContent(), 'only for you');
      assert.deepEqual(page.complaints, []);
    });

    it('show titles of presets, and names of their own, where the server lists no source', async () => {
      const named = (source) => [source, { source, event: 'x' }];
      const names = ['gitlab', 'uptime-kuma', 'shop', 'constructor', '__proto__', 'x'.repeat(300)];
      await show(names.map(named), { status: 401, json: { error: 'Unauthorized' } });
      await shows(page, 'shop');
      assert.deepEqual((await badges()).map(([title]) => title), ['GitLab', 'Uptime Kuma', 'shop', 'constructor', '__proto__', 'x'.repeat(64)]);
    });

    it('stay in the head of their message, whatever another node wrote', async () => {
      const hostile = [
        ...['<img src=x onerror="document.title=1">', '\u202eevil', `e${'\u0301'.repeat(300)}`, 'https://evil.example/', 'x'.repeat(500)],
        ...['\u05d0\u05d1 1.2', `${'\u{1f469}\u200d'.repeat(50)}`],
      ];
      await show(hostile.map((text) => ['content', { source: text, event: text }]), { status: 404, body: '' });
      await shows(page, 'content');
      for (const width of [1280, 360]) {
        await page.setViewportSize({ width, height: 700 });
        const outside = await page.locator('.message').evaluateAll((all) => all.flatMap((message) => {
          const [box, content] = [message.querySelector('header'), message.querySelector('.content')].map((e) => e.getBoundingClientRect());
          const inner = [...message.querySelectorAll('header *')].map((e) => [e.className, e.getBoundingClientRect()]);
          const wrong = inner.filter(([name, { left, right, bottom }]) => name !== 'stack' && (left < box.left - 9 || right > box.right + 9 || bottom > content.top));
          return wrong.map(([name]) => name);
        }));
        assert.deepEqual(outside, [], `${width} px`);
        assert.ok(await page.evaluate(() => document.getElementById('log').scrollWidth <= document.getElementById('log').clientWidth));
      }
      assert.equal(await page.locator('header :is(img, a)').count(), 1, 'the icon of the page');
      assert.equal(await page.title(), 'hookcast');
      const seen = (await badges()).flat();
      assert.ok(seen.every((text) => text.length <= 128), String(seen.map((text) => text.length)));
      assert.ok(seen.includes('\\u202eevil'), String(seen));
    });

    it('are read out with a new message', async () => {
      await show([['first', PUSH]]);
      await page.unroute('**/api/webhook/stream*');
      await page.route('**/api/webhook/stream*', (route) =>
        route.fulfill(streamOf(connected(0, 60_000) + frame('e-9', 'ana pushed', { id: '9', ...PUSH }))));
      await page.getByRole('button', { name: 'Reconnect now' }).click();
      await until(page, page.locator('#news'), 'GitHub push: ana pushed');
    });

    it('are exported, and survive a reload', async () => {
      await show([['ana pushed', PUSH], ['plain']]);
      await shows(page, 'plain');
      const [download] = await Promise.all([page.waitForEvent('download'), page.getByRole('button', { name: 'Export' }).click()]);
      const lines = readFileSync(await download.path(), 'utf8').trim().split('\n').map((line) => JSON.parse(line));
      assert.deepEqual(lines.map(({ source, event }) => ({ source, event })), [PUSH, { source: undefined, event: undefined }]);
      assert.deepEqual(Object.keys(lines[1]), ['id', 'content', 'timestamp']);
      await page.unroute('**/api/webhook/stream*');
      await page.route('**/api/webhook/stream*', (route) => route.fulfill(streamOf(connected(0, 60_000))));
      await page.reload();
      await shows(page, 'plain');
      assert.deepEqual(await badges(), [['GitHub', 'push'], []]);
    });
  });

  describe('the JSON of a source', () => {
    const order = { action: 'opened', number: 12345678901, ['long key'.repeat(9)]: 'x'.repeat(300), repository: { id: 1 }, list: [], empty: null, more: 1, last: 2 };
    const summary = (nth = 0) => page.locator('.json').nth(nth).locator('summary').first();
    const visible = (nth = 0) => page.locator('.json').nth(nth).evaluate((e) => e.innerText.replaceAll(/\s+/g, ' ').trim());

    it('is folded to a summary of its first values, and opens formatted, by keyboard', async () => {
      await show([[JSON.stringify({ a: 1, b: [true] })], [JSON.stringify(order), PUSH], ['[1,[],{},"https://example.com/"]', PUSH], ['{}', PUSH]]);
      await page.locator('.json').nth(3).waitFor();
      assert.equal(await visible(0), '{ "a": 1, "b": [ true ] }', 'messages that are posted to the webhook itself stay open');
      const key = 'long key'.repeat(9).slice(0, 40);
      assert.equal(await visible(1), `{ "action": "opened", "number": 12345678901, "${key}…": "${'x'.repeat(40)}…", … 5 more keys }`);
      assert.equal(await visible(2), '[ 1, [], {}, "https://example.com/" ]');
      assert.equal(await visible(3), '{}');
      assert.equal(await page.locator('summary a').count(), 0);
      await summary(1).focus();
      await page.keyboard.press('Enter');
      assert.match(await visible(1), /^{ "action": "opened", "number": 12345678901, .* "last": 2 }$/);
      assert.equal(await page.evaluate(() => document.activeElement.localName), 'summary');
      // Assistive technology gets the state from the element.
      assert.deepEqual(await page.locator('.json').nth(1).evaluate((e) => [e.firstChild.localName, e.firstChild.open]), ['details', true]);
      await page.keyboard.press('Space');
      assert.match(await visible(1), /5 more keys }$/);
      await page.locator('.message').nth(1).getByRole('button', { name: 'Raw' }).click();
      assert.equal(await page.locator('.message').nth(1).locator('.content').textContent(), JSON.stringify(order));
      assert.deepEqual(page.complaints, []);
    });

    it('is summarised by six values at most, and by fewer if they are long', async () => {
      const short = '{"a":1,"b":2,"c":3,"d":4,"e":5,"f":6,"g":7,"h":8}';
      await show([[short, PUSH], [JSON.stringify(['x'.repeat(60), 'y'.repeat(60), 'z'.repeat(60), 1]), PUSH], [`[${'[],'.repeat(7)}1]`, PUSH]]);
      await page.locator('.json').nth(2).waitFor();
      assert.equal(await visible(0), '{ "a": 1, "b": 2, "c": 3, "d": 4, "e": 5, "f": 6, … 2 more keys }');
      assert.equal(await visible(1), `[ ${['x', 'y', 'z'].map((char) => `"${char.repeat(40)}…", `).join('')}… 1 more item ]`);
      assert.equal(await visible(2), '[ [], [], [], [], [], [], … 2 more items ]');
    });

    it('shows a bounded part of a large body, and says how much more there is', async () => {
      const large = JSON.stringify({ commits: Array.from({ length: 3_000 }, (_, i) => ({ id: i, message: 'word '.repeat(20) })), text: 'y'.repeat(200_000) });
      assert.ok(large.length > 500_000);
      await show([[large, PUSH]]);
      await summary().waitFor();
      assert.ok((await visible()).length < 400);
      await summary().press('Enter');
      for (const name of ['commits', 'text']) await page.locator('.json .key').getByText(name).last().waitFor();
      await page.locator('summary').filter({ hasText: 'commits' }).last().press('Enter');
      await page.getByRole('button', { name: 'Show more (2,900 items)' }).waitFor();
      await page.getByRole('button', { name: 'Show more (199,800 characters)' }).waitFor();
      assert.ok((await page.locator('.json').evaluate((e) => e.textContent.length)) < 64 * 1024);
      // As it was sent, step by step, too.
      await page.getByRole('button', { name: 'Raw' }).click();
      const more = () => page.getByRole('button', { name: /^Show more/ });
      assert.equal(await more().textContent(), `Show more (${(large.length - 1_000).toLocaleString('en')} characters)`);
      await more().click();
      assert.equal((await page.locator('.content').evaluate((e) => e.textContent.length)) - 1, 1_000 + 64 * 1024);
    });

    it('stays in its box when folded, and shows no link', async () => {
      const hostile = ['\u202eevil', `e${'\u0301'.repeat(300)}`, '\u05d0\u05d1 https://evil.example/', `${'\u0489'.repeat(300)}`];
      await show(hostile.map((text) => [JSON.stringify({ [text]: text }), PUSH]));
      await page.locator('.json').nth(3).waitFor();
      assert.equal(await page.locator('.json a').count(), 0);
      assert.ok((await page.locator('.json .stack').count()) >= 2);
      assert.match(await visible(0), /"\\u202eevil": "\\u202eevil"/);
    });

    it('is found by a search and marked, folded or open', async () => {
      const size = () => page.evaluate(() => CSS.highlights.get('found')?.size ?? 0);
      await show([[JSON.stringify(order), PUSH], ['other', PUSH]]);
      await shows(page, 'other');
      await page.getByRole('searchbox').fill('"action":"opened"');
      await count('1 of 2 messages');
      await page.waitForFunction(() => CSS.highlights.get('found')?.size === 1);
      assert.equal(await page.locator('.excerpt').count(), 0);
      await summary().press('Enter');
      await page.locator('.json .row').first().waitFor();
      await page.waitForFunction(() => CSS.highlights.get('found')?.size === 1);
      assert.equal(await size(), 1);
      // What the summary leaves out is quoted.
      await page.getByRole('searchbox').fill('"last":2');
      await until(page, page.locator('#count'), '1 of 2 messages');
    });
  });

  describe('the filter', () => {
    const messages = [['one', PUSH], ['two', PAID], ['three'], ['four', { ...PUSH, sessionId: 'me' }], ['five', { sessionId: 'me' }]];

    it('shows the messages of one source, together with search and session', async () => {
      await show(messages);
      await shows(page, 'five');
      await page.waitForFunction(() => document.getElementById('source-filter').options.length === 4);
      assert.deepEqual(await options(choice()), ['All sources', 'ci', 'GitHub', 'Stripe (shop)']);
      await choice().selectOption('GitHub');
      await count('2 messages');
      assert.deepEqual(await texts(page), ['one', 'four']);
      await page.getByLabel('Only mine').check({ force: true });
      await count('1 message');
      assert.deepEqual(await texts(page), ['four']);
      await page.getByLabel('Everyone').first().check({ force: true });
      await page.getByRole('searchbox').fill('one');
      await count('1 of 2 messages');
      await page.getByRole('searchbox').press('Escape');
      await choice().selectOption('ci');
      await count('0 messages');
      await page.getByText('No messages yet').waitFor();
      await choice().selectOption('All sources');
      await count('5 messages');
    });

    it('counts as unread only what it shows, and keeps the choice when sources are added', async () => {
      let text = connected(5, 60_000) + messages.map(([content, more], i) => frame(`e-${i}`, content, { id: `${i}`, ...more })).join('');
      await openScripted(() => streamOf(text));
      await page.route('**/api/webhook/sources', (route) => route.fulfill({ json: { sources: [] } }));
      await page.goto(`${server.url}?sessionId=me`);
      await shows(page, 'five');
      assert.deepEqual(await options(choice()), ['All sources', 'GitHub', 'shop']);
      await choice().selectOption('GitHub');
      await page.getByRole('button', { name: 'Pause' }).click();
      const news = [['six', PUSH], ['seven', PAID], ['eight', { source: 'grafana', event: 'firing' }], ['nine']];
      text = connected(0, 60_000) + news.map(([content, more], i) => frame(`e-${5 + i}`, content, { id: `n${i}`, ...more })).join('');
      await page.getByRole('button', { name: 'Reconnect now' }).click();
      await until(page, page.locator('#jump'), '1 new, resume');
      assert.equal(await page.title(), '(1) hookcast');
      assert.deepEqual(await options(choice()), ['All sources', 'GitHub', 'Grafana', 'shop']);
      assert.equal(await choice().inputValue(), 'github');
      await page.locator('#jump').click();
      await count('3 messages');
      assert.deepEqual(await texts(page), ['one', 'four', 'six']);
    });

    it('leaves out entries of the list that are no source', async () => {
      await show([['plain']], { json: { sources: [null, { name: 1 }, { ...LISTED[0], open: 'yes' }, LISTED[1]] } });
      await choice().waitFor();
      assert.deepEqual(await options(choice()), ['All sources', 'Stripe (shop)']);
    });

    it('is not shown without sources, whatever the server answers', async () => {
      const answers = [
        ...[{ json: { sources: [] } }, { status: 404, json: { error: 'Not found' } }, { status: 401, json: { error: 'Unauthorized' } }],
        ...[{ body: 'no JSON' }, { json: [] }, { json: { sources: 'many' } }, { json: { sources: [{ name: 1 }, null] } }],
      ];
      for (const answer of answers) {
        await show([['plain']], answer);
        await shows(page, 'plain');
        assert.ok(!(await choice().isVisible()), JSON.stringify(answer));
        assert.equal(await page.getByLabel('Simulate').count(), 0);
        await page.context().close();
      }
    });
  });

  describe('the panel', () => {
    const as = () => page.getByRole('combobox', { name: 'Simulate' });
    const events = () => page.getByRole('combobox', { name: 'Event' });
    const box = () => page.locator('#message');
    const send = () => page.getByRole('button', { name: 'Send', exact: true }).click();
    /** Sends, and waits until the earlier answer is replaced. */
    async function sendAgain() {
      const earlier = await page.locator('#answer p').elementHandle();
      await send();
      await page.waitForFunction((element) => !element.isConnected, earlier);
      await until(page, page.locator('#answer p'), '200 OK');
    }

    /** Answers requests to sources; returns those that were made. */
    async function recorded(answer = { json: { success: true, messageId: 'x', timestamp: 1 } }) {
      const requests = [];
      await page.route('**/api/webhook/in/*', (route) => {
        const request = route.request();
        requests.push({ url: request.url(), method: request.method(), headers: request.headers(), body: request.postData() });
        return route.fulfill(answer);
      });
      return requests;
    }

    it('sends what a provider would, to a source without a secret', async () => {
      await show([['plain']]);
      const requests = await recorded();
      await as().waitFor();
      assert.deepEqual(await options(as()), ['Nothing: a plain message', 'GitHub', 'ci']);
      assert.ok(!(await events().isVisible()));
      await box().fill('my draft');
      await as().selectOption('GitHub');
      assert.deepEqual(await options(events()), ['push', 'pull_request', 'issues']);
      assert.equal(JSON.parse(await box().inputValue()).head_commit.message, 'Fix rounding');
      assert.ok(!(await page.getByRole('group', { name: 'To' }).isVisible()));
      await send();
      await page.locator('#answer').getByText('200 OK').waitFor();
      await sendAgain();
      await events().selectOption('issues');
      await sendAgain();
      assert.deepEqual(requests.map(({ url, method, headers }) => [url, method, headers['x-github-event'], headers['content-type']]), [
        [`${server.url}api/webhook/in/github`, 'POST', 'push', 'application/json'],
        [`${server.url}api/webhook/in/github`, 'POST', 'push', 'application/json'],
        [`${server.url}api/webhook/in/github`, 'POST', 'issues', 'application/json'],
      ]);
      const deliveries = requests.map(({ headers }) => headers['x-github-delivery']);
      assert.match(deliveries[0], /^sample-\d{9}$/);
      assert.equal(new Set(deliveries).size, 3, 'each is a delivery of its own, not a retry');
      assert.equal(JSON.parse(requests[2].body).issue.number, 12);
      const command = await page.locator('#send-curl').textContent();
      assert.match(command, /^curl '.*\/api\/webhook\/in\/github' \\\n {2}-H 'Content-Type: application\/json' \\\n {2}-H 'X-GitHub-Event: issues' \\\n {2}-H 'X-GitHub-Delivery: sample-\d+' \\\n {2}-d '{/);
      await as().selectOption('Nothing: a plain message');
      assert.equal(await box().inputValue(), 'my draft');
      assert.ok(await page.getByRole('group', { name: 'To' }).isVisible());
      assert.match(await page.locator('#send-curl').textContent(), /-d '{"message":"my draft"}'$/);
      assert.deepEqual(page.complaints, []);
    });

    it('sends a body of one\'s own, and says what was wrong with it', async () => {
      await show([['plain']]);
      const requests = await recorded({ status: 401, json: { error: 'The signature does not verify' } });
      await as().selectOption('ci');
      assert.deepEqual(await options(events()), ['Any JSON']);
      await box().fill('@own');
      await send();
      await page.locator('#answer').getByText('401').waitFor();
      assert.equal(requests[0].body, '@own');
      assert.ok(!(await page.getByLabel('Secret').isVisible()), 'a source does not take the secret of the webhook');
      assert.match(await page.locator('#send-curl').textContent(), /--data-raw '@own'$/);
      await as().selectOption('Nothing: a plain message');
      assert.ok(!(await page.getByLabel('Secret').isVisible()));
    });

    it('follows the list when the server has another one', async () => {
      let sources = LISTED;
      await openScripted(() => streamOf(connected(0, 60_000)));
      await page.route('**/api/webhook/sources', (route) => route.fulfill({ json: { sources } }));
      await page.goto(server.url);
      await as().selectOption('ci');
      await box().fill('{"mine":1}');
      sources = LISTED.slice(1);
      await page.getByRole('button', { name: 'Reconnect now' }).click();
      await page.waitForFunction(() => document.querySelector('[name=as]').options.length === 2);
      assert.equal(await as().inputValue(), 'ci');
      assert.equal(await box().inputValue(), '{"mine":1}');
      sources = [];
      await page.getByRole('button', { name: 'Reconnect now' }).click();
      await as().waitFor({ state: 'hidden' });
      assert.equal(await box().inputValue(), 'Hello from hookcast');
      assert.ok(await page.getByRole('group', { name: 'To' }).isVisible());
    });
  });
});
