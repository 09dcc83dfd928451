/**
 * The table of JSON bodies for the server (tests/judges/json/bodies.table), checked by V8's JSON and UTF-8
 * parsers: they accept the bodies that the table calls valid, and refuse the invalid ones.
 */

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { it } from 'node:test';

const table = readFileSync(new URL('../judges/json/bodies.table', import.meta.url), 'utf8');

const PLAIN = { r: '\r', n: '\n', t: '\t', 0: '\0', '\\': '\\' };

/** The bytes of a text with escapes (see tests/judges/corpus.rs), as Latin-1. */
function unescape(text) {
  return Buffer.from(text, 'utf8')
    .toString('latin1')
    .replace(/\\(?:x([0-9a-f]{2})|\{(.*?)\*(\d+)\}|([rnt0\\]))/g, (_, hex, unit, count, plain) => {
      if (hex !== undefined) return String.fromCharCode(parseInt(hex, 16));
      if (unit !== undefined) return unescape(unit).repeat(Number(count));
      return PLAIN[plain];
    });
}

/** Whether V8 accepts a body, given as Latin-1. */
function isJson(body) {
  try {
    JSON.parse(new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(Buffer.from(body, 'latin1')));
    return true;
  } catch {
    return false;
  }
}

it('the JSON table is right about what is JSON', () => {
  let judged = 0;
  for (const line of table.split('\n')) {
    const row = /^([a-z])_(\S+) +(value|text|body) {2,3}(.*)$/.exec(line);
    if (!row) continue;
    const [, verdict, name, kind, rest] = row;
    const at = rest.lastIndexOf(' => ');
    const bytes = unescape(at < 0 ? rest : rest.slice(0, at));
    const body = { value: `{"message":"m","x":${bytes}}`, text: `{"message":${bytes}}`, body: bytes }[kind];
    if (verdict === 'i') continue;
    judged += 1;
    assert.equal(isJson(body), verdict !== 'n', name);
  }
  assert.ok(judged >= 300, `${judged} rows`);
});
