//! Random operations on a ring and on a `VecDeque`, compared after each.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::super::{Found, Ring, RingError};
use crate::limits::{HISTORY_MESSAGES, MESSAGE_EXTRA_BYTES_MAX};
use crate::message::{Message, MessageId, SessionId};
use crate::testkit::MemoryMedium;

#[derive(Debug, Clone)]
enum Step {
    Append {
        content: String,
        session: String,
        timestamp_ms: u64,
    },
    /// A kill and a start with this limit of content and session.
    Reopen {
        bytes_max: usize,
    },
    SyncAndReopen {
        bytes_max: usize,
    },
    Sync,
    RebootInOrder,
    PowerLossAfterSync,
    Remove,
    Truncate(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let text = prop_oneof![
        "\\PC{1,40}",
        (0_usize..9000).prop_map(|bytes| "x".repeat(bytes)),
        Just("\u{0}\u{1F600}\r\n".to_owned()),
    ];
    let session = prop_oneof![3 => Just(String::new()), 1 => "[a-z]{1,256}"];
    let append =
        (text, session, any::<u64>()).prop_map(|(content, session, timestamp_ms)| Step::Append {
            content,
            session,
            timestamp_ms,
        });
    let step = prop_oneof![
        60 => append,
        4 => (1_usize..9000).prop_map(|bytes_max| Step::Reopen { bytes_max }),
        4 => (1_usize..9000).prop_map(|bytes_max| Step::SyncAndReopen { bytes_max }),
        1 => Just(Step::Sync),
        1 => Just(Step::RebootInOrder),
        1 => Just(Step::PowerLossAfterSync),
        1 => Just(Step::Remove),
        1 => (0_usize..500_000).prop_map(Step::Truncate),
    ];
    prop::collection::vec(step, 0..400)
}

/// A ring and its expected contents.
struct Pair {
    medium: MemoryMedium,
    ring: Option<Ring>,
    history: VecDeque<(u64, Message)>,
    next_seq: u64,
    bytes_max: usize,
    appended: u64,
}

impl Pair {
    fn new() -> Pair {
        let mut pair = Pair {
            medium: MemoryMedium::default(),
            ring: None,
            history: VecDeque::new(),
            next_seq: 1,
            bytes_max: 0,
            appended: 0,
        };
        pair.open(1, |found| matches!(found, Found::Nothing));
        pair
    }

    fn ring(&mut self) -> &mut Ring {
        self.ring.as_mut().unwrap()
    }

    fn open(&mut self, bytes_max: usize, fits: impl Fn(&Found) -> bool) {
        self.ring = None;
        let (ring, recovered) = Ring::open_on(Box::new(self.medium.clone()), bytes_max).unwrap();
        assert!(fits(&recovered.report.found), "{}", recovered.report);
        assert_eq!(self.history, recovered.messages);
        assert_eq!(recovered.report.lost_max, Some(0));
        assert_eq!(ring.next_seq(), self.next_seq);
        assert!(ring.message_bytes_max() >= bytes_max.max(self.bytes_max));
        self.bytes_max = ring.message_bytes_max();
        self.ring = Some(ring);
    }

    fn reopen(&mut self, bytes_max: usize) {
        let (epoch, grows) = (
            self.ring().epoch(),
            bytes_max + MESSAGE_EXTRA_BYTES_MAX > self.bytes_max,
        );
        self.open(bytes_max, |found| match found {
            Found::Grown => grows,
            Found::Intact => !grows,
            _ => false,
        });
        assert_eq!(self.ring().epoch(), epoch);
    }

    fn append(&mut self, content: String, session: &str, timestamp_ms: u64) {
        self.appended += 1;
        let id = MessageId::from_u64_pair(7, self.appended);
        let session = SessionId::parse(session).unwrap();
        let message = Message {
            id,
            timestamp_ms,
            session,
            content,
            label: None,
            identity: None,
        };
        let session_bytes = message
            .session
            .as_ref()
            .map_or(0, |session| session.as_str().len());
        let bytes = message.content.len() + session_bytes;
        match self.ring().append(&message) {
            Ok(seq) => {
                assert!(bytes <= self.bytes_max);
                assert_eq!(seq, self.next_seq);
                self.next_seq += 1;
                self.history.push_back((seq, message));
                if self.history.len() > HISTORY_MESSAGES {
                    self.history.pop_front();
                }
            }
            Err(RingError::MessageTooLarge {
                bytes: message_bytes,
                bytes_max,
            }) => {
                assert_eq!((message_bytes, bytes_max), (bytes, self.bytes_max));
                assert!(bytes > self.bytes_max);
            }
            Err(error) => panic!("{error}"),
        }
    }

    fn repair(&mut self) {
        assert!(self.ring().check().is_err());
        let ring = self.ring.as_mut().unwrap();
        ring.repair(self.history.iter().map(|(_, message)| message))
            .unwrap();
        ring.check().unwrap();
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Append {
                content,
                session,
                timestamp_ms,
            } => {
                self.append(content, &session, timestamp_ms);
            }
            Step::Reopen { bytes_max } => self.reopen(bytes_max),
            Step::SyncAndReopen { bytes_max } => {
                self.ring().sync().unwrap();
                self.reopen(bytes_max);
            }
            Step::Sync => self.ring().sync().unwrap(),
            Step::RebootInOrder => {
                self.ring().sync().unwrap();
                self.medium.reboot();
                self.reopen(1);
            }
            Step::PowerLossAfterSync => {
                self.ring().sync().unwrap();
                self.medium.lose_power(|_, _| 0);
                self.reopen(1);
            }
            Step::Remove => {
                self.medium.remove();
                self.repair();
            }
            Step::Truncate(len) => {
                if len < self.medium.image().len() {
                    self.medium.truncate(len);
                    self.repair();
                }
            }
        }
        assert_eq!(self.ring().next_seq(), self.next_seq);
        assert_eq!(self.history, self.ring.as_ref().unwrap().history());
    }
}

proptest! {
    #[test]
    fn the_ring_holds_what_a_deque_holds(steps in steps()) {
        let mut pair = Pair::new();
        for step in steps {
            pair.take(step);
        }
        pair.reopen(1);
    }
}
