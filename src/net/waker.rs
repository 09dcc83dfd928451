//! Wakes a shard's thread from its poll, but only if it sleeps.
//!
//! The hub calls [`ShardWaker::wake`](Wake::wake) after every batch. A running thread reads its
//! inbox every turn, so the system call is made only if the thread has announced its sleep. Never
//! touches the inbox.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering, fence};

use mio::Waker;

use crate::hub::Wake;

/// The waker beside a shard's inbox.
pub struct ShardWaker {
    asleep: AtomicBool,
    waker: Waker,
}

impl ShardWaker {
    /// A waker for the poll that `waker` belongs to.
    pub fn new(waker: Waker) -> ShardWaker {
        ShardWaker {
            asleep: AtomicBool::new(false),
            waker,
        }
    }

    /// Announces the sleep. The thread then has to check its inbox once more before it polls: batches
    /// sent before the announcement have not woken it.
    pub fn announce_sleep(&self) {
        self.asleep.store(true, Ordering::Relaxed);
        // Pairs with the fence in `try_wake`: either the waker sees the announcement, or the check of
        // the inbox sees the batch.
        fence(Ordering::SeqCst);
    }

    /// Withdraws the announcement: the thread is running again.
    pub fn wake_up(&self) {
        self.asleep.store(false, Ordering::Relaxed);
    }

    /// Wakes the thread if it sleeps. After an error the thread still counts as asleep, so the next
    /// call tries again.
    pub fn try_wake(&self) -> io::Result<()> {
        fence(Ordering::SeqCst);
        if !self.asleep.swap(false, Ordering::Relaxed) {
            return Ok(());
        }
        loop {
            match self.waker.wake() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.asleep.store(true, Ordering::Relaxed);
                    return Err(error);
                }
                Ok(()) => return Ok(()),
            }
        }
    }
}

impl Wake for ShardWaker {
    fn wake(&self) {
        // A full eventfd wakes the thread as well. No other error is known (eventfd(2)).
        let _ = self.try_wake();
    }
}
