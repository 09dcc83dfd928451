/** Turns entries into elements. Content only ever becomes text nodes, never markup. */

/** @typedef {import('./feed.js').Entry} Entry */
/** @typedef {import('./hookcast.js').Message} Message */

/** Characters shown of a long message, and added at each wish for more. */
const PREVIEW_CHARS = 1_500;
const MORE_CHARS = 64 * 1024;

const clock = new Intl.DateTimeFormat(undefined, { timeStyle: 'medium' });
const day = new Intl.DateTimeFormat(undefined, { dateStyle: 'full' });
const exact = new Intl.DateTimeFormat(undefined, {
  ...{ year: 'numeric', month: 'long', day: 'numeric' },
  ...{ hour: 'numeric', minute: '2-digit', second: '2-digit', fractionalSecondDigits: 3 },
  timeZoneName: 'short',
});
const count = new Intl.NumberFormat();

/** Characters shown of a message that was opened: a block emptied and filled again keeps it so. */
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
 * @param {Entry} entry
 * @param {Entry | undefined} before the entry above it
 * @param {string} sessionId of this page
 * @returns {Node}
 */
export function renderEntry(entry, before, sessionId) {
  if (!entry.message) return gap(entry.missed);
  const element = article(entry.message, sessionId);
  const today = dayOf(entry);
  if (!today || today === dayOf(before)) return element;
  const nodes = document.createDocumentFragment();
  nodes.append(el('h2', { class: 'day' }, el('span', {}, today)), element);
  return nodes;
}

/** @param {number | null} missed */
export function gapText(missed) {
  if (missed === null) return 'Messages may be missing here';
  return missed === 1 ? '1 message was missed here' : `${count.format(missed)} messages were missed here`;
}

/** @param {number | null} missed */
function gap(missed) {
  return el('p', { class: 'gap' }, el('span', {}, gapText(missed)));
}

/**
 * @param {Message} message
 * @param {string} sessionId
 */
function article(message, sessionId) {
  const mine = message.sessionId === sessionId;
  const head = el('header', {}, time(message.timestamp));
  if (mine) head.append(el('span', { class: 'badge' }, 'only for you'));
  return el(
    'article',
    { class: mine ? 'message mine' : 'message', 'data-id': message.id },
    head,
    content(message),
  );
}

/** @param {number} timestamp */
function time(timestamp) {
  const date = dateOf(timestamp);
  if (!date) return el('span', {}, 'unknown time');
  return el(
    'time',
    { datetime: date.toISOString(), title: exact.format(date) },
    clock.format(date),
  );
}

/** @param {Message} message */
function content(message) {
  const text = message.content;
  const shown = Math.min(shownChars.get(message) ?? PREVIEW_CHARS, text.length);
  const end = wholeCharacter(text, shown);
  const body = el('div', { class: 'content', dir: 'auto' }, ...linked(text.slice(0, end)));
  if (end === text.length) return body;
  const rest = count.format(text.length - end);
  const more = el('button', { type: 'button', class: 'more' }, `Show more (${rest} characters left)`);
  more.addEventListener('click', () => {
    shownChars.set(message, end + MORE_CHARS);
    const whole = content(message);
    const next = whole.querySelector('.more');
    body.replaceWith(whole);
    // The focus goes on to what was opened.
    if (next instanceof HTMLElement) next.focus();
    else focusOn(whole);
  });
  body.append('… ', more);
  return body;
}

/** @param {HTMLElement} element */
function focusOn(element) {
  element.tabIndex = -1;
  element.focus({ preventScroll: true });
}

/**
 * The nearest end at or before `end` that does not cut a surrogate pair.
 * @param {string} text
 * @param {number} end
 */
function wholeCharacter(text, end) {
  const code = text.charCodeAt(end - 1);
  return end < text.length && code >= 0xd800 && code < 0xdc00 ? end - 1 : end;
}

/**
 * The text with its web addresses as links.
 * @param {string} text
 * @returns {(Node | string)[]}
 */
export function linked(text) {
  /** @type {(Node | string)[]} */
  const parts = [];
  let start = 0;
  for (const match of text.matchAll(/\bhttps?:\/\/[^\s<>"'`\u0000-\u001f\u200e\u200f\u202a-\u202e\u2066-\u2069]+/gi)) {
    const address = withoutPunctuation(match[0]);
    const href = parseUrl(address);
    if (!href) continue;
    parts.push(text.slice(start, match.index), link(href, address));
    start = match.index + address.length;
  }
  parts.push(text.slice(start));
  return parts;
}

/**
 * @param {string} href
 * @param {string} text
 */
function link(href, text) {
  return el('a', { href, target: '_blank', rel: 'noopener noreferrer nofollow ugc' }, text);
}

/**
 * Leaves out what ends the sentence and not the address: `(see https://a.example/b_(c)).`
 * @param {string} address
 */
function withoutPunctuation(address) {
  let end = address.length;
  for (; end > 0; end -= 1) {
    const last = address[end - 1];
    if ('.,:;!?…*_~'.includes(last)) continue;
    const open = { ')': '(', ']': '[', '}': '{' }[last];
    const part = address.slice(0, end);
    if (!open || part.split(open).length >= part.split(last).length) break;
  }
  return address.slice(0, end);
}

/** @param {string} address */
function parseUrl(address) {
  try {
    const url = new URL(address);
    // A name and a password in front of the host serve to deceive.
    return url.username || url.password ? undefined : url.href;
  } catch {
    return undefined;
  }
}

/** @param {Entry | undefined} entry */
function dayOf(entry) {
  const date = entry?.message && dateOf(entry.message.timestamp);
  return date && day.format(date);
}

/** @param {number} timestamp */
function dateOf(timestamp) {
  const date = new Date(timestamp);
  return Number.isNaN(date.getTime()) ? undefined : date;
}
