/** Sources from the provider's request to the page, with the real server, in Chromium. */

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createHmac } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';

import { bodyOf, filled, samplesOf } from '../../src/chat/samples.js';
import { Sources } from '../../src/chat/sources.js';
import { openIn, shows, state, texts, until } from './support/page.js';
import { closePage, live, openPage, page, restart, server, useBrowser, usePages } from './support/rig.js';
import { Server } from './support/server.js';

const SECRET = 'a secret of 24 bytes, no less';
const PRESETS = [
  ...['alertmanager', 'bitbucket', 'cloudevents', 'cloudflare', 'discord', 'eventgrid', 'forgejo', 'gitea', 'github', 'gitlab', 'gogs', 'grafana'],
  ...['linear', 'pagerduty', 'sentry', 'shopify', 'slack', 'standard', 'stripe', 'telegram', 'uptime-kuma', 'zoom'],
];
const PUSHED = 'ana pushed 1 commit to acme/shop (main): Fix rounding';

const dir = mkdtempSync(join(tmpdir(), 'hookcast-sources-'));
after(() => rmSync(dir, { recursive: true }));

/** Writes a file of sources, and returns the flags for it. */
function sourcesOf(name, text) {
  writeFileSync(join(dir, name), text);
  return ['--sources', join(dir, name)];
}

describe('a provider', () => {
  before(() => writeFileSync(join(dir, 'key'), `${SECRET}\n`, { mode: 0o600 }));
  useBrowser();
  usePages({
    flags: sourcesOf('some.toml', `
      [github]
      preset = "github"
      verify = false
      [acme]
      preset = "github"
      secret_files = ["${join(dir, 'key')}"]
      [ci]
      preset = "token"
      header = "X-Token"
      verify = false
      [ops]
      preset = "alertmanager"
      verify = false
      session = "ops"
    `),
  });

  const [push] = samplesOf('github');
  const badges = () => page.locator('.message header').evaluateAll((all) => all.map((e) => [...e.querySelectorAll('.source, .event')].map((badge) => badge.textContent).join(' ')));
  const count = (text) => until(page, page.locator('#count'), text);

  /** Posts a body to a source as a provider does; returns status and answer. */
  async function post(source, body, headers, url = server.url) {
    const response = await fetch(new URL(`api/webhook/in/${source}`, url), { method: 'POST', headers, body });
    return { status: response.status, text: await response.text() };
  }

  /** The same to `acme`, signed by this secret. */
  function signed(body, delivery, secret = SECRET) {
    const tag = createHmac('sha256', secret).update(body).digest('hex');
    return post('acme', body, { 'X-GitHub-Event': 'push', 'X-GitHub-Delivery': delivery, 'X-Hub-Signature-256': `sha256=${tag}` });
  }

  it('is shown with its name and its event, once, and only if the signature is right', async () => {
    const body = bodyOf(push, '1');
    await live();
    assert.equal((await signed(body, 'one', 'a wrong secret of 24 bytes')).status, 401);
    const first = await signed(body, 'one');
    assert.equal(first.status, 200);
    await shows(page, PUSHED);
    const retry = await signed(body, 'one');
    assert.deepEqual([retry.status, JSON.parse(retry.text).messageId], [200, JSON.parse(first.text).messageId]);
    await server.post('the end');
    await shows(page, 'the end');
    assert.deepEqual(await texts(page), [PUSHED, 'the end']);
    assert.deepEqual(await badges(), ['GitHub (acme) push', '']);
    assert.deepEqual(page.complaints, []);
  });

  it('is shown so after a kill of the server and in another tab', async () => {
    await signed(bodyOf(push, '1'), 'one');
    await server.kill();
    await restart();
    await live();
    await shows(page, PUSHED);
    const other = await openIn(page.context(), page.url());
    await shows(other, PUSHED);
    for (const each of [page, other]) await each.locator('.source').getByText('GitHub (acme)').waitFor();
    assert.deepEqual(await badges(), ['GitHub (acme) push']);
  });

  it('reaches the session of its source alone', async () => {
    await live('?sessionId=ana');
    const [firing] = samplesOf('alertmanager');
    assert.equal((await post('ops', bodyOf(firing, '1'), {})).status, 200);
    await server.post('the end');
    await shows(page, 'the end');
    assert.deepEqual(await texts(page), ['the end']);
    await closePage();
    await live('?sessionId=ops');
    await count('2 messages');
    assert.deepEqual(await badges(), ['Alertmanager (ops) firing', '']);
    assert.ok(await page.locator('.mine .source').isVisible());
  });

  it('can be simulated from the panel, again and again, and by its command', async () => {
    await live();
    const as = page.getByRole('combobox', { name: 'Simulate' });
    await as.waitFor();
    assert.deepEqual(await as.locator('option').allTextContents(), ['Nothing: a plain message', 'ci', 'GitHub', 'Alertmanager (ops)']);
    await as.selectOption('GitHub');
    const send = page.getByRole('button', { name: 'Send', exact: true });
    await send.click();
    await count('1 message');
    await send.click();
    await count('2 messages');
    const command = await page.locator('#send-curl').textContent();
    execFileSync('sh', ['-c', `${command} --silent --fail`]);
    await count('3 messages');
    // The same command again is a retry.
    execFileSync('sh', ['-c', `${command} --silent --fail`]);
    await as.selectOption('ci');
    await send.click();
    await page.locator('.message .source').getByText('ci', { exact: true }).waitFor();
    await count('4 messages');
    assert.deepEqual(await badges(), ['GitHub push', 'GitHub push', 'GitHub push', 'ci']);
    assert.deepEqual((await texts(page)).slice(0, 3), [PUSHED, PUSHED, PUSHED]);
    // Without a template it is the body, folded.
    assert.equal((await page.locator('.json').innerText()).trim(), '{ "text": "Hello from hookcast" }');
    await page.getByRole('combobox', { name: 'Show messages from' }).selectOption('ci');
    await count('1 message');
    assert.deepEqual(page.complaints, []);
  });

  it('is named in hookcast.js and in the history', async () => {
    await signed(bodyOf(push, '1'), 'one');
    await server.post('plain');
    const { messages } = await (await fetch(new URL('api/webhook/messages', server.url))).json();
    assert.deepEqual(messages.map(({ source, event }) => [source, event]), [['acme', 'push'], [undefined, undefined]]);
    await live();
    const seen = await page.evaluate(async () => {
      const { connect } = await import('/hookcast.js');
      const stream = connect();
      const found = [];
      await new Promise((resolve) => stream.on('message', ({ source, event }) => found.push([source, event]) === 2 && resolve()));
      stream.close();
      return found;
    });
    assert.deepEqual(seen, [['acme', 'push'], [undefined, undefined]]);
  });

  it('is not listed to a page without the secret of the server, nor by a server without sources', async (t) => {
    for (const [flags, env, complaints] of [[sourcesOf('none.toml', ''), {}, 0], [[], {}, 0], [sourcesOf('open.toml', '[github]\npreset = "github"\nverify = false\n'), { WEBHOOK_SECRET: 'swordfish' }, 1]]) {
      const other = await Server.startFor(t, flags, env);
      const answered = (response) => response.url().endsWith('/sources');
      await openPage('about:blank');
      const answer = page.waitForResponse(answered);
      await page.goto(other.url);
      await state(page, 'live');
      await answer;
      await page.evaluate(async () => (await fetch('api/webhook')).text());
      assert.ok(!(await page.getByRole('combobox').first().isVisible()));
      assert.equal(page.complaints.length, complaints, String(page.complaints));
      await closePage();
    }
  });

  it('of every preset has samples that are shown as text, and the title that the server gives it', async (t) => {
    const file = PRESETS.map((name) => `[${name}]\npreset = "${name}"\nverify = false\n`).join('');
    const all = await Server.startFor(t, sourcesOf('all.toml', file));
    const { sources } = await (await fetch(new URL('api/webhook/sources', all.url))).json();
    const known = new Sources(() => {});
    assert.deepEqual(sources.map(({ name, title }) => [name, title]).sort(), PRESETS.map((name) => [name, known.titleOf(name)]));
    let number = 100_000_000;
    for (const preset of PRESETS) {
      for (const sample of samplesOf(preset)) {
        number += 1;
        const fields = Object.entries(sample.fields ?? {}).map(([name, value]) => [name, filled(value, `${number}`)]);
        const { status, text } = await post(preset, bodyOf(sample, `${number}`), { 'Content-Type': 'application/json', ...Object.fromEntries(fields) }, all.url);
        assert.ok(status === 200 || status === 204, `${preset} ${sample.event}: ${status} ${text}`);
      }
    }
    const { messages } = await (await fetch(new URL('api/webhook/messages?limit=100', all.url))).json();
    assert.equal(messages.length, PRESETS.flatMap(samplesOf).length);
    for (const { source, event, content } of messages) {
      assert.ok(event, `${source} has no event`);
      assert.notEqual(content, `${source} ${event}`, 'the text of an unknown event');
    }
  });
});
