/**
 * One stream and the recent part of what it said, for any number of followers: the tabs of a
 * browser, behind the shared worker, or the one page itself where there is no such worker.
 */

import { connect } from './hookcast.js';

/** Entries kept for a follower that joins later, and the characters they may hold in all. */
const ENTRIES_MAX = 1_000;
const CHARS_MAX = 8 * 1024 * 1024;

/** @typedef {import('./hookcast.js').Message} Message */
/** @typedef {import('./hookcast.js').State} State */

/** @typedef {{ message: Message, missed?: undefined } | { message?: undefined, missed: number | null }} Entry */

/**
 * What a page held when it was left: its newest messages, oldest first.
 * @typedef {Message[]} Saved
 */

/**
 * - `begin`: the answer to `attach`: what happened since, and whether it goes on without a hole
 * - `entries`: news
 * @typedef {{ type: 'begin', entries: Entry[], whole: boolean, state: State }
 *   | { type: 'entries', entries: Entry[] }
 *   | { type: 'state', state: State }} Update
 */

/** @typedef {(update: Update) => void} Follower */

export class Feed {
  #stream;
  /** @type {Entry[]} */ #entries = [];
  #chars = 0;
  /** @type {Set<Follower>} */ #followers = new Set();
  /** @type {Entry[]} */ #news = [];

  /**
   * @param {string} url
   * @param {string} sessionId
   * @param {Saved} saved where to resume
   */
  constructor(url, sessionId, saved) {
    for (const message of saved) this.#keep({ message });
    this.#stream = connect({
      url,
      sessionId,
      lastEventId: saved.at(-1)?.eventId,
      seenIds: saved.map((message) => message.id),
    });
    this.#stream.on('message', (message) => this.#add({ message }));
    this.#stream.on('gap', ({ missed }) => this.#add({ missed }));
    this.#stream.on('state', (state) => this.#tell({ type: 'state', state }));
  }

  get followers() {
    return this.#followers.size;
  }

  /**
   * Adds a follower, who is told at once of everything after `lastEventId`.
   * @param {Follower} follower
   * @param {string | undefined} lastEventId
   */
  attach(follower, lastEventId) {
    this.#flush();
    const at = this.#entries.findLastIndex(({ message }) => message?.eventId === lastEventId);
    this.#followers.add(follower);
    follower({
      type: 'begin',
      entries: this.#entries.slice(at + 1),
      whole: lastEventId === undefined || at >= 0,
      state: this.#stream.state,
    });
  }

  /** @param {Follower} follower */
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

  /** @param {Entry} entry */
  #add(entry) {
    this.#keep(entry);
    // One update for all that came in one piece.
    if (this.#news.push(entry) === 1) queueMicrotask(() => this.#flush());
  }

  #flush() {
    const entries = this.#news;
    this.#news = [];
    if (entries.length > 0) this.#tell({ type: 'entries', entries });
  }

  /** @param {Entry} entry */
  #keep(entry) {
    this.#entries.push(entry);
    this.#chars += charsOf(entry);
    let dropped = 0;
    while (this.#entries.length - dropped > ENTRIES_MAX || this.#chars > CHARS_MAX) {
      if (this.#entries.length - dropped === 1) break;
      this.#chars -= charsOf(this.#entries[dropped]);
      dropped += 1;
    }
    if (dropped > 0) this.#entries.splice(0, dropped);
  }

  /** @param {Update} update */
  #tell(update) {
    // The order of news and states is that of the stream.
    if (update.type === 'state') this.#flush();
    for (const follower of this.#followers) follower(update);
  }
}

/** @param {Entry} entry */
function charsOf(entry) {
  return entry.message?.content.length ?? 0;
}
