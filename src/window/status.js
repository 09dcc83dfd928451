/** The state of the connection, in words that a person understands. */

/** @typedef {import('./hookcast.js').State} State */

/** @param {State} state */
function because({ reason, status, error }) {
  if (reason === 'drain') return 'Server is restarting';
  if (reason === 'overload') return 'Server is full';
  if (!navigator.onLine) return 'Offline';
  if (reason === 'status') return `Server answered ${[status, error].filter(Boolean).join(' ')}`;
  return reason === 'silent' ? 'Connection went silent' : 'Connection lost';
}

export class Status {
  #root;
  #text;
  #countdown;
  #button;
  /** @type {State} */ #state = { state: 'connecting' };
  #wasLive = false;
  /** @type {ReturnType<typeof setInterval> | undefined} */ #ticks;

  /**
   * @param {HTMLElement} root
   * @param {() => void} onReconnect
   */
  constructor(root, onReconnect) {
    this.#root = root;
    this.#text = /** @type {HTMLElement} */ (root.querySelector('[role=status]'));
    this.#countdown = /** @type {HTMLElement} */ (root.querySelector('.countdown'));
    this.#button = /** @type {HTMLButtonElement} */ (root.querySelector('button'));
    this.#button.addEventListener('click', onReconnect);
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
    this.#root.dataset.offline = String(!navigator.onLine && state.state !== 'live');
    const text = this.#words(state);
    // The same words again would be read out again.
    if (this.#text.textContent !== text) this.#text.textContent = text;
    this.#button.hidden = state.state !== 'waiting' && state.state !== 'refused';
    clearInterval(this.#ticks);
    if (state.state === 'waiting') this.#ticks = setInterval(() => this.#tick(), 1_000);
    this.#tick();
  }

  /** @param {State} state */
  #words(state) {
    switch (state.state) {
      case 'live':
        return 'Live';
      case 'connecting':
        return this.#wasLive ? 'Reconnecting…' : 'Connecting…';
      case 'waiting':
        return because(state);
      case 'refused':
        return `Refused: ${state.error || state.status}`;
      case 'closed':
        return 'Closed';
    }
  }

  /** Not part of the status that is read out: nobody wants to hear every second. */
  #tick() {
    const { state, retryAt = 0 } = this.#state;
    const seconds = Math.max(0, Math.ceil((retryAt - Date.now()) / 1_000));
    this.#countdown.textContent = state === 'waiting' ? `reconnecting in ${seconds} s` : '';
  }
}
