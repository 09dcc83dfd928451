/** The browser, and actions and queries of the tests on the page. */

import { chromium } from 'playwright-core';

const FLAGS = [
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];

/** Debian's Chromium with a fresh profile. */
export function launch(options = {}) {
  return chromium.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    chromiumSandbox: false,
    args: FLAGS,
    ...options,
  });
}

/**
 * Opens the page in a context of its own; collects the errors of the browser console.
 *
 * @returns {Promise<import('playwright-core').Page & { complaints: string[] }>}
 */
export async function open(browser, url, options = {}) {
  const context = await browser.newContext({ locale: 'en-GB', timezoneId: 'Europe/Berlin', ...options });
  if (options.alone) await withoutSharedWorker(context);
  return openIn(context, url);
}

/** Opens another tab of the same browser profile. */
export async function openIn(context, url) {
  const page = await context.newPage();
  page.complaints = [];
  page.on('pageerror', (error) => page.complaints.push(String(error)));
  page.on('console', (message) => {
    if (message.type() === 'error') page.complaints.push(message.text());
  });
  await page.goto(url);
  return page;
}

/** Removes the shared worker from a browser. */
export function withoutSharedWorker(context) {
  return context.addInitScript(() => delete globalThis.SharedWorker);
}

/** Waits for a connection state on the page. */
export function state(page, name, reason = '') {
  const about = reason && `[data-reason="${reason}"]`;
  return page.locator(`#status[data-state="${name}"]${about}`).waitFor();
}

/** The texts of the messages that are elements now. */
export function texts(page) {
  return page.locator('.message .content').allTextContents();
}

/** Waits until the page shows a message with exactly this text. */
export function shows(page, text) {
  return page.locator('.message .content').getByText(text, { exact: true }).first().waitFor();
}

/** Sets the visibility state of the page. */
export function setHidden(page, hidden) {
  return page.evaluate((value) => {
    Object.defineProperty(document, 'hidden', { configurable: true, get: () => value });
    document.dispatchEvent(new Event('visibilitychange'));
  }, hidden);
}

/** Waits until an element has exactly this text. */
export async function until(page, locator, text) {
  const element = await locator.elementHandle();
  await page.waitForFunction(([e, wanted]) => e.textContent === wanted, [element, text]);
}
