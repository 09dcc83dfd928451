/**
 * One stream and the recent part of what it said, for any number of followers: the tabs of a
 * browser, or the one page itself where they cannot share.
 *
 * @typedef {import('./hookcast.js').Message} Message
 * @typedef {import('./hookcast.js').State} State
 * @typedef {{ message?: Message, missed?: number | null }} Entry a message, or a gap
 * @typedef {{ type: 'begin', entries: Entry[], whole: boolean, state: State }
 *   | { type: 'entries', entries: Entry[] }
 *   | { type: 'state', state: State }} Update `begin` answers `attach`: what came since, and whether
 *   that is all
 * @typedef {(update: Update) => void} Follower
 */

import { connect } from './hookcast.js';

/** Entries kept for those who join later, and the characters of their messages in all. */
const ENTRIES_MAX = 1_000;
const CHARS_MAX = 8 * 1024 * 1024;

export class Feed {
  #stream;
  #entries = [];
  #chars = 0;
  #followers = new Set();
  #news = [];

  /**
   * @param {string} url
   * @param {string} sessionId
   * @param {Message[]} saved what a page still holds: the feed goes on from there
   */
  constructor(url, sessionId, saved) {
    for (const message of saved) this.#keep({ message });
    const lastEventId = saved.at(-1)?.eventId;
    const seenIds = saved.map(({ id }) => id);
    this.#stream = connect({ url, sessionId, lastEventId, seenIds });
    this.#stream.on('message', (message) => this.#add({ message }));
    this.#stream.on('gap', ({ missed }) => this.#add({ missed }));
    this.#stream.on('state', (state) => this.#tell({ type: 'state', state }));
  }

  get followers() {
    return this.#followers.size;
  }

  /**
   * @param {Follower} follower
   * @param {string | undefined} lastEventId the last event that the follower knows
   */
  attach(follower, lastEventId) {
    this.#flush();
    const known = this.#entries.findLastIndex(({ message }) => message?.eventId === lastEventId);
    this.#followers.add(follower);
    const whole = lastEventId === undefined || known >= 0;
    follower({ type: 'begin', entries: this.#entries.slice(known + 1), whole, state: this.#stream.state });
  }

  detach(follower) {
    this.#followers.delete(follower);
  }

  close() {
    this.#stream.close();
  }

  reconnect() {
    this.#stream.reconnect();
  }

  check() {
    this.#stream.check();
  }

  #add(entry) {
    this.#keep(entry);
    // One update for all that came in one piece.
    if (this.#news.push(entry) === 1) queueMicrotask(() => this.#flush());
  }

  #keep(entry) {
    this.#entries.push(entry);
    this.#chars += charsOf(entry);
    while (this.#entries.length > ENTRIES_MAX || this.#chars > CHARS_MAX) {
      this.#chars -= charsOf(this.#entries.shift());
    }
  }

  #flush() {
    const entries = this.#news;
    this.#news = [];
    if (entries.length > 0) this.#tell({ type: 'entries', entries });
  }

  #tell(update) {
    // News before a change of state, as it was on the stream.
    if (update.type === 'state') this.#flush();
    for (const follower of this.#followers) follower(update);
  }
}

function charsOf({ message }) {
  return message?.content.length ?? 0;
}
