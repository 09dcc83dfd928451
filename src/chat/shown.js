/**
 * Selects the entries to show: those that pass the filters and match the search. A pause keeps the
 * selection as it is and counts new entries.
 *
 * @typedef {import('./feed.js').Entry} Entry
 */

import { finds } from './search.js';

export class Shown {
  /** Messages shown, and messages that pass the filters. */
  count = 0;
  total = 0;
  /** Messages that arrived in the pause and are shown after it. */
  waiting = 0;
  #onlyMine = false;
  /** The name of the only source to show; '': all. */
  #source = '';
  /** @type {RegExp | undefined} */ #sought;
  #held;
  #sessionId;
  /** @type {Entry[] | undefined} the entries shown while paused */ #paused;
  /** @type {Set<Entry>} */ #waiting = new Set();
  #lost = 0;

  /**
   * @param {import('./history.js').History} held
   * @param {string} sessionId of this page
   */
  constructor(held, sessionId) {
    this.#held = held;
    this.#sessionId = sessionId;
    this.#recount();
  }

  get entries() {
    return (this.#paused ?? this.#held.entries).filter((entry) => this.shows(entry));
  }

  get sought() {
    return this.#sought;
  }

  get isPaused() {
    return this.#paused !== undefined;
  }

  /** @param {boolean} onlyMine */
  filter(onlyMine) {
    this.#onlyMine = onlyMine;
    this.#recount();
  }

  /** @param {string} source its name; '': all */
  filterSource(source) {
    this.#source = source;
    this.#recount();
  }

  /** @param {RegExp | undefined} sought */
  search(sought) {
    this.#sought = sought;
    this.#recount();
  }

  pause() {
    this.#paused = [...this.#held.entries];
  }

  /** Ends the pause. A gap replaces messages that arrived in the pause and were dropped. */
  resume() {
    if (this.#lost > 0) this.#held.lose(this.#lost);
    this.#paused = undefined;
    this.#waiting.clear();
    this.#lost = 0;
    this.#recount();
  }

  /**
   * Records new entries and those that are no longer held; returns the entries to show.
   * @param {Entry[]} fresh
   * @param {Entry[]} dropped
   */
  add(fresh, dropped) {
    const shown = fresh.filter((entry) => this.shows(entry));
    if (this.#paused) {
      for (const entry of fresh) this.#waiting.add(entry);
      for (const entry of dropped) if (this.#waiting.delete(entry)) this.#lost += messagesOf([entry]);
      this.waiting += messagesOf(shown);
      return [];
    }
    this.count += messagesOf(shown) - messagesOf(dropped.filter((entry) => this.shows(entry)));
    this.total += messagesOf(this.#filtered(fresh)) - messagesOf(this.#filtered(dropped));
    return shown;
  }

  /** @param {Entry} entry */
  shows(entry) {
    return this.#passes(entry) && (!this.#sought || (!!entry.message && finds(this.#sought, entry.message.content)));
  }

  #passes(/** @type {Entry} */ { message }) {
    if (!message) return true;
    const isMine = message.sessionId === this.#sessionId;
    return (isMine || !this.#onlyMine) && (message.source === this.#source || !this.#source);
  }

  #filtered(/** @type {Entry[]} */ entries) {
    return entries.filter((entry) => this.#passes(entry));
  }

  #recount() {
    this.count = messagesOf(this.entries);
    this.total = messagesOf(this.#filtered(this.#paused ?? this.#held.entries));
    this.waiting = messagesOf([...this.#waiting].filter((entry) => this.shows(entry)));
  }
}

/** @param {Entry[]} entries */
export function messagesOf(entries) {
  return entries.filter(({ message }) => message).length;
}
