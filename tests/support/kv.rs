//! A minimal KV for nodes: one value, over HTTP.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;

use serde_json::Value;

use super::{PATIENCE, Setup};

pub const ACCOUNT: &str = "00000000000000000000000000000001";
const NAMESPACE: &str = "00000000000000000000000000000002";

/// A KV with one value.
#[derive(Clone)]
pub struct Kv {
    url: String,
    state: Arc<(Mutex<State>, Condvar)>,
}

#[derive(Default)]
pub struct State {
    pub value: Arc<Vec<u8>>,
    reads: usize,
    writes: usize,
    /// The calls that have arrived, also those that hang.
    pub calls: usize,
    /// So many of the next calls get no answer.
    to_hang: usize,
    /// The calls without an answer whose clients still wait.
    pub hanging: usize,
    /// Whether writes replace the value.
    is_read_only: bool,
}

impl Kv {
    pub fn start() -> Kv {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let kv = Kv {
            url: format!("http://{}", listener.local_addr().unwrap()),
            state: Arc::default(),
        };
        let serving = kv.clone();
        thread::spawn(move || {
            for socket in listener.incoming().map_while(Result::ok) {
                let kv = serving.clone();
                // A closed connection is an expected error.
                thread::spawn(move || kv.serve(&socket));
            }
        });
        kv
    }

    pub fn with_value(value: Vec<u8>) -> Kv {
        let kv = Kv::start();
        let mut state = kv.lock();
        state.value = Arc::new(value);
        state.is_read_only = true;
        drop(state);
        kv
    }

    /// Gives no answer to so many of the next calls.
    pub fn hang(&self, calls: usize) {
        self.lock().to_hang = calls;
    }

    /// Waits until the client of a call without an answer gives up, if this call is to be one.
    fn hang_if_told(&self, socket: &TcpStream) -> bool {
        let mut state = self.lock();
        state.calls += 1;
        let hangs = state.to_hang > 0;
        if hangs {
            state.to_hang -= 1;
            state.hanging += 1;
        }
        drop(state);
        self.state.1.notify_all();
        if hangs {
            // A reset is an end, too.
            let _ = socket.peek(&mut [0]);
            self.lock().hanging -= 1;
            self.state.1.notify_all();
        }
        hangs
    }

    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.0.lock().unwrap()
    }

    fn serve(&self, socket: &TcpStream) -> std::io::Result<()> {
        let mut reader = BufReader::new(socket);
        loop {
            let mut request = String::new();
            if reader.read_line(&mut request)? == 0 {
                return Ok(());
            }
            let mut length = 0;
            loop {
                let mut line = String::new();
                reader.read_line(&mut line)?;
                if line == "\r\n" {
                    break;
                }
                let line = line.to_ascii_lowercase();
                if let Some(value) = line.strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap();
                }
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body)?;
            if self.hang_if_told(socket) {
                return Ok(());
            }
            let answer = self.answer(&request, body);
            write!(
                &*socket,
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n",
                answer.len()
            )?;
            (&*socket).write_all(&answer)?;
            // A read counts once it is answered.
            self.lock().reads += usize::from(request.starts_with("GET"));
            self.state.1.notify_all();
        }
    }

    fn answer(&self, request: &str, body: Vec<u8>) -> Arc<Vec<u8>> {
        let mut state = self.lock();
        if request.starts_with("GET") {
            return Arc::clone(&state.value);
        }
        state.writes += 1;
        if !state.is_read_only && request.contains("messages") {
            state.value = Arc::new(body);
        }
        Arc::new(br#"{"success":true,"errors":[],"messages":[],"result":null}"#.to_vec())
    }

    pub fn wait_until(&self, what: &str, is_so: impl Fn(&State) -> bool) {
        let waited = self
            .state
            .1
            .wait_timeout_while(self.lock(), PATIENCE, |state| !is_so(state));
        assert!(!waited.unwrap().1.timed_out(), "never happened: {what}");
    }

    /// Waits for this many more answered reads. All but the last are then processed.
    pub fn wait_for_reads(&self, more: usize) {
        for _ in 0..more {
            let reads = self.lock().reads;
            self.wait_until("a read", |state| state.reads > reads);
        }
    }

    pub fn contents(state: &State) -> Vec<String> {
        let entries: Vec<Value> = serde_json::from_slice(&state.value).unwrap_or_default();
        let content = |entry: &Value| entry["content"].as_str().unwrap_or_default().to_owned();
        entries.iter().map(content).collect()
    }

    pub fn setup(&self, arguments: &[&str]) -> Setup {
        let pace = ["--kv-poll", "1s", "--kv-write-interval", "1s"];
        self.configured(Setup::new(&[&pace, arguments].concat()))
    }

    pub fn configured(&self, setup: Setup) -> Setup {
        setup
            .variable("HOOKCAST_KV_ENDPOINT", &self.url)
            .variable("CLOUDFLARE_ACCOUNT_ID", ACCOUNT)
            .variable("CLOUDFLARE_API_TOKEN", "token")
            .variable("WEBHOOK_KV", NAMESPACE)
    }
}
