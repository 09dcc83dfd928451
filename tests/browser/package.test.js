/** The npm package `hookcast`: packed, installed and imported as in a project, in Node, TypeScript and browsers. */

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { promisify } from 'node:util';

import { BROWSERS, server, useServer } from './support/rig.js';
import { serve } from './support/site.js';

const run = promisify(execFile);
const SOURCE = new URL('../../src/chat/', import.meta.url).pathname;
const MODULES = new URL('./node_modules/', import.meta.url).pathname;

/** Publishes a message, waits for it on the stream, then tries an empty one. Runs in Node and in pages. */
async function roundTrip({ connect, publish, PublishError }, url) {
  const sessionId = String(Math.random());
  const stream = connect({ url: `${url}/stream`, sessionId });
  const seen = new Promise((resolve) => stream.on('message', resolve));
  const { messageId, timestamp } = await publish('packed', { url, sessionId });
  const message = await seen;
  stream.close();
  const error = await publish(' ', { url }).catch((reason) => reason);
  return {
    content: message.content,
    isSame: message.id === messageId && message.timestamp === timestamp,
    refused: error instanceof PublishError && error.status,
  };
}
const EXPECTED = { content: 'packed', isSame: true, refused: 400 };

/** A TypeScript program with the package. Exactly the marked lines are errors. */
const CONSUMER = `
import { connect, publish, PublishError, type Message, type Published, type State } from 'hookcast';
const url: URL = new URL('https://hooks.example/api/webhook');
const stream = connect({ url: 'https://hooks.example/api/webhook/stream', sessionId: 'ana', seenIds: new Set(['x']) });
const off: () => void = stream.on('message', (message: Message) => message.content.trim());
stream.on('message', ({ source, event }) => { const from: string | undefined = source, type: string | undefined = event; return [from, type]; });
stream.on('gap', ({ missed }) => { const n: number = missed ?? 0; return n; });
stream.on('state', (state: State) => { if (state.state === 'refused') stream.reconnect(); });
off();
connect({ sessionId: ['ana', 'team'], token: async () => 't', replay: 0, since: new Date() }).close();
connect({ sessionId: ['ana'] as const, token: () => 't', since: '10m' }).on('state', ({ reason, expiresAt }) => { const at: number | undefined = expiresAt; return [reason === 'token', at]; });
await publish('x', { url, token: async () => 't' });
const stored: Published = await publish('x', { url, secret: 's', signal: AbortSignal.timeout(1), timeoutMs: 5 });
const id: string = stored.messageId, at: number = stored.timestamp;
try { await publish('x'); } catch (error) {
  if (error instanceof PublishError) { const status: number | undefined = error.status; const wait: number | undefined = error.retryAfterMs; }
}
// @ts-expect-error a message is a string
await publish({ a: 1 });
// @ts-expect-error no such event
stream.on('close', () => {});
// @ts-expect-error no such option
connect({ session: 'ana' });
// @ts-expect-error a function gives tokens
connect({ token: 't' });
// @ts-expect-error not a state
const no: State = { state: 'open' };
// @ts-expect-error internal
import { Parser } from 'hookcast';
`;

describe('the npm package', () => {
  let project;
  let packed;
  let url;
  useServer();
  before(async () => {
    url = `${server.url}api/webhook`;
    project = mkdtempSync(join(tmpdir(), 'hookcast-package-'));
    const { stdout } = await run('npm', ['pack', '--json', '--pack-destination', project], { cwd: SOURCE });
    [packed] = JSON.parse(stdout);
    writeFileSync(join(project, 'package.json'), '{"private":true,"type":"module"}');
    const install = ['install', '--offline', '--no-audit', '--no-fund', `./${packed.filename}`];
    await run('npm', install, { cwd: project });
  });
  after(() => project && rmSync(project, { recursive: true }));

  it('holds the module, its types and the licence, and depends on nothing', () => {
    const files = packed.files.map(({ path }) => path).filter((path) => path !== 'README.md');
    assert.deepEqual(files.sort(), ['LICENSE', 'hookcast.d.ts', 'hookcast.js', 'package.json']);
    const manifest = JSON.parse(readFileSync(join(project, 'node_modules/hookcast/package.json'), 'utf8'));
    const [, version] = /^version = "(.*)"$/m.exec(readFileSync(join(SOURCE, '../../Cargo.toml'), 'utf8'));
    assert.deepEqual([manifest.name, manifest.version, manifest.license, manifest.type], ['hookcast', version, 'MIT', 'module']);
    for (const kind of ['dependencies', 'peerDependencies', 'optionalDependencies', 'scripts']) {
      assert.equal(manifest[kind], undefined, kind);
    }
    assert.deepEqual(readdirSync(join(project, 'node_modules')).filter((name) => !name.startsWith('.')), ['hookcast']);
  });

  it('works in Node', async () => {
    const program = `import * as hookcast from 'hookcast'; console.log(JSON.stringify(await (${roundTrip})(hookcast, '${url}')));`;
    writeFileSync(join(project, 'program.js'), program);
    const { stdout, stderr } = await run(process.execPath, ['program.js'], { cwd: project, timeout: 60_000 });
    assert.deepEqual(JSON.parse(stdout), EXPECTED, stderr);
  });

  for (const { name, ...options } of [
    { name: 'Node resolution', module: 'nodenext', lib: ['es2024', 'dom'], types: [] },
    { name: 'a bundler', module: 'esnext', moduleResolution: 'bundler', lib: ['es2024', 'dom'], types: [] },
    { name: 'the types of Node alone', module: 'nodenext', lib: ['es2024'], types: ['node'], typeRoots: [join(MODULES, '@types')] },
  ]) {
    it(`has types that hold strictly, with ${name}`, async () => {
      const compilerOptions = { strict: true, exactOptionalPropertyTypes: true, noEmit: true, target: 'es2024', ...options };
      const dir = mkdtempSync(join(project, 'typescript-'));
      writeFileSync(join(dir, 'program.ts'), CONSUMER);
      writeFileSync(join(dir, 'package.json'), '{"type":"module"}');
      writeFileSync(join(dir, 'tsconfig.json'), JSON.stringify({ compilerOptions, files: ['program.ts'] }));
      const { stdout } = await run(join(MODULES, '.bin/tsc'), ['-p', dir]).catch((error) => error);
      assert.equal(stdout, '');
    });
  }

  for (const [name, launchBrowser] of Object.entries(BROWSERS)) {
    it(`works in a page of another origin, in ${name}`, async (t) => {
      const origin = await originOf(t, join(project, 'node_modules/hookcast/hookcast.js'));
      const browser = await launchBrowser();
      t.after(() => browser.close());
      const page = await browser.newPage();
      await page.goto(origin);
      const result = await page.evaluate(
        async ([url, code]) => (0, eval)(`(${code})`)(await import('hookcast'), url),
        [url, String(roundTrip)],
      );
      assert.deepEqual(result, EXPECTED);
    });
  }
});

/** An origin with one page, whose import map names the installed module. */
async function originOf(t, file) {
  const imports = { hookcast: '/modules/hookcast.js' };
  const page = `<!doctype html><script type="importmap">${JSON.stringify({ imports })}</script>`;
  const site = await serve(({ url }, response) => {
    const isModule = url === imports.hookcast;
    response.setHeader('Content-Type', isModule ? 'text/javascript' : 'text/html');
    response.end(isModule ? readFileSync(file) : page);
  });
  t.after(site.close);
  return site.url;
}
