/**
 * Finds a text in messages, and marks it in the page without changing elements (CSS Custom Highlight
 * API). Browsers without this API filter without marks.
 */

import { charEnd } from './text.js';

/** Characters of an excerpt on either side of a match. */
const AROUND_CHARS = 60;
/** Marks shown at once. */
const MARKS_MAX = 5_000;
const NAME = 'found';

/**
 * The pattern of a search. It ignores case, and the spaces that a formatted view adds after `:` and `,`.
 * @param {string} query
 * @returns {RegExp | undefined}
 */
export function patternOf(query) {
  const escaped = query.trim().replace(/[\\^$.*+?()[\]{}|/]/g, '\\$&');
  return escaped ? RegExp(escaped.replace(/([:,])\s*/g, '$1\\s*'), 'giu') : undefined;
}

/**
 * Whether a message matches, as sent or with its JSON escapes decoded.
 * @param {RegExp} pattern
 * @param {string} content
 */
export function finds(pattern, content) {
  return content.search(pattern) >= 0 || (content.includes('\\') && unescaped(content).search(pattern) >= 0);
}

/**
 * The first match in a message, with the text around it, and whether more text follows.
 * @param {RegExp} pattern
 * @param {string} content
 */
export function excerptOf(pattern, content) {
  const text = content.search(pattern) >= 0 ? content : unescaped(content);
  const at = text.search(pattern);
  const [from, to] = [charEnd(text, Math.max(at - AROUND_CHARS, 0)), charEnd(text, at + 2 * AROUND_CHARS)];
  return { text: (from > 0 ? '…' : '') + text.slice(from, to), goesOn: to < text.length };
}

function unescaped(text) {
  return text.replace(/\\(?:u([\da-f]{4})|([\\"/]))/gi, (_, hex, char) => char ?? String.fromCharCode(parseInt(hex, 16)));
}

/** Marks matches in the elements of a log, now and after changes. */
export class Marks {
  #log;
  #observer;
  /** @type {RegExp | undefined} */ #pattern;
  #frame = 0;

  /** @param {HTMLElement} log */
  constructor(log) {
    this.#log = log;
    this.#observer = new MutationObserver(() => this.#schedule());
  }

  /** @param {RegExp | undefined} pattern */
  show(pattern) {
    this.#pattern = pattern;
    this.#observer.disconnect();
    if (!globalThis.Highlight) return;
    if (pattern) this.#observer.observe(this.#log, { childList: true, subtree: true });
    this.#schedule();
  }

  #schedule() {
    this.#frame ||= requestAnimationFrame(() => {
      this.#frame = 0;
      this.#mark();
    });
  }

  #mark() {
    const ranges = [];
    for (const element of this.#pattern ? this.#log.querySelectorAll('.content, .excerpt') : []) {
      ranges.push(...rangesIn(element, this.#pattern));
      if (ranges.length > MARKS_MAX) break;
    }
    if (ranges.length > 0) CSS.highlights.set(NAME, new Highlight(...ranges.slice(0, MARKS_MAX)));
    else CSS.highlights.delete(NAME);
  }
}

function rangesIn(element, pattern) {
  const walker = document.createTreeWalker(element, NodeFilter.SHOW_TEXT);
  const nodes = [];
  const starts = [];
  let text = '';
  for (let node; (node = /** @type {Text | null} */ (walker.nextNode())); ) {
    if (node.parentElement?.closest('button, .folded, [open] > summary > .preview')) continue;
    nodes.push(node);
    starts.push(text.length);
    text += node.data;
  }
  const ranges = [];
  let i = 0;
  for (const { 0: found, index } of text.matchAll(pattern)) {
    const end = index + found.length;
    while (starts[i + 1] <= index) i += 1;
    let j = i;
    while (starts[j + 1] < end) j += 1;
    const [startContainer, endContainer] = [nodes[i], nodes[j]];
    ranges.push(new StaticRange({ startContainer, startOffset: index - starts[i], endContainer, endOffset: end - starts[j] }));
    if (ranges.length > MARKS_MAX) break;
  }
  return ranges;
}
