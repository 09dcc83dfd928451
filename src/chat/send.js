/** The panel that posts a test message, and shows the answer and the same request as a command. */

import { el } from './elements.js';
import { escapeTurning } from './text.js';

/** The longest wait for an answer: longer than the server's own deadlines. */
const ANSWER_MS_MAX = 15_000;
/** Time between probes of a server that could not be reached. */
const PROBE_MS = 3_000;
/** Characters shown of an answer. A proxy's may be a long page. */
const ANSWER_CHARS_MAX = 4_000;

/**
 * The command that posts `body`, for a POSIX shell.
 * @param {string} url
 * @param {object} body
 * @param {boolean} [withSecret]
 */
export function curl(url, body, withSecret) {
  const secret = withSecret ? [`-H "X-Webhook-Secret: $WEBHOOK_SECRET"`] : [];
  const data = `-d ${quote(escapeTurning(JSON.stringify(body)))}`;
  return [`curl ${quote(url)}`, `-H 'Content-Type: application/json'`, ...secret, data].join(' \\\n  ');
}

function quote(text) {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}

/**
 * Runs the panel. Returns a function to call when the server was reached.
 * @param {any} form
 * @param {{ url: string, sessionId: string, command: HTMLElement, answer: HTMLElement, onSent: () => void }} parts
 */
export function runSendPanel(form, { url, sessionId, command, answer, onSent }) {
  const { message, to, secret, submit } = form.elements;
  const secretLabel = secret.closest('label');
  const body = () => ({ message: message.value, ...(to.value === 'session' && { sessionId }) });
  const showCommand = () => (command.textContent = curl(url, body(), !secretLabel.hidden));
  let isSending = false;
  /** @type {ReturnType<typeof setTimeout> | undefined} set while the server cannot be reached */
  let probe;

  const clear = () => {
    clearTimeout(probe);
    probe = undefined;
    answer.replaceChildren();
  };
  const show = (good, headline, text) => {
    clear();
    answer.append(el('p', { class: good ? 'good' : 'bad' }, headline));
    if (text) answer.append(el('pre', {}, text));
  };
  const reached = () => probe && clear();
  // An open stream does not prove that new requests reach the server.
  const startProbe = () => {
    const started = (probe = setTimeout(async () => {
      const isReached = await answers(url);
      if (probe !== started) return;
      if (isReached) clear();
      else startProbe();
    }, PROBE_MS));
  };

  const send = async () => {
    if (isSending) return;
    setSending(true);
    /** @type {Record<string, string>} */
    const headers = { 'Content-Type': 'application/json' };
    if (secret.value) headers['X-Webhook-Secret'] = secret.value;
    const signal = AbortSignal.timeout(ANSWER_MS_MAX);
    // A followed redirect takes the secret elsewhere, or turns the POST into a GET that succeeds.
    const redirect = /** @type {const} */ ('manual');
    const request = { method: 'POST', headers, body: JSON.stringify(body()), redirect, signal };
    try {
      const response = await fetch(url, request);
      if (response.type === 'opaqueredirect') return show(false, 'Not sent: the answer is a redirect', '');
      const text = (await response.text()).slice(0, ANSWER_CHARS_MAX);
      show(response.ok, `${response.status} ${response.statusText}`, text);
      if (response.ok) onSent();
      if (response.status === 401) {
        secretLabel.hidden = false;
        secret.focus();
        showCommand();
      }
    } catch {
      show(false, signal.aborted ? 'No answer in time' : 'The server cannot be reached', '');
      if (!signal.aborted) startProbe();
    } finally {
      setSending(false);
    }
  };
  // Not `disabled`: the focus would be lost.
  const setSending = (sending) => {
    isSending = sending;
    submit.ariaDisabled = String(sending);
  };

  form.addEventListener('input', showCommand);
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    send();
  });
  form.addEventListener('keydown', (/** @type {KeyboardEvent} */ event) => {
    if (!isSendKey(event, event.target === message)) return;
    event.preventDefault();
    // A key that is held down sends once.
    if (!event.repeat) form.requestSubmit();
  });
  showCommand();
  return reached;
}

/** Enter in the message, or with Ctrl anywhere, but not the Enter that ends the composition of a word. */
function isSendKey({ key, ctrlKey, metaKey, shiftKey, altKey, isComposing, keyCode }, inMessage) {
  // 229: Safari ends the composition before the key event (UI Events, section 4.3.2).
  if (key !== 'Enter' || isComposing || keyCode === 229) return false;
  return ctrlKey || metaKey || (inMessage && !shiftKey && !altKey);
}

async function answers(url) {
  try {
    const signal = AbortSignal.timeout(ANSWER_MS_MAX);
    return (await fetch(url, { method: 'HEAD', cache: 'no-store', redirect: 'manual', signal })).ok;
  } catch {
    return false;
  }
}
