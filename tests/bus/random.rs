//! Faults of all kinds in a random order, each healed before the next: no single one may cost anything.

use std::time::{Duration, Instant};

use crate::cluster::Cluster;
use crate::engine::{Engine, Persistence};
use crate::judge::{expect_equal_seqs, judge};
use crate::load::Load;
use crate::proxy::{Half, Way};
use crate::watcher::{Route, Watcher, hop_all, see_all, stop_all};

/// The seed of random tests: `BUS_SEED`, or a new one.
pub fn seed() -> u64 {
    let given = std::env::var("BUS_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    given.unwrap_or_else(|| fastrand::u64(..1_000_000))
}

/// How long faults go on: `BUS_SECONDS`, or 20.
fn duration() -> Duration {
    let given = std::env::var("BUS_SECONDS")
        .ok()
        .and_then(|seconds| seconds.parse().ok());
    Duration::from_secs(given.unwrap_or(20))
}

#[derive(Debug, Clone, Copy)]
enum Fault {
    KillEngine,
    FreezeEngine,
    Cut,
    HalfAnswer,
    Stall,
    Hold,
    CloseWay,
    KillNode,
    HandOver,
    FlushAll,
    DeleteStream,
    DeleteRecord,
    FlushScripts,
    MoveStreams,
}

const FAULTS: [Fault; 14] = [
    Fault::KillEngine,
    Fault::FreezeEngine,
    Fault::Cut,
    Fault::HalfAnswer,
    Fault::Stall,
    Fault::Hold,
    Fault::CloseWay,
    Fault::KillNode,
    Fault::HandOver,
    Fault::FlushAll,
    Fault::DeleteStream,
    Fault::DeleteRecord,
    Fault::FlushScripts,
    Fault::MoveStreams,
];

#[test]
fn random_faults_cost_nothing_acknowledged() {
    let seed = seed();
    println!("BUS_SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let persistences = [
        Persistence::None,
        Persistence::Snapshot,
        Persistence::Everysec,
        Persistence::Always,
    ];
    let mut engine = Engine::start(random.choice(persistences).unwrap());
    let mut cluster = Cluster::start(&engine, 3);
    let mut watchers = cluster.watch_all();
    watchers.extend((0..3).map(|nth| cluster.watch(Route::Any(nth))));
    let load = Load::start(&cluster.roster, 2, Duration::from_millis(3));
    let begin = Instant::now();
    let mut faults = Vec::new();
    while begin.elapsed() < duration() {
        load.wait_for_stored(20);
        let fault = random.choice(FAULTS).unwrap();
        faults.push(fault);
        println!("{:?} {fault:?}", begin.elapsed());
        inject(fault, &mut random, &mut engine, &mut cluster, &watchers);
        for node in cluster.nodes() {
            node.wait_until_ready();
        }
        settle(&cluster, &watchers, faults.len());
    }
    let mut posted = load.stop();
    for node in 0..3 {
        posted.push(cluster.publish_eventually(node, &format!("the last to {node}")));
    }
    see_all(&watchers, &posted);
    let histories = cluster.histories();
    let records = stop_all(watchers);
    judge(&posted, &records).hold(&format!(
        "BUS_SEED={seed}, {} faults {faults:?}",
        faults.len()
    ));
    expect_equal_seqs(&histories);
}

/// Waits until a message of each node has reached every client: all nodes have the same history again.
fn settle(cluster: &Cluster, watchers: &[Watcher], nth: usize) {
    for node in 0..cluster.len() {
        let posted = cluster.publish_eventually(node, &format!("settled {nth} by {node}"));
        see_all(watchers, &[posted]);
    }
}

fn inject(
    fault: Fault,
    random: &mut fastrand::Rng,
    engine: &mut Engine,
    cluster: &mut Cluster,
    watchers: &[Watcher],
) {
    let nth = random.usize(0..cluster.len());
    let half = random
        .choice([Half::Both, Half::Reader, Half::Writer])
        .unwrap();
    let way = random.choice([Way::Up, Way::Down]).unwrap();
    // How long a fault lasts; nothing waits for its end.
    let pause = Duration::from_millis(random.u64(10..2_500));
    match fault {
        Fault::KillEngine => {
            engine.save();
            engine.kill();
            std::thread::sleep(pause / 4);
            engine.restart();
        }
        Fault::FreezeEngine => {
            engine.freeze();
            std::thread::sleep(pause);
            engine.thaw();
        }
        Fault::Cut => cluster.node(nth).proxy.cut(half),
        Fault::HalfAnswer => cluster
            .node(nth)
            .proxy
            .cut_after(half, random.usize(0..2_000)),
        Fault::Stall => {
            cluster.node(nth).proxy.stall(way, half);
            std::thread::sleep(pause);
            cluster.node(nth).proxy.flow();
        }
        Fault::Hold => {
            cluster.node(nth).proxy.hold(way);
            std::thread::sleep(pause);
            cluster.node(nth).proxy.flow();
        }
        Fault::CloseWay => {
            cluster.node(nth).proxy.close();
            std::thread::sleep(pause);
            cluster.node(nth).proxy.lead_to(engine.address);
        }
        Fault::KillNode => {
            cluster.kill(nth);
            std::thread::sleep(pause / 8);
            cluster.restart_behind_balancer(nth);
        }
        Fault::HandOver => cluster.hand_over(nth),
        Fault::FlushAll => _ = engine.command("FLUSHALL"),
        Fault::DeleteStream => _ = engine.command("DEL {rig}:s"),
        Fault::DeleteRecord => _ = engine.command("DEL {rig}:m"),
        Fault::FlushScripts => _ = engine.command("SCRIPT FLUSH"),
        Fault::MoveStreams => hop_all(watchers),
    }
}
