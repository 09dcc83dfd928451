//! The way between a node and an engine in memory: faults of calls, and calls that are held.
//!
//! Nothing here runs.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

/// What happens to the next calls of a half.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkFault {
    /// There is no connection.
    Refused,
    /// The call is lost before it arrives.
    LostCall,
    /// The call is executed, and its answer is lost.
    LostAnswer,
    /// The connection breaks, and the call is executed later.
    Late,
    /// The engine has no memory left.
    Full,
}

/// The faults of a half's next calls; clones are the same link.
#[derive(Clone, Default)]
pub struct Link(Arc<(Mutex<LinkState>, Condvar)>);

/// What a link does, and what has become of its halves.
#[derive(Default)]
pub struct LinkState {
    faults: VecDeque<LinkFault>,
    is_held: bool,
    /// Calls that wait until the link is not held any more.
    pub waiting: usize,
    /// Writers that were made.
    pub made: usize,
    /// Writers that were dropped: their threads have ended.
    pub dropped: usize,
}

impl Link {
    /// Adds a fault for the call after those that have one.
    pub fn fail(&self, fault: LinkFault) {
        self.change(|state| state.faults.push_back(fault));
    }

    /// Removes all faults.
    pub fn heal(&self) {
        self.change(|state| state.faults.clear());
    }

    /// Holds every call, or lets them go on.
    pub fn hold(&self, is_held: bool) {
        self.change(|state| state.is_held = is_held);
    }

    /// Waits until something is so, for a time. False if it never was.
    pub fn wait_until(&self, time: Duration, is_so: impl Fn(&LinkState) -> bool) -> bool {
        let (state, changed) = &*self.0;
        let state = state.lock().expect("no panic under it");
        let waited = changed.wait_timeout_while(state, time, |state| !is_so(state));
        !waited.expect("no panic under it").1.timed_out()
    }

    pub(super) fn note_made(&self) {
        self.change(|state| state.made += 1);
    }

    pub(super) fn note_dropped(&self) {
        self.change(|state| state.dropped += 1);
    }

    fn change(&self, change: impl FnOnce(&mut LinkState)) {
        let (state, changed) = &*self.0;
        change(&mut state.lock().expect("no panic under it"));
        changed.notify_all();
    }

    /// The fault of the next call, once the link is not held.
    pub(super) fn next(&self) -> Option<LinkFault> {
        self.change(|state| state.waiting += 1);
        let (state, changed) = &*self.0;
        let state = state.lock().expect("no panic under it");
        let held = changed.wait_while(state, |state| state.is_held);
        let mut state = held.expect("no panic under it");
        state.waiting -= 1;
        state.faults.pop_front()
    }
}
