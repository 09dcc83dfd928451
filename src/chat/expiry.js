/**
 * The end of access: a countdown in the last minute of a token, and a place for a new one.
 *
 * @typedef {import('./hookcast.js').State} State
 */

import { currentToken, tokenIn } from './access.js';

/** The last part of a token's life, in which the server announces its end. */
const EXPIRY_MS_MAX = 60_000;

export class Expiry {
  #form;
  #text;
  #countdown;
  #isWrong = false;
  /** @type {ReturnType<typeof setInterval> | undefined} */ #ticks;

  /**
   * @param {any} root
   * @param {(token: string) => void} onToken
   */
  constructor(root, onToken) {
    [this.#text, this.#countdown, this.#form] = root.children;
    const { token } = this.#form.elements;
    token.oninput = () => token.setCustomValidity('');
    this.#form.onsubmit = (/** @type {Event} */ event) => {
      event.preventDefault();
      const given = tokenIn(token.value);
      token.setCustomValidity(given ? '' : NO_TOKEN);
      if (!this.#form.reportValidity()) return;
      token.value = '';
      onToken(given);
    };
  }

  /** @param {State} state */
  show(state) {
    const text = wordsOf(state);
    // While it reconnects, the question stays.
    if (text === undefined || (text === '' && this.#isWrong)) return;
    this.#say(text, text === ENDS ? state.expiresAt : 0);
  }

  /** A link had a token that no server accepts. */
  refuse() {
    this.#isWrong = true;
    this.#say(NO_TOKEN);
  }

  /** Another token is in use. */
  accept() {
    this.#isWrong = false;
  }

  #say(/** @type {string} */ text, expiresAt = 0) {
    // Setting the same text would announce it again.
    if (this.#text.textContent !== text) this.#text.textContent = text;
    this.#form.hidden = !text;
    clearInterval(this.#ticks);
    // Outside the live region, so that the seconds are not read out.
    const tick = () => (this.#countdown.textContent = expiresAt ? `in ${secondsTo(expiresAt)} s` : '');
    if (expiresAt) this.#ticks = setInterval(tick, 1_000);
    tick();
  }
}

const ENDS = 'Access ends';
const NO_TOKEN = 'This is neither a token nor a link with one';

/** What to say; '': nothing; `undefined`: what is said already. */
function wordsOf(/** @type {State} */ { state, reason, status, expiresAt }) {
  if (state === 'live') return expiresAt ? ENDS : '';
  if (state !== 'refused') return undefined;
  if (reason === 'token') return 'Access has ended';
  if (status === 401) return currentToken() ? 'Access was refused' : 'Access needs a token';
  return status === 403 ? 'Access was refused' : undefined;
}

function secondsTo(/** @type {number} */ expiresAt) {
  // The clock of this machine may be wrong.
  return Math.ceil(Math.min(Math.max(expiresAt - Date.now(), 0), EXPIRY_MS_MAX) / 1_000);
}
