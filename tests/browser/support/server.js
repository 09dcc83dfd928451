/** Starts and stops the real server. */

import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { once } from 'node:events';

const BINARY = process.env.HOOKCAST_BIN ?? new URL('../../../target/debug/hookcast', import.meta.url).pathname;

/** A server with a ring of its own. `restart` starts it again on the same ring, on another port. */
export class Server {
  #dir = mkdtempSync(join(tmpdir(), 'hookcast-browser-'));
  #flags;
  #env;
  #process;

  static async start(flags = [], env = {}) {
    const server = new Server(flags, env);
    await server.restart();
    return server;
  }

  /** Starts a server that is stopped after the test. */
  static async startFor(t, flags, env) {
    const server = await Server.start(flags, env);
    t.after(() => server.close());
    return server;
  }

  constructor(flags, env) {
    this.#flags = flags;
    this.#env = env;
  }

  async restart() {
    const child = spawn(
      BINARY,
      ['--listen', '127.0.0.1:0', '--ring', join(this.#dir, 'test.ring'), '--log-format', 'json', ...this.#flags],
      { env: { PATH: process.env.PATH, ...this.#env }, stdio: ['ignore', 'ignore', 'pipe'] },
    );
    this.#process = child;
    const lines = [];
    const address = await new Promise((resolve, reject) => {
      child.once('error', reject);
      child.once('exit', () => reject(new Error(`the server did not start:\n${lines.join('\n')}`)));
      createInterface(child.stderr).on('line', (line) => {
        lines.push(line);
        const admin = addressIn(line, 'metrics and health');
        if (admin) this.adminUrl = `http://${admin}/`;
        const found = addressIn(line, 'listening');
        if (found) resolve(found);
      });
    });
    this.port = Number(address.split(':').at(-1));
    this.url = `http://127.0.0.1:${this.port}/`;
  }

  /** Kills the process, like a power failure. */
  async kill() {
    await this.#end('SIGKILL');
  }

  /** Sends SIGTERM; resolves at the end of the process. */
  async drain() {
    await this.#end('SIGTERM');
  }

  async close() {
    await this.kill();
    rmSync(this.#dir, { recursive: true, force: true });
  }

  async #end(signal) {
    const child = this.#process;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const exit = once(child, 'exit');
    child.kill(signal);
    await exit;
  }

  /** Posts one message and returns the answer's body. */
  async post(message, { sessionId, secret } = {}) {
    const response = await fetch(new URL('api/webhook', this.url), {
      method: 'POST',
      headers: { 'Content-Type': 'application/json', ...(secret && { 'X-Webhook-Secret': secret }) },
      body: JSON.stringify({ message, sessionId }),
    });
    const answer = await response.json();
    if (!answer.success) throw new Error(`${response.status} ${JSON.stringify(answer)}`);
    return answer;
  }

  /** Posts `messages` in this order. */
  async postAll(messages, options) {
    for (const message of messages) await this.post(message, options);
  }
}

function addressIn(line, message) {
  try {
    const entry = JSON.parse(line);
    const fields = { ...entry, ...entry.fields };
    return fields.message === message && String(fields.address);
  } catch {
    return undefined;
  }
}
