/**
 * hookcast.js: follows the live stream of a hookcast server, from a page, a worker or Node.
 *
 *     import { connect } from 'https://hooks.example/hookcast.js';
 *
 *     const stream = connect({ sessionId: 'abc' });
 *     stream.on('message', (message) => console.log(message.content));
 *     stream.on('state', ({ state }) => console.log(state));
 *
 * It hands over each message once and in the stream's order, resumes where it stopped, says when
 * something was missed, notices a connection that died without a word, and never gives up on a
 * server that may come back.
 *
 * Why `fetch` and not `EventSource`: the server's heartbeats are comments, which an `EventSource`
 * swallows, so a page built on it cannot tell a quiet stream from a dead one (a frozen proxy, a
 * NAT entry that expired, a laptop that slept). An `EventSource` also gives up for good on the first
 * answer that is not a 200, hides that answer, and cannot send the secret. This reader follows the
 * same rules otherwise (HTML standard, section 9.2 "Server-sent events").
 *
 * @module hookcast
 */

/**
 * A message as the server sent it.
 * @typedef {object} Message
 * @property {string} id unique over all servers that share a history
 * @property {string} content plain text, never markup
 * @property {number} timestamp when the server accepted it, in milliseconds since the Unix epoch
 * @property {string} [sessionId] the session it was meant for; absent: everyone
 * @property {string} eventId what `lastEventId` takes to resume after this message
 * @property {boolean} replay true if it comes from the history, false if it is news
 */

/**
 * Why a stream is not live.
 * - `lost`: the connection broke, or could not be made
 * - `silent`: it was open but nothing came, not even a heartbeat
 * - `drain`: the server ended it in good order because it is about to stop
 * - `overload`: the server has no room now and said when to come again
 * - `status`: the answer was an error; `status` and `error` tell which
 * @typedef {'lost' | 'silent' | 'drain' | 'overload' | 'status'} Reason
 */

/**
 * - `connecting`: a request is under way
 * - `live`: messages arrive as they are published
 * - `waiting`: the next attempt is made at `retryAt` (milliseconds since the Unix epoch)
 * - `refused`: the server will not serve this request (400, 401, 403); `reconnect` tries again
 * - `closed`: `close` was called, or the server asked to stop (204)
 * @typedef {object} State
 * @property {'connecting' | 'live' | 'waiting' | 'refused' | 'closed'} state
 * @property {Reason} [reason] with `waiting` and `refused`
 * @property {number} [retryAt] with `waiting`
 * @property {number} [status] the HTTP status, with the reason `status`
 * @property {string} [error] the server's own words, with the reason `status`
 */

/**
 * Messages that existed and will not come: `missed` of them, null if nobody can know how many.
 * @typedef {object} Gap
 * @property {number | null} missed
 */

/**
 * @typedef {object} Options
 * @property {string | URL} [url] the stream's address; default: of the server this module is from
 * @property {string} [sessionId] see the messages for this session and for everyone
 * @property {string} [secret] sent as `X-Webhook-Secret`; with it a stream without session sees all
 * @property {string} [lastEventId] resume after this event
 * @property {Iterable<string>} [seenIds] ids of messages already held, so that a replay skips them
 * @property {number} [heartbeatIntervalMs] the server's `--heartbeat`; longer ones are learnt
 */

/** @typedef {{ message: Message, gap: Gap, state: State, connected: { replay: number } }} Events */

/** The server's default. Also the least that the watchdog reckons with. */
const HEARTBEAT_INTERVAL_MS = 2_000;
/** A connection is dead after this many heartbeat intervals of silence, plus the margin. */
const SILENT_HEARTBEATS = 3;
/** What a busy network or machine may add to the last of those intervals. */
const SILENCE_MARGIN_MS = 1_000;
/** The watchdog's patience doubles up to here if a server sends no heartbeat in time at all. */
const SILENCE_MS_LIMIT = 180_000;
/** Time for an answer to begin. The server sends headers and first event at once. */
const ANSWER_MS_MAX = 10_000;
/** Wait before the second attempt until a server says otherwise with `retry:`. */
const RETRY_MS = 2_000;
/** Longest wait that failures add up to. A server may ask for more, up to the second figure. */
const BACKOFF_MS_MAX = 30_000;
const RETRY_MS_LIMIT = 600_000;
/** Ids remembered to drop repeats: 40 full replays of 100. */
const SEEN_IDS_MAX = 4_096;
/** Characters of one event. The largest body a server can be set to take, all of it escaped. */
const EVENT_CHARS_MAX = 100 * 1024 * 1024;
/** Statuses that no later attempt will change. Others may be a proxy's, during a deployment. */
const FINAL_STATUSES = [400, 401, 403];

/**
 * Opens a stream and keeps it open until `close`.
 * @param {Options} [options]
 * @returns {Stream}
 */
export function connect(options = {}) {
  return new Stream(options);
}

/** A followed stream. Made by {@link connect}; it connects by itself, and again when it must. */
export class Stream extends EventTarget {
  /** @type {URL} */ #url;
  /** @type {string | undefined} */ #secret;
  /** @type {string | undefined} */ #lastEventId;
  /** @type {Set<string>} */ #seenIds;
  /** @type {State} */ #state = { state: 'connecting' };
  #failures = 0;
  #retryMs = RETRY_MS;
  #silence;
  /** @type {AbortController | undefined} */ #request;
  /** @type {(() => void) | undefined} */ #endWait;
  #again = false;

  /** @param {Options} options */
  constructor(options) {
    super();
    this.#url = new URL(options.url ?? new URL('api/webhook/stream', import.meta.url));
    if (options.sessionId) this.#url.searchParams.set('sessionId', options.sessionId);
    this.#secret = options.secret;
    this.#lastEventId = options.lastEventId;
    this.#seenIds = new Set(options.seenIds);
    this.#silence = new Silence(options.heartbeatIntervalMs ?? HEARTBEAT_INTERVAL_MS);
    // The caller adds its listeners first.
    queueMicrotask(() => this.#run());
  }

  /** The state as last announced. */
  get state() {
    return this.#state;
  }

  /** The id of the last event seen: give it to a later `connect` to resume after it. */
  get lastEventId() {
    return this.#lastEventId;
  }

  /**
   * Calls `listener` with what each event of this type carries.
   * @template {keyof Events} T
   * @param {T} type
   * @param {(detail: Events[T]) => void} listener
   * @returns {() => void} ends the subscription
   */
  on(type, listener) {
    /** @param {Event} event */
    const handler = (event) => listener(/** @type {CustomEvent<Events[T]>} */ (event).detail);
    this.addEventListener(type, handler);
    return () => this.removeEventListener(type, handler);
  }

  /** Ends the stream for good. */
  close() {
    if (this.#state.state === 'closed') return;
    this.#announce({ state: 'closed' });
    this.#interrupt();
  }

  /** Tries now: ends a wait, leaves a refusal, replaces an open connection. */
  reconnect() {
    if (this.#state.state === 'closed') return;
    if (this.#state.state === 'refused') {
      this.#run();
      return;
    }
    this.#again = true;
    this.#interrupt();
  }

  /**
   * Looks at the clock now. Timers stand still while a machine sleeps or a page is frozen; who knows
   * that time may have passed (wake-up, visible again) calls this.
   */
  check() {
    if (Date.now() >= (this.#state.retryAt ?? Infinity)) this.#endWait?.();
    this.#silence.check();
  }

  #interrupt() {
    this.#request?.abort();
    this.#endWait?.();
  }

  /** Attempt, wait, attempt, until closed or refused. */
  async #run() {
    while (!this.#isClosed()) {
      this.#again = false;
      this.#announce({ state: 'connecting' });
      const { delayMs, ...why } = await this.#attempt();
      if (this.#isClosed()) return;
      if (why.status === 204) return this.close();
      if (why.status && FINAL_STATUSES.includes(why.status)) {
        return this.#announce({ state: 'refused', ...why });
      }
      if (!this.#again) await this.#wait(delayMs, why);
      if (this.#again) this.#failures = 0;
    }
  }

  // A method, because the state changes while `#run` awaits.
  #isClosed() {
    return this.#state.state === 'closed';
  }

  /**
   * One request, from its first byte to its end.
   * @returns {Promise<End>}
   */
  async #attempt() {
    const request = new AbortController();
    let silent = false;
    this.#request = request;
    this.#silence.watch(() => {
      silent = true;
      request.abort();
    });
    try {
      const response = await fetch(this.#address(), {
        headers: this.#headers(),
        cache: 'no-store',
        signal: request.signal,
      });
      return await this.#read(response);
    } catch {
      return this.#lost(silent ? 'silent' : 'lost');
    } finally {
      this.#silence.rest();
      // Frees the connection, whatever the reason for leaving it.
      request.abort();
    }
  }

  /** `lastEventId` travels in the address: as a header it would cost other origins a preflight. */
  #address() {
    const url = new URL(this.#url);
    if (this.#lastEventId) url.searchParams.set('lastEventId', this.#lastEventId);
    return url;
  }

  #headers() {
    /** @type {Record<string, string>} */
    const headers = { Accept: 'text/event-stream' };
    if (this.#secret) headers['X-Webhook-Secret'] = this.#secret;
    return headers;
  }

  /**
   * @param {Response} response
   * @returns {Promise<End>}
   */
  async #read(response) {
    const type = response.headers.get('content-type') ?? '';
    if (response.status !== 200 || !/^text\/event-stream\b/i.test(type) || !response.body) {
      return this.#failed(response);
    }
    const resumed = new Resumption(this.#lastEventId);
    let connected = false;
    let replay = 0;
    /** @type {Reason} */
    let reason = 'lost';

    /** @param {StreamEvent} event */
    const onEvent = (event) => {
      const data = parseObject(event.data);
      if (data?.type === 'connected') {
        connected = true;
        reason = 'lost';
        replay = Number(data.replay) || 0;
        this.#failures = 0;
        this.#announce({ state: 'live' });
        this.#dispatch('connected', { replay });
      } else if (data?.type === 'gap') {
        resumed.settle();
        this.#dispatch('gap', { missed: Number.isSafeInteger(data.missed) ? data.missed : null });
      } else if (data?.type === 'webhook_message') {
        this.#take(data, event.id, replay-- > 0, resumed);
      }
    };
    const parser = new Parser({
      onEvent,
      onComment: () => this.#silence.heartbeat(),
      onRetry: (retryMs) => {
        this.#retryMs = Math.min(retryMs, RETRY_MS_LIMIT);
        // A stream begins with one `retry:` and goes on with `connected`. What it ends with, if it
        // ends after a `retry:`, is either a refusal for lack of room or a farewell.
        reason = connected ? 'drain' : 'overload';
      },
    });

    const reader = response.body.getReader();
    const decoder = new TextDecoder();
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      this.#silence.heard();
      parser.feed(decoder.decode(value, { stream: true }));
    }
    return reason === 'lost' ? this.#lost(reason) : { reason, delayMs: this.#retryMs };
  }

  /**
   * Takes one message: remembers where the stream stands, drops repeats, reports a broken seam.
   * @param {Record<string, any>} data
   * @param {string} eventId
   * @param {boolean} replay
   * @param {Resumption} resumed
   */
  #take(data, eventId, replay, resumed) {
    const { id, content, timestamp, sessionId } = data;
    if (typeof id !== 'string' || typeof content !== 'string') return;
    const repeat = this.#seenIds.has(id);
    if (resumed.breaksAt(eventId, repeat)) this.#dispatch('gap', { missed: null });
    this.#lastEventId = eventId;
    if (repeat) return;
    this.#seenIds.add(id);
    if (this.#seenIds.size > SEEN_IDS_MAX) {
      this.#seenIds.delete(/** @type {string} */ (this.#seenIds.values().next().value));
    }
    this.#dispatch('message', { id, content, timestamp, sessionId, eventId, replay });
  }

  /**
   * A connection that broke: the server's own delay (which it jitters) the first time, then longer
   * and longer, and spread, so that a crowd does not come back as one.
   * @param {Reason} reason
   * @returns {End}
   */
  #lost(reason) {
    const grown = Math.min(this.#retryMs * 2 ** this.#failures, BACKOFF_MS_MAX);
    const delayMs = this.#failures === 0 ? this.#retryMs : grown * (0.5 + Math.random() / 2);
    this.#failures += 1;
    return { reason, delayMs };
  }

  /**
   * An answer that is not a stream.
   * @param {Response} response
   * @returns {Promise<End>}
   */
  async #failed(response) {
    const { delayMs } = this.#lost('status');
    const askedMs = Number(response.headers.get('retry-after')) * 1_000 || 0;
    const body = response.headers.get('content-type')?.startsWith('application/json')
      ? parseObject(await response.text())
      : undefined;
    return {
      reason: 'status',
      status: response.status,
      error: typeof body?.error === 'string' ? body.error : response.statusText,
      // Everyone was given the same figure: spread it.
      delayMs: Math.max(delayMs, Math.min(askedMs, RETRY_MS_LIMIT) * (1 + Math.random() / 4)),
    };
  }

  /**
   * @param {number} delayMs
   * @param {Omit<End, 'delayMs'>} why
   */
  #wait(delayMs, why) {
    return new Promise((resolve) => {
      const timer = setTimeout(() => this.#endWait?.(), delayMs);
      this.#endWait = () => {
        clearTimeout(timer);
        this.#endWait = undefined;
        resolve(undefined);
      };
      this.#announce({ state: 'waiting', retryAt: Date.now() + delayMs, ...why });
    });
  }

  /** @param {State} state */
  #announce(state) {
    this.#state = state;
    this.#dispatch('state', state);
  }

  /**
   * @template {keyof Events} T
   * @param {T} type
   * @param {Events[T]} detail
   */
  #dispatch(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}

/**
 * How an attempt ended, and how long to wait before the next.
 * @typedef {{ reason: Reason, delayMs: number, status?: number, error?: string }} End
 */

/**
 * The watchdog: how long a connection may be silent before it counts as dead.
 *
 * Uses the wall clock, which goes on while the machine sleeps. A server set to rarer heartbeats than
 * expected is learnt from those that arrive; until then each false alarm doubles the patience.
 */
class Silence {
  #intervalMs;
  #patience = 1;
  #heardAt = 0;
  #heartbeatAt = 0;
  #answered = false;
  /** @type {(() => void) | undefined} */ #onSilence;
  /** @type {ReturnType<typeof setTimeout> | undefined} */ #timer;

  /** @param {number} intervalMs */
  constructor(intervalMs) {
    this.#intervalMs = intervalMs;
  }

  /**
   * Begins to watch a new request.
   * @param {() => void} onSilence
   */
  watch(onSilence) {
    this.#onSilence = onSilence;
    this.#heardAt = Date.now();
    this.#heartbeatAt = 0;
    this.#answered = false;
    this.check();
  }

  /** Stops watching. */
  rest() {
    this.#onSilence = undefined;
    clearTimeout(this.#timer);
  }

  /** Bytes arrived. */
  heard() {
    this.#answered = true;
    this.#heardAt = Date.now();
  }

  /** A heartbeat arrived: the time since the one before is what this server keeps to. */
  heartbeat() {
    const now = Date.now();
    const elapsedMs = now - this.#heartbeatAt;
    // Anything longer than the limit is not a heartbeat's pace but a machine that slept.
    if (this.#heartbeatAt && elapsedMs <= this.#limitMs()) {
      this.#intervalMs = Math.max(this.#intervalMs, elapsedMs);
      this.#patience = 1;
    }
    this.#heartbeatAt = now;
  }

  /** Raises the alarm if it is time, else sleeps for what is left. */
  check() {
    clearTimeout(this.#timer);
    if (!this.#onSilence) return;
    // A clock set back must not stretch the wait.
    this.#heardAt = Math.min(this.#heardAt, Date.now());
    const leftMs = this.#heardAt + this.#limitMs() - Date.now();
    if (leftMs > 0) {
      this.#timer = setTimeout(() => this.check(), leftMs);
      return;
    }
    if (this.#answered && !this.#heartbeatAt) this.#patience *= 2;
    this.#onSilence();
  }

  #limitMs() {
    const limitMs = this.#intervalMs * SILENT_HEARTBEATS * this.#patience + SILENCE_MARGIN_MS;
    return Math.min(this.#answered ? limitMs : Math.max(limitMs, ANSWER_MS_MAX), SILENCE_MS_LIMIT);
  }
}

/**
 * Watches the seam of a resumed stream. A server that knows our last event resumes exactly after it,
 * or says what is missing. Another server, or one whose history began anew (the part of the event
 * id before the dash differs), replays what it has: if none of that was seen before, nobody knows
 * what lies between.
 */
class Resumption {
  #epoch;
  #open;

  /** @param {string | undefined} lastEventId */
  constructor(lastEventId) {
    this.#epoch = epochOf(lastEventId ?? '');
    this.#open = lastEventId !== undefined;
  }

  settle() {
    this.#open = false;
  }

  /**
   * True once, at the first event after the seam, if the seam does not hold.
   * @param {string} eventId
   * @param {boolean} repeat
   */
  breaksAt(eventId, repeat) {
    const open = this.#open;
    this.#open = false;
    return open && !repeat && epochOf(eventId) !== this.#epoch;
  }
}

/** @param {string} eventId */
function epochOf(eventId) {
  return eventId.slice(0, eventId.lastIndexOf('-'));
}

/**
 * @param {string} text
 * @returns {Record<string, any> | undefined} undefined if it is not a JSON object
 */
function parseObject(text) {
  try {
    const value = JSON.parse(text);
    return value !== null && typeof value === 'object' ? value : undefined;
  } catch {
    return undefined;
  }
}

/** @typedef {{ data: string, id: string }} StreamEvent */

/**
 * @typedef {object} ParserEvents
 * @property {(event: StreamEvent) => void} onEvent
 * @property {() => void} onComment
 * @property {(retryMs: number) => void} onRetry
 */

/**
 * Reads an event stream from text in pieces of any size (HTML standard, section 9.2.6). Tells of
 * comments too. The `event` field is read past: hookcast names its events in the data.
 */
export class Parser {
  #events;
  /** @type {string[]} */ #line = [];
  #afterCr = false;
  /** @type {string[]} */ #data = [];
  #chars = 0;
  #id = '';

  /** @param {ParserEvents} events */
  constructor(events) {
    this.#events = events;
  }

  /** @param {string} text */
  feed(text) {
    if (text === '') return;
    this.#chars += text.length;
    if (this.#chars > EVENT_CHARS_MAX) throw new RangeError('an event is too long');
    // A CR at the end of the piece before may have been the first half of a CRLF.
    let start = this.#afterCr && text.startsWith('\n') ? 1 : 0;
    this.#afterCr = text.endsWith('\r');
    const lineEnd = /\r\n?|\n/g;
    lineEnd.lastIndex = start;
    for (let match; (match = lineEnd.exec(text)); start = lineEnd.lastIndex) {
      const line = this.#line.join('') + text.slice(start, match.index);
      this.#line = [];
      this.#field(line);
    }
    if (start < text.length) this.#line.push(text.slice(start));
  }

  /** @param {string} line */
  #field(line) {
    if (line === '') return this.#dispatch();
    const colon = line.indexOf(':');
    if (colon === 0) return this.#events.onComment();
    const name = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? '' : line.slice(line[colon + 1] === ' ' ? colon + 2 : colon + 1);
    if (name === 'data') {
      this.#data.push(value);
    } else if (name === 'id' && !value.includes('\0')) {
      this.#id = value;
    } else if (name === 'retry' && /^\d+$/.test(value)) {
      this.#events.onRetry(Number(value));
    }
  }

  #dispatch() {
    const data = this.#data;
    this.#data = [];
    this.#chars = 0;
    if (data.length > 0) this.#events.onEvent({ data: data.join('\n'), id: this.#id });
  }
}
