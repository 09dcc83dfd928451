//! The history by request: answers at once, or when there is something to tell.
//!
//! Part of the shard, called by `requests`, for clients that no stream reaches. The path of a request:
//! `read_history` → (`wait`, with a place among the streams → woken by a message, a deadline or the
//! drain → `answer_waiting`) → `send_answer`. Never reads a request, and never wakes one by itself.

use crate::clock::Now;
use crate::http::{RequestReader, etag};
use crate::limits::{HISTORY_ANSWER_BYTES_MAX, HISTORY_SLICE_BYTES};
use crate::log::{Page, View};
use crate::metrics::Endpoint;
use crate::shard::Shard;
use crate::shard::connection::{State, Then};
use crate::shard::place::Place;
use crate::shard::socket::Socket;
use crate::shard::waiting::{HistoryRequest, Since, Waiting};
use crate::sse::event_id::EventId;
use crate::sse::frame::{self, Framing};

/// An answer's body and what is to be known of it.
struct Encoded {
    body: Vec<u8>,
    etag: String,
    /// The client has this very body.
    is_known: bool,
    /// It tells nothing new.
    is_idle: bool,
}

/// What everyone may see is the same for everyone: a shared cache in front takes a crowd that polls
/// off this server, and is at most a second late.
const PUBLIC: &str = "public, max-age=0, s-maxage=1";
const PRIVATE: &str = "private, no-store";

impl<S: Socket> Shard<S> {
    /// Answers a request for the history, or lets it wait. Returns the reader when the next request
    /// may follow.
    pub(super) fn read_history(
        &mut self,
        slot: usize,
        reader: Box<RequestReader>,
        request: HistoryRequest,
        now: Now,
    ) -> Option<Box<RequestReader>> {
        let view = self.hold_view(&request.view);
        let encoded = self.encode_history(view, &request);
        let tags_bytes = request.if_none_match.as_ref().map_or(0, |tags| tags.len());
        let has_room = self.make_room(slot, reader.held_bytes() + tags_bytes, now);
        let may_wait = request.wait_ms > 0 && self.drain.is_none() && has_room;
        if encoded.is_idle && may_wait && !self.connections[slot].hung_up {
            self.wait(slot, view, reader, request, now);
            return None;
        }
        self.release_view(view);
        self.answer_history(&request, &encoded);
        self.send_answer(slot, reader, Then::after(request.to), now)
    }

    /// Answers a request that waits: there is something to tell, or it is time to say that there is
    /// not. Returns the reader when the next request may follow.
    pub(super) fn answer_waiting(&mut self, slot: usize, now: Now) -> Option<Box<RequestReader>> {
        let mut waiting = match self.take_state(slot) {
            State::Waiting(waiting) => *waiting,
            other => {
                self.set_state(slot, other, now);
                return None;
            }
        };
        waiting.request.to.keep_alive &= self.drain.is_none();
        let encoded = self.encode_history(waiting.place.view, &waiting.request);
        self.forget_place(slot, &waiting.place);
        self.waiting -= 1;
        self.answer_history(&waiting.request, &encoded);
        let reader = waiting.reader.unwrap_or_else(|| self.take_reader());
        let then = Then::after(waiting.request.to);
        self.send_answer(slot, reader, then, now)
    }

    /// Whether something has come that a request waits for.
    pub(super) fn has_news(&self, waiting: &Waiting) -> bool {
        self.log.has_news(waiting.place.view, &waiting.end)
    }

    /// Whether no more histories are to be encoded before streams have been served.
    pub(super) fn is_history_put_off(&self) -> bool {
        self.history_bytes >= HISTORY_SLICE_BYTES
    }

    fn wait(
        &mut self,
        slot: usize,
        view: View,
        reader: Box<RequestReader>,
        request: HistoryRequest,
        now: Now,
    ) {
        let reader = if reader.is_between_requests() {
            self.give_reader(reader);
            None
        } else {
            Some(reader)
        };
        self.connections[slot].deadline_ms = now.mono_ms + request.wait_ms;
        let waiting = Waiting {
            place: Place::new(view),
            end: self.log.end(view),
            request,
            reader,
        };
        self.set_state(slot, State::Waiting(Box::new(waiting)), now);
        self.waiting += 1;
        self.take_place(slot, view);
    }

    fn encode_history(&mut self, view: View, request: &HistoryRequest) -> Encoded {
        let after = match request.since {
            Since::Start | Since::Unknown => None,
            Since::Seq(seq) => Some(seq),
        };
        let page = self
            .log
            .page(view, after, request.limit, HISTORY_ANSWER_BYTES_MAX);
        let body = self.encode_page(&page, after, request.since);
        self.history_bytes += body.len();
        let etag = etag::of(&body);
        let known = request.if_none_match.as_deref();
        let is_known = known.is_some_and(|tags| etag::any_matches(tags, &etag));
        let has_reset = !page.is_resumed && !matches!(request.since, Since::Start);
        Encoded {
            body,
            etag,
            is_known,
            is_idle: is_known || (page.seqs.is_empty() && page.missed == 0 && !has_reset),
        }
    }

    fn encode_page(&self, page: &Page, after: Option<u64>, since: Since) -> Vec<u8> {
        let mut body = b"{\"messages\":[".to_vec();
        let mut event = Vec::new();
        for (index, &seq) in page.seqs.iter().enumerate() {
            if index > 0 {
                body.push(b',');
            }
            event.clear();
            self.log.copy_message(seq, Framing::Bare, &mut event);
            frame::push_entry(&mut body, &event);
        }
        let last = page.seqs.last().copied();
        let last = last.or(after.filter(|_| page.is_resumed));
        let last_event_id = match last.map(|seq| EventId {
            epoch: self.epoch,
            seq,
        }) {
            Some(id) => format!("\"{id}\""),
            None => "null".into(),
        };
        let (missed, more) = (page.missed, page.more);
        let reset = !page.is_resumed && !matches!(since, Since::Start);
        body.extend_from_slice(
            format!(
                "],\"lastEventId\":{last_event_id},\"reset\":{reset},\"missed\":{missed},\"more\":{more}}}"
            )
            .as_bytes(),
        );
        body
    }

    /// Puts the answer into `Shard::answer`. An empty one after a wait is not to be stored: it would
    /// be served to the next wait at once, and the client would ask as fast as it can.
    fn answer_history(&mut self, request: &HistoryRequest, encoded: &Encoded) {
        let status = if encoded.is_known { 304 } else { 200 };
        self.tally.count_request(Endpoint::Messages, status);
        let is_shared = request.is_public && !(encoded.is_idle && request.wait_ms > 0);
        let cache_control = if is_shared { PUBLIC } else { PRIVATE };
        let fields = [
            ("ETag", encoded.etag.as_str()),
            ("Cache-Control", cache_control),
            // One that presents a secret must not be given what was stored for one that did not.
            ("Vary", "X-Webhook-Secret"),
            ("X-Content-Type-Options", "nosniff"),
        ];
        let content = (!encoded.is_known).then_some(("Content-Type", "application/json"));
        let fields = fields.into_iter().chain(content);
        self.answer.clear();
        self.responder.representation(
            request.to,
            encoded.is_known,
            fields,
            &encoded.body,
            &mut self.answer,
        );
    }
}
