/**
 * Follows a session's stream through the shared worker, or with a connection of its own if that worker
 * is missing or does not start.
 *
 * @typedef {{ url: string, sessionId: string, token?: string, saved: () => import('./feed.js').Message[] }} Source
 *   `sessionId`: '': all that the token shows; `saved`: the messages that the page holds
 * @typedef {{ reconnect: () => void, check: () => void, close: () => void }} Link
 */

import { Feed } from './feed.js';

/** Time for the worker to answer. Its script is cached: only a broken one takes this long. */
const WORKER_MS_MAX = 5_000;

/**
 * @param {Source} source
 * @param {import('./feed.js').Follower} onUpdate
 * @param {(link: Link) => void} onLink called with the link, and again if another replaces it
 */
export function follow(source, onUpdate, onLink) {
  const alone = () => onLink(followAlone(source, onUpdate));
  const shared = followShared(source, onUpdate, alone);
  if (shared) onLink(shared);
  else alone();
}

/** @param {Source} source @param {import('./feed.js').Follower} onUpdate */
function followAlone({ url, sessionId, token, saved }, onUpdate) {
  const messages = saved();
  const feed = new Feed(url, sessionId, messages, token);
  feed.attach(onUpdate, messages.at(-1)?.eventId);
  return feed.stream;
}

/** @param {Source} source @param {import('./feed.js').Follower} onUpdate @param {() => void} onFailure */
function followShared({ url, sessionId, token, saved }, onUpdate, onFailure) {
  const worker = openWorker();
  if (!worker) return undefined;
  const { port } = worker;
  /** @param {import('./worker.js').Request} request */
  const send = (request) => port.postMessage(request);
  const attach = () => send({ type: 'attach', url, sessionId, token, saved: saved() });
  const started = () => {
    clearTimeout(timer);
    worker.onerror = null;
  };
  const close = () => {
    started();
    send({ type: 'detach' });
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
    if (data.type === 'ping') send({ type: 'pong' });
    else if (data.type === 'dropped') attach();
    else onUpdate(data);
  };
  attach();
  return { reconnect: () => send({ type: 'reconnect' }), check: () => send({ type: 'check' }), close };
}

function openWorker() {
  try {
    return new SharedWorker(new URL('./worker.js', import.meta.url), { type: 'module', name: 'hookcast' });
  } catch {
    return undefined;
  }
}
