/** The real server, on a port that stays the same over restarts, with its metrics. */

import { join } from 'node:path';

import { freePort, Process } from './process.js';

export const BINARY =
  process.env.HOOKCAST_BIN ?? new URL('../../../target/debug/hookcast', import.meta.url).pathname;

export class Origin {
  #process = new Process();
  #flags;
  #env;

  static async start(flags = [], env = {}) {
    const origin = new Origin();
    origin.#flags = flags;
    origin.#env = env;
    origin.port = await freePort();
    origin.adminPort = await freePort();
    await origin.start();
    return origin;
  }

  /** Starts the server, perhaps with further flags. */
  async start(flags = []) {
    const ring = join(this.#process.directory, 'test.ring');
    const addresses = ['--listen', `127.0.0.1:${this.port}`, '--admin', `127.0.0.1:${this.adminPort}`];
    this.#process.start(BINARY, [...addresses, '--ring', ring, ...this.#flags, ...flags], this.#env);
    await this.#process.listens(this.port);
    await this.#process.listens(this.adminPort);
  }

  /** Ends the server by a drain. */
  async drain() {
    await this.#process.end('SIGTERM');
  }

  async close() {
    await this.#process.close('SIGKILL');
  }

  get url() {
    return `http://127.0.0.1:${this.port}`;
  }

  /** The value of a series, `name` or `name{labels}`; the sum if several begin like this. */
  async metric(name) {
    const text = await (await fetch(`http://127.0.0.1:${this.adminPort}/metrics`)).text();
    const lines = text.split('\n').filter((line) => line.startsWith(`${name} `) || line.startsWith(`${name}{`) || (name.includes('{') && line.startsWith(name)));
    return lines.reduce((sum, line) => sum + Number(line.split(' ').at(-1)), 0);
  }
}
