/** The pages show the tested configurations, word for word. */

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';

import { BALANCERS, fileOf, PROXIES, recommended } from './support/proxies.js';

const readme = readFileSync(new URL('README.md', import.meta.url), 'utf8');

for (const name of PROXIES) {
  test(`README.md shows ${fileOf(name)}`, () => {
    assert.ok(readme.includes(`\n${recommended(fileOf(name)).trim()}\n\`\`\``), fileOf(name));
  });
}

const busPage = readFileSync(new URL('../../src/bus/README.md', import.meta.url), 'utf8');

for (const file of Object.values(BALANCERS)) {
  test(`src/bus/README.md shows ${file}`, () => {
    assert.ok(busPage.includes(`\n${recommended(file).trim()}\n\`\`\``), file);
  });
}
