//! TLS listeners, with rustls as the client.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::Instant;

use crate::support::tls::{Authority, Client, STREAM, Validity, certificate};
use crate::support::{Connection, PATIENCE, Server, Setup};
use rustix::process::Signal;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, HandshakeKind};

/// A server with a plain and a TLS listener.
struct Pair {
    server: Server,
    address: SocketAddr,
    authority: Authority,
}

impl Pair {
    fn start(options: &str, flags: &[&str]) -> Pair {
        let authority = Authority::new();
        authority.sign("server");
        let listen = format!("127.0.0.1:0+tls{options}");
        let (cert, key) = (authority.path("server.pem"), authority.path("server.key"));
        let tls = [
            "--listen",
            &listen,
            "--tls-cert",
            cert.to_str().unwrap(),
            "--tls-key",
            key.to_str().unwrap(),
        ];
        let server = Server::start(&[&tls, flags].concat());
        let address = tls_address(&server);
        Pair {
            server,
            address,
            authority,
        }
    }

    fn connect(&self, config: &Arc<ClientConfig>) -> Client {
        Client::on(TcpStream::connect(self.address).unwrap(), config)
    }

    fn open(&self) -> Client {
        self.connect(&self.authority.client(None))
    }
}

/// The second address that the server logs.
fn tls_address(server: &Server) -> SocketAddr {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let log = server.log();
        let mut listening = log.iter().filter(|line| line["message"] == "listening");
        if let Some(line) = listening.nth(1) {
            assert!(line["window"].as_str().unwrap().starts_with("https://"));
            return line["address"].as_str().unwrap().parse().unwrap();
        }
        assert!(Instant::now() < deadline, "{log:?}");
        server.request("GET", "/api/webhook", "", b"");
    }
}

#[test]
fn requests_and_streams_work_as_without_tls() {
    let pair = Pair::start("", &["--shards", "2"]);
    let mut client = pair.open();
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

    let mut plain = pair.server.stream("", "");
    let mut stream = pair.open();
    stream.send(STREAM);
    stream.read_to("text/event-stream");
    stream.read_to(r#""replay":3}"#);
    for message in ["first", "second"] {
        pair.server.publish(message);
        stream.read_to(message);
    }
    stream.read_to(": heartbeat");
    plain.connected();
    assert_eq!(plain.contents(5)[4], "second");
}

/// More than the kernel's buffers hold, for a reader that begins late: every write is short.
#[test]
fn a_slow_reader_gets_every_byte() {
    let pair = Pair::start("", &["--shards", "1"]);
    let mut stream = pair.open();
    stream.send(STREAM);
    stream.read_to("connected");
    for number in 0..120 {
        pair.server
            .publish(&format!("<{number}>{}", "x".repeat(60_000)));
    }
    let filler = "x".repeat(60_000);
    for number in 0..120 {
        stream.read_to(&format!("<{number}>{filler}\""));
    }
    pair.server.publish("live again");
    stream.read_to("live again");
}

#[test]
fn a_drain_ends_streams_with_a_last_chunk_and_a_close_notify() {
    let mut pair = Pair::start("", &["--drain", "0s"]);
    let mut stream = pair.open();
    stream.send(STREAM);
    stream.read_to("connected");
    pair.server.signal(Signal::TERM);
    stream.read_to("\r\n0\r\n\r\n");
    // An end without close_notify would be an error.
    assert_eq!(stream.stream.read(&mut [0; 10]).unwrap(), 0);
    drop(stream);
    assert!(pair.server.wait().success());
}

#[test]
fn sessions_are_resumed() {
    let pair = Pair::start("", &[]);
    let config = pair.authority.client(None);
    for expected in [HandshakeKind::Full, HandshakeKind::Resumed] {
        let mut client = pair.connect(&config);
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
    let pair = Pair::start("", &["--tls-client-ca", ca.to_str().unwrap()]);
    let with = |signer| pair.authority.client(Some((signer, "edge")));
    assert!(pair.connect(&with(&clients)).is_served());
    assert!(!pair.connect(&with(&other_authority)).is_served());
    assert!(!pair.open().is_served());
    // A session ticket of an accepted client is as good as its certificate.
    let config = with(&clients);
    assert!((0..2).all(|_| pair.connect(&config).is_served()));
}

fn copy(authority: &Authority, from: &str, to: &str) {
    for kind in ["pem", "key"] {
        let read = std::fs::read(authority.path(&format!("{from}.{kind}"))).unwrap();
        std::fs::write(authority.path(&format!("{to}.{kind}")), read).unwrap();
    }
}

#[test]
fn on_sighup_a_new_certificate_is_used_and_a_bad_one_is_not() {
    let pair = Pair::start("", &[]);
    let seen = || {
        let mut client = pair.open();
        assert!(client.is_served());
        client.stream.conn.peer_certificates().unwrap()[0].clone()
    };
    let (old, other) = (seen(), Authority::new());
    let mut stream = pair.open();
    stream.send(STREAM);
    stream.read_to("connected");

    std::fs::write(pair.authority.path("server.pem"), "garbage").unwrap();
    pair.server.signal(Signal::HUP);
    let line = pair.server.wait_for_log("certificate not reloaded");
    assert!(
        line["error"].as_str().unwrap().contains("server.pem"),
        "{line}"
    );
    assert_eq!(seen(), old);

    pair.authority.sign("next");
    copy(&pair.authority, "next", "server");
    pair.server.signal(Signal::HUP);
    pair.server.wait_for_log("new connections get");
    assert_eq!(seen(), certificate(&pair.authority.path("next.pem")));
    assert_ne!(seen(), old);
    pair.server.publish("still here");
    stream.read_to("still here");
    drop(other);
}

#[test]
fn unusable_files_are_reported_at_the_start() {
    let authority = Authority::new();
    authority.sign("a");
    authority.sign("b");
    for (cert, key, expected) in [
        ("nowhere.pem", "a.key", "nowhere.pem cannot be read"),
        ("a.key", "a.key", "contains no certificate"),
        ("a.pem", "a.pem", "but no private key"),
        ("a.pem", "b.key", "certificate and key"),
    ] {
        let (cert, key) = (authority.path(cert), authority.path(key));
        let setup = Setup::new(&[
            "--listen",
            "127.0.0.1:0+tls",
            "--tls-cert",
            cert.to_str().unwrap(),
            "--tls-key",
            key.to_str().unwrap(),
        ]);
        let output = setup.command().output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains(expected), "{text}");
        let output = setup.command().arg("--check-config").output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(text.starts_with("hookcast: cannot set up TLS: ") && text.contains(expected));
        assert_eq!(
            (text.lines().count(), output.stdout.as_slice()),
            (1, &b""[..])
        );
    }
}

#[test]
fn a_world_readable_key_is_warned_about() {
    const WARNING: &str = "has access to --tls-key";
    let pair = Pair::start("", &[]);
    let key = pair.authority.path("server.key");
    let set_mode = |mode| std::fs::set_permissions(&key, PermissionsExt::from_mode(mode)).unwrap();
    let warnings = || {
        let log = pair.server.log();
        let warns = |line: &&serde_json::Value| line["message"].as_str().unwrap().contains(WARNING);
        log.iter().filter(warns).count()
    };
    let check = || {
        let cert = pair.authority.path("server.pem");
        let output = Command::new(env!("CARGO_BIN_EXE_hookcast"))
            .args(["--check-config", "--listen", "127.0.0.1:0+tls"])
            .args(["--tls-cert".as_ref(), cert.as_os_str()])
            .args(["--tls-key".as_ref(), key.as_os_str()])
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(0));
        String::from_utf8(output.stderr).unwrap()
    };
    let at_start = warnings();
    set_mode(0o640);
    assert_eq!(check(), "");
    set_mode(0o644);
    let text = check();
    assert!(
        text.starts_with("hookcast: warning: ") && text.contains(WARNING),
        "{text}"
    );
    assert!(text.contains("chmod o-rwx"), "{text}");
    pair.server.signal(Signal::HUP);
    pair.server.wait_for_log("new connections get");
    assert_eq!(warnings(), at_start + 1);
}

#[test]
fn a_proxy_header_comes_before_the_handshake() {
    let pair = Pair::start(
        "+proxy",
        &["--trusted-proxy", "127.0.0.1", "--log-level", "debug"],
    );
    let mut socket = TcpStream::connect(pair.address).unwrap();
    socket
        .write_all(b"PROXY TCP4 192.0.2.9 127.0.0.1 1 2\r\n")
        .unwrap();
    let mut client = Client::on(socket, &pair.authority.client(None));
    client.send("GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n");
    client.read_to("HTTP/1.1 404 ");
    let line = pair.server.wait_for_log("request answered by an error");
    assert_eq!(line["client"], "192.0.2.9");
    assert!(!pair.open().is_served(), "no header");
}

#[test]
fn invalid_handshakes_end_and_stalled_ones_have_a_deadline() {
    let pair = Pair::start("", &[]);
    // A handshake message with a length of 60 KB, in records of 1 KB.
    let mut endless = vec![22, 3, 3, 4, 0, 1, 0, 0xEA, 0x60];
    endless.resize(5 + 1024, 0);
    for _ in 0..60 {
        endless.extend([22, 3, 3, 4, 0]);
        endless.resize(endless.len() + 1024, 0);
    }
    let closed = |bytes: &[u8]| {
        let mut connection = Connection::open(pair.address);
        connection.send_if_open(bytes);
        connection.read_to_end()
    };
    closed(b"GET /api/webhook HTTP/1.1\r\nHost: a\r\n\r\n");
    closed(&[0; 1000]);
    closed(&endless[..50_000]);
    // These two wait for ten seconds, at the same time.
    let mut silent = Connection::open(pair.address);
    let answer = closed(&endless[..1029]);
    assert!(answer.is_empty(), "{answer:?}");
    silent.expect_close();
    assert!(pair.open().is_served());
}

/// `ClientHello`s without a further message, again and again, while streams are served.
#[test]
fn a_flood_of_handshakes_is_survived() {
    let pair = Pair::start("", &["--shards", "2"]);
    let config = pair.authority.client(None);
    let mut stream = pair.open();
    stream.send(STREAM);
    stream.read_to("connected");
    let mut plain = pair.server.stream("", "");
    plain.connected();
    let mut held = Vec::new();
    for round in 0..20 {
        for _ in 0..20 {
            let name = ServerName::try_from("localhost").unwrap();
            let mut client = ClientConnection::new(Arc::clone(&config), name).unwrap();
            let mut socket = TcpStream::connect(pair.address).unwrap();
            client.write_tls(&mut socket).unwrap();
            held.push(socket);
        }
        if round % 2 == 0 {
            held.clear();
        }
        let message = format!("round {round}");
        pair.server.publish(&message);
        stream.read_to(&message);
        assert_eq!(plain.next().content(), message);
    }
    assert!(pair.open().is_served());
}

#[test]
fn an_idle_tls_stream_costs_at_most_what_the_operators_page_says() {
    const STREAMS: u64 = 400;
    const BYTES_MAX: u64 = 12 * 1024;
    let pair = Pair::start("", &["--shards", "1", "--heartbeat", "1s"]);
    let config = pair.authority.client(None);
    let open = || {
        let mut streams: Vec<Client> = (0..STREAMS).map(|_| pair.connect(&config)).collect();
        for stream in &mut streams {
            stream.send(STREAM);
        }
        for stream in &mut streams {
            stream.read_to("connected");
            stream.read_to(": heartbeat");
        }
        streams
    };
    let warm = open();
    let before = pair.server.proc_status("RssAnon:") * 1024;
    let streams = open();
    let after = pair.server.proc_status("RssAnon:") * 1024;
    let each = after.saturating_sub(before) / STREAMS;
    println!("{STREAMS} streams: {before} to {after} bytes, {each} bytes each");
    assert!((1..=BYTES_MAX).contains(&each), "{each} bytes per stream");
    drop((warm, streams));
}

/// Bytes that the kernel does not take are kept for the stream, up to the bound.
#[test]
fn stuck_tls_readers_stay_below_the_bound_of_connections() {
    const STREAMS: u64 = 50;
    let pair = Pair::start("", &["--shards", "1"]);
    let config = pair.authority.client(None);
    let mut streams: Vec<Client> = (0..STREAMS).map(|_| pair.connect(&config)).collect();
    for stream in &mut streams {
        stream.send(STREAM);
        stream.read_to("connected");
    }
    let mut witness = pair.server.stream("", "");
    witness.connected();
    let before = pair.server.proc_status("RssAnon:") * 1024;
    let filler = "x".repeat(60_000);
    for _ in 0..200 {
        pair.server.publish(&filler);
        witness.next();
    }
    let after = pair.server.proc_status("RssAnon:") * 1024;
    let log = hookcast::limits::LOG_BYTES_MIN as u64;
    let bound = STREAMS * hookcast::limits::TLS_CONNECTION_BYTES_MAX as u64;
    println!("{before} to {after} bytes");
    assert!(
        after < before + log + bound + (8 << 20),
        "{before} to {after}"
    );
    let stalled = streams[0].stream.sock.peek(&mut [0; 1]);
    assert!(!matches!(&stalled, Err(error) if error.kind() == ErrorKind::WouldBlock));
}

/// Runs the doctor against localhost, with the authority's certificate as `--ca-file`.
fn doctor(scheme: &str, address: SocketAddr, authority: &Authority) -> Output {
    Command::new(env!("CARGO_BIN_EXE_hookcast"))
        .arg("doctor")
        .arg(format!("{scheme}://localhost:{}", address.port()))
        .args(["--watch", "5s", "--ca-file"])
        .arg(authority.path("ca.pem"))
        .env_clear()
        .output()
        .unwrap()
}

#[test]
fn the_doctor_finds_nothing_wrong_with_tls() {
    let pair = Pair::start("", &["--shards", "1"]);
    let output = doctor("https", pair.address, &pair.authority);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(
        !text.contains("FAILED") && !text.contains(" note "),
        "{text}"
    );
    for subject in ["post", "buffering", "heartbeat", "resume", "history"] {
        let is_fine = |line: &str| line.starts_with(subject) && line.contains(" ok ");
        assert!(text.lines().any(is_fine), "{subject}: {text}");
    }
}

#[test]
fn the_doctor_explains_faults_of_certificates() {
    let pair = Pair::start("", &["--shards", "1"]);
    let text_of = |output: Output| {
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(1), "{text}");
        text
    };
    let text = text_of(doctor("https", pair.address, &Authority::new()));
    assert!(
        text.contains("no authority that is trusted here has signed it"),
        "{text}"
    );
    let text = text_of(doctor("https", pair.server.address, &pair.authority));
    assert!(text.contains("does not speak TLS"), "{text}");
    text_of(doctor("http", pair.address, &pair.authority));

    pair.authority.sign_for("other.example", "server");
    pair.server.signal(Signal::HUP);
    pair.server.wait_for_log("new connections get");
    let text = text_of(doctor("https", pair.address, &pair.authority));
    assert!(
        text.contains("another name than localhost") && text.contains("other.example"),
        "{text}"
    );

    pair.authority.sign_with("server", Validity::Over);
    pair.server.signal(Signal::HUP);
    pair.server.wait_for_log("the certificate");
    let text = text_of(doctor("https", pair.address, &pair.authority));
    assert!(
        text.contains("it has expired") && text.contains("certificate renew it"),
        "{text}"
    );
}

/// Without `close_notify` the end would be an error for the client.
#[test]
fn an_idle_connection_is_closed_with_a_close_notify() {
    let mut pair = Pair::start("", &["--drain", "0s"]);
    let mut client = pair.open();
    assert!(client.is_served());
    pair.server.signal(Signal::TERM);
    assert_eq!(client.stream.read(&mut [0; 1024]).unwrap(), 0);
    assert!(pair.server.wait().success());
}
