//! TLS listeners, with rustls as the client.

use std::io::{Read, Write};
use std::net::TcpStream;

use rustix::process::Signal;
use rustls::HandshakeKind;

use crate::support::Connection;
use crate::support::tls::{Authority, Client, STREAM, TlsServer};

#[test]
fn requests_and_streams_work_as_without_tls() {
    let tls = TlsServer::start("", &["--shards", "2"]);
    let listening = tls.server.wait_for_nth_log("listening", 1);
    let window = listening["window"].as_str().unwrap();
    assert!(window.starts_with("https://"), "{window}");
    let mut client = tls.open();
    let body = format!(r#"{{"message":"{}"}}"#, "z".repeat(60_000));
    let post = format!(
        "POST /api/webhook HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    client.send(&post.repeat(3));
    for _ in 0..3 {
        client.read_to("HTTP/1.1 200 OK\r\n");
        client.read_to(r#""success":true"#);
    }
    assert_eq!(client.stream.conn.alpn_protocol(), Some(&b"http/1.1"[..]));
    assert!(client.is_served());

    let mut plain = tls.server.stream("", "");
    let mut stream = tls.open();
    stream.send(STREAM);
    stream.read_to("text/event-stream");
    stream.read_to(r#""replay":3}"#);
    for message in ["first", "second"] {
        tls.server.publish(message);
        stream.read_to(message);
    }
    stream.read_to(": heartbeat");
    plain.connected();
    assert_eq!(plain.contents(5)[4], "second");
}

/// More than the kernel's buffers hold, for a reader that begins late: every write is short.
#[test]
fn a_slow_reader_gets_every_byte() {
    let tls = TlsServer::start("", &["--shards", "1"]);
    let mut stream = tls.open();
    stream.send(STREAM);
    stream.read_to("connected");
    for number in 0..120 {
        tls.server
            .publish(&format!("<{number}>{}", "x".repeat(60_000)));
    }
    let filler = "x".repeat(60_000);
    for number in 0..120 {
        stream.read_to(&format!("<{number}>{filler}\""));
    }
    tls.server.publish("live again");
    stream.read_to("live again");
}

#[test]
fn a_drain_ends_streams_with_a_last_chunk_and_a_close_notify() {
    let mut tls = TlsServer::start("", &["--drain", "0s"]);
    let mut stream = tls.open();
    stream.send(STREAM);
    stream.read_to("connected");
    tls.server.signal(Signal::TERM);
    stream.read_to("\r\n0\r\n\r\n");
    // An end without close_notify would be an error.
    assert_eq!(stream.stream.read(&mut [0; 10]).unwrap(), 0);
    drop(stream);
    assert!(tls.server.wait().success());
}

/// No event follows for the `close_notify`: the client sends it with its request, and leaves the socket open.
#[test]
fn an_end_in_the_bytes_of_the_request_ends_the_stream() {
    let tls = TlsServer::start("", &["--shards", "1", "--heartbeat", "60s"]);
    let Client { mut stream, .. } = tls.open();
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock).unwrap();
    }
    stream.conn.writer().write_all(STREAM.as_bytes()).unwrap();
    stream.conn.send_close_notify();
    let mut bytes = Vec::new();
    while stream.conn.wants_write() {
        stream.conn.write_tls(&mut bytes).unwrap();
    }
    stream.sock.write_all(&bytes).unwrap();
    stream.read_to_end(&mut Vec::new()).unwrap();
}

#[test]
fn sessions_are_resumed() {
    let tls = TlsServer::start("", &[]);
    let config = tls.authority.client(None);
    for expected in [HandshakeKind::Full, HandshakeKind::Resumed] {
        let mut client = tls.connect(&config);
        assert!(client.is_served());
        assert_eq!(client.stream.conn.handshake_kind(), Some(expected));
    }
}

#[test]
fn with_a_client_authority_only_its_clients_are_accepted() {
    let clients = Authority::new();
    clients.sign("edge");
    let other_authority = Authority::new();
    other_authority.sign("edge");
    let ca = clients.path("ca.pem");
    let tls = TlsServer::start("", &["--tls-client-ca", ca.to_str().unwrap()]);
    let with = |signer| tls.authority.client(Some((signer, "edge")));
    assert!(tls.connect(&with(&clients)).is_served());
    assert!(!tls.connect(&with(&other_authority)).is_served());
    assert!(!tls.open().is_served());
    // A session ticket of an accepted client is as good as its certificate.
    let config = with(&clients);
    assert!((0..2).all(|_| tls.connect(&config).is_served()));
}

#[test]
fn a_proxy_header_comes_before_the_handshake() {
    let tls = TlsServer::start(
        "+proxy",
        &["--trusted-proxy", "127.0.0.1", "--log-level", "debug"],
    );
    let mut socket = TcpStream::connect(tls.address).unwrap();
    socket
        .write_all(b"PROXY TCP4 192.0.2.9 127.0.0.1 1 2\r\n")
        .unwrap();
    let mut client = Client::on(socket, &tls.authority.client(None));
    client.send("GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n");
    client.read_to("HTTP/1.1 404 ");
    let line = tls.server.wait_for_log("request answered by an error");
    assert_eq!(line["client"], "192.0.2.9");
    assert!(!tls.open().is_served(), "no header");
}

#[test]
fn invalid_handshakes_end_and_stalled_ones_have_a_deadline() {
    let tls = TlsServer::start("", &[]);
    // A handshake message with a length of 60 KB, in records of 1 KB.
    let mut endless = vec![22, 3, 3, 4, 0, 1, 0, 0xEA, 0x60];
    endless.resize(5 + 1024, 0);
    for _ in 0..60 {
        endless.extend([22, 3, 3, 4, 0]);
        endless.resize(endless.len() + 1024, 0);
    }
    let closed = |bytes: &[u8]| {
        let mut connection = Connection::open(tls.address);
        connection.send_if_open(bytes);
        connection.read_to_end()
    };
    closed(b"GET /api/webhook HTTP/1.1\r\nHost: a\r\n\r\n");
    closed(&[0; 1000]);
    closed(&endless[..50_000]);
    // These two wait for ten seconds, at the same time.
    let mut silent = Connection::open(tls.address);
    let answer = closed(&endless[..1029]);
    assert!(answer.is_empty(), "{answer:?}");
    silent.expect_close();
    assert!(tls.open().is_served());
}

/// Without `close_notify` the end would be an error for the client.
#[test]
fn an_idle_connection_is_closed_with_a_close_notify() {
    let mut tls = TlsServer::start("", &["--drain", "0s"]);
    let mut client = tls.open();
    assert!(client.is_served());
    tls.server.signal(Signal::TERM);
    assert_eq!(client.stream.read(&mut [0; 1024]).unwrap(), 0);
    assert!(tls.server.wait().success());
}
