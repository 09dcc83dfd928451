//! An engine: Debian's `redis-server` on a free loopback port, in a directory of its own.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::resp::{Client, Reply};
use crate::security::Authority;
use crate::support::PATIENCE;

/// What an engine has on disk after a kill.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Persistence {
    /// Nothing: after a restart it is empty.
    None,
    /// The append-only file, synced each second.
    Everysec,
    /// The append-only file, synced before each answer.
    Always,
    /// The last snapshot (`BGSAVE`): after a restart the tail is lost.
    Snapshot,
}

impl Persistence {
    fn lines(self) -> &'static [&'static str] {
        match self {
            Persistence::None | Persistence::Snapshot => &["appendonly no"],
            Persistence::Everysec => &["appendonly yes", "appendfsync everysec"],
            Persistence::Always => &["appendonly yes", "appendfsync always"],
        }
    }
}

/// A running engine; killed when dropped.
pub struct Engine {
    pub address: SocketAddr,
    child: Option<Child>,
    directory: TempDir,
    /// The password of the rig's own connections, if the default user has one.
    password: Option<String>,
    is_sentinel: bool,
}

impl Engine {
    pub fn start(persistence: Persistence) -> Engine {
        Engine::configured(persistence.lines())
    }

    /// Starts an engine with further lines of `redis.conf`.
    pub fn configured(lines: &[&str]) -> Engine {
        let port = free_port();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().display();
        let mut config = format!(
            "bind 127.0.0.1\nport {port}\ndir {path}\nlogfile {path}/log\nsave \"\"\n\
             enable-debug-command yes\nenable-protected-configs yes\nrepl-diskless-sync-delay 0\n"
        );
        config.extend(lines.iter().map(|line| format!("{line}\n")));
        fs::write(directory.path().join("redis.conf"), config).unwrap();
        let password = lines
            .iter()
            .find_map(|line| line.strip_prefix("requirepass "));
        let mut engine = Engine {
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
            child: None,
            directory,
            password: password.map(str::to_owned),
            is_sentinel: false,
        };
        engine.launch();
        engine
    }

    /// Starts an engine that serves TLS as well, to clients with a certificate of this authority. Returns the port
    /// for TLS beside it.
    pub fn with_tls(authority: &Authority) -> (Engine, u16) {
        authority.sign("engine");
        let tls_port = free_port();
        let lines = [
            format!("tls-port {tls_port}"),
            format!("tls-cert-file {}", authority.path("engine.pem")),
            format!("tls-key-file {}", authority.path("engine.key")),
            format!("tls-ca-cert-file {}", authority.path("ca.pem")),
            "tls-auth-clients yes".into(),
        ];
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        (Engine::configured(&lines), tls_port)
    }

    /// A replica of the engine at an address, in sync.
    pub fn replica_of(primary: SocketAddr) -> Engine {
        let line = format!("replicaof {} {}", primary.ip(), primary.port());
        let replica = Engine::configured(&[&line, "appendonly no"]);
        replica.wait_for_info("replication", "master_link_status:up");
        replica
    }

    /// A sentinel that watches the primary `rig` at an address, with a quorum of two.
    fn sentinel_of(primary: SocketAddr) -> Engine {
        let port = free_port();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().display();
        let config = format!(
            "bind 127.0.0.1\nport {port}\ndir {path}\nlogfile {path}/log\n\
             sentinel monitor rig {} {} 2\nsentinel down-after-milliseconds rig 1000\n\
             sentinel failover-timeout rig 5000\n",
            primary.ip(),
            primary.port()
        );
        fs::write(directory.path().join("redis.conf"), config).unwrap();
        let mut engine = Engine {
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
            child: None,
            directory,
            password: None,
            is_sentinel: true,
        };
        engine.launch();
        engine
    }

    /// Three of them, which know each other and one replica.
    pub fn sentinels_of(primary: SocketAddr) -> Vec<Engine> {
        let sentinels: Vec<Engine> = (0..3).map(|_| Engine::sentinel_of(primary)).collect();
        for sentinel in &sentinels {
            sentinel.wait_for_sentinels(3);
        }
        sentinels
    }

    /// Starts the process and waits for its first answer.
    fn launch(&mut self) {
        self.spawn();
        self.wait_for_answer("PONG");
    }

    /// Starts the process, and does not wait.
    fn spawn(&mut self) {
        let mut command = Command::new("redis-server");
        command.arg(self.path("redis.conf"));
        if self.is_sentinel {
            command.arg("--sentinel");
        }
        let command = command.stdin(Stdio::null()).stdout(Stdio::null());
        self.child = Some(command.spawn().expect("redis-server is installed"));
    }

    /// Waits for an answer to PING that begins with a text. Nothing announces it, so this polls.
    pub fn wait_for_answer(&mut self, wanted: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = self.try_command(&["PING"]);
            match &answer {
                Ok(Ok(Reply::Text(text)) | Err(text)) if text.starts_with(wanted) => return,
                _ => {}
            }
            let ended = self.child.as_mut().unwrap().try_wait().unwrap();
            assert!(
                ended.is_none() && Instant::now() < deadline,
                "{wanted} never came ({answer:?}): {}",
                self.log()
            );
            thread::sleep(Duration::from_millis(5));
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    fn try_command(&self, words: &[&str]) -> std::io::Result<Result<Reply, String>> {
        let mut client = Client::connect(self.address)?;
        if let Some(password) = &self.password
            && let Err(error) = client.command(&["AUTH", password])?
        {
            return Ok(Err(error));
        }
        client.command(words)
    }

    /// Executes a command, which may be refused.
    pub fn attempt(&self, words: &[&str]) -> Result<Reply, String> {
        let answer = self.try_command(words);
        answer.unwrap_or_else(|error| panic!("{words:?}: {error}: {}", self.log()))
    }

    /// Executes a command of words without spaces.
    pub fn command(&self, command: &str) -> Reply {
        let words: Vec<&str> = command.split_whitespace().collect();
        let answer = self.attempt(&words);
        answer.unwrap_or_else(|error| panic!("{command}: {error}"))
    }

    /// Sets a parameter, whose value may be empty or have spaces.
    pub fn set(&self, parameter: &str, value: &str) {
        let answer = self.attempt(&["CONFIG", "SET", parameter, value]);
        answer.unwrap_or_else(|error| panic!("{parameter} {value}: {error}"));
    }

    /// The password that the rig uses from now on.
    pub fn use_password(&mut self, password: Option<&str>) {
        self.password = password.map(str::to_owned);
    }

    /// Waits for a line of a section of `INFO`. Nothing announces it, so this polls. A sentinel that promotes the
    /// engine closes its connections.
    pub fn wait_for_info(&self, section: &str, line: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let info = self.try_command(&["INFO", section]);
            if let Ok(Ok(Reply::Text(info))) = &info
                && info.lines().any(|other| other.starts_with(line))
            {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "no {line}: {info:?} {}",
                self.log()
            );
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits until the given number of replicas have confirmed everything.
    pub fn wait_for_replicas(&self, count: u32) {
        // Each command has a connection of its own, and WAIT(1) concerns only what its connection has written.
        let deadline = Instant::now() + PATIENCE;
        loop {
            let info = self.command("INFO replication");
            let field = |line: &str, name: &str| -> Option<u64> {
                let (_, rest) = line.split_once(name)?;
                let digits = rest.split(|c: char| !c.is_ascii_digit()).next()?;
                digits.parse().ok()
            };
            let lines = || info.text().lines();
            let written = lines().find_map(|line| field(line, "master_repl_offset:"));
            let confirmed = lines().filter(|line| line.starts_with("slave"));
            let confirmed = confirmed.filter(|line| field(line, "offset=") >= written);
            if written.is_some() && confirmed.count() >= count as usize {
                return;
            }
            assert!(Instant::now() < deadline, "{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until a sentinel knows its primary, one replica and all sentinels.
    fn wait_for_sentinels(&self, count: usize) {
        let line = "master0:name=rig,status=ok";
        let address = self.address;
        let end = format!("slaves=1,sentinels={count}");
        let deadline = Instant::now() + PATIENCE;
        loop {
            let info = self.command("INFO sentinel");
            let mut lines = info.text().lines();
            if lines.any(|other| other.starts_with(line) && other.ends_with(&end)) {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "{address}: {info:?} {}",
                self.log()
            );
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Makes a snapshot, and waits for its end.
    pub fn save(&self) {
        self.command("SAVE");
    }

    fn signal(&self, signal: Signal) {
        let child = self.child.as_ref().expect("it runs");
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Stops the process as a crash would.
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.child.take().unwrap().wait().unwrap();
    }

    /// Starts it again on the same port with what it has on disk.
    pub fn restart(&mut self) {
        assert!(self.child.is_none(), "it runs");
        self.launch();
    }

    /// Starts it again, and waits only until it answers that it is loading.
    pub fn restart_slowly(&mut self) {
        assert!(self.child.is_none(), "it runs");
        self.spawn();
        self.wait_for_answer("LOADING");
    }

    /// Freezes the process: connections stay open, and nothing is answered.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// Ends the freeze.
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // If it has ended already, both calls do nothing.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A port that nothing uses, below those that the kernel gives to clients: an engine that is down keeps its port.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    const FIRST: u16 = 20_000;
    const COUNT: u16 = 12_000;
    // Other processes of the same tests begin elsewhere.
    let begin = u16::try_from(std::process::id() % u32::from(COUNT)).unwrap();
    loop {
        let nth = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = FIRST + (begin + nth) % COUNT;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}
