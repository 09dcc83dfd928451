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
export type Message = {
    /**
     * unique over all servers that share a history
     */
    id: string;
    /**
     * plain text, never markup
     */
    content: string;
    /**
     * when it was accepted, in milliseconds since the Unix epoch
     */
    timestamp: number;
    /**
     * the session it is meant for; absent: everyone
     */
    sessionId?: string;
    /**
     * the source that it is from, such as `github`; absent: posted to the webhook itself
     */
    source?: string;
    /**
     * the source's type of event, such as `pull_request.opened`
     */
    event?: string;
    /**
     * give it as `lastEventId` to resume after this message
     */
    eventId: string;
    /**
     * whether it comes from the history
     */
    replay: boolean;
};
export type Gap = {
    /**
     * messages that are lost; null: an unknown number
     */
    missed: number | null;
};
export type State = {
    /**
     * `refused`: only
     * `reconnect` tries again
     */
    state: 'connecting' | 'live' | 'waiting' | 'refused' | 'closed';
    /**
     * why it is `waiting` or `refused`; `live` with the reason `token`: there is
     * no new token yet
     */
    reason?: Reason;
    /**
     * when `waiting` ends, in milliseconds since the Unix epoch
     */
    retryAt?: number;
    /**
     * when the token ends, in milliseconds since the Unix epoch: once the
     * server has announced it
     */
    expiresAt?: number;
    /**
     * of HTTP, with the reason `status`
     */
    status?: number;
    /**
     * the cause, with the reasons `status` (the server's text), `redirect` and
     * `token`
     */
    error?: string;
};
export type Reason = 'lost' | 'silent' | 'drain' | 'overload' | 'status' | 'redirect' | 'token';
export type TokenSource = () => string | Promise<string>;
export type Options = {
    /**
     * of the stream, such as `https://hooks.example/api/webhook/stream`;
     * default: the server that this module comes from
     */
    url?: string | URL;
    /**
     * receive the messages for this session, or for these
     * (16 at most), and for everyone
     */
    sessionId?: string | readonly string[];
    /**
     * with it, a stream without session receives all messages. It is sent to
     * `url` alone: no redirect is followed
     */
    secret?: string;
    /**
     * gives a token for the next connection: at the start, after an
     * interruption, and before a token ends. A token is sent to `url` alone, too
     */
    token?: TokenSource;
    /**
     * begin with at most this many messages of the history (100)
     */
    replay?: number;
    /**
     * begin with the first message of this time or later: RFC 3339,
     * milliseconds since the Unix epoch, or an age such as `10m`
     */
    since?: string | number | Date;
    /**
     * resume after this event; `replay` and `since` then do not count
     */
    lastEventId?: string;
    /**
     * ids of messages already held: a replay skips them
     */
    seenIds?: Iterable<string>;
    /**
     * the server's `--heartbeat`; a longer one is detected
     */
    heartbeatIntervalMs?: number;
};
export type Events = {
    message: Message;
    gap: Gap;
    state: State;
};
export type PublishOptions = {
    /**
     * of the webhook, such as `https://hooks.example/api/webhook`; default:
     * the server that this module comes from
     */
    url?: string | URL;
    /**
     * the session the message is meant for; absent: everyone
     */
    sessionId?: string;
    /**
     * sent to `url` alone
     */
    secret?: string;
    /**
     * gives a token that may publish, which is sent to `url` alone
     */
    token?: TokenSource;
    /**
     * ends the wait for `token` and the answer
     */
    signal?: AbortSignal;
    /**
     * the longest wait for both (15,000)
     */
    timeoutMs?: number;
};
export type Published = {
    /**
     * the `id` of the message in every stream
     */
    messageId: string;
    /**
     * when it was accepted, in milliseconds since the Unix epoch
     */
    timestamp: number;
};
export type End = {
    reason: Reason;
    delayMs: number;
    status?: number;
    error?: string;
    isFinal?: boolean;
};
/**
 * Opens a stream, and keeps it open until `close`.
 * @param {Options} [options]
 */
export declare function connect(options?: Options): Stream;
/**
 * Posts a message. Resolves once the server has stored it.
 * @param {string} message
 * @param {PublishOptions} [options]
 * @returns {Promise<Published>}
 * @throws {PublishError} the message was refused, or the outcome is unknown. An error of `token` is
 *   thrown as it is
 */
export declare function publish(message: string, { url, sessionId, secret, token, signal, timeoutMs }?: PublishOptions): Promise<Published>;
/** Why {@link publish} failed; `message` is the server's error, if it answered. */
export declare class PublishError extends Error {
    name: string;
    /**
     * The HTTP status. `undefined`: no answer came, and the message may or may not have been stored.
     * A browser shows 0 for a redirect.
     * @type {number | undefined}
     */
    status: number | undefined;
    /**
     * The wait before the next try, if the server gives one.
     * @type {number | undefined}
     */
    retryAfterMs: number | undefined;
}
/** A followed stream, made by {@link connect}. */
export declare class Stream extends EventTarget {
    #private;
    /** @param {Options} options */
    constructor({ url, sessionId, secret, token, replay, since, lastEventId, seenIds, heartbeatIntervalMs }: Options);
    get state(): State;
    /** The id of the last event: a later `connect` resumes after it. */
    get lastEventId(): string | undefined;
    /**
     * Calls `listener` for each event of this type. Returns a function that removes it.
     * @template {keyof Events} T
     * @param {T} type
     * @param {(detail: Events[T]) => void} listener
     */
    on<T extends keyof Events>(type: T, listener: (detail: Events[T]) => void): () => void;
    /** Ends the stream for good. */
    close(): void;
    /** Connects now: ends a wait, leaves a refusal, replaces an open connection. */
    reconnect(): void;
    /** Checks the clock now. To be called after timers were suspended, by sleep or a freeze. */
    check(): void;
}
