//! Which messages are for which session, and which sessions a stream has.
//!
//! A stream sees the messages of its sessions and those for everyone. Unions of neighbouring streams overlap, so
//! that a session is in several unions. Used by `poster`, which posts to a session, and by `reader`, which checks.
//! Pure arithmetic: both ends find the same by the number of a message and of a stream.

use serde::{Deserialize, Serialize};

/// One message in so many is for everyone; the others are for the sessions in turn.
const EVERYONE_EVERY: u32 = 4;

/// The first number of a schedule's messages. Those before are posted one by one, for everyone.
pub const FIRST_NUMBER: u32 = 10_000;

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Views {
    /// Nodes.
    nodes: u32,
    /// Sessions; 0: every message is for everyone, and every stream sees all.
    sessions: u32,
    /// Sessions of each stream.
    per_stream: u32,
}

impl Views {
    /// Views on this many sessions, of which a stream has `per_stream`.
    pub fn new(nodes: usize, sessions: u32, per_stream: u32) -> Views {
        Views {
            nodes: (nodes as u32).max(1),
            sessions,
            per_stream: per_stream.clamp(1, sessions.max(1)),
        }
    }

    /// Whether streams see a part of the messages.
    pub fn are_partial(self) -> bool {
        self.sessions > 0
    }

    /// How many views differ.
    pub fn count(self) -> usize {
        self.sessions.max(1) as usize
    }

    /// The view of a stream, by its number among those of all processes. Each node has streams of every view.
    pub fn of_stream(self, stream: usize) -> usize {
        stream / self.nodes as usize % self.count()
    }

    /// The sessions of a view; none if it sees everything.
    pub fn sessions(self, view: usize) -> impl Iterator<Item = u32> {
        let count = if self.are_partial() {
            self.per_stream
        } else {
            0
        };
        (0..count).map(move |nth| (view as u32 + nth) % self.sessions)
    }

    /// The session of a message; `None`: it is for everyone. Messages are posted to the nodes in turn, and each
    /// node gets messages for every session.
    pub fn session_of(self, number: u32) -> Option<u32> {
        if !self.are_partial() || number < FIRST_NUMBER {
            return None;
        }
        let turn = number / self.nodes + number % self.nodes;
        let is_for_session = !turn.is_multiple_of(EVERYONE_EVERY);
        is_for_session.then(|| (turn - turn / EVERYONE_EVERY - 1) % self.sessions)
    }

    /// The first number from `number` on whose message is for everyone.
    pub fn next_for_everyone(self, number: u32) -> u32 {
        let mut numbers = number..;
        let next = numbers.find(|&number| self.session_of(number).is_none());
        next.unwrap_or(number)
    }

    /// Whether a view has a message.
    pub fn sees(self, view: usize, number: u32) -> bool {
        let Some(session) = self.session_of(number) else {
            return true;
        };
        let distance = (session + self.sessions - view as u32) % self.sessions;
        distance < self.per_stream
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_view_sees_its_sessions_and_what_is_for_everyone() {
        for (nodes, sessions, per_stream) in [(1, 1, 1), (3, 7, 3), (3, 4, 4), (2, 5, 1)] {
            let views = Views::new(nodes, sessions, per_stream);
            for view in 0..views.count() {
                let own: Vec<u32> = views.sessions(view).collect();
                assert_eq!(own.len(), per_stream as usize);
                for number in 0..FIRST_NUMBER + 500 {
                    let session = views.session_of(number);
                    let expected = session.is_none_or(|session| own.contains(&session));
                    assert_eq!(views.sees(view, number), expected, "{views:?} {number}");
                }
            }
        }
    }

    #[test]
    fn each_node_gets_messages_for_every_session_and_for_everyone() {
        let views = Views::new(3, 5, 2);
        for node in 0..3 {
            let numbers = (FIRST_NUMBER..FIRST_NUMBER + 600).filter(|number| number % 3 == node);
            let mut counts = [0; 6];
            for number in numbers {
                counts[views
                    .session_of(number)
                    .map_or(5, |session| session as usize)] += 1;
            }
            assert!(counts.iter().all(|&count| count >= 25), "{counts:?}");
        }
        let streams_of_node = |node| (0..30).filter(move |stream| stream % 3 == node);
        for node in 0..3 {
            let views: std::collections::BTreeSet<usize> = streams_of_node(node)
                .map(|stream| views.of_stream(stream))
                .collect();
            assert_eq!(views.len(), 5);
        }
    }

    #[test]
    fn without_sessions_everything_is_for_everyone() {
        let views = Views::new(3, 0, 1);
        assert_eq!((views.count(), views.sessions(0).count()), (1, 0));
        assert!((0..FIRST_NUMBER + 99).all(|number| views.sees(0, number)));
        let views = Views::new(3, 9, 2);
        assert_eq!(views.session_of(5), None);
        let next = views.next_for_everyone(FIRST_NUMBER + 1);
        assert!(next > FIRST_NUMBER && views.session_of(next).is_none());
    }
}
