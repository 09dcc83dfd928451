/**
 * Reads the structure of JSON text in place. Nothing is converted: `JSON.parse` would round long
 * numbers, reorder keys and drop repeated ones. Pure, without recursion, in linear time.
 *
 * @typedef {object} Node a value, as a part of the text
 * @property {number} start
 * @property {number} end
 * @property {'object' | 'array' | 'string' | 'number' | 'literal'} kind
 * @property {number} count values directly inside
 * @property {string} [key] as it stands in the text, with its quotes
 * @property {boolean} last no value follows in the same container
 */

/** Longer texts are shown as plain text. `JSON.parse` checks this much in about 10 ms. */
export const JSON_CHARS_MAX = 1024 * 1024;

const SPACE = /[ \t\n\r]*/y;
const SCALAR = /[^ \t\n\r,\]}]+/y;
const STRUCTURE = /["[\]{},]/g;

/**
 * Whether the text is an object or an array.
 * @param {string} text
 */
export function isJson(text) {
  if (text.length > JSON_CHARS_MAX || !/^[ \t\n\r]*[[{]/.test(text)) return false;
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}

/**
 * @param {string} text for which `isJson` holds
 * @returns {Node}
 */
export function rootOf(text) {
  return valueAt(text, skip(SPACE, text, 0));
}

/**
 * The values directly inside an object or array, read lazily.
 * @param {string} text
 * @param {Node} container
 * @returns {Generator<Node>}
 */
export function* childrenOf(text, { start, kind, count }) {
  let at = start + 1;
  for (let i = 1; i <= count; i += 1) {
    at = skip(SPACE, text, at);
    let key;
    if (kind === 'object') {
      const end = stringEnd(text, at);
      key = text.slice(at, end);
      at = skip(SPACE, text, skip(SPACE, text, end) + 1);
    }
    const node = valueAt(text, at);
    yield { ...node, key, last: i === count };
    at = skip(SPACE, text, node.end) + 1;
  }
}

/** @returns {Node} */
function valueAt(text, start) {
  const first = text[start];
  const last = true;
  if (first === '{' || first === '[') return { start, kind: first === '{' ? 'object' : 'array', last, ...extent(text, start) };
  if (first === '"') return { start, end: stringEnd(text, start), kind: 'string', count: 0, last };
  const kind = /[-\d]/.test(first) ? 'number' : 'literal';
  return { start, end: skip(SCALAR, text, start), kind, count: 0, last };
}

/** Where a container ends, and how many values are directly in it. */
function extent(text, start) {
  let depth = 0;
  let commas = 0;
  STRUCTURE.lastIndex = start;
  for (let match; (match = STRUCTURE.exec(text)); ) {
    const [char] = match;
    if (char === '"') STRUCTURE.lastIndex = stringEnd(text, match.index);
    else if (char === ',') commas += depth === 1 ? 1 : 0;
    else if (char === '{' || char === '[') depth += 1;
    else if ((depth -= 1) === 0) break;
  }
  const end = STRUCTURE.lastIndex;
  const isEmpty = skip(SPACE, text, start + 1) === end - 1;
  return { end, count: isEmpty ? 0 : commas + 1 };
}

/** The index after a string: a quote after an even number of backslashes ends it. */
function stringEnd(text, start) {
  for (let at = start + 1; ; at += 1) {
    at = text.indexOf('"', at);
    let backslashes = 0;
    while (text[at - 1 - backslashes] === '\\') backslashes += 1;
    if (backslashes % 2 === 0) return at + 1;
  }
}

/** The index after the match at `at`, or `at` without one. */
function skip(pattern, text, at) {
  pattern.lastIndex = at;
  return pattern.test(text) ? pattern.lastIndex : at;
}
