/**
 * Turns entries into elements. Content becomes text nodes, never markup.
 *
 * @typedef {import('./feed.js').Entry} Entry
 * @typedef {import('./feed.js').Message} Message
 */

/** Characters shown of a long message, and added each time more is asked for. */
const PREVIEW_CHARS = 1_500;
const MORE_CHARS = 64 * 1024;

const clock = new Intl.DateTimeFormat(undefined, { timeStyle: 'medium' });
const day = new Intl.DateTimeFormat(undefined, { dateStyle: 'full' });
const exact = new Intl.DateTimeFormat(undefined, {
  ...{ year: 'numeric', month: 'long', day: 'numeric' },
  ...{ hour: 'numeric', minute: '2-digit', second: '2-digit', fractionalSecondDigits: 3 },
  timeZoneName: 'short',
});
const { format } = new Intl.NumberFormat();

/** Without spaces, quotes, and the controls that turn the direction of text around. */
const ADDRESS = /\bhttps?:\/\/[^\s<>"'`\u0000-\u001f\u200e\u200f\u202a-\u202e\u2066-\u2069]+/gi;
const PAIRS = { ')': '(', ']': '[', '}': '{' };

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
  nodes.append(el('article', { class: mine ? 'message mine' : 'message' }, head, content(message)));
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
  return new Date(Math.min(timestamp, 8.64e15));
}

/** @param {Message} message */
function content(message) {
  const text = message.content;
  let end = Math.min(shownChars.get(message) ?? PREVIEW_CHARS, text.length);
  // Not between the halves of a surrogate pair.
  if (/[\ud800-\udbff]/.test(text[end - 1]) && end < text.length) end -= 1;
  const body = el('div', { class: 'content', dir: 'auto' }, ...linked(text.slice(0, end)));
  if (end === text.length) return body;
  const left = countOf(text.length - end, 'character');
  const more = el('button', { type: 'button', class: 'more' }, `Show more (${left})`);
  more.addEventListener('click', () => {
    shownChars.set(message, end + MORE_CHARS);
    const whole = content(message);
    body.replaceWith(whole);
    // The focus stays with what was opened.
    whole.tabIndex = -1;
    whole.focus({ preventScroll: true });
  });
  body.append('… ', more);
  return body;
}

/**
 * The text with its web addresses as links.
 * @param {string} text
 */
function linked(text) {
  const parts = [];
  let start = 0;
  for (const match of text.matchAll(ADDRESS)) {
    const address = withoutPunctuation(match[0]);
    // A name and password in front of the host serve to deceive.
    if (!URL.canParse(address) || new URL(address).username) continue;
    const attributes = { href: address, target: '_blank', rel: 'noopener noreferrer nofollow ugc' };
    parts.push(text.slice(start, match.index), el('a', attributes, address));
    start = match.index + address.length;
  }
  return [...parts, text.slice(start)];
}

/** Leaves out what ends the sentence and not the address: `(see https://a.example/b_(c)).` */
function withoutPunctuation(address) {
  const last = address.at(-1);
  const unpaired = PAIRS[last] && address.split(PAIRS[last]).length < address.split(last).length;
  return unpaired || '.,:;!?…*_~'.includes(last) ? withoutPunctuation(address.slice(0, -1)) : address;
}
