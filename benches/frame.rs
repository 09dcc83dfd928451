//! Encoding the frame of a message: once for each message, under the hub's lock.
//!
//! `cargo bench --bench frame`; with `-- --test` each runs once and is only checked.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use hookcast::message::{Epoch, Message, MessageId, SessionId};
use hookcast::sse::frame::push_message;

fn message(content: String, session: &str) -> Message {
    Message {
        id: MessageId::from_u128(0x1234_5678_9abc_def0_1234_5678_9abc_def0),
        timestamp_ms: 1_700_000_000_000,
        session: SessionId::parse(session).unwrap(),
        content,
        label: None,
        identity: None,
    }
}

/// The content of a frame as a client parses it.
fn content_of(frame: &[u8]) -> String {
    let data = str::from_utf8(frame)
        .unwrap()
        .lines()
        .find_map(|line| line.strip_prefix("data: "));
    let event: serde_json::Value = serde_json::from_str(data.unwrap()).unwrap();
    event["content"].as_str().unwrap().to_owned()
}

fn frame(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("frame");
    let cases = [
        ("128 bytes", message("x".repeat(128), "")),
        ("128 bytes, session", message("x".repeat(128), "a-session")),
        ("4 KiB of escapes", message("\"\n".repeat(2048), "")),
        (
            "4 KiB of prose",
            message("a plain sentence, and another. ".repeat(132), ""),
        ),
        (
            "4 KiB of typography",
            message("“naïve” — it’s 5 °C… ".repeat(128), ""),
        ),
        (
            "4 KiB of separators",
            message("\u{2028}\u{85}".repeat(820), ""),
        ),
    ];
    for (name, message) in cases {
        let mut out = Vec::new();
        let chunk = push_message(&mut out, Epoch(7), 1, &message);
        assert_eq!(out.len(), chunk.bytes as usize);
        assert_eq!(content_of(&out), message.content, "{name}");
        group.throughput(Throughput::Bytes(out.len() as u64));
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                out.clear();
                push_message(&mut out, Epoch(7), 1, black_box(&message))
            });
        });
    }
    group.finish();
}

criterion_group!(benches, frame);
criterion_main!(benches);
