//! The series: what is counted, and under which names and labels it is exposed.
//!
//! To add one, add a variant and, at the same position, its row.

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
    /// A heartbeat was written to a stream.
    Heartbeats,
    /// A stream was told that it missed messages.
    Gaps,
    /// A stream ended because its client closed it or the connection broke.
    StreamsEndedByPeer,
    /// A stream was closed because it took no byte for too long.
    StreamsStalled,
    /// A stream was closed because the live log overtook it in the middle of a frame.
    StreamsOverrun,
    /// A stream was ended by the drain.
    StreamsDrained,
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
}

/// A level that rises and falls. Each is a row of [`GAUGES`], at its own position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gauge {
    /// Open connections, streams included.
    Connections,
    /// Open streams.
    Streams,
}

/// A distribution of durations. Each is a row of [`HISTOGRAMS`], at its own position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timing {
    /// From the first stream of a sweep served to the last.
    Sweep,
    /// From the last byte of a webhook read to its answer written.
    Publish,
}

/// Where a request was routed to; the label `route` of the requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// `/api/webhook`
    Webhook,
    /// `/api/webhook/stream`
    Stream,
    /// `/`
    Window,
    /// No known path, or a head that could not be read.
    None,
}

pub(super) const ROUTES: [(Route, &str); 4] = [
    (Route::Webhook, "/api/webhook"),
    (Route::Stream, "/api/webhook/stream"),
    (Route::Window, "/"),
    (Route::None, "none"),
];

/// The statuses that are told apart; any other counts as the last.
pub(super) const STATUSES: [(u16, &str); 17] = [
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
    (417, "417"),
    (431, "431"),
    (500, "500"),
    (501, "501"),
    (503, "503"),
    (505, "505"),
    (0, "other"),
];

/// Name, labels, help. Rows of one name stand together; the help stands in the first.
pub(super) type Row<T> = (T, &'static str, &'static str, &'static str);

#[rustfmt::skip]
pub(super) const COUNTERS: [Row<Counter>; 24] = [
    (Counter::Accepts, "hookcast_accepts_total", "", "Connections accepted."),
    (Counter::AcceptErrors, "hookcast_accept_errors_total", "", "Failures to accept a connection."),
    (Counter::MessagesLocal, "hookcast_messages_total", r#"source="local""#, "Messages accepted, by where they came from."),
    (Counter::MessagesRemote, "hookcast_messages_total", r#"source="remote""#, ""),
    (Counter::Deliveries, "hookcast_deliveries_total", "", "Messages written whole to a stream."),
    (Counter::BytesSent, "hookcast_sent_bytes_total", "", "Bytes written to sockets."),
    (Counter::Heartbeats, "hookcast_heartbeats_total", "", "Heartbeats written to streams."),
    (Counter::Gaps, "hookcast_gaps_total", "", "Streams told that they missed messages."),
    (Counter::StreamsEndedByPeer, "hookcast_streams_closed_total", r#"reason="peer""#, "Streams closed, by reason."),
    (Counter::StreamsStalled, "hookcast_streams_closed_total", r#"reason="stalled""#, ""),
    (Counter::StreamsOverrun, "hookcast_streams_closed_total", r#"reason="overrun""#, ""),
    (Counter::StreamsDrained, "hookcast_streams_closed_total", r#"reason="drain""#, ""),
    (Counter::RefusedMalformed, "hookcast_refused_total", r#"reason="malformed""#, "Requests refused, by reason."),
    (Counter::RefusedTooLarge, "hookcast_refused_total", r#"reason="too_large""#, ""),
    (Counter::RefusedTooSlow, "hookcast_refused_total", r#"reason="too_slow""#, ""),
    (Counter::RefusedUnauthorized, "hookcast_refused_total", r#"reason="unauthorized""#, ""),
    (Counter::RefusedUnknown, "hookcast_refused_total", r#"reason="unknown""#, ""),
    (Counter::RefusedInvalidMessage, "hookcast_refused_total", r#"reason="invalid_message""#, ""),
    (Counter::RefusedAtLimit, "hookcast_refused_total", r#"reason="at_limit""#, ""),
    (Counter::RefusedNoProxy, "hookcast_refused_total", r#"reason="no_proxy""#, ""),
    (Counter::RefusedOverload, "hookcast_refused_total", r#"reason="overload""#, ""),
    (Counter::RefusedStorage, "hookcast_refused_total", r#"reason="storage""#, ""),
    (Counter::RingAppends, "hookcast_ring_appends_total", "", "Messages committed to the ring."),
    (Counter::RingErrors, "hookcast_ring_errors_total", "", "Messages that the ring could not take."),
];

#[rustfmt::skip]
pub(super) const GAUGES: [Row<Gauge>; 2] = [
    (Gauge::Connections, "hookcast_connections", "", "Open connections, streams included."),
    (Gauge::Streams, "hookcast_streams", "", "Open streams."),
];

#[rustfmt::skip]
pub(super) const TIMINGS: [Row<Timing>; 2] = [
    (Timing::Sweep, "hookcast_sweep_seconds", "", "Duration of a sweep over the streams that are behind."),
    (Timing::Publish, "hookcast_publish_seconds", "", "Time from a webhook read to its answer written."),
];

/// Upper bounds of the buckets in nanoseconds, and as the label `le` states them in seconds: from
/// a sweep over a few streams to an acknowledgement that took far too long.
pub(super) const BUCKETS: [(u64, &str); 12] = [
    (10_000, "0.00001"),
    (50_000, "0.00005"),
    (100_000, "0.0001"),
    (250_000, "0.00025"),
    (500_000, "0.0005"),
    (1_000_000, "0.001"),
    (2_500_000, "0.0025"),
    (5_000_000, "0.005"),
    (10_000_000, "0.01"),
    (50_000_000, "0.05"),
    (250_000_000, "0.25"),
    (1_000_000_000, "1"),
];
