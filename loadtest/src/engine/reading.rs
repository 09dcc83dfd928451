//! Streams that several processes read: what this tool and its reading processes send each other, as lines of
//! JSON over stdin and stdout.
//!
//! A process may open 20,000 descriptors on many systems. `run` takes the place of `streams::run` in a
//! measurement: it keeps `control` as one reading thread would, and merges the results. `serve` is the other
//! end. Headers with secrets go through the pipe, not through arguments. Starts no process itself.

use std::io::{self, BufRead, BufReader, Write};
use std::process::{ChildStdin, ChildStdout};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::engine::control::{Control, TOTAL_UNKNOWN};
use crate::engine::number_set::NumberSet;
use crate::engine::outcome::ProcessOutcome;
use crate::engine::proc_stats;
use crate::engine::streams::{self, StreamsPlan};
use crate::engine::streams_outcome::StreamsOutcome;

/// Interval of a reading process's reports, and of looks at what changes here.
const TURN: Duration = Duration::from_millis(10);

/// What a reading process is to do next.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Request {
    /// Record latencies of messages due between these times.
    Window(u64, u64),
    /// The publisher sends nothing more.
    Cut,
    /// The reason is a signal.
    Interrupted,
    /// Fill in what a terminal shows.
    Live,
    /// All messages are published: their number, and those without an acknowledgement.
    Total(u32, NumberSet),
    /// End now.
    Stop,
}

/// The state of a reading process.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Status {
    opened: usize,
    failed: usize,
    deliveries: u64,
    heartbeats: u64,
    complete: usize,
    first_end_ns: u64,
    lost_ns: u64,
    run_ns: u64,
    wait_ns: u64,
    p50_us: u64,
    p99_us: u64,
    faults: u64,
}

/// A line of a reading process.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Report {
    Status(Status),
    Outcome(Box<StreamsOutcome>),
    Failed(String),
}

impl Status {
    fn of(control: &Control) -> Status {
        let cpu = proc_stats::thread(control.streams_tid.load(Relaxed));
        Status {
            opened: control.opened.load(Relaxed),
            failed: control.failed.load(Relaxed),
            deliveries: control.deliveries.load(Relaxed),
            heartbeats: control.heartbeats.load(Relaxed),
            complete: control.complete.load(Relaxed),
            first_end_ns: control.first_end_ns.load(Relaxed),
            lost_ns: control.lost_ns.load(Relaxed),
            run_ns: cpu.run_ns,
            wait_ns: cpu.wait_ns,
            p50_us: control.live.p50_us.load(Relaxed),
            p99_us: control.live.p99_us.load(Relaxed),
            faults: control.live.faults.load(Relaxed),
        }
    }
}

/// A reading process: follows stdin, and ends with it.
pub fn serve() -> Result<(), String> {
    let mut lines = BufReader::new(io::stdin()).lines();
    let plan = lines
        .next()
        .ok_or("there is no plan on stdin: runs start this command themselves")?;
    let plan: StreamsPlan = plan
        .map_err(|error| error.to_string())
        .and_then(|plan| serde_json::from_str(&plan).map_err(|error| error.to_string()))?;
    let control = Arc::new(Control::default());
    let shared = Arc::clone(&control);
    let reader = thread::spawn(move || streams::run(plan, &shared));
    let shared = Arc::clone(&control);
    thread::spawn(move || {
        let requests = lines.map_while(Result::ok);
        for request in requests.map_while(|line| serde_json::from_str(&line).ok()) {
            follow(request, &shared);
        }
        shared.stop.store(true, Relaxed);
    });
    while !reader.is_finished() {
        thread::sleep(TURN);
        report(&Report::Status(Status::of(&control)));
    }
    let outcome = reader.join().map_err(|_| "the reading thread panicked")?;
    report(&match outcome {
        Ok(outcome) => Report::Outcome(Box::new(outcome)),
        Err(error) => Report::Failed(error.to_string()),
    });
    Ok(())
}

fn report(report: &Report) {
    if let Ok(line) = serde_json::to_string(report) {
        // Without a reader of its reports, its stdin ends, too.
        let _ = writeln!(io::stdout(), "{line}");
    }
}

fn follow(request: Request, control: &Control) {
    match request {
        Request::Window(start_ns, end_ns) => {
            control.window_start_ns.store(start_ns, Relaxed);
            control.window_end_ns.store(end_ns, Relaxed);
        }
        Request::Cut => control.cut.store(true, Relaxed),
        Request::Interrupted => control.interrupted.store(true, Relaxed),
        Request::Live => control.live.is_on.store(true, Relaxed),
        Request::Total(total, unacknowledged) => {
            *control
                .unacknowledged
                .lock()
                .unwrap_or_else(PoisonError::into_inner) = vec![unacknowledged];
            control.total.store(total, Relaxed);
        }
        Request::Stop => control.stop.store(true, Relaxed),
    }
}

/// A reading process, as a run sees it.
pub struct ReaderProcess {
    /// Its requests.
    pub stdin: ChildStdin,
    /// Its reports.
    pub stdout: ChildStdout,
    /// Ends the process when it is dropped.
    pub keeper: Box<dyn Send>,
}

/// Starts a reading process.
pub type Spawn<'a> = dyn Fn() -> Result<ReaderProcess, String> + 'a;

struct Reader {
    stdin: ChildStdin,
    status: Arc<Mutex<Option<Status>>>,
    reports: JoinHandle<Result<StreamsOutcome, String>>,
    target: usize,
    server: String,
    streams: usize,
    _keeper: Box<dyn Send>,
}

/// Reads streams by processes, one for each plan, until all have ended.
pub fn run(
    plans: Vec<StreamsPlan>,
    processes: Vec<ReaderProcess>,
    control: &Control,
) -> io::Result<StreamsOutcome> {
    control.readers.store(plans.len(), Relaxed);
    let mut readers = Vec::new();
    for (plan, process) in plans.into_iter().zip(processes) {
        readers.push(Reader::start(&plan, process)?);
    }
    let mut sent = Sent::default();
    while !readers.iter().all(|reader| reader.reports.is_finished()) {
        thread::sleep(TURN);
        sent.follow(control, &mut readers);
        take_status(control, &readers);
    }
    take_status(control, &readers);
    let mut merged: Option<StreamsOutcome> = None;
    for reader in readers {
        let outcome = reader
            .reports
            .join()
            .map_err(|_| io::Error::other("a thread panicked"))?;
        let mut outcome = outcome.map_err(io::Error::other)?;
        outcome.processes = vec![ProcessOutcome::of(&outcome, reader.server, reader.streams)];
        match &mut merged {
            Some(merged) => merged.add(outcome),
            None => merged = Some(outcome),
        }
    }
    merged.ok_or_else(|| io::Error::other("no reading process"))
}

impl Reader {
    fn start(plan: &StreamsPlan, process: ReaderProcess) -> io::Result<Reader> {
        let status = Arc::new(Mutex::new(None));
        let shared = Arc::clone(&status);
        let stdout = process.stdout;
        let reports = thread::spawn(move || {
            let lines = BufReader::new(stdout).lines().map_while(Result::ok);
            for report in lines.map_while(|line| serde_json::from_str(&line).ok()) {
                match report {
                    Report::Status(status) => {
                        *shared.lock().unwrap_or_else(PoisonError::into_inner) = Some(status);
                    }
                    Report::Outcome(outcome) => return Ok(*outcome),
                    Report::Failed(error) => return Err(error),
                }
            }
            Err("a reading process has ended without a result".into())
        });
        let mut reader = Reader {
            stdin: process.stdin,
            status,
            reports,
            target: plan.target_at,
            server: plan.target.streams.host.clone(),
            streams: plan.count,
            _keeper: process.keeper,
        };
        let plan = serde_json::to_string(plan).map_err(io::Error::other)?;
        writeln!(reader.stdin, "{plan}")?;
        Ok(reader)
    }

    /// A process that takes no request has ended, which its reports show.
    fn send(&mut self, request: &Request) {
        if let Ok(line) = serde_json::to_string(request) {
            let _ = writeln!(self.stdin, "{line}");
        }
    }
}

/// Adds up what the processes report, as one reading thread would.
fn take_status(control: &Control, readers: &[Reader]) {
    let (mut opened, mut failed, mut complete) = (0, 0, 0);
    let (mut deliveries, mut heartbeats, mut run_ns, mut wait_ns) = (0, 0, 0, 0);
    let (mut p50_us, mut p99_us, mut faults) = (0, 0, 0);
    for reader in readers {
        let status = reader.status.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(status) = &*status else { continue };
        opened += status.opened;
        failed += status.failed;
        complete += status.complete;
        deliveries += status.deliveries;
        heartbeats += status.heartbeats;
        run_ns += status.run_ns;
        wait_ns += status.wait_ns;
        p50_us = p50_us.max(status.p50_us);
        p99_us = p99_us.max(status.p99_us);
        faults += status.faults;
        control.first_end_ns.fetch_min(status.first_end_ns, Relaxed);
        if status.lost_ns != u64::MAX {
            control.note_loss(status.lost_ns, reader.target);
        }
    }
    control.opened.store(opened, Relaxed);
    control.failed.store(failed, Relaxed);
    control.complete.store(complete, Relaxed);
    control.deliveries.store(deliveries, Relaxed);
    control.heartbeats.store(heartbeats, Relaxed);
    control.readers_run_ns.store(run_ns, Relaxed);
    control.readers_wait_ns.store(wait_ns, Relaxed);
    control.live.p50_us.store(p50_us, Relaxed);
    control.live.p99_us.store(p99_us, Relaxed);
    control.live.faults.store(faults, Relaxed);
}

/// What the processes know.
struct Sent {
    window_ns: (u64, u64),
    /// Live, cut, interrupted.
    flags: [bool; 3],
    total: u32,
    stop: bool,
}

impl Default for Sent {
    fn default() -> Sent {
        Sent {
            window_ns: (u64::MAX, u64::MAX),
            flags: [false; 3],
            total: TOTAL_UNKNOWN,
            stop: false,
        }
    }
}

impl Sent {
    /// Passes on what has changed. A process that has ended early stops the others.
    fn follow(&mut self, control: &Control, readers: &mut [Reader]) {
        let mut all =
            |request: &Request| readers.iter_mut().for_each(|reader| reader.send(request));
        let window_ns = control.window_ns();
        if self.window_ns != (window_ns.start, window_ns.end) {
            self.window_ns = (window_ns.start, window_ns.end);
            all(&Request::Window(window_ns.start, window_ns.end));
        }
        let flags = [
            (&control.live.is_on, Request::Live),
            (&control.cut, Request::Cut),
            (&control.interrupted, Request::Interrupted),
        ];
        for ((now, request), sent) in flags.into_iter().zip(&mut self.flags) {
            if now.load(Relaxed) && !*sent {
                *sent = true;
                all(&request);
            }
        }
        let total = control.total.load(Relaxed);
        if total != self.total {
            self.total = total;
            let unacknowledged = control.unacknowledged.lock();
            let unacknowledged = unacknowledged.unwrap_or_else(PoisonError::into_inner);
            for reader in readers.iter_mut() {
                let own = unacknowledged
                    .get(reader.target)
                    .cloned()
                    .unwrap_or_default();
                reader.send(&Request::Total(total, own));
            }
        }
        let has_failed = |reader: &Reader| {
            let has_no_more = reader.reports.is_finished();
            has_no_more && total == TOTAL_UNKNOWN
        };
        let stop = control.stopped() || readers.iter().any(has_failed);
        if stop && !self.stop {
            self.stop = true;
            for reader in readers {
                reader.send(&Request::Stop);
            }
        }
    }
}
