//! Listening sockets, and the handling of accept(2) failures.
//!
//! Used by `server` to bind, and by the reactor of shard 0 to accept. Options that accepted sockets
//! inherit are set here, once, on the listener (tcp(7), socket(7)). Never decides which shard gets
//! a connection.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use mio::event::Source;
use mio::net::{TcpListener, UnixListener};
use mio::{Interest, Registry, Token};
use rustix::fs::{Access, AtFlags, CWD, FileType, Mode, OFlags, accessat, fstat, open};
use rustix::process::geteuid;
use socket2::{Domain, Protocol, SockAddr, Socket, TcpKeepalive, Type};

use crate::limits::{
    ACCEPT_RETRY_MS, KEEPALIVE_IDLE_S, KEEPALIVE_INTERVAL_S, LISTEN_BACKLOG, SEND_BUFFER_BYTES,
    STALL_MS, UNSENT_BYTES_LOW,
};
use crate::net::socket::{Layers, Stream};

/// A listening socket, and the layers of its connections.
pub struct Bound {
    /// Listening and nonblocking.
    pub socket: BoundSocket,
    /// See [`Layers`].
    pub layers: Layers,
}

/// See [`Bound`].
pub enum BoundSocket {
    /// From [`listen`].
    Tcp(std::net::TcpListener),
    /// From [`listen_unix`].
    Unix(std::os::unix::net::UnixListener),
}

/// Binds and listens, nonblocking.
pub fn listen(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        // IPv4 needs a listener of its own.
        socket.set_only_v6(true)?;
    }
    set_options(&socket)?;
    socket.bind(&address.into())?;
    socket.listen(LISTEN_BACKLOG)?;
    Ok(socket.into())
}

/// Gives an inherited listening socket the options of [`listen`] and [`listen_unix`]. This
/// process does not own the file of a Unix socket until [`SocketFile::set_ours`].
pub fn adopt(socket: Socket) -> io::Result<(BoundSocket, Option<SocketFile>)> {
    // On a listening socket this only changes the length of its queue (listen(2)).
    socket.listen(LISTEN_BACKLOG)?;
    let address = socket.local_addr()?;
    if !address.is_unix() {
        set_options(&socket)?;
        return Ok((BoundSocket::Tcp(socket.into()), None));
    }
    set_unix_options(&socket)?;
    // Without its file no client can find the socket, but connections in its queue are served.
    let file = address.as_pathname().map(SocketFile::at);
    Ok((BoundSocket::Unix(socket.into()), file.and_then(Result::ok)))
}

fn set_options(socket: &Socket) -> io::Result<()> {
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
    socket.set_tcp_notsent_lowat(UNSENT_BYTES_LOW)?;
    // A vanished peer acknowledges no heartbeat. Without this option the kernel would retransmit
    // for a quarter of an hour.
    socket.set_tcp_user_timeout(Some(Duration::from_millis(STALL_MS)))?;
    let keepalive = TcpKeepalive::new()
        .with_time(Duration::from_secs(KEEPALIVE_IDLE_S))
        .with_interval(Duration::from_secs(KEEPALIVE_INTERVAL_S));
    socket.set_tcp_keepalive(&keepalive)
}

fn set_unix_options(socket: &Socket) -> io::Result<()> {
    socket.set_nonblocking(true)?;
    socket.set_send_buffer_size(SEND_BUFFER_BYTES)
}

/// The file of a Unix socket. Dropping removes the file if it is ours, unless another file has
/// replaced it.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
    is_ours: bool,
}

impl SocketFile {
    fn at(path: &Path) -> io::Result<SocketFile> {
        let file = std::fs::symlink_metadata(path)?;
        Ok(SocketFile {
            path: path.to_owned(),
            device: file.dev(),
            inode: file.ino(),
            is_ours: false,
        })
    }

    /// Sets whether this process removes the file. After a handover, the other process does.
    pub fn set_ours(&mut self, is_ours: bool) {
        self.is_ours = is_ours;
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let is_there = std::fs::symlink_metadata(&self.path)
            .is_ok_and(|file| (file.dev(), file.ino()) == (self.device, self.inode));
        if self.is_ours
            && is_there
            && let Err(error) = std::fs::remove_file(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %error, "cannot remove the socket");
        }
    }
}

/// Binds a Unix socket with this mode and listens, nonblocking. A socket file without a listener is
/// replaced. Any other file at the path is an error.
pub fn listen_unix(
    path: &Path,
    mode: u32,
) -> io::Result<(std::os::unix::net::UnixListener, SocketFile)> {
    let address = SockAddr::unix(path)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    set_unix_options(&socket)?;
    match socket.bind(&address) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            remove_stale(path, &address)?;
            socket.bind(&address)?;
        }
        bound => bound?,
    }
    let mut file = SocketFile::at(path)?;
    file.set_ours(true);
    // No client can connect before listen(2), so the mode is set in time.
    set_socket_mode(path, mode)?;
    socket.listen(LISTEN_BACKLOG)?;
    Ok((socket.into(), file))
}

/// Checks whether [`listen_unix`] could succeed, without creating or removing a file.
pub fn rehearse_unix(path: &Path) -> io::Result<()> {
    let address = SockAddr::unix(path)?;
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
        Ok(_) => match examine_occupant(path, &address)? {
            Occupant::Alive => return Err(io::ErrorKind::AddrInUse.into()),
            Occupant::Stale => {}
        },
    }
    let directory = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    let directory = directory.unwrap_or(Path::new("."));
    let access = Access::WRITE_OK | Access::EXEC_OK;
    Ok(accessat(CWD, directory, access, AtFlags::EACCESS)?)
}

/// Sets the mode of this process's socket at a path, and of no other file. chmod(2) would follow a
/// symbolic link that has replaced the socket meanwhile.
fn set_socket_mode(path: &Path, mode: u32) -> io::Result<()> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let socket = open(path, flags, Mode::empty())?;
    let stat = fstat(&socket)?;
    let is_socket = FileType::from_raw_mode(stat.st_mode) == FileType::Socket;
    if !is_socket || stat.st_uid != geteuid().as_raw() {
        return Err(io::Error::other("another file has replaced the socket"));
    }
    // fchmod(2) refuses an O_PATH descriptor, but its name in /proc works.
    let name = format!("/proc/self/fd/{}", socket.as_raw_fd());
    std::fs::set_permissions(name, std::fs::Permissions::from_mode(mode))
}

/// Removes the socket file of a dead server.
fn remove_stale(path: &Path, address: &SockAddr) -> io::Result<()> {
    match examine_occupant(path, address)? {
        Occupant::Alive => Err(io::ErrorKind::AddrInUse.into()),
        Occupant::Stale => {
            tracing::info!(path = %path.display(), "replacing the socket of a dead server");
            std::fs::remove_file(path)
        }
    }
}

/// The socket at a path before the bind.
enum Occupant {
    /// A process listens on it.
    Alive,
    /// No process listens on it.
    Stale,
}

/// Connects to the socket at the path. Another kind of file is an error.
fn examine_occupant(path: &Path, address: &SockAddr) -> io::Result<Occupant> {
    if !std::fs::symlink_metadata(path)?.file_type().is_socket() {
        let message = "the file exists and is not a socket";
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, message));
    }
    let probe = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // A full queue gives `WouldBlock`: that socket is alive too.
    probe.set_nonblocking(true)?;
    match probe.connect(address) {
        Ok(()) => Ok(Occupant::Alive),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Occupant::Alive),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(Occupant::Stale),
        Err(error) => Err(error),
    }
}

/// A listening socket. It keeps its readiness, because epoll reports each edge once.
pub(super) struct Listener {
    socket: ListeningSocket,
    pub(super) layers: Layers,
    /// Connections may be waiting.
    ready: bool,
    /// No accept(2) before this time.
    retry_ms: Option<u64>,
    /// The last accept(2) found no descriptor or no memory.
    is_failing: bool,
}

enum ListeningSocket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl ListeningSocket {
    fn accept(&self) -> io::Result<(Stream, Option<IpAddr>)> {
        match self {
            ListeningSocket::Tcp(listener) => {
                let (stream, peer) = listener.accept()?;
                Ok((Stream::Tcp(stream), Some(peer.ip())))
            }
            ListeningSocket::Unix(listener) => {
                let (stream, _) = listener.accept()?;
                Ok((Stream::Unix(stream), None))
            }
        }
    }
}

/// The result of accept(2).
pub(super) enum Accepted {
    /// A connection, and its peer's address if it has one.
    Connection(Stream, Option<IpAddr>),
    /// The queue is empty.
    NoneWaiting,
    /// A failure. Only the first in a row has its reason, for the log.
    Failed(Option<io::Error>),
}

impl Listener {
    /// Registers a listening socket under a token.
    pub(super) fn new(bound: Bound, registry: &Registry, token: Token) -> io::Result<Listener> {
        let socket = match bound.socket {
            BoundSocket::Tcp(socket) => {
                let mut socket = TcpListener::from_std(socket);
                socket.register(registry, token, Interest::READABLE)?;
                ListeningSocket::Tcp(socket)
            }
            BoundSocket::Unix(socket) => {
                let mut socket = UnixListener::from_std(socket);
                socket.register(registry, token, Interest::READABLE)?;
                ListeningSocket::Unix(socket)
            }
        };
        Ok(Listener {
            socket,
            layers: bound.layers,
            ready: true,
            retry_ms: None,
            is_failing: false,
        })
    }

    /// Deregisters the socket.
    pub(super) fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        match &mut self.socket {
            ListeningSocket::Tcp(socket) => socket.deregister(registry),
            ListeningSocket::Unix(socket) => socket.deregister(registry),
        }
    }

    pub(super) fn set_ready(&mut self) {
        self.ready = true;
    }

    /// Whether to call accept(2) now.
    pub(super) fn is_ready(&self, now_ms: u64) -> bool {
        self.ready && self.retry_ms.is_none_or(|retry_ms| retry_ms <= now_ms)
    }

    /// When to call accept(2) next.
    pub(super) fn due_ms(&self) -> Option<u64> {
        match self.retry_ms {
            _ if !self.ready => None,
            None => Some(0),
            retry_ms => retry_ms,
        }
    }

    /// Leaves waiting connections in the queue for [`ACCEPT_RETRY_MS`].
    pub(super) fn postpone(&mut self, now_ms: u64) {
        self.retry_ms = Some(now_ms + ACCEPT_RETRY_MS);
    }

    pub(super) fn accept(&mut self, now_ms: u64) -> Accepted {
        loop {
            let error = match self.socket.accept() {
                Ok((connection, peer)) => {
                    self.recover();
                    return Accepted::Connection(connection, peer);
                }
                Err(error) => error,
            };
            match error.kind() {
                io::ErrorKind::WouldBlock => {
                    self.ready = false;
                    self.recover();
                    return Accepted::NoneWaiting;
                }
                // The peer has closed a waiting connection, or a signal arrived.
                io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted => {}
                // EMFILE, ENFILE, ENOBUFS, ENOMEM and any other error may be temporary. The listener
                // stays and tries again after a while, because epoll does not repeat the edge.
                _ => {
                    let is_first = !std::mem::replace(&mut self.is_failing, true);
                    self.retry_ms = Some(now_ms + ACCEPT_RETRY_MS);
                    return Accepted::Failed(is_first.then_some(error));
                }
            }
        }
    }

    /// Notes that accept(2) works.
    fn recover(&mut self) {
        self.retry_ms = None;
        if std::mem::take(&mut self.is_failing) {
            tracing::info!("connections are accepted again");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_has_replaced_a_socket_keeps_its_mode() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let mode = |name: &str| std::fs::metadata(at(name)).unwrap().permissions().mode() & 0o777;
        let (_listener, _file) = listen_unix(&at("a.sock"), 0o606).unwrap();
        assert_eq!(mode("a.sock"), 0o606);
        std::fs::write(at("victim"), "precious").unwrap();
        std::fs::set_permissions(at("victim"), std::fs::Permissions::from_mode(0o600)).unwrap();
        for target in ["victim", "a.sock"] {
            std::os::unix::fs::symlink(at(target), at("link")).unwrap();
            assert!(set_socket_mode(&at("link"), 0o666).is_err());
            std::fs::remove_file(at("link")).unwrap();
        }
        assert!(set_socket_mode(&at("victim"), 0o666).is_err());
        assert_eq!((mode("victim"), mode("a.sock")), (0o600, 0o606));
    }
}
