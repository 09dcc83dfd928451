//! What an idle stream costs, and what all that is held costs at most.

mod support;

use std::time::Instant;

use hookcast::limits::{
    BODY_BYTES_MAX_DEFAULT, FRAME_BYTES_MIN, HELD_BYTES_MAX, LOG_BYTES_MIN, log_bytes_max,
    memory_bytes_max,
};
use support::loopback::unread_bytes;
use support::{Connection, EventStream, PATIENCE, Server};

/// Memory of the process itself in bytes: what it wrote to, less files and shared pages.
fn memory_bytes(server: &Server) -> u64 {
    server.proc_status("RssAnon:") * 1024
}

/// The most memory that the process ever had in bytes, files and shared pages included.
fn peak_bytes(server: &Server) -> u64 {
    server.proc_status("VmHWM:") * 1024
}

/// Opens streams and reads each until it is idle: connected, and one heartbeat behind it.
fn open(server: &Server, count: usize) -> Vec<EventStream> {
    let mut streams: Vec<EventStream> = (0..count).map(|_| server.stream("", "")).collect();
    for stream in &mut streams {
        assert_eq!(stream.connected(), 0);
        assert!(stream.next_event().unwrap().is_heartbeat());
    }
    streams
}

/// A browser's request is far longer than the streams of the other tests.
#[test]
fn an_idle_stream_costs_at_most_256_bytes() {
    const WARM: usize = 1_000;
    const BYTES_MAX: u64 = 256;
    // This process and the server hold one descriptor each per stream.
    let files = usize::try_from(hookcast::config::raise_file_limit()).unwrap_or(usize::MAX);
    let count = 8_000.min(files.saturating_sub(WARM + 500));
    assert!(
        count >= 2_000,
        "the limit of {files} open files is too low to measure anything"
    );

    let server = Server::start(&["--shards", "2", "--heartbeat", "1s"]);
    // Buffers that are shared, and grow once, have grown after these.
    let warm = open(&server, WARM);
    let before = memory_bytes(&server);
    let streams = open(&server, count);
    let after = memory_bytes(&server);
    let each = after.saturating_sub(before) / count as u64;
    println!("{count} streams: {before} to {after} bytes, {each} bytes each");
    assert!(each <= BYTES_MAX, "{each} bytes per stream");
    assert!(
        after > before,
        "{count} streams cannot cost nothing: the measurement is wrong"
    );

    // Closing gives the room back to the next ones.
    drop(streams);
    let again = open(&server, count);
    let later = memory_bytes(&server);
    let growth = later.saturating_sub(after) / count as u64;
    println!("after closing and opening again: {later} bytes");
    assert!(
        growth < 32,
        "{growth} bytes per stream are kept after its end"
    );
    drop((warm, again));
}

/// Requests that store nothing, so that neither the ring nor the live log grows with them.
#[test]
fn served_requests_leave_nothing_behind() {
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
    // What is kept for reuse is there after these.
    (0..10).for_each(|_| round());
    let before = memory_bytes(&server);
    (0..ROUNDS).for_each(|_| round());
    let after = memory_bytes(&server);
    println!(
        "{before} to {after} bytes over {} requests",
        ROUNDS * REQUESTS_PER_ROUND
    );
    assert!(
        after < before + BYTES_MAX,
        "{before} to {after}: 26 bytes a request or more"
    );
}

/// Publishes small messages, each to a session of its own, and tells the most memory that the server had.
fn flood_with_sessions(server: &Server, messages: usize) -> u64 {
    // Of this length names cost the most for what they add to the frame.
    flood(server, messages, |number| {
        format!(r#"{{"message":"x","sessionId":"{number:012x}"}}"#)
    })
}

/// Publishes so many webhooks with bodies by their number, and tells the most memory that the server had.
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
        most = most.max(memory_bytes(server));
    }
    most
}

/// Each session in turn has most of the log to itself, and keeps a stream when its messages are gone.
#[test]
fn a_session_that_a_stream_holds_gives_back_what_its_messages_took() {
    const SESSIONS: usize = 6;
    const MESSAGES: usize = 80_000;
    /// Far less than the lists of four sessions took, 640 kB each.
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

/// What a log knows of each small message is more than its bytes. Twice as many as it has room for.
#[test]
fn a_flood_of_sessions_fills_more_than_half_of_the_bound_and_less_than_the_whole() {
    let server = Server::start(&["--shards", "1"]);
    let before = memory_bytes(&server);
    let most = flood_with_sessions(&server, 2 * LOG_BYTES_MIN / FRAME_BYTES_MIN);
    let bound = log_bytes_max(BODY_BYTES_MAX_DEFAULT) as u64;
    let grown = most - before;
    println!("{grown} bytes of {bound}");
    assert!(grown < bound, "{grown} bytes of {bound}");
    assert!(
        grown > bound / 2,
        "{grown} bytes of {bound}: it is too high"
    );
}

/// The figures of `limits` would be worth nothing if they were far above what can happen. The webhooks of
/// a turn and the inboxes, 68 MiB, are not filled: no peer can hold them full.
#[test]
fn what_peers_can_make_it_hold_is_more_than_half_of_the_bound_and_less_than_the_whole() {
    const SHARDS: usize = 2;
    /// Four times what may be held together: more than the whole of the figure.
    const UPLOADS: usize = 4 * HELD_BYTES_MAX / BODY_BYTES_MAX_DEFAULT;
    let files = usize::try_from(hookcast::config::raise_file_limit()).unwrap_or(usize::MAX);
    let connections = 8_000.min(files.saturating_sub(500));
    assert!(
        connections > UPLOADS + 500,
        "the limit of {files} open files is too low for the uploads"
    );
    let shards = SHARDS.to_string();
    let connections_max = connections.to_string();
    let server = Server::start(&["--shards", &shards, "--max-connections", &connections_max]);

    // The logs, and as much again, so that they have to let go of the oldest.
    let mut most = flood_with_sessions(&server, 2 * LOG_BYTES_MIN / FRAME_BYTES_MIN);
    let logs = most;
    // Uploads that stop before their last byte: the larger part is refused.
    let body = vec![b'x'; 60_000];
    let mut upload =
        b"POST /api/webhook HTTP/1.1\r\nHost: a\r\nContent-Length: 60001\r\n\r\n".to_vec();
    upload.extend(body);
    let mut held: Vec<_> = (0..UPLOADS).map(|_| begin(&server, &upload)).collect();
    most = most.max(memory_while_reading(&server));
    let uploads = most;
    // Heads that stop before their end, and are small enough to be held all the same.
    let request = format!("GET / HTTP/1.1\r\nHost: a\r\nCookie: {}", "x".repeat(1_900));
    held.extend((UPLOADS..connections).map(|_| begin(&server, request.as_bytes())));
    most = most.max(memory_while_reading(&server));

    let bound = memory_bytes_max(SHARDS, connections, 0, BODY_BYTES_MAX_DEFAULT) as u64;
    println!("{most} bytes of {bound}: {logs} with the logs, {uploads} with the uploads");
    assert!(most < bound, "{most} bytes of {bound}");
    assert!(most > bound / 2, "{most} bytes of {bound}: it is too high");
}

/// A connection that sends these bytes and leaves it at that. The server may have refused it meanwhile.
fn begin(server: &Server, bytes: &[u8]) -> Connection {
    let mut connection = server.connect();
    connection.send_if_open(bytes);
    connection
}

/// The most memory of a server until it has read everything that has come.
fn memory_while_reading(server: &Server) -> u64 {
    let deadline = Instant::now() + PATIENCE;
    let mut most = 0;
    loop {
        let unread = unread_bytes(server.address.port());
        most = most.max(memory_bytes(server));
        if unread == 0 {
            return most;
        }
        assert!(Instant::now() < deadline, "{unread} bytes are not read");
    }
}
