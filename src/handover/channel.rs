//! Messages between a server and its successor, over a Unix socket, with descriptors attached
//! (unix(7), `SCM_RIGHTS`).
//!
//! Used by both sides. A message has a kind, a length, at most one descriptor, and bytes. Blocks, but never
//! longer than the socket's timeouts.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

use crate::limits::HANDOVER_BYTES_MAX;

/// One side of the channel.
#[derive(Debug)]
pub struct Channel(UnixStream);

/// The kind of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A listening socket to serve on, and its [`Protocols`](crate::inherit::Protocols).
    Serving = 1,
    /// The listening socket of the admin address.
    Admin,
    /// All listening sockets were sent.
    SocketsSent,
    /// The successor has everything except the ring.
    Prepared,
    /// The ring is unlocked for the successor.
    RingFree,
    /// The successor has begun to serve.
    Begun,
    /// A connection, and the bytes of its current request that were read.
    Connection,
}

impl Kind {
    const ALL: [Kind; 7] = [
        Kind::Serving,
        Kind::Admin,
        Kind::SocketsSent,
        Kind::Prepared,
        Kind::RingFree,
        Kind::Begun,
        Kind::Connection,
    ];
}

/// A received message.
#[derive(Debug)]
pub struct Message {
    /// The kind.
    pub kind: Kind,
    /// The attached descriptor.
    pub fd: Option<OwnedFd>,
    /// The bytes.
    pub bytes: Vec<u8>,
}

const HEADER_BYTES: usize = 5;

impl Channel {
    /// The two ends of a new channel.
    pub fn pair() -> io::Result<(Channel, Channel)> {
        let (one, other) = UnixStream::pair()?;
        Ok((Channel(one), Channel(other)))
    }

    /// A channel of which this descriptor is one end.
    pub fn from_fd(fd: OwnedFd) -> Channel {
        Channel(UnixStream::from(fd))
    }

    /// The descriptor, for a successor's standard input.
    pub fn into_fd(self) -> OwnedFd {
        self.0.into()
    }

    /// Sets the timeout of receiving, and of sending while the other side does not receive.
    pub fn set_timeout(&self, timeout: Duration) -> io::Result<()> {
        self.0.set_read_timeout(Some(timeout))?;
        self.0.set_write_timeout(Some(timeout))
    }

    /// Removes the timeout of receiving.
    pub fn remove_read_timeout(&self) -> io::Result<()> {
        self.0.set_read_timeout(None)
    }

    /// Sends a message without a descriptor and without bytes.
    pub fn send_kind(&self, kind: Kind) -> io::Result<()> {
        self.send(kind, None, &[])
    }

    /// Sends a message.
    pub fn send(&self, kind: Kind, fd: Option<BorrowedFd<'_>>, bytes: &[u8]) -> io::Result<()> {
        if bytes.len() > HANDOVER_BYTES_MAX {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let mut header = [kind as u8, 0, 0, 0, 0];
        header[1..].copy_from_slice(&(bytes.len() as u32).to_le_bytes());
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let fds: Vec<BorrowedFd<'_>> = fd.into_iter().collect();
        if !fds.is_empty() {
            let fits = control.push(SendAncillaryMessage::ScmRights(&fds));
            debug_assert!(fits, "there is space for one");
        }
        let sent = loop {
            let sent = sendmsg(
                self.0.as_fd(),
                &[IoSlice::new(&header)],
                &mut control,
                SendFlags::NOSIGNAL,
            );
            match sent {
                Err(rustix::io::Errno::INTR) => {}
                sent => break sent?,
            }
        };
        // A stream socket may accept only a part. The descriptor is sent with the first byte.
        (&self.0).write_all(&header[sent..])?;
        (&self.0).write_all(bytes)
    }

    /// Receives the next message; `None` when the other side has closed the channel.
    pub fn receive(&self) -> io::Result<Option<Message>> {
        let mut header = [0; HEADER_BYTES];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received = loop {
            let received = recvmsg(
                self.0.as_fd(),
                &mut [IoSliceMut::new(&mut header)],
                &mut control,
                RecvFlags::CMSG_CLOEXEC,
            );
            match received {
                Err(rustix::io::Errno::INTR) => {}
                received => break received?.bytes,
            }
        };
        let mut fd = None;
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(fds) = message {
                fd = fds.last().or(fd);
            }
        }
        if received == 0 {
            return Ok(None);
        }
        (&self.0).read_exact(&mut header[received..])?;
        let [kind, length @ ..] = header;
        let kind = Kind::ALL.into_iter().find(|known| *known as u8 == kind);
        let length = u32::from_le_bytes(length) as usize;
        let (Some(kind), true) = (kind, length <= HANDOVER_BYTES_MAX) else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        let mut bytes = vec![0; length];
        (&self.0).read_exact(&mut bytes)?;
        Ok(Some(Message { kind, fd, bytes }))
    }

    /// Receives a message of this kind. Another message and a closed channel are errors.
    pub fn expect(&self, kind: Kind) -> io::Result<()> {
        match self.receive()? {
            Some(message) if message.kind == kind => Ok(()),
            Some(_) => Err(io::ErrorKind::InvalidData.into()),
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn descriptors_and_bytes_arrive_in_order_and_then_the_end() {
        let (near, far) = Channel::pair().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let large = vec![7; 1_000_000];
        std::thread::scope(|scope| {
            scope.spawn(|| {
                near.send(Kind::Connection, Some(listener.as_fd()), &large)
                    .unwrap();
                near.send_kind(Kind::RingFree).unwrap();
                near.send(Kind::Serving, Some(listener.as_fd()), &[])
                    .unwrap();
                drop(near);
            });
            let first = far.receive().unwrap().unwrap();
            assert_eq!((first.kind, first.bytes == large), (Kind::Connection, true));
            let same = TcpListener::from(first.fd.unwrap());
            assert_eq!(same.local_addr().unwrap(), listener.local_addr().unwrap());
            let second = far.receive().unwrap().unwrap();
            assert_eq!((second.kind, second.fd.is_some()), (Kind::RingFree, false));
            let third = far.receive().unwrap().unwrap();
            assert_eq!((third.kind, third.fd.is_some()), (Kind::Serving, true));
            assert!(far.receive().unwrap().is_none());
        });
    }

    #[test]
    fn invalid_partial_and_missing_messages_are_errors() {
        let pair = || {
            let (near, far) = UnixStream::pair().unwrap();
            (near, Channel(far))
        };
        for invalid in [&[99, 0, 0, 0, 0][..], &[1, 255, 255, 255, 255]] {
            let (mut near, far) = pair();
            near.write_all(invalid).unwrap();
            assert_eq!(
                far.receive().unwrap_err().kind(),
                io::ErrorKind::InvalidData
            );
        }
        let (mut near, far) = pair();
        near.write_all(&[1, 3, 0, 0, 0, 1]).unwrap();
        drop(near);
        assert_eq!(
            far.receive().unwrap_err().kind(),
            io::ErrorKind::UnexpectedEof
        );
        let (_near, far) = pair();
        far.set_timeout(Duration::from_millis(1)).unwrap();
        assert_eq!(far.receive().unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }
}
