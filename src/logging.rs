//! The log: one line per event on standard error, as text or as flat JSON, times in UTC.
//!
//! Set up by `main` before anything else starts; every module logs through `tracing`. Never blocks a
//! thread that logs: standard error may be a pipe whose reader is slow or stopped, and a reactor must not
//! wait for it. So lines go through a queue to a thread of their own. The queue is bounded in bytes. If it
//! is full, lines are dropped and counted, and a warning with the count follows once lines are written
//! again.
//!
//! Values may come from peers, files and the network, but an event is always one line. Control characters
//! are escaped, and so are those that break lines or change the direction of text. Lines have no colours,
//! so a terminal has nothing to interpret. If standard error goes to the journal, each line begins with
//! its priority and has no time, because the journal records the time (`journal`).

mod journal;

use std::io::{self, ErrorKind, Write};
use std::panic::PanicHookInfo;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use tracing::{Dispatch, Level, Metadata, error, warn};
use tracing_subscriber::fmt::MakeWriter;

use crate::config::{LogFormat, LogLevel};
use crate::foreign_text::{escape, is_plain};
use crate::limits::{LOG_FLUSH_MS, LOG_QUEUE_BYTES_MAX};

/// The running log. Dropping it waits until queued lines are written, for at most [`LOG_FLUSH_MS`].
#[derive(Debug)]
pub struct Log {
    queue: LineQueue,
}

impl Log {
    /// Starts logging to standard error, panics included.
    ///
    /// Fails if this process already has a log, or if no thread can be started.
    pub fn start(format: LogFormat, level: LogLevel) -> io::Result<Log> {
        Log::start_with(io::stderr(), format, level, is_to_journal())
    }

    /// Starts logging to `output`, which may block.
    pub fn start_on(
        output: impl Write + Send + 'static,
        format: LogFormat,
        level: LogLevel,
    ) -> io::Result<Log> {
        Log::start_with(output, format, level, false)
    }

    fn start_with(
        output: impl Write + Send + 'static,
        format: LogFormat,
        level: LogLevel,
        to_journal: bool,
    ) -> io::Result<Log> {
        let queue = LineQueue::start(output)?;
        let lines = Lines {
            queue: queue.clone(),
            to_journal,
        };
        let dispatch = dispatch(lines, format, level);
        tracing::dispatcher::set_global_default(dispatch).map_err(io::Error::other)?;
        std::panic::set_hook(Box::new(log_panic));
        Ok(Log { queue })
    }

    /// The counter of dropped lines.
    pub fn lines_dropped(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.queue.lines_dropped)
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.queue.flush(Duration::from_millis(LOG_FLUSH_MS));
    }
}

/// Writes a line to standard error without the log: a command's warning, or the reason for which the
/// process ends. For the journal, the line begins with its priority.
pub fn print(level: Level, text: &str) {
    let prefix = if is_to_journal() {
        journal::prefix(level)
    } else {
        ""
    };
    // If standard error is closed, the exit status still reports the error.
    let _ = writeln!(io::stderr(), "{prefix}hookcast: {}", escape(text));
}

fn is_to_journal() -> bool {
    let variable = std::env::var_os("JOURNAL_STREAM");
    journal::is_behind(io::stderr(), variable.as_deref())
}

/// The subscriber that formats events into lines. No event has a field called `timestamp`, `level` or
/// `message`, because a JSON line would contain it twice.
fn dispatch(lines: Lines, format: LogFormat, level: LogLevel) -> Dispatch {
    let level = match level {
        LogLevel::Error => Level::ERROR,
        LogLevel::Warn => Level::WARN,
        LogLevel::Info => Level::INFO,
        LogLevel::Debug => Level::DEBUG,
        LogLevel::Trace => Level::TRACE,
    };
    let to_journal = lines.to_journal;
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_target(false)
        .with_ansi(false)
        .with_writer(lines);
    match format {
        LogFormat::Text if to_journal => subscriber.without_time().finish().into(),
        LogFormat::Text => subscriber.finish().into(),
        LogFormat::Json => {
            let flat = subscriber.json().flatten_event(true);
            let flat = flat.with_current_span(false).with_span_list(false);
            if to_journal {
                flat.without_time().finish().into()
            } else {
                flat.finish().into()
            }
        }
    }
}

/// Logs the location of a panic, without its text. The text of a slice or parse error quotes its input,
/// which may be a message.
fn log_panic(panic: &PanicHookInfo<'_>) {
    let place = panic
        .location()
        .map(ToString::to_string)
        .unwrap_or_default();
    let thread = thread::current();
    error!(
        place,
        thread = thread.name().unwrap_or_default(),
        "a thread panicked; please report this"
    );
}

/// The queue of lines to the thread that writes them.
#[derive(Debug, Clone)]
struct LineQueue {
    sender: Sender<Item>,
    /// Bytes of the lines that are queued or being written.
    bytes: Arc<AtomicUsize>,
    lines_dropped: Arc<AtomicU64>,
}

/// An item of the queue.
#[derive(Debug)]
enum Item {
    Line(Vec<u8>),
    /// A request to signal that all lines before it are written.
    Flush(Sender<()>),
}

impl LineQueue {
    /// Starts the thread that writes to `output`. It runs as long as the process, since the global
    /// subscriber keeps a sender.
    fn start(output: impl Write + Send + 'static) -> io::Result<LineQueue> {
        let (sender, items) = unbounded();
        let queue = LineQueue {
            sender,
            bytes: Arc::default(),
            lines_dropped: Arc::default(),
        };
        let (bytes, lines_dropped) = (Arc::clone(&queue.bytes), Arc::clone(&queue.lines_dropped));
        thread::Builder::new()
            .name("log".into())
            .spawn(move || write_lines(&items, &bytes, &lines_dropped, output))?;
        Ok(queue)
    }

    /// Queues a line, or drops it if the queue is full.
    fn push(&self, line: Vec<u8>) {
        let length = line.len();
        let queued = self.bytes.fetch_add(length, Ordering::Relaxed);
        // Sending fails only if the writer's thread has ended.
        if queued + length > LOG_QUEUE_BYTES_MAX || self.sender.send(Item::Line(line)).is_err() {
            self.bytes.fetch_sub(length, Ordering::Relaxed);
            self.lines_dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until all lines so far are written, for at most `patience`; returns whether they are.
    fn flush(&self, patience: Duration) -> bool {
        let (sender, done) = bounded(1);
        self.sender.send(Item::Flush(sender)).is_ok() && done.recv_timeout(patience).is_ok()
    }
}

/// Makes a [`Line`] for each event.
struct Lines {
    queue: LineQueue,
    to_journal: bool,
}

/// The writer of one event's line.
struct Line<'a> {
    queue: &'a LineQueue,
    prefix: &'static str,
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line {
            queue: &self.queue,
            prefix: "",
        }
    }

    fn make_writer_for(&'a self, event: &Metadata<'_>) -> Line<'a> {
        let mut line = self.make_writer();
        if self.to_journal {
            line.prefix = journal::prefix(*event.level());
        }
        line
    }
}

/// `tracing-subscriber` writes each event in one call.
impl Write for Line<'_> {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        self.queue.push(one_line(self.prefix, event));
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// An event as one line with a prefix. A character that is not [plain](is_plain) becomes `\uXXXX`, which
/// is text in a text line and the same character in a JSON string. The newline at the end is kept.
fn one_line(prefix: &str, event: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(event);
    // Without a time, the level is indented.
    let text = text.strip_suffix('\n').unwrap_or(&text).trim_start();
    let mut line = Vec::with_capacity(prefix.len() + text.len() + 1);
    line.extend_from_slice(prefix.as_bytes());
    for c in text.chars() {
        if is_plain(c) {
            line.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
        } else {
            for unit in c.encode_utf16(&mut [0; 2]) {
                // Writing to memory cannot fail.
                let _ = write!(line, "\\u{unit:04x}");
            }
        }
    }
    line.push(b'\n');
    line
}

/// The loop of the writer's thread.
fn write_lines(
    items: &Receiver<Item>,
    bytes: &AtomicUsize,
    lines_dropped: &AtomicU64,
    mut output: impl Write,
) {
    let mut reported = 0;
    for item in items {
        match item {
            Item::Line(line) => {
                if write_whole(&mut output, &line).is_err() {
                    lines_dropped.fetch_add(1, Ordering::Relaxed);
                    reported += 1;
                }
                bytes.fetch_sub(line.len(), Ordering::Relaxed);
            }
            // The wait for it may have timed out.
            Item::Flush(done) => drop(done.try_send(())),
        }
        let dropped = lines_dropped.load(Ordering::Relaxed);
        if dropped > reported {
            warn!(
                lines = dropped - reported,
                "log lines were dropped: standard error is read too slowly"
            );
            reported = dropped;
        }
    }
}

/// Writes all of `line`, also to a nonblocking descriptor: another program that shares the terminal can
/// make it one. An error drops the line, since there is no other place to write it.
fn write_whole(output: &mut impl Write, mut line: &[u8]) -> io::Result<()> {
    const RETRY: Duration = Duration::from_millis(10);
    while !line.is_empty() {
        match output.write(line) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(written) => line = &line[written..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(RETRY),
            Err(error) => return Err(error),
        }
    }
    output.flush()
}

#[cfg(test)]
mod tests {
    use std::sync::{Condvar, Mutex};

    use tracing::{debug, info};

    use super::*;

    /// An output that records what is written, and can block like a full pipe.
    #[derive(Clone, Default)]
    struct Pipe(Arc<(Mutex<PipeState>, Condvar)>);

    #[derive(Default)]
    struct PipeState {
        text: Vec<u8>,
        stopped: bool,
    }

    impl Pipe {
        fn stop(&self, stopped: bool) {
            self.0.0.lock().unwrap().stopped = stopped;
            self.0.1.notify_all();
        }

        fn text(&self) -> String {
            String::from_utf8(self.0.0.lock().unwrap().text.clone()).unwrap()
        }
    }

    impl Write for Pipe {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let state = self.0.0.lock().unwrap();
            let mut state = self.0.1.wait_while(state, |state| state.stopped).unwrap();
            // Short writes, to test that all of a line is written.
            let length = bytes.len().min(100);
            state.text.extend_from_slice(&bytes[..length]);
            Ok(length)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    const LONG: Duration = Duration::from_secs(60);

    /// The text that `events` logs in a format and at a level.
    fn logged(format: LogFormat, level: LogLevel, events: impl FnOnce()) -> String {
        logged_to(false, format, level, events)
    }

    fn logged_to(
        to_journal: bool,
        format: LogFormat,
        level: LogLevel,
        events: impl FnOnce(),
    ) -> String {
        let pipe = Pipe::default();
        let queue = LineQueue::start(pipe.clone()).unwrap();
        let lines = Lines {
            queue: queue.clone(),
            to_journal,
        };
        tracing::dispatcher::with_default(&dispatch(lines, format, level), events);
        assert!(queue.flush(LONG));
        pipe.text()
    }

    #[test]
    fn a_json_line_is_one_flat_object() {
        let text = logged(LogFormat::Json, LogLevel::Info, || {
            info!(address = %"127.0.0.1:3000", shards = 2, "listening");
        });
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(line["message"], "listening");
        assert_eq!(line["address"], "127.0.0.1:3000");
        assert_eq!(
            (&line["shards"], &line["level"]),
            (&2.into(), &"INFO".into())
        );
        let time = line["timestamp"].as_str().unwrap();
        assert!(
            humantime::parse_rfc3339(time).is_ok() && time.ends_with('Z'),
            "{time}"
        );
        assert_eq!(line.as_object().unwrap().len(), 5);
    }

    #[test]
    fn values_cannot_forge_lines_or_reach_the_terminal() {
        let evil = "a\r\n2026-01-01T00:00:00Z ERROR forged\u{1b}[2J\u{7f}\u{9b}2J\u{202e}\u{2028}\u{e0041}";
        for format in [LogFormat::Text, LogFormat::Json] {
            let text = logged(
                format,
                LogLevel::Info,
                || info!(%evil, debug = ?evil, evil, "{evil}"),
            );
            assert_eq!(text.lines().count(), 1, "{text:?}");
            assert!(
                text.trim_end_matches('\n').chars().all(is_plain),
                "{text:?}"
            );
            if format == LogFormat::Json {
                let line: serde_json::Value = serde_json::from_str(&text).unwrap();
                assert_eq!(line["message"], evil);
            }
        }
    }

    #[test]
    fn lines_for_the_journal_have_a_priority_and_no_time() {
        let events = || {
            error!("broken\n<0>forged");
            warn!("odd");
            info!("fine");
            debug!("detail");
        };
        for format in [LogFormat::Text, LogFormat::Json] {
            let text = logged_to(true, format, LogLevel::Trace, events);
            let priorities: Vec<&str> = text.lines().map(|line| &line[..3]).collect();
            assert_eq!(priorities, ["<3>", "<4>", "<6>", "<7>"]);
            for line in text.lines().map(|line| &line[3..]) {
                match format {
                    LogFormat::Text => assert!(line.starts_with(char::is_uppercase), "{line}"),
                    LogFormat::Json => assert!(line.starts_with(r#"{"level":"#), "{line}"),
                }
            }
            assert!(!logged(format, LogLevel::Trace, events).starts_with('<'));
        }
    }

    #[test]
    fn less_important_events_are_left_out() {
        let events = || {
            debug!("quiet");
            warn!("loud");
        };
        assert!(!logged(LogFormat::Text, LogLevel::Info, events).contains("quiet"));
        assert!(logged(LogFormat::Text, LogLevel::Debug, events).contains("quiet"));
        assert!(!logged(LogFormat::Text, LogLevel::Error, events).contains("loud"));
    }

    #[test]
    fn with_a_stopped_reader_lines_are_dropped_and_nothing_waits_or_grows() {
        let pipe = Pipe::default();
        pipe.stop(true);
        let queue = LineQueue::start(pipe.clone()).unwrap();
        let line = vec![b'x'; 1023];
        let lines = 2 * LOG_QUEUE_BYTES_MAX / 1024;
        for _ in 0..lines {
            // Nothing is written, so a push that waits would hang here.
            queue.push([line.as_slice(), b"\n"].concat());
        }
        let dropped = queue.lines_dropped.load(Ordering::Relaxed);
        assert_eq!(dropped as usize, lines - LOG_QUEUE_BYTES_MAX / 1024);
        assert!(queue.bytes.load(Ordering::Relaxed) <= LOG_QUEUE_BYTES_MAX);
        assert!(
            !queue.flush(Duration::from_millis(1)),
            "the output is stopped"
        );
        pipe.stop(false);
        assert!(queue.flush(LONG));
        assert_eq!(
            pipe.text().lines().count(),
            lines - dropped as usize,
            "whole lines"
        );
        assert_eq!(queue.bytes.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn lines_for_a_closed_output_are_counted_as_dropped() {
        struct Closed;
        impl Write for Closed {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let queue = LineQueue::start(Closed).unwrap();
        queue.push(b"lost\n".to_vec());
        queue.push(b"lost too\n".to_vec());
        assert!(queue.flush(LONG));
        assert_eq!(queue.lines_dropped.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn a_nonblocking_output_gets_whole_lines() {
        struct Reluctant(Pipe, bool);
        impl Write for Reluctant {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.1 = !self.1;
                if self.1 {
                    Err(ErrorKind::WouldBlock.into())
                } else {
                    self.0.write(&bytes[..1])
                }
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let pipe = Pipe::default();
        let queue = LineQueue::start(Reluctant(pipe.clone(), false)).unwrap();
        queue.push(b"whole\n".to_vec());
        assert!(queue.flush(LONG));
        assert_eq!(pipe.text(), "whole\n");
    }
}
