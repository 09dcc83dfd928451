//! Requests to sources, from the head to the verdict.
//!
//! Part of the shard. `requests` passes a request to a source on to here. The path of a `POST`:
//! [`Shard::judge`] → [`Shard::take_source_requests`], from where the turn gives it to the thread that judges →
//! [`Shard::take_verdict`] → (a draft for the hub, and `answer_webhook`) or `send_answer`. A shard never
//! verifies, parses or renders a body: it only passes its bytes on. The queue has a bound. When it is full,
//! further requests stay in their readers until a verdict makes room. Never waits.

mod docket;
mod rounds;

use std::sync::Arc;

use crate::clock::Now;
use crate::http::{
    ErrorAnswer, Progress, Refusal, ReplyTo, Request, SourceRoute, Status, WholeRequest,
    source_name, source_route,
};
use crate::limits::{
    BODY_BYTES_MAX_LIMIT, JUDGING_SMALL_BODY_BYTES_MAX, VERDICT_MS_MAX, two_requests_bytes,
};
use crate::metrics::{Counter, Endpoint, SourceCounts};
use crate::shard::Shard;
use crate::shard::answers::FULL;
use crate::shard::connection::{NO_DEADLINE, Unfinished};
use crate::shard::drain::Intake;
use crate::shard::exchange::{self, Exchange, Next, Publication, Stage, Then};
use crate::shard::guesses::{Guesser, Target};
use crate::shard::requests::Handled;
use crate::shard::transport::Transport;
use crate::sources::{Fields, Reply, Source, Sources, Success, Verdict};

pub(super) use self::docket::Docket;
use self::docket::Waiter;
pub use self::rounds::Rounds;

/// The number of a request to a source in its shard. It is used again once the verdict is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(u32);

#[cfg(any(test, feature = "testkit"))]
impl Ticket {
    /// That of the first request of a shard.
    pub const FIRST: Ticket = Ticket(0);
}

/// Requests with a queue and a thread of their own, so that large bodies delay no small ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// Bodies of up to [`JUDGING_SMALL_BODY_BYTES_MAX`].
    Small,
    /// Larger ones.
    Large,
}

impl Lane {
    /// All lanes, in the order of their numbers.
    pub const ALL: [Lane; 2] = [Lane::Small, Lane::Large];

    /// The lane of a body.
    pub const fn of(body_bytes: usize) -> Lane {
        if body_bytes <= JUDGING_SMALL_BODY_BYTES_MAX {
            Lane::Small
        } else {
            Lane::Large
        }
    }
}

/// A request for the thread that judges.
#[derive(Debug)]
pub struct SourceRequest {
    /// Goes back with the verdict.
    pub ticket: Ticket,
    /// The source's name.
    pub name: Box<str>,
    /// The request.
    pub request: WholeRequest,
}

/// What became of a request. Each request gets one.
#[derive(Debug)]
pub struct Judged {
    /// That of the request.
    pub ticket: Ticket,
    /// The result.
    pub judgement: Judgement,
    /// The counts of the source.
    pub counts: Option<Arc<SourceCounts>>,
}

impl Judged {
    /// The end of a request that the judging thread does not take.
    pub(super) fn unavailable(ticket: Ticket) -> Judged {
        Judged {
            ticket,
            judgement: Judgement::Unavailable,
            counts: None,
        }
    }
}

/// The result of a request to a source.
#[derive(Debug)]
pub enum Judgement {
    /// That of the source.
    Verdict(Verdict),
    /// There is no source of this name any more.
    Gone,
    /// The queue does not take the request.
    Unavailable,
}

/// The sources of a file, as a shard needs them. All shards share one.
pub struct SourceTable {
    sources: Arc<Sources>,
    /// The body of the answer that lists them.
    listing: Vec<u8>,
}

impl SourceTable {
    /// A table of these sources.
    pub fn new(sources: Arc<Sources>) -> SourceTable {
        let list: Vec<_> = sources
            .iter()
            .map(|source| {
                serde_json::json!({
                    "name": source.name(),
                    "preset": source.preset().name,
                    "title": source.preset().title,
                    "open": source.is_open(),
                })
            })
            .collect();
        SourceTable {
            listing: listing_of(&list),
            sources,
        }
    }
}

fn listing_of(list: &[serde_json::Value]) -> Vec<u8> {
    serde_json::json!({ "sources": list })
        .to_string()
        .into_bytes()
}

/// The client of a request to a source whose secret is sent.
#[derive(Debug)]
pub(super) struct SourceGuesser {
    source: Box<str>,
    guesser: Guesser,
}

impl<S: Transport> Shard<S> {
    /// Serves these sources from now on. Requests that were read before get the verdict of the sources
    /// that the judging thread then has.
    pub fn use_sources(&mut self, table: Arc<SourceTable>) {
        let bytes = two_requests_bytes(table.sources.body_bytes_max());
        self.connections.raise_held_bytes_max(bytes);
        self.docket.table = Some(table);
    }

    /// Requests for the judging thread since the last call.
    pub fn take_source_requests(&mut self) -> Vec<SourceRequest> {
        std::mem::take(&mut self.docket.outgoing)
    }

    /// Requests to sources without a verdict.
    pub fn judging(&self) -> usize {
        self.docket.waiting.len()
    }

    /// Whether this shard has messages for the ring, or verdicts may bring some.
    pub fn needs_ring(&self) -> bool {
        self.has_drafts() || self.docket.may_publish()
    }

    // From the head to the queue.

    /// Parses what a reader has, with the limit of the body that its path has.
    pub(super) fn poll_reader(&self, exchange: &mut Exchange) -> Result<Progress, Refusal> {
        let Some(sources) = self.docket.sources() else {
            return exchange.reader.poll();
        };
        let usual = self.settings.body_bytes_max;
        exchange.reader.poll_bounded(|path| {
            let Some(name) = source_name(path) else {
                return usual;
            };
            // An unknown name is refused once its head is complete, and its body is not kept.
            let source = sources.get(name);
            source.map_or(BODY_BYTES_MAX_LIMIT, Source::body_bytes_max)
        })
    }

    /// The error that the head of a request to a source decides.
    pub(super) fn error_of_source_head(
        &self,
        slot: usize,
        head: &Request<'_>,
        name: &str,
        now: Now,
    ) -> Option<ErrorAnswer> {
        match source_route(head, self.has_source(name)) {
            SourceRoute::Error(error) => Some(error),
            SourceRoute::Receive => self.error_of_source_guesser(slot, head, name, now),
            SourceRoute::Status | SourceRoute::Preflight(_) => None,
        }
    }

    /// The refusal of a client that has sent too many wrong secrets to a source whose secret is sent. A signature
    /// cannot be guessed.
    fn error_of_source_guesser(
        &self,
        slot: usize,
        request: &Request<'_>,
        name: &str,
        now: Now,
    ) -> Option<ErrorAnswer> {
        let target = Target::Source(name);
        let source = self.docket.sources()?.get(name)?;
        if !self.settings.guesses.refuses_any() || !source.compares_secret() {
            return None;
        }
        self.error_of_refused(target, self.guesser(slot, request), now)
    }

    /// Decides a complete request to a source.
    pub(super) fn decide_source(
        &mut self,
        slot: usize,
        request: &Request<'_>,
        name: &str,
        to: ReplyTo,
        is_surplus: bool,
        now: Now,
    ) -> Handled {
        if let Some(error) = self.error_of_source_guesser(slot, request, name, now) {
            self.answer_error(slot, to, request, error);
            return Handled::Answered(Then::after(to));
        }
        match source_route(request, self.has_source(name)) {
            _ if is_surplus => self.answer_error(slot, to, request, FULL),
            SourceRoute::Error(error) => self.answer_error(slot, to, request, error),
            // The successor has the ring, and cannot take this connection.
            SourceRoute::Receive if self.shutdown.intake == Intake::HandingOver => {
                self.answer_error(slot, to, request, FULL);
            }
            SourceRoute::Receive => {
                return Handled::Judging(name.into(), Lane::of(request.body.len()), to);
            }
            SourceRoute::Status => {
                self.tally.count_request(Endpoint::Source, 200);
                self.responder.status_ok(to, &mut self.answer);
            }
            SourceRoute::Preflight(allow) => match self.handshake(request, name) {
                Some(reply) => self.write_reply(to, Endpoint::Source, &reply),
                None => {
                    self.tally.count_request(Endpoint::Source, 204);
                    self.responder.preflight(to, allow, &mut self.answer);
                }
            },
        }
        Handled::Answered(Then::after(to))
    }

    fn has_source(&self, name: &str) -> bool {
        let sources = self.docket.sources();
        sources.is_some_and(|sources| sources.get(name).is_some())
    }

    /// The answer to an `OPTIONS` by which a provider asks for permission to send.
    fn handshake(&self, request: &Request<'_>, name: &str) -> Option<Reply> {
        let source = self.docket.sources()?.get(name)?;
        source.preflight(&Fields::parse(request.head)?)
    }

    /// Adds a complete request to the queue, or puts it off if the queue is full.
    pub(super) fn judge(
        &mut self,
        slot: usize,
        exchange: &mut Exchange,
        (name, lane): (Box<str>, Lane),
        to: ReplyTo,
        now: Now,
    ) -> Next {
        if self.docket.is_full(lane) {
            // The request stays in the reader.
            self.put_off_for_verdicts(slot, &name, lane);
            exchange.timed = None;
            return self.wait_for_bytes(slot, exchange, now);
        }
        let request = exchange.reader.request();
        let guesser = request.and_then(|request| self.source_guesser(slot, &request, &name));
        let Some(request) = exchange.reader.take() else {
            return Next::Read;
        };
        exchange.shrink_reader(Then::after(to));
        let bytes = request.held_bytes();
        let held_bytes = exchange.reader.held_bytes() + size_of::<exchange::Judging>() + bytes;
        if !self.make_room(slot, held_bytes, now) {
            return self.refuse(slot, exchange, Refusal::Overloaded, now);
        }
        let token = self.connections.token_of(slot);
        let ticket = self.docket.add(name, request, token, now);
        self.connections[slot].deadline_ms = now.mono_ms + VERDICT_MS_MAX;
        exchange.stage = Stage::Judging(Box::new(exchange::Judging {
            ticket,
            to,
            bytes,
            guesser,
        }));
        Next::Wait
    }

    /// The client that a wrong secret counts for, if the source's secret is sent.
    fn source_guesser(
        &self,
        slot: usize,
        request: &Request<'_>,
        name: &str,
    ) -> Option<SourceGuesser> {
        let source = self.docket.sources()?.get(name)?;
        source.compares_secret().then(|| SourceGuesser {
            source: name.into(),
            guesser: self.guesser(slot, request),
        })
    }

    /// Counts a wrong secret of a source. Returns the refusal if it is one too many.
    fn note_source_guess(&self, slot: usize, now: Now) -> Option<ErrorAnswer> {
        let Some(Stage::Judging(judging)) = self.connections[slot].state.stage() else {
            return None;
        };
        let guesser = judging.guesser.as_ref()?;
        self.note_guess_of(Target::Source(&guesser.source), guesser.guesser, now)
    }

    /// Puts off a connection whose next request is to a source, until a verdict makes room.
    fn put_off_for_verdicts(&mut self, slot: usize, name: &str, lane: Lane) {
        let token = self.connections.token_of(slot);
        let was = std::mem::replace(&mut self.connections[slot].unfinished, Unfinished::PutOff);
        if was == Unfinished::No {
            self.docket.put_off(lane, name, token);
        }
    }

    // From the verdict to the answer.

    /// Acts on a verdict. The message of a connection that has closed meanwhile is published like that of
    /// any other webhook; only the answer is dropped. After a wait that ended with a 503, the verdict has
    /// no effect.
    pub fn take_verdict(&mut self, judged: Judged, now: Now) {
        let Some(waiter) = self.docket.remove(judged.ticket) else {
            debug_assert!(false, "each request has one verdict");
            return;
        };
        self.resume_after_verdict(waiter.lane);
        if waiter.is_overdue {
            return;
        }
        let slot = self.connections.slot_of(waiter.token);
        match (judged.judgement, slot) {
            (Judgement::Verdict(Verdict::Publish { draft, success }), slot) => {
                let reader_bytes = slot.map_or(0, |slot| self.begin_publishing(slot, success, now));
                let Waiter { token, read_us, .. } = waiter;
                self.publishing
                    .add_of_source(draft, token, reader_bytes, read_us, judged.counts);
            }
            (judgement, Some(slot)) => self.answer_judgement(slot, judgement, now),
            (_, None) => {}
        }
    }

    /// Lets an exchange wait for the hub. Returns the bytes that its reader holds.
    fn begin_publishing(&mut self, slot: usize, success: Success, now: Now) -> usize {
        let Some((to, mut exchange)) = self.take_judging(slot) else {
            return 0;
        };
        exchange.stage = Stage::Publishing(Publication {
            to,
            success,
            endpoint: Endpoint::Source,
        });
        self.connections[slot].deadline_ms = NO_DEADLINE;
        let reader_bytes = exchange.reader.held_bytes();
        self.proceed(slot, exchange, Next::Wait, now);
        reader_bytes
    }

    /// Answers a request that publishes nothing.
    fn answer_judgement(&mut self, slot: usize, judgement: Judgement, now: Now) {
        let too_many = match &judgement {
            Judgement::Verdict(Verdict::Refuse(refusal)) if refusal.is_guess() => {
                self.note_source_guess(slot, now)
            }
            _ => None,
        };
        let Some((to, mut exchange)) = self.take_judging(slot) else {
            return;
        };
        self.answer.clear();
        let mut then = Then::after(to);
        match judgement {
            Judgement::Verdict(Verdict::Reply { reply, .. }) => {
                self.write_reply(to, Endpoint::Source, &reply);
            }
            Judgement::Verdict(Verdict::Refuse(_)) if let Some(error) = too_many => {
                self.write_refusal(to, Endpoint::Source, error, Counter::RefusedGuessing);
            }
            Judgement::Verdict(Verdict::Refuse(refusal)) => {
                let status = Status::of_source(refusal.status()).unwrap_or(Status::BadRequest);
                self.tally.count(Counter::RefusedSource, 1);
                self.tally.count_request(Endpoint::Source, status.code());
                let detail = refusal.to_string();
                self.responder
                    .refused_by_source(to, status, &detail, &mut self.answer);
            }
            Judgement::Gone => {
                let error = ErrorAnswer::NotFound;
                self.write_refusal(to, Endpoint::Source, error, Counter::RefusedUnknown);
            }
            // A `Publish` is not answered here.
            Judgement::Unavailable | Judgement::Verdict(Verdict::Publish { .. }) => {
                then = Then::Close;
                self.write_unjudged(to);
            }
        }
        let next = self.send_answer(slot, &mut exchange, then, now);
        self.proceed(slot, exchange, next, now);
    }

    /// Ends the wait for a verdict that takes too long.
    pub(super) fn give_up_verdict(&mut self, slot: usize, now: Now) {
        let Some(Stage::Judging(judging)) = self.connections[slot].state.stage() else {
            return;
        };
        if let Some(waiter) = self.docket.waiting.get_mut(judging.ticket.0 as usize) {
            waiter.is_overdue = true;
        }
        self.answer_judgement(slot, Judgement::Unavailable, now);
    }

    /// Takes the exchange of a request without a verdict out of its connection.
    fn take_judging(&mut self, slot: usize) -> Option<(ReplyTo, Box<Exchange>)> {
        let Some(Stage::Judging(judging)) = self.connections[slot].state.stage() else {
            debug_assert!(false, "only a request to a source has a verdict");
            return None;
        };
        let mut to = judging.to;
        to.keep_alive &= !self.shutdown.is_draining();
        let mut exchange = self.connections.take_exchange(slot)?;
        exchange.stage = Stage::Reading;
        Some((to, exchange))
    }

    /// Continues with as many connections as have room in the queue now.
    fn resume_after_verdict(&mut self, lane: Lane) {
        for token in self.docket.take_put_off(lane) {
            self.resume_put_off(token);
        }
    }

    // Answers.

    fn write_unjudged(&mut self, mut to: ReplyTo) {
        to.keep_alive = false;
        self.write_refusal(to, Endpoint::Source, FULL, Counter::RefusedOverload);
    }

    /// Encodes and counts an answer of a source.
    pub(super) fn write_reply(&mut self, to: ReplyTo, endpoint: Endpoint, reply: &Reply) {
        let status = Status::of_source(reply.status).unwrap_or(Status::Ok);
        self.tally.count_request(endpoint, status.code());
        let is_safe = |value: &str| value.bytes().all(|byte| (b' '..=b'~').contains(&byte));
        let own = reply.fields.iter().map(|(name, value)| (*name, &**value));
        let own = own.filter(|(_, value)| is_safe(value));
        let content_type = reply.content_type.map(|value| ("Content-Type", value));
        let fields = content_type.into_iter().chain(own).chain([
            ("Cache-Control", "no-store"),
            ("X-Content-Type-Options", "nosniff"),
        ]);
        if status == Status::NoContent {
            self.responder.no_content(to, fields, &mut self.answer);
        } else {
            self.responder
                .document(to, status, fields, &reply.body, &mut self.answer);
        }
    }

    /// Encodes the list of sources.
    pub(super) fn answer_list_of_sources(&mut self, to: ReplyTo) {
        let none = Vec::new;
        let table = self.docket.table.as_ref();
        let listing = table.map_or_else(|| listing_of(&none()), |table| table.listing.clone());
        let fields = [
            ("Content-Type", "application/json"),
            ("Cache-Control", "no-store"),
            ("X-Content-Type-Options", "nosniff"),
        ];
        self.responder
            .document(to, Status::Ok, fields, &listing, &mut self.answer);
    }
}
