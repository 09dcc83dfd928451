//! What the memory alone costs: a table of records that are touched as a shard touches its connections.
//!
//! The counters of the processor are not open to a virtual machine, so the growth of a cost is compared with
//! the growth of this one. Never touches a shard.

use std::hint::black_box;
use std::time::Duration;

use crate::node::{cpu_time, since};

/// Bytes of a record: about those of a connection with a stream.
const RECORD_BYTES: usize = 192;

/// A cache line of a record.
type Line = [u64; 8];

/// See the module's description.
pub struct Table {
    lines: Vec<Line>,
    rng: fastrand::Rng,
}

impl Table {
    const LINES: usize = RECORD_BYTES / size_of::<Line>();

    /// A table of so many records.
    pub fn new(records: usize) -> Table {
        Table {
            lines: vec![[1; 8]; records * Table::LINES],
            rng: fastrand::Rng::with_seed(records as u64),
        }
    }

    /// The number of records.
    pub fn len(&self) -> usize {
        self.lines.len() / Table::LINES
    }

    /// Changes every line of every record, in order.
    pub fn timed_walk(&mut self) -> Duration {
        let began = cpu_time();
        for line in black_box(&mut self.lines) {
            line[0] += 1;
        }
        since(began)
    }

    /// Changes every line of so many records at random places.
    pub fn timed_jumps(&mut self, jumps: usize) -> Duration {
        let records = self.len();
        let places: Vec<usize> = (0..jumps).map(|_| self.rng.usize(..records)).collect();
        let began = cpu_time();
        let mut last = 0;
        for place in places {
            // The address depends on the record before, as that of a stream does on the record of its session.
            let first = place * Table::LINES + last;
            for line in &mut self.lines[first..][..Table::LINES] {
                line[0] += 1;
            }
            last = black_box(self.lines[first][1] as usize) - 1;
        }
        since(began)
    }
}
