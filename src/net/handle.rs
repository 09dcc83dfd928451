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
use crate::shard::poller;

/// A command to a shard of the server.
pub(super) type Command = poller::Command<LayeredSocket, Arc<HandoverSender>>;

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

    /// Makes the shard read no further request. The shard sends a unit once it no longer needs the
    /// ring.
    pub fn hold(&self, held: Sender<()>) {
        self.send(Command::Hold(held));
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
