//! Spreads a task that every slot needs once per interval evenly over that interval.
//!
//! Used by the shard for heartbeats, for deadlines, and to spread the end of all streams over a
//! drain. Neighbours share a phase, as many as the wheel's *run* says: what they have in the caches
//! and in the kernel lies side by side. The phase of a run is its bit-reversed number, so any few
//! runs are spread over the whole interval, and a slot keeps its phase however many others come and
//! go. Keeps no list of slots and looks at no clock: the time comes in as milliseconds.

/// A wheel of phases (a power of two), turning once per interval.
#[derive(Debug, Clone)]
pub struct Stagger {
    count: u32,
    /// Slots in a row that share a phase.
    run: usize,
    interval_ms: u64,
    /// When the turning began, and how many phases have passed since.
    started_ms: u64,
    passed: u64,
}

impl Stagger {
    /// A wheel that starts to turn at `now_ms`. `stagger` is a power of two.
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

    /// The rest of a number by the phases, its bits in the opposite order. Its own inverse.
    fn reversed(&self, number: u64) -> usize {
        let rest = number as u32 & (self.count - 1);
        match self.count.trailing_zeros() {
            0 => 0,
            bits => (rest.reverse_bits() >> (u32::BITS - bits)) as usize,
        }
    }

    /// When the next phase is due that one of the slots below `slots` has: a shard with a handful
    /// of connections is woken a handful of times per interval. `None` when there is no slot.
    pub fn due_ms(&self, slots: usize) -> Option<u64> {
        let phases = u64::from(self.count);
        (self.passed..self.passed + phases)
            .find(|&passed| self.reversed(passed) * self.run < slots)
            .map(|passed| self.started_ms + ((passed + 1) * self.interval_ms).div_ceil(phases))
    }

    /// The slots below `slots` whose phase has become due since the last call. After a long stall
    /// it goes round once, not once for every interval that was missed.
    pub fn turn(&mut self, now_ms: u64, slots: usize) -> impl Iterator<Item = usize> + use<> {
        let phases = u64::from(self.count);
        let due = now_ms.saturating_sub(self.started_ms) * phases / self.interval_ms;
        let first = self.passed.max(due.saturating_sub(phases));
        self.passed = due.max(self.passed);
        let wheel = self.clone();
        (first..due).flat_map(move |passed| {
            let first_run = wheel.reversed(passed) * wheel.run;
            (first_run..slots)
                .step_by(wheel.count as usize * wheel.run)
                .flat_map(move |start| start..slots.min(start + wheel.run))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_slot_is_visited_once_per_interval_at_its_own_time() {
        for (run, slots) in [(1, 1000), (16, 1000), (16, 5000)] {
            let mut wheel = Stagger::new(128, run, 2000, 500);
            let mut visits = vec![Vec::new(); slots];
            for now_ms in 500..10_500 {
                for slot in wheel.turn(now_ms, slots) {
                    visits[slot].push(now_ms);
                }
            }
            for (slot, times) in visits.iter().enumerate() {
                assert!((4..=5).contains(&times.len()), "slot {slot}: {times:?}");
                assert!(times.windows(2).all(|pair| pair[1] - pair[0] == 2000));
                let of_its_run = &visits[slot / run * run];
                assert_eq!(times, of_its_run, "slot {slot}");
            }
        }
    }

    #[test]
    fn visits_are_spread_over_the_interval() {
        for slots in [2, 7, 64, 1000] {
            let mut wheel = Stagger::new(128, 1, 2000, 0);
            let mut per_quarter = [0; 4];
            for now_ms in 1..=2000 {
                per_quarter[(now_ms as usize - 1) / 500] += wheel.turn(now_ms, slots).count();
            }
            let (least, most) = (
                per_quarter.iter().min().unwrap(),
                per_quarter.iter().max().unwrap(),
            );
            assert!(most - least <= 1 + slots / 64, "{slots}: {per_quarter:?}");
        }
    }

    #[test]
    fn a_stall_is_not_made_up_for() {
        let mut wheel = Stagger::new(128, 1, 2000, 0);
        assert_eq!(wheel.turn(1_000_000, 256).count(), 256);
        assert!(wheel.due_ms(256) > Some(1_000_000));
    }

    #[test]
    fn the_due_time_is_when_something_happens() {
        for (run, slots) in [(1, 1), (1, 3), (1, 200), (16, 3), (16, 200)] {
            let mut wheel = Stagger::new(128, run, 2000, 0);
            for _ in 0..300 {
                let due_ms = wheel.due_ms(slots).unwrap();
                assert_eq!(wheel.turn(due_ms - 1, slots).count(), 0, "too late");
                assert!(wheel.turn(due_ms, slots).count() > 0, "too early");
            }
        }
        assert_eq!(Stagger::new(128, 1, 2000, 0).due_ms(0), None);
    }
}
