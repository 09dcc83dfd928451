//! Commands to a shard from other threads, and its load.
//!
//! `server`, `control`, `service` and the accepting shard have handles; the reactor runs the commands.
//! Never touches a connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crossbeam_channel::{Sender, TrySendError};

use crate::handover::successor::HandoverSender;
use crate::net::socket::LayeredSocket;
use crate::net::waker::ShardWaker;
use crate::shard::census::CensusTask;
use crate::shard::judging::{Judged, SourceTable};
use crate::shard::poller;
use crate::shard::presence::Question;
use crate::tokens::TokenKeys;

/// A command to a shard of the server.
pub(super) type Command = poller::Command<LayeredSocket, Arc<HandoverSender>>;

/// A question, and the number of the shard that asks it.
pub type Asked = (Arc<Question>, usize);

/// What has become of a task for a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Given {
    /// The shard gets it.
    Taken,
    /// The channel is full.
    Full,
    /// The shard has ended.
    Ended,
}

/// A shard as other threads see it.
#[derive(Clone)]
pub struct ShardHandle {
    pub(super) commands: Sender<Command>,
    pub(super) waker: Arc<ShardWaker>,
    /// Connections within the limit, with those on the way to the shard.
    pub(super) load: Arc<AtomicUsize>,
    pub(super) turns: Arc<AtomicU64>,
}

impl ShardHandle {
    /// Starts the shard's drain.
    pub fn drain(&self) {
        self.send(Command::Drain);
    }

    /// Stops the reading of requests. The shard sends a unit when it no longer needs the ring.
    pub fn hold(&self, held: Sender<()>) {
        self.send(Command::Hold(held));
    }

    /// Sends the verdict of a request to a source.
    pub fn judged(&self, judged: Judged) {
        self.send(Command::Judged(Box::new(judged)));
    }

    /// Makes the shard serve these sources. It sends a unit when it does.
    pub fn use_sources(&self, table: Arc<SourceTable>, in_use: Sender<()>) {
        self.send(Command::UseSources(table, in_use));
    }

    /// Makes the shard verify tokens with these keys. It sends a unit when it does.
    pub fn use_token_keys(&self, keys: Arc<TokenKeys>, in_use: Sender<()>) {
        self.send(Command::UseTokenKeys(keys, in_use));
    }

    /// Asks the shard to add its streams to a question of the shard with the number `asker`. A shard that has
    /// ended has no streams. If the channel is full, the count is given up.
    pub(super) fn ask(&self, question: &Arc<Question>, asker: usize) {
        question.expect();
        let command = Command::Count(Arc::clone(question), asker);
        let is_last = match self.commands.try_send(command) {
            Ok(()) => {
                let _ = self.waker.try_wake();
                false
            }
            Err(TrySendError::Disconnected(_)) => question.add(0),
            Err(TrySendError::Full(_)) => question.give_up(),
        };
        debug_assert!(!is_last, "the shard that asks adds its count after this");
    }

    /// Sends a question back to the shard that asks. If the channel is full, the wait of its connection ends
    /// without an answer.
    pub fn counted(&self, question: Arc<Question>) {
        if self.commands.try_send(Command::Counted(question)).is_ok() {
            let _ = self.waker.try_wake();
        }
    }

    /// Gives the shard a task of the thread that shares presence.
    pub fn census(&self, task: CensusTask) -> Given {
        match self.commands.try_send(Command::Census(task)) {
            Ok(()) => {
                let _ = self.waker.try_wake();
                Given::Taken
            }
            Err(TrySendError::Full(_)) => Given::Full,
            Err(TrySendError::Disconnected(_)) => Given::Ended,
        }
    }

    /// Ends a hold.
    pub fn resume(&self) {
        self.send(Command::Resume);
    }

    /// Makes the shard pass its connections to a successor, and drain.
    pub fn hand_over(&self, handover_sender: Arc<HandoverSender>) {
        self.send(Command::HandOver(handover_sender));
    }

    /// Sends a connection of a predecessor to the shard.
    pub fn take_over(&self, connection: LayeredSocket, bytes: Vec<u8>) {
        self.load.fetch_add(1, Ordering::Relaxed);
        self.send(Command::TakeOver(connection, bytes));
    }

    /// The number of its turns so far.
    pub fn turns(&self) -> u64 {
        self.turns.load(Ordering::Relaxed)
    }

    /// Wakes the shard for a turn, if it sleeps.
    pub fn nudge(&self) {
        let _ = self.waker.try_wake();
    }

    fn send(&self, command: Command) {
        // Fails only if the shard has ended. Waits while the channel is full, for one turn at most.
        let _ = self.commands.send(command);
        let _ = self.waker.try_wake();
    }

    /// Connections within the limit, with those on the way to the shard.
    pub fn load(&self) -> usize {
        self.load.load(Ordering::Relaxed)
    }

    /// Sends a connection to the shard. An error returns the connection.
    pub(super) fn hand(&self, connection: LayeredSocket) -> Result<(), LayeredSocket> {
        // Counted first: the other thread may have closed the connection when the send returns.
        self.load.fetch_add(1, Ordering::Relaxed);
        match self.commands.try_send(Command::Connection(connection)) {
            Ok(()) => {
                let _ = self.waker.try_wake();
                Ok(())
            }
            Err(TrySendError::Full(command) | TrySendError::Disconnected(command)) => {
                self.load.fetch_sub(1, Ordering::Relaxed);
                match command {
                    Command::Connection(connection) => Err(connection),
                    _ => unreachable!("a connection was sent"),
                }
            }
        }
    }
}
