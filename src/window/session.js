/**
 * The session this page belongs to: given in the address, or made once and kept in this browser. The
 * sessions used lately are remembered here and nowhere else.
 */

const OWN_KEY = 'hookcast.session';
const RECENT_KEY = 'hookcast.recent';
const RECENT_MAX = 8;
/** The server's limit. */
const SESSION_BYTES_MAX = 256;

/** @returns {{ id: string, error?: string }} */
export function currentSession() {
  const id = new URLSearchParams(location.search).get('sessionId') || ownSession();
  const bytes = new TextEncoder().encode(id).length;
  if (bytes <= SESSION_BYTES_MAX) return { id };
  return { id, error: `the session in the address has ${bytes} bytes; ${SESSION_BYTES_MAX} at most` };
}

/** A new session for this browser, in place of its own one. */
export function newSession() {
  const id = randomId();
  // Where nothing can be kept, the address keeps it.
  location.assign(keep(OWN_KEY, id) ? location.pathname : addressOf(id));
}

/** @param {string} id */
export function addressOf(id) {
  return `${location.pathname}?sessionId=${encodeURIComponent(id)}`;
}

/** The sessions used lately, the latest first. */
export function recentSessions() {
  try {
    const ids = JSON.parse(read(RECENT_KEY) ?? '[]');
    return Array.isArray(ids) ? ids.filter((id) => typeof id === 'string') : [];
  } catch {
    return [];
  }
}

/** @param {string} id */
export function rememberSession(id) {
  const others = recentSessions().filter((other) => other !== id);
  keep(RECENT_KEY, JSON.stringify([id, ...others].slice(0, RECENT_MAX)));
}

export function forgetSessions() {
  keep(RECENT_KEY, '[]');
}

function ownSession() {
  const kept = read(OWN_KEY);
  if (kept) return kept;
  const id = randomId();
  if (!keep(OWN_KEY, id)) history.replaceState(null, '', addressOf(id));
  return id;
}

/** 128 random bits. Whoever knows a session id can read its messages. */
function randomId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
}

/** @param {string} key */
function read(key) {
  try {
    return localStorage.getItem(key);
  } catch {
    return null;
  }
}

/**
 * @param {string} key
 * @param {string} value
 */
function keep(key, value) {
  try {
    localStorage.setItem(key, value);
    return true;
  } catch {
    return false;
  }
}
