//! An accepted socket: TCP or Unix, with the layers of its listener between the kernel's bytes and
//! HTTP.
//!
//! The reactor makes these sockets, and the shard uses them as [`Transport`]. A plain connection is
//! only its descriptor. The layers (PROXY header, TLS, a permit of its address, a proxy that names
//! clients) are in one box, which plain connections do not have. Never blocks.

use std::io::{self, IoSlice, Read, Write};
use std::net::{IpAddr, Shutdown};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use mio::net::{TcpStream, UnixStream};
use socket2::{Domain, SockRef};

use crate::foreign_text::{Secrets, quote};
use crate::limits::{JOINED_WRITE_BYTES_MAX, PROXY_HEADER_BYTES_MAX};
use crate::net::peers::{Claim, Peers, Permit};
use crate::net::proxy_protocol;
use crate::net::tls::{ByteStream, TlsSession};
use crate::shard::Transport;
use crate::shard::client::Client;
use crate::tls::Tls;

/// See the module's description.
pub enum LayeredSocket {
    /// HTTP directly on the kernel's socket.
    Plain(Stream),
    /// HTTP on top of layers.
    Layered(Box<Layered>),
}

/// A connected socket of the kernel.
pub enum Stream {
    /// tcp(7)
    Tcp(TcpStream),
    /// unix(7)
    Unix(UnixStream),
}

/// A socket with layers below HTTP.
pub struct Layered {
    base: Base,
    tls: Option<Box<TlsSession>>,
}

/// The layer below TLS: the bytes after the PROXY header, and the client that sends them.
struct Base {
    stream: Stream,
    peers: Arc<Peers>,
    /// The received part of the PROXY header; none after the header, or without one.
    prelude: Option<Vec<u8>>,
    /// The listener expects a PROXY header. Stays set after the header.
    has_prelude: bool,
    /// The client of the connection: first the peer, then the client in the PROXY header.
    client: Option<IpAddr>,
    naming: Naming,
    /// The client of the current request, by its header field.
    named: Option<IpAddr>,
    /// Held for the connection, or for the request.
    permit: Option<Permit>,
    /// The address had no permit left: requests are refused.
    is_over: bool,
}

/// The client for which a request counts.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Naming {
    /// The client of the connection.
    Connection,
    /// The client that its head names, because the peer is a trusted proxy. The head is incomplete.
    RequestAwaited,
    /// The client that its head names. The request is admitted.
    RequestAdmitted,
}

impl Naming {
    fn of(is_proxied: bool) -> Naming {
        if is_proxied {
            Naming::RequestAwaited
        } else {
            Naming::Connection
        }
    }
}

/// The layers of a listener's connections.
#[derive(Clone)]
pub struct Layers {
    /// A PROXY header comes first.
    pub proxy: bool,
    /// TLS follows.
    pub tls: Option<Arc<Tls>>,
    /// The trusted proxies, and the limit for each address.
    pub peers: Arc<Peers>,
}

/// The reason for which a connection is closed at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unwanted {
    /// Its listener is for proxies, and its peer is not a trusted one.
    NoProxy,
    /// Its address has no permit left, not even for a refusal.
    Over,
    /// The TLS session could not be created.
    NoSession,
}

impl Layers {
    /// Wraps a new connection in its layers. `peer` is its address, none for a Unix socket. Peers
    /// of Unix sockets are trusted like proxies, because the mode of the file decides which may
    /// connect.
    pub fn wrap(
        &self,
        stream: Stream,
        peer: Option<IpAddr>,
    ) -> Result<LayeredSocket, (Unwanted, Stream)> {
        let peers = &self.peers;
        let is_proxy = peer.is_none_or(|address| peers.is_proxy(address));
        if self.proxy && !is_proxy {
            return Err((Unwanted::NoProxy, stream));
        }
        let is_proxied = is_proxy && peers.has_header();
        let is_counted = !is_proxy && peers.has_limit();
        let permit = match peer.filter(|_| is_counted).map(|peer| peers.claim(peer)) {
            Some(Claim::Refused) => return Err((Unwanted::Over, stream)),
            Some(Claim::Granted(permit)) => Some((permit, false)),
            Some(Claim::Over(permit)) => Some((permit, true)),
            Some(Claim::Unlimited) | None => None,
        };
        let is_over = permit.as_ref().is_some_and(|(_, is_over)| *is_over);
        let permit = permit.map(|(permit, _)| permit);
        let tls = match &self.tls {
            None => None,
            Some(tls) => match TlsSession::new(tls.current()) {
                Ok(session) => Some(Box::new(session)),
                Err(_) => return Err((Unwanted::NoSession, stream)),
            },
        };
        if !self.proxy && !is_proxied && permit.is_none() && tls.is_none() {
            return Ok(LayeredSocket::Plain(stream));
        }
        let base = Base {
            stream,
            peers: Arc::clone(peers),
            prelude: self.proxy.then(Vec::new),
            has_prelude: self.proxy,
            client: peer,
            naming: Naming::of(is_proxied),
            named: None,
            permit,
            is_over,
        };
        Ok(LayeredSocket::Layered(Box::new(Layered { base, tls })))
    }
}

impl Transport for LayeredSocket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            LayeredSocket::Plain(stream) => stream.read(buffer),
            LayeredSocket::Layered(layered) => layered.read(buffer),
        }
    }

    fn write(&mut self, extents: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            LayeredSocket::Plain(stream) => stream.write(extents),
            LayeredSocket::Layered(layered) => layered.write(extents),
        }
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        match self {
            LayeredSocket::Plain(stream) => stream.shutdown_write(),
            LayeredSocket::Layered(layered) => layered.shutdown_write(),
        }
    }

    fn handle_writable(&mut self) -> io::Result<()> {
        match self {
            LayeredSocket::Plain(_) => Ok(()),
            LayeredSocket::Layered(layered) => layered.handle_writable(),
        }
    }

    fn has_unsent(&self) -> bool {
        self.tls().is_some_and(TlsSession::has_unsent)
    }

    fn has_end(&self) -> bool {
        self.tls().is_some_and(TlsSession::has_end)
    }

    fn admit(&mut self, head: &[u8]) -> bool {
        match self {
            LayeredSocket::Plain(_) => true,
            LayeredSocket::Layered(layered) => layered.base.admit(head),
        }
    }

    fn end_request(&mut self) {
        if let LayeredSocket::Layered(layered) = self {
            layered.base.end_request();
        }
    }

    fn can_leave(&self) -> bool {
        match self {
            LayeredSocket::Plain(_) => true,
            LayeredSocket::Layered(layered) => layered.tls.is_none() && layered.base.can_leave(),
        }
    }

    fn client(&self) -> Client {
        match self {
            LayeredSocket::Plain(stream) => stream.peer(),
            LayeredSocket::Layered(layered) => layered.base.client(),
        }
    }

    fn limited_client(&self) -> Client {
        match self {
            LayeredSocket::Plain(stream) => stream.peer(),
            LayeredSocket::Layered(layered) => layered.base.limited_client(),
        }
    }
}

impl LayeredSocket {
    fn tls(&self) -> Option<&TlsSession> {
        match self {
            LayeredSocket::Plain(_) => None,
            LayeredSocket::Layered(layered) => layered.tls.as_deref(),
        }
    }
}

impl Layered {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.tls {
            None => self.base.read(buffer),
            Some(tls) => {
                let read = tls.read(&mut self.base, buffer);
                if let Err(error) = &read
                    && error.kind() == io::ErrorKind::InvalidData
                {
                    let error = quote(&error.to_string(), &Secrets::default());
                    tracing::debug!(client = %self.base.client(), error, "TLS failed");
                }
                read
            }
        }
    }

    fn write(&mut self, extents: &[IoSlice<'_>]) -> io::Result<usize> {
        match &mut self.tls {
            None => self.base.stream.write(extents),
            Some(tls) => tls.write(&mut self.base, extents),
        }
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        match &mut self.tls {
            None => self.base.stream.shutdown_write(),
            Some(tls) => tls.close_write(&mut self.base),
        }
    }

    fn handle_writable(&mut self) -> io::Result<()> {
        let Some(tls) = &mut self.tls else {
            return Ok(());
        };
        match tls.flush(&mut self.base) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            other => other,
        }
    }
}

impl Drop for Layered {
    /// Sends the `close_notify` of TLS if there is room for it, whatever the reason for closing.
    fn drop(&mut self) {
        if let Some(tls) = &mut self.tls {
            tls.notify_close(&mut self.base);
        }
    }
}

impl ByteStream for Base {
    fn shutdown_write(&mut self) -> io::Result<()> {
        self.stream.shutdown_write()
    }
}

impl Write for Base {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.write(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, extents: &[IoSlice<'_>]) -> io::Result<usize> {
        self.stream.write(extents)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for Base {
    /// Reads past the PROXY header.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while let Some(prelude) = &mut self.prelude {
            let count = self.stream.read(buffer)?;
            if count == 0 {
                return Ok(0);
            }
            let before = prelude.len();
            let added = count.min(PROXY_HEADER_BYTES_MAX - before);
            // A `Vec` that doubles would hold twice the longest header.
            prelude.reserve_exact(added);
            prelude.extend_from_slice(&buffer[..added]);
            match proxy_protocol::parse(prelude) {
                Ok(None) if prelude.len() < PROXY_HEADER_BYTES_MAX => {}
                Ok(Some(header)) => {
                    self.prelude = None;
                    self.set_client(header.client)?;
                    // The bytes after the header are the client's.
                    let start = header.bytes - before;
                    buffer.copy_within(start..count, 0);
                    return self.read_behind(buffer, count - start);
                }
                Ok(None) | Err(proxy_protocol::Malformed) => {
                    return Err(io::ErrorKind::InvalidData.into());
                }
            }
        }
        self.stream.read(buffer)
    }
}

impl Base {
    /// Fills the buffer after the first `count` bytes. The shard takes a short read as a sign that
    /// the kernel has no more bytes.
    fn read_behind(&mut self, buffer: &mut [u8], count: usize) -> io::Result<usize> {
        match self.stream.read(&mut buffer[count..]) {
            Ok(more) => Ok(count + more),
            Err(_) if count > 0 => Ok(count),
            Err(error) => Err(error),
        }
    }

    /// Sets the client that the PROXY header names, if any. It may be a proxy itself.
    ///
    /// A proxy that sends a PROXY header passes bytes on and adds no header fields. If it names no
    /// client, the fields come from an unknown client and are not trusted: the connection counts as
    /// the proxy's.
    fn set_client(&mut self, client: Option<IpAddr>) -> io::Result<()> {
        let Some(client) = client else {
            self.naming = Naming::Connection;
            return Ok(());
        };
        self.client = Some(client);
        self.naming = Naming::of(self.peers.is_proxy(client) && self.peers.has_header());
        if !self.peers.is_proxy(client) {
            match self.peers.claim(client) {
                Claim::Unlimited => {}
                Claim::Granted(permit) => self.permit = Some(permit),
                Claim::Over(permit) => {
                    self.permit = Some(permit);
                    self.is_over = true;
                }
                Claim::Refused => return Err(io::ErrorKind::ConnectionRefused.into()),
            }
        }
        Ok(())
    }

    fn admit(&mut self, fields: &[u8]) -> bool {
        // A request claims its permit once, with the complete head, and holds it until it ends.
        if self.naming == Naming::RequestAwaited {
            self.named = self.peers.named(fields);
            match self.named.map(|client| self.peers.claim(client)) {
                Some(Claim::Over(_) | Claim::Refused) => return false,
                Some(Claim::Granted(permit)) => self.permit = Some(permit),
                Some(Claim::Unlimited) | None => {}
            }
            self.naming = Naming::RequestAdmitted;
        }
        !self.is_over
    }

    /// Whether [`Layers::wrap`] could restore this connection from its descriptor alone. It could
    /// not after a PROXY header, nor for a connection over the limit of its address.
    fn can_leave(&self) -> bool {
        !self.has_prelude && !self.is_over
    }

    /// Ends a request. The permit of a client that a header field named is for its request alone.
    fn end_request(&mut self) {
        if self.naming != Naming::Connection {
            self.named = None;
            self.naming = Naming::RequestAwaited;
            self.permit = None;
        }
    }

    fn limited_client(&self) -> Client {
        match self.naming {
            // A trusted proxy has named no client.
            Naming::Connection if self.client.is_some_and(|peer| self.peers.is_proxy(peer)) => {
                Client::Unknown
            }
            Naming::Connection => self.client(),
            Naming::RequestAwaited | Naming::RequestAdmitted => {
                self.named.map_or(Client::Unknown, Client::Address)
            }
        }
    }

    fn client(&self) -> Client {
        match self.named.or(self.client) {
            Some(address) => Client::Address(address),
            None => self.stream.peer(),
        }
    }
}

fn extents_bytes(extents: &[IoSlice<'_>]) -> usize {
    extents.iter().map(|extent| extent.len()).sum()
}

impl Stream {
    /// The connected socket of a descriptor, which becomes nonblocking.
    pub fn from_fd(fd: OwnedFd) -> io::Result<Stream> {
        let socket = SockRef::from(&fd);
        socket.set_nonblocking(true)?;
        let domain = socket.domain()?;
        Ok(if domain == Domain::UNIX {
            Stream::Unix(UnixStream::from_std(fd.into()))
        } else {
            Stream::Tcp(TcpStream::from_std(fd.into()))
        })
    }

    /// The peer's address; none for a Unix socket.
    pub fn address(&self) -> io::Result<Option<IpAddr>> {
        match self {
            Stream::Tcp(stream) => stream.peer_addr().map(|peer| Some(peer.ip())),
            Stream::Unix(_) => Ok(None),
        }
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => Read::read(stream, buffer),
            Stream::Unix(stream) => Read::read(stream, buffer),
        }
    }

    fn write(&mut self, extents: &[IoSlice<'_>]) -> io::Result<usize> {
        match (self, extents) {
            // send(2) is cheaper than writev(2), by more than the cost of a small copy.
            (Stream::Tcp(stream), [one]) => Write::write(stream, one),
            (Stream::Tcp(stream), few) if extents_bytes(few) <= JOINED_WRITE_BYTES_MAX => {
                let mut joined = [0; JOINED_WRITE_BYTES_MAX];
                let end = few.iter().fold(0, |at, extent| {
                    joined[at..at + extent.len()].copy_from_slice(extent);
                    at + extent.len()
                });
                Write::write(stream, &joined[..end])
            }
            (Stream::Tcp(stream), many) => Write::write_vectored(stream, many),
            (Stream::Unix(stream), many) => Write::write_vectored(stream, many),
        }
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        match self {
            Stream::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Stream::Unix(stream) => stream.shutdown(Shutdown::Write),
        }
    }

    fn peer(&self) -> Client {
        match self {
            Stream::Tcp(stream) => stream
                .peer_addr()
                .map_or(Client::Unknown, |peer| Client::Address(peer.ip())),
            Stream::Unix(_) => Client::Local,
        }
    }
}

impl AsFd for LayeredSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        let stream = match self {
            LayeredSocket::Plain(stream) => stream,
            LayeredSocket::Layered(layered) => &layered.base.stream,
        };
        match stream {
            Stream::Tcp(stream) => stream.as_fd(),
            Stream::Unix(stream) => stream.as_fd(),
        }
    }
}
