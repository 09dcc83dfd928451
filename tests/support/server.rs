//! A server process: started, observed through its log, stopped by signal.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use super::PATIENCE;
use super::client::{Connection, Response};
use super::events::EventStream;

/// The configuration of a server process.
#[derive(Clone)]
pub struct Setup {
    arguments: Vec<String>,
    variables: Vec<(String, String)>,
    files_max: Option<u64>,
    /// The program that runs it, such as a tracer; may be empty.
    wrapper: Vec<String>,
    /// The path of the ring, if it is not in the directory.
    ring: Option<PathBuf>,
    /// Whether a service manager passes its sockets.
    has_passed_sockets: bool,
    /// Holds the ring, and outlives every server of this setup.
    directory: Arc<TempDir>,
}

impl Setup {
    /// A server on a free loopback port with a new ring, and these flags.
    pub fn new(arguments: &[&str]) -> Setup {
        Setup {
            arguments: arguments.iter().map(ToString::to_string).collect(),
            variables: Vec::new(),
            files_max: None,
            wrapper: Vec::new(),
            ring: None,
            has_passed_sockets: false,
            directory: Arc::new(tempfile::tempdir().unwrap()),
        }
    }

    /// Replaces the flags.
    pub fn arguments(mut self, arguments: &[&str]) -> Setup {
        self.arguments = arguments.iter().map(ToString::to_string).collect();
        self
    }

    /// Sets a variable in its environment, which is empty otherwise.
    pub fn variable(mut self, name: &str, value: &str) -> Setup {
        self.variables.push((name.into(), value.into()));
        self
    }

    /// Sets the secret.
    pub fn secret(self, secret: &str) -> Setup {
        self.variable("WEBHOOK_SECRET", secret)
    }

    /// Sets the hard limit of open files.
    pub fn files_max(mut self, files: u64) -> Setup {
        self.files_max = Some(files);
        self
    }

    /// Sets no address: the sockets are passed.
    pub fn on_passed_sockets(mut self) -> Setup {
        self.has_passed_sockets = true;
        self
    }

    /// Runs the server by another program, which must keep the process id.
    pub fn under(mut self, wrapper: &[&str]) -> Setup {
        self.wrapper = wrapper.iter().map(ToString::to_string).collect();
        self
    }

    /// Sets another path of the ring.
    pub fn ring_at(mut self, path: PathBuf) -> Setup {
        self.ring = Some(path);
        self
    }

    /// The ring file.
    pub fn ring(&self) -> PathBuf {
        let own = || self.directory.path().join("test.ring");
        self.ring.clone().unwrap_or_else(own)
    }

    /// The command, not yet started.
    pub fn command(&self) -> Command {
        let program = env!("CARGO_BIN_EXE_hookcast");
        let mut command = match (self.files_max, self.wrapper.split_first()) {
            (None, None) => Command::new(program),
            (None, Some((wrapper, arguments))) => {
                let mut wrapper = Command::new(wrapper);
                wrapper.args(arguments).arg(program);
                wrapper
            }
            (Some(files), _) => {
                let mut shell = Command::new("/bin/sh");
                shell.args([
                    "-c",
                    &format!(r#"ulimit -n {files}; exec "$0" "$@""#),
                    program,
                ]);
                shell
            }
        };
        if !self.has_passed_sockets {
            command.args(["--listen", "127.0.0.1:0"]);
        }
        command
            .args(["--log-format", "json", "--ring"])
            .arg(self.ring())
            .args(&self.arguments)
            .env_clear()
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .current_dir(self.directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        command
    }

    /// Starts a server, without a wait for its address.
    pub fn spawn(&self) -> Server {
        let mut child = self.command().spawn().unwrap();
        let log = Log::read(child.stderr.take().unwrap());
        Server {
            child,
            log,
            address: ([0, 0, 0, 0], 0).into(),
            setup: self.clone(),
        }
    }

    /// Starts a server that must end with an error, and returns its log.
    pub fn start_in_vain(&self) -> String {
        let mut server = self.spawn();
        let status = server.wait();
        server.log.wait_for_end();
        let lines = server
            .log()
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>();
        let text = lines.join("\n");
        assert_eq!(status.code(), Some(1), "{text}");
        assert!(!text.contains("panicked"), "{text}");
        text
    }

    /// Starts a server and waits until it listens.
    pub fn start(&self) -> Server {
        let mut server = self.spawn();
        let listening = server.wait_for_log("listening");
        let address = listening["address"]
            .as_str()
            .expect("the address is a text");
        server.address = address.parse().expect("the address has a port");
        server
    }
}

/// A running server; killed when dropped.
pub struct Server {
    child: Child,
    log: Log,
    /// The listening address.
    pub address: SocketAddr,
    setup: Setup,
}

impl Server {
    /// Starts a server with these flags.
    pub fn start(arguments: &[&str]) -> Server {
        Setup::new(arguments).start()
    }

    /// Waits for the first log line whose message begins with this, from the start of the log.
    pub fn wait_for_log(&self, message: &str) -> Value {
        self.wait_for_nth_log(message, 0)
    }

    /// The same for a later line; 0 is the first.
    pub fn wait_for_nth_log(&self, message: &str, nth: usize) -> Value {
        let begins = |text: &str| text.starts_with(message);
        self.log.wait_for(message, nth, begins)
    }

    /// Waits for the nth listening address (with a port) in the log; 0 is the first. The order is that of the flags.
    pub fn listening_at(&self, nth: usize) -> SocketAddr {
        let line = self
            .log
            .wait_for("listening", nth, |text| text == "listening");
        line["address"].as_str().unwrap().parse().unwrap()
    }

    /// All lines logged so far.
    pub fn log(&self) -> Vec<Value> {
        self.log.lines()
    }

    /// Opens a connection.
    pub fn connect(&self) -> Connection {
        Connection::open(self.address)
    }

    /// Sends one request on a connection of its own and reads the answer.
    pub fn request(&self, method: &str, target: &str, headers: &str, body: &[u8]) -> Response {
        let mut connection = self.connect();
        connection.send_request(method, target, headers, body);
        connection.read_response_to(method)
    }

    /// Sends a webhook.
    pub fn post(&self, body: &Value) -> Response {
        self.request("POST", "/api/webhook", "", body.to_string().as_bytes())
    }

    /// Sends a message to all; returns its id.
    pub fn publish(&self, message: &str) -> String {
        let response = self.post(&serde_json::json!({ "message": message }));
        assert_eq!(response.status, 200, "{response:?}");
        response.json()["messageId"].as_str().unwrap().to_owned()
    }

    /// Opens a stream; `query` is empty or begins with `?`, `headers` are whole lines.
    pub fn stream(&self, query: &str, headers: &str) -> EventStream {
        EventStream::open(self.address, query, headers)
    }

    /// The contents of the history, as a new stream replays it.
    pub fn history(&self) -> Vec<String> {
        let mut stream = self.stream("", "");
        let replay = stream.connected();
        stream.contents(usize::try_from(replay).unwrap())
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The number in a line of `/proc/<pid>/status`, for instance `VmRSS`, in the unit of that line.
    pub fn proc_status(&self, name: &str) -> u64 {
        proc_status(self.pid(), name).unwrap()
    }

    /// CPU time used so far, user and system, in clock ticks (proc(5), `stat`).
    pub fn cpu_ticks(&self) -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap();
        // The name, in parentheses, may contain any character.
        let fields: Vec<&str> = stat
            .rsplit_once(')')
            .unwrap()
            .1
            .split_whitespace()
            .collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Waits for the end of the process.
    pub fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.child.try_wait().unwrap() {
                Some(status) => return status,
                // There is no wait with a deadline, so this polls; nothing else depends on it.
                None if Instant::now() < deadline => thread::sleep(Duration::from_millis(2)),
                None => panic!("the server does not end; its log: {:#?}", self.log()),
            }
        }
    }

    /// Kills the process at once, as a crash would.
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        let status = self.wait();
        assert_eq!(
            status.signal(),
            Some(Signal::KILL.as_raw()),
            "the server had ended before: {status}"
        );
    }

    /// Starts another server on the same ring with the same flags. The present one must have ended.
    pub fn restart(self) -> Server {
        self.setup.clone().start()
    }

    /// The setup, for further servers on the same ring.
    pub fn setup(&self) -> &Setup {
        &self.setup
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // If it has ended already, both calls do nothing.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("log of the server: {:#?}", self.log.lines());
        }
    }
}

/// The lines that a process writes to standard error, read by a thread.
#[derive(Clone)]
struct Log(Arc<(Mutex<LogState>, Condvar)>);

struct LogState {
    lines: Vec<Value>,
    ended: bool,
}

impl Log {
    fn read(stderr: ChildStderr) -> Log {
        let log = Log(Arc::new((
            Mutex::new(LogState {
                lines: Vec::new(),
                ended: false,
            }),
            Condvar::new(),
        )));
        let writer = log.clone();
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                // Lines that are not JSON are kept, too: configuration errors are plain text.
                let line = serde_json::from_str(&line).unwrap_or(Value::String(line));
                writer.0.0.lock().unwrap().lines.push(line);
                writer.0.1.notify_all();
            }
            writer.0.0.lock().unwrap().ended = true;
            writer.0.1.notify_all();
        });
        log
    }

    fn lines(&self) -> Vec<Value> {
        // A test that fails while it waits for a line poisons the lock.
        let state = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.lines.clone()
    }

    /// Waits for all lines of a process that has ended.
    fn wait_for_end(&self) {
        let state = self.0.0.lock().unwrap();
        let (_state, timeout) = self
            .0
            .1
            .wait_timeout_while(state, PATIENCE, |state| !state.ended)
            .unwrap();
        assert!(!timeout.timed_out(), "its standard error stays open");
    }

    /// Waits for the nth line with such a message; `what` names it in a failure.
    fn wait_for(&self, what: &str, nth: usize, is_it: impl Fn(&str) -> bool) -> Value {
        let find = |state: &LogState| {
            let is_it = |line: &&Value| line["message"].as_str().is_some_and(&is_it);
            state.lines.iter().filter(is_it).nth(nth).cloned()
        };
        let state = self.0.0.lock().unwrap();
        let (state, timeout) = self
            .0
            .1
            .wait_timeout_while(state, PATIENCE, |state| {
                find(state).is_none() && !state.ended
            })
            .unwrap();
        find(&state).unwrap_or_else(|| {
            let why = if timeout.timed_out() {
                "too late"
            } else {
                "the log ended"
            };
            panic!("no line {nth} {what:?} ({why}): {:#?}", state.lines)
        })
    }
}

/// The number in a line of `/proc/<pid>/status`, in the unit of that line; `None` once the process has ended.
pub fn proc_status(pid: u32, name: &str) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with(name))?;
    line.split_whitespace().nth(1)?.parse().ok()
}
