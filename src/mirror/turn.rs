//! Which node mirrors, where several share a bus: one at a time, by a lease.
//!
//! Used by the mirror's thread. The lease itself is kept by the bus. Without a bus every node mirrors.

use std::time::{Duration, Instant};

use crate::limits::{BUS_LEASE_MARGIN_MS, BUS_LEASE_MS, BUS_LEASE_RENEWAL_MS};
use crate::message::MessageId;

/// A lease that one node has at a time, and which ends by itself if it is not renewed.
pub trait Lease: Send {
    /// Takes or renews the lease. False if another node has it, or it cannot be known.
    fn hold(&mut self) -> bool;

    /// The messages that this node has shown and still remembers.
    fn shown(&self) -> Vec<MessageId>;

    /// Returns the lease, so that another node can take it at once.
    fn release(&mut self);
}

/// Whether it is this node's turn.
pub(super) struct Turn {
    lease: Option<Box<dyn Lease>>,
    is_held: bool,
    renewal: Instant,
    /// Until when the lease certainly lasts.
    end: Instant,
}

/// What a renewal has changed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Change {
    None,
    /// This node mirrors from now on. It has shown these messages.
    Begun(Vec<MessageId>),
    Ended,
}

impl Turn {
    pub(super) fn new(lease: Option<Box<dyn Lease>>) -> Turn {
        Turn {
            is_held: lease.is_none(),
            lease,
            renewal: Instant::now(),
            end: Instant::now(),
        }
    }

    /// Whether this node mirrors now.
    pub(super) fn is_held(&self) -> bool {
        !self.left().is_zero()
    }

    /// Whether the node shares a bus, whose order is that of the history.
    pub(super) fn is_shared(&self) -> bool {
        self.lease.is_some()
    }

    /// When the lease is to be renewed; `None` without one.
    pub(super) fn renewal(&self) -> Option<Instant> {
        self.lease.as_ref().map(|_| self.renewal)
    }

    /// For how long this node may go on without a renewal. A call to KV must end by then, or two nodes may mirror.
    pub(super) fn left(&self) -> Duration {
        match self.lease {
            None => Duration::MAX,
            Some(_) if self.is_held => self.end.saturating_duration_since(Instant::now()),
            Some(_) => Duration::ZERO,
        }
    }

    /// Takes or renews the lease.
    pub(super) fn renew(&mut self) -> Change {
        let Some(lease) = &mut self.lease else {
            return Change::None;
        };
        // The engine counts from when it executes the call, which is later.
        self.end = Instant::now() + Duration::from_millis(BUS_LEASE_MS - BUS_LEASE_MARGIN_MS);
        let was_held = std::mem::replace(&mut self.is_held, lease.hold());
        self.renewal = Instant::now() + Duration::from_millis(BUS_LEASE_RENEWAL_MS);
        match (was_held, self.is_held) {
            (false, true) => Change::Begun(lease.shown()),
            (true, false) => Change::Ended,
            _ => Change::None,
        }
    }

    /// Returns the lease.
    pub(super) fn release(&mut self) {
        if let Some(lease) = &mut self.lease
            && self.is_held
        {
            lease.release();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Scripted(Vec<bool>);

    impl Lease for Scripted {
        fn hold(&mut self) -> bool {
            self.0.remove(0)
        }

        fn shown(&self) -> Vec<MessageId> {
            vec![MessageId::from_u128(7)]
        }

        fn release(&mut self) {}
    }

    #[test]
    fn a_node_mirrors_while_it_has_the_lease() {
        let lease = Scripted(vec![false, true, true, false]);
        let mut turn = Turn::new(Some(Box::new(lease)));
        assert!(!turn.is_held() && turn.is_shared());
        assert_eq!((turn.renew(), turn.left()), (Change::None, Duration::ZERO));
        assert_eq!(turn.renew(), Change::Begun(vec![MessageId::from_u128(7)]));
        // The rest of a call fits into the lease, with a margin, and the next renewal comes long before.
        let longest = Duration::from_millis(BUS_LEASE_MS - BUS_LEASE_MARGIN_MS);
        assert!(turn.left() <= longest && turn.left() > longest / 2);
        assert!(turn.is_held() && turn.renewal() > Some(Instant::now()));
        assert_eq!(turn.renew(), Change::None);
        assert_eq!(turn.renew(), Change::Ended);
        assert!(!turn.is_held());
        assert_eq!(turn.left(), Duration::ZERO);
    }

    #[test]
    fn without_a_bus_it_is_always_the_nodes_turn() {
        let mut turn = Turn::new(None);
        assert!(turn.is_held() && !turn.is_shared());
        assert_eq!((turn.renew(), turn.renewal()), (Change::None, None));
        assert_eq!(turn.left(), Duration::MAX);
    }
}
