//! Acts on signals: SIGTERM and SIGINT drain, a second one ends the process at once, SIGUSR2 hands over to a
//! successor, SIGHUP reloads the certificate, the keys of tokens and the sources.
//!
//! Started by `server` as a thread that waits for signals and for the result of starting a successor. It
//! sends commands to the shards, calls the hub, and notifies the service manager. Never touches a
//! connection.

use std::io;
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR2};
use signal_hook::iterator::Signals;

use crate::admin::Admin;
use crate::handover::successor::{SuccessionError, Successor};
use crate::hub::{Hub, RingThread};
use crate::inherit::Sockets;
use crate::lifecycle::Lifecycle;
use crate::limits::{HANDOVER_RING_MS, LOG_FLUSH_MS, RING_RETRY_MS};
use crate::message::Message;
use crate::net::handle::ShardHandle;
use crate::ring::{Recovered, Ring, RingError};
use crate::service;
use crate::tls::Tls;

/// Opens the ring at its path, as the start of the server did.
pub type OpenRing = Box<dyn Fn() -> Result<(Ring, Recovered), RingError> + Send>;

/// Runs the owner of the ring on threads.
pub type StartRingThread = Box<dyn Fn(RingThread) -> io::Result<()> + Send>;

/// Reads the file of sources again, and returns their number once they are in use.
pub type ReloadSources = Box<dyn Fn() -> Result<usize, String> + Send>;

/// Reads the files of the keys of tokens again, gives the keys to the shards, and returns their number.
pub type ReloadTokenKeys = Box<dyn Fn() -> Result<usize, String> + Send>;

/// The parts of the server that signals act on.
pub struct Control {
    /// The shards.
    pub shards: Vec<ShardHandle>,
    /// The hub.
    pub hub: Arc<Hub>,
    /// Opens the ring again if a handover fails.
    pub open_ring: OpenRing,
    /// Runs the ring's owner again if a handover fails; used with `--durability disk` and with a bus.
    pub start_ring_thread: StartRingThread,
    /// The admin address.
    pub admin: Admin,
    /// The certificate, if there is a TLS listener.
    pub tls: Option<Arc<Tls>>,
    /// Reloads the sources, if there is a file of them.
    pub reload_sources: Option<ReloadSources>,
    /// Reloads the keys of tokens, if there are files of them.
    pub reload_token_keys: Option<ReloadTokenKeys>,
    /// The stage of the process, which a drain changes.
    pub lifecycle: Arc<Lifecycle>,
    /// The start of the drain.
    pub drain_began: Arc<OnceLock<Instant>>,
}

enum Event {
    Terminate,
    HandOver,
    Reload,
    /// A successor is ready except for the ring, or it has failed.
    Prepared(Result<Successor, SuccessionError>),
}

/// The state of the server's end.
#[derive(PartialEq, Eq)]
enum Stage {
    Serving,
    /// A successor is being started.
    Preparing,
    Draining,
    /// The successor serves, and this process drains.
    HandedOver,
}

/// The SIGHUPs of the start, for [`Control::start`]. Several become one reload.
pub struct KeptReloads(Signals);

impl KeptReloads {
    /// Keeps SIGHUP if anything can be reloaded. Called before the server reads its files: a reload that is
    /// requested during the start follows it, instead of ending the process.
    pub fn begin(can_reload: bool) -> io::Result<KeptReloads> {
        Signals::new(can_reload.then_some(SIGHUP)).map(KeptReloads)
    }
}

impl Control {
    /// Acts on the kept reloads, then on all signals, on threads of its own. `sockets` are for a successor. They
    /// are closed when no further handover is possible.
    pub fn start(self, kept: KeptReloads, sockets: Sockets) -> io::Result<()> {
        let KeptReloads(mut signals) = kept;
        for signal in [SIGTERM, SIGINT, SIGUSR2] {
            signals.add_signal(signal)?;
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
                // The receiver is gone only when the process ends.
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
                        "draining: streams end one by one; a second signal ends the process at once"
                    );
                    service::stopping();
                    self.begin_drain();
                    sockets = None;
                    self.shards.iter().for_each(ShardHandle::drain);
                    stage = Stage::Draining;
                }
                (Event::Terminate, Stage::HandedOver) => {
                    tracing::info!("draining already; a second signal ends the process at once");
                    stage = Stage::Draining;
                }
                (Event::Terminate, Stage::Draining) => {
                    tracing::warn!("second signal: the process ends at once");
                    std::process::exit(0);
                }
                (Event::Reload, stage) => self.reload(*stage == Stage::Serving),
                (Event::HandOver, Stage::Serving) => {
                    stage = match prepare(sockets.as_ref(), sender) {
                        Ok(()) => Stage::Preparing,
                        Err(error) => {
                            tracing::error!(%error, "cannot hand over; continuing to serve");
                            service::reload_failed(&error.to_string());
                            Stage::Serving
                        }
                    };
                }
                (Event::HandOver, _) => {
                    tracing::warn!("SIGUSR2 ignored: a handover or a drain is in progress");
                }
                (Event::Prepared(successor), Stage::Preparing) => {
                    stage = match successor.and_then(|successor| self.hand_over(successor)) {
                        Ok(()) => {
                            sockets = None;
                            Stage::HandedOver
                        }
                        Err(error) => {
                            tracing::error!(%error, "the successor failed; continuing to serve");
                            service::reload_failed(&error.to_string());
                            Stage::Serving
                        }
                    };
                }
                // The drain has begun in the meantime. Dropping the successor ends its process.
                (Event::Prepared(_), _) => {}
            }
        }
    }

    /// Reads the certificate, the keys of tokens and the file of sources again, each whether or not another
    /// has a fault. The service manager is notified unless it is
    /// waiting for a handover or for the end.
    fn reload(&self, notifies: bool) {
        if notifies {
            service::reloading();
        }
        let certificate = self.tls.as_deref().map_or(Ok(()), reload_certificate);
        let token_keys = self.reload_token_keys.as_ref();
        let token_keys = token_keys.map_or(Ok(()), reload_token_keys);
        let sources = self.reload_sources.as_ref().map_or(Ok(()), reload_sources);
        match certificate.and(token_keys).and(sources) {
            Ok(()) if notifies => service::reloaded(),
            Err(error) if notifies => service::reload_failed(&error),
            _ => {}
        }
    }

    fn begin_drain(&self) {
        self.lifecycle.start_drain();
        self.drain_began.get_or_init(Instant::now);
    }

    /// Passes the ring to the successor, and the connections after it has begun to serve. On an error this
    /// process continues to serve.
    fn hand_over(&self, successor: Successor) -> Result<(), SuccessionError> {
        let began = Instant::now();
        if let Err(error) = self.hold_and_release() {
            self.shards.iter().for_each(ShardHandle::resume);
            return Err(SuccessionError::NotReady("was given the ring", error));
        }
        if let Err(error) = successor.give_ring() {
            // The successor's process is ended before the ring is taken back.
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
                tracing::error!(%error, "no connection is passed on; idle ones are closed");
                self.shards.iter().for_each(ShardHandle::drain);
            }
        }
        Ok(())
    }

    /// Waits until no shard uses the ring, then closes and unlocks it.
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

    /// Opens the ring again and continues with it. Retries until a deadline. Then the process ends, since it
    /// cannot serve without a ring; the service manager restarts it.
    fn take_ring_back(&self) {
        let deadline = Instant::now() + Duration::from_millis(HANDOVER_RING_MS);
        loop {
            match (self.open_ring)() {
                Ok((ring, recovered)) if self.hub.can_take_back(&ring, &recovered.messages) => {
                    return self.continue_with(ring, recovered.messages);
                }
                Ok(_) => {
                    end("it is another ring now, or has lost messages that streams have yet to get")
                }
                Err(error) if Instant::now() >= deadline => end(&error.to_string()),
                // The cause may be the same as the successor's, and may pass.
                Err(_) => thread::sleep(Duration::from_millis(RING_RETRY_MS)),
            }
        }
    }

    fn continue_with(&self, ring: Ring, history: Vec<(u64, Message)>) {
        let deadline = Instant::now() + Duration::from_millis(HANDOVER_RING_MS);
        match self.hub.take_back(ring, history, deadline) {
            Ok(None) => {}
            Ok(Some(owner)) => {
                if let Err(error) = (self.start_ring_thread)(owner) {
                    end(&format!("cannot start the ring's thread: {error}"));
                }
            }
            Err(error) => end(&format!("a shard does not read its inbox: {error}")),
        }
    }
}

fn reload_certificate(tls: &Tls) -> Result<(), String> {
    match tls.reload() {
        Ok(()) => {
            for warning in tls.warnings() {
                tracing::warn!("{warning}");
            }
            tracing::info!("new connections get the new certificate");
            Ok(())
        }
        Err(error) => {
            tracing::error!(%error, "certificate not reloaded; the old one stays in use");
            Err(error.to_string())
        }
    }
}

fn reload_token_keys(reload: &ReloadTokenKeys) -> Result<(), String> {
    match reload() {
        Ok(keys) => {
            tracing::info!(keys, "token keys reloaded");
            Ok(())
        }
        Err(error) => {
            tracing::error!("token keys not reloaded; the old ones stay in use: {error}");
            Err(error)
        }
    }
}

fn reload_sources(reload: &ReloadSources) -> Result<(), String> {
    match reload() {
        Ok(sources) => {
            tracing::info!(sources, "the file of sources was read again and is in use");
            Ok(())
        }
        Err(error) => {
            tracing::error!("sources not reloaded; the old ones stay in use");
            for line in error.lines() {
                tracing::error!("{line}");
            }
            Err(error.lines().next().unwrap_or_default().to_owned())
        }
    }
}

/// Starts a successor on a thread of its own, because it may take long.
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
    // Time for the log's thread to write the line.
    thread::sleep(Duration::from_millis(LOG_FLUSH_MS));
    std::process::exit(1);
}
