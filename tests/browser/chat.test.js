/** The chat window in Chromium, with the real server. */

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import { setHidden, shows, state, texts, until } from './support/page.js';
import { live, openPage, openScripted, page, server, streamOf, useBrowser, usePages } from './support/rig.js';
import { connected, frame, gapFrame } from './support/script.js';
import { Server } from './support/server.js';

describe('the chat window', () => {
  useBrowser();
  usePages();

  /** A page whose stream is this text, from a script. */
  async function scripted(...frames) {
    await openScripted(() => streamOf(connected(frames.length, 60_000) + frames.join('')));
    // The highest number of messages that were elements at a time.
    await page.addInitScript(() => {
      window.elementsMost = 0;
      const note = () => {
        window.elementsMost = Math.max(window.elementsMost, document.querySelectorAll('.message').length);
      };
      addEventListener('DOMContentLoaded', () => {
        new MutationObserver(note).observe(document.getElementById('log'), { childList: true, subtree: true });
      });
    });
    await page.goto(server.url);
    await state(page, 'waiting');
  }

  const log = () => page.locator('#log');
  const command = (id) => page.locator(id).textContent();

  it('shows the history and then live messages, in order', async () => {
    await server.postAll(['one', 'two']);
    await live();
    await server.postAll(['three', 'four']);
    await shows(page, 'four');
    assert.deepEqual(await texts(page), ['one', 'two', 'three', 'four']);
    assert.equal(await page.locator('#count').textContent(), '4 messages');
    assert.deepEqual(page.complaints, []);
  });

  it('shows a note while there are no messages', async () => {
    await live();
    assert.ok(await page.getByText('No messages yet').isVisible());
    await server.post('first');
    await shows(page, 'first');
    assert.ok(!(await page.getByText('No messages yet').isVisible()));
  });

  it('shows content as text, whatever it looks like', async () => {
    const hostile = [
      '<img src=x onerror="document.title=1">',
      '<script>document.title=2</script>',
      '</div><h1>out</h1>',
      'javascript:alert(1) and data:text/html,x are no links',
      '&lt;b&gt; stays as it is',
    ];
    await server.postAll(hostile);
    await live();
    await shows(page, hostile.at(-1));
    assert.deepEqual(await texts(page), hostile);
    assert.equal(await page.locator('.content :is(img, script, h1, a)').count(), 0);
    assert.equal(await page.title(), 'hookcast');
    assert.deepEqual(page.complaints, []);
  });

  it('makes safe links, and only of addresses', async () => {
    await server.postAll([
      'see (https://example.com/a_(b)?q=1&r=%20#x), HTTP://EXAMPLE.COM. and https://bücher.example/ü!',
      'https://user:pw@evil.example/ ftp://no.example https:// http://[bad javascript://x.example',
      'https://a.example/\u202ecod.exe',
    ]);
    await live();
    await page.locator('.content a').first().waitFor();
    const links = await page.locator('.content a').evaluateAll((all) =>
      all.map((a) => [a.textContent, a.getAttribute('href'), a.target, a.rel]),
    );
    const safe = ['_blank', 'noopener noreferrer nofollow ugc'];
    assert.deepEqual(links, [
      ['https://example.com/a_(b)?q=1&r=%20#x', 'https://example.com/a_(b)?q=1&r=%20#x', ...safe],
      ['HTTP://EXAMPLE.COM', 'HTTP://EXAMPLE.COM', ...safe],
      ['https://bücher.example/ü', 'https://bücher.example/ü', ...safe],
      ['https://a.example/', 'https://a.example/', ...safe],
    ]);
    const hosts = await page.locator('.content a').evaluateAll((all) => all.map((a) => a.dataset.host));
    assert.deepEqual(hosts, [undefined, 'example.com', 'xn--bcher-kva.example', undefined]);
  });

  it('keeps line breaks, emoji and the direction of each line', async () => {
    const text = 'first\n\n  third 👩‍👩‍👧‍👦\nשלום, עולם\nend';
    await server.post(text);
    await live();
    await page.locator('.content').waitFor();
    assert.deepEqual(await texts(page), [text]);
    const edges = await page.locator('.content').evaluate((content) => {
      const node = content.firstChild;
      const box = content.getBoundingClientRect();
      const edgesOf = (part) => {
        const start = node.data.indexOf(part);
        const range = new Range();
        range.setStart(node, start);
        range.setEnd(node, start + part.length);
        const { left, right, top } = range.getBoundingClientRect();
        return { left: left - box.left, right: box.right - right, top };
      };
      return { first: edgesOf('first'), hebrew: edgesOf('שלום, עולם'), end: edgesOf('end') };
    });
    assert.ok(edges.first.left < 1 && edges.hebrew.right < 1 && edges.end.left < 1, JSON.stringify(edges));
    assert.ok(edges.first.top < edges.hebrew.top && edges.hebrew.top < edges.end.top);
  });

  it('opens a long message step by step, and by keyboard', async () => {
    // A surrogate pair lies across the first cut.
    const long = `${'x'.repeat(999)}😀${'word '.repeat(400)}the end`;
    await server.post(long);
    await live();
    const more = page.getByRole('button', { name: 'Show more' });
    await more.waitFor();
    const preview = await page.locator('.content').evaluate((content) => content.firstChild.data);
    assert.equal(preview, 'x'.repeat(999));
    await more.focus();
    await page.keyboard.press('Enter');
    await page.getByText('the end').waitFor();
    assert.deepEqual(await texts(page), [long]);
    assert.equal(await page.evaluate(() => document.activeElement.className), 'content');
  });

  it('makes no link of an address that is cut off', async () => {
    await server.post(`${'x'.repeat(975)} https://good.example.evil.example/ end`);
    await live();
    await page.locator('.more').waitFor();
    assert.equal(await page.locator('.content a').count(), 0);
    await page.locator('.more').click();
    assert.equal(await page.locator('.content a').getAttribute('href'), 'https://good.example.evil.example/');
  });

  it('copies a long message as sent', async () => {
    const sent = `${'line \u05d0\n'.repeat(1_000)}${JSON.stringify(Array(2_000).fill('abc'))}\nend`;
    await server.post(sent);
    await live();
    await page.locator('.more').click();
    assert.ok((await page.locator('.content > div').count()) > 5);
    const copied = await page.locator('.content').evaluate((content) => {
      getSelection().selectAllChildren(content);
      return String(getSelection());
    });
    assert.equal(copied, sent);
  });

  it('shows local times, exact times on hover, and separators between days', async () => {
    const at = (text) => ({ timestamp: Date.parse(text) });
    await scripted(
      frame('e-1', 'late', at('2026-03-01T22:59:58.250Z')),
      frame('e-2', 'early', at('2026-03-01T23:00:01Z')),
      frame('e-3', 'same day', at('2026-03-02T12:00:00Z')),
      frame('e-4', 'summer', at('2026-07-01T12:00:00Z')),
      frame('e-5', 'never', { timestamp: 1e300 }),
      frame('e-6', 'long ago', { timestamp: -1e300 }),
      frame('e-7', 'no time', { timestamp: 'soon' }),
    );
    await shows(page, 'no time');
    const seen = await page.locator('.day, .message time').evaluateAll((all) =>
      all.slice(0, 7).map((element) => (element.title || element.textContent).replaceAll(',', '')),
    );
    assert.deepEqual(seen, [
      'Sunday 1 March 2026',
      '1 March 2026 at 23:59:58.250 CET',
      'Monday 2 March 2026',
      '2 March 2026 at 00:00:01.000 CET',
      '2 March 2026 at 13:00:00.000 CET',
      'Wednesday 1 July 2026',
      '1 July 2026 at 14:00:00.000 CEST',
    ]);
    assert.deepEqual(page.complaints, []);
  });

  it('shows a gap, with its size if it is known', async () => {
    await scripted(frame('e-1', 'a'), gapFrame(1234), frame('e-2000', 'b'), gapFrame(1), gapFrame(null));
    await shows(page, 'b');
    assert.deepEqual(await page.locator('.gap').allTextContents(), [
      '1,234 messages missed here',
      '1 message missed here',
      'Messages may be missing here',
    ]);
    const order = await page.locator('.message, .gap').evaluateAll((all) => all.map(({ className }) => className));
    assert.deepEqual(order, ['message', 'gap', 'message', 'gap', 'gap']);
  });

  it('counts unread messages in the title while in the background', async () => {
    await server.post('history');
    await live();
    await shows(page, 'history');
    await setHidden(page, true);
    await server.postAll(['one', 'two']);
    await page.waitForFunction(() => document.title === '(2) hookcast');
    await setHidden(page, false);
    assert.equal(await page.title(), 'hookcast');
  });

  it('keeps its scroll position in older messages, and jumps to the latest', async () => {
    await server.postAll(Array.from({ length: 60 }, (_, i) => `message ${i}`));
    await live();
    await shows(page, 'message 59');
    await log().evaluate((element) => (element.scrollTop = 500));
    const jump = page.locator('#jump');
    await jump.waitFor();
    const place = () => page.getByText('message 10', { exact: true }).evaluate((e) => e.getBoundingClientRect().top);
    const before = await place();
    await server.postAll(['news 1', 'news 2']);
    await until(page, jump, '2 new, jump to latest');
    assert.equal(await place(), before);
    assert.equal(await page.title(), '(2) hookcast');
    await jump.click();
    await shows(page, 'news 2');
    assert.ok(await log().evaluate((e) => e.scrollHeight - e.scrollTop - e.clientHeight < 2));
    assert.ok(!(await jump.isVisible()));
    assert.equal(await page.title(), 'hookcast');
    // A page that is scrolled to the end stays there.
    await server.post('news 3');
    await shows(page, 'news 3');
    await page.waitForFunction(() => {
      const e = document.getElementById('log');
      return e.scrollHeight - e.scrollTop - e.clientHeight < 2;
    });
  });

  it('shows its session and targeted messages, and can show only those', async () => {
    await live('?sessionId=me');
    await server.post('for me', { sessionId: 'me' });
    await server.post('for another', { sessionId: 'you' });
    await server.post('for all');
    await shows(page, 'for all');
    assert.deepEqual(await texts(page), ['for me', 'for all']);
    assert.equal(await page.locator('.mine .badge').textContent(), 'only for you');
    await page.getByLabel('Only mine').check({ force: true });
    assert.deepEqual(await texts(page), ['for me']);
    await server.postAll(['for all again']);
    await server.post('me again', { sessionId: 'me' });
    await shows(page, 'me again');
    assert.deepEqual(await texts(page), ['for me', 'me again']);
    assert.equal(await page.locator('#count').textContent(), '2 messages');
    await page.getByLabel('Everyone').first().check({ force: true });
    assert.deepEqual(await texts(page), ['for me', 'for all', 'for all again', 'me again']);
  });

  it('creates a session once, keeps it, and creates another on request', async () => {
    await live();
    const id = await command('#session');
    assert.match(id, /^[0-9a-f]{32}$/);
    await page.reload();
    assert.equal(await command('#session'), id);
    await page.getByRole('button', { name: 'New session' }).click();
    await page.waitForURL(/sessionId=/);
    const next = await command('#session');
    assert.notEqual(next, id);
    await page.goto(server.url);
    assert.equal(await command('#session'), next);
    // The previous session is remembered until the user removes it.
    const recent = page.locator('#recent');
    await recent.locator('summary').click();
    await recent.getByRole('link', { name: id }).click();
    await page.waitForURL(new RegExp(`sessionId=${id}`));
    assert.equal(await command('#session'), id);
    await recent.locator('summary').click();
    await page.getByRole('button', { name: 'Forget them' }).click();
    assert.ok(!(await recent.isVisible()));
  });

  it('accepts any session from the address, and shows the reason of a refusal', async () => {
    const odd = 'it\'s "ö" & <b>?/%20';
    await live(`?sessionId=${encodeURIComponent(odd)}`);
    assert.equal(await command('#session'), odd);
    await server.post('to the odd one', { sessionId: odd });
    await shows(page, 'to the odd one');
    await page.goto(`${server.url}?sessionId=${'x'.repeat(300)}`);
    await state(page, 'refused');
    assert.match(await page.getByRole('status').first().textContent(), /^Refused: .*sessionId/);
    // Links may contain any session, so a name of thousands of letters is shown in part.
    await page.goto(`${server.url}?sessionId=${encodeURIComponent(`x${'😀'.repeat(500)}`)}`);
    await state(page, 'refused');
    assert.equal((await command('#session')).length, 299);
  });

  it('copies without a clipboard API, too', async () => {
    await openPage('about:blank');
    await page.addInitScript(() => Object.defineProperty(navigator, 'clipboard', { value: undefined }));
    await page.goto(server.url);
    await page.locator('[data-copy=session]').click();
    await page.getByRole('button', { name: /Copied|Ctrl/ }).waitFor();
    assert.equal(await page.evaluate(() => String(getSelection())), await command('#session'));
  });

  it('works by keyboard only', async () => {
    await server.postAll(Array.from({ length: 40 }, (_, i) => `message ${i}`));
    await live('', { viewport: { width: 1_000, height: 700 } });
    await shows(page, 'message 39');
    const stops = [];
    const tab = async (times) => {
      for (let i = 0; i < times; i += 1) {
        await page.keyboard.press('Tab');
        stops.push(await page.evaluate(() => {
          const { id, name, dataset, textContent } = document.activeElement;
          return id || name || dataset.copy || textContent;
        }));
      }
    };
    await tab(8);
    assert.deepEqual(stops, ['theme', 'filter', 'search', 'pause', 'export', 'skip', 'log', 'Copy']);
    // A link skips the messages.
    await page.locator('#skip').focus();
    assert.ok(await page.locator('#skip').evaluate((e) => e.getBoundingClientRect().width > 100));
    await page.keyboard.press('Enter');
    assert.equal(await page.evaluate(() => document.activeElement.id), 'message');
    stops.length = 0;
    await tab(7);
    assert.deepEqual(stops, ['to', 'submit', 'send-curl', 'session', 'session-curl', 'session-link', 'new-session']);
    // The log scrolls by its keys, and End returns to the latest message.
    await log().focus();
    await page.keyboard.press('Home');
    await page.locator('#jump').waitFor();
    await page.keyboard.press('End');
    await page.locator('#jump').waitFor({ state: 'hidden' });
    await page.getByLabel('Everyone').first().focus();
    await page.keyboard.press('ArrowRight');
    await until(page, page.locator('#count'), '0 messages');
  });

  it('announces new messages politely, without the history, and counts bursts', async () => {
    await server.postAll(['old 1', 'old 2']);
    await live();
    await shows(page, 'old 2');
    const role = page.getByRole('log', { name: 'Messages' });
    assert.equal(await role.getAttribute('aria-live'), 'off');
    const news = page.locator('#news[aria-live=polite]');
    await server.post('read this');
    await until(page, news, 'read this');
    await server.postAll(['one', 'two', 'three']);
    await until(page, news, '3 new messages, the latest: three');
    // Not half of a letter at the end.
    await server.post(`${'x'.repeat(199)}😀`);
    await until(page, news, 'x'.repeat(199));
  });

  it('follows the theme of the system, or the one chosen, kept over a reload', async () => {
    await live('', { colorScheme: 'dark' });
    const background = () => page.evaluate(() => getComputedStyle(document.body.parentElement).backgroundColor);
    const dark = await background();
    await page.emulateMedia({ colorScheme: 'light' });
    const light = await background();
    assert.notEqual(dark, light);
    const button = page.locator('#theme');
    assert.equal(await button.getAttribute('aria-label'), 'Theme: system');
    await button.click();
    await button.click();
    assert.equal(await button.getAttribute('aria-label'), 'Theme: dark');
    assert.equal(await background(), dark);
    await page.reload();
    assert.equal(await background(), dark);
  });

  it('does not animate with reduced motion', async () => {
    const moving = () => page.evaluate(() => document.getAnimations().length);
    await openPage('about:blank', { alone: true });
    await page.route('**/api/webhook/stream*', () => {});
    await page.goto(server.url);
    await page.emulateMedia({ reducedMotion: 'no-preference' });
    assert.equal(await moving(), 1);
    await page.emulateMedia({ reducedMotion: 'reduce' });
    assert.equal(await moving(), 0);
  });

  it('runs only its own scripts and loads nothing from other origins', async () => {
    const asked = new Set();
    await openPage('about:blank');
    page.on('request', (request) => asked.add(new URL(request.url()).origin));
    const response = await page.goto(server.url);
    await state(page, 'live');
    assert.deepEqual([...asked], [new URL(server.url).origin]);
    assert.match(response.headers()['content-security-policy'], /default-src 'none'/);
    const run = await page.evaluate(() => {
      const attempt = (make) => {
        try {
          return make() ?? 'done';
        } catch (error) {
          return error.name;
        }
      };
      const element = document.createElement('p');
      return {
        markup: attempt(() => (element.innerHTML = '<b>x</b>')),
        handler: attempt(() => element.setAttribute('onclick', 'x')),
        script: attempt(() => {
          document.createElement('script').textContent = 'x';
        }),
        inline: attempt(() => {
          // A text node is not covered by Trusted Types; the policy itself blocks it.
          const script = document.createElement('script');
          script.append('window.injected = true');
          document.body.append(script);
          return String(window.injected);
        }),
      };
    });
    assert.deepEqual(run, { markup: 'TypeError', handler: 'TypeError', script: 'TypeError', inline: 'undefined' });
  });

  it('is loaded from the cache the second time', async () => {
    await live();
    const fetched = [];
    page.on('response', async (response) => {
      if (!response.url().includes('/api/')) fetched.push([response.url(), response.status()]);
    });
    const sizes = () => page.evaluate(() => performance.getEntriesByType('resource').map((e) => [e.name, e.transferSize]));
    await page.goto(server.url);
    await state(page, 'live');
    const parts = (await sizes()).filter(([name]) => name.includes('/assets/'));
    assert.ok(parts.length >= 10, `${parts.length}`);
    assert.deepEqual(parts.filter(([, size]) => size > 0), []);
  });

  it('serves hookcast.js to pages of other origins', async (t) => {
    await server.post('across');
    const other = await Server.startFor(t);
    // A blank page of another origin: a response of the API, without the page's policy.
    await openPage(`${other.url}api/webhook`);
    const content = await page.evaluate(async (address) => {
      const { connect } = await import(address);
      const stream = connect({ lastEventId: 'x-1' });
      return new Promise((resolve) => stream.on('message', (message) => resolve(message.content)));
    }, `${server.url}hookcast.js`);
    assert.equal(content, 'across');
    assert.deepEqual(page.complaints, []);
  });

  it('stays fast with ten thousand messages: only those near the view are elements', async () => {
    const many = Array.from({ length: 10_500 }, (_, i) => frame(`e-${i}`, `message ${i}`));
    await scripted(...many);
    await shows(page, 'message 10499');
    await until(page, page.locator('#count'), '10,000 messages');
    // After one jump far back the messages there are shown, with no more elements than before.
    await log().evaluate((element) => (element.scrollTop = 0));
    await page.waitForFunction(() => {
      const [, oldest] = document.querySelector('.message .content')?.textContent.split(' ') ?? [];
      return oldest >= 440 && oldest <= 500;
    });
    // Back in steps of one view: no message is skipped or repeated.
    const seen = new Set();
    for (let i = 0; i < 20; i += 1) {
      const inView = await log().evaluate((element) => {
        const { top, bottom } = element.getBoundingClientRect();
        return [...element.querySelectorAll('.message')]
          .filter((m) => m.getBoundingClientRect().top >= top - 1 && m.getBoundingClientRect().bottom <= bottom + 1)
          .map((m) => Number(m.querySelector('.content').textContent.split(' ')[1]));
      });
      assert.ok(inView.length > 0);
      for (const number of inView) seen.add(number);
      await log().evaluate((element) => {
        element.scrollTop += element.clientHeight / 2;
        return new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve)));
      });
    }
    const numbers = [...seen].sort((a, b) => a - b);
    assert.deepEqual(numbers, numbers.map((_, i) => numbers[0] + i));
    // At several places over the whole length.
    for (let i = 1; i <= 9; i += 1) {
      await log().evaluate((element, share) => (element.scrollTop = element.scrollHeight * share), i / 10);
      await page.waitForFunction((least) => {
        const [, first] = document.querySelector('.message .content')?.textContent.split(' ') ?? [];
        return first > least;
      }, 500 + i * 1_000 - 600);
    }
    await page.locator('#jump').click();
    await shows(page, 'message 10499');
    const most = await page.evaluate(() => window.elementsMost);
    assert.ok(most >= 40 && most < 400, `${most} elements`);
  });
});
