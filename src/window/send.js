/** The panel that posts a test message, and shows the answer and the same request as a command. */

import { el } from './render.js';

/** Longer than the server's own deadlines. */
const ANSWER_MS_MAX = 15_000;

/**
 * The command that posts `body`, for a POSIX shell.
 * @param {string} url
 * @param {object} body
 * @param {boolean} [withSecret]
 */
export function curl(url, body, withSecret) {
  const secret = withSecret ? [`-H "X-Webhook-Secret: $WEBHOOK_SECRET"`] : [];
  const data = `-d ${quote(JSON.stringify(body))}`;
  return [`curl ${quote(url)}`, `-H 'Content-Type: application/json'`, ...secret, data].join(' \\\n  ');
}

function quote(text) {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}

export class SendPanel {
  #form;
  #url;
  #sessionId;
  #command;
  #answer;

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
    form.addEventListener('keydown', ({ key, ctrlKey, metaKey }) => {
      if (key === 'Enter' && (ctrlKey || metaKey)) form.requestSubmit();
    });
    this.#showCommand();
  }

  async #send() {
    const { submit, secret } = this.#fields();
    submit.disabled = true;
    /** @type {Record<string, string>} */
    const headers = { 'Content-Type': 'application/json' };
    if (secret.value) headers['X-Webhook-Secret'] = secret.value;
    const body = JSON.stringify(this.#body());
    const signal = AbortSignal.timeout(ANSWER_MS_MAX);
    try {
      const response = await fetch(this.#url, { method: 'POST', headers, body, signal });
      const text = await response.text();
      this.#show(response.ok, `${response.status} ${response.statusText}`, text);
      if (response.status === 401) this.#askForSecret();
    } catch {
      this.#show(false, signal.aborted ? 'No answer in time' : 'The server cannot be reached', '');
    }
    submit.disabled = false;
  }

  #show(good, headline, text) {
    this.#answer.replaceChildren(el('p', { class: good ? 'good' : 'bad' }, headline));
    if (text) this.#answer.append(el('pre', { tabindex: '0', 'aria-label': 'Answer' }, text));
  }

  #askForSecret() {
    const { secret } = this.#fields();
    secret.closest('label').hidden = false;
    secret.focus();
    this.#showCommand();
  }

  #showCommand() {
    const { secret } = this.#fields();
    this.#command.textContent = curl(this.#url, this.#body(), !secret.closest('label').hidden);
  }

  #body() {
    const { message, to } = this.#fields();
    return { message: message.value, ...(to.value === 'session' && { sessionId: this.#sessionId }) };
  }

  /** @returns {any} */
  #fields() {
    return this.#form.elements;
  }
}
