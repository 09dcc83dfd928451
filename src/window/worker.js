/**
 * The shared worker: one stream per session for all tabs of this browser. HTTP/1.1 allows six
 * connections to a server; without sharing, the seventh tab would starve.
 *
 * @typedef {{ type: 'attach', url: string, sessionId: string, saved: import('./feed.js').Message[] }
 *   | { type: 'detach' | 'reconnect' | 'check' | 'pong' }} Request what a tab says
 */

import { Feed } from './feed.js';

/** A tab that crashed does not say goodbye, and a frozen one must not pile up updates. */
const PING_MS = 15_000;
const TAB_SILENCE_MS_MAX = 60_000;

/** @type {Map<string, Feed>} */
const feeds = new Map();

addEventListener('connect', (event) => {
  const [port] = /** @type {MessageEvent} */ (event).ports;
  port.onmessage = ({ data }) => attach(port, data);
});

function attach(port, { url, sessionId, saved }) {
  const key = JSON.stringify([url, sessionId]);
  const feed = feeds.get(key) ?? new Feed(url, sessionId, saved);
  feeds.set(key, feed);
  let heardAt = Date.now();

  const follower = (update) => port.postMessage(update);
  const detach = () => {
    clearInterval(pings);
    feed.detach(follower);
    // The next message is from a tab that came back.
    port.onmessage = ({ data }) => data.type === 'attach' && attach(port, data);
    if (feed.followers > 0 || feeds.get(key) !== feed) return;
    feeds.delete(key);
    feed.close();
  };
  const pings = setInterval(() => {
    if (Date.now() - heardAt < TAB_SILENCE_MS_MAX) return port.postMessage({ type: 'ping' });
    port.postMessage({ type: 'dropped' });
    detach();
  }, PING_MS);

  port.onmessage = ({ data }) => {
    heardAt = Date.now();
    if (data.type === 'detach') detach();
    else if (data.type === 'reconnect') feed.reconnect();
    else if (data.type === 'check') feed.check();
  };
  feed.attach(follower, saved.at(-1)?.eventId);
}
