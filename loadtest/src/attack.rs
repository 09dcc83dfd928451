//! Attackers: floods of connections and of requests, new and kept, uploads that stop, readers that read nothing; and
//! busy loops that take as much CPU as they do and leave the server alone.
//!
//! Used by `overload` alone. Each attacker is a thread with blocking sockets, as a cheap tool of
//! this kind would be, so what it can do is bounded by the CPU that it gets.

use std::hint::black_box;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use clap::ValueEnum;

use crate::polls::{self, Known};
use crate::proc_stats;

/// How long an attacker waits for the server at one step.
const STEP: Duration = Duration::from_millis(50);
/// The same for a connection.
const CONNECT: Duration = Duration::from_secs(1);

/// Bytes of an upload that stops before its last one.
const UPLOAD_BYTES: usize = 60_000;
/// Requests sent in one go.
const PIPELINED: usize = 50;
/// How often that is done on a connection that is kept.
const ROUNDS: usize = 100;
/// A request that costs the attacker next to nothing.
const ORDINARY: &str = "GET /api/webhook HTTP/1.1\r\nHost: a\r\n\r\n";
/// Period of a busy loop's work and rest.
const BUSY_PERIOD: Duration = Duration::from_millis(1);

/// One kind of attack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// Connections that say nothing and are held.
    Connect,
    /// Connections that are closed as soon as they are open.
    Touch,
    /// Webhooks that stop before their last byte.
    Upload,
    /// Pipelined requests for what is long; nobody reads the answers.
    Unread,
    /// Streams that nobody reads.
    Stall,
    /// Requests as fast as they are answered, half of them nonsense.
    Request,
    /// The same without nonsense, on connections that are kept.
    Reuse,
    /// Long polls that say they have whatever there is, and ask again once answered.
    Poll,
    /// Long polls for the whole history, each for another number of messages.
    Pages,
}

/// Threads at work until stopped.
pub struct Crowd {
    is_over: Arc<AtomicBool>,
    workers: Vec<(Arc<AtomicI32>, JoinHandle<()>)>,
    blows: Arc<AtomicU64>,
    began: Instant,
}

/// What a crowd did.
#[derive(Debug, Clone, Default)]
pub struct Deeds {
    /// Connections made to harm, and long polls answered; none for busy loops.
    pub blows: u64,
    /// Each thread's part of one CPU.
    pub cpu_shares: Vec<f64>,
}

impl Crowd {
    fn new() -> Crowd {
        Crowd {
            is_over: Arc::default(),
            workers: Vec::new(),
            blows: Arc::default(),
            began: Instant::now(),
        }
    }

    /// One thread for each kind; together they hold as many connections as `connections` and half as
    /// many more.
    pub fn attack(address: SocketAddr, kinds: &[Kind], connections: usize) -> Crowd {
        let mut crowd = Crowd::new();
        let held_max = connections * 3 / 2 / kinds.len().max(1);
        for &kind in kinds {
            let blows = Arc::clone(&crowd.blows);
            if let Some(known) = kind.known() {
                crowd.add(move |is_over| polls::run(address, known, held_max, is_over, &blows));
                continue;
            }
            crowd.add(move |is_over| {
                let mut held = Vec::new();
                while !is_over.load(Relaxed) {
                    // A server under attack may refuse, and reset, whatever it likes.
                    if let Ok(connection) = kind.strike(address) {
                        blows.fetch_add(1, Relaxed);
                        held.push(connection);
                    }
                    if held.len() > kind.held_max(held_max) {
                        held.clear();
                    }
                }
            });
        }
        crowd
    }

    /// A thread for each share of a CPU, which takes that.
    pub fn busy(cpu_shares: &[f64]) -> Crowd {
        let mut crowd = Crowd::new();
        for &share in cpu_shares {
            crowd.add(move |is_over| {
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
        crowd
    }

    fn add(&mut self, work: impl FnOnce(&AtomicBool) + Send + 'static) {
        let (is_over, tid) = (Arc::clone(&self.is_over), Arc::new(AtomicI32::new(0)));
        let own = Arc::clone(&tid);
        let worker = thread::spawn(move || {
            own.store(rustix::thread::gettid().as_raw_nonzero().get(), Relaxed);
            work(&is_over);
        });
        self.workers.push((tid, worker));
    }

    /// Ends it.
    pub fn stop(self) -> Deeds {
        let wall_ns = self.began.elapsed().as_nanos() as f64;
        let cpu_shares = self
            .workers
            .iter()
            .map(|(tid, _)| proc_stats::thread(tid.load(Relaxed)).run_ns as f64 / wall_ns)
            .collect();
        self.is_over.store(true, Relaxed);
        for (_, worker) in self.workers {
            // Nothing in it panics; if it did, its message is on stderr.
            let _ = worker.join();
        }
        Deeds {
            blows: self.blows.load(Relaxed),
            cpu_shares,
        }
    }
}

impl Kind {
    /// What polls of this kind say that they have; none if these are no polls.
    fn known(self) -> Option<Known> {
        match self {
            Kind::Poll => Some(Known::Anything),
            Kind::Pages => Some(Known::LastPage),
            _ => None,
        }
    }

    /// Those who gain nothing by holding their connections let go of them.
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

    /// Makes a connection and does harm by it.
    fn strike(self, address: SocketAddr) -> io::Result<TcpStream> {
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
                // What does not fit any more stays away.
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

/// Sends a request many times over and reads what answers there are.
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
    fn a_busy_crowd_takes_the_share_it_is_told_to_at_most() {
        let crowd = Crowd::busy(&[0.2, 0.0]);
        thread::sleep(Duration::from_millis(300));
        let deeds = crowd.stop();
        assert_eq!(deeds.blows, 0);
        assert!(deeds.cpu_shares[0] > 2.0 * deeds.cpu_shares[1], "{deeds:?}");
    }
}
