//! A socket with a deadline for all of a call, with or without TLS.
//!
//! Used by `connection`. Never waits longer than the deadline, and never reads more than the bytes that a
//! call may return.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Instant;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};

/// A connection to an engine, of bytes.
pub(super) struct Stream {
    socket: TcpStream,
    tls: Option<Box<ClientConnection>>,
}

impl Stream {
    pub(super) fn plain(socket: TcpStream) -> Stream {
        Stream { socket, tls: None }
    }

    /// A connection after its TLS handshake.
    pub(super) fn with_tls(
        socket: TcpStream,
        host: &str,
        config: &Arc<ClientConfig>,
        deadline: Instant,
    ) -> io::Result<Stream> {
        let invalid = || io::Error::from(ErrorKind::NotFound);
        let name = ServerName::try_from(host.to_owned()).map_err(|_| invalid())?;
        let mut tls = ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?;
        let mut timed = TimedSocket {
            socket: &socket,
            deadline,
        };
        while tls.is_handshaking() {
            let (read, written) = tls.complete_io(&mut timed)?;
            if read + written == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(Stream {
            socket,
            tls: Some(Box::new(tls)),
        })
    }

    /// Whether the peer has closed the connection, or sent something unasked. A call on such a connection would
    /// be lost, and one on a new connection is not.
    pub(super) fn is_closed(&mut self) -> bool {
        use rustix::net::{RecvFlags, recv};
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        match recv(&self.socket, &mut [0], flags) {
            Ok((0, _)) => true,
            Ok(_) => self.is_closed_by_tls(),
            Err(error) => error != rustix::io::Errno::AGAIN,
        }
    }

    /// The same where there is something to read: a TLS server sends tickets unasked.
    fn is_closed_by_tls(&mut self) -> bool {
        let Some(tls) = &mut self.tls else {
            return true;
        };
        if self.socket.set_nonblocking(true).is_err() {
            return true;
        }
        let is_open = loop {
            match tls.read_tls(&mut self.socket) {
                Ok(0) => break false,
                Ok(_) => {}
                Err(error) => break error.kind() == ErrorKind::WouldBlock,
            }
            match tls.process_new_packets() {
                Ok(state) if state.peer_has_closed() => break false,
                Ok(state) if state.plaintext_bytes_to_read() > 0 => break false,
                Ok(_) => {}
                Err(_) => break false,
            }
        };
        !is_open || self.socket.set_nonblocking(false).is_err()
    }

    /// The same stream for one call.
    pub(super) fn until(&mut self, deadline: Instant, bytes_max: usize) -> Call<'_> {
        Call {
            stream: self,
            deadline,
            bytes_left: bytes_max,
        }
    }
}

/// Why an answer could not be read.
#[derive(Debug)]
pub(super) enum End {
    /// The socket failed, or the time was over.
    Failed(io::Error),
    /// The answer is longer than expected.
    TooLong,
}

/// A stream during one call.
pub(super) struct Call<'a> {
    stream: &'a mut Stream,
    deadline: Instant,
    bytes_left: usize,
}

impl Call<'_> {
    /// Sends a request whole.
    pub(super) fn send(&mut self, request: &[u8]) -> io::Result<()> {
        let mut timed = TimedSocket {
            socket: &self.stream.socket,
            deadline: self.deadline,
        };
        match &mut self.stream.tls {
            None => timed.write_all(request),
            Some(tls) => {
                let mut stream = rustls::Stream::new(&mut **tls, &mut timed);
                stream.write_all(request)?;
                stream.flush()
            }
        }
    }

    /// Receives some bytes of the answer: one at least, and no more than there may be.
    pub(super) fn receive(&mut self, buffer: &mut [u8]) -> Result<usize, End> {
        let length = self.read(buffer).map_err(End::Failed)?;
        self.bytes_left = self.bytes_left.checked_sub(length).ok_or(End::TooLong)?;
        Ok(length)
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut timed = TimedSocket {
            socket: &self.stream.socket,
            deadline: self.deadline,
        };
        let length = match &mut self.stream.tls {
            None => timed.read(buffer)?,
            Some(tls) => rustls::Stream::new(&mut **tls, &mut timed).read(buffer)?,
        };
        if length == 0 && !buffer.is_empty() {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        Ok(length)
    }
}

/// A socket whose reads and writes all end at one deadline.
struct TimedSocket<'a> {
    socket: &'a TcpStream,
    deadline: Instant,
}

impl TimedSocket<'_> {
    fn left(&self) -> io::Result<std::time::Duration> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ErrorKind::TimedOut.into());
        }
        Ok(left)
    }
}

impl Read for TimedSocket<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            self.socket.set_read_timeout(Some(self.left()?))?;
            match self.socket.read(buffer) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                other => return other,
            }
        }
    }
}

impl Write for TimedSocket<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            self.socket.set_write_timeout(Some(self.left()?))?;
            match self.socket.write(bytes) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                other => return other,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
