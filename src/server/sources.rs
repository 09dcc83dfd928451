//! Sources: reads their file, and runs the threads that judge their requests.
//!
//! Called by `server` at the start, and by `control` on SIGHUP. A thread takes requests of all shards, gives
//! each to its source, counts and logs the result, and sends the verdict to the shard. So no shard verifies or
//! renders a provider's body. A large body costs much work before it is refused, so large ones have a thread of
//! their own. In each thread the sources take turns. Never touches a connection or the ring.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError};

use super::in_use;
use crate::clock::Clock;
use crate::config::{Config, Listen};
use crate::control::ReloadSources;
use crate::limits::{REFUSAL_LOG_INTERVAL_MS, SESSION_BYTES_MAX};
use crate::metrics::SourceStats;
use crate::net::handle::ShardHandle;
use crate::net::judge::{JudgeQueue, JudgeTask};
use crate::shard::judging::{Judged, Judgement, Lane, Rounds, SourceRequest, SourceTable};
use crate::sources::{
    Fields, Incoming, Loaded, Source, Sources, SourcesError, Unpublished, Verdict,
};

/// Reads the file of sources, if the configuration names one. `listen`: the addresses that are served.
pub(super) fn load(config: &Config, listen: &[Listen]) -> Result<Option<Loaded>, SourcesError> {
    let path = config.sources.as_deref();
    let read = |path| read(path, config.body_bytes_max, Exposure::of(config, listen));
    path.map(read).transpose()
}

fn read(path: &Path, body_bytes_max: usize, exposure: Exposure) -> Result<Loaded, SourcesError> {
    let mut loaded = Sources::load(path, content_bytes_max(body_bytes_max))?;
    let open = loaded.sources.iter().filter(|source| source.is_open());
    let open: Vec<&str> = open.map(Source::name).collect();
    let note = exposure.note(&open);
    loaded.notes.extend(note);
    Ok(loaded)
}

/// What makes a source without verification a risk.
#[derive(Debug, Clone, Copy)]
pub(super) struct Exposure {
    /// An address that other machines can reach.
    public: Option<SocketAddr>,
    /// Other webhooks need a secret.
    has_secret: bool,
}

impl Exposure {
    pub(super) fn of(config: &Config, listen: &[Listen]) -> Exposure {
        let addresses = listen.iter().filter_map(Listen::socket_address);
        Exposure::new(addresses, config.secret.is_some())
    }

    fn new(mut addresses: impl Iterator<Item = SocketAddr>, has_secret: bool) -> Exposure {
        let is_public = |address: &SocketAddr| !address.ip().to_canonical().is_loopback();
        Exposure {
            public: addresses.find(is_public),
            has_secret,
        }
    }

    /// The warning about sources that verify nothing.
    fn note(self, open: &[&str]) -> Option<String> {
        let risk = match (self.public, self.has_secret) {
            (None, false) => return None,
            (Some(address), false) => {
                format!("every client that reaches {address} can publish there")
            }
            (None, true) => "they publish without the secret that other webhooks need".to_owned(),
            (Some(address), true) => format!(
                "every client that reaches {address} can publish there, without the secret that other \
                 webhooks need"
            ),
        };
        let names = open.join(", ");
        (!open.is_empty())
            .then(|| format!("sources that verify nothing (verify = false): {names}; {risk}"))
    }
}

/// The longest text of a message from a source: with the longest session it takes no more than the largest
/// body of a webhook.
pub(super) fn content_bytes_max(body_bytes_max: usize) -> usize {
    body_bytes_max.saturating_sub(SESSION_BYTES_MAX)
}

/// The sources of a running server.
pub(super) struct Judges {
    /// For the reactors.
    pub queue: JudgeQueue,
    /// For the shards, at the start.
    pub table: Arc<SourceTable>,
    /// For the admin address.
    pub stats: Arc<SourceStats>,
}

/// Starts the threads.
pub(super) fn start(sources: Sources, shards: usize, clock: Clock) -> io::Result<Judges> {
    let sources = Arc::new(sources);
    let stats = Arc::new(SourceStats::default());
    stats.set_names(sources.iter().map(Source::name));
    let (queue, tasks) = JudgeQueue::new(shards, Arc::clone(&stats));
    let table = Arc::new(SourceTable::new(Arc::clone(&sources)));
    let refusals = Arc::new(Mutex::new(RefusalLog::default()));
    for (lane, tasks) in Lane::ALL.into_iter().zip(tasks) {
        let judge = Judge {
            sources: Arc::clone(&sources),
            rounds: Rounds::default(),
            stats: Arc::clone(&stats),
            clock,
            refusals: Arc::clone(&refusals),
        };
        let name = match lane {
            Lane::Small => "sources",
            Lane::Large => "sources-large",
        };
        let builder = thread::Builder::new().name(name.into());
        builder.spawn(move || judge.run(&tasks))?;
    }
    Ok(Judges {
        queue,
        table,
        stats,
    })
}

/// What SIGHUP does: reads the file again, and returns once all shards and the thread use it.
pub(super) fn reloader(
    path: &Path,
    body_bytes_max: usize,
    exposure: Exposure,
    queue: JudgeQueue,
    shards: Vec<ShardHandle>,
) -> ReloadSources {
    let path = path.to_owned();
    Box::new(move || {
        let loaded = read(&path, body_bytes_max, exposure);
        let Loaded { sources, notes } = loaded.map_err(|error| error.to_string())?;
        for note in notes {
            tracing::warn!("{note}");
        }
        let sources = Arc::new(sources);
        let count = sources.iter().count();
        // The threads are first, so that they know every source that a shard serves.
        let replaced = queue.replace(&sources);
        replaced.map_err(|error| error.to_string())?;
        serve(&shards, &Arc::new(SourceTable::new(sources)));
        Ok(count)
    })
}

/// Makes the shards serve these sources, and waits until they do.
fn serve(shards: &[ShardHandle], table: &Arc<SourceTable>) {
    in_use::by_all(shards, |shard, in_use| {
        shard.use_sources(Arc::clone(table), in_use);
    });
}

/// A thread.
struct Judge {
    sources: Arc<Sources>,
    rounds: Rounds<Task>,
    stats: Arc<SourceStats>,
    clock: Clock,
    /// Of all threads.
    refusals: Arc<Mutex<RefusalLog>>,
}

/// A request, with the sources that were in use when it was taken from the queue.
struct Task {
    request: SourceRequest,
    sources: Arc<Sources>,
    shard: ShardHandle,
}

impl Judge {
    fn run(mut self, tasks: &Receiver<JudgeTask>) {
        loop {
            while let Ok(task) = tasks.try_recv() {
                self.take(task);
            }
            match self.rounds.pop() {
                Some(task) => self.finish(task),
                None => match self.next_task(tasks) {
                    Ok(task) => self.take(task),
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => return,
                },
            }
            self.refusals().flush(self.clock.now().mono_ms);
        }
    }

    fn take(&mut self, task: JudgeTask) {
        match task {
            JudgeTask::Judge(request, shard) => {
                let name = request.name.clone();
                let sources = Arc::clone(&self.sources);
                let task = Task {
                    request,
                    sources,
                    shard,
                };
                self.rounds.push(&name, task);
            }
            JudgeTask::Replace(sources) => self.sources = sources,
        }
    }

    fn finish(&mut self, task: Task) {
        let judged = self.judge(&task.request, &task.sources);
        let shard = task.shard;
        drop((task.request, task.sources));
        self.stats.note_judged();
        shard.judged(judged);
    }

    fn refusals(&self) -> MutexGuard<'_, RefusalLog> {
        self.refusals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a task, or until a log line is due.
    fn next_task(&self, tasks: &Receiver<JudgeTask>) -> Result<JudgeTask, RecvTimeoutError> {
        let due_ms = self.refusals().due_ms();
        match due_ms {
            None => tasks.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(due_ms) => {
                let wait_ms = due_ms.saturating_sub(self.clock.now().mono_ms);
                tasks.recv_timeout(Duration::from_millis(wait_ms))
            }
        }
    }

    fn judge(&self, request: &SourceRequest, sources: &Sources) -> Judged {
        let now = self.clock.now();
        let (Some(source), Some(fields)) = (
            sources.get(&request.name),
            Fields::parse(request.request.head()),
        ) else {
            return Judged {
                ticket: request.ticket,
                judgement: Judgement::Gone,
                counts: None,
            };
        };
        let incoming = Incoming {
            query: request.request.query(),
            fields: &fields,
            body: request.request.body(),
        };
        let verdict = source.receive(&incoming, now.unix_ms);
        self.stats.observe(self.clock.now().since(now));
        let counts = self.stats.of(&request.name);
        if let Some((result, fault)) = result_of(&verdict) {
            if let Some(counts) = &counts {
                counts.count_other(result);
            }
            match fault {
                Some(fault) => self
                    .refusals()
                    .note(&request.name, result, fault, now.mono_ms),
                None => tracing::debug!(source = %request.name, result, "nothing is published"),
            }
        }
        Judged {
            ticket: request.ticket,
            judgement: Judgement::Verdict(verdict),
            counts,
        }
    }
}

/// The result of a request that publishes nothing, for the metric, and what is wrong, for the log.
fn result_of(verdict: &Verdict) -> Option<(&'static str, Option<String>)> {
    match verdict {
        Verdict::Publish { .. } => None,
        Verdict::Reply { why, .. } => Some(match why {
            Unpublished::Handshake => ("handshake", None),
            Unpublished::Unwanted => ("unwanted", None),
            Unpublished::Unroutable => {
                let fault = "the template of its session gives no session, so it is not published";
                ("unroutable", Some(fault.to_owned()))
            }
        }),
        Verdict::Refuse(refusal) => Some((refusal.name(), Some(refusal.to_string()))),
    }
}

/// Log lines about refused requests: the first of a source and a reason at once, then at most one line in
/// [`REFUSAL_LOG_INTERVAL_MS`], with the number of requests since the last.
#[derive(Default)]
struct RefusalLog {
    /// By source and reason. Both are bounded.
    lines: BTreeMap<(Box<str>, &'static str), Refusals>,
}

struct Refusals {
    logged_ms: u64,
    /// Requests since the last line.
    requests: u64,
    fault: String,
}

impl RefusalLog {
    fn note(&mut self, source: &str, reason: &'static str, fault: String, now_ms: u64) {
        let key = (Box::from(source), reason);
        match self.lines.get_mut(&key) {
            Some(refusals) => {
                refusals.requests += 1;
                refusals.fault = fault;
            }
            None => {
                log_refusals(source, reason, 1, &fault);
                let refusals = Refusals {
                    logged_ms: now_ms,
                    requests: 0,
                    fault,
                };
                self.lines.insert(key, refusals);
            }
        }
    }

    /// Logs what is due, and forgets what has ended: its next refusal is a first one again.
    fn flush(&mut self, now_ms: u64) {
        self.lines.retain(|(source, reason), refusals| {
            if now_ms < refusals.logged_ms + REFUSAL_LOG_INTERVAL_MS {
                return true;
            }
            if refusals.requests == 0 {
                return false;
            }
            log_refusals(source, reason, refusals.requests, &refusals.fault);
            refusals.logged_ms = now_ms;
            refusals.requests = 0;
            true
        });
    }

    /// When the next line may be due.
    fn due_ms(&self) -> Option<u64> {
        let waiting = self.lines.values();
        let due = waiting.map(|refusals| refusals.logged_ms + REFUSAL_LOG_INTERVAL_MS);
        due.min()
    }
}

fn log_refusals(source: &str, reason: &str, requests: u64, fault: &str) {
    tracing::warn!(source, reason, requests, "not published: {fault}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::reactor::Reactor;
    use crate::sources::Reply;
    use crate::testkit::source_request;

    /// A flood of one source delays another one by a single request.
    #[test]
    fn sources_take_turns_in_a_thread() {
        let (_reactor, _outlet, shard) = Reactor::new().unwrap();
        let sources = Sources::parse("", Path::new("sources.toml"), 1000).unwrap();
        let mut judge = Judge {
            sources: Arc::new(sources.sources),
            rounds: Rounds::default(),
            stats: Arc::default(),
            clock: Clock::start(),
            refusals: Arc::default(),
        };
        for name in ["flood", "flood", "flood", "other"] {
            judge.take(JudgeTask::Judge(source_request(name, 2), shard.clone()));
        }
        let tasks = std::iter::from_fn(|| judge.rounds.pop());
        let order: Vec<_> = tasks.map(|task| task.request.name).collect();
        assert_eq!(order, ["flood", "other", "flood", "flood"].map(Box::from));
    }

    #[test]
    fn a_refusal_is_logged_at_once_and_then_at_most_once_a_minute() {
        let mut log = RefusalLog::default();
        let note = |log: &mut RefusalLog, ms| {
            log.note("github", "signature_mismatch", "the signature".into(), ms);
            log.flush(ms);
        };
        let requests = |log: &RefusalLog| log.lines.values().map(|line| line.requests).sum::<u64>();
        note(&mut log, 0);
        assert_eq!((requests(&log), log.due_ms()), (0, Some(60_000)));
        for ms in 1..100 {
            note(&mut log, ms);
        }
        assert_eq!(requests(&log), 99, "they wait for the next line");
        log.flush(59_999);
        assert_eq!(requests(&log), 99);
        log.flush(60_000);
        assert_eq!((requests(&log), log.due_ms()), (0, Some(120_000)));
        log.flush(120_000);
        assert_eq!(log.due_ms(), None, "what has ended is forgotten");
    }

    #[test]
    fn open_sources_are_a_risk_beside_a_secret_or_on_a_public_address() {
        let note = |listen: &[&str], has_secret| {
            let addresses = listen.iter().map(|address| address.parse().unwrap());
            let exposure = Exposure::new(addresses, has_secret);
            (exposure.note(&["a", "b"]), exposure.note(&[]))
        };
        let local = ["127.0.0.1:1", "[::1]:1", "[::ffff:127.0.0.1]:1"];
        assert_eq!(note(&local, false), (None, None));
        for (listen, has_secret, words) in [
            (
                &["127.0.0.1:1", "0.0.0.0:3"][..],
                false,
                "reaches 0.0.0.0:3 can publish there",
            ),
            (
                &["[::]:3"],
                true,
                "reaches [::]:3 can publish there, without the secret",
            ),
            (&local, true, "they publish without the secret"),
        ] {
            let (warning, of_nothing) = note(listen, has_secret);
            let warning = warning.unwrap();
            assert!(
                warning.contains("(verify = false): a, b; ") && warning.contains(words),
                "{warning}"
            );
            assert_eq!(of_nothing, None);
        }
    }

    #[test]
    fn each_reason_of_a_source_has_its_own_lines() {
        let mut log = RefusalLog::default();
        for reason in ["signature_missing", "signature_mismatch"] {
            log.note("a", reason, "x".into(), 0);
        }
        log.note("b", "signature_missing", "x".into(), 5);
        assert_eq!((log.lines.len(), log.due_ms()), (3, Some(60_000)));
    }

    #[test]
    fn only_messages_have_no_result_of_their_own() {
        let reply = || Verdict::Reply {
            reply: Reply::empty(200),
            why: Unpublished::Unroutable,
        };
        let (result, fault) = result_of(&reply()).unwrap();
        assert!(result == "unroutable" && fault.is_some());
    }
}
