//! A TCP forwarder between a node and an engine that stalls and cuts connections.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use crate::support::PATIENCE;

/// A direction of the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// From the node to the engine.
    Up,
    /// From the engine to the node.
    Down,
}

/// Which of a node's connections are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Half {
    Both,
    /// Connections on which the node has read (`XREAD`).
    Reader,
    /// The others, but those that share counts of streams.
    Writer,
}

/// A forwarder on a port of its own, until the end of the test.
pub struct Proxy {
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// The target of new connections; without one they are reset.
    target: Option<SocketAddr>,
    stalled: Vec<(Way, Half)>,
    /// How long each piece of at most 16 KiB waits on its way down.
    delay: Duration,
    /// The number of bytes that still pass downwards until the cut.
    cut_after: Option<(Half, usize)>,
    links: Vec<Arc<Link>>,
    accepted: usize,
}

/// One connection, as two sockets.
struct Link {
    node: TcpStream,
    engine: TcpStream,
    is_reader: AtomicBool,
    /// The node has used the counts of streams (`{NAME}:c`) on it.
    is_census: AtomicBool,
    is_cut: AtomicBool,
    /// A direction of this connection alone is stalled.
    held: Mutex<Option<Way>>,
}

impl Link {
    fn is_of(&self, half: Half) -> bool {
        match half {
            Half::Both => true,
            Half::Reader => self.is_reader.load(Ordering::Relaxed),
            Half::Writer => {
                let is_reader = self.is_reader.load(Ordering::Relaxed);
                !is_reader && !self.is_census.load(Ordering::Relaxed)
            }
        }
    }

    fn cut(&self) {
        self.is_cut.store(true, Ordering::Relaxed);
        // Sockets that the peer has closed are an expected error.
        let _ = self.node.shutdown(Shutdown::Both);
        let _ = self.engine.shutdown(Shutdown::Both);
    }
}

impl Proxy {
    pub fn to(target: SocketAddr) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = Proxy {
            address: listener.local_addr().unwrap(),
            shared: Arc::default(),
        };
        proxy.lock().target = Some(target);
        let shared = Arc::clone(&proxy.shared);
        thread::spawn(move || {
            for node in listener.incoming().map_while(Result::ok) {
                shared.accept(node);
            }
        });
        proxy
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.lock()
    }

    /// Sets the target of new connections. Present ones stay.
    pub fn lead_to(&self, target: SocketAddr) {
        self.lock().target = Some(target);
    }

    /// Cuts all connections and resets new ones.
    pub fn close(&self) {
        self.lock().target = None;
        self.cut(Half::Both);
    }

    /// Cuts connections. New ones are taken.
    pub fn cut(&self, half: Half) {
        for link in &self.lock().links {
            if link.is_of(half) {
                link.cut();
            }
        }
        self.shared.changed.notify_all();
    }

    /// Cuts the connection that brings so many more bytes to the node, after them.
    pub fn cut_after(&self, half: Half, bytes: usize) {
        self.lock().cut_after = Some((half, bytes));
    }

    /// Waits for the cut of [`cut_after`](Proxy::cut_after).
    pub fn wait_for_cut(&self) {
        let waited = self
            .shared
            .changed
            .wait_timeout_while(self.lock(), PATIENCE, |state| state.cut_after.is_some());
        assert!(!waited.unwrap().1.timed_out(), "no cut");
    }

    /// Stops the bytes of one direction. They arrive after [`flow`](Proxy::flow).
    pub fn stall(&self, way: Way, half: Half) {
        self.lock().stalled.push((way, half));
    }

    /// Stops the bytes of one direction of the present connections, not of new ones. They arrive after
    /// [`flow`](Proxy::flow), even if the node has closed its connection meanwhile.
    pub fn hold(&self, way: Way) {
        for link in &self.lock().links {
            *link.held.lock().unwrap() = Some(way);
        }
    }

    /// Makes the way down slow: each piece of at most 16 KiB waits.
    pub fn delay(&self, delay: Duration) {
        self.lock().delay = delay;
    }

    /// Ends all stalls.
    pub fn flow(&self) {
        let mut state = self.lock();
        state.stalled.clear();
        for link in &state.links {
            *link.held.lock().unwrap() = None;
        }
        drop(state);
        self.shared.changed.notify_all();
    }

    /// The number of connections so far.
    pub fn accepted(&self) -> usize {
        self.lock().accepted
    }

    /// Waits until more connections than `count` were made.
    pub fn wait_for_more_than(&self, count: usize) {
        let waited = self
            .shared
            .changed
            .wait_timeout_while(self.lock(), PATIENCE, |state| state.accepted <= count);
        assert!(!waited.unwrap().1.timed_out(), "no new connection");
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A failed test has poisoned the lock, whose data is still whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn accept(self: &Arc<Shared>, node: TcpStream) {
        let target = {
            let mut state = self.lock();
            state.accepted += 1;
            self.changed.notify_all();
            state.target
        };
        // Without an engine the node's connection is closed.
        let Some(Ok(engine)) = target.map(TcpStream::connect) else {
            return;
        };
        let _ = (node.set_nodelay(true), engine.set_nodelay(true));
        let link = Arc::new(Link {
            node,
            engine,
            is_reader: AtomicBool::new(false),
            is_census: AtomicBool::new(false),
            is_cut: AtomicBool::new(false),
            held: Mutex::new(None),
        });
        self.lock().links.push(Arc::clone(&link));
        for way in [Way::Up, Way::Down] {
            let (shared, link) = (Arc::clone(self), Arc::clone(&link));
            thread::spawn(move || {
                shared.forward(&link, way);
                link.cut();
                shared
                    .lock()
                    .links
                    .retain(|other| !Arc::ptr_eq(other, &link));
            });
        }
    }

    fn forward(&self, link: &Link, way: Way) {
        let (mut from, mut to) = match way {
            Way::Up => (&link.node, &link.engine),
            Way::Down => (&link.engine, &link.node),
        };
        let mut bytes = [0; 16 * 1024];
        while let Ok(count @ 1..) = from.read(&mut bytes) {
            if way == Way::Up && contains(&bytes[..count], b"XREAD") {
                link.is_reader.store(true, Ordering::Relaxed);
            }
            if way == Way::Up && contains(&bytes[..count], b"}:c\r\n") {
                link.is_census.store(true, Ordering::Relaxed);
            }
            let delay = self.lock().delay;
            if way == Way::Down && !delay.is_zero() {
                thread::sleep(delay);
            }
            let Some(passing) = self.pass(link, way, count) else {
                return;
            };
            if to.write_all(&bytes[..passing]).is_err() || passing < count {
                return;
            }
        }
    }

    /// Waits while the direction is stalled. Returns how many of the bytes pass; if not all, the connection is then
    /// to be cut. `None` if it was cut.
    fn pass(&self, link: &Link, way: Way, count: usize) -> Option<usize> {
        let mut state = self.lock();
        loop {
            if link.is_cut.load(Ordering::Relaxed) {
                return None;
            }
            let is_stalled = |&(other, half): &(Way, Half)| other == way && link.is_of(half);
            let is_held = *link.held.lock().unwrap() == Some(way);
            if !is_held && !state.stalled.iter().any(is_stalled) {
                break;
            }
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        match &mut state.cut_after {
            Some((half, left)) if way == Way::Down && link.is_of(*half) => {
                if count <= *left {
                    *left -= count;
                    return Some(count);
                }
                let passing = *left;
                state.cut_after = None;
                self.changed.notify_all();
                Some(passing)
            }
            _ => Some(count),
        }
    }
}

fn contains(bytes: &[u8], word: &[u8]) -> bool {
    bytes
        .windows(word.len())
        .any(|window| window.eq_ignore_ascii_case(word))
}
