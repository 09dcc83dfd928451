// @ts-self-types="./hookcast.d.ts"
/**
 * hookcast.js: follows the live stream of a hookcast server and posts messages to it, from a page, a
 * worker or Node.
 *
 *     import { connect, publish } from 'https://hooks.example/hookcast.js';
 *     const stream = connect({ sessionId: 'abc' });
 *     stream.on('message', (message) => console.log(message.content));
 *     stream.on('state', ({ state }) => console.log(state));
 *     const { messageId } = await publish('Hello', { sessionId: 'abc' });
 *
 * Each message is delivered once, in the stream's order. The stream resumes where it stopped, reports
 * missed messages, detects a connection that died silently, and retries while the server may return.
 *
 * With `token`, it asks for a token before each connection, and for the next one before a token ends. The
 * stream then continues on a new connection at the same place.
 *
 * It reads with `fetch`, by the rules of `EventSource` (HTML standard, section 9.2). `EventSource`
 * itself hides the heartbeats, which are comments: it cannot tell a quiet stream from a dead one. It
 * also stops for good after an answer other than 200, hides that answer, and sends no secret.
 */

/**
 * @typedef {object} Message
 * @property {string} id unique over all servers that share a history
 * @property {string} content plain text, never markup
 * @property {number} timestamp when it was accepted, in milliseconds since the Unix epoch
 * @property {string} [sessionId] the session it is meant for; absent: everyone
 * @property {string} [source] the source that it is from, such as `github`; absent: posted to the webhook itself
 * @property {string} [event] the source's type of event, such as `pull_request.opened`
 * @property {string} eventId give it as `lastEventId` to resume after this message
 * @property {boolean} replay whether it comes from the history
 *
 * @typedef {object} Gap
 * @property {number | null} missed messages that are lost; null: an unknown number
 *
 * @typedef {object} State
 * @property {'connecting' | 'live' | 'waiting' | 'refused' | 'closed'} state `refused`: only
 *   `reconnect` tries again
 * @property {Reason} [reason] why it is `waiting` or `refused`; `live` with the reason `token`: there is
 *   no new token yet
 * @property {number} [retryAt] when `waiting` ends, in milliseconds since the Unix epoch
 * @property {number} [expiresAt] when the token ends, in milliseconds since the Unix epoch: once the
 *   server has announced it
 * @property {number} [status] of HTTP, with the reason `status`
 * @property {string} [error] the cause, with the reasons `status` (the server's text), `redirect` and
 *   `token`
 *
 * @typedef {'lost' | 'silent' | 'drain' | 'overload' | 'status' | 'redirect' | 'token'} Reason `lost`:
 *   the connection broke; `silent`: nothing arrived, not even heartbeats; `drain`: the server stops;
 *   `overload`: it has no room now; `status`: the answer was an error; `redirect`: the answer names
 *   another address, and neither a secret nor a token is sent there; `token`: the token has ended, or
 *   the option `token` gave none
 *
 * @typedef {() => string | Promise<string>} TokenSource
 *
 * @typedef {object} Options
 * @property {string | URL} [url] of the stream, such as `https://hooks.example/api/webhook/stream`;
 *   default: the server that this module comes from
 * @property {string | readonly string[]} [sessionId] receive the messages for this session, or for these
 *   (16 at most), and for everyone
 * @property {string} [secret] with it, a stream without session receives all messages. It is sent to
 *   `url` alone: no redirect is followed
 * @property {TokenSource} [token] gives a token for the next connection: at the start, after an
 *   interruption, and before a token ends. A token is sent to `url` alone, too
 * @property {number} [replay] begin with at most this many messages of the history (100)
 * @property {string | number | Date} [since] begin with the first message of this time or later: RFC 3339,
 *   milliseconds since the Unix epoch, or an age such as `10m`
 * @property {string} [lastEventId] resume after this event; `replay` and `since` then do not count
 * @property {Iterable<string>} [seenIds] ids of messages already held: a replay skips them
 * @property {number} [heartbeatIntervalMs] the server's `--heartbeat`; a longer one is detected
 *
 * @typedef {{ message: Message, gap: Gap, state: State }} Events
 *
 * @typedef {object} PublishOptions
 * @property {string | URL} [url] of the webhook, such as `https://hooks.example/api/webhook`; default:
 *   the server that this module comes from
 * @property {string} [sessionId] the session the message is meant for; absent: everyone
 * @property {string} [secret] sent to `url` alone
 * @property {TokenSource} [token] gives a token that may publish, which is sent to `url` alone
 * @property {AbortSignal} [signal] ends the wait for `token` and the answer
 * @property {number} [timeoutMs] the longest wait for both (15,000)
 *
 * @typedef {object} Published
 * @property {string} messageId the `id` of the message in every stream
 * @property {number} timestamp when it was accepted, in milliseconds since the Unix epoch
 */

/**
 * The end of an attempt, and the time to the next.
 * @internal
 * @typedef {{ reason: Reason, delayMs: number, status?: number, error?: string, isFinal?: boolean }} End
 */

const HEARTBEAT_INTERVAL_MS = 2_000;
/** A connection is dead after this many silent intervals, plus the margin. */
const SILENT_INTERVALS = 3;
const SILENCE_MARGIN_MS = 1_000;
/** The longest silence that is allowed. */
const SILENCE_MS_MAX = 180_000;
/** Time for an answer to begin; the server sends headers and first event at once. */
const ANSWER_MS = 10_000;
/** The wait between attempts, until the server names one with `retry:`. */
const RETRY_MS = 2_000;
/** The longest wait by backoff, and the longest that a server can set. */
const BACKOFF_MS_MAX = 30_000;
const RETRY_MS_MAX = 600_000;
/** Ids remembered: 40 full replays. */
const SEEN_IDS_MAX = 4_096;
/** Characters of one event: the largest message that a server accepts, all of it escaped. */
const EVENT_CHARS_MAX = 100 * 1024 * 1024;
/** Added for each line, so that many short lines have a bound too. */
const LINE_CHARS = 16;
/** Time for `token` to give one. */
const TOKEN_MS = 120_000;
/** The last part of a token's life, in which the server announces its end. */
const EXPIRY_MS_MAX = 60_000;
/** The shortest time between the begin of a connection and the move to another one. */
const MOVE_MS_MIN = 1_000;
/** Final answers. Others may be temporary, such as a proxy's during a deployment. */
const REFUSALS = [400, 401, 403];
const REDIRECTS = [301, 302, 303, 307, 308];
/** Time for the answer to a message: longer than the server's own deadlines. */
const PUBLISH_MS = 15_000;
const LATE_TOKEN = '`token` took too long';
/** In a constant, because bundlers replace `new URL('…', import.meta.url)` by a file of the project. */
const HERE = import.meta.url;

/**
 * Opens a stream, and keeps it open until `close`.
 * @param {Options} [options]
 */
export function connect(options = {}) {
  return new Stream(options);
}

/**
 * Posts a message. Resolves once the server has stored it.
 * @param {string} message
 * @param {PublishOptions} [options]
 * @returns {Promise<Published>}
 * @throws {PublishError} the message was refused, or the outcome is unknown. An error of `token` is
 *   thrown as it is
 */
export async function publish(message, { url, sessionId, secret, token, signal, timeoutMs = PUBLISH_MS } = {}) {
  const target = addressOf(url, 'api/webhook');
  const timeout = AbortSignal.timeout(timeoutMs);
  const end = signal ? AbortSignal.any([signal, timeout]) : timeout;
  /** @type {Record<string, string>} */
  const headers = { 'Content-Type': 'application/json' };
  if (secret) headers['X-Webhook-Secret'] = secret;
  if (token) {
    try {
      headers.Authorization = `Bearer ${await until(end, () => tokenFrom(token))}`;
    } catch (cause) {
      if (timeout.aborted && !signal?.aborted) throw new PublishError(LATE_TOKEN, { cause });
      throw cause;
    }
  }
  const body = JSON.stringify({ message, sessionId });
  // A followed redirect takes the secret elsewhere, or turns the POST into a GET that succeeds.
  const redirect = /** @type {const} */ ('manual');
  const request = { method: 'POST', headers, body, redirect, signal: end };
  /** @type {Response} */
  let response;
  /** @type {Record<string, any> | undefined} */
  let answer;
  try {
    response = await fetch(target, request);
    answer = await jsonOf(response);
  } catch (cause) {
    if (signal?.aborted) throw signal.reason;
    throw new PublishError(timeout.aborted ? 'No answer in time' : 'The server cannot be reached', { cause });
  }
  const { messageId, timestamp } = answer ?? {};
  if (response.status === 200 && answer?.success && typeof messageId === 'string') return { messageId, timestamp };
  if (isRedirect(response)) throw new PublishError('The answer is a redirect, and none is followed', { response });
  const otherwise = response.ok ? 'The answer is not that of a hookcast server' : response.statusText;
  throw new PublishError(errorOf(answer) || otherwise || `Status ${response.status}`, { response });
}

/** Why {@link publish} failed; `message` is the server's error, if it answered. */
export class PublishError extends Error {
  name = 'PublishError';
  /**
   * The HTTP status. `undefined`: no answer came, and the message may or may not have been stored.
   * A browser shows 0 for a redirect.
   * @type {number | undefined}
   */
  status;
  /**
   * The wait before the next try, if the server gives one.
   * @type {number | undefined}
   */
  retryAfterMs;

  /**
   * @internal
   * @param {string} message
   * @param {{ response?: Response, cause?: unknown }} from
   */
  constructor(message, { response, cause }) {
    super(message, { cause });
    this.status = response?.status;
    this.retryAfterMs = (response && retryAfterMsOf(response)) || undefined;
  }
}

/** A followed stream, made by {@link connect}. */
export class Stream extends EventTarget {
  #url;
  #begin;
  #secret;
  #tokens;
  #lastEventId;
  #seenIds;
  #watchdog;
  #life = new Life();
  /** @type {State} */ #state = { state: 'connecting' };
  #failures = 0;
  #retryMs = RETRY_MS;
  #again = false;
  /** Whether the next connection replaces one whose token ends: the state stays `live`. */
  #moves = false;
  /** @type {AbortController | undefined} */ #request;
  /** @type {(() => void) | undefined} */ #endWait;

  /** @param {Options} options */
  constructor({ url, sessionId = [], secret, token, replay, since, lastEventId, seenIds, heartbeatIntervalMs }) {
    super();
    this.#url = addressOf(url, 'api/webhook/stream');
    const sessionIds = typeof sessionId === 'string' ? [sessionId] : sessionId;
    for (const id of sessionIds) if (id) this.#url.searchParams.append('sessionId', id);
    const query = new URLSearchParams();
    if (replay !== undefined) query.set('replay', String(replay));
    if (since !== undefined) query.set('since', String(since instanceof Date ? since.getTime() : since));
    this.#begin = query;
    this.#secret = secret;
    this.#tokens = token && new Tokens(token);
    this.#lastEventId = lastEventId;
    this.#seenIds = new Set(seenIds);
    this.#watchdog = new Watchdog(heartbeatIntervalMs ?? HEARTBEAT_INTERVAL_MS);
    // After the caller has added its listeners.
    queueMicrotask(() => this.#run());
  }

  get state() {
    return this.#state;
  }

  /** The id of the last event: a later `connect` resumes after it. */
  get lastEventId() {
    return this.#lastEventId;
  }

  /**
   * Calls `listener` for each event of this type. Returns a function that removes it.
   * @template {keyof Events} T
   * @param {T} type
   * @param {(detail: Events[T]) => void} listener
   */
  on(type, listener) {
    /** @param {any} event */
    const handler = (event) => listener(event.detail);
    this.addEventListener(type, handler);
    return () => this.removeEventListener(type, handler);
  }

  /** Ends the stream for good. */
  close() {
    this.#announce({ state: 'closed' });
    this.#interrupt();
  }

  /** Connects now: ends a wait, leaves a refusal, replaces an open connection. */
  reconnect() {
    this.#tokens?.reset();
    this.#life = new Life();
    this.#moves = false;
    if (this.#state.state === 'refused') {
      this.#run();
      return;
    }
    this.#again = true;
    this.#interrupt();
  }

  /** Checks the clock now. To be called after timers were suspended, by sleep or a freeze. */
  check() {
    if (Date.now() >= (this.#state.retryAt ?? Infinity)) this.#endWait?.();
    this.#watchdog.check();
  }

  #interrupt() {
    this.#request?.abort();
    this.#endWait?.();
  }

  #isClosed() {
    return this.#state.state === 'closed';
  }

  async #run() {
    while (!this.#isClosed()) {
      const isMove = this.#moves;
      this.#again = this.#moves = false;
      if (!isMove) this.#announce({ state: 'connecting' });
      const { delayMs, isFinal, ...why } = await this.#attempt(isMove);
      if (this.#isClosed()) return;
      // 204 tells a client to stop (HTML standard, section 9.2.5).
      if (why.status === 204) return this.close();
      if (isFinal && !this.#again) return this.#announce({ state: 'refused', ...why });
      if (!this.#again) await this.#wait(delayMs, why);
      if (this.#again) this.#failures = 0;
    }
  }

  /** @returns {Promise<End>} */
  async #attempt(/** @type {boolean} */ isMove) {
    const request = new AbortController();
    this.#request = request;
    const { signal } = request;
    const url = new URL(this.#url);
    // Not as headers, which would need a preflight from other origins.
    if (this.#lastEventId) url.searchParams.set('lastEventId', this.#lastEventId);
    else for (const [name, value] of this.#begin) url.searchParams.set(name, value);
    const tokens = this.#tokens;
    if (tokens) {
      try {
        const token = await until(signal, () => tokens.next());
        tokens.use(token);
        url.searchParams.set('token', token);
      } catch (cause) {
        if (signal.aborted) return this.#lost('lost');
        const { refusal } = tokens;
        if (refusal && cause instanceof DeadToken) return { ...refusal, isFinal: true };
        return { ...this.#lost('token'), error: textOf(cause) };
      }
    }
    /** @type {Record<string, string>} */
    const headers = { Accept: 'text/event-stream' };
    if (this.#secret) headers['X-Webhook-Secret'] = this.#secret;
    let silent = false;
    this.#watchdog.start(() => {
      silent = true;
      request.abort();
    });
    try {
      // `fetch` would send the header on to the target of a redirect, at any origin.
      const redirect = this.#isGuarded() ? 'manual' : 'follow';
      return await this.#read(await fetch(url, { headers, cache: 'no-store', redirect, signal }), isMove);
    } catch {
      return this.#lost(silent ? 'silent' : 'lost');
    } finally {
      this.#watchdog.stop();
      request.abort();
    }
  }

  /** @returns {Promise<End>} */
  async #read(/** @type {Response} */ response, /** @type {boolean} */ isMove) {
    const type = response.headers.get('content-type') ?? '';
    if (response.status !== 200 || !response.body || !type.startsWith('text/event-stream')) {
      return this.#failed(response);
    }
    /** @type {Reason} */
    let reason = 'lost';
    let connected = false;
    let replay = 0;
    // In the same epoch, a server resumes after the last event or sends a gap. In another, it replays its
    // history: if that begins with an unknown message, earlier messages may be missing.
    let seam = epochOf(this.#lastEventId);

    const parser = new Parser({
      comment: () => this.#watchdog.heartbeat(),
      retry: (retryMs) => {
        this.#retryMs = Math.min(retryMs, RETRY_MS_MAX);
        // A stream that ends after this had no room, or the server stops.
        reason = connected ? 'drain' : 'overload';
      },
      event: (text, eventId) => {
        const data = parseObject(text);
        if (data?.type === 'connected') {
          connected = true;
          reason = 'lost';
          // To the caller, the stream was live all the time.
          replay = isMove ? 0 : data.replay;
          // The start of the stream: the place to resume from until the first message.
          if (eventId) this.#lastEventId = eventId;
          this.#failures = 0;
          this.#life.begin(data.timestamp);
          this.#announce({ state: 'live' });
        } else if (data?.type === 'gap') {
          seam = undefined;
          this.#dispatch('gap', { missed: data.missed ?? null });
        } else if (data?.type === 'token_expiring' && Number.isFinite(data.expiresAt)) {
          this.#renew(data.expiresAt);
        } else if (data?.type === 'token_expired') {
          reason = 'token';
          this.#tokens?.end();
        } else if (data?.type === 'webhook_message') {
          const repeat = this.#seenIds.has(data.id);
          const broken = seam !== undefined && seam !== epochOf(eventId) && !repeat;
          seam = undefined;
          if (broken) this.#dispatch('gap', { missed: null });
          this.#lastEventId = eventId;
          if (!repeat) this.#take(data, eventId, replay > 0);
          replay -= 1;
        }
      },
    });
    const reader = response.body.getReader();
    const decoder = new TextDecoder();
    for (let piece; !(piece = await reader.read()).done; ) {
      this.#watchdog.received();
      parser.feed(decoder.decode(piece.value, { stream: true }));
    }
    return reason === 'lost' ? this.#lost(reason) : { reason, delayMs: this.#retryMs };
  }

  /**
   * Gets a new token in the time that is left, and moves to a new connection with it. The end of the
   * present connection ends the attempts; a call that still runs then serves the next connection.
   */
  async #renew(/** @type {number} */ expiresAt) {
    const request = this.#request;
    const tokens = this.#tokens;
    /** @type {State} */
    const live = { state: 'live', expiresAt };
    this.#announce(live);
    // A listener may have replaced the connection.
    if (!tokens || tokens.hasEnded || !request || request.signal.aborted) return;
    tokens.end();
    if (!this.#life.isLonger(expiresAt)) this.#announce({ ...live, reason: 'token', error: '`token` gave one that ends no later' });
    let delayMs = this.#life.waitMs(expiresAt, this.#retryMs);
    for (let failures = 0; await pause(delayMs, request.signal); failures += 1) {
      try {
        await until(request.signal, () => tokens.next());
        // The connection may have ended meanwhile.
        if (request.signal.aborted) return;
        this.#again = this.#moves = true;
        request.abort();
      } catch (cause) {
        if (!request.signal.aborted) this.#announce({ ...live, reason: 'token', error: textOf(cause) });
      }
      delayMs = backoffMs(Math.max(this.#retryMs, MOVE_MS_MIN), failures);
    }
  }

  #take(/** @type {any} */ data, /** @type {string} */ eventId, /** @type {boolean} */ replay) {
    const { id, content, sessionId, source, event } = data;
    if (typeof id !== 'string' || typeof content !== 'string') return;
    this.#seenIds.add(id);
    if (this.#seenIds.size > SEEN_IDS_MAX) {
      const [oldest] = this.#seenIds;
      this.#seenIds.delete(oldest);
    }
    const timestamp = Number.isFinite(data.timestamp) ? data.timestamp : 0;
    /** @type {Message} */
    const message = { id, content, timestamp, sessionId, eventId, replay };
    // Set only for messages of sources.
    if (typeof source === 'string') message.source = source;
    if (typeof event === 'string') message.event = event;
    this.#dispatch('message', message);
  }

  /**
   * The first wait is the server's own, which it jitters. Later waits grow.
   * @returns {End}
   */
  #lost(/** @type {Reason} */ reason) {
    const delayMs = this.#failures === 0 ? this.#retryMs : backoffMs(this.#retryMs, this.#failures);
    this.#failures += 1;
    return { reason, delayMs };
  }

  #isGuarded() {
    return Boolean(this.#secret || this.#tokens);
  }

  async #failed(/** @type {Response} */ response) {
    if (isRedirect(response)) {
      const error = 'The answer is a redirect. With a secret or a token none is followed.';
      return { ...this.#lost('redirect'), status: response.status || undefined, error };
    }
    const end = this.#lost('status');
    const askedMs = Math.min(retryAfterMsOf(response), RETRY_MS_MAX);
    // All clients get the same figure, so it needs jitter.
    end.delayMs = Math.max(end.delayMs, askedMs * (1 + Math.random() / 4));
    end.status = response.status;
    end.error = errorOf(await jsonOf(response)) || response.statusText;
    end.isFinal = REFUSALS.includes(end.status);
    // Another token may do.
    if (end.status === 401 && this.#tokens) {
      this.#tokens.refuse(end);
      end.isFinal = false;
    }
    return end;
  }

  async #wait(/** @type {number} */ delayMs, /** @type {Omit<End, 'delayMs'>} */ why) {
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    let timer;
    await new Promise((resolve) => {
      this.#endWait = () => resolve(undefined);
      timer = setTimeout(this.#endWait, delayMs);
      this.#announce({ state: 'waiting', retryAt: Date.now() + delayMs, ...why });
    });
    clearTimeout(timer);
  }

  #announce(/** @type {State} */ state) {
    // A listener may have closed the stream, and events of the same read may follow.
    if (this.#isClosed()) return;
    this.#state = state;
    this.#dispatch('state', state);
  }

  #dispatch(/** @type {keyof Events} */ type, /** @type {Events[keyof Events]} */ detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}

/**
 * The life of the tokens in use, by the server's clock: that of this machine may be wrong. Tells when to
 * move to the connection of the next token.
 */
class Life {
  #beganAt = 0;
  #serverAheadMs = 0;
  #latest = -Infinity;
  /** Renewals in sequence whose token ended no later than one before. */
  #vain = 0;

  /** A connection begins, at `timestamp` of the server. */
  begin(/** @type {unknown} */ timestamp) {
    this.#beganAt = performance.now();
    this.#serverAheadMs = (Number.isFinite(timestamp) ? Number(timestamp) : Date.now()) - this.#beganAt;
  }

  /** The server has announced the end of a token. Returns whether it ends later than all before. */
  isLonger(/** @type {number} */ expiresAt) {
    const isLonger = expiresAt > this.#latest;
    this.#vain = isLonger ? 0 : this.#vain + 1;
    this.#latest = Math.max(this.#latest, expiresAt);
    return isLonger;
  }

  /**
   * The wait until the next token is asked for. A server may announce the end at once, so the connection
   * lasts at least as long as the wait between attempts. That grows with each renewal in vain.
   */
  waitMs(/** @type {number} */ expiresAt, /** @type {number} */ retryMs) {
    const now = performance.now();
    const leftMs = Math.min(Math.max(expiresAt - this.#serverAheadMs - now, 0), EXPIRY_MS_MAX);
    const leastMs = Math.max(retryMs, MOVE_MS_MIN);
    const earliest = this.#beganAt + Math.max(leastMs, backoffMs(leastMs, this.#vain));
    // Many tokens may end at once: the first half of the time is for jitter, the second for further tries.
    return Math.max((leftMs / 2) * Math.random(), earliest - now);
  }
}

/** A token that has ended was given again. */
class DeadToken extends Error {}

/**
 * Asks for tokens: one call at a time, and no token that has ended or was refused. A token that was asked
 * for before the end of a connection waits for the next one.
 */
class Tokens {
  #source;
  #used = '';
  #hasEnded = false;
  /** @type {Promise<string> | undefined} */ #call;
  /** @type {End | undefined} */ #refusal;

  constructor(/** @type {TokenSource} */ source) {
    this.#source = source;
  }

  /** Whether the token in use is at its end. */
  get hasEnded() {
    return this.#hasEnded;
  }

  /** The server's refusal of the last token. */
  get refusal() {
    return this.#refusal;
  }

  /** A token that was not used up. */
  next() {
    const call = (this.#call ??= this.#ask());
    // A failure ends the calls that wait for it; the next call asks again.
    call.catch(() => this.#call === call && (this.#call = undefined));
    return call;
  }

  /** A connection is opened with this token. */
  use(/** @type {string} */ token) {
    this.#used = token;
    this.reset();
  }

  /** The token in use ends. */
  end() {
    this.#hasEnded = true;
  }

  refuse(/** @type {End} */ refusal) {
    this.#refusal = { ...refusal };
    this.end();
  }

  /** Accepts any token again, from a new call. */
  reset() {
    this.#hasEnded = false;
    this.#refusal = undefined;
    this.#call = undefined;
  }

  async #ask() {
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    let timer;
    const late = new Promise((_, reject) => {
      timer = setTimeout(() => reject(new Error(LATE_TOKEN)), TOKEN_MS);
    });
    // In Node, a wait that has been given up keeps no process alive.
    /** @type {any} */ (timer).unref?.();
    try {
      const token = await Promise.race([tokenFrom(this.#source), late]);
      if (this.#hasEnded && token === this.#used) throw new DeadToken('`token` gave the token that ends');
      return token;
    } finally {
      clearTimeout(timer);
    }
  }
}

/**
 * Raises an alarm when a connection is silent for too long, by the wall clock, which runs while a machine
 * sleeps. Learns a longer heartbeat interval; until then, each alarm doubles the allowed silence.
 */
class Watchdog {
  #intervalMs;
  #patience = 1;
  #receivedAt = 0;
  #heartbeatAt = 0;
  #answered = false;
  /** @type {(() => void) | undefined} */ #alarm;
  /** @type {ReturnType<typeof setTimeout> | undefined} */ #timer;

  constructor(/** @type {number} */ intervalMs) {
    this.#intervalMs = intervalMs;
  }

  start(/** @type {() => void} */ alarm) {
    this.#alarm = alarm;
    this.#receivedAt = Date.now();
    this.#heartbeatAt = 0;
    this.#answered = false;
    this.check();
  }

  stop() {
    this.#alarm = undefined;
    clearTimeout(this.#timer);
  }

  received() {
    this.#receivedAt = Date.now();
    if (this.#answered) return;
    // The limit is shorter from now on.
    this.#answered = true;
    this.check();
  }

  heartbeat() {
    const elapsedMs = Date.now() - this.#heartbeatAt;
    // A longer time is no server's interval, but a machine's sleep.
    if (elapsedMs <= this.#limitMs()) {
      this.#intervalMs = Math.max(this.#intervalMs, elapsedMs);
      this.#patience = 1;
    }
    this.#heartbeatAt = Date.now();
  }

  check() {
    clearTimeout(this.#timer);
    if (!this.#alarm) return;
    // In case the clock was set back.
    this.#receivedAt = Math.min(this.#receivedAt, Date.now());
    const leftMs = this.#receivedAt + this.#limitMs() - Date.now();
    if (leftMs > 0) {
      this.#timer = setTimeout(() => this.check(), leftMs);
      return;
    }
    if (this.#answered && !this.#heartbeatAt) this.#patience *= 2;
    this.#alarm();
  }

  #limitMs() {
    const limitMs = this.#intervalMs * SILENT_INTERVALS * this.#patience + SILENCE_MARGIN_MS;
    return Math.min(this.#answered ? limitMs : Math.max(limitMs, ANSWER_MS), SILENCE_MS_MAX);
  }
}

/**
 * Reads an event stream in pieces of any size (HTML standard, section 9.2.6), comments included, but
 * not the `event` field: hookcast names its events in the data.
 * @internal
 */
export class Parser {
  #on;
  /** @type {string[]} */ #line = [];
  /** @type {string[]} */ #data = [];
  #lineChars = 0;
  #dataChars = 0;
  #id = '';
  #afterCr = false;

  /** @param {{ event(data: string, id: string): void, comment(): void, retry(ms: number): void }} on */
  constructor(on) {
    this.#on = on;
  }

  feed(/** @type {string} */ text) {
    if (text === '') return;
    // The previous piece may have ended between CR and LF.
    let start = this.#afterCr && text.startsWith('\n') ? 1 : 0;
    this.#afterCr = text.endsWith('\r');
    const lineEnd = /\r\n?|\n/g;
    lineEnd.lastIndex = start;
    for (let match; (match = lineEnd.exec(text)); start = lineEnd.lastIndex) {
      const line = this.#line.join('') + text.slice(start, match.index);
      this.#line = [];
      this.#lineChars = 0;
      this.#field(line);
    }
    this.#line.push(text.slice(start));
    this.#lineChars += text.length - start;
    // Comments do not count: a stream may have only heartbeats for years.
    if (this.#lineChars + this.#dataChars > EVENT_CHARS_MAX) throw new RangeError('an event is too long');
  }

  #field(/** @type {string} */ line) {
    const [, name, value = ''] = /^([^:]*):? ?(.*)$/s.exec(line) ?? [];
    if (line === '') this.#dispatch();
    else if (name === '') this.#on.comment();
    else if (name === 'data') this.#keep(value);
    else if (name === 'id' && !value.includes('\0')) this.#id = value;
    else if (name === 'retry' && /^\d+$/.test(value)) this.#on.retry(Number(value));
  }

  #keep(/** @type {string} */ value) {
    this.#data.push(value);
    this.#dataChars += value.length + LINE_CHARS;
  }

  #dispatch() {
    const data = this.#data;
    this.#data = [];
    this.#dataChars = 0;
    if (data.length > 0) this.#on.event(data.join('\n'), this.#id);
  }
}

/** Grows with each failure, with jitter, so that clients do not return all at once. */
function backoffMs(/** @type {number} */ retryMs, /** @type {number} */ failures) {
  return Math.min(retryMs * 2 ** failures, BACKOFF_MS_MAX) * (0.5 + Math.random() / 2);
}

/**
 * The result of `begin`, or an error if `signal` is aborted before.
 * @template T
 * @param {AbortSignal} signal
 * @param {() => Promise<T>} begin
 * @returns {Promise<T>}
 */
function until(signal, begin) {
  return new Promise((resolve, reject) => {
    const abort = () => reject(signal.reason);
    if (signal.aborted) return abort();
    signal.addEventListener('abort', abort);
    begin().then(resolve, reject).finally(() => signal.removeEventListener('abort', abort));
  });
}

/** Waits. Resolves with false once `signal` is aborted. */
async function pause(/** @type {number} */ ms, /** @type {AbortSignal} */ signal) {
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;
  await until(signal, () => new Promise((resolve) => (timer = setTimeout(resolve, ms)))).catch(() => clearTimeout(timer));
  return !signal.aborted;
}

/** A token of the caller. */
async function tokenFrom(/** @type {TokenSource} */ source) {
  const token = await source();
  if (typeof token !== 'string' || token === '') throw new TypeError('`token` gave no token');
  return token;
}

/** The text of an error, whatever was thrown. */
function textOf(/** @type {any} */ cause) {
  return String(cause?.message || cause);
}

/** @returns {URL} */
function addressOf(/** @type {string | URL | undefined} */ url, /** @type {string} */ path) {
  if (url !== undefined) return new URL(url, globalThis.location?.href);
  if (!/^https?:/.test(HERE ?? '')) throw new TypeError('Give `url`: this module does not come from a hookcast server');
  return new URL(path, HERE);
}

/** A browser does not show the status of a redirect. */
function isRedirect(/** @type {Response} */ { type, status }) {
  return type === 'opaqueredirect' || REDIRECTS.includes(status);
}

function retryAfterMsOf(/** @type {Response} */ { headers }) {
  return Number(headers.get('retry-after')) * 1_000 || 0;
}

/** The object in an answer of the server. Other answers are not read. */
async function jsonOf(/** @type {Response} */ response) {
  if (response.headers.get('content-type')?.startsWith('application/json')) return parseObject(await response.text());
  await response.body?.cancel();
  return undefined;
}

/** What the server says is wrong; '': nothing. */
function errorOf(/** @type {Record<string, any> | undefined} */ answer) {
  return [answer?.error, answer?.detail].filter(Boolean).join(': ');
}

function epochOf(/** @type {string | undefined} */ eventId) {
  return eventId?.slice(0, eventId.lastIndexOf('-'));
}

/** @returns {Record<string, any> | undefined} */
function parseObject(/** @type {string} */ text) {
  try {
    const value = JSON.parse(text);
    return value instanceof Object ? value : undefined;
  } catch {
    return undefined;
  }
}
