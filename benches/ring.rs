//! The append of a message to the memory-mapped ring. For comparison: a copy of the same bytes to
//! memory, which is the minimum, and a `pwrite`, as a ring without a map would do.
//!
//! `cargo bench --bench ring`; with `-- --test` each runs once and is only checked.

use std::fs::File;
use std::hint::black_box;
use std::os::unix::fs::FileExt;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use hookcast::limits::{BODY_BYTES_MAX_DEFAULT, HISTORY_MESSAGES, RING_SLOTS_MIN};
use hookcast::message::{Message, MessageId, SessionId};
use hookcast::ring::{Found, Ring};

fn message(content_bytes: usize) -> Message {
    Message {
        id: MessageId::from_u128(0x1234_5678),
        timestamp_ms: 1_700_000_000_000,
        session: SessionId::parse("a-session").unwrap(),
        content: "x".repeat(content_bytes),
        label: None,
        identity: None,
    }
}

fn append(criterion: &mut Criterion) {
    let directory = tempfile::tempdir().unwrap();
    // A small message, and the largest with this session at the default limit.
    for content_bytes in [200, 64 * 1024 - 9] {
        let message = message(content_bytes);
        let mut group = criterion.benchmark_group(format!("append/{content_bytes} bytes"));
        group.throughput(Throughput::Bytes(content_bytes as u64));

        let path = directory.path().join(format!("{content_bytes}.ring"));
        let (mut ring, _) = Ring::open(&path, BODY_BYTES_MAX_DEFAULT).unwrap();
        group.bench_function("ring", |bencher| {
            bencher.iter(|| {
                let expected = ring.next_seq();
                assert_eq!(ring.append(black_box(&message)).unwrap(), expected);
            });
        });
        group.bench_function("ring, checked before each", |bencher| {
            bencher.iter(|| {
                ring.check().unwrap();
                let expected = ring.next_seq();
                assert_eq!(ring.append(black_box(&message)).unwrap(), expected);
            });
        });
        let next_seq = ring.next_seq();
        drop(ring);
        let (ring, recovered) = Ring::open(&path, BODY_BYTES_MAX_DEFAULT).unwrap();
        assert!(matches!(recovered.report.found, Found::Intact));
        assert_eq!(ring.next_seq(), next_seq);
        assert_eq!(
            recovered.messages.len(),
            HISTORY_MESSAGES.min(next_seq as usize - 1)
        );
        assert!(
            recovered
                .messages
                .iter()
                .all(|(_, found)| *found == message)
        );

        let stride = 64 + content_bytes;
        let mut memory = vec![0_u8; RING_SLOTS_MIN * stride];
        let mut slot = 0;
        group.bench_function("copy to memory", |bencher| {
            bencher.iter(|| {
                slot = (slot + 1) % RING_SLOTS_MIN;
                let target = &mut memory[slot * stride + 64..][..content_bytes];
                target.copy_from_slice(black_box(message.content.as_bytes()));
                black_box(target);
            });
        });
        assert_eq!(
            memory[slot * stride + 64..][..content_bytes],
            *message.content.as_bytes()
        );

        let file = File::create(directory.path().join("pwrite")).unwrap();
        group.bench_function("pwrite", |bencher| {
            bencher.iter(|| {
                slot = (slot + 1) % RING_SLOTS_MIN;
                let bytes = black_box(message.content.as_bytes());
                file.write_all_at(bytes, (slot * stride) as u64).unwrap();
            });
        });
        assert!(file.metadata().unwrap().len() >= content_bytes as u64);
        group.finish();
    }
}

criterion_group!(benches, append);
criterion_main!(benches);
