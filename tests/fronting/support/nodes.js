/** Nodes on one bus: `redis-server`, and servers at one port of several loopback addresses. */

import { join } from 'node:path';

import { BINARY } from './origin.js';
import { freePort, Process, until } from './process.js';

/** The engine of the bus. Its port and its directory stay the same over restarts. */
export class Engine {
  #process = new Process();

  static async start() {
    const engine = new Engine();
    engine.port = await freePort();
    await engine.start();
    return engine;
  }

  async start() {
    const place = ['--port', `${this.port}`, '--bind', '127.0.0.1', '--dir', this.#process.directory];
    this.#process.start('redis-server', [...place, '--appendonly', 'yes', '--save', '']);
    await this.#process.listens(this.port);
  }

  async kill() {
    await this.#process.end('SIGKILL');
  }

  async close() {
    await this.#process.close('SIGKILL');
  }
}

/** One node. All have the same two ports, each at an address of its own, as on machines. */
export class Node {
  #process = new Process();

  constructor(address, ports, engine) {
    Object.assign(this, { address, ports, engine });
  }

  async start() {
    const bus = `redis://127.0.0.1:${this.engine.port}/fronting`;
    const addresses = ['--listen', `${this.address}:${this.ports.listen}`, '--admin', `${this.address}:${this.ports.admin}`];
    const ring = join(this.#process.directory, 'test.ring');
    this.#process.start(BINARY, [...addresses, '--ring', ring, '--bus', bus, '--drain', '3s']);
    await until(`${this.address} is ready`, async () => (await this.ready()) === 200);
  }

  get url() {
    return `http://${this.address}:${this.ports.listen}`;
  }

  /** The status of a health check, or 0 without an answer. */
  async ready(query = '') {
    const answer = await fetch(`http://${this.address}:${this.ports.admin}/readyz${query}`).catch(() => undefined);
    await answer?.arrayBuffer();
    return answer?.status ?? 0;
  }

  /** The value of a series, or the sum of those that begin like this. */
  async metric(name) {
    const text = await (await fetch(`http://${this.address}:${this.ports.admin}/metrics`)).text();
    const lines = text.split('\n').filter((line) => line.startsWith(name));
    return lines.reduce((sum, line) => sum + Number(line.split(' ').at(-1)), 0);
  }

  streams() {
    return this.metric('hookcast_streams ');
  }

  /** Begins a drain; returns a promise of its end. */
  drain() {
    return this.#process.end('SIGTERM');
  }

  async kill() {
    await this.#process.end('SIGKILL');
  }

  async close() {
    await this.#process.close('SIGKILL');
  }
}
