//! Errors that keep a server from starting, or end it.
//!
//! Made by `server` and its parts, printed by `main`. Never contains a secret.

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::bus::redis::BusTlsError;
use crate::mirror::SpawnError;
use crate::ring::RingError;
use crate::sources::SourcesError;
use crate::tls::TlsError;
use crate::tokens::KeyFileError;

/// Why the server could not start, or had to stop.
#[derive(Debug)]
pub enum ServerError {
    /// An address could not be listened on.
    Listen(String, io::Error),
    /// No passed socket has the configured address. Holds the whole sentence.
    Passed(String),
    /// A certificate, a key or an authority could not be loaded.
    Tls(TlsError),
    /// The keys of tokens could not be loaded.
    TokenKeys(KeyFileError),
    /// The file of sources is wrong.
    Sources(SourcesError),
    /// The body for `source-check` could not be read.
    Body(PathBuf, io::Error),
    /// The predecessor did not release the ring.
    Predecessor(io::Error),
    /// The ring could not be opened.
    Ring(PathBuf, RingError),
    /// A thread, an epoll instance or a signal handler could not be created.
    Start(&'static str, io::Error),
    /// A shard's poll failed.
    Shard(io::Error),
    /// The mirror could not be started.
    Mirror(SpawnError),
    /// A certificate of the bus cannot be used.
    BusTls(BusTlsError),
    /// Other nodes of the bus accept bodies of so many bytes, this one fewer.
    BusBodyLimit(u64),
    /// The ring could not be written to disk at the end.
    Close(PathBuf, io::Error),
}

impl ServerError {
    /// The exit status of the process: 2 if every start fails until the configuration is changed.
    pub fn exit_status(&self) -> u8 {
        match self {
            ServerError::Sources(_)
            | ServerError::Body(..)
            | ServerError::Passed(_)
            | ServerError::BusBodyLimit(_)
            | ServerError::BusTls(_) => 2,
            _ => 1,
        }
    }
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ServerError::Listen(address, error) => {
                write!(f, "cannot listen on {address}: {error}")?;
                match listen_advice(error) {
                    Some(advice) => write!(f, "; {advice}"),
                    None => Ok(()),
                }
            }
            ServerError::Passed(error) => f.write_str(error),
            ServerError::Tls(error) => write!(f, "cannot set up TLS: {error}"),
            ServerError::TokenKeys(error) => write!(f, "cannot use the keys of tokens: {error}"),
            ServerError::Sources(error) => write!(f, "{error}"),
            ServerError::Body(path, error) => {
                write!(f, "cannot read the body {}: {error}", path.display())
            }
            ServerError::Predecessor(error) => {
                write!(f, "cannot take over from the running server: {error}")
            }
            ServerError::Ring(path, error) => {
                write!(f, "cannot open the ring {}: {error}", path.display())
            }
            ServerError::Start(what, error) => write!(f, "cannot start {what}: {error}"),
            ServerError::Shard(error) => write!(f, "a shard cannot poll: {error}"),
            ServerError::Mirror(error) => write!(f, "cannot mirror to KV: {error}"),
            ServerError::BusTls(error) => write!(f, "cannot set up TLS for the bus: {error}"),
            ServerError::BusBodyLimit(bytes) => write!(
                f,
                "other nodes of the bus accept bodies of {bytes} bytes: start this node with --max-body-bytes {bytes}"
            ),
            ServerError::Close(path, error) => {
                write!(
                    f,
                    "cannot write the ring {} to disk: {error}",
                    path.display()
                )
            }
        }
    }
}

/// The remedy for an address that cannot be listened on, if the system's error does not suggest it.
fn listen_advice(error: &io::Error) -> Option<&'static str> {
    match error.kind() {
        io::ErrorKind::AddrInUse => Some(
            "another process listens there (ss -ltnp shows which): end it, or choose another address",
        ),
        io::ErrorKind::NotFound => Some("the directory of the socket does not exist"),
        io::ErrorKind::AddrNotAvailable => Some("no interface of this machine has this address"),
        io::ErrorKind::PermissionDenied => Some(
            "ports below 1024 need the capability CAP_NET_BIND_SERVICE, files a directory that this \
             user may write to",
        ),
        _ => None,
    }
}

impl std::error::Error for ServerError {}
