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
        let views = self.plan.views;
        let seen = self.order.entries().iter().map(|entry| entry.number);
        let end = seen.chain(acknowledged.iter().copied()).max();
        let words = end.map_or(0, |end| end / WORD_BITS + 1) as usize;
        let (mut expected, mut has) = (vec![0; words], vec![0; words]);
        for view in 0..views.count() {
            let is_of_view = |at: &usize| views.of_stream(self.plan.first + at) == view;
            let streams: Vec<usize> = (0..self.streams.len()).filter(is_of_view).collect();
            if streams.is_empty() {
                continue;
            }
            expected.fill(0);
            let own = acknowledged
                .iter()
                .filter(|&&number| views.sees(view, number));
            own.for_each(|&number| set(&mut expected, number));
            let epochs = self.epochs_of(view);
            for at in streams {
                has.fill(0);
                self.count_holes(at, &epochs);
                let read = mark(&self.streams[at].trail, &epochs, &mut has);
                self.count_stream(at, &expected, &has, read);
            }
        }
    }

    /// What a view has of each epoch: seqs and numbers, in order.
    fn epochs_of(&self, view: usize) -> Epochs {
        let mut epochs = Epochs::new();
        for entry in self.order.entries() {
            if self.plan.views.sees(view, entry.number) {
                let epoch = epochs.entry(entry.place.epoch).or_default();
                epoch.push((entry.place.seq, entry.number));
            }
        }
        for epoch in epochs.values_mut() {
            epoch.sort_unstable();
        }
        epochs
    }

    fn count_stream(&mut self, at: usize, expected: &[u64], has: &[u64], read: u64) {
        let distinct: u64 = has.iter().map(|word| u64::from(word.count_ones())).sum();
        self.outcome.replayed_messages += read.saturating_sub(distinct);
        for (word, (&expected, &has)) in expected.iter().zip(has).enumerate() {
            let mut missing = expected & !has;
            while missing != 0 {
                let number = word as u32 * WORD_BITS + missing.trailing_zeros();
                missing &= missing - 1;
                self.count_missing(at, number);
            }
        }
    }

    /// Compares a stream that sees a part of the messages with what its view has: what it was not shown between
    /// others, and what its gaps leave out.
    fn count_holes(&mut self, at: usize, epochs: &Epochs) {
        if !self.plan.views.are_partial() {
            return;
        }
        let (tally, trail) = (&mut self.tally, &self.streams[at].trail);
        let stream = self.plan.first + at;
        for segment in trail.segments() {
            let holes = span(epochs, segment.epoch, segment.from, segment.to).len() as u64;
            let holes = holes.saturating_sub(segment.shown.count);
            if holes > 0 {
                let (from, to) = (segment.from, segment.to);
                tally.holes += holes;
                tally.note(format!(
                    "stream {stream} lacks {holes} messages of its view from seq {from} to {to}"
                ));
            }
        }
        for excuse in trail.excuses() {
            let left_out = span(epochs, excuse.epoch, excuse.after + 1, excuse.before - 1).len();
            if excuse.cause == Cause::Gap && left_out as u64 > excuse.announced {
                let announced = excuse.announced;
                tally.wrong_gaps += 1;
                tally.note(format!(
                    "stream {stream} lacks {left_out} messages behind seq {} and a gap of {announced}",
                    excuse.after
                ));
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

/// The seqs and the numbers of an epoch, or those of a view.
type Epochs = BTreeMap<u64, Vec<(u64, u32)>>;

/// Those of an epoch from one seq to another, both included.
fn span(epochs: &Epochs, epoch: u64, from: u64, to: u64) -> &[(u64, u32)] {
    let Some(all) = epochs.get(&epoch) else {
        return &[];
    };
    let start = all.partition_point(|&(seq, _)| seq < from);
    let end = all.partition_point(|&(seq, _)| seq <= to);
    all.get(start..end).unwrap_or_default()
}

/// Sets the bits of all messages of a stream. Returns how many messages it has read. Of several that it was not
/// shown within a segment it is unknown which: they have their bits, and count as holes only.
fn mark(trail: &Trail, epochs: &Epochs, bits: &mut [u64]) -> u64 {
    let mut read = 0;
    for segment in trail.segments() {
        let messages = span(epochs, segment.epoch, segment.from, segment.to);
        let missing = segment.missing_seq(messages.iter().map(|&(seq, _)| seq));
        for &(seq, number) in messages {
            if missing != Some(seq) {
                set(bits, number);
                read += 1;
            }
        }
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
    use crate::engine::cluster::views::{FIRST_NUMBER, Views};
    use crate::engine::payload::Stamp;

    /// Two streams that see everything; messages whose number is their seq.
    fn reader() -> Reader {
        reader_with(0, 2)
    }

    /// Streams of one session each, if there are sessions.
    fn reader_with(sessions: u32, streams: usize) -> Reader {
        let plan = Plan {
            nodes: vec!["127.0.0.1:9".parse().unwrap()],
            format: crate::engine::payload::PayloadFormat::new(1, 64),
            streams,
            first: 0,
            views: Views::new(1, sessions, 1),
            tokens: None,
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

    /// The seqs of a view among the first hundred of the schedule.
    fn seqs_of(reader: &Reader, view: usize) -> Vec<u64> {
        let numbers = FIRST_NUMBER..FIRST_NUMBER + 100;
        let own = numbers.filter(|&number| reader.plan.views.sees(view, number));
        own.map(u64::from).collect()
    }

    /// Two streams of each of two sessions, of which all but the first have all of their views.
    fn reader_of_views(first: &[u64]) -> Reader {
        let mut reader = reader_with(2, 4);
        for stream in 1..4 {
            let seqs = seqs_of(&reader, stream % 2);
            arrive(&mut reader, stream, 1, &seqs);
        }
        arrive(&mut reader, 0, 1, first);
        reader.count(&(FIRST_NUMBER..FIRST_NUMBER + 100).collect::<Vec<_>>());
        reader
    }

    #[test]
    fn a_stream_lacks_nothing_but_what_its_view_has() {
        let all = seqs_of(&reader_with(2, 4), 0);
        let reader = reader_of_views(&all);
        assert_eq!(counts(&reader), [0, 0, 0, 0]);
        assert_eq!(
            reader.tally,
            crate::engine::cluster::trail::Tally::default()
        );
    }

    #[test]
    fn one_message_of_a_view_that_a_stream_lacks_is_a_hole_and_lost() {
        let mut most = seqs_of(&reader_with(2, 4), 0);
        let missing = most.remove(10);
        let reader = reader_of_views(&most);
        assert_eq!((counts(&reader), reader.tally.holes), ([1, 0, 0, 0], 1));
        let detail = format!("stream 0 lacks message {missing} ");
        assert!(
            reader
                .tally
                .details
                .iter()
                .any(|text| text.starts_with(&detail))
        );
    }

    #[test]
    fn several_messages_of_a_view_are_holes_and_those_at_the_end_are_lost() {
        let mut most = seqs_of(&reader_with(2, 4), 0);
        most.drain(10..13);
        most.truncate(most.len() - 2);
        let reader = reader_of_views(&most);
        assert_eq!((counts(&reader), reader.tally.holes), ([2, 0, 0, 0], 3));
    }

    #[test]
    fn a_gap_leaves_out_no_more_of_a_view_than_it_says() {
        let all = seqs_of(&reader_with(2, 4), 0);
        for (announced, wrong) in [(3, 0), (2, 1)] {
            let mut reader = reader_with(2, 4);
            arrive(&mut reader, 2, 1, &all);
            arrive(&mut reader, 0, 1, &all[..10]);
            reader.streams[0].trail.gap(announced, &mut reader.tally);
            arrive(&mut reader, 0, 1, &all[13..]);
            let numbers: Vec<u32> = all.iter().map(|&seq| seq as u32).collect();
            reader.count(&numbers);
            assert_eq!(reader.tally.wrong_gaps, wrong, "{announced}");
            assert_eq!((reader.outcome.missed_by_gap, reader.tally.holes), (3, 0));
        }
    }
}
