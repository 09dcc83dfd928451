//! The places of connections with several sessions in the lists of these sessions.
//!
//! Part of the shard, used by `membership`. The list of a session is doubly linked. Its nodes are the slots of
//! connections with this session alone, whose [`Place`](super::membership::Place) holds the neighbours, and links
//! of connections with several sessions. Such a connection has one link for each session. So a connection with one
//! session pays nothing for others, and a message touches only nodes of its session. Never looks at a connection.

use slab::Slab;

use crate::live_log::{NO_SLOT, SessionKey};

/// A node of a session's list: a slot, or with [`LINK_BIT`] the index of a link, or [`NO_SLOT`].
pub(super) type Node = u32;

/// Marks the nodes that are links. There are fewer slots, because there are fewer file descriptors.
const LINK_BIT: u32 = 1 << 31;

/// The neighbours of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Neighbours {
    pub(super) previous: Node,
    pub(super) next: Node,
}

impl Neighbours {
    pub(super) const NONE: Neighbours = Neighbours {
        previous: NO_SLOT,
        next: NO_SLOT,
    };
}

/// The place of a connection in the list of one of its sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) slot: u32,
    pub(super) session: SessionKey,
    pub(super) neighbours: Neighbours,
    /// The connection's next link, in the list of another session.
    pub(super) sibling: Node,
}

/// The links of a shard.
#[derive(Default)]
pub(super) struct Links {
    table: Slab<Link>,
}

impl Links {
    pub(super) fn insert(&mut self, slot: u32, session: SessionKey, sibling: Node) -> Node {
        let index = self.table.insert(Link {
            slot,
            session,
            neighbours: Neighbours::NONE,
            sibling,
        });
        let index = u32::try_from(index)
            .ok()
            .filter(|&index| index < LINK_BIT - 1);
        index.expect("links are bounded by connections") | LINK_BIT
    }

    /// The link of a node; `None` if the node is a slot, or none.
    pub(super) fn get(&self, node: Node) -> Option<&Link> {
        self.table.get(index(node)?)
    }

    pub(super) fn get_mut(&mut self, node: Node) -> Option<&mut Link> {
        self.table.get_mut(index(node)?)
    }

    /// Removes a link. The last one frees the table: a flood of links leaves no memory behind.
    pub(super) fn remove(&mut self, node: Node) -> Option<Link> {
        let link = self.table.try_remove(index(node)?);
        if self.table.is_empty() {
            self.table = Slab::new();
        }
        link
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.table.len()
    }
}

/// Whether a node is a link, or none.
pub(super) fn is_link(node: Node) -> bool {
    node & LINK_BIT != 0
}

fn index(node: Node) -> Option<usize> {
    (is_link(node) && node != NO_SLOT).then_some((node & !LINK_BIT) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_and_the_end_of_a_list_are_no_links() {
        let mut links = Links::default();
        let mut log = crate::live_log::LiveLog::new(1, 1_000);
        let name = crate::message::SessionId::parse("a").unwrap().unwrap();
        let session = log.hold_session(&name);
        let first = links.insert(7, session, NO_SLOT);
        let second = links.insert(7, session, first);
        assert!(links.get(0).is_none() && links.get(7).is_none());
        assert!(links.get(NO_SLOT).is_none() && links.get_mut(NO_SLOT).is_none());
        assert_eq!(links.get(second).unwrap().sibling, first);
        assert_eq!(links.remove(first).unwrap().slot, 7);
        assert!(links.get(first).is_none() && links.remove(first).is_none());
        assert_eq!(links.len(), 1);
    }
}
