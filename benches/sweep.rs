//! The sweep over sockets in memory: the cost of serving a stream without the kernel's part.
//!
//! Every stream counts its bytes, and the sums are checked, so the bench is a test too
//! (`cargo test --benches`).

use std::collections::VecDeque;
use std::hint::black_box;
use std::io::{self, IoSlice};
use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use crossbeam_channel::Receiver;
use hookcast::clock::Now;
use hookcast::hub::{Batch, Hub};
use hookcast::limits::LOG_BYTES_MIN;
use hookcast::ring::Ring;
use hookcast::shard::{Readiness, Role, Settings, Shard, Transport};
use hookcast::testkit::{draft, now_at, outlet, settings};

const SUBSCRIBE: &[u8] = b"GET /api/webhook/stream HTTP/1.1\r\nHost: bench\r\n\r\n";
const CONTENT_BYTES: usize = 128;
const NOW: Now = now_at(0);

/// A client that subscribes and takes every byte.
#[derive(Default)]
struct Sink {
    has_subscribed: bool,
    taken_bytes: usize,
    writes: usize,
}

impl Transport for Sink {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if std::mem::replace(&mut self.has_subscribed, true) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        buffer[..SUBSCRIBE.len()].copy_from_slice(SUBSCRIBE);
        Ok(SUBSCRIBE.len())
    }

    fn write(&mut self, extents: &[IoSlice<'_>]) -> io::Result<usize> {
        let bytes = extents.iter().map(|extent| extent.len()).sum();
        self.taken_bytes += bytes;
        self.writes += 1;
        Ok(bytes)
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A node with one shard, whose streams are not behind.
struct Node {
    hub: Hub,
    batches: Receiver<Arc<Batch>>,
    shard: Shard<Sink>,
    tokens: Vec<hookcast::shard::Token>,
    _directory: tempfile::TempDir,
}

impl Node {
    fn new(streams: usize) -> Node {
        let directory = tempfile::tempdir().unwrap();
        let (ring, recovered) = Ring::open(&directory.path().join("ring"), 65_536).unwrap();
        let (outlet, batches) = outlet(64);
        let hub = Hub::new(ring, recovered.messages, vec![outlet], None);
        let settings = Settings {
            body_bytes_max: 65_536,
            held_bytes_max: hookcast::limits::HELD_BYTES_MAX,
            log_bytes_min: LOG_BYTES_MIN,
            ..settings()
        };
        let mut shard = Shard::new(Arc::new(settings), &hub, 1, NOW);
        let readable = Readiness {
            readable: true,
            ..Readiness::default()
        };
        let tokens = (0..streams)
            .map(|_| {
                let token = shard.open(Sink::default(), Role::Standard, NOW);
                shard.ready(token, readable, NOW);
                token
            })
            .collect();
        let mut node = Node {
            hub,
            batches,
            shard,
            tokens,
            _directory: directory,
        };
        assert_eq!(node.shard.streams(), streams);
        node.sweep();
        node
    }

    /// Publishes messages and returns the bytes of their frames.
    fn publish(&mut self, messages: usize) -> usize {
        let draft = draft("x".repeat(CONTENT_BYTES));
        let mut drafts = VecDeque::from(vec![draft; messages]);
        let mut outcomes = Vec::new();
        self.hub
            .publish(self.hub.new_sender(), &mut drafts, NOW, &mut outcomes);
        assert!(drafts.is_empty() && outcomes.iter().all(Result::is_ok));
        let mut bytes = 0;
        while let Ok(batch) = self.batches.try_recv() {
            bytes += batch.frames().map(|frame| frame.bytes.len()).sum::<usize>();
            self.shard.deliver(&batch);
        }
        bytes
    }

    fn sweep(&mut self) {
        while self.shard.idle_ms(NOW) == Some(0) {
            self.shard.sweep(NOW);
        }
    }

    fn sinks(&self) -> Vec<(usize, usize)> {
        let mut counts = Vec::new();
        for &token in &self.tokens {
            let sink = self.shard.socket(token).expect("no stream is closed");
            counts.push((sink.taken_bytes, sink.writes));
        }
        counts
    }
}

fn sweep(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("sweep");
    for streams in [1, 100, 10_000] {
        for behind in [1, 50] {
            let mut node = Node::new(streams);
            let before = node.sinks();
            let (mut bytes, mut rounds) = (0, 0);
            group.throughput(Throughput::Elements((streams * behind) as u64));
            let id = BenchmarkId::new(format!("{behind} behind"), streams);
            group.bench_function(id, |bencher| {
                bencher.iter(|| {
                    bytes += node.publish(behind);
                    rounds += 1;
                    node.sweep();
                    black_box(node.shard.streams())
                });
            });
            for (before, after) in before.iter().zip(node.sinks()) {
                assert_eq!(after.0 - before.0, bytes, "every byte to every stream");
                assert_eq!(after.1 - before.1, rounds, "one write per round");
            }
        }
    }
    group.finish();
}

criterion_group!(benches, sweep);
criterion_main!(benches);
