//! The processes of this tool that read streams: started by a run, and what they do.
//!
//! Used by `cluster` for both ends. A process may open 20,000 descriptors on many systems, and a cluster has
//! more streams. The ends exchange lines of JSON over stdin and stdout. A reading process ends with its stdin.

use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;
use std::process::{ChildStdin, Command};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::{self, JoinHandle};

use crate::engine::cluster::plan::{Outcome, Plan, Report, Request, Status};
use crate::engine::cluster::reader;
use crate::servers::cluster::member::Member;

/// The hidden command of a reading process.
const COMMAND: &str = "cluster-streams";

/// The reading process: follows stdin.
pub fn serve() -> Result<(), String> {
    let mut lines = BufReader::new(io::stdin()).lines();
    let plan = lines
        .next()
        .ok_or("there is no plan on stdin: `cluster` starts this command itself")?
        .map_err(|error| error.to_string())?;
    let plan: Plan = serde_json::from_str(&plan).map_err(|error| error.to_string())?;
    let (sender, requests) = mpsc::channel();
    thread::spawn(move || {
        let requests = lines.map_while(Result::ok);
        for request in requests.map_while(|line| serde_json::from_str(&line).ok()) {
            if sender.send(request).is_err() {
                return;
            }
        }
    });
    let mut report = |report: Report| {
        if let Ok(line) = serde_json::to_string(&report) {
            // Without a reader of its reports, its stdin ends, too.
            let _ = writeln!(io::stdout(), "{line}");
        }
    };
    reader::run(plan, &requests, &mut report).map_err(|error| error.to_string())
}

/// A reading process, as a run sees it.
struct Process {
    stdin: Option<ChildStdin>,
    reports: Option<JoinHandle<Option<Outcome>>>,
    status: Arc<Mutex<Status>>,
    member: Member,
}

/// All reading processes of a run.
pub struct Readers(Vec<Process>);

impl Readers {
    /// Starts as many processes as the streams of the plan need.
    pub fn start(plan: &Plan, streams_per_process: usize, log: &Path) -> Result<Readers, String> {
        let mut processes = Vec::new();
        for first in (0..plan.streams).step_by(streams_per_process) {
            let plan = Plan {
                first,
                streams: streams_per_process.min(plan.streams - first),
                seed: plan.seed.wrapping_add(first as u64),
                ..plan.clone()
            };
            processes.push(Process::start(&plan, log)?);
        }
        Ok(Readers(processes))
    }

    /// The state of all, summed. An error if one has ended.
    pub fn status(&self) -> Result<Status, String> {
        let mut sum = Status::default();
        for process in &self.0 {
            let has_ended = process.reports.as_ref().is_none_or(JoinHandle::is_finished);
            if has_ended {
                return Err(process.member.complaint("a reading process has ended:"));
            }
            let status = process
                .status
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            sum.open += status.open;
            sum.opened += status.opened;
            sum.marked += status.marked;
            sum.deliveries += status.deliveries;
        }
        Ok(sum)
    }

    /// Sends a request to all.
    pub fn request(&mut self, request: &Request) -> Result<(), String> {
        for process in &mut self.0 {
            process.send(request)?;
        }
        Ok(())
    }

    /// Ends all, and takes their results.
    pub fn finish(mut self, acknowledged: &Path) -> Result<Vec<Outcome>, String> {
        self.request(&Request::Finish(acknowledged.to_owned()))?;
        let outcome = |process: &mut Process| {
            let reports = process.reports.take();
            let outcome = reports.and_then(|reports| reports.join().ok().flatten());
            outcome.ok_or_else(|| process.member.complaint("a reading process has no result:"))
        };
        self.0.iter_mut().map(outcome).collect()
    }
}

impl Process {
    fn start(plan: &Plan, log: &Path) -> Result<Process, String> {
        let program = std::env::current_exe().map_err(|error| error.to_string())?;
        let mut command = Command::new(program);
        command.arg(COMMAND);
        let mut member = Member::start(command, log, true)?;
        let status = Arc::new(Mutex::new(Status::default()));
        let stdout = member.child.stdout.take().ok_or("no stdout")?;
        let shared = Arc::clone(&status);
        let reports = thread::spawn(move || {
            let lines = BufReader::new(stdout).lines().map_while(Result::ok);
            for report in lines.map_while(|line| serde_json::from_str(&line).ok()) {
                match report {
                    Report::Status(status) => {
                        *shared.lock().unwrap_or_else(PoisonError::into_inner) = status;
                    }
                    Report::Outcome(outcome) => return Some(*outcome),
                }
            }
            None
        });
        let stdin = member.child.stdin.take();
        let mut process = Process {
            stdin,
            reports: Some(reports),
            status,
            member,
        };
        process.send(plan)?;
        Ok(process)
    }

    fn send(&mut self, line: &impl serde::Serialize) -> Result<(), String> {
        let line = serde_json::to_string(line).map_err(|error| error.to_string())?;
        let stdin = self.stdin.as_mut().ok_or("no stdin")?;
        writeln!(stdin, "{line}").map_err(|error| {
            let what = format!("a reading process takes no request: {error}");
            self.member.complaint(&what)
        })
    }
}
