/**
 * `hookcast doctor` through the recommended proxies, where it must find no fault, and through each row of
 * broken.js. README.md shows that table. The reports are printed.
 */

import assert from 'node:assert/strict';
import { execFile, execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer as createHttpServer } from 'node:http';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';

import { BROKEN, table } from './broken.js';
import { ask } from './support/client.js';
import { HoldingProxy } from './support/holding.js';
import { BINARY, Origin } from './support/origin.js';
import { freePort, until } from './support/process.js';
import { PROXIES, Proxy } from './support/proxies.js';

const SECRET = 'correct horse';

/** Runs the doctor; returns its exit status and its report: lines, or objects with `--json`. */
function doctor(url, env = { WEBHOOK_SECRET: SECRET }, flags = []) {
  return new Promise((resolve) => {
    const options = { env: { PATH: process.env.PATH, ...env } };
    execFile(BINARY, ['doctor', url, '--watch', '7s', ...flags], options, (error, stdout, stderr) => {
      resolve({ status: error ? error.code : 0, text: stdout + stderr, stdout });
    });
  });
}

/** The same, as objects. */
async function examine(url, env, flags = []) {
  const { status, text, stdout } = await doctor(url, env, ['--json', ...flags]);
  const lines = stdout.trim().split('\n').map((line) => JSON.parse(line));
  const checks = lines.filter(({ type }) => type === 'check');
  return { status, lines, checks, end: lines.at(-1), text };
}

/** The checks with a verdict. */
const subjects = (text, verdict) =>
  text.split('\n').flatMap((line) => line.match(new RegExp(`^(\\S+) +${verdict} `))?.[1] ?? []);

/** A self-signed certificate for a name, and its key: files in a directory. By default it is not an authority. */
function certificate(directory, name, constraints = 'CA:FALSE') {
  const path = (kind) => join(directory, `${name}.${constraints}.${kind}`);
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-keyout', path('key')];
  const names = ['-subj', `/CN=${name}`, '-addext', `subjectAltName=DNS:${name}`, '-addext', `basicConstraints=${constraints}`];
  execFileSync('openssl', ['req', '-x509', '-days', '2', ...key, ...names, '-out', path('pem')], { stdio: 'pipe' });
  return { pem: path('pem'), key: path('key') };
}

// Tests mostly wait, so several run at a time.
describe('doctor', { concurrency: 4 }, () => {
  let origin;
  before(async () => {
    origin = await Origin.start([], { WEBHOOK_SECRET: SECRET });
  });
  after(() => origin.close());

  async function examined(name, change) {
    const proxy = await Proxy.start(name, origin.port, change);
    try {
      await until('the proxy serves', async () => (await ask(proxy.url)).status === 200);
      return await doctor(proxy.url);
    } finally {
      await proxy.close();
    }
  }

  /** A target for a proxy instead of hookcast, and how to stop it. */
  async function upstream(kind) {
    if (kind === undefined) return { port: origin.port, close() {} };
    if (kind === 'closed') return { port: await freePort(), close() {} };
    const sockets = new Set();
    const server =
      kind === 'silent'
        ? createServer()
        : createHttpServer((_, answer) => {
            answer.writeHead(404, { 'Content-Type': 'application/json; charset=utf-8' }).end('{"error":"Not found"}');
          });
    server.on('connection', (socket) => sockets.add(socket.on('error', () => {})));
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const close = () => {
      server.close();
      for (const socket of sockets) socket.destroy();
    };
    return { port: server.address().port, close };
  }

  for (const name of PROXIES) {
    test(`${name} as recommended is good`, async () => {
      const { status, text } = await examined(name);
      console.log(`\n--- ${name}, as recommended\n${text}`);
      assert.equal(status, 0, text);
      assert.deepEqual(subjects(text, 'FAILED'), []);
      assert.deepEqual(subjects(text, 'note'), []);
      assert.match(text, /This posts 4 messages to a session of its own/);
    });
  }

  test('README.md shows the table of broken proxies', () => {
    const page = readFileSync(new URL('README.md', import.meta.url), 'utf8');
    assert.ok(page.includes(`\n${table()}\n`), `README.md lacks:\n${table()}`);
  });

  describe('broken:', { concurrency: 4 }, () => {
    const directory = mkdtempSync(join(tmpdir(), 'hookcast-fronting-'));
    after(() => rmSync(directory, { recursive: true }));
    const { pem, key } = certificate(directory, 'localhost');

    for (const row of BROKEN) {
      test(row.what, async () => {
        const target = await upstream(row.upstream);
        const withTls = `listen 8080 ssl; ssl_certificate ${pem}; ssl_certificate_key ${key};`;
        const change = (config) => {
          const changed = (row.change ?? ((same) => same))(config);
          const broken = row.tls ? config.replace('listen 8080;', withTls) : changed;
          assert.ok(broken !== config || !(row.change || row.tls), 'the configuration is unchanged');
          return broken.replaceAll('CACHE', join(directory, 'cache'));
        };
        const proxy =
          row.proxy === 'holding'
            ? await HoldingProxy.start(target.port, row.untilBytes)
            : await Proxy.start(row.proxy, target.port, change);
        try {
          const expected = row.failed.includes('address') ? undefined : 200;
          if (expected) await until('the proxy serves', async () => (await ask(proxy.url)).status === expected);
          const { status, checks, end, text } = await examine(proxy.url);
          console.log(`\n--- ${row.what}\n${text}`);
          assert.deepEqual([end.failed, end.noted], [row.failed, row.noted ?? []], text);
          assert.deepEqual([status, end.exit_status], row.failed.length > 0 ? [1, 1] : [0, 0], text);
          const first = checks.find(({ check }) => check === [...row.failed, ...(row.noted ?? [])][0]);
          assert.equal(first?.at_fault, row.atFault, text);
          if (first) {
            assert.ok(first.seen.includes(row.seen), `${row.seen}\n${text}`);
            assert.ok(first.remedy.includes(row.remedy), `${row.remedy}\n${text}`);
          }
        } finally {
          await proxy.close();
          target.close();
        }
      });
    }
  });

  describe('nginx with TLS and HTTP/2', { concurrency: 3 }, () => {
    const directory = mkdtempSync(join(tmpdir(), 'hookcast-fronting-'));
    after(() => rmSync(directory, { recursive: true }));
    const own = certificate(directory, 'localhost');
    const other = certificate(directory, 'other.example');
    const authority = certificate(directory, 'localhost', 'CA:TRUE');

    /** The doctor through it, with one certificate to present and one to trust. */
    async function examinedWith({ pem, key }, trusted) {
      const listen = `listen 8080 ssl http2; ssl_certificate ${pem}; ssl_certificate_key ${key};`;
      const proxy = await Proxy.start('nginx', origin.port, (config) => config.replace('listen 8080;', listen));
      try {
        return await doctor(`https://localhost:${proxy.port}`, undefined, trusted ? ['--ca-file', trusted.pem] : []);
      } finally {
        await proxy.close();
      }
    }

    test('is good', async () => {
      const { status, text } = await examinedWith(own, own);
      console.log(`\n--- nginx with TLS and HTTP/2\n${text}`);
      assert.equal(status, 0, text);
      assert.deepEqual([...subjects(text, 'FAILED'), ...subjects(text, 'note')], []);
    });

    test('with a certificate of an unknown authority', async () => {
      const { status, text } = await examinedWith(own);
      assert.equal(status, 1, text);
      assert.match(text, /address +FAILED .*no authority that is trusted here has signed it.*\n +certificate .*--ca-file/);
    });

    test('with a certificate that is its own authority, as openssl makes them by default', async () => {
      for (const trusted of [undefined, authority]) {
        const { status, text } = await examinedWith(authority, trusted);
        assert.equal(status, 1, text);
        assert.match(text, /address +FAILED .*it is marked as an authority \(CA:TRUE\).*self-signed.*\n +certificate .*CA:FALSE/);
        assert.doesNotMatch(text, /OtherError|CaUsedAsEndEntity/);
      }
    });

    test('with a certificate for another name', async () => {
      const { status, text } = await examinedWith(other, other);
      assert.equal(status, 1, text);
      assert.match(text, /address +FAILED .*another name than localhost.*other\.example/);
    });
  });

  test('the server without a proxy is good; without its secret it is not', async () => {
    const good = await doctor(origin.url);
    assert.equal(good.status, 0, good.text);
    const { status, text } = await doctor(origin.url, {});
    assert.equal(status, 1, text);
    assert.match(text, /post +FAILED +hookcast itself answers 401: the server wants a secret.*\n +command +put it into WEBHOOK_SECRET/);
    assert.doesNotMatch(good.text + text, new RegExp(SECRET));
  });

  test('an unreachable server is reported', async () => {
    const { status, text } = await doctor(`http://127.0.0.1:${await freePort()}`);
    assert.equal(status, 1, text);
    assert.match(text, /address +FAILED +no answer/);
  });

  test('an invalid address is refused', async () => {
    const { status, text } = await doctor('hooks.example');
    assert.equal(status, 2, text);
  });
});
