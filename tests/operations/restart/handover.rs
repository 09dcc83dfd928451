//! Handover to a successor on SIGUSR2: under load, with each kind of listener, and with a successor that fails.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;

use rustix::process::Signal;
use serde_json::json;

use super::{Load, Reuse, STATUS, restarts, signal};
use crate::support::tls::{Authority, Client, STREAM};
use crate::support::{Connection, PATIENCE, Server};

/// A server and its successors, which write to the same log.
struct Successors {
    first: Server,
    /// Process id of the newest.
    pid: u32,
}

impl Successors {
    fn of(first: Server) -> Successors {
        let pid = first.pid();
        Successors { first, pid }
    }

    /// Makes the server hand over for the nth time and waits until its process ends. Returns the pause of webhooks
    /// in milliseconds.
    fn hand_over(&mut self, nth: usize) -> u64 {
        signal(self.pid, Signal::USR2);
        let line = self.first.wait_for_nth_log("handed over", nth);
        self.pid = u32::try_from(line["pid"].as_u64().unwrap()).unwrap();
        self.first
            .wait_for_nth_log("the predecessor has ended", nth);
        line["paused_ms"].as_u64().unwrap()
    }
}

impl Drop for Successors {
    fn drop(&mut self) {
        if self.pid != self.first.pid() {
            signal(self.pid, Signal::KILL);
        }
    }
}

#[test]
fn a_handover_loses_repeats_and_refuses_nothing() {
    hand_over_under_load(&[]);
}

/// The commit thread owns the ring here.
#[test]
fn a_handover_with_commits_to_disk_loses_repeats_and_refuses_nothing() {
    hand_over_under_load(&["--durability", "disk"]);
}

fn hand_over_under_load(flags: &[&str]) {
    let server = Server::start(&[&["--drain", "300ms", "--shards", "2"], flags].concat());
    let address = server.address;
    let mut servers = Successors::of(server);
    let load = Load::new(address);
    let reuses = [
        Reuse::None,
        Reuse::KeepAlive,
        Reuse::Chunked,
        Reuse::PausedBody,
    ];
    let mut pauses_ms = Vec::new();
    load.run(&reuses, || {
        for nth in 0..restarts() {
            pauses_ms.push(servers.hand_over(nth));
        }
    });
    pauses_ms.sort_unstable();
    println!(
        "{} handovers; webhooks paused for {} ms (median), {} ms at most",
        pauses_ms.len(),
        pauses_ms[pauses_ms.len() / 2],
        pauses_ms.last().unwrap()
    );
}

#[test]
fn a_failed_successor_is_logged_and_the_server_continues() {
    let directory = tempfile::tempdir().unwrap();
    let secret = directory.path().join("secret");
    std::fs::write(&secret, "s").unwrap();
    let arguments = ["--secret-file", secret.to_str().unwrap()];
    let server = Server::start(&arguments);
    let publish = |message: &str| {
        let body = json!({ "message": message }).to_string();
        let header = "X-Webhook-Secret: s\r\n";
        let response = server.request("POST", "/api/webhook", header, body.as_bytes());
        assert_eq!(response.status, 200);
    };
    let mut kept = server.connect();
    let mut stream = server.stream("", "X-Webhook-Secret: s\r\n");
    stream.connected();
    publish("before");
    // The successor ends at once because its configuration is invalid.
    std::fs::remove_file(&secret).unwrap();
    server.signal(Signal::USR2);
    server.wait_for_log("the successor failed; continuing to serve");
    publish("after");
    assert_eq!(stream.contents(2), ["before", "after"]);
    kept.send_request("GET", "/api/webhook", "", b"");
    assert_eq!(kept.read_response().status, 200);
}

/// The successor starts, but cannot open the ring: the predecessor opens it again.
#[test]
fn a_successor_that_cannot_open_the_ring_gives_it_back() {
    for durability in ["process", "disk"] {
        take_the_ring_back(durability);
    }
}

fn take_the_ring_back(durability: &str) {
    let server = Server::start(&["--shards", "2", "--durability", durability]);
    let mut kept = server.connect();
    let mut stream = server.stream("", "");
    stream.connected();
    let first = server.publish("before");
    // A rewrite of the ring needs this name.
    let ring = server.setup().ring();
    let in_the_way = ring.with_extension("ring.new");
    std::fs::create_dir(&in_the_way).unwrap();
    server.signal(Signal::USR2);
    // The successor has failed because of it. Without it the predecessor can open the ring.
    server.wait_for_log("cannot open the ring");
    drop(std::fs::remove_dir(&in_the_way));
    let line = server.wait_for_log("the successor failed; continuing to serve");
    assert!(line["error"].as_str().unwrap().contains("served"), "{line}");
    server.publish("after");
    assert_eq!(stream.contents(2), ["before", "after"]);
    kept.send_request("GET", "/api/webhook", "", b"");
    assert_eq!(kept.read_response().status, 200);
    let mut again = server.stream("", "");
    assert_eq!(again.connected(), 2);
    assert_eq!(again.next().json()["id"], first.as_str());
}

fn is_answered(socket: &mut UnixStream) -> bool {
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.write_all(STATUS).unwrap();
    let mut answer = [0; 12];
    socket.read_exact(&mut answer).unwrap();
    let mut rest = [0; 4096];
    assert!(socket.read(&mut rest).unwrap() > 0);
    &answer == b"HTTP/1.1 200"
}

#[test]
fn a_unix_socket_and_its_connections_are_handed_over() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.sock");
    let listen = format!("unix:{}", path.display());
    let server = Server::start(&["--listen", &listen, "--drain", "0s"]);
    let mut kept = UnixStream::connect(&path).unwrap();
    assert!(is_answered(&mut kept));
    let mut servers = Successors::of(server);
    servers.hand_over(0);
    assert_eq!(servers.first.wait().code(), Some(0));
    // The end of the predecessor does not remove the socket file.
    assert!(path.exists());
    assert!(is_answered(&mut kept));
    assert!(is_answered(&mut UnixStream::connect(&path).unwrap()));
    servers.hand_over(1);
    assert!(is_answered(&mut kept));
    assert!(is_answered(&mut UnixStream::connect(&path).unwrap()));
    assert!(path.exists());
}

#[test]
fn a_proxy_protocol_listener_is_handed_over_as_one() {
    let flags = [
        "--listen",
        "127.0.0.1:0+proxy",
        "--trusted-proxy",
        "127.0.0.1",
        "--drain",
        "0s",
    ];
    let mut servers = Successors::of(Server::start(&flags));
    let address = servers.first.listening_at(1);
    let ask = |header: &[u8]| {
        let mut connection = Connection::open(address);
        connection.send(header);
        connection.send(STATUS);
        connection
    };
    let header = b"PROXY TCP4 192.0.2.1 192.0.2.2 1000 2000\r\n";
    // These are not handed over: the successor would take each for a connection of the proxy itself, and would
    // believe the client addresses in its requests.
    let mut kept = [
        &header[..],
        b"PROXY UNKNOWN\r\n",
        b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0",
    ]
    .map(ask);
    for connection in &mut kept {
        assert_eq!(connection.read_response().status, 200);
    }
    // On the plain listener, from a trusted proxy: this connection sent only HTTP, so it is handed over.
    let mut plain = servers.first.connect();
    plain.send(STATUS);
    assert_eq!(plain.read_response().status, 200);
    servers.hand_over(0);
    for connection in &mut kept {
        connection.send_if_open(STATUS);
        let answer = connection.read_to_end();
        assert!(!answer.starts_with(b"HTTP/1.1 200"), "{answer:?}");
    }
    plain.send(STATUS);
    assert_eq!(plain.read_response().status, 200);
    assert_eq!(ask(header).read_response().status, 200);
    ask(b"").expect_close();
}

#[test]
fn a_tls_listener_is_handed_over_and_idle_connections_get_close_notify() {
    let authority = Authority::new();
    authority.sign("server");
    let (cert, key) = (authority.path("server.pem"), authority.path("server.key"));
    let mut servers = Successors::of(Server::start(&[
        "--listen",
        "127.0.0.1:0+tls",
        "--tls-cert",
        cert.to_str().unwrap(),
        "--tls-key",
        key.to_str().unwrap(),
        "--drain",
        "0s",
    ]));
    let address = servers.first.listening_at(1);
    let config = authority.client(None);
    let open = || Client::on(TcpStream::connect(address).unwrap(), &config);
    for nth in 0..2 {
        let mut idle = open();
        assert!(idle.is_served());
        let mut stream = open();
        stream.send(STREAM);
        stream.read_to("connected");
        servers.hand_over(nth);
        // An end without close_notify would be an error of `read`.
        assert_eq!(idle.stream.read(&mut [0; 1024]).unwrap(), 0);
        stream.read_to("\r\n0\r\n\r\n");
        assert_eq!(stream.stream.read(&mut [0; 1024]).unwrap(), 0);
        assert!(open().is_served());
    }
}
