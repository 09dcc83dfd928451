//! Nodes are killed, handed over, started and added, under load.

use std::time::{Duration, Instant};

use hookcast::limits::BUS_BEGIN_PATIENCE_MS;
use rustix::process::Signal;

use crate::cluster::{Cluster, NAME, Node, all_flags, setup};
use crate::engine::{Engine, Persistence};
use crate::judge::{expect_equal, expect_equal_seqs, judge};
use crate::load::{Load, Outcome, Posted, stored};
use crate::proxy::{Half, Proxy, Way};
use crate::watcher::{Record, Route, Visit, Watcher, see_all, stop_all};

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

/// Streams of the old process get no messages. So they end soon, however long the drain may take, and resume at the
/// new one.
#[test]
fn streams_of_a_node_that_hands_over_end_soon() {
    let engine = Engine::start(Persistence::None);
    let mut cluster = Cluster::empty(engine.address);
    let proxy = Proxy::to(engine.address);
    let url = format!("redis://{}/{NAME}", proxy.address);
    let flags = ["--admin", "127.0.0.1:0", "--shards", "2", "--drain", "5m"];
    let flags = [&flags[..], &["--bus", &url]].concat();
    cluster.launch_on(proxy, &[], |setup| setup.arguments(&flags));
    cluster.node(0).wait_until_ready();
    let watchers: Vec<Watcher> = (0..40).map(|_| cluster.watch(Route::Only(0))).collect();
    let mut posted = vec![cluster.post(0, "before")];
    see_all(&watchers, &posted);
    cluster.hand_over(0);
    posted.push(cluster.post(0, "after"));
    see_all(&watchers, &posted);
    let records = stop_all(watchers);
    judge(&posted, &records).hold_exactly("a handover with a long drain");
    for record in &records {
        assert_eq!(record.visits.len(), 2, "{:?}", record.visits);
        assert!(record.visits[0].ended_well && record.visits[1].continues);
    }
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

/// Each call is answered in time, but all of them together take longer than a start waits.
#[test]
fn a_node_that_reads_the_history_slowly_serves_meanwhile_and_says_how_far_it_is() {
    let engine = Engine::start(Persistence::None);
    let mut cluster = Cluster::start(&engine, 1);
    let content = "x".repeat(1_000);
    for nth in 0..1_500 {
        cluster.publish(0, &format!("{nth} {content}"));
    }
    let proxy = Proxy::to(engine.address);
    proxy.delay(Duration::from_millis(60));
    let url = format!("redis://{}/{NAME}", proxy.address);
    let joined = cluster.launch_on(proxy, &["--bus", &url], |setup| setup);
    let node = cluster.node(joined);
    let reasons = ["reading the history of the bus", "messages so far"];
    node.poll("how far it is", |node| {
        let answer = node.get("/readyz");
        let body = String::from_utf8_lossy(&answer.body).into_owned();
        let is_told = reasons.iter().all(|reason| body.contains(reason));
        (answer.status == 503 && is_told).then_some(())
    });
    // It serves while it reads.
    let watcher = cluster.watch(Route::Only(joined));
    assert!(!node.is_ready());
    // The engine's side breaks in the middle: it begins anew, and does not end.
    node.proxy.cut(Half::Both);
    node.poll("the beginning again", |node| {
        let body = node.get("/readyz").body;
        String::from_utf8_lossy(&body)
            .contains(reasons[0])
            .then_some(())
    });
    node.proxy.delay(Duration::ZERO);
    node.wait_until_ready();
    cluster.publish(0, "after");
    watcher.wait_for_content("after");
    let records = [watcher.stop(), cluster.history(joined)];
    judge(&[], &records).hold("a node that reads slowly");
    assert_eq!(
        records[1].contents(),
        cluster.history(0).contents(),
        "the history of the other node"
    );
}

#[test]
fn a_node_that_cannot_join_says_why() {
    let mut engine = Engine::start(Persistence::Everysec);
    let mut cluster = Cluster::start(&engine, 1);
    cluster.publish(0, "stored");
    engine.kill();
    let nth = cluster.launch(&[]);
    let says = |node: &Node, reason: &str| {
        let answer = node.get("/readyz");
        let body = String::from_utf8(answer.body).unwrap();
        (answer.status == 503 && body.starts_with("starting: ") && body.contains(reason))
            .then_some(())
    };
    let node = cluster.node(nth);
    node.poll("a reason", |node| says(node, "the bus is not reached: "));
    engine.restart();
    node.wait_until_ready();
    assert_eq!(node.get("/readyz").body, b"ready\n");
    // Its first append follows.
    node.poll("that the bus works", |node| {
        (node.get("/readyz?bus").body == b"ready\n").then_some(())
    });
    engine.freeze();
    node.poll("a reason", |node| {
        let answer = node.get("/readyz?bus");
        let body = String::from_utf8(answer.body).unwrap();
        (answer.status == 503 && body.starts_with("the bus does not work: ")).then_some(())
    });
    engine.thaw();
}

/// The ring of a node that starts without the engine is kept aside, too, when it has another history.
#[test]
fn a_ring_of_another_history_is_kept_aside_by_a_node_that_joins_late() {
    let engine = Engine::start(Persistence::None);
    let mut cluster = Cluster::start(&engine, 1);
    cluster.publish(0, "on the bus");
    let proxy = Proxy::to(engine.address);
    let url = format!("redis://{}/{NAME}", proxy.address);
    let alone = cluster.launch_on(proxy, &[], |setup| setup);
    cluster.publish(alone, "from before the bus");
    cluster.end(alone);
    cluster.node(alone).proxy.close();
    cluster.restart_with(alone, |setup| setup.arguments(&all_flags(&["--bus", &url])));
    let node = cluster.node(alone);
    assert!(!node.is_ready());
    node.proxy.lead_to(engine.address);
    node.wait_until_ready();
    assert_eq!(cluster.history(alone).contents(), ["on the bus"]);
    let ring = node.setup().ring();
    let directory = std::fs::read_dir(ring.parent().unwrap()).unwrap();
    let others = directory.map(|entry| entry.unwrap().path());
    let mut others = others.filter(|path| *path != ring);
    assert!(
        others.any(|path| {
            let bytes = std::fs::read(path).unwrap_or_default();
            bytes
                .windows(19)
                .any(|window| window == b"from before the bus")
        }),
        "the file is kept"
    );
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

/// Limits are raised by starting the nodes anew, one by one. One that still has the old limit cannot show a
/// larger message: its streams end in order or get a gap, and go on behind it.
#[test]
fn a_node_with_the_old_body_limit_goes_on_behind_a_larger_message() {
    let engine = Engine::start(Persistence::None);
    let mut cluster = Cluster::start(&engine, 1);
    cluster.join(&["--max-body-bytes", "300000"]);
    let watchers = cluster.watch_all();
    let early: Vec<Posted> = (0..2)
        .map(|node| cluster.post(node, &format!("early {node}")))
        .collect();
    see_all(&watchers, &early);
    let large = cluster.post(1, &"large ".repeat(40_000));
    assert!(large.is_stored(), "{:?}", large.error);
    let late: Vec<Posted> = (0..6)
        .map(|nth| cluster.post(nth % 2, &format!("late {nth}")))
        .collect();
    assert!(late.iter().all(Posted::is_stored), "{late:#?}");
    see_all(&watchers, &late);
    see_all(&watchers[1..], std::slice::from_ref(&large));
    let said = cluster.node(0).complaints(0).join("\n");
    assert!(said.contains("--max-body-bytes"), "{said}");
    let records = stop_all(watchers);
    judge(&late, &records).hold("a larger message");
    let gaps: u64 = records[0].visits.iter().flat_map(Visit::gaps).sum();
    assert_eq!(gaps, 1, "the streams know that one message is missing");
    assert!(!records[0].known.contains(large.message_id()));
}

/// Otherwise what other nodes hold, and the engine has forgotten, would be replaced by its ring.
#[test]
fn a_node_that_starts_waits_for_others_before_it_fills_an_empty_engine() {
    let engine = Engine::start(Persistence::None);
    let began = Instant::now();
    let mut cluster = Cluster::start(&engine, 1);
    let patience = Duration::from_millis(BUS_BEGIN_PATIENCE_MS);
    assert!(began.elapsed() >= patience, "{:?}", began.elapsed());

    let watcher = cluster.watch(Route::Only(0));
    let posted: Vec<Posted> = (0..120)
        .map(|nth| cluster.post(0, &format!("early {nth}")))
        .collect();
    see_all(std::slice::from_ref(&watcher), &posted);
    engine.command("FLUSHALL");
    let late = cluster.join(&[]);
    assert_eq!(
        cluster.history(late).contents(),
        cluster.history(0).contents()
    );
    cluster.publish(late, "the last");
    watcher.wait_for_content("the last");
    let record = watcher.stop();
    assert_eq!(record.visits.len(), 1, "no reset");
    judge(&posted, &[record]).hold_exactly("a start on an empty engine");
}

/// The successor cannot open the ring, so the node opens it again and goes on with new threads.
#[test]
fn after_a_failed_handover_a_node_has_one_appender_and_loses_nothing() {
    let engine = Engine::start(Persistence::None);
    let cluster = Cluster::start(&engine, 2);
    let watchers = cluster.watch_all();
    let node = cluster.node(0);
    let ring = node.setup().ring();
    let load = Load::start(&cluster.roster, 2, Duration::from_millis(2));
    for round in 0..3 {
        load.wait_for_stored(40);
        // A rewrite of the ring needs this name.
        let in_the_way = ring.with_extension("ring.new");
        std::fs::create_dir(&in_the_way).unwrap();
        node.server().signal(Signal::USR2);
        let server = node.server();
        server.wait_for_nth_log("cannot open the ring", round);
        drop(std::fs::remove_dir(&in_the_way));
        server.wait_for_nth_log("the successor failed; continuing to serve", round);
    }
    load.wait_for_stored(40);
    let threads = |name: &str| {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", node.server().pid())).unwrap();
        let names = tasks.map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")));
        // A thread that ends while it is read is none.
        names.flatten().filter(|other| other.trim() == name).count()
    };
    for name in ["bus-out", "bus-in", "bus-deadlines"] {
        node.poll(name, |_| (threads(name) == 1).then_some(()));
    }
    let (posted, _) = finish("failed handovers", &cluster, load, watchers);
    let failed: Vec<_> = posted.iter().filter(|posted| !posted.is_stored()).collect();
    assert!(failed.is_empty(), "{failed:#?}");
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
