//! Where the event id of a client stands in the history of this node.
//!
//! Part of the shard. Every event id that a request names is looked up here: by `subscription` for a stream,
//! by `history` for a page. Knows the lineage of the epochs, and of the log only the head. Never waits and
//! never looks at a message.

use std::sync::Arc;

use crate::hub::Hub;
use crate::shard::Shard;
use crate::shard::transport::Transport;
use crate::sse::event_id::EventId;
use crate::sse::lineage::Lineage;

/// What a client has sent as the id of its last event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SentId {
    /// Nothing.
    None,
    /// Text that is no event id.
    Malformed,
    /// An event id.
    Id(EventId),
}

impl SentId {
    pub(super) fn parse(text: Option<&str>) -> SentId {
        match text.map(|text| EventId::parse(text.as_bytes())) {
            None => SentId::None,
            Some(None) => SentId::Malformed,
            Some(Some(id)) => SentId::Id(id),
        }
    }

    /// The event id, if it is one.
    pub(super) fn id(self) -> Option<EventId> {
        match self {
            SentId::Id(id) => Some(id),
            SentId::None | SentId::Malformed => None,
        }
    }
}

/// Where an answer begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ResumePoint {
    /// With the history: the client has named no event.
    Start,
    /// After the message with this seq, which this node has or had.
    After(u64),
    /// After a message that this node has not reached. Another node may have sent it.
    Ahead,
    /// With the history: the event is of another history, or was never sent.
    Unknown,
}

/// What decides over event ids.
pub(super) struct Resumption {
    pub(super) lineage: Arc<Lineage>,
    /// Other nodes give out event ids of the same epochs.
    pub(super) is_shared: bool,
}

impl Resumption {
    pub(super) fn new(hub: &Hub) -> Resumption {
        Resumption {
            lineage: hub.lineage(),
            is_shared: hub.is_shared(),
        }
    }

    /// Where a sent id stands, at a node whose next message will have the seq `head_seq`.
    fn point(&self, sent: SentId, head_seq: u64) -> ResumePoint {
        let id = match sent {
            SentId::None => return ResumePoint::Start,
            SentId::Malformed => return ResumePoint::Unknown,
            SentId::Id(id) => id,
        };
        // What followed the last message that was carried over is replaced: the client gets what is there now.
        let after_seq = |last_seq: u64| id.seq.min(last_seq);
        let is_ahead = match self.lineage.carried(id.epoch).map(after_seq) {
            Some(seq) if seq < head_seq => return ResumePoint::After(seq),
            Some(_) => true,
            // Epochs increase: this node has not read the beginning of that one.
            None => id.epoch.0 > self.lineage.epoch().0,
        };
        if is_ahead && self.is_shared {
            ResumePoint::Ahead
        } else {
            ResumePoint::Unknown
        }
    }
}

impl<S: Transport> Shard<S> {
    /// Where an answer begins that has the first message of a time or later, and all that follow.
    pub(super) fn point_of_time(&self, unix_ms: u64) -> ResumePoint {
        match self.log.seq_at(unix_ms).checked_sub(1) {
            Some(seq) => ResumePoint::After(seq),
            None => ResumePoint::Start,
        }
    }

    /// Where a sent id stands now.
    pub(super) fn resume_point(&self, sent: SentId) -> ResumePoint {
        self.resumption.point(sent, self.log.head_seq())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Epoch;

    const HEAD_SEQ: u64 = 131;

    /// Epoch 1 was carried over up to 100, epoch 5 up to 140: this node lags. Epoch 9 is current.
    fn resumption(is_shared: bool) -> Resumption {
        let lineage = Lineage::new(Epoch(1))
            .next(Epoch(5), 100)
            .next(Epoch(9), 140);
        Resumption {
            lineage: Arc::new(lineage),
            is_shared,
        }
    }

    fn point(is_shared: bool, epoch: u64, seq: u64) -> ResumePoint {
        let epoch = Epoch(epoch);
        resumption(is_shared).point(SentId::Id(EventId { epoch, seq }), HEAD_SEQ)
    }

    #[test]
    fn an_id_stands_after_its_message_as_far_as_its_epoch_was_carried_over() {
        for is_shared in [false, true] {
            for (epoch, seq) in [(1, 0), (1, 100), (5, 101), (5, 130), (9, 1), (9, 130)] {
                let stands = point(is_shared, epoch, seq);
                assert_eq!(stands, ResumePoint::After(seq), "{epoch}-{seq}");
            }
            // What the client has seen beyond 100 was replaced.
            assert_eq!(point(is_shared, 1, 101), ResumePoint::After(100));
            for (epoch, seq) in [(0, 1), (6, 1), (8, 200)] {
                let stands = point(is_shared, epoch, seq);
                assert_eq!(stands, ResumePoint::Unknown, "{epoch}-{seq}");
            }
        }
    }

    #[test]
    fn an_id_is_ahead_only_if_other_nodes_give_out_ids() {
        for (epoch, seq) in [
            (5, 131),
            (5, 140),
            (5, 141),
            (9, 131),
            (9, u64::MAX),
            (10, 0),
            (10, 131),
        ] {
            assert_eq!(point(true, epoch, seq), ResumePoint::Ahead, "{epoch}-{seq}");
            assert_eq!(
                point(false, epoch, seq),
                ResumePoint::Unknown,
                "{epoch}-{seq}"
            );
        }
    }

    #[test]
    fn only_an_id_stands_anywhere() {
        let resumption = resumption(true);
        for (text, expected) in [
            (None, ResumePoint::Start),
            (Some("nonsense"), ResumePoint::Unknown),
            (Some("0000000000000009-0131"), ResumePoint::Unknown),
            (Some("0000000000000009-130"), ResumePoint::After(130)),
            (Some("0000000000000009-131"), ResumePoint::Ahead),
        ] {
            let sent = SentId::parse(text);
            assert_eq!(resumption.point(sent, HEAD_SEQ), expected, "{text:?}");
        }
    }
}
