//! How late messages are, and when each node's streams read newer ones.
//!
//! Used by `reader` for each message.

use crate::engine::cluster::order::Entry;
use crate::engine::cluster::plan::Progress;
use crate::engine::latency::Latency;

/// Time between two points of a node's progress.
const PROGRESS_INTERVAL_NS: u64 = 5_000_000;

pub struct Flow {
    pub deliveries: u64,
    /// Messages that were posted to another node while the stream was open.
    pub cross: Latency,
    /// Messages that were posted to the stream's node.
    pub own: Latency,
    nodes: Vec<Node>,
}

#[derive(Default)]
struct Node {
    newest_sent_ns: u64,
    points: Vec<Progress>,
}

impl Flow {
    pub fn new(nodes: usize) -> Flow {
        Flow {
            deliveries: 0,
            cross: Latency::default(),
            own: Latency::default(),
            nodes: (0..nodes).map(|_| Node::default()).collect(),
        }
    }

    /// A stream of `node` has read a message.
    #[inline]
    pub fn note(&mut self, entry: &Entry, node: usize, opened_at_ns: u64, now_ns: u64) {
        self.deliveries += 1;
        if entry.sent_ns >= opened_at_ns {
            let late_ns = now_ns.saturating_sub(entry.sent_ns);
            if entry.number as usize % self.nodes.len() == node {
                self.own.record_ns(late_ns);
            } else {
                self.cross.record_ns(late_ns);
            }
        }
        if entry.sent_ns > self.nodes[node].newest_sent_ns {
            self.nodes[node].advance(entry.sent_ns, now_ns);
        }
    }

    /// The points of each node.
    pub fn progress(&mut self) -> Vec<Vec<Progress>> {
        let points = |node: &mut Node| std::mem::take(&mut node.points);
        self.nodes.iter_mut().map(points).collect()
    }
}

impl Node {
    fn advance(&mut self, sent_ns: u64, now_ns: u64) {
        self.newest_sent_ns = sent_ns;
        let is_due = |last: &Progress| now_ns >= last.0 + PROGRESS_INTERVAL_NS;
        if self.points.last().is_none_or(is_due) {
            self.points.push((now_ns, sent_ns));
        }
    }
}
