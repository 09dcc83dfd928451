/**
 * The state of the connection as text.
 *
 * @typedef {import('./hookcast.js').State} State
 */

/** Characters shown of a server's error. */
const WORDS_CHARS_MAX = 300;

export class Status {
  #root;
  #text;
  #countdown;
  #button;
  #until;
  #wasLive = false;
  /** @type {State} */ #state = { state: 'connecting' };
  /** @type {ReturnType<typeof setInterval> | undefined} */ #ticks;

  /**
   * @param {any} root
   * @param {() => void} onReconnect
   * @param {() => number | undefined} until the end of access, in milliseconds since the Unix epoch
   */
  constructor(root, onReconnect, until) {
    this.#root = root;
    this.#until = until;
    [, this.#text, this.#countdown, this.#button] = root.children;
    this.#button.onclick = onReconnect;
    addEventListener('online', () => this.show(this.#state));
    addEventListener('offline', () => this.show(this.#state));
  }

  get state() {
    return this.#state;
  }

  /** @param {State} state */
  show(state) {
    this.#state = state;
    this.#wasLive ||= state.state === 'live';
    this.#root.dataset.state = state.state;
    this.#root.dataset.reason = state.reason ?? '';
    const text = this.#words().slice(0, WORDS_CHARS_MAX);
    // Setting the same text would announce it again.
    if (this.#text.textContent !== text) this.#text.textContent = text;
    this.#button.hidden = !state.reason || state.reason === 'token';
    clearInterval(this.#ticks);
    if (state.retryAt) this.#ticks = setInterval(() => this.#tick(), 1_000);
    this.#tick();
  }

  #words() {
    const { state, reason, status, error } = this.#state;
    if (state === 'connecting') return this.#wasLive ? 'Reconnecting…' : 'Connecting…';
    if (reason === 'token' && state !== 'live') return 'Stopped';
    if (state === 'refused') return `Refused: ${error || status}`;
    return state === 'waiting' ? this.#cause() : { live: 'Live', closed: 'Closed' }[state];
  }

  #cause() {
    const { reason, status, error } = this.#state;
    if (reason === 'drain') return 'Server is restarting';
    if (reason === 'overload') return 'Server is full';
    if (!navigator.onLine) return 'Offline';
    if (reason === 'status') return `Server answered ${status} ${error}`;
    return reason === 'silent' ? 'Connection went silent' : 'Connection lost';
  }

  /** Outside the live region, so that the seconds are not read out. */
  #tick() {
    const { state, retryAt, expiresAt } = this.#state;
    const until = state === 'live' && !expiresAt ? this.#until() : undefined;
    const seconds = retryAt && Math.max(0, Math.ceil((retryAt - Date.now()) / 1_000));
    const wait = retryAt ? `reconnecting in ${seconds} s` : '';
    this.#countdown.textContent = until ? `access until ${timeOf(until)}` : wait;
  }
}

/** The time of day, with the date if it is another day. */
function timeOf(/** @type {number} */ ms) {
  const date = new Date(ms);
  const isToday = date.toDateString() === new Date().toDateString();
  return date.toLocaleString([], isToday ? { timeStyle: 'short' } : { dateStyle: 'medium', timeStyle: 'short' });
}
