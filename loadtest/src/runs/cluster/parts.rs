//! The parts of a cluster, and the faults that are injected into them.
//!
//! Used by `cluster`.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::engine::clock::now_ns;
use crate::scenarios::faults::Fault;
use crate::servers::cluster::forwarder::{Forwarder, Mode};
use crate::servers::cluster::node::{Node, NodeOptions};
use crate::servers::cluster::redis::{Persistence, Redis};

/// The name of the bus in the engine.
const NAME: &str = "load";

/// Time for which bytes vanish or are held back.
const NETWORK_FAULT: Duration = Duration::from_millis(500);

/// Interval at which a signal is looked for.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);

/// What to start.
pub struct PartsPlan<'a> {
    pub nodes: usize,
    pub node: NodeOptions,
    pub directory: &'a Path,
    /// `None`: nodes without a bus.
    pub engine: Option<Persistence>,
    pub has_replica: bool,
    /// Forwarders between nodes and engine: for faults of the network and promotions.
    pub has_forwarders: bool,
}

/// See the module. Nodes end before the engine.
#[derive(Default)]
pub struct Parts {
    pub nodes: Vec<Node>,
    forwarders: Vec<Forwarder>,
    replica_link: Option<Forwarder>,
    replica: Option<Redis>,
    pub engine: Option<Redis>,
}

impl Parts {
    pub fn start(plan: &PartsPlan<'_>) -> Result<Parts, String> {
        let engine = plan
            .engine
            .map(|persistence| Redis::start(plan.directory, "engine", persistence, None))
            .transpose()?;
        let mut parts = Parts {
            nodes: Vec::new(),
            forwarders: Vec::new(),
            replica_link: None,
            replica: None,
            engine,
        };
        parts.start_replica(plan)?;
        for number in 0..plan.nodes {
            let bus = parts.bus(plan.has_forwarders)?;
            parts.nodes.push(Node::start(&plan.node, number, bus)?);
        }
        Ok(parts)
    }

    fn start_replica(&mut self, plan: &PartsPlan<'_>) -> Result<(), String> {
        let (Some(engine), Some(persistence), true) = (&self.engine, plan.engine, plan.has_replica)
        else {
            return Ok(());
        };
        let link = Forwarder::start(engine.address)?;
        let replica = Redis::start(plan.directory, "replica", persistence, Some(link.address))?;
        replica.await_copy()?;
        self.replica_link = Some(link);
        self.replica = Some(replica);
        Ok(())
    }

    /// The next node's `--bus`.
    fn bus(&mut self, has_forwarders: bool) -> Result<Option<String>, String> {
        let Some(engine) = &self.engine else {
            return Ok(None);
        };
        let mut address = engine.address;
        if has_forwarders {
            let forwarder = Forwarder::start(engine.address)?;
            address = forwarder.address;
            self.forwarders.push(forwarder);
        }
        Ok(Some(format!("redis://{address}/{NAME}")))
    }

    /// Injects a fault, and returns the time at which what it stopped was back.
    pub fn inject(
        &mut self,
        fault: Fault,
        node: usize,
        interrupted: &AtomicBool,
    ) -> Result<u64, String> {
        match fault {
            Fault::KillNode => {
                self.nodes[node].kill();
                self.nodes[node].restart()?;
            }
            Fault::EndNode => {
                self.nodes[node].terminate()?;
                self.nodes[node].restart()?;
            }
            Fault::HandOver => self.nodes[node].hand_over()?,
            Fault::KillEngine => {
                let engine = self.engine()?;
                engine.kill();
                engine.restart()?;
            }
            Fault::StopEngine(time) => self.stop_engine(time, interrupted)?,
            Fault::FlushAll => self.command(&["FLUSHALL"])?,
            Fault::DeleteLog => self.command(&["DEL", &format!("{{{NAME}}}:s")])?,
            Fault::DeleteRecord => self.command(&["DEL", &format!("{{{NAME}}}:m")])?,
            Fault::Promote => return self.promote(false, interrupted),
            Fault::PromoteWithLoss => return self.promote(true, interrupted),
            Fault::Cut => self.disturb(node, Mode::Pass, true, interrupted)?,
            Fault::CutRequests => self.disturb(node, Mode::SwallowRequests, true, interrupted)?,
            Fault::CutAnswers => self.disturb(node, Mode::SwallowAnswers, true, interrupted)?,
            Fault::HalveAnswer => self.disturb(node, Mode::HalveAnswer, false, interrupted)?,
            Fault::DelayRequest => self.disturb(node, Mode::DelayRequest, false, interrupted)?,
        }
        Ok(now_ns())
    }

    fn engine(&mut self) -> Result<&mut Redis, String> {
        self.engine
            .as_mut()
            .ok_or_else(|| "there is no engine".into())
    }

    fn command(&mut self, words: &[&str]) -> Result<(), String> {
        self.engine()?.command(words).map(|_| ())
    }

    fn stop_engine(&mut self, time: Duration, interrupted: &AtomicBool) -> Result<(), String> {
        let member = self.engine()?.member().ok_or("the engine does not run")?;
        member.signal(Signal::STOP);
        sleep(time, interrupted);
        member.signal(Signal::CONT);
        Ok(())
    }

    /// Replaces the engine by its replica. The old one comes back as the replica of the new one.
    fn promote(&mut self, with_loss: bool, interrupted: &AtomicBool) -> Result<u64, String> {
        let (Some(link), Some(mut replica), Some(mut old)) =
            (&self.replica_link, self.replica.take(), self.engine.take())
        else {
            return Err("there is no replica".into());
        };
        replica.await_copy()?;
        if with_loss {
            link.set(Mode::SwallowAnswers);
            sleep(NETWORK_FAULT, interrupted);
        }
        old.kill();
        link.heal();
        replica.promote()?;
        for forwarder in &self.forwarders {
            forwarder.switch(replica.address);
        }
        let back_ns = now_ns();
        link.switch(replica.address);
        old.follow(link.address);
        old.restart()?;
        self.engine = Some(replica);
        self.replica = Some(old);
        Ok(back_ns)
    }

    fn disturb(
        &mut self,
        node: usize,
        mode: Mode,
        cuts: bool,
        interrupted: &AtomicBool,
    ) -> Result<(), String> {
        let forwarder = self.forwarders.get(node).ok_or("there is no forwarder")?;
        if mode != Mode::Pass {
            forwarder.set(mode);
            sleep(NETWORK_FAULT, interrupted);
        }
        if cuts {
            forwarder.heal();
        } else {
            forwarder.set(Mode::Pass);
        }
        Ok(())
    }
}

/// Sleeps, unless a signal ends the run.
pub fn sleep(time: Duration, interrupted: &AtomicBool) {
    let deadline = Instant::now() + time;
    while Instant::now() < deadline && !interrupted.load(Relaxed) {
        let left = deadline.saturating_duration_since(Instant::now());
        thread::sleep(left.min(LOOK_INTERVAL));
    }
}
