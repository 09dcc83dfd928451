//! A connection as it comes from the kernel: TCP or a Unix socket, and the layers that its listener
//! puts between the bytes and HTTP.
//!
//! The reactor makes them, the shard uses them as [`Socket`] and knows nothing of all this. A plain
//! connection is its descriptor: the rest is behind one box that only connections have which need it
//! (a PROXY header, TLS, a place to be counted, a proxy that names clients). Never blocks.

use std::io::{self, IoSlice, Read, Write};
use std::net::{IpAddr, Shutdown};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use mio::net::{TcpStream, UnixStream};
use socket2::{Domain, SockRef};

use crate::foreign_text::{Secrets, quote};
use crate::limits::{JOINED_WRITE_BYTES_MAX, PROXY_HEADER_BYTES_MAX};
use crate::net::peers::{Claim, Peers, Place};
use crate::net::proxy_protocol;
use crate::net::tls::{ByteStream, TlsSession};
use crate::shard::Transport;
use crate::shard::client::Client;
use crate::tls::Tls;

/// See the module's description.
pub enum LayeredSocket {
    /// Nothing but HTTP, straight from the kernel.
    Plain(Stream),
    /// With something in between.
    Layered(Box<Layered>),
}

/// A connected socket of the kernel.
pub enum Stream {
    /// tcp(7)
    Tcp(TcpStream),
    /// unix(7)
    Unix(UnixStream),
}

/// A connection with more to it than HTTP.
pub struct Layered {
    base: Base,
    tls: Option<Box<TlsSession>>,
}

/// What lies below TLS, if there is any: the bytes behind the PROXY header, and who sends them.
struct Base {
    stream: Stream,
    peers: Arc<Peers>,
    /// What has come of the PROXY header; none where there is none to come any more.
    prelude: Option<Vec<u8>>,
    /// The connection began with a PROXY header, or is to.
    has_prelude: bool,
    /// Who is at the other end, as far as is known: the peer, then who the PROXY header names.
    client: Option<IpAddr>,
    naming: Naming,
    /// The client of the request that is being served, by its header.
    named: Option<IpAddr>,
    /// Held for the connection, or for the request.
    place: Option<Place>,
    /// There was no place.
    is_over: bool,
}

/// Which client a request counts for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Naming {
    /// The connection's.
    Connection,
    /// The one that its head names, since the other end is a trusted proxy. The head is not whole yet.
    RequestAwaited,
    /// The same, and the request has been admitted.
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

/// How the connections of a listener begin.
#[derive(Clone)]
pub struct Layers {
    /// With a PROXY header.
    pub proxy: bool,
    /// Then with TLS.
    pub tls: Option<Arc<Tls>>,
    /// The rules by which peers are told apart.
    pub peers: Arc<Peers>,
}

/// Why a connection is not taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unwanted {
    /// Its listener is for proxies, and its peer is none that is trusted.
    NoProxy,
    /// Its address holds more connections than it may, and some of them are being told so.
    Over,
    /// TLS could not be set up for it.
    NoSession,
}

impl Layers {
    /// What a new connection is to the shard. `peer` is its address, none for a Unix socket: who
    /// may open that was settled by the file's mode, and is trusted like a proxy.
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
        let place = match peer.filter(|_| is_counted).map(|peer| peers.claim(peer)) {
            Some(Claim::Refused) => return Err((Unwanted::Over, stream)),
            Some(Claim::Granted(place)) => Some((place, false)),
            Some(Claim::Over(place)) => Some((place, true)),
            Some(Claim::Unlimited) | None => None,
        };
        let is_over = place.as_ref().is_some_and(|(_, is_over)| *is_over);
        let place = place.map(|(place, _)| place);
        let tls = match &self.tls {
            None => None,
            Some(tls) => match TlsSession::new(tls.current()) {
                Ok(session) => Some(Box::new(session)),
                Err(_) => return Err((Unwanted::NoSession, stream)),
            },
        };
        if !self.proxy && !is_proxied && place.is_none() && tls.is_none() {
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
            place,
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
        match self {
            LayeredSocket::Plain(_) => false,
            LayeredSocket::Layered(layered) => {
                layered.tls.as_ref().is_some_and(|tls| tls.has_unsent())
            }
        }
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
    /// However a connection ends, its peer is told that this is the end, if there is room for it.
    fn drop(&mut self) {
        if let Some(tls) = &mut self.tls {
            tls.take_leave(&mut self.base);
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
            let looked_at = count.min(PROXY_HEADER_BYTES_MAX - before);
            // A `Vec` that doubles would hold twice the longest header.
            prelude.reserve_exact(looked_at);
            prelude.extend_from_slice(&buffer[..looked_at]);
            match proxy_protocol::parse(prelude) {
                Ok(None) if prelude.len() < PROXY_HEADER_BYTES_MAX => {}
                Ok(Some(header)) => {
                    self.prelude = None;
                    self.meet(header.client)?;
                    // Of what came with the header, the rest is the client's.
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
    /// Fills the buffer up behind `count` bytes that are there: a read that is short means to the
    /// shard that the kernel has no more.
    fn read_behind(&mut self, buffer: &mut [u8], count: usize) -> io::Result<usize> {
        match self.stream.read(&mut buffer[count..]) {
            Ok(more) => Ok(count + more),
            Err(_) if count > 0 => Ok(count),
            Err(error) => Err(error),
        }
    }

    /// The PROXY header has named the client, which may be a proxy in turn, or none.
    ///
    /// A proxy that speaks this protocol passes bytes on and adds no header fields. So where it names
    /// no client, the fields are the unknown client's own, and are not believed: the connection
    /// counts as the proxy's.
    fn meet(&mut self, client: Option<IpAddr>) -> io::Result<()> {
        let Some(client) = client else {
            self.naming = Naming::Connection;
            return Ok(());
        };
        self.client = Some(client);
        self.naming = Naming::of(self.peers.is_proxy(client) && self.peers.has_header());
        if !self.peers.is_proxy(client) {
            match self.peers.claim(client) {
                Claim::Unlimited => {}
                Claim::Granted(place) => self.place = Some(place),
                Claim::Over(place) => {
                    self.place = Some(place);
                    self.is_over = true;
                }
                Claim::Refused => return Err(io::ErrorKind::ConnectionRefused.into()),
            }
        }
        Ok(())
    }

    fn admit(&mut self, fields: &[u8]) -> bool {
        // Its place is claimed once, when the head is whole, and kept until the request ends.
        if self.naming == Naming::RequestAwaited {
            self.named = self.peers.named(fields);
            match self.named.map(|client| self.peers.claim(client)) {
                Some(Claim::Over(_) | Claim::Refused) => return false,
                Some(Claim::Granted(place)) => self.place = Some(place),
                Some(Claim::Unlimited) | None => {}
            }
            self.naming = Naming::RequestAdmitted;
        }
        !self.is_over
    }

    /// Whether [`Layers::wrap`] makes the same of its descriptor: not of one that began with a PROXY
    /// header, whatever that said, nor of one that is only let in to be told that it is one too many.
    fn can_leave(&self) -> bool {
        !self.has_prelude && !self.is_over
    }

    /// The place of a client that a header named is for its request alone.
    fn end_request(&mut self) {
        if self.naming != Naming::Connection {
            self.named = None;
            self.naming = Naming::RequestAwaited;
            self.place = None;
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
    /// The connected socket behind a descriptor, which becomes nonblocking.
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
            // send(2) is cheaper than writev(2), by more than a copy of little costs.
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
