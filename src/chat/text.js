/**
 * Splits the text of a message into parts of bounded layout cost, which `elements.js` renders. Pure: no
 * element, no state. Every function takes linear time.
 *
 * @typedef {string | { stack: string } | { address: string, host: string } | null} Part
 *   plain text; a letter with many marks; a link, with its host if the address could mislead, else '';
 *   null: a possible line break
 */

/**
 * The longest piece, in UTF-16 code units. Browsers lay out complex text in quadratic time or worse:
 * 8,000 units of Kannada in one piece took Chromium 183 s. A cut within a line adds a line break to a
 * copy, so simple lines have a higher limit, and ASCII lines that of a common body.
 */
const PIECE_CHARS = 1_024;
const SIMPLE_CHARS = 8_192;
const ASCII_CHARS = 65_536;
/** Links in a piece; further addresses stay text. */
const LINKS_MAX = 256;

/** An address ends at spaces, quotes, controls, and characters that turn the direction of text. */
const ADDRESS = /\bhttps?:\/\/[^\s<>"'`\0-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]+/gi;
const CLOSING = { ')': '(', ']': '[', '}': '{' };

/** Nine marks or more on a letter. Scripts need eight at most (Tibetan). */
const STACK = /\P{M}?(?:\p{M}\p{Cf}*){9,}/gu;
/** Marks, scripts and controls that take more than linear time to shape, order or break. */
const COMPLEX =
  '\u0300-\u036f\u0483-\u0489\u0590-\u1dff\u200b\u200c\u200e\u200f\u202a-\u202e\u2044\u2060-\u206f' +
  '\u20d0-\u20ff\u2c00-\u2dff\ua4d0-\uabff\ud7b0-\ud7ff\ufb13-\ufdff\ufe20-\ufeff' +
  '\u{10300}-\u{1efff}\u{e0000}-\u{e0fff}';
const IS_COMPLEX = RegExp(`[${COMPLEX}]`, 'u');
const ASCII_LINE = /^[\t\r -~]*\n?/;
const SIMPLE_LINE = RegExp(`^[^\\n${COMPLEX}]{0,${SIMPLE_CHARS}}\\n?`, 'u');
/** Runs of up to 128 of these, or of characters that fonts treat alike. A long run ends with a letter if it can. */
const LONG_RUN = 96;
const IN_RUN = `[${COMPLEX}\u00a0\u00ad\u00b7\u00d7\u200d\u2010-\u2015\u2022\u25cc\u25fb-\u25fe\ufe0f]`;
const RUN = RegExp(`[${COMPLEX}](?:${IN_RUN}{${LONG_RUN},127}(?<!\u200d)(?![\\p{M}\u200d])|${IN_RUN}{0,127})`, 'gu');

/** Characters that change the direction of text, or break a line invisibly. */
const TURNING = /[\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/g;

/**
 * Escapes them, so that JSON and commands are displayed in their true order.
 * @param {string} text
 */
export function escapeTurning(text) {
  return text.replace(TURNING, (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`);
}

/**
 * Splits text into pieces that are laid out separately: at the end of a line if possible, which is
 * invisible, else at a space.
 * @param {string} text
 */
export function piecesOf(text) {
  const pieces = [];
  for (let start = 0, end; start < text.length; start = end) {
    end = start + pieceLength(text.slice(start, start + ASCII_CHARS));
    pieces.push(text.slice(start, end));
  }
  return pieces;
}

/** @param {string} text no more than the longest piece */
function pieceLength(text) {
  const first = text.slice(0, charEnd(text, PIECE_CHARS));
  const lines = first === text ? text.length : first.lastIndexOf('\n') + 1;
  if (lines > 0) return lines;
  if (IS_COMPLEX.test(first)) return first.lastIndexOf(' ') + 1 || first.length;
  const ascii = ASCII_LINE.exec(text)?.[0] ?? '';
  const line = ascii === text || ascii.endsWith('\n') ? ascii : (SIMPLE_LINE.exec(text)?.[0] ?? '');
  if (line === text || line.endsWith('\n')) return line.length;
  // The next character may be a mark on the last letter.
  return line.lastIndexOf(' ') + 1 || charEnd(line, line.length - 1);
}

/**
 * `end`, or one less, so that a cut never splits a surrogate pair.
 * @param {string} text
 * @param {number} end
 */
export function charEnd(text, end) {
  if (end >= text.length) return text.length;
  return /[\ud800-\udbff]/.test(text[end - 1]) ? end - 1 : end;
}

/**
 * @param {string} text
 * @param {boolean} goesOn more text follows: an address at the end may be incomplete
 * @returns {Generator<Part>}
 */
export function* partsOf(text, goesOn) {
  let start = 0;
  let links = 0;
  for (const { 0: run, index } of text.matchAll(ADDRESS)) {
    if (links === LINKS_MAX || (goesOn && index + run.length === text.length)) break;
    const address = run.slice(0, addressEnd(run));
    const host = shownHost(address);
    if (host === undefined) continue;
    yield* marksAndRuns(text.slice(start, index));
    yield { address, host };
    links += 1;
    start = index + address.length;
  }
  yield* marksAndRuns(text.slice(start));
}

/**
 * A text without links.
 * @param {string} text
 * @returns {Generator<Part>}
 */
export function* marksAndRuns(text) {
  let start = 0;
  for (const { 0: stack, index } of text.matchAll(STACK)) {
    yield* runs(text.slice(start, index));
    yield { stack };
    start = index + stack.length;
  }
  yield* runs(text.slice(start));
}

function* runs(text) {
  let start = 0;
  for (const { 0: run, index } of text.matchAll(RUN)) {
    if (run.length <= LONG_RUN) continue;
    yield text.slice(start, index + run.length);
    yield null;
    start = index + run.length;
  }
  if (start < text.length) yield text.slice(start);
}

/** The length without the punctuation that belongs to the sentence: `(see https://a.example/b_(c)).` */
function addressEnd(run) {
  const counts = {};
  for (const char of run) counts[char] = (counts[char] ?? 0) + 1;
  let end = run.length;
  for (; ; end -= 1) {
    const last = run[end - 1];
    const open = CLOSING[last];
    const isPart = open ? counts[last] <= (counts[open] ?? 0) : !'.,:;!?…*_~'.includes(last);
    if (isPart) return end;
    counts[last] -= 1;
  }
}

/**
 * The host to show after the address: '' if the address shows it exactly, undefined if it is no link.
 */
function shownHost(address) {
  if (!URL.canParse(address) || address.search(STACK) >= 0) return undefined;
  const { hostname, username, password } = new URL(address);
  const [written] = address.slice(address.indexOf('//') + 2).split(/[/?#]/, 1);
  // A user name or password before the host can imitate a host.
  if (username || password || written.includes('@')) return undefined;
  const name = written.replace(/:\d*$/, '');
  // Letters outside ASCII may look like these, and so may capitals: I looks like l.
  return name === hostname && /^[a-z\d._-]+$/.test(name) ? '' : hostname;
}
