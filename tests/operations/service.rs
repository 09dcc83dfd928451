//! Reports to a service manager, received by a socket of the test (`sd_notify(3)`), the watchdog, and warnings
//! about passed sockets (`sd_listen_fds(3)`).

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use hookcast::limits::LISTEN_DEFAULT;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::support::{PATIENCE, Server, Setup};

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
        [format!("MAINPID={pid}"), "READY=1".into(), "STATUS=".into()]
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
    // The successor itself sends nothing, because it is not the service.
    let over = manager.next();
    assert_eq!(over[0], "READY=1");
    assert!(
        over[1].starts_with("STATUS=The last reload failed: it ended before"),
        "{over:?}"
    );
}

/// The command of a server with two sockets of a manager: its web and its admin address.
fn command_on(setup: &Setup, web: &TcpListener, admin: &TcpListener) -> Command {
    let fd = |listener: &TcpListener| Stdio::from(OwnedFd::from(listener.try_clone().unwrap()));
    // The shell sets `LISTEN_PID`: its process id becomes the server's.
    let pass = r#"LISTEN_PID=$$ LISTEN_FDS=2 exec "$0" "$@" 3<&0 4<&1 0</dev/null 1>&2"#;
    let setup = setup.clone().variable("LISTEN_FDNAMES", "web:admin");
    let setup = setup.on_passed_sockets().under(&["/bin/sh", "-c", pass]);
    let mut command = setup.command();
    command.stdin(fd(web)).stdout(fd(admin));
    command
}

/// Starts a server on two sockets of a manager; returns its warnings until it listens.
fn warnings_on(setup: &Setup, web: &TcpListener, admin: &TcpListener) -> Vec<String> {
    let mut server = command_on(setup, web, admin).spawn().unwrap();
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
            let address = web.local_addr().unwrap().to_string();
            assert_eq!(line["address"], address, "{line}");
            break;
        }
    }
    server.kill().unwrap();
    server.wait().unwrap();
    assert!(listens, "{warnings:?}");
    warnings
}

fn public() -> TcpListener {
    TcpListener::bind("0.0.0.0:0").unwrap()
}

fn private() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").unwrap()
}

/// As in the package: the addresses are those of the sockets.
#[test]
fn warnings_name_the_addresses_of_passed_sockets() {
    let (web, admin) = (public(), public());
    let warnings = warnings_on(&Setup::new(&[]), &web, &admin);
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
    let warnings = warnings_on(&Setup::new(&[]).secret("s3cret"), &public(), &private());
    assert!(warnings.is_empty(), "{warnings:?}");
}

/// A setting without effect is an error, which names the file to change.
#[test]
fn an_address_that_no_passed_socket_has_is_refused() {
    let (web, admin) = (private(), private());
    let (web_address, admin_address) = (web.local_addr().unwrap(), admin.local_addr().unwrap());
    for (name, value, unit) in [
        ("HOOKCAST_LISTEN", "0.0.0.0:8081".to_owned(), "hookcast"),
        // The default address, if it is set explicitly, is no exception.
        ("HOOKCAST_LISTEN", LISTEN_DEFAULT.to_owned(), "hookcast"),
        (
            "HOOKCAST_LISTEN",
            format!("{web_address},127.0.0.1:8081"),
            "hookcast",
        ),
        ("HOOKCAST_ADMIN", "127.0.0.1:9".to_owned(), "hookcast-admin"),
    ] {
        let manager = Manager::new();
        let setup = manager.setup(&[]).variable(name, &value);
        let output = output_of(command_on(&setup, &web, &admin));
        let log = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{value}: {log}");
        let lines: Vec<&str> = log.lines().collect();
        assert_eq!(lines.len(), 1, "{log}");
        let there = match unit {
            "hookcast" => web_address,
            _ => admin_address,
        };
        for part in [
            format!("{name} {}", value.rsplit(',').next().unwrap()),
            format!("listens, on {there}"),
            format!("/etc/systemd/system/{unit}.socket.d/override.conf"),
            format!("remove {name} from /etc/default/hookcast"),
        ] {
            assert!(log.contains(&part), "{part}: {log}");
        }
        let status = manager.next();
        assert!(
            status.len() == 1 && status[0].starts_with("STATUS=--"),
            "{status:?}"
        );
    }
    // The address of a passed socket may be set, too.
    let same = Setup::new(&[
        "--listen",
        &web_address.to_string(),
        "--admin",
        &admin_address.to_string(),
    ]);
    assert!(warnings_on(&same, &web, &admin).is_empty());
}

/// Waits for the end of a process; returns its output.
fn output_of(mut command: Command) -> Output {
    let mut child = command.spawn().unwrap();
    let deadline = Instant::now() + PATIENCE;
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > deadline {
            child.kill().unwrap();
            panic!("the process does not end: {:?}", child.wait_with_output());
        }
        // There is no wait with a deadline; this polls, and nothing else depends on it.
        thread::sleep(Duration::from_millis(2));
    }
    child.wait_with_output().unwrap()
}

/// Starts a server that must fail with this exit status; returns the status text that it sent.
fn status_of_failed(setup: &Setup, manager: &Manager, exit_status: i32) -> String {
    let output = output_of(setup.command());
    assert_eq!(output.status.code(), Some(exit_status), "{output:?}");
    let state = manager.next();
    assert_eq!(state.len(), 1, "{state:?}");
    state[0].strip_prefix("STATUS=").unwrap().to_owned()
}

#[test]
fn the_reason_of_a_failed_start_is_the_status_text() {
    let manager = Manager::new();
    let typo = manager
        .setup(&[])
        .variable("HOOKCAST_HEARTBEAT", "fast\nREADY=1");
    let status = status_of_failed(&typo, &manager, 2);
    assert!(
        status.starts_with("HOOKCAST_HEARTBEAT: invalid value"),
        "{status}"
    );
    let ring = manager.setup(&[]).ring_at("/nowhere/at/all".into());
    let status = status_of_failed(&ring, &manager, 1);
    assert!(
        status.starts_with("cannot open the ring /nowhere/at/all"),
        "{status}"
    );
    let count = manager.setup(&[]).variable("LISTEN_FDS", "many");
    let status = status_of_failed(&count.variable("LISTEN_PID", "1"), &manager, 1);
    assert!(status.starts_with("LISTEN_FDS="), "{status}");
}
