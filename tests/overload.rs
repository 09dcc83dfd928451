//! Floods of connections and requests, slow uploads and readers that read nothing, all at once: who
//! behaves loses nothing, and memory stays below what `limits` derives.

mod support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use hookcast::limits;
use support::{EventStream, PATIENCE, Server};

/// Fewer than the attackers hold.
const CONNECTIONS: usize = 500;
const SHARDS: usize = 2;
const HEALTHY: usize = 40;
const MESSAGES: usize = 150;

/// How long attackers hold all they may while the server is not full: shorter than the deadline of
/// a request, after which the server closes the silent ones.
const WAVE_HELD_MAX: Duration = Duration::from_secs(5);

/// Attackers, each on a thread of its own, that stop when told to.
struct Attack {
    is_over: Arc<AtomicBool>,
    /// The server has been full. Until then attackers hold what they have opened: if they closed it
    /// at once, the kernel's queue would fill with closed connections and the server never would.
    was_full: Arc<AtomicBool>,
    /// What they got done, so that an attack that does nothing is noticed.
    blows: Arc<AtomicU64>,
    threads: Vec<JoinHandle<()>>,
}

impl Attack {
    fn new() -> Attack {
        Attack {
            is_over: Arc::default(),
            was_full: Arc::default(),
            blows: Arc::default(),
            threads: Vec::new(),
        }
    }

    /// Repeats a blow, which gets what the ones before it have left open.
    fn add(
        &mut self,
        address: SocketAddr,
        held_max: usize,
        blow: impl Fn(SocketAddr) -> std::io::Result<TcpStream> + Send + 'static,
    ) {
        let (is_over, was_full) = (Arc::clone(&self.is_over), Arc::clone(&self.was_full));
        let blows = Arc::clone(&self.blows);
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
                // A server under attack may refuse, and reset, whatever it likes.
                if let Ok(connection) = blow(address) {
                    blows.fetch_add(1, Ordering::Relaxed);
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
        self.blows.load(Ordering::Relaxed)
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
    // Connections that say nothing.
    attack.add(address, 400, connect);
    // Uploads that stop before their last byte.
    attack.add(address, 300, |address| {
        let mut socket = connect(address)?;
        let body = vec![b'x'; 60_000];
        socket
            .write_all(b"POST /api/webhook HTTP/1.1\r\nHost: a\r\nContent-Length: 60001\r\n\r\n")?;
        socket.write_all(&body)?;
        Ok(socket)
    });
    // Requests, one behind the other, for what is long, and nobody reads the answers.
    attack.add(address, 200, |address| {
        let mut socket = connect(address)?;
        let requests = "GET / HTTP/1.1\r\nHost: a\r\n\r\n".repeat(100);
        // What does not fit any more stays away.
        let _ = socket.write(requests.as_bytes());
        Ok(socket)
    });
    // Streams that nobody reads.
    attack.add(address, 300, |address| {
        let mut socket = connect(address)?;
        socket.write_all(b"GET /api/webhook/stream HTTP/1.1\r\nHost: a\r\n\r\n")?;
        Ok(socket)
    });
    // Requests as fast as they are answered, some of them nonsense.
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
fn under_attack_nobody_who_behaves_loses_anything_and_memory_is_bounded() {
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
    // It has to fill the server first.
    let deadline = Instant::now() + PATIENCE;
    let files = || {
        let files = std::fs::read_dir(format!("/proc/{}/fd", server.pid())).unwrap();
        files.count()
    };
    while files() < CONNECTIONS {
        assert!(
            Instant::now() < deadline,
            "{} connections are no flood",
            files()
        );
        // No event tells the number of a process's files.
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
            // A gap would be another event.
            assert!(stream.next().content().starts_with(&format!("<{number}>")));
        }
        memory_most = memory_most.max(server.proc_status("RssAnon:") * 1024);
    }
    let blows = attack.stop();
    let bound = limits::memory_bytes_max(SHARDS, CONNECTIONS, 0, limits::BODY_BYTES_MAX_DEFAULT);
    println!("{blows} blows, {memory_most} bytes of {bound}");
    assert!(blows > 500, "{blows} blows are no attack");
    assert!(memory_most < bound as u64, "{memory_most} of {bound}");

    // And when it is over, everybody is welcome again.
    let deadline = Instant::now() + PATIENCE;
    while server.request("GET", "/api/webhook", "", b"").status != 200 {
        assert!(Instant::now() < deadline, "the places stay taken");
    }
}
