/** The panel for test messages, in Chromium, with the real server. */

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { describe, it } from 'node:test';

import { artefact } from './support/artefacts.js';
import { shows, state, texts, until } from './support/page.js';
import { Proxy } from './support/proxy.js';
import { closePage, live, openPage, openScripted, page, server, useBrowser, usePages } from './support/rig.js';
import { Server } from './support/server.js';

describe('the panel of the chat window', () => {
  useBrowser();
  usePages();

  const log = () => page.locator('#log');
  const box = () => page.getByRole('textbox', { name: 'Message' });
  const command = (id) => page.locator(id).textContent();

  it('shows the beginning of long answers', async () => {
    const body = JSON.stringify({ error: 'no '.repeat(50_000) });
    await openScripted(() => ({ status: 400, contentType: 'application/json', body }));
    await page.route('**/api/webhook', (route) => route.fulfill({ status: 502, body: '<p>'.repeat(50_000) }));
    await page.goto(server.url);
    await state(page, 'refused');
    assert.equal((await page.getByRole('status').first().textContent()).length, 300);
    await page.getByRole('button', { name: 'Send', exact: true }).click();
    await page.locator('#answer pre').waitFor();
    assert.equal((await command('#answer pre')).length, 4_000);
  });

  it('shows commands that work in a shell, and copies them', async () => {
    await openPage(`${server.url}?sessionId=${encodeURIComponent("o'hara")}`, {
      permissions: ['clipboard-read', 'clipboard-write'],
    });
    await state(page, 'live');
    await page.locator('[data-copy=session-curl]').click();
    await page.getByRole('button', { name: 'Copied' }).waitFor();
    const copied = await page.evaluate(() => navigator.clipboard.readText());
    assert.equal(copied, await command('#session-curl'));
    execFileSync('sh', ['-c', `${copied} --silent --fail`]);
    await page.locator('.mine').getByText('Only for you', { exact: true }).waitFor();

    const message = `it's "quoted" $HOME \\ \`x\`\nsecond line 😀`;
    await box().fill(message);
    execFileSync('sh', ['-c', `${await command('#send-curl')} --silent --fail`]);
    await page.locator('.message:not(.mine)').waitFor();
    assert.equal((await texts(page)).at(-1), message);
  });

  it('sends a test message and shows the answer', async () => {
    await live();
    await box().fill('from the panel');
    await page.getByRole('button', { name: 'Send', exact: true }).click();
    await shows(page, 'from the panel');
    const answer = page.locator('#answer');
    await answer.getByText('200 OK').waitFor();
    assert.match(await answer.locator('pre').textContent(), /^{"success":true,"messageId":"[0-9a-f-]{36}","timestamp":\d+}$/);
    await page.getByLabel('My session').check();
    await box().press('Control+Enter');
    await page.locator('.mine').getByText('from the panel').waitFor();
    // The sent message is in view, even after scrolling back.
    assert.ok(await log().evaluate((e) => e.scrollHeight - e.scrollTop - e.clientHeight < 2));
    await box().fill('   ');
    await page.getByRole('button', { name: 'Send', exact: true }).click();
    await answer.getByText('400').waitFor();
    assert.match(await answer.locator('pre').textContent(), /non-empty string/);
  });

  it('asks for the secret when the server does, and shows none in the command', async (t) => {
    const guarded = await Server.startFor(t, [], { WEBHOOK_SECRET: 'swordfish' });
    await openPage(guarded.url);
    await state(page, 'live');
    assert.ok(!(await page.getByLabel('Secret').isVisible()));
    await page.getByRole('button', { name: 'Send', exact: true }).click();
    await page.getByLabel('Secret').waitFor();
    await page.keyboard.type('swordfish');
    await page.keyboard.press('Enter');
    await page.locator('#answer').getByText('200 OK').waitFor();
    await shows(page, 'Hello from hookcast');
    const shown = await command('#send-curl');
    assert.match(shown, /-H "X-Webhook-Secret: \$WEBHOOK_SECRET"/);
    assert.doesNotMatch(shown, /swordfish/);
    const env = { PATH: process.env.PATH, WEBHOOK_SECRET: 'swordfish' };
    assert.match(execFileSync('sh', ['-c', `${shown} --silent`], { env, encoding: 'utf8' }), /"success":true/);
  });

  it('sends with Enter, breaks the line with Shift and Enter, and says so', async () => {
    await server.postAll(Array.from({ length: 40 }, (_, i) => `message ${i}`));
    await live();
    await shows(page, 'message 39');
    await log().evaluate((element) => (element.scrollTop = 0));
    await page.locator('#jump').waitFor();
    await box().fill('one');
    await box().press('End');
    await page.keyboard.press('Shift+Enter');
    await page.keyboard.type('two');
    assert.equal(await box().inputValue(), 'one\ntwo');
    assert.match(await page.locator(`#${await box().getAttribute('aria-describedby')}`).textContent(), /^Enter sends, Shift\+Enter starts a new line$/);
    assert.equal(await box().getAttribute('enterkeyhint'), 'send');
    await page.keyboard.press('Enter');
    // The sent message comes into view, even after scrolling back.
    await page.locator('#jump').waitFor({ state: 'hidden' });
    await shows(page, 'one\ntwo');
    assert.equal(await box().inputValue(), 'one\ntwo');
    assert.equal(await page.evaluate(() => document.activeElement.id), 'message');
    // The Send button keeps the focus for the next message.
    const send = page.getByRole('button', { name: 'Send', exact: true });
    await send.press('Enter');
    await until(page, page.locator('#count'), '42 messages');
    assert.equal(await page.evaluate(() => document.activeElement.name), 'submit');
  });

  it('does not send with the Enter that ends a composition, nor twice with a held Enter', async () => {
    await live();
    await box().fill('composed');
    const press = (init) =>
      box().evaluate((element, more) => {
        const event = new KeyboardEvent('keydown', { key: 'Enter', bubbles: true, cancelable: true, ...more });
        element.dispatchEvent(event);
        return event.defaultPrevented;
      }, init);
    const posts = [];
    page.on('request', (request) => request.method() === 'POST' && posts.push(request.postData()));
    assert.equal(await press({ isComposing: true }), false);
    assert.equal(await press({ keyCode: 229 }), false);
    assert.equal(await press({ shiftKey: true }), false);
    assert.equal(await press({ repeat: true }), true);
    // A real composition: the input method handles the key.
    const session = await page.context().newCDPSession(page);
    await box().focus();
    await session.send('Input.imeSetComposition', { text: 'に', selectionStart: 1, selectionEnd: 1 });
    await session.send('Input.dispatchKeyEvent', { type: 'rawKeyDown', key: 'Enter', code: 'Enter', windowsVirtualKeyCode: 229 });
    await session.send('Input.insertText', { text: '日本' });
    assert.match(await box().inputValue(), /日本/);
    await page.keyboard.press('Enter');
    await page.locator('.message').waitFor();
    assert.equal(posts.length, 1);
    assert.equal((await texts(page)).length, 1);
  });

  it('reports an unreachable server until it is reachable', async () => {
    const proxy = await Proxy.start(server.port);
    try {
      await openPage(proxy.url);
      await state(page, 'live');
      const send = () => page.getByRole('button', { name: 'Send', exact: true }).click();
      const notice = page.locator('#answer').getByText('The server cannot be reached');
      // With the stream cut off, too: once it is back the notice vanishes, whatever other requests do.
      await page.route('**/api/webhook', (route) => (route.request().method() === 'HEAD' ? route.abort() : route.fallback()));
      proxy.refuse();
      proxy.cut();
      await state(page, 'waiting');
      await send();
      await notice.waitFor();
      proxy.pass();
      await page.getByRole('button', { name: 'Reconnect now' }).click();
      await state(page, 'live');
      await notice.waitFor({ state: 'detached' });
      await page.unroute('**/api/webhook');
      // With a stream that stays open, the page itself checks whether the server is reachable.
      proxy.refuse();
      proxy.cutOthers();
      const looked = page.waitForEvent('requestfailed', (request) => request.method() === 'HEAD');
      await send();
      await notice.waitFor();
      assert.equal(await page.locator('#status').getAttribute('data-state'), 'live');
      await looked;
      assert.ok(await notice.isVisible());
      proxy.pass();
      await notice.waitFor({ state: 'detached' });
      // An error answer of the server stays visible.
      await box().fill(' ');
      await send();
      await page.locator('#answer').getByText('400').waitFor();
      await page.evaluate(() => document.querySelector('#status button').click());
      await state(page, 'live');
      assert.ok(await page.locator('#answer').getByText('400').isVisible());
    } finally {
      await proxy.close();
    }
  });

  it('does not cover the sent message on a phone', async () => {
    for (const height of [844, 480]) {
      await server.postAll(Array.from({ length: 20 }, (_, i) => `message ${i}`));
      await live('', { viewport: { width: 390, height }, hasTouch: true });
      await page.locator('#open-panel').click();
      await box().fill(`sent at ${height}`);
      await page.keyboard.press('Enter');
      await shows(page, `sent at ${height}`);
      await page.locator('#answer').getByText('200').waitFor();
      const message = page.locator('.message').last();
      const [sent, sheet] = [await message.boundingBox(), await page.locator('#panel').boundingBox()];
      assert.ok(sent.y + sent.height <= sheet.y, `${sent.y} + ${sent.height} of ${sheet.y}`);
      const top = await page.locator('.view').boundingBox();
      assert.ok(sent.y >= top.y, `${sent.y} of ${top.y}`);
      assert.ok(sheet.y + sheet.height <= height);
      await page.screenshot({ path: artefact(`chat-sent-390x${height}.png`) });
      await closePage();
    }
  });

  it('opens the panel over the log on a narrow screen', async () => {
    await live('', { viewport: { width: 360, height: 740 } });
    const panel = page.getByRole('complementary');
    assert.ok(!(await panel.isVisible()));
    const opener = page.getByRole('button', { name: 'Write' });
    await opener.press('Enter');
    assert.ok(await panel.isVisible());
    assert.equal(await page.evaluate(() => document.activeElement.id), 'message');
    await page.keyboard.press('Control+Enter');
    await shows(page, 'Hello from hookcast');
    await page.keyboard.press('Escape');
    assert.ok(!(await panel.isVisible()));
    assert.equal(await page.evaluate(() => document.activeElement.id), 'open-panel');
    assert.equal(await opener.getAttribute('aria-expanded'), 'false');
  });
});
