use super::*;
use crate::message::MessageId;
use crate::testkit::{INBOX_BATCHES, MemoryMedium, draft, now_at, outlet};

/// The mark of a clean close is written near the beginning of the file. If the file is shorter than
/// that, the write ends the process with a SIGBUS.
#[test]
fn closing_a_truncated_or_removed_ring_file_writes_it_anew() {
    let medium = MemoryMedium::default();
    let open = || Ring::open_on(Box::new(medium.clone()), 100).unwrap();
    let (ring, recovered) = open();
    let hub = Hub::new(ring, recovered.messages, Vec::new(), None);
    let mut outcomes = Vec::new();
    hub.publish(
        hub.new_sender(),
        &mut VecDeque::from([draft("kept")]),
        now_at(1),
        &mut outcomes,
    );
    assert!(outcomes[0].is_ok());
    for damage in [|m: &MemoryMedium| m.truncate(100), MemoryMedium::remove] {
        damage(&medium);
        hub.close().unwrap();
    }
    drop(hub);
    let (_, recovered) = open();
    assert!(!recovered.report.is_warning(), "{}", recovered.report);
    assert_eq!(recovered.messages[0].1.content, "kept");
}

/// A successor stores messages and then fails. The ring is taken back only if the predecessor's streams can
/// get all of these messages.
#[test]
fn a_ring_is_taken_back_only_if_it_still_holds_every_newer_message() {
    for (appended, can) in [
        (0, true),
        (HISTORY_MESSAGES, true),
        (HISTORY_MESSAGES + 1, false),
    ] {
        let medium = MemoryMedium::default();
        let open = || Ring::open_on(Box::new(medium.clone()), 100).unwrap();
        let (ring, recovered) = open();
        let (outlet, inbox) = outlet(INBOX_BATCHES);
        let hub = Hub::new(ring, recovered.messages, vec![outlet], None);
        hub.release(Instant::now()).unwrap();
        let (mut ring, _) = open();
        for _ in 0..appended {
            let message = Message {
                id: MessageId::from_u128(1),
                timestamp_ms: 1,
                session: None,
                content: "x".into(),
                label: None,
                identity: None,
            };
            ring.append(&message).unwrap();
        }
        drop(ring);
        let (ring, recovered) = open();
        assert_eq!(
            hub.can_take_back(&ring, &recovered.messages),
            can,
            "{appended}"
        );
        if can {
            let taken = hub.take_back(ring, recovered.messages, Instant::now());
            assert!(taken.unwrap().is_none());
            let seqs = inbox
                .try_iter()
                .flat_map(|batch| batch.frames().map(|frame| frame.seq).collect::<Vec<_>>());
            assert!(seqs.eq(1..=appended as u64));
        }
    }
}

/// Ids and times rise with seq, also when the clock is set back and when another process has the ring.
#[test]
fn ids_and_times_rise_with_seq_across_restarts_and_handovers() {
    let medium = MemoryMedium::default();
    let open = || Ring::open_on(Box::new(medium.clone()), 100).unwrap();
    let hub = || {
        let (ring, recovered) = open();
        Hub::new(ring, recovered.messages, Vec::new(), None)
    };
    let publish = |hub: &Hub, unix_ms: u64| {
        let mut drafts = VecDeque::from(vec![draft("x"); 3]);
        let mut outcomes = Vec::new();
        let now = Now {
            unix_ms,
            ..now_at(1)
        };
        hub.publish(hub.new_sender(), &mut drafts, now, &mut outcomes);
        assert!(outcomes.iter().all(Result::is_ok));
    };
    let predecessor = hub();
    publish(&predecessor, 1_000);
    publish(&predecessor, 990);
    predecessor.release(Instant::now()).unwrap();
    let successor = hub();
    publish(&successor, 980);
    // The successor fails, and the predecessor takes the ring back.
    drop(successor);
    let (ring, recovered) = open();
    let taken = predecessor.take_back(ring, recovered.messages, Instant::now());
    assert!(taken.unwrap().is_none());
    publish(&predecessor, 985);
    predecessor.close().unwrap();
    drop(predecessor);
    publish(&hub(), 970);

    let (_, recovered) = open();
    let stamps: Vec<_> = recovered
        .messages
        .iter()
        .map(|(_, m)| (m.timestamp_ms, m.id))
        .collect();
    assert_eq!(stamps.len(), 15);
    assert!(stamps.is_sorted_by(|a, b| a < b && a.1 < b.1), "{stamps:?}");
    assert_eq!((stamps[0].0, stamps[14].0), (1_000, 1_003));
}

/// Far more than a step of another thread takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// A hub in memory with the inbox of one shard, which is full.
fn with_full_inbox(medium: &MemoryMedium) -> (Hub, crossbeam_channel::Receiver<Arc<Batch>>) {
    let (ring, recovered) = Ring::open_on(Box::new(medium.clone()), 100).unwrap();
    let (outlet, inbox) = outlet(1);
    let hub = Hub::new(ring, recovered.messages, vec![outlet], None);
    assert_eq!(publish_one(&hub), 1);
    assert_eq!(publish_one(&hub), 0, "the inbox is full");
    (hub, inbox)
}

/// Publishes a webhook; the number of outcomes.
fn publish_one(hub: &Hub) -> usize {
    let mut outcomes = Vec::new();
    let mut drafts = VecDeque::from([draft("x")]);
    hub.publish(hub.new_sender(), &mut drafts, now_at(1), &mut outcomes);
    outcomes.len()
}

fn remote(messages: u128) -> Vec<Arc<Message>> {
    let message = |id| Message {
        id: MessageId::from_u128(id),
        timestamp_ms: 1,
        session: None,
        content: "x".into(),
        label: None,
        identity: None,
    };
    (0..messages).map(|id| Arc::new(message(id))).collect()
}

/// Runs `waits` on a thread until it waits for room, then `meanwhile`, and returns the result of the first.
fn while_waiting<T: Send>(
    hub: &Hub,
    waits: impl FnOnce() -> T + Send,
    meanwhile: impl FnOnce(),
) -> T {
    std::thread::scope(|scope| {
        let waiting = scope.spawn(waits);
        let began = Instant::now();
        while !hub.room.is_awaited() && began.elapsed() < PATIENCE {
            std::thread::yield_now();
        }
        meanwhile();
        let went_on = Instant::now();
        let result = waiting.join().unwrap();
        // It would notice the room at the end of its own, longer timeout.
        assert!(went_on.elapsed() < PATIENCE, "the announcement is lost");
        result
    })
}

/// Receives the next batch as a shard does, and returns its seqs.
fn read_inbox(hub: &Hub, inbox: &crossbeam_channel::Receiver<Arc<Batch>>) -> Vec<u64> {
    let batch = inbox.try_recv().unwrap();
    hub.announce_room();
    batch.frames().map(|frame| frame.seq).collect()
}

#[test]
fn messages_of_peers_wait_for_room_and_go_on_when_a_shard_reads_its_inbox() {
    let (hub, inbox) = with_full_inbox(&MemoryMedium::default());
    let outcomes = while_waiting(
        &hub,
        || hub.publish_from_peers(&remote(2), now_at(1), 2 * PATIENCE),
        || {
            assert_eq!(hub.ring_view().messages.len(), 1, "the lock is free");
            assert_eq!(read_inbox(&hub, &inbox), [1]);
        },
    );
    assert_eq!(outcomes.len(), 2);
    assert!(outcomes.iter().all(Result::is_ok));
    assert_eq!(read_inbox(&hub, &inbox), [2, 3]);
    assert!(!hub.room.is_awaited());
}

#[test]
fn messages_of_peers_are_refused_when_no_shard_makes_room_in_time() {
    let (hub, _inbox) = with_full_inbox(&MemoryMedium::default());
    for timeout in [Duration::ZERO, Duration::from_millis(20)] {
        let outcomes = hub.publish_from_peers(&remote(2), now_at(1), timeout);
        assert_eq!(outcomes.len(), 2);
        assert!(outcomes.iter().all(|o| matches!(o, Err(NotStored::Busy))));
    }
    assert_eq!(hub.ring_view().messages.len(), 1);
}

/// A closed channel keeps what it holds, so that it stays full.
#[test]
fn the_inbox_of_a_shard_that_has_ended_is_not_waited_for() {
    let (hub, inbox) = with_full_inbox(&MemoryMedium::default());
    let outcomes = while_waiting(
        &hub,
        || hub.publish_from_peers(&remote(1), now_at(1), 2 * PATIENCE),
        || {
            hub.close_inbox(inbox);
        },
    );
    assert!(outcomes[0].is_ok());
    assert_eq!(publish_one(&hub), 1);
}

/// Messages of peers that arrive during a handover.
#[test]
fn messages_of_peers_wait_until_the_ring_is_taken_back() {
    let medium = MemoryMedium::default();
    let (hub, inbox) = with_full_inbox(&medium);
    read_inbox(&hub, &inbox);
    hub.release(Instant::now()).unwrap();
    let outcomes = while_waiting(
        &hub,
        || hub.publish_from_peers(&remote(1), now_at(1), 2 * PATIENCE),
        || {
            let (ring, recovered) = Ring::open_on(Box::new(medium.clone()), 100).unwrap();
            let taken = hub.take_back(ring, recovered.messages, Instant::now());
            assert!(taken.unwrap().is_none());
        },
    );
    assert!(outcomes[0].is_ok());
    assert_eq!(read_inbox(&hub, &inbox), [2]);
}

/// What a successor leaves behind: the ring with one more message.
fn ring_of_successor(medium: &MemoryMedium) -> (Ring, Vec<(u64, Message)>) {
    let open = || Ring::open_on(Box::new(medium.clone()), 100).unwrap();
    let (mut ring, _) = open();
    ring.append(&remote(1)[0]).unwrap();
    drop(ring);
    let (ring, recovered) = open();
    (ring, recovered.messages)
}

#[test]
fn a_ring_is_taken_back_once_the_inboxes_have_room() {
    let medium = MemoryMedium::default();
    let (hub, inbox) = with_full_inbox(&medium);
    hub.release(Instant::now()).unwrap();
    let (ring, history) = ring_of_successor(&medium);
    let deadline = Instant::now() + 2 * PATIENCE;
    let taken = while_waiting(
        &hub,
        || hub.take_back(ring, history, deadline),
        || {
            assert_eq!(hub.ring_view().messages.len(), 1, "the lock is free");
            assert!(hub.is_released());
            assert_eq!(read_inbox(&hub, &inbox), [1]);
        },
    );
    assert!(taken.unwrap().is_none());
    assert_eq!(read_inbox(&hub, &inbox), [2]);
    assert_eq!(publish_one(&hub), 1);
}

#[test]
fn a_ring_is_not_taken_back_if_a_shard_makes_no_room_in_time() {
    let medium = MemoryMedium::default();
    let (hub, inbox) = with_full_inbox(&medium);
    hub.release(Instant::now()).unwrap();
    let (ring, history) = ring_of_successor(&medium);
    let Err(error) = hub.take_back(ring, history, Instant::now()) else {
        panic!("the inbox is full");
    };
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    assert!(hub.is_released());
    assert_eq!(read_inbox(&hub, &inbox), [1]);
    assert!(inbox.try_recv().is_err(), "nothing was sent");
}
