//! What must hold for every client and every sender, whatever broke.
//!
//! - On a connection no message is shown twice, event ids and times increase, and a hole in the seqs has a gap of
//!   its size before it.
//! - An event id names the same message on all nodes, and a message has one event id in an epoch.
//! - A webhook has one message id. A stored one is seen by every client; a refused one by none.
//! - A resumed connection begins after its id, or is a replay.

use std::collections::{HashMap, HashSet};
use std::fmt;

use crate::load::{Outcome, Posted};
use crate::watcher::{Id, Record, Seen, Shown, Visit};

/// What clients and senders have recorded, in counts, with every violation.
#[derive(Debug, Default)]
pub struct Verdict {
    pub stored: usize,
    pub refused: usize,
    pub unknown: usize,
    pub visits: usize,
    /// Connections with an event id that got the history instead of what follows.
    pub replays: usize,
    pub gaps: usize,
    /// Messages on a resumed connection that the client had already, replays excluded.
    pub repeats: usize,
    pub epochs: usize,
    pub violations: Vec<String>,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} stored, {} refused, {} unknown; {} connections, {} replays, {} gaps, {} repeats, {} epochs, \
             {} violations",
            self.stored,
            self.refused,
            self.unknown,
            self.visits,
            self.replays,
            self.gaps,
            self.repeats,
            self.epochs,
            self.violations.len()
        )
    }
}

impl Verdict {
    /// Fails if anything was violated; prints the counts.
    pub fn hold(self, what: &str) -> Verdict {
        println!("{what}: {self}");
        let some: Vec<_> = self.violations.iter().take(10).collect();
        assert!(some.is_empty(), "{what}: {self}: {some:#?}");
        self
    }

    /// The same, and nothing was replayed, repeated or missed.
    pub fn hold_exactly(self, what: &str) -> Verdict {
        let verdict = self.hold(what);
        assert_eq!(
            (verdict.replays, verdict.gaps, verdict.repeats),
            (0, 0, 0),
            "{what}: {verdict}"
        );
        verdict
    }

    fn violation(&mut self, text: String) {
        self.violations.push(text);
    }
}

/// Judges records of clients that see everything, from before the first webhook until all stored messages.
pub fn judge(posted: &[Posted], records: &[Record]) -> Verdict {
    let mut verdict = Verdict::default();
    for (nth, record) in records.iter().enumerate() {
        verdict.violations.extend(record.failures.iter().cloned());
        judge_client(&mut verdict, nth, record);
    }
    judge_order(&mut verdict, records);
    judge_outcomes(&mut verdict, posted, records);
    verdict
}

fn judge_client(verdict: &mut Verdict, nth: usize, record: &Record) {
    let mut had: HashSet<&str> = HashSet::new();
    for visit in &record.visits {
        verdict.visits += 1;
        verdict.gaps += visit.gaps().len();
        let is_replay = is_replay(visit);
        verdict.replays += usize::from(is_replay);
        judge_visit(verdict, nth, visit);
        let repeated = visit
            .messages()
            .filter(|shown| had.contains(&*shown.message_id))
            .count();
        if visit.resumed.is_some() && !is_replay {
            verdict.repeats += repeated;
        }
        had.extend(visit.messages().map(|shown| &*shown.message_id));
    }
}

/// Whether a connection with an event id got the history instead of what follows. One that was cut before its
/// first event counts as neither.
fn is_replay(visit: &Visit) -> bool {
    visit.resumed.is_some() && visit.replay.is_some() && !visit.continues
}

fn judge_visit(verdict: &mut Verdict, nth: usize, visit: &Visit) {
    // A replay begins anywhere.
    let mut last = visit.resumed.filter(|_| !is_replay(visit));
    let mut shown_before: Option<&Shown> = None;
    let mut missed = 0;
    let mut ids = HashSet::new();
    for seen in &visit.seen {
        let shown = match seen {
            Seen::Gap(count) => {
                missed += count;
                continue;
            }
            Seen::Message(shown) => shown,
        };
        let place = format!("client {nth} at node {}: {}", visit.node, shown.id);
        if !ids.insert(&shown.message_id) {
            verdict.violation(format!("{place}: message {} twice", shown.message_id));
        }
        if let Some(last) = last {
            // Where another history has replaced what was seen, the connection goes on where the two part.
            let parts = shown_before.is_none() && shown.id.epoch > last.epoch && missed == 0;
            if shown.id.seq <= last.seq && !parts {
                verdict.violation(format!("{place} after {last}"));
            } else if shown.id.seq > last.seq && shown.id.seq - last.seq - 1 != missed {
                verdict.violation(format!("{place} after {last} with a gap of {missed}"));
            }
        }
        if let Some(before) = shown_before {
            if shown.timestamp < before.timestamp {
                verdict.violation(format!("{place}: its time is before that of {}", before.id));
            }
            if shown.id.epoch < before.id.epoch {
                verdict.violation(format!(
                    "{place}: its epoch is before that of {}",
                    before.id
                ));
            }
        }
        (last, shown_before, missed) = (Some(shown.id), Some(shown), 0);
    }
}

fn judge_order(verdict: &mut Verdict, records: &[Record]) {
    let mut by_id: HashMap<Id, &Shown> = HashMap::new();
    let mut places: HashMap<(u64, &str), u64> = HashMap::new();
    let mut epochs = HashSet::new();
    for shown in records.iter().flat_map(Record::messages) {
        epochs.insert(shown.id.epoch);
        let first = by_id.entry(shown.id).or_insert(shown);
        if *first != shown {
            let text = format!("{} names {} and {}", shown.id, first.content, shown.content);
            verdict.violation(text);
        }
        let place = places
            .entry((shown.id.epoch, &shown.message_id))
            .or_insert(shown.id.seq);
        if *place != shown.id.seq {
            let text = format!(
                "{} is at {} and {place} of an epoch",
                shown.message_id, shown.id
            );
            verdict.violation(text);
        }
    }
    verdict.epochs = epochs.len();
}

fn judge_outcomes(verdict: &mut Verdict, posted: &[Posted], records: &[Record]) {
    let mut ids: HashMap<&str, &str> = HashMap::new();
    for shown in records.iter().flat_map(Record::messages) {
        let id = ids.entry(&shown.content).or_insert(&shown.message_id);
        if *id != shown.message_id {
            let text = format!("{} is {id} and {}", shown.content, shown.message_id);
            verdict.violation(text);
        }
    }
    for posted in posted {
        match &posted.outcome {
            Outcome::Stored { message_id, .. } => {
                verdict.stored += 1;
                let lost = records
                    .iter()
                    .filter(|record| !record.known.contains(message_id))
                    .count();
                if lost > 0 {
                    verdict.violation(format!("{lost} clients lack the stored {posted:?}"));
                }
            }
            Outcome::Refused => {
                verdict.refused += 1;
                if ids.contains_key(&*posted.content) {
                    verdict.violation(format!(
                        "refused by node {}, but seen: {posted:?}",
                        posted.node
                    ));
                }
            }
            Outcome::Unknown => verdict.unknown += 1,
            Outcome::Unsent => {}
        }
    }
}

/// Fails unless these records show the same messages with the same ids in one order.
pub fn expect_equal(records: &[Record]) {
    let ids = |record: &Record| -> Vec<(Id, String)> {
        let ids = record
            .messages()
            .map(|shown| (shown.id, shown.message_id.clone()));
        ids.collect()
    };
    let first = ids(&records[0]);
    for record in &records[1..] {
        assert_eq!(ids(record), first);
    }
}

/// The same, except that epochs may differ: a message that was put back has the epoch of its place.
pub fn expect_equal_seqs(records: &[Record]) {
    let seqs = |record: &Record| -> Vec<(u64, String)> {
        let seqs = record
            .messages()
            .map(|shown| (shown.id.seq, shown.message_id.clone()));
        seqs.collect()
    };
    let first = seqs(&records[0]);
    for record in &records[1..] {
        assert_eq!(seqs(record), first);
    }
}

/// A judge that finds nothing is a defect.
mod tests {
    use std::time::Duration;

    use super::*;

    fn shown(epoch: u64, seq: u64, name: &str) -> Seen {
        Seen::Message(Shown {
            id: Id { epoch, seq },
            message_id: format!("id of {name}"),
            content: name.to_owned(),
            session: None,
            timestamp: 1_000 + seq,
        })
    }

    fn record(resumed: Option<Id>, seen: &[Seen]) -> Record {
        let visit = Visit {
            resumed,
            replay: Some(0),
            continues: resumed.is_some(),
            seen: seen.to_vec(),
            ..Visit::default()
        };
        let known = visit
            .messages()
            .map(|shown| shown.message_id.clone())
            .collect();
        Record {
            visits: vec![visit],
            known,
            failures: Vec::new(),
        }
    }

    fn posted(content: &str, outcome: Outcome) -> Posted {
        Posted {
            content: content.to_owned(),
            node: 0,
            outcome,
            error: String::new(),
            took: Duration::ZERO,
        }
    }

    fn stored(content: &str) -> Posted {
        let message_id = format!("id of {content}");
        posted(
            content,
            Outcome::Stored {
                message_id,
                timestamp: 0,
            },
        )
    }

    #[test]
    fn a_judge_accepts_what_holds() {
        let whole = [shown(1, 1, "a"), shown(1, 2, "b"), shown(2, 3, "c")];
        let gap = [shown(1, 1, "a"), Seen::Gap(1), shown(2, 3, "c")];
        let resumed = Some(Id { epoch: 1, seq: 1 });
        let records = [
            record(None, &whole),
            record(None, &gap),
            record(resumed, &whole[1..]),
        ];
        let verdict = judge(&[stored("c"), posted("x", Outcome::Refused)], &records);
        assert!(verdict.violations.is_empty(), "{verdict:?}");
        assert_eq!(
            (
                verdict.stored,
                verdict.refused,
                verdict.gaps,
                verdict.replays
            ),
            (1, 1, 1, 0)
        );
        let mut replayed = record(resumed, &whole);
        replayed.visits[0].continues = false;
        assert_eq!(judge(&[], &[replayed]).replays, 1);
    }

    #[test]
    fn a_judge_finds_every_violation() {
        let (a, b, c) = (shown(1, 1, "a"), shown(1, 2, "b"), shown(1, 3, "c"));
        let resumed = Some(Id { epoch: 1, seq: 1 });
        let one_id = |seen: &[Seen]| vec![record(None, seen)];
        let cases = [
            ("twice", one_id(&[a.clone(), b.clone(), shown(1, 3, "b")])),
            ("out of order", one_id(&[b.clone(), a.clone()])),
            ("an earlier epoch", one_id(&[shown(2, 1, "a"), b.clone()])),
            ("a hole", one_id(&[a.clone(), c.clone()])),
            (
                "a gap too large",
                one_id(&[a.clone(), Seen::Gap(2), c.clone()]),
            ),
            (
                "a hole after a resumption",
                vec![record(resumed, std::slice::from_ref(&c))],
            ),
            (
                "two orders",
                vec![
                    record(None, &[a.clone(), b.clone()]),
                    record(None, &[shown(1, 1, "b"), shown(1, 2, "a")]),
                ],
            ),
            (
                "two places",
                vec![
                    record(None, &[a.clone(), b.clone()]),
                    record(None, &[shown(1, 3, "b")]),
                ],
            ),
        ];
        for (what, records) in cases {
            assert!(!judge(&[], &records).violations.is_empty(), "{what}");
        }
        let seen = one_id(&[a, b]);
        let outcomes = [
            ("lost", stored("c")),
            ("refused, but seen", posted("b", Outcome::Refused)),
        ];
        for (what, posted) in outcomes {
            assert_eq!(judge(&[posted], &seen).violations.len(), 1, "{what}");
        }
    }
}
