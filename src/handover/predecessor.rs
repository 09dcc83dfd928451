//! The predecessor as its successor sees it: where the sockets, the ring and the connections come
//! from.
//!
//! Called by `main` at the start and by `server` as it goes on. Blocks. Never opens the ring itself.

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

/// A connection that a predecessor has given away.
#[derive(Debug)]
pub struct HandoverConnection {
    /// The connection's descriptor.
    pub connection: OwnedFd,
    /// What was read of its current request.
    pub bytes: Vec<u8>,
}

/// Finds the predecessor, if there is one, and takes its listening sockets.
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
    channel.set_patience(Duration::from_millis(HANDOVER_PREPARE_MS))?;
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
    /// Says that everything is there but the ring, and waits until that is free. It is, too, when the
    /// predecessor is gone: then nobody holds it.
    pub fn await_ring(&self) -> io::Result<()> {
        self.channel.say(Kind::Prepared).or_else(gone)?;
        self.channel.expect(Kind::RingFree).or_else(gone)
    }

    /// Says that this process serves now. It goes on if there is nobody left to hear it.
    pub fn take_over(&self) -> io::Result<()> {
        self.channel.say(Kind::Begun).or_else(gone)?;
        self.channel.set_endless_patience()
    }

    /// The next connection that it gives away; none when it has ended.
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

/// That the predecessor is gone is no failure of this process.
fn gone(error: io::Error) -> io::Result<()> {
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
        theirs.say(Kind::RingFree).unwrap();
        predecessor.await_ring().unwrap();
        drop(theirs);
        predecessor.await_ring().unwrap();
        predecessor.take_over().unwrap();
        assert!(matches!(predecessor.next_connection(), Ok(None)));
    }
}
