//! The epoll sets of a shard: an outer one for priority sockets, and a nested one for standard
//! sockets.
//!
//! Used by the reactor. Short-lived connections fill epoll's ready list, and epoll reports sockets
//! in the order of that list (epoll(7)). So connections that have published move to the outer set,
//! which is polled between slices of other work. All others stay in the nested set. Streams stay
//! there too: a stream whose socket is not full has no events. Knows sockets and their tokens, but
//! no connections.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use mio::event::Event;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Registry, Token, Waker};

const WAKER: Token = Token(u32::MAX as usize);
const STANDARD_SET: Token = Token(u32::MAX as usize - 1);

/// See the module's description.
pub struct Epoll {
    priority: Poll,
    standard: Poll,
    /// The nested set may have events that were not read.
    is_standard_ready: bool,
}

/// The events of one poll.
pub struct Ready {
    events: Events,
}

impl Ready {
    /// A buffer for `room` events. The next poll returns those that did not fit.
    pub fn with_room(room: usize) -> Ready {
        Ready {
            events: Events::with_capacity(room),
        }
    }

    /// Whether the buffer is full, so that there may be more events.
    pub fn is_full(&self) -> bool {
        self.events.iter().count() >= self.events.capacity()
    }

    /// The events of sockets.
    pub fn iter(&self) -> impl Iterator<Item = &Event> {
        let is_socket = |event: &&Event| ![WAKER, STANDARD_SET].contains(&event.token());
        self.events.iter().filter(is_socket)
    }
}

impl Epoll {
    /// Two empty sets.
    pub fn new() -> io::Result<Epoll> {
        let (priority, standard) = (Poll::new()?, Poll::new()?);
        priority.registry().register(
            &mut SourceFd(&standard.as_raw_fd()),
            STANDARD_SET,
            Interest::READABLE,
        )?;
        Ok(Epoll {
            priority,
            standard,
            is_standard_ready: false,
        })
    }

    /// A waker that ends a wait.
    pub fn waker(&self) -> io::Result<Waker> {
        Waker::new(self.priority.registry(), WAKER)
    }

    /// The registry of the outer set, for listening sockets.
    pub fn registry(&self) -> &Registry {
        self.priority.registry()
    }

    /// Adds a socket to the standard set.
    pub fn add(&self, socket: &impl AsFd, token: Token) -> io::Result<()> {
        register(&self.standard, socket, token)
    }

    /// Moves a socket to the priority set. After an error it is still in the standard set.
    pub fn promote(&self, socket: &impl AsFd, token: Token) -> io::Result<()> {
        // The registration may lack memory (epoll_ctl(2)), so it comes before the removal.
        register(&self.priority, socket, token)?;
        deregister(&self.standard, socket);
        Ok(())
    }

    /// Removes a socket from its set.
    pub fn remove(&self, socket: &impl AsFd) {
        deregister(&self.standard, socket);
        deregister(&self.priority, socket);
    }

    /// Waits for an event of either set. Reads the events of the priority set.
    pub fn wait(&mut self, ready: &mut Ready, timeout: Option<Duration>) -> io::Result<()> {
        let timeout = if self.is_standard_ready {
            Some(Duration::ZERO)
        } else {
            timeout
        };
        match self.priority.poll(&mut ready.events, timeout) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                ready.events.clear();
                Ok(())
            }
            polled => {
                self.is_standard_ready |= ready
                    .events
                    .iter()
                    .any(|event| event.token() == STANDARD_SET);
                polled
            }
        }
    }

    /// Reads the events of the standard set, if there are any.
    pub fn poll_standard(&mut self, ready: &mut Ready) -> io::Result<()> {
        ready.events.clear();
        if !self.is_standard_ready {
            return Ok(());
        }
        match self.standard.poll(&mut ready.events, Some(Duration::ZERO)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                ready.events.clear();
                Ok(())
            }
            polled => {
                self.is_standard_ready = ready.is_full();
                polled
            }
        }
    }
}

fn register(poll: &Poll, socket: &impl AsFd, token: Token) -> io::Result<()> {
    let interest = Interest::READABLE | Interest::WRITABLE;
    poll.registry()
        .register(&mut SourceFd(&socket.as_fd().as_raw_fd()), token, interest)
}

fn deregister(poll: &Poll, socket: &impl AsFd) {
    // The only possible error is that the socket is not in the set (epoll_ctl(2)).
    let _ = poll
        .registry()
        .deregister(&mut SourceFd(&socket.as_fd().as_raw_fd()));
}

#[cfg(test)]
mod tests {
    use super::*;
    use mio::net::UnixStream;
    use std::io::Write;

    const NONE: [usize; 0] = [];

    fn tokens(ready: &Ready) -> Vec<usize> {
        ready.iter().map(|event| event.token().0).collect()
    }

    /// The sets, and a buffer for their events.
    struct Sets {
        epoll: Epoll,
        ready: Ready,
    }

    impl Sets {
        fn new() -> Sets {
            Sets {
                epoll: Epoll::new().unwrap(),
                ready: Ready::with_room(1000),
            }
        }

        /// A standard socket without pending events, and its peer.
        fn add_pair(&mut self, token: usize) -> (UnixStream, UnixStream) {
            let (socket, peer) = UnixStream::pair().unwrap();
            self.epoll.add(&socket, Token(token)).unwrap();
            assert_eq!(self.priority(), NONE);
            assert_eq!(self.standard(), [token], "it is writable");
            (socket, peer)
        }

        fn priority(&mut self) -> Vec<usize> {
            let timeout = Some(Duration::ZERO);
            self.epoll.wait(&mut self.ready, timeout).unwrap();
            tokens(&self.ready)
        }

        fn standard(&mut self) -> Vec<usize> {
            self.epoll.poll_standard(&mut self.ready).unwrap();
            tokens(&self.ready)
        }
    }

    #[test]
    fn standard_sockets_end_a_wait_and_are_reported_separately() {
        let mut sets = Sets::new();
        let (_socket, mut peer) = sets.add_pair(7);
        for _ in 0..3 {
            peer.write_all(b"x").unwrap();
            sets.epoll.wait(&mut sets.ready, None).unwrap();
            assert_eq!(tokens(&sets.ready), NONE);
            assert_eq!(sets.standard(), [7]);
            assert_eq!(sets.standard(), NONE);
        }
    }

    #[test]
    fn earlier_standard_events_do_not_delay_a_priority_socket() {
        let mut sets = Sets::new();
        let (socket, mut peer) = sets.add_pair(1);
        sets.epoll.promote(&socket, Token(1)).unwrap();
        assert_eq!(sets.priority(), [1], "it is writable");
        let others: Vec<_> = (2..200).map(|_| UnixStream::pair().unwrap()).collect();
        for ((socket, _), token) in others.iter().zip(2..) {
            sets.epoll.add(socket, Token(token)).unwrap();
        }
        peer.write_all(b"x").unwrap();
        assert_eq!(sets.priority(), [1]);
        assert_eq!(sets.standard().len(), others.len());
    }

    #[test]
    fn readiness_from_before_a_promotion_is_reported_after_it() {
        let mut sets = Sets::new();
        let (socket, mut peer) = sets.add_pair(1);
        peer.write_all(b"x").unwrap();
        sets.epoll.promote(&socket, Token(1)).unwrap();
        assert_eq!(sets.priority(), [1]);
    }

    #[test]
    fn a_failed_promotion_leaves_a_socket_in_the_standard_set() {
        let mut sets = Sets::new();
        let (socket, mut peer) = sets.add_pair(1);
        // The kernel refuses a second registration of a socket in one set.
        register(&sets.epoll.priority, &socket, Token(2)).unwrap();
        assert_eq!(sets.priority(), [2]);
        assert!(sets.epoll.promote(&socket, Token(1)).is_err());
        deregister(&sets.epoll.priority, &socket);
        peer.write_all(b"x").unwrap();
        assert_eq!(sets.priority(), NONE);
        assert_eq!(sets.standard(), [1]);
    }

    /// After a full buffer the next wait does not sleep.
    #[test]
    fn events_that_did_not_fit_the_buffer_are_reported_by_later_polls() {
        let mut sets = Sets::new();
        let sockets: Vec<_> = (0..sets.ready.events.capacity() + 5)
            .map(|_| UnixStream::pair().unwrap())
            .collect();
        for ((socket, _), token) in sockets.iter().zip(0..) {
            sets.epoll.add(socket, Token(token)).unwrap();
        }
        let mut reported = 0;
        while reported < sockets.len() {
            sets.epoll.wait(&mut sets.ready, None).unwrap();
            reported += sets.standard().len();
        }
        assert_eq!(reported, sockets.len());
    }

    #[test]
    fn a_removed_socket_has_no_events() {
        let mut sets = Sets::new();
        let (standard, mut standard_peer) = sets.add_pair(1);
        let (priority, mut priority_peer) = sets.add_pair(2);
        sets.epoll.promote(&priority, Token(2)).unwrap();
        sets.epoll.remove(&standard);
        sets.epoll.remove(&priority);
        standard_peer.write_all(b"x").unwrap();
        priority_peer.write_all(b"x").unwrap();
        assert_eq!(sets.priority(), NONE);
        assert_eq!(sets.standard(), NONE);
    }
}
