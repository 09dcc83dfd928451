//! Reports to a service manager, received by a socket of the test (`sd_notify(3)`), the watchdog, and warnings
//! about passed sockets (`sd_listen_fds(3)`).

mod support;

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};
use support::{PATIENCE, Server, Setup};
use tempfile::TempDir;

/// The manager's socket.
struct Manager {
    socket: UnixDatagram,
    path: PathBuf,
    _directory: TempDir,
}

impl Manager {
    fn new() -> Manager {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Manager {
            socket,
            path,
            _directory: directory,
        }
    }

    fn setup(&self, arguments: &[&str]) -> Setup {
        Setup::new(arguments).variable("NOTIFY_SOCKET", self.path.to_str().unwrap())
    }

    /// The next message as lines.
    fn next(&self) -> Vec<String> {
        let mut bytes = [0; 1024];
        let length = self.socket.recv(&mut bytes).unwrap();
        let text = std::str::from_utf8(&bytes[..length]).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    /// The next message that is not for the watchdog.
    fn next_state(&self) -> Vec<String> {
        loop {
            let lines = self.next();
            if lines != ["WATCHDOG=1"] {
                return lines;
            }
        }
    }
}

#[test]
fn ready_is_sent_once_it_answers_and_stopping_when_it_drains() {
    let manager = Manager::new();
    let mut server = manager.setup(&[]).start();
    assert_eq!(manager.next(), ["READY=1"]);
    assert_eq!(server.request("GET", "/api/webhook", "", b"").status, 200);
    server.signal(Signal::TERM);
    assert_eq!(manager.next(), ["STOPPING=1"]);
    assert_eq!(server.wait().code(), Some(0));
}

/// Without connections the shards sleep, and still answer the watchdog thread.
#[test]
fn the_watchdog_of_an_idle_server_is_fed() {
    let manager = Manager::new();
    let setup = manager.setup(&["--shards", "3"]);
    let server = setup.variable("WATCHDOG_USEC", "200000").start();
    assert_eq!(manager.next(), ["READY=1"]);
    for _ in 0..5 {
        assert_eq!(manager.next(), ["WATCHDOG=1"]);
    }
    // A stopped process sends nothing to the watchdog.
    server.signal(Signal::STOP);
    let empty_within = std::time::Duration::from_millis(600);
    manager.socket.set_read_timeout(Some(empty_within)).unwrap();
    let mut bytes = [0; 64];
    // Messages from before the stop may still be in the socket.
    while manager.socket.recv(&mut bytes).is_ok() {}
    manager.socket.set_read_timeout(Some(PATIENCE)).unwrap();
    server.signal(Signal::CONT);
    assert_eq!(manager.next(), ["WATCHDOG=1"]);
}

#[test]
fn the_watchdog_of_another_process_is_left_alone() {
    let manager = Manager::new();
    let setup = manager.setup(&[]);
    let setup = setup.variable("WATCHDOG_USEC", "100000");
    let mut server = setup.variable("WATCHDOG_PID", "1").start();
    assert_eq!(manager.next(), ["READY=1"]);
    server.signal(Signal::TERM);
    assert_eq!(manager.next(), ["STOPPING=1"]);
    server.wait();
}

#[test]
fn the_predecessor_reports_the_pid_of_its_successor() {
    let manager = Manager::new();
    let setup = manager.setup(&["--drain", "0s"]);
    let setup = setup.variable("WATCHDOG_USEC", "200000");
    let mut server: Server = setup.start();
    assert_eq!(manager.next_state(), ["READY=1"]);
    server.signal(Signal::USR2);
    let reloading = manager.next_state();
    assert_eq!(reloading[0], "RELOADING=1");
    assert!(reloading[1].starts_with("MONOTONIC_USEC="), "{reloading:?}");
    let pid = server.wait_for_log("handed over")["pid"].as_u64().unwrap();
    assert_eq!(
        manager.next_state(),
        [format!("MAINPID={pid}"), "READY=1".into()]
    );
    assert_eq!(server.wait().code(), Some(0));
    // Only the successor is left to feed the watchdog.
    assert_eq!(manager.next(), ["WATCHDOG=1"]);
    assert_eq!(manager.next(), ["WATCHDOG=1"]);
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    kill_process(pid, Signal::TERM).unwrap();
    assert_eq!(manager.next_state(), ["STOPPING=1"]);
}

#[test]
fn a_failed_reload_is_reported_as_finished() {
    let directory = tempfile::tempdir().unwrap();
    let secret = directory.path().join("secret");
    std::fs::write(&secret, "s").unwrap();
    let manager = Manager::new();
    let server = manager
        .setup(&["--secret-file", secret.to_str().unwrap()])
        .start();
    assert_eq!(manager.next(), ["READY=1"]);
    std::fs::remove_file(&secret).unwrap();
    server.signal(Signal::USR2);
    assert_eq!(manager.next()[0], "RELOADING=1");
    assert_eq!(manager.next(), ["READY=1"]);
}

/// Starts a server on two sockets of a manager; returns its warnings until it listens.
fn warnings_on(setup: Setup, web: &TcpListener, admin: &TcpListener) -> Vec<String> {
    let fd = |listener: &TcpListener| Stdio::from(OwnedFd::from(listener.try_clone().unwrap()));
    // The shell sets `LISTEN_PID`: its process id becomes the server's.
    let pass = r#"LISTEN_PID=$$ LISTEN_FDS=2 exec "$0" "$@" 3<&0 4<&1 0</dev/null 1>&2"#;
    let setup = setup.variable("LISTEN_FDNAMES", "web:admin");
    let setup = setup.under(&["/bin/sh", "-c", pass]);
    let mut server = setup
        .command()
        .stdin(fd(web))
        .stdout(fd(admin))
        .spawn()
        .unwrap();
    let log = BufReader::new(server.stderr.take().unwrap());
    let mut warnings = Vec::new();
    let mut listens = false;
    for line in log.lines() {
        let line: serde_json::Value = serde_json::from_str(&line.unwrap()).unwrap();
        let message = line["message"].as_str().unwrap().to_owned();
        listens |= message == "listening";
        if line["level"] == "WARN" {
            warnings.push(message);
        } else if listens {
            break;
        }
    }
    server.kill().unwrap();
    server.wait().unwrap();
    assert!(listens, "{warnings:?}");
    warnings
}

/// As in the package: the addresses are those of the sockets, and `--listen` is not used.
#[test]
fn warnings_name_the_addresses_of_passed_sockets() {
    let public = || TcpListener::bind("0.0.0.0:0").unwrap();
    let private = || TcpListener::bind("127.0.0.1:0").unwrap();
    let (web, admin) = (public(), public());
    let warnings = warnings_on(Setup::new(&[]), &web, &admin);
    let expected = [
        format!("listening on {} with no secret", web.local_addr().unwrap()),
        format!(
            "the admin address {} has no access control",
            admin.local_addr().unwrap()
        ),
    ];
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    for (warning, expected) in warnings.iter().zip(&expected) {
        assert!(warning.starts_with(expected), "{warning}");
    }
    let warnings = warnings_on(Setup::new(&[]).secret("s3cret"), &public(), &private());
    assert!(warnings.is_empty(), "{warnings:?}");
    // No warning about settings that are not used.
    let unused = Setup::new(&["--listen", "0.0.0.0:0", "--admin", "0.0.0.0:0"]);
    let warnings = warnings_on(unused, &private(), &private());
    assert!(warnings.is_empty(), "{warnings:?}");
}
