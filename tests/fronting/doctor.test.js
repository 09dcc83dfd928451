/**
 * `hookcast doctor` through the recommended proxies, which it finds good, and through ones that were
 * broken on purpose. What it said is printed.
 */

import assert from 'node:assert/strict';
import { execFile, execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';

import { ask } from './support/client.js';
import { BINARY, Origin } from './support/origin.js';
import { freePort, until } from './support/process.js';
import { PROXIES, Proxy } from './support/proxies.js';

const SECRET = 'correct horse';

/** Runs the doctor; returns its exit status and the lines of its report. */
function doctor(url, env = { WEBHOOK_SECRET: SECRET }, flags = []) {
  return new Promise((resolve) => {
    const options = { env: { PATH: process.env.PATH, ...env } };
    execFile(BINARY, ['doctor', url, '--watch', '7s', ...flags], options, (error, stdout, stderr) => {
      resolve({ status: error ? error.code : 0, text: stdout + stderr });
    });
  });
}

/** The subjects of a verdict. */
const subjects = (text, verdict) =>
  text.split('\n').flatMap((line) => line.match(new RegExp(`^(\\S+) +${verdict} `))?.[1] ?? []);

/** What each is, and what the doctor has to find. */
const BROKEN = {
  'nginx that buffers': {
    proxy: 'nginx',
    // Seen: towards an origin that sends chunks, nginx passes each of them on even so.
    change: (config) =>
      config
        .replace('proxy_http_version 1.1;', '')
        .replace('proxy_buffering off;', 'proxy_ignore_headers X-Accel-Buffering;'),
    failed: ['buffering'],
    words: /proxy_buffering off/,
  },
  'nginx with gzip on': {
    proxy: 'nginx',
    change: (config) =>
      config.replace('gzip off;', 'gzip on; gzip_types text/event-stream; gzip_min_length 0; gzip_proxied any;'),
    failed: ['compression'],
    words: /gzip off/,
  },
  'nginx with an idle timeout below the heartbeat': {
    proxy: 'nginx',
    change: (config) => config.replace('proxy_read_timeout 60s', 'proxy_read_timeout 1s'),
    failed: ['cut'],
    words: /proxy_read_timeout/,
  },
  'nginx that strips Last-Event-ID and Cache-Control': {
    proxy: 'nginx',
    change: (config) =>
      config.replace('gzip off;', 'gzip off; proxy_set_header Last-Event-ID ""; proxy_hide_header Cache-Control;'),
    failed: ['headers', 'resume', 'history'],
    words: /forward all request headers/,
  },
  // Seen: mod_deflate heeds no-transform as little, and waits for 8 KiB.
  'Apache with SetOutputFilter DEFLATE': {
    proxy: 'apache',
    change: (config) => config.replace('# here', '<Location />\nSetOutputFilter DEFLATE\n</Location>'),
    failed: ['buffering', 'compression', 'heartbeat'],
    words: /Apache: SetEnvIf Request_URI "\^\/api\/webhook" no-gzip/,
  },
  'Apache with SetOutputFilter DEFLATE and the remedy': {
    proxy: 'apache',
    change: (config) =>
      config.replace(
        '# here',
        '<Location />\nSetOutputFilter DEFLATE\n</Location>\nSetEnvIf Request_URI "^/api/webhook" no-gzip',
      ),
    failed: [],
    words: /compression +ok/,
  },
  'HAProxy without http-no-delay': {
    proxy: 'haproxy',
    change: (config) => config.replace('option http-no-delay', '#'),
    failed: [],
    noted: ['delay'],
    words: /option http-no-delay/,
  },
};

/** A certificate for a name, signed by itself, and its key: files in a directory. */
function certificate(directory, name) {
  const path = (kind) => join(directory, `${name}.${kind}`);
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-keyout', path('key')];
  const names = ['-subj', `/CN=${name}`, '-addext', `subjectAltName=DNS:${name}`, '-addext', 'basicConstraints=CA:FALSE'];
  execFileSync('openssl', ['req', '-x509', '-days', '2', ...key, ...names, '-out', path('pem')], { stdio: 'pipe' });
  return { pem: path('pem'), key: path('key') };
}

// It waits most of the time, so several go at once.
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

  for (const [what, { proxy, change, failed, noted = [], words }] of Object.entries(BROKEN)) {
    test(what, async () => {
      const { status, text } = await examined(proxy, change);
      console.log(`\n--- ${what}\n${text}`);
      const found = subjects(text, 'FAILED');
      for (const subject of failed) assert.ok(found.includes(subject), text);
      assert.deepEqual(subjects(text, 'note').filter((subject) => noted.includes(subject)), noted, text);
      assert.equal(status, failed.length > 0 ? 1 : 0, text);
      assert.match(text, words);
    });
  }

  describe('nginx with TLS and HTTP/2', { concurrency: 3 }, () => {
    const directory = mkdtempSync(join(tmpdir(), 'hookcast-fronting-'));
    after(() => rmSync(directory, { recursive: true }));
    const own = certificate(directory, 'localhost');
    const other = certificate(directory, 'other.example');

    /** The doctor through it, with one certificate to show and one to trust. */
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

    test('with a certificate that nobody vouches for', async () => {
      const { status, text } = await examinedWith(own);
      assert.equal(status, 1, text);
      assert.match(text, /address +FAILED .*no authority that is trusted here has signed it.*--ca-file/);
    });

    test('with a certificate for another name', async () => {
      const { status, text } = await examinedWith(other, other);
      assert.equal(status, 1, text);
      assert.match(text, /address +FAILED .*another name than localhost.*other\.example/);
    });
  });

  test('the server itself is good, without its secret it is not', async () => {
    const good = await doctor(origin.url);
    assert.equal(good.status, 0, good.text);
    const { status, text } = await doctor(origin.url, {});
    assert.equal(status, 1, text);
    assert.match(text, /post +FAILED +the server wants a secret/);
    assert.doesNotMatch(good.text + text, new RegExp(SECRET));
  });

  test('where nobody answers, it says so', async () => {
    const { status, text } = await doctor(`http://127.0.0.1:${await freePort()}`);
    assert.equal(status, 1, text);
    assert.match(text, /address +FAILED +no answer/);
  });

  test('what is no address is refused', async () => {
    const { status, text } = await doctor('hooks.example');
    assert.equal(status, 2, text);
  });
});
