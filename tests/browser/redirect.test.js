/**
 * Redirects: a stream's secret goes only to the given address, and a typed message goes nowhere else. `fetch`
 * alone keeps headers and body on a redirect to any origin.
 */

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import { connect } from '../../src/chat/hookcast.js';
import { shows, state } from './support/page.js';
import { BROWSERS, browser, live, page, proxy, server, useBrowser, usePages, useServer } from './support/rig.js';
import { connected, frame, scripted, streaming } from './support/script.js';

const STATUSES = [301, 302, 303, 307, 308];

/** CORS headers that allow a page of any origin to send any header. */
const CORS = {
  'Access-Control-Allow-Origin': '*',
  'Access-Control-Allow-Headers': 'X-Webhook-Secret, Content-Type',
  'Access-Control-Expose-Headers': '*',
};

/** Answers preflights, and everything else by `answer`. */
const allowing = (answer) => (request, response) => {
  for (const [name, value] of Object.entries(CORS)) response.setHeader(name, value);
  if (request.method === 'OPTIONS') response.writeHead(204).end();
  else answer(request, response);
};

/** A server that redirects to another origin, and that origin, which has a stream. */
async function origins(t, status) {
  const other = await scripted(allowing(streaming(connected(1), frame('e-1', 'from the other'))));
  const location = other.url.replace('127.0.0.1', 'localhost');
  const server = await scripted(allowing((request, response) => response.writeHead(status, { Location: location }).end()));
  t.after(() => {
    server.close();
    other.close();
  });
  return { server, other };
}

/** Reads a stream up to its first message or the end of its first attempt. Also runs in pages. */
async function firstOf(connect, options) {
  const stream = connect(options);
  try {
    return await new Promise((resolve) => {
      stream.on('message', ({ content }) => resolve(content));
      stream.on('state', (state) => state.reason && resolve(state));
    });
  } finally {
    stream.close();
  }
}

/** The other origin got no request, so it did not get the secret. */
function checkRefused({ server, other }, { state, reason, error }) {
  assert.deepEqual([state, reason], ['waiting', 'redirect']);
  assert.match(error, /redirect/);
  assert.equal(server.requests.at(-1).headers['x-webhook-secret'], 'sesame');
  assert.deepEqual(other.requests, []);
}

describe('in Node, a stream', () => {
  for (const status of STATUSES) {
    it(`with a secret follows no ${status}`, async (t) => {
      const { server, other } = await origins(t, status);
      checkRefused({ server, other }, await firstOf(connect, { url: server.url, secret: 'sesame' }));
    });
  }

  it('without a secret follows one, as EventSource does', async (t) => {
    const { server, other } = await origins(t, 307);
    assert.equal(await firstOf(connect, { url: server.url }), 'from the other');
    assert.equal(other.requests[0].headers['x-webhook-secret'], undefined);
  });

  it('continues at the target of the redirect', async (t) => {
    let redirects = true;
    const server = await scripted((request, response) => {
      if (redirects) response.writeHead(302, { Location: 'http://127.0.0.1:9/' }).end();
      else streaming('retry: 10\n', connected(1), frame('e-1', 'back'))(request, response);
      redirects = false;
    });
    t.after(server.close);
    const stream = connect({ url: server.url, secret: 'sesame' });
    t.after(() => stream.close());
    const content = await new Promise((resolve) => {
      stream.on('message', (message) => resolve(message.content));
      stream.on('state', ({ reason }) => reason === 'redirect' && stream.reconnect());
    });
    assert.equal(content, 'back');
  });
});

for (const [name, launchBrowser] of Object.entries(BROWSERS)) {
  describe(`in a page of another origin, in ${name}, a stream`, () => {
    useBrowser(launchBrowser);
    useServer();

    /** The same in a page without a policy: a response of the API. */
    async function inPage(t, options) {
      const page = await browser.newPage();
      t.after(() => page.close());
      await page.goto(`${server.url.replace('127.0.0.1', 'localhost')}api/webhook`);
      return page.evaluate(
        async ([module, options, code]) => {
          const { connect } = await import(module);
          const firstOf = (0, eval)(`(${code})`);
          return firstOf(connect, options);
        },
        [`${server.url}hookcast.js`, options, String(firstOf)],
      );
    }

    it('with a secret follows no redirect', async (t) => {
      for (const status of STATUSES) {
        const { server, other } = await origins(t, status);
        checkRefused({ server, other }, await inPage(t, { url: server.url, secret: 'sesame' }));
      }
    });

    it('without a secret follows one', async (t) => {
      const { server } = await origins(t, 307);
      assert.equal(await inPage(t, { url: server.url }), 'from the other');
    });
  });
}

describe('the chat window', () => {
  useBrowser();
  usePages({ env: { WEBHOOK_SECRET: 'sesame' }, proxied: true });

  /** The page behind a proxy that can redirect, and another origin that accepts anything. */
  async function redirected(t) {
    const other = await scripted(allowing(streaming(connected(1), frame('e-1', 'from the other'))));
    t.after(other.close);
    await live();
    const send = () => page.getByRole('button', { name: 'Send', exact: true }).click();
    await send();
    await page.getByLabel('Secret').fill('sesame');
    const redirectTo = (location, status, requests) => {
      const headers = { Location: location, 'Content-Length': 0, Connection: 'close', ...CORS };
      const lines = [`HTTP/1.1 ${status} Redirect`, ...Object.entries(headers).map((header) => header.join(': '))];
      proxy.answer(`${lines.join('\r\n')}\r\n\r\n`, requests);
      proxy.cut();
    };
    return { other, send, redirectTo };
  }

  it('sends message and secret nowhere else', async (t) => {
    const { other, send, redirectTo } = await redirected(t);
    for (const status of STATUSES) {
      redirectTo(other.url, status);
      await page.locator('#answer').evaluate((answer) => answer.replaceChildren());
      await send();
      await page.locator('#answer').getByText('Not sent: the answer is a redirect').waitFor();
      assert.ok(await page.getByRole('button', { name: 'Send', exact: true }).isEnabled());
    }
    assert.deepEqual(other.requests, []);
    proxy.pass();
    await send();
    await page.locator('#answer').getByText('200 OK').waitFor();
    await shows(page, 'Hello from hookcast');
  });

  it('takes no redirected request for a success', async (t) => {
    const { send, redirectTo } = await redirected(t);
    // The redirected request would be a GET, which the server answers with 200.
    redirectTo('/api/webhook', 303, /^POST/);
    await send();
    await page.locator('#answer').getByText('Not sent: the answer is a redirect').waitFor();
  });

  it('lets its stream go to no other origin', async (t) => {
    const { other, redirectTo } = await redirected(t);
    redirectTo(other.url, 307);
    await state(page, 'waiting', 'lost');
    await page.getByRole('button', { name: 'Reconnect now' }).click();
    await state(page, 'waiting', 'lost');
    assert.deepEqual(other.requests, []);
    proxy.pass();
    await page.getByRole('button', { name: 'Reconnect now' }).click();
    await state(page, 'live');
  });
});
