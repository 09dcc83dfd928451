//! The committer on a disk in memory, step by step, against two promises: an acknowledged or shown
//! message is on disk, and a refused message was never shown.

use std::collections::{HashMap, VecDeque};

use crossbeam_channel::{Receiver, bounded};

use super::*;
use crate::hub::SenderId;
use crate::hub::repair::tests::{log_of, repairs, tries_max};
use crate::limits::{
    COMMIT_QUEUE_BYTES_MAX, COMMIT_QUEUE_MESSAGE_BYTES, HISTORY_MESSAGES, RING_REPAIR_MS_MAX,
    RING_REPAIR_MS_MIN,
};
use crate::live_log::SharedHistory;
use crate::message::MessageId;
use crate::ring::Recovered;
use crate::testkit::{INBOX_BATCHES, MemoryMedium, draft, now_at, outlet};

const BYTES_MAX: usize = 4000;

/// Open word, head, content, done word. There is no session.
const WRITES_PER_MESSAGE: u64 = 4;

/// A session's name may be longer than the message.
#[test]
fn a_queued_message_counts_its_content_session_and_overhead() {
    let message = |session: &str, content: &str| Queued {
        message: Ok(Arc::new(Message {
            id: MessageId::from_u128(0),
            timestamp_ms: 0,
            session: crate::message::SessionId::parse(session).unwrap(),
            content: content.into(),
            label: None,
            identity: None,
        })),
        origin: Origin::Shard(SenderId(0)),
    };
    let own = message("", "").bytes();
    // The queue's capacity doubles as it grows. An `Arc` has two counts before its value.
    assert!(own >= 2 * size_of::<Queued>() + size_of::<Message>() + 16);
    assert_eq!(message("", "12345").bytes(), own + 5);
    assert_eq!(message(&"x".repeat(256), "x").bytes(), own + 257);
}

/// A hub that commits to a disk in memory, and what its only shard has sent and received.
struct Node {
    medium: MemoryMedium,
    hub: Hub,
    committer: Committer,
    sender: SenderId,
    inbox: Receiver<Arc<Batch>>,
    metrics: Metrics,
    /// Published contents without an outcome, in order.
    unanswered: VecDeque<String>,
    acknowledged: Vec<(MessageId, String)>,
    refused: Vec<String>,
    /// Seqs of the frames that the shard received, in order.
    shown: Vec<u64>,
    now_ms: u64,
    /// The number of different contents so far.
    contents: u64,
}

fn open(medium: &MemoryMedium) -> (Ring, Recovered) {
    Ring::open_with(Box::new(medium.clone()), BYTES_MAX, 128).unwrap()
}

impl Node {
    fn start(medium: MemoryMedium) -> Node {
        let (ring, recovered) = open(&medium);
        let (outlet, inbox) = outlet(INBOX_BATCHES);
        let (hub, committer) = Hub::with_commits(ring, recovered.messages, vec![outlet], None);
        let sender = hub.new_sender();
        Node {
            medium,
            hub,
            committer,
            sender,
            inbox,
            metrics: Metrics::new(Arc::default()),
            unanswered: VecDeque::new(),
            acknowledged: Vec::new(),
            refused: Vec::new(),
            shown: Vec::new(),
            now_ms: 0,
            contents: 0,
        }
    }

    fn publish(&mut self, messages: usize) {
        let mut drafts = VecDeque::new();
        for _ in 0..messages {
            self.contents += 1;
            let content = format!(
                "{} {}",
                self.contents,
                "x".repeat(self.contents as usize % 900)
            );
            self.unanswered.push_back(content.clone());
            drafts.push_back(draft(content));
        }
        let mut outcomes = Vec::new();
        self.hub
            .publish(self.sender, &mut drafts, now_at(1), &mut outcomes);
        assert!(
            drafts.is_empty() && outcomes.is_empty(),
            "no outcome before the commit"
        );
    }

    /// Makes one commit and takes its batch from the inbox.
    fn commit(&mut self) -> bool {
        let now = now_at(self.now_ms);
        let committed = self.committer.commit(&self.hub, &self.metrics, || now);
        self.take_batches();
        committed
    }

    fn take_batches(&mut self) {
        while let Ok(batch) = self.inbox.try_recv() {
            self.shown.extend(batch.frames().map(|frame| frame.seq));
            for outcome in batch.outcomes_for(self.sender) {
                let content = self.unanswered.pop_front().unwrap();
                match outcome {
                    Ok(receipt) => self.acknowledged.push((receipt.id, content)),
                    Err(_) => self.refused.push(content),
                }
            }
        }
        assert!(self.shown.is_sorted_by(|one, next| one + 1 == *next));
        assert_eq!(self.shown.len(), self.acknowledged.len());
    }

    /// Checks that a recovered history holds the last 100 acknowledged messages, in order, each once.
    /// Messages beside them must be newer.
    fn check_recovered(&self, recovered: &Recovered) {
        let found: Vec<_> = recovered
            .messages
            .iter()
            .map(|(_, message)| (message.id, message.content.clone()))
            .collect();
        let places: HashMap<_, _> = found.iter().zip(0..).collect();
        assert_eq!(places.len(), found.len());
        // Newer messages were written but not acknowledged. They may fill the whole history.
        let newest = self.acknowledged.last().and_then(|last| places.get(last));
        let newer = newest.map_or(found.len(), |newest| found.len() - 1 - newest);
        let kept = (HISTORY_MESSAGES - newer).min(self.acknowledged.len());
        let own = &self.acknowledged[self.acknowledged.len() - kept..];
        let end = found.len() - newer;
        assert!(end >= kept, "{} of {kept} are left", found.len());
        assert_eq!(&found[end - kept..end], own);
        assert!(
            found[end..]
                .iter()
                .all(|one| !self.acknowledged.contains(one))
        );
        if !self.committer.holds_refused {
            assert!(newer <= self.unanswered.len());
            let is_refused = |(_, content): &(MessageId, String)| self.refused.contains(content);
            assert!(
                !found.iter().any(is_refused),
                "a refused message was recovered"
            );
        }
    }
}

#[test]
fn a_message_is_shown_and_acknowledged_only_after_it_is_on_disk() {
    let mut node = Node::start(MemoryMedium::default());
    node.publish(5);
    node.take_batches();
    assert!(node.shown.is_empty() && node.hub.ring_view().messages.is_empty());
    assert!(node.commit());
    assert_eq!(node.acknowledged.len(), 5);
    assert!(
        node.medium.unsynced().is_empty(),
        "one sync for all of them"
    );
    assert_eq!(node.hub.ring_view().messages.len(), 5);
    assert!(!node.commit(), "nothing is left");
}

#[test]
fn a_commit_takes_no_more_messages_than_the_ring_has_spare_slots() {
    let mut node = Node::start(MemoryMedium::default());
    node.publish(300);
    for committed in [128, 256, 300] {
        assert!(node.commit());
        assert_eq!(node.acknowledged.len(), committed);
    }
    assert!(!node.commit());
}

#[test]
fn a_power_failure_loses_no_acknowledged_message() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    for _ in 0..60 {
        let mut node = Node::start(MemoryMedium::default());
        for _ in 0..random.usize(1..8) {
            node.publish(random.usize(..130));
            node.commit();
        }
        // The sync fails, and so does the new file, so the writes of this commit may be torn.
        node.publish(random.usize(1..200));
        let before = node.medium.unsynced().len();
        assert_eq!(before, 0);
        node.medium.fail_in(random.u64(..600));
        node.commit();
        let late = random.bool();
        let torn = node.medium.image_without_power(|_, writes| {
            if late && random.u8(..4) > 0 {
                writes
            } else {
                random.usize(..=writes)
            }
        });
        let medium = MemoryMedium::default();
        medium.lose_power_to(torn);
        let (_, recovered) = open(&medium);
        // The file may hold any message of the last commit.
        node.unanswered.extend((0..200).map(|_| String::new()));
        node.check_recovered(&recovered);
    }
}

impl Node {
    /// Starts a new process on the same disk, with the recovered messages.
    fn restart(self) -> Node {
        let (ring, recovered) = open(&self.medium);
        self.check_recovered(&recovered);
        drop(ring);
        let mut next = Node::start(self.medium);
        next.contents = self.contents;
        for (seq, message) in recovered.messages {
            next.shown.push(seq);
            next.acknowledged.push((message.id, message.content));
        }
        next
    }

    fn take_step(mut self, random: &mut fastrand::Rng) -> Node {
        match random.u8(..14) {
            0..=4 => self.publish(random.usize(..60)),
            5..=8 => {
                self.commit();
            }
            9 => self.medium.fail_in(random.u64(..400)),
            10 | 11 => {
                self.medium.heal();
                self.now_ms += random.u64(..1500);
            }
            12 => {
                self.medium.heal();
                while self.commit() {}
                self.committer.close(&self.hub).unwrap();
                self.medium.reboot();
                return self.restart();
            }
            _ => {
                if random.bool() {
                    // The process is killed in the middle of a commit.
                    self.medium.fail_in(random.u64(..400));
                    self.commit();
                }
                self.medium.heal();
                if random.bool() {
                    let image = self
                        .medium
                        .image_without_power(|_, writes| random.usize(..=writes));
                    self.medium.lose_power_to(image);
                }
                return self.restart();
            }
        }
        self
    }
}

#[test]
fn in_random_walks_acknowledged_messages_survive_and_refused_ones_do_not() {
    let seed = fastrand::u64(..);
    let (mut acknowledged, mut refused) = (0, 0);
    for walk in 0..300 {
        let seed = seed.wrapping_add(walk);
        println!("seed {seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        let mut node = Node::start(MemoryMedium::default());
        for _ in 0..random.usize(5..80) {
            node = node.take_step(&mut random);
        }
        acknowledged += node.acknowledged.len();
        refused += node.refused.len();
    }
    assert!(
        acknowledged > 1000 && refused > 1000,
        "{acknowledged} {refused}"
    );
}

#[test]
fn a_message_whose_sync_fails_is_refused_not_shown_and_removed() {
    let mut node = Node::start(MemoryMedium::default());
    node.publish(120);
    node.commit();
    node.publish(30);
    // The writes succeed; the sync and the new file fail. Later the new file succeeds.
    let writes = 30 * WRITES_PER_MESSAGE;
    node.medium.fail_in(writes);
    assert!(node.commit());
    assert!(node.committer.holds_refused);
    node.medium.heal();
    assert!(
        node.committer
            .make_ready(&node.hub, RING_REPAIR_MS_MIN)
            .is_ok()
    );
    assert_eq!((node.acknowledged.len(), node.refused.len()), (120, 30));
    assert_eq!(node.shown.last(), Some(&120));
    assert_eq!(node.hub.ring_view().messages.len(), 100);
    let (ring, recovered) = open(&node.medium);
    node.check_recovered(&recovered);
    assert_eq!(
        ring.next_seq(),
        121,
        "seqs that were never shown are reused"
    );
}

#[test]
fn after_one_failed_sync_the_ring_is_written_anew_at_once() {
    let mut node = Node::start(MemoryMedium::default());
    let stats = node.committer.ring.stats();
    node.publish(2);
    node.commit();
    node.publish(1);
    // The writes succeed, the sync fails.
    node.medium.fail_once_in(WRITES_PER_MESSAGE);
    node.commit();
    assert_eq!(node.refused.len(), 1);
    assert_eq!(repairs(&stats), [1, 0], "at once");
    node.publish(1);
    node.commit();
    assert_eq!((node.refused.len(), node.acknowledged.len()), (1, 3));
    let (_, recovered) = open(&node.medium);
    node.check_recovered(&recovered);
    assert_eq!(recovered.messages.last().unwrap().0, 3);
}

#[test]
fn after_two_failures_the_ring_is_written_anew_when_a_repair_is_due() {
    let mut node = Node::start(MemoryMedium::default());
    node.publish(3);
    node.commit();
    node.publish(1);
    node.medium.fail_in(WRITES_PER_MESSAGE);
    node.commit();
    assert_eq!(node.refused.len(), 1);
    node.medium.heal();
    node.publish(1);
    node.commit();
    assert_eq!(node.refused.len(), 2, "no repair is due yet");
    node.now_ms += RING_REPAIR_MS_MIN;
    node.publish(2);
    node.commit();
    assert_eq!((node.refused.len(), node.acknowledged.len()), (2, 5));
    let (_, recovered) = open(&node.medium);
    node.check_recovered(&recovered);
    assert_eq!(recovered.messages.last().unwrap().0, 5);
}

/// Publishes one message every 10 ms for `ms` milliseconds, on a disk that fails each commit after
/// `operations` writes and syncs. Returns the logged lines.
fn stay_broken(node: &mut Node, ms: u64, operations: u64) -> Vec<String> {
    let end_ms = node.now_ms + ms;
    log_of(|| {
        while node.now_ms < end_ms {
            node.publish(1);
            node.medium.fail_in(operations);
            node.commit();
            node.now_ms += 10;
        }
    })
}

#[test]
fn on_a_broken_disk_repairs_are_retried_with_growing_delays() {
    const BROKEN_MS: u64 = 120_000;
    // Either the repair fails, or it succeeds and the sync of the next commit fails.
    for operations in [0, 1 + WRITES_PER_MESSAGE] {
        let mut node = Node::start(MemoryMedium::default());
        let stats = node.committer.ring.stats();
        node.publish(3);
        node.commit();
        node.publish(1);
        node.medium.fail_in(WRITES_PER_MESSAGE);
        let mut log = log_of(|| {
            node.commit();
        });
        log.extend(stay_broken(&mut node, BROKEN_MS, operations));
        assert_eq!(node.acknowledged.len(), 3, "{operations}");
        let tries = repairs(&stats).iter().sum::<u64>();
        let (least, most) = (BROKEN_MS / RING_REPAIR_MS_MAX, tries_max(BROKEN_MS));
        assert!(
            (least..=most).contains(&tries),
            "{tries} of {least} to {most}"
        );
        assert_eq!(log.len(), 1, "{log:#?}");
        node.medium.heal();
        let healed_ms = node.now_ms;
        let log = log_of(|| {
            while node.acknowledged.len() == 3 {
                node.publish(1);
                node.commit();
                node.now_ms += 10;
            }
        });
        assert!(node.now_ms <= healed_ms + RING_REPAIR_MS_MAX + 10);
        assert_eq!(log.len(), 1, "{log:#?}");
        let (_, recovered) = open(&node.medium);
        node.check_recovered(&recovered);
        assert_eq!(recovered.messages.last().unwrap().0, 4);
    }
}

#[test]
fn a_close_does_not_mark_a_file_that_holds_a_refused_message() {
    let mut node = Node::start(MemoryMedium::default());
    node.publish(2);
    node.commit();
    node.publish(1);
    node.medium.fail_in(WRITES_PER_MESSAGE);
    node.commit();
    assert!(node.committer.close(&node.hub).is_err());
    node.medium.heal();
    node.committer.close(&node.hub).unwrap();
    node.medium.reboot();
    let (_, recovered) = open(&node.medium);
    assert!(!recovered.report.is_warning(), "{}", recovered.report);
    node.check_recovered(&recovered);
    assert_eq!(recovered.messages.len(), 2);
}

#[test]
fn the_outcome_of_a_message_that_is_too_large_keeps_its_place() {
    let mut node = Node::start(MemoryMedium::default());
    node.publish(1);
    let mut drafts = VecDeque::from([draft("x".repeat(70_000))]);
    node.unanswered.push_back("too large".into());
    node.hub
        .publish(node.sender, &mut drafts, now_at(1), &mut Vec::new());
    node.publish(1);
    node.commit();
    assert_eq!((node.acknowledged.len(), node.refused.len()), (2, 1));
    assert!(node.unanswered.is_empty());
    assert!(node.acknowledged[1].1.starts_with("2 "));
}

#[test]
fn the_commit_queue_is_bounded() {
    let node = Node::start(MemoryMedium::default());
    let content = "x".repeat(BYTES_MAX);
    let mut drafts = VecDeque::from(vec![draft(content); 10_000]);
    node.hub
        .publish(node.sender, &mut drafts, now_at(1), &mut Vec::new());
    let queued = COMMIT_QUEUE_BYTES_MAX.div_ceil(BYTES_MAX + COMMIT_QUEUE_MESSAGE_BYTES);
    assert_eq!(drafts.len(), 10_000 - queued);
}

/// Upper bound for a step that another thread does at once. Reaching it means a lost wake-up.
const PATIENCE: Duration = Duration::from_secs(30);

/// Each message that is queued wakes a sleeping committer. Whether it sleeps is up to the scheduler;
/// in 200 rounds it does now and then.
#[test]
fn queuing_a_message_wakes_the_committer() {
    let Node {
        hub,
        committer,
        inbox,
        sender,
        metrics,
        ..
    } = Node::start(MemoryMedium::default());
    std::thread::scope(|scope| {
        let (hub, metrics) = (&hub, &metrics);
        scope.spawn(|| committer.run(hub, metrics, Clock::start()));
        let mut woken = true;
        for nth in 0..200 {
            let message = Message {
                id: MessageId::from_u128(nth),
                timestamp_ms: 1,
                session: None,
                content: "x".into(),
                label: None,
                identity: None,
            };
            let (outcome, outcomes) = bounded(1);
            if nth % 2 == 0 {
                let mut drafts = VecDeque::from([draft("x")]);
                hub.publish(sender, &mut drafts, now_at(1), &mut Vec::new());
            } else {
                scope.spawn(move || {
                    let stored = hub.publish_from_peers(&[Arc::new(message)], now_at(1), PATIENCE);
                    // The receiver is gone if this took longer than the bound.
                    let _ = outcome.send(stored.iter().all(Result::is_ok));
                });
            }
            woken &= inbox.recv_timeout(PATIENCE).is_ok();
            woken &= nth % 2 == 0 || outcomes.recv_timeout(PATIENCE) == Ok(true);
            if !woken {
                break;
            }
        }
        // Closed before the assertion, so that the threads end in any case.
        hub.close().unwrap();
        assert!(woken, "a message is queued, and the committer sleeps");
    });
}

#[test]
fn messages_queued_before_a_close_are_committed() {
    let Node {
        hub,
        committer,
        inbox,
        sender,
        metrics,
        medium,
        ..
    } = Node::start(MemoryMedium::default());
    let mut drafts = VecDeque::from(vec![draft("x"); 300]);
    hub.publish(sender, &mut drafts, now_at(1), &mut Vec::new());
    std::thread::scope(|scope| {
        let (hub, metrics) = (&hub, &metrics);
        let closer = scope.spawn(|| hub.close());
        while !hub
            .lock()
            .queue()
            .is_some_and(|queue| queue.closing.is_begun())
        {
            std::thread::yield_now();
        }
        committer.run(hub, metrics, Clock::start());
        closer.join().unwrap().unwrap();
    });
    let shown: usize = inbox.try_iter().map(|batch| batch.frames().count()).sum();
    assert_eq!(shown, 300);
    medium.reboot();
    let (ring, recovered) = open(&medium);
    assert_eq!((ring.next_seq(), recovered.messages.len()), (301, 100));
    assert!(!recovered.report.is_warning(), "{}", recovered.report);
}

#[test]
fn the_committer_runs_beside_publishers_peers_and_a_close() {
    let medium = MemoryMedium::default();
    let Node {
        hub,
        committer,
        inbox,
        sender,
        metrics,
        ..
    } = Node::start(medium.clone());
    std::thread::scope(|scope| {
        let (hub, metrics) = (&hub, &metrics);
        scope.spawn(|| committer.run(hub, metrics, Clock::start()));
        let publisher = scope.spawn(|| {
            let mut drafts = VecDeque::from(vec![draft("local"); 500]);
            hub.publish(sender, &mut drafts, now_at(1), &mut Vec::new());
            let mut answered = 0;
            while answered < 500 {
                let batch = inbox.recv().unwrap();
                answered += batch.outcomes_for(sender).filter(|o| o.is_ok()).count();
            }
            // Returned, not dropped: the inbox must stay open for the other batches.
            inbox
        });
        let remote: Vec<_> = (0..50)
            .map(|nth| {
                Arc::new(Message {
                    id: MessageId::from_u128(nth),
                    timestamp_ms: 1,
                    session: None,
                    content: "remote".into(),
                    label: None,
                    identity: None,
                })
            })
            .collect();
        let outcomes = hub.publish_from_peers(&remote, now_at(1), Duration::from_secs(60));
        assert_eq!(outcomes.len(), 50);
        assert!(outcomes.iter().all(Result::is_ok));
        let held = hub.ring_view().messages;
        assert!(
            held.len() >= 50,
            "each is in the history when its outcome arrives"
        );
        drop(publisher.join().unwrap());
        hub.close().unwrap();
    });
    medium.reboot();
    let (ring, recovered) = open(&medium);
    assert_eq!((ring.next_seq(), recovered.messages.len()), (551, 100));
    assert!(!recovered.report.is_warning());
    assert!(
        crate::metrics::family::encode(&metrics.gather())
            .contains("hookcast_ring_sync_seconds_count")
    );
}

/// A shard reads its inbox while the committer waits.
#[test]
fn the_committer_waits_for_room_and_goes_on_when_a_shard_reads_its_inbox() {
    let Node {
        hub,
        committer,
        inbox,
        sender,
        metrics,
        ..
    } = Node::start(MemoryMedium::default());
    let shared = || SharedHistory {
        seqs: Vec::new(),
        until_seq: 0,
    };
    while hub.set_shared_history(shared()) {}
    let mut drafts = VecDeque::from([draft("x")]);
    hub.publish(sender, &mut drafts, now_at(1), &mut Vec::new());
    std::thread::scope(|scope| {
        let (hub, metrics) = (&hub, &metrics);
        scope.spawn(|| committer.run(hub, metrics, Clock::start()));
        while !hub.room.is_awaited() {
            std::thread::yield_now();
        }
        let mut answered = false;
        while let Ok(batch) = inbox.recv_timeout(PATIENCE) {
            hub.announce_room();
            answered = batch.outcomes_for(sender).count() > 0;
            if answered {
                break;
            }
        }
        // Closed before the assertion, so that the threads end in any case.
        hub.close_inbox(inbox);
        hub.close().unwrap();
        assert!(answered);
    });
}

/// The committer may not fail after its sync, so it has a place for its batch before.
#[test]
fn the_shared_history_leaves_a_place_for_the_commit_under_way() {
    let mut node = Node::start(MemoryMedium::default());
    node.publish(1);
    let taken = node.hub.take_queued(10).unwrap();
    let shared = || SharedHistory {
        seqs: Vec::new(),
        until_seq: 0,
    };
    let mut sent = 0;
    while node.hub.set_shared_history(shared()) {
        sent += 1;
    }
    assert_eq!(sent, INBOX_BATCHES - 1);
    let mut group = Group::default();
    for Queued { message, origin } in taken {
        let message = message.unwrap();
        let stored = node.committer.append(&node.hub, &mut group, message, 0);
        group.outcomes.push((origin, stored));
    }
    node.hub.show(group.batch, group.messages, group.outcomes);
    node.take_batches();
    assert_eq!(node.acknowledged.len(), 1);
    for _ in 0..INBOX_BATCHES {
        assert!(node.hub.set_shared_history(shared()));
    }
    assert!(!node.hub.set_shared_history(shared()));
}
