//! Which sockets the kernel watches for a shard: two sets, one inside the other.
//!
//! Used by the reactor. A crowd that comes, asks and leaves fills the kernel's list of who is ready, and
//! whoever is in it is told of in its order (epoll(7)). So newcomers have a list of their own, and who
//! has brought a webhook and comes with the next is in the other, which is looked at in between. Streams
//! stay among the newcomers: one that takes what it is sent has no events. Knows no connection, only
//! sockets and their tokens.

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
    /// There may be newcomers who were not told of yet.
    is_standard_ready: bool,
}

/// Events of one look.
pub struct Ready {
    events: Events,
}

impl Ready {
    /// Room for so many events. What does not fit comes with the next look.
    pub fn with_room(room: usize) -> Ready {
        Ready {
            events: Events::with_capacity(room),
        }
    }

    /// Whether there may be more than what was told of.
    pub fn is_full(&self) -> bool {
        self.events.iter().count() >= self.events.capacity()
    }

    /// Those of sockets.
    pub fn iter(&self) -> impl Iterator<Item = &Event> {
        let is_socket = |event: &&Event| ![WAKER, STANDARD_SET].contains(&event.token());
        self.events.iter().filter(is_socket)
    }
}

impl Epoll {
    /// Watches nothing yet.
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

    /// What ends a wait.
    pub fn waker(&self) -> io::Result<Waker> {
        Waker::new(self.priority.registry(), WAKER)
    }

    /// For listening sockets.
    pub fn registry(&self) -> &Registry {
        self.priority.registry()
    }

    /// Watches the socket of a newcomer.
    pub fn add(&self, socket: &impl AsFd, token: Token) -> io::Result<()> {
        register(&self.standard, socket, token)
    }

    /// Watches it among the regulars from now on. After an error it is a newcomer still.
    pub fn promote(&self, socket: &impl AsFd, token: Token) -> io::Result<()> {
        // First where it comes to, which may need memory (epoll_ctl(2)), then where it leaves.
        register(&self.priority, socket, token)?;
        deregister(&self.standard, socket);
        Ok(())
    }

    /// Watches it no more.
    pub fn remove(&self, socket: &impl AsFd) {
        deregister(&self.standard, socket);
        deregister(&self.priority, socket);
    }

    /// Waits for anything; then it is told of regulars.
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

    /// Tells of newcomers, if any are ready.
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
    // All that can be wrong is that it is not there (epoll_ctl(2)).
    let _ = poll
        .registry()
        .deregister(&mut SourceFd(&socket.as_fd().as_raw_fd()));
}

#[cfg(test)]
mod tests {
    use super::*;
    use mio::net::UnixStream;
    use std::io::Write;

    const NOBODY: [usize; 0] = [];

    fn tokens(ready: &Ready) -> Vec<usize> {
        ready.iter().map(|event| event.token().0).collect()
    }

    /// A watch and what it sees.
    struct Seen {
        epoll: Epoll,
        ready: Ready,
    }

    impl Seen {
        fn new() -> Seen {
            Seen {
                epoll: Epoll::new().unwrap(),
                ready: Ready::with_room(1000),
            }
        }

        /// A newcomer, of whom nothing is left to tell, and its peer.
        fn newcomer(&mut self, token: usize) -> (UnixStream, UnixStream) {
            let (socket, peer) = UnixStream::pair().unwrap();
            self.epoll.add(&socket, Token(token)).unwrap();
            assert_eq!(self.priority(), NOBODY);
            assert_eq!(self.standard(), [token], "it may write");
            (socket, peer)
        }

        fn priority(&mut self) -> Vec<usize> {
            let soon = Some(Duration::ZERO);
            self.epoll.wait(&mut self.ready, soon).unwrap();
            tokens(&self.ready)
        }

        fn standard(&mut self) -> Vec<usize> {
            self.epoll.poll_standard(&mut self.ready).unwrap();
            tokens(&self.ready)
        }
    }

    #[test]
    fn newcomers_end_a_wait_and_are_told_of_apart() {
        let mut seen = Seen::new();
        let (_socket, mut peer) = seen.newcomer(7);
        for _ in 0..3 {
            peer.write_all(b"x").unwrap();
            seen.epoll.wait(&mut seen.ready, None).unwrap();
            assert_eq!(tokens(&seen.ready), NOBODY);
            assert_eq!(seen.standard(), [7]);
            assert_eq!(seen.standard(), NOBODY);
        }
    }

    #[test]
    fn a_regular_is_told_of_though_a_crowd_of_newcomers_was_first() {
        let mut seen = Seen::new();
        let (regular, mut peer) = seen.newcomer(1);
        seen.epoll.promote(&regular, Token(1)).unwrap();
        assert_eq!(seen.priority(), [1], "it may write");
        let crowd: Vec<_> = (2..200).map(|_| UnixStream::pair().unwrap()).collect();
        for ((socket, _), token) in crowd.iter().zip(2..) {
            seen.epoll.add(socket, Token(token)).unwrap();
        }
        peer.write_all(b"x").unwrap();
        assert_eq!(seen.priority(), [1]);
        assert_eq!(seen.standard().len(), crowd.len());
    }

    #[test]
    fn what_came_before_a_promotion_is_told_of_after_it() {
        let mut seen = Seen::new();
        let (socket, mut peer) = seen.newcomer(1);
        peer.write_all(b"x").unwrap();
        seen.epoll.promote(&socket, Token(1)).unwrap();
        assert_eq!(seen.priority(), [1]);
    }

    #[test]
    fn who_cannot_be_promoted_stays_a_newcomer() {
        let mut seen = Seen::new();
        let (socket, mut peer) = seen.newcomer(1);
        // The kernel refuses a second entry of the same.
        register(&seen.epoll.priority, &socket, Token(2)).unwrap();
        assert_eq!(seen.priority(), [2]);
        assert!(seen.epoll.promote(&socket, Token(1)).is_err());
        deregister(&seen.epoll.priority, &socket);
        peer.write_all(b"x").unwrap();
        assert_eq!(seen.priority(), NOBODY);
        assert_eq!(seen.standard(), [1]);
    }

    /// More newcomers than a look has room for: the wait that follows does not sleep.
    #[test]
    fn no_newcomer_is_forgotten() {
        let mut seen = Seen::new();
        let crowd: Vec<_> = (0..seen.ready.events.capacity() + 5)
            .map(|_| UnixStream::pair().unwrap())
            .collect();
        for ((socket, _), token) in crowd.iter().zip(0..) {
            seen.epoll.add(socket, Token(token)).unwrap();
        }
        let mut told = 0;
        while told < crowd.len() {
            seen.epoll.wait(&mut seen.ready, None).unwrap();
            told += seen.standard().len();
        }
        assert_eq!(told, crowd.len());
    }

    #[test]
    fn who_is_removed_is_not_told_of() {
        let mut seen = Seen::new();
        let (guest, mut guest_peer) = seen.newcomer(1);
        let (regular, mut regular_peer) = seen.newcomer(2);
        seen.epoll.promote(&regular, Token(2)).unwrap();
        seen.epoll.remove(&guest);
        seen.epoll.remove(&regular);
        guest_peer.write_all(b"x").unwrap();
        regular_peer.write_all(b"x").unwrap();
        assert_eq!(seen.priority(), NOBODY);
        assert_eq!(seen.standard(), NOBODY);
    }
}
