//! Early ends of runs of the real program: a server that dies or restarts under load, signals, and a server in
//! use.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use serde_json::Value;

/// Exit codes, as `hookcast-load --help` lists them.
const EXIT_FAILED: i32 = 1;
const EXIT_REFUSED: i32 = 2;
const EXIT_LOST: i32 = 5;
const EXIT_CUT_OFF: i32 = 130;

const STREAMS: usize = 40;

fn start(arguments: &str) -> Child {
    // With `nohup` the tests run with SIGHUP ignored, which the program would respect.
    Command::new("env")
        .args(["--default-signal=HUP", env!("CARGO_BIN_EXE_hookcast-load")])
        .args(arguments.split_whitespace())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .expect("the program of this package starts")
}

/// A floor of this test, and its address.
fn floor(listen: &str) -> (Child, SocketAddr) {
    let mut floor = start(&format!("floor --listen {listen}"));
    let mut line = String::new();
    BufReader::new(floor.stderr.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let line: Value = serde_json::from_str(&line).unwrap();
    let address = line.pointer("/address").or(line.pointer("/fields/address"));
    (floor, address.unwrap().as_str().unwrap().parse().unwrap())
}

fn signal(pid: u32, signal: Signal) {
    kill_process(pid_of(pid), signal).unwrap();
}

/// Signals the whole process group, as a terminal does.
fn signal_group(leader: u32, signal: Signal) {
    kill_process_group(pid_of(leader), signal).unwrap();
}

fn pid_of(pid: u32) -> Pid {
    Pid::from_raw(i32::try_from(pid).unwrap()).unwrap()
}

fn await_that(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while !is_so() {
        assert!(std::time::Instant::now() < deadline, "in a minute: {what}");
        thread::sleep(std::time::Duration::from_millis(5));
    }
}

/// Waits for the publisher, which runs only once all streams are open.
fn await_load(run: &Child) {
    let tasks = format!("/proc/{}/task", run.id());
    await_that("messages are published", || {
        std::fs::read_dir(&tasks).is_ok_and(|mut tasks| {
            tasks.any(|task| {
                let name = task.map(|task| task.path().join("comm"));
                name.and_then(std::fs::read_to_string)
                    .is_ok_and(|name| name.trim() == "publisher")
            })
        })
    });
    // Then it has one connection besides those of the streams.
    let descriptors = format!("/proc/{}/fd", run.id());
    await_that("all streams are open", || {
        std::fs::read_dir(&descriptors).is_ok_and(|all| all.count() > STREAMS)
    });
}

fn child_of(run: &Child) -> u32 {
    let id = run.id();
    let mut found = None;
    await_that("there is a server", || {
        let tasks = std::fs::read_dir(format!("/proc/{id}/task")).unwrap();
        found = tasks
            .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("children")).ok())
            .find_map(|children| children.split_whitespace().next()?.parse().ok());
        found.is_some()
    });
    found.unwrap()
}

fn is_gone(pid: u32) -> bool {
    !Path::new(&format!("/proc/{pid}")).exists()
}

fn end(run: Child) -> (Output, Value) {
    let output = run.wait_with_output().unwrap();
    let json = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
    (output, json)
}

fn count(json: &Value, path: &str) -> u64 {
    let value = json.pointer(path).and_then(Value::as_u64);
    value.unwrap_or_else(|| panic!("{path} in {json:#}"))
}

/// Arguments of a run that takes a minute unless it is stopped.
fn minute(target: &str) -> String {
    format!("fanout {target} --streams {STREAMS} --rate 50 --warmup 1ms --duration 60s --json")
}

fn assert_lost(output: &Output, json: &Value) {
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(EXIT_LOST), "{error}");
    assert!(json["cut_off"].is_null());
    assert_eq!(count(json, "/lost/streams_cut"), STREAMS as u64);
    assert!(json["lost"]["at_s"].as_f64().unwrap() > 0.0);
    // Lost are exactly the acknowledged messages that did not arrive.
    let missing = count(json, "/lost/deliveries_missing");
    assert_eq!(count(json, "/missing"), missing);
    let due = count(json, "/acked") * STREAMS as u64;
    assert_eq!(count(json, "/deliveries_expected"), due);
    assert!(missing <= due);
}

#[test]
fn a_killed_server_ends_the_run_with_the_figures_up_to_then() {
    let run = start(&minute("--target floor"));
    await_load(&run);
    signal(child_of(&run), Signal::KILL);
    let (output, json) = end(run);
    assert_lost(&output, &json);
    let process = json["lost"]["process"].as_str().unwrap();
    assert!(process.contains("SIGKILL"), "{process}");
    assert!(
        json["lost"]["address"]
            .as_str()
            .unwrap()
            .starts_with("127.0.0.1:")
    );
}

#[test]
fn a_restarted_server_is_lost_and_reported_as_back() {
    let (mut server, address) = floor("127.0.0.1:0");
    let run = start(&minute(&format!(
        "--url http://{address} --yes --pid {}",
        server.id()
    )));
    await_load(&run);
    signal(server.id(), Signal::KILL);
    server.wait().unwrap();
    let (mut again, _) = floor(&address.to_string());
    let (output, json) = end(run);
    assert_lost(&output, &json);
    assert_eq!(json["lost"]["address"], address.to_string());
    let process = json["lost"]["process"].as_str().unwrap();
    assert!(process.contains(" is gone"), "{process}");
    assert!(process.contains("takes connections"), "{process}");
    again.kill().unwrap();
    again.wait().unwrap();
}

#[test]
fn the_text_gives_time_symptom_and_address_of_the_loss() {
    let run = start(&minute("--target floor").replace("--json", ""));
    await_load(&run);
    signal(child_of(&run), Signal::KILL);
    let (output, _) = end(run);
    let text = String::from_utf8_lossy(&output.stdout);
    for part in [
        "LOST",
        "the server at 127.0.0.1:",
        "was lost after",
        "SIGKILL",
        "40 streams",
    ] {
        assert!(text.contains(part), "{part:?} in {text}");
    }
}

#[test]
fn a_signal_ends_a_run_with_figures_and_without_false_losses() {
    let directory = tempfile::tempdir().unwrap();
    let report = directory.path().join("report.html");
    for stop in [Signal::INT, Signal::TERM, Signal::HUP] {
        let run = start(&format!(
            "{} --report {}",
            minute("--target floor"),
            report.display()
        ));
        await_load(&run);
        let server = child_of(&run);
        signal_group(run.id(), stop);
        let (output, json) = end(run);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(EXIT_CUT_OFF), "{error}");
        assert!(json["lost"].is_null(), "{json:#}");
        assert!(json["cut_off"]["at_s"].as_f64().unwrap() > 0.0);
        assert_eq!(count(&json, "/missing"), 0, "{json:#}");
        assert_eq!(json["errors"], serde_json::json!({}));
        assert!(is_gone(server), "{server} is still there");
        let html = std::fs::read_to_string(&report).unwrap();
        assert!(html.contains("cut off after"));
    }
}

/// Whether a server's sockets hold unread bytes: column `rx_queue` of `/proc/net/tcp` (proc(5)).
fn has_unread(address: SocketAddr) -> bool {
    let port = format!(":{:04X}", address.port());
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    table.lines().any(|line| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let queues = columns.get(4).and_then(|queues| queues.split_once(':'));
        let unread = queues.is_some_and(|(_, unread)| unread.bytes().any(|digit| digit != b'0'));
        // 01: established. For a listener the column counts connections.
        columns.get(3) == Some(&"01") && columns[1].ends_with(&port) && unread
    })
}

/// Messages that the server has not read when the signal arrives are in flight, not lost.
#[test]
fn messages_in_flight_at_a_signal_are_not_lost() {
    let (mut server, address) = floor("127.0.0.1:0");
    let run = minute(&format!("--url http://{address} --yes"));
    let run = start(&run.replace("--rate 50", "--rate 2000"));
    await_load(&run);
    signal(server.id(), Signal::STOP);
    await_that("messages wait to be read", || has_unread(address));
    signal(run.id(), Signal::INT);
    let (output, json) = end(run);
    server.kill().unwrap();
    server.wait().unwrap();
    assert_eq!(output.status.code(), Some(EXIT_CUT_OFF));
    assert_eq!(count(&json, "/missing"), 0, "{json:#}");
    assert_eq!(json["errors"], serde_json::json!({}));
    assert!(count(&json, "/cut_off/unanswered") > 0, "{json:#}");
    let due = count(&json, "/acked") * STREAMS as u64;
    assert_eq!(count(&json, "/deliveries_expected"), due);
}

/// A server that acknowledges every message and delivers none.
struct BlackHole {
    address: SocketAddr,
    acked: Arc<AtomicUsize>,
    sockets: Arc<Mutex<Vec<TcpStream>>>,
    is_over: Arc<AtomicBool>,
    acceptor: JoinHandle<()>,
}

impl BlackHole {
    fn open() -> BlackHole {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let acked = Arc::new(AtomicUsize::new(0));
        let sockets: Arc<Mutex<Vec<TcpStream>>> = Arc::default();
        let is_over = Arc::new(AtomicBool::new(false));
        let acceptor = {
            let (acked, sockets) = (Arc::clone(&acked), Arc::clone(&sockets));
            let is_over = Arc::clone(&is_over);
            thread::spawn(move || {
                for connection in listener.incoming() {
                    if is_over.load(Relaxed) {
                        return;
                    }
                    let connection = connection.unwrap();
                    let acked = Arc::clone(&acked);
                    sockets
                        .lock()
                        .unwrap()
                        .push(connection.try_clone().unwrap());
                    thread::spawn(move || swallow(connection, &acked));
                }
            })
        };
        BlackHole {
            address,
            acked,
            sockets,
            is_over,
            acceptor,
        }
    }

    fn await_acks(&self) {
        await_that("messages are acknowledged", || {
            self.acked.load(Relaxed) > 20
        });
    }

    /// Refuses new connections and ends all existing ones.
    fn die(self) {
        self.is_over.store(true, Relaxed);
        let _ = TcpStream::connect(self.address);
        self.acceptor.join().unwrap();
        for socket in self.sockets.lock().unwrap().iter() {
            let _ = socket.shutdown(Shutdown::Both);
        }
    }
}

/// Answers stream requests with an empty stream, and each POST with a 200.
fn swallow(connection: TcpStream, acked: &AtomicUsize) {
    let mut output = connection.try_clone().unwrap();
    let mut input = BufReader::new(connection);
    loop {
        let (mut is_post, mut length) = (false, 0);
        loop {
            let mut line = String::new();
            if input.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            is_post |= line.starts_with("POST ");
            if let Some(value) = line.strip_prefix("Content-Length: ") {
                length = value.trim().parse().unwrap();
            }
            if line == "\r\n" {
                break;
            }
        }
        input.read_exact(&mut vec![0; length]).unwrap();
        let answer: &[u8] = if is_post {
            b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
        } else {
            b"HTTP/1.1 200 OK\r\n\r\ndata: {\"type\":\"connected\",\"replay\":0}\n\n"
        };
        if output.write_all(answer).is_err() {
            return;
        }
        acked.fetch_add(usize::from(is_post), Relaxed);
    }
}

/// The same deliveries are in flight at a signal, and lost when the server dies.
#[test]
fn acknowledged_deliveries_are_in_flight_at_a_signal_and_lost_with_the_server() {
    let server = BlackHole::open();
    let run = start(&minute(&format!("--url http://{} --yes", server.address)));
    server.await_acks();
    signal(run.id(), Signal::INT);
    let (output, json) = end(run);
    assert_eq!(output.status.code(), Some(EXIT_CUT_OFF));
    let due = count(&json, "/acked") * STREAMS as u64;
    assert_eq!(count(&json, "/cut_off/in_flight"), due);
    assert_eq!(count(&json, "/missing"), 0, "{json:#}");
    server.die();

    let server = BlackHole::open();
    let run = start(&minute(&format!("--url http://{} --yes", server.address)));
    server.await_acks();
    server.die();
    let (output, json) = end(run);
    assert_lost(&output, &json);
    let due = count(&json, "/acked") * STREAMS as u64;
    assert_eq!(count(&json, "/lost/deliveries_missing"), due);
    assert!(due > 0);
}

#[test]
fn a_second_signal_ends_at_once_and_leaves_no_server() {
    let mut run = start(&minute("--target floor"));
    await_load(&run);
    let server = child_of(&run);
    // A stopped process cannot end in order.
    signal(server, Signal::STOP);
    signal_group(run.id(), Signal::INT);
    let mut lines = BufReader::new(run.stderr.take().unwrap()).lines();
    let said = lines.next().unwrap().unwrap();
    assert!(said.contains("second signal ends at once"), "{said}");
    signal_group(run.id(), Signal::INT);
    let (output, _) = end(run);
    assert_eq!(output.status.code(), Some(EXIT_CUT_OFF));
    assert!(output.stdout.is_empty());
    assert!(is_gone(server), "{server} is still there");
}

#[test]
fn a_ladder_an_overload_and_a_comparison_are_cut_off_alike() {
    for command in [
        "ladder --rates 20,40 --target floor --streams 40 --duration 60s --warmup 1ms",
        "compare --quick --servers floor --only fanout --streams 40 --duration 60s --warmup 1ms",
    ] {
        let run = start(command);
        await_load(&run);
        let server = child_of(&run);
        signal(run.id(), Signal::INT);
        let (output, _) = end(run);
        let text = String::from_utf8_lossy(&output.stdout).to_lowercase();
        assert_eq!(output.status.code(), Some(EXIT_CUT_OFF), "{text}");
        assert!(text.contains("cut off"), "{text}");
        assert!(is_gone(server), "{server} is still there");
    }
}

/// A server with `kept` messages and `viewers` streams, which counts posts.
fn server_in_use(kept: u32, viewers: u32) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let posts = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&posts);
    thread::spawn(move || {
        for connection in listener.incoming() {
            let mut connection = connection.unwrap();
            let mut request = [0; 4096];
            let length = connection.read(&mut request).unwrap_or(0);
            let answer = if request[..length].starts_with(b"GET /metrics ") {
                format!(
                    "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n# TYPE hookcast_streams gauge\n\
                     hookcast_streams {viewers}\n"
                )
            } else if request[..length].starts_with(b"GET /api/webhook/stream ") {
                format!(
                    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\nretry: 1000\n\
                     data: {{\"type\":\"connected\",\"timestamp\":1,\"replay\":{kept}}}\n\n"
                )
            } else {
                seen.fetch_add(1, Relaxed);
                "HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n".into()
            };
            let _ = connection.write_all(answer.as_bytes());
        }
    });
    (address, posts)
}

#[test]
fn a_server_in_use_is_not_loaded_without_consent() {
    let (address, posts) = server_in_use(7, 3);
    let refused = |arguments: String| {
        let (output, _) = end(start(&arguments));
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(EXIT_REFUSED), "{error}");
        error
    };
    let url = format!("fanout --streams 2 --duration 100ms --url http://{address}");
    let said = refused(url.clone());
    assert!(said.contains("7 kept messages"), "{said}");
    assert!(said.contains("unknown number of streams"), "{said}");
    assert!(said.contains("--yes"), "{said}");
    let said = refused(format!("{url} --admin http://{address}"));
    assert!(said.contains("3 streams open"), "{said}");
    let (empty, _) = server_in_use(0, 1);
    let said = refused(format!(
        "storm --streams 2 --url http://{empty} --admin http://{empty}"
    ));
    assert!(said.contains("0 kept messages and 1 stream open"), "{said}");
    assert_eq!(posts.load(Relaxed), 0);
    // With consent it is loaded; this one accepts nothing.
    let (output, _) = end(start(&format!("{url} --yes")));
    assert!(String::from_utf8_lossy(&output.stderr).contains("7 kept messages"));
    assert_ne!(output.status.code(), Some(EXIT_REFUSED));
}

#[test]
fn a_harmless_run_needs_no_consent() {
    let (mut server, address) = floor("127.0.0.1:0");
    let idle = format!("idle --streams 5 --duration 100ms --warmup 1ms --url http://{address}");
    assert_eq!(end(start(&idle)).0.status.code(), Some(0));
    server.kill().unwrap();
    server.wait().unwrap();
    // It accepts no posts, and the tool does not ask.
    let (unused, _) = server_in_use(0, 0);
    let run = format!("ingest --duration 100ms --url http://{unused} --admin http://{unused}");
    let (output, _) = end(start(&run));
    assert_ne!(output.status.code(), Some(EXIT_REFUSED));
}

#[test]
fn an_unreachable_server_is_named_with_its_address() {
    // Bound and not listening, so that no other socket gets this port.
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket
        .bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())
        .unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    let (output, _) = end(start(&format!("fanout --url http://{address} --yes")));
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(EXIT_FAILED), "{error}");
    assert!(error.contains(&address.to_string()), "{error}");
    assert!(error.contains("refused"), "{error}");
}
