//! What must hold for every client and every sender, whatever broke.
//!
//! - On a connection no message is shown twice, event ids and times increase. In a hole in the seqs are only messages
//!   outside the view, unless a gap of its size is before it.
//! - A stream shows no message outside its view.
//! - An event id names the same message on all nodes, and a message has one event id in an epoch.
//! - A webhook has one message id and its own session. A stored one is seen by every client whose view includes it;
//!   a refused one by none.
//! - A resumed connection begins after its id, or is a replay.
//! - A stream with a token ends with it (`tokens`).

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::ops::Range;

use crate::load::{Outcome, Posted};
use crate::view::View;
use crate::watcher::{Id, Record, Seen, Shown, Visit};

mod tests;
mod tokens;

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
    /// Messages that a client lacks, although its view includes them and others have seen them; between its first
    /// message and its last.
    pub unseen: usize,
    /// Connections that ended with their token.
    pub token_ends: usize,
    pub epochs: usize,
    pub violations: Vec<String>,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} stored, {} refused, {} unknown; {} connections, {} ended with their token, {} replays, {} gaps, \
             {} repeats, {} unseen, {} epochs, {} violations",
            self.stored,
            self.refused,
            self.unknown,
            self.visits,
            self.token_ends,
            self.replays,
            self.gaps,
            self.repeats,
            self.unseen,
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
            (
                verdict.replays,
                verdict.gaps,
                verdict.repeats,
                verdict.unseen
            ),
            (0, 0, 0, 0),
            "{what}: {verdict}"
        );
        verdict
    }

    fn violation(&mut self, text: String) {
        self.violations.push(text);
    }
}

/// Judges records of clients, from before the first webhook until all stored messages. One of them sees everything,
/// or there are no sessions.
pub fn judge(posted: &[Posted], records: &[Record]) -> Verdict {
    let mut verdict = Verdict::default();
    let places = Places::of(records);
    for (nth, record) in records.iter().enumerate() {
        verdict.violations.extend(record.failures.iter().cloned());
        judge_client(&mut verdict, nth, record, &places);
        tokens::judge(&mut verdict, nth, record);
    }
    count_unseen(&mut verdict, records);
    judge_order(&mut verdict, records);
    judge_outcomes(&mut verdict, posted, records);
    verdict
}

/// The session of the message of each seq, by epoch, as any client has seen it.
struct Places<'a>(HashMap<u64, BTreeMap<u64, Option<&'a str>>>);

impl<'a> Places<'a> {
    fn of(records: &'a [Record]) -> Places<'a> {
        let mut places = Places(HashMap::new());
        for shown in records.iter().flat_map(Record::messages) {
            let epochs = places.0.entry(shown.id.seq).or_default();
            epochs.insert(shown.id.epoch, shown.session.as_deref());
        }
        places
    }

    /// How many of these seqs have a message outside a view, in the history of an epoch. An unknown message counts as
    /// one of the view.
    fn outside(&self, seqs: Range<u64>, epoch: u64, view: &View) -> u64 {
        let is_outside = |seq: &u64| {
            let epochs = self.0.get(seq);
            // Seqs have no holes: what an epoch has not replaced is of an earlier one.
            let newest = epochs.and_then(|epochs| epochs.range(..=epoch).next_back());
            newest.is_some_and(|(_, session)| !view.includes(*session))
        };
        seqs.filter(is_outside).count() as u64
    }
}

fn judge_client(verdict: &mut Verdict, nth: usize, record: &Record, places: &Places) {
    let mut had: HashSet<&str> = HashSet::new();
    for visit in &record.visits {
        verdict.visits += 1;
        verdict.gaps += visit.gaps().len();
        let is_replay = is_replay(visit);
        verdict.replays += usize::from(is_replay);
        judge_visit(verdict, nth, visit, &record.view, places);
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

fn judge_visit(verdict: &mut Verdict, nth: usize, visit: &Visit, view: &View, places: &Places) {
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
        if !view.includes(shown.session.as_deref()) {
            verdict.violation(format!("{place}: of {:?}, in {view:?}", shown.session));
        }
        if let Some(last) = last {
            // Where another history has replaced what was seen, the connection goes on where the two part.
            let parts = shown_before.is_none() && shown.id.epoch > last.epoch && missed == 0;
            if shown.id.seq <= last.seq && !parts {
                verdict.violation(format!("{place} after {last}"));
            } else if shown.id.seq > last.seq {
                let hole = last.seq + 1..shown.id.seq;
                let all = hole.end - hole.start;
                let lacking = all - places.outside(hole, shown.id.epoch, view);
                if !(lacking..=all).contains(&missed) {
                    verdict.violation(format!(
                        "{place} after {last} with a gap of {missed}, not of {lacking} to {all}"
                    ));
                }
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

fn count_unseen(verdict: &mut Verdict, records: &[Record]) {
    let all: HashMap<&str, &Shown> = records
        .iter()
        .flat_map(Record::messages)
        .map(|shown| (&*shown.message_id, shown))
        .collect();
    for record in records {
        let seqs = || record.messages().map(|shown| shown.id.seq);
        let (Some(first), Some(last)) = (seqs().min(), seqs().max()) else {
            continue;
        };
        let is_unseen = |shown: &&&Shown| {
            (first..last).contains(&shown.id.seq)
                && record.view.includes(shown.session.as_deref())
                && !record.known.contains(&shown.message_id)
        };
        verdict.unseen += all.values().filter(is_unseen).count();
    }
}

fn judge_outcomes(verdict: &mut Verdict, posted: &[Posted], records: &[Record]) {
    let mut by_content: HashMap<&str, &Shown> = HashMap::new();
    for shown in records.iter().flat_map(Record::messages) {
        let first = by_content.entry(&shown.content).or_insert(shown);
        if first.message_id != shown.message_id {
            let text = format!(
                "{} is {} and {}",
                shown.content, first.message_id, shown.message_id
            );
            verdict.violation(text);
        }
    }
    for posted in posted {
        let shown = by_content.get(&*posted.content);
        if let Some(shown) = shown
            && shown.session != posted.session
        {
            verdict.violation(format!("shown for {:?}: {posted:?}", shown.session));
        }
        match &posted.outcome {
            Outcome::Stored { message_id, .. } => {
                verdict.stored += 1;
                let lost = records
                    .iter()
                    .filter(|record| record.view.includes(posted.session.as_deref()))
                    .filter(|record| !record.known.contains(message_id))
                    .count();
                if lost > 0 {
                    verdict.violation(format!("{lost} clients lack the stored {posted:?}"));
                }
            }
            Outcome::Refused => {
                verdict.refused += 1;
                if shown.is_some() {
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
