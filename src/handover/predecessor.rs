//! The successor's side of a handover: receives sockets, ring and connections from the predecessor.
//!
//! Called by `main` at the start, and by `server` for the later steps. Blocks. Never opens the ring.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use super::channel::{Kind, Message};
use super::{Channel, PROTOCOL, VARIABLE};
use crate::inherit::{InheritError, Protocols, Sockets};
use crate::limits::HANDOVER_PREPARE_MS;

/// The server that this process takes over from.
#[derive(Debug)]
pub struct Predecessor {
    channel: Channel,
}

/// A connection that a predecessor has passed on.
#[derive(Debug)]
pub struct HandoverConnection {
    /// The connection's descriptor.
    pub connection: OwnedFd,
    /// The bytes of its current request that were read.
    pub bytes: Vec<u8>,
}

/// Finds the predecessor, if there is one, and receives its listening sockets.
pub fn find() -> Result<Option<(Predecessor, Sockets)>, InheritError> {
    match std::env::var(VARIABLE) {
        Err(_) => Ok(None),
        Ok(version) if version == PROTOCOL => {
            take_sockets().map(Some).map_err(InheritError::Predecessor)
        }
        Ok(_) => Err(InheritError::Predecessor(io::Error::other(
            "it speaks another version",
        ))),
    }
}

fn take_sockets() -> io::Result<(Predecessor, Sockets)> {
    let channel = Channel::from_fd(io::stdin().as_fd().try_clone_to_owned()?);
    channel.set_timeout(Duration::from_millis(HANDOVER_PREPARE_MS))?;
    let mut sockets = Sockets::default();
    loop {
        match channel.receive()? {
            Some(Message {
                kind: Kind::Serving,
                fd: Some(fd),
                bytes,
            }) => {
                let protocols = Protocols::from_bytes(&bytes).ok_or(io::ErrorKind::InvalidData)?;
                sockets.add_serving(fd.into(), Some(protocols))?;
            }
            Some(Message {
                kind: Kind::Admin,
                fd: Some(fd),
                ..
            }) => sockets.add_admin(fd.into())?,
            Some(Message {
                kind: Kind::SocketsSent,
                ..
            }) => return Ok((Predecessor { channel }, sockets)),
            Some(_) => return Err(io::ErrorKind::InvalidData.into()),
            None => return Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

impl Predecessor {
    /// Reports that everything except the ring is ready, and waits until the predecessor has unlocked the
    /// ring or has ended.
    pub fn await_ring(&self) -> io::Result<()> {
        self.channel.send_kind(Kind::Prepared).or_else(ignore_end)?;
        self.channel.expect(Kind::RingFree).or_else(ignore_end)
    }

    /// Reports that this process serves. Succeeds also if the predecessor has ended.
    pub fn take_over(&self) -> io::Result<()> {
        self.channel.send_kind(Kind::Begun).or_else(ignore_end)?;
        self.channel.remove_read_timeout()
    }

    /// The next connection that the predecessor passes on; `None` when the predecessor has ended.
    pub fn next_connection(&self) -> io::Result<Option<HandoverConnection>> {
        match self.channel.receive()? {
            None => Ok(None),
            Some(Message {
                kind: Kind::Connection,
                fd: Some(fd),
                bytes,
            }) => Ok(Some(HandoverConnection {
                connection: fd,
                bytes,
            })),
            Some(_) => Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

/// Ignores errors that mean that the predecessor has ended.
fn ignore_end(error: io::Error) -> io::Result<()> {
    match error.kind() {
        io::ErrorKind::UnexpectedEof
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::ConnectionReset => Ok(()),
        _ => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_predecessor_may_end_at_any_time() {
        let (channel, theirs) = Channel::pair().unwrap();
        let predecessor = Predecessor { channel };
        theirs.send_kind(Kind::RingFree).unwrap();
        predecessor.await_ring().unwrap();
        drop(theirs);
        predecessor.await_ring().unwrap();
        predecessor.take_over().unwrap();
        assert!(matches!(predecessor.next_connection(), Ok(None)));
    }
}
