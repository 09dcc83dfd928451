//! What a shard needs of a socket, and the one it gets from the kernel.
//!
//! The shard is generic over this trait, so that benches and simulations drive it with sockets of
//! their own. Never blocks: every call returns `WouldBlock` instead.

use std::io::{self, IoSlice, Read, Write};
use std::net::Shutdown;

use mio::net::TcpStream;

/// A nonblocking byte stream.
pub trait Socket {
    /// Reads what is there: `Ok(0)` is the end of the peer's bytes.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize>;

    /// Writes as much as fits, of all extents in order, in one call (writev(2)).
    fn write(&mut self, extents: &[IoSlice<'_>]) -> io::Result<usize>;

    /// Ends our side; the peer's may go on (shutdown(2)).
    fn shutdown_write(&mut self) -> io::Result<()>;
}

impl Socket for TcpStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        Read::read(self, buffer)
    }

    fn write(&mut self, extents: &[IoSlice<'_>]) -> io::Result<usize> {
        match extents {
            // send(2) of one extent is cheaper than writev(2) of one.
            [one] => Write::write(self, one),
            many => Write::write_vectored(self, many),
        }
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
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
