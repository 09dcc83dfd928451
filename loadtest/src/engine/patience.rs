//! Ends a wait without progress.
//!
//! Used by `measurement`, which passes the time.

use std::time::Duration;

/// The limits of a wait.
pub struct Patience {
    seen: u64,
    moved_ns: u64,
    still_ns: u64,
    end_ns: u64,
}

impl Patience {
    /// A wait that ends after `longest`, or after `still` without progress.
    pub fn new(now_ns: u64, still: Duration, longest: Duration) -> Patience {
        let ns = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Patience {
            seen: 0,
            moved_ns: now_ns,
            still_ns: ns(still),
            end_ns: now_ns.saturating_add(ns(longest)),
        }
    }

    /// Whether the wait has ended; `seen` is a counter of progress.
    pub fn is_over(&mut self, seen: u64, now_ns: u64) -> bool {
        if seen != self.seen {
            self.seen = seen;
            self.moved_ns = now_ns;
        }
        now_ns > self.end_ns || now_ns > self.moved_ns.saturating_add(self.still_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_lasts_while_there_is_progress_and_is_bounded() {
        let ns = Duration::from_nanos;
        let mut patience = Patience::new(100, ns(10), ns(50));
        assert!(!patience.is_over(1, 110) && !patience.is_over(1, 120));
        assert!(patience.is_over(1, 121));
        assert!(
            !patience.is_over(2, 130) && !patience.is_over(3, 140) && !patience.is_over(4, 150)
        );
        assert!(patience.is_over(5, 151));
    }
}
