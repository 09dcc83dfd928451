/** A client's adapter program, and the events that it prints. */

import { spawn } from 'node:child_process';
import { EventEmitter } from 'node:events';
import { createInterface } from 'node:readline';

/** Longest wait for anything: reaching it means that the thing does not happen. */
export const PATIENCE_MS = 60_000;

/** The client did what no check expects; the text is the outcome. */
export class Deviation extends Error {}

export class Adapter extends EventEmitter {
  /** What the client dispatched: `data` as text, and the id that it has for it. */
  events = [];
  /** Errors that the client reported. */
  errors = [];
  /** How the program ended: 'end' after the stream's end, else 'error'. */
  ended = undefined;
  #child;
  #stderr = '';

  constructor([program, ...args], url, lastEventId = '') {
    super();
    const child = spawn(program, [...args, url, lastEventId], { stdio: ['ignore', 'pipe', 'pipe'] });
    this.#child = child;
    child.stderr.on('data', (data) => (this.#stderr += data));
    createInterface(child.stdout).on('line', (line) => this.#line(line));
    // 'close' comes when all that was printed has been read.
    child.on('close', (code) => {
      this.ended ??= 'error';
      if (code !== 0) this.ended = 'error';
      this.emit('change');
    });
    child.on('error', (error) => this.errors.push(String(error)));
  }

  #line(line) {
    const printed = JSON.parse(line);
    if (printed.end) this.ended = 'end';
    else if (printed.error !== undefined) this.errors.push(printed.error);
    else this.events.push(printed);
    this.emit('change');
  }

  /** Events of messages: their objects with the client's `eventId`. Others are not JSON or of another type. */
  get messages() {
    return this.events.flatMap(({ data, id }) => {
      const object = parse(data);
      return object?.type === 'webhook_message' ? [{ ...object, eventId: id }] : [];
    });
  }

  get contents() {
    return this.messages.map(({ content }) => content);
  }

  /** Events of type `type`, such as `connected`. */
  ofType(type) {
    return this.events.map(({ data }) => parse(data)).filter((object) => object?.type === type);
  }

  /** Events whose data is no JSON object: a caller's `JSON.parse` fails on them. */
  get broken() {
    return this.events.filter(({ data }) => parse(data)?.type === undefined);
  }

  /** The id that a caller would resume from. */
  get lastEventId() {
    return this.events.findLast(({ id }) => id)?.id ?? '';
  }

  async saw(content) {
    await this.until(`${content.slice(0, 40)} is dispatched`, () => this.contents.includes(content));
  }

  /** Waits until `probe` holds, which `of` may change too. A program that ends first has failed. */
  async until(what, probe, patienceMs, of) {
    await waitFor([this, of], () => probe() || this.ended, () => what, patienceMs);
    if (!probe()) throw new Deviation('fails', { cause: `it ended before: ${what}` });
  }

  get report() {
    const events = this.events.map(({ data, id }) => `${id}: ${data.slice(0, 100)}`).slice(-10);
    return JSON.stringify({ ended: this.ended, errors: this.errors, events, stderr: this.#stderr.slice(-2_000) });
  }

  close() {
    this.#child.kill('SIGKILL');
  }
}

/** Waits until `probe` holds, asking at each 'change' of `emitters`. */
export async function waitFor(emitters, probe, what, patienceMs = PATIENCE_MS) {
  if (probe()) return;
  const sources = emitters.filter(Boolean);
  let timer;
  let ask;
  try {
    await new Promise((resolve, reject) => {
      const late = () => reject(new Deviation('hangs', { cause: `not within ${patienceMs} ms: ${what()}` }));
      timer = setTimeout(late, patienceMs);
      ask = () => probe() && resolve();
      for (const source of sources) source.on('change', ask);
    });
  } finally {
    clearTimeout(timer);
    for (const source of sources) source.off('change', ask);
  }
}

function parse(text) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
