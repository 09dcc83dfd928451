//! The ring between processes: a second process is refused, and a killed one loses no message.
//!
//! The other process is this test binary, started so that it runs only [`child`].

use std::env;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::super::{Found, Ring};
use super::{CONTENT_BYTES_MAX, message, numbers};

const CHILD_PATH: &str = "HOOKCAST_TEST_RING";
const KILLS: u32 = 50;

/// Not a test of its own: appends to the ring named by the environment until it is killed. It prints
/// a line for each message after the append.
#[test]
fn child() {
    let Some(path) = env::var_os(CHILD_PATH) else {
        return;
    };
    let mut out = std::io::stdout().lock();
    match Ring::open(Path::new(&path), CONTENT_BYTES_MAX) {
        Err(error) => writeln!(out, "\nrefused {error}").unwrap(),
        Ok((mut ring, _)) => {
            writeln!(out).unwrap();
            loop {
                let nth = ring.next_seq();
                let seq = ring.append(&message(nth, (nth % 3000) as usize)).unwrap();
                writeln!(out, "appended {seq}").unwrap();
            }
        }
    }
}

fn start_child(path: &Path) -> Child {
    Command::new(env::current_exe().unwrap())
        .args(["--exact", "ring::tests::process::child", "--nocapture"])
        .env(CHILD_PATH, path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

#[test]
fn a_second_process_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("test.ring");
    let (ring, _) = Ring::open(&path, CONTENT_BYTES_MAX).unwrap();
    let output = start_child(&path).wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("\nrefused ring file"), "{text}");
    assert!(
        text.contains("test.ring is in use by another process"),
        "{text}"
    );
    drop(ring);
}

#[test]
fn a_process_killed_at_any_moment_loses_no_message_that_it_has_printed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("test.ring");
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut epoch = None;
    let mut last_printed = 0;
    for kill in 0..KILLS {
        let mut child = start_child(&path);
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        // The child continues until the kill; how far it gets depends on the scheduler.
        for _ in 0..random.u32(1..400) {
            line.clear();
            lines.read_line(&mut line).unwrap();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let mut rest = String::new();
        lines.read_to_string(&mut rest).unwrap();
        let printed = line.lines().chain(rest.lines());
        let printed =
            printed.filter_map(|line| line.strip_prefix("appended ")?.parse::<u64>().ok());
        // The last line may be incomplete. An incomplete number is smaller, so the maximum is never
        // too large.
        last_printed = printed.max().unwrap_or(0).max(last_printed);
        let (ring, recovered) = Ring::open(&path, CONTENT_BYTES_MAX).unwrap();
        let found = numbers(&recovered);
        let newest = found.last().copied().unwrap_or(0);
        assert!(
            newest >= last_printed,
            "kill {kill}: {last_printed} was printed, {newest} is recovered"
        );
        // One more may have been appended but not printed.
        assert!(
            newest <= last_printed + 1,
            "kill {kill}: {last_printed} was printed, {newest} is recovered"
        );
        assert_eq!(found, super::last_100(newest), "kill {kill}");
        assert_eq!(ring.next_seq(), newest + 1);
        assert_eq!(*epoch.get_or_insert(ring.epoch()), ring.epoch());
        assert!(
            matches!(recovered.report.found, Found::Intact | Found::Nothing),
            "kill {kill}: {}",
            recovered.report
        );
    }
    assert!(
        last_printed > u64::from(KILLS),
        "the children hardly appended anything"
    );
}

#[test]
fn alternating_processes_that_rewrite_the_file_lose_no_message() {
    use std::thread;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("test.ring");
    // Each thread opens the file itself, so their locks exclude each other as those of processes do.
    let appended = thread::scope(|scope| {
        let take_turns = |own: u64| {
            let path = &path;
            move || {
                let mut seqs = Vec::new();
                while seqs.len() < 20 {
                    // Each open needs larger slots, so it renames a new file over the old one.
                    let bytes_max = CONTENT_BYTES_MAX + 4096 * seqs.len();
                    let Ok((mut ring, _)) = Ring::open(path, bytes_max) else {
                        thread::yield_now();
                        continue;
                    };
                    seqs.push(ring.append(&message(own + seqs.len() as u64, 40)).unwrap());
                }
                seqs
            }
        };
        let one = scope.spawn(take_turns(1000));
        let other = scope.spawn(take_turns(2000));
        let mut seqs = one.join().unwrap();
        seqs.extend(other.join().unwrap());
        seqs
    });
    let mut sorted = appended.clone();
    sorted.sort_unstable();
    assert_eq!(
        sorted,
        (1..=40).collect::<Vec<_>>(),
        "each seq was given out once"
    );
    let (_, recovered) = Ring::open(&path, CONTENT_BYTES_MAX).unwrap();
    assert_eq!(recovered.messages.len(), 40);
}
