//! Listening sockets, and what to do when accept(2) fails.
//!
//! Used by `server` to bind, and by the reactor of shard 0 to accept. Options that accepted sockets
//! inherit are set here, once, on the listener (tcp(7), socket(7)). Never decides which shard gets
//! a connection.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use mio::net::TcpStream;
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::limits::{
    ACCEPT_RETRY_MS, LISTEN_BACKLOG, SEND_BUFFER_BYTES, STALL_MS, UNSENT_BYTES_LOW,
};

/// Binds and listens, nonblocking.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        // IPv4 has a socket of its own if it is wanted.
        socket.set_only_v6(true)?;
    }
    set_options(&socket)?;
    socket.bind(&address.into())?;
    socket.listen(LISTEN_BACKLOG)?;
    Ok(socket.into())
}

/// Makes a socket that was passed to us, and listens already, what [`listen`] makes.
pub fn adopt(socket: TcpListener) -> io::Result<TcpListener> {
    let passed = SockRef::from(&socket);
    set_options(&passed)?;
    // On a socket that listens this sets the length of its queue anew (listen(2)).
    passed.listen(LISTEN_BACKLOG)?;
    Ok(socket)
}

fn set_options(socket: &Socket) -> io::Result<()> {
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
    socket.set_tcp_notsent_lowat(UNSENT_BYTES_LOW)?;
    // A peer that has vanished acknowledges no heartbeat: without this the kernel goes on trying
    // for a quarter of an hour.
    socket.set_tcp_user_timeout(Some(Duration::from_millis(STALL_MS)))
}

/// A listening socket that is never forgotten, although its readiness is told once per edge.
pub(super) struct Listener {
    pub(super) socket: mio::net::TcpListener,
    /// There may be connections waiting.
    ready: bool,
    /// Not to be asked before this time.
    retry_ms: Option<u64>,
    /// The last accept(2) found no descriptor or no memory.
    is_failing: bool,
}

/// What accept(2) came to.
pub(super) enum Accepted {
    Connection(TcpStream),
    /// Nobody waits.
    Nobody,
    /// Not possible now; the first failure of a row carries its reason.
    Failed(Option<io::Error>),
}

impl Listener {
    pub(super) fn new(socket: mio::net::TcpListener) -> Listener {
        Listener {
            socket,
            ready: true,
            retry_ms: None,
            is_failing: false,
        }
    }

    pub(super) fn set_ready(&mut self) {
        self.ready = true;
    }

    /// Whether to ask it now.
    pub(super) fn is_ready(&self, now_ms: u64) -> bool {
        self.ready && self.retry_ms.is_none_or(|retry_ms| retry_ms <= now_ms)
    }

    /// When to ask it again.
    pub(super) fn due_ms(&self) -> Option<u64> {
        match self.retry_ms {
            _ if !self.ready => None,
            None => Some(0),
            retry_ms => retry_ms,
        }
    }

    /// Leaves those who wait where they are for a while.
    pub(super) fn postpone(&mut self, now_ms: u64) {
        self.retry_ms = Some(now_ms + ACCEPT_RETRY_MS);
    }

    pub(super) fn accept(&mut self, now_ms: u64) -> Accepted {
        loop {
            let error = match self.socket.accept() {
                Ok((connection, _)) => {
                    self.retry_ms = None;
                    self.is_failing = false;
                    return Accepted::Connection(connection);
                }
                Err(error) => error,
            };
            match error.kind() {
                io::ErrorKind::WouldBlock => {
                    self.ready = false;
                    self.retry_ms = None;
                    return Accepted::Nobody;
                }
                // The peer gave up while it waited, or a signal came.
                io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted => {}
                // EMFILE, ENFILE, ENOBUFS, ENOMEM and whatever else: it may pass, so the listener
                // stays, and is asked again after a while. Readiness would not be told again.
                _ => {
                    let is_first = !std::mem::replace(&mut self.is_failing, true);
                    self.retry_ms = Some(now_ms + ACCEPT_RETRY_MS);
                    return Accepted::Failed(is_first.then_some(error));
                }
            }
        }
    }
}
