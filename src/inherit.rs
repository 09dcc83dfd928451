//! Listening sockets that were made by somebody else and passed on: by a service manager
//! (`sd_listen_fds(3)`) or by the process that this one takes over from.
//!
//! Called by `main` before any thread is started, and by `server` in place of binding. Such a
//! socket outlives this process, so connections wait in it while one server ends and the next
//! starts. Never accepts.

use std::env;
use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};

use listenfd::ListenFd;
use socket2::SockRef;

use crate::limits::LISTEN_ADDRESSES_MAX;

/// The name of the admin address's socket (`FileDescriptorName=` in systemd.socket(5)).
pub const ADMIN_NAME: &str = "admin";

/// Sockets that need not be bound any more.
#[derive(Debug, Default)]
pub struct Sockets {
    /// What to serve on, in place of `--listen` if there is any.
    pub serving: Vec<TcpListener>,
    /// What to serve metrics and health on, in place of `--admin`.
    pub admin: Option<TcpListener>,
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
        _ => return Err(InheritError::Count(count)),
    }
    let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
    let names: Vec<&str> = names.split(':').collect();
    let mut passed = ListenFd::from_env();
    let mut sockets = Sockets::default();
    for index in 0..passed.len() {
        let name = names.get(index).copied().unwrap_or_default();
        let failed = |error| InheritError::Socket(format!("{index} ({name:?})"), error);
        let Some(socket) = passed.take_tcp_listener(index).map_err(failed)? else {
            continue;
        };
        sockets.add(name == ADMIN_NAME, socket).map_err(failed)?;
    }
    Ok(sockets)
}

impl Sockets {
    /// Files a socket under what it is for.
    pub fn add(&mut self, is_admin: bool, socket: TcpListener) -> io::Result<()> {
        if !SockRef::from(&socket).is_listener()? {
            return Err(io::Error::other("it does not listen"));
        }
        if !is_admin {
            self.serving.push(socket);
        } else if self.admin.replace(socket).is_some() {
            return Err(io::Error::other("there can be one admin socket"));
        }
        Ok(())
    }

    /// The addresses to serve on, for those that are told of them.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        let address = |socket: &TcpListener| socket.local_addr().ok();
        self.serving.iter().filter_map(address).collect()
    }

    /// The same sockets once more, to be passed on.
    pub fn try_clone(&self) -> io::Result<Sockets> {
        Ok(Sockets {
            serving: self
                .serving
                .iter()
                .map(TcpListener::try_clone)
                .collect::<io::Result<_>>()?,
            admin: self
                .admin
                .as_ref()
                .map(TcpListener::try_clone)
                .transpose()?,
        })
    }
}
