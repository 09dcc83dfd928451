//! The engine hangs: its process is stopped, connections stay open, and nothing is answered.

use std::thread;
use std::time::{Duration, Instant};

use crate::cluster::Cluster;
use crate::engine::{Engine, Persistence};
use crate::judge::judge;
use crate::load::{Outcome, Posted};
use crate::proxy::Way;
use crate::support::alone;
use crate::watcher::{beat, see_all, stop_all};

#[test]
fn streams_survive_an_engine_that_hangs_for_a_second() {
    hang_for(Duration::from_secs(1));
}

#[test]
fn streams_survive_an_engine_that_hangs_for_five_seconds() {
    hang_for(Duration::from_secs(5));
}

#[test]
fn streams_survive_an_engine_that_hangs_for_thirty_seconds() {
    hang_for(Duration::from_secs(30));
}

fn hang_for(freeze: Duration) {
    // The figures are of one such test at a time.
    let _turn = alone();
    let engine = Engine::start(Persistence::None);
    let cluster = Cluster::start(&engine, 3);
    let watchers = cluster.watch_all();
    let mut posted: Vec<Posted> = (0..30)
        .map(|nth| cluster.post(nth % 3, &format!("early {nth}")))
        .collect();
    see_all(&watchers, &posted);

    let begin = Instant::now();
    engine.freeze();
    let mut slowest = Duration::ZERO;
    let mut round = 0;
    // One thread for each node, as long as the engine hangs.
    while begin.elapsed() < freeze.saturating_sub(Duration::from_millis(500)) {
        let answers = if freeze > Duration::from_secs(1) {
            post_to_each(&cluster, &format!("frozen {round}"))
        } else {
            Vec::new()
        };
        for posted in &answers {
            assert!(!posted.is_stored(), "{posted:?}");
            slowest = slowest.max(posted.took);
        }
        posted.extend(answers);
        beat(&watchers, 1);
        // The history and resumption go on as well.
        assert_eq!(cluster.history(round % 3).messages().count(), 30);
        round += 1;
    }
    thread::sleep(freeze.saturating_sub(begin.elapsed()));
    engine.thaw();
    let thawed = Instant::now();
    posted.push(cluster.publish_eventually(1, "after"));
    see_all(&watchers, &posted);
    println!(
        "{freeze:?}: slowest answer to a webhook {slowest:?} (2.5 s), first delivery after {:?} (1 s)",
        thawed.elapsed()
    );
    // Twice the bound: the machine may be busy.
    assert!(slowest < Duration::from_secs(5), "{slowest:?}");
    let records = stop_all(watchers);
    let verdict = judge(&posted, &records).hold_exactly("a frozen engine");
    assert_eq!((verdict.visits, verdict.epochs), (3, 1));
}

fn post_to_each(cluster: &Cluster, name: &str) -> Vec<Posted> {
    thread::scope(|scope| {
        let threads: Vec<_> = (0..cluster.len())
            .map(|node| scope.spawn(move || cluster.post(node, &format!("{name} to {node}"))))
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    })
}

/// The time-out passes while a batch is with the frozen engine. After the freeze the engine reads it from the old
/// connection, perhaps after the node has published on a new one.
#[test]
fn a_late_batch_is_never_doubled() {
    let engine = Engine::start(Persistence::None);
    let cluster = Cluster::start(&engine, 2);
    let watchers = cluster.watch_all();
    let mut posted = vec![cluster.post(0, "early")];
    for round in 0..3 {
        engine.freeze();
        posted.extend(post_to_each(&cluster, &format!("late {round}")));
        engine.thaw();
        for node in 0..2 {
            posted.push(cluster.publish_eventually(node, &format!("after {round} to {node}")));
        }
    }
    see_all(&watchers, &posted);
    let records = stop_all(watchers);
    let unknown = posted
        .iter()
        .filter(|posted| posted.outcome == Outcome::Unknown);
    println!(
        "{} of 6 late webhooks have an unknown outcome",
        unknown.count()
    );
    judge(&posted, &records).hold_exactly("late batches");
}

/// The same where the network has the batch: it reaches the engine after the node has published on another
/// connection.
#[test]
fn a_batch_that_the_network_delays_is_refused() {
    let engine = Engine::start(Persistence::None);
    let cluster = Cluster::start(&engine, 2);
    let watchers = cluster.watch_all();
    let mut posted = vec![cluster.post(0, "early")];
    for round in 0..3 {
        cluster.node(0).proxy.hold(Way::Up);
        posted.push(cluster.post(0, &format!("late {round}")));
        posted.push(cluster.publish_eventually(0, &format!("after {round}")));
        cluster.node(0).proxy.flow();
        posted.push(cluster.publish_eventually(0, &format!("after the batch {round}")));
        posted.push(cluster.publish_eventually(1, &format!("after all {round}")));
    }
    see_all(&watchers, &posted);
    let records = stop_all(watchers);
    judge(&posted, &records).hold_exactly("delayed batches");
}
