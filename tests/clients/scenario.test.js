/** Every client through every check; results must equal the table in README.md. */

import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';

import { CHECKS, run } from './support/checks.js';
import { CLIENTS } from './support/clients.js';
import { explained, keyOf, readTable, writeTable } from './support/table.js';

/** Checks that run at a time. `full` runs beside them, because it waits for half a minute. */
const AT_A_TIME = 4;

/**
 * Every stream is compressed for the clients that ask for it. Two checks read what the server sends, and one client
 * does not decode.
 */
const isCompressed = process.env.STREAMS === 'gzip';
const checks = Object.keys(CHECKS).filter((check) => !(isCompressed && ['heartbeat', 'cut'].includes(check)));
const clients = CLIENTS.filter(({ name }) => !(isCompressed && name === 'sseclient'));

const table = readTable();
const seen = new Map(CLIENTS.map((client) => [keyOf(client), {}]));
const writes = Boolean(process.env.WRITE_TABLE);

describe('clients', { concurrency: true }, () => {
  for (const check of checks.toReversed()) {
    for (const client of clients) test(`${keyOf(client)}: ${check}`, () => judge(client, check));
  }
});

after(() => writes && writeTable(CLIENTS, Object.keys(CHECKS), seen));

test('the table has a row for each client, and no other', () => {
  if (!writes) assert.deepEqual([...table.keys()], CLIENTS.map(keyOf));
});

test('the README explains the words of the table', () => {
  const words = [...table.values()].flatMap((cells) => Object.values(cells)).flatMap((cell) => cell.split(', '));
  const kinds = words.map((word) => word.replace(/ \d+$/, '').replace(/^not .*/, 'not'));
  for (const kind of new Set(kinds)) assert.ok(explained().includes(kind), kind);
});

async function judge(client, check) {
  const place = check === 'full' ? () => {} : await takePlace();
  try {
    const { outcome, cause } = await run(check, client.command);
    seen.get(keyOf(client))[check] = outcome;
    if (!writes) assert.equal(outcome, table.get(keyOf(client))?.[check], cause);
  } finally {
    place();
  }
}

const waiting = [];
let taken = 0;

/** Waits for one of the places; returns the function that frees it. */
async function takePlace() {
  if (taken === AT_A_TIME) await new Promise((resolve) => waiting.push(resolve));
  else taken += 1;
  return () => {
    const next = waiting.shift();
    if (next) next();
    else taken -= 1;
  };
}
