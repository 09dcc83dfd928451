//! The engine is killed, and has lost nothing, its tail, or everything.

use std::time::Duration;

use crate::cluster::{Cluster, STREAM_KEY};
use crate::engine::{Engine, Persistence};
use crate::judge::{expect_equal_seqs, judge};
use crate::load::{Load, Posted};
use crate::watcher::{Record, beat, see_all, stop_all};

const ALL: [Persistence; 4] = [
    Persistence::None,
    Persistence::Snapshot,
    Persistence::Everysec,
    Persistence::Always,
];

/// All nodes have seen everything, so the messages that the engine has lost are put back, and no stream ends.
#[test]
fn an_engine_that_is_killed_at_rest_costs_nothing_with_any_persistence() {
    for persistence in ALL {
        let mut engine = Engine::start(persistence);
        let cluster = Cluster::start(&engine, 3);
        let watchers = cluster.watch_all();
        let mut posted: Vec<Posted> = (0..80)
            .map(|nth| cluster.post(nth % 3, &format!("early {nth}")))
            .collect();
        if persistence == Persistence::Snapshot {
            engine.save();
        }
        posted.extend((0..70).map(|nth| cluster.post(nth % 3, &format!("late {nth}"))));
        see_all(&watchers, &posted);

        for round in 0..2 {
            engine.kill();
            let down = cluster.post(round, &format!("down {round}"));
            println!(
                "{persistence:?}: engine down: {:?} {:?} after {:?}",
                down.outcome, down.error, down.took
            );
            assert!(!down.is_stored());
            beat(&watchers, 1);
            engine.restart();
            posted.push(down);
            posted.push(cluster.publish_eventually(round + 1, &format!("after kill {round}")));
            see_all(&watchers, &posted);
        }
        assert_resumes_exactly(&cluster, &watchers[0].record());
        let records = stop_all(watchers);
        let verdict = judge(&posted, &records).hold_exactly(&format!("{persistence:?}"));
        // No stream has ended, and each restart began an epoch.
        assert_eq!((verdict.visits, verdict.epochs), (3, 3), "{persistence:?}");
        let histories = cluster.histories();
        expect_equal_seqs(&histories);
        let length = engine.command(&format!("XLEN {STREAM_KEY}")).number();
        assert!(
            length >= 100,
            "{persistence:?}: the engine has {length} entries"
        );
    }
}

/// Ids of every epoch so far, on every node.
pub fn assert_resumes_exactly(cluster: &Cluster, record: &Record) {
    let shown: Vec<_> = record.messages().collect();
    for node in 0..cluster.len() {
        for at in [shown.len() - 90, shown.len() - 40, shown.len() - 2] {
            let watcher = cluster.resume(node, shown[at].id);
            let last = &shown.last().unwrap().message_id;
            watcher.wait_for_all(std::slice::from_ref(last));
            let resumed = watcher.stop();
            assert!(
                resumed.visits[0].continues,
                "node {node} after {}",
                shown[at].id
            );
            let ids: Vec<_> = resumed.messages().map(|shown| &shown.message_id).collect();
            let expected: Vec<_> = shown[at + 1..]
                .iter()
                .map(|shown| &shown.message_id)
                .collect();
            assert_eq!(ids, expected, "node {node} after {}", shown[at].id);
        }
    }
}

/// Nodes may be ahead of the one that begins the next epoch, by what was under way.
#[test]
fn an_engine_that_is_killed_under_load_loses_nothing_acknowledged() {
    for persistence in ALL {
        let mut engine = Engine::start(persistence);
        let cluster = Cluster::start(&engine, 3);
        let watchers = cluster.watch_all();
        let load = Load::start(&cluster.roster, 2, Duration::from_millis(2));
        load.wait_for_stored(100);
        for _ in 0..3 {
            if persistence == Persistence::Snapshot {
                engine.save();
            }
            load.wait_for_stored(100);
            engine.kill();
            engine.restart();
        }
        load.wait_for_stored(100);
        let mut posted = load.stop();
        posted.push(cluster.publish_eventually(0, "the last"));
        see_all(&watchers, &posted);
        let records = stop_all(watchers);
        judge(&posted, &records).hold(&format!("{persistence:?} under load"));
        let histories = cluster.histories();
        expect_equal_seqs(&histories);
    }
}

/// All nodes are down while the engine is killed. Their rings have what it has lost.
#[test]
fn an_engine_that_is_killed_while_all_nodes_are_down_loses_nothing_acknowledged() {
    for persistence in [Persistence::None, Persistence::Snapshot] {
        let mut engine = Engine::start(persistence);
        let mut cluster = Cluster::start(&engine, 2);
        let early: Vec<Posted> = (0..20)
            .map(|nth| cluster.post(nth % 2, &format!("early {nth}")))
            .collect();
        if persistence == Persistence::Snapshot {
            engine.save();
        }
        let late: Vec<Posted> = (0..20)
            .map(|nth| cluster.post(nth % 2, &format!("late {nth}")))
            .collect();
        let watchers = cluster.watch_all();
        see_all(&watchers, &late);
        drop(watchers);
        cluster.end(0);
        cluster.end(1);
        engine.kill();
        engine.restart();
        for node in 0..2 {
            cluster.restart(node);
            cluster.node(node).wait_until_ready();
        }
        let histories = cluster.histories();
        expect_equal_seqs(&histories);
        let all: Vec<Posted> = early.into_iter().chain(late).collect();
        judge(&all, &histories).hold(&format!("{persistence:?}, all nodes were down"));
    }
}
