/**
 * The token of this page. It comes with a link (`#token=…`) or is pasted, and stays in this tab alone. The
 * address loses it at once, and no text of the page shows it.
 *
 * @typedef {{ sessions: string[], everything: boolean, expiresAt?: number }} Claims what a token says;
 *   `expiresAt`: in milliseconds since the Unix epoch
 */

const KEY = 'hookcast.token';
/** What a server accepts, in characters that may stand in a header field. */
const TOKEN = /^[!-~]{1,4096}$/;
/** The most sessions of a stream. */
const SESSIONS_MAX = 16;

/** Where the tab stores nothing. @type {string | undefined} */
let held;

/** @returns {string | undefined} */
export function currentToken() {
  return held ?? read();
}

/**
 * Takes the token out of the address: `undefined`, if there is none; '', if it is not usable.
 * @returns {string | undefined}
 */
export function takeFromAddress() {
  const given = inFragment(location.hash);
  if (given === undefined) return undefined;
  history.replaceState(history.state, '', location.pathname + location.search);
  return TOKEN.test(given) ? given : '';
}

/**
 * The token in a text that was pasted: a token, or a link with one. '': there is none.
 * @param {string} text
 */
export function tokenIn(text) {
  const pasted = text.trim();
  const token = URL.canParse(pasted) ? (inFragment(new URL(pasted).hash) ?? '') : pasted;
  return TOKEN.test(token) ? token : '';
}

/**
 * Uses another token from now on. Returns whether it survives a reload of the page.
 * @param {string} token
 */
export function keepToken(token) {
  held = token;
  try {
    sessionStorage.setItem(KEY, token);
    return true;
  } catch {
    return false;
  }
}

/**
 * What a token says, for display: only the server can tell whether it is true.
 * @param {string | undefined} token
 * @returns {Claims}
 */
export function claimsOf(token) {
  const { exp, hookcast } = payloadOf(token ?? '');
  const { sessions, everything } = hookcast ?? {};
  const names = Array.isArray(sessions) ? sessions.filter((name) => typeof name === 'string') : [];
  return { sessions: names, everything: everything === true, expiresAt: Number.isFinite(exp) ? exp * 1_000 : undefined };
}

/**
 * The sessions of which one has to be chosen, because a stream may have fewer.
 * @param {Claims | undefined} claims
 */
export function sessionsToChoose(claims) {
  const isShown = !claims || claims.everything || claims.sessions.length <= SESSIONS_MAX;
  return isShown ? [] : claims.sessions;
}

/** @returns {Record<string, any>} */
function payloadOf(/** @type {string} */ token) {
  try {
    const [, payload] = token.split('.');
    const bytes = Uint8Array.from(atob(payload.replaceAll('-', '+').replaceAll('_', '/')), (char) => char.charCodeAt(0));
    const value = JSON.parse(new TextDecoder().decode(bytes));
    return value instanceof Object ? value : {};
  } catch {
    return {};
  }
}

function inFragment(/** @type {string} */ fragment) {
  return new URLSearchParams(fragment.slice(1)).get('token') ?? undefined;
}

function read() {
  try {
    return sessionStorage.getItem(KEY) ?? undefined;
  } catch {
    return undefined;
  }
}
