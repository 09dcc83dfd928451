/** The clients: the command of each, and its pinned version. */

import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';

const here = new URL('../', import.meta.url).pathname;
const build = process.env.CLIENTS_BUILD ?? new URL('../../../target/clients', import.meta.url).pathname;
const text = (file) => readFileSync(here + file, 'utf8');

const pypi = (name, file = 'requirements.txt') => text(file).match(new RegExp(`^${name}==(\\S+)`, 'm'))[1];
const npm = (name) => JSON.parse(text('package-lock.json')).packages[`node_modules/${name}`].version;
const crate = (name) => text('rust/Cargo.lock').match(new RegExp(`name = "${name}"\nversion = "(.*)"`))[1];
const debian = (name) => execFileSync('dpkg-query', ['-W', '-f', '${Version}', name], { encoding: 'utf8' });

const python = (file) => [`${build}/python/bin/python3`, `${here}python/${file}.py`];
const node = (file) => [process.execPath, `${here}node/${file}`];

export const CLIENTS = [
  { name: 'httpx-sse', version: pypi('httpx-sse'), command: python('httpx_sse_client') },
  { name: 'sseclient-py', version: pypi('sseclient-py'), command: python('sseclient_py') },
  { name: 'sseclient', version: pypi('sseclient', 'requirements-sseclient.txt'), command: python('sseclient_mozilla') },
  { name: 'requests-sse', version: pypi('requests-sse'), command: python('requests_sse_client') },
  { name: 'requests, `iter_lines`', version: pypi('requests'), command: python('requests_lines') },
  { name: 'aiohttp-sse-client', version: pypi('aiohttp-sse-client'), command: python('aiohttp_sse') },
  { name: 'aiohttp-sse-client2', version: pypi('aiohttp-sse-client2'), command: python('aiohttp_sse2') },
  { name: 'openai, `SSEDecoder`', version: pypi('openai'), command: python('openai_decoder') },
  { name: 'eventsource', version: npm('eventsource-2'), command: node('eventsource-2.cjs') },
  { name: 'eventsource', version: npm('eventsource'), command: node('eventsource.js') },
  { name: 'launchdarkly-eventsource', version: npm('launchdarkly-eventsource'), command: node('launchdarkly.cjs') },
  { name: '@microsoft/fetch-event-source', version: npm('@microsoft/fetch-event-source'), command: node('fetch-event-source.cjs') },
  { name: 'event-source-polyfill', version: npm('event-source-polyfill'), command: node('polyfill.cjs') },
  { name: 'eventsource-parser', version: npm('eventsource-parser'), command: node('parser.js') },
  { name: 'donovanhide/eventsource', version: debian('golang-github-donovanhide-eventsource-dev'), command: [`${build}/go/donovanhide`] },
  { name: 'Go, `bufio.Scanner`', version: '', command: [`${build}/go/scanner`] },
  { name: 'Java, `java.net.http` by lines', version: '', command: ['java', '-Xshare:auto', '-XX:TieredStopAtLevel=1', '-cp', `${build}/java`, 'Lines'] },
  { name: 'reqwest-eventsource', version: crate('reqwest-eventsource'), command: [`${build}/rust/debug/reqwest-eventsource`] },
  { name: 'eventsource-client', version: crate('eventsource-client'), command: [`${build}/rust/debug/eventsource-client`] },
];
