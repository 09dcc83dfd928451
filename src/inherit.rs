//! Listening sockets that are passed to this process, by a service manager (`sd_listen_fds(3)`) or by
//! its predecessor.
//!
//! Called by `main` before any thread is started. `server` uses the sockets instead of binding. Such a
//! socket outlives this process, so connections wait in it between the end of one server and the start of
//! the next. Never accepts.

use std::env;
use std::fmt;
use std::io;
use std::net::TcpListener;

use listenfd::ListenFd;
use socket2::Socket;

use crate::foreign_text::{Secrets, quote};
use crate::limits::LISTEN_ADDRESSES_MAX;

/// The name of the admin address's socket (`FileDescriptorName=` in systemd.socket(5)).
pub const ADMIN_NAME: &str = "admin";

/// The passed sockets.
#[derive(Debug, Default)]
pub struct Sockets {
    /// The sockets to serve on. If there are any, they replace `--listen`.
    pub serving: Vec<Passed>,
    /// The socket of metrics and health, which replaces `--admin`.
    pub admin: Option<TcpListener>,
}

/// A listening socket to serve on, TCP or Unix.
#[derive(Debug)]
pub struct Passed {
    /// The socket.
    pub socket: Socket,
    /// Its protocols, if a predecessor has passed it. For a socket of a service manager, the `--listen`
    /// with the same address gives them.
    pub protocols: Option<Protocols>,
}

/// The protocols below HTTP on a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Protocols {
    /// A PROXY protocol header.
    pub proxy: bool,
    /// TLS.
    pub tls: bool,
}

/// Why passed sockets cannot be used.
#[derive(Debug)]
pub enum InheritError {
    /// `LISTEN_FDS` is not a number, or too large.
    Count(String),
    /// A socket is not usable: its number and name, and the cause.
    Socket(String, io::Error),
    /// The channel to the predecessor is not a socket, or a message on it is invalid.
    Predecessor(io::Error),
}

impl fmt::Display for InheritError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            InheritError::Count(text) => write!(
                f,
                "LISTEN_FDS={text} is not a number up to {}",
                LISTEN_ADDRESSES_MAX + 1
            ),
            InheritError::Socket(name, error) => {
                write!(f, "the passed socket {name} cannot be used: {error}")
            }
            InheritError::Predecessor(error) => {
                write!(f, "cannot take over from the running server: {error}")
            }
        }
    }
}

impl std::error::Error for InheritError {}

/// Takes the sockets that a service manager has passed to this process (`LISTEN_PID`), from descriptor 3
/// on (`LISTEN_FDS`), each with its name (`LISTEN_FDNAMES`). Marks them close-on-exec, and removes the
/// variables.
pub fn from_environment() -> Result<Sockets, InheritError> {
    let count = env::var("LISTEN_FDS").unwrap_or_default();
    // Without `LISTEN_PID` the sockets may be meant for another process.
    if count.is_empty() || env::var_os("LISTEN_PID").is_none() {
        return Ok(Sockets::default());
    }
    match count.parse::<usize>() {
        Ok(count) if count <= LISTEN_ADDRESSES_MAX + 1 => {}
        _ => return Err(InheritError::Count(quote(&count, &Secrets::default()))),
    }
    let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
    let names: Vec<&str> = names.split(':').collect();
    let shown = |name: &str| quote(name, &Secrets::default());
    let mut passed = ListenFd::from_env();
    let mut sockets = Sockets::default();
    for index in 0..passed.len() {
        let name = names.get(index).copied().unwrap_or_default();
        let failed = |error| InheritError::Socket(format!("{index} ({})", shown(name)), error);
        let Some(socket) = passed.take_tcp_listener(index).map_err(failed)? else {
            continue;
        };
        let added = match name {
            ADMIN_NAME => sockets.add_admin(socket.into()),
            _ => sockets.add_serving(socket.into(), None),
        };
        added.map_err(failed)?;
    }
    Ok(sockets)
}

impl Sockets {
    /// Adds a socket to serve on.
    pub fn add_serving(&mut self, socket: Socket, protocols: Option<Protocols>) -> io::Result<()> {
        check_listening(&socket)?;
        self.serving.push(Passed { socket, protocols });
        Ok(())
    }

    /// Sets the socket of the admin address.
    pub fn add_admin(&mut self, socket: Socket) -> io::Result<()> {
        check_listening(&socket)?;
        match self.admin.replace(socket.into()) {
            None => Ok(()),
            Some(_) => Err(io::Error::other("there is more than one admin socket")),
        }
    }

    /// Duplicates the sockets, to pass them on.
    pub fn try_clone(&self) -> io::Result<Sockets> {
        Ok(Sockets {
            serving: self
                .serving
                .iter()
                .map(Passed::try_clone)
                .collect::<io::Result<_>>()?,
            admin: self
                .admin
                .as_ref()
                .map(TcpListener::try_clone)
                .transpose()?,
        })
    }
}

impl Passed {
    fn try_clone(&self) -> io::Result<Passed> {
        let (socket, protocols) = (self.socket.try_clone()?, self.protocols);
        Ok(Passed { socket, protocols })
    }
}

fn check_listening(socket: &Socket) -> io::Result<()> {
    if socket.is_listener()? {
        Ok(())
    } else {
        Err(io::Error::other("it does not listen"))
    }
}

impl Protocols {
    /// Encodes the protocols for a successor.
    pub fn to_bytes(self) -> [u8; 2] {
        [u8::from(self.proxy), u8::from(self.tls)]
    }

    /// Decodes the protocols that a predecessor has sent; `None` if they are malformed.
    pub fn from_bytes(bytes: &[u8]) -> Option<Protocols> {
        match bytes {
            [proxy @ 0..=1, tls @ 0..=1] => Some(Protocols {
                proxy: *proxy == 1,
                tls: *tls == 1,
            }),
            _ => None,
        }
    }
}
