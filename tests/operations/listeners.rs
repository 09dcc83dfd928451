//! Listening addresses, and the client addresses that the server derives.

use std::io::{Read, Write};
use std::net::{Ipv6Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Instant;

use rustix::process::Signal;
use serde_json::Value;

use crate::support::loopback::connect_from;
use crate::support::{Connection, EventStream, PATIENCE, Server, Setup};

const PROXIED: &[&str] = &["--trusted-proxy", "127.0.0.1", "--log-level", "debug"];

/// Waits for the log line of the only request that got a 404; returns its client.
fn logged_client(server: &Server) -> String {
    let line = server.wait_for_log("request answered by an error");
    line["client"].as_str().unwrap().to_owned()
}

#[test]
fn ipv4_and_ipv6_sockets_may_share_a_port() {
    let server = Server::start(&["--listen", "[::1]:0"]);
    let six = server.listening_at(1);
    assert!(six.is_ipv6());
    assert_eq!(Connection::open(six).get("/api/webhook", "").status, 200);
    let port = server.address.port();
    let both = Server::start(&["--listen", &format!("[::1]:{port}")]);
    assert_eq!(both.listening_at(1).port(), port);
    drop(both);
    // IPv6's wildcard does not include IPv4.
    let all = Setup::new(&["--listen", &format!("[::]:{port}")]).secret("s3cret");
    assert_eq!(
        all.start().listening_at(1),
        SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))
    );
}

fn ask_unix(path: &Path, request: &str) -> String {
    let mut socket = UnixStream::connect(path).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    answer
}

const STATUS: &str = "GET /api/webhook HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

#[test]
fn a_unix_socket_has_its_mode_and_is_removed_at_the_end() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.sock");
    let listen = format!("unix:{}+mode=606", path.display());
    let mut server = Server::start(&["--listen", &listen, "--drain", "0s"]);
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o606);
    assert!(ask_unix(&path, STATUS).starts_with("HTTP/1.1 200 "));

    // Streams work over it, with large messages, too.
    let mut stream = UnixStream::connect(&path).unwrap();
    stream
        .write_all(b"GET /api/webhook/stream HTTP/1.0\r\n\r\n")
        .unwrap();
    let sent: Vec<String> = (0..50)
        .map(|i| format!("{i}{}", "x".repeat(60_000)))
        .collect();
    for message in &sent {
        server.publish(message);
    }
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let (mut seen, mut bytes) = (Vec::new(), vec![0; 65_536]);
    while !String::from_utf8_lossy(&seen).contains(&sent[49]) {
        let count = stream.read(&mut bytes).unwrap();
        assert!(count > 0);
        seen.extend_from_slice(&bytes[..count]);
    }

    // The socket of a running server is not replaced.
    let second = Setup::new(&["--listen", &listen]);
    let output = second.command().output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("in use"),
        "{output:?}"
    );
    assert!(ask_unix(&path, STATUS).starts_with("HTTP/1.1 200 "));

    server.signal(Signal::TERM);
    assert!(server.wait().success());
    assert!(!path.exists());
}

#[test]
fn only_the_socket_of_a_dead_server_is_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.sock");
    let listen = format!("unix:{}", path.display());
    let mut server = Server::start(&["--listen", &listen]);
    server.kill();
    assert!(path.exists(), "the killed server left no socket file");
    let mut server = server.restart();
    assert!(ask_unix(&path, STATUS).starts_with("HTTP/1.1 200 "));

    // Another process has bound the path: its socket must not be removed.
    std::fs::remove_file(&path).unwrap();
    let other = UnixListener::bind(&path).unwrap();
    server.signal(Signal::TERM);
    assert!(server.wait().success());
    assert!(path.exists());
    drop(other);

    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, "precious").unwrap();
    let second = Setup::new(&["--listen", &listen]);
    let output = second.command().output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
}

#[test]
fn forwarded_headers_count_only_from_trusted_proxies() {
    let forged = "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-For: 192.0.2.7, 127.0.0.1\r\n";
    for (source, expected) in [("127.0.0.1", "192.0.2.7"), ("127.0.0.2", "127.0.0.2")] {
        let server = Server::start(PROXIED);
        let mut connection = connect_from(source, server.address);
        assert_eq!(connection.get("/nowhere", forged).status, 404);
        assert_eq!(logged_client(&server), expected);
    }
    let chosen = [PROXIED, &["--client-address-header", "CF-Connecting-IP"]].concat();
    let server = Server::start(&chosen);
    let headers = format!("{forged}cf-connecting-ip: 2001:db8::1\r\n");
    server.connect().get("/nowhere", &headers);
    assert_eq!(logged_client(&server), "2001:db8::1");
}

fn proxy_listener(flags: &[&str]) -> (Server, SocketAddr) {
    let server = Server::start(&[PROXIED, &["--listen", "127.0.0.1:0+proxy"], flags].concat());
    let address = server.listening_at(1);
    (server, address)
}

const V1: &[u8] = b"PROXY TCP4 192.0.2.9 127.0.0.1 1000 3000\r\n";

fn v2_with_fields() -> Vec<u8> {
    let addresses = [192, 0, 2, 9, 127, 0, 0, 1, 3, 232, 11, 184];
    let fields = [0x05, 0, 4, 1, 2, 3, 4];
    let length = u8::try_from(addresses.len() + fields.len()).unwrap();
    let fixed = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0";
    [&fixed[..], &[length], &addresses, &fields].concat()
}

#[test]
fn a_proxy_header_gives_the_client_however_it_is_cut() {
    let request = b"GET /nowhere HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n";
    for header in [V1.to_vec(), v2_with_fields()] {
        let bytes = [&header[..], request].concat();
        for cuts in [
            vec![],
            vec![1],
            vec![header.len()],
            (1..bytes.len()).collect(),
        ] {
            let (server, address) = proxy_listener(&[]);
            let mut connection = Connection::open(address);
            let mut start = 0;
            for cut in cuts.into_iter().chain([bytes.len()]) {
                connection.send(&bytes[start..cut]);
                start = cut;
            }
            assert_eq!(connection.read_response().status, 404);
            assert_eq!(logged_client(&server), "192.0.2.9");
            // The connection continues as any other, without a second header.
            assert_eq!(connection.get("/api/webhook", "").status, 200);
        }
    }
}

/// A header of version 2 with this command, family and data.
fn v2(command: u8, family: u8, addresses: &[u8]) -> Vec<u8> {
    let length = u16::try_from(addresses.len()).unwrap().to_be_bytes();
    let fixed = b"\r\n\r\n\0\r\nQUIT\n";
    [&fixed[..], &[command, family], &length, addresses].concat()
}

/// The proxy passes bytes on unchanged: header fields are the client's own.
#[test]
fn behind_a_proxy_header_without_a_client_forwarded_headers_do_not_count() {
    let forged = "X-Forwarded-For: 6.6.6.6\r\n";
    let v4 = [192, 0, 2, 9, 127, 0, 0, 1, 3, 232, 11, 184];
    for header in [
        b"PROXY UNKNOWN\r\n".to_vec(),
        b"PROXY UNKNOWN 192.0.2.9 127.0.0.1 1 2\r\n".to_vec(),
        // LOCAL, with and without addresses; unspecified; a Unix socket.
        v2(0x20, 0x00, &[]),
        v2(0x20, 0x11, &v4),
        v2(0x21, 0x00, &[]),
        v2(0x21, 0x31, &[0; 216]),
    ] {
        let (server, address) = proxy_listener(&["--max-connections-per-ip", "1"]);
        let open = || {
            let mut connection = Connection::open(address);
            connection.send(&header);
            connection
        };
        // Their client is the proxy: they are counted neither for the claimed address nor at all.
        let mut streams: Vec<EventStream> = (0..3)
            .map(|_| {
                let mut connection = open();
                connection.send_request("GET", "/api/webhook/stream", forged, b"");
                EventStream::read(connection)
            })
            .collect();
        for stream in &mut streams {
            stream.connected();
        }
        assert_eq!(open().get("/nowhere", forged).status, 404, "{header:?}");
        assert_eq!(logged_client(&server), "127.0.0.1", "{header:?}");
    }
    // A Unix socket is trusted, and so are the fields of its requests; but not behind a PROXY header.
    let directory = tempfile::tempdir().unwrap();
    for (options, header, expected) in [
        ("", "", "6.6.6.6"),
        ("+proxy", "PROXY UNKNOWN\r\n", "unix"),
        (
            "+proxy",
            "PROXY TCP4 192.0.2.9 127.0.0.1 1 2\r\n",
            "192.0.2.9",
        ),
    ] {
        let path = directory.path().join("a.sock");
        let listen = format!("unix:{}{options}", path.display());
        let server = Server::start(&["--listen", &listen, "--log-level", "debug"]);
        let request = format!("{header}GET /nowhere HTTP/1.0\r\nHost: a\r\n{forged}\r\n");
        assert!(ask_unix(&path, &request).starts_with("HTTP/1.1 404 "));
        assert_eq!(logged_client(&server), expected, "{options} {header}");
    }
}

/// A CDN in front of a load balancer that passes bytes on: the fields are the CDN's.
#[test]
fn behind_a_proxy_header_of_a_trusted_proxy_forwarded_headers_count() {
    let (server, address) = proxy_listener(&["--trusted-proxy", "192.0.2.9"]);
    let mut connection = Connection::open(address);
    connection.send(V1);
    let named = "X-Forwarded-For: 6.6.6.6, 198.51.100.7\r\n";
    assert_eq!(connection.get("/nowhere", named).status, 404);
    assert_eq!(logged_client(&server), "198.51.100.7");
}

#[test]
fn behind_a_proxy_header_requests_and_streams_work() {
    let (server, address) = proxy_listener(&[]);
    let body = format!(r#"{{"message":"{}"}}"#, "y".repeat(60_000));
    let head = "POST /api/webhook HTTP/1.1\r\nHost: a\r\nContent-Length:";
    let post = format!("{head} {}\r\n\r\n{body}", body.len());
    let mut connection = Connection::open(address);
    connection.send(&[V1, post.as_bytes(), post.as_bytes()].concat());
    for _ in 0..2 {
        assert_eq!(connection.read_response().status, 200);
    }
    let mut connection = Connection::open(address);
    // A health check of the proxy itself.
    connection.send(b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0");
    connection.send_request("GET", "/api/webhook/stream", "", b"");
    let mut stream = EventStream::read(connection);
    assert_eq!(stream.connected(), 2);
    stream.contents(2);
    server.publish("live");
    assert_eq!(stream.next().content(), "live");
}

#[test]
fn connections_without_a_valid_proxy_header_or_from_untrusted_addresses_are_closed() {
    let (server, address) = proxy_listener(&[]);
    for bytes in [
        &b"GET /api/webhook HTTP/1.1\r\nHost: a\r\n\r\n"[..],
        b"PROXY TCP4 192.0.2.9 127.0.0.1 1000\r\n",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xFF\xFF",
        b"\x16\x03\x01\x02",
    ] {
        let mut connection = Connection::open(address);
        connection.send_if_open(bytes);
        connection.expect_close();
    }
    let mut untrusted = connect_from("127.0.0.2", address);
    untrusted.send_if_open(V1);
    untrusted.expect_close();
    server.publish("goes on");
}

/// The deadline is that of a head, ten seconds.
#[test]
fn a_missing_proxy_header_has_a_deadline() {
    let (_server, address) = proxy_listener(&[]);
    let mut connections: Vec<Connection> = [&b""[..], b"PROXY", &v2_with_fields()[..20]]
        .iter()
        .map(|bytes| {
            let mut connection = Connection::open(address);
            connection.send(bytes);
            connection
        })
        .collect();
    connections.iter_mut().for_each(Connection::expect_close);
}

/// Socket options that accepted connections inherit, as the kernel shows them.
#[test]
fn accepted_connections_have_a_keepalive_timer() {
    let server = Server::start(&[]);
    let idle = server.connect();
    let port_of = |address: SocketAddr| format!(":{:04X}", address.port());
    // Matched by the server's side of the connection: a client's port alone may belong to another connection,
    // too.
    let place = (
        port_of(idle.socket.peer_addr().unwrap()),
        port_of(idle.socket.local_addr().unwrap()),
    );
    let deadline = Instant::now() + PATIENCE;
    // The field `tr` of /proc/net/tcp is 02 while a keepalive timer runs.
    let timer = || {
        let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
        let line = table.lines().find(|line| {
            let mut addresses = line.split_whitespace().skip(1);
            let mut ends_with = |port: &str| {
                addresses
                    .next()
                    .is_some_and(|address| address.ends_with(port))
            };
            ends_with(&place.0) && ends_with(&place.1)
        });
        line.map(|line| line.split_whitespace().nth(5).unwrap()[..2].to_owned())
    };
    while timer().as_deref() != Some("02") {
        assert!(Instant::now() < deadline, "{:?}", timer());
        assert_ne!(server.publish("x"), Value::Null.to_string());
    }
}
