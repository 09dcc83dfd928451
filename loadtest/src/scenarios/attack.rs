//! The attacks of `overload`: floods of connections and requests, incomplete uploads, unread answers, long polls.
//! Also busy loops, which take as much CPU as the attackers and do not touch the server.
//!
//! Used by `overload` alone. Each kind of attack is one thread. Most use blocking sockets, as a simple attack tool
//! would, so the CPU that the thread gets bounds the attack.

use std::hint::black_box;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use clap::ValueEnum;

use crate::engine::proc_stats;
use crate::scenarios::long_polls::{self, Known};

/// Timeout of a read or write.
const STEP: Duration = Duration::from_millis(50);
/// Timeout of a connect.
const CONNECT: Duration = Duration::from_secs(1);

/// Body bytes of an incomplete upload; its `Content-Length` is one larger.
const UPLOAD_BYTES: usize = 60_000;
/// Requests in one write.
const PIPELINED: usize = 50;
/// Writes of [`PIPELINED`] requests on one kept connection.
const ROUNDS: usize = 100;
/// A valid request that is cheap to send.
const ORDINARY: &str = "GET /api/webhook HTTP/1.1\r\nHost: a\r\n\r\n";
/// Period of a busy loop: a share of it is work, the rest sleep.
const BUSY_PERIOD: Duration = Duration::from_millis(1);

/// One kind of attack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// Connections that send nothing and stay open.
    Connect,
    /// Connections that close as soon as they are open.
    Touch,
    /// Webhooks whose last byte is never sent.
    Upload,
    /// Pipelined requests with large answers, which are not read.
    Unread,
    /// Streams that are not read.
    Stall,
    /// Pipelined requests as fast as they are answered, half of them invalid.
    Request,
    /// Valid pipelined requests on kept connections.
    Reuse,
    /// Long polls with `If-None-Match: *`, repeated after each answer.
    Poll,
    /// Long polls for the whole history, each with another limit.
    Pages,
}

/// Threads that attack, or loop, until stopped.
pub struct Workers {
    is_over: Arc<AtomicBool>,
    threads: Vec<(Arc<AtomicI32>, JoinHandle<()>)>,
    attempts: Arc<AtomicU64>,
    began: Instant,
}

/// The work of all threads.
#[derive(Debug, Clone, Default)]
pub struct WorkDone {
    /// Hostile connections opened, and long polls answered; 0 for busy loops.
    pub attempts: u64,
    /// Share of one CPU, by thread.
    pub cpu_shares: Vec<f64>,
}

impl Workers {
    fn new() -> Workers {
        Workers {
            is_over: Arc::default(),
            threads: Vec::new(),
            attempts: Arc::default(),
            began: Instant::now(),
        }
    }

    /// Starts one thread for each kind. Together they hold up to 1.5 times `connections`.
    pub fn attack(address: SocketAddr, kinds: &[Kind], connections: usize) -> Workers {
        let mut workers = Workers::new();
        let held_max = connections * 3 / 2 / kinds.len().max(1);
        for &kind in kinds {
            let attempts = Arc::clone(&workers.attempts);
            if let Some(known) = kind.known() {
                workers.add(move |is_over| {
                    long_polls::run(address, known, held_max, is_over, &attempts);
                });
                continue;
            }
            workers.add(move |is_over| {
                let mut held = Vec::new();
                while !is_over.load(Relaxed) {
                    // Refused and reset connections are not errors here.
                    if let Ok(connection) = kind.attempt(address) {
                        attempts.fetch_add(1, Relaxed);
                        held.push(connection);
                    }
                    if held.len() > kind.held_max(held_max) {
                        held.clear();
                    }
                }
            });
        }
        workers
    }

    /// Starts a busy loop for each share of a CPU.
    pub fn busy(cpu_shares: &[f64]) -> Workers {
        let mut workers = Workers::new();
        for &share in cpu_shares {
            workers.add(move |is_over| {
                while !is_over.load(Relaxed) {
                    let began = Instant::now();
                    let work = BUSY_PERIOD.mul_f64(share.clamp(0.0, 1.0));
                    while began.elapsed() < work {
                        black_box(());
                    }
                    thread::sleep(BUSY_PERIOD.saturating_sub(began.elapsed()));
                }
            });
        }
        workers
    }

    fn add(&mut self, work: impl FnOnce(&AtomicBool) + Send + 'static) {
        let (is_over, tid) = (Arc::clone(&self.is_over), Arc::new(AtomicI32::new(0)));
        let own = Arc::clone(&tid);
        let worker = thread::spawn(move || {
            own.store(rustix::thread::gettid().as_raw_nonzero().get(), Relaxed);
            work(&is_over);
        });
        self.threads.push((tid, worker));
    }

    /// Stops all threads.
    pub fn stop(self) -> WorkDone {
        let wall_ns = self.began.elapsed().as_nanos() as f64;
        let cpu_shares = self
            .threads
            .iter()
            .map(|(tid, _)| proc_stats::thread(tid.load(Relaxed)).run_ns as f64 / wall_ns)
            .collect();
        self.is_over.store(true, Relaxed);
        for (_, worker) in self.threads {
            // The result is a panic at most, which is on stderr already.
            let _ = worker.join();
        }
        WorkDone {
            attempts: self.attempts.load(Relaxed),
            cpu_shares,
        }
    }
}

impl Kind {
    /// The validator that polls of this kind send; `None` for kinds that do not poll.
    fn known(self) -> Option<Known> {
        match self {
            Kind::Poll => Some(Known::Anything),
            Kind::Pages => Some(Known::LastPage),
            _ => None,
        }
    }

    /// Connections held at once. Attacks that need no open connections hold none.
    fn held_max(self, held_max: usize) -> usize {
        match self {
            Kind::Touch | Kind::Request | Kind::Reuse => 0,
            Kind::Connect
            | Kind::Upload
            | Kind::Unread
            | Kind::Stall
            | Kind::Poll
            | Kind::Pages => held_max,
        }
    }

    /// Opens one hostile connection.
    fn attempt(self, address: SocketAddr) -> io::Result<TcpStream> {
        let mut socket = TcpStream::connect_timeout(&address, CONNECT)?;
        socket.set_read_timeout(Some(STEP))?;
        socket.set_write_timeout(Some(STEP))?;
        match self {
            Kind::Connect | Kind::Touch | Kind::Poll | Kind::Pages => {}
            Kind::Upload => {
                let length = UPLOAD_BYTES + 1;
                let head = format!(
                    "POST /api/webhook HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n"
                );
                socket.write_all(head.as_bytes())?;
                socket.write_all(&vec![b'x'; UPLOAD_BYTES])?;
            }
            Kind::Unread => {
                let requests = "GET / HTTP/1.1\r\nHost: a\r\n\r\n".repeat(2 * PIPELINED);
                // A partial write is enough: the server's answers fill the buffers.
                let _ = socket.write(requests.as_bytes());
            }
            Kind::Stall => {
                socket.write_all(b"GET /api/webhook/stream HTTP/1.1\r\nHost: a\r\n\r\n")?;
            }
            Kind::Request => {
                ask(&mut socket, ORDINARY)?;
                ask(&mut socket, "nonsense\r\n\r\n")?;
            }
            Kind::Reuse => {
                for _ in 0..ROUNDS {
                    ask(&mut socket, ORDINARY)?;
                }
            }
        }
        Ok(socket)
    }
}

/// Sends [`PIPELINED`] copies of a request and reads once.
fn ask(socket: &mut TcpStream, request: &str) -> io::Result<()> {
    socket.write_all(request.repeat(PIPELINED).as_bytes())?;
    match socket.read(&mut [0; 16_384])? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_loop_takes_about_its_share_of_a_cpu() {
        let workers = Workers::busy(&[0.2, 0.0]);
        thread::sleep(Duration::from_millis(300));
        let done = workers.stop();
        assert_eq!(done.attempts, 0);
        assert!(done.cpu_shares[0] > 2.0 * done.cpu_shares[1], "{done:?}");
    }
}
