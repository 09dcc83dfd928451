//! An engine: Debian's `redis-server` on a free port, with its files in a directory of the run.
//!
//! Used by `runs`. Speaks as much of the protocol (RESP) as faults need.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::servers::cluster::member::{Member, await_that};
use crate::servers::process::free_port;

/// The program.
const PROGRAM: &str = "redis-server";

/// The message without it.
pub const MISSING: &str = "redis-server is not installed: apt-get install redis-server";

/// Time for a command.
const COMMAND_PATIENCE: Duration = Duration::from_secs(5);

/// Time for a start with its log of commands, and for a replica's copy.
const START_PATIENCE: Duration = Duration::from_secs(30);

/// When the engine syncs its log of commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Persistence {
    /// Once a second.
    Everysec,
    /// After each write.
    Always,
    /// It has none: a restart loses everything.
    No,
}

/// See the module.
pub struct Redis {
    /// Where it listens.
    pub address: SocketAddr,
    directory: PathBuf,
    persistence: Persistence,
    /// Where its primary listens, if it is a replica.
    primary: Option<SocketAddr>,
    member: Option<Member>,
}

/// Whether the program is installed.
pub fn is_installed() -> bool {
    Command::new(PROGRAM)
        .arg("--version")
        .output()
        .is_ok_and(|output| output.status.success())
}

impl Redis {
    /// Starts an engine in a new directory.
    pub fn start(
        directory: &Path,
        name: &str,
        persistence: Persistence,
        primary: Option<SocketAddr>,
    ) -> Result<Redis, String> {
        let directory = directory.join(name);
        std::fs::create_dir(&directory)
            .map_err(|error| format!("{}: {error}", directory.display()))?;
        let mut redis = Redis {
            address: free_port()?,
            directory,
            persistence,
            primary,
            member: None,
        };
        redis.restart()?;
        Ok(redis)
    }

    /// Starts it again on the same port with the same files.
    pub fn restart(&mut self) -> Result<(), String> {
        let append = self.persistence != Persistence::No;
        let sync = match self.persistence {
            Persistence::Always => "always",
            Persistence::Everysec => "everysec",
            Persistence::No => "no",
        };
        let mut command = Command::new(PROGRAM);
        command
            .args(["--port", &self.address.port().to_string()])
            .args(["--bind", "127.0.0.1", "--save", "", "--daemonize", "no"])
            .args(["--appendonly", if append { "yes" } else { "no" }])
            .args(["--appendfsync", sync, "--maxmemory-policy", "noeviction"])
            .args(["--repl-diskless-sync-delay", "0"])
            .arg("--dir")
            .arg(&self.directory)
            .arg("--logfile")
            .arg(self.directory.join("redis.log"));
        if let Some(primary) = self.primary {
            command.args(["--replicaof", "127.0.0.1", &primary.port().to_string()]);
        }
        let log = self.directory.with_extension("log");
        let member = Member::start(command, &log, false)?;
        let is_up = await_that(START_PATIENCE, || {
            self.command(&["PING"]).is_ok_and(|answer| answer == "PONG")
        });
        if !is_up {
            return Err(member.complaint("redis-server is not ready"));
        }
        self.member = Some(member);
        Ok(())
    }

    /// Kills it (SIGKILL).
    pub fn kill(&mut self) {
        self.member = None;
    }

    /// Its process.
    pub fn member(&self) -> Option<&Member> {
        self.member.as_ref()
    }

    /// Its role after the next restart: a replica of this engine.
    pub fn follow(&mut self, primary: SocketAddr) {
        self.primary = Some(primary);
    }

    /// Makes a replica a primary.
    pub fn promote(&mut self) -> Result<(), String> {
        self.primary = None;
        self.command(&["REPLICAOF", "NO", "ONE"]).map(|_| ())
    }

    /// Waits until a replica has everything of its primary.
    pub fn await_copy(&self) -> Result<(), String> {
        let is_linked = await_that(START_PATIENCE, || {
            let info = self.command(&["INFO", "replication"]);
            info.is_ok_and(|info| info.contains("master_link_status:up"))
        });
        if is_linked {
            Ok(())
        } else {
            Err("the replica does not get its primary's copy".into())
        }
    }

    /// Runs a command and returns its answer, if that is a text or a number.
    pub fn command(&self, words: &[&str]) -> Result<String, String> {
        let run = || -> std::io::Result<String> {
            let mut connection = TcpStream::connect_timeout(&self.address, COMMAND_PATIENCE)?;
            connection.set_read_timeout(Some(COMMAND_PATIENCE))?;
            let word = |word: &&str| format!("${}\r\n{word}\r\n", word.len());
            let words: String = std::iter::once(format!("*{}\r\n", words.len()))
                .chain(words.iter().map(word))
                .collect();
            connection.write_all(words.as_bytes())?;
            let mut reader = BufReader::new(connection);
            let mut line = String::new();
            reader.read_line(&mut line)?;
            let line = line.trim_end();
            let (kind, rest) = line.split_at(line.len().min(1));
            match kind {
                "$" => {
                    let length: usize = rest.parse().map_err(std::io::Error::other)?;
                    let mut text = vec![0; length];
                    reader.read_exact(&mut text)?;
                    Ok(String::from_utf8_lossy(&text).into_owned())
                }
                "+" | ":" => Ok(rest.to_owned()),
                _ => Err(std::io::Error::other(rest.to_owned())),
            }
        };
        run().map_err(|error| format!("redis {}: {error}", words.join(" ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::servers::cluster::forwarder::{Forwarder, Mode};
    use crate::servers::process::directory;

    /// `tests/run` installs the tools and sets `REQUIRE_TOOLS`; without it a missing one skips its tests.
    fn is_skipped() -> bool {
        if is_installed() {
            return false;
        }
        assert!(std::env::var_os("REQUIRE_TOOLS").is_none(), "{MISSING}");
        eprintln!("skipped: {MISSING}");
        true
    }

    #[test]
    fn a_killed_engine_comes_back_with_what_its_persistence_keeps() {
        if is_skipped() {
            return;
        }
        let files = directory().unwrap();
        for (name, persistence, kept) in [
            ("always", Persistence::Always, Ok("1".to_owned())),
            ("no", Persistence::No, Ok(String::new())),
        ] {
            let mut redis = Redis::start(files.path(), name, persistence, None).unwrap();
            redis.command(&["SET", "key", "1"]).unwrap();
            redis.kill();
            assert!(redis.command(&["PING"]).is_err());
            redis.restart().unwrap();
            assert_eq!(redis.command(&["GETRANGE", "key", "0", "-1"]), kept);
        }
    }

    #[test]
    fn a_replica_takes_over_and_lacks_what_its_link_has_swallowed() {
        if is_skipped() {
            return;
        }
        let files = directory().unwrap();
        let mut primary = Redis::start(files.path(), "a", Persistence::No, None).unwrap();
        let link = Forwarder::start(primary.address).unwrap();
        let mut replica =
            Redis::start(files.path(), "b", Persistence::No, Some(link.address)).unwrap();
        replica.await_copy().unwrap();
        primary.command(&["SET", "first", "1"]).unwrap();
        let first = || replica.command(&["EXISTS", "first"]);
        assert!(await_that(START_PATIENCE, || first() == Ok("1".into())));
        link.set(Mode::SwallowAnswers);
        primary.command(&["SET", "second", "2"]).unwrap();
        primary.kill();
        link.heal();
        replica.promote().unwrap();
        assert_eq!(replica.command(&["GET", "first"]), Ok("1".into()));
        assert_eq!(replica.command(&["EXISTS", "second"]), Ok("0".into()));
        // The old primary comes back as a replica.
        link.switch(replica.address);
        primary.follow(link.address);
        primary.restart().unwrap();
        primary.await_copy().unwrap();
    }
}
