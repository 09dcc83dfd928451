//! A page of the history as a response: its entity tag, its length, its body.
//!
//! Used by `history`. A message never changes once it has a seq, so the seqs of a page identify its
//! bytes. The tag and the length need no encoding. The last body is kept, because most requests are
//! for the same page. Never decides which messages a client may see.

use crate::http::etag;
use crate::live_log::{LiveLog, Page};
use crate::message::Epoch;
use crate::shard::resumption::ResumePoint;
use crate::sse::event_id::EventId;
use crate::sse::frame::{self, Framing};

const BEGIN: &[u8] = b"{\"messages\":[";

/// The answer to a request for the history, before it is encoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Representation {
    epoch: Epoch,
    page: Page,
    /// The message after which the client's next request begins.
    last_seq: Option<u64>,
    /// The client has named a message that is unknown here.
    has_reset: bool,
}

impl Representation {
    /// `place` is the message after which a client goes on that has got an empty page.
    pub(super) fn new(
        epoch: Epoch,
        page: Page,
        since: ResumePoint,
        place: Option<u64>,
    ) -> Representation {
        let place = place.filter(|_| page.is_resumed);
        Representation {
            epoch,
            last_seq: page.seqs.last().copied().or(place),
            has_reset: !page.is_resumed && since != ResumePoint::Start,
            page,
        }
    }

    /// Whether it contains nothing new for the client.
    pub(super) fn is_empty(&self) -> bool {
        self.page.seqs.is_empty() && self.page.missed == 0 && !self.has_reset
    }

    /// A strong entity tag. It contains the version, because another version may encode messages
    /// differently.
    pub(super) fn etag(&self) -> String {
        let mut identity = env!("CARGO_PKG_VERSION").as_bytes().to_vec();
        identity.extend(self.tail());
        for seq in &self.page.seqs {
            identity.extend(seq.to_le_bytes());
        }
        identity.extend(self.epoch.0.to_le_bytes());
        etag::of(&identity)
    }

    /// The length of the body.
    pub(super) fn body_bytes(&self, log: &LiveLog) -> usize {
        let seqs = &self.page.seqs;
        let entries: usize = seqs.iter().map(|&seq| log.event_bytes(seq)).sum();
        BEGIN.len() + entries + seqs.len().saturating_sub(1) + self.tail().len()
    }

    fn encode(&self, log: &LiveLog) -> Vec<u8> {
        let mut body = Vec::with_capacity(self.body_bytes(log));
        body.extend_from_slice(BEGIN);
        let mut event = Vec::new();
        for (index, &seq) in self.page.seqs.iter().enumerate() {
            if index > 0 {
                body.push(b',');
            }
            event.clear();
            log.copy_message(seq, Framing::Bare, &mut event);
            frame::push_entry(&mut body, &event);
        }
        body.extend(self.tail());
        debug_assert_eq!(body.len(), self.body_bytes(log));
        body
    }

    fn tail(&self) -> Vec<u8> {
        let epoch = self.epoch;
        let last_event_id = match self.last_seq.map(|seq| EventId { epoch, seq }) {
            Some(id) => format!("\"{id}\""),
            None => "null".into(),
        };
        let (reset, missed, more) = (self.has_reset, self.page.missed, self.page.more);
        format!(
            "],\"lastEventId\":{last_event_id},\"reset\":{reset},\"missed\":{missed},\"more\":{more}}}"
        )
        .into_bytes()
    }
}

/// The body that was encoded last. Each new message must be followed by
/// [`Encoded::forget`]: an outdated page would only hold memory.
#[derive(Default)]
pub(super) struct Encoded {
    of: Option<Representation>,
    body: Vec<u8>,
}

impl Encoded {
    /// The body of a representation, and whether it had to be encoded for this.
    pub(super) fn body(&mut self, of: &Representation, log: &LiveLog) -> (&[u8], bool) {
        let is_new = self.of.as_ref() != Some(of);
        if is_new {
            // Frees the last body before the next is allocated.
            self.forget();
            self.body = of.encode(log);
            self.of = Some(of.clone());
        }
        (&self.body, is_new)
    }

    /// The bytes of the page that is kept.
    #[cfg(test)]
    pub(super) fn held_bytes(&self) -> usize {
        self.body.capacity()
    }

    pub(super) fn forget(&mut self) {
        if self.of.is_some() {
            *self = Encoded::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::live_log::View;
    use crate::message::{Message, MessageId, SessionId};

    const EPOCH: Epoch = Epoch(7);

    fn log(messages: u64) -> LiveLog {
        let mut log = LiveLog::new(1, 200_000);
        for seq in 1..=messages {
            let message = Message {
                id: MessageId::from_u128(u128::from(seq)),
                timestamp_ms: 1_700_000_000_000,
                session: SessionId::parse(if seq % 3 == 0 { "a" } else { "" }).unwrap(),
                content: "x".repeat(seq as usize),
                label: None,
                identity: None,
            };
            let mut bytes = Vec::new();
            let chunk = frame::push_message(&mut bytes, EPOCH, seq, &message);
            log.append(
                seq,
                message.timestamp_ms,
                message.session.as_ref(),
                &bytes,
                chunk,
            );
        }
        log
    }

    fn represent(log: &LiveLog, view: View, since: ResumePoint, limit: usize) -> Representation {
        let after = match since {
            ResumePoint::After(seq) => Some(seq),
            _ => None,
        };
        let page = log.page(view, after, limit, usize::MAX);
        Representation::new(EPOCH, page, since, after)
    }

    /// The representations of all kinds of requests.
    fn all(log: &LiveLog) -> Vec<Representation> {
        let sinces = (0..=log.head_seq() + 1).map(ResumePoint::After);
        let sinces = sinces.chain([ResumePoint::Start, ResumePoint::Unknown]);
        sinces
            .flat_map(|since| {
                [View::Everything, View::Public]
                    .into_iter()
                    .flat_map(move |view| {
                        [1, 2, 7, 100].map(|limit| represent(log, view, since, limit))
                    })
            })
            .collect()
    }

    /// Each log contains the one before, and more messages, as a client would see one log over time.
    #[test]
    fn tags_are_equal_exactly_where_bodies_are() {
        let mut known: Vec<(String, Vec<u8>)> = Vec::new();
        for messages in [0, 1, 2, 30, 31, 150] {
            let log = log(messages);
            for representation in all(&log) {
                let (tag, body) = (representation.etag(), representation.encode(&log));
                assert_eq!(body.len(), representation.body_bytes(&log));
                let same_tag = known.iter().find(|(known, _)| *known == tag);
                let same_body = known.iter().find(|(_, known)| *known == body);
                assert_eq!(same_tag, same_body, "{representation:?}");
                if same_tag.is_none() {
                    known.push((tag, body));
                }
            }
        }
        assert!(known.len() > 100, "{}", known.len());
    }

    #[test]
    fn a_body_is_encoded_again_only_for_another_page_or_after_a_message() {
        let log = log(30);
        let whole = represent(&log, View::Everything, ResumePoint::Start, 100);
        let part = represent(&log, View::Everything, ResumePoint::Start, 5);
        let mut encoded = Encoded::default();
        let mut is_new = |of: &Representation| {
            let (body, is_new) = encoded.body(of, &log);
            assert_eq!(body, of.encode(&log));
            is_new
        };
        assert_eq!(
            [&whole, &whole, &part, &whole].map(&mut is_new),
            [true, false, true, true]
        );
        encoded.forget();
        assert_eq!(encoded.body.capacity(), 0);
        assert!(encoded.body(&whole, &log).1);
    }
}
