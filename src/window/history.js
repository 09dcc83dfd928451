/**
 * What the page holds: the newest entries of its stream, each message once, in the stream's order.
 * A part of it outlives a reload.
 */

/** @typedef {import('./feed.js').Entry} Entry */
/** @typedef {import('./hookcast.js').Message} Message */

/** Entries held, and the characters of their content in all. */
export const ENTRIES_MAX = 10_000;
const CHARS_MAX = 32 * 1024 * 1024;
/** What a reload keeps: two full replays, within the few megabytes that browsers store. */
const SAVED_MAX = 200;
const SAVED_CHARS_MAX = 512 * 1024;

export class History {
  #key;
  /** @type {Entry[]} */ #entries = [];
  /** @type {Set<string>} */ #ids = new Set();
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
   * Adds what is new of `entries` and drops the oldest beyond the bounds.
   * @param {Entry[]} entries
   * @returns {{ fresh: Entry[], dropped: Entry[] }}
   */
  add(entries) {
    const fresh = entries.filter(({ message }) => !message || !this.#ids.has(message.id));
    for (const entry of fresh) this.#push(entry);
    return { fresh, dropped: this.#trim() };
  }

  /** The newest messages, oldest first: enough to go on from. */
  newest() {
    /** @type {Message[]} */
    const messages = [];
    let chars = 0;
    for (let i = this.#entries.length - 1; i >= 0 && messages.length < SAVED_MAX; i -= 1) {
      const { message } = this.#entries[i];
      // What lies before a gap could not be told from a whole history.
      if (!message) break;
      chars += message.content.length;
      if (chars > SAVED_CHARS_MAX) break;
      messages.push(message);
    }
    return messages.reverse();
  }

  /** Keeps the newest messages for this tab's next load of the page. */
  save() {
    try {
      sessionStorage.setItem(this.#key, JSON.stringify(this.newest()));
    } catch {
      // Full or forbidden: the next load begins with the server's history.
    }
  }

  /** @param {Entry} entry */
  #push(entry) {
    this.#entries.push(entry);
    if (!entry.message) return;
    this.#ids.add(entry.message.id);
    this.#chars += entry.message.content.length;
  }

  #trim() {
    let dropped = 0;
    const left = () => this.#entries.length - dropped;
    while (left() > ENTRIES_MAX || (this.#chars > CHARS_MAX && left() > 1)) {
      const { message } = this.#entries[dropped];
      dropped += 1;
      if (!message) continue;
      this.#ids.delete(message.id);
      this.#chars -= message.content.length;
    }
    return this.#entries.splice(0, dropped);
  }
}

/**
 * @param {string} key
 * @returns {Message[]}
 */
function load(key) {
  try {
    const saved = JSON.parse(sessionStorage.getItem(key) ?? '[]');
    return Array.isArray(saved) ? saved.filter(isMessage) : [];
  } catch {
    return [];
  }
}

/** @param {any} value */
function isMessage(value) {
  return ['id', 'eventId', 'content'].every((name) => typeof value?.[name] === 'string');
}
