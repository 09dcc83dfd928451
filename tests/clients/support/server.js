/** Starts and stops the real server; posts to it. */

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

export const STREAM = '/api/webhook/stream';

const BINARY = process.env.HOOKCAST_BIN ?? new URL('../../../target/debug/hookcast', import.meta.url).pathname;

/** A server with a ring of its own, which `restart` opens again on another port. */
export class Server {
  #directory = mkdtempSync(join(tmpdir(), 'hookcast-clients-'));
  #flags;
  #process;

  static async start(...flags) {
    const server = new Server();
    server.#flags = flags;
    await server.restart();
    return server;
  }

  async restart() {
    const flags = ['--listen', '127.0.0.1:0', '--ring', join(this.#directory, 'ring'), '--shards', '1'];
    if (process.env.STREAMS === 'gzip') flags.push('--compress-streams');
    const child = spawn(BINARY, [...flags, '--log-format', 'json', ...this.#flags], {
      env: { PATH: process.env.PATH },
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    this.#process = child;
    const log = [];
    this.port = await new Promise((resolve, reject) => {
      child.once('error', reject);
      child.once('exit', () => reject(new Error(`the server did not start:\n${log.join('\n')}`)));
      createInterface(child.stderr).on('line', (line) => {
        log.push(line);
        const [, port] = /"listening".*"address":"[^"]*:(\d+)"/.exec(line) ?? [];
        if (port) resolve(Number(port));
      });
    });
  }

  /** Sends SIGTERM; the result resolves at the end of the process. */
  drain() {
    return this.#end('SIGTERM');
  }

  async close() {
    await this.#end('SIGKILL');
    rmSync(this.#directory, { recursive: true, force: true });
  }

  async #end(signal) {
    const child = this.#process;
    if (child.exitCode !== null || child.signalCode !== null) return;
    const exit = once(child, 'exit');
    child.kill(signal);
    await exit;
  }

  /** Posts one message; returns status and body. */
  async post(message) {
    const body = JSON.stringify({ message });
    const [status, text] = await ask(this.port, '/api/webhook', { method: 'POST', body });
    return { status, ...JSON.parse(text) };
  }

  /** Posts `count` messages, numbered from 1. */
  async postNumbered(count) {
    for (let number = 1; number <= count; number += 1) await this.post(`message ${number}`);
  }

  /** The history, oldest first, with its event ids; retried until a full server has a place. */
  async history() {
    for (;;) {
      const [status, text] = await ask(this.port, '/api/webhook/messages');
      if (status === 200) return JSON.parse(text).messages;
    }
  }

  /** Opens a stream and keeps it, once the server has a place for it. */
  async occupy() {
    for (;;) {
      const sent = request({ port: this.port, host: '127.0.0.1', path: STREAM, agent: false });
      sent.on('error', () => {}).end();
      const [response] = await once(sent, 'response');
      response.on('error', () => {});
      const [data] = await once(response, 'data');
      if (String(data).includes('"connected"')) return sent;
      sent.destroy();
    }
  }
}

function ask(port, path, { method = 'GET', body } = {}) {
  return new Promise((resolve, reject) => {
    const sent = request({ port, host: '127.0.0.1', path, method, agent: false }, async (response) => {
      try {
        const parts = await response.toArray();
        resolve([response.statusCode, Buffer.concat(parts).toString()]);
      } catch (error) {
        reject(error);
      }
    });
    sent.on('error', reject).end(body);
  });
}
