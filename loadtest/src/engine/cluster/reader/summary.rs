//! What the streams of a process lack of the acknowledged messages, at the end of a run.
//!
//! Called by `reader`. Works on bits: 3,000 streams with 300,000 messages each take about a second.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use crate::engine::cluster::plan::Outcome;
use crate::engine::cluster::reader::Reader;
use crate::engine::cluster::trail::{Cause, Trail};
use crate::engine::proc_stats;

const WORD_BITS: u32 = u64::BITS;

impl Reader {
    /// The results. The file has the number of an acknowledged message in each line.
    pub(super) fn finish(mut self, acknowledged: &Path) -> io::Result<Outcome> {
        let text = std::fs::read_to_string(acknowledged)?;
        let numbers: Vec<u32> = text.lines().filter_map(|line| line.parse().ok()).collect();
        self.count(&numbers);
        let outcome = &mut self.outcome;
        outcome.deliveries = self.flow.deliveries;
        outcome.tally = self.tally;
        outcome.differing = self.order.differing;
        outcome.cross = self.flow.cross.counts();
        outcome.own = self.flow.own.counts();
        outcome.progress = self.flow.progress();
        outcome.cpu_ns = proc_stats::cpu_ns(&[std::process::id()]);
        let entries = self.order.entries().iter();
        outcome.seen = entries
            .map(|entry| (entry.place.epoch, entry.place.seq, entry.number, entry.id))
            .collect();
        Ok(self.outcome)
    }

    fn count(&mut self, acknowledged: &[u32]) {
        let mut epochs = BTreeMap::<u64, Vec<(u64, u32)>>::new();
        for entry in self.order.entries() {
            let epoch = epochs.entry(entry.place.epoch).or_default();
            epoch.push((entry.place.seq, entry.number));
        }
        for epoch in epochs.values_mut() {
            epoch.sort_unstable();
        }
        let seen = self.order.entries().iter().map(|entry| entry.number);
        let end = seen.chain(acknowledged.iter().copied()).max();
        let words = end.map_or(0, |end| end / WORD_BITS + 1) as usize;
        let mut expected = vec![0; words];
        for &number in acknowledged {
            set(&mut expected, number);
        }
        let mut has = vec![0; words];
        for at in 0..self.streams.len() {
            has.fill(0);
            let read = mark(&self.streams[at].trail, &epochs, &mut has);
            let distinct: u64 = has
                .iter()
                .map(|word: &u64| u64::from(word.count_ones()))
                .sum();
            self.outcome.replayed_messages += read.saturating_sub(distinct);
            for (word, (&expected, &has)) in expected.iter().zip(&has).enumerate() {
                let mut missing = expected & !has;
                while missing != 0 {
                    let number = word as u32 * WORD_BITS + missing.trailing_zeros();
                    missing &= missing - 1;
                    self.count_missing(at, number);
                }
            }
        }
    }

    fn count_missing(&mut self, at: usize, number: u32) {
        let excuses = self.streams[at].trail.excuses();
        let cause = excuses.iter().find(|excuse| {
            let mut places = self.order.places_of(number);
            places.any(|place| excuse.after < place.seq && place.seq < excuse.before)
        });
        match cause.map(|excuse| excuse.cause) {
            Some(Cause::Gap) => self.outcome.missed_by_gap += 1,
            Some(Cause::Replay) => self.outcome.missed_by_replay += 1,
            None => {
                self.outcome.lost += 1;
                let places: Vec<String> = self
                    .order
                    .places_of(number)
                    .map(|place| place.to_string())
                    .collect();
                let (stream, places) = (self.plan.first + at, places.join(", "));
                let detail = format!("stream {stream} lacks message {number} ({places})");
                self.tally
                    .note(detail.replace("()", "(no stream of its process has it)"));
            }
        }
    }
}

/// Sets the bits of all messages of a stream. Returns how many messages it has read.
fn mark(trail: &Trail, epochs: &BTreeMap<u64, Vec<(u64, u32)>>, bits: &mut [u64]) -> u64 {
    let mut read = 0;
    for segment in trail.segments() {
        let Some(epoch) = epochs.get(&segment.epoch) else {
            continue;
        };
        let from = epoch.partition_point(|&(seq, _)| seq < segment.from);
        let to = epoch.partition_point(|&(seq, _)| seq <= segment.to);
        for &(_, number) in &epoch[from..to] {
            set(bits, number);
        }
        read += (to - from) as u64;
    }
    read
}

fn set(bits: &mut [u64], number: u32) {
    if let Some(word) = bits.get_mut((number / WORD_BITS) as usize) {
        *word |= 1 << (number % WORD_BITS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::cluster::order::{Place, frame};
    use crate::engine::cluster::plan::Plan;
    use crate::engine::payload::Stamp;

    /// Two streams; messages whose number is their seq.
    fn reader() -> Reader {
        let plan = Plan {
            nodes: vec!["127.0.0.1:9".parse().unwrap()],
            format: crate::engine::payload::PayloadFormat::new(1, 64),
            streams: 2,
            first: 0,
            wander_ms: 0,
            reconnect_ms: 1,
            opening_max: 1,
            seed: 1,
        };
        Reader::new(plan).unwrap()
    }

    fn arrive(reader: &mut Reader, stream: usize, epoch: u64, seqs: &[u64]) {
        for &seq in seqs {
            let number = seq as u32;
            let frame = frame(Place { epoch, seq }, number, seq.into());
            let stamp = Stamp { number, sent_ns: 0 };
            let at = reader.order.meet(stamp, &frame, Some(&frame)).unwrap();
            let trail = &mut reader.streams[stream].trail;
            trail.arrive(&mut reader.order, at, &mut reader.tally);
        }
    }

    fn counts(reader: &Reader) -> [u64; 4] {
        let outcome = &reader.outcome;
        [
            outcome.lost,
            outcome.missed_by_gap,
            outcome.missed_by_replay,
            outcome.replayed_messages,
        ]
    }

    #[test]
    fn streams_with_every_acknowledged_message_lack_nothing() {
        let mut reader = reader();
        arrive(&mut reader, 0, 1, &[1, 2, 3, 4]);
        arrive(&mut reader, 1, 1, &[1, 2]);
        reader.streams[1].trail.connect();
        arrive(&mut reader, 1, 1, &[2, 3, 4]);
        // Message 4 was not acknowledged, and is there all the same.
        reader.count(&[1, 2, 3]);
        assert_eq!(counts(&reader), [0, 0, 0, 1]);
    }

    #[test]
    fn a_message_that_a_stream_lacks_is_lost() {
        let mut reader = reader();
        arrive(&mut reader, 0, 1, &[1, 2, 3]);
        arrive(&mut reader, 1, 1, &[1, 3]);
        // No stream of the process has message 70.
        reader.count(&[1, 2, 3, 70]);
        assert_eq!(counts(&reader), [3, 0, 0, 0]);
        assert!(
            reader
                .tally
                .details
                .iter()
                .any(|text| text.contains("stream 1 lacks message 2"))
        );
    }

    #[test]
    fn a_message_at_the_end_is_lost_as_well() {
        let mut reader = reader();
        arrive(&mut reader, 0, 1, &[1, 2, 3]);
        arrive(&mut reader, 1, 1, &[1, 2]);
        reader.count(&[1, 2, 3]);
        assert_eq!(counts(&reader), [1, 0, 0, 0]);
    }

    #[test]
    fn what_a_gap_or_a_replay_left_out_is_counted_apart() {
        let mut reader = reader();
        arrive(&mut reader, 0, 1, &[1, 2, 3, 4]);
        arrive(&mut reader, 0, 2, &[5, 6, 7]);
        arrive(&mut reader, 1, 1, &[1]);
        reader.streams[1].trail.gap(1, &mut reader.tally);
        arrive(&mut reader, 1, 1, &[3, 4]);
        reader.streams[1].trail.connect();
        arrive(&mut reader, 1, 2, &[7]);
        reader.count(&[1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(counts(&reader), [0, 1, 2, 0]);
    }
}
