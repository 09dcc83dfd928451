/** The programs of "How to make a token" on the page for authors of clients, as they stand there. */

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';

import { Server } from './support/server.js';

const PAGE = readFileSync(new URL('../../src/chat/README.md', import.meta.url), 'utf8');
const [, section] = PAGE.split('\n### How to make a token\n');
const [text] = section.split('\n## ');
const blocks = [...text.matchAll(/^```(\w+)\n(.*?)^```$/gms)].map(([, language, code]) => ({ language, code }));
const [makeSecret, node, python, rust, shell, makePair, eddsa] = blocks;

const directory = mkdtempSync(join(tmpdir(), 'hookcast-recipes-'));
after(() => rmSync(directory, { recursive: true }));

/** Runs a program in the directory of the keys; returns its output. */
function run(command, ...parameters) {
  return execFileSync(command, parameters, { cwd: directory, encoding: 'utf8' });
}

/** The arguments of all programs that a script in a shell starts. */
function argumentsOf({ code }) {
  const wrappers = join(directory, 'wrappers');
  const log = join(directory, 'arguments');
  mkdirSync(wrappers, { recursive: true });
  writeFileSync(log, '');
  for (const name of ['awk', 'cat', 'date', 'head', 'mktemp', 'od', 'openssl', 'rm', 'tr']) {
    const text = `#!/bin/sh\nprintf '%s\\n' "${name} $*" >> '${log}'\nPATH='${process.env.PATH}' exec ${name} "$@"\n`;
    writeFileSync(join(wrappers, name), text, { mode: 0o755 });
  }
  writeFileSync(join(directory, 'traced.sh'), code);
  execFileSync('/bin/sh', ['traced.sh'], { cwd: directory, env: { PATH: wrappers } });
  return readFileSync(log, 'utf8');
}

/** Runs a block of the page, from a file with this name. */
function runBlock({ code }, command, name) {
  writeFileSync(join(directory, name), code);
  return run(command, name);
}

const RECIPES = {
  Node: () => runBlock(node, process.execPath, 'token.mjs'),
  Python: () => runBlock(python, 'python3', 'token_of_ana.py'),
  Rust: () => run(join(process.env.CLIENTS_BUILD, 'rust/debug/token')),
  'a shell': () => runBlock(shell, 'sh', 'token.sh'),
  'a shell, with a pair of keys': () => runBlock(eddsa, 'sh', 'pair.sh'),
};

test('the page has the programs, in about ten lines each', () => {
  assert.deepEqual(blocks.map(({ language }) => language), ['sh', 'js', 'python', 'rust', 'sh', 'sh', 'sh']);
  for (const { code } of blocks) assert.ok(code.split('\n').length <= 13, code);
});

test('the program in Rust is the one that is compiled', () => {
  const compiled = readFileSync(new URL('./rust/src/bin/token.rs', import.meta.url), 'utf8');
  assert.equal(rust.code, compiled);
});

describe('a token', () => {
  let server;
  before(async () => {
    runBlock(makeSecret, 'sh', 'secret.sh');
    runBlock(makePair, 'sh', 'keys.sh');
    const keys = ['token.key', 'public.pem'].flatMap((name) => ['--token-key', join(directory, name)]);
    server = await Server.start(...keys);
  });
  after(() => server?.close());

  /** The status and a header field of the answer to a request for a session's history. */
  async function ask(session, token) {
    const headers = token ? { Authorization: `Bearer ${token}` } : {};
    const response = await fetch(`http://127.0.0.1:${server.port}/api/webhook/messages?sessionId=${session}`, { headers });
    return `${response.status} ${response.ok ? response.headers.get('cache-control') : (await response.json()).error}`;
  }

  test('is needed for a session', async () => {
    assert.match(await ask('ana'), /^401 /);
  });

  test('is made with keys that no other user can read', () => {
    for (const name of ['token.key', 'private.pem']) assert.equal(statSync(join(directory, name)).mode & 0o077, 0, name);
  });

  test('in a shell, no argument of a program shows a key: other users can see it', () => {
    for (const [script, name] of [[shell, 'token.key'], [eddsa, 'private.pem']]) {
      const shown = argumentsOf(script);
      assert.match(shown, /^openssl /m);
      for (const line of readFileSync(join(directory, name), 'utf8').trim().split('\n')) {
        if (!line.startsWith('-----')) assert.ok(!shown.includes(line), shown);
      }
    }
  });

  for (const [name, make] of Object.entries(RECIPES)) {
    test(`made in ${name} opens its session, and no other`, async () => {
      const printed = make();
      assert.match(printed, /^[\w-]+\.[\w-]+\.[\w-]+\n$/);
      const token = printed.trim();
      assert.equal(await ask('ana', token), '200 private, no-store');
      assert.match(await ask('bo', token), /^403 /);
      const [head, body, signature] = token.split('.');
      const { exp } = JSON.parse(Buffer.from(body, 'base64url'));
      assert.ok(Math.abs(exp - Date.now() / 1_000 - 600) < 60, `${exp}`);
      const more = Buffer.from(JSON.stringify({ exp, hookcast: { everything: true } })).toString('base64url');
      assert.match(await ask('bo', `${head}.${more}.${signature}`), /^401 /);
    });
  }
});
