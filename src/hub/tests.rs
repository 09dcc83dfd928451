use super::*;
use crate::ring::memory::MemoryMedium;

/// The mark of a clean close is written near the beginning of the file. If the file is shorter than
/// that, the write ends the process with a SIGBUS.
#[test]
fn closing_a_truncated_or_removed_ring_file_writes_it_anew() {
    let medium = MemoryMedium::default();
    let open = || Ring::open_on(Box::new(medium.clone()), 100).unwrap();
    let (ring, recovered) = open();
    let hub = Hub::new(ring, recovered.messages, Vec::new(), None);
    let draft = Draft {
        session: None,
        content: "kept".into(),
    };
    let mut outcomes = Vec::new();
    hub.publish(
        hub.new_sender(),
        &mut VecDeque::from([draft]),
        1,
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
        let (batches, inbox) = crossbeam_channel::bounded(8);
        let wake = Arc::new(NoWake);
        let hub = Hub::new(
            ring,
            recovered.messages,
            vec![Outlet { batches, wake }],
            None,
        );
        hub.release(Instant::now()).unwrap();
        let (mut ring, _) = open();
        for _ in 0..appended {
            let message = Message {
                id: MessageId::from_u128(1),
                timestamp_ms: 1,
                session: None,
                content: "x".into(),
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
            assert!(hub.take_back(ring, recovered.messages).is_none());
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
        let draft = Draft {
            session: None,
            content: "x".into(),
        };
        let mut drafts = VecDeque::from(vec![draft; 3]);
        let mut outcomes = Vec::new();
        hub.publish(hub.new_sender(), &mut drafts, unix_ms, &mut outcomes);
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
    assert!(predecessor.take_back(ring, recovered.messages).is_none());
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

struct NoWake;

impl Wake for NoWake {
    fn wake(&self) {}
}
