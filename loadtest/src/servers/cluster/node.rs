//! A node: hookcast on a fixed port, with its ring in the directory of the run.
//!
//! Used by `runs`, which kills it, restarts it and lets it hand over.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;

use crate::servers::cluster::member::{Member, await_that, signal_process};
use crate::servers::process::{answers, free_port};

/// Time for a start or a handover.
const START_PATIENCE: Duration = Duration::from_secs(15);

/// Time for an orderly end.
const END_PATIENCE: Duration = Duration::from_secs(15);

/// What all nodes have in common.
#[derive(Debug, Clone)]
pub struct NodeOptions {
    /// The program.
    pub program: PathBuf,
    /// Where files go.
    pub directory: PathBuf,
    /// Threads that serve streams.
    pub shards: usize,
    /// More arguments.
    pub arguments: Vec<String>,
}

/// See the module.
pub struct Node {
    options: NodeOptions,
    number: usize,
    /// Where it serves.
    pub address: SocketAddr,
    /// Its `--bus`, if it has one.
    bus: Option<String>,
    member: Option<Member>,
}

impl Node {
    /// Starts node `number`.
    pub fn start(
        options: &NodeOptions,
        number: usize,
        bus: Option<String>,
    ) -> Result<Node, String> {
        let mut node = Node {
            options: options.clone(),
            number,
            address: free_port()?,
            bus,
            member: None,
        };
        node.restart()?;
        Ok(node)
    }

    /// Starts it on the same port with the same ring.
    pub fn restart(&mut self) -> Result<(), String> {
        let directory = &self.options.directory;
        let mut command = Command::new(&self.options.program);
        command
            .env_clear()
            .current_dir(directory)
            .args(["--listen", &self.address.to_string()])
            .args(["--admin", "127.0.0.1:0", "--log-format", "json"])
            .arg("--ring")
            .arg(directory.join(format!("{}.ring", self.number)))
            .args(["--shards", &self.options.shards.to_string()])
            .args(["--drain", "1s"])
            .args(&self.options.arguments);
        if let Some(bus) = &self.bus {
            command.args(["--bus", bus]);
        }
        let log = directory.join(format!("node-{}.log", self.number));
        let member = Member::start(command, &log, false)?;
        let mut has_ended = false;
        let is_up = await_that(START_PATIENCE, || {
            has_ended = member.pids().is_empty();
            has_ended || answers(&self.address)
        });
        if has_ended || !is_up {
            let what = if has_ended {
                "ended at once"
            } else {
                "does not answer"
            };
            return Err(member.complaint(&format!("node {} {what}:", self.number)));
        }
        self.member = Some(member);
        Ok(())
    }

    /// Kills it (SIGKILL).
    pub fn kill(&mut self) {
        self.member = None;
    }

    /// Ends it in order (SIGTERM). An error if it does not end.
    pub fn terminate(&mut self) -> Result<(), String> {
        let Some(member) = self.member.take() else {
            return Ok(());
        };
        member.signal(Signal::TERM);
        if member.await_end(END_PATIENCE) {
            return Ok(());
        }
        Err(member.complaint(&format!("node {} did not end after SIGTERM", self.number)))
    }

    /// Lets it hand over to a new process (SIGUSR2), and waits for the old one's end.
    pub fn hand_over(&mut self) -> Result<(), String> {
        let Some(member) = &self.member else {
            return Err(format!("node {} does not run", self.number));
        };
        let before = member.pids();
        let Some(&old) = before.last() else {
            return Err(member.complaint(&format!("node {} has ended", self.number)));
        };
        signal_process(old, Signal::USR2);
        let has_changed = await_that(START_PATIENCE, || {
            let pids = member.pids();
            !pids.is_empty() && !pids.contains(&old)
        });
        if has_changed {
            return Ok(());
        }
        Err(member.complaint(&format!("node {} did not hand over", self.number)))
    }

    /// Its process ids.
    pub fn pids(&self) -> Vec<u32> {
        self.member.as_ref().map_or_else(Vec::new, Member::pids)
    }
}
