//! Slow clients in four classic forms, by `slowhttptest`. Its own report and the service of other clients are
//! checked.

use std::fs::{self, File};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use crate::audience::Audience;
use crate::support::Server;

/// Connections of an attack, and its duration in seconds. `SLOW_SECONDS` sets a longer one.
const CONNECTIONS: &str = "200";
const SECONDS: &str = "16";

/// Attacks a server, and expects service for other clients during and after the attack. Returns the report.
fn attack(server: &Server, mode: &[&str], path: &str) -> Report {
    let mut audience = Audience::of(server);
    let report = tempfile::tempdir().unwrap();
    let prefix = report.path().join("report");
    let seconds = std::env::var("SLOW_SECONDS").unwrap_or(SECONDS.into());
    let child = Command::new("slowhttptest")
        .args(mode)
        .args(["-c", CONNECTIONS, "-r", "200", "-l", &seconds, "-p", "5"])
        .args([
            "-u",
            &format!("http://{}{path}", server.address),
            "-g",
            "-o",
        ])
        .arg(&prefix)
        .current_dir(report.path())
        .stdin(Stdio::null())
        .stdout(File::create(report.path().join("said")).unwrap())
        .spawn()
        .unwrap_or_else(|error| panic!("slowhttptest (Debian package of that name): {error}"));
    let mut attacker = Attacker(child);
    let mut rounds = 0;
    while attacker.is_at_it() {
        audience.expect_service();
        let answer = server.request("GET", "/api/webhook", "", b"");
        assert_eq!(answer.status, 200);
        let mut stream = server.stream("?lastEventId=x", "");
        assert!(stream.connected() > 0);
        rounds += 1;
        // The audience checks service; it must not be a load of its own.
        thread::sleep(Duration::from_millis(20));
    }
    assert!(rounds > 0, "the attack was over at once");
    audience.expect_service();
    let csv = fs::read_to_string(prefix.with_extension("csv")).unwrap();
    println!("{mode:?}: {rounds} rounds of the audience");
    let said = fs::read_to_string(report.path().join("said")).unwrap();
    Report::parse(&csv, said.contains("No open connections left"))
}

/// Killed at the end of the test.
struct Attacker(Child);

impl Attacker {
    fn is_at_it(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }
}

impl Drop for Attacker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The report of `slowhttptest`, second by second.
#[derive(Debug)]
struct Report {
    /// The server closed all connections, which ended the attack.
    is_over: bool,
    /// Most connections at once.
    connected: usize,
    /// Whether the probe was answered in every second.
    is_available: bool,
}

impl Report {
    /// Columns: seconds, closed, pending, connected, service available (0 if not).
    fn parse(csv: &str, is_over: bool) -> Report {
        let row = |line: &str| -> Vec<usize> {
            line.split(',').map(|n| n.trim().parse().unwrap()).collect()
        };
        let rows: Vec<Vec<usize>> = csv.lines().skip(1).map(row).collect();
        assert!(
            rows.len() > 1 && rows.iter().all(|row| row.len() == 5),
            "{csv}"
        );
        Report {
            is_over,
            connected: rows.iter().map(|row| row[3]).max().unwrap(),
            is_available: rows.iter().all(|row| row[4] > 0),
        }
    }

    fn expect_available(&self) {
        assert!(self.is_available, "{self:?}");
        assert!(
            self.connected >= 100,
            "too few connections for an attack: {self:?}"
        );
    }
}

/// Each gets a 408 and is closed at the deadline of 10 s.
#[test]
fn slow_heads() {
    let server = Server::start(&["--shards", "2"]);
    let report = attack(&server, &["-H", "-i", "2"], "/api/webhook");
    report.expect_available();
    assert!(report.is_over, "{report:?}");
}

#[test]
fn slow_bodies() {
    let server = Server::start(&["--shards", "2"]);
    let report = attack(&server, &["-B", "-i", "2", "-s", "8192"], "/api/webhook");
    report.expect_available();
    assert!(report.is_over, "{report:?}");
}

/// `Range` is ignored, overlapping ranges included.
#[test]
fn ranges() {
    let server = Server::start(&["--shards", "2"]);
    let report = attack(
        &server,
        &["-R", "-i", "2", "-a", "1", "-b", "3000"],
        "/hookcast.js",
    );
    assert!(report.is_available && report.is_over, "{report:?}");
}

/// Clients that read a few bytes a second.
#[test]
fn slow_reads() {
    let server = Server::start(&["--shards", "2"]);
    let mode = [
        "-X", "-k", "5", "-n", "1", "-w", "10", "-y", "20", "-z", "5",
    ];
    let report = attack(&server, &mode, "/hookcast.js");
    report.expect_available();
}
