//! How the costs of a shard grow with its streams: 100 to 1,000,000 of them in memory.
//!
//! ```console
//! cargo bench --bench growth                           # up to 100,000 streams
//! cargo bench --bench growth -- 1000 1000000           # these numbers; a million takes 1 GiB and two minutes
//! cargo bench --bench growth -- --chart growth.svg 100 1000 10000 100000 1000000
//! cargo bench --bench growth -- --only targeted 1000   # one cost, for callgrind --toggle-collect='*timed*'
//! ```
//!
//! Each round measures every cost at every number of streams; the table shows medians over the rounds. Every
//! write is counted and checked, so the bench is a test too (`cargo test --benches`).

// Counts and nanoseconds are far below 2^52.
#![allow(clippy::cast_precision_loss)]

mod chart;
mod control;
mod node;

use std::time::Duration;

use control::Table;
use node::{Audience, Node, SINK_BYTES, TARGETED_BATCH, stop_clock, taken};

const ROUNDS: usize = 9;
const STREAMS_DEFAULT: [usize; 4] = [100, 1_000, 10_000, 100_000];

/// A cost and how it is measured: in so many operations at least, so that a sample takes milliseconds.
struct Cost {
    name: &'static str,
    subject: Subject,
    operations: usize,
}

/// What a cost is measured on.
#[derive(Clone, Copy)]
enum Subject {
    Node(Audience, fn(&mut Node) -> Sample),
    Memory(fn(&mut Table) -> Sample),
}

/// Operations, and the time that they took.
#[derive(Default)]
struct Sample {
    operations: usize,
    took: Duration,
}

use Audience::{Everyone, Sessions};

const COSTS: [Cost; 9] = [
    Cost::of_node("delivery", Everyone, deliver, 200_000),
    Cost::of_node("heartbeat", Everyone, beat, 200_000),
    Cost::of_node("connect", Everyone, connect, 20_000),
    Cost::of_node("close", Everyone, close, 20_000),
    Cost::of_node("targeted", Sessions, target, 20_000),
    Cost::of_node("connect, with a session", Sessions, connect, 20_000),
    Cost::of_node("close, with a session", Sessions, close, 20_000),
    Cost::of_memory("memory alone, in order", walk, 200_000),
    Cost::of_memory("memory alone, at random", jump, 20_000),
];

impl Cost {
    const fn of_node(
        name: &'static str,
        audience: Audience,
        measure: fn(&mut Node) -> Sample,
        operations: usize,
    ) -> Cost {
        Cost {
            name,
            subject: Subject::Node(audience, measure),
            operations,
        }
    }

    const fn of_memory(
        name: &'static str,
        measure: fn(&mut Table) -> Sample,
        operations: usize,
    ) -> Cost {
        Cost {
            name,
            subject: Subject::Memory(measure),
            operations,
        }
    }
}

/// A message to every stream.
fn deliver(node: &mut Node) -> Sample {
    node.publish(1);
    let (writes, _) = taken();
    let took = node.timed();
    assert_eq!(taken().0 - writes, node.len() as u64, "one write each");
    Sample {
        operations: node.len(),
        took,
    }
}

/// A heartbeat to every stream, and the scans of an interval. Heartbeats that were about to be due went out with
/// the last message: a sixteenth of them.
fn beat(node: &mut Node) -> Sample {
    let before = taken();
    let took = node.timed_beat();
    let (writes, bytes) = taken();
    let writes = (writes - before.0) as usize;
    assert!((node.len() * 7 / 8..=node.len()).contains(&writes));
    assert_eq!((bytes - before.1) % writes as u64, 0, "all alike");
    Sample {
        operations: writes,
        took,
    }
}

/// Messages of which each is for one stream.
fn target(node: &mut Node) -> Sample {
    node.publish_targeted(TARGETED_BATCH);
    let (writes, _) = taken();
    let took = node.timed();
    let writes = taken().0 - writes;
    // Two messages of a batch may have the same session. Then one write has both.
    assert!((1..=TARGETED_BATCH as u64).contains(&writes));
    Sample {
        operations: TARGETED_BATCH,
        took,
    }
}

/// So many streams come and go at a time.
fn turnover(node: &Node) -> usize {
    (node.len() / 10).clamp(1, 1_000)
}

/// Connects, each of which gets the history. As many streams end then, unmeasured.
fn connect(node: &mut Node) -> Sample {
    let (before, clients) = (node.len(), turnover(node));
    node.connect(clients);
    let took = node.timed();
    node.note_opened();
    assert_eq!(node.len(), before + clients);
    node.hang_up(clients);
    node.settle();
    Sample {
        operations: clients,
        took,
    }
}

/// Ends of streams at random places, by their peers. As many connect then, unmeasured.
fn close(node: &mut Node) -> Sample {
    let (before, streams) = (node.len(), turnover(node));
    node.hang_up(streams);
    let took = node.timed();
    assert_eq!(node.len(), before - streams);
    node.connect(streams);
    node.settle();
    node.note_opened();
    Sample {
        operations: streams,
        took,
    }
}

fn walk(table: &mut Table) -> Sample {
    Sample {
        operations: table.len(),
        took: table.timed_walk(),
    }
}

fn jump(table: &mut Table) -> Sample {
    Sample {
        operations: 1_000,
        took: table.timed_jumps(1_000),
    }
}

/// The nodes with one number of streams, and what they hold.
struct Size {
    streams: usize,
    everyone: Opened,
    sessions: Opened,
    table: Table,
}

/// A node, and the figures of its opening.
struct Opened {
    node: Node,
    bytes_per_stream: f64,
    longest_turn: Duration,
}

impl Opened {
    fn new(audience: Audience, streams: usize) -> Opened {
        let mut node = Node::new(audience, streams);
        let before = resident_bytes();
        node.connect(streams);
        let longest_turn = node.longest_turn();
        node.note_opened();
        assert_eq!(node.len(), streams);
        let grown = resident_bytes() as f64 - before as f64;
        let bytes_per_stream = grown / streams as f64 - SINK_BYTES as f64;
        age(&mut node);
        Opened {
            node,
            bytes_per_stream,
            longest_turn,
        }
    }
}

/// Replaces two of three streams, at random, as in a node that has run for long: then streams that are served
/// one after the other are not neighbours in memory. Fills the log with messages for those that are left.
fn age(node: &mut Node) {
    let streams = node.len();
    for _ in 0..10 {
        node.hang_up(streams / 10);
        node.settle();
        node.connect(streams / 10);
        node.settle();
        node.note_opened();
    }
    if node.audience() == Sessions {
        node.fill_log_with_targeted();
    }
}

impl Size {
    fn new(streams: usize) -> Size {
        Size {
            streams,
            everyone: Opened::new(Everyone, streams),
            sessions: Opened::new(Sessions, streams),
            table: Table::new(streams),
        }
    }

    fn sample(&mut self, subject: Subject) -> Sample {
        match subject {
            Subject::Node(Everyone, measure) => measure(&mut self.everyone.node),
            Subject::Node(Sessions, measure) => measure(&mut self.sessions.node),
            Subject::Memory(measure) => measure(&mut self.table),
        }
    }

    /// Nanoseconds for an operation, over so many of them at least.
    fn measure(&mut self, subject: Subject, operations: usize) -> f64 {
        let sum = self.repeat(subject, operations);
        sum.took.as_nanos() as f64 / sum.operations as f64
    }

    fn repeat(&mut self, subject: Subject, operations: usize) -> Sample {
        let mut sum = Sample::default();
        while sum.operations < operations {
            let sample = self.sample(subject);
            sum.operations += sample.operations;
            sum.took += sample.took;
        }
        sum
    }
}

/// The resident memory of this process, exactly: `VmRSS` is off by some pages.
fn resident_bytes() -> usize {
    let text = std::fs::read_to_string("/proc/self/smaps_rollup").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("Rss:"));
    let kib = line.and_then(|line| line.split_whitespace().next());
    kib.and_then(|kib| kib.parse::<usize>().ok()).unwrap() * 1024
}

/// What the command line asks for.
#[derive(Default)]
struct Arguments {
    /// Without it, all is done once with few streams: the bench is a test.
    is_bench: bool,
    streams: Vec<usize>,
    only: Option<String>,
    chart: Option<String>,
}

impl Arguments {
    fn parse(mut words: impl Iterator<Item = String>) -> Arguments {
        let mut arguments = Arguments::default();
        while let Some(word) = words.next() {
            match word.as_str() {
                "--bench" => arguments.is_bench = true,
                "--only" => arguments.only = words.next(),
                "--chart" => arguments.chart = words.next(),
                // A filter of names, or a flag for benches of criterion: `cargo bench -- --quick`.
                word => arguments.streams.extend(word.parse::<usize>()),
            }
        }
        if arguments.streams.is_empty() {
            arguments.streams = STREAMS_DEFAULT.into();
        }
        arguments
    }
}

fn main() {
    let arguments = Arguments::parse(std::env::args().skip(1));
    if !arguments.is_bench {
        let mut size = Size::new(50);
        for cost in COSTS {
            size.measure(cost.subject, 1);
        }
        return;
    }
    if arguments.only.is_some() {
        stop_clock();
    }
    let mut sizes: Vec<Size> = arguments.streams.iter().copied().map(Size::new).collect();
    if let Some(only) = arguments.only {
        return run_only(&mut sizes, &only);
    }
    let costs: Vec<Vec<f64>> = measure_all(&mut sizes);
    print_table(&sizes, &costs);
    if let Some(path) = arguments.chart {
        let svg = chart::draw(&arguments.streams, &lines(&sizes, &costs));
        std::fs::write(path, svg).unwrap();
    }
}

/// Does the operations of one cost, for a profiler.
fn run_only(sizes: &mut [Size], name: &str) {
    for cost in COSTS.iter().filter(|cost| cost.name == name) {
        for size in &mut *sizes {
            let operations = size.repeat(cost.subject, cost.operations).operations;
            println!("{name}, {} streams: {operations} operations", size.streams);
        }
    }
}

/// The medians over all rounds, by cost and size.
fn measure_all(sizes: &mut [Size]) -> Vec<Vec<f64>> {
    let mut samples = vec![vec![Vec::new(); sizes.len()]; COSTS.len()];
    // The first round is not counted.
    for round in 0..=ROUNDS {
        for (cost, of_cost) in COSTS.iter().zip(&mut samples) {
            for (size, of_size) in sizes.iter_mut().zip(of_cost) {
                let ns = size.measure(cost.subject, cost.operations);
                if round > 0 {
                    of_size.push(ns);
                }
            }
        }
    }
    let medians = samples.into_iter().map(|of_cost| {
        let medians = of_cost.into_iter().map(median);
        medians.collect()
    });
    medians.collect()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// All figures by name and size, with their unit.
fn figures(sizes: &[Size], costs: &[Vec<f64>]) -> Vec<(String, Vec<f64>)> {
    let mut figures: Vec<_> = (COSTS.iter().zip(costs))
        .map(|(cost, ns)| (format!("{}, ns", cost.name), ns.clone()))
        .collect();
    let mut add = |name: &str, of: fn(&Size) -> f64| {
        figures.push((name.into(), sizes.iter().map(of).collect()));
    };
    add("memory of a stream, bytes", |size| {
        size.everyone.bytes_per_stream
    });
    add("memory of a stream with a session, bytes", |size| {
        size.sessions.bytes_per_stream
    });
    add("longest turn of the opening, µs", |size| {
        size.everyone.longest_turn.as_nanos() as f64 / 1e3
    });
    add("longest turn of the opening with sessions, µs", |size| {
        size.sessions.longest_turn.as_nanos() as f64 / 1e3
    });
    figures
}

fn print_table(sizes: &[Size], costs: &[Vec<f64>]) {
    let heads: Vec<String> = sizes.iter().map(|size| size.streams.to_string()).collect();
    println!("| streams | {} |", heads.join(" | "));
    println!("|---|{}", "--:|".repeat(sizes.len()));
    for (name, figures) in figures(sizes, costs) {
        let cells: Vec<String> = figures.iter().map(|ns| format!("{ns:.0}")).collect();
        println!("| {name} | {} |", cells.join(" | "));
    }
}

fn lines(sizes: &[Size], costs: &[Vec<f64>]) -> Vec<chart::Line> {
    let figures = figures(sizes, costs).into_iter().take(COSTS.len());
    figures
        .map(|(name, values)| chart::Line { name, values })
        .collect()
}
