//! Metrics and health on an address of their own (`--admin`), for the operator alone.
//!
//! Started by `server` as a thread that serves one connection after the other, one request each, so
//! that rendering the metrics, which counts 20,000 descriptors if need be, never delays a stream.
//! Uses the HTTP core with a blocking socket and short deadlines. Never serves anything public.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use mio::{Events, Interest, Poll, Waker};

use crate::http::{
    Allow, AllowOrigin, ErrorAnswer, Method, Progress, Refusal, Request, RequestReader, Responder,
};
use crate::limits::{ACCEPT_RETRY_MS, ADMIN_BODY_BYTES_MAX, ADMIN_DEADLINE_MS};
use crate::metrics::{self, Metrics};
use crate::mirror::MirrorStats;
use crate::ring::RingStats;

/// What the admin address tells.
#[derive(Clone)]
pub struct Admin {
    metrics: Arc<Metrics>,
    ring: Arc<RingStats>,
    mirror: Option<Arc<MirrorStats>>,
    is_draining: Arc<AtomicBool>,
}

/// The running admin.
#[derive(Debug)]
pub struct AdminHandle {
    waker: Waker,
}

impl AdminHandle {
    /// Lets it accept no further connection.
    pub fn stop(&self) {
        // An eventfd that cannot be written to is one that is full, which wakes as well.
        let _ = self.waker.wake();
    }
}

const STOP: mio::Token = mio::Token(0);
const ARRIVAL: mio::Token = mio::Token(1);

impl Admin {
    /// An admin that tells of these metrics, those of the ring, those of the mirror if there is one,
    /// and that the server is ready until `is_draining`.
    pub fn new(
        metrics: Arc<Metrics>,
        ring: Arc<RingStats>,
        mirror: Option<Arc<MirrorStats>>,
        is_draining: Arc<AtomicBool>,
    ) -> Admin {
        Admin {
            metrics,
            ring,
            mirror,
            is_draining,
        }
    }

    /// Serves on a thread of its own until the process ends or it is told to stop.
    pub fn start(self, listener: TcpListener) -> io::Result<AdminHandle> {
        listener.set_nonblocking(true)?;
        let mut poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), STOP)?;
        let mut listener = mio::net::TcpListener::from_std(listener);
        poll.registry()
            .register(&mut listener, ARRIVAL, Interest::READABLE)?;
        thread::Builder::new()
            .name("admin".into())
            .spawn(move || self.serve(&mut poll, &mut listener))?;
        Ok(AdminHandle { waker })
    }

    fn serve(&self, poll: &mut Poll, listener: &mut mio::net::TcpListener) {
        let mut events = Events::with_capacity(2);
        loop {
            // An interruption, or no memory for a moment; the next look tells.
            let _ = poll.poll(&mut events, None);
            if events.iter().any(|event| event.token() == STOP) {
                // The socket may live on in another process, which serves it now.
                let _ = poll.registry().deregister(listener);
                return;
            }
            self.serve_all(listener);
        }
    }

    fn serve_all(&self, listener: &mio::net::TcpListener) {
        loop {
            match listener.accept() {
                // A peer that hangs up or is too slow is its own loss.
                Ok((connection, _)) => drop(self.serve_one(connection.into())),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // No descriptor, most likely: the shards say so, and it passes.
                Err(_) => thread::sleep(Duration::from_millis(ACCEPT_RETRY_MS)),
            }
        }
    }

    fn serve_one(&self, mut connection: TcpStream) -> io::Result<()> {
        connection.set_nonblocking(false)?;
        let deadline = Instant::now() + Duration::from_millis(ADMIN_DEADLINE_MS);
        let responder = Responder::new(AllowOrigin::Listed(Vec::new()), SystemTime::now());
        let mut reader = RequestReader::new(Vec::new(), ADMIN_BODY_BYTES_MAX);
        let mut answer = Vec::new();
        match read_request(&mut connection, &mut reader, deadline)? {
            Ok(()) => {
                if let Some(request) = reader.request() {
                    self.answer(&request, &responder, &mut answer);
                }
            }
            Err(refusal) => responder.refusal(reader.head().as_ref(), refusal, &mut answer),
        }
        connection.set_write_timeout(Some(Duration::from_millis(ADMIN_DEADLINE_MS)))?;
        connection.write_all(&answer)?;
        connection.shutdown(Shutdown::Write)
    }

    fn answer(&self, request: &Request<'_>, responder: &Responder, out: &mut Vec<u8>) {
        let mut to = responder.reply_to(request);
        to.keep_alive = false;
        if !matches!(request.method, Method::Get | Method::Head) {
            return responder.error(to, ErrorAnswer::MethodNotAllowed(Allow::READ), out);
        }
        let text = |content_type, body: &str, out| {
            let fields = [
                ("Content-Type", content_type),
                ("Cache-Control", "no-store"),
            ];
            responder.asset(to, false, fields, body.as_bytes(), out);
        };
        match request.path {
            "/metrics" => {
                let mut families = self.metrics.gather();
                families.extend(self.ring.gather());
                families.extend(self.mirror.iter().flat_map(|mirror| mirror.gather()));
                text(metrics::CONTENT_TYPE, &metrics::encode(&families), out);
            }
            "/healthz" => text(PLAIN, "ok\n", out),
            "/readyz" if self.is_draining.load(Ordering::Relaxed) => {
                let error = ErrorAnswer::Unavailable { retry_after_s: 1 };
                responder.error(to, error, out);
            }
            "/readyz" => text(PLAIN, "ready\n", out),
            _ => responder.error(to, ErrorAnswer::NotFound, out),
        }
    }
}

const PLAIN: &str = "text/plain; charset=utf-8";

/// Reads one request. `Err` outside means that there is nobody to answer.
fn read_request(
    connection: &mut TcpStream,
    reader: &mut RequestReader,
    deadline: Instant,
) -> io::Result<Result<(), Refusal>> {
    let mut buffer = [0; 4096];
    loop {
        match reader.poll() {
            Ok(Progress::Complete) => return Ok(Ok(())),
            Ok(Progress::Incomplete | Progress::WantsContinue) => {}
            Err(refusal) => return Ok(Err(refusal)),
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(Err(Refusal::TooSlow));
        }
        connection.set_read_timeout(Some(left))?;
        match connection.read(&mut buffer) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(bytes) => reader.push(&buffer[..bytes]),
            // The timeout; the deadline is looked at again.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
