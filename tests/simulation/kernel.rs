//! Simulated sockets.
//!
//! A [`Link`] is a connection with both ends: the world drives the client's end, and the server's
//! end is a [`SimSocket`]. Buffers are bounded, so reads and writes are partial. Readiness is
//! reported as by an edge-triggered epoll(7): once for each change, with the state at the time of
//! the report. The network may move bytes during a system call of the server.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::io::{self, IoSlice};
use std::rc::Rc;

use fastrand::Rng;
use hookcast::clock::Now;
use hookcast::shard::{Readiness, Transport};
use memchr::memmem;

/// The state that all links share.
pub struct Kernel {
    rng: RefCell<Rng>,
    /// Of 256 system calls, the number during which the network moves bytes or a signal arrives.
    pub mischief: u8,
    /// Bytes moved and connections ended by the server so far.
    progress: Cell<u64>,
    pub now_ms: Cell<u64>,
    /// The time of all work so far. It counts only in `mono_us`: milliseconds stand still in a
    /// turn, so deadlines are exact, and slices still end.
    work_us: Cell<u64>,
    /// The time of a system call.
    call_us: u64,
}

impl Kernel {
    pub fn new(mischief: u8, call_us: u64) -> Rc<Kernel> {
        Rc::new(Kernel {
            work_us: Cell::new(0),
            call_us,
            rng: RefCell::new(Rng::with_seed(0)),
            mischief,
            progress: Cell::new(0),
            now_ms: Cell::new(0),
        })
    }

    /// The time, with a wall clock that is ahead of the monotonic one by `wall_ahead_ms`.
    pub fn now(&self, wall_ahead_ms: u64) -> Now {
        let mono_ms = self.now_ms.get();
        Now {
            mono_ms,
            mono_us: mono_ms * 1000 + self.work_us.get(),
            unix_ms: mono_ms + wall_ahead_ms,
        }
    }

    /// Adds time in which the server works.
    pub fn work(&self, us: u64) {
        self.work_us.set(self.work_us.get() + us);
    }

    /// Makes all further random choices depend on `seed` alone.
    pub fn reseed(&self, seed: u64) {
        *self.rng.borrow_mut() = Rng::with_seed(seed);
    }

    pub fn progress(&self) -> u64 {
        self.progress.get()
    }

    fn advance(&self, by: usize) {
        self.progress.set(self.progress.get() + by as u64);
    }

    pub fn is_mischievous(&self) -> bool {
        self.mischief > 0 && self.rng.borrow_mut().u8(..) < self.mischief
    }

    /// Sometimes returns the end of an event in `bytes`.
    fn event_end(&self, bytes: &[u8]) -> Option<usize> {
        if self.mischief == 0 || self.up_to(3) > 0 {
            return None;
        }
        let ends: Vec<usize> = memmem::find_iter(bytes, b"\n\n\r\n")
            .map(|at| at + 4)
            .collect();
        (!ends.is_empty()).then(|| ends[self.up_to(ends.len() - 1)])
    }

    pub fn up_to(&self, most: usize) -> usize {
        self.rng.borrow_mut().usize(0..=most)
    }
}

/// One connection.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a fact of its own, as in the kernel"
)]
pub struct Link {
    kernel: Rc<Kernel>,

    /// Bytes that the client has sent and the network has not delivered.
    flight: VecDeque<u8>,
    fin_sent: bool,
    /// The server's receive buffer.
    received: VecDeque<u8>,
    receive_max: usize,
    fin_received: bool,
    /// Bytes that the server has read, in all and before its last write.
    pub read_bytes: u64,
    pub read_before_write: u64,

    /// Bytes in the server's send buffer. Their content is in `tap`.
    unsent: usize,
    send_max: usize,
    /// Bytes that the client has received.
    pub taken_bytes: u64,
    /// Bytes that the server wrote and the client's checks have not taken.
    pub tap: Vec<u8>,
    /// Bytes that the server has written.
    pub written_bytes: u64,
    /// When the server closed its side.
    pub server_fin_ms: Option<u64>,
    /// The server has closed its socket.
    pub is_closed: bool,

    is_reset: bool,
    is_reset_reported: bool,
    client_is_gone: bool,
    /// The client reads.
    pub client_reads: bool,

    /// Whether it is in the set of priority sockets.
    pub is_priority: bool,
    /// An event that epoll has not reported.
    edge: bool,
    /// There will be an event when there is room again (`SOCK_NOSPACE`).
    wants_room: bool,
    /// The server's last write did not take everything.
    pub is_short: bool,
    /// Since when the server's writes have taken no byte.
    pub stalled_since_ms: u64,
}

impl fmt::Debug for Link {
    /// Prints lengths instead of bytes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link")
            .field("flight", &self.flight.len())
            .field("fin_sent", &self.fin_sent)
            .field("received", &self.received.len())
            .field("fin_received", &self.fin_received)
            .field("unsent", &self.unsent)
            .field("send_max", &self.send_max)
            .field("is_reset", &self.is_reset)
            .field("server_fin_ms", &self.server_fin_ms)
            .field("is_short", &self.is_short)
            .field("edge", &self.edge)
            .field("wants_room", &self.wants_room)
            .finish_non_exhaustive()
    }
}

pub type SharedLink = Rc<RefCell<Link>>;

impl Link {
    /// A new connection. The client may send before the server accepts it.
    pub fn new(kernel: &Rc<Kernel>, receive_max: usize, send_max: usize) -> SharedLink {
        Rc::new(RefCell::new(Link {
            kernel: Rc::clone(kernel),
            flight: VecDeque::new(),
            fin_sent: false,
            received: VecDeque::new(),
            receive_max,
            fin_received: false,
            read_bytes: 0,
            read_before_write: 0,
            unsent: 0,
            send_max,
            taken_bytes: 0,
            tap: Vec::new(),
            written_bytes: 0,
            server_fin_ms: None,
            is_closed: false,
            is_reset: false,
            is_reset_reported: false,
            client_is_gone: false,
            client_reads: true,
            is_priority: false,
            // EPOLL_CTL_ADD reports the present state at once.
            edge: true,
            wants_room: false,
            is_short: false,
            stalled_since_ms: kernel.now_ms.get(),
        }))
    }

    // The client's end.

    pub fn send(&mut self, bytes: &[u8]) {
        if !self.fin_sent && !self.is_reset {
            self.flight.extend(bytes);
        }
    }

    /// The client closes its side after the bytes that it has sent.
    pub fn half_close(&mut self) {
        self.fin_sent = true;
    }

    /// The client closes its socket. Unread bytes cause a reset, and so do all further ones.
    pub fn close(&mut self) {
        self.fin_sent = true;
        self.client_is_gone = true;
        if self.unsent > 0 {
            self.reset();
        }
    }

    pub fn reset(&mut self) {
        self.client_is_gone = true;
        self.is_reset = true;
        self.edge = true;
        self.flight.clear();
        self.unsent = 0;
    }

    /// The client takes up to `most` bytes out of the server's send buffer.
    pub fn take(&mut self, most: usize) -> usize {
        let taken = most.min(self.unsent);
        self.unsent -= taken;
        self.taken_bytes += taken as u64;
        if taken > 0 && self.wants_room && self.has_room() {
            self.wants_room = false;
            self.edge = true;
        }
        taken
    }

    /// The network delivers up to `most` bytes, and the client's FIN if it is next.
    pub fn deliver(&mut self, most: usize) -> usize {
        if self.is_reset || self.is_closed {
            self.flight.clear();
            return 0;
        }
        let room = self.receive_max - self.received.len();
        let count = most.min(room).min(self.flight.len());
        self.received.extend(self.flight.drain(..count));
        self.edge |= count > 0;
        if self.flight.is_empty() && self.fin_sent && !self.fin_received {
            self.fin_received = true;
            self.edge = true;
            return count + 1;
        }
        count
    }

    /// Whether the client has received everything that the server wrote.
    pub fn is_taken(&self) -> bool {
        self.unsent == 0
    }

    // Both ends.

    pub fn has_ended(&self) -> bool {
        self.is_reset || self.fin_received
    }

    pub fn is_reset(&self) -> bool {
        self.is_reset
    }

    pub fn client_may_send(&self) -> bool {
        !self.fin_sent && !self.client_is_gone && !self.is_closed
    }

    /// Whether nothing is left in the receive buffer.
    pub fn is_read(&self) -> bool {
        self.received.is_empty()
    }

    /// Whether there is enough room for the kernel to report it (`sk_stream_is_writeable`: a
    /// third).
    pub fn has_room(&self) -> bool {
        (self.send_max - self.unsent) * 2 >= self.unsent && self.unsent < self.send_max
    }

    /// A spurious event, which the kernel may report at any time.
    pub fn nudge(&mut self) {
        self.edge = true;
    }

    pub fn has_event(&self) -> bool {
        self.edge && !self.is_closed
    }

    /// Whether there is an event that epoll has not reported.
    pub fn owes_news(&self) -> bool {
        self.edge
    }

    /// The event that `epoll_wait(2)` reports of this socket now, if any.
    pub fn take_event(&mut self) -> Option<Readiness> {
        if !self.has_event() {
            return None;
        }
        self.edge = false;
        let has_room = self.has_room() || self.server_fin_ms.is_some() || self.is_reset;
        // A poll of a full buffer requests an event for room (tcp_poll).
        self.wants_room |= !has_room;
        let readiness = Readiness {
            readable: !self.received.is_empty() || self.has_ended(),
            writable: has_room,
            hung_up: self.has_ended(),
        };
        (readiness != Readiness::default()).then_some(readiness)
    }

    // The server's end.

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if !self.received.is_empty() {
            let count = buffer.len().min(self.received.len());
            for (to, from) in buffer.iter_mut().zip(self.received.drain(..count)) {
                *to = from;
            }
            self.read_bytes += count as u64;
            self.kernel.advance(count);
            return Ok(count);
        }
        if self.is_reset && !self.is_reset_reported {
            self.is_reset_reported = true;
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        if self.has_ended() {
            Ok(0)
        } else {
            Err(io::ErrorKind::WouldBlock.into())
        }
    }

    fn write(&mut self, extents: &[IoSlice<'_>]) -> io::Result<usize> {
        if self.is_reset {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        assert!(
            self.server_fin_ms.is_none(),
            "the server writes after it has closed its side"
        );
        let offered: usize = extents.iter().map(|extent| extent.len()).sum();
        let mut count = offered.min(self.send_max - self.unsent);
        let written = self.tap.len();
        let mut left = count;
        for extent in extents {
            let part = &extent[..left.min(extent.len())];
            self.tap.extend_from_slice(part);
            left -= part.len();
        }
        if !self.client_reads
            && let Some(end) = self.kernel.event_end(&self.tap[written..])
        {
            // The buffer becomes full at the end of an event, where a stream may skip ahead.
            count = end;
            self.send_max = self.unsent + end;
            self.tap.truncate(written + end);
        }
        if count > 0 {
            self.read_before_write = self.read_bytes;
        }
        self.unsent += count;
        self.written_bytes += count as u64;
        self.kernel.advance(count);
        let is_short = count < offered;
        if count > 0 || !self.is_short {
            self.stalled_since_ms = self.kernel.now_ms.get();
        }
        self.is_short = is_short;
        self.wants_room |= is_short;
        if self.client_is_gone && count > 0 {
            self.reset();
        }
        match count {
            0 if offered > 0 => Err(io::ErrorKind::WouldBlock.into()),
            count => Ok(count),
        }
    }

    /// Sometimes moves bytes of this connection on the network.
    pub fn stir(&mut self) {
        if self.kernel.is_mischievous() {
            let most = self.kernel.up_to(3000);
            self.deliver(most);
        }
        if self.client_reads && self.kernel.is_mischievous() {
            let most = self.kernel.up_to(3000);
            self.take(most);
        }
    }
}

/// The server's end of a link. Dropping it is close(2).
pub struct SimSocket(pub SharedLink);

impl SimSocket {
    fn call<T>(&self, call: impl FnOnce(&mut Link) -> io::Result<T>) -> io::Result<T> {
        let mut link = self.0.borrow_mut();
        link.kernel.work(link.kernel.call_us);
        link.stir();
        if link.kernel.mischief > 0 && link.kernel.up_to(63) == 0 {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let result = call(&mut link);
        link.stir();
        result
    }
}

impl Transport for SimSocket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.call(|link| link.read(buffer))
    }

    fn write(&mut self, extents: &[IoSlice<'_>]) -> io::Result<usize> {
        self.call(|link| link.write(extents))
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        let mut link = self.0.borrow_mut();
        if link.is_reset {
            return Err(io::ErrorKind::NotConnected.into());
        }
        link.server_fin_ms = Some(link.kernel.now_ms.get());
        link.kernel.advance(1);
        Ok(())
    }
}

impl Drop for SimSocket {
    fn drop(&mut self) {
        // The link is borrowed if a panic occurred in a call.
        if let Ok(mut link) = self.0.try_borrow_mut() {
            link.is_closed = true;
            link.kernel.advance(1);
        }
    }
}
