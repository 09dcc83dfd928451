//! The wait for room, in the inboxes of the shards or in the commit queue.
//!
//! Threads that may wait call [`Room::wait`]: the mirror's, the committer's, those of the bus and `control`. It releases the
//! hub's lock while it waits. Shards call [`Room::announce`] after every turn, in which they have emptied
//! their inboxes. While no thread waits, that costs a memory fence and a load. Never polls.

use std::sync::atomic::{AtomicUsize, Ordering, fence};
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::Duration;

use super::NO_PANIC;

/// See the module's documentation.
#[derive(Default)]
pub(super) struct Room {
    /// Threads in [`Room::wait`]. Changed under the lock.
    waiting: AtomicUsize,
    announced: Condvar,
}

impl Room {
    /// Waits while `is_blocked`, for up to `timeout`. Checks it again at each announcement. Returns the lock,
    /// and false after a timeout.
    pub(super) fn wait<'a, T>(
        &self,
        lock: MutexGuard<'a, T>,
        timeout: Duration,
        is_blocked: impl FnMut(&mut T) -> bool,
    ) -> (MutexGuard<'a, T>, bool) {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        // Pairs with the fence in `announce`: either this thread sees the room, or the announcing thread
        // sees this one.
        fence(Ordering::SeqCst);
        let waited = self.announced.wait_timeout_while(lock, timeout, is_blocked);
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        let (lock, waited) = waited.expect(NO_PANIC);
        (lock, !waited.timed_out())
    }

    /// Announces that there may be room, without the lock.
    pub(super) fn announce<T>(&self, mutex: &Mutex<T>) {
        fence(Ordering::SeqCst);
        if self.is_awaited() {
            // A thread that has found no room keeps the lock until it sleeps, so it is asleep by now.
            drop(mutex.lock().expect(NO_PANIC));
            self.announced.notify_all();
        }
    }

    /// [`Room::announce`] by the holder of the lock.
    pub(super) fn announce_locked(&self) {
        if self.is_awaited() {
            self.announced.notify_all();
        }
    }

    /// Whether a thread waits.
    pub(super) fn is_awaited(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }
}
