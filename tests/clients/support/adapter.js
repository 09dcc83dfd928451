/** A client's adapter program, and the events that it prints. */

import { spawn } from 'node:child_process';
import { EventEmitter } from 'node:events';
import { createInterface } from 'node:readline';

/** Longest wait: reaching it means that the event never comes. */
export const PATIENCE_MS = 60_000;

/** Behaviour that no check expects; the text is the outcome. */
export class Deviation extends Error {}

export class Adapter extends EventEmitter {
  /** Dispatched events: `data` as text, and the id according to the client. */
  events = [];
  /** Errors that the client reported. */
  errors = [];
  /** The end of the program: 'end' after the stream's end, else 'error'. */
  ended = undefined;
  #child;
  #stderr = '';

  constructor([program, ...args], url, lastEventId = '') {
    super();
    const child = spawn(program, [...args, url, lastEventId], { stdio: ['ignore', 'pipe', 'pipe'] });
    this.#child = child;
    child.stderr.on('data', (data) => (this.#stderr += data));
    createInterface(child.stdout).on('line', (line) => this.#line(line));
    // 'close' comes after all output was read.
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

  /**
   * Events that are messages: their objects with the client's `eventId`. Events that are not JSON, or of another
   * type, are left out.
   */
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

  /** Events whose data is not a JSON object: a caller's `JSON.parse` fails on them. */
  get broken() {
    return this.events.filter(({ data }) => parse(data)?.type === undefined);
  }

  /** The id from which a caller would resume. */
  get lastEventId() {
    return this.events.findLast(({ id }) => id)?.id ?? '';
  }

  async saw(content) {
    await this.until(`${content.slice(0, 40)} is dispatched`, () => this.contents.includes(content));
  }

  /** Waits until `probe` holds; events of `of` are awaited, too. A program that ends first has failed. */
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

/** Waits until `probe` holds; calls it at each 'change' of `emitters`. */
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
