//! The series: the counters, gauges and histograms, and the names and labels under which they are exposed.
//!
//! Used by the parent module. To add one, add a variant and, at the same position, its row. Never takes a
//! label's value from a peer, so the number of series is fixed.

/// An event that is counted. Each is a row of [`COUNTERS`], at its own position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counter {
    /// A connection was accepted.
    Accepts,
    /// Accepting failed, for instance because no file descriptor was free.
    AcceptErrors,
    /// A webhook's message was accepted.
    MessagesLocal,
    /// A message of another node was stored.
    MessagesRemote,
    /// A webhook was answered with the receipt of an earlier one that had the same identity.
    Repeats,
    /// A message's frame was completely written to a stream.
    Deliveries,
    /// Bytes written to sockets.
    BytesSent,
    /// Bytes of requests read.
    BytesReceived,
    /// A heartbeat was written to a stream.
    Heartbeats,
    /// A `gap` event was sent to a stream.
    Gaps,
    /// A stream was opened that begins with the history.
    StreamsReplayed,
    /// A stream was opened that continues after the client's last event.
    StreamsResumed,
    /// A stream ended because its client closed it or the connection broke.
    StreamsEndedByPeer,
    /// A stream was closed because it took no byte for too long.
    StreamsStalled,
    /// A stream was closed because a frame that was sent in part had left the live log.
    StreamsOverrun,
    /// A stream was ended by the drain.
    StreamsDrained,
    /// A stream that a cache shares among clients reached its lifetime.
    StreamsExpired,
    /// A stream was ended because another history has replaced that of the node.
    StreamsReset,
    /// A stream was ended because its token had ended, or the key of its token was gone.
    StreamsTokenEnded,
    /// A request waited until this node had reached its event id, and resumed there.
    ResumesReached,
    /// A request waited for its event id in vain, and got the history.
    ResumesExpired,
    /// A request was refused: it is not HTTP as this server accepts it.
    RefusedMalformed,
    /// A request was refused: its body, head or target is too long.
    RefusedTooLarge,
    /// A request was refused: it did not arrive in time.
    RefusedTooSlow,
    /// A request was refused: its secret is missing or wrong.
    RefusedUnauthorized,
    /// A token that does not allow what the request asks for.
    RefusedForbidden,
    /// A secret or a token of a client that has sent too many wrong ones.
    RefusedGuessing,
    /// A request was refused: no such path or method.
    RefusedUnknown,
    /// A webhook was refused: its body is not a valid message.
    RefusedInvalidMessage,
    /// A request was refused: the limit of connections is reached.
    RefusedAtLimit,
    /// A connection was closed: its listener is for trusted proxies, and its peer is not one.
    RefusedNoProxy,
    /// A request was refused, or an answer abandoned: the memory for requests and answers is used up.
    RefusedOverload,
    /// A webhook was refused: its message could not be stored in the ring.
    RefusedStorage,
    /// A webhook was refused, or its outcome is unknown: its message has not come back from the bus in time.
    RefusedBus,
    /// A source refused a request: it was not verified, or its body is not what it should be.
    RefusedSource,
    /// A message was committed to the ring.
    RingAppends,
    /// A message could not be committed to the ring.
    RingErrors,
    /// Webhooks waited for another turn, because a shard's inbox was full.
    PublishWaits,
    /// The sync of a commit failed.
    RingSyncErrors,
    /// A page of the history was encoded for a request.
    HistoryEncodings,
    /// Bytes of frames that were compressed.
    CompressionIn,
    /// Bytes of the compressed frames.
    CompressionOut,
}

/// A gauge. Each is a row of [`GAUGES`], at its own position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gauge {
    /// Open connections, streams included.
    Connections,
    /// Open streams.
    Streams,
    /// Open streams that are compressed.
    StreamsCompressed,
    /// The largest number of connections that are served at once; set once.
    ConnectionsMax,
    /// Threads that serve connections; set once.
    Shards,
    /// Webhooks that were read and are not answered yet.
    WebhooksWaiting,
}

/// A distribution of durations. Each is a row of [`TIMINGS`], at its own position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timing {
    /// A sweep, from its first stream to its last.
    Sweep,
    /// From the read of a webhook's last byte to the write of its answer.
    Publish,
    /// The hub's part of a turn's webhooks: its lock, the append to the ring, the encoding.
    Append,
    /// The sync of one commit.
    RingSync,
}

/// The resource of a request; the label `route` of the requests. Each is a row of [`ENDPOINTS`], at its own
/// position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Endpoint {
    /// `/api/webhook`
    Webhook,
    /// `/api/webhook/stream`
    Stream,
    /// `/api/webhook/messages`
    Messages,
    /// `/api/webhook/in/` and a name
    Source,
    /// `/api/webhook/sources`
    Sources,
    /// `/api/webhook/sessions/` and a name
    Presence,
    /// `/`, and the other files of the chat window.
    Chat,
    /// No known path, or a head that could not be read.
    None,
}

pub(super) const ENDPOINTS: [(Endpoint, &str); 8] = [
    (Endpoint::Webhook, "/api/webhook"),
    (Endpoint::Stream, "/api/webhook/stream"),
    (Endpoint::Messages, "/api/webhook/messages"),
    (Endpoint::Source, "/api/webhook/in"),
    (Endpoint::Sources, "/api/webhook/sources"),
    (Endpoint::Presence, "/api/webhook/sessions"),
    (Endpoint::Chat, "/"),
    (Endpoint::None, "none"),
];

/// The statuses with a series of their own; any other counts as the last.
pub(super) const STATUSES: [(u16, &str); 19] = [
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
    (422, "422"),
    (431, "431"),
    (500, "500"),
    (501, "501"),
    (503, "503"),
    (505, "505"),
    (0, "other"),
];

/// The pairs that are exposed from the start: successes, and those that alerts use. Any other pair is
/// exposed after its first request; most never are.
pub(super) const EXPECTED: [(Endpoint, u16); 6] = [
    (Endpoint::Webhook, 200),
    (Endpoint::Webhook, 401),
    (Endpoint::Webhook, 500),
    (Endpoint::Webhook, 503),
    (Endpoint::Stream, 200),
    (Endpoint::Chat, 200),
];

/// A label's name and value, for families that have one.
pub(super) type Label = Option<(&'static str, &'static str)>;

/// Name, label, help. Rows of one name are adjacent; the first has the help.
pub(super) type Row<T> = (T, &'static str, Label, &'static str);

#[rustfmt::skip]
pub(super) const COUNTERS: [Row<Counter>; 42] = [
    (Counter::Accepts, "hookcast_accepts_total", None, "Connections accepted."),
    (Counter::AcceptErrors, "hookcast_accept_errors_total", None, "Failures to accept a connection."),
    (Counter::MessagesLocal, "hookcast_messages_total", Some(("source", "local")), "Messages accepted, by source: webhooks (local) or KV (remote)."),
    (Counter::MessagesRemote, "hookcast_messages_total", Some(("source", "remote")), ""),
    (Counter::Repeats, "hookcast_repeats_total", None, "Webhooks that repeated an earlier one: answered with its receipt, and not published."),
    (Counter::Deliveries, "hookcast_deliveries_total", None, "Messages completely written to a stream."),
    (Counter::BytesSent, "hookcast_sent_bytes_total", None, "Bytes written to sockets."),
    (Counter::BytesReceived, "hookcast_received_bytes_total", None, "Bytes of requests read."),
    (Counter::Heartbeats, "hookcast_heartbeats_total", None, "Heartbeats written to streams."),
    (Counter::Gaps, "hookcast_gaps_total", None, "Gap events sent to streams."),
    (Counter::StreamsReplayed, "hookcast_streams_opened_total", Some(("start", "replay")), "Streams opened, by start: with the history (replay), or after the client's last event (resume)."),
    (Counter::StreamsResumed, "hookcast_streams_opened_total", Some(("start", "resume")), ""),
    (Counter::StreamsEndedByPeer, "hookcast_streams_closed_total", Some(("reason", "peer")), "Streams closed, by reason."),
    (Counter::StreamsStalled, "hookcast_streams_closed_total", Some(("reason", "stalled")), ""),
    (Counter::StreamsOverrun, "hookcast_streams_closed_total", Some(("reason", "overrun")), ""),
    (Counter::StreamsDrained, "hookcast_streams_closed_total", Some(("reason", "drain")), ""),
    (Counter::StreamsExpired, "hookcast_streams_closed_total", Some(("reason", "life")), ""),
    (Counter::StreamsReset, "hookcast_streams_closed_total", Some(("reason", "reset")), ""),
    (Counter::StreamsTokenEnded, "hookcast_streams_closed_total", Some(("reason", "token")), ""),
    (Counter::ResumesReached, "hookcast_resume_waits_total", Some(("result", "reached")), "Requests whose event id was ahead of this node, by result: resumed exactly (reached), or answered with the history (expired)."),
    (Counter::ResumesExpired, "hookcast_resume_waits_total", Some(("result", "expired")), ""),
    (Counter::RefusedMalformed, "hookcast_refused_total", Some(("reason", "malformed")), "Requests refused, by reason."),
    (Counter::RefusedTooLarge, "hookcast_refused_total", Some(("reason", "too_large")), ""),
    (Counter::RefusedTooSlow, "hookcast_refused_total", Some(("reason", "too_slow")), ""),
    (Counter::RefusedUnauthorized, "hookcast_refused_total", Some(("reason", "unauthorized")), ""),
    (Counter::RefusedForbidden, "hookcast_refused_total", Some(("reason", "forbidden")), ""),
    (Counter::RefusedGuessing, "hookcast_refused_total", Some(("reason", "guessing")), ""),
    (Counter::RefusedUnknown, "hookcast_refused_total", Some(("reason", "unknown")), ""),
    (Counter::RefusedInvalidMessage, "hookcast_refused_total", Some(("reason", "invalid_message")), ""),
    (Counter::RefusedAtLimit, "hookcast_refused_total", Some(("reason", "at_limit")), ""),
    (Counter::RefusedNoProxy, "hookcast_refused_total", Some(("reason", "no_proxy")), ""),
    (Counter::RefusedOverload, "hookcast_refused_total", Some(("reason", "overload")), ""),
    (Counter::RefusedStorage, "hookcast_refused_total", Some(("reason", "storage")), ""),
    (Counter::RefusedBus, "hookcast_refused_total", Some(("reason", "bus")), ""),
    (Counter::RefusedSource, "hookcast_refused_total", Some(("reason", "source")), ""),
    (Counter::RingAppends, "hookcast_ring_appends_total", None, "Messages committed to the ring."),
    (Counter::RingErrors, "hookcast_ring_errors_total", None, "Messages that could not be stored in the ring."),
    (Counter::PublishWaits, "hookcast_publish_waits_total", None, "Turns in which webhooks waited because a shard's inbox was full."),
    (Counter::RingSyncErrors, "hookcast_ring_sync_errors_total", None, "Commits whose sync failed."),
    (Counter::HistoryEncodings, "hookcast_history_encodings_total", None, "Pages of the history encoded for requests. Further requests for the same page reuse it."),
    (Counter::CompressionIn, "hookcast_compression_bytes_total", Some(("form", "plain")), "Bytes of messages that were compressed for streams, before and after."),
    (Counter::CompressionOut, "hookcast_compression_bytes_total", Some(("form", "compressed")), ""),
];

#[rustfmt::skip]
pub(super) const GAUGES: [Row<Gauge>; 6] = [
    (Gauge::Connections, "hookcast_connections", None, "Open connections, streams included."),
    (Gauge::Streams, "hookcast_streams", None, "Open streams."),
    (Gauge::StreamsCompressed, "hookcast_streams_compressed", None, "Open streams that are compressed."),
    (Gauge::ConnectionsMax, "hookcast_connections_max", None, "The largest number of connections served at once."),
    (Gauge::Shards, "hookcast_shards", None, "Threads that serve connections."),
    (Gauge::WebhooksWaiting, "hookcast_webhooks_waiting", None, "Webhooks that are read but not answered yet."),
];

#[rustfmt::skip]
pub(super) const TIMINGS: [Row<Timing>; 4] = [
    (Timing::Sweep, "hookcast_sweep_seconds", None, "Duration of a sweep over streams that are behind."),
    (Timing::Publish, "hookcast_publish_seconds", None, "Time from the read of a webhook to the write of its answer."),
    (Timing::Append, "hookcast_append_seconds", None, "Time to store the webhooks of a turn in the ring, including the wait for the hub."),
    (Timing::RingSync, "hookcast_ring_sync_seconds", None, "Duration of a commit's sync."),
];

/// Upper bounds of the buckets in nanoseconds and in seconds: from a sweep over a few streams to a very
/// late acknowledgement.
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
