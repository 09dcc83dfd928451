//! The engine answers with an error. Webhooks get a 503, streams go on, the log has a line for the change.

use std::collections::HashMap;
use std::os::unix::fs::PermissionsExt;

use crate::cluster::{Cluster, NAME, Node, RECORD_KEY, STREAM_KEY};
use crate::engine::{Engine, Persistence, free_port};
use crate::fake;
use crate::judge::judge;
use crate::load::Outcome;
use crate::proxy::Proxy;
use crate::watcher::{Route, Watcher, beat, see_all, stop_all};

/// The password of the rig, which no log may have.
const PASSWORD: &str = "hunter2-of-the-engine";

/// An engine that works, then has a fault, then works again.
fn expect_refusals(what: &str, cause: impl Fn(&mut Engine), heal: impl Fn(&mut Engine)) {
    let lines = ["appendonly no", "rdbcompression no", "key-load-delay 20000"];
    let interval = "loading-process-events-interval-bytes 1024";
    let mut engine = Engine::configured(&[&lines[..], &[interval]].concat());
    let cluster = Cluster::with(engine.address, 2, &["--bus-timeout", "500ms"]);
    let watchers = cluster.watch_all();
    let before = cluster.publish_eventually(0, "before");
    let mut posted = vec![before.clone()];
    see_all(&watchers, &posted);
    let from = cluster.node(0).log().len();

    cause(&mut engine);
    for nth in 0..4 {
        let refused = cluster.post(0, &format!("during {nth}"));
        assert!(
            !refused.is_stored(),
            "{what}: {refused:?}: {:#?}",
            cluster.node(0).log()
        );
        println!("{what}: {:?} after {:?}", refused.outcome, refused.took);
        posted.push(refused);
    }
    // A webhook whose call is under way when its time is over is in doubt; the others are not.
    let refused = posted
        .iter()
        .filter(|posted| posted.outcome == Outcome::Refused);
    assert!(refused.count() >= 1, "{what}: {posted:?}");
    beat(&watchers, 1);
    assert_eq!(cluster.history(1).contents(), [before.content], "{what}");
    expect_few_lines(what, cluster.node(0), from);
    assert!(
        !format!("{:?}", cluster.node(0).log()).contains(PASSWORD),
        "{what}"
    );

    heal(&mut engine);
    posted.push(cluster.publish_eventually(0, "after at 0"));
    posted.push(cluster.publish_eventually(1, "after at 1"));
    see_all(&watchers, &posted);
    let records = stop_all(watchers);
    judge(&posted, &records).hold_exactly(what);
}

/// Fails unless the complaints are few: the log has changes of state, not each attempt. On a busy machine a call may
/// time out in between, so a line may come twice.
fn expect_few_lines(what: &str, node: &Node, from: usize) {
    let complaints = node.complaints(from);
    println!("{what}: {complaints:#?}");
    let mut counts: HashMap<String, usize> = HashMap::new();
    for line in &complaints {
        let json: serde_json::Value = serde_json::from_str(line).unwrap();
        *counts
            .entry(format!("{} {}", json["message"], json["fault"]))
            .or_default() += 1;
    }
    assert!(
        (1..=6).contains(&complaints.len()),
        "{what}: {complaints:#?}"
    );
    assert!(
        counts.values().all(|count| *count <= 2),
        "{what}: {complaints:#?}"
    );
}

/// Cuts all connections except the rig's, so that nodes log in again.
fn cut_clients(engine: &Engine) {
    engine.command("CLIENT KILL TYPE normal SKIPME yes");
}

#[test]
fn an_engine_without_memory_refuses_and_is_read_on() {
    let set = |bytes: &'static str| move |engine: &mut Engine| engine.set("maxmemory", bytes);
    expect_refusals("OOM", set("1"), set("0"));
}

#[test]
fn an_engine_that_cannot_write_its_disk_refuses() {
    expect_refusals(
        "MISCONF",
        |engine| {
            let gone = engine.path("gone");
            std::fs::create_dir(&gone).unwrap();
            engine.set("dir", gone.to_str().unwrap());
            std::fs::remove_dir(&gone).unwrap();
            engine.set("save", "3600 100000");
            // The snapshot fails in a process of its own.
            engine.command("BGSAVE");
            engine.wait_for_info("persistence", "rdb_last_bgsave_status:err");
        },
        |engine| {
            engine.set("save", "");
            engine.set("dir", engine.directory().to_str().unwrap());
        },
    );
}

#[test]
fn an_engine_without_its_replicas_refuses() {
    let set =
        |count: &'static str| move |engine: &mut Engine| engine.set("min-replicas-to-write", count);
    expect_refusals("NOREPLICAS", set("1"), set("0"));
}

#[test]
fn a_replica_is_not_written_to() {
    expect_refusals(
        "READONLY",
        |engine| _ = engine.command(&format!("REPLICAOF 127.0.0.1 {}", free_port())),
        |engine| _ = engine.command("REPLICAOF NO ONE"),
    );
}

#[test]
fn an_engine_that_loads_is_waited_for() {
    expect_refusals(
        "LOADING",
        |engine| {
            engine.command("DEBUG POPULATE 200 filler 200");
            engine.save();
            engine.kill();
            engine.restart_slowly();
        },
        |engine| engine.wait_for_answer("PONG"),
    );
}

#[test]
fn a_changed_password_is_said_once() {
    expect_refusals(
        "WRONGPASS",
        |engine| {
            engine.set("requirepass", PASSWORD);
            engine.use_password(Some(PASSWORD));
            cut_clients(engine);
        },
        |engine| {
            engine.set("requirepass", "");
            engine.use_password(None);
        },
    );
}

#[test]
fn a_missing_permission_is_said_once() {
    expect_refusals(
        "NOPERM",
        |engine| _ = engine.command("ACL SETUSER default -xadd"),
        |engine| _ = engine.command("ACL SETUSER default +xadd"),
    );
}

#[test]
fn a_key_of_another_type_is_said_once() {
    for key in [STREAM_KEY, RECORD_KEY] {
        expect_refusals(
            &format!("WRONGTYPE of {key}"),
            |engine| _ = engine.command(&format!("SET {key} text")),
            |engine| _ = engine.command(&format!("DEL {key}")),
        );
    }
}

#[test]
fn a_flush_of_scripts_costs_nothing() {
    let engine = Engine::start(Persistence::None);
    let cluster = Cluster::start(&engine, 1);
    let watcher = cluster.watch(Route::Only(0));
    let mut posted = Vec::new();
    let from = cluster.node(0).log().len();
    for nth in 0..5 {
        engine.command("SCRIPT FLUSH");
        posted.push(cluster.post(0, &format!("message {nth}")));
    }
    assert!(
        posted.iter().all(crate::load::Posted::is_stored),
        "{posted:?}"
    );
    watcher.wait_for_content("message 4");
    assert_eq!(cluster.node(0).complaints(from), [""; 0]);
    judge(&posted, &[watcher.stop()]).hold_exactly("NOSCRIPT");
}

/// A node that cannot use its engine from the start: it listens, is not ready, and refuses webhooks.
fn expect_unready(what: &str, url: &str, extra: &[&str], words: &[&str]) {
    let mut cluster = Cluster::empty(([127, 0, 0, 1], 9).into());
    let proxy = Proxy::to(cluster.target());
    let flags = [&["--bus", url, "--bus-timeout", "500ms"], extra].concat();
    cluster.launch_on(proxy, &flags, |setup| setup);
    let node = cluster.node(0);
    let watcher = cluster.watch(Route::Only(0));
    let line = node.poll("a complaint", |node| node.complaints(0).first().cloned());
    println!("{what}: {line}");
    for word in words {
        assert!(line.contains(word), "{what}: no {word:?} in {line}");
    }
    assert_eq!(
        cluster.post(0, "refused").outcome,
        Outcome::Refused,
        "{what}"
    );
    watcher.wait_for_heartbeats(2);
    assert!(!node.is_ready(), "{what}");
    assert_eq!(
        cluster.post(0, "refused").outcome,
        Outcome::Refused,
        "{what}"
    );
    expect_few_lines(what, node, 0);
    let log = format!("{:?}", node.log());
    assert!(!log.contains(PASSWORD), "{what}: {log}");
    assert_eq!(watcher.stop().contents(), [""; 0]);
}

#[test]
fn an_address_that_does_not_resolve_is_said_once() {
    expect_unready(
        "resolution",
        "redis://no-such-host.invalid:6379/rig",
        &[],
        &["host"],
    );
}

#[test]
fn an_address_of_nothing_is_said_once() {
    let url = format!("redis://127.0.0.1:{}/{NAME}", free_port());
    expect_unready("no engine", &url, &[], &["refused"]);
}

#[test]
fn a_wrong_password_is_said_once_and_shown_nowhere() {
    let engine = Engine::configured(&["requirepass right"]);
    let file = engine.path("password");
    std::fs::write(&file, PASSWORD).unwrap();
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).unwrap();
    let url = format!("redis://{}/{NAME}", engine.address);
    let flags = ["--bus-password-file", file.to_str().unwrap()];
    expect_unready("a wrong password", &url, &flags, &["assword"]);
    expect_unready("no password", &url, &[], &["assword"]);
}

#[test]
fn an_engine_that_is_too_old_is_named_once() {
    let engine = fake::start("6.2.13");
    let url = format!("redis://{engine}/{NAME}");
    expect_unready("version", &url, &[], &["6.2.13", "7.0"]);
}

#[test]
fn something_that_is_no_engine_is_named_once() {
    let web = crate::support::peer::Peer::start(|_, socket| {
        crate::support::peer::respond(socket, "400 Bad Request", "", "no")
    });
    let url = format!("redis://{}/{NAME}", web.address);
    expect_unready("a web server", &url, &[], &[]);
}

/// It works, and may lose everything any time.
#[test]
fn an_engine_that_evicts_keys_is_warned_of() {
    let engine = Engine::configured(&["maxmemory 100mb", "maxmemory-policy allkeys-lru"]);
    let cluster = Cluster::start(&engine, 1);
    cluster.publish(0, "stored");
    let complaints = cluster.node(0).complaints(0);
    let warnings: Vec<_> = complaints
        .iter()
        .filter(|line| line.contains("maxmemory"))
        .collect();
    assert_eq!(warnings.len(), 1, "{complaints:#?}");
    assert!(warnings[0].contains("allkeys-lru"), "{warnings:?}");
}

/// The acknowledgement waits for a replica, and a webhook without one is not acknowledged.
#[test]
fn with_bus_replicas_an_acknowledgement_waits_for_a_replica() {
    let primary = Engine::start(Persistence::None);
    let between = Proxy::to(primary.address);
    let replica = Engine::replica_of(between.address);
    primary.wait_for_replicas(1);
    let flags = ["--bus-replicas", "1", "--bus-timeout", "1s"];
    let cluster = Cluster::with(primary.address, 2, &flags);
    let watchers = cluster.watch_all();
    for nth in 0..20 {
        cluster.publish(nth % 2, &format!("confirmed {nth}"));
        let length = replica.command(&format!("XLEN {STREAM_KEY}")).number();
        assert!(
            length > i64::try_from(nth).unwrap(),
            "{length} on the replica after {nth}"
        );
    }
    between.close();
    let posted = cluster.post(0, "unconfirmed");
    println!(
        "without a replica: {:?} {:?} after {:?}",
        posted.outcome, posted.error, posted.took
    );
    // It is in the engine, and perhaps seen: the outcome is unknown.
    assert_eq!(posted.outcome, Outcome::Unknown, "{posted:?}");
    between.lead_to(primary.address);
    let after = cluster.publish_eventually(1, "confirmed again");
    see_all(&watchers, &[after]);
    for record in watchers.into_iter().map(Watcher::stop) {
        judge(&[], &[record]).hold_exactly("confirmations");
    }
}
