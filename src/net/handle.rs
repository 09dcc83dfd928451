//! A shard as other threads see it: commands to it, and its load.
//!
//! `server`, `control`, `service` and the acceptor hold handles; the reactor takes the commands. Never
//! touches a connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crossbeam_channel::{Sender, TrySendError};

use crate::handover::successor::HandoverSender;
use crate::net::socket::LayeredSocket;
use crate::net::waker::ShardWaker;
use crate::shard::turn;

/// A command to a shard of the server.
pub(super) type Command = turn::Command<LayeredSocket, Arc<HandoverSender>>;

/// A shard as others see it.
#[derive(Clone)]
pub struct ShardHandle {
    pub(super) commands: Sender<Command>,
    pub(super) waker: Arc<ShardWaker>,
    /// Its connections, those on the way to it included.
    pub(super) load: Arc<AtomicUsize>,
    pub(super) turns: Arc<AtomicU64>,
}

impl ShardHandle {
    /// Starts the shard's drain.
    pub fn drain(&self) {
        self.tell(Command::Drain);
    }

    /// Lets the shard read no further request. A unit comes when nothing of it needs the ring.
    pub fn hold(&self, held: Sender<()>) {
        self.tell(Command::Hold(held));
    }

    /// Ends a hold.
    pub fn resume(&self) {
        self.tell(Command::Resume);
    }

    /// Lets the shard give its connections to a successor, and drain.
    pub fn hand_over(&self, handover_sender: Arc<HandoverSender>) {
        self.tell(Command::HandOver(handover_sender));
    }

    /// Gives it a connection of a predecessor.
    pub fn take_over(&self, connection: LayeredSocket, bytes: Vec<u8>) {
        self.load.fetch_add(1, Ordering::Relaxed);
        self.tell(Command::TakeOver(connection, bytes));
    }

    /// How many turns it has made.
    pub fn turns(&self) -> u64 {
        self.turns.load(Ordering::Relaxed)
    }

    /// Wakes it for a turn, if it sleeps.
    pub fn nudge(&self) {
        let _ = self.waker.try_wake();
    }

    fn tell(&self, command: Command) {
        // A shard that has ended needs nothing; a full channel is emptied within a turn.
        let _ = self.commands.send(command);
        let _ = self.waker.try_wake();
    }

    /// Its connections.
    pub fn load(&self) -> usize {
        self.load.load(Ordering::Relaxed)
    }

    /// Gives it a connection, or gives that back.
    pub(super) fn hand(&self, connection: LayeredSocket) -> Result<(), LayeredSocket> {
        // Counted before it is sent: the other side may be done with it before this line's successor.
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
