//! Nodes are killed, handed over, started and added, under load.

use std::time::Duration;

use crate::cluster::{Cluster, NAME, all_flags, setup};
use crate::engine::{Engine, Persistence};
use crate::judge::{expect_equal, expect_equal_seqs, judge};
use crate::load::{Load, Outcome, Posted, stored};
use crate::proxy::{Half, Proxy, Way};
use crate::watcher::{Record, Route, Watcher, see_all, stop_all};

/// Ends a load, waits for everything, and judges.
fn finish(
    what: &str,
    cluster: &Cluster,
    load: Load,
    watchers: Vec<Watcher>,
) -> (Vec<Posted>, Vec<Record>) {
    let mut posted = load.stop();
    for node in 0..cluster.len() {
        posted.push(cluster.publish_eventually(node, &format!("the last to {node}")));
    }
    see_all(&watchers, &posted);
    let records = stop_all(watchers);
    judge(&posted, &records).hold_exactly(what);
    let histories: Vec<Record> = (0..cluster.len()).map(|nth| cluster.history(nth)).collect();
    expect_equal(&histories);
    (posted, records)
}

/// Its clients go to the other nodes, and come back when it is ready.
#[test]
fn nodes_that_are_killed_under_load_lose_nothing_acknowledged() {
    let engine = Engine::start(Persistence::None);
    let mut cluster = Cluster::start(&engine, 3);
    let watchers: Vec<Watcher> = (0..6).map(|nth| cluster.watch(Route::Any(nth))).collect();
    let load = Load::start(&cluster.roster, 2, Duration::from_millis(2));
    for round in 0..6 {
        load.wait_for_stored(60);
        cluster.kill(round % 3);
        load.wait_for_stored(60);
        cluster.restart_behind_balancer(round % 3);
    }
    let (posted, _) = finish("kills of nodes", &cluster, load, watchers);
    assert!(
        posted
            .iter()
            .all(|posted| posted.outcome != Outcome::Refused)
    );
}

#[test]
fn handovers_under_load_lose_repeat_and_refuse_nothing() {
    let engine = Engine::start(Persistence::None);
    let mut cluster = Cluster::start(&engine, 2);
    let watchers: Vec<Watcher> = (0..4)
        .map(|nth| cluster.watch(Route::Only(nth % 2)))
        .collect();
    let load = Load::start(&cluster.roster, 2, Duration::from_millis(2));
    for round in 0..6 {
        load.wait_for_stored(40);
        cluster.hand_over(round % 2);
    }
    let (posted, _) = finish("handovers", &cluster, load, watchers);
    let failed: Vec<_> = posted.iter().filter(|posted| !posted.is_stored()).collect();
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn nodes_that_end_under_load_lose_and_refuse_nothing() {
    let engine = Engine::start(Persistence::None);
    let mut cluster = Cluster::start(&engine, 3);
    let watchers: Vec<Watcher> = (0..6).map(|nth| cluster.watch(Route::Any(nth))).collect();
    let load = Load::start(&cluster.roster, 1, Duration::from_millis(2));
    for round in 0..3 {
        load.wait_for_stored(40);
        cluster.end(round);
        load.wait_for_stored(40);
        cluster.restart_behind_balancer(round);
    }
    let (posted, _) = finish("drains", &cluster, load, watchers);
    assert!(
        posted
            .iter()
            .all(|posted| posted.outcome != Outcome::Refused)
    );
}

#[test]
fn a_node_that_joins_under_load_is_ready_once_it_has_caught_up() {
    let engine = Engine::start(Persistence::None);
    let mut cluster = Cluster::start(&engine, 2);
    let watchers = cluster.watch_all();
    let load = Load::start(&cluster.roster, 2, Duration::from_millis(1));
    load.wait_for_stored(500);
    // Its way to the engine stalls, so that it is not ready at once.
    let proxy = Proxy::to(engine.address);
    proxy.stall(Way::Down, Half::Both);
    let url = format!("redis://{}/{NAME}", proxy.address);
    let joined = cluster.launch_on(proxy, &["--bus", &url], |setup| setup);
    cluster.roster.set(joined, None);
    assert!(!cluster.node(joined).is_ready());
    load.wait_for_stored(100);
    assert!(!cluster.node(joined).is_ready());
    cluster.node(joined).proxy.flow();
    cluster.node(joined).wait_until_ready();
    let address = cluster.node(joined).server().address;
    cluster.roster.set(joined, Some(address));

    // Ids far before its start resume exactly on it.
    let record = watchers[0].record();
    let shown: Vec<_> = record.messages().cloned().collect();
    let resumed: Vec<Watcher> = [0, 300, shown.len() - 1]
        .iter()
        .map(|&at| cluster.resume(joined, shown[at].id))
        .collect();
    load.wait_for_stored(100);
    let posted = load.stop();
    see_all(&watchers, &posted);
    let whole = watchers[0].record();
    let last = whole.messages().next_back().unwrap().message_id.clone();
    for (watcher, at) in resumed.into_iter().zip([0, 300, shown.len() - 1]) {
        watcher.wait_for_all(std::slice::from_ref(&last));
        let record = watcher.stop();
        assert!(
            record.visits[0].continues,
            "after {at}: {:?}",
            record.visits[0].gaps()
        );
        let ids: Vec<_> = record.messages().map(|shown| shown.id).collect();
        let expected: Vec<_> = whole
            .messages()
            .map(|shown| shown.id)
            .skip(at + 1)
            .collect();
        assert_eq!(ids, expected, "after {at}");
    }
    let records = stop_all(watchers);
    judge(&posted, &records).hold_exactly("a node that joins");
}

#[test]
fn a_node_that_starts_without_its_engine_serves_its_ring_and_catches_up() {
    let mut engine = Engine::start(Persistence::Everysec);
    let mut cluster = Cluster::start(&engine, 2);
    let watcher = cluster.watch(Route::Only(0));
    let mut posted: Vec<Posted> = (0..120)
        .map(|nth| cluster.post(nth % 2, &format!("early {nth}")))
        .collect();
    watcher.wait_for_all(&stored(&posted));
    let before = cluster.history(1);
    let last = before.last_id().unwrap();
    cluster.kill(1);
    posted.extend((0..20).map(|nth| cluster.post(0, &format!("meanwhile {nth}"))));
    engine.kill();
    cluster.restart(1);
    let of_ring = cluster.history(1);
    expect_equal_seqs(&[before, of_ring]);
    let resumed = cluster.resume(1, last);
    resumed.wait_for("the resumption", |record| record.visits.first()?.replay);
    assert!(!cluster.node(1).is_ready());
    let refused = cluster.post(1, "too early");
    assert_eq!(refused.outcome, Outcome::Refused, "{refused:?}");
    posted.push(refused);
    engine.restart();
    cluster.node(1).wait_until_ready();
    posted.push(cluster.publish_eventually(1, "after"));
    watcher.wait_for_all(&stored(&posted));
    // The stream that was opened meanwhile has what it missed.
    resumed.wait_for_all(&stored(&posted[120..]));
    assert_eq!(resumed.record().messages().count(), 21);
    judge(&posted, &[watcher.stop()]).hold_exactly("a start without an engine");
    judge(&[], &[resumed.stop()]).hold_exactly("a start without an engine, its stream");
}

#[test]
fn a_node_with_a_smaller_body_limit_refuses_to_start() {
    let engine = Engine::start(Persistence::None);
    let cluster = Cluster::start(&engine, 1);
    cluster.publish(0, "stored");
    let url = format!("redis://{}/{NAME}", engine.address);
    let setup = setup(&["--bus", &url, "--max-body-bytes", "10000"]);
    let output = setup.command().output().unwrap();
    let log = String::from_utf8(output.stderr).unwrap();
    assert!(
        matches!(output.status.code(), Some(1..)),
        "{:?}: {log}",
        output.status
    );
    assert!(
        log.contains("--max-body-bytes") && log.contains("65536"),
        "{log}"
    );
    // The others go on.
    cluster.publish(0, "stored, too");
}

/// The first node's ring seeds the bus. The ring of another one is kept aside.
#[test]
fn a_bus_begins_with_the_ring_of_the_first_node_and_keeps_others_aside() {
    let engine = Engine::start(Persistence::None);
    let mut cluster = Cluster::empty(engine.address);
    for (nth, name) in ["first", "second"].into_iter().enumerate() {
        cluster.launch_on(Proxy::to(engine.address), &[], |setup| setup);
        for message in 0..20 + nth {
            cluster.publish(nth, &format!("{name} {message}"));
        }
    }
    let alone = cluster.history(0);
    let url = format!("redis://{}/{NAME}", engine.address);
    for nth in 0..2 {
        cluster.end(nth);
        cluster.restart_with(nth, |setup| setup.arguments(&all_flags(&["--bus", &url])));
        cluster.node(nth).wait_until_ready();
    }
    for nth in 0..2 {
        assert_eq!(
            cluster.history(nth).contents(),
            alone.contents(),
            "node {nth}"
        );
    }
    // Nothing of the second ring is lost: its file is beside the new one.
    let ring = cluster.node(1).setup().ring();
    let directory = std::fs::read_dir(ring.parent().unwrap()).unwrap();
    let aside: Vec<_> = directory
        .map(|entry| entry.unwrap().path())
        .filter(|path| *path != ring)
        .collect();
    let has_second = |path: &std::path::PathBuf| {
        let bytes = std::fs::read(path).unwrap_or_default();
        bytes.windows(9).any(|window| window == b"second 20")
    };
    assert!(aside.iter().any(has_second), "{aside:?}");
    let said = cluster.node(1).complaints(0);
    assert!(said.iter().any(|line| line.contains("ring")), "{said:#?}");

    // The seed's ids resume on both nodes if they do on the first.
    let watchers = cluster.watch_all();
    see_all(&watchers, &[cluster.post(1, "on the bus")]);
    let records = stop_all(watchers);
    expect_equal_seqs(&records);
    let old = alone.messages().nth(10).unwrap().id;
    for node in 0..2 {
        let resumed = cluster.resume(node, old);
        resumed.wait_for_content("on the bus");
        let record = resumed.stop();
        println!(
            "node {node}: an id from before the bus continues: {}",
            record.visits[0].continues
        );
        judge(&[], &[record]).hold("an id from before the bus");
    }
}

#[test]
fn without_the_bus_a_node_has_its_history_and_another_epoch() {
    let engine = Engine::start(Persistence::None);
    let mut cluster = Cluster::start(&engine, 2);
    for nth in 0..20 {
        cluster.publish(nth % 2, &format!("message {nth}"));
    }
    let watcher = cluster.watch(Route::Only(0));
    watcher.wait_for_content("message 19");
    let record = watcher.stop();
    cluster.end(0);
    cluster.restart_with(0, |setup| setup.arguments(&all_flags(&[])));
    let history = cluster.history(0);
    assert_eq!(history.contents(), record.contents());
    cluster.publish(0, "alone");
    // The id might name another message on the bus by now.
    let resumed = cluster.resume(0, record.last_id().unwrap());
    resumed.wait_for_content("alone");
    let alone = resumed.stop();
    let epochs: Vec<u64> = alone.messages().map(|shown| shown.id.epoch).collect();
    assert!(
        epochs
            .iter()
            .all(|epoch| *epoch != record.last_id().unwrap().epoch)
    );
    cluster.publish(1, "on the bus");
    assert!(!cluster.history(0).contents().contains(&"on the bus"));
    assert!(!cluster.history(1).contents().contains(&"alone"));
}

/// With the ring on disk, an acknowledgement waits for both.
#[test]
fn durability_on_disk_works_with_a_bus() {
    let engine = Engine::start(Persistence::None);
    let mut cluster = Cluster::with(engine.address, 2, &["--durability", "disk"]);
    let watchers: Vec<Watcher> = (0..4).map(|nth| cluster.watch(Route::Any(nth))).collect();
    let load = Load::start(&cluster.roster, 2, Duration::from_millis(2));
    load.wait_for_stored(60);
    cluster.kill(0);
    load.wait_for_stored(60);
    cluster.restart_behind_balancer(0);
    load.wait_for_stored(60);
    finish("rings on disk", &cluster, load, watchers);
}
