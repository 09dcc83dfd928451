/**
 * Renders entries: messages as text or as JSON, gaps, and headings for days.
 *
 * @typedef {import('./feed.js').Entry} Entry
 * @typedef {import('./feed.js').Message} Message
 */

import { copyFrom } from './copy.js';
import { countOf, el, showPlain, showText } from './elements.js';
import { isJson } from './json.js';
import { excerptOf } from './search.js';
import { charEnd } from './text.js';
import { renderTree } from './tree.js';

/** Characters shown of a source's event. Another writer of a shared history may use any text. */
const EVENT_CHARS = 128;
/** Characters shown of a long message, and added by each "Show more". */
const PREVIEW_CHARS = 1_000;
const MORE_CHARS = 64 * 1024;

const clock = new Intl.DateTimeFormat(undefined, { timeStyle: 'medium' });
const day = new Intl.DateTimeFormat(undefined, { dateStyle: 'full' });
const exact = new Intl.DateTimeFormat(undefined, {
  ...{ year: 'numeric', month: 'long', day: 'numeric' },
  ...{ hour: '2-digit', minute: '2-digit', second: '2-digit', fractionalSecondDigits: 3 },
  timeZoneName: 'short',
});

/**
 * The view of each message, restored when it scrolls back into view.
 * @type {WeakMap<Message, { json: boolean, raw: boolean, chars: number } & import('./tree.js').View>}
 */
const views = new WeakMap();

/** @param {number | null} [missed] */
export function gapText(missed) {
  return missed ? `${countOf(missed, 'message')} missed here` : 'Messages may be missing here';
}

/**
 * @param {Entry} entry
 * @param {Entry | undefined} before the entry above it
 * @param {{ sessionId: string, titleOf: (source: string) => string }} page
 * @param {RegExp} [sought] a search that the entry matches
 */
export function renderEntry({ message, missed }, before, { sessionId, titleOf }, sought) {
  if (!message) return el('p', { class: 'gap' }, gapText(missed));
  const nodes = document.createDocumentFragment();
  const today = dayOf(message);
  if (today !== dayOf(before?.message)) nodes.append(el('h2', { class: 'day' }, today));
  const mine = message.sessionId === sessionId;
  const article = el('article', { class: mine ? 'message mine' : 'message' });
  const head = el('header', {}, time(message));
  if (message.source) head.append(origin(message, titleOf));
  if (mine) head.append(el('span', { class: 'badge' }, 'only for you'));
  // The head is not replaced, so it keeps the focus.
  const redraw = () => {
    while (head.nextSibling) head.nextSibling.remove();
    article.append(...content(message, sought));
  };
  head.append(tools(message, article, redraw));
  article.append(head);
  redraw();
  nodes.append(article);
  return nodes;
}

/** The source as a badge, and the event. */
function origin(/** @type {Message} */ { source = '', event }, titleOf) {
  const badge = el('span', { class: 'source', 'data-source': source });
  showTitle(badge, titleOf(source));
  if (!event) return el('span', { class: 'origin' }, badge);
  const kind = el('span', { class: 'event' });
  showPlain(kind, event.slice(0, charEnd(event, EVENT_CHARS)));
  return el('span', { class: 'origin' }, badge, ' ', kind);
}

/**
 * Shows the title of a source on its badge.
 * @param {HTMLElement} badge
 * @param {string} title
 */
export function showTitle(badge, title) {
  badge.replaceChildren();
  showPlain(badge, title);
}

function time({ timestamp }) {
  const date = dateOf(timestamp);
  return el('time', { datetime: date.toISOString(), title: exact.format(date) }, clock.format(date));
}

function dayOf(message) {
  return message && day.format(dateOf(message.timestamp));
}

/** Clamped (ECMA-262, time range): another writer of the shared history may use any number. */
function dateOf(timestamp) {
  return new Date(Math.max(-8.64e15, Math.min(timestamp, 8.64e15)));
}

function viewOf(/** @type {Message} */ message) {
  let view = views.get(message);
  if (!view) {
    view = { json: isJson(message.content), raw: false, chars: PREVIEW_CHARS, open: new Map(), shown: new Map() };
    views.set(message, view);
  }
  return view;
}

/** Buttons that copy the message as it was sent, and show JSON as text. */
function tools(/** @type {Message} */ message, article, redraw) {
  const copy = el('button', { class: 'tool', title: 'Copy the message as it was sent' }, 'Copy');
  copy.onclick = () => copyFrom(copy, message.content, article.querySelector('.content'));
  const view = viewOf(message);
  if (!view.json) return el('span', { class: 'tools' }, copy);
  const raw = el('button', { class: 'tool', title: 'Show the message as it was sent' }, 'Raw');
  raw.ariaPressed = String(view.raw);
  raw.onclick = () => {
    view.raw = !view.raw;
    raw.ariaPressed = String(view.raw);
    redraw();
  };
  return el('span', { class: 'tools' }, raw, copy);
}

/**
 * The body of a message, and an excerpt if a search matches only in a part that is not shown.
 * @param {Message} message
 * @param {RegExp} [sought]
 */
function content(message, sought) {
  const view = viewOf(message);
  // What a provider sends is long, and made for programs.
  const isFolded = message.source !== undefined;
  const nodes = view.json && !view.raw ? [renderTree(message.content, view, isFolded)] : text(message);
  if (sought && nodes[0].textContent.search(sought) < 0) nodes.push(excerpt(message, sought));
  return nodes;
}

/**
 * The text, and the button that shows more of it.
 * @param {Message} message
 */
function text(message) {
  const { content: whole } = message;
  const end = charEnd(whole, viewOf(message).chars);
  const goesOn = end < whole.length;
  const body = el('div', { class: 'content', dir: 'auto' });
  showText(body, whole.slice(0, end), goesOn);
  if (!goesOn) return [body];
  const left = countOf(whole.length - end, 'character');
  const more = el('button', { class: 'more' }, `Show more (${left})`);
  more.addEventListener('click', () => {
    viewOf(message).chars = end + MORE_CHARS;
    const [next, ...rest] = text(message);
    body.replaceWith(next);
    more.replaceWith(...rest);
    // The added text takes the focus of the removed button.
    next.tabIndex = -1;
    next.focus({ preventScroll: true });
  });
  return [body, more];
}

function excerpt({ content: whole }, sought) {
  const body = el('div', { class: 'excerpt', dir: 'auto' });
  const { text, goesOn } = excerptOf(sought, whole);
  showText(body, text, goesOn);
  return body;
}
