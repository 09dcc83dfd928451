//! The KV: one process of miniflare with a separate world (namespace) for each test.

use std::fmt::Write;
use std::io::{BufRead, BufReader};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Value, json};

use crate::support::{Connection, PATIENCE, Response, Server, Setup};

/// The only account.
pub const ACCOUNT: &str = "023e105f4ecef8ad9ca31a8372d0c353";
/// The token of the tests.
const OWN_TOKEN: &str = "own-token";
/// The key of the history.
const KEY: &str = "webhook%3Amessages";

/// The id of a namespace: its name in hexadecimal, padded with zeros.
pub fn namespace_id(name: &str) -> String {
    let mut digits = String::new();
    for byte in name.bytes() {
        write!(digits, "{byte:02x}").unwrap();
    }
    assert!(digits.len() <= 32, "{name} is too long");
    format!("{digits:0<32}")
}

/// Whether the tests run with the default intervals.
pub fn is_full() -> bool {
    std::env::var_os("KV_FULL").is_some()
}

/// The first value in a short run, the second at full length.
pub fn short_or_full<T>(short: T, full: T) -> T {
    if is_full() { full } else { short }
}

/// Polls until a condition holds, for `patience` at most.
pub fn wait_for<T>(patience: Duration, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "never happened: {what}");
        // Another process reports no change of its state, so this polls.
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A process of miniflare.
pub struct Kv {
    child: Child,
    /// The process ends when this closes.
    _stdin: Option<ChildStdin>,
    pub url: String,
    pub address: SocketAddr,
}

impl Kv {
    /// The instance that most tests share.
    pub fn shared() -> &'static Kv {
        static SHARED: OnceLock<Kv> = OnceLock::new();
        SHARED.get_or_init(|| Kv::start(&json!({})))
    }

    /// Starts an instance; the options are in `server.js`.
    pub fn start(options: &Value) -> Kv {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kv");
        let mut child = Command::new("node")
            .arg("server.js")
            .arg(options.to_string())
            .current_dir(directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // In a group of its own, because workerd is a process of its own.
            .process_group(0)
            .spawn()
            .expect("Node runs; tests/run kv installs the modules");
        let mut url = String::new();
        let stdout = child.stdout.take().unwrap();
        BufReader::new(stdout).read_line(&mut url).unwrap();
        let url = url.trim_end().trim_end_matches('/').to_owned();
        let (_, address) = url
            .split_once("//")
            .unwrap_or_else(|| panic!("no URL: {url:?}"));
        let address = address.parse().unwrap();
        Kv {
            _stdin: child.stdin.take(),
            child,
            url,
            address,
        }
    }

    /// Sends one request.
    pub fn request(&self, method: &str, target: &str, headers: &str, body: &[u8]) -> Response {
        let mut connection = Connection::open(self.address);
        connection.send_request(method, target, headers, body);
        connection.read_response_to(method)
    }

    /// Kills it, as an outage.
    pub fn kill(self) {
        drop(self);
    }
}

impl Drop for Kv {
    fn drop(&mut self) {
        let group = Pid::from_child(&self.child);
        // If it has ended already, both calls do nothing.
        let _ = kill_process_group(group, Signal::KILL);
        let _ = self.child.wait();
    }
}

/// A relay to a KV that can be cut: its address stays, while its target changes.
pub struct Relay {
    pub url: String,
    target: Arc<Mutex<Option<SocketAddr>>>,
}

impl Relay {
    /// A way to this KV.
    pub fn to(kv: &Kv) -> Relay {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let target = Arc::new(Mutex::new(Some(kv.address)));
        let relay = Relay {
            url,
            target: Arc::clone(&target),
        };
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let address = *target.lock().unwrap();
                // Without a target the connection is closed at once.
                if let Some(server) = address.and_then(|address| TcpStream::connect(address).ok()) {
                    pass_on(&client, &server);
                    pass_on(&server, &client);
                }
            }
        });
        relay
    }

    /// Directs new connections to another KV, or to none.
    pub fn lead_to(&self, kv: Option<&Kv>) {
        *self.target.lock().unwrap() = kv.map(|kv| kv.address);
    }
}

/// Copies bytes from one socket to the other, on a thread of its own, until either ends.
fn pass_on(from: &TcpStream, to: &TcpStream) {
    let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Both);
        let _ = from.shutdown(Shutdown::Both);
    });
}

/// The namespace of one test.
pub struct World<'a> {
    pub kv: &'a Kv,
    pub namespace: String,
    /// The URL for nodes.
    pub endpoint: String,
}

/// A call of the API.
#[derive(Debug, Clone)]
pub struct Call {
    pub at_ms: u64,
    pub token: String,
    pub is_write: bool,
    pub status: Option<u64>,
}

/// The settings of a namespace in which these tokens may read and write.
pub fn open_to(tokens: &[&str]) -> Value {
    let mut rights: serde_json::Map<String, Value> = tokens
        .iter()
        .map(|token| ((*token).to_owned(), json!({ "read": true, "write": true })))
        .collect();
    rights.insert(OWN_TOKEN.to_owned(), own_rights());
    json!({ "tokens": rights })
}

impl<'a> World<'a> {
    /// A new namespace of the shared KV, for these tokens.
    pub fn new(tokens: &[&str]) -> World<'static> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let namespace = format!("world-{}", COUNT.fetch_add(1, Ordering::Relaxed));
        World::named(Kv::shared(), &namespace, tokens)
    }

    /// The namespace of this name.
    pub fn named(kv: &'a Kv, namespace: &str, tokens: &[&str]) -> World<'a> {
        let world = World {
            kv,
            namespace: namespace_id(namespace),
            endpoint: kv.url.clone(),
        };
        world.set(&open_to(tokens));
        world
    }

    /// Changes its behaviour; see `rest.js`.
    pub fn set(&self, what: &Value) {
        let target = format!("/control/{}", self.namespace);
        let response = self
            .kv
            .request("PUT", &target, "", what.to_string().as_bytes());
        assert_eq!(response.status, 200, "{response:?}");
    }

    /// Its present behaviour.
    pub fn state(&self) -> Value {
        self.kv
            .request("GET", &format!("/control/{}", self.namespace), "", b"")
            .json()
    }

    /// All calls of nodes so far, oldest first.
    pub fn calls(&self) -> Vec<Call> {
        let calls = self
            .kv
            .request(
                "GET",
                &format!("/control/{}/calls", self.namespace),
                "",
                b"",
            )
            .json();
        let calls = calls.as_array().unwrap().iter().map(|call| Call {
            at_ms: call["at"].as_u64().unwrap(),
            token: call["token"].as_str().unwrap().to_owned(),
            is_write: call["method"] == "PUT",
            status: call["status"].as_u64(),
        });
        calls.filter(|call| call.token != OWN_TOKEN).collect()
    }

    /// The writes among them.
    pub fn writes(&self) -> Vec<Call> {
        self.calls()
            .into_iter()
            .filter(|call| call.is_write)
            .collect()
    }

    /// Waits until each of these tokens has had this many more answers to reads.
    pub fn wait_for_reads(&self, tokens: &[&str], more: usize) {
        let reads = || -> Vec<usize> {
            let calls = self.calls();
            let reads_of = |token: &&str| {
                let is_read =
                    |call: &&Call| call.token == *token && !call.is_write && call.status.is_some();
                calls.iter().filter(is_read).count()
            };
            tokens.iter().map(reads_of).collect()
        };
        let before = reads();
        wait_for(PATIENCE * 3, "more reads", || {
            let is_enough = |(now, before): (&usize, &usize)| *now >= before + more;
            reads().iter().zip(&before).all(is_enough).then_some(())
        });
    }

    /// The value as text; `None` if the key does not exist.
    pub fn value(&self) -> Option<String> {
        let response = self
            .kv
            .request("GET", &self.value_target(), &own_authorization(), b"");
        (response.status == 200).then(|| String::from_utf8(response.body).unwrap())
    }

    /// The value as a list; empty if the key does not exist.
    pub fn history(&self) -> Vec<Value> {
        self.value()
            .map_or(Vec::new(), |text| serde_json::from_str(&text).unwrap())
    }

    /// The contents of the history.
    pub fn contents(&self) -> Vec<String> {
        let content = |entry: &Value| entry["content"].as_str().unwrap_or_default().to_owned();
        self.history().iter().map(content).collect()
    }

    /// Waits until the history has these contents, in any order.
    pub fn wait_for_contents(&self, expected: &[String]) {
        let mut expected = expected.to_vec();
        expected.sort();
        let mut found = Vec::new();
        let deadline = Instant::now() + PATIENCE * 3;
        while found != expected {
            assert!(
                Instant::now() < deadline,
                "KV has {found:?} and not {expected:?}"
            );
            std::thread::sleep(Duration::from_millis(20));
            found = self.contents();
            found.sort();
        }
    }

    /// Replaces the value.
    pub fn put(&self, value: &str) {
        self.set(&json!({ "write_gap_ms": 0 }));
        let response = self.kv.request(
            "PUT",
            &self.value_target(),
            &own_authorization(),
            value.as_bytes(),
        );
        assert_eq!(response.status, 200, "{response:?}");
        self.set(&json!({ "write_gap_ms": 1000 }));
    }

    /// Deletes the key.
    pub fn delete(&self) {
        let response = self
            .kv
            .request("DELETE", &self.value_target(), &own_authorization(), b"");
        assert_eq!(response.status, 200, "{response:?}");
    }

    /// The setup of a node: a read and a write a second, or the default intervals.
    pub fn setup(&self, token: &str, arguments: &[&str]) -> Setup {
        let pace: &[&str] = short_or_full(&["--kv-poll", "1s", "--kv-write-interval", "1s"], &[]);
        self.setup_at(token, &[pace, arguments].concat())
    }

    /// The setup of a node with these flags only.
    pub fn setup_at(&self, token: &str, arguments: &[&str]) -> Setup {
        let fixed = ["--shards", "1", "--kv-endpoint", &self.endpoint];
        Setup::new(&[&fixed, arguments].concat())
            .variable("CLOUDFLARE_ACCOUNT_ID", ACCOUNT)
            .variable("CLOUDFLARE_API_TOKEN", token)
            .variable("WEBHOOK_KV", &self.namespace)
    }

    /// Starts a node with it.
    pub fn node(&self, token: &str) -> Server {
        self.setup(token, &[]).start()
    }

    fn value_target(&self) -> String {
        let namespace = &self.namespace;
        format!("/accounts/{ACCOUNT}/storage/kv/namespaces/{namespace}/values/{KEY}")
    }
}

impl Drop for World<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let calls = self.calls();
            let begin_ms = calls.first().map_or(0, |call| call.at_ms);
            for Call {
                at_ms,
                token,
                is_write,
                status,
            } in calls
            {
                let what = if is_write { "write" } else { "read" };
                eprintln!(
                    "{:>7} ms  {token:<8} {what:<5} {status:?}",
                    at_ms - begin_ms
                );
            }
            eprintln!("KV: {:?}", self.value());
        }
    }
}

/// The rights of the tests' own token: everything, without limits.
pub fn own_rights() -> Value {
    json!({ "read": true, "write": true, "unlimited": true })
}

fn own_authorization() -> String {
    format!("Authorization: Bearer {OWN_TOKEN}\r\n")
}
