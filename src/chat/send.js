/**
 * The panel that posts a test message, and shows the answer and the same request as a command.
 *
 * @typedef {{ url: string, fields: Record<string, string>, body: string }} Sent a request
 * @typedef {{ request: () => Sent, onSent: () => void }} Simulation what a provider would send instead
 */

import { el } from './elements.js';
import { escapeTurning } from './text.js';

/** The longest wait for an answer: longer than the server's own deadlines. */
const ANSWER_MS_MAX = 15_000;
/** Time between probes of a server that could not be reached. */
const PROBE_MS = 3_000;
/** Characters shown of an answer. A proxy's may be a long page. */
const ANSWER_CHARS_MAX = 4_000;

/** Fields of a command that stand for what the sender knows, and the page does not show. */
const PROOFS = { secret: '-H "X-Webhook-Secret: $WEBHOOK_SECRET"', token: '-H "Authorization: Bearer $HOOKCAST_TOKEN"' };

/**
 * The command that sends a request, for a POSIX shell.
 * @param {Sent} request
 * @param {keyof typeof PROOFS | false} [proof]
 */
export function curl({ url, fields, body }, proof) {
  const headers = Object.entries(fields).map(([name, value]) => `-H ${quote(`${name}: ${value}`)}`);
  const proofs = proof ? [PROOFS[proof]] : [];
  // `-d @name` would send a file.
  const data = `${body.startsWith('@') ? '--data-raw' : '-d'} ${quote(escapeTurning(body))}`;
  return [`curl ${quote(url)}`, ...headers, ...proofs, data].join(' \\\n  ');
}

/**
 * The request that posts a message.
 * @param {string} url of the webhook
 * @param {{ message: string, sessionId?: string }} body
 * @returns {Sent}
 */
export function webhook(url, body) {
  return { url, fields: { 'Content-Type': 'application/json' }, body: JSON.stringify(body) };
}

function quote(text) {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}

/**
 * Runs the panel. Returns functions to call when the server was reached, when a simulation begins or ends, and
 * when there is another token.
 * @param {any} form
 * @param {{ url: string, sessionId: string, command: HTMLElement, answer: HTMLElement, token: () => string | undefined,
 *   onSent: () => void }} parts
 */
export function runSendPanel(form, { url, sessionId, command, answer, token, onSent }) {
  const { message, to, secret, submit } = form.elements;
  const secretLabel = secret.closest('label');
  /** @type {Simulation | undefined} */
  let simulation;
  const plain = () => webhook(url, { message: message.value, ...(to.value === 'session' && { sessionId }) });
  const request = () => simulation?.request() ?? plain();
  const showCommand = () => {
    const proof = secretLabel.hidden ? token() && !simulation && 'token' : 'secret';
    command.textContent = curl(request(), proof || false);
    letScroll(command);
  };
  new ResizeObserver(() => letScroll(command)).observe(command);
  let isSending = false;
  let isSecretAsked = false;
  // A source has its own secret or none.
  const showSecret = () => (secretLabel.hidden = !isSecretAsked || !!simulation);
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
    if (!text) return;
    const pre = el('pre', {}, text);
    answer.append(pre);
    letScroll(pre);
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
    const sent = { simulation, ...request() };
    const headers = sent.fields;
    const bearer = simulation ? undefined : token();
    if (secret.value && !simulation) headers['X-Webhook-Secret'] = secret.value;
    if (bearer) headers.Authorization = `Bearer ${bearer}`;
    const signal = AbortSignal.timeout(ANSWER_MS_MAX);
    // A followed redirect takes the secret elsewhere, or turns the POST into a GET that succeeds.
    const redirect = /** @type {const} */ ('manual');
    try {
      const response = await fetch(sent.url, { method: 'POST', headers, body: sent.body, redirect, signal });
      if (response.type === 'opaqueredirect') return show(false, 'Not sent: the answer is a redirect', '');
      const text = (await response.text()).slice(0, ANSWER_CHARS_MAX);
      show(response.ok, `${response.status} ${response.statusText}`, text);
      if (response.ok) {
        onSent();
        sent.simulation?.onSent();
      }
      // A token may allow too little. The secret allows all.
      if (response.status === (bearer ? 403 : 401) && !sent.simulation) {
        isSecretAsked = true;
        showSecret();
        secret.focus();
      }
      showCommand();
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
  /** @param {Simulation | undefined} next */
  const simulate = (next) => {
    simulation = next;
    showSecret();
    showCommand();
  };
  return { reached, simulate, showCommand };
}

/** Enter in the message, or with Ctrl anywhere, but not the Enter that ends the composition of a word. */
function isSendKey({ key, ctrlKey, metaKey, shiftKey, altKey, isComposing, keyCode }, inMessage) {
  // 229: Safari ends the composition before the key event (UI Events, section 4.3.2).
  if (key !== 'Enter' || isComposing || keyCode === 229) return false;
  return ctrlKey || metaKey || (inMessage && !shiftKey && !altKey);
}

/** A text that is taller than its box takes the focus, to be scrolled by keyboard. */
function letScroll(/** @type {HTMLElement} */ box) {
  if (box.scrollHeight > box.clientHeight) box.tabIndex = 0;
  else box.removeAttribute('tabindex');
}

async function answers(url) {
  try {
    const signal = AbortSignal.timeout(ANSWER_MS_MAX);
    return (await fetch(url, { method: 'HEAD', cache: 'no-store', redirect: 'manual', signal })).ok;
  } catch {
    return false;
  }
}
