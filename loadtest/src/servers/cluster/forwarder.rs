//! A TCP forwarder in front of an engine: it can be switched to another engine, and it cuts connections in the
//! ways that a network does.
//!
//! Two threads for each connection; a node has a few. Used by `runs`, one for each node and one for a replica.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// Bytes of one read.
const READ_BYTES: usize = 64 * 1024;

/// Time for a connect.
const CONNECT_PATIENCE: Duration = Duration::from_secs(2);

/// Time for which a late batch is held back: the node has a new connection by then.
const LATE: Duration = Duration::from_secs(1);

/// What happens to bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// They are passed on.
    Pass,
    /// Those to the engine vanish.
    SwallowRequests,
    /// Those from the engine vanish: calls are executed and not answered.
    SwallowAnswers,
    /// The next answer is passed on by half, then the connection breaks.
    HalveAnswer,
    /// The next request breaks the node's connection, and reaches the engine later.
    DelayRequest,
}

const MODES: [Mode; 5] = [
    Mode::Pass,
    Mode::SwallowRequests,
    Mode::SwallowAnswers,
    Mode::HalveAnswer,
    Mode::DelayRequest,
];

struct Shared {
    upstream: Mutex<SocketAddr>,
    mode: AtomicU8,
    /// Both ends of each connection.
    connections: Mutex<Vec<(TcpStream, TcpStream)>>,
    has_ended: AtomicBool,
}

/// See the module. Ends when dropped.
pub struct Forwarder {
    /// Where it listens.
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

impl Forwarder {
    /// Starts one that connects to `upstream`.
    pub fn start(upstream: SocketAddr) -> Result<Forwarder, String> {
        let listener = TcpListener::bind("127.0.0.1:0").map_err(|error| error.to_string())?;
        let address = listener.local_addr().map_err(|error| error.to_string())?;
        let shared = Arc::new(Shared {
            upstream: Mutex::new(upstream),
            mode: AtomicU8::new(0),
            connections: Mutex::default(),
            has_ended: AtomicBool::new(false),
        });
        let accepting = Arc::clone(&shared);
        thread::spawn(move || {
            for client in listener.incoming() {
                if accepting.has_ended.load(Relaxed) {
                    return;
                }
                // Without an engine the client's connection is closed at once.
                if let Ok(client) = client {
                    let _ = accepting.accept(client);
                }
            }
        });
        Ok(Forwarder { address, shared })
    }

    /// Connects to another engine from now on.
    pub fn switch(&self, upstream: SocketAddr) {
        *lock(&self.shared.upstream) = upstream;
        self.cut();
    }

    /// Sets what happens to bytes. [`Forwarder::heal`] ends it.
    pub fn set(&self, mode: Mode) {
        let at = MODES.iter().position(|&one| one == mode).unwrap_or(0);
        self.shared.mode.store(at as u8, Relaxed);
    }

    /// Breaks all connections.
    pub fn cut(&self) {
        break_all(&mut lock(&self.shared.connections));
    }

    /// Breaks all connections, and passes the bytes of new ones. What reached the forwarder before is not passed on,
    /// even if its thread has yet to read it: a stream with a hole would not end the fault, but add another one.
    pub fn heal(&self) {
        let mut connections = lock(&self.shared.connections);
        break_all(&mut connections);
        self.set(Mode::Pass);
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        self.shared.has_ended.store(true, Relaxed);
        self.cut();
        // The accepting thread looks at the flag after an accept.
        let _ = TcpStream::connect_timeout(&self.address, CONNECT_PATIENCE);
    }
}

impl Shared {
    fn accept(self: &Arc<Shared>, client: TcpStream) -> io::Result<()> {
        let upstream = *lock(&self.upstream);
        let engine = TcpStream::connect_timeout(&upstream, CONNECT_PATIENCE)?;
        client.set_nodelay(true)?;
        engine.set_nodelay(true)?;
        let ends = (client.try_clone()?, engine.try_clone()?);
        let (to_client, to_engine) = (client.try_clone()?, engine.try_clone()?);
        {
            let mut connections = lock(&self.connections);
            // Connections that have ended have no peer.
            connections.retain(|(client, _)| client.peer_addr().is_ok());
            connections.push(ends);
        }
        let shared = Arc::clone(self);
        thread::spawn(move || shared.pass_requests(client, to_engine));
        let shared = Arc::clone(self);
        thread::spawn(move || shared.pass_answers(engine, to_client));
        Ok(())
    }

    fn mode(&self) -> Mode {
        MODES[usize::from(self.mode.load(Relaxed))]
    }

    fn pass_requests(&self, mut client: TcpStream, mut engine: TcpStream) {
        let mut buffer = vec![0; READ_BYTES];
        while let Ok(length @ 1..) = client.read(&mut buffer) {
            match self.mode() {
                Mode::SwallowRequests => continue,
                Mode::DelayRequest => {
                    let _ = client.shutdown(Shutdown::Both);
                    thread::sleep(LATE);
                    let _ = engine.write_all(&buffer[..length]);
                    // The engine executes what it reads before the end of the connection.
                    let _ = engine.shutdown(Shutdown::Write);
                    return;
                }
                _ => {}
            }
            if engine.write_all(&buffer[..length]).is_err() {
                break;
            }
        }
        end(&client, &engine);
    }

    fn pass_answers(&self, mut engine: TcpStream, mut client: TcpStream) {
        let mut buffer = vec![0; READ_BYTES];
        while let Ok(length @ 1..) = engine.read(&mut buffer) {
            match self.mode() {
                Mode::SwallowAnswers => continue,
                Mode::HalveAnswer if length > 1 => {
                    let _ = client.write_all(&buffer[..length / 2]);
                    break;
                }
                _ => {}
            }
            if client.write_all(&buffer[..length]).is_err() {
                break;
            }
        }
        end(&client, &engine);
    }
}

fn break_all(connections: &mut Vec<(TcpStream, TcpStream)>) {
    for (client, engine) in connections.drain(..) {
        end(&client, &engine);
    }
}

fn end(client: &TcpStream, engine: &TcpStream) {
    let _ = client.shutdown(Shutdown::Both);
    let _ = engine.shutdown(Shutdown::Both);
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An engine that answers each request with the same bytes, in capitals.
    fn engine(name: &'static str) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            for connection in listener.incoming() {
                thread::spawn(move || {
                    let mut connection = connection.unwrap();
                    let mut buffer = [0; 64];
                    while let Ok(1..) = connection.read(&mut buffer) {
                        let _ = connection.write_all(name.as_bytes());
                    }
                });
            }
        });
        address
    }

    /// Long enough for an answer on a busy machine.
    const PATIENCE: Duration = Duration::from_secs(30);

    /// Time in which no answer comes.
    const SILENCE: Duration = Duration::from_millis(200);

    fn ask(address: SocketAddr, patience: Duration) -> (TcpStream, String) {
        let mut connection = TcpStream::connect(address).unwrap();
        connection.set_read_timeout(Some(patience)).unwrap();
        connection.write_all(b"?").unwrap();
        let mut buffer = [0; 64];
        let length = connection.read(&mut buffer).unwrap_or(0);
        let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
        (connection, text)
    }

    #[test]
    fn bytes_are_passed_swallowed_and_halved() {
        let forwarder = Forwarder::start(engine("answer")).unwrap();
        assert_eq!(ask(forwarder.address, PATIENCE).1, "answer");
        for mode in [
            Mode::SwallowRequests,
            Mode::SwallowAnswers,
            Mode::DelayRequest,
        ] {
            forwarder.set(mode);
            assert_eq!(ask(forwarder.address, SILENCE).1, "", "{mode:?}");
        }
        forwarder.set(Mode::HalveAnswer);
        let (mut connection, text) = ask(forwarder.address, PATIENCE);
        assert_eq!(text, "ans");
        assert_eq!(connection.read(&mut [0; 8]).unwrap(), 0);
    }

    /// The threads may read what was sent under the fault only after its end.
    #[test]
    fn bytes_of_a_fault_are_not_passed_on_after_it() {
        let forwarder = Forwarder::start(engine("late")).unwrap();
        for _ in 0..200 {
            let (mut connection, text) = ask(forwarder.address, PATIENCE);
            assert_eq!(text, "late");
            forwarder.set(Mode::SwallowAnswers);
            connection.write_all(b"?").unwrap();
            forwarder.heal();
            assert_eq!(connection.read(&mut [0; 8]).unwrap_or(0), 0);
            assert_eq!(ask(forwarder.address, PATIENCE).1, "late");
        }
    }

    #[test]
    fn a_switch_breaks_connections_and_new_ones_reach_the_other_engine() {
        let forwarder = Forwarder::start(engine("first")).unwrap();
        let (mut connection, text) = ask(forwarder.address, PATIENCE);
        assert_eq!(text, "first");
        forwarder.switch(engine("second"));
        assert_eq!(connection.read(&mut [0; 8]).unwrap(), 0);
        assert_eq!(ask(forwarder.address, PATIENCE).1, "second");
    }
}
