//! Starts a server as a process on a free loopback port, with its files in a directory of its own, and stops
//! it.
//!
//! Used by every scenario without `--url`. Servers log a JSON line with their `address` to stderr. The others
//! get a port that was free a moment ago.

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitOptions, kill_process, kill_process_group, waitpgid};
use serde_json::Value;
use tempfile::TempDir;

use crate::engine::proc_stats;
use crate::engine::target::{Place, Target};

/// Time for a server to start, and to end after SIGTERM.
const PATIENCE: Duration = Duration::from_secs(15);

/// Lines of stderr kept for an error message.
const TAIL_LINES: usize = 10;

/// Time for a server to end after its sockets have closed.
const EXIT_PATIENCE: Duration = Duration::from_secs(1);

/// The running servers, for [`kill_all`]. A process is removed under the same lock under which it is waited
/// for, so that no other process can have its id.
static RUNNING: Mutex<Vec<Running>> = Mutex::new(Vec::new());

struct Running {
    pid: Pid,
    directory: PathBuf,
}

/// A running server; stopped when dropped.
pub struct ServerProcess {
    child: Child,
    /// Its addresses and its API.
    pub target: Target,
    log: Log,
    /// Its files; removed with it.
    _directory: TempDir,
    /// A process that it depends on, stopped after it.
    companion: Option<Box<ServerProcess>>,
}

impl ServerProcess {
    /// Waits for the start lines of a command, one for each of its `listeners`, and takes the addresses from
    /// them. Posts go to the first, streams are opened on the last.
    pub fn start_announcing(
        name: &str,
        mut command: Command,
        listeners: usize,
        directory: TempDir,
    ) -> Result<ServerProcess, String> {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let program = command.get_program().to_string_lossy().into_owned();
        let mut child = spawn(command, directory.path())
            .map_err(|error| format!("{name}: {program} does not start: {error}"))?;
        let tail = Arc::default();
        let stderr = child.stderr.take();
        let lines = stderr.map(|stderr| watch_stderr(stderr, Arc::clone(&tail)));
        let found = lines
            .ok_or("no stderr".to_owned())
            .and_then(|lines| announced(&lines, listeners));
        match found {
            Ok((first, last)) => {
                let pids = proc_stats::family(child.id());
                let mut target = Target::hookcast(name, first, pids);
                target.streams = Place::at(last);
                Ok(ServerProcess {
                    child,
                    target,
                    log: Log::Tail(tail),
                    _directory: directory,
                    companion: None,
                })
            }
            Err(error) => {
                end(&mut child);
                Err(format!(
                    "{name}: {program} did not log its address: {error}"
                ))
            }
        }
    }

    /// Starts a command that listens where `target` says, with this many `processes`, and waits until it does.
    pub fn start_listening(
        mut target: Target,
        mut command: Command,
        processes: usize,
        directory: TempDir,
    ) -> Result<ServerProcess, String> {
        let log = directory.path().join("stderr.log");
        let stderr =
            std::fs::File::create(&log).map_err(|error| format!("{}: {error}", log.display()))?;
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(stderr);
        let program = command.get_program().to_string_lossy().into_owned();
        let name = target.name.clone();
        let mut child = spawn(command, directory.path())
            .map_err(|error| format!("{name}: {program} does not start: {error}"))?;
        let log = Log::File(log);
        if let Err(error) = wait_until_ready(
            &mut child,
            &[target.streams.address, target.publish.address],
            processes,
        ) {
            end(&mut child);
            let tail = log.tail(TAIL_LINES).join("\n");
            return Err(format!("{name}: {program} {error}\n{tail}"));
        }
        target.pids = proc_stats::family(child.id());
        Ok(ServerProcess {
            child,
            target,
            log,
            _directory: directory,
            companion: None,
        })
    }

    /// Adds a process that this one depends on.
    pub fn attach(&mut self, companion: ServerProcess) {
        self.companion = Some(Box::new(companion));
    }

    /// The exit status of the process; `None` if it still runs after a moment.
    pub fn exit(&mut self) -> Option<ExitStatus> {
        let deadline = Instant::now() + EXIT_PATIENCE;
        loop {
            let status = wait_without_blocking(&mut self.child);
            if status.is_some() || Instant::now() > deadline {
                return status;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The last few lines of its stderr.
    pub fn last_lines(&self, count: usize) -> Vec<String> {
        self.log.tail(count)
    }
}

/// A server's stderr.
enum Log {
    Tail(Arc<Mutex<VecDeque<String>>>),
    File(PathBuf),
}

impl Log {
    fn tail(&self, count: usize) -> Vec<String> {
        let lines: Vec<String> = match self {
            Log::Tail(tail) => {
                let tail = tail.lock().unwrap_or_else(PoisonError::into_inner);
                tail.iter().cloned().collect()
            }
            Log::File(path) => {
                let text = std::fs::read_to_string(path).unwrap_or_default();
                text.lines().map(str::to_owned).collect()
            }
        };
        lines[lines.len().saturating_sub(count)..].to_vec()
    }
}

/// Starts a command in a process group of its own, so that Ctrl-C reaches only this program. It stops its
/// servers once it has the figures.
pub fn spawn(mut command: Command, directory: &Path) -> io::Result<Child> {
    let mut running = lock_running();
    let child = command.process_group(0).spawn()?;
    if let Some(pid) = pid_of(&child) {
        let directory = directory.to_owned();
        running.push(Running { pid, directory });
    }
    Ok(child)
}

fn lock_running() -> std::sync::MutexGuard<'static, Vec<Running>> {
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Kills every server at once, with its process group, and removes its files. No server can start after that:
/// the program is about to exit.
pub fn kill_all() {
    let running = lock_running();
    for server in running.iter() {
        let _ = kill_process_group(server.pid, Signal::KILL);
    }
    for server in running.iter() {
        let _ = rustix::process::waitpid(Some(server.pid), WaitOptions::empty());
        let _ = std::fs::remove_dir_all(&server.directory);
    }
    std::mem::forget(running);
}

/// Kills the group of a process that [`spawn`] started, waits for all its processes, and forgets it. No other
/// process can have the id of a group that has members or is not waited for.
pub fn kill_group(group: Pid) {
    let mut running = lock_running();
    let Some(at) = running.iter().position(|server| server.pid == group) else {
        return;
    };
    running.remove(at);
    let _ = kill_process_group(group, Signal::KILL);
    while waitpgid(group, WaitOptions::empty()).is_ok() {}
}

/// The exit status, if the process has ended.
fn wait_without_blocking(child: &mut Child) -> Option<ExitStatus> {
    let mut running = lock_running();
    let status = child.try_wait().ok().flatten()?;
    running.retain(|server| Some(server.pid) != pid_of(child));
    Some(status)
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

/// A directory for one server's files.
pub fn directory() -> Result<TempDir, String> {
    let directory = tempfile::Builder::new().prefix("hookcast-load-").tempdir();
    directory.map_err(|error| format!("no temporary directory: {error}"))
}

/// The program of this name beside the present one: cargo builds into one directory.
pub fn sibling(name: &str) -> PathBuf {
    let own = std::env::current_exe().unwrap_or_default();
    let directory = own.parent().unwrap_or(Path::new("."));
    // Test binaries are one level deeper.
    let directory = if directory.ends_with("deps") {
        directory.parent().unwrap_or(directory)
    } else {
        directory
    };
    directory.join(name)
}

/// A loopback port that is free at this moment.
pub fn free_port() -> Result<SocketAddr, String> {
    let listener = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    listener.map_err(|error| format!("no free port: {error}"))
}

/// Reads a child's stderr to its end on a thread of its own, so that the child never blocks on it.
fn watch_stderr(
    stderr: std::process::ChildStderr,
    tail: Arc<Mutex<VecDeque<String>>>,
) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            let mut tail = tail.lock().unwrap_or_else(PoisonError::into_inner);
            if tail.len() == TAIL_LINES {
                tail.pop_front();
            }
            tail.push_back(line.clone());
            drop(tail);
            // Lines after the start have no receiver. The pipe must be emptied all the same.
            let _ = sender.send(line);
        }
    });
    receiver
}

/// The first and the last of `count` addresses.
fn announced(
    lines: &mpsc::Receiver<String>,
    count: usize,
) -> Result<(SocketAddr, SocketAddr), String> {
    let deadline = Instant::now() + PATIENCE;
    let mut seen = Vec::new();
    let mut addresses = Vec::new();
    while seen.len() < 1_000 {
        let left = deadline.saturating_duration_since(Instant::now());
        let Ok(line) = lines.recv_timeout(left) else {
            break;
        };
        let json = serde_json::from_str::<Value>(&line).ok();
        if let Some(address) = json.as_ref().and_then(find_address) {
            addresses.push(address);
            if addresses.len() >= count {
                return Ok((addresses[0], address));
            }
        }
        seen.push(line);
    }
    let tail = seen.len().saturating_sub(TAIL_LINES);
    Err(if seen.is_empty() {
        "its stderr is empty".into()
    } else {
        seen[tail..].join("\n")
    })
}

/// The first member `address` that is a socket address, at any depth.
fn find_address(json: &Value) -> Option<SocketAddr> {
    let members = json.as_object()?;
    let own = members
        .get("address")
        .and_then(|value| value.as_str()?.parse().ok());
    own.or_else(|| members.values().find_map(find_address))
}

/// Waits until the server has all its processes and answers. A master may listen before its workers run, and a
/// worker takes memory when it starts.
fn wait_until_ready(
    child: &mut Child,
    addresses: &[SocketAddr],
    processes: usize,
) -> Result<(), String> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if addresses.iter().all(answers) && proc_stats::family(child.id()).len() >= processes {
            return Ok(());
        }
        if let Some(status) = wait_without_blocking(child) {
            return Err(format!("ended at once: {status}"));
        }
        if Instant::now() > deadline {
            return Err(format!(
                "is not ready with {processes} processes on {addresses:?}"
            ));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Whether a request gets an answer: the kernel alone completes a connection.
pub fn answers(address: &SocketAddr) -> bool {
    let ask = || -> io::Result<usize> {
        let mut connection = TcpStream::connect_timeout(address, Duration::from_secs(1))?;
        connection.set_read_timeout(Some(Duration::from_secs(1)))?;
        connection.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
        connection.read(&mut [0; 64])
    };
    ask().is_ok_and(|length| length > 0)
}

/// Sends SIGTERM, and SIGKILL to the whole group if that does not help.
fn end(child: &mut Child) {
    let Some(pid) = pid_of(child) else { return };
    let deadline = Instant::now() + PATIENCE;
    if wait_without_blocking(child).is_some() || kill_process(pid, Signal::TERM).is_err() {
        return;
    }
    let mut is_killed = false;
    while wait_without_blocking(child).is_none() {
        if !is_killed && Instant::now() > deadline {
            is_killed = true;
            let _ = kill_process_group(pid, Signal::KILL);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub fn pid_of(child: &Child) -> Option<Pid> {
    i32::try_from(child.id()).ok().and_then(Pid::from_raw)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_found_at_any_depth() {
        let line =
            r#"{"level":"INFO","fields":{"message":"listening","address":"127.0.0.1:4000"}}"#;
        let json = serde_json::from_str(line).unwrap();
        assert_eq!(find_address(&json), Some("127.0.0.1:4000".parse().unwrap()));
        let json = serde_json::from_str(r#"{"fields":{"address":"elsewhere"}}"#).unwrap();
        assert_eq!(find_address(&json), None);
    }

    #[test]
    fn a_failed_start_is_reported_with_the_servers_stderr() {
        let start = |program: &str, argument: &str| {
            let mut command = Command::new(program);
            command.args(["-c", argument]);
            ServerProcess::start_announcing("test", command, 1, directory().unwrap())
                .err()
                .unwrap()
        };
        assert!(start("/nonexistent/server", "").contains("does not start"));
        assert!(start("sh", "echo broken flag >&2; exit 2").contains("broken flag"));
        assert!(start("sh", "exit 2").contains("its stderr is empty"));
    }
}
