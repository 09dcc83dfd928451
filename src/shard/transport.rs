//! The socket of a connection as a shard uses it.
//!
//! The shard is generic over this trait. The reactor passes the kernel's sockets (`net::socket`);
//! benches and simulations pass their own. Never blocks: every call returns `WouldBlock` instead.

use std::io::{self, IoSlice};

use crate::shard::client::Client;

/// A nonblocking byte stream.
///
/// A short read has emptied the kernel's buffer, and a short write has filled it. An event follows
/// when that changes.
pub trait Transport {
    /// Reads available bytes. `Ok(0)` is the end of the peer's bytes.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize>;

    /// Writes as much as fits, of all extents in order, in one call (writev(2)).
    fn write(&mut self, extents: &[IoSlice<'_>]) -> io::Result<usize>;

    /// Ends our side. The peer's may stay open (shutdown(2)).
    fn shutdown_write(&mut self) -> io::Result<()>;

    /// Sends bytes that the socket has taken and buffered. Called when there is room to write.
    fn handle_writable(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// Whether the socket has buffered bytes that it has taken. An event follows when there is room
    /// to write.
    fn has_unsent(&self) -> bool {
        false
    }

    /// Whether the end of the peer's bytes was received with the last ones. No event follows for it, and the next
    /// read returns it.
    fn has_end(&self) -> bool {
        false
    }

    /// Checks a complete request head: whether its client is within its limit of connections. May be
    /// called more than once before [`Transport::end_request`].
    fn admit(&mut self, _head: &[u8]) -> bool {
        true
    }

    /// Ends a request that is answered and, if the connection stays open, read to its end.
    fn end_request(&mut self) {}

    /// Whether another process could continue with its descriptor alone.
    fn can_leave(&self) -> bool {
        true
    }

    /// The client, for the log and for shares.
    fn client(&self) -> Client {
        Client::Unknown
    }

    /// The client, for limits that must not refuse others with it: unknown if the peer is a trusted proxy
    /// that names none.
    fn limited_client(&self) -> Client {
        self.client()
    }
}

/// The result of a nonblocking call. Interrupted calls have been repeated.
#[derive(Debug, PartialEq, Eq)]
pub enum Transfer {
    /// The bytes read or written.
    Bytes(usize),
    /// Not possible now. An event follows when it is.
    WouldBlock,
    /// The connection is broken: reset, timed out, or the like.
    Failed,
}

impl Transfer {
    /// Calls `io`, and again if a signal interrupts it (signal(7)).
    pub fn of(mut io: impl FnMut() -> io::Result<usize>) -> Transfer {
        loop {
            match io() {
                Ok(bytes) => return Transfer::Bytes(bytes),
                Err(error) => match error.kind() {
                    io::ErrorKind::Interrupted => {}
                    io::ErrorKind::WouldBlock => return Transfer::WouldBlock,
                    _ => return Transfer::Failed,
                },
            }
        }
    }
}
