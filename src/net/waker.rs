//! Wakes a shard's thread from its poll, but only if it sleeps.
//!
//! The hub rings after every batch. A thread that is at work looks into its inbox every turn
//! anyway, so the system call is spent only on one that has announced its sleep.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering, fence};

use mio::Waker;

use crate::hub::Wake;

/// A bell beside a shard's inbox.
pub struct ShardWaker {
    asleep: AtomicBool,
    waker: Waker,
}

impl ShardWaker {
    /// A bell that wakes through `waker`.
    pub fn new(waker: Waker) -> ShardWaker {
        ShardWaker {
            asleep: AtomicBool::new(false),
            waker,
        }
    }

    /// Announces the sleep. After this the thread has to look into its inbox once more before it
    /// polls: what was put there before the announcement rang no bell.
    pub fn announce_sleep(&self) {
        self.asleep.store(true, Ordering::Relaxed);
        // Pairs with the fence in `wake`: either the bell sees the announcement, or the look into
        // the inbox sees what was put there.
        fence(Ordering::SeqCst);
    }

    /// The thread is at work again.
    pub fn wake_up(&self) {
        self.asleep.store(false, Ordering::Relaxed);
    }

    /// Rings, and says if it could not. Then the thread still counts as asleep, and the next to
    /// ring tries again.
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
        // An eventfd that is full wakes as well, and no other error is known (eventfd(2)).
        let _ = self.try_wake();
    }
}
