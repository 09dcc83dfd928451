//! The verdict over all streams of all reading processes, and over all answers to messages.
//!
//! Used by `runs`. Pure bookkeeping.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;

use serde::Serialize;

use crate::engine::clock::SECOND_NS;
use crate::engine::cluster::lives::Ends;
use crate::engine::cluster::order::Place;
use crate::engine::cluster::plan::{Outcome, Progress};
use crate::engine::cluster::poster::Posted;
use crate::engine::latency::{Latency, LatencySummary};

/// Counts that must all be zero.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub struct Faults {
    /// Acknowledged messages that a stream lacks, summed over streams; without those announced by a `gap`.
    pub lost: u64,
    /// Messages that came again on one connection.
    pub repeated: u64,
    /// Messages that came on one connection after one with a greater event id.
    pub out_of_order: u64,
    /// Seqs that were skipped on one connection without a `gap` event.
    pub holes: u64,
    /// `gap` events with a wrong number.
    pub wrong_gaps: u64,
    /// Messages of sessions that a stream has not.
    pub foreign: u64,
    /// Event ids under which two streams have seen different events.
    pub differing: u64,
    /// Messages that are in one epoch twice, or have two message ids.
    pub doubled: u64,
    /// Acknowledged messages that no stream has seen.
    pub wrong_200: u64,
    /// Acknowledged messages whose id on streams is not that of the answer.
    pub wrong_ids: u64,
    /// Messages that were refused for certain, and that a stream has seen.
    pub wrong_503: u64,
    /// Streams that were not open, or lacked the last message, at the end.
    pub stuck: u64,
    /// Broken responses on streams, and events without an id.
    pub broken_responses: u64,
    /// Replays in a run without a fault: every id was valid.
    pub needless_replays: u64,
    /// Streams that got `token_expired` before the end of their token.
    pub ended_early: u64,
    /// Streams that were open too long after the end of their token.
    pub ended_late: u64,
    /// Streams that did not end in order at `token_expired`, or got a message after it.
    pub ended_disorderly: u64,
    /// Streams that ended without `token_expired` after the end of their token, in a run without a fault.
    pub ended_unannounced: u64,
    /// Valid tokens that a node has refused.
    pub refused_tokens: u64,
}

impl Faults {
    /// Each count with its name.
    pub fn counts(&self) -> [(&'static str, u64); 19] {
        [
            ("lost acknowledged", self.lost),
            ("repeated on a connection", self.repeated),
            ("out of order on a connection", self.out_of_order),
            ("holes without a gap event", self.holes),
            ("gap events with a wrong number", self.wrong_gaps),
            ("messages of other sessions", self.foreign),
            ("orders that differ between nodes", self.differing),
            ("messages stored twice", self.doubled),
            ("wrong 200: acknowledged, seen nowhere", self.wrong_200),
            ("wrong message id in a 200", self.wrong_ids),
            ("wrong 503: refused, yet delivered", self.wrong_503),
            ("streams that lacked the last message", self.stuck),
            ("broken responses on streams", self.broken_responses),
            ("replays without any fault", self.needless_replays),
            ("ends before the end of the token", self.ended_early),
            ("ends long after it, or never", self.ended_late),
            ("ends out of order at token_expired", self.ended_disorderly),
            (
                "ends after it without token_expired",
                self.ended_unannounced,
            ),
            ("valid tokens refused", self.refused_tokens),
        ]
    }

    /// Whether all are zero.
    pub fn is_clean(&self) -> bool {
        self.counts().iter().all(|&(_, count)| count == 0)
    }
}

/// All results of the streams and the posts of a run.
#[derive(Debug, Default, Serialize)]
pub struct Verdict {
    /// What must be zero.
    pub faults: Faults,
    /// Descriptions of the first faults.
    pub details: Vec<String>,
    /// Messages acknowledged.
    pub acknowledged: u64,
    /// Messages refused for certain.
    pub refused: u64,
    /// Messages that may be stored or not.
    pub unknown: u64,
    /// Those of them that streams have seen.
    pub unknown_seen: u64,
    /// Answers to posts by status, and failures.
    pub answers: BTreeMap<String, u64>,
    /// Messages of the schedule that were left out, because no connection was idle.
    pub left_out: u64,
    /// The slowest answer to a post in milliseconds.
    pub slowest_answer_ms: f64,
    /// Latency of acknowledgements.
    pub ack: Option<LatencySummary>,
    /// Latency from a post at one node to a stream at another.
    pub cross: Option<LatencySummary>,
    /// Latency from a post to a stream at the same node.
    pub own: Option<LatencySummary>,
    /// Messages read by all streams.
    pub deliveries: u64,
    /// Epochs seen.
    pub epochs: u64,
    /// Connections of streams.
    pub connections: u64,
    /// Moves of streams to other nodes.
    pub moves: u64,
    /// Connections that went on exactly after the last event id.
    pub resumes: u64,
    /// Connections that began with known messages, or under another epoch elsewhere.
    pub replays: u64,
    /// Known messages that they brought again.
    pub replayed_messages: u64,
    /// `gap` events.
    pub gaps: u64,
    /// Messages that they announced as missed.
    pub gap_messages: u64,
    /// Acknowledged messages missed by streams as a `gap` had announced.
    pub missed_by_gap: u64,
    /// Acknowledged messages missed by streams whose last event id was no longer valid.
    pub missed_by_replay: u64,
    /// Ends of streams by their tokens.
    pub ends: Ends,
    /// Connections that a node ended in good order.
    pub ended: u64,
    /// Connections that broke.
    pub broken: u64,
    /// Connections that were not made or not answered with a stream, by the reason.
    pub refused_connections: BTreeMap<String, u64>,
    /// Errors on streams.
    pub errors: BTreeMap<String, u64>,
    /// CPU time of the reading processes in seconds.
    pub reader_cpu_s: f64,
    /// For each node, when streams of it read newer messages.
    #[serde(skip)]
    pub progress: Vec<Vec<Progress>>,
}

/// Judges a run with this many nodes.
pub fn judge(outcomes: &[Outcome], posted: &Posted, nodes: usize) -> Verdict {
    let mut verdict = Verdict {
        acknowledged: posted.acknowledged.len() as u64,
        refused: posted.refused.len() as u64,
        unknown: posted.unknown.len() as u64,
        answers: posted.answers.clone(),
        left_out: posted.left_out,
        slowest_answer_ms: posted.slowest_ns as f64 / 1e6,
        ack: posted.ack.summary(),
        progress: vec![Vec::new(); nodes],
        ..Verdict::default()
    };
    let (mut cross, mut own) = (Latency::default(), Latency::default());
    for outcome in outcomes {
        verdict.add(outcome);
        cross.add_counts(&outcome.cross);
        own.add_counts(&outcome.own);
    }
    verdict.cross = cross.summary();
    verdict.own = own.summary();
    let (ids, epochs) = verdict.merge_orders(outcomes);
    verdict.epochs = epochs;
    verdict.compare_answers(&ids, posted);
    verdict
}

impl Verdict {
    fn add(&mut self, outcome: &Outcome) {
        let (faults, tally) = (&mut self.faults, &outcome.tally);
        faults.lost += outcome.lost;
        faults.repeated += tally.repeated;
        faults.out_of_order += tally.out_of_order;
        faults.holes += tally.holes;
        faults.wrong_gaps += tally.wrong_gaps;
        faults.differing += outcome.differing;
        faults.foreign += tally.foreign;
        faults.ended_early += outcome.ends.early;
        faults.ended_late += outcome.ends.late;
        faults.ended_disorderly += outcome.ends.disorderly;
        faults.refused_tokens += outcome.ends.refused;
        faults.broken_responses += outcome.errors.values().sum::<u64>();
        self.details.extend(tally.details.iter().cloned());
        self.details.extend(outcome.ends.details.iter().cloned());
        self.ends.add(&outcome.ends);
        self.deliveries += outcome.deliveries;
        self.connections += outcome.connections;
        self.moves += outcome.moves;
        self.resumes += tally.resumes;
        self.replays += tally.replays;
        self.replayed_messages += outcome.replayed_messages;
        self.gaps += tally.gaps;
        self.gap_messages += tally.gap_messages;
        self.missed_by_gap += outcome.missed_by_gap;
        self.missed_by_replay += outcome.missed_by_replay;
        self.ended += outcome.ended;
        self.broken += outcome.broken;
        self.reader_cpu_s += outcome.cpu_ns as f64 / 1e9;
        add_counts(&mut self.refused_connections, &outcome.refused);
        add_counts(&mut self.errors, &outcome.errors);
        for (all, points) in self.progress.iter_mut().zip(&outcome.progress) {
            all.extend(points);
        }
    }

    /// Adds what is a fault only in a run without one: every event id is valid, and no node cuts a stream off.
    pub fn expect_quiet(&mut self) {
        self.faults.needless_replays = self.replays;
        self.faults.ended_unannounced = self.ends.unannounced;
    }

    /// Compares what the processes have seen. Returns the id of each message, and the number of epochs.
    fn merge_orders(&mut self, outcomes: &[Outcome]) -> (HashMap<u32, u128>, u64) {
        let mut events = HashMap::<Place, (u32, u128)>::new();
        let mut in_epochs = HashSet::<(u64, u32)>::new();
        let mut ids = HashMap::<u32, u128>::new();
        let mut epochs = HashSet::new();
        for &(epoch, seq, number, id) in outcomes.iter().flat_map(|outcome| &outcome.seen) {
            let place = Place { epoch, seq };
            epochs.insert(epoch);
            match events.insert(place, (number, id)) {
                Some(other) if other == (number, id) => continue,
                Some((other, _)) => {
                    self.faults.differing += 1;
                    self.note(format!("{place} is message {number} and message {other}"));
                }
                None => {}
            }
            if !in_epochs.insert((epoch, number)) {
                self.faults.doubled += 1;
                self.note(format!(
                    "message {number} is in epoch {epoch:016x} twice, again at {place}"
                ));
            }
            if ids.insert(number, id).is_some_and(|other| other != id) {
                self.faults.doubled += 1;
                self.note(format!(
                    "message {number} has two message ids, one at {place}"
                ));
            }
        }
        (ids, epochs.len() as u64)
    }

    fn compare_answers(&mut self, ids: &HashMap<u32, u128>, posted: &Posted) {
        for (number, acknowledged) in &posted.acknowledged {
            match ids.get(number) {
                None => {
                    self.faults.wrong_200 += 1;
                    self.note(format!(
                        "message {number} was acknowledged and seen nowhere"
                    ));
                }
                Some(id) if id != acknowledged => {
                    self.faults.wrong_ids += 1;
                    self.note(format!(
                        "message {number} has another id than its answer said"
                    ));
                }
                Some(_) => {}
            }
        }
        for number in posted
            .refused
            .iter()
            .filter(|number| ids.contains_key(number))
        {
            self.faults.wrong_503 += 1;
            self.note(format!("message {number} was refused and delivered"));
        }
        let seen = posted
            .unknown
            .iter()
            .filter(|number| ids.contains_key(number));
        self.unknown_seen = seen.count() as u64;
    }

    fn note(&mut self, detail: String) {
        const DETAILS_MAX: usize = 40;
        if self.details.len() < DETAILS_MAX {
            self.details.push(detail);
        }
    }
}

/// The time after `since_ns` at which streams of every node had read a message that was due after it; `None`
/// if those of a node never did.
pub fn resumed_ns(progress: &[Vec<Progress>], since_ns: u64) -> Option<u64> {
    let of_node = |points: &Vec<Progress>| {
        let after = points.iter().filter(|&&(_, sent_ns)| sent_ns > since_ns);
        after.map(|&(at_ns, _)| at_ns).min()
    };
    let times: Option<Vec<u64>> = progress.iter().map(of_node).collect();
    times?.into_iter().max()
}

/// The longest time from `range.start` on in which streams of a node read nothing newer, for the nodes with
/// such streams before it. `None` if there are none.
pub fn silence_ns<'a>(
    progress: impl IntoIterator<Item = &'a Vec<Progress>>,
    range: &Range<u64>,
) -> Option<u64> {
    let of_node = |points: &'a Vec<Progress>| {
        let mut times: Vec<u64> = points.iter().map(|&(at_ns, _)| at_ns).collect();
        times.sort_unstable();
        let first = times.partition_point(|&at_ns| at_ns < range.start);
        let last = *times.get(first.checked_sub(1)?)?;
        let was_read = range.start - last < SECOND_NS;
        let mut silence_ns = 0;
        let mut last = range.start;
        for &at_ns in times[first..]
            .iter()
            .take_while(|&&at_ns| at_ns < range.end)
        {
            silence_ns = silence_ns.max(at_ns - last);
            last = at_ns;
        }
        was_read.then_some(silence_ns.max(range.end.saturating_sub(last)))
    };
    progress.into_iter().filter_map(of_node).max()
}

fn add_counts(to: &mut BTreeMap<String, u64>, from: &BTreeMap<String, u64>) {
    for (name, count) in from {
        *to.entry(name.clone()).or_default() += count;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(seen: &[(u64, u64, u32, u128)]) -> Outcome {
        Outcome {
            seen: seen.to_vec(),
            ..Outcome::default()
        }
    }

    fn faults(outcomes: &[Outcome], posted: &Posted) -> Faults {
        judge(outcomes, posted, 1).faults
    }

    #[test]
    fn equal_orders_with_every_acknowledged_message_are_clean() {
        let posted = Posted {
            acknowledged: vec![(1, 10), (2, 20)],
            refused: vec![4],
            unknown: vec![3, 5],
            ..Posted::default()
        };
        let one = outcome(&[(7, 1, 1, 10), (7, 2, 2, 20), (7, 3, 3, 30)]);
        // Another process read on under the next epoch, in which a message was put back.
        let other = outcome(&[(7, 1, 1, 10), (8, 2, 2, 20), (8, 3, 3, 30)]);
        let verdict = judge(&[one, other], &posted, 1);
        assert!(verdict.faults.is_clean(), "{verdict:?}");
        assert_eq!((verdict.epochs, verdict.unknown_seen), (2, 1));
    }

    #[test]
    fn wrong_ends_and_foreign_messages_of_each_process_are_faults() {
        let mut one = Outcome::default();
        one.tally.foreign = 1;
        one.ends = Ends {
            by_token: 9,
            late_max_ms: 30,
            early: 1,
            late: 2,
            disorderly: 3,
            refused: 4,
            unannounced: 5,
            details: vec!["x".into()],
            warned: 8,
        };
        let mut verdict = judge(&[one.clone(), one], &Posted::default(), 1);
        let expected = Faults {
            foreign: 2,
            ended_early: 2,
            ended_late: 4,
            ended_disorderly: 6,
            refused_tokens: 8,
            ..Faults::default()
        };
        assert_eq!(verdict.faults, expected);
        assert_eq!((verdict.ends.by_token, verdict.ends.late_max_ms), (18, 30));
        assert_eq!(verdict.details.len(), 2);
        verdict.expect_quiet();
        assert_eq!(verdict.faults.ended_unannounced, 10);
    }

    #[test]
    fn orders_that_differ_are_noticed() {
        let orders = [outcome(&[(7, 1, 1, 10)]), outcome(&[(7, 1, 2, 20)])];
        assert_eq!(faults(&orders, &Posted::default()).differing, 1);
    }

    #[test]
    fn a_message_that_is_stored_twice_is_noticed() {
        let posted = Posted::default();
        let twice = outcome(&[(7, 1, 1, 10), (7, 2, 1, 10)]);
        assert_eq!(faults(&[twice], &posted).doubled, 1);
        let two_ids = outcome(&[(7, 1, 1, 10), (8, 2, 1, 11)]);
        assert_eq!(faults(&[two_ids], &posted).doubled, 1);
    }

    #[test]
    fn wrong_answers_are_noticed() {
        let posted = Posted {
            acknowledged: vec![(1, 10), (2, 20)],
            refused: vec![3],
            ..Posted::default()
        };
        let seen = outcome(&[(7, 1, 1, 99), (7, 2, 3, 30)]);
        let faults = faults(&[seen], &posted);
        assert_eq!(
            (faults.wrong_200, faults.wrong_ids, faults.wrong_503),
            (1, 1, 1)
        );
        assert!(!faults.is_clean());
    }

    #[test]
    fn every_count_is_part_of_the_verdict() {
        let json = serde_json::to_value(Faults::default()).unwrap();
        assert_eq!(
            json.as_object().unwrap().len(),
            Faults::default().counts().len()
        );
    }

    #[test]
    fn delivery_has_resumed_when_every_node_shows_newer_messages() {
        let progress = vec![
            vec![(10, 5), (20, 15), (30, 25)],
            vec![(12, 5), (50, 15), (60, 55)],
        ];
        assert_eq!(resumed_ns(&progress, 10), Some(50));
        assert_eq!(resumed_ns(&progress, 20), Some(60));
        assert_eq!(resumed_ns(&progress, 25), None);
    }

    #[test]
    fn a_silence_is_the_longest_of_all_nodes_that_were_read() {
        let ms = |times: &[u64]| -> Vec<Progress> {
            times.iter().map(|&at| (at * 1_000_000, at)).collect()
        };
        let steady = ms(&[990, 1_010, 1_400, 1_410, 2_000]);
        let cut = ms(&[995, 1_005, 1_700, 1_990]);
        let unread = ms(&[1_900]);
        let range = 1_000_000_000..2_010_000_000;
        let silence = |nodes: &[&Vec<Progress>]| {
            silence_ns(nodes.iter().copied(), &range).map(|ns| ns / 1_000_000)
        };
        assert_eq!(silence(&[&steady]), Some(590));
        assert_eq!(silence(&[&steady, &cut, &unread]), Some(695));
        assert_eq!(silence(&[&unread]), None);
    }
}
