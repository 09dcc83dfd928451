/** Servers that follow one another at one address under load, in both ways. */

import { join } from 'node:path';

import { BINARY } from './origin.js';
import { freePort, Process, until } from './process.js';

const SUPERVISOR = new URL('supervisor.pl', import.meta.url).pathname;
const FLAGS = ['--drain', '300ms', '--shards', '2', '--log-format', 'json'];

class Succession {
  process = new Process();

  static async start() {
    const servers = new this();
    servers.port = await freePort();
    servers.begin([...FLAGS, '--ring', join(servers.process.directory, 'test.ring')]);
    await servers.logged('listening', 1);
    return servers;
  }

  get url() {
    return `http://127.0.0.1:${this.port}`;
  }

  /** Waits for the nth log line whose message begins like this. */
  async logged(message, nth) {
    const start = `"message":"${message}`;
    const matching = () => this.process.log.split('\n').filter((line) => line.includes(start));
    await until(`${message}, ${nth} times`, () => matching().length >= nth);
    return JSON.parse(matching()[nth - 1]);
  }

  /** The warnings and errors of the log. */
  get troubles() {
    return this.process.log.split('\n').filter((line) => /"level":"(WARN|ERROR)"/.test(line));
  }
}

/** On SIGUSR2 the server starts its successor and passes on its sockets and connections. */
export class HandedOver extends Succession {
  static title = 'handed over (SIGUSR2)';
  #pid;

  begin(flags) {
    this.process.start(BINARY, ['--listen', `127.0.0.1:${this.port}`, ...flags]);
    this.#pid = this.process.pid;
  }

  async restart(nth) {
    process.kill(this.#pid, 'SIGUSR2');
    this.#pid = (await this.logged('handed over', nth)).pid;
    await this.logged('the predecessor has ended', nth);
  }

  async close() {
    if (this.#pid !== this.process.pid) process.kill(this.#pid, 'SIGKILL');
    await this.process.close('SIGKILL');
  }
}

/** A supervisor holds the socket, stops the server with SIGTERM and starts another. */
export class Supervised extends Succession {
  static title = 'restarted by a supervisor that holds the socket';

  begin(flags) {
    this.process.start(SUPERVISOR, [this.port, BINARY, ...flags]);
  }

  async restart(nth) {
    process.kill(this.process.pid, 'SIGHUP');
    await this.logged('listening', nth + 1);
  }

  async close() {
    await this.process.close('SIGTERM');
  }
}
