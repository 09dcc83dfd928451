//! The lineage: which event ids of earlier epochs still name a message of the history.
//!
//! Made by the bus, at whose nodes epochs follow each other, and read by the shards to resume streams. A
//! ring without a bus has one epoch and no earlier ones. Without I/O.

use std::fmt;

use crate::limits::LINEAGE_EPOCHS_MAX;
use crate::message::Epoch;
use crate::sse::event_id::EventId;

/// The current epoch, and how far the histories of earlier ones were carried over into it. Seqs go on
/// across epochs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lineage {
    epoch: Epoch,
    /// Epochs and the last seq of each that was carried over. The oldest first, at most
    /// [`LINEAGE_EPOCHS_MAX`].
    earlier: Vec<(Epoch, u64)>,
}

impl Lineage {
    /// An epoch without earlier ones.
    pub fn new(epoch: Epoch) -> Lineage {
        Lineage {
            epoch,
            earlier: Vec::new(),
        }
    }

    /// A lineage of these parts; see [`Lineage::earlier`].
    pub fn of(epoch: Epoch, earlier: &[(Epoch, u64)]) -> Lineage {
        let surplus = earlier.len().saturating_sub(LINEAGE_EPOCHS_MAX);
        Lineage {
            epoch,
            earlier: earlier[surplus..].to_vec(),
        }
    }

    /// Epochs before the current one, the oldest first, and the last seq of each that was carried over.
    pub fn earlier(&self) -> &[(Epoch, u64)] {
        &self.earlier
    }

    /// The current epoch.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The lineage of the epoch that follows, into which messages up to `last_seq` are carried over. The
    /// oldest epoch is dropped if there are too many.
    #[must_use]
    pub fn next(&self, epoch: Epoch, last_seq: u64) -> Lineage {
        let mut earlier = self.earlier.clone();
        for (_, carried) in &mut earlier {
            *carried = last_seq.min(*carried);
        }
        earlier.push((self.epoch, last_seq));
        let surplus = earlier.len().saturating_sub(LINEAGE_EPOCHS_MAX);
        earlier.drain(..surplus);
        Lineage { epoch, earlier }
    }

    /// The last seq of an epoch that belongs to this history; [`u64::MAX`] for the current epoch. `None`:
    /// the epoch is unknown.
    pub fn carried(&self, epoch: Epoch) -> Option<u64> {
        if epoch == self.epoch {
            return Some(u64::MAX);
        }
        let found = self.earlier.iter().rfind(|(earlier, _)| *earlier == epoch);
        found.map(|(_, last_seq)| *last_seq)
    }

    /// Whether an event id names a place in this history. Its message may have left every log, or not
    /// have been published yet.
    pub fn contains(&self, id: EventId) -> bool {
        self.carried(id.epoch).is_some_and(|last| id.seq <= last)
    }

    /// The last seq that the current epoch has taken over from the one before; zero for the first.
    pub fn begun_after(&self) -> u64 {
        self.earlier.last().map_or(0, |(_, last_seq)| *last_seq)
    }

    /// Parses the form that `Display` writes.
    pub fn parse(text: &str) -> Option<Lineage> {
        let mut parts = text.split(',');
        let epoch = parse_epoch(parts.next()?)?;
        let earlier = parts.map(|part| {
            let EventId { epoch, seq } = EventId::parse(part.as_bytes())?;
            Some((epoch, seq))
        });
        let earlier = earlier.collect::<Option<Vec<_>>>()?;
        (earlier.len() <= LINEAGE_EPOCHS_MAX).then_some(Lineage { epoch, earlier })
    }
}

impl fmt::Display for Lineage {
    /// The epoch, then `<epoch>-<seq>` of each earlier one, separated by commas.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.epoch)?;
        for &(epoch, seq) in &self.earlier {
            write!(f, ",{}", EventId { epoch, seq })?;
        }
        Ok(())
    }
}

fn parse_epoch(text: &str) -> Option<Epoch> {
    let id = EventId::parse(format!("{text}-0").as_bytes())?;
    Some(id.epoch)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(epoch: u64, seq: u64) -> EventId {
        let epoch = Epoch(epoch);
        EventId { epoch, seq }
    }

    #[test]
    fn ids_of_earlier_epochs_count_as_far_as_they_were_carried_over() {
        let lineage = Lineage::new(Epoch(1))
            .next(Epoch(5), 100)
            .next(Epoch(9), 120);
        for known in [id(1, 0), id(1, 100), id(5, 120), id(9, 1), id(9, 1_000)] {
            assert!(lineage.contains(known), "{known}");
        }
        for unknown in [id(1, 101), id(5, 121), id(2, 1), id(10, 1)] {
            assert!(!lineage.contains(unknown), "{unknown}");
        }
        assert_eq!(lineage.begun_after(), 120);
        assert_eq!(Lineage::new(Epoch(1)).begun_after(), 0);
    }

    #[test]
    fn what_is_not_carried_over_again_is_no_longer_known() {
        let lineage = Lineage::new(Epoch(1))
            .next(Epoch(5), 100)
            .next(Epoch(9), 80);
        assert!(lineage.contains(id(1, 80)) && !lineage.contains(id(1, 81)));
    }

    #[test]
    fn a_lineage_keeps_the_newest_epochs() {
        let mut lineage = Lineage::new(Epoch(0));
        for nth in 1..=20 {
            lineage = lineage.next(Epoch(nth), nth * 10);
        }
        assert_eq!(lineage.carried(Epoch(20)), Some(u64::MAX));
        assert_eq!(lineage.carried(Epoch(19)), Some(200));
        assert_eq!(lineage.carried(Epoch(4)), Some(50));
        assert_eq!(lineage.carried(Epoch(3)), None);
    }

    #[test]
    fn a_written_lineage_is_parsed_back_and_other_text_is_refused() {
        let lineage = Lineage::new(Epoch(1))
            .next(Epoch(0xab), 100)
            .next(Epoch(u64::MAX), 120);
        for lineage in [lineage, Lineage::new(Epoch(3))] {
            assert_eq!(Lineage::parse(&lineage.to_string()), Some(lineage));
        }
        let long = format!("{}{}", Epoch(1), ",0000000000000001-1".repeat(17));
        for text in [
            "",
            ",",
            "1",
            "0000000000000001,",
            "0000000000000001,x-1",
            &long,
        ] {
            assert_eq!(Lineage::parse(text), None, "{text}");
        }
    }
}
