/** The panel that posts a test message, and shows the answer and the same request as a command. */

import { el } from './render.js';

/** Longer than the server's own deadlines. */
const ANSWER_MS_MAX = 15_000;
/** Characters shown of an answer. A proxy's may be a long page. */
const ANSWER_CHARS_MAX = 4_000;
/** Characters that turn the direction of text around: as escapes, a command reads as it runs. */
const TURNING = /[\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/g;

/**
 * The command that posts `body`, for a POSIX shell.
 * @param {string} url
 * @param {object} body
 * @param {boolean} [withSecret]
 */
export function curl(url, body, withSecret) {
  const secret = withSecret ? [`-H "X-Webhook-Secret: $WEBHOOK_SECRET"`] : [];
  const escaped = (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`;
  const data = `-d ${quote(JSON.stringify(body).replace(TURNING, escaped))}`;
  return [`curl ${quote(url)}`, `-H 'Content-Type: application/json'`, ...secret, data].join(' \\\n  ');
}

function quote(text) {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}

/**
 * @param {any} form
 * @param {{ url: string, sessionId: string, command: HTMLElement, answer: HTMLElement }} parts
 */
export function runSendPanel(form, { url, sessionId, command, answer }) {
  const { message, to, secret, submit } = form.elements;
  const secretLabel = secret.closest('label');
  const body = () => ({ message: message.value, ...(to.value === 'session' && { sessionId }) });
  const showCommand = () => (command.textContent = curl(url, body(), !secretLabel.hidden));

  const show = (good, headline, text) => {
    answer.replaceChildren(el('p', { class: good ? 'good' : 'bad' }, headline));
    if (text) answer.append(el('pre', {}, text));
  };

  const send = async () => {
    submit.disabled = true;
    /** @type {Record<string, string>} */
    const headers = { 'Content-Type': 'application/json' };
    if (secret.value) headers['X-Webhook-Secret'] = secret.value;
    const signal = AbortSignal.timeout(ANSWER_MS_MAX);
    // A redirect would take secret and message elsewhere, or fetch something and call that a success.
    const redirect = /** @type {const} */ ('manual');
    const request = { method: 'POST', headers, body: JSON.stringify(body()), redirect, signal };
    try {
      const response = await fetch(url, request);
      if (response.type === 'opaqueredirect') return show(false, 'Not sent: the answer is a redirect', '');
      const text = (await response.text()).slice(0, ANSWER_CHARS_MAX);
      show(response.ok, `${response.status} ${response.statusText}`, text);
      if (response.status === 401) {
        secretLabel.hidden = false;
        secret.focus();
        showCommand();
      }
    } catch {
      show(false, signal.aborted ? 'No answer in time' : 'The server cannot be reached', '');
    } finally {
      submit.disabled = false;
    }
  };

  form.addEventListener('input', showCommand);
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    send();
  });
  form.addEventListener('keydown', ({ key, ctrlKey, metaKey }) => {
    if (key === 'Enter' && (ctrlKey || metaKey)) form.requestSubmit();
  });
  showCommand();
}
