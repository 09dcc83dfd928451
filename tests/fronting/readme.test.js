/** The page shows the tested configurations, word for word. */

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';

import { fileOf, PROXIES, recommended } from './support/proxies.js';

const readme = readFileSync(new URL('README.md', import.meta.url), 'utf8');

for (const name of PROXIES) {
  test(`README.md shows ${fileOf(name)}`, () => {
    assert.ok(readme.includes(`\n${recommended(fileOf(name)).trim()}\n\`\`\``), fileOf(name));
  });
}
