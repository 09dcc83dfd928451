/**
 * The session of this page: given in the address or by a token, or created once and stored in this browser.
 * Recent sessions are stored in this browser only.
 */

import { charEnd } from './text.js';

const OWN_KEY = 'hookcast.session';
const RECENT_KEY = 'hookcast.recent';
const RECENT_MAX = 8;
/** Bounds the page's work. A server accepts less (256 bytes), so it refuses a name that was cut, too. */
const SESSION_CHARS_MAX = 300;

/** The session in the address; '': there is none. */
export function givenSession() {
  const given = new URLSearchParams(location.search).get('sessionId') ?? '';
  return given.slice(0, charEnd(given, SESSION_CHARS_MAX));
}

/**
 * The session of this browser, which is created if there is none.
 * @returns {string}
 */
export function ownSession() {
  return read(OWN_KEY, undefined) || makeSession();
}

/** Creates a session, which replaces the stored one. */
export function makeSession() {
  // 128 random bits: the name of a session gives access to its messages.
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  const id = Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
  // Without storage, the address holds it.
  if (!keep(OWN_KEY, id)) history.replaceState(null, '', addressOf(id));
  return id;
}

/** @param {string} id */
export function addressOf(id) {
  return `?sessionId=${encodeURIComponent(id)}`;
}

/**
 * The recent sessions, the latest first.
 * @returns {string[]}
 */
export function recentSessions() {
  return read(RECENT_KEY, []);
}

/** @param {string} id */
export function rememberSession(id) {
  const others = recentSessions().filter((other) => other !== id);
  keep(RECENT_KEY, [id, ...others].slice(0, RECENT_MAX));
}

export function forgetSessions() {
  keep(RECENT_KEY, []);
}

function read(key, otherwise) {
  try {
    return JSON.parse(localStorage.getItem(key) ?? '') ?? otherwise;
  } catch {
    return otherwise;
  }
}

function keep(key, value) {
  try {
    localStorage.setItem(key, JSON.stringify(value));
    return true;
  } catch {
    return false;
  }
}
