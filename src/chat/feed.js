/**
 * One stream and its recent entries, for any number of followers: the tabs of a browser, or a single
 * page without a shared worker.
 *
 * @typedef {import('./hookcast.js').Message} Message
 * @typedef {import('./hookcast.js').State} State
 * @typedef {{ message?: Message, missed?: number | null }} Entry a message, or a gap
 * @typedef {{ type: 'begin', entries: Entry[], whole: boolean, state: State }
 *   | { type: 'entries', entries: Entry[] }
 *   | { type: 'state', state: State }} Update `begin` answers `attach` with the entries since the last
 *   known event; `whole`: none is missing
 * @typedef {(update: Update) => void} Follower
 */

import { connect } from './hookcast.js';

/** Entries kept for later followers, and the total characters of their messages. */
const ENTRIES_MAX = 1_000;
const CHARS_MAX = 8 * 1024 * 1024;

export class Feed {
  /** @type {Set<Follower>} */ followers = new Set();
  #entries = [];
  #chars = 0;
  #unsent = [];
  /** @type {State} */ #state = { state: 'connecting' };

  /**
   * @param {string} url
   * @param {string} sessionId '': all that the token shows
   * @param {Message[]} saved the messages that a page holds: the feed resumes after them
   * @param {string} [token]
   */
  constructor(url, sessionId, saved, token) {
    for (const message of saved) this.#keep({ message });
    const lastEventId = saved.at(-1)?.eventId;
    const seenIds = saved.map(({ id }) => id);
    this.stream = connect({ url, sessionId, lastEventId, seenIds, token: token ? () => token : undefined });
    this.stream.on('message', (message) => this.#add({ message }));
    this.stream.on('gap', ({ missed }) => this.#add({ missed }));
    this.stream.on('state', (state) => this.#show(state, Boolean(token)));
  }

  /**
   * @param {Follower} follower
   * @param {string | undefined} lastEventId the last event that the follower knows
   */
  attach(follower, lastEventId) {
    this.#flush();
    const known = this.#entries.findLastIndex(({ message }) => message?.eventId === lastEventId);
    this.followers.add(follower);
    const whole = lastEventId === undefined || known >= 0;
    follower({ type: 'begin', entries: this.#entries.slice(known + 1), whole, state: this.#state });
  }

  /** A page has one token. When it has ended or was refused, there is nothing to wait for. */
  #show(/** @type {State} */ state, /** @type {boolean} */ hasToken) {
    if (this.#state.state === 'refused' && state.state === 'closed') return;
    const isEnd = state.state === 'waiting' && (state.reason === 'token' || (hasToken && state.status === 401));
    this.#state = isEnd ? { ...state, state: 'refused', retryAt: undefined } : state;
    this.#send({ type: 'state', state: this.#state });
    if (isEnd) this.stream.close();
  }

  #add(entry) {
    this.#keep(entry);
    // One update for all entries of one read.
    if (this.#unsent.push(entry) === 1) queueMicrotask(() => this.#flush());
  }

  #keep(entry) {
    this.#entries.push(entry);
    this.#chars += charsOf(entry);
    while (this.#entries.length > ENTRIES_MAX || this.#chars > CHARS_MAX) {
      this.#chars -= charsOf(this.#entries.shift());
    }
  }

  #flush() {
    const entries = this.#unsent;
    this.#unsent = [];
    if (entries.length > 0) this.#send({ type: 'entries', entries });
  }

  #send(update) {
    // Entries before a change of state, as on the stream.
    if (update.type === 'state') this.#flush();
    for (const follower of this.followers) follower(update);
  }
}

function charsOf({ message }) {
  return message?.content.length ?? 0;
}
