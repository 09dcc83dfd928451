//! A model of KV: versions over time, and reads as old as the staleness allows.

use hookcast::mirror::reply::{Failure, FailureKind};

/// One key.
pub struct Kv {
    /// Values and their times; the last one is current.
    versions: Vec<(u64, Option<Vec<u8>>)>,
    pub stale_ms_max: u64,
}

impl Kv {
    pub fn new(stale_ms_max: u64) -> Kv {
        Kv {
            versions: vec![(0, None)],
            stale_ms_max,
        }
    }

    pub fn write(&mut self, now_ms: u64, value: Option<Vec<u8>>) {
        self.versions.push((now_ms, value));
    }

    /// Whether the last write was long enough ago: a key takes one write a second.
    pub fn takes_write(&self, now_ms: u64) -> bool {
        self.versions
            .last()
            .is_none_or(|(written_ms, _)| now_ms >= written_ms + 1_000)
    }

    pub fn latest(&self) -> Option<&[u8]> {
        self.versions.last().and_then(|(_, value)| value.as_deref())
    }

    /// A random version that was current within the last `stale_ms_max`.
    pub fn read(&mut self, now_ms: u64, rng: &mut fastrand::Rng) -> Option<Vec<u8>> {
        let oldest_ms = now_ms.saturating_sub(self.stale_ms_max);
        let seen_ms = if self.stale_ms_max > 0 && rng.bool() {
            rng.u64(oldest_ms..=now_ms)
        } else {
            now_ms
        };
        let at = self
            .versions
            .partition_point(|(written_ms, _)| *written_ms <= seen_ms);
        let value = self.versions[at - 1].1.clone();
        let first_needed = self
            .versions
            .partition_point(|(written_ms, _)| *written_ms <= oldest_ms);
        self.versions.drain(..first_needed.saturating_sub(1));
        value
    }
}

/// A random failure.
pub fn failure(rng: &mut fastrand::Rng) -> Failure {
    let kinds = [
        FailureKind::Unreachable,
        FailureKind::Timeout,
        FailureKind::Server,
        FailureKind::Server,
        FailureKind::RateLimited,
        FailureKind::Credentials,
        FailureKind::Unexpected,
    ];
    let retry_after_ms = rng.bool().then(|| rng.u64(0..30_000));
    let kind = kinds[rng.usize(..kinds.len())];
    Failure {
        kind,
        retry_after_ms,
        detail: "simulated".into(),
    }
}
