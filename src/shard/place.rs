//! The place of a connection among those that a message wakes.
//!
//! Held by streams and by requests that wait for a message. Kept by `streams`: in the lap of the
//! view, and in the list of the session if the view has one.

use crate::log::{NO_SLOT, View};
use crate::shard::sweep::LapIndex;

/// See the module's description.
pub(super) struct Place {
    pub(super) view: View,
    /// Where it is in the sweep's lap.
    pub(super) lap_index: LapIndex,
    /// Its neighbours in the list of its session.
    pub(super) session_previous: u32,
    pub(super) session_next: u32,
    /// It is in the sweep's queue.
    pub(super) queued: bool,
}

impl Place {
    /// A place in no list yet.
    pub(super) fn new(view: View) -> Place {
        Place {
            view,
            lap_index: 0,
            session_previous: NO_SLOT,
            session_next: NO_SLOT,
            queued: false,
        }
    }
}
