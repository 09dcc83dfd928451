//! accept(2) fails: for lack of descriptors or memory, and for other reasons.

use hookcast::limits::ACCEPT_RETRY_MS;

use crate::audience::Audience;
use crate::support::{Server, Setup};
use crate::tracer::Fault;

/// Existing connections are served, new ones wait in the kernel's queue, the log says so once, and the thread
/// does not spin.
fn connections_wait_while_accept_fails_with(errno: &str, said: &str) {
    let server = Server::start(&["--shards", "2"]);
    let mut audience = Audience::of(&server);
    let fault = Fault::inject(
        &server,
        "accept4,epoll_wait",
        &[&format!("accept4:error={errno}")],
    );
    let mut waiting = server.connect();
    waiting.send_request("GET", "/api/webhook", "", b"");
    let line = server.wait_for_log("cannot accept connections for now");
    assert!(line["error"].as_str().unwrap().contains(said), "{line}");
    fault.wait_for_failures(5);
    for _ in 0..5 {
        audience.expect_service();
    }
    let trace = fault.end();
    assert_eq!(waiting.read_response().status, 200);
    server.wait_for_log("connections are accepted again");
    audience.expect_service();
    assert_eq!(server.request("GET", "/api/webhook", "", b"").status, 200);

    let warnings = server.log();
    let of_this = |line: &&serde_json::Value| {
        let message = line["message"].as_str();
        message.is_some_and(|message| message.starts_with("cannot accept"))
    };
    assert_eq!(warnings.iter().filter(of_this).count(), 1, "{warnings:#?}");
    // At most one attempt and one turn for each interval; twice that still counts as no spinning. The audience
    // adds a few turns for each of its 20 messages on 8 connections.
    let attempts = usize::try_from(trace.lasted.as_millis()).unwrap() / ACCEPT_RETRY_MS as usize;
    let calls = trace.calls("accept4");
    assert!(calls <= 2 * attempts + 10, "{calls} in {:?}", trace.lasted);
    let turns = trace.calls("epoll_wait");
    assert!(
        turns <= 20 * attempts + 20 * 8 * 4,
        "{turns} turns in {:?}",
        trace.lasted
    );
}

#[test]
fn emfile() {
    connections_wait_while_accept_fails_with("EMFILE", "Too many open files");
}

#[test]
fn enfile() {
    connections_wait_while_accept_fails_with("ENFILE", "Too many open files in system");
}

#[test]
fn enobufs() {
    connections_wait_while_accept_fails_with("ENOBUFS", "No buffer space");
}

#[test]
fn enomem() {
    connections_wait_while_accept_fails_with("ENOMEM", "Cannot allocate memory");
}

/// The error of firewalls (accept(2)).
#[test]
fn eperm() {
    connections_wait_while_accept_fails_with("EPERM", "not permitted");
}

/// A connection that was reset in the queue does not delay the next one, and is not logged.
#[test]
fn a_connection_that_is_reset_before_accept() {
    let server = Server::start(&["--shards", "2"]);
    let mut audience = Audience::of(&server);
    let fault = Fault::inject(&server, "accept4", &["accept4:error=ECONNABORTED:when=1+2"]);
    for _ in 0..20 {
        assert_eq!(server.request("GET", "/api/webhook", "", b"").status, 200);
    }
    audience.expect_service();
    assert!(fault.end().failures() >= 20);
    assert!(server.log().iter().all(|line| line["level"] != "WARN"));
}

/// Without injection: the process has no descriptor left, and later gets one.
#[test]
fn the_real_limit_of_open_files() {
    // The server raises its soft limit and reserves some descriptors; `--max-connections` is above both.
    let setup = Setup::new(&["--shards", "2", "--max-connections", "40"]).files_max(300);
    let server = setup.start();
    let mut audience = Audience::of(&server);
    let lowered = lower_file_limit(server.pid());
    let mut waiting = server.connect();
    waiting.send_request("GET", "/api/webhook", "", b"");
    let line = server.wait_for_log("cannot accept connections for now");
    assert!(
        line["error"]
            .as_str()
            .unwrap()
            .contains("Too many open files")
    );
    audience.expect_service();
    lowered.restore();
    assert_eq!(waiting.read_response().status, 200);
    audience.expect_service();
}

/// The previous soft limit of open files of another process.
struct Lowered {
    pid: u32,
    before: String,
}

/// Sets the soft limit to 3, which is below the number of open descriptors, so that nothing can be opened.
fn lower_file_limit(pid: u32) -> Lowered {
    let before = prlimit(pid, &["--output=SOFT", "--noheadings", "--nofile"]);
    prlimit(pid, &["--nofile=3:"]);
    Lowered {
        pid,
        before: before.trim().to_owned(),
    }
}

impl Lowered {
    fn restore(self) {
        prlimit(self.pid, &[&format!("--nofile={}:", self.before)]);
    }
}

/// Runs prlimit(1) of util-linux.
fn prlimit(pid: u32, arguments: &[&str]) -> String {
    let mut command = std::process::Command::new("prlimit");
    let output = command.args(["--pid", &pid.to_string()]).args(arguments);
    let output = output.output().expect("prlimit of util-linux");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}
