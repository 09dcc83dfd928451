//! Counts of streams in a real engine.

use std::collections::HashMap;

use super::*;
use crate::bus::engine::{CensusStep, CensusTable, CensusWrite, FaultKind};
use crate::bus::redis::census;
use crate::limits::{PRESENCE_CALL_SESSIONS_MAX, PRESENCE_LIFE_MS, PRESENCE_SETTLE_MS};
use crate::message::{Fingerprint, fingerprint};

/// A node, which writes its table.
struct Counter {
    table: Box<dyn CensusTable>,
    node: Producer,
    number: HashMap<u64, u64>,
}

fn mark(session: u32) -> Fingerprint {
    fingerprint(&[&session.to_le_bytes()])
}

impl Counter {
    fn new(config: &BusConfig, node: u64) -> Counter {
        Counter {
            table: census(config).unwrap(),
            node: Producer(node),
            number: HashMap::new(),
        }
    }

    fn write(
        &mut self,
        table: u64,
        step: CensusStep,
        counts: &[(u32, u64)],
    ) -> Result<bool, Fault> {
        let counts: Vec<_> = counts
            .iter()
            .map(|(session, streams)| (mark(*session), *streams))
            .collect();
        let number = self.number.entry(table).or_default();
        *number += 1;
        self.table.write(&CensusWrite {
            node: self.node,
            table,
            number: *number,
            step,
            counts: &counts,
        })
    }

    fn do_write(&mut self, table: u64, step: CensusStep, counts: &[(u32, u64)]) {
        assert_eq!(self.write(table, step, counts), Ok(true), "{step:?}");
    }

    fn read(&mut self, sessions: &[u32]) -> Option<Vec<u64>> {
        let marks: Vec<Fingerprint> = sessions.iter().map(|session| mark(*session)).collect();
        self.table.read(self.node, &marks).unwrap()
    }

    /// Reads until the list of tables is old enough. Signs of life keep the table.
    fn settle(&mut self, table: u64) {
        let since = Instant::now();
        while self.read(&[0]).is_none() {
            assert!(since.elapsed() < PATIENCE);
            self.do_write(table, CensusStep::Change, &[]);
            std::thread::sleep(Duration::from_millis(50));
        }
        println!("settled after {:?}", since.elapsed());
    }
}

use CensusStep::{Build, Change, Publish};

#[test]
fn the_sums_are_those_of_the_other_nodes_with_a_table_on_the_list() {
    let Some(server) = Server::start(&[]) else {
        return;
    };
    let [mut a, mut b, mut c] = [1, 2, 3].map(|node| Counter::new(&server.config(), node));
    assert_eq!(a.read(&[1]), None, "it has no table");
    a.do_write(1, Build, &[(1, 5), (2, 1)]);
    assert_eq!(a.read(&[1]), None, "its table does not count yet");
    a.do_write(1, Publish, &[]);
    b.do_write(1, Build, &[(1, 2)]);
    b.do_write(1, Build, &[(3, 4)]);
    assert_eq!(a.read(&[1]), None, "the list is too new");
    a.settle(1);
    assert_eq!(a.read(&[1, 2, 3]), Some(vec![0, 0, 0]));
    // The list is old enough for a node that comes later.
    b.do_write(1, Publish, &[(2, 9)]);
    assert_eq!(a.read(&[1, 2, 3, 4]), Some(vec![2, 9, 4, 0]));
    assert_eq!(b.read(&[1, 2, 3]), Some(vec![5, 1, 0]));
    c.do_write(1, Publish, &[]);
    assert_eq!(c.read(&[1, 2]), Some(vec![7, 10]));
    // Changes, of which a zero removes the session.
    b.do_write(1, Change, &[(1, 0), (2, 1)]);
    assert_eq!(c.read(&[1, 2]), Some(vec![5, 2]));
    // Another table takes the place of the first one when it is whole.
    b.do_write(2, Build, &[(1, 70)]);
    b.do_write(2, Build, &[(7, 7)]);
    assert_eq!(c.read(&[1, 2, 3, 7]), Some(vec![5, 2, 4, 0]));
    b.do_write(2, Publish, &[]);
    assert_eq!(c.read(&[1, 2, 3, 7]), Some(vec![75, 1, 0, 7]));
    assert_eq!(
        server.do_it("EXISTS {t}:c:0000000000000002:1"),
        Value::Integer(0)
    );
    // A write to a table that is no longer on the list, and one that is late.
    assert_eq!(b.write(1, Change, &[(1, 1)]), Ok(false));
    b.number.insert(2, 0);
    assert_eq!(b.write(1, Publish, &[]), Ok(false));
    assert_eq!(c.read(&[1]), Some(vec![75]));
    b.table.end(Producer(2), 2).unwrap();
    assert_eq!(c.read(&[1, 7]), Some(vec![5, 0]));
    assert_eq!(b.read(&[1]), None);
    assert_eq!(server.do_it("HLEN {t}:c"), Value::Integer(4));
}

#[test]
fn writes_after_a_lost_one_change_nothing() {
    let Some(mut server) = Server::start(&["appendonly yes", "appendfsync always"]) else {
        return;
    };
    let mut node = Counter::new(&server.config(), 1);
    node.do_write(1, Publish, &[(1, 1)]);
    server.do_it("DEL {t}:c:0000000000000001:1");
    assert_eq!(node.write(1, Change, &[(2, 2)]), Ok(false));
    node.do_write(2, Publish, &[(1, 1)]);
    // The engine has lost the second write, as after a fail-over.
    node.number.insert(2, 2);
    assert_eq!(node.write(2, Change, &[(2, 2)]), Ok(false));
    node.do_write(3, Build, &[(1, 1)]);
    server.do_it("FLUSHALL");
    assert_eq!(node.write(3, Publish, &[]), Ok(false));
    node.do_write(4, Publish, &[(1, 1)]);
    server.do_it("DEL {t}:c");
    assert_eq!(node.write(4, Change, &[]), Ok(false));
    // It may lack the last writes, although it does not.
    node.do_write(5, Publish, &[(1, 1)]);
    node.settle(5);
    server.restart();
    let _ = node.table.read(Producer(1), &[mark(1)]);
    assert_eq!(node.read(&[1]), None);
    assert_eq!(node.write(5, Change, &[]), Ok(false));
    node.do_write(6, Publish, &[(1, 1)]);
    assert_eq!(node.read(&[1]), None, "other nodes may be missing");
    node.settle(6);
    server.do_it("SET {t}:c text");
    let fault = node.write(7, Publish, &[]).unwrap_err();
    assert_eq!(fault.kind, FaultKind::Unusable, "{fault}");
}

/// It also leaves the list, at the next table that another node writes.
#[test]
fn a_node_without_a_sign_of_life_no_longer_counts() {
    let Some(server) = Server::start(&[]) else {
        return;
    };
    let [mut a, mut b] = [1, 2].map(|node| Counter::new(&server.config(), node));
    a.do_write(1, Publish, &[]);
    a.settle(1);
    b.do_write(1, Publish, &[(1, 3)]);
    let since = Instant::now();
    assert_eq!(a.read(&[1]), Some(vec![3]));
    while a.read(&[1]) == Some(vec![3]) {
        a.do_write(1, Change, &[]);
        std::thread::sleep(Duration::from_millis(20));
        assert!(since.elapsed() < PATIENCE);
    }
    println!("gone after {:?}", since.elapsed());
    assert!(since.elapsed() >= Duration::from_millis(PRESENCE_LIFE_MS - 100));
    assert_eq!(a.read(&[1]), Some(vec![0]));
    assert_eq!(server.do_it("HLEN {t}:c"), Value::Integer(4));
    a.do_write(2, Publish, &[]);
    assert_eq!(server.do_it("HLEN {t}:c"), Value::Integer(3));
    // If all nodes are gone, nothing is left.
    while server.do_it("DBSIZE") != Value::Integer(0) {
        std::thread::sleep(Duration::from_millis(50));
        assert!(since.elapsed() < PATIENCE);
    }
}

/// The figures of the operator's page.
#[test]
fn a_large_table_is_written_in_calls_of_a_bounded_size() {
    let Some(server) = Server::start(&[]) else {
        return;
    };
    let [mut a, mut b] = [1, 2].map(|node| Counter::new(&server.config(), node));
    a.do_write(1, Publish, &[]);
    let sessions: Vec<(u32, u64)> = (0..10_000).map(|session| (session, 3)).collect();
    let bytes_in = || {
        let Value::BulkString(info) = server.do_it("INFO stats") else {
            panic!("no text");
        };
        let info = String::from_utf8(info.clone()).unwrap();
        let field = reply::info_field(&info, "total_net_input_bytes").unwrap();
        field.parse::<u64>().unwrap()
    };
    let (before, since) = (bytes_in(), Instant::now());
    for part in sessions.chunks(PRESENCE_CALL_SESSIONS_MAX) {
        b.do_write(1, Build, part);
    }
    b.do_write(1, Publish, &[]);
    println!(
        "10,000 sessions: {} bytes in {:?}; MEMORY USAGE {:?}",
        bytes_in() - before,
        since.elapsed(),
        server.do_it("MEMORY USAGE {t}:c:0000000000000002:1 SAMPLES 0")
    );
    let before = bytes_in();
    b.do_write(1, Change, &[]);
    let idle = bytes_in() - before;
    let before = bytes_in();
    b.do_write(1, Change, &[(1, 2)]);
    println!(
        "a sign of life {idle} bytes, a change {} more",
        bytes_in() - before - idle
    );
    a.settle(1);
    b.do_write(2, Publish, &sessions[..PRESENCE_CALL_SESSIONS_MAX]);
    let asked: Vec<u32> = (0..64).collect();
    let since = Instant::now();
    assert_eq!(a.read(&asked), Some(vec![3; 64]));
    println!("a read of 64 sessions of one node: {:?}", since.elapsed());
    const { assert!(PRESENCE_SETTLE_MS < PRESENCE_LIFE_MS) };
}

#[test]
fn a_user_without_a_permission_is_told_so() {
    let lines = ["user joe on >pw ~{t}:* -@all +evalsha +eval +info +hget"];
    let Some(server) = Server::start(&lines) else {
        return;
    };
    let mut joe = with_password(server.config(), "pw");
    joe.address.user = Some("joe".into());
    let mut node = Counter::new(&joe, 1);
    let fault = node.write(1, Publish, &[]).unwrap_err();
    assert_eq!(fault.kind, FaultKind::Denied, "{fault}");
    let more = "ACL SETUSER joe +hset +hdel +del +pexpire +hgetall +hmget +exists +time";
    server.do_it(more);
    node.number.clear();
    node.do_write(1, Publish, &[(1, 1)]);
    node.settle(1);
    let mut other = Counter::new(&joe, 2);
    other.do_write(1, Publish, &[(1, 1)]);
    assert_eq!(node.read(&[1]), Some(vec![1]));
}
