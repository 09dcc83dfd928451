/**
 * The shared worker: one stream per session and token for all tabs of this browser. HTTP/1.1 allows six
 * connections to a server; without sharing, a seventh tab could not connect.
 *
 * @typedef {{ type: 'attach', url: string, sessionId: string, token?: string,
 *   saved: import('./feed.js').Message[] }
 *   | { type: 'detach' | 'reconnect' | 'check' | 'pong' }} Request from a tab
 */

import { Feed } from './feed.js';

/** Without pings, crashed tabs would stay attached, and updates for frozen tabs would pile up. */
const PING_MS = 15_000;
const TAB_SILENCE_MS_MAX = 60_000;

/** @type {Map<string, Feed>} */
const feeds = new Map();

addEventListener('connect', (event) => {
  const [port] = /** @type {MessageEvent} */ (event).ports;
  port.onmessage = ({ data }) => attach(port, data);
});

function attach(port, { url, sessionId, saved, token }) {
  const key = JSON.stringify([url, sessionId, token]);
  const feed = feeds.get(key) ?? new Feed(url, sessionId, saved, token);
  feeds.set(key, feed);
  let requestAt = Date.now();

  const follower = (update) => port.postMessage(update);
  const detach = () => {
    clearInterval(pings);
    feed.followers.delete(follower);
    // A tab that thaws attaches again.
    port.onmessage = ({ data }) => data.type === 'attach' && attach(port, data);
    if (feed.followers.size > 0 || feeds.get(key) !== feed) return;
    feeds.delete(key);
    feed.stream.close();
  };
  const pings = setInterval(() => {
    if (Date.now() - requestAt < TAB_SILENCE_MS_MAX) return port.postMessage({ type: 'ping' });
    port.postMessage({ type: 'dropped' });
    detach();
  }, PING_MS);

  port.onmessage = ({ data }) => {
    requestAt = Date.now();
    if (data.type === 'detach') detach();
    else if (data.type === 'reconnect') feed.stream.reconnect();
    else if (data.type === 'check') feed.stream.check();
  };
  feed.attach(follower, saved.at(-1)?.eventId);
}
