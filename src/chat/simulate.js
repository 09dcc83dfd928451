/**
 * Lets the send panel post what a provider would send. Loaded when the server lists a source without a
 * secret: the page has no secret to sign requests with.
 *
 * @typedef {import('./sources.js').Source} Source
 * @typedef {import('./send.js').Simulation} Simulation
 */

import { el } from './elements.js';
import { bodyOf, filled, samplesOf } from './samples.js';

/** Rows of the message's box for a body. */
const BODY_ROWS = 10;

/**
 * Adds the choice of a source and its event to the panel.
 * @param {any} form
 * @param {string} url of the webhook
 * @param {(simulation: Simulation | undefined) => void} onChoice called after each choice; `undefined`: a
 *   plain message
 * @returns {(sources: Source[], titleOf: (name: string) => string) => void} shows these sources
 */
export function runSimulator(form, url, onChoice) {
  const { message, to } = form.elements;
  const messageLabel = message.closest('label');
  const [name] = messageLabel.childNodes;
  const recipients = to[0].closest('fieldset');
  const plain = { rows: message.rows, name: name.data, text: '' };
  const as = /** @type {HTMLSelectElement} */ (el('select', { name: 'as' }));
  const event = /** @type {HTMLSelectElement} */ (el('select', { name: 'event' }));
  const asLabel = /** @type {HTMLElement} */ (el('label', { class: 'field' }, 'Simulate ', as));
  const eventLabel = /** @type {HTMLElement} */ (el('label', { class: 'field' }, 'Event ', event));
  messageLabel.before(asLabel, eventLabel);
  /** @type {Source[]} */
  let sources = [];
  /** @type {Source | undefined} */
  let source;
  let number = '';

  const samples = () => samplesOf(source?.preset ?? '');
  const sample = () => samples()[event.selectedIndex];
  const showSample = () => {
    number = newNumber();
    message.value = bodyOf(sample(), number);
  };
  const simulation = {
    request: () => {
      const fields = Object.entries(sample().fields ?? {}).map(([field, value]) => [field, filled(value, number)]);
      return {
        url: `${url}/in/${source?.name}`,
        fields: { 'Content-Type': 'application/json', ...Object.fromEntries(fields) },
        body: message.value,
      };
    },
    // The same ids again would be a provider's retry.
    onSent: () => {
      const next = newNumber();
      message.value = message.value.replaceAll(number, next);
      number = next;
    },
  };

  const choose = () => {
    const chosen = sources.find((one) => one.name === as.value);
    if (!source && chosen) plain.text = message.value;
    if (source && !chosen) message.value = plain.text;
    source = chosen;
    recipients.hidden = !!source;
    eventLabel.hidden = !source;
    name.data = source ? 'Body ' : plain.name;
    message.rows = source ? BODY_ROWS : plain.rows;
    message.classList.toggle('code', !!source);
    if (source) {
      event.replaceChildren(...samples().map((one) => el('option', {}, one.event)));
      showSample();
    }
    onChoice(source && simulation);
  };
  as.onchange = choose;
  event.onchange = () => {
    showSample();
    onChoice(simulation);
  };

  return (listed, titleOf) => {
    sources = listed;
    const options = sources.map((one) => el('option', { value: one.name }, titleOf(one.name)));
    as.replaceChildren(el('option', { value: '' }, 'Nothing: a plain message'), ...options);
    const kept = sources.find((one) => one.name === source?.name && one.preset === source?.preset);
    as.value = kept?.name ?? '';
    asLabel.hidden = sources.length === 0;
    if (kept) source = kept;
    else choose();
  };
}

/** Nine digits, so that no other number in a sample is like it. */
function newNumber() {
  return String(100_000_000 + (crypto.getRandomValues(new Uint32Array(1))[0] % 900_000_000));
}
