/** Clients: one that posts, one that reads a stream and records times, one for raw bytes. */

import { once } from 'node:events';
import { request } from 'node:http';
import { connect } from 'node:net';
import { constants, createGunzip } from 'node:zlib';

import { PATIENCE_MS, until } from './process.js';

const API = '/api/webhook';

/** Sends a request on a connection of its own; returns status, headers and the body's text. */
export function ask(url, { method = 'GET', path = API, headers = {}, body } = {}) {
  return new Promise((resolve, reject) => {
    const sent = request(url + path, { method, headers, agent: false, timeout: PATIENCE_MS }, async (response) => {
      try {
        let text = '';
        for await (const data of response) text += data;
        resolve({ status: response.statusCode, headers: response.headers, text });
      } catch (error) {
        reject(error);
      }
    });
    sent.on('error', reject).on('timeout', () => sent.destroy(new Error('no answer')));
    // With `Expect: 100-continue` Node waits for the 100. The proxy may send one, and the server another.
    if (headers.Expect) sent.once('continue', () => sent.end(body)).flushHeaders();
    else sent.end(body);
  });
}

/** Posts a message; returns its id. */
export async function post(url, message, sessionId) {
  const body = JSON.stringify({ message, sessionId });
  const headers = { 'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(body) };
  const answer = await ask(url, { method: 'POST', headers, body });
  if (answer.status !== 200) throw new Error(`${answer.status} ${answer.text}`);
  return JSON.parse(answer.text).messageId;
}

/** An open stream and what it has received. */
export class Stream {
  messages = [];
  connected = 0;
  lastEventId = undefined;
  retryMs = undefined;
  ended = false;
  /** Why it did not end in order. */
  error = undefined;
  #seen = '';
  #request;

  /** Opens a stream and waits for its headers. `onMessage` is called with each message and its time. */
  static async open(url, { query = '', headers = {}, onMessage = () => {} } = {}) {
    const stream = new Stream();
    const sent = request(`${url}${API}/stream${query}`, { headers, agent: false });
    stream.#request = sent;
    sent.end();
    const [response] = await once(sent, 'response', { signal: AbortSignal.timeout(PATIENCE_MS) });
    stream.status = response.statusCode;
    stream.headers = response.headers;
    const isGzip = response.headers['content-encoding'] === 'gzip';
    // Each piece is decoded when it arrives. At the end the trailer is checked.
    const body = isGzip ? response.pipe(createGunzip({ flush: constants.Z_SYNC_FLUSH })) : response;
    body.setEncoding('utf8');
    body.on('data', (text) => stream.#read(text, onMessage));
    for (const part of new Set([response, body])) {
      part.on('error', (error) => (stream.error ??= error.message));
    }
    for (const event of ['end', 'error', 'close']) body.on(event, () => (stream.ended = true));
    response.on('error', () => (stream.ended = true));
    sent.on('error', () => (stream.ended = true));
    return stream;
  }

  #read(text, onMessage) {
    const at = performance.now();
    const blocks = (this.#seen + text).split('\n\n');
    this.#seen = blocks.pop();
    for (const block of blocks) {
      const field = (name) => block.match(new RegExp(`^${name}: (.*)$`, 'm'))?.[1];
      this.lastEventId = field('id') ?? this.lastEventId;
      this.retryMs = Number(field('retry') ?? this.retryMs);
      const data = JSON.parse(field('data') ?? '{}');
      if (data.type === 'connected') this.connected += 1;
      if (data.type !== 'webhook_message') continue;
      this.messages.push(data);
      onMessage(data, at);
    }
  }

  get contents() {
    return this.messages.map(({ content }) => content);
  }

  async isConnected() {
    await until('the stream begins', () => this.connected > 0);
    return this;
  }

  /** Waits for a message. */
  async saw(content) {
    await until(`${content} arrives`, () => this.messages.some((message) => message.content === content));
  }

  close() {
    this.#request.destroy();
  }
}

/** Sends bytes; returns what comes back, until `isWhole` says that it is enough or the end. */
export async function raw(port, bytes, isWhole = () => false) {
  const socket = connect(port, '127.0.0.1');
  await once(socket, 'connect');
  socket.setEncoding('utf8').setTimeout(PATIENCE_MS, () => socket.destroy(new Error('no answer')));
  socket.write(bytes);
  let text = '';
  for await (const data of socket) {
    text += data;
    if (isWhole(text)) break;
  }
  socket.destroy();
  return text;
}
