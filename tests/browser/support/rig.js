/**
 * The set-up of tests in a browser: a browser, a server, perhaps a faulty network before it, and a page.
 *
 * `useBrowser`, `useServer` and `usePages` register hooks for the tests of the `describe` in which they are
 * called. The exported variables are those of the running test.
 */

import { after, before, beforeEach } from 'node:test';

import { launchFirefox } from './firefox.js';
import { launch, open, state } from './page.js';
import { Proxy } from './proxy.js';
import { Server } from './server.js';

export const BROWSERS = { Chromium: launch, Firefox: launchFirefox };

/** @type {import('playwright-core').Browser} */
export let browser;
/** @type {Server} */
export let server;
/** @type {Proxy | undefined} */
export let proxy;
/** @type {import('playwright-core').Page & { complaints: string[] } | undefined} */
export let page;

/** One browser for all tests. */
export function useBrowser(start = launch) {
  before(async () => {
    browser = await start();
  });
  after(() => browser?.close());
}

/** One server for all tests, with these `flags` and this `env`, and with a proxy before it if `proxied`. */
export function useServer(options) {
  before(() => begin(options));
  after(end);
}

/** A server for each test, as `useServer`; the page of a test is closed after it. */
export function usePages(options) {
  beforeEach(async (t) => {
    t.after(async () => {
      await closePage();
      await end();
    });
    await begin(options);
  });
}

/** Opens a page, which is the page of the test from now on. Returns it. */
export async function openPage(url, options) {
  page = await open(browser, url, options);
  return page;
}

/** Opens the page of the server, or of the proxy before it, and waits until it is live. Returns it. */
export async function live(path = '', options = {}) {
  await openPage(new URL(path, (proxy ?? server).url).href, options);
  await state(page, 'live');
  return page;
}

/** Opens a blank page without a shared worker, in which requests for a stream get the answer of `answer`. */
export async function openScripted(answer) {
  await openPage('about:blank', { alone: true });
  await page.route('**/api/webhook/stream*', (route) => route.fulfill(answer()));
}

/** A stream with this text that ends, as an answer for `openScripted`. */
export function streamOf(text) {
  return { contentType: 'text/event-stream; charset=utf-8', body: text };
}

/** Closes the page of the test, with its other tabs. */
export async function closePage() {
  await page?.context().close();
  page = undefined;
}

/** Starts the server again, on the same ring. */
export async function restart() {
  await server.restart();
  proxy?.retarget(server.port);
  proxy?.pass();
}

/** Replaces the server by one with an empty history and these flags. */
export async function replaceServer(...flags) {
  await server.close();
  server = await Server.start(flags);
  proxy?.retarget(server.port);
}

async function begin({ flags = [], env = {}, proxied = false } = {}) {
  server = await Server.start(flags, env);
  proxy = proxied ? await Proxy.start(server.port) : undefined;
}

async function end() {
  await proxy?.close();
  await server?.close();
}
