//! Messages to the service manager (`sd_notify(3)`), and the thread that feeds its watchdog.
//!
//! Called by `main`, `server` and `control`. Without `NOTIFY_SOCKET` in the environment all of this does
//! nothing. Never decides anything.

use std::io;
use std::thread;
use std::time::Duration;

use sd_notify::NotifyState;

use crate::foreign_text::escape;
use crate::handover;
use crate::limits::{WATCHDOG_LOOKS, WATCHDOG_USEC_MIN};
use crate::net::handle::ShardHandle;

/// The server answers.
pub fn ready() {
    tell(&[NotifyState::Ready]);
}

/// The server drains, and ends.
pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// A successor is being started.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(_) => tell(&[NotifyState::Reloading]),
    }
}

/// The successor serves and is the service from now on. Sent by its predecessor, from which the
/// manager still takes messages (`NotifyAccess=main`).
pub fn handed_over(pid: u32) {
    tell(&[
        NotifyState::MainPid(pid),
        NotifyState::Ready,
        NotifyState::Status(""),
    ]);
}

/// The successor failed, so this process goes on. The reason becomes the status text.
pub fn reload_failed(reason: &str) {
    let status = format!("The last reload failed: {}", escape(reason));
    tell(&[NotifyState::Ready, NotifyState::Status(&status)]);
}

/// The process ends with an error. The reason becomes the status text, which `systemctl status` shows
/// after the end, too.
pub fn failed(reason: &str) {
    // A successor that fails is not the service, and the service goes on.
    if std::env::var_os(handover::VARIABLE).is_none() {
        tell(&[NotifyState::Status(&escape(reason))]);
    }
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "cannot notify the service manager");
    }
}

/// Feeds the manager's watchdog, if it has one for this process (`WatchdogSec=`), for as long as
/// every shard goes on making turns. The end of a shard's thread is no hang: it ends the process.
pub fn start_watchdog(shards: Vec<ShardHandle>) -> io::Result<()> {
    // The predecessor's variable names the predecessor.
    let Some(interval) = sd_notify::watchdog_enabled() else {
        return Ok(());
    };
    let pause = interval.max(Duration::from_micros(WATCHDOG_USEC_MIN)) / WATCHDOG_LOOKS;
    thread::Builder::new()
        .name("watchdog".into())
        .spawn(move || watch(&shards, pause, || tell(&[NotifyState::Watchdog])))?;
    Ok(())
}

/// Looks again and again whether every shard has made a turn since the last time that all of them
/// had, and feeds if so. A shard that sleeps is woken for it.
fn watch(shards: &[ShardHandle], pause: Duration, feed: impl Fn()) {
    loop {
        let before: Vec<u64> = shards.iter().map(ShardHandle::turns).collect();
        let has_turned = |(shard, before): (&ShardHandle, &u64)| shard.turns() > *before;
        loop {
            shards.iter().for_each(ShardHandle::nudge);
            thread::sleep(pause);
            if shards.iter().zip(&before).all(has_turned) {
                break;
            }
        }
        feed();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::hub::Hub;
    use crate::metrics::Metrics;
    use crate::net::reactor::Reactor;
    use crate::ring::{Ring, memory::MemoryMedium};
    use crate::shard::Shard;
    use crate::shard::tests::settings;
    use std::sync::Arc;

    /// Two shards, of which at first one alone runs; both are idle.
    #[test]
    fn the_watchdog_is_fed_when_every_shard_turns_and_not_before() {
        let (ring, _) = Ring::open_on(Box::new(MemoryMedium::default()), 100).unwrap();
        let (mut reactors, mut outlets, mut handles) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..2 {
            let (reactor, outlet, handle) = Reactor::new().unwrap();
            reactors.push(reactor);
            outlets.push(outlet);
            handles.push(handle);
        }
        let hub = Arc::new(Hub::new(ring, Vec::new(), outlets, None));
        let clock = Clock::start();
        let run = |reactor: Reactor| {
            let hub = Arc::clone(&hub);
            let shard = Shard::new(Arc::new(settings()), &hub, 1, clock.now());
            thread::spawn(move || {
                let metrics = Metrics::new(Arc::default());
                reactor.run(shard, &hub, &metrics, clock).unwrap();
            })
        };
        let (fed, feeds) = crossbeam_channel::unbounded();
        let watched = handles.clone();
        thread::spawn(move || {
            watch(&watched, Duration::from_millis(1), || {
                let _ = fed.send(());
            });
        });
        let hangs = reactors.pop().unwrap();
        let first = run(reactors.pop().unwrap());
        // The watchdog has looked often by then: it is what makes the idle shard turn.
        while handles[0].turns() < 100 {
            thread::yield_now();
        }
        assert!(feeds.is_empty(), "fed although a shard hangs");
        let second = run(hangs);
        let patience = Duration::from_secs(30);
        for _ in 0..3 {
            feeds.recv_timeout(patience).unwrap();
        }
        handles.iter().for_each(ShardHandle::drain);
        first.join().unwrap();
        second.join().unwrap();
    }
}
