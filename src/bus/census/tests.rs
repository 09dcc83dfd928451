//! The counts of nodes with an engine in memory, which forgets, loses answers and executes calls late.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Mutex;

use super::*;
use crate::bus::engine::FaultKind;
use crate::testkit::now_at;

/// An engine with the tables of all nodes. A table is dropped by the test, not by time.
#[derive(Default)]
struct Tables {
    listed: BTreeMap<u64, u64>,
    by_node: HashMap<(u64, u64), (u64, HashMap<Fingerprint, u64>)>,
    /// What happens to the next write.
    next: Option<Trouble>,
    /// A call whose answer was lost, and that is executed later.
    late: Option<Call>,
    writes: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trouble {
    Unreachable,
    /// Executed, and the answer is lost.
    Answer,
    /// Executed later.
    Late,
}

struct Call {
    node: u64,
    table: u64,
    number: u64,
    step: CensusStep,
    counts: Vec<(Fingerprint, u64)>,
}

impl Tables {
    fn execute(&mut self, call: &Call) -> bool {
        let place = (call.node, call.table);
        let listed = self.listed.get(&call.node).copied();
        let before = self.by_node.get(&place).map(|(number, _)| *number);
        if call.number > 1 && before != Some(call.number - 1) {
            return false;
        }
        if call.step == CensusStep::Change && listed != Some(call.table)
            || listed > Some(call.table)
        {
            return false;
        }
        if call.number == 1 {
            self.by_node.remove(&place);
        }
        let table = self.by_node.entry(place).or_default();
        table.0 = call.number;
        for (mark, streams) in &call.counts {
            table.1.insert(*mark, *streams);
        }
        table.1.retain(|_, streams| *streams > 0);
        if call.step == CensusStep::Publish {
            if let Some(old) = listed.filter(|old| *old != call.table) {
                self.by_node.remove(&(call.node, old));
            }
            self.listed.insert(call.node, call.table);
        }
        true
    }

    fn forget(&mut self) {
        self.listed.clear();
        self.by_node.clear();
    }
}

struct SharedTables(Arc<Mutex<Tables>>);

impl CensusTable for SharedTables {
    fn write(&mut self, write: &CensusWrite<'_>) -> Result<bool, Fault> {
        let mut tables = self.0.lock().unwrap();
        tables.writes += 1;
        assert!(write.counts.len() <= PRESENCE_CALL_SESSIONS_MAX);
        let call = Call {
            node: write.node.0,
            table: write.table,
            number: write.number,
            step: write.step,
            counts: write.counts.to_vec(),
        };
        let fault = |kind| {
            let text = "broken".into();
            Err(Fault { kind, text })
        };
        match tables.next.take() {
            None => Ok(tables.execute(&call)),
            Some(Trouble::Unreachable) => fault(FaultKind::Unreachable),
            Some(Trouble::Answer) => {
                tables.execute(&call);
                fault(FaultKind::Lost)
            }
            Some(Trouble::Late) => {
                tables.late = Some(call);
                fault(FaultKind::Lost)
            }
        }
    }

    fn read(
        &mut self,
        node: Producer,
        sessions: &[Fingerprint],
    ) -> Result<Option<Vec<u64>>, Fault> {
        let tables = self.0.lock().unwrap();
        if !tables.listed.contains_key(&node.0) {
            return Ok(None);
        }
        let others = || tables.listed.iter().filter(|(other, _)| **other != node.0);
        let streams = |mark: &Fingerprint| {
            let of = |(other, table): (&u64, &u64)| {
                let table = tables.by_node.get(&(*other, *table))?;
                table.1.get(mark).copied()
            };
            others().filter_map(of).sum()
        };
        Ok(Some(sessions.iter().map(streams).collect()))
    }

    fn end(&mut self, node: Producer, table: u64) -> Result<(), Fault> {
        let mut tables = self.0.lock().unwrap();
        tables.listed.remove(&node.0);
        tables.by_node.remove(&(node.0, table));
        Ok(())
    }
}

/// Two shards, as sets of streams by session.
#[derive(Default)]
struct TwoShards {
    streams: [BTreeMap<u32, u64>; 2],
    changed: HashSet<u32>,
    is_overflown: bool,
    is_slow: bool,
}

/// Sessions in a part.
const PART: usize = 3;

impl TwoShards {
    fn shift(&mut self, shard: usize, session: u32, by: i64) {
        let streams = self.streams[shard].entry(session).or_default();
        *streams = streams.saturating_add_signed(by);
        self.streams[shard].retain(|_, streams| *streams > 0);
        self.changed.insert(session);
    }

    fn total(&self, session: u32) -> u64 {
        let shards = self.streams.iter();
        shards.filter_map(|streams| streams.get(&session)).sum()
    }
}

fn name(session: u32) -> SessionId {
    SessionId::parse(&session.to_string()).unwrap().unwrap()
}

impl Shards for TwoShards {
    fn take_changes(&mut self) -> Option<Changes> {
        let changed = std::mem::take(&mut self.changed);
        (!self.is_slow).then(|| Changes {
            sessions: changed.into_iter().map(name).collect(),
            is_overflown: std::mem::take(&mut self.is_overflown),
        })
    }

    fn sessions(&mut self, from: Place) -> Option<(Vec<SessionId>, Option<Place>)> {
        let all = &self.streams[from.shard];
        let part = all.keys().skip(from.slot).take(PART);
        let part: Vec<SessionId> = part.map(|session| name(*session)).collect();
        let slot = from.slot + PART;
        let next = if slot < all.len() {
            Some(Place { slot, ..from })
        } else {
            (from.shard == 0).then_some(Place { shard: 1, slot: 0 })
        };
        Some((part, next))
    }

    fn count(&mut self, sessions: &Arc<[SessionId]>) -> Option<Vec<u64>> {
        let total = |session: &SessionId| self.total(session.as_str().parse().unwrap());
        Some(sessions.iter().map(total).collect())
    }
}

struct Node {
    census: Census,
    shards: TwoShards,
}

fn node(tables: &Arc<Mutex<Tables>>, number: u64) -> Node {
    let stats = Arc::new(BusStats::new(Producer(number), now_at(0)));
    let engine = Box::new(SharedTables(Arc::clone(tables)));
    Node {
        census: Census::new(engine, Producer(number), stats),
        shards: TwoShards::default(),
    }
}

impl Node {
    fn beat(&mut self) {
        self.census.beat(&mut self.shards);
    }

    fn others(&mut self, session: u32) -> Option<u64> {
        let sums = self.census.others(&[name(session), name(9_999)])?;
        assert_eq!(sums[1], 0);
        Some(sums[0])
    }
}

#[test]
fn a_node_writes_its_table_once_and_then_what_changes() {
    let tables = Arc::default();
    let (mut a, mut b) = (node(&tables, 1), node(&tables, 2));
    for session in 0..20 {
        a.shards.shift(session as usize % 2, session, 2);
    }
    a.shards.shift(1, 4, 3);
    assert_eq!(b.others(4), None, "it has no table yet");
    a.beat();
    b.beat();
    assert_eq!((b.others(4), b.others(5)), (Some(5), Some(2)));
    assert_eq!(a.others(4), Some(0));
    let writes = || tables.lock().unwrap().writes;
    let before = writes();
    a.beat();
    assert_eq!(writes() - before, 1, "a sign of life");
    a.shards.shift(0, 4, -2);
    a.shards.shift(1, 5, -2);
    a.shards.shift(0, 77, 1);
    a.beat();
    assert_eq!(writes() - before, 2);
    assert_eq!(
        [4, 5, 77, 6].map(|session| b.others(session)),
        [Some(3), Some(0), Some(1), Some(2)]
    );
    a.census.end();
    assert_eq!(b.others(4), Some(0));
}

#[test]
fn many_changes_are_written_in_parts_and_too_many_as_a_table() {
    let tables = Arc::default();
    let (mut a, mut b) = (node(&tables, 1), node(&tables, 2));
    a.beat();
    b.beat();
    let many = PRESENCE_CALL_SESSIONS_MAX as u32 * 2 + 1;
    for session in 0..many {
        a.shards.shift(0, session, 1);
    }
    let before = tables.lock().unwrap().writes;
    a.beat();
    assert_eq!(tables.lock().unwrap().writes - before, 3);
    assert_eq!(b.others(many - 1), Some(1));
    a.shards.shift(0, 3, 1);
    a.shards.changed.clear();
    a.shards.is_overflown = true;
    a.beat();
    assert_eq!(b.others(3), Some(2));
}

#[test]
fn a_slow_shard_leaves_the_table_as_it_is_until_all_is_known() {
    let tables = Arc::default();
    let (mut a, mut b) = (node(&tables, 1), node(&tables, 2));
    a.shards.shift(0, 1, 1);
    a.beat();
    b.beat();
    a.shards.shift(1, 1, 1);
    a.shards.is_slow = true;
    a.beat();
    assert_eq!(b.others(1), Some(1));
    a.shards.is_slow = false;
    a.beat();
    assert_eq!(
        b.others(1),
        Some(2),
        "the changes of the slow beat are not lost"
    );
}

/// A call that is executed late belongs to a table that has been given up.
#[test]
fn a_late_call_has_no_effect() {
    for step in [CensusStep::Change, CensusStep::Publish] {
        let tables: Arc<Mutex<Tables>> = Arc::default();
        let (mut a, mut b) = (node(&tables, 1), node(&tables, 2));
        b.beat();
        if step == CensusStep::Change {
            a.beat();
        }
        a.shards.shift(0, 1, 7);
        if step == CensusStep::Publish {
            // The first write is a part of the table.
            a.shards.streams[0].clear();
        }
        tables.lock().unwrap().next = Some(Trouble::Late);
        a.beat();
        assert_eq!(a.others(1), None);
        a.shards.shift(1, 1, 3);
        a.beat();
        let expected = a.shards.total(1);
        assert_eq!(b.others(1), Some(expected));
        let late = tables.lock().unwrap().late.take().unwrap();
        assert_eq!(late.step, step);
        tables.lock().unwrap().execute(&late);
        assert_eq!(b.others(1), Some(expected), "{step:?}");
        a.beat();
        assert_eq!(b.others(1), Some(expected), "{step:?}");
    }
}

/// Streams come and go on three nodes while the engine fails in every way. One beat of each node after the last
/// fault, all sums are right.
#[test]
fn one_beat_after_any_fault_the_sums_are_right() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut rng = fastrand::Rng::with_seed(seed);
    let tables: Arc<Mutex<Tables>> = Arc::default();
    let mut nodes: Vec<Node> = (1..=3).map(|number| node(&tables, number)).collect();
    let mut checked = 0;
    for _ in 0..3_000 {
        let nth = rng.usize(..3);
        match rng.u8(..12) {
            0 => tables.lock().unwrap().forget(),
            1 => {
                let choices = [Trouble::Unreachable, Trouble::Answer, Trouble::Late];
                tables.lock().unwrap().next = Some(choices[rng.usize(..3)]);
            }
            2 => {
                let mut tables = tables.lock().unwrap();
                if let Some(late) = tables.late.take() {
                    tables.execute(&late);
                }
            }
            3 => nodes[nth].shards.is_slow = rng.bool(),
            4..=6 => nodes[nth].beat(),
            _ => {
                let by = if rng.bool() { 1 } else { -1 };
                let (shard, session) = (rng.usize(..2), rng.u32(..12));
                nodes[nth].shards.shift(shard, session, by);
            }
        }
        if rng.u8(..20) == 0 {
            tables.lock().unwrap().next = None;
            for node in &mut nodes {
                node.shards.is_slow = false;
                node.beat();
            }
            for (nth, session) in [(0, 1), (1, 5), (2, 11)] {
                let all: u64 = nodes.iter().map(|node| node.shards.total(session)).sum();
                let own = nodes[nth].shards.total(session);
                assert_eq!(nodes[nth].others(session), Some(all - own));
                checked += 1;
            }
        }
    }
    assert!(checked > 200, "{checked}");
}
