/**
 * Follows a session's stream through the shared worker, or with a connection of its own where the
 * browser has no such worker or does not start it.
 */

import { Feed } from './feed.js';

/** @typedef {import('./feed.js').Saved} Saved */
/** @typedef {import('./feed.js').Update} Update */

/**
 * What to follow, and what the page holds of it at the time of asking.
 * @typedef {{ url: string, sessionId: string, saved: () => Saved }} Source
 */

/** @typedef {{ reconnect: () => void, check: () => void, close: () => void }} Link */

/** Time for the worker to answer. It comes from the cache, so only a broken one takes this long. */
const WORKER_MS_MAX = 5_000;

/**
 * @param {Source} source
 * @param {(update: Update) => void} onUpdate
 * @returns {Link}
 */
export function follow(source, onUpdate) {
  const alone = () => followAlone(source, onUpdate);
  let link = followShared(source, onUpdate, () => (link = alone())) ?? alone();
  return {
    reconnect: () => link.reconnect(),
    check: () => link.check(),
    close: () => link.close(),
  };
}

/**
 * @param {Source} source
 * @param {(update: Update) => void} onUpdate
 * @returns {Link}
 */
function followAlone({ url, sessionId, saved }, onUpdate) {
  const messages = saved();
  const feed = new Feed(url, sessionId, messages);
  feed.attach(onUpdate, messages.at(-1)?.eventId);
  return feed;
}

/**
 * @param {Source} source
 * @param {(update: Update) => void} onUpdate
 * @param {() => void} onFailure the worker did not start
 * @returns {Link | undefined} undefined if there is no such worker here
 */
function followShared({ url, sessionId, saved }, onUpdate, onFailure) {
  const worker = openWorker();
  if (!worker) return undefined;
  const { port } = worker;
  /** @param {import('./worker.js').Request} request */
  const say = (request) => port.postMessage(request);
  const attach = () => say({ type: 'attach', url, sessionId, saved: saved() });
  const close = () => {
    clearTimeout(timer);
    worker.onerror = null;
    say({ type: 'detach' });
    port.close();
  };
  const fail = () => {
    close();
    onFailure();
  };
  const timer = setTimeout(fail, WORKER_MS_MAX);
  worker.onerror = fail;
  port.onmessage = ({ data }) => {
    clearTimeout(timer);
    worker.onerror = null;
    if (data.type === 'ping') say({ type: 'pong' });
    else if (data.type === 'dropped') attach();
    else onUpdate(data);
  };
  attach();
  return {
    reconnect: () => say({ type: 'reconnect' }),
    check: () => say({ type: 'check' }),
    close,
  };
}

function openWorker() {
  try {
    return new SharedWorker(trusted(new URL('./worker.js', import.meta.url).href), {
      type: 'module',
      name: 'hookcast',
    });
  } catch {
    return undefined;
  }
}

/**
 * The policy by which this page may start a script at all (Trusted Types).
 * @param {string} url
 * @returns {any}
 */
function trusted(url) {
  const types = /** @type {any} */ (globalThis).trustedTypes;
  if (!types) return url;
  policy ??= types.createPolicy('hookcast', { createScriptURL: (/** @type {string} */ u) => u });
  return policy.createScriptURL(url);
}
/** @type {any} */
let policy;
