//! A replica becomes the primary, with or without the primary's tail.

use std::time::Duration;

use crate::cluster::{Cluster, NAME};
use crate::engine::{Engine, Persistence};
use crate::judge::{expect_equal_seqs, judge};
use crate::load::{Load, Posted};
use crate::loss::assert_resumes_exactly;
use crate::proxy::{Half, Proxy, Way};
use crate::watcher::{see_all, stop_all};

/// A primary, and a replica behind a proxy, so that it can be kept from the tail.
struct Pair {
    primary: Engine,
    replica: Engine,
    between: Proxy,
}

impl Pair {
    fn start() -> Pair {
        let primary = Engine::start(Persistence::None);
        let between = Proxy::to(primary.address);
        let replica = Engine::replica_of(between.address);
        Pair {
            primary,
            replica,
            between,
        }
    }

    /// From now on the replica gets nothing.
    fn leave_replica_behind(&self) {
        self.primary.wait_for_replicas(1);
        self.between.close();
    }

    /// The primary dies, and the replica takes its place.
    fn fail_over(&mut self) {
        self.primary.kill();
        self.replica.command("REPLICAOF NO ONE");
    }
}

fn post_some(cluster: &Cluster, nodes: &[usize], name: &str, count: usize) -> Vec<Posted> {
    let posted =
        (0..count).map(|nth| cluster.post(nodes[nth % nodes.len()], &format!("{name} {nth}")));
    posted.collect()
}

/// All nodes have seen the tail, so any of them puts it back.
#[test]
fn a_lost_tail_that_all_nodes_have_seen_is_put_back_and_no_stream_ends() {
    let mut pair = Pair::start();
    let mut cluster = Cluster::start(&pair.primary, 3);
    let watchers = cluster.watch_all();
    let mut posted = post_some(&cluster, &[0, 1, 2], "early", 60);
    pair.leave_replica_behind();
    posted.extend(post_some(&cluster, &[0, 1, 2], "tail", 60));
    see_all(&watchers, &posted);
    pair.fail_over();
    cluster.lead_to(pair.replica.address);
    posted.push(cluster.publish_eventually(2, "after"));
    see_all(&watchers, &posted);
    assert_resumes_exactly(&cluster, &watchers[1].record());

    // A node that knows nothing of the old primary gets the whole history from the new one.
    cluster.join(&[]);
    let histories = cluster.histories();
    expect_equal_seqs(&histories);
    let records = stop_all(watchers);
    let verdict = judge(&posted, &records).hold_exactly("a lost tail");
    assert_eq!((verdict.visits, verdict.epochs), (3, 2));
}

/// The node that begins the new epoch has not seen the tail. The others have shown it: they reset, and publish again
/// what they have acknowledged.
#[test]
fn nodes_ahead_of_the_beginner_reset_and_publish_again() {
    let mut pair = Pair::start();
    let mut cluster = Cluster::start(&pair.primary, 3);
    let watchers = cluster.watch_all();
    let mut posted = post_some(&cluster, &[0, 1, 2], "early", 30);
    see_all(&watchers, &posted);
    pair.leave_replica_behind();
    cluster.node(0).proxy.stall(Way::Down, Half::Both);
    let tail = post_some(&cluster, &[1, 2], "tail", 20);
    assert!(tail.iter().all(Posted::is_stored), "{tail:?}");
    see_all(&watchers[1..], &tail);
    posted.extend(tail);
    pair.fail_over();
    for nth in 1..3 {
        cluster.node(nth).proxy.close();
    }
    // What was stalled on the way to the first node never arrives.
    cluster.node(0).proxy.cut(Half::Both);
    cluster.node(0).proxy.flow();
    cluster.node(0).proxy.lead_to(pair.replica.address);
    let begun = cluster.publish_eventually(0, "begun");
    watchers[0].wait_for_content(&begun.content);
    posted.push(begun);
    let shown = watchers[0].record().messages().count();
    assert_eq!(shown, 31, "the first node has no tail");

    cluster.lead_to(pair.replica.address);
    posted.push(cluster.publish_eventually(1, "after reset"));
    see_all(&watchers, &posted);
    cluster.join(&[]);
    let records = stop_all(watchers);
    let verdict = judge(&posted, &records).hold("nodes ahead of the beginner");
    assert_eq!(verdict.epochs, 2, "{verdict}");
    assert_eq!(
        records[0].visits.len(),
        1,
        "the first node had nothing to reset"
    );
    for record in &records[1..] {
        assert!(record.visits.len() > 1, "streams of a reset end");
        assert!(record.visits[0].ended_well, "in good order");
    }
    let histories = cluster.histories();
    expect_equal_seqs(&histories);
    // Each once, in one history.
    assert_eq!(histories[0].messages().count(), 52);
}

#[test]
fn a_fail_over_under_load_loses_nothing_acknowledged() {
    for is_behind in [false, true] {
        let mut pair = Pair::start();
        let mut cluster = Cluster::start(&pair.primary, 3);
        let watchers = cluster.watch_all();
        let load = Load::start(&cluster.roster, 2, Duration::from_millis(2));
        load.wait_for_stored(200);
        if is_behind {
            pair.between.close();
            load.wait_for_stored(50);
        }
        pair.fail_over();
        cluster.lead_to(pair.replica.address);
        load.wait_for_stored(200);
        let mut posted = load.stop();
        posted.push(cluster.publish_eventually(0, "the last"));
        see_all(&watchers, &posted);
        let records = stop_all(watchers);
        judge(&posted, &records).hold(&format!("fail-over, replica behind: {is_behind}"));
        let histories = cluster.histories();
        expect_equal_seqs(&histories);
    }
}

/// The old primary comes back and follows the new one. What only it had is gone from it, too.
#[test]
fn a_primary_that_is_demoted_is_not_written_to() {
    let pair = Pair::start();
    let cluster = Cluster::start(&pair.primary, 2);
    let watchers = cluster.watch_all();
    let mut posted = post_some(&cluster, &[0, 1], "early", 20);
    pair.primary.wait_for_replicas(1);
    // The proxy would lead the primary to itself.
    pair.between.close();
    pair.replica.command("REPLICAOF NO ONE");
    let (host, port) = (pair.replica.address.ip(), pair.replica.address.port());
    pair.primary.command(&format!("REPLICAOF {host} {port}"));
    // The nodes still lead to the old primary, which is a replica now.
    let refused = cluster.post(0, "to a replica");
    assert!(!refused.is_stored(), "{refused:?}");
    posted.push(refused);
    for node in cluster.nodes() {
        node.proxy.lead_to(pair.replica.address);
        node.proxy.cut(Half::Both);
    }
    posted.push(cluster.publish_eventually(1, "after"));
    see_all(&watchers, &posted);
    let records = stop_all(watchers);
    judge(&posted, &records).hold_exactly("a demoted primary");
}

/// The connections of one half break, and lead to the new primary. Those of the other half stay with the old one,
/// which knows of no fail-over and answers as before. `others` are the connections of the second node that break.
fn while_a_half_stays(what: &str, moved: Half, others: Half) {
    let pair = Pair::start();
    let cluster = Cluster::start(&pair.primary, 2);
    let watchers = cluster.watch_all();
    let mut posted = post_some(&cluster, &[0, 1], "early", 20);
    see_all(&watchers, &posted);
    pair.leave_replica_behind();
    pair.replica.command("REPLICAOF NO ONE");
    for (node, half) in cluster.nodes().zip([moved, others]) {
        node.proxy.lead_to(pair.replica.address);
        node.proxy.cut(half);
    }
    for node in 0..2 {
        posted.push(cluster.publish_eventually(node, &format!("after at {node}")));
    }
    see_all(&watchers, &posted);
    let records = stop_all(watchers);
    let verdict = judge(&posted, &records).hold_exactly(what);
    // The new primary has everything that was acknowledged, so no stream ends.
    assert_eq!((verdict.visits, verdict.epochs), (2, 2), "{verdict}");
}

#[test]
fn a_reader_that_an_old_primary_still_answers_follows_the_writer() {
    while_a_half_stays("readers on the old primary", Half::Writer, Half::Writer);
    while_a_half_stays("a reader on the old primary", Half::Writer, Half::Both);
}

#[test]
fn a_writer_that_an_old_primary_still_answers_follows_the_reader() {
    while_a_half_stays("writers on the old primary", Half::Reader, Half::Reader);
    while_a_half_stays("a writer on the old primary", Half::Reader, Half::Both);
}

/// The same with Sentinels: they, the replica and the writers lose the primary, and the readers do not.
#[test]
fn a_reader_on_a_primary_that_the_sentinels_have_lost_follows_them() {
    let primary = Engine::start(Persistence::None);
    let way = Proxy::to(primary.address);
    let replica = Engine::replica_of(way.address);
    let sentinels = Engine::sentinels_of(way.address);
    let hosts = sentinels
        .iter()
        .map(|sentinel| sentinel.address.to_string());
    let hosts = hosts.collect::<Vec<_>>().join(",");
    let url = format!("redis+sentinel://{hosts}/rig/{NAME}");
    let mut cluster = Cluster::empty(primary.address);
    for nth in 0..2 {
        let unused = Proxy::to(primary.address);
        cluster.launch_on(unused, &["--bus", &url], |setup| setup);
        cluster.node(nth).wait_until_ready();
    }
    let watchers = cluster.watch_all();
    let mut posted = post_some(&cluster, &[0, 1], "early", 20);
    see_all(&watchers, &posted);
    primary.wait_for_replicas(1);
    for direction in [Way::Up, Way::Down] {
        way.stall(direction, Half::Writer);
    }
    replica.wait_for_info("replication", "role:master");
    for node in 0..2 {
        posted.push(cluster.publish_eventually(node, &format!("after at {node}")));
    }
    see_all(&watchers, &posted);
    let records = stop_all(watchers);
    let verdict = judge(&posted, &records).hold_exactly("a primary that the sentinels have lost");
    assert_eq!(verdict.visits, 2, "{verdict}");
}

#[test]
fn nodes_follow_the_sentinels_to_the_new_primary() {
    let mut primary = Engine::start(Persistence::None);
    let replica = Engine::replica_of(primary.address);
    let sentinels = Engine::sentinels_of(primary.address);
    // The first address is that of nothing.
    let mut hosts = vec![format!("127.0.0.1:{}", crate::engine::free_port())];
    hosts.extend(
        sentinels
            .iter()
            .map(|sentinel| sentinel.address.to_string()),
    );
    let url = format!("redis+sentinel://{}/rig/{NAME}", hosts.join(","));
    let mut cluster = Cluster::empty(primary.address);
    for nth in 0..3 {
        let proxy = Proxy::to(primary.address);
        cluster.launch_on(proxy, &["--bus", &url], |setup| setup);
        cluster.node(nth).wait_until_ready();
    }
    let watchers = cluster.watch_all();
    let load = Load::start(&cluster.roster, 1, Duration::from_millis(2));
    load.wait_for_stored(100);
    primary.kill();
    replica.wait_for_info("replication", "role:master");
    load.wait_for_stored(100);
    let mut posted = load.stop();
    posted.push(cluster.publish_eventually(0, "the last"));
    see_all(&watchers, &posted);
    let records = stop_all(watchers);
    let verdict = judge(&posted, &records).hold("a fail-over by sentinels");
    assert!(verdict.epochs >= 2, "{verdict}");
}
