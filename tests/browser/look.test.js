/**
 * The look of the page: screenshots and figures for people in artefacts/, and automatic checks of accessibility
 * and speed.
 */

import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { after, describe, it } from 'node:test';

import { artefact } from './support/artefacts.js';
import { findings } from './support/axe.js';
import { shows, state, until } from './support/page.js';
import { closePage, live, openPage, page, server, useBrowser, usePages } from './support/rig.js';
import { connected, failing, frame, gapFrame, scripted, streaming } from './support/script.js';
const WIDTHS = [360, 768, 1280];
const THEMES = ['light', 'dark'];

/** Messages of an ordinary day. */
const EVENING = Date.parse('2026-03-01T22:40:00Z');
const CONTENTS = [
  [`TypeError: x is undefined\n${'    at handler (/srv/app/lib/router.js:118:14)\n'.repeat(60)}`],
  ['Deployment of api-gateway v2.14.0 started by Ana'],
  ['Build #4812 passed in 3 min 20 s: https://ci.example.com/builds/4812'],
  ['Payment received: €1,240.00 from Müller & Söhne GmbH 🎉', { sessionId: 'me' }],
  ['Disk usage on db-3 is at 81 %\nThreshold: 80 %\nGrowth: 1.2 GB a day'],
  ['שלום! ההזמנה שלך נשלחה 📦\nOrder 10025 was shipped'],
  ['مرحبا، تم استلام الدفعة رقم 55'],
  ['{"event":"order.created","id":"ord_9f2c","total":59.9,"items":[{"sku":"A-100","qty":2},{"sku":"B-7","qty":1}]}'],
  ['AVeryLongWordWithoutAnySpaces'.repeat(4)],
  ['Your export is ready', { sessionId: 'me' }],
  ['👍'],
];
const day = CONTENTS.map(([content, more], i) =>
  frame(`e-${i}`, content, { timestamp: EVENING + i * 500_000, ...more }),
);
const DAY = [connected(day.length), ...day.slice(0, 4), gapFrame(412), ...day.slice(4)];

/** Messages of sources, and the server's list of them. */
const HOOK = { ref: 'refs/heads/main', deleted: false, repository: { full_name: 'acme/shop' }, commits: [{ id: 'c0ffee1' }], compare: 'https://git.example/acme/shop/compare/1..2', pusher: { name: 'ana' }, sender: { login: 'ana' } };
const HOOKS = [
  ['ana pushed 3 commits to acme/shop: Fix rounding', { source: 'github', event: 'push' }],
  [JSON.stringify(HOOK), { source: 'github', event: 'push' }],
  ['{"action":"review_requested","number":7,"sender":{"login":"ana"}}', { source: 'github', event: 'pull_request.review_requested', sessionId: 'me' }],
  ['FIRING: The disk of db-3 is 91 % full\nhttps://prometheus.example/graph', { source: 'alertmanager', event: 'firing' }],
  ['€20.00 received', { source: 'shop', event: 'payment_intent.succeeded' }],
  ['com.example.a.rather.long.type.of.an.event.that.needs.more.than.one.line', { source: 'a-source-with-quite-a-long-name-of-its-own', event: 'com.example.a.rather.long.type.of.an.event.that.needs.more.than.one.line' }],
  ['Deployment finished 👍'],
].map(([content, more], i) => frame(`e-${i}`, content, { id: `${i}`, timestamp: EVENING + i * 500_000, ...more }));
const SOURCES = [
  { name: 'github', preset: 'github', title: 'GitHub', open: true },
  { name: 'shop', preset: 'stripe', title: 'Stripe', open: false },
  { name: 'alertmanager', preset: 'alertmanager', title: 'Alertmanager', open: true },
];

describe('the chat window', () => {
  const report = [];
  useBrowser();
  usePages();
  after(() => writeFileSync(artefact('axe.json'), JSON.stringify(report, null, 2)));

  /** Opens the page with a scripted stream. */
  async function view(t, width, theme, sources, ...answers) {
    await closePage();
    const script = await scripted(...answers);
    t.after(script.close);
    await openPage('about:blank', {
      viewport: { width, height: width < 700 ? 740 : 800 },
      colorScheme: theme,
      alone: true,
    });
    await page.route('**/api/webhook/stream*', (route) => route.continue({ url: script.url }));
    await page.route('**/api/webhook/sources', (route) => route.fulfill({ json: { sources } }));
    await page.goto(`${server.url}?sessionId=me`);
    // The address has another port in each run; the pictures must not.
    await page.evaluate(() => document.fonts.ready);
  }

  /** Takes a picture and runs axe's accessibility checks. */
  async function examine(name) {
    await page.screenshot({ path: artefact(`chat-${name}.png`), animations: 'disabled' });
    const found = await findings(page);
    report.push({ name, ...found });
    assert.deepEqual(found.violations, []);
  }

  const pictures = [
    ['messages', [streaming(...DAY)], () => shows(page, '👍')],
    ['empty', [streaming(connected())], () => state(page, 'live')],
    ['waiting', [failing(502)], () => state(page, 'waiting')],
    [
      'reading-back',
      [streaming(connected(80), ...Array.from({ length: 80 }, (_, i) => frame(`e-${i}`, `Message number ${i}`, { timestamp: EVENING + i * 60_000 })))],
      async () => {
        await shows(page, 'Message number 79');
        await page.locator('#log').evaluate((log) => (log.scrollTop = 300));
        await page.locator('#jump').waitFor();
      },
    ],
    [
      'search',
      [streaming(...DAY)],
      async () => {
        await shows(page, '👍');
        await page.getByRole('searchbox').fill('order');
        await until(page, page.locator('#count'), '2 of 11 messages');
        await page.waitForFunction(() => CSS.highlights.get('found')?.size === 2);
      },
    ],
    [
      'nothing-found',
      [streaming(...DAY)],
      async () => {
        await shows(page, '👍');
        await page.getByRole('searchbox').fill('zebra');
        await page.getByText('No message matches').waitFor();
      },
    ],
    [
      'paused-and-raw',
      [streaming(...DAY)],
      async () => {
        await shows(page, '👍');
        await page.getByRole('button', { name: 'Pause' }).click();
        await page.getByRole('button', { name: 'Raw' }).click();
      },
    ],
    [
      'panel',
      [streaming(...DAY)],
      async () => {
        await shows(page, '👍');
        const opener = page.locator('#open-panel');
        if (await opener.isVisible()) await opener.click();
        await page.route('**/api/webhook', (route) =>
          route.fulfill({ status: 401, contentType: 'application/json', body: '{"error":"Unauthorized"}' }),
        );
        await page.getByRole('button', { name: 'Send', exact: true }).click();
        await page.getByLabel('Secret').waitFor();
      },
    ],
    [
      'sources',
      [streaming(connected(HOOKS.length), ...HOOKS)],
      async () => {
        await page.locator('.source').getByText('Stripe (shop)').waitFor();
        await page.locator('.json').nth(1).locator('summary').first().click();
        await page.locator('.json .row').first().waitFor();
      },
      SOURCES,
    ],
    [
      'simulation',
      [streaming(connected(HOOKS.length), ...HOOKS)],
      async () => {
        await page.locator('.source').getByText('Stripe (shop)').waitFor();
        await page.getByRole('combobox', { name: 'Show messages from' }).selectOption('GitHub');
        const opener = page.locator('#open-panel');
        if (await opener.isVisible()) await opener.click();
        await page.getByLabel('Simulate').selectOption('GitHub');
        await page.getByRole('combobox', { name: 'Event' }).waitFor();
      },
      SOURCES,
    ],
  ];
  for (const theme of THEMES) {
    for (const width of WIDTHS) {
      it(`is accessible and fits at ${width} px, ${theme}`, async (t) => {
        for (const [what, answers, prepare, sources = []] of pictures) {
          await view(t, width, theme, sources, ...answers);
          await prepare();
          await examine(`${what}-${width}-${theme}`);
          // Nothing overflows to the side.
          const wide = await page.evaluate(() =>
            [document.documentElement, ...document.querySelectorAll('#log, aside')]
              .filter(({ scrollWidth, clientWidth }) => scrollWidth > clientWidth)
              .map(({ localName, id }) => id || localName),
          );
          assert.deepEqual(wide, [], what);
        }
      });
    }
  }

  it('is pictured for the README', async (t) => {
    const customer = Object.fromEntries(Array.from({ length: 15 }, (_, i) => [`field${i}`, i]));
    const order = `{"event":"order.created","id":"ord_9f2c","total":59.90,"paid":true,"items":[{"sku":"A-100","qty":2}],"customer":${JSON.stringify(customer)}}`;
    const sessionId = '9f2c41d07be84c0c';
    const messages = [
      ['Deployment of api-gateway v2.14.0 started by Ana'],
      ['Build #4812 passed in 3 min 20 s: https://ci.example.com/builds/4812'],
      ['Payment received: €1,240.00 from Müller & Söhne GmbH 🎉'],
      ['Disk usage on db-3 is at 81 %'],
      ['שלום! ההזמנה שלך נשלחה 📦'],
      [order, { sessionId }],
      ['Deployment finished 👍'],
    ].map(([content, more], i) => frame(`e-${i}`, content, { timestamp: EVENING + i * 500_000, ...more }));
    const script = await scripted(streaming(connected(messages.length), ...messages.slice(0, 3), gapFrame(412), ...messages.slice(3)));
    t.after(script.close);
    await openPage('about:blank', { viewport: { width: 1280, height: 820 }, colorScheme: 'light', alone: true, permissions: ['local-network-access'] });
    // src/chat/screenshot.png is this picture. It shows the default address, with the page of the server under test.
    const shown = 'http://127.0.0.1:3000/';
    await page.route(`${shown}**`, async (route) => {
      const url = route.request().url().replace(shown, server.url);
      await route.fulfill({ response: await route.fetch({ url }) });
    });
    await page.route('**/api/webhook/stream*', (route) => route.continue({ url: script.url }));
    await page.goto(`${shown}?sessionId=${sessionId}`);
    await shows(page, 'Deployment finished 👍');
    await page.evaluate(() => document.fonts.ready);
    await page.screenshot({ path: artefact('chat-readme.png'), animations: 'disabled' });
    assert.equal(await page.locator('.mine').count(), 1);
  });

  it('can be zoomed to 400 % and is readable with larger text spacing', async (t) => {
    // WCAG 2.2, 1.4.10 and 1.4.12: 320 by 256 CSS pixels are 1280 by 1024 at 400 %.
    await view(t, 320, 'light', [], streaming(...DAY));
    await page.setViewportSize({ width: 320, height: 256 });
    await shows(page, '👍');
    await page.evaluate(() => {
      const sheet = new CSSStyleSheet();
      sheet.replaceSync('* { line-height: 1.5 !important; letter-spacing: .12em !important; word-spacing: .16em !important; }');
      document.adoptedStyleSheets = [sheet];
    });
    await examine('messages-400-percent');
    assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth));
    const height = await page.locator('#log').evaluate((log) => log.clientHeight);
    assert.ok(height >= 60, `the log is ${height} px high`);
  });

  it('costs the same for the 5,000th message as for the first ones', async () => {
    await live();
    const session = await page.context().newCDPSession(page);
    await session.send('Performance.enable');
    await page.evaluate(() => {
      window.frames_ms = [];
      let last = performance.now();
      const note = (now) => {
        window.frames_ms.push(now - last);
        last = now;
        requestAnimationFrame(note);
      };
      requestAnimationFrame(note);
    });
    const busyMs = async () => {
      const { metrics } = await session.send('Performance.getMetrics');
      return metrics.find(({ name }) => name === 'TaskDuration').value * 1_000;
    };
    const rounds = [];
    let posted = 0;
    for (let round = 0; round < 5; round += 1) {
      const before = await busyMs();
      await page.evaluate(() => (window.frames_ms.length = 0));
      const sender = async () => {
        while (posted < (round + 1) * 1_000) {
          posted += 1;
          await server.post(`Message ${posted} of many, of a common length, to all streams`);
        }
      };
      await Promise.all(Array.from({ length: 8 }, sender));
      await until(page, page.locator('#count'), `${posted.toLocaleString('en')} messages`);
      const frames = (await page.evaluate(() => window.frames_ms)).sort((a, b) => a - b);
      const at = (share) => Number(frames[Math.floor((frames.length - 1) * share)].toFixed(1));
      rounds.push({
        ...{ messages: posted, frames: frames.length, busyMs: Math.round((await busyMs()) - before) },
        ...{ p50Ms: at(0.5), p95Ms: at(0.95), p99Ms: at(0.99), maxMs: at(1) },
        elements: await page.locator('.message').count(),
      });
    }
    console.table(rounds);
    writeFileSync(artefact('frames.json'), JSON.stringify(rounds, null, 2));
    assert.ok(rounds.at(-1).elements < 250, `${rounds.at(-1).elements} elements`);
    // A cost that grows with the number of held messages shows in all later rounds, a busy machine in some.
    const later = Math.min(...rounds.slice(2).map(({ busyMs }) => busyMs));
    assert.ok(later < 3 * rounds[0].busyMs, `${rounds[0].busyMs} ms at first, ${later} ms later`);
  });
});
