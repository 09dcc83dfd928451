//! Turns for tests that disturb others, or are disturbed.
//!
//! The tests of one binary run at the same time in one process, as many as there are processors. They share its
//! limit of descriptors, often 20,000, and the processors.

use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

static TURN: RwLock<()> = RwLock::new(());

/// Descriptors of the process that remain for tests without [`Alone`]. The largest of them open under a thousand.
const OTHER_DESCRIPTORS: usize = 3_000;

/// The turn of a test that opens thousands of connections, or keeps every processor busy.
pub struct Alone {
    /// The limit of open files of this process.
    files_max: usize,
    _turn: RwLockWriteGuard<'static, ()>,
}

/// Waits until no other test has [`Alone`] or [`paced`].
pub fn alone() -> Alone {
    // A failed test has poisoned the lock, which guards no data.
    let turn = TURN.write().unwrap_or_else(PoisonError::into_inner);
    let files_max = hookcast::config::raise_file_limit();
    Alone {
        files_max: usize::try_from(files_max).unwrap_or(usize::MAX),
        _turn: turn,
    }
}

/// The turn of a test whose clients must keep a pace: it runs beside any other test, except one with [`Alone`].
pub fn paced() -> RwLockReadGuard<'static, ()> {
    TURN.read().unwrap_or_else(PoisonError::into_inner)
}

impl Alone {
    /// The number of connections that the test can open, at most `wanted` and at least `least`. This process and the
    /// server have a descriptor for each.
    pub fn connections(&self, wanted: usize, least: usize) -> usize {
        let count = wanted.min(self.files_max.saturating_sub(OTHER_DESCRIPTORS));
        assert!(
            count >= least,
            "the limit of {} open files is too low for {least} connections",
            self.files_max
        );
        count
    }
}
