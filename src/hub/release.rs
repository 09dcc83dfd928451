//! Releases the ring to a successor, and takes it back if the handover fails.
//!
//! Called by `control`. Never called by a shard, because it waits for the disk. Streams continue in
//! the meantime; webhooks wait in their shards.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use super::bus::{BusQueue, BusSettings, BusStore};
use super::commit::CommitQueue;
use super::{Batch, Committer, Hub, NO_PANIC, State, Store};
use crate::message::Message;
use crate::ring::Ring;

/// The owner of the ring before it was released.
#[derive(Debug, Clone, Copy)]
pub(super) enum Owner {
    Hub,
    Committer,
    /// With its settings, its run, and the number of the message that was sent last.
    Follower(BusSettings, u64, u64),
}

/// What owns the ring on a thread of its own.
pub enum RingThread {
    /// With `--durability disk`.
    Commits(Committer),
    /// With a bus.
    Bus(BusStore),
}

impl Hub {
    /// Whether another process has the ring.
    pub fn is_released(&self) -> bool {
        matches!(self.lock().store, Store::Released(_))
    }

    /// Closes the ring and unlocks it, so that another process may open it. Until
    /// [`Hub::take_back`] drafts stay in their shards. On an error this process keeps the ring.
    ///
    /// With `--durability disk` the queued messages are committed first. If that takes longer than
    /// until `deadline`, the error is [`io::ErrorKind::TimedOut`].
    pub fn release(&self, deadline: Instant) -> io::Result<()> {
        let mut state = self.lock();
        let State {
            store,
            history,
            repairs,
            identities,
            ..
        } = &mut *state;
        match store {
            Store::Ring(ring) => {
                repairs.close(ring, history.messages())?;
                // Closed before the ring is unlocked, because then another process may have it.
                identities.close();
                *store = Store::Released(Owner::Hub);
                return Ok(());
            }
            Store::Released(_) => return Ok(()),
            Store::Queue(queue) => queue.closing.begin_release(),
            Store::Bus(queue) => queue.closing.begin_release(),
        }
        drop(state);
        self.release_from_thread(deadline)
    }

    fn release_from_thread(&self, deadline: Instant) -> io::Result<()> {
        self.queued.notify_all();
        let mut state = self.lock();
        loop {
            let Some(closing) = state.closing() else {
                return Err(io::ErrorKind::Unsupported.into());
            };
            if let Some(closed) = closing.closed.take() {
                closed?;
                state.store = match &state.store {
                    Store::Bus(queue) => Store::Released(Owner::Follower(
                        queue.settings,
                        queue.run,
                        queue.last_number,
                    )),
                    _ => Store::Released(Owner::Committer),
                };
                return Ok(());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            state = if !left.is_zero() {
                self.closed.wait_timeout(state, left).expect(NO_PANIC).0
            } else if closing.give_up_release() {
                self.room.announce_locked();
                return Err(io::ErrorKind::TimedOut.into());
            } else {
                // The thread has closed the ring and only has to unlock it.
                self.closed.wait(state).expect(NO_PANIC)
            };
        }
    }

    /// Whether a ring continues from where this hub released it. Without a bus it must have the same epoch, and
    /// still hold every message that the other process has appended: the streams of this process
    /// have yet to get them.
    pub fn can_take_back(&self, ring: &Ring, history: &[(u64, Message)]) -> bool {
        let state = self.lock();
        if matches!(state.store, Store::Released(Owner::Follower(..))) {
            // What the other process has appended is in the log of the bus.
            return true;
        }
        let known_seq = state.history.next_seq();
        let oldest_seq = history.first().map_or(ring.next_seq(), |(seq, _)| *seq);
        ring.epoch() == state.lineage.epoch()
            && ring.next_seq() >= known_seq
            && oldest_seq <= known_seq
    }

    /// Continues with the reopened ring after [`Hub::release`]. Messages that the other process has
    /// appended are sent to the shards, which needs room in their inboxes. Until there is room, the hub
    /// does not have the ring, and its lock is free. Without room by `deadline` the error is
    /// [`io::ErrorKind::TimedOut`], and the ring is dropped.
    ///
    /// The caller runs what is returned on a thread: it owns the ring.
    ///
    /// # Panics
    ///
    /// If [`Hub::can_take_back`] is false for this ring.
    pub fn take_back(
        &self,
        ring: Ring,
        history: Vec<(u64, Message)>,
        deadline: Instant,
    ) -> io::Result<Option<RingThread>> {
        assert!(
            self.can_take_back(&ring, &history),
            "the caller has checked"
        );
        let left = deadline.saturating_duration_since(Instant::now());
        let (mut state, has_room) = self.lock_with_room(left);
        if !has_room {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let known_seq = state.history.next_seq();
        let next_seq = ring.next_seq();
        let mut batch = Batch::default();
        let is_on_bus = matches!(state.store, Store::Released(Owner::Follower(..)));
        state.identities.reopen(&history, next_seq);
        for (seq, message) in history {
            if seq >= known_seq && !is_on_bus {
                state.ids.continue_after([message.timestamp_ms]);
                batch.push(ring.epoch(), seq, &message);
                state.history.push(Arc::new(message));
            }
        }
        debug_assert!(is_on_bus || state.history.next_seq() == next_seq);
        let thread = state.continue_with(ring);
        let has_news = !batch.frames.is_empty();
        if has_news {
            self.outlets.send(batch);
        }
        self.room.announce_locked();
        drop(state);
        if has_news {
            self.outlets.wake();
        }
        Ok(thread)
    }
}

impl State {
    /// Stores messages as before the release: in this ring, or by the thread that is to own it.
    fn continue_with(&mut self, ring: Ring) -> Option<RingThread> {
        match self.store {
            Store::Released(Owner::Committer) => {
                self.store = Store::Queue(CommitQueue::default());
                Some(RingThread::Commits(Committer::new(ring)))
            }
            Store::Released(Owner::Follower(settings, run, last_number)) => {
                let run = run + 1;
                let queue = BusQueue::new(settings, run, last_number);
                self.store = Store::Bus(Box::new(queue));
                Some(RingThread::Bus(BusStore::taken_back(ring, settings, run)))
            }
            _ => {
                self.store = Store::Ring(ring);
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::thread;
    use std::time::Duration;

    use crossbeam_channel::Receiver;

    use super::*;
    use crate::clock::Clock;
    use crate::metrics::Metrics;
    use crate::testkit::{MemoryMedium, draft, now_at, outlet};

    const PATIENCE: Duration = Duration::from_secs(30);

    struct Node {
        medium: MemoryMedium,
        hub: Hub,
        metrics: Metrics,
        /// The inbox of the only shard.
        batches: Receiver<Arc<Batch>>,
    }

    fn open(medium: &MemoryMedium) -> (Ring, Vec<(u64, Message)>) {
        let (ring, recovered) = Ring::open_with(Box::new(medium.clone()), 100, 8).unwrap();
        assert!(!recovered.report.is_warning(), "{}", recovered.report);
        (ring, recovered.messages)
    }

    fn start() -> (Node, Committer) {
        let medium = MemoryMedium::default();
        let (ring, history) = open(&medium);
        let (outlet, batches) = outlet(64);
        let (hub, committer) = Hub::with_commits(ring, history, vec![outlet], None);
        let node = Node {
            medium,
            hub,
            metrics: Metrics::new(Arc::default()),
            batches,
        };
        (node, committer)
    }

    impl Node {
        /// Queues webhooks for the next commits; returns how many found no room.
        fn publish(&self, messages: usize) -> usize {
            let mut drafts = VecDeque::from(vec![draft("x"); messages]);
            let sender = self.hub.new_sender();
            self.hub
                .publish(sender, &mut drafts, now_at(1), &mut Vec::new());
            drafts.len()
        }

        /// Waits until the messages with these seqs were sent to the shard, in order.
        fn expect_shown(&self, seqs: std::ops::RangeInclusive<u64>) {
            let mut expected = seqs.peekable();
            while expected.peek().is_some() {
                let batch = self.batches.recv_timeout(PATIENCE).unwrap();
                for frame in batch.frames() {
                    assert_eq!(Some(frame.seq), expected.next());
                }
            }
        }

        fn release(&self) -> io::Result<()> {
            self.hub.release(Instant::now() + PATIENCE)
        }
    }

    #[test]
    fn queued_messages_are_committed_before_the_ring_is_released() {
        let (node, committer) = start();
        let (hub, metrics) = (&node.hub, &node.metrics);
        assert_eq!(node.publish(30), 0);
        thread::scope(|scope| {
            scope.spawn(move || committer.run(hub, metrics, Clock::start()));
            node.release().unwrap();
        });
        assert!(hub.is_released());
        node.expect_shown(1..=30);
        assert_eq!(node.publish(3), 3, "drafts stay in the shard");

        let (mut ring, _) = open(&node.medium);
        let message = hub.ring_view().messages[0].clone();
        ring.append(&message).unwrap();
        ring.commit().unwrap();
        drop(ring);
        let (ring, history) = open(&node.medium);
        let committer = hub.take_back(ring, history, Instant::now()).unwrap();
        let Some(RingThread::Commits(committer)) = committer else {
            panic!("commits continue");
        };
        node.expect_shown(31..=31);
        thread::scope(|scope| {
            scope.spawn(move || committer.run(hub, metrics, Clock::start()));
            assert_eq!(node.publish(3), 0);
            node.expect_shown(32..=34);
            hub.close().unwrap();
        });
        assert_eq!(open(&node.medium).0.next_seq(), 35);
    }

    #[test]
    fn if_the_ring_cannot_be_closed_it_is_kept_and_commits_continue() {
        let (node, committer) = start();
        let (hub, metrics) = (&node.hub, &node.metrics);
        thread::scope(|scope| {
            scope.spawn(move || committer.run(hub, metrics, Clock::start()));
            assert_eq!(node.publish(1), 0);
            node.expect_shown(1..=1);
            node.medium.fail_in(0);
            assert!(node.release().is_err());
            assert!(!hub.is_released());
            node.medium.heal();
            assert_eq!(node.publish(1), 0);
            node.expect_shown(2..=2);
            hub.close().unwrap();
        });
        assert_eq!(open(&node.medium).0.next_seq(), 3);
    }

    /// The committer gets to the close only after the release has timed out.
    #[test]
    fn a_release_that_times_out_keeps_the_ring() {
        let (node, committer) = start();
        let (hub, metrics) = (&node.hub, &node.metrics);
        let error = hub.release(Instant::now()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(!hub.is_released());
        thread::scope(|scope| {
            scope.spawn(move || committer.run(hub, metrics, Clock::start()));
            assert_eq!(node.publish(2), 0);
            node.expect_shown(1..=2);
            hub.close().unwrap();
        });
        assert_eq!(open(&node.medium).0.next_seq(), 3);
    }

    #[test]
    fn a_close_after_the_release_has_timed_out_does_not_end_the_committer() {
        let (node, mut committer) = start();
        let closed = {
            node.hub.lock().queue().unwrap().closing.begin_release();
            let closed = committer.close(&node.hub);
            assert!(node.hub.release_from_thread(Instant::now()).is_err());
            closed
        };
        assert!(
            node.hub.settle_close(closed).is_none(),
            "the committer continues"
        );
        assert!(node.hub.lock().queue().unwrap().closing.closed.is_none());
    }

    /// Between the close and its report the committer unlocks the ring.
    #[test]
    fn a_release_is_not_given_up_once_the_committer_has_ended() {
        let (node, mut committer) = start();
        let hub = &node.hub;
        hub.lock().queue().unwrap().closing.begin_release();
        let closed = committer.close(hub);
        let closed = hub.settle_close(closed).expect("it ends");
        thread::scope(|scope| {
            let released = scope.spawn(|| hub.release_from_thread(Instant::now()));
            drop(committer);
            hub.report_closed(closed);
            released.join().unwrap().expect("the ring is given away");
        });
        assert!(hub.is_released());
    }
}
