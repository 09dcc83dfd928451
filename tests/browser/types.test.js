/** The types in the comments hold: the page's in general, those of hookcast.js strictly. */

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { it } from 'node:test';

const here = new URL('.', import.meta.url).pathname;
const source = new URL('../../src/window/', import.meta.url).pathname;

function check(noImplicitAny, ...files) {
  const compilerOptions = {
    ...{ allowJs: true, checkJs: true, noEmit: true, strict: true, noImplicitAny },
    ...{ target: 'es2024', module: 'esnext', moduleResolution: 'bundler', lib: ['es2024', 'dom', 'dom.iterable'], types: [] },
  };
  const dir = mkdtempSync(join(tmpdir(), 'hookcast-types-'));
  try {
    const config = join(dir, 'tsconfig.json');
    writeFileSync(config, JSON.stringify({ compilerOptions, files: files.map((file) => join(source, file)) }));
    const { stdout, stderr, status } = spawnSync(join(here, 'node_modules/.bin/tsc'), ['-p', config], { encoding: 'utf8' });
    assert.equal(status, 0, stdout + stderr);
  } finally {
    rmSync(dir, { recursive: true });
  }
}

it('hookcast.js is typed throughout', () => check(true, 'hookcast.js'));
it('the modules of the page fit together', () => check(false, 'app.js', 'worker.js', 'theme.js'));
