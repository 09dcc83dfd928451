//! An open-loop schedule: due times of messages do not wait for the server. So a pause of the server delays
//! every message due in it (no coordinated omission).
//!
//! Pure arithmetic; `publisher` has the clock.

use crate::engine::clock::SECOND_NS;

/// Due times at a constant rate.
#[derive(Debug, Clone, Copy)]
pub struct Schedule {
    start_ns: u64,
    messages_per_second: f64,
}

impl Schedule {
    /// The first message is due at `start_ns`.
    pub fn new(start_ns: u64, messages_per_second: f64) -> Schedule {
        assert!(messages_per_second > 0.0, "the rate must be above zero");
        Schedule {
            start_ns,
            messages_per_second,
        }
    }

    /// The due time of message `number`, computed from the start, so that it does not drift.
    pub fn due_ns(&self, number: u32) -> u64 {
        let offset = f64::from(number) / self.messages_per_second * SECOND_NS as f64;
        self.start_ns + offset.round() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn due_times_are_evenly_spaced_and_do_not_drift() {
        let schedule = Schedule::new(1_000, 3.0);
        assert_eq!(schedule.due_ns(0), 1_000);
        assert_eq!(schedule.due_ns(1), 1_000 + 333_333_333);
        assert_eq!(schedule.due_ns(3_000_000), 1_000 + 1_000_000 * SECOND_NS);
    }
}
