//! Listening sockets that were made by somebody else and passed on: by a service manager
//! (`sd_listen_fds(3)`) or by the process that this one takes over from.
//!
//! Called by `main` before any thread is started, and by `server` in place of binding. Such a
//! socket outlives this process, so connections wait in it while one server ends and the next
//! starts. Never accepts.

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

/// Sockets that need not be bound any more.
#[derive(Debug, Default)]
pub struct Sockets {
    /// What to serve on, in place of `--listen` if there is any.
    pub serving: Vec<Passed>,
    /// What to serve metrics and health on, in place of `--admin`.
    pub admin: Option<TcpListener>,
}

/// A listening socket to serve on, TCP or Unix.
#[derive(Debug)]
pub struct Passed {
    /// The socket.
    pub socket: Socket,
    /// What is spoken on it, as a predecessor says. Of a service manager's, `--listen` says it, by
    /// the address.
    pub spoken: Option<Spoken>,
}

/// What is spoken on a socket before HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Spoken {
    /// A PROXY protocol header.
    pub proxy: bool,
    /// TLS.
    pub tls: bool,
}

/// Why passed sockets are of no use.
#[derive(Debug)]
pub enum InheritError {
    /// `LISTEN_FDS` is no number, or more than can be served.
    Count(String),
    /// One of them is not a listening TCP socket; its name or number, and what was found.
    Socket(String, io::Error),
    /// The socket that a predecessor was to be reached by is none, or spoke nonsense.
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

/// Takes the sockets that a service manager has passed to this very process (`LISTEN_PID`), from
/// descriptor 3 on (`LISTEN_FDS`), each with its name (`LISTEN_FDNAMES`). They are closed on exec
/// from now on, and the variables are gone.
pub fn from_environment() -> Result<Sockets, InheritError> {
    let count = env::var("LISTEN_FDS").unwrap_or_default();
    // Without a number of its own a process is not meant: descriptors are no place to guess.
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
    /// Takes a socket to serve on.
    pub fn add_serving(&mut self, socket: Socket, spoken: Option<Spoken>) -> io::Result<()> {
        check_listening(&socket)?;
        self.serving.push(Passed { socket, spoken });
        Ok(())
    }

    /// Takes the admin address's socket.
    pub fn add_admin(&mut self, socket: Socket) -> io::Result<()> {
        check_listening(&socket)?;
        match self.admin.replace(socket.into()) {
            None => Ok(()),
            Some(_) => Err(io::Error::other("there can be one admin socket")),
        }
    }

    /// The same sockets once more, to be passed on.
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
        let (socket, spoken) = (self.socket.try_clone()?, self.spoken);
        Ok(Passed { socket, spoken })
    }
}

fn check_listening(socket: &Socket) -> io::Result<()> {
    if socket.is_listener()? {
        Ok(())
    } else {
        Err(io::Error::other("it does not listen"))
    }
}

impl Spoken {
    /// As it is sent to a successor.
    pub fn to_bytes(self) -> [u8; 2] {
        [u8::from(self.proxy), u8::from(self.tls)]
    }

    /// What a predecessor has sent, if that is anything.
    pub fn from_bytes(bytes: &[u8]) -> Option<Spoken> {
        match bytes {
            [proxy @ 0..=1, tls @ 0..=1] => Some(Spoken {
                proxy: *proxy == 1,
                tls: *tls == 1,
            }),
            _ => None,
        }
    }
}
