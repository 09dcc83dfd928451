/**
 * The session of this page: given in the address, or made once and kept in this browser. The
 * sessions used lately are remembered here and nowhere else.
 */

import { charEnd } from './text.js';

const OWN_KEY = 'hookcast.session';
const RECENT_KEY = 'hookcast.recent';
const RECENT_MAX = 8;
/** More than a server takes (256 bytes): it still refuses what was cut, and the page stays light. */
const SESSION_CHARS_MAX = 300;

/** @returns {string} */
export function currentSession() {
  const given = new URLSearchParams(location.search).get('sessionId') ?? '';
  return given.slice(0, charEnd(given, SESSION_CHARS_MAX)) || read(OWN_KEY, undefined) || makeSession();
}

/** A new session in place of the one this browser keeps. */
export function makeSession() {
  // 128 random bits: who knows a session's name reads its messages.
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  const id = Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
  // Where nothing can be kept, the address keeps it.
  if (!keep(OWN_KEY, id)) history.replaceState(null, '', addressOf(id));
  return id;
}

/** @param {string} id */
export function addressOf(id) {
  return `?sessionId=${encodeURIComponent(id)}`;
}

/**
 * The sessions used lately, the latest first.
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
