//! The log of a process. A process has one log, so this test has a binary of its own.

use std::io::{self, Write};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use hookcast::config::{LogFormat, LogLevel};
use hookcast::limits::LOG_QUEUE_BYTES_MAX;
use hookcast::logging::Log;
use std::sync::atomic::Ordering;
use tracing::info;

/// An output that blocks until it is released, and then passes on its lines.
struct Gate {
    open: Option<Receiver<()>>,
    lines: Sender<Vec<u8>>,
}

impl Write for Gate {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if let Some(open) = self.open.take() {
            open.recv().map_err(io::Error::other)?;
        }
        self.lines.send(line.to_vec()).map_err(io::Error::other)?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn dropped_lines_are_counted_and_the_text_of_a_panic_is_not_logged() {
    let (open, opened) = channel();
    let (lines, written) = channel();
    let gate = Gate {
        open: Some(opened),
        lines,
    };
    let log = Log::start_on(gate, LogFormat::Json, LogLevel::Info).unwrap();
    let again = Log::start_on(io::sink(), LogFormat::Json, LogLevel::Info);
    assert!(again.is_err(), "a process has one log");

    let filler = "x".repeat(1000);
    for number in 0..LOG_QUEUE_BYTES_MAX / 1000 + 100 {
        info!(number, filler, "line");
    }
    let missed = log.lines_dropped().load(Ordering::Relaxed);
    assert!(missed >= 100, "{missed}");

    open.send(()).unwrap();
    let next = |message: &str| loop {
        let line = written.recv_timeout(Duration::from_secs(60)).unwrap();
        let line: serde_json::Value = serde_json::from_slice(&line).unwrap();
        if line["message"].as_str().unwrap().starts_with(message) {
            return line;
        }
    };
    let note = next("log lines were dropped");
    assert_eq!(
        (&note["lines"], &note["level"]),
        (&missed.into(), &"WARN".into())
    );

    let content = "private message";
    let panicked = thread::Builder::new()
        .name("doomed".into())
        .spawn(move || assert_eq!(content, "", "{content}"))
        .unwrap()
        .join();
    assert!(panicked.is_err());
    let line = next("a thread panicked");
    assert_eq!(
        (&line["thread"], &line["level"]),
        (&"doomed".into(), &"ERROR".into())
    );
    assert!(
        line["place"]
            .as_str()
            .unwrap()
            .contains("tests/logging/main.rs:")
    );
    assert!(!line.to_string().contains("private"));

    info!("last");
    drop(log);
    let rest: Vec<Vec<u8>> = written.try_iter().collect();
    assert!(
        rest.iter()
            .any(|line| String::from_utf8_lossy(line).contains("\"last\"")),
        "drop writes all"
    );
}
