//! Connections between a node and the engine break: of each node and half, in each direction, inside an answer.

use std::time::Duration;

use crate::cluster::{Cluster, Node};
use crate::engine::{Engine, Persistence};
use crate::judge::{expect_equal, judge};
use crate::load::Load;
use crate::proxy::{Half, Way};
use crate::watcher::{see_all, stop_all};

/// A cluster with a load, on which a test breaks connections.
fn under_load(what: &str, breaks: impl Fn(&Cluster, &Load)) {
    let engine = Engine::start(Persistence::None);
    let cluster = Cluster::start(&engine, 3);
    let watchers = cluster.watch_all();
    let load = Load::start(&cluster.roster, 2, Duration::from_millis(2));
    load.wait_for_stored(50);
    breaks(&cluster, &load);
    load.wait_for_stored(50);
    let mut posted = load.stop();
    for node in 0..3 {
        posted.push(cluster.publish_eventually(node, &format!("the last to {node}")));
    }
    see_all(&watchers, &posted);
    let records = stop_all(watchers);
    let verdict = judge(&posted, &records).hold_exactly(what);
    // The engine has lost nothing, so no stream ends and no epoch begins.
    assert_eq!((verdict.visits, verdict.epochs), (3, 1), "{verdict}");
    expect_equal(&records);
}

#[test]
fn cut_connections_lose_and_double_nothing() {
    under_load("cuts", |cluster, load| {
        let before: Vec<usize> = cluster.nodes().map(Node::open_files).collect();
        for half in [Half::Writer, Half::Reader, Half::Both] {
            for node in cluster.nodes() {
                for _ in 0..4 {
                    node.proxy.cut(half);
                    load.wait_for_stored(5);
                }
            }
        }
        // Each connection that was cut is closed. A new one may be beside it.
        for (node, before) in cluster.nodes().zip(before) {
            node.poll("as many open files as before", |node| {
                (node.open_files() <= before + 1).then_some(())
            });
        }
    });
}

#[test]
fn an_answer_that_breaks_off_loses_and_doubles_nothing() {
    let seed = crate::random::seed();
    println!("BUS_SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let places: Vec<usize> = (0..8).map(|_| random.usize(0..400)).collect();
    under_load("half answers", |cluster, load| {
        for half in [Half::Writer, Half::Reader] {
            for node in cluster.nodes() {
                for &bytes in &places {
                    node.proxy.cut_after(half, bytes);
                    node.proxy.wait_for_cut();
                    load.wait_for_stored(3);
                }
            }
        }
    });
}

#[test]
fn a_direction_that_stalls_loses_and_doubles_nothing() {
    under_load("stalls", |cluster, load| {
        for way in [Way::Up, Way::Down] {
            for (half, node) in [(Half::Writer, 0), (Half::Reader, 1), (Half::Both, 2)] {
                let proxy = &cluster.node(node).proxy;
                let accepted = proxy.accepted();
                proxy.stall(way, half);
                // The node's time-out has passed once it connects again.
                proxy.wait_for_more_than(accepted);
                proxy.flow();
                load.wait_for_stored(20);
            }
        }
    });
}

#[test]
fn a_node_that_is_cut_off_serves_its_streams_and_catches_up() {
    under_load("a closed way", |cluster, load| {
        for node in cluster.nodes() {
            node.proxy.close();
            // Those of the other nodes.
            load.wait_for_stored(60);
            node.proxy.lead_to(cluster.target());
            load.wait_for_stored(20);
        }
    });
}
