/** Makes elements. Texts become text nodes, never markup. */

import { escapeTurning, marksAndRuns, partsOf, piecesOf } from './text.js';

const { format } = new Intl.NumberFormat();

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

/**
 * Shows a text with its links, laid out in pieces.
 * @param {HTMLElement} body
 * @param {string} text
 * @param {boolean} goesOn more text follows, which is not shown
 * @param {(plain: string) => string} [written] returns the displayed form of plain text
 */
export function showText(body, text, goesOn, written = String) {
  // Beyond 125 nested controls (UAX #9) isolation ends, and a link would be reversed. An inline block is not.
  const boxed = /[\u202a-\u202e\u2066-\u2069]/.test(text);
  const pieces = piecesOf(text);
  for (const [i, piece] of pieces.entries()) {
    const isLast = i === pieces.length - 1;
    const block = pieces.length > 1 ? el('div') : body;
    for (const part of partsOf(piece, goesOn || !isLast)) block.append(node(part, boxed, written));
    if (goesOn && isLast) block.append('…');
    if (block !== body) body.append(block);
  }
}

/**
 * Shows a short text in its true order and without links.
 * @param {HTMLElement} body
 * @param {string} text
 */
export function showPlain(body, text) {
  for (const part of marksAndRuns(escapeTurning(text))) body.append(node(part, false, String));
}

/**
 * @param {import('./text.js').Part} part
 * @param {boolean} boxed
 * @param {(plain: string) => string} written
 */
function node(part, boxed, written) {
  if (part === null) return el('wbr');
  if (typeof part === 'string') return written(part);
  if ('stack' in part) return el('span', { class: 'stack' }, part.stack);
  const link = el('a', {
    ...{ href: part.address, target: '_blank', rel: 'noopener noreferrer nofollow ugc' },
    ...{ referrerpolicy: 'no-referrer', dir: 'ltr' },
  });
  if (boxed) link.className = 'boxed';
  if (part.host) link.dataset.host = part.host;
  for (const inner of marksAndRuns(part.address)) link.append(node(inner, boxed, String));
  return link;
}
