//! Restarts under load, in both ways: the server hands over to a successor on SIGUSR2, or a supervisor holds the
//! listening socket and starts one server after the other. No connection is refused, every webhook gets a 200, and
//! no message is lost or repeated.
//!
//! `RESTARTS=200 cargo test --test operations restart:: -- --nocapture` restarts 200 times instead of 20.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Barrier, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::tls::{Authority, Client, STREAM};
use crate::support::{Connection, Ending, EventStream, PATIENCE, Server, Setup, paced};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

const STREAMS: usize = 12;
/// Time between two webhooks of a publisher. Four publishers send about 130 a second. So a stream that reconnects
/// misses fewer than the 100 messages that a restart keeps.
const PACE: Duration = Duration::from_millis(30);
/// Clients wait this fraction of `retry`, to shorten the test.
const RETRY_DIVISOR: u64 = 10;

fn restarts() -> usize {
    std::env::var("RESTARTS").map_or(20, |text| text.parse().unwrap())
}

fn signal(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
}

fn request(body: &str, headers: &str) -> String {
    format!("POST /api/webhook HTTP/1.1\r\nHost: a\r\n{headers}\r\n{body}")
}

/// The results of publishers and streams, while one server follows another at one address.
struct Load {
    address: SocketAddr,
    stop: AtomicBool,
    /// Acknowledged contents in order, by publisher.
    acknowledged: Mutex<BTreeMap<usize, Vec<String>>>,
    /// The longest wait of a webhook for its answer, and of a stream for its first event.
    waits: Mutex<(Duration, Duration)>,
    /// Event ids and contents, by stream.
    received: Mutex<Vec<Vec<(String, String)>>>,
    reconnects: Mutex<usize>,
}

/// How a publisher uses connections.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reuse {
    /// A connection for each webhook.
    None,
    /// One connection, kept from the first server to the last.
    KeepAlive,
    /// One connection; chunked bodies in two writes.
    Chunked,
    /// One connection; a pause before the end of each body.
    PausedBody,
}

impl Load {
    fn new(address: SocketAddr) -> Load {
        Load {
            address,
            stop: AtomicBool::new(false),
            acknowledged: Mutex::default(),
            waits: Mutex::default(),
            received: Mutex::default(),
            reconnects: Mutex::new(0),
        }
    }

    /// Runs publishers and streams until `restart_all` returns, then checks.
    fn run(&self, reuses: &[Reuse], restart_all: impl FnOnce()) {
        // A stream that reconnects late would miss more than a restart keeps.
        let _paced = paced();
        let all_open = Barrier::new(STREAMS + 1);
        thread::scope(|scope| {
            for _ in 0..STREAMS {
                scope.spawn(|| self.stream(&all_open));
            }
            all_open.wait();
            let publishers: Vec<_> = reuses
                .iter()
                .enumerate()
                .map(|(publisher, &reuse)| scope.spawn(move || self.publish(publisher, reuse)))
                .collect();
            restart_all();
            self.stop.store(true, Relaxed);
            for publisher in publishers {
                publisher.join().unwrap();
            }
            let mut last = Connection::open(self.address);
            let body = json!({ "message": "last" }).to_string();
            last.send_request("POST", "/api/webhook", "", body.as_bytes());
            assert_eq!(last.read_response().status, 200);
        });
        self.check();
    }

    fn publish(&self, publisher: usize, reuse: Reuse) {
        let mut kept = Connection::open(self.address);
        let mut number = 0;
        while !self.stop.load(Relaxed) {
            let content = format!("{publisher}/{number}");
            number += 1;
            let body = json!({ "message": content }).to_string();
            let length = format!("Content-Length: {}\r\n", body.len());
            let began = Instant::now();
            let response = match reuse {
                Reuse::None => {
                    let mut connection = Connection::open(self.address);
                    connection.send(request(&body, &length).as_bytes());
                    connection.read_response()
                }
                Reuse::KeepAlive => {
                    kept.send(request(&body, &length).as_bytes());
                    kept.read_response()
                }
                Reuse::PausedBody => {
                    let whole = request(&body, &length);
                    let (head, rest) = whole.split_at(whole.len() - 5);
                    kept.send(head.as_bytes());
                    thread::sleep(PACE);
                    kept.send(rest.as_bytes());
                    kept.read_response()
                }
                Reuse::Chunked => {
                    let (first, second) = body.split_at(7);
                    let chunk = |text: &str| format!("{:x}\r\n{text}\r\n", text.len());
                    let head = request(&chunk(first), "Transfer-Encoding: chunked\r\n");
                    kept.send(head.as_bytes());
                    thread::sleep(PACE);
                    kept.send(format!("{}0\r\n\r\n", chunk(second)).as_bytes());
                    kept.read_response()
                }
            };
            assert_eq!(response.status, 200, "{response:?}");
            let waited = began.elapsed();
            self.note_wait(|(webhook, _)| *webhook = waited.max(*webhook));
            let mut acknowledged = self.acknowledged.lock().unwrap();
            acknowledged.entry(publisher).or_default().push(content);
            drop(acknowledged);
            // The pace of the load. No check depends on it.
            thread::sleep(PACE);
        }
    }

    /// Acts as an `EventSource`: reconnects when its stream ends, with the last id that it received.
    fn stream(&self, all_open: &Barrier) {
        let mut received: Vec<(String, String)> = Vec::new();
        let mut retry_ms = 0;
        let mut is_first = true;
        loop {
            let header = received
                .last()
                .map(|(id, _)| format!("Last-Event-ID: {id}\r\n"));
            let began = Instant::now();
            let mut stream = EventStream::open(self.address, "", &header.unwrap_or_default());
            while let Some(event) = stream.next_event() {
                retry_ms = event.retry_ms.unwrap_or(retry_ms);
                if event.is_heartbeat() || event.is_end() {
                    continue;
                }
                if event.json()["type"] == "connected" {
                    self.note_wait(|(_, stream)| *stream = began.elapsed().max(*stream));
                    if std::mem::take(&mut is_first) {
                        all_open.wait();
                    }
                    continue;
                }
                let content = event.content();
                received.push((event.id.unwrap(), content));
                if received
                    .last()
                    .is_some_and(|(_, content)| content == "last")
                {
                    self.received.lock().unwrap().push(received);
                    return;
                }
            }
            let (ending, _) = stream.drain();
            // A declined stream ends at once, with a `Content-Length`.
            let is_declined = stream.head.header("content-length").is_some();
            assert!(
                is_declined || ending == Ending::LastChunk,
                "a stream was cut off"
            );
            *self.reconnects.lock().unwrap() += 1;
            thread::sleep(Duration::from_millis(retry_ms / RETRY_DIVISOR));
        }
    }

    fn note_wait(&self, note: impl FnOnce(&mut (Duration, Duration))) {
        note(&mut self.waits.lock().unwrap());
    }

    fn check(&self) {
        let acknowledged = self.acknowledged.lock().unwrap();
        let total: usize = acknowledged.values().map(Vec::len).sum();
        let received = self.received.lock().unwrap();
        assert_eq!(received.len(), STREAMS);
        for stream in received.iter() {
            assert_eq!(stream, &received[0], "streams differ");
        }
        let seqs = received[0].iter().map(|(id, _)| {
            let (_, seq) = id.split_once('-').unwrap();
            seq.parse::<u64>().unwrap()
        });
        assert!(
            seqs.eq(1..=total as u64 + 1),
            "event ids have holes or start again"
        );
        for (publisher, contents) in acknowledged.iter() {
            let prefix = format!("{publisher}/");
            let seen: Vec<&String> = received[0]
                .iter()
                .map(|(_, content)| content)
                .filter(|content| content.starts_with(&prefix))
                .collect();
            assert!(seen.iter().copied().eq(contents), "publisher {publisher}");
        }
        let (webhook, stream) = *self.waits.lock().unwrap();
        let reconnects = *self.reconnects.lock().unwrap();
        println!(
            "{total} webhooks, each once on {STREAMS} streams with {reconnects} reconnects; \
             longest wait of a webhook {webhook:?}, of a stream {stream:?}"
        );
    }
}

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

    /// Waits for the nth line whose message begins with `message`.
    fn wait_for_log(&self, message: &str, nth: usize) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let log = self.first.log();
            let is_it = |line: &&Value| {
                let text = line["message"].as_str();
                text.is_some_and(|text| text.starts_with(message))
            };
            if let Some(line) = log.iter().filter(is_it).nth(nth) {
                return line.clone();
            }
            assert!(Instant::now() < deadline, "no {message:?} {nth}: {log:#?}");
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Makes the server hand over for the nth time and waits until its process ends. Returns the pause of webhooks
    /// in milliseconds.
    fn hand_over(&mut self, nth: usize) -> u64 {
        signal(self.pid, Signal::USR2);
        let line = self.wait_for_log("handed over", nth);
        self.pid = u32::try_from(line["pid"].as_u64().unwrap()).unwrap();
        self.wait_for_log("the predecessor has ended", nth);
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

/// Starts a server on a supervisor's sockets, from descriptor 3 on, as `systemd` does.
fn start_on(setup: &Setup, listeners: &[(&str, &TcpListener)]) -> std::process::Child {
    let fd = |index: usize| Stdio::from(OwnedFd::from(listeners[index].1.try_clone().unwrap()));
    let names: Vec<&str> = listeners.iter().map(|(name, _)| *name).collect();
    let plain = setup.clone().on_passed_sockets().command();
    let mut command = Command::new("/bin/sh");
    // The shell sets `LISTEN_PID`: its process id becomes the server's.
    let (redirections, count) = match listeners.len() {
        1 => ("3<&0 0</dev/null", 1),
        _ => ("3<&0 4<&1 0</dev/null 1>&2", 2),
    };
    command
        .arg("-c")
        .arg(format!(
            r#"LISTEN_PID=$$ LISTEN_FDS={count} exec "$0" "$@" {redirections}"#
        ))
        .arg(plain.get_program())
        .args(plain.get_args())
        .env_clear()
        .env("LISTEN_FDNAMES", names.join(":"))
        .stdin(fd(0))
        .stderr(Stdio::null());
    if listeners.len() > 1 {
        command.stdout(fd(1));
    }
    command.spawn().unwrap()
}

fn wait_for_end(child: &mut std::process::Child) -> std::process::ExitStatus {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        assert!(Instant::now() < deadline, "the server does not end");
        thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn on_a_supervisors_socket_connections_wait_for_the_next_server() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let setup = Setup::new(&["--drain", "300ms", "--shards", "2", "--log-level", "error"]);
    let mut server = start_on(&setup, &[("web", &listener)]);
    let load = Load::new(address);
    load.run(&[Reuse::None, Reuse::None], || {
        for _ in 0..restarts() {
            // An answer shows that the server is up.
            let mut probe = Connection::open(address);
            probe.send_request("GET", "/api/webhook", "", b"");
            assert_eq!(probe.read_response().status, 200);
            signal(server.id(), Signal::TERM);
            assert_eq!(wait_for_end(&mut server).code(), Some(0));
            server = start_on(&setup, &[("web", &listener)]);
        }
    });
    signal(server.id(), Signal::TERM);
    wait_for_end(&mut server);
}

#[test]
fn the_admin_socket_is_found_by_its_name() {
    let web = TcpListener::bind("127.0.0.1:0").unwrap();
    let admin = TcpListener::bind("127.0.0.1:0").unwrap();
    let setup = Setup::new(&["--drain", "0s"]);
    let mut server = start_on(&setup, &[("admin", &admin), ("web", &web)]);
    let get = |listener: &TcpListener, path: &str| {
        let mut connection = Connection::open(listener.local_addr().unwrap());
        connection.send_request("GET", path, "", b"");
        connection.read_response().status
    };
    assert_eq!(get(&admin, "/healthz"), 200);
    assert_eq!(
        (get(&web, "/healthz"), get(&web, "/api/webhook")),
        (404, 200)
    );
    signal(server.id(), Signal::TERM);
    assert_eq!(wait_for_end(&mut server).code(), Some(0));
}

#[test]
fn passed_sockets_get_the_options_of_the_servers_own() {
    let web = TcpListener::bind("127.0.0.1:0").unwrap();
    let passed = socket2::SockRef::from(&web);
    assert!(!passed.tcp_nodelay().unwrap());
    let setup = Setup::new(&["--drain", "0s"]);
    let mut server = start_on(&setup, &[("web", &web)]);
    let mut connection = Connection::open(web.local_addr().unwrap());
    connection.send_request("GET", "/api/webhook", "", b"");
    assert_eq!(connection.read_response().status, 200);
    // The options belong to the socket, which both processes share.
    assert!(passed.tcp_nodelay().unwrap());
    assert!(passed.tcp_user_timeout().unwrap().is_some());
    assert_eq!(passed.send_buffer_size().unwrap(), 2 * 256 * 1024);
    signal(server.id(), Signal::TERM);
    wait_for_end(&mut server);
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

const STATUS: &[u8] = b"GET /api/webhook HTTP/1.1\r\nHost: a\r\n\r\n";

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
    let proxied = servers.wait_for_log("listening", 1);
    let address: SocketAddr = proxied["address"].as_str().unwrap().parse().unwrap();
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
    let listening = servers.wait_for_log("listening", 1);
    let address: SocketAddr = listening["address"].as_str().unwrap().parse().unwrap();
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

/// A passed socket has the protocols that `--listen` gives for its address.
#[test]
fn a_supervisors_sockets_speak_tls_and_the_proxy_protocol() {
    let authority = Authority::new();
    authority.sign("server");
    let (cert, key) = (authority.path("server.pem"), authority.path("server.key"));
    let (tls, proxy) = (
        TcpListener::bind("127.0.0.1:0").unwrap(),
        TcpListener::bind("127.0.0.1:0").unwrap(),
    );
    let (tls_address, proxy_address) = (tls.local_addr().unwrap(), proxy.local_addr().unwrap());
    let setup = Setup::new(&[
        "--listen",
        &format!("{tls_address}+tls"),
        "--listen",
        &format!("{proxy_address}+proxy"),
        "--trusted-proxy",
        "127.0.0.1",
        "--tls-cert",
        cert.to_str().unwrap(),
        "--tls-key",
        key.to_str().unwrap(),
        "--drain",
        "0s",
    ]);
    let ask = |header: &[u8]| {
        let mut connection = Connection::open(proxy_address);
        connection.send_if_open(header);
        connection.send_if_open(STATUS);
        connection
    };
    // The second server finds the same sockets.
    for _ in 0..2 {
        let mut server = start_on(&setup, &[("web", &tls), ("behind", &proxy)]);
        let socket = TcpStream::connect(tls_address).unwrap();
        assert!(Client::on(socket, &authority.client(None)).is_served());
        let header = b"PROXY TCP4 192.0.2.1 192.0.2.2 1000 2000\r\n";
        assert_eq!(ask(header).read_response().status, 200);
        let refused = ask(b"").read_to_end();
        assert!(!refused.starts_with(b"HTTP/1.1 200"), "{refused:?}");
        let mut plain = Connection::open(tls_address);
        plain.send_if_open(STATUS);
        assert!(!plain.read_to_end().starts_with(b"HTTP/1.1 "));
        signal(server.id(), Signal::TERM);
        assert_eq!(wait_for_end(&mut server).code(), Some(0));
    }
}
