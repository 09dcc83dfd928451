//! Secrets in the log and the answers of a running server.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::{
    PASSWORD, TOKEN, WEBHOOK_SECRET, broken, kv, kv_that_quotes, percent, shows_nothing,
    shows_nothing_of,
};
use crate::support::tls::Authority;
use crate::support::{Connection, PATIENCE};

/// A server, with its output as it is written.
struct Running {
    child: Child,
    output: Output,
}

type Output = Arc<(Mutex<String>, Condvar)>;

impl Running {
    fn start(directory: &TempDir, arguments: &[&str], variables: &[(&str, &str)]) -> Running {
        let mut child = Command::new(env!("CARGO_BIN_EXE_hookcast"))
            .args(arguments)
            .env_clear()
            .envs(variables.iter().copied())
            .current_dir(directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let output = Output::default();
        keep(child.stdout.take().unwrap(), &output);
        keep(child.stderr.take().unwrap(), &output);
        Running { child, output }
    }

    /// Waits until the output contains this `count` times, and returns all of it.
    fn wait_for(&self, text: &str, count: usize) -> String {
        let (state, changed) = &*self.output;
        let is_missing = |output: &mut String| output.matches(text).count() < count;
        let state = state.lock().unwrap();
        let (output, _) = changed
            .wait_timeout_while(state, PATIENCE, is_missing)
            .unwrap();
        assert!(
            output.matches(text).count() >= count,
            "no {text:?} in {output}"
        );
        output.clone()
    }

    fn signal(&self, signal: Signal) {
        signal_to(self.child.id(), signal);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // If it has ended already, both calls do nothing.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn signal_to(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
}

fn keep(source: impl Read + Send + 'static, output: &Output) {
    let output = Arc::clone(output);
    thread::spawn(move || {
        for line in BufReader::new(source).lines().map_while(Result::ok) {
            output.0.lock().unwrap().extend([&line, "\n"]);
            output.1.notify_all();
        }
    });
}

/// The nth address behind this text in a log, in either format.
fn address(log: &str, message: &str, nth: usize) -> SocketAddr {
    let line = log
        .lines()
        .filter(|line| line.contains(message))
        .nth(nth)
        .unwrap();
    let (_, rest) = line.split_once("address").unwrap();
    let rest = rest.trim_start_matches(['"', ':', '=']);
    rest.split([' ', '"']).next().unwrap().parse().unwrap()
}

/// The whole life of a server: start, requests with right and wrong secrets, a KV that quotes the token, the
/// admin address, a reload with a broken key, a handover, the end.
#[test]
fn a_server_never_prints_a_secret() {
    for format in ["text", "json"] {
        let directory = tempfile::tempdir().unwrap();
        let authority = Authority::new();
        authority.sign("server");
        let (cert, key_path) = (authority.path("server.pem"), authority.path("server.key"));
        let key = std::fs::read_to_string(&key_path).unwrap();
        let kv_server = kv_that_quotes(&format!("{}{TOKEN} {TOKEN}", "y".repeat(130)));
        let arguments = [
            "--listen",
            "127.0.0.1:0",
            "--listen",
            "127.0.0.1:0+tls",
            "--admin",
            "127.0.0.1:0",
            "--tls-cert",
            cert.to_str().unwrap(),
            "--tls-key",
            key_path.to_str().unwrap(),
            "--log-format",
            format,
            "--log-level",
            "trace",
            "--drain",
            "0s",
        ];
        let url = kv_server.url();
        let mut variables = kv(TOKEN, &url);
        let proxy = format!("http://user:{}@127.0.0.1:9", percent(PASSWORD));
        variables.extend([("WEBHOOK_SECRET", WEBHOOK_SECRET), ("HTTPS_PROXY", &proxy)]);
        let server = Running::start(&directory, &arguments, &variables);
        server.wait_for("KV fails", 1);
        let log = server.wait_for("listening", 2);
        let (public, admin) = (
            address(&log, "listening", 0),
            address(&log, "metrics and health", 0),
        );

        let body = br#"{"message":"hello"}"#;
        let mut answers = String::new();
        for secret in [WEBHOOK_SECRET, TOKEN, PASSWORD, "qZxJw-wrong"] {
            let headers = format!("X-Webhook-Secret: {secret}\r\n");
            for (method, target) in [
                ("POST", "/api/webhook"),
                ("GET", "/api/webhook/messages"),
                ("GET", "/nowhere"),
                ("DELETE", "/api/webhook"),
            ] {
                let mut connection = Connection::open(public);
                connection.send_request(
                    method,
                    target,
                    &headers,
                    if method == "POST" { body } else { b"" },
                );
                answers.push_str(&format!("{:?}\n", connection.read_response()).replace('\r', ""));
            }
        }
        for target in ["/", "/metrics", "/healthz", "/readyz", "/nowhere"] {
            let mut connection = Connection::open(admin);
            connection.send_request("GET", target, "", b"");
            answers.push_str(&format!("{:?}\n", connection.read_response()).replace('\r', ""));
        }
        assert!(answers.contains("hookcast_kv"), "{answers}");
        shows_nothing(&answers);

        for (nth, pem) in broken(&key).iter().enumerate() {
            std::fs::write(&key_path, pem).unwrap();
            server.signal(Signal::HUP);
            server.wait_for("certificate not reloaded", nth + 1);
        }
        // First a successor that cannot start because of its key, then one that can.
        server.signal(Signal::USR2);
        server.wait_for("the successor failed", 1);
        std::fs::write(&key_path, &key).unwrap();
        server.signal(Signal::USR2);
        let log = server.wait_for("handed over", 1);
        let (_, pid) = log.split_once("pid").unwrap();
        let digits = pid.trim_start_matches(['"', ':', '=']);
        let digits = digits.split(|c: char| !c.is_ascii_digit()).next().unwrap();
        signal_to(digits.parse().unwrap(), Signal::TERM);
        let log = server.wait_for("drained", 2);
        shows_nothing(&log);
        shows_nothing_of(&key, &log);
    }
}
