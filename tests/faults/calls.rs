//! Other system calls fail while the server runs.

use rustix::process::Signal;

use crate::audience::Audience;
use crate::support::{Server, Setup};
use crate::tracer::Fault;

/// Interrupts every other of the first fifteen calls of each kind, on every thread. The number is limited
/// because of the tracer: if it detaches in the middle of an injected call, the call returns ENOSYS, which no
/// kernel returns there.
#[test]
fn eintr_everywhere() {
    let server = Server::start(&["--shards", "2"]);
    let mut audience = Audience::of(&server);
    let calls = ["accept4", "epoll_wait", "recvfrom", "sendto", "write"];
    let also = [
        "writev",
        "sendmsg",
        "read",
        "getrandom",
        "statx",
        "epoll_ctl",
    ];
    let all = [&calls[..5], &also[..4]].concat();
    let faults: Vec<String> = all
        .iter()
        .map(|call| format!("{call}:error=EINTR:when=1..15+2"))
        .collect();
    let faults: Vec<&str> = faults.iter().map(String::as_str).collect();
    let fault = Fault::inject(
        &server,
        &[&calls[..], &also[..]].concat().join(","),
        &faults,
    );
    for _ in 0..20 {
        audience.expect_service();
        assert_eq!(server.request("GET", "/", "", b"").status, 200);
    }
    let trace = fault.end();
    for call in calls {
        assert!(trace.failures_of(call) > 0, "{call} was never interrupted");
    }
    audience.expect_service();
    audience.expect_history(&server);
}

/// A shard without connections has no timer. If its wake-up is lost, so is the connection that it was given.
#[test]
fn an_interrupted_wake_up_still_wakes_the_shard() {
    let server = Server::start(&["--shards", "2"]);
    let fault = Fault::inject(&server, "write", &["write:error=EINTR:when=1+2"]);
    // They stay open, so they go to the two shards in turn.
    let mut connections: Vec<_> = (0..8).map(|_| server.connect()).collect();
    for connection in &mut connections {
        connection.send_request("GET", "/api/webhook", "", b"");
        assert_eq!(connection.read_response().status, 200);
    }
    assert!(fault.end().failures() > 0);
}

/// A process that is stopped and continued all the time, as by a debugger or a batch scheduler: its sleeping
/// calls return a real EINTR (signal(7)).
#[test]
fn stopped_and_continued() {
    let server = Server::start(&["--shards", "2"]);
    let mut audience = Audience::of(&server);
    for _ in 0..100 {
        server.signal(Signal::STOP);
        server.signal(Signal::CONT);
        audience.expect_service();
    }
    audience.expect_history(&server);
}

/// If epoll lacks memory for a connection, that connection is closed and takes no place.
#[test]
fn enomem_when_a_connection_is_registered() {
    let server = Setup::new(&["--shards", "2", "--max-connections", "20"]).start();
    let mut audience = Audience::of(&server);
    let fault = Fault::inject(&server, "epoll_ctl", &["epoll_ctl:error=ENOMEM"]);
    for _ in 0..40 {
        server.connect().expect_close();
    }
    let line = server.wait_for_log("cannot poll a connection's socket");
    assert!(line["error"].as_str().unwrap().contains("Cannot allocate"));
    audience.expect_service();
    assert!(fault.end().failures() >= 40);
    // There is room for all the others.
    let mut connections: Vec<_> = (0..12).map(|_| server.connect()).collect();
    for connection in &mut connections {
        connection.send_request("POST", "/api/webhook", "", b"{}");
        assert_eq!(connection.read_response().status, 400);
    }
    audience.expect_service();
}

/// Without random bytes there are no message ids: webhooks get a 500 and nothing is delivered, until the fault
/// ends.
#[test]
fn no_random_bytes() {
    expect_trouble_with_webhooks("getrandom", "getrandom:error=EIO");
}

/// stat(2) of the ring file fails.
#[test]
fn eio_when_the_ring_is_checked() {
    expect_trouble_with_webhooks("statx", "statx:error=EIO");
}

fn expect_trouble_with_webhooks(call: &str, fault: &str) {
    let server = Server::start(&["--shards", "2"]);
    let mut audience = Audience::of(&server);
    let fault = Fault::inject(&server, call, &[fault]);
    // Random bytes for ids are read a page at a time.
    let statuses: Vec<u16> = (0..400).map(|_| audience.try_to_publish()).collect();
    assert!(statuses.contains(&500), "{statuses:?}");
    assert!(
        statuses.iter().all(|status| [200, 500].contains(status)),
        "{statuses:?}"
    );
    server.wait_for_log("webhooks cannot be stored");
    assert_eq!(server.request("GET", "/api/webhook", "", b"").status, 200);
    assert!(fault.end().failures() > 0);
    audience.expect_service();
    server.wait_for_log("webhooks can be stored again");
    audience.expect_history(&server);

    let mut server = server;
    server.kill();
    audience.expect_history(&server.restart());
}

/// Readers with a tiny window get the replay in small parts: most writes are short.
#[test]
fn short_writes() {
    let server = Server::start(&["--shards", "2"]);
    let contents: Vec<String> = (0..100)
        .map(|n| format!("{n} {}", "é".repeat(30_000)))
        .collect();
    for content in &contents {
        server.publish(content);
    }
    let fault = Fault::inject(&server, "sendto,writev,sendmsg", &[]);
    let readers: Vec<_> = (0..4).map(|_| slow_reader(&server)).collect();
    for mut stream in readers {
        assert_eq!(stream.connected(), 100);
        assert_eq!(stream.contents(100), contents);
    }
    let trace = fault.end();
    let short = trace.short_writes();
    assert!(short >= 20, "only {short} writes were short");
}

/// A stream over a socket with the smallest receive buffer that the kernel allows.
fn slow_reader(server: &Server) -> crate::support::EventStream {
    use crate::support::{Connection, EventStream};
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(2048).unwrap();
    socket.connect(&server.address.into()).unwrap();
    let mut connection = Connection::on(socket.into());
    connection.send_request("GET", "/api/webhook/stream", "", b"");
    EventStream::read(connection)
}
