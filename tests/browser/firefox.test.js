/** The main path in Debian's Firefox, driven by WebDriver BiDi. */

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import { launchFirefox } from './support/firefox.js';
import { browser, proxy, restart, server, useBrowser, useServer } from './support/rig.js';

describe('in Firefox', () => {
  useBrowser(launchFirefox);
  useServer({ flags: ['--drain', '500ms'], proxied: true });

  const open = async () => {
    const page = await browser.newPage();
    await page.goto(proxy.url);
    await live(page);
    return page;
  };
  const live = (page) => page.waitForSelector('#status[data-state=live]');
  const waiting = (page) => page.waitForSelector('#status[data-state=waiting]');
  const texts = (page) => page.$$eval('.content', (all) => all.map(({ textContent }) => textContent));
  const shows = (page, text) =>
    page.waitForFunction((t) => [...document.querySelectorAll('.content')].some((e) => e.textContent === t), {}, text);

  it('shows all messages in order: history, news, a test message, a kill, a drain, a reload, two tabs on one stream', async () => {
    await server.post('history <b>');
    const page = await open();
    await server.post('news');
    await shows(page, 'news');
    await page.click('[name=submit]');
    await shows(page, 'Hello from hookcast');
    await page.waitForFunction(() => document.querySelector('#answer .good')?.textContent === '200 OK');

    await server.kill();
    await waiting(page);
    await restart();
    await server.post('after the kill');
    await shows(page, 'after the kill');
    await server.drain();
    await restart();
    await server.post('after the drain');
    await shows(page, 'after the drain');

    await page.reload();
    await live(page);
    assert.match(proxy.streamRequests.at(-1), /lastEventId=[0-9a-f]+-\d+/);
    const all = ['history <b>', 'news', 'Hello from hookcast', 'after the kill', 'after the drain'];
    await shows(page, all.at(-1));
    assert.deepEqual(await texts(page), all);

    const second = await open();
    await server.post('to both');
    await Promise.all([shows(page, 'to both'), shows(second, 'to both')]);
    assert.deepEqual(await texts(second), [...all, 'to both']);
    assert.equal(proxy.openStreams, 1);
  });
});
