//! Streams of all views under faults: what is for everyone, one session, several, everything; and streams that end
//! with their tokens meanwhile.

use std::time::Duration;

use tempfile::NamedTempFile;

use crate::cluster::Cluster;
use crate::engine::{Engine, Persistence};
use crate::judge::{Verdict, expect_equal, expect_equal_seqs, judge};
use crate::load::Load;
use crate::view::{Access, KEY, View};
use crate::watcher::{Record, Route, Watcher, see_all, stop_all, wait_for_token_ends};

/// As many as a stream may have.
fn sessions() -> Vec<String> {
    (0..16).map(|nth| format!("s{nth}")).collect()
}

/// A cluster whose nodes verify tokens.
fn start_with_key(engine: &Engine) -> (Cluster, NamedTempFile) {
    let key = NamedTempFile::new().unwrap();
    std::fs::write(key.path(), KEY).unwrap();
    let flags = ["--token-key", key.path().to_str().unwrap()];
    (Cluster::with(engine.address, 3, &flags), key)
}

/// Clients whose tokens last one to three seconds.
fn watch_with_tokens(cluster: &Cluster) -> Vec<Watcher> {
    let all = sessions();
    let accesses = [
        Access::of_tokens(View::Everything, 2, true),
        Access::of_tokens(View::of(&all), 3, false),
        Access::of_tokens(View::of(&all), 2, false).naming(&all[3..6]),
        Access::of_tokens(View::Everything, 3, true).naming(&all[..9]),
        Access::of_tokens(View::of(&all[7..8]), 2, true),
        Access::of_tokens(View::of(&all[5..11]), 3, true),
        Access::of_tokens(View::Public, 2, false),
    ];
    let accesses = accesses.into_iter().enumerate();
    accesses
        .map(|(nth, access)| cluster.watch_with(Route::Any(nth), access))
        .collect()
}

/// Ends a load, waits for everything, and judges.
fn finish(cluster: &Cluster, load: Load, watchers: Vec<Watcher>) -> (Verdict, Vec<Record>) {
    let mut posted = load.stop();
    for node in 0..cluster.len() {
        posted.push(cluster.publish_eventually(node, &format!("the last to {node}")));
    }
    see_all(&watchers, &posted);
    let records = stop_all(watchers);
    (judge(&posted, &records), records)
}

/// Fails unless each token that has ended was refused by some node. That none was taken is for the judge.
fn expect_refusals(records: &[Record]) {
    for record in records {
        let ends = record.token_ends();
        assert!(record.dead_tokens >= ends, "{} {ends}", record.dead_tokens);
    }
}

#[test]
fn streams_of_several_sessions_lose_and_repeat_nothing_while_nodes_are_killed() {
    let engine = Engine::start(Persistence::None);
    let mut cluster = Cluster::start(&engine, 3);
    let all = sessions();
    let views = [&all[..], &all[..1], &all[4..6], &all[2..9], &all[8..], &[]];
    let accesses = views.into_iter().map(|sessions| match sessions {
        [] => Access::default(), // Everything.
        sessions => Access::default().naming(sessions),
    });
    let watchers: Vec<Watcher> = accesses
        .enumerate()
        .map(|(nth, access)| cluster.watch_with(Route::Any(nth), access))
        .collect();
    let load = Load::start_for(&cluster.roster, 2, Duration::from_millis(2), &all);
    for node in 0..3 {
        load.wait_for_stored(60);
        cluster.kill(node);
        load.wait_for_stored(60);
        cluster.restart_behind_balancer(node);
    }
    let (verdict, _) = finish(&cluster, load, watchers);
    verdict.hold_exactly("kills of nodes, all views");
    expect_equal(&cluster.histories());
}

#[test]
fn streams_that_end_with_their_tokens_lose_and_repeat_nothing_in_handovers() {
    let engine = Engine::start(Persistence::None);
    let (mut cluster, _key) = start_with_key(&engine);
    let watchers = watch_with_tokens(&cluster);
    let load = Load::start_for(&cluster.roster, 2, Duration::from_millis(5), &sessions());
    for node in 0..3 {
        load.wait_for_stored(40);
        cluster.hand_over(node);
        wait_for_token_ends(&watchers, 1);
    }
    let (verdict, records) = finish(&cluster, load, watchers);
    let verdict = verdict.hold_exactly("handovers, tokens");
    assert!(verdict.token_ends >= 3 * records.len(), "{verdict}");
    expect_refusals(&records);
    // Its client cuts the last one.
    let ended = records
        .iter()
        .filter_map(|record| record.visits.split_last());
    for visit in ended.flat_map(|(_, ended)| ended) {
        assert!(visit.ended_well, "{visit:?}");
    }
    expect_equal(&cluster.histories());
}

#[test]
fn streams_of_all_views_lose_nothing_acknowledged_while_engine_and_nodes_are_killed() {
    let mut engine = Engine::start(Persistence::None);
    let (mut cluster, _key) = start_with_key(&engine);
    let watchers = watch_with_tokens(&cluster);
    let load = Load::start_for(&cluster.roster, 2, Duration::from_millis(5), &sessions());
    for node in 0..3 {
        load.wait_for_stored(60);
        engine.kill();
        engine.restart();
        load.wait_for_stored(60);
        cluster.kill(node);
        wait_for_token_ends(&watchers, 1);
        cluster.restart_behind_balancer(node);
    }
    let (verdict, records) = finish(&cluster, load, watchers);
    let verdict = verdict.hold("kills of the engine and of nodes, tokens");
    assert!(verdict.token_ends >= 3 * records.len(), "{verdict}");
    expect_refusals(&records);
    expect_equal_seqs(&cluster.histories());
}
