/** The table of README.md: reading and writing. */

import { readFileSync, writeFileSync } from 'node:fs';

const README = new URL('../README.md', import.meta.url).pathname;
const BLOCK = /(?<=<!-- clients:begin -->\n)[^]*(?=<!-- clients:end -->)/;
const EXPLAINED = /(?<=^- \*)[a-z ]+(?=\*: )/gm;

/** The table: a map from a client's name and version to its words, by check. */
export function readTable() {
  const lines = readFileSync(README, 'utf8').match(BLOCK)[0].trim().split('\n');
  const [[, , ...checks], , ...rows] = lines.map((line) => line.split('|').slice(1, -1).map((cell) => cell.trim()));
  const entry = ([name, version, ...cells]) => [
    keyOf({ name, version }),
    Object.fromEntries(checks.map((check, at) => [check, cells[at]])),
  ];
  return new Map(rows.map(entry));
}

/** Writes the outcomes of `clients`, a map of that form. */
export function writeTable(clients, checks, outcomes) {
  const row = (cells) => `| ${cells.join(' | ')} |\n`;
  const rows = clients.map((client) => {
    const seen = outcomes.get(keyOf(client));
    return row([client.name, client.version, ...checks.map((check) => seen[check] ?? '')]);
  });
  const head = row(['client', 'version', ...checks]) + `|${'---|'.repeat(checks.length + 2)}\n`;
  writeFileSync(README, readFileSync(README, 'utf8').replace(BLOCK, () => head + rows.join('')));
}

/** The words that README.md explains: the list entries' beginnings in italics. */
export function explained() {
  return readFileSync(README, 'utf8').match(EXPLAINED) ?? [];
}

export function keyOf({ name, version }) {
  return `${name} ${version}`.trim();
}
