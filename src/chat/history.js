/**
 * The entries that the page holds: the newest of its stream, each message once, in the stream's order.
 * Some survive a reload.
 *
 * @typedef {import('./feed.js').Entry} Entry
 * @typedef {import('./feed.js').Message} Message
 */

/** Entries held, and the total characters of their messages. */
const ENTRIES_MAX = 10_000;
const CHARS_MAX = 32 * 1024 * 1024;
/** Messages that survive a reload: two full replays, within the few megabytes that a browser stores. */
const SAVED_MAX = 200;
const SAVED_CHARS_MAX = 512 * 1024;

export class History {
  #key;
  /** @type {Entry[]} */ #entries = [];
  #ids = new Set();
  #chars = 0;

  /** @param {string} sessionId */
  constructor(sessionId) {
    this.#key = `hookcast.history.${sessionId}`;
    for (const message of load(this.#key)) this.#push({ message });
  }

  get entries() {
    return this.#entries;
  }

  /**
   * Adds entries that are not held yet; drops the oldest beyond the bounds.
   * @param {Entry[]} entries
   */
  add(entries) {
    const fresh = entries.filter(({ message }) => !message || !this.#ids.has(message.id));
    for (const entry of fresh) this.#push(entry);
    return { fresh, dropped: this.#trim() };
  }

  /**
   * Prepends a gap for messages that were dropped unseen.
   * @param {number} missed
   */
  lose(missed) {
    this.#entries.unshift({ missed });
  }

  /** The newest messages without a gap between them, oldest first. */
  newest() {
    const messages = [];
    let chars = 0;
    for (let i = this.#entries.length - 1; i >= 0 && messages.length < SAVED_MAX; i -= 1) {
      const { message } = this.#entries[i];
      chars += message?.content.length ?? Infinity;
      if (!message || chars > SAVED_CHARS_MAX) break;
      messages.unshift(message);
    }
    return messages;
  }

  /** Keeps the newest messages for the next load of the page in this tab. */
  save() {
    try {
      sessionStorage.setItem(this.#key, JSON.stringify(this.newest()));
    } catch {
      // Storage is full or forbidden: the next load begins with the server's history.
    }
  }

  #push(entry) {
    this.#entries.push(entry);
    if (!entry.message) return;
    this.#ids.add(entry.message.id);
    this.#chars += entry.message.content.length;
  }

  #trim() {
    let count = 0;
    while (this.#entries.length - count > ENTRIES_MAX || this.#chars > CHARS_MAX) {
      const { message } = this.#entries[count];
      count += 1;
      if (!message) continue;
      this.#ids.delete(message.id);
      this.#chars -= message.content.length;
    }
    return this.#entries.splice(0, count);
  }
}

/** @returns {Message[]} */
function load(key) {
  try {
    return JSON.parse(sessionStorage.getItem(key) ?? '[]');
  } catch {
    return [];
  }
}
