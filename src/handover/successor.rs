//! The predecessor's side of a handover: starts the successor, passes sockets, ring and connections to it,
//! and ends it if it fails.
//!
//! Called by `control`, whose thread it blocks for bounded times, and by the shards, which pass on their
//! connections. Never opens or closes the ring.

use std::env;
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::Mutex;
use std::time::Duration;

use super::channel::Kind;
use super::{Channel, PROTOCOL, VARIABLE};
use crate::inherit::Sockets;
use crate::limits::{HANDOVER_PREPARE_MS, HANDOVER_RING_MS, HANDOVER_SEND_MS};

/// Variables that a service manager sets for a single process (`sd_listen_fds(3)`,
/// `sd_watchdog_enabled(3)`).
const OF_ONE_PROCESS: [&str; 4] = ["LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "WATCHDOG_PID"];

/// The process that will take over. Dropping it before that ends the process.
#[derive(Debug)]
pub struct Successor {
    child: Child,
    channel: Option<Channel>,
}

/// Passes connections on to the successor.
///
/// After an error the channel is closed: the successor would read the next message as the rest of the one
/// that was cut off.
#[derive(Debug)]
pub struct HandoverSender(Mutex<Option<Channel>>);

/// Why a handover failed.
#[derive(Debug)]
pub enum SuccessionError {
    /// The program could not be started.
    Start(PathBuf, io::Error),
    /// The successor ended, or was not ready in time.
    NotReady(&'static str, io::Error),
}

impl fmt::Display for SuccessionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SuccessionError::Start(program, error) => {
                write!(f, "cannot start {}: {error}", program.display())
            }
            SuccessionError::NotReady(what, error) => match error.kind() {
                io::ErrorKind::UnexpectedEof
                | io::ErrorKind::ConnectionReset
                | io::ErrorKind::BrokenPipe => {
                    write!(f, "it ended before it {what}; its own log says why")
                }
                io::ErrorKind::WouldBlock => write!(f, "it took too long before it {what}"),
                _ => write!(f, "before it {what}: {error}"),
            },
        }
    }
}

impl std::error::Error for SuccessionError {}

impl Successor {
    /// Starts this program again with the same arguments, and waits until it has everything except the ring.
    pub fn start(sockets: &Sockets) -> Result<Successor, SuccessionError> {
        let program = program();
        let cannot_start = |error| SuccessionError::Start(program.clone(), error);
        let (ours, theirs) = Channel::pair().map_err(cannot_start)?;
        let mut command = Command::new(&program);
        command
            .args(env::args_os().skip(1))
            .env(VARIABLE, PROTOCOL)
            .stdin(theirs.into_fd());
        if let Some(name) = env::args_os().next() {
            command.arg0(name);
        }
        for variable in OF_ONE_PROCESS {
            command.env_remove(variable);
        }
        let child = command.spawn().map_err(cannot_start)?;
        // The command has a copy of the successor's end of the channel. While the copy is open, the channel
        // does not report that the successor has ended.
        drop(command);
        let successor = Successor {
            child,
            channel: Some(ours),
        };
        successor
            .prepare(sockets)
            .map_err(|error| SuccessionError::NotReady("was ready for the ring", error))?;
        Ok(successor)
    }

    fn prepare(&self, sockets: &Sockets) -> io::Result<()> {
        let channel = self.channel()?;
        channel.set_timeout(Duration::from_millis(HANDOVER_PREPARE_MS))?;
        for passed in &sockets.serving {
            let protocols = passed.protocols.unwrap_or_default().to_bytes();
            channel.send(Kind::Serving, Some(passed.socket.as_fd()), &protocols)?;
        }
        if let Some(socket) = &sockets.admin {
            channel.send(Kind::Admin, Some(socket.as_fd()), &[])?;
        }
        channel.send_kind(Kind::SocketsSent)?;
        channel.expect(Kind::Prepared)
    }

    /// Passes on the ring, which must be unlocked, and waits until the successor serves.
    pub fn give_ring(&self) -> Result<(), SuccessionError> {
        let give = || {
            let channel = self.channel()?;
            channel.set_timeout(Duration::from_millis(HANDOVER_RING_MS))?;
            channel.send_kind(Kind::RingFree)?;
            channel.expect(Kind::Begun)
        };
        give().map_err(|error| SuccessionError::NotReady("served", error))
    }

    /// The successor's process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Makes the sender for connections. From now on the successor runs independently.
    pub fn into_sender(mut self) -> io::Result<HandoverSender> {
        let channel = self.channel.take().ok_or(io::ErrorKind::NotConnected)?;
        channel.set_timeout(Duration::from_millis(HANDOVER_SEND_MS))?;
        Ok(HandoverSender(Mutex::new(Some(channel))))
    }

    fn channel(&self) -> io::Result<&Channel> {
        self.channel
            .as_ref()
            .ok_or(io::ErrorKind::NotConnected.into())
    }
}

impl Drop for Successor {
    fn drop(&mut self) {
        if self.channel.is_some() {
            // Both calls fail if the process has ended already, which does not matter.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

impl HandoverSender {
    /// Passes on a connection, with the bytes of its current request that were read. On an error this
    /// connection is lost, and so are all later ones.
    pub fn give(&self, connection: impl AsFd, bytes: &[u8]) -> io::Result<()> {
        let mut channel = self
            .0
            .lock()
            .expect("a panic under this lock ends the process");
        let open = channel.as_ref().ok_or(io::ErrorKind::NotConnected)?;
        let given = open.send(Kind::Connection, Some(connection.as_fd()), bytes);
        if given.is_err() {
            *channel = None;
        }
        given
    }
}

/// The program to start: the path by which this process was started, so that a link to a new release is
/// followed. Without a directory in that path, the present executable.
fn program() -> PathBuf {
    let name: Option<OsString> = env::args_os().next();
    let by_path = name.map(PathBuf::from).filter(|name| has_directory(name));
    by_path
        .or_else(|| env::current_exe().ok())
        .unwrap_or_else(|| "hookcast".into())
}

fn has_directory(path: &Path) -> bool {
    path.components().count() > 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    /// Otherwise the bytes of the next message would become part of the request that was cut off.
    #[test]
    fn no_message_is_sent_after_one_that_was_cut_off() {
        let (ours, theirs) = Channel::pair().unwrap();
        ours.set_timeout(Duration::from_millis(1)).unwrap();
        let sender = HandoverSender(Mutex::new(Some(ours)));
        let (connection, _peer) = UnixStream::pair().unwrap();
        let bytes = vec![b'x'; crate::limits::HANDOVER_BYTES_MAX];
        // Sends until the channel is full, since the other side does not receive.
        while sender.give(&connection, &bytes).is_ok() {}
        let error = sender.give(&connection, b"y").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotConnected);
        while let Ok(Some(message)) = theirs.receive() {
            assert!(message.bytes.iter().all(|&byte| byte == b'x'));
        }
    }
}
