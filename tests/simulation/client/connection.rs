//! Checks of a client's connection: why it was closed, and its state while the server is idle.

use hookcast::limits::{LINGER_MS, REQUEST_DEADLINE_MS, STALL_MS};

use super::super::coverage;
use super::super::request::Expected;
use super::super::stream::show;
use super::{Client, DEADLINE_SCAN_SLACK_MS, Mode, Surroundings};

impl Client {
    /// Fails unless the server had a reason to close the connection.
    pub fn assert_closed_for_a_reason(&self, around: &Surroundings<'_>) {
        let link = self.link.borrow();
        let now_ms = around.now_ms;
        let since = |start_ms: u64, limit_ms: u64| now_ms >= start_ms + limit_ms;
        let drain_until_ms = around.node.drain_until_ms;
        let is_overdue = drain_until_ms.is_some_and(|until_ms| now_ms >= until_ms);
        if link.is_reset() || is_overdue {
            return;
        }
        // Room counts once epoll has reported it.
        let knows_of_room = link.has_room() && !link.owes_news();
        let is_stalled = link.is_short && !knows_of_room && since(link.stalled_since_ms, STALL_MS);
        let has_lingered = link
            .server_fin_ms
            .is_some_and(|fin_ms| since(fin_ms, LINGER_MS));
        let is_read_out = link.has_ended() && link.is_read();
        let is_justified = match &self.mode {
            Mode::Over => is_stalled || is_read_out || has_lingered,
            Mode::Stream(stream) if stream.is_over() => is_read_out || has_lingered,
            Mode::Stream(stream) => {
                let is_cut_off = stream.spec.is_shared && drain_until_ms.is_some();
                coverage::count("shared streams cut off by a drain", u64::from(is_cut_off));
                // A stream that is blocked at the end of its token gets no last event.
                let is_expired = link.is_short && stream.may_have_expired(around.unix_ms);
                coverage::count(
                    "streams cut at the end of their token",
                    u64::from(is_expired),
                );
                link.has_ended()
                    || is_stalled
                    || is_expired
                    || is_cut_off
                    || stream.is_torn(!self.rest.is_empty(), &around.known())
            }
            Mode::Answers => {
                let has_begun = self
                    .pending
                    .front()
                    .is_some_and(|p| p.first_read_ms.is_some());
                let is_idle = !has_begun && self.rest.is_empty() && self.skipped_end.is_none();
                let keep_alive_ms = around.settings.keep_alive.as_millis() as u64;
                let is_expired = match self.last_answer_ms {
                    Some(answer_ms) => since(answer_ms, keep_alive_ms),
                    None => since(self.opened_ms, REQUEST_DEADLINE_MS),
                };
                is_read_out
                    || is_stalled
                    || (link.is_short && self.token_may_have_ended(around))
                    || (self.is_body_late(link.server_fin_ms) && (has_lingered || link.has_ended()))
                    || (is_idle && (is_expired || drain_until_ms.is_some()))
                    // A stream without its first bytes yet.
                    || (link.has_ended() && self.may_stream())
                    || (self.may_be_shared() && drain_until_ms.is_some())
            }
        };
        assert!(
            is_justified,
            "closed without a reason: {}, {} requests without an answer, rest {:?}",
            self.describe(),
            self.pending.len(),
            show(&self.rest),
        );
    }

    /// Checks a connection while the server has nothing to do.
    pub fn assert_at_rest(&self, around: &Surroundings<'_>) {
        let link = self.link.borrow();
        assert!(
            !link.is_reset(),
            "a connection is kept after its reset: {}",
            self.describe()
        );
        assert!(
            !(link.is_short && link.has_room()),
            "the rest is not sent although there is room: {}",
            self.describe()
        );
        self.assert_in_time(around);
        if link.is_short {
            return;
        }
        assert!(
            !link.has_ended(),
            "a connection is kept after its peer has closed: {}",
            self.describe()
        );
        match &self.mode {
            Mode::Stream(stream) if stream.is_over() => self.assert_half_closed(),
            Mode::Over => self.assert_half_closed(),
            Mode::Stream(stream) => {
                assert!(self.rest.is_empty(), "half an event: {}", show(&self.rest));
                assert!(link.is_read(), "unread bytes: {}", self.describe());
                assert!(stream.has_begun(), "a stream without its first event");
                stream.assert_caught_up(&around.known());
                stream.assert_alive(DEADLINE_SCAN_SLACK_MS, &around.known());
                if !around.node.clock_was_set {
                    stream.assert_valid(&around.known());
                }
                let heartbeat_ms = around.settings.heartbeat_interval.as_millis() as u64;
                stream.assert_calm(around.now_ms, heartbeat_ms);
            }
            Mode::Answers => {
                assert!(self.rest.is_empty(), "half an answer: {}", show(&self.rest));
                assert!(link.is_read(), "unread bytes: {}", self.describe());
                if self.is_body_late(link.server_fin_ms) {
                    return;
                }
                assert!(link.server_fin_ms.is_none(), "closed without a last answer");
                let idle_until_ms = around.node.idle_until_ms;
                let is_idle_over = idle_until_ms.is_some_and(|until_ms| around.now_ms >= until_ms);
                assert!(
                    !(is_idle_over && self.is_idle()),
                    "idle in a drain: {}",
                    self.describe()
                );
                if let Some(pending) = self.pending.front() {
                    let is_refused = !matches!(pending.request.expected, Expected::Refusal(_))
                        || link.read_bytes < pending.end;
                    assert!(is_refused, "not refused: {:?}", pending.request.expected);
                    assert!(
                        !pending.is_within(link.read_bytes),
                        "not answered: {:?}",
                        pending.request.expected
                    );
                    let is_continued = !pending.expects_100 || self.held.is_none();
                    let head_is_read = link.read_bytes >= self.sent_bytes;
                    assert!(is_continued || !head_is_read, "no 100 Continue");
                }
            }
        }
    }

    /// Whether the server closed its side because an answered request's body did not arrive in
    /// time.
    fn is_body_late(&self, server_fin_ms: Option<u64>) -> bool {
        let answer_ms = self.last_answer_ms.filter(|_| self.skipped_end.is_some());
        answer_ms
            .zip(server_fin_ms)
            .is_some_and(|(answer_ms, fin_ms)| fin_ms >= answer_ms + REQUEST_DEADLINE_MS)
    }

    /// Whether a stream without its first bytes may be closed, because the token of its request has ended.
    fn token_may_have_ended(&self, around: &Surroundings<'_>) -> bool {
        let expected = self.pending.front().map(|pending| pending.request.expected);
        let Some(Expected::Stream(spec)) = expected else {
            return false;
        };
        let is_replaced = around
            .node
            .key_since_ms
            .is_some_and(|ms| ms >= self.opened_ms);
        spec.token.is_some_and(|token| {
            is_replaced || token.key != around.node.key || around.unix_ms >= token.expires_ms
        })
    }

    fn assert_half_closed(&self) {
        let has_fin = self.link.borrow().server_fin_ms.is_some();
        assert!(
            has_fin,
            "the server's side is open after the last answer: {}",
            self.describe()
        );
    }

    /// Fails if a deadline has expired without effect.
    fn assert_in_time(&self, around: &Surroundings<'_>) {
        let link = self.link.borrow();
        // After a hold, no request is late at once.
        let held_until_ms = around.node.held_until_ms;
        let late = |start_ms: u64, limit_ms: u64| {
            let due_ms = (start_ms.max(self.opened_ms) + limit_ms).max(held_until_ms);
            around.now_ms > due_ms + DEADLINE_SCAN_SLACK_MS
        };
        let what = if link.is_short {
            late(link.stalled_since_ms, STALL_MS).then_some("stalled")
        } else if let Some(fin_ms) = link.server_fin_ms {
            late(fin_ms, LINGER_MS).then_some("lingers")
        } else if let Mode::Answers = self.mode {
            match self
                .pending
                .front()
                .and_then(|pending| pending.first_read_ms)
            {
                // The head's deadline, then the body's. The first begins with the answer to the
                // previous request.
                Some(read_ms) => {
                    let begin_ms = read_ms
                        .max(self.last_answer_ms.unwrap_or(0))
                        .max(link.stalled_since_ms);
                    late(begin_ms, 2 * REQUEST_DEADLINE_MS).then_some("is slow")
                }
                None => match self.last_answer_ms {
                    Some(answer_ms) if self.skipped_end.is_some() => {
                        late(answer_ms, REQUEST_DEADLINE_MS)
                    }
                    Some(answer_ms) => {
                        late(answer_ms, around.settings.keep_alive.as_millis() as u64)
                    }
                    None => late(self.opened_ms, REQUEST_DEADLINE_MS),
                }
                .then_some("is idle"),
            }
        } else {
            None
        };
        assert!(
            what.is_none(),
            "{} {} for too long at {}",
            self.describe(),
            what.unwrap_or(""),
            around.now_ms
        );
    }
}
