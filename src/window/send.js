/** The panel that posts a test message and shows the answer and the same request as a command. */

import { el } from './render.js';

/** Longer than the server's own deadlines. */
const ANSWER_MS_MAX = 15_000;
/** Arrivals remembered, to tell how long a sent message took to come back on the stream. */
const ARRIVALS_MAX = 200;

/**
 * The command that sends `body`, for a POSIX shell.
 * @param {string} url
 * @param {object} body
 * @param {boolean} [secret]
 */
export function curl(url, body, secret = false) {
  const lines = [`curl ${quote(url)}`, `-H 'Content-Type: application/json'`];
  if (secret) lines.push(`-H "X-Webhook-Secret: $WEBHOOK_SECRET"`);
  lines.push(`-d ${quote(JSON.stringify(body))}`);
  return lines.join(' \\\n  ');
}

/** @param {string} text */
function quote(text) {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}

export class SendPanel {
  #url;
  #sessionId;
  #form;
  #command;
  #answer;
  /** @type {Map<string, number>} */ #arrivals = new Map();
  /** @type {{ id: string, sentAt: number, element: HTMLElement } | undefined} */ #sent;

  /**
   * @param {HTMLFormElement} form
   * @param {{ url: string, sessionId: string, command: HTMLElement, answer: HTMLElement }} parts
   */
  constructor(form, { url, sessionId, command, answer }) {
    this.#form = form;
    this.#url = url;
    this.#sessionId = sessionId;
    this.#command = command;
    this.#answer = answer;
    form.addEventListener('input', () => this.#showCommand());
    form.addEventListener('submit', (event) => {
      event.preventDefault();
      this.#send();
    });
    this.#field('message').addEventListener('keydown', (event) => {
      if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) form.requestSubmit();
    });
    this.#showCommand();
  }

  /**
   * A message came in on the stream.
   * @param {string} id
   */
  arrived(id) {
    this.#arrivals.set(id, performance.now());
    if (this.#arrivals.size > ARRIVALS_MAX) {
      this.#arrivals.delete(/** @type {string} */ (this.#arrivals.keys().next().value));
    }
    this.#showRoundTrip();
  }

  async #send() {
    const button = /** @type {HTMLButtonElement} */ (this.#form.querySelector('[type=submit]'));
    button.disabled = true;
    const sentAt = performance.now();
    try {
      const response = await fetch(this.#url, {
        method: 'POST',
        headers: this.#headers(),
        body: JSON.stringify(this.#body()),
        signal: AbortSignal.timeout(ANSWER_MS_MAX),
      });
      this.#showAnswer(response.status, await response.text(), sentAt);
    } catch (error) {
      const late = error instanceof DOMException && error.name === 'TimeoutError';
      this.#show('bad', late ? 'No answer in time' : 'The server cannot be reached', '');
    } finally {
      button.disabled = false;
    }
  }

  /**
   * @param {number} status
   * @param {string} text
   * @param {number} sentAt
   */
  #showAnswer(status, text, sentAt) {
    const answer = parse(text);
    if (status === 401) this.#askForSecret();
    const element = this.#show(status === 200 ? 'good' : 'bad', `${status} ${answer?.error ?? ''}`, text);
    if (status !== 200) return;
    this.#sent = { id: answer?.messageId, sentAt, element };
    this.#showRoundTrip();
  }

  /**
   * @param {'good' | 'bad'} kind
   * @param {string} headline
   * @param {string} text
   */
  #show(kind, headline, text) {
    const element = el('p', { class: kind }, headline);
    this.#answer.replaceChildren(element);
    if (text) this.#answer.append(el('pre', { tabindex: '0', 'aria-label': 'Answer' }, text));
    return element;
  }

  #showRoundTrip() {
    const arrivedAt = this.#sent && this.#arrivals.get(this.#sent.id);
    if (!this.#sent || !arrivedAt) return;
    const { sentAt, element } = this.#sent;
    element.textContent = `200 OK, and on this page after ${Math.round(arrivedAt - sentAt)} ms`;
    this.#sent = undefined;
  }

  #askForSecret() {
    const field = this.#field('secret');
    /** @type {HTMLElement} */ (field.closest('label')).hidden = false;
    field.focus();
    this.#showCommand();
  }

  #showCommand() {
    const secret = !(/** @type {HTMLElement} */ (this.#field('secret').closest('label')).hidden);
    this.#command.textContent = curl(this.#url, this.#body(), secret);
  }

  #body() {
    const message = this.#field('message').value;
    const mine = new FormData(this.#form).get('to') === 'session';
    return mine ? { message, sessionId: this.#sessionId } : { message };
  }

  #headers() {
    /** @type {Record<string, string>} */
    const headers = { 'Content-Type': 'application/json' };
    const secret = this.#field('secret').value;
    if (secret) headers['X-Webhook-Secret'] = secret;
    return headers;
  }

  /** @param {string} name */
  #field(name) {
    return /** @type {HTMLInputElement | HTMLTextAreaElement} */ (this.#form.elements.namedItem(name));
  }
}

/** @param {string} text */
function parse(text) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
