//! A socket with a deadline for all of a call, with or without TLS.
//!
//! Used by `connection`. Never waits longer than the deadline, and never reads more than the bytes that a
//! call may return.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};

/// A connection to an engine, of bytes.
pub(super) struct Stream {
    socket: TcpStream,
    timeouts: Timeouts,
    tls: Option<Box<ClientConnection>>,
}

/// The timeouts that a socket has. Zero: none yet.
#[derive(Default)]
struct Timeouts {
    read: Duration,
    write: Duration,
}

impl Stream {
    pub(super) fn plain(socket: TcpStream) -> Stream {
        Stream {
            socket,
            timeouts: Timeouts::default(),
            tls: None,
        }
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
        let mut timeouts = Timeouts::default();
        let mut timed = TimedSocket {
            socket: &socket,
            timeouts: &mut timeouts,
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
            timeouts,
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
            timeouts: &mut self.stream.timeouts,
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
            timeouts: &mut self.stream.timeouts,
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
    timeouts: &'a mut Timeouts,
    deadline: Instant,
}

impl TimedSocket<'_> {
    fn left(&self) -> io::Result<Duration> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ErrorKind::TimedOut.into());
        }
        Ok(left)
    }
}

/// The timeout to set for an operation that may take `left`, if that of the socket does not do. A shorter one does: the
/// operation is repeated after it. Calls have the same time each, so nearly none sets one.
fn new_timeout(current: Duration, left: Duration) -> Option<Duration> {
    let does = current <= left && current >= left / 2;
    (!does).then_some(left)
}

/// Whether an operation is to be repeated: after a signal, and after a timeout that was shorter than the deadline.
fn is_to_repeat(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Interrupted | ErrorKind::WouldBlock | ErrorKind::TimedOut
    )
}

impl Read for TimedSocket<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if let Some(timeout) = new_timeout(self.timeouts.read, self.left()?) {
                self.socket.set_read_timeout(Some(timeout))?;
                self.timeouts.read = timeout;
            }
            match self.socket.read(buffer) {
                Err(error) if is_to_repeat(&error) => {}
                other => return other,
            }
        }
    }
}

impl Write for TimedSocket<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            if let Some(timeout) = new_timeout(self.timeouts.write, self.left()?) {
                self.socket.set_write_timeout(Some(timeout))?;
                self.timeouts.write = timeout;
            }
            match self.socket.write(bytes) {
                Err(error) if is_to_repeat(&error) => {}
                other => return other,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_is_set_again_only_if_it_is_too_long_or_much_too_short() {
        let ms = Duration::from_millis;
        assert_eq!(new_timeout(ms(0), ms(100)), Some(ms(100)));
        assert_eq!(new_timeout(ms(100), ms(100)), None);
        assert_eq!(new_timeout(ms(50), ms(100)), None);
        assert_eq!(new_timeout(ms(101), ms(100)), Some(ms(100)));
        assert_eq!(new_timeout(ms(49), ms(100)), Some(ms(100)));
    }

    #[test]
    fn a_read_ends_at_its_deadline_with_a_timeout_of_an_earlier_one() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (_peer, _) = listener.accept().unwrap();
        let mut stream = Stream::plain(socket);
        // The third has a shorter timeout than its deadline, so it waits several times.
        for wait_ms in [10, 40, 79] {
            let wait = Duration::from_millis(wait_ms);
            let since = Instant::now();
            let ended = stream.until(since + wait, 100).receive(&mut [0; 100]);
            assert!(
                matches!(ended, Err(End::Failed(error)) if error.kind() == ErrorKind::TimedOut)
            );
            assert!(since.elapsed() >= wait);
        }
    }
}
