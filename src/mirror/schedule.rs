//! The times of calls to KV: the pace of reads and writes, back-off, pauses, and the budget of calls.
//!
//! Called by the mirror core. Never reads a clock: times are parameters, in milliseconds of any monotonic
//! clock. The random generator for jitter is a parameter, too.
//!
//! # Rules
//!
//! - A *cycle* is a read, and a write after it if the value lacks a message. Each write follows a read, so a
//!   node never overwrites a value that it has not read.
//! - A cycle runs once per poll interval, less up to a tenth, so that nodes that started together drift
//!   apart. It also runs as soon as a write is wanted and allowed. Such cycles run at most once per write
//!   interval, also if the read shows that no write is needed.
//! - The first write is allowed at once. The next one is allowed a write interval after the start of the
//!   previous one, also if that failed.
//! - After a failed read or write the next call of its kind is delayed: exponential back-off with full
//!   jitter. The bound of the delay doubles with each failure, up to a minute. If only an operator can
//!   correct the cause, the delay is drawn from the upper half of the range. The bound stays a minute,
//!   because KV also answers 403 in an outage, which passes.
//! - `Retry-After` delays both kinds, and so does a 429 for a read: the user has made too many calls.
//! - A 429 for a write mostly means that another node wrote within the same second. The value was not
//!   written, so the next try waits for that second and the jitter, but not for the write interval.
//! - The daily limit delays calls of its kind until 00:00 UTC and up to a minute more.
//! - No cycle begins unless two more calls fit KV's limit for one user in five minutes.

use std::collections::VecDeque;

use fastrand::Rng;

use crate::limits::{
    KV_BACKOFF_MS_BASE, KV_BACKOFF_MS_MAX, KV_BACKOFF_MS_MIN, KV_CALLS_MAX, KV_CALLS_WINDOW_MS,
    KV_WRITE_GAP_MS_MIN,
};
use crate::mirror::reply::{Failure, FailureKind};

const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// The settings of the schedule.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// The longest time between two reads while KV works.
    pub poll_ms: u64,
    /// The shortest time between two writes.
    pub write_interval_ms: u64,
}

/// The schedule of one node.
#[derive(Debug)]
pub struct Schedule {
    pace: Pace,
    rng: Rng,
    /// A cycle should run as soon as a write is allowed.
    write_is_wanted: bool,
    /// The earliest start of a cycle that runs for a write.
    write_cycle_from_ms: u64,
    poll_at_ms: u64,
    /// The earliest next read, after failures.
    read_from_ms: u64,
    read_failures: u32,
    /// The earliest next write, by the interval and after failures.
    write_from_ms: u64,
    write_failures: u32,
    last_write_ms: Option<u64>,
    /// The earliest next read and write that KV has asked for.
    read_asked_ms: u64,
    write_asked_ms: u64,
    calls: Calls,
}

/// The two kinds of calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CallKind {
    Read,
    Write,
}

impl Schedule {
    /// A schedule whose first cycle is due at once.
    pub fn new(pace: Pace, now_ms: u64, rng: Rng) -> Schedule {
        let write_interval_ms = pace.write_interval_ms.max(KV_WRITE_GAP_MS_MIN);
        Schedule {
            pace: Pace {
                write_interval_ms,
                ..pace
            },
            rng,
            write_is_wanted: false,
            write_cycle_from_ms: now_ms,
            poll_at_ms: now_ms,
            read_from_ms: now_ms,
            read_failures: 0,
            write_from_ms: now_ms,
            write_failures: 0,
            last_write_ms: None,
            read_asked_ms: 0,
            write_asked_ms: 0,
            calls: Calls::default(),
        }
    }

    /// When the next cycle is due; in the past if it is overdue.
    pub fn next_cycle_ms(&self) -> u64 {
        let for_write_ms = if self.write_is_wanted {
            self.write_from_ms.max(self.write_cycle_from_ms)
        } else {
            u64::MAX
        };
        // A poll just before a cycle for a write would read the same value.
        let soon_ms = self.poll_at_ms + self.pace.poll_ms / 5;
        let due_ms = if for_write_ms <= soon_ms {
            for_write_ms
        } else {
            self.poll_at_ms
        };
        due_ms
            .max(self.read_from_ms)
            .max(self.calls.two_fit_from_ms())
    }

    /// Notes that a write is wanted, for instance because a message was published on this node.
    pub fn want_write(&mut self) {
        self.write_is_wanted = true;
    }

    /// Notes that no write is wanted.
    pub fn want_no_write(&mut self) {
        self.write_is_wanted = false;
    }

    /// Whether a write is wanted and has not succeeded yet.
    pub fn write_is_wanted(&self) -> bool {
        self.write_is_wanted
    }

    /// Whether a write may begin now.
    pub fn may_write(&self, now_ms: u64) -> bool {
        now_ms >= self.write_from_ms
    }

    /// Notes that a read begins.
    pub fn begin_read(&mut self, now_ms: u64) {
        self.calls.note(now_ms);
        if self.write_is_wanted && self.may_write(now_ms) {
            self.write_cycle_from_ms = now_ms + self.pace.write_interval_ms;
        }
        let early_ms = self.rng.u64(0..=self.pace.poll_ms / 10);
        self.poll_at_ms = now_ms + self.pace.poll_ms - early_ms;
    }

    /// Notes that a read has succeeded.
    pub fn handle_read(&mut self, now_ms: u64) {
        self.read_failures = 0;
        self.read_from_ms = now_ms;
    }

    /// Notes that a read has failed. `utc_ms` is the UTC time by the best available clock.
    pub fn handle_read_failure(&mut self, now_ms: u64, utc_ms: u64, failure: &Failure) {
        let delay_ms = self.delay_ms(self.read_failures, utc_ms, failure);
        self.read_failures += 1;
        self.hold_back(CallKind::Read, now_ms, delay_ms, failure);
        self.poll_at_ms = self.read_from_ms;
    }

    /// Notes that a write begins.
    pub fn begin_write(&mut self, now_ms: u64) {
        debug_assert!(self.may_write(now_ms));
        self.calls.note(now_ms);
        self.last_write_ms = Some(now_ms);
        self.write_from_ms = now_ms + self.pace.write_interval_ms;
    }

    /// Notes that a write has succeeded.
    pub fn handle_write(&mut self) {
        self.write_failures = 0;
        self.write_is_wanted = false;
    }

    /// Notes that a write has failed, or that its result is unknown. `utc_ms` as in
    /// [`Schedule::handle_read_failure`].
    pub fn handle_write_failure(&mut self, now_ms: u64, utc_ms: u64, failure: &Failure) {
        let delay_ms = self.delay_ms(self.write_failures, utc_ms, failure);
        self.write_failures += 1;
        let mut from_ms = now_ms;
        if failure.kind == FailureKind::RateLimited {
            // The value was not written, so the write interval does not count. The second after
            // another node's write does.
            self.write_from_ms = now_ms;
            self.write_cycle_from_ms = now_ms;
            from_ms += failure.retry_after_ms.map_or(KV_WRITE_GAP_MS_MIN, |_| 0);
        }
        self.hold_back(CallKind::Write, from_ms, delay_ms, failure);
    }

    /// Begins the end of the process: the last cycle is due at once, and its write as soon as KV accepts
    /// one. Back-off no longer counts, but delays that KV has asked for do.
    pub fn begin_closing(&mut self, now_ms: u64) {
        let gap_ms = self
            .last_write_ms
            .map_or(now_ms, |last_ms| last_ms + KV_WRITE_GAP_MS_MIN);
        self.read_from_ms = now_ms.max(self.read_asked_ms);
        self.write_from_ms = gap_ms.max(self.write_asked_ms);
        self.write_cycle_from_ms = now_ms;
        self.write_is_wanted = true;
    }

    /// The remaining calls of KV's limit for one user in five minutes, if this is the user's only node.
    pub fn calls_left(&self, now_ms: u64) -> usize {
        self.calls.left(now_ms)
    }

    fn delay_ms(&mut self, failures: u32, utc_ms: u64, failure: &Failure) -> u64 {
        if failure.kind == FailureKind::DailyLimit {
            return DAY_MS - utc_ms % DAY_MS + self.rng.u64(0..=KV_BACKOFF_MS_MAX);
        }
        if let Some(retry_after_ms) = failure.retry_after_ms {
            return retry_after_ms + self.rng.u64(0..=KV_BACKOFF_MS_BASE);
        }
        let bound_ms = KV_BACKOFF_MS_BASE
            .saturating_mul(1 << failures.min(16))
            .min(KV_BACKOFF_MS_MAX);
        let least_ms = if failure.kind.needs_operator() {
            bound_ms / 2
        } else {
            KV_BACKOFF_MS_MIN
        };
        self.rng.u64(least_ms..=bound_ms)
    }

    fn hold_back(&mut self, kind: CallKind, now_ms: u64, delay_ms: u64, failure: &Failure) {
        let from_ms = now_ms + delay_ms;
        let is_daily = failure.kind == FailureKind::DailyLimit;
        let is_asked = is_daily || failure.retry_after_ms.is_some();
        let is_users = kind == CallKind::Read && failure.kind == FailureKind::RateLimited;
        let is_for_both = !is_daily && (is_asked || is_users);
        if is_for_both || kind == CallKind::Read {
            self.read_from_ms = self.read_from_ms.max(from_ms);
            self.read_asked_ms = if is_asked {
                from_ms
            } else {
                self.read_asked_ms
            };
        }
        if is_for_both || kind == CallKind::Write {
            self.write_from_ms = self.write_from_ms.max(from_ms);
            self.write_asked_ms = if is_asked {
                from_ms
            } else {
                self.write_asked_ms
            };
        }
    }
}

/// The times of the latest calls, as many as KV allows in its window.
#[derive(Debug, Default)]
struct Calls(VecDeque<u64>);

impl Calls {
    fn note(&mut self, now_ms: u64) {
        if self.0.len() == KV_CALLS_MAX {
            self.0.pop_front();
        }
        self.0.push_back(now_ms);
    }

    /// The earliest time at which two calls fit.
    fn two_fit_from_ms(&self) -> u64 {
        match self.0.len().checked_sub(KV_CALLS_MAX - 1) {
            None => 0,
            Some(second) => self.0[second] + KV_CALLS_WINDOW_MS,
        }
    }

    fn left(&self, now_ms: u64) -> usize {
        let older = self
            .0
            .partition_point(|call_ms| call_ms + KV_CALLS_WINDOW_MS <= now_ms);
        KV_CALLS_MAX - (self.0.len() - older)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACE: Pace = Pace {
        poll_ms: 5_000,
        write_interval_ms: 5_000,
    };
    /// Noon.
    const UTC: u64 = 20_000 * DAY_MS + DAY_MS / 2;

    fn schedule() -> Schedule {
        Schedule::new(PACE, 0, Rng::with_seed(7))
    }

    fn failure(kind: FailureKind) -> Failure {
        Failure {
            kind,
            retry_after_ms: None,
            detail: String::new(),
        }
    }

    fn read(schedule: &mut Schedule, now_ms: u64) {
        schedule.begin_read(now_ms);
        schedule.handle_read(now_ms);
    }

    #[test]
    fn polls_run_once_per_interval_with_little_jitter() {
        let mut schedule = schedule();
        let mut now_ms = 0;
        for _ in 0..1000 {
            assert_eq!(schedule.next_cycle_ms().max(now_ms), now_ms);
            read(&mut schedule, now_ms);
            let next_ms = schedule.next_cycle_ms();
            assert!((now_ms + 4_500..=now_ms + 5_000).contains(&next_ms));
            now_ms = next_ms;
        }
    }

    #[test]
    fn the_first_write_is_allowed_at_once_and_then_one_per_interval() {
        let mut schedule = schedule();
        read(&mut schedule, 0);
        let mut writes = Vec::new();
        let mut reads = 0;
        for now_ms in (1_000..=61_000).step_by(1) {
            schedule.want_write();
            if schedule.next_cycle_ms() <= now_ms {
                read(&mut schedule, now_ms);
                reads += 1;
                if schedule.may_write(now_ms) {
                    schedule.begin_write(now_ms);
                    schedule.handle_write();
                    writes.push(now_ms);
                }
            }
        }
        assert_eq!(writes[0], 1_000);
        assert!(
            writes.windows(2).all(|pair| pair[1] - pair[0] == 5_000),
            "{writes:?}"
        );
        assert_eq!((writes.len(), reads), (13, 13));
    }

    #[test]
    fn publishes_that_lead_to_no_write_cost_one_read_per_interval() {
        let mut schedule = schedule();
        let mut reads = 0;
        for now_ms in 0..60_000 {
            schedule.want_write();
            if schedule.next_cycle_ms() <= now_ms {
                read(&mut schedule, now_ms);
                schedule.want_no_write();
                reads += 1;
            }
        }
        assert!((12..=14).contains(&reads), "{reads}");
    }

    #[test]
    fn a_write_interval_below_the_api_limit_is_raised_to_it() {
        let pace = Pace {
            poll_ms: 100,
            write_interval_ms: 10,
        };
        let mut schedule = Schedule::new(pace, 0, Rng::with_seed(7));
        schedule.begin_write(0);
        assert!(!schedule.may_write(999) && schedule.may_write(1_000));
    }

    #[test]
    fn failing_reads_back_off_with_full_jitter_up_to_a_minute() {
        let mut schedule = schedule();
        let mut now_ms = 0;
        let mut longest_ms = 0;
        for attempt in 0..200u32 {
            schedule.begin_read(now_ms);
            schedule.handle_read_failure(now_ms, UTC, &failure(FailureKind::Server));
            schedule.want_write();
            let delay_ms = schedule.next_cycle_ms() - now_ms;
            let bound_ms = (1_000u64 << attempt.min(16)).min(60_000);
            assert!(
                (200..=bound_ms).contains(&delay_ms),
                "{attempt}: {delay_ms}"
            );
            longest_ms = longest_ms.max(delay_ms);
            now_ms += delay_ms;
        }
        assert!(longest_ms > 50_000);
        read(&mut schedule, now_ms);
        schedule.want_no_write();
        assert!(schedule.next_cycle_ms() <= now_ms + 5_000);
    }

    #[test]
    fn failing_writes_leave_reads_alone() {
        let mut schedule = schedule();
        read(&mut schedule, 0);
        schedule.want_write();
        schedule.begin_write(0);
        schedule.handle_write_failure(0, UTC, &failure(FailureKind::Credentials));
        assert!(!schedule.may_write(499) && schedule.may_write(5_000));
        assert!(schedule.next_cycle_ms() <= 5_000);
        assert!(schedule.write_is_wanted());
    }

    /// KV may answer 403 in an outage, so the delays stay within a minute.
    #[test]
    fn failures_that_need_an_operator_are_retried_within_each_minute() {
        for kind in [
            FailureKind::Credentials,
            FailureKind::Account,
            FailureKind::Namespace,
            FailureKind::Unexpected,
        ] {
            let mut schedule = schedule();
            let mut now_ms = 0;
            for attempt in 0..100u32 {
                schedule.begin_read(now_ms);
                schedule.handle_read_failure(now_ms, UTC, &failure(kind));
                schedule.want_write();
                let delay_ms = schedule.next_cycle_ms() - now_ms;
                let bound_ms = (1_000u64 << attempt.min(16)).min(60_000);
                assert!(
                    (bound_ms / 2..=bound_ms).contains(&delay_ms),
                    "{kind:?} {attempt}: {delay_ms}"
                );
                now_ms += delay_ms;
            }
            read(&mut schedule, now_ms);
            schedule.handle_read_failure(now_ms, UTC, &failure(kind));
            assert!(schedule.next_cycle_ms() <= now_ms + 1_000, "begins anew");
        }
    }

    #[test]
    fn retry_after_delays_reads_and_writes() {
        let mut schedule = schedule();
        schedule.begin_read(0);
        let asked = Failure {
            retry_after_ms: Some(90_000),
            ..failure(FailureKind::RateLimited)
        };
        schedule.handle_read_failure(0, UTC, &asked);
        assert!((90_000..=91_000).contains(&schedule.next_cycle_ms()));
        assert!(!schedule.may_write(89_999));

        let mut schedule = Schedule::new(PACE, 0, Rng::with_seed(1));
        read(&mut schedule, 0);
        schedule.begin_write(0);
        schedule.handle_write_failure(0, UTC, &asked);
        assert!((90_000..=91_000).contains(&schedule.next_cycle_ms()));
    }

    #[test]
    fn a_refused_write_is_tried_again_after_the_second_and_not_the_interval() {
        for seed in 0..100 {
            let mut schedule = Schedule::new(PACE, 0, Rng::with_seed(seed));
            read(&mut schedule, 0);
            schedule.want_write();
            schedule.begin_write(0);
            schedule.handle_write_failure(10, UTC, &failure(FailureKind::RateLimited));
            assert!(
                (1_210..=2_010).contains(&schedule.next_cycle_ms()),
                "{schedule:?}"
            );
            let next_ms = schedule.next_cycle_ms();
            read(&mut schedule, next_ms);
            assert!(schedule.may_write(2_010));
        }
    }

    #[test]
    fn the_daily_limit_stops_writes_until_midnight_and_reads_continue() {
        let mut schedule = schedule();
        read(&mut schedule, 0);
        schedule.want_write();
        schedule.begin_write(0);
        let limit = Failure {
            retry_after_ms: Some(1_000),
            ..failure(FailureKind::DailyLimit)
        };
        schedule.handle_write_failure(0, UTC, &limit);
        let noon_to_midnight_ms = DAY_MS / 2;
        assert!(!schedule.may_write(noon_to_midnight_ms - 1));
        assert!(schedule.may_write(noon_to_midnight_ms + 60_000));
        assert!(schedule.next_cycle_ms() <= 5_000);
    }

    #[test]
    fn calls_stay_within_the_users_budget() {
        let pace = Pace {
            poll_ms: 10,
            write_interval_ms: 1_000,
        };
        let mut schedule = Schedule::new(pace, 0, Rng::with_seed(3));
        let mut calls = Vec::new();
        let mut now_ms = 0;
        while now_ms < 3_600_000 {
            now_ms = now_ms.max(schedule.next_cycle_ms());
            schedule.want_write();
            read(&mut schedule, now_ms);
            calls.push(now_ms);
            if schedule.may_write(now_ms) {
                schedule.begin_write(now_ms);
                schedule.handle_write();
                calls.push(now_ms);
            }
            now_ms += 1;
        }
        let spans = calls
            .windows(KV_CALLS_MAX + 1)
            .map(|run| run[KV_CALLS_MAX] - run[0]);
        let shortest_ms = spans.min().unwrap();
        let slack_ms = 2_000;
        assert!((KV_CALLS_WINDOW_MS..KV_CALLS_WINDOW_MS + slack_ms).contains(&shortest_ms));
    }

    #[test]
    fn the_budget_left_counts_the_last_five_minutes() {
        let mut schedule = schedule();
        assert_eq!(schedule.calls_left(0), KV_CALLS_MAX);
        read(&mut schedule, 0);
        read(&mut schedule, 10);
        assert_eq!(schedule.calls_left(100), KV_CALLS_MAX - 2);
        assert_eq!(
            schedule.calls_left(KV_CALLS_WINDOW_MS + 5),
            KV_CALLS_MAX - 1
        );
        assert_eq!(schedule.calls_left(KV_CALLS_WINDOW_MS + 10), KV_CALLS_MAX);
    }

    #[test]
    fn closing_ends_back_off_but_not_the_limit_of_one_write_a_second() {
        let mut schedule = schedule();
        read(&mut schedule, 0);
        schedule.begin_write(0);
        schedule.handle_write();
        schedule.begin_read(100);
        schedule.handle_read_failure(100, UTC, &failure(FailureKind::Credentials));
        schedule.begin_closing(200);
        assert_eq!(schedule.next_cycle_ms(), 1_000);
    }

    #[test]
    fn closing_keeps_the_delay_of_retry_after() {
        let mut schedule = schedule();
        schedule.begin_read(0);
        let asked = Failure {
            retry_after_ms: Some(90_000),
            ..failure(FailureKind::Server)
        };
        schedule.handle_read_failure(0, UTC, &asked);
        schedule.begin_closing(200);
        assert!(schedule.next_cycle_ms() >= 90_000);
    }
}
