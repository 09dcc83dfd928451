//! What an operator sees: readiness, metrics, the age of the last probe.

use std::thread;

use crate::cluster::Cluster;
use crate::engine::{Engine, Persistence};
use crate::load::Outcome;
use crate::support::memory;
use crate::watcher::Route;

/// An engine that is down makes no node unready, or a load balancer would have none left.
#[test]
fn readiness_ignores_the_engine_and_says_it_on_request() {
    let mut engine = Engine::start(Persistence::Everysec);
    let cluster = Cluster::start(&engine, 1);
    let node = cluster.node(0);
    let with_bus = |status: u16| {
        node.poll("its readiness with the bus", |node| {
            (node.get("/readyz?bus").status == status).then_some(())
        });
        assert_eq!(node.get("/readyz").status, 200);
        assert_eq!(node.get("/healthz").status, 200);
    };
    with_bus(200);
    engine.kill();
    with_bus(503);
    engine.restart();
    with_bus(200);
    engine.freeze();
    with_bus(503);
    engine.thaw();
    with_bus(200);
}

/// The probe goes to the engine and back, so it notices what no connection does.
#[test]
fn the_age_of_the_last_probe_grows_while_the_engine_hangs() {
    let engine = Engine::start(Persistence::None);
    let cluster = Cluster::start(&engine, 1);
    let node = cluster.node(0);
    let age = |node: &crate::cluster::Node| node.metric("hookcast_bus_probe_age_seconds").unwrap();
    engine.freeze();
    let first = age(node);
    node.poll("an old probe", |node| {
        (age(node) > first + 3.0).then_some(())
    });
    engine.thaw();
    node.poll("a young probe", |node| (age(node) < 2.5).then_some(()));
}

#[test]
fn metrics_of_the_bus_exist_only_with_it() {
    let mut engine = Engine::start(Persistence::None);
    let mut cluster = Cluster::start(&engine, 1);
    let without = cluster.launch_on(crate::proxy::Proxy::to(engine.address), &[], |setup| setup);
    cluster.publish(0, "first");
    engine.kill();
    cluster.node(0).poll("no connection", |node| {
        (node.metric("hookcast_bus_connected") == Some(0.0)).then_some(())
    });
    engine.restart();
    cluster.publish_eventually(0, "second");
    let names = |nth: usize| -> Vec<String> {
        let text = String::from_utf8(cluster.node(nth).get("/metrics").body).unwrap();
        let lines = text
            .lines()
            .filter(|line| line.starts_with("hookcast_bus_"));
        lines.map(str::to_owned).collect()
    };
    println!("{:#?}", names(0));
    let metric = |name: &str| cluster.node(0).metric(name);
    assert_eq!(metric("hookcast_bus_connected"), Some(1.0));
    assert!(
        metric("hookcast_bus_epochs_total") >= Some(1.0),
        "{:?}",
        names(0)
    );
    assert_eq!(metric("hookcast_bus_resets_total"), Some(0.0));
    assert_eq!(names(without), [""; 0]);
}

/// Requests beyond the bound stay unread, so memory does not grow with what senders send.
#[test]
fn a_flood_without_an_engine_takes_bounded_memory_and_streams_go_on() {
    let engine = Engine::start(Persistence::None);
    let cluster = Cluster::start(&engine, 1);
    let watcher = cluster.watch(Route::Only(0));
    let before = memory::peak_bytes(cluster.node(0).server());
    engine.freeze();
    let content = "x".repeat(60_000);
    let outcomes: Vec<Outcome> = thread::scope(|scope| {
        let senders: Vec<_> = (0..200)
            .map(|_| scope.spawn(|| cluster.post(0, &content).outcome))
            .collect();
        senders
            .into_iter()
            .map(|sender| sender.join().unwrap())
            .collect()
    });
    let after = memory::peak_bytes(cluster.node(0).server());
    let count = |wanted: &Outcome| outcomes.iter().filter(|outcome| *outcome == wanted).count();
    let (refused, unknown) = (count(&Outcome::Refused), count(&Outcome::Unknown));
    println!(
        "12 MB of webhooks: {refused} refused, {unknown} unknown, {} KiB more",
        (after - before) / 1024
    );
    // A copy in the request's buffer, one in the queue and one in the call.
    assert!(after - before < 64 << 20, "{before} to {after}");
    watcher.wait_for_heartbeats(2);
    engine.thaw();
    cluster.publish_eventually(0, "after");
    assert_eq!(refused + unknown, 200);
}
