//! Turns with a poller and a clock of the test: the order of the steps, and their budgets.

use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use crossbeam_channel::bounded;

use super::*;
use crate::limits::{HISTORY_MESSAGES, SLICE_WRITES};
use crate::message::Draft;
use crate::shard::Settings;
use crate::shard::tests::poller::{FakePoller, Polled};
use crate::shard::tests::{Peer, READABLE};
use crate::testkit::{hub_in_memory, settings};

const STREAM: &[u8] = b"GET /api/webhook/stream HTTP/1.1\r\nHost: a\r\n\r\n";
const HISTORY: &[u8] = b"GET /api/webhook/messages HTTP/1.1\r\nHost: a\r\n\r\n";
const WEBHOOK: &[u8] =
    b"POST /api/webhook HTTP/1.1\r\nHost: a\r\nContent-Length: 15\r\n\r\n{\"message\":\"x\"}";

/// Longest content of a message, in bytes.
const CONTENT_BYTES: usize = 3000;

/// The time that each step for a connection takes.
const WORK_US: u64 = 30;

/// One shard with its turns, hub and poller.
struct Rig {
    hub: Hub,
    shard: Shard<Peer>,
    turns: Turns<Polled, &'static str>,
    poller: FakePoller,
}

impl Rig {
    fn new() -> Rig {
        Rig::with(|_| {})
    }

    fn with(set: impl FnOnce(&mut Settings)) -> Rig {
        let (hub, inbox) = hub_in_memory(4000);
        let now_us = Rc::new(Cell::new(0));
        let mut settings = settings();
        set(&mut settings);
        let mut poller = FakePoller::new(inbox, Rc::clone(&now_us));
        poller.work_us = WORK_US;
        Rig {
            shard: Shard::new(Arc::new(settings), &hub, 1, now(&now_us)),
            hub,
            turns: Turns::default(),
            poller,
        }
    }

    fn now(&self) -> Now {
        now(&self.poller.now_us)
    }

    /// Polls, runs a turn, and returns its steps.
    fn turn(&mut self) -> Vec<Step> {
        self.poller.steps.clear();
        self.turns.priority.fill(&mut self.poller.priority);
        self.turns.standard.fill(&mut self.poller.standard);
        let now_us = Rc::clone(&self.poller.now_us);
        let (poller, shard) = (&mut self.poller, &mut self.shard);
        self.turns.run(poller, shard, &self.hub, || now(&now_us));
        std::mem::take(&mut self.poller.steps)
    }

    fn rest(&mut self) {
        while self.shard.idle_ms(self.now()) == Some(0) {
            self.turn();
        }
    }

    /// Opens a connection and sends `bytes` on it. Its standard socket is ready.
    fn connect(&mut self, bytes: &[u8]) -> (Token, Peer) {
        let peer = Peer::with_room(usize::MAX);
        peer.send(bytes);
        let token = self.shard.open(peer.clone(), Role::Standard, self.now());
        self.poller.loads[0] += 1;
        self.poller
            .standard
            .push_back(Event::Connection(token, READABLE));
        (token, peer)
    }

    /// Adds events of standard sockets without bytes to read.
    fn add_standard(&mut self, connections: usize) {
        for _ in 0..connections {
            self.connect(b"");
        }
    }

    /// Publishes messages of another shard. They are in the inbox.
    fn publish(&mut self, messages: usize) {
        let content = "x".repeat(CONTENT_BYTES);
        let draft = Draft {
            session: None,
            content,
            label: None,
            identity: None,
        };
        let mut drafts = VecDeque::from(vec![draft; messages]);
        let (sender, mut outcomes) = (self.hub.new_sender(), Vec::new());
        self.hub
            .publish(sender, &mut drafts, self.now(), &mut outcomes);
        assert!(outcomes.iter().all(Result::is_ok));
    }

    /// A rig with more streams than a slice serves, all behind by a message that is in the inbox.
    fn with_streams_behind() -> Rig {
        let mut rig = Rig::new();
        for _ in 0..2 * SLICE_WRITES {
            rig.connect(STREAM);
            rig.turn();
        }
        rig.rest();
        rig.publish(1);
        rig
    }
}

fn now(now_us: &Cell<u64>) -> Now {
    let passed_us = now_us.get();
    Now {
        mono_ms: passed_us / 1000,
        mono_us: passed_us,
        unix_ms: 1_700_000_000_000 + passed_us / 1000,
    }
}

/// The number of events of standard sockets before each slice of streams.
fn events_between_sweeps(steps: &[Step]) -> Vec<usize> {
    let is_standard = |step: &&Step| matches!(step, Step::Standard(_));
    let slices = steps.split(|step| *step == Step::Swept);
    slices
        .map(|slice| slice.iter().filter(is_standard).count())
        .collect()
}

fn count(steps: &[Step], is_counted: impl Fn(&Step) -> bool) -> usize {
    steps.iter().filter(|step| is_counted(step)).count()
}

#[test]
fn streams_are_served_between_slices_of_work_for_connections() {
    let mut rig = Rig::new();
    rig.add_standard(8);
    let per_slice = WORK_SLICE_US.div_ceil(WORK_US) as usize;
    let events = events_between_sweeps(&rig.turn());
    assert_eq!(events, [per_slice, per_slice, 8 - 2 * per_slice, 0]);
}

#[test]
fn a_young_sweep_leaves_connections_one_step_and_an_older_one_a_short_slice() {
    let mut rig = Rig::with_streams_behind();
    rig.add_standard(3);
    let events = events_between_sweeps(&rig.turn());
    assert_eq!(events[..2], [1, 1]);

    let mut rig = Rig::with_streams_behind();
    rig.turn();
    rig.poller.pass(SWEEP_YOUNG_US);
    rig.add_standard(3);
    let per_slice = WORK_SLICE_BEHIND_US.div_ceil(WORK_US) as usize;
    assert_eq!(events_between_sweeps(&rig.turn())[0], per_slice);
}

/// Runs a turn with many standard sockets. After the polls before the turn, a priority socket is ready
/// `events` times.
fn turn_with_late_priority(rig: &mut Rig, events: usize) -> Vec<Step> {
    rig.add_standard(STANDARD_EVENTS_PER_TURN);
    rig.turns.priority.fill(&mut VecDeque::new());
    rig.turns.standard.fill(&mut rig.poller.standard);
    let (token, _peer) = rig.connect(b"");
    rig.poller.standard.clear();
    let event = Event::Connection(token, READABLE);
    rig.poller.priority.extend(vec![event; events]);
    let now_us = Rc::clone(&rig.poller.now_us);
    rig.poller.steps.clear();
    let (poller, shard) = (&mut rig.poller, &mut rig.shard);
    rig.turns.run(poller, shard, &rig.hub, || now(&now_us));
    std::mem::take(&mut rig.poller.steps)
}

fn is_priority(step: &Step) -> bool {
    matches!(step, Step::Priority(_))
}

#[test]
fn priority_sockets_are_polled_after_each_slice_a_few_events_at_a_time() {
    let steps = turn_with_late_priority(&mut Rig::new(), 3 * PRIORITY_EVENTS_PER_POLL);
    let first = steps.iter().position(is_priority).unwrap();
    let per_slice = WORK_SLICE_US.div_ceil(WORK_US) as usize;
    assert_eq!(events_between_sweeps(&steps[..first]), [per_slice]);
    let polled = steps[first..].iter().take_while(|step| is_priority(step));
    // A slice of time, and one poll at least.
    assert_eq!(polled.count(), PRIORITY_EVENTS_PER_POLL);
}

#[test]
fn priority_sockets_are_polled_between_the_slices_of_a_young_sweep() {
    let steps = turn_with_late_priority(&mut Rig::with_streams_behind(), 1);
    let first = steps.iter().position(is_priority).unwrap();
    assert_eq!(events_between_sweeps(&steps[..first]), [1]);
}

/// Another shard has acknowledged a message, which is in the inbox of this one.
#[test]
fn the_inbox_is_delivered_before_a_priority_socket_is_served() {
    let mut rig = Rig::new();
    rig.add_standard(3);
    let (token, peer) = rig.connect(b"");
    rig.poller.standard.pop_back();
    rig.publish(1);
    let ask = format!(
        "GET /api/webhook/messages?since={}-1 HTTP/1.1\r\nHost: a\r\n\r\n",
        rig.hub.lineage().epoch()
    );
    peer.send(ask.as_bytes());
    rig.poller
        .priority
        .push_back(Event::Connection(token, READABLE));
    rig.turn();
    let answer = peer.take();
    assert!(answer.contains(r#""reset":false"#), "{answer}");
}

#[test]
fn webhooks_are_published_then_delivered_then_answered() {
    let mut rig = Rig::new();
    let (_, peer) = rig.connect(WEBHOOK);
    let steps = rig.turn();
    let answered = [
        Step::Published,
        Step::Delivered,
        Step::Answered(1),
        Step::Ticked,
        Step::Swept,
    ];
    assert!(steps.ends_with(&answered), "{steps:?}");
    assert!(peer.take().starts_with("HTTP/1.1 200 "));
}

#[test]
fn a_connection_that_publishes_again_is_promoted() {
    let mut rig = Rig::new();
    let (token, peer) = rig.connect(WEBHOOK);
    rig.turn();
    assert_eq!(rig.poller.promoted, []);
    peer.send(WEBHOOK);
    rig.poller
        .standard
        .push_back(Event::Connection(token, READABLE));
    rig.turn();
    assert_eq!(rig.poller.promoted, [token]);
}

#[test]
fn a_turn_has_limits_of_events_and_of_connections_read_again() {
    let mut rig = Rig::new();
    // Each has more requests than one event may read.
    let requests = b"GET /api/webhook HTTP/1.1\r\nHost: a\r\n\r\n".repeat(20);
    for _ in 0..2 * STANDARD_EVENTS_PER_TURN {
        rig.connect(&requests);
    }
    rig.turn();
    let steps = rig.turn();
    let is_standard = |step: &Step| matches!(step, Step::Standard(_));
    assert_eq!(count(&steps, is_standard), STANDARD_EVENTS_PER_TURN);
    let is_resumed = |step: &Step| *step == Step::Resumed;
    assert_eq!(count(&steps, is_resumed), STANDARD_EVENTS_PER_TURN);
}

#[test]
fn a_turn_encodes_a_bounded_amount_of_history() {
    let mut rig = Rig::with(|settings| settings.held_bytes_max = 1 << 26);
    rig.publish(HISTORY_MESSAGES);
    for _ in 0..30 {
        rig.connect(HISTORY);
    }
    let steps = rig.turn();
    let made = steps.iter().filter_map(|step| match step {
        Step::History(bytes) => Some(*bytes),
        _ => None,
    });
    let made: Vec<usize> = made.collect();
    assert!(made.iter().sum::<usize>() >= HISTORY_TURN_BYTES);
    let before_last: usize = made[..made.len() - 1].iter().sum();
    assert!(before_last < HISTORY_TURN_BYTES, "{made:?}");
}

#[test]
fn a_turn_accepts_a_few_connections_and_sends_each_to_the_shard_with_the_fewest() {
    let mut rig = Rig::new();
    rig.poller.loads = vec![1, 3, 0];
    rig.poller.waiting = vec![Peer::default(); ACCEPTS_PER_TURN + 1];
    rig.turn();
    assert_eq!(rig.poller.waiting.len(), 1);
    assert_eq!(rig.poller.handed, [2, 2, 2]);
    assert_eq!(rig.poller.loads, [4, 3, 3]);
    assert_eq!(rig.shard.connections(), 3);
}

#[test]
fn connections_over_the_limit_are_refused_up_to_a_number_and_others_wait() {
    let mut rig = Rig::new();
    rig.poller.connections_max = 1;
    rig.poller.waiting = vec![Peer::default(); SURPLUS_CONNECTIONS_MAX + 2];
    for _ in 0..SURPLUS_CONNECTIONS_MAX {
        rig.turn();
    }
    assert_eq!(rig.poller.loads, [1]);
    assert_eq!(rig.shard.surplus(), SURPLUS_CONNECTIONS_MAX);
    assert_eq!(rig.poller.waiting.len(), 1);
    assert!(rig.poller.postponed > 0);
}

#[test]
fn a_connection_that_cannot_be_polled_is_closed_and_counted() {
    let mut rig = Rig::new();
    rig.poller.is_polling_refused = true;
    rig.poller.waiting = vec![Peer::default()];
    rig.turn();
    assert_eq!((rig.shard.connections(), rig.poller.loads[0]), (0, 0));
}

#[test]
fn every_command_of_a_turn_is_run() {
    let mut rig = Rig::new();
    let peers: Vec<Peer> = (0..20).map(|_| Peer::with_room(usize::MAX)).collect();
    let connections = peers.iter().map(|peer| Command::Connection(peer.clone()));
    rig.poller.commands.extend(connections);
    let (half, rest) = WEBHOOK.split_at(30);
    let taken_over = Peer::with_room(usize::MAX);
    taken_over.send(rest);
    rig.poller
        .commands
        .push_back(Command::TakeOver(taken_over.clone(), half.to_vec()));
    let steps = rig.turn();
    assert_eq!(count(&steps, |step| *step == Step::Ran), 21);
    assert_eq!(rig.shard.connections(), 21);
    assert!(taken_over.take().starts_with("HTTP/1.1 200 "));
}

#[test]
fn a_hold_is_answered_when_nothing_of_the_shard_needs_the_ring() {
    let mut rig = Rig::new();
    let (token, peer) = rig.connect(WEBHOOK);
    let (held, is_held) = bounded(1);
    rig.poller.commands.push_back(Command::Hold(held));
    rig.turn();
    assert!(
        is_held.try_recv().is_ok(),
        "webhooks that were read are published"
    );
    peer.take();
    peer.send(WEBHOOK);
    rig.poller
        .standard
        .push_back(Event::Connection(token, READABLE));
    rig.turn();
    assert_eq!(peer.take(), "", "it is not read");
    rig.poller.commands.push_back(Command::Resume);
    rig.turn();
    assert!(peer.take().starts_with("HTTP/1.1 200 "));
}

#[test]
fn a_drain_and_a_handover_stop_accepting_and_the_successor_gets_the_connections() {
    for is_handover in [false, true] {
        let mut rig = Rig::new();
        let (_, peer) = rig.connect(b"");
        rig.turn();
        let command = if is_handover {
            Command::HandOver("successor")
        } else {
            Command::Drain
        };
        rig.poller.waiting = vec![Peer::default()];
        rig.poller.has_listener = true;
        rig.poller.commands.push_back(command);
        rig.turn();
        assert_eq!(
            rig.poller.waiting.len(),
            0,
            "commands are run after accepts"
        );
        rig.poller.waiting = vec![Peer::default()];
        rig.turn();
        assert_eq!(rig.poller.waiting.len(), 1);
        let given = if is_handover { 2 } else { 0 };
        assert_eq!(rig.poller.handed_over, vec![Some("successor"); given]);
        assert_eq!(rig.shard.is_drained(), is_handover);
        drop(peer);
    }
}
