//! One stream: its socket, its parser state, its checker, and its index.
//!
//! Owned and driven by `streams`.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use rustls::ClientConfig;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::engine::check::Checker;
use crate::engine::event;
use crate::engine::gzip::GzipStream;
use crate::engine::scanner::Scanner;
use crate::engine::tls::TlsStream;

/// Receive buffer of a stalled stream: the kernel's minimum.
pub const STALLED_RECEIVE_BYTES: usize = 2 * 1024;

/// Bytes of an event id kept for a resume.
const EVENT_ID_BYTES_MAX: usize = 128;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    Closed,
    Connecting,
    Requested,
    Open,
}

pub struct Stream {
    pub socket: Option<Socket>,
    pub tls: Option<Box<TlsStream>>,
    /// Set if the server may compress the stream.
    pub gzip: Option<GzipStream>,
    pub phase: Phase,
    /// Distinguishes this connection from earlier ones at the same index.
    pub generation: u32,
    pub stalled: bool,
    /// Set until the whole replay has arrived.
    pub awaits_replay: bool,
    pub retries_left: u32,
    pub opened_at_ns: u64,
    pub scanner: Scanner,
    pub checker: Checker,
    pub last_event_id: Vec<u8>,
}

impl Stream {
    /// Whether it has every message below `total`, or never will.
    pub fn is_complete(&self, total: u32) -> bool {
        self.stalled || self.phase == Phase::Closed || self.checker.reached(total)
    }
}

/// Begins a handshake that `request` will follow, and replaces `request` by its first bytes.
pub fn begin_tls(config: &Arc<ClientConfig>, request: &mut Vec<u8>) -> io::Result<Box<TlsStream>> {
    let mut tls = TlsStream::new(config, request)?;
    request.clear();
    tls.outgoing(request)?;
    Ok(Box::new(tls))
}

pub fn remember_event_id(bytes: &[u8], last_event_id: &mut Vec<u8>) {
    if let Some(id) = event::last_event_id(bytes).filter(|id| id.len() <= EVENT_ID_BYTES_MAX) {
        last_event_id.clear();
        last_event_id.extend_from_slice(id);
    }
}

pub fn token(at: usize, generation: u32) -> u64 {
    u64::from(generation) << 32 | at as u64
}

pub fn place(token: u64) -> (usize, u32) {
    ((token & u64::from(u32::MAX)) as usize, (token >> 32) as u32)
}

pub fn connect(
    address: SocketAddr,
    source: Option<SocketAddr>,
    receive_bytes: Option<usize>,
) -> io::Result<Socket> {
    let kind = Type::STREAM.nonblocking().cloexec();
    let socket = Socket::new(Domain::for_address(address), kind, Some(Protocol::TCP))?;
    if let Some(source) = source {
        socket.bind(&SockAddr::from(source))?;
    }
    if let Some(bytes) = receive_bytes {
        socket.set_recv_buffer_size(bytes)?;
    }
    match socket.connect(&SockAddr::from(address)) {
        Ok(()) => Ok(socket),
        Err(error)
            if error.raw_os_error() == Some(rustix::io::Errno::INPROGRESS.raw_os_error()) =>
        {
            Ok(socket)
        }
        Err(error) => Err(error),
    }
}
