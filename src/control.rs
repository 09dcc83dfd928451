//! What signals do: SIGTERM and SIGINT drain, a second one ends at once, SIGUSR2 hands over to a
//! successor, SIGHUP loads the certificate anew.
//!
//! Started by `server` as a thread that waits for signals and for news of a successor. Decides, and
//! tells the shards, the hub and the service manager; never touches a connection.

use std::io;
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR2};
use signal_hook::iterator::Signals;

use crate::admin::Admin;
use crate::handover::successor::{SuccessionError, Successor};
use crate::hub::{Committer, Hub};
use crate::inherit::Sockets;
use crate::lifecycle::Lifecycle;
use crate::limits::{HANDOVER_RING_MS, LOG_FLUSH_MS, RING_RETRY_MS};
use crate::net::handle::ShardHandle;
use crate::ring::{Recovered, Ring, RingError};
use crate::service;
use crate::tls::Tls;

/// Opens the ring at its path, as the start of the server did.
pub type OpenRing = Box<dyn Fn() -> Result<(Ring, Recovered), RingError> + Send>;

/// See [`Control::start_commits`].
pub type StartCommits = Box<dyn Fn(Committer) -> io::Result<()> + Send>;

/// All that is under control.
pub struct Control {
    /// The shards.
    pub shards: Vec<ShardHandle>,
    /// The hub.
    pub hub: Arc<Hub>,
    /// Opens its ring, should that come back from a successor.
    pub open_ring: OpenRing,
    /// Gives a committer a thread, where messages wait for the disk.
    pub start_commits: StartCommits,
    /// The admin address.
    pub admin: Admin,
    /// The certificate, where TLS is spoken.
    pub tls: Option<Arc<Tls>>,
    /// Told when the server is about to end: it is not ready any more.
    pub lifecycle: Arc<Lifecycle>,
    /// Set to when that began.
    pub drain_began: Arc<OnceLock<Instant>>,
}

enum Event {
    Terminate,
    HandOver,
    Reload,
    /// A successor has all but the ring, or there is none.
    Prepared(Result<Successor, SuccessionError>),
}

/// How far the server is from its end.
#[derive(PartialEq, Eq)]
enum Stage {
    Serving,
    /// A successor has been started.
    Preparing,
    Draining,
    /// The successor serves; a signal that was meant for the service comes too late here.
    HandedOver,
}

impl Control {
    /// Waits for signals on threads of its own. `sockets` are for a successor; they are let go of
    /// when there can be none any more.
    pub fn start(self, sockets: Sockets) -> io::Result<()> {
        let mut signals = Signals::new([SIGTERM, SIGINT, SIGUSR2])?;
        if self.tls.is_some() {
            signals.add_signal(SIGHUP)?;
        }
        let (event_sender, events) = bounded(8);
        let from_signals = event_sender.clone();
        let listen = move || {
            for signal in &mut signals {
                let event = match signal {
                    SIGUSR2 => Event::HandOver,
                    SIGHUP => Event::Reload,
                    _ => Event::Terminate,
                };
                // The receiver is gone only when the process ends anyway.
                let _ = from_signals.send(event);
            }
        };
        thread::Builder::new()
            .name("signals".into())
            .spawn(listen)?;
        thread::Builder::new()
            .name("control".into())
            .spawn(move || self.run(sockets, &events, &event_sender))?;
        Ok(())
    }

    fn run(self, sockets: Sockets, events: &Receiver<Event>, sender: &Sender<Event>) {
        let mut sockets = Some(sockets);
        let mut stage = Stage::Serving;
        for event in events {
            match (event, &stage) {
                (Event::Terminate, Stage::Serving | Stage::Preparing) => {
                    tracing::info!(
                        "draining: streams end one by one; a second signal ends at once"
                    );
                    service::stopping();
                    self.begin_drain();
                    sockets = None;
                    self.shards.iter().for_each(ShardHandle::drain);
                    stage = Stage::Draining;
                }
                (Event::Terminate, Stage::HandedOver) => {
                    tracing::info!("draining already; a second signal ends at once");
                    stage = Stage::Draining;
                }
                (Event::Terminate, Stage::Draining) => {
                    tracing::warn!("second signal: ending at once");
                    std::process::exit(0);
                }
                (Event::Reload, _) => self.tls.iter().for_each(|tls| reload(tls)),
                (Event::HandOver, Stage::Serving) => {
                    stage = match prepare(sockets.as_ref(), sender) {
                        Ok(()) => Stage::Preparing,
                        Err(error) => {
                            tracing::error!(%error, "cannot hand over; serving on");
                            Stage::Serving
                        }
                    };
                }
                (Event::HandOver, _) => {
                    tracing::warn!("asked to hand over once more, which has begun or is too late");
                }
                (Event::Prepared(successor), Stage::Preparing) => {
                    stage = match successor.and_then(|successor| self.hand_over(successor)) {
                        Ok(()) => {
                            sockets = None;
                            Stage::HandedOver
                        }
                        Err(error) => {
                            tracing::error!(%error, "the successor failed; serving on");
                            service::reload_failed(&error.to_string());
                            Stage::Serving
                        }
                    };
                }
                // It comes too late, and is ended by being dropped.
                (Event::Prepared(_), _) => {}
            }
        }
    }

    fn begin_drain(&self) {
        self.lifecycle.start_drain();
        self.drain_began.get_or_init(Instant::now);
    }

    /// Gives the ring to the successor, and if it serves then, the connections; else all is as it
    /// was before.
    fn hand_over(&self, successor: Successor) -> Result<(), SuccessionError> {
        let began = Instant::now();
        if let Err(error) = self.hold_and_release() {
            self.shards.iter().for_each(ShardHandle::resume);
            return Err(SuccessionError::NotReady("was given the ring", error));
        }
        if let Err(error) = successor.give_ring() {
            // It is ended before the ring is taken back.
            drop(successor);
            self.take_ring_back();
            self.shards.iter().for_each(ShardHandle::resume);
            return Err(error);
        }
        let pid = successor.pid();
        service::handed_over(pid);
        let paused_ms = began.elapsed().as_millis() as u64;
        tracing::info!(
            pid,
            paused_ms,
            "handed over: the successor serves, the streams of this process end one by one"
        );
        self.begin_drain();
        self.admin.stop();
        match successor.into_sender() {
            Ok(handover_sender) => {
                let handover_sender = Arc::new(handover_sender);
                for shard in &self.shards {
                    shard.hand_over(Arc::clone(&handover_sender));
                }
            }
            Err(error) => {
                tracing::error!(%error, "connections between two requests are closed");
                self.shards.iter().for_each(ShardHandle::drain);
            }
        }
        Ok(())
    }

    /// Waits until no shard needs the ring, then closes and unlocks it.
    fn hold_and_release(&self) -> io::Result<()> {
        let (held, all_held) = bounded(self.shards.len());
        for shard in &self.shards {
            shard.hold(held.clone());
        }
        let deadline = Instant::now() + Duration::from_millis(HANDOVER_RING_MS);
        for _ in &self.shards {
            all_held
                .recv_deadline(deadline)
                .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?;
        }
        self.hub.release(deadline)
    }

    /// Without a ring there is nothing to serve from: after some patience the process ends, and
    /// whoever watches it starts it anew.
    fn take_ring_back(&self) {
        let deadline = Instant::now() + Duration::from_millis(HANDOVER_RING_MS);
        loop {
            match (self.open_ring)() {
                Ok((ring, recovered)) if self.hub.can_take_back(&ring, &recovered.messages) => {
                    let committer = self.hub.take_back(ring, recovered.messages);
                    return match committer.map_or(Ok(()), &self.start_commits) {
                        Ok(()) => {}
                        Err(error) => end(&format!("there is no thread for commits: {error}")),
                    };
                }
                Ok(_) => end("it is another one now, or more has come than it holds"),
                Err(error) if Instant::now() >= deadline => end(&error.to_string()),
                // What kept the successor from it may pass.
                Err(_) => thread::sleep(Duration::from_millis(RING_RETRY_MS)),
            }
        }
    }
}

fn reload(tls: &Tls) {
    match tls.reload() {
        Ok(()) => {
            for warning in tls.warnings() {
                tracing::warn!("{warning}");
            }
            tracing::info!("new connections get the new certificate");
        }
        Err(error) => tracing::error!(%error, "the certificate stays the one it was"),
    }
}

/// Starts a successor on a thread of its own, since that may take its time.
fn prepare(sockets: Option<&Sockets>, sender: &Sender<Event>) -> io::Result<()> {
    let sockets = sockets.ok_or(io::ErrorKind::NotConnected)?.try_clone()?;
    let sender = sender.clone();
    tracing::info!("handing over: starting the successor");
    service::reloading();
    let prepare = move || {
        let _ = sender.send(Event::Prepared(Successor::start(&sockets)));
    };
    thread::Builder::new()
        .name("successor".into())
        .spawn(prepare)
        .map(drop)
}

fn end(why: &str) -> ! {
    let reason = format!("cannot take the ring back: {why}");
    tracing::error!("{reason}");
    service::failed(&reason);
    // The log has a thread of its own.
    thread::sleep(Duration::from_millis(LOG_FLUSH_MS));
    std::process::exit(1);
}
