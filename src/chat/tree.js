/**
 * Shows JSON as a tree that folds. Large containers are folded at first, long lists and strings are cut,
 * and deep values stay text. So the number of elements is bounded until more is opened.
 *
 * @typedef {import('./json.js').Node} Node
 * @typedef {{ open: Map<number, boolean>, shown: Map<number, number> }} View the opened parts, by index
 *   in the text
 */

import { countOf, el, showPlain, showText } from './elements.js';
import { childrenOf, rootOf } from './json.js';
import { charEnd, escapeTurning } from './text.js';

/** Rows shown at first, over all levels, and the most rows of the root before some are left out. */
const ROWS_AT_FIRST = 16;
const ROOT_ROWS_MAX = 24;
/** Characters of the containers that open by themselves. Each level is parsed again, so this bounds the cost of deep nesting. */
const CHARS_AT_FIRST_MIN = 16 * 1024;
const CHARS_AT_FIRST_MAX = 256 * 1024;
/** Rows of one container, and added by each "Show more". */
const ROWS_MAX = 100;
/** Levels that can be opened, and levels that are indented. */
const DEPTH_MAX = 32;
const INDENTED_MAX = 8;
/** Characters shown of a key, of a value, and of a value that was opened. */
const KEY_CHARS = 100;
const VALUE_CHARS = 200;
const MORE_CHARS = 64 * 1024;
/** Values shown of a tree that is folded as a whole, the characters of each, and of all. */
const PREVIEW_VALUES = 6;
const PREVIEW_VALUE_CHARS = 40;
const PREVIEW_CHARS = 120;

/**
 * @param {string} text for which `isJson` holds
 * @param {View} view
 * @param {boolean} isFolded whether only a preview is shown at first
 */
export function renderTree(text, view, isFolded) {
  const root = el('div', { class: 'content json', dir: 'ltr' });
  const budget = { rows: ROWS_AT_FIRST, chars: Math.max(CHARS_AT_FIRST_MIN, Math.min(4 * text.length, CHARS_AT_FIRST_MAX)) };
  root.append(...rows({ text, view, budget, isFolded }, rootOf(text), 0, true));
  return root;
}

/** The rows of a value: one, or for a container an element that folds. */
function rows(tree, node, depth, isFirst = false) {
  const { text } = tree;
  const isContainer = node.kind === 'object' || node.kind === 'array';
  const label = keyOf(node);
  const comma = node.last ? '' : ',';
  if (isContainer && node.count > 0 && depth < DEPTH_MAX) return [folding(tree, node, depth, label, comma, isFirst)];
  const shown = node.kind === 'string' ? stringOf(tree, node) : cut(text.slice(node.start, node.end), node.kind);
  return [el('div', { class: 'row' }, ...label, shown, comma)];
}

function folding(tree, node, depth, label, comma, isFirst) {
  const { text, view, budget } = tree;
  const { start, end, count } = node;
  const [opening, closing] = [text[start], text[end - 1] + comma];
  const noun = countOf(count, node.kind === 'object' ? 'key' : 'item');
  const folded = el('span', { class: 'folded' }, ` ${noun} `);
  const rest = el('span', { class: 'folded closing' }, closing);
  const inside = isFirst && tree.isFolded ? preview(text, node) : [folded];
  const summary = el('summary', {}, ...label, opening, ...inside, rest);
  const details = /** @type {HTMLDetailsElement} */ (el('details', {}, summary));
  const opensByItself = isFirst ? !tree.isFolded : (count <= budget.rows && end - start <= budget.chars);
  const open = view.open.get(start) ?? opensByItself;

  const fill = () => {
    const inner = el('div', { class: depth < INDENTED_MAX ? 'inner' : 'inner deep' });
    details.append(inner, el('div', { class: 'row' }, closing));
    list(tree, node, depth, inner, isFirst && count > ROOT_ROWS_MAX ? ROWS_AT_FIRST : ROWS_MAX);
  };
  if (open) {
    budget.rows -= Math.min(count, ROWS_AT_FIRST);
    budget.chars -= end - start;
    details.open = true;
    fill();
  }
  // Keys that open a summary cause a click, too.
  summary.addEventListener('click', () => view.open.set(start, !details.open));
  details.addEventListener('toggle', () => details.open && details.childElementCount === 1 && fill());
  return details;
}

/** Lists the values in a container: `wanted` at first, more on demand. */
function list(tree, node, depth, into, wanted) {
  const { shown } = tree.view;
  const children = childrenOf(tree.text, node);
  let listed = 0;
  const add = (limit) => {
    const added = [];
    for (let child; listed < limit && !(child = children.next()).done; listed += 1) added.push(...rows(tree, child.value, depth + 1));
    into.append(...added);
    if (listed === node.count) return added[0];
    const more = el('button', { class: 'more' }, `Show more (${countOf(node.count - listed, node.kind === 'object' ? 'key' : 'item')})`);
    more.addEventListener('click', () => {
      shown.set(node.start, listed + ROWS_MAX);
      more.remove();
      focus(add(listed + ROWS_MAX));
    });
    into.append(more);
    return added[0];
  };
  add(shown.get(node.start) ?? wanted);
}

/** The first values, and the number of the others. Without links, which a summary must not hold. */
function preview(text, node) {
  const shown = el('span', { class: 'preview' }, ' ');
  let listed = 0;
  for (const child of childrenOf(text, node)) {
    if (child.key) shown.append(plain('key', quoted(child.key)), ': ');
    shown.append(briefly(text, child), child.last ? ' ' : ', ');
    listed += 1;
    if (listed === PREVIEW_VALUES || shown.textContent.length > PREVIEW_CHARS) break;
  }
  const left = node.count - listed;
  const rest = el('span', { class: 'folded' }, `… ${countOf(left, node.kind === 'object' ? 'more key' : 'more item')} `);
  return left > 0 ? [shown, rest] : [shown];
}

function briefly(text, { start, end, kind, count }) {
  if (kind === 'string') return plain(kind, quoted(text.slice(start, end)));
  if (kind === 'object' || kind === 'array') return text[start] + (count > 0 ? '…' : '') + text[end - 1];
  return plain(kind, shortened(text.slice(start, end), PREVIEW_VALUE_CHARS));
}

/** The beginning of a JSON string, with the fewest escapes. */
function quoted(lexeme) {
  const text = JSON.parse(lexeme);
  const end = charEnd(text, PREVIEW_VALUE_CHARS);
  return `${JSON.stringify(text.slice(0, end)).slice(0, -1)}${end < text.length ? '…' : ''}"`;
}

function plain(kind, text) {
  const span = el('span', { class: kind });
  showPlain(span, text);
  return span;
}

function keyOf({ key }) {
  if (key === undefined) return [];
  const span = el('span', { class: 'key' });
  showDecoded(span, key, KEY_CHARS);
  return [span, ': '];
}

function stringOf({ text, view }, { start, end }) {
  const lexeme = text.slice(start, end);
  const span = el('span', { class: 'string' });
  const show = () => {
    span.replaceChildren();
    const limit = view.shown.get(start) ?? VALUE_CHARS;
    const left = showDecoded(span, lexeme, limit);
    if (left === 0) return;
    const more = el('button', { class: 'more' }, `Show more (${countOf(left, 'character')})`);
    more.addEventListener('click', () => {
      view.shown.set(start, limit + MORE_CHARS);
      show();
      focus(span);
    });
    span.append(more);
  };
  show();
  return span;
}

/** Shows a JSON string with the fewest escapes; returns the number of characters left out. */
function showDecoded(span, lexeme, limit) {
  const text = JSON.parse(lexeme);
  const end = charEnd(text, limit);
  const goesOn = end < text.length;
  span.append('"');
  showText(span, text.slice(0, end), goesOn, (part) => escapeTurning(JSON.stringify(part).slice(1, -1)));
  if (!goesOn) span.append('"');
  return text.length - end;
}

/** A number, a literal, or a value that is too deep. */
function cut(text, kind) {
  return el('span', { class: kind }, escapeTurning(shortened(text, VALUE_CHARS)));
}

function shortened(text, chars) {
  return text.length > chars ? `${text.slice(0, charEnd(text, chars))}…` : text;
}

/** The opened part takes the focus of the removed button. */
function focus(element) {
  element.tabIndex = -1;
  element.focus({ preventScroll: true });
}
