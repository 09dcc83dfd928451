/** Processes of a test: each has a directory of its own and is stopped by pid. */

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, mkdtempSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

/** Longest wait: reaching it means that the event never comes. */
export const PATIENCE_MS = 30_000;

/** A port without a listener. */
export async function freePort() {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  server.close();
  await once(server, 'close');
  return port;
}

/** Polls `probe` until it is truthy, and returns its value. */
export async function until(what, probe, patienceMs = PATIENCE_MS) {
  const deadline = Date.now() + patienceMs;
  for (;;) {
    const value = await probe();
    if (value) return value;
    if (Date.now() > deadline) throw new Error(`not within ${patienceMs} ms: ${what}`);
    await sleep(10);
  }
}

/** A running program with a directory of its own. */
export class Process {
  #child;
  #log = '';

  constructor() {
    this.directory = mkdtempSync(join(tmpdir(), 'hookcast-fronting-'));
    // Some programs read their files as another user.
    chmodSync(this.directory, 0o755);
  }

  get log() {
    return this.#log;
  }

  start(program, args, env = {}) {
    const child = spawn(program, args, {
      cwd: this.directory,
      env: { PATH: `${process.env.PATH}:/usr/sbin`, HOME: this.directory, ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (data) => (this.#log += data));
    child.once('error', (error) => (this.#log += error));
    this.#child = child;
  }

  /** Waits until the program listens on a port; fails if it ends. */
  async listens(port) {
    await until(`${this.#child.spawnargs.join(' ')} listens on ${port}`, async () => {
      if (this.#hasEnded) throw new Error(`ended at its start: ${this.#log}`);
      const socket = connect(port, '127.0.0.1');
      const outcome = new Promise((resolve) => {
        socket.once('connect', () => resolve(true)).once('error', () => resolve(false));
      });
      const listens = await outcome;
      socket.destroy();
      return listens;
    });
  }

  get pid() {
    return this.#child.pid;
  }

  async end(signal = 'SIGTERM') {
    if (!this.#child || this.#hasEnded) return;
    const exit = once(this.#child, 'exit');
    this.#child.kill(signal);
    const timer = setTimeout(() => this.#child.kill('SIGKILL'), PATIENCE_MS);
    await exit;
    clearTimeout(timer);
  }

  async close(signal) {
    await this.end(signal);
    // Not rmSync: an unlink may take half a second, during which measured events would be delayed.
    await rm(this.directory, { recursive: true, force: true });
  }

  get #hasEnded() {
    return this.#child.exitCode !== null || this.#child.signalCode !== null;
  }
}
