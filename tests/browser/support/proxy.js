/**
 * A TCP proxy with the faults of networks: it cuts, freezes and refuses connections, or answers in place of the
 * server.
 */

import net from 'node:net';
import { EventEmitter, once } from 'node:events';

export class Proxy extends EventEmitter {
  #listener = net.createServer({ allowHalfOpen: true }, (client) => this.#accept(client));
  /** @type {Set<{ client: net.Socket, server: net.Socket, stream: boolean }>} */
  #pairs = new Set();
  #targetPort;
  /** The fate of new connections: 'pass', 'refuse', or the text of an answer. */
  #mode = 'pass';
  /** The beginnings of the requests with that answer; others pass. */
  #answered = /^/;
  /** The targets of all stream requests so far. */
  streamRequests = [];

  static async start(targetPort) {
    const proxy = new Proxy();
    proxy.#targetPort = targetPort;
    proxy.#listener.listen(0, '127.0.0.1');
    await once(proxy.#listener, 'listening');
    proxy.port = proxy.#listener.address().port;
    proxy.url = `http://127.0.0.1:${proxy.port}/`;
    return proxy;
  }

  /** Directs new connections to another port. */
  retarget(port) {
    this.#targetPort = port;
  }

  pass() {
    this.#mode = 'pass';
  }

  /** Resets new connections. */
  refuse() {
    this.#mode = 'refuse';
  }

  /** Answers every request on new connections with `text`, or only those with one of these beginnings, and closes. */
  answer(text, answered = /^/) {
    this.#mode = text;
    this.#answered = answered;
  }

  /** Resets all connections. */
  cut() {
    for (const { client, server } of this.#pairs) {
      client.resetAndDestroy();
      server.resetAndDestroy();
    }
    this.#pairs.clear();
  }

  /** Resets all connections except streams. */
  cutOthers() {
    for (const pair of this.#pairs) {
      if (pair.stream) continue;
      pair.client.resetAndDestroy();
      pair.server.resetAndDestroy();
      this.#pairs.delete(pair);
    }
  }

  /** Stops forwarding on existing streams without closing them. */
  freezeStreams() {
    for (const { client, server, stream } of this.#pairs) {
      if (!stream) continue;
      client.unpipe(server).pause();
      server.unpipe(client).pause();
    }
  }

  /** Streams open now. */
  get openStreams() {
    return [...this.#pairs].filter(({ stream }) => stream).length;
  }

  /** Resolves once `count` streams are open. */
  async streams(count) {
    while (this.openStreams !== count) await once(this, 'change');
  }

  async close() {
    this.#listener.close();
    this.cut();
  }

  #accept(client) {
    client.on('error', () => {});
    if (this.#mode === 'refuse') return client.resetAndDestroy();
    if (this.#mode === 'pass') return this.#pass(client);
    const [answer, answered] = [this.#mode, this.#answered];
    client.once('data', (bytes) => {
      if (answered.test(bytes.toString('latin1'))) return client.end(answer);
      client.pause().unshift(bytes);
      this.#pass(client);
    });
  }

  #pass(client) {
    const server = net.connect({ port: this.#targetPort, host: '127.0.0.1', allowHalfOpen: true });
    const pair = { client, server, stream: false };
    this.#pairs.add(pair);
    client.on('data', (bytes) => this.#note(pair, bytes));
    client.pipe(server);
    server.pipe(client);
    const gone = () => {
      if (!this.#pairs.delete(pair)) return;
      client.destroy();
      server.destroy();
      this.emit('change');
    };
    server.on('error', () => client.resetAndDestroy());
    client.on('close', gone);
    server.on('close', gone);
  }

  #note(pair, bytes) {
    const [, target] = /^GET (\S*\/stream\S*) /.exec(bytes.toString('latin1', 0, 4_096)) ?? [];
    if (!target) return;
    pair.stream = true;
    this.streamRequests.push(target);
    this.emit('change');
  }
}
