//! A poller for tests: events, connections and commands that the test has prepared, and a record of the
//! steps.

use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use crossbeam_channel::Receiver;

use super::Peer;
use crate::clock::Now;
use crate::hub::Batch;
use crate::shard::judging::SourceRequest;
use crate::shard::poller::{Accepted, Command, Event, Poller, Ready, Step};
use crate::shard::presence::Question;
use crate::shard::{HandoverConnection, Shard, Token};

/// The events of a poll, at most `room`.
pub(in crate::shard) struct Polled {
    room: usize,
    events: Vec<Event>,
}

impl Ready for Polled {
    fn with_room(room: usize) -> Polled {
        let events = Vec::new();
        Polled { room, events }
    }

    fn events(&self) -> impl Iterator<Item = Event> {
        self.events.iter().copied()
    }

    fn is_full(&self) -> bool {
        self.events.len() >= self.room
    }
}

impl Polled {
    pub(in crate::shard) fn fill(&mut self, ready: &mut VecDeque<Event>) {
        let count = ready.len().min(self.room);
        self.events = ready.drain(..count).collect();
    }
}

/// A poller that records the steps of a turn.
pub(in crate::shard) struct FakePoller {
    pub(in crate::shard) inbox: Receiver<Arc<Batch>>,
    pub(in crate::shard) commands: VecDeque<Command<Peer, &'static str>>,
    pub(in crate::shard) priority: VecDeque<Event>,
    pub(in crate::shard) standard: VecDeque<Event>,
    /// Connections that wait to be accepted.
    pub(in crate::shard) waiting: Vec<Peer>,
    pub(in crate::shard) has_listener: bool,
    pub(in crate::shard) loads: Vec<usize>,
    pub(in crate::shard) connections_max: usize,
    pub(in crate::shard) is_polling_refused: bool,
    pub(in crate::shard) postponed: usize,
    pub(in crate::shard) promoted: Vec<Token>,
    pub(in crate::shard) handed: Vec<usize>,
    pub(in crate::shard) handed_over: Vec<Option<&'static str>>,
    pub(in crate::shard) now_us: Rc<Cell<u64>>,
    pub(in crate::shard) steps: Vec<Step>,
    /// Requests to sources.
    pub(in crate::shard) judged: Vec<SourceRequest>,
    pub(in crate::shard) is_judge_gone: bool,
    /// Other shards, which add their counts when the test makes them.
    pub(in crate::shard) others: usize,
    /// Questions to the other shards.
    pub(in crate::shard) asked: Vec<Arc<Question>>,
    /// Questions of other shards that have all counts, with the number of the shard.
    pub(in crate::shard) sent_back: Vec<(usize, Arc<Question>)>,
    /// The time that each step for a connection takes, in microseconds.
    pub(in crate::shard) work_us: u64,
}

impl Poller for FakePoller {
    type Socket = Peer;
    type Ready = Polled;
    type Successor = &'static str;

    fn poll_priority(&mut self, ready: &mut Polled) -> bool {
        ready.fill(&mut self.priority);
        true
    }

    fn add(&mut self, _: &Peer, _: Token) -> bool {
        !self.is_polling_refused
    }

    fn promote(&mut self, _: &Peer, token: Token) {
        self.promoted.push(token);
    }

    fn next_batch(&mut self) -> Option<Arc<Batch>> {
        self.inbox.try_recv().ok()
    }

    fn judge(&mut self, request: SourceRequest) -> bool {
        self.judged.push(request);
        !self.is_judge_gone
    }

    fn ask(&mut self, question: &Arc<Question>) {
        for _ in 0..self.others {
            question.expect();
        }
        self.asked.push(Arc::clone(question));
    }

    fn send_back(&mut self, shard: usize, question: Arc<Question>) {
        self.sent_back.push((shard, question));
    }

    fn next_command(&mut self) -> Option<Command<Peer, &'static str>> {
        self.commands.pop_front()
    }

    fn listeners(&self) -> usize {
        usize::from(self.has_listener)
    }

    fn set_listener_ready(&mut self, _: usize) {}

    fn is_listener_ready(&self, _: usize, _: Now) -> bool {
        true
    }

    fn accept(&mut self, _: usize, _: Now) -> Accepted<Peer> {
        let peer = self.waiting.pop();
        peer.map_or(Accepted::NoneWaiting, Accepted::Connection)
    }

    fn postpone(&mut self, _: usize, _: Now) {
        self.postponed += 1;
    }

    fn stop_accepting(&mut self) {
        self.has_listener = false;
    }

    fn shards(&self) -> usize {
        self.loads.len()
    }

    fn load(&self, shard: usize) -> usize {
        self.loads[shard]
    }

    fn connections_max(&self) -> usize {
        self.connections_max
    }

    fn count_opened(&mut self) {
        self.loads[0] += 1;
    }

    fn count_closed(&mut self, connections: usize) {
        self.loads[0] -= connections;
    }

    fn hand(&mut self, shard: usize, _: Peer) -> Result<(), Peer> {
        self.loads[shard] += 1;
        self.handed.push(shard);
        Ok(())
    }

    fn hand_over(&mut self, _: HandoverConnection<Peer>, to: Option<&&'static str>) {
        self.handed_over.push(to.copied());
    }

    fn note(&mut self, _: &Shard<Peer>, step: Step, _: Now) {
        self.steps.push(step);
        let is_work = matches!(
            step,
            Step::Priority(_)
                | Step::Standard(_)
                | Step::Accepted
                | Step::Resumed
                | Step::History(_)
                | Step::Ran
        );
        self.pass(if is_work { self.work_us } else { 0 });
    }
}

impl FakePoller {
    pub(in crate::shard) fn pass(&self, us: u64) {
        self.now_us.set(self.now_us.get() + us);
    }
}

impl FakePoller {
    /// A poller without events, for the only shard of a hub. `inbox` is the shard's.
    pub(in crate::shard) fn new(inbox: Receiver<Arc<Batch>>, now_us: Rc<Cell<u64>>) -> FakePoller {
        FakePoller {
            inbox,
            commands: VecDeque::new(),
            priority: VecDeque::new(),
            standard: VecDeque::new(),
            waiting: Vec::new(),
            has_listener: true,
            loads: vec![0],
            connections_max: usize::MAX,
            is_polling_refused: false,
            postponed: 0,
            promoted: Vec::new(),
            handed: Vec::new(),
            handed_over: Vec::new(),
            now_us,
            steps: Vec::new(),
            judged: Vec::new(),
            is_judge_gone: false,
            others: 0,
            asked: Vec::new(),
            sent_back: Vec::new(),
            work_us: 0,
        }
    }
}
