//! A process of a cluster, which faults stop, kill and replace.
//!
//! Used by `node` and `redis`, and for the tool's own reading processes. A handover replaces a node's process
//! by one of the same group, so a member is its group. Killed when dropped.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitOptions, kill_process, kill_process_group, waitpgid};

use crate::servers::process::{kill_group, pid_of, spawn};

/// Interval at which a condition is looked for.
const LOOK_INTERVAL: Duration = Duration::from_millis(2);

/// Lines of a log in an error message.
const TAIL_LINES: usize = 5;

/// See the module.
pub struct Member {
    group: Pid,
    /// Its stdin and stdout, if they are pipes.
    pub child: Child,
    log: PathBuf,
}

impl Member {
    /// Starts a command. Its stderr is appended to `log`.
    pub fn start(mut command: Command, log: &Path, has_pipes: bool) -> Result<Member, String> {
        let program = command.get_program().to_string_lossy().into_owned();
        let pipe = || {
            if has_pipes {
                Stdio::piped()
            } else {
                Stdio::null()
            }
        };
        let file = OpenOptions::new().append(true).create(true).open(log);
        let file: io::Result<File> = file;
        let file = file.map_err(|error| format!("{}: {error}", log.display()))?;
        command.stdin(pipe()).stdout(pipe()).stderr(file);
        let directory = log.parent().unwrap_or(Path::new("/nonexistent"));
        let child = spawn(command, directory)
            .map_err(|error| format!("{program} does not start: {error}"))?;
        let group = pid_of(&child).ok_or("no process id")?;
        Ok(Member {
            group,
            child,
            log: log.to_owned(),
        })
    }

    /// Sends a signal to all its processes.
    pub fn signal(&self, signal: Signal) {
        let _ = kill_process_group(self.group, signal);
    }

    /// Its running processes. One that has been replaced may still drain.
    pub fn pids(&self) -> Vec<u32> {
        while let Ok(Some(_)) = waitpgid(self.group, WaitOptions::NOHANG) {}
        let group = self.group.as_raw_nonzero().get();
        let processes = std::fs::read_dir("/proc").into_iter().flatten();
        let pids = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        pids.filter(|&pid| group_of(pid) == Some(group)).collect()
    }

    /// Kills it, and waits for its end.
    pub fn kill(&self) {
        kill_group(self.group);
    }

    /// Waits until all its processes have ended. False if the time is over.
    pub fn await_end(&self, patience: Duration) -> bool {
        await_that(patience, || self.pids().is_empty())
    }

    /// Describes why it does not do what it should, with the last lines of its log.
    pub fn complaint(&self, what: &str) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let tail = lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n");
        format!("{what}\n{tail}")
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Sends a signal to one process of a member.
pub fn signal_process(pid: u32, signal: Signal) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let _ = pid.map(|pid| kill_process(pid, signal));
}

/// The process group of a process: field 5 of `stat` (proc(5)). `None` for one that has ended.
fn group_of(pid: u32) -> Option<i32> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = text.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    let state = fields.next()?;
    let group = fields.nth(1)?.parse().ok()?;
    (!matches!(state, "Z" | "X")).then_some(group)
}

/// Waits for a condition. False if the time is over.
pub fn await_that(patience: Duration, mut is_so: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + patience;
    while !is_so() {
        if Instant::now() > deadline {
            return false;
        }
        std::thread::sleep(LOOK_INTERVAL);
    }
    true
}
