//! Other programs empty, trim and write the keys of the bus. Nothing is skipped silently.

use crate::cluster::{Cluster, RECORD_KEY, STREAM_KEY};
use crate::engine::{Engine, Persistence};
use crate::judge::{expect_equal_seqs, judge};
use crate::load::Posted;
use crate::loss::assert_resumes_exactly;
use crate::proxy::{Half, Way};
use crate::watcher::{Record, Visit, beat, see_all, stop_all};

/// At rest all nodes have everything, so they put it back.
#[test]
fn deleted_keys_are_put_back_and_no_stream_ends() {
    for deletion in [
        "FLUSHALL",
        "DEL {rig}:s",
        "DEL {rig}:m",
        "XTRIM {rig}:s MAXLEN 0",
    ] {
        let engine = Engine::start(Persistence::None);
        let cluster = Cluster::start(&engine, 3);
        let watchers = cluster.watch_all();
        let mut posted: Vec<Posted> = (0..120)
            .map(|nth| cluster.post(nth % 3, &format!("early {nth}")))
            .collect();
        see_all(&watchers, &posted);
        engine.command(deletion);
        for node in 0..3 {
            posted.push(cluster.publish_eventually(node, &format!("after at {node}")));
        }
        see_all(&watchers, &posted);
        assert_resumes_exactly(&cluster, &watchers[2].record());
        let records = stop_all(watchers);
        let verdict = judge(&posted, &records).hold_exactly(deletion);
        assert_eq!(verdict.visits, 3, "{deletion}: {verdict}");
        let histories = cluster.histories();
        expect_equal_seqs(&histories);
    }
}

/// Without a webhook, too, the nodes notice it: their probes do not come back.
#[test]
fn deleted_keys_are_noticed_without_a_webhook() {
    let engine = Engine::start(Persistence::None);
    let mut cluster = Cluster::start(&engine, 2);
    let watchers = cluster.watch_all();
    let posted: Vec<Posted> = (0..30)
        .map(|nth| cluster.post(nth % 2, &format!("early {nth}")))
        .collect();
    see_all(&watchers, &posted);
    engine.command("FLUSHALL");
    cluster.node(0).poll("the keys again", |_| {
        (engine
            .command(&format!("EXISTS {STREAM_KEY} {RECORD_KEY}"))
            .number()
            == 2)
            .then_some(())
    });
    let late = cluster.join(&[]);
    assert_eq!(
        cluster.history(late).contents(),
        watchers[0].record().contents()
    );
    let records = stop_all(watchers);
    assert_eq!(judge(&posted, &records).hold_exactly("at rest").visits, 2);
}

/// The second node does not see what is published, and then cannot read it any more.
fn while_one_node_lags(
    what: &str,
    tamper: impl Fn(&Engine, &[Posted]),
) -> (Vec<Posted>, Vec<Record>) {
    let engine = Engine::start(Persistence::None);
    let cluster = Cluster::start(&engine, 2);
    let watchers = cluster.watch_all();
    let mut posted: Vec<Posted> = (0..10)
        .map(|nth| cluster.post(0, &format!("early {nth}")))
        .collect();
    see_all(&watchers, &posted);
    let proxy = &cluster.node(1).proxy;
    proxy.stall(Way::Down, Half::Both);
    let missed: Vec<Posted> = (0..30)
        .map(|nth| cluster.post(0, &format!("missed {nth}")))
        .collect();
    assert!(missed.iter().all(Posted::is_stored));
    tamper(&engine, &missed);
    // What was stalled on the way never arrives.
    proxy.cut(Half::Both);
    proxy.flow();
    posted.extend(missed);
    for node in 0..2 {
        posted.push(cluster.publish_eventually(node, &format!("after at {node}")));
    }
    see_all(&watchers, &posted[posted.len() - 2..]);
    println!("{what}: {:#?}", cluster.node(1).complaints(0));
    let records = stop_all(watchers);
    // The other node's streams have everything.
    judge(&posted, &records[..1]).hold_exactly(what);
    (posted, records)
}

/// Either the streams get a gap, or they end and come back.
fn expect_notice(what: &str, records: &[Record], missing: usize) {
    let verdict = judge(&[], records).hold(what);
    let lagged = &records[1];
    let lacks = records[0].known.difference(&lagged.known).count();
    println!("{what}: {lacks} messages are missing; {verdict}");
    assert!(lacks <= missing, "{what}: {lacks} messages are missing");
    let gaps: u64 = lagged.visits.iter().flat_map(Visit::gaps).sum();
    assert!(
        gaps >= lacks as u64,
        "{what}: {lacks} messages are missing, and gaps say {gaps}"
    );
}

#[test]
fn a_trimmed_stream_gives_a_gap() {
    let (_, records) = while_one_node_lags("XTRIM", |engine, _| {
        _ = engine.command(&format!("XTRIM {STREAM_KEY} MAXLEN 5"));
    });
    expect_notice("XTRIM", &records, 25);
}

#[test]
fn a_deleted_entry_gives_a_gap() {
    let (_, records) = while_one_node_lags("XDEL", |engine, missed| {
        let entries = engine.command(&format!("XREVRANGE {STREAM_KEY} + - COUNT 15"));
        assert_eq!(missed.len(), 30);
        let id = entries.list().last().unwrap().list()[0].text();
        engine.command(&format!("XDEL {STREAM_KEY} {id}"));
    });
    expect_notice("XDEL", &records, 1);
}

#[test]
fn the_last_entry_deleted_gives_a_gap() {
    let (_, records) = while_one_node_lags("XDEL of the last", |engine, _| {
        let entries = engine.command(&format!("XREVRANGE {STREAM_KEY} + - COUNT 1"));
        let id = entries.list()[0].list()[0].text();
        engine.command(&format!("XDEL {STREAM_KEY} {id}"));
    });
    // Nothing after the place of the deleted entry proves where the log ends.
    expect_notice("XDEL of the last", &records, 30);
}

/// An entry of another program, with an id of the present epoch or of the engine's clock.
#[test]
fn a_foreign_entry_is_never_skipped_silently() {
    for of_epoch in [true, false] {
        let engine = Engine::start(Persistence::None);
        let cluster = Cluster::start(&engine, 2);
        let watchers = cluster.watch_all();
        let mut posted: Vec<Posted> = (0..10)
            .map(|nth| cluster.post(0, &format!("early {nth}")))
            .collect();
        see_all(&watchers, &posted);
        let entries = engine.command(&format!("XREVRANGE {STREAM_KEY} + - COUNT 1"));
        let id = entries.list()[0].list()[0].text().to_owned();
        let epoch = id.split_once('-').unwrap().0;
        let id = if of_epoch {
            format!("{epoch}-*")
        } else {
            "*".into()
        };
        let added = engine.attempt(&["XADD", STREAM_KEY, &id, "what", "is this"]);
        println!("foreign entry {id}: {added:?}");
        if added.is_err() {
            // The epoch is ahead of the engine's clock: such an entry cannot be.
            continue;
        }
        cluster
            .node(0)
            .poll("a line about the foreign entry", |node| {
                let complaints = node.complaints(0);
                complaints
                    .iter()
                    .any(|line| line.contains("entry"))
                    .then_some(())
            });
        println!("{:#?}", cluster.node(0).complaints(0));
        // Either the bus goes on, or it stops and refuses.
        let after = cluster.post(0, "after");
        println!("foreign entry {id}: {:?} {:?}", after.outcome, after.error);
        posted.push(after);
        see_all(&watchers, &posted);
        beat(&watchers, 1);
        let records = stop_all(watchers);
        judge(&posted, &records).hold(&id);
        for history in cluster.histories() {
            let count = history.messages().count();
            println!(
                "foreign entry {id}: a history of {count} messages of {}",
                posted.len()
            );
        }
    }
}
