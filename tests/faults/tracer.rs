//! Fault injection by `strace -e inject`: a call is not made, and returns the error.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::NamedTempFile;

use crate::support::{PATIENCE, Server};

const STRACE: &str = "/usr/bin/strace";

/// Faults in a running server, from [`Fault::inject`] to [`Fault::end`].
pub struct Fault {
    strace: Child,
    trace: NamedTempFile,
    began: Instant,
}

/// The traced calls.
pub struct Trace {
    text: String,
    /// The duration of the trace.
    pub lasted: Duration,
}

impl Fault {
    /// Makes system calls of all threads fail from now on. `calls` are traced and counted. `faults` are in the
    /// syntax of `strace --inject`, such as `accept4:error=EMFILE`.
    pub fn inject(server: &Server, calls: &str, faults: &[&str]) -> Fault {
        let trace = NamedTempFile::new().unwrap();
        let mut strace = Command::new(STRACE)
            .args(["-f", "-p", &server.pid().to_string()])
            .args(arguments(trace.path().to_str().unwrap(), calls, faults))
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{STRACE} (Debian package strace): {error}"));
        let mut lines = BufReader::new(strace.stderr.take().unwrap()).lines();
        let attached = lines.next().unwrap().unwrap();
        assert!(attached.contains("attached"), "{attached}");
        // strace writes more when threads start and end, so its output must be read.
        thread::spawn(move || lines.for_each(drop));
        Fault {
            strace,
            trace,
            began: Instant::now(),
        }
    }

    /// Waits until this many calls have failed.
    pub fn wait_for_failures(&self, count: usize) {
        let deadline = Instant::now() + PATIENCE;
        while self.trace_so_far().failures() < count {
            assert!(Instant::now() < deadline, "{}", self.trace_so_far().text);
            // The trace can only be polled; nothing else depends on it.
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Ends the faults.
    pub fn end(mut self) -> Trace {
        let pid = Pid::from_raw(i32::try_from(self.strace.id()).unwrap()).unwrap();
        kill_process(pid, Signal::INT).unwrap();
        self.strace.wait().unwrap();
        self.trace_so_far()
    }

    fn trace_so_far(&self) -> Trace {
        let text = std::fs::read(self.trace.path()).unwrap();
        Trace {
            text: String::from_utf8_lossy(&text).into_owned(),
            lasted: self.began.elapsed(),
        }
    }
}

impl Drop for Fault {
    fn drop(&mut self) {
        // It has ended already, unless the test is failing.
        let _ = self.strace.kill();
        let _ = self.strace.wait();
    }
}

impl Trace {
    /// The number of calls of this name.
    pub fn calls(&self, name: &str) -> usize {
        let begun = format!(" {name}(");
        self.text.lines().filter(|l| l.contains(&begun)).count()
    }

    /// The number of short writes.
    pub fn short_writes(&self) -> usize {
        let is_short = |line: &&str| match (given(line), line.rsplit_once(" = ")) {
            (Some(given), Some((_, taken))) => {
                taken.parse().is_ok_and(|taken: usize| taken < given)
            }
            _ => false,
        };
        self.text.lines().filter(is_short).count()
    }

    /// The number of injected failures.
    pub fn failures(&self) -> usize {
        self.text.matches("(INJECTED)").count()
    }

    /// The number of injected failures of one call.
    pub fn failures_of(&self, name: &str) -> usize {
        let (begun, resumed) = (format!(" {name}("), format!("<... {name} resumed>"));
        let of_name = |l: &&str| l.contains(&begun) || l.contains(&resumed);
        let lines = self.text.lines().filter(|l| l.contains("(INJECTED)"));
        lines.filter(of_name).count()
    }
}

/// Arguments that run a server with faults from its start, with the same process id. The trace goes to a file.
pub fn from_the_start(trace: &str, calls: &str, faults: &[&str]) -> Vec<String> {
    let mut wrapper = vec![STRACE.to_owned(), "-D".into(), "-f".into(), "-qq".into()];
    wrapper.extend(arguments(trace, calls, faults));
    wrapper
}

/// The number of bytes passed to a traced sendto(2) or writev(2).
fn given(line: &str) -> Option<usize> {
    if line.contains(" sendto(") {
        let (before, _) = line.rsplit_once(", MSG_NOSIGNAL")?;
        return before.rsplit_once(", ")?.1.parse().ok();
    }
    let lengths = line.split("iov_len=").skip(1);
    let digits = lengths.map(|rest| rest.split(|c: char| !c.is_ascii_digit()).next());
    let sum = digits
        .map(|digits| digits?.parse::<usize>().ok())
        .sum::<Option<usize>>()?;
    (sum > 0).then_some(sum)
}

fn arguments(trace: &str, calls: &str, faults: &[&str]) -> Vec<String> {
    let mut arguments = vec!["-o".into(), trace.into(), "-e".into()];
    arguments.push(format!("trace={calls}"));
    for fault in faults {
        arguments.extend(["-e".into(), format!("inject={fault}")]);
    }
    arguments
}
