//! One client: its requests, and checks that each answer is valid.

mod answer;
mod connection;

use std::collections::VecDeque;

use hookcast::limits::{
    DEADLINE_SCAN_INTERVAL_MS, REQUEST_DEADLINE_MS, RETRY_FULL_MS, RETRY_MS, RING_REPAIR_MS_MAX,
    VERDICT_MS_MAX,
};
use hookcast::shard::{Role, Settings, Token};
use memchr::memmem;

use self::answer::{Answer, assert_error, check_receipt};
use super::coverage;
use super::kernel::SharedLink;
use super::model::Fate;
use super::model::Model;
use super::node::ShardNode;
use super::request::{Expected, Request};
use super::stream::{Begin, Known, StreamCheck, StreamSpec, number, show};

/// Deadlines are checked in eight phases a second, each rounded up to a millisecond.
const DEADLINE_SCAN_SLACK_MS: u64 = DEADLINE_SCAN_INTERVAL_MS + 2;

/// Longest delay until the next attempt to rewrite a ring.
pub const RETRY_SLACK_MS: u64 = RING_REPAIR_MS_MAX;

/// The shard of a client that no shard has: it is in a listener's queue, or on its way to a shard.
pub const NOWHERE: usize = usize::MAX;

/// A request without an answer yet.
struct Pending {
    /// Positions in the bytes that the client sends: of its start, of the end of its head, and of
    /// its end.
    start: u64,
    head_end: u64,
    end: u64,
    /// The request, without its bytes.
    request: Request,
    /// The client waits for `100 Continue`.
    expects_100: bool,
    first_read_ms: Option<u64>,
}

impl Pending {
    fn is_within(&self, read_bytes: u64) -> bool {
        !matches!(self.request.expected, Expected::Never) && read_bytes >= self.end
    }

    /// Whether a verdict may have taken too long.
    fn is_overdue(&self, now_ms: u64) -> bool {
        let read_ms = self.first_read_ms.unwrap_or(now_ms);
        self.request.is_for_source && now_ms >= read_ms + VERDICT_MS_MAX
    }

    /// Whether the head determines the answer, whatever the body is.
    fn is_decided_by_head(&self) -> bool {
        matches!(self.request.expected, Expected::Status(401 | 404 | 405))
    }
}

/// What the next bytes of a connection are.
enum Mode {
    Answers,
    Stream(Box<StreamCheck>),
    /// Nothing may follow.
    Over,
}

#[expect(
    clippy::struct_excessive_bools,
    reason = "facts that have nothing to do with each other"
)]
pub struct Client {
    pub number: usize,
    pub link: SharedLink,
    /// [`NOWHERE`] unless a shard has it.
    pub shard: usize,
    pub token: Token,
    pub role: Role,
    /// Webhooks of it that this process has acknowledged.
    receipts: u64,
    /// It has published and is idle: its next event must give it priority.
    pub may_publish_again: bool,
    /// It was handed over to another process.
    is_taken_over: bool,
    opened_ms: u64,
    last_answer_ms: Option<u64>,
    /// End of the unread body of a request that is already answered.
    skipped_end: Option<u64>,
    pending: VecDeque<Pending>,
    /// Bytes that it has sent.
    sent_bytes: u64,
    held: Option<Vec<u8>>,
    /// The answer to its last request ends the connection, or is a stream.
    pub is_terminal: bool,
    is_unfinished: bool,
    sends_empty_lines: bool,
    mode: Mode,
    /// The incomplete last part of what the server wrote, and the position of its first byte.
    rest: Vec<u8>,
    rest_at: u64,
}

/// The state of the world against which answers are checked.
pub struct Surroundings<'a> {
    pub model: &'a mut Model,
    pub node: &'a ShardNode,
    pub now_ms: u64,
    /// The wall clock.
    pub unix_ms: u64,
    pub settings: &'a Settings,
    /// When the ring could last fail.
    pub ring_failed_ms: Option<u64>,
    /// Messages wait for the disk.
    pub has_commits: bool,
}

impl Surroundings<'_> {
    fn known(&self) -> Known<'_> {
        Known {
            model: self.model,
            log: &self.node.log,
            subscribed: &self.node.subscribed,
            is_draining: self.node.drain_until_ms.is_some(),
            now_ms: self.now_ms,
            unix_ms: self.unix_ms,
            fanout_life_ms: self
                .settings
                .fanout_life
                .map_or(0, |life| life.as_millis() as u64),
        }
    }
}

impl Client {
    /// A client in a listener's queue.
    pub fn new(number: usize, link: SharedLink) -> Client {
        Client {
            number,
            link,
            shard: NOWHERE,
            token: Token {
                slot: 0,
                generation: 0,
            },
            role: Role::Standard,
            receipts: 0,
            may_publish_again: false,
            is_taken_over: false,
            opened_ms: 0,
            last_answer_ms: None,
            skipped_end: None,
            pending: VecDeque::new(),
            sent_bytes: 0,
            held: None,
            is_terminal: false,
            is_unfinished: false,
            sends_empty_lines: false,
            mode: Mode::Answers,
            rest: Vec::new(),
            rest_at: 0,
        }
    }

    /// Called when a shard has accepted it.
    pub fn begin(&mut self, shard: usize, token: Token, now_ms: u64) {
        self.shard = shard;
        self.token = token;
        self.opened_ms = now_ms;
        self.receipts = 0;
        self.last_answer_ms = None;
    }

    /// Called when it is on its way to another process.
    pub fn leave_shard(&mut self) {
        self.shard = NOWHERE;
        self.role = Role::Standard;
        self.may_publish_again = false;
        self.is_taken_over = true;
        let mut link = self.link.borrow_mut();
        link.is_priority = false;
        // EPOLL_CTL_ADD of the successor reports the present state at once.
        link.nudge();
    }

    /// Whether another request may be sent: not while a body is held back, and not after an
    /// incomplete request, which it would complete.
    pub fn may_ask(&self) -> bool {
        self.held.is_none() && !self.is_unfinished && self.link.borrow().client_may_send()
    }

    pub fn ask(&mut self, mut request: Request, model: &mut Model) {
        if let (true, Expected::Receipt { key }) = (self.is_terminal, request.expected) {
            // Requests after the last one of a connection have no effect.
            model.offers[key].fate = Fate::Refused;
        }
        let start = self.sent_bytes;
        let blank_line = memmem::find(&request.bytes, b"\r\n\r\n");
        self.send(&request.bytes);
        let is_counted = !self.is_terminal;
        self.is_unfinished |= matches!(request.expected, Expected::Never);
        self.is_terminal |= request.closes;
        if is_counted {
            let held = request.held.take();
            let held_bytes = held.as_ref().map_or(0, Vec::len);
            request.bytes.clear();
            self.pending.push_back(Pending {
                start,
                head_end: start + blank_line.map_or(0, |at| at as u64 + 4),
                end: self.sent_bytes + held_bytes as u64,
                request,
                expects_100: held.is_some(),
                first_read_ms: None,
            });
            self.held = held;
        }
    }

    /// Whether the server has read no byte of an unanswered request, nor half of an empty line.
    fn is_idle(&self) -> bool {
        let has_begun = self
            .pending
            .front()
            .is_some_and(|p| p.first_read_ms.is_some());
        !has_begun && !self.sends_empty_lines && self.skipped_end.is_none()
    }

    /// Sends an empty line, which is allowed before a request.
    pub fn send_empty_line(&mut self) {
        self.sends_empty_lines = true;
        self.send(b"\r\n");
    }

    /// Sends bytes and counts them.
    fn send(&mut self, bytes: &[u8]) {
        self.sent_bytes += bytes.len() as u64;
        self.link.borrow_mut().send(bytes);
    }

    /// Sends a body that is held back, without `100 Continue`.
    pub fn send_held_body(&mut self) {
        if let Some(body) = self.held.take() {
            self.send(&body);
        }
    }

    pub fn stream(&self) -> Option<&StreamCheck> {
        match &self.mode {
            Mode::Stream(stream) => Some(stream),
            _ => None,
        }
    }

    /// Whether it is a stream, or has requested one.
    pub fn may_stream(&self) -> bool {
        let asks = |pending: &Pending| matches!(pending.request.expected, Expected::Stream(_));
        self.stream().is_some_and(|stream| !stream.is_over()) || self.pending.iter().any(asks)
    }

    /// Whether it is a stream that a cache may share, or has requested one.
    pub fn may_be_shared(&self) -> bool {
        let asks = |pending: &Pending| matches!(pending.request.expected, Expected::Stream(spec) if spec.is_shared);
        self.stream().is_some_and(|stream| stream.spec.is_shared) || self.pending.iter().any(asks)
    }

    /// Whether it is a stream of a token, whose end may come first.
    pub fn has_token(&self) -> bool {
        self.stream()
            .is_some_and(|stream| stream.spec.token.is_some())
    }

    /// Whether a reader may be in use for it.
    pub fn may_hold_reader(&self) -> bool {
        matches!(self.mode, Mode::Answers)
    }

    /// The seq of the last event that the client has received completely.
    pub fn last_seq_taken(&self) -> Option<u64> {
        let taken = self.link.borrow().taken_bytes;
        let stream = self.stream()?;
        let complete = stream.ids.partition_point(|(end, _)| *end <= taken);
        stream.ids[..complete].last().map(|(_, seq)| *seq)
    }

    /// Whether it is an open stream.
    pub fn is_streaming(&self) -> bool {
        self.stream().is_some_and(|stream| !stream.is_over())
    }

    /// Whether it is an open stream whose client reads everything.
    pub fn is_healthy(&self) -> bool {
        let link = self.link.borrow();
        self.is_streaming() && link.client_reads && !link.is_short && link.client_may_send()
    }

    /// Lets the network and the client do all that they can. Returns whether anything happened.
    pub fn go_on(&mut self) -> bool {
        // Three of four clients close the connection when the server has closed its side.
        let closes_too = !self.number.is_multiple_of(4);
        let mut link = self.link.borrow_mut();
        let mut has_moved = link.deliver(usize::MAX) > 0;
        if link.client_reads {
            has_moved |= link.take(usize::MAX) > 0;
            let has_fin = link.server_fin_ms.is_some() && link.is_taken();
            if has_fin && closes_too && !link.is_closed && !link.has_ended() {
                link.close();
                has_moved = true;
            }
        }
        has_moved
    }

    // Checks.

    /// Takes what the server has written since the last call, and checks all complete answers and
    /// events.
    pub fn absorb(&mut self, around: &mut Surroundings<'_>) {
        let (tap, read_bytes, has_fin) = {
            let mut link = self.link.borrow_mut();
            let tap = std::mem::take(&mut link.tap);
            (tap, link.read_bytes, link.server_fin_ms.is_some())
        };
        for pending in &mut self.pending {
            if read_bytes > pending.start {
                pending.first_read_ms.get_or_insert(around.now_ms);
            }
        }
        if !has_fin && self.skipped_end.is_some_and(|end| read_bytes >= end) {
            self.skipped_end = None;
            self.last_answer_ms = Some(around.now_ms);
        }
        if let Mode::Stream(stream) = &mut self.mode {
            stream.note_key(around.node.key, around.node.key_since_ms);
        }
        if !tap.is_empty() {
            self.rest.extend_from_slice(&tap);
            self.take_answers(around);
        }
        let is_waiting = matches!(self.mode, Mode::Answers) && self.is_idle();
        let is_whole = self.rest.is_empty() && !self.link.borrow().is_short && !has_fin;
        self.may_publish_again = self.receipts > 0 && is_waiting && is_whole;
    }

    /// Checks all complete answers.
    fn take_answers(&mut self, around: &mut Surroundings<'_>) {
        loop {
            let used = match &mut self.mode {
                Mode::Answers => self.take_answer(around),
                Mode::Stream(stream) => stream.feed(&self.rest, self.rest_at, &around.known()),
                Mode::Over => panic!("bytes after the last answer: {}", show(&self.rest)),
            };
            self.rest.drain(..used);
            self.rest_at += used as u64;
            if used == 0 || self.rest.is_empty() {
                return;
            }
        }
    }

    /// Checks the first answer, if it is complete, and returns its length. For a stream that is the
    /// length of the head.
    fn take_answer(&mut self, around: &mut Surroundings<'_>) -> usize {
        let Some(answer) = Answer::parse(&self.rest) else {
            return 0;
        };
        let pending = self.pending.front();
        let pending =
            pending.unwrap_or_else(|| panic!("an answer without a request: {}", show(&self.rest)));
        if answer.status == 100 {
            // A successor does not know that its predecessor has sent it.
            assert!(
                pending.expects_100 || self.is_taken_over,
                "100 Continue without Expect"
            );
            coverage::count("100 Continue", 1);
            self.pending[0].expects_100 = false;
            self.send_held_body();
            return answer.head_bytes;
        }
        answer.assert_common_fields(pending.request.is_http10);
        if let (Expected::Stream(spec), 200, None) =
            (pending.request.expected, answer.status, answer.length)
        {
            let shared_s = answer.assert_stream(pending.request.is_http10, spec.is_shared);
            answer.assert_coding(spec.is_gzip);
            assert!(
                self.is_whole(pending),
                "a stream before its request is complete"
            );
            coverage::count("streams", 1);
            coverage::count("streams resumed", u64::from(spec.resume_after.is_some()));
            coverage::count("shared streams", u64::from(spec.is_shared));
            coverage::count("compressed streams", u64::from(spec.is_gzip));
            let is_union = spec.view.sessions().count() > 1;
            coverage::count("streams of several sessions", u64::from(is_union));
            let begins = spec.begin != Begin::default();
            coverage::count("streams with replay or since", u64::from(begins));
            let mut stream = StreamCheck::new(spec, shared_s, around.now_ms);
            stream.note_key(around.node.key, around.node.key_since_ms);
            self.mode = Mode::Stream(Box::new(stream));
            self.pending.clear();
            return answer.head_bytes;
        }
        // The refusal of a request whose method is not yet known has a body.
        let is_head = pending.request.is_head && self.is_whole(pending);
        let bodiless = is_head || matches!(answer.status, 204 | 304);
        let body_bytes = if bodiless {
            0
        } else {
            answer.length.expect("an answer has a length")
        };
        let end = answer.head_bytes + body_bytes;
        if self.rest.len() < end {
            return 0;
        }
        let body = &self.rest[answer.head_bytes..end];
        self.check_answer(pending, &answer, body, around);
        let is_receipt = matches!(pending.request.expected, Expected::Receipt { .. });
        self.receipts += u64::from(is_receipt && answer.status == 200);
        let may_close = around.node.drain_until_ms.is_some() || self.role == Role::Surplus;
        let must_close = pending.request.closes;
        // The body is skipped, and the connection stays open.
        let is_skipped =
            !self.is_whole(pending) && pending.is_decided_by_head() && answer.status != 408;
        let early = !self.is_whole(pending) && !is_skipped;
        assert!(
            answer.closes || !(must_close || early),
            "the connection stays open after {}",
            answer.status
        );
        let is_unjudged = pending.is_overdue(around.now_ms) && answer.status == 503;
        assert!(
            !answer.closes || pending.request.closes || early || may_close || is_unjudged,
            "{} closes the connection",
            answer.status
        );
        coverage::count("answers before the body", u64::from(is_skipped));
        self.last_answer_ms = Some(around.now_ms);
        let answered = self.pending.pop_front();
        if answer.closes {
            self.mode = Mode::Over;
            self.pending.clear();
            self.held = None;
        } else {
            let read_bytes = self.link.borrow().read_bytes;
            let end = answered.map_or(0, |pending| pending.end);
            self.skipped_end = Some(end).filter(|end| read_bytes < *end);
        }
        end
    }

    /// Whether the server had read the complete request when it answered.
    fn is_whole(&self, pending: &Pending) -> bool {
        pending.is_within(self.link.borrow().read_before_write)
    }

    fn check_answer(
        &self,
        pending: &Pending,
        answer: &Answer,
        body: &[u8],
        around: &mut Surroundings<'_>,
    ) {
        let text = str::from_utf8(body).expect("UTF-8");
        let status = answer.status;
        if let Expected::Receipt { key } = pending.request.expected
            && status != 200
            && status != 500
        {
            around.model.offers[key].fate = Fate::Refused;
        }
        if status == 408 {
            assert!(!self.is_whole(pending), "408 to a complete request");
            // For the server, half of an empty line before a request is its beginning; here it is
            // not.
            let idle_ms = self.last_answer_ms.unwrap_or(self.opened_ms);
            let read_ms = pending.first_read_ms.filter(|_| !self.sends_empty_lines);
            let began_ms = read_ms.unwrap_or(idle_ms);
            assert!(
                around.now_ms >= began_ms + REQUEST_DEADLINE_MS,
                "408 too early: at {}, began at {began_ms}, {:?} {}",
                around.now_ms,
                pending.request.expected,
                self.describe()
            );
            return assert_error(text);
        }
        let is_surplus = self.role == Role::Surplus;
        let is_draining = around.node.drain_until_ms.is_some();
        if let Expected::Stream(StreamSpec {
            token: Some(token), ..
        }) = pending.request.expected
            && status >= 400
        {
            let is_refused = token.key != around.node.key || around.unix_ms >= token.expires_ms;
            assert!(is_refused, "{status} to a valid token: {text}");
            assert!(status == 401 || (status == 503 && is_surplus), "{status}");
            coverage::count("tokens refused", 1);
            return assert_error(text);
        }
        match pending.request.expected {
            Expected::Refusal(expected) => {
                assert_eq!(status, expected);
                return assert_error(text);
            }
            Expected::StreamHead => return assert_eq!(status, 200),
            Expected::Stream(spec) => {
                assert!(
                    is_surplus || is_draining,
                    "a stream is refused: {status} {text}"
                );
                let range = if is_surplus { RETRY_FULL_MS } else { RETRY_MS };
                let (retry, place) = text
                    .strip_prefix("retry: ")
                    .and_then(|rest| rest.split_once("\ndata: {\"type\":\"end\"}\n"))
                    .expect("a refused stream has a `retry`");
                assert!(range.contains(&number(retry)), "{text}");
                // It has the event id of the request.
                match spec.resume_after {
                    Some(seq) => assert!(place.ends_with(&format!("-{seq}\n\n")), "{text}"),
                    None => assert!(place == "\n" || place.starts_with("id: "), "{text}"),
                }
                return assert_eq!(status, 200);
            }
            _ if is_surplus => {
                assert_eq!(status, 503);
                return assert!(answer.has("Retry-After"));
            }
            Expected::Never => panic!("{status} to an incomplete request"),
            Expected::Status(_) | Expected::Receipt { .. } => {}
        }
        let is_head_read = self.link.borrow().read_before_write >= pending.head_end;
        assert!(
            self.is_whole(pending) || (pending.is_decided_by_head() && is_head_read),
            "{status} to an incomplete request: {:?} up to byte {} of {}, {} read",
            pending.request.expected,
            pending.end,
            self.sent_bytes,
            self.link.borrow().read_before_write,
        );
        if status == 503 && pending.is_overdue(around.now_ms) {
            coverage::count("verdicts that took too long", 1);
            assert!(answer.has("Retry-After") && answer.closes);
            return assert_error(text);
        }
        if let Expected::Status(expected) = pending.request.expected {
            assert_eq!(status, expected, "{text}");
            if status >= 400 {
                assert_eq!(answer.has("Allow"), status == 405);
                assert_error(text);
            }
        }
        if let Expected::Receipt { key } = pending.request.expected {
            check_receipt(key, status, text, pending.first_read_ms, around);
        }
    }

    pub fn describe(&self) -> String {
        let mode = match &self.mode {
            Mode::Answers => "answers",
            Mode::Stream(stream) if stream.is_over() => "ended stream",
            Mode::Stream(_) => "stream",
            Mode::Over => "over",
        };
        format!(
            "client {} ({mode}, {:?}, shard {}, {:?})",
            self.number,
            self.role,
            self.shard,
            self.link.borrow()
        )
    }
}
