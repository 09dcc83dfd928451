//! Messages to the service manager (`sd_notify(3)`), and the thread that feeds its watchdog.
//!
//! Called by `main`, `server` and `control`. Does nothing without `NOTIFY_SOCKET` in the environment.
//! Never decides when to notify.

use std::io;
use std::thread;
use std::time::Duration;

use sd_notify::NotifyState;

use crate::foreign_text::escape;
use crate::handover;
use crate::limits::{WATCHDOG_LOOKS, WATCHDOG_USEC_MIN};
use crate::net::handle::ShardHandle;

/// Reports that the server serves.
pub fn ready() {
    notify(&[NotifyState::Ready]);
}

/// Reports that a reload has succeeded. Clears the status text of an earlier one that failed.
pub fn reloaded() {
    notify(&[NotifyState::Ready, NotifyState::Status("")]);
}

/// Reports that the server drains and will end.
pub fn stopping() {
    notify(&[NotifyState::Stopping]);
}

/// Reports that a reload begins: a successor is being started, or files are read again.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => notify(&[NotifyState::Reloading, now]),
        Err(_) => notify(&[NotifyState::Reloading]),
    }
}

/// Reports that the successor serves and is now the main process. The predecessor sends this,
/// because the manager accepts messages only from the main process (`NotifyAccess=main`).
pub fn handed_over(pid: u32) {
    notify(&[
        NotifyState::MainPid(pid),
        NotifyState::Ready,
        NotifyState::Status(""),
    ]);
}

/// Reports that the successor failed and this process continues. The reason becomes the status text.
pub fn reload_failed(reason: &str) {
    let status = format!("The last reload failed: {}", escape(reason));
    notify(&[NotifyState::Ready, NotifyState::Status(&status)]);
}

/// Reports that the process ends with an error. The reason becomes the status text, which
/// `systemctl status` also shows after the end.
pub fn failed(reason: &str) {
    // A successor that fails is not the main process: the service continues.
    if std::env::var_os(handover::VARIABLE).is_none() {
        notify(&[NotifyState::Status(&escape(reason))]);
    }
}

fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "cannot notify the service manager");
    }
}

/// Starts the thread that feeds the manager's watchdog, if there is one (`WatchdogSec=`). It
/// notifies while every shard makes turns. The watchdog is for hanging shards: if the thread of a
/// shard ends, the process ends anyway.
pub fn start_watchdog(shards: Vec<ShardHandle>) -> io::Result<()> {
    // None if `WATCHDOG_PID` names another process.
    let Some(interval) = sd_notify::watchdog_enabled() else {
        return Ok(());
    };
    let pause = interval.max(Duration::from_micros(WATCHDOG_USEC_MIN)) / WATCHDOG_LOOKS;
    thread::Builder::new()
        .name("watchdog".into())
        .spawn(move || watch(&shards, pause, || notify(&[NotifyState::Watchdog])))?;
    Ok(())
}

/// Calls `feed` each time that every shard has made a turn since the last call. Wakes sleeping
/// shards, so that they make one.
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
    use crate::shard::Shard;
    use crate::testkit::{ring_in_memory, settings};
    use std::sync::Arc;

    /// Two idle shards, of which only one runs at first.
    #[test]
    fn the_watchdog_is_fed_when_every_shard_turns_and_not_before() {
        let (ring, _) = ring_in_memory(100);
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
        // Only the watchdog makes an idle shard turn, so it has checked often by then.
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
