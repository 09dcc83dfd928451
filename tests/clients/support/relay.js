/**
 * A TCP relay between client and server. It records what the server sends, cuts connections at a chosen byte,
 * and splits a body into chunks of one byte.
 */

import { EventEmitter, once } from 'node:events';
import net from 'node:net';

/** Cuts a stream right after its `connected` event. */
export const afterConnected = (text) => endOf(text, /"type":"connected"[^\n]*\n(id: [^\n]*\n)?\n\r\n/);

/** Cuts a stream in the middle of `marker`. */
export const inside = (marker) => (text) => endOf(text, new RegExp(marker.slice(0, marker.length / 2)));

export class Relay extends EventEmitter {
  #listener = net.createServer({ allowHalfOpen: true }, (client) => this.#accept(client));
  #target;
  #splits;
  #held = [];
  /** Cuts of later streams: functions from the sent text to the position of the cut, or -1. */
  cuts = [];
  /** All connections so far; `text` is what the server sent. */
  connections = [];

  /** Relays to `port`; with `splits`, bodies are sent in chunks of one byte. */
  static async start(port, { splits = false } = {}) {
    const relay = new Relay();
    relay.#target = port;
    relay.#splits = splits;
    relay.#listener.listen(0, '127.0.0.1');
    await once(relay.#listener, 'listening');
    relay.port = relay.#listener.address().port;
    return relay;
  }

  /** Holds new connections until `retarget`. */
  hold() {
    this.#target = undefined;
  }

  retarget(port) {
    this.#target = port;
    for (const { client, openedAt } of this.#held.splice(0)) this.#accept(client, openedAt);
  }

  get heartbeats() {
    return this.connections.reduce((count, { text }) => count + text.split(': heartbeat\n').length - 1, 0);
  }

  close() {
    this.#listener.close();
    for (const { client, server } of this.connections) {
      client.destroy();
      server.destroy();
    }
    for (const { client } of this.#held) client.destroy();
  }

  #accept(client, openedAt = performance.now()) {
    client.on('error', () => {});
    if (!this.#target) return this.#held.push({ client, openedAt });
    const server = net.connect(this.#target, '127.0.0.1');
    const connection = { client, server, text: '', openedAt, endedAt: undefined };
    this.connections.push(connection);
    client.setNoDelay(true).pipe(server);
    const splitter = this.#splits ? new Splitter(client) : client;
    server.on('data', (data) => this.#forward(connection, splitter, data));
    server.on('error', () => client.resetAndDestroy());
    server.on('end', () => {
      client.end();
      this.#ended(connection);
    });
    client.on('close', () => server.destroy());
    this.emit('change');
  }

  #forward(connection, to, data) {
    if (connection.endedAt) return;
    const before = connection.text.length;
    connection.text += data.toString('latin1');
    const at = this.cuts[0]?.(connection.text) ?? -1;
    if (at < 0) {
      to.write(data);
      // A keep-alive connection continues after the last chunk.
      if (connection.text.endsWith('\n0\r\n\r\n')) this.#ended(connection);
    } else {
      this.cuts.shift();
      to.write(data.subarray(0, Math.max(0, at - before)));
      connection.client.end();
      connection.server.destroy();
      this.#ended(connection);
    }
    this.emit('change');
  }

  #ended(connection) {
    connection.endedAt ??= performance.now();
    this.emit('change');
  }
}

/** The `retry` at the end of a connection's stream, in milliseconds. */
export function lastRetryMs(connection) {
  return Number(connection.text.match(/retry: (\d+)\n/g)?.at(-1).match(/\d+/)[0]);
}

/** Forwards a chunked response in chunks of one byte, each in a write of its own. */
class Splitter {
  #to;
  #rest = Buffer.alloc(0);
  #inBody = false;

  constructor(to) {
    this.#to = to;
  }

  write(data) {
    this.#rest = Buffer.concat([this.#rest, data]);
    while (this.#inBody ? this.#chunk() : this.#head());
  }

  #head() {
    const end = this.#rest.indexOf('\r\n\r\n');
    if (end < 0) return false;
    this.#to.write(this.#take(end + 4));
    this.#inBody = true;
    return true;
  }

  #chunk() {
    const lineEnd = this.#rest.indexOf('\r\n');
    const size = parseInt(this.#rest.toString('latin1', 0, Math.max(lineEnd, 0)), 16);
    if (lineEnd < 0 || this.#rest.length < lineEnd + 4 + size) return false;
    const chunk = this.#take(lineEnd + 4 + size).subarray(lineEnd + 2, lineEnd + 2 + size);
    if (size === 0) this.#to.write('0\r\n\r\n');
    for (const byte of chunk) this.#to.write(Buffer.from([0x31, 13, 10, byte, 13, 10]));
    return true;
  }

  #take(length) {
    const taken = this.#rest.subarray(0, length);
    this.#rest = this.#rest.subarray(length);
    return taken;
  }
}

function endOf(text, pattern) {
  const match = pattern.exec(text);
  return match ? match.index + match[0].length : -1;
}
