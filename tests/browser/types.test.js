/** Type checks: the comments of the page's modules in general, and those of hookcast.js strictly. */

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { it } from 'node:test';

const here = new URL('.', import.meta.url).pathname;
const source = new URL('../../src/chat/', import.meta.url).pathname;
const COMMON = {
  ...{ allowJs: true, checkJs: true, strict: true },
  ...{ target: 'es2024', module: 'esnext', moduleResolution: 'bundler', lib: ['es2024', 'dom', 'dom.iterable'], types: [] },
};

/** Compiles `files` and passes the directory of the output to `use`. */
function compile(options, files, use = () => {}) {
  const dir = mkdtempSync(join(tmpdir(), 'hookcast-types-'));
  try {
    const config = join(dir, 'tsconfig.json');
    const compilerOptions = { ...COMMON, ...options, rootDir: source, outDir: dir };
    writeFileSync(config, JSON.stringify({ compilerOptions, files: files.map((file) => join(source, file)) }));
    const { stdout, stderr, status } = spawnSync(join(here, 'node_modules/.bin/tsc'), ['-p', config], { encoding: 'utf8' });
    assert.equal(status, 0, stdout + stderr);
    use(dir);
  } finally {
    rmSync(dir, { recursive: true });
  }
}

it('hookcast.js has complete types', () => compile({ noEmit: true }, ['hookcast.js']));
it('the types of all modules of the page match', () => {
  compile({ noEmit: true, noImplicitAny: false }, ['app.js', 'worker.js', 'theme.js']);
});
// WRITE_TYPES=1 writes it anew.
it('hookcast.d.ts matches the output of the compiler for hookcast.js', () => {
  const options = { declaration: true, emitDeclarationOnly: true, stripInternal: true };
  compile(options, ['hookcast.js'], (dir) => {
    const made = readFileSync(join(dir, 'hookcast.d.ts'), 'utf8');
    if (process.env.WRITE_TYPES) writeFileSync(join(source, 'hookcast.d.ts'), made);
    assert.equal(readFileSync(join(source, 'hookcast.d.ts'), 'utf8'), made);
  });
});
