/**
 * Turns entries into elements. Content becomes text nodes, never markup.
 *
 * @typedef {import('./feed.js').Entry} Entry
 * @typedef {import('./feed.js').Message} Message
 */

import { charEnd, marksAndRuns, partsOf, piecesOf } from './text.js';

/** Characters shown of a long message, and added each time more is asked for. */
const PREVIEW_CHARS = 1_000;
const MORE_CHARS = 64 * 1024;

const clock = new Intl.DateTimeFormat(undefined, { timeStyle: 'medium' });
const day = new Intl.DateTimeFormat(undefined, { dateStyle: 'full' });
const exact = new Intl.DateTimeFormat(undefined, {
  ...{ year: 'numeric', month: 'long', day: 'numeric' },
  ...{ hour: '2-digit', minute: '2-digit', second: '2-digit', fractionalSecondDigits: 3 },
  timeZoneName: 'short',
});
const { format } = new Intl.NumberFormat();

/** Characters shown of messages that were opened, for when they come back into view. */
const shownChars = new WeakMap();

/**
 * An element with attributes and children.
 * @param {string} name
 * @param {Record<string, string>} [attributes]
 * @param {...(Node | string)} children
 */
export function el(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

/**
 * @param {number} number
 * @param {string} noun
 */
export function countOf(number, noun) {
  return `${format(number)} ${noun}${number === 1 ? '' : 's'}`;
}

/** @param {number | null} [missed] */
export function gapText(missed) {
  return missed ? `${countOf(missed, 'message')} missed here` : 'Messages may be missing here';
}

/**
 * @param {Entry} entry
 * @param {Entry | undefined} before the entry above it
 * @param {string} sessionId of this page
 */
export function renderEntry({ message, missed }, before, sessionId) {
  if (!message) return el('p', { class: 'gap' }, gapText(missed));
  const nodes = document.createDocumentFragment();
  const today = dayOf(message);
  if (today !== dayOf(before?.message)) nodes.append(el('h2', { class: 'day' }, today));
  const mine = message.sessionId === sessionId;
  const head = el('header', {}, time(message));
  if (mine) head.append(el('span', { class: 'badge' }, 'only for you'));
  nodes.append(el('article', { class: mine ? 'message mine' : 'message' }, head, ...content(message)));
  return nodes;
}

function time({ timestamp }) {
  const date = dateOf(timestamp);
  return el('time', { datetime: date.toISOString(), title: exact.format(date) }, clock.format(date));
}

function dayOf(message) {
  return message && day.format(dateOf(message.timestamp));
}

/** Another writer of the shared history may have put any number there (ECMA-262, time range). */
function dateOf(timestamp) {
  return new Date(Math.max(-8.64e15, Math.min(timestamp, 8.64e15)));
}

/**
 * The text, and the button that shows more of it.
 * @param {Message} message
 */
function content(message) {
  const text = message.content;
  const end = charEnd(text, shownChars.get(message) ?? PREVIEW_CHARS);
  const goesOn = end < text.length;
  const body = el('div', { class: 'content', dir: 'auto' });
  showText(body, text.slice(0, end), goesOn);
  if (!goesOn) return [body];
  const left = countOf(text.length - end, 'character');
  const more = el('button', { class: 'more' }, `Show more (${left})`);
  more.addEventListener('click', () => {
    shownChars.set(message, end + MORE_CHARS);
    const [whole, ...next] = content(message);
    body.replaceWith(whole);
    more.replaceWith(...next);
    // The focus stays with what was opened.
    whole.tabIndex = -1;
    whole.focus({ preventScroll: true });
  });
  return [body, more];
}

function showText(body, text, goesOn) {
  // Beyond 125 nested controls (UAX #9) isolation ends, and a link would be turned around. A box is not.
  const boxed = /[\u202a-\u202e\u2066-\u2069]/.test(text);
  const pieces = piecesOf(text);
  for (const [i, piece] of pieces.entries()) {
    const isLast = i === pieces.length - 1;
    const block = pieces.length > 1 ? el('div') : body;
    for (const part of partsOf(piece, goesOn || !isLast)) block.append(node(part, boxed));
    if (goesOn && isLast) block.append('…');
    if (block !== body) body.append(block);
  }
}

/**
 * @param {import('./text.js').Part} part
 * @param {boolean} boxed
 */
function node(part, boxed) {
  if (part === null) return el('wbr');
  if (typeof part === 'string') return part;
  if ('stack' in part) return el('span', { class: 'stack' }, part.stack);
  const link = el('a', {
    ...{ href: part.address, target: '_blank', rel: 'noopener noreferrer nofollow ugc' },
    ...{ referrerpolicy: 'no-referrer', dir: 'ltr' },
  });
  if (boxed) link.className = 'boxed';
  if (part.host) link.dataset.host = part.host;
  for (const inner of marksAndRuns(part.address)) link.append(node(inner, boxed));
  return link;
}
