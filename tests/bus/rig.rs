//! The rig itself: an engine, a replica, a proxy.

use std::time::{Duration, Instant};

use crate::cluster::Cluster;
use crate::engine::{Engine, Persistence};
use crate::judge::judge;
use crate::load::Load;
use crate::proxy::{Half, Proxy, Way};
use crate::resp::{Client, Reply};
use crate::watcher::{Route, hop_all, see_all, stop_all};

#[test]
fn an_engine_keeps_what_its_persistence_promises() {
    let cases = [
        (Persistence::None, Reply::Nil),
        (Persistence::Snapshot, Reply::Text("early".into())),
        (Persistence::Everysec, Reply::Text("late".into())),
        (Persistence::Always, Reply::Text("late".into())),
    ];
    for (persistence, expected) in cases {
        let mut engine = Engine::start(persistence);
        engine.command("SET key early");
        if persistence == Persistence::Snapshot {
            engine.save();
        }
        engine.command("SET key late");
        engine.kill();
        engine.restart();
        assert_eq!(engine.command("GET key"), expected, "{persistence:?}");
    }
}

#[test]
fn a_replica_behind_a_closed_proxy_lacks_the_tail() {
    let primary = Engine::start(Persistence::None);
    let proxy = Proxy::to(primary.address);
    let replica = Engine::replica_of(proxy.address);
    primary.command("SET key early");
    primary.wait_for_replicas(1);
    proxy.close();
    primary.command("SET key late");
    replica.command("REPLICAOF NO ONE");
    assert_eq!(replica.command("GET key"), Reply::Text("early".into()));
}

#[test]
fn a_proxy_stalls_cuts_and_closes() {
    let engine = Engine::start(Persistence::None);
    let proxy = Proxy::to(engine.address);
    let mut client = Client::connect(proxy.address).unwrap();
    assert_eq!(
        client.command(&["SET", "key", "0123456789"]).unwrap(),
        Ok(Reply::Text("OK".into()))
    );
    proxy.stall(Way::Down, Half::Writer);
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| client.command(&["INCR", "count"]).unwrap());
        // The engine has executed the command, whose answer waits.
        while engine.command("GET count") == Reply::Nil {}
        assert!(!asked.is_finished());
        proxy.flow();
        assert_eq!(asked.join().unwrap(), Ok(Reply::Number(1)));
    });
    proxy.cut_after(Half::Both, 8);
    assert!(client.command(&["GET", "key"]).is_err());
    proxy.wait_for_cut();
    let mut client = Client::connect(proxy.address).unwrap();
    assert!(client.command(&["PING"]).is_ok());
    proxy.close();
    assert!(client.command(&["PING"]).is_err());
    let refused = Client::connect(proxy.address).and_then(|mut client| client.command(&["PING"]));
    assert!(refused.is_err());
}

#[test]
fn a_frozen_engine_answers_after_its_freeze() {
    let engine = Engine::start(Persistence::None);
    let mut client = Client::connect(engine.address).unwrap();
    engine.freeze();
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| client.command(&["PING"]).unwrap());
        engine.thaw();
        assert_eq!(asked.join().unwrap(), Ok(Reply::Text("PONG".into())));
    });
}

/// A node without a bus shows that clients, senders and judges work.
#[test]
fn clients_of_a_node_without_a_bus_are_judged() {
    let mut cluster = Cluster::empty(([127, 0, 0, 1], 9).into());
    cluster.launch_on(Proxy::to(cluster.target()), &[], |setup| setup);
    let watchers: Vec<_> = (0..3).map(|_| cluster.watch(Route::Only(0))).collect();
    let load = Load::start(&cluster.roster, 2, Duration::from_millis(1));
    load.wait_for_stored(100);
    hop_all(&watchers);
    load.wait_for_stored(50);
    cluster.hand_over(0);
    load.wait_for_stored(50);
    cluster.kill(0);
    cluster.restart(0);
    load.wait_for_stored(50);
    let posted = load.stop();
    see_all(&watchers, &posted);
    let verdict = judge(&posted, &stop_all(watchers)).hold_exactly("without a bus");
    assert!(verdict.visits >= 12 && verdict.stored >= 250, "{verdict}");
    assert_eq!(verdict.epochs, 1);
}

#[test]
fn sentinels_promote_a_replica() {
    let mut primary = Engine::start(Persistence::None);
    let replica = Engine::replica_of(primary.address);
    let _sentinels = Engine::sentinels_of(primary.address);
    let begin = Instant::now();
    primary.kill();
    replica.wait_for_info("replication", "role:master");
    println!("promoted after {:?}", begin.elapsed());
}
