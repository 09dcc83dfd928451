//! Nodes of hookcast on one bus, each with a ring, an admin listener and a proxy of its own.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::engine::Engine;
use crate::load::{Posted, Sender};
use crate::proxy::Proxy;
use crate::support::{Connection, PATIENCE, Response, Server, Setup};
use crate::view::Access;
use crate::watcher::{Id, Record, Roster, Route, Watcher};

/// The name of the bus.
pub const NAME: &str = "rig";
/// The keys of the bus.
pub const STREAM_KEY: &str = "{rig}:s";
pub const RECORD_KEY: &str = "{rig}:m";

/// Nodes on one bus.
pub struct Cluster {
    pub roster: Roster,
    nodes: Vec<Node>,
    /// Where the proxies of new nodes lead.
    target: SocketAddr,
}

/// A node, running or not.
pub struct Node {
    server: Option<Server>,
    setup: Setup,
    /// The newest process after handovers.
    pid: u32,
    handovers: usize,
    /// Between the node and the engine.
    pub proxy: Proxy,
}

impl Cluster {
    /// Nodes that have caught up.
    pub fn start(engine: &Engine, count: usize) -> Cluster {
        Cluster::with(engine.address, count, &[])
    }

    /// The same with flags.
    pub fn with(engine: SocketAddr, count: usize, flags: &[&str]) -> Cluster {
        let mut cluster = Cluster::empty(engine);
        for _ in 0..count {
            cluster.join(flags);
        }
        cluster
    }

    pub fn empty(engine: SocketAddr) -> Cluster {
        Cluster {
            roster: Roster::default(),
            nodes: Vec::new(),
            target: engine,
        }
    }

    /// Starts one more node and waits until it is ready; returns its number.
    pub fn join(&mut self, flags: &[&str]) -> usize {
        let nth = self.launch(flags);
        self.nodes[nth].wait_until_ready();
        nth
    }

    /// Starts one more node that need not be ready.
    pub fn launch(&mut self, flags: &[&str]) -> usize {
        let proxy = Proxy::to(self.target);
        let url = format!("redis://{}/{NAME}", proxy.address);
        self.launch_on(proxy, &[&["--bus", &url], flags].concat(), |setup| setup)
    }

    /// Starts one more node with these flags only; `proxy` is for the test.
    pub fn launch_on(
        &mut self,
        proxy: Proxy,
        flags: &[&str],
        adjust: impl Fn(Setup) -> Setup,
    ) -> usize {
        let setup = adjust(setup(flags));
        let nth = self.nodes.len();
        let server = setup.start();
        self.roster.set(nth, Some(server.address));
        self.nodes.push(Node {
            pid: server.pid(),
            server: Some(server),
            setup,
            handovers: 0,
            proxy,
        });
        nth
    }

    pub fn node(&self, nth: usize) -> &Node {
        &self.nodes[nth]
    }

    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter()
    }

    /// The engine that new nodes use.
    pub fn target(&self) -> SocketAddr {
        self.target
    }

    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Connects every node to another engine from now on.
    pub fn lead_to(&mut self, engine: SocketAddr) {
        self.target = engine;
        for node in &self.nodes {
            node.proxy.lead_to(engine);
        }
    }

    /// Kills a node as a crash would.
    pub fn kill(&mut self, nth: usize) {
        let node = &mut self.nodes[nth];
        self.roster.set(nth, None);
        let mut server = node.server.take().expect("it runs");
        if node.handovers == 0 {
            server.kill();
        } else {
            signal(node.pid, Signal::KILL);
            wait_for_end(node.pid);
        }
    }

    /// Ends a node by SIGTERM.
    pub fn end(&mut self, nth: usize) {
        let node = &mut self.nodes[nth];
        let mut server = node.server.take().expect("it runs");
        server.signal(Signal::TERM);
        let status = server.wait();
        assert_eq!(status.code(), Some(0), "{:#?}", server.log());
        self.roster.set(nth, None);
    }

    /// Starts a node again on its ring, which need not be ready.
    pub fn restart(&mut self, nth: usize) {
        self.restart_with(nth, |setup| setup);
    }

    /// Starts a node again; clients find it once it is ready, as behind a load balancer.
    pub fn restart_behind_balancer(&mut self, nth: usize) {
        self.revive(nth, |setup| setup);
        let node = &self.nodes[nth];
        node.wait_until_ready();
        self.roster.set(nth, Some(node.server().address));
    }

    /// The same with another setup.
    pub fn restart_with(&mut self, nth: usize, adjust: impl Fn(Setup) -> Setup) {
        self.revive(nth, adjust);
        self.roster.set(nth, Some(self.nodes[nth].server().address));
    }

    fn revive(&mut self, nth: usize, adjust: impl Fn(Setup) -> Setup) {
        let node = &mut self.nodes[nth];
        assert!(node.server.is_none(), "it runs");
        node.setup = adjust(node.setup.clone());
        let server = node.setup.start();
        node.pid = server.pid();
        node.handovers = 0;
        node.server = Some(server);
    }

    /// Hands a node over to a new process.
    pub fn hand_over(&mut self, nth: usize) {
        let node = &mut self.nodes[nth];
        signal(node.pid, Signal::USR2);
        let server = node.server.as_ref().expect("it runs");
        let line = server.wait_for_nth_log("handed over", node.handovers);
        node.pid = u32::try_from(line["pid"].as_u64().unwrap()).unwrap();
        server.wait_for_nth_log("the predecessor has ended", node.handovers);
        node.handovers += 1;
    }

    pub fn post(&self, nth: usize, content: &str) -> Posted {
        Sender::default().post(&self.roster, nth, content, None)
    }

    /// Sends a message that must be stored; returns its id.
    pub fn publish(&self, nth: usize, content: &str) -> String {
        let posted = self.post(nth, content);
        assert!(
            posted.is_stored(),
            "{posted:?}: {:#?}",
            self.node(nth).log()
        );
        posted.message_id().to_owned()
    }

    /// Sends webhooks to a node until one is stored; returns it. Those before were refused.
    pub fn publish_eventually(&self, nth: usize, content: &str) -> Posted {
        let deadline = Instant::now() + PATIENCE;
        for attempt in 0.. {
            let posted = self.post(nth, &format!("{content} {attempt}"));
            if posted.is_stored() {
                return posted;
            }
            assert!(
                Instant::now() < deadline,
                "{posted:?}: {:#?}",
                self.node(nth).log()
            );
        }
        unreachable!()
    }

    /// Opens a stream.
    pub fn watch(&self, route: Route) -> Watcher {
        Watcher::start(&self.roster, route, "", None).connected()
    }

    /// Opens a stream of each node.
    pub fn watch_all(&self) -> Vec<Watcher> {
        (0..self.len())
            .map(|nth| self.watch(Route::Only(nth)))
            .collect()
    }

    /// Opens a stream after an event id, and does not wait for its beginning.
    pub fn resume(&self, nth: usize, id: Id) -> Watcher {
        Watcher::start(&self.roster, Route::Only(nth), "", Some(id))
    }

    /// Opens a stream with a view of its own.
    pub fn watch_with(&self, route: Route, access: Access) -> Watcher {
        Watcher::start_with(&self.roster, route, access, None).connected()
    }

    /// The histories of all nodes.
    pub fn histories(&self) -> Vec<Record> {
        (0..self.len()).map(|nth| self.history(nth)).collect()
    }

    /// The history of a node, as a new stream replays it.
    pub fn history(&self, nth: usize) -> Record {
        let watcher = self.watch(Route::Only(nth));
        watcher.wait_for("the replay", |record| {
            let visit = record.visits.first()?;
            (visit.messages().count() as u64 >= visit.replay?).then_some(())
        });
        watcher.stop()
    }
}

/// The interval of heartbeats, in milliseconds.
pub const HEARTBEAT_MS: u64 = 250;

/// What the flags of all nodes begin with.
const COMMON: [&str; 8] = [
    "--admin",
    "127.0.0.1:0",
    "--shards",
    "2",
    "--drain",
    "1s",
    "--heartbeat",
    "250ms",
];

/// The setup of a node with these flags.
pub fn setup(flags: &[&str]) -> Setup {
    Setup::new(&all_flags(flags))
}

/// These flags after the common ones.
pub fn all_flags<'a>(flags: &[&'a str]) -> Vec<&'a str> {
    [&COMMON, flags].concat()
}

impl Node {
    pub fn server(&self) -> &Server {
        self.server.as_ref().expect("it runs")
    }

    pub fn setup(&self) -> &Setup {
        &self.setup
    }

    pub fn log(&self) -> Vec<Value> {
        self.server().log()
    }

    pub fn admin(&self) -> SocketAddr {
        let line = self.server().wait_for_log("metrics and health");
        line["address"].as_str().unwrap().parse().unwrap()
    }

    pub fn get(&self, path: &str) -> Response {
        Connection::open(self.admin()).get(path, "Connection: close\r\n")
    }

    pub fn is_ready(&self) -> bool {
        self.get("/readyz").status == 200
    }

    /// Waits until the node has caught up. Nothing announces it to clients, so this polls.
    pub fn wait_until_ready(&self) {
        self.poll("ready", |node| node.is_ready().then_some(()));
    }

    /// Asks until there is something.
    pub fn poll<T>(&self, what: &str, find: impl Fn(&Node) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = find(self) {
                return found;
            }
            assert!(
                Instant::now() < deadline,
                "never: {what}; {:#?}",
                self.log()
            );
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// The value of a metric; `series` is its name, with labels if it has some.
    pub fn metric(&self, series: &str) -> Option<f64> {
        let response = self.get("/metrics");
        let text = String::from_utf8(response.body).unwrap();
        let value = |line: &str| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok();
        text.lines().find_map(value)
    }

    /// The number of its open descriptors.
    pub fn open_files(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid))
            .unwrap()
            .count()
    }

    /// The warnings and errors after the first `from` lines of the log.
    pub fn complaints(&self, from: usize) -> Vec<String> {
        let log = self.log();
        let is_complaint =
            |line: &&Value| !matches!(line["level"].as_str(), Some("INFO" | "DEBUG"));
        let complaints = log.iter().skip(from).filter(is_complaint);
        complaints.map(ToString::to_string).collect()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // Dropping the server ends only its first process.
        if self.handovers > 0 && self.server.is_some() {
            signal(self.pid, Signal::KILL);
        }
    }
}

fn signal(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    // A process that has ended is an expected error.
    let _ = kill_process(pid, signal);
}

/// Waits for the end of a process that is not a child of this one.
fn wait_for_end(pid: u32) {
    let deadline = Instant::now() + PATIENCE;
    // Its memory is freed first, and the lock of its ring later. A zombie has neither.
    let runs = || {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let state = status
            .lines()
            .find_map(|line| line.strip_prefix("State:"))?;
        Some(!state.trim_start().starts_with(['Z', 'X']))
    };
    while runs() == Some(true) {
        assert!(Instant::now() < deadline, "process {pid} does not end");
        thread::sleep(Duration::from_millis(2));
    }
}
