//! What a shard needs of a socket.
//!
//! The shard is generic over this trait: the reactor gives it the kernel's (`net::socket`), benches and
//! simulations sockets of their own. Never blocks: every call returns `WouldBlock` instead.

use std::io::{self, IoSlice};

use crate::shard::client::Client;

/// A nonblocking byte stream.
///
/// A read or write that is short has met the end of what the kernel has or takes now: that there is
/// more will be told.
pub trait Transport {
    /// Reads what is there: `Ok(0)` is the end of the peer's bytes.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize>;

    /// Writes as much as fits, of all extents in order, in one call (writev(2)).
    fn write(&mut self, extents: &[IoSlice<'_>]) -> io::Result<usize>;

    /// Ends our side; the peer's may go on (shutdown(2)).
    fn shutdown_write(&mut self) -> io::Result<()>;

    /// There is room to write: sends what the socket itself held back.
    fn handle_writable(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// Whether the socket itself holds back some of what it took: there will be room to write.
    fn has_unsent(&self) -> bool {
        false
    }

    /// The head of a request has come: perhaps told more than once before [`Transport::end_request`].
    /// Returns whether its client may have another connection.
    fn admit(&mut self, _head: &[u8]) -> bool {
        true
    }

    /// The request is answered, and read to its end if the connection goes on.
    fn end_request(&mut self) {}

    /// Whether another process could go on with its descriptor alone.
    fn can_leave(&self) -> bool {
        true
    }

    /// Who is at the other end, for the log.
    fn client(&self) -> Client {
        Client::Unknown
    }
}

/// What a nonblocking call came to, with the outcomes that are nobody's fault sorted out.
#[derive(Debug, PartialEq, Eq)]
pub enum Transfer {
    /// So many bytes.
    Bytes(usize),
    /// Not now; the reactor will tell when.
    WouldBlock,
    /// The connection is over: reset, timed out, or the like.
    Failed,
}

impl Transfer {
    /// Calls `io`, again where a signal interrupted it (signal(7)).
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
