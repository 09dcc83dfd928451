use std::sync::Arc;

use super::*;
use crate::limits::COMMIT_QUEUE_MESSAGE_BYTES;
use crate::message::SessionId;

const EPOCH: Epoch = Epoch(7);
const FOREVER: u64 = u64::MAX;

struct Rig {
    outbox: Outbox,
    last_number: u64,
}

impl Rig {
    fn new(messages: u128) -> Rig {
        let mut rig = Rig {
            outbox: Outbox::default(),
            last_number: 0,
        };
        for nth in 1..=messages {
            rig.push(nth, FOREVER);
        }
        rig
    }

    fn push(&mut self, nth: u128, deadline_ms: u64) {
        let outgoing = Outgoing {
            message: Arc::new(numbered(nth)),
            keeps_time: false,
        };
        let queued_us = 7 * u64::try_from(nth).unwrap();
        self.outbox
            .push(Ok(outgoing), Origin::Again, queued_us, deadline_ms);
    }

    /// The numbers of the messages that are sent now.
    fn send(&mut self, messages_max: usize) -> Vec<u128> {
        let (last_number, outbox) = (&mut self.last_number, &mut self.outbox);
        let sent = outbox.take(EPOCH, last_number, messages_max, usize::MAX, false);
        sent.iter().map(|sent| sent.message.id.as_u128()).collect()
    }

    fn show(&mut self, nth: u128) -> bool {
        self.outbox.note_shown(&numbered(nth)).is_some()
    }

    /// The outcomes, by the number of the message or the name of the error.
    fn over(&mut self) -> Vec<String> {
        let over = self.outbox.take_over().into_iter();
        let name = |(_, outcome): (Origin, Outcome)| match outcome {
            Ok(receipt) => receipt.id.as_u128().to_string(),
            Err(error) => format!("{error:?}"),
        };
        over.map(name).collect()
    }
}

fn numbered(nth: u128) -> Message {
    Message {
        id: MessageId::from_u128(nth),
        timestamp_ms: 1,
        session: SessionId::parse("").unwrap(),
        content: "x".into(),
        label: None,
        identity: None,
    }
}

#[test]
fn messages_are_over_in_their_order_once_they_have_come_back() {
    let mut rig = Rig::new(5);
    assert_eq!(rig.send(3), [1, 2, 3]);
    assert!(rig.show(2) && !rig.show(2) && !rig.show(9));
    assert_eq!(rig.over(), [""; 0], "the first is still on its way");
    assert!(rig.show(1));
    assert_eq!(rig.over(), ["1", "2"]);
    assert_eq!(rig.send(9), [4, 5]);
    assert!(rig.show(3) && rig.show(4) && rig.show(5));
    assert_eq!(rig.over(), ["3", "4", "5"]);
    assert!(rig.outbox.is_empty() && rig.outbox.bytes == 0);
}

#[test]
fn a_fence_queues_what_is_not_in_the_log_and_keeps_the_order() {
    let mut rig = Rig::new(4);
    assert_eq!(rig.send(3), [1, 2, 3]);
    rig.outbox.requeue_after(1);
    assert!(!rig.show(2), "it is not in the log");
    assert_eq!(rig.send(9), [2, 3, 4]);
    assert_eq!(rig.last_number, 6, "a number is used once");
    for nth in 1..=4 {
        assert!(rig.show(nth));
    }
    assert_eq!(rig.over(), ["1", "2", "3", "4"]);
}

#[test]
fn what_has_come_back_is_not_sent_again_in_the_next_epoch() {
    let mut rig = Rig::new(3);
    rig.send(3);
    assert!(rig.show(1));
    rig.outbox.requeue_before(EPOCH);
    assert!(!rig.outbox.has_queued(), "it is this epoch");
    rig.outbox.requeue_before(Epoch(8));
    assert_eq!(rig.send(9), [2, 3]);
    assert!(rig.show(2) && rig.show(3));
    assert_eq!(rig.over(), ["1", "2", "3"]);
}

#[test]
fn the_outcome_after_the_deadline_says_what_is_known() {
    let mut rig = Rig::new(0);
    for nth in 1..=4 {
        rig.push(nth, 10 * u64::try_from(nth).unwrap());
    }
    rig.send(3);
    rig.outbox.requeue_after(1);
    rig.outbox.expire(9);
    assert_eq!(
        (rig.over().len(), rig.outbox.next_deadline_ms()),
        (0, Some(10))
    );
    rig.outbox.expire(30);
    // The first was sent. The others are certainly not in the log.
    assert_eq!(rig.over(), ["InDoubt", "NoBus", "NoBus"]);
    assert!(!rig.show(1), "its sender has an answer");
    assert_eq!(rig.send(9), [4]);
    // A message of a history that was lost may have been shown by a node.
    rig.outbox.requeue_before(Epoch(8));
    rig.outbox.expire(40);
    assert_eq!(rig.over(), ["InDoubt"]);
}

#[test]
fn what_the_engine_does_not_take_is_refused_unless_it_was_acknowledged_before() {
    let mut rig = Rig::new(1);
    let (sender, _outcomes) = crossbeam_channel::bounded(1);
    for nth in 2..=3 {
        let outgoing = Outgoing {
            message: Arc::new(numbered(nth)),
            keeps_time: false,
        };
        let origin = Origin::Waiting(sender.clone());
        rig.outbox.push(Ok(outgoing), origin, 0, FOREVER);
    }
    // The second may be in a history that was replaced.
    rig.send(2);
    rig.outbox.requeue_before(Epoch(8));
    rig.outbox.refuse();
    assert_eq!(rig.send(9), [1, 2]);
    assert!(rig.show(1) && rig.show(2));
    assert_eq!(rig.over(), ["1", "2", "NoBus"]);
}

#[test]
fn a_message_waits_for_replicas_as_well() {
    let mut rig = Rig::new(2);
    let (outbox, last_number) = (&mut rig.outbox, &mut rig.last_number);
    let sent = outbox.take(EPOCH, last_number, 1, usize::MAX, true);
    assert_eq!(sent.len(), 1);
    assert!(rig.outbox.awaits_replicas());
    assert!(rig.show(1));
    assert!(rig.over().is_empty() && rig.outbox.awaits_replicas());
    rig.outbox.note_replicated();
    assert!(!rig.outbox.awaits_replicas());
    assert_eq!(rig.over(), ["1"]);
}

#[test]
fn what_has_come_back_says_when_it_was_queued() {
    let mut rig = Rig::new(2);
    rig.send(1);
    assert_eq!(rig.outbox.note_shown(&numbered(1)), Some(7));
    assert_eq!(rig.outbox.note_shown(&numbered(1)), None, "once");
    assert_eq!(rig.outbox.note_shown(&numbered(2)), None, "not sent");
    rig.send(1);
    assert_eq!(rig.outbox.note_shown(&numbered(2)), Some(14));
}

/// The mirror publishes what it finds in KV until it is in the ring.
#[test]
fn a_message_of_the_mirror_is_not_sent_again_while_it_is_in_doubt() {
    let mut rig = Rig::new(0);
    let (sender, _outcomes) = crossbeam_channel::bounded(9);
    let push = |rig: &mut Rig| {
        let outgoing = Outgoing {
            message: Arc::new(numbered(1)),
            keeps_time: true,
        };
        let origin = Origin::Waiting(sender.clone());
        rig.outbox.push(Ok(outgoing), origin, 0, 10);
    };
    push(&mut rig);
    assert_eq!(rig.send(9), [1]);
    rig.outbox.expire(10);
    assert_eq!(rig.over(), ["InDoubt"]);
    push(&mut rig);
    assert_eq!((rig.send(9).len(), rig.over()), (0, vec!["Busy".into()]));
    // A fence shows that it is not in the log.
    rig.outbox.requeue_after(0);
    push(&mut rig);
    assert_eq!(rig.send(9), [1]);
    rig.outbox.expire(10);
    rig.over();
    // It comes back after all.
    rig.show(1);
    assert!(rig.outbox.doubted.is_empty());
}

#[test]
fn an_error_keeps_its_place() {
    let mut rig = Rig::new(1);
    let error = NotStored::FrameTooLarge(1);
    rig.outbox.push(Err(Err(error)), Origin::Again, 0, FOREVER);
    rig.push(3, FOREVER);
    assert_eq!(rig.send(9), [1, 3]);
    assert!(rig.show(1) && rig.show(3));
    assert_eq!(rig.over(), ["1", "FrameTooLarge(1)", "3"]);
}

#[test]
fn the_bytes_of_an_outbox_are_bounded() {
    let mut rig = Rig::new(0);
    let mut pushed = 0;
    while rig.outbox.has_room() {
        pushed += 1;
        rig.push(pushed, FOREVER);
    }
    let bytes = COMMIT_QUEUE_MESSAGE_BYTES + 1;
    assert_eq!(pushed as usize, COMMIT_QUEUE_BYTES_MAX.div_ceil(bytes));
    rig.send(usize::MAX);
    assert!(rig.show(1));
    rig.over();
    assert!(rig.outbox.has_room());
}

#[test]
fn a_repeat_gets_the_receipt_of_the_first_and_does_not_come_back() {
    let repeat = |number: u64, body: u8| Repeat {
        number,
        first: crate::identities::First {
            id: MessageId::from_u128(77),
            timestamp_ms: 1,
        },
        body: Some([body; 16]),
    };
    let mut rig = Rig::new(0);
    for nth in 1..=3 {
        let mut message = numbered(nth);
        message.identity = Some(Arc::new(crate::message::Identity {
            id: Some([1; 16]),
            tag: None,
            body: Some([5; 16]),
            window_s: 60,
        }));
        let outgoing = Outgoing {
            message: Arc::new(message),
            keeps_time: false,
        };
        rig.outbox.push(Ok(outgoing), Origin::Again, 0, FOREVER);
    }
    assert_eq!(rig.send(9), [1, 2, 3]);
    rig.outbox.note_repeat(&repeat(1, 5));
    rig.outbox.note_repeat(&repeat(2, 6));
    assert_eq!(rig.over(), ["77", "KeyReused"]);
    // A fence does not send it again, and no other message is one.
    rig.outbox.note_repeat(&repeat(9, 5));
    rig.outbox.requeue_after(0);
    assert_eq!(rig.send(9), [3]);
}
