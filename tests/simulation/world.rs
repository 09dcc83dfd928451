//! The simulated world: the node, its clients, the network and the disk; and the operations on
//! them.

mod clients;
mod endings;
mod storage;

use std::cell::Cell;
use std::collections::BTreeSet;
use std::rc::Rc;

use crossbeam_channel::bounded;
use fastrand::Rng;
use hookcast::clock::Now;
use hookcast::limits::CLOCK_SET_BACK_MS_MAX;
use hookcast::shard::HandoverConnection;
use hookcast::shard::poller::Command;
use hookcast::testkit::MemoryMedium;

use super::client::{Client, RETRY_SLACK_MS};
use super::coverage;
use super::kernel::{Kernel, SimSocket};
use super::model::Model;
use super::node::{Node, Started, token_keys};
use super::operation::{Action, Operation, Profile, pick};
use super::poller::Listening;
use super::request::{Resumption, Setting};

/// The wall clock at the start, in 2023.
const UNIX_MS: u64 = 1_700_000_000_000;

/// Most clients that request the history at once. A turn cannot answer all of them if messages are
/// large.
pub const POLLERS_MAX: usize = 16;

/// All bytes: as an amount to deliver or take.
const ALL: usize = usize::MAX;

#[expect(clippy::struct_excessive_bools, reason = "independent facts")]
pub struct World {
    pub profile: Profile,
    setting: Setting,
    pub kernel: Rc<Kernel>,
    medium: MemoryMedium,
    pub model: Model,
    pub node: Node,
    pub clients: Vec<Client>,
    /// Empty once the node accepts no more connections.
    pub listeners: Vec<Listening>,
    /// Connections on their way to the next process.
    pub in_transit: Vec<HandoverConnection<SimSocket>>,
    /// Adding the next socket to epoll fails.
    pub fails_add: bool,
    /// All shards have acknowledged a hold: none of them uses the ring.
    pub is_held: bool,
    clients_ever: usize,
    pub mono_ms: u64,
    /// Difference of the wall clock to the monotonic one.
    wall_ahead_ms: u64,
    pub rng: Rng,
    resumptions: Vec<Resumption>,
    /// The ring's storage is set to fail.
    pub ring_is_failing: bool,
    pub ring_failed_ms: Option<u64>,
    /// A commit has failed, and none succeeded since. The ring may hold refused messages.
    pub is_disk_failing: bool,
    /// Messages before this one are on disk.
    durable_seq: u64,
    /// The times of the wall clock at which webhooks were accepted.
    pub accepted_ms: BTreeSet<u64>,
    /// The ring's file has been truncated or removed, and no message stored since.
    pub ring_is_cut: bool,
    /// The number of the key of tokens that the shards use, or will.
    pub key: usize,
    /// Numbers of clients whose streams ended in order.
    pub ended: Vec<usize>,
}

impl World {
    pub fn new(profile: &Profile) -> World {
        let kernel = Kernel::new(profile.mischief, profile.call_us);
        let medium = MemoryMedium::default();
        let now = Now {
            mono_ms: 0,
            mono_us: 0,
            unix_ms: UNIX_MS,
        };
        let Started {
            node,
            epoch,
            first_seq,
            ..
        } = Node::start(&medium, profile, now);
        let mut model = Model::default();
        model.start(epoch, first_seq);
        World {
            profile: profile.clone(),
            setting: Setting {
                has_secret: profile.has_secret,
                is_fanned_out: profile.fanout_life_ms.is_some(),
                compresses: profile.compresses,
                body_bytes_max: profile.body_bytes_max,
                message_bytes_usual: profile.message_bytes_usual,
                token: None,
            },
            key: 0,
            kernel,
            medium,
            model,
            node,
            clients: Vec::new(),
            listeners: listen(profile),
            in_transit: Vec::new(),
            fails_add: false,
            is_held: false,
            clients_ever: 0,
            mono_ms: 0,
            wall_ahead_ms: UNIX_MS,
            rng: Rng::with_seed(0),
            resumptions: Vec::new(),
            ring_is_failing: false,
            ring_failed_ms: None,
            is_disk_failing: false,
            durable_seq: 0,
            accepted_ms: BTreeSet::new(),
            ring_is_cut: false,
            ended: Vec::new(),
        }
    }

    /// Applies all operations, then ends the run. `step` is the number of the current operation.
    pub fn run(&mut self, operations: &[Operation], step: &Cell<usize>) {
        for (number, operation) in operations.iter().enumerate() {
            step.set(number);
            self.reseed(operation.salt);
            let pause_ms = self.rng.u64(0..=self.profile.step_ms_max);
            self.pass(pause_ms);
            self.apply(operation.action);
        }
        step.set(operations.len());
        self.reseed(operations.len() as u64);
        self.finish();
    }

    pub fn now(&self) -> Now {
        self.kernel.now(self.wall_ahead_ms)
    }

    /// The clock of a turn.
    pub fn clock(&self) -> impl Fn() -> Now + use<> {
        let (kernel, wall_ahead_ms) = (Rc::clone(&self.kernel), self.wall_ahead_ms);
        move || kernel.now(wall_ahead_ms)
    }

    /// Sometimes moves bytes on the network, between two steps of a turn.
    pub fn stir(&mut self) {
        if !self.clients.is_empty() && self.kernel.is_mischievous() {
            let place = self.kernel.up_to(self.clients.len() - 1);
            self.clients[place].link.borrow_mut().stir();
        }
    }

    /// Advances the time.
    pub fn pass(&mut self, ms: u64) {
        self.mono_ms += ms;
        self.kernel.now_ms.set(self.mono_ms);
    }

    fn reseed(&mut self, salt: u64) {
        self.rng = Rng::with_seed(salt);
        self.kernel.reseed(!salt);
    }

    fn replace_key(&mut self) {
        self.key = 1 - self.key;
        let (in_use, _) = bounded(self.node.shards.len());
        for shard in &mut self.node.shards {
            shard.send(Command::UseTokenKeys(token_keys(self.key), in_use.clone()));
        }
        coverage::count("keys replaced", 1);
    }

    fn apply(&mut self, action: Action) {
        match action {
            Action::Connect => self.connect(),
            Action::ConnectMany => self.connect_many(),
            Action::CloseMany => self.close_many(),
            Action::FailAdd => self.fail_add(),
            Action::Ask => self.ask(),
            Action::Pipeline => self.pipeline(),
            Action::Poll => self.poll(),
            Action::Deliver => {
                let most = self.some_bytes();
                self.with_client(|client| client.link.borrow_mut().deliver(most));
            }
            Action::Take => {
                let most = self.some_bytes();
                self.with_client(|client| client.link.borrow_mut().take(most));
            }
            Action::Pause => {
                self.with_client(|client| client.link.borrow_mut().client_reads ^= true);
            }
            Action::HalfClose => self.with_client(|client| client.link.borrow_mut().half_close()),
            Action::Close => self.with_client(|client| client.link.borrow_mut().close()),
            Action::Reset => self.with_client(|client| client.link.borrow_mut().reset()),
            Action::Nudge => self.nudge(),
            Action::Turn => self.turn_somewhere(),
            Action::Commit => {
                self.commit();
            }
            Action::Share => self.share(),
            Action::Judge => {
                self.judge();
            }
            Action::Settle => self.settle(),
            Action::Rest => {
                let heartbeat_ms = self.profile.heartbeat_ms;
                let ms = *pick(&mut self.rng, &[0, 1, 2, 3, 12]) * heartbeat_ms + 50;
                // Often long enough for shared streams to reach the end of their life.
                let lives_ms = self.profile.fanout_life_ms.map(|life_ms| life_ms + 1_100);
                let lives_ms = lives_ms.filter(|ms| *ms < 10_000 && self.rng.bool());
                self.rest(lives_ms.unwrap_or(ms));
            }
            Action::Freeze => {
                let ms = *pick(&mut self.rng, &[30, 1500, 11_000, 31_000, 100_000]);
                self.pass(ms);
            }
            Action::SetClock => {
                for shard in &mut self.node.shards {
                    shard.clock_was_set = true;
                }
                let by_ms = *pick(&mut self.rng, &[1, 900, 3_600_000, 86_400_000]);
                if self.rng.bool() {
                    self.wall_ahead_ms += by_ms;
                } else {
                    self.wall_ahead_ms -= by_ms;
                    self.model.begins_anew |= by_ms > CLOCK_SET_BACK_MS_MAX;
                    // Repairs of the ring are scheduled by this clock, so the next one may now be
                    // later.
                    let is_recent = |ms: u64| ms + RETRY_SLACK_MS >= self.mono_ms;
                    if self.ring_failed_ms.is_some_and(is_recent) {
                        self.ring_failed_ms = Some(self.mono_ms);
                    }
                }
            }
            Action::Admit => self.admit(),
            Action::FailRing => {
                self.medium.fail_in(self.rng.u64(0..20));
                self.ring_is_failing = true;
            }
            Action::HealRing => self.heal_ring(),
            Action::CutRing => self.cut_ring(),
            Action::Kill => self.kill(),
            Action::LosePower => self.lose_power(),
            Action::Restart => self.restart(),
            Action::ReplaceKey => self.replace_key(),
            Action::Hold => self.hold(),
        }
    }
}

fn listen(profile: &Profile) -> Vec<Listening> {
    (0..profile.listeners)
        .map(|_| Listening::default())
        .collect()
}

fn pick_mut<'a, T>(rng: &mut Rng, choices: &'a mut [T]) -> &'a mut T {
    let index = rng.usize(..choices.len());
    &mut choices[index]
}
