//! epoll(7), as much as this tool needs: edge-triggered, a token for each socket, timeouts in nanoseconds.
//! Milliseconds are too coarse for 2,000 messages a second.
//!
//! Used by the threads that own sockets: those of `streams`, `publisher`, `floor` and `polls`.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};

/// Largest number of events in one wait.
const EVENTS_MAX: usize = 1024;

/// An event of a socket.
#[derive(Debug, Clone, Copy)]
pub struct Readiness {
    /// The token given to [`Poll::add`].
    pub token: u64,
    /// Readable; this may be the end of the stream.
    pub readable: bool,
    /// Writable.
    pub writable: bool,
    /// The peer has closed its side, or the connection has failed.
    pub closed: bool,
}

/// An epoll instance and the events of its last wait.
pub struct Poll {
    epoll: OwnedFd,
    events: Vec<epoll::Event>,
}

impl Poll {
    /// A new instance.
    pub fn new() -> io::Result<Poll> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        Ok(Poll {
            epoll,
            events: Vec::with_capacity(EVENTS_MAX),
        })
    }

    /// Registers a socket for all events, edge-triggered. Closing the socket removes it.
    pub fn add(&self, socket: impl AsFd, token: u64) -> io::Result<()> {
        let flags = epoll::EventFlags::IN
            | epoll::EventFlags::OUT
            | epoll::EventFlags::RDHUP
            | epoll::EventFlags::ET;
        Ok(epoll::add(
            &self.epoll,
            socket,
            epoll::EventData::new_u64(token),
            flags,
        )?)
    }

    /// Registers a listener: level-triggered, for readability only.
    pub fn add_listener(&self, socket: impl AsFd, token: u64) -> io::Result<()> {
        let data = epoll::EventData::new_u64(token);
        Ok(epoll::add(
            &self.epoll,
            socket,
            data,
            epoll::EventFlags::IN,
        )?)
    }

    /// Waits for events, at most for `timeout`; a signal ends the wait early.
    pub fn wait(&mut self, timeout: Duration) -> io::Result<()> {
        self.events.clear();
        let timeout = Timespec {
            tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: timeout.subsec_nanos().into(),
        };
        match epoll::wait(
            &self.epoll,
            spare_capacity(&mut self.events),
            Some(&timeout),
        ) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Number of events of the last wait.
    pub fn len(&self) -> usize {
        self.events.len()
    }

    /// The event `at` of the last wait.
    pub fn get(&self, at: usize) -> Readiness {
        let event = self.events[at];
        let flags = event.flags;
        let failed = flags.intersects(epoll::EventFlags::ERR | epoll::EventFlags::HUP);
        Readiness {
            token: event.data.u64(),
            readable: flags.contains(epoll::EventFlags::IN) || failed,
            writable: flags.contains(epoll::EventFlags::OUT),
            closed: flags.contains(epoll::EventFlags::RDHUP) || failed,
        }
    }
}
