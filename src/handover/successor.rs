//! The successor as its predecessor sees it: a process that is started, given things, and ended if it
//! fails.
//!
//! Called by `control`, whose thread it blocks for bounded times, and by the shards, which give away
//! their connections. Never opens or closes the ring.

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

/// Variables that a service manager has meant for one process alone (`sd_listen_fds(3)`,
/// `sd_watchdog_enabled(3)`).
const OF_ONE_PROCESS: [&str; 4] = ["LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "WATCHDOG_PID"];

/// A process that is to take over. Ended when it is dropped before it has.
#[derive(Debug)]
pub struct Successor {
    child: Child,
    channel: Option<Channel>,
}

/// Where connections of a server go that has a successor.
///
/// There is no channel any more once it has failed: what is left of a message in it would be taken
/// for the beginning of the next.
#[derive(Debug)]
pub struct HandoverSender(Mutex<Option<Channel>>);

/// Why there is no successor.
#[derive(Debug)]
pub enum SuccessionError {
    /// The program could not be started.
    Start(PathBuf, io::Error),
    /// It ended, or did not say in time that it was ready.
    NotReady(&'static str, io::Error),
}

impl fmt::Display for SuccessionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SuccessionError::Start(program, error) => {
                write!(f, "cannot start {}: {error}", program.display())
            }
            SuccessionError::NotReady(what, error) => match error.kind() {
                io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => {
                    write!(f, "it ended before it {what}; its own message says why")
                }
                io::ErrorKind::WouldBlock => write!(f, "it took too long before it {what}"),
                _ => write!(f, "before it {what}: {error}"),
            },
        }
    }
}

impl std::error::Error for SuccessionError {}

impl Successor {
    /// Starts this program anew, with the same arguments, and waits until it has everything but the
    /// ring.
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
        // The command holds the other end; while it does, the successor's end would go unnoticed.
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
        channel.set_patience(Duration::from_millis(HANDOVER_PREPARE_MS))?;
        for passed in &sockets.serving {
            let protocols = passed.protocols.unwrap_or_default().to_bytes();
            channel.send(Kind::Serving, Some(passed.socket.as_fd()), &protocols)?;
        }
        if let Some(socket) = &sockets.admin {
            channel.send(Kind::Admin, Some(socket.as_fd()), &[])?;
        }
        channel.say(Kind::SocketsSent)?;
        channel.expect(Kind::Prepared)
    }

    /// Gives it the ring, which must be unlocked, and waits until it serves.
    pub fn give_ring(&self) -> Result<(), SuccessionError> {
        let give = || {
            let channel = self.channel()?;
            channel.set_patience(Duration::from_millis(HANDOVER_RING_MS))?;
            channel.say(Kind::RingFree)?;
            channel.expect(Kind::Begun)
        };
        give().map_err(|error| SuccessionError::NotReady("served", error))
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// It serves: from now on it lives without us.
    pub fn into_sender(mut self) -> io::Result<HandoverSender> {
        let channel = self.channel.take().ok_or(io::ErrorKind::NotConnected)?;
        channel.set_patience(Duration::from_millis(HANDOVER_SEND_MS))?;
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
            // It may have ended; then neither call has anything to do.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

impl HandoverSender {
    /// Gives a connection away, with the bytes of its current request that were read. On an error it
    /// is lost, and so are those that follow.
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

/// What to start: the path that this process was started by, so that a link that leads to another
/// release now is followed, or where the shell found it.
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

    /// The next connection's bytes would become part of the request that was cut off.
    #[test]
    fn a_message_that_was_cut_off_is_the_last() {
        let (ours, theirs) = Channel::pair().unwrap();
        ours.set_patience(Duration::from_millis(1)).unwrap();
        let heir = HandoverSender(Mutex::new(Some(ours)));
        let (connection, _peer) = UnixStream::pair().unwrap();
        let bytes = vec![b'x'; crate::limits::HANDOVER_BYTES_MAX];
        // More than the channel holds, and nobody receives.
        while heir.give(&connection, &bytes).is_ok() {}
        let error = heir.give(&connection, b"y").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotConnected);
        while let Ok(Some(message)) = theirs.receive() {
            assert!(message.bytes.iter().all(|&byte| byte == b'x'));
        }
    }
}
