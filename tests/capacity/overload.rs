//! A server under floods, slow uploads and unread answers, all at once: healthy streams lose nothing, and memory
//! stays below the bound of `limits`.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use hookcast::limits;

use crate::support::{EventStream, PATIENCE, Server, alone};

/// Fewer places than the attackers fill.
const CONNECTIONS: usize = 500;
const SHARDS: usize = 2;
const HEALTHY: usize = 40;
const MESSAGES: usize = 150;

/// Time for which attackers hold their connections while the server is not full. Shorter than the deadline of a
/// request, after which the server closes connections without one.
const WAVE_HELD_MAX: Duration = Duration::from_secs(5);

/// Attackers, each on a thread of its own.
struct Attack {
    is_over: Arc<AtomicBool>,
    /// The server has been full. Until then attackers keep their connections open. Otherwise closed connections
    /// would fill the kernel's accept queue, and the server would never be full.
    was_full: Arc<AtomicBool>,
    /// Successful attempts, so that an attack without effect fails the test.
    attempts: Arc<AtomicU64>,
    threads: Vec<JoinHandle<()>>,
}

impl Attack {
    fn new() -> Attack {
        Attack {
            is_over: Arc::default(),
            was_full: Arc::default(),
            attempts: Arc::default(),
            threads: Vec::new(),
        }
    }

    /// Adds an attacker that repeats `attempt` and holds up to `held_max` of its connections.
    fn add(
        &mut self,
        address: SocketAddr,
        held_max: usize,
        attempt: impl Fn(SocketAddr) -> std::io::Result<TcpStream> + Send + 'static,
    ) {
        let (is_over, was_full) = (Arc::clone(&self.is_over), Arc::clone(&self.was_full));
        let attempts = Arc::clone(&self.attempts);
        self.threads.push(thread::spawn(move || {
            let mut held = Vec::new();
            let mut wave_begin = Instant::now();
            while !is_over.load(Ordering::Relaxed) {
                if held.len() > held_max {
                    let is_wave_over =
                        was_full.load(Ordering::Relaxed) || wave_begin.elapsed() > WAVE_HELD_MAX;
                    if held_max > 0 && !is_wave_over {
                        thread::sleep(Duration::from_millis(1));
                        continue;
                    }
                    held.clear();
                    wave_begin = Instant::now();
                }
                // Refused and reset connections are not errors here.
                if let Ok(connection) = attempt(address) {
                    attempts.fetch_add(1, Ordering::Relaxed);
                    held.push(connection);
                }
            }
        }));
    }

    fn stop(self) -> u64 {
        self.is_over.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().unwrap();
        }
        self.attempts.load(Ordering::Relaxed)
    }
}

fn connect(address: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
    socket.set_read_timeout(Some(Duration::from_millis(50)))?;
    socket.set_write_timeout(Some(Duration::from_millis(50)))?;
    Ok(socket)
}

fn start_attack(address: SocketAddr) -> Attack {
    let mut attack = Attack::new();
    // Connections that send nothing.
    attack.add(address, 400, connect);
    // Uploads whose last byte is never sent.
    attack.add(address, 300, |address| {
        let mut socket = connect(address)?;
        let body = vec![b'x'; 60_000];
        socket
            .write_all(b"POST /api/webhook HTTP/1.1\r\nHost: a\r\nContent-Length: 60001\r\n\r\n")?;
        socket.write_all(&body)?;
        Ok(socket)
    });
    // Pipelined requests with large answers, which are not read.
    attack.add(address, 200, |address| {
        let mut socket = connect(address)?;
        let requests = "GET / HTTP/1.1\r\nHost: a\r\n\r\n".repeat(100);
        // A partial write is enough: the server's answers fill the buffers.
        let _ = socket.write(requests.as_bytes());
        Ok(socket)
    });
    // Streams that are not read.
    attack.add(address, 300, |address| {
        let mut socket = connect(address)?;
        socket.write_all(b"GET /api/webhook/stream HTTP/1.1\r\nHost: a\r\n\r\n")?;
        Ok(socket)
    });
    // Requests as fast as they are answered, half of them invalid.
    attack.add(address, 0, |address| {
        let mut socket = connect(address)?;
        for request in [
            "GET /api/webhook HTTP/1.1\r\nHost: a\r\n\r\n",
            "nonsense\r\n\r\n",
        ] {
            socket.write_all(&request.repeat(50).into_bytes())?;
            let _ = socket.read(&mut [0; 16_384])?;
        }
        Ok(socket)
    });
    attack
}

#[test]
fn under_attack_healthy_streams_lose_nothing_and_memory_is_bounded() {
    let _alone = alone();
    let shards = SHARDS.to_string();
    let connections = CONNECTIONS.to_string();
    let server = Server::start(&["--max-connections", &connections, "--shards", &shards]);
    let mut publisher = server.connect();
    publisher.send_request("GET", "/api/webhook", "", b"");
    assert_eq!(publisher.read_response().status, 200);
    let mut healthy: Vec<EventStream> = (0..HEALTHY).map(|_| server.stream("", "")).collect();
    for stream in &mut healthy {
        stream.connected();
    }
    let attack = start_attack(server.address);
    // The attack must fill the server first.
    let deadline = Instant::now() + PATIENCE;
    let files = || {
        let files = std::fs::read_dir(format!("/proc/{}/fd", server.pid())).unwrap();
        files.count()
    };
    while files() < CONNECTIONS {
        assert!(
            Instant::now() < deadline,
            "only {} descriptors: the server is not full",
            files()
        );
        // The kernel has no event for a process's number of descriptors.
        thread::sleep(Duration::from_millis(5));
    }
    attack.was_full.store(true, Ordering::Relaxed);

    let mut memory_most = 0;
    let filler = "x".repeat(2_000);
    for number in 0..MESSAGES {
        let body = format!(r#"{{"message":"<{number}>{filler}"}}"#);
        publisher.send_request("POST", "/api/webhook", "", body.as_bytes());
        assert_eq!(publisher.read_response().status, 200);
        for stream in &mut healthy {
            // A lost message would show as a `gap` event.
            assert!(stream.next().content().starts_with(&format!("<{number}>")));
        }
        memory_most = memory_most.max(server.proc_status("RssAnon:") * 1024);
    }
    let attempts = attack.stop();
    let bound = limits::memory_bytes_max(SHARDS, CONNECTIONS, 0, limits::BODY_BYTES_MAX_DEFAULT);
    println!("{attempts} attempts, {memory_most} bytes of {bound}");
    assert!(attempts > 500, "only {attempts} attempts: no attack");
    assert!(memory_most < bound as u64, "{memory_most} of {bound}");

    // After the attack the server accepts connections again.
    let deadline = Instant::now() + PATIENCE;
    while server.request("GET", "/api/webhook", "", b"").status != 200 {
        assert!(Instant::now() < deadline, "no place becomes free");
    }
}
