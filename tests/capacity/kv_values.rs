//! The memory of a node that reads the worst values of KV.

use std::process::Stdio;
use std::sync::Arc;
use std::thread;

use hookcast::limits::{KV_ENTRY_BYTES_MAX, KV_MEMORY_BYTES_MAX, KV_VALUE_BYTES_MAX};

use crate::support::kv::Kv;
use crate::support::{Server, Setup};

/// A list of entries that is as large as KV allows.
fn list(entry: impl Fn(usize) -> String) -> Vec<u8> {
    let mut text = String::from("[");
    for n in 0.. {
        let entry = entry(n);
        if text.len() + entry.len() + 2 > KV_VALUE_BYTES_MAX {
            break;
        }
        if n > 0 {
            text.push(',');
        }
        text.push_str(&entry);
    }
    text.push(']');
    text.into_bytes()
}

/// An entry with its own id and time, at most `bytes` long.
fn entry(n: usize, bytes: usize, member: &str, unit: &str, end: &str) -> String {
    let mut text = format!(
        r#"{{"id":"00000000-0000-4000-8000-{n:012x}","timestamp":{},{member}"#,
        1_700_000_000_000_u64 + n as u64
    );
    let units = (bytes - text.len() - end.len() - 1) / unit.len();
    text.reserve(bytes);
    text.extend(std::iter::repeat_n(unit, units));
    text.push_str(end);
    text.push('}');
    text
}

type Make = Box<dyn Fn() -> Vec<u8>>;

/// Entries of `bytes` each, filled by repeats of `unit`.
fn entries(bytes: usize, member: &'static str, unit: &'static str, end: &'static str) -> Make {
    Box::new(move || list(|n| entry(n, bytes, member, unit, end)))
}

/// A value of at most [`KV_VALUE_BYTES_MAX`], named after its main content.
type Kind = (&'static str, Make);

const ALL: usize = KV_VALUE_BYTES_MAX - 8;
const SHARE: usize = KV_ENTRY_BYTES_MAX;

/// Unknown members, and nesting.
fn unknown_members() -> Vec<Kind> {
    const HALF: usize = KV_VALUE_BYTES_MAX / 2;
    let nested = |before: &str, after: &str| {
        let levels = HALF - before.len().max(after.len());
        [before, &"[".repeat(levels), &"]".repeat(levels), after].concat()
    };
    vec![
        (
            "arrays in an unknown member of one message",
            entries(ALL, r#""content":"x","f":["#, "[0],", "0]"),
        ),
        (
            "arrays in unknown members of a hundred messages",
            entries(SHARE, r#""content":"x","f":["#, "[0],", "0]"),
        ),
        (
            "objects in unknown members of a hundred messages",
            entries(SHARE, r#""content":"x","f":["#, r#"{"":0},"#, "0]"),
        ),
        (
            "small unknown members of a hundred messages",
            entries(SHARE, r#""content":"x""#, r#","":0"#, ""),
        ),
        (
            "white space in a hundred messages",
            entries(SHARE, r#""content":"x""#, " ", ""),
        ),
        (
            "deep nesting",
            Box::new(move || nested("", "").into_bytes()),
        ),
        (
            "nesting in an unknown member",
            Box::new(move || nested(r#"[{"content":"x","f":"#, "}]").into_bytes()),
        ),
        (
            "nesting without an end",
            Box::new(|| vec![b'['; KV_VALUE_BYTES_MAX]),
        ),
    ]
}

/// Many entries, long texts, and values that are not a list.
fn entries_and_texts() -> Vec<Kind> {
    vec![
        ("tiny numbers", Box::new(|| list(|n| (n % 10).to_string()))),
        ("tiny objects", Box::new(|| list(|_| "{}".into()))),
        ("distinct numbers", Box::new(|| list(|n| n.to_string()))),
        ("small messages", entries(110, r#""content":""#, "x", "\"")),
        (
            "the content of one message",
            entries(ALL, r#""content":""#, "x", "\""),
        ),
        (
            "contents of a hundred messages",
            entries(SHARE, r#""content":""#, "x", "\""),
        ),
        (
            "escapes in one message",
            entries(ALL, r#""content":""#, r"\u0041", "\""),
        ),
        (
            "escapes in a hundred messages",
            entries(SHARE, r#""content":"x"#, r"\u0001", "\""),
        ),
        (
            "halves of pairs in a hundred messages",
            entries(SHARE, r#""content":""#, r"\ud800", "\""),
        ),
        (
            "an id",
            Box::new(|| format!(r#"[{{"id":"{}"}}]"#, "0".repeat(ALL - 9)).into_bytes()),
        ),
        (
            "ids of a hundred messages",
            Box::new(|| {
                let digits = r"\u0030".repeat((SHARE - 16) / 6);
                list(|n| format!(r#"{{"id":"{n}{digits}"}}"#))
            }),
        ),
        (
            "a timestamp",
            Box::new(|| format!(r#"[{{"timestamp":{}}}]"#, "1".repeat(ALL - 14)).into_bytes()),
        ),
        (
            "sessions of a hundred messages",
            entries(SHARE, r#""content":"x","sessionId":""#, r"\u0001", "\""),
        ),
        (
            "names of members of a hundred messages",
            entries(SHARE, r#""content":"x",""#, r"\u0069", r#"":0"#),
        ),
        ("no UTF-8", Box::new(|| vec![0xff; KV_VALUE_BYTES_MAX])),
        ("no list", Box::new(|| vec![b'"'; KV_VALUE_BYTES_MAX])),
        ("white space", Box::new(|| vec![b' '; KV_VALUE_BYTES_MAX])),
    ]
}

/// Values of KV's maximum size, by their main content.
fn worst_values() -> impl Iterator<Item = (&'static str, Vec<u8>)> {
    let kinds = unknown_members().into_iter().chain(entries_and_texts());
    kinds.map(|(what, make)| {
        let value = make();
        let least = KV_VALUE_BYTES_MAX - 2 * KV_ENTRY_BYTES_MAX;
        let bytes = value.len();
        assert!(
            (least..=KV_VALUE_BYTES_MAX).contains(&bytes),
            "{what}: {bytes}"
        );
        (what, value)
    })
}

/// Checks a few values at a time, because a check mostly waits for the next poll.
fn with_worst_values<T: Send>(check: impl Fn(&'static str, Vec<u8>) -> T + Sync) -> Vec<T> {
    const AT_ONCE: usize = 5;
    let check = &check;
    let mut values = worst_values();
    let mut results = Vec::new();
    loop {
        let some: Vec<_> = values.by_ref().take(AT_ONCE).collect();
        if some.is_empty() {
            return results;
        }
        thread::scope(|scope| {
            let checks = some
                .into_iter()
                .map(|(what, value)| scope.spawn(move || check(what, value)));
            let checks: Vec<_> = checks.collect();
            results.extend(checks.into_iter().map(|check| check.join().unwrap()));
        });
    }
}

fn status_bytes(node: &Server, name: &str) -> usize {
    usize::try_from(node.proc_status(name)).unwrap() * 1024
}

/// The peak memory and address space of a node without a value.
fn baseline() -> (usize, usize) {
    let kv = Kv::with_value(b"[]".to_vec());
    let node = kv.setup(&["--shards", "1"]).start();
    node.publish("x");
    kv.wait_for_reads(3);
    (
        status_bytes(&node, "VmHWM:"),
        status_bytes(&node, "VmPeak:"),
    )
}

/// A value with only these entries: the history is full of them when a worst value is read.
fn full_history() -> Vec<u8> {
    list(|n| {
        entry(
            1_000_000 + n,
            KV_ENTRY_BYTES_MAX,
            r#""content":""#,
            "y",
            "\"",
        )
    })
}

/// The cost of a value for a node whose history is as large as a value. The node reads each value several
/// times and writes its own, because KV keeps the value.
#[test]
fn the_worst_values_stay_below_the_memory_bound() {
    let (memory, _) = baseline();
    let costs = with_worst_values(|what, value| {
        let kv = Kv::with_value(full_history());
        let node = kv.setup(&["--shards", "1"]).start();
        kv.wait_for_reads(2);
        kv.lock().value = Arc::new(value);
        node.publish("still here");
        // The first read may have begun earlier.
        kv.wait_for_reads(3);
        let peak = status_bytes(&node, "VmHWM:") - memory;
        let kept = status_bytes(&node, "VmRSS:").saturating_sub(memory);
        let row = format!("{:>5} MiB, keeps {:>4}: {what}\n", peak >> 20, kept >> 20);
        (peak, row)
    });
    let most = costs.iter().map(|(peak, _)| *peak).max().unwrap();
    let table: String = costs.into_iter().map(|(_, row)| row).collect();
    println!("{table}");
    assert!(
        most <= KV_MEMORY_BYTES_MAX,
        "{most} bytes of {KV_MEMORY_BYTES_MAX}:\n{table}"
    );
    assert!(
        most > KV_MEMORY_BYTES_MAX / 2,
        "{most} bytes of {KV_MEMORY_BYTES_MAX}: the bound is too high:\n{table}"
    );
}

fn limited(setup: Setup, address_bytes: usize) -> Setup {
    let limit = format!(r#"ulimit -v {}; exec "$0" "$@""#, address_bytes / 1024);
    setup.under(&["/bin/sh", "-c", &limit])
}

/// The value is still in KV at the next start. Without a bound no start would succeed.
#[test]
fn a_node_starts_and_serves_with_any_value_under_a_memory_limit() {
    let (_, address_space) = baseline();
    with_worst_values(|what, value| {
        println!("{what}");
        let kv = Kv::with_value(value);
        let setup = kv.setup(&["--shards", "1"]);
        let node = limited(setup, address_space + KV_MEMORY_BYTES_MAX).start();
        kv.wait_for_reads(3);
        node.publish("served");
        assert!(node.history().contains(&"served".to_owned()), "{what}");
    });
}

#[test]
fn kv_check_ends_with_a_result_under_a_memory_limit() {
    // Most of it is not memory: the allocator reserves 64 MiB for each of a few short-lived threads.
    const ADDRESS_SPACE: usize = 256 * 1024 * 1024;
    for (what, value) in worst_values() {
        let kv = Kv::with_value(value);
        let setup = kv.configured(Setup::new(&["kv-check"]));
        let output = limited(setup, ADDRESS_SPACE + KV_MEMORY_BYTES_MAX)
            .command()
            .stdout(Stdio::piped())
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        let history = text.lines().find(|line| line.starts_with("history"));
        assert!(history.is_some(), "{what}: {output:?}");
    }
}
