//! The memory of an idle stream, and the most memory of a server.

use std::ops::Range;

use hookcast::limits::{
    BATCH_BYTES_MAX, BODY_BYTES_MAX_DEFAULT, BROADCAST_BYTES_MIN, COMMIT_QUEUE_BYTES_MAX,
    FRAME_BYTES_MIN, HELD_BYTES_MAX, INBOX_BATCHES_MAX, LOG_BYTES_MIN, PUBLISHING_BYTES_MAX,
    frame_bytes_max, log_bytes_max, memory_bytes_max,
};
use hookcast::testkit::sign_token_with;

use crate::support::memory::{own_bytes, peak_bytes, wait_for_reads};
use crate::support::{Connection, EventStream, Server, alone};

/// Opens streams and reads each until it is idle: `connected`, and one heartbeat.
fn open(server: &Server, count: usize) -> Vec<EventStream> {
    open_with(server, 0..count, |_| String::new())
}

/// The same for the streams with these numbers, each with the query of its number.
fn open_with(
    server: &Server,
    numbers: Range<usize>,
    query: impl Fn(usize) -> String,
) -> Vec<EventStream> {
    let streams = numbers.map(|number| server.stream(&query(number), ""));
    let mut streams: Vec<EventStream> = streams.collect();
    for stream in &mut streams {
        assert_eq!(stream.connected(), 0);
        assert!(stream.next_event().unwrap().is_heartbeat());
    }
    streams
}

/// The request is as long as a browser's.
#[test]
fn an_idle_stream_costs_at_most_256_bytes() {
    /// With these, each table takes more than the 128 KiB from which on malloc(3) maps a block by itself. A smaller
    /// table leaves its old memory behind when it grows: 0.2 MB for each shard, once, which is no cost of a stream.
    const WARM: usize = 8_000;
    const BYTES_MAX: u64 = 256;
    let alone = alone();
    // With fewer streams the pages of other allocations would count.
    let count = alone.connections(WARM + 8_000, WARM + 2_000) - WARM;

    let server = Server::start(&["--shards", "2", "--heartbeat", "1s"]);
    // Shared buffers, which grow once, have grown after these.
    let warm = open(&server, WARM);
    let before = own_bytes(&server);
    let streams = open(&server, count);
    let after = own_bytes(&server);
    let each = after.saturating_sub(before) / count as u64;
    println!("{count} streams: {before} to {after} bytes, {each} bytes each");
    assert!(each <= BYTES_MAX, "{each} bytes per stream");
    assert!(
        after > before,
        "{count} streams without any cost: the measurement is wrong"
    );

    // New streams use the memory of closed ones.
    drop(streams);
    let again = open(&server, count);
    let later = own_bytes(&server);
    let growth = later.saturating_sub(after) / count as u64;
    println!("after closing and opening again: {later} bytes");
    assert!(
        growth < 32,
        "{growth} bytes per stream are kept after its end"
    );
    drop((warm, again));
}

/// Streams of a token, and of several sessions with names of 36 bytes of their own each. A stream of neither pays
/// nothing for them.
#[test]
fn an_idle_stream_of_a_token_or_of_several_sessions_costs_a_stated_amount() {
    type Row<'a> = (&'a str, &'a [&'a str], &'a dyn Fn(usize) -> String, u64);
    const WARM: usize = 1_000;
    let alone = alone();
    let count = alone.connections(WARM + 4_000, WARM + 2_000) - WARM;
    let key = tempfile::NamedTempFile::new().unwrap();
    let secret = [b'k'; 32];
    std::fs::write(key.path(), secret).unwrap();
    let claims = r#"{"exp":99999999999,"hookcast":{"sessions":["a"]}}"#;
    let token = sign_token_with(&secret, r#"{"alg":"HS256"}"#, claims);
    let of_token = |_: usize| format!("?token={token}");
    let of_sessions = |sessions: usize| {
        move |number: usize| {
            let name = |nth: usize| format!("sessionId={number:018}{nth:018}");
            let names: Vec<String> = (0..sessions).map(name).collect();
            format!("?{}", names.join("&"))
        }
    };
    let key = key.path().to_str().unwrap();
    let cost = |flags: &[&str], query: &dyn Fn(usize) -> String| {
        let own = ["--shards", "2", "--heartbeat", "1s"];
        let server = Server::start(&[&own[..], flags].concat());
        let warm = open_with(&server, 0..WARM, query);
        let before = own_bytes(&server);
        let streams = open_with(&server, WARM..WARM + count, query);
        let each = own_bytes(&server).saturating_sub(before) / count as u64;
        drop((warm, streams));
        each
    };
    let keys = ["--token-key", key];
    let rows: [Row<'_>; 4] = [
        ("a token", &keys, &of_token, 320),
        ("one session", &[], &of_sessions(1), 512),
        ("two sessions", &[], &of_sessions(2), 1_024),
        ("sixteen sessions", &[], &of_sessions(16), 4_096),
    ];
    for (what, flags, query, bytes_max) in rows {
        let each = cost(flags, query);
        println!("{count} streams of {what}: {each} bytes each");
        assert!((1..=bytes_max).contains(&each), "{what}: {each} bytes");
    }
}

/// These requests store nothing, so neither the ring nor the live log grows.
#[test]
fn served_requests_leave_no_memory_behind() {
    const REQUESTS_PER_ROUND: usize = 4 * 100;
    const ROUNDS: usize = 100;
    const BYTES_MAX: u64 = 1024 * 1024;
    let server = Server::start(&["--shards", "1"]);
    let bad_body = "x".repeat(1000);
    let requests = format!(
        "GET /api/webhook HTTP/1.1\r\nHost: a\r\n\r\n\
         GET /nope?{bad_body} HTTP/1.1\r\nHost: a\r\nX: {bad_body}\r\n\r\n\
         POST /api/webhook HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n{bad_body}\
         POST /api/webhook HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3e8\r\n{bad_body}\r\n0\r\n\r\n"
    )
    .repeat(100);
    let round = || {
        let mut connection = server.connect();
        connection.send(requests.as_bytes());
        for _ in 0..100 {
            for status in [200, 404, 400, 400] {
                assert_eq!(connection.read_response().status, status);
            }
        }
    };
    // Buffers that are reused exist after these.
    (0..10).for_each(|_| round());
    let before = own_bytes(&server);
    (0..ROUNDS).for_each(|_| round());
    let after = own_bytes(&server);
    println!(
        "{before} to {after} bytes over {} requests",
        ROUNDS * REQUESTS_PER_ROUND
    );
    assert!(
        after < before + BYTES_MAX,
        "{before} to {after}: at least 26 bytes a request"
    );
}

/// Publishes small messages, each to a session of its own; returns the server's peak memory.
fn flood_with_sessions(server: &Server, messages: usize) -> u64 {
    // With names of this length the ratio of memory to frame bytes is highest.
    flood(server, messages, |number| {
        format!(r#"{{"message":"x","sessionId":"{number:012x}"}}"#)
    })
}

/// Publishes `messages` webhooks, each with the body of its number; returns the server's peak memory.
fn flood(server: &Server, messages: usize, body: impl Fn(usize) -> String) -> u64 {
    const CONNECTIONS: usize = 32;
    const BATCH: usize = 100;
    let mut connections: Vec<_> = (0..CONNECTIONS).map(|_| server.connect()).collect();
    let mut most = 0;
    for round in 0..messages.div_ceil(CONNECTIONS * BATCH) {
        for (index, connection) in connections.iter_mut().enumerate() {
            let first = (round * CONNECTIONS + index) * BATCH;
            let posts: Vec<String> = (first..first + BATCH)
                .map(|number| {
                    let body = body(number);
                    let length = body.len();
                    format!("POST /api/webhook HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{body}")
                })
                .collect();
            connection.send(posts.concat().as_bytes());
        }
        for connection in &mut connections {
            for _ in 0..BATCH {
                assert_eq!(connection.read_response().status, 200);
            }
        }
        most = most.max(own_bytes(server));
    }
    most
}

/// Each session in turn fills most of the log. Its stream stays open after its messages have left the log.
#[test]
fn a_session_with_a_stream_frees_the_index_of_old_messages() {
    const SESSIONS: usize = 6;
    const MESSAGES: usize = 80_000;
    /// Far less than the lists of four sessions took: 640 kB each.
    const BYTES_MAX: u64 = 1024 * 1024;
    let server = Server::start(&["--shards", "1", "--max-connections", "300"]);
    let mut streams = Vec::new();
    let mut before = 0;
    for session in 0..SESSIONS {
        flood(&server, MESSAGES, |_| {
            format!(r#"{{"message":"x","sessionId":"held {session}"}}"#)
        });
        let mut stream = server.stream(&format!("?sessionId=held%20{session}"), "");
        assert_eq!(stream.connected(), 100);
        stream.contents(100);
        streams.push(stream);
        if session == 1 {
            // The log is full.
            before = peak_bytes(&server);
        }
    }
    let after = peak_bytes(&server);
    println!("{before} to {after} bytes");
    assert!(after < before + BYTES_MAX, "{before} to {after} bytes");
}

/// The log's tables take more memory for a small message than its bytes do, and they never shrink. First the
/// tables of messages for all are filled, then those of sessions. Each gets as many messages as fit, the last
/// twice as many.
#[test]
fn a_flood_of_sessions_stays_between_half_of_the_bound_and_the_bound() {
    let server = Server::start(&["--shards", "1"]);
    let before = own_bytes(&server);
    let messages = LOG_BYTES_MIN / BROADCAST_BYTES_MIN;
    let most = flood(&server, messages, |_| r#"{"message":"x"}"#.into());
    let messages = 2 * LOG_BYTES_MIN / FRAME_BYTES_MIN;
    let most = most.max(flood_with_sessions(&server, messages));
    let bound = log_bytes_max(BODY_BYTES_MAX_DEFAULT) as u64;
    let grown = most - before;
    println!("{grown} bytes of {bound}");
    assert!(grown < bound, "{grown} bytes of {bound}");
    assert!(
        grown > bound / 2,
        "{grown} bytes of {bound}: the bound is too high"
    );
}

/// Figures of `limits` far above what can happen would be worth nothing. Three parts stay empty, because no
/// peer can keep them full: the webhooks of a turn, the inboxes, and the queue to the disk.
#[test]
fn memory_held_for_peers_stays_between_half_of_the_bound_and_the_bound() {
    const SHARDS: usize = 2;
    /// Four times [`HELD_BYTES_MAX`], so that all of it is used.
    const UPLOADS: usize = 4 * HELD_BYTES_MAX / BODY_BYTES_MAX_DEFAULT;
    let alone = alone();
    let connections = alone.connections(8_000, UPLOADS + 500);
    let shards = SHARDS.to_string();
    let connections_max = connections.to_string();
    let server = Server::start(&["--shards", &shards, "--max-connections", &connections_max]);

    // Fills the logs twice, so that they drop their oldest messages.
    let mut most = flood_with_sessions(&server, 2 * LOG_BYTES_MIN / FRAME_BYTES_MIN);
    let logs = most;
    // Uploads whose last byte is never sent: most of them are refused.
    let body = vec![b'x'; 60_000];
    let mut upload =
        b"POST /api/webhook HTTP/1.1\r\nHost: a\r\nContent-Length: 60001\r\n\r\n".to_vec();
    upload.extend(body);
    let mut held: Vec<_> = (0..UPLOADS).map(|_| begin(&server, &upload)).collect();
    most = most.max(wait_for_reads(&server, server.address.port()));
    let uploads = most;
    // Incomplete heads, small enough to be held beyond that.
    let request = format!("GET / HTTP/1.1\r\nHost: a\r\nCookie: {}", "x".repeat(1_900));
    held.extend((UPLOADS..connections).map(|_| begin(&server, request.as_bytes())));
    most = most.max(wait_for_reads(&server, server.address.port()));

    let bound = memory_bytes_max(SHARDS, connections, 0, BODY_BYTES_MAX_DEFAULT) as u64;
    println!("{most} bytes of {bound}: {logs} with the logs, {uploads} with the uploads");
    assert!(most < bound, "{most} bytes of {bound}");
    let batch = BATCH_BYTES_MAX + frame_bytes_max(BODY_BYTES_MAX_DEFAULT);
    let passing = SHARDS * PUBLISHING_BYTES_MAX + INBOX_BATCHES_MAX * batch;
    let lasting = bound - (passing + COMMIT_QUEUE_BYTES_MAX) as u64;
    assert!(
        most > lasting / 2,
        "{most} bytes of {lasting}: the bound is too high"
    );
}

/// Opens a connection and sends these bytes. The server may refuse it meanwhile.
fn begin(server: &Server, bytes: &[u8]) -> Connection {
    let mut connection = server.connect();
    connection.send_if_open(bytes);
    connection
}
