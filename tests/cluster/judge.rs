//! What is expected of all nodes together.

use std::collections::{BTreeMap, HashSet};

use hookcast::hub::NotStored;
use hookcast::message::MessageId;
use hookcast::sse::event_id::EventId;

use super::node::{Outcome, Shown};

#[derive(Default)]
pub struct Judge {
    places: BTreeMap<EventId, MessageId>,
    shown: HashSet<String>,
    pub acknowledged: HashSet<String>,
    refused: HashSet<String>,
    pub in_doubt: u64,
}

impl Judge {
    /// A frame that a node has shown.
    pub fn note_frame(&mut self, frame: &Shown) {
        let known = *self.places.entry(frame.id).or_insert(frame.message);
        assert_eq!(known, frame.message, "{} is two messages", frame.id);
        assert!(
            !self.refused.contains(&frame.content),
            "{} was refused with certainty, and is shown",
            frame.content
        );
        self.shown.insert(frame.content.clone());
    }

    pub fn note_outcome(&mut self, (number, outcome): Outcome) {
        let content = number.to_string();
        match outcome {
            Ok(_) => {
                assert!(self.shown.contains(&content), "{content} is not shown yet");
                self.acknowledged.insert(content);
            }
            Err(NotStored::NoBus) => {
                assert!(!self.shown.contains(&content), "{content} is shown");
                self.refused.insert(content);
            }
            Err(NotStored::InDoubt) => self.in_doubt += 1,
            Err(error) => panic!("{content}: {error}"),
        }
    }

    pub fn refusals(&self) -> usize {
        self.refused.len()
    }
}
