//! The series: what is counted, and under which names and labels it is exposed.
//!
//! To add one, add a variant and, at the same position, its row. No label takes its value from a
//! peer, so the number of series is fixed.

/// An event that is counted. Each is a row of [`COUNTERS`], at its own position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counter {
    /// A connection was accepted.
    Accepts,
    /// Accepting failed, for instance because no file descriptor was free.
    AcceptErrors,
    /// A webhook's message was accepted.
    MessagesLocal,
    /// A message came from another node.
    MessagesRemote,
    /// A message's frame was written whole to a stream.
    Deliveries,
    /// Bytes written to sockets.
    BytesSent,
    /// Bytes of requests read.
    BytesReceived,
    /// A heartbeat was written to a stream.
    Heartbeats,
    /// A stream was told that it missed messages.
    Gaps,
    /// A stream was opened that is shown the history.
    StreamsReplayed,
    /// A stream was opened that goes on behind the last event that its client has.
    StreamsResumed,
    /// A stream ended because its client closed it or the connection broke.
    StreamsEndedByPeer,
    /// A stream was closed because it took no byte for too long.
    StreamsStalled,
    /// A stream was closed because the live log overtook it in the middle of a frame.
    StreamsOverrun,
    /// A stream was ended by the drain.
    StreamsDrained,
    /// A stream that a cache shares among clients reached the end of its life.
    StreamsExpired,
    /// A request was refused: not HTTP as this server understands it.
    RefusedMalformed,
    /// A request was refused: its body, head or target is too long.
    RefusedTooLarge,
    /// A request was refused: it did not arrive in time.
    RefusedTooSlow,
    /// A request was refused: its secret is missing or wrong.
    RefusedUnauthorized,
    /// A request was refused: no such path or method.
    RefusedUnknown,
    /// A webhook was refused: its body is no valid message.
    RefusedInvalidMessage,
    /// A request was refused: as many connections as allowed are open.
    RefusedAtLimit,
    /// A connection was closed: its listener is for trusted proxies, and its peer is none.
    RefusedNoProxy,
    /// A request was refused, or an answer given up: too much is being held for others.
    RefusedOverload,
    /// A webhook was refused: the ring could not take its message.
    RefusedStorage,
    /// A message was committed to the ring.
    RingAppends,
    /// A message could not be committed to the ring.
    RingErrors,
    /// Webhooks waited for another turn, because a shard's inbox was full.
    PublishWaits,
    /// The disk failed to take a commit.
    RingSyncErrors,
    /// A page of the history was encoded for a request.
    HistoryEncodings,
}

/// A level that rises and falls. Each is a row of [`GAUGES`], at its own position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gauge {
    /// Open connections, streams included.
    Connections,
    /// Open streams.
    Streams,
    /// The most connections that are served at once; set once.
    ConnectionsMax,
    /// Threads that serve connections; set once.
    Shards,
    /// Webhooks that were read and not yet answered.
    WebhooksWaiting,
}

/// A distribution of durations. Each is a row of [`TIMINGS`], at its own position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timing {
    /// From the first stream of a sweep served to the last.
    Sweep,
    /// From the last byte of a webhook read to its answer written.
    Publish,
    /// The hub's part of the webhooks of a turn: its lock, the commit to the ring, the encoding.
    Append,
    /// Of one commit, the wait for the disk.
    RingSync,
}

/// What a request was for; the label `route` of the requests. Each is a row of [`ENDPOINTS`], at
/// its own position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Endpoint {
    /// `/api/webhook`
    Webhook,
    /// `/api/webhook/stream`
    Stream,
    /// `/api/webhook/messages`
    Messages,
    /// `/`, and the other files of the chat window.
    Window,
    /// No known path, or a head that could not be read.
    None,
}

pub(super) const ENDPOINTS: [(Endpoint, &str); 5] = [
    (Endpoint::Webhook, "/api/webhook"),
    (Endpoint::Stream, "/api/webhook/stream"),
    (Endpoint::Messages, "/api/webhook/messages"),
    (Endpoint::Window, "/"),
    (Endpoint::None, "none"),
];

/// The statuses that are told apart; any other counts as the last.
pub(super) const STATUSES: [(u16, &str); 18] = [
    (200, "200"),
    (204, "204"),
    (304, "304"),
    (400, "400"),
    (401, "401"),
    (404, "404"),
    (405, "405"),
    (408, "408"),
    (413, "413"),
    (414, "414"),
    (415, "415"),
    (417, "417"),
    (431, "431"),
    (500, "500"),
    (501, "501"),
    (503, "503"),
    (505, "505"),
    (0, "other"),
];

/// The pairs that are there from the start: what goes well, and what an alert asks for. Any other
/// appears once it has happened, as most never do.
pub(super) const EXPECTED: [(Endpoint, u16); 6] = [
    (Endpoint::Webhook, 200),
    (Endpoint::Webhook, 401),
    (Endpoint::Webhook, 500),
    (Endpoint::Webhook, 503),
    (Endpoint::Stream, 200),
    (Endpoint::Window, 200),
];

/// A label's name and value, for families that have one.
pub(super) type Label = Option<(&'static str, &'static str)>;

/// Name, label, help. Rows of one name stand together; the help stands in the first.
pub(super) type Row<T> = (T, &'static str, Label, &'static str);

#[rustfmt::skip]
pub(super) const COUNTERS: [Row<Counter>; 31] = [
    (Counter::Accepts, "hookcast_accepts_total", None, "Connections accepted."),
    (Counter::AcceptErrors, "hookcast_accept_errors_total", None, "Failures to accept a connection."),
    (Counter::MessagesLocal, "hookcast_messages_total", Some(("source", "local")), "Messages accepted, by where they came from."),
    (Counter::MessagesRemote, "hookcast_messages_total", Some(("source", "remote")), ""),
    (Counter::Deliveries, "hookcast_deliveries_total", None, "Messages written whole to a stream."),
    (Counter::BytesSent, "hookcast_sent_bytes_total", None, "Bytes written to sockets."),
    (Counter::BytesReceived, "hookcast_received_bytes_total", None, "Bytes of requests read."),
    (Counter::Heartbeats, "hookcast_heartbeats_total", None, "Heartbeats written to streams."),
    (Counter::Gaps, "hookcast_gaps_total", None, "Streams told that they missed messages."),
    (Counter::StreamsReplayed, "hookcast_streams_opened_total", Some(("start", "replay")), "Streams opened, by what they begin with: the history, or what follows the client's last event."),
    (Counter::StreamsResumed, "hookcast_streams_opened_total", Some(("start", "resume")), ""),
    (Counter::StreamsEndedByPeer, "hookcast_streams_closed_total", Some(("reason", "peer")), "Streams closed, by reason."),
    (Counter::StreamsStalled, "hookcast_streams_closed_total", Some(("reason", "stalled")), ""),
    (Counter::StreamsOverrun, "hookcast_streams_closed_total", Some(("reason", "overrun")), ""),
    (Counter::StreamsDrained, "hookcast_streams_closed_total", Some(("reason", "drain")), ""),
    (Counter::StreamsExpired, "hookcast_streams_closed_total", Some(("reason", "life")), ""),
    (Counter::RefusedMalformed, "hookcast_refused_total", Some(("reason", "malformed")), "Requests refused, by reason."),
    (Counter::RefusedTooLarge, "hookcast_refused_total", Some(("reason", "too_large")), ""),
    (Counter::RefusedTooSlow, "hookcast_refused_total", Some(("reason", "too_slow")), ""),
    (Counter::RefusedUnauthorized, "hookcast_refused_total", Some(("reason", "unauthorized")), ""),
    (Counter::RefusedUnknown, "hookcast_refused_total", Some(("reason", "unknown")), ""),
    (Counter::RefusedInvalidMessage, "hookcast_refused_total", Some(("reason", "invalid_message")), ""),
    (Counter::RefusedAtLimit, "hookcast_refused_total", Some(("reason", "at_limit")), ""),
    (Counter::RefusedNoProxy, "hookcast_refused_total", Some(("reason", "no_proxy")), ""),
    (Counter::RefusedOverload, "hookcast_refused_total", Some(("reason", "overload")), ""),
    (Counter::RefusedStorage, "hookcast_refused_total", Some(("reason", "storage")), ""),
    (Counter::RingAppends, "hookcast_ring_appends_total", None, "Messages committed to the ring."),
    (Counter::RingErrors, "hookcast_ring_errors_total", None, "Messages that the ring could not take."),
    (Counter::PublishWaits, "hookcast_publish_waits_total", None, "Turns in which webhooks waited because a shard's inbox was full."),
    (Counter::RingSyncErrors, "hookcast_ring_sync_errors_total", None, "Commits that the disk failed to take."),
    (Counter::HistoryEncodings, "hookcast_history_encodings_total", None, "Pages of the history encoded for requests; further requests for the same page are served from the last one."),
];

#[rustfmt::skip]
pub(super) const GAUGES: [Row<Gauge>; 5] = [
    (Gauge::Connections, "hookcast_connections", None, "Open connections, streams included."),
    (Gauge::Streams, "hookcast_streams", None, "Open streams."),
    (Gauge::ConnectionsMax, "hookcast_connections_max", None, "The most connections that are served at once."),
    (Gauge::Shards, "hookcast_shards", None, "Threads that serve connections."),
    (Gauge::WebhooksWaiting, "hookcast_webhooks_waiting", None, "Webhooks read and not yet answered."),
];

#[rustfmt::skip]
pub(super) const TIMINGS: [Row<Timing>; 4] = [
    (Timing::Sweep, "hookcast_sweep_seconds", None, "Duration of a sweep over the streams that are behind."),
    (Timing::Publish, "hookcast_publish_seconds", None, "Time from a webhook read to its answer written."),
    (Timing::Append, "hookcast_append_seconds", None, "Time in which the webhooks of a turn get into the ring, the wait for the hub included."),
    (Timing::RingSync, "hookcast_ring_sync_seconds", None, "Time that a commit waited for the disk."),
];

/// Upper bounds of the buckets in nanoseconds and in seconds: from a sweep over a few streams to an
/// acknowledgement that took far too long.
pub(super) const BUCKETS: [(u64, f64); 12] = [
    (10_000, 0.000_01),
    (50_000, 0.000_05),
    (100_000, 0.000_1),
    (250_000, 0.000_25),
    (500_000, 0.000_5),
    (1_000_000, 0.001),
    (2_500_000, 0.002_5),
    (5_000_000, 0.005),
    (10_000_000, 0.01),
    (50_000_000, 0.05),
    (250_000_000, 0.25),
    (1_000_000_000, 1.0),
];
