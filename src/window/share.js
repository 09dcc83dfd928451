/**
 * Follows a session's stream through the shared worker, or with a connection of its own where the
 * browser has no such worker or does not start it.
 *
 * @typedef {{ url: string, sessionId: string, saved: () => import('./feed.js').Message[] }} Source
 *   what to follow, and what the page holds of it when asked
 * @typedef {{ reconnect: () => void, check: () => void, close: () => void }} Link
 */

import { Feed } from './feed.js';

/** Time for the worker to answer. It comes from the cache: only a broken one takes this long. */
const WORKER_MS_MAX = 5_000;

/**
 * @param {Source} source
 * @param {import('./feed.js').Follower} onUpdate
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

function followAlone({ url, sessionId, saved }, onUpdate) {
  const messages = saved();
  const feed = new Feed(url, sessionId, messages);
  feed.attach(onUpdate, messages.at(-1)?.eventId);
  return feed;
}

function followShared({ url, sessionId, saved }, onUpdate, onFailure) {
  const worker = openWorker();
  if (!worker) return undefined;
  const { port } = worker;
  /** @param {import('./worker.js').Request} request */
  const say = (request) => port.postMessage(request);
  const attach = () => say({ type: 'attach', url, sessionId, saved: saved() });
  const started = () => {
    clearTimeout(timer);
    worker.onerror = null;
  };
  const close = () => {
    started();
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
    started();
    if (data.type === 'ping') say({ type: 'pong' });
    else if (data.type === 'dropped') attach();
    else onUpdate(data);
  };
  attach();
  return { reconnect: () => say({ type: 'reconnect' }), check: () => say({ type: 'check' }), close };
}

function openWorker() {
  try {
    return new SharedWorker(new URL('./worker.js', import.meta.url), { type: 'module', name: 'hookcast' });
  } catch {
    return undefined;
  }
}
