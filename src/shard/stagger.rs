//! Spreads a task that every slot needs once per interval evenly over that interval.
//!
//! Used by the shard for heartbeats, for deadlines, and to spread the ends of streams over a drain.
//!
//! The interval has phases. Adjacent slots form a *run* and share a phase, because their data is
//! adjacent in the caches and in the kernel. The phase of a run is its bit-reversed number. So a few
//! runs are spread over the whole interval, and a slot keeps its phase when the number of slots
//! changes. Keeps no list of slots and reads no clock: the time is a parameter in milliseconds.

/// Phases that become due one after the other, each once per interval.
#[derive(Debug, Clone)]
pub struct Stagger {
    /// Phases: a power of two.
    count: u32,
    /// Adjacent slots that share a phase.
    run: usize,
    interval_ms: u64,
    started_ms: u64,
    /// Phases passed since the start.
    passed: u64,
}

impl Stagger {
    /// A stagger that begins at `now_ms`. `phases` is a power of two.
    pub fn new(phases: usize, run: usize, interval_ms: u64, now_ms: u64) -> Stagger {
        assert!(phases.is_power_of_two() && run > 0 && interval_ms > 0);
        Stagger {
            count: phases as u32,
            run,
            interval_ms,
            started_ms: now_ms,
            passed: 0,
        }
    }

    /// A number modulo the phases, with its bits reversed. The function is its own inverse.
    fn reversed(&self, number: u64) -> usize {
        let rest = number as u32 & (self.count - 1);
        match self.count.trailing_zeros() {
            0 => 0,
            bits => (rest.reverse_bits() >> (u32::BITS - bits)) as usize,
        }
    }

    /// When the next phase of any slot below `slots` is due; `None` if there is no slot. Empty
    /// phases are skipped, so a shard with few connections wakes few times per interval.
    pub fn due_ms(&self, slots: usize) -> Option<u64> {
        let phases = u64::from(self.count);
        (self.passed..self.passed + phases)
            .find(|&passed| self.reversed(passed) * self.run < slots)
            .map(|passed| self.started_ms + ((passed + 1) * self.interval_ms).div_ceil(phases))
    }

    /// The slots below `slots` whose phase has become due since the last call. After a long stall
    /// each slot is returned once, not once for every missed interval.
    pub fn turn(&mut self, now_ms: u64, slots: usize) -> impl Iterator<Item = usize> + use<> {
        let phases = u64::from(self.count);
        let due = now_ms.saturating_sub(self.started_ms) * phases / self.interval_ms;
        let first = self.passed.max(due.saturating_sub(phases));
        self.passed = due.max(self.passed);
        let stagger = self.clone();
        (first..due).flat_map(move |passed| {
            let first_run = stagger.reversed(passed) * stagger.run;
            (first_run..slots)
                .step_by(stagger.count as usize * stagger.run)
                .flat_map(move |start| start..slots.min(start + stagger.run))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_slot_is_visited_once_per_interval_at_the_time_of_its_run() {
        for (run, slots) in [(1, 1000), (16, 1000), (16, 5000)] {
            let mut stagger = Stagger::new(128, run, 2000, 500);
            let mut visits = vec![Vec::new(); slots];
            for now_ms in 500..10_500 {
                for slot in stagger.turn(now_ms, slots) {
                    visits[slot].push(now_ms);
                }
            }
            for (slot, times) in visits.iter().enumerate() {
                assert!((4..=5).contains(&times.len()), "slot {slot}: {times:?}");
                assert!(times.windows(2).all(|pair| pair[1] - pair[0] == 2000));
                let first_of_run = &visits[slot / run * run];
                assert_eq!(times, first_of_run, "slot {slot}");
            }
        }
    }

    #[test]
    fn visits_are_spread_over_the_interval() {
        for slots in [2, 7, 64, 1000] {
            let mut stagger = Stagger::new(128, 1, 2000, 0);
            let mut per_quarter = [0; 4];
            for now_ms in 1..=2000 {
                per_quarter[(now_ms as usize - 1) / 500] += stagger.turn(now_ms, slots).count();
            }
            let (least, most) = (
                per_quarter.iter().min().unwrap(),
                per_quarter.iter().max().unwrap(),
            );
            assert!(most - least <= 1 + slots / 64, "{slots}: {per_quarter:?}");
        }
    }

    #[test]
    fn after_a_stall_each_slot_is_visited_once() {
        let mut stagger = Stagger::new(128, 1, 2000, 0);
        assert_eq!(stagger.turn(1_000_000, 256).count(), 256);
        assert!(stagger.due_ms(256) > Some(1_000_000));
    }

    #[test]
    fn slots_are_visited_exactly_at_the_due_time() {
        for (run, slots) in [(1, 1), (1, 3), (1, 200), (16, 3), (16, 200)] {
            let mut stagger = Stagger::new(128, run, 2000, 0);
            for _ in 0..300 {
                let due_ms = stagger.due_ms(slots).unwrap();
                assert_eq!(stagger.turn(due_ms - 1, slots).count(), 0, "too late");
                assert!(stagger.turn(due_ms, slots).count() > 0, "too early");
            }
        }
        assert_eq!(Stagger::new(128, 1, 2000, 0).due_ms(0), None);
    }
}
