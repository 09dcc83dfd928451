//! Webhooks between their request and their answer: drafts for the hub, and its outcomes.
//!
//! Part of the shard. `requests` adds a draft, [`Shard::publish`] gives the drafts of a turn to the hub
//! in one call, and [`Shard::answer_webhooks`] passes each outcome to `answers`. Outcomes arrive in the
//! order of the drafts. Never touches a socket.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Now;
use crate::hub::{Batch, Hub, NotStored, Receipt, SenderId};
use crate::limits::PUBLISHING_BYTES_MAX;
use crate::message::Draft;
use crate::metrics::{Counter, Gauge, SourceCounts, Tally, Timing};
use crate::shard::Shard;
use crate::shard::connection::Token;
use crate::shard::transport::Transport;

/// What became of a webhook.
type Outcome = Result<Receipt, NotStored>;

/// See the module's description.
pub(super) struct Publishing {
    /// The name of this shard at the hub.
    sender: SenderId,
    /// Webhooks that the hub has not taken yet.
    drafts: VecDeque<Draft>,
    /// The publishers of all webhooks without an outcome, in the order of the drafts.
    publishers: VecDeque<Publisher>,
    /// The number of the next publisher.
    added: u64,
    /// Of the publishers that are from a source: their number, and the counts of the source. Apart, because
    /// most have none.
    sources: VecDeque<(u64, Arc<SourceCounts>)>,
    outcomes: Vec<Outcome>,
    /// Bytes of the webhooks that are not answered, and of their readers.
    bytes: usize,
    /// When the webhooks that were answered in this turn had been read, in monotonic microseconds.
    answered_us: Vec<u64>,
    /// The number of publishers that the gauge has.
    counted: i64,
    /// The last webhook could not be stored.
    is_failing: bool,
    /// The hub has left drafts behind, because the inbox of a shard was full.
    hub_was_full: bool,
}

/// The connection of a webhook.
#[derive(Debug, Clone, Copy)]
pub(super) struct Publisher {
    token: Token,
    /// When it was read, in monotonic microseconds.
    read_us: u64,
    /// Its part of [`Publishing::bytes`].
    bytes: usize,
}

impl Publishing {
    pub(super) fn new(sender: SenderId) -> Publishing {
        Publishing {
            sender,
            drafts: VecDeque::new(),
            publishers: VecDeque::new(),
            added: 0,
            sources: VecDeque::new(),
            outcomes: Vec::new(),
            bytes: 0,
            answered_us: Vec::new(),
            counted: 0,
            is_failing: false,
            hub_was_full: false,
        }
    }

    /// Adds the draft of a connection, whose reader holds `reader_bytes`.
    pub(super) fn add(&mut self, draft: Draft, token: Token, reader_bytes: usize, now: Now) {
        self.add_of_source(draft, token, reader_bytes, now.mono_us, None);
    }

    /// Adds the draft of a source. Its request was read at `read_us`, in monotonic microseconds.
    pub(super) fn add_of_source(
        &mut self,
        draft: Draft,
        token: Token,
        reader_bytes: usize,
        read_us: u64,
        counts: Option<Arc<SourceCounts>>,
    ) {
        let bytes = draft.content.len() + reader_bytes;
        self.bytes += bytes;
        self.publishers.push_back(Publisher {
            token,
            read_us,
            bytes,
        });
        if let Some(counts) = counts {
            self.sources.push_back((self.added, counts));
        }
        self.added += 1;
        self.drafts.push_back(draft);
    }

    /// Whether reading stops until the hub has stored some webhooks.
    pub(super) fn is_full(&self) -> bool {
        self.bytes > PUBLISHING_BYTES_MAX
    }

    pub(super) fn has_drafts(&self) -> bool {
        !self.drafts.is_empty()
    }

    /// Whether drafts wait although the hub had room at its last call: webhooks that were pipelined behind
    /// another.
    pub(super) fn has_fresh_drafts(&self) -> bool {
        self.has_drafts() && !self.hub_was_full
    }

    /// Keeps the outcomes in a batch that are for this shard.
    pub(super) fn take_outcomes(&mut self, batch: &Batch) {
        self.outcomes
            .extend(batch.outcomes_for(self.sender).cloned());
    }

    fn publish(&mut self, hub: &Hub, now: Now, tally: &mut Tally) {
        hub.publish(self.sender, &mut self.drafts, now, &mut self.outcomes);
        self.hub_was_full = self.has_drafts();
        tally.count(Counter::PublishWaits, u64::from(self.hub_was_full));
    }

    /// The connection of the next outcome.
    fn next_publisher(&mut self, outcome: &Outcome) -> Option<Token> {
        let number = self.added - self.publishers.len() as u64;
        let publisher = self.publishers.pop_front()?;
        self.bytes -= publisher.bytes;
        self.answered_us.push(publisher.read_us);
        self.count_for_source(number, outcome);
        Some(publisher.token)
    }

    /// Counts the outcome of a publisher for its source, if it is from one.
    fn count_for_source(&mut self, number: u64, outcome: &Outcome) {
        if self.sources.front().is_none_or(|(of, _)| *of != number) {
            return;
        }
        if let Some((_, counts)) = self.sources.pop_front() {
            match outcome {
                Ok(receipt) if receipt.is_repeat => counts.count_repeat(),
                Ok(_) => counts.count_published(),
                Err(_) => counts.count_not_stored(),
            }
        }
    }

    fn count_waiting(&mut self, tally: &mut Tally) {
        let waiting = i64::try_from(self.publishers.len()).unwrap_or(i64::MAX);
        tally.shift(Gauge::WebhooksWaiting, waiting - self.counted);
        self.counted = waiting;
    }

    /// Logs when storing begins to fail and when it works again, not every failure.
    fn log_fault(&mut self) {
        let Some(last) = self.outcomes.last() else {
            return;
        };
        if matches!(last, Err(NotStored::NoBus | NotStored::InDoubt))
            || last.as_ref().is_err_and(NotStored::is_of_sender)
        {
            // The bus logs its own faults.
            return;
        }
        match (self.is_failing, last) {
            (false, Err(error)) => {
                tracing::error!(%error, "webhooks cannot be stored and are answered with 500");
            }
            (true, Ok(_)) => tracing::info!("webhooks can be stored again"),
            _ => {}
        }
        self.is_failing = last.is_err();
    }

    /// The numbers of drafts and publishers, and the bytes that count.
    #[cfg(test)]
    pub(super) fn counts(&self) -> [usize; 3] {
        [self.drafts.len(), self.publishers.len(), self.bytes]
    }
}

impl<S: Transport> Shard<S> {
    /// Whether webhooks wait to be published.
    pub fn has_drafts(&self) -> bool {
        self.publishing.has_drafts()
    }

    /// Gives the webhooks of this turn to the hub. Those for which the hub has no room stay until the
    /// next turn.
    pub fn publish(&mut self, hub: &Hub, now: Now) {
        self.publishing.publish(hub, now, &mut self.tally);
    }

    /// Answers the webhooks that have an outcome, and returns their number. Called after the frames of
    /// the hub were delivered, so the log has the message before its publisher has the answer.
    pub fn answer_webhooks(&mut self, now: Now) -> usize {
        self.publishing.log_fault();
        let mut outcomes = std::mem::take(&mut self.publishing.outcomes);
        let answered = outcomes.len();
        for outcome in outcomes.drain(..) {
            let Some(token) = self.publishing.next_publisher(&outcome) else {
                debug_assert!(false, "each outcome has a publisher");
                break;
            };
            if let Some(slot) = self.connections.slot_of(token) {
                self.answer_webhook(slot, &outcome, now);
            }
        }
        // The capacity is for the next turn.
        self.publishing.outcomes = outcomes;
        self.publishing.count_waiting(&mut self.tally);
        answered
    }

    /// Counts the time from the request to the answer, of webhooks that were answered since the last
    /// call.
    pub fn observe_answers(&mut self, now: Now) {
        for read_us in self.publishing.answered_us.drain(..) {
            let took = Duration::from_micros(now.mono_us - read_us);
            self.tally.observe(Timing::Publish, took);
        }
    }
}
