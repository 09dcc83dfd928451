//! Metrics, health and a page with live figures for operators, on a separate address (`--admin`).
//!
//! Started by `server` before all other parts, so that health checks work during the start. In a
//! handover the predecessor answers until the successor begins to serve. A few threads each serve one
//! connection at a time, and one request per connection. So a scrape, which may count 20,000 descriptors,
//! never delays a stream, and a slow scraper does not delay a health check. Uses the HTTP core
//! with blocking sockets and short deadlines. Never serves the public API, and never waits for a lock that
//! is held during disk I/O.

mod gate;
mod page;
#[cfg(test)]
mod tests;

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use mio::{Events, Interest, Poll, Waker};

use self::gate::Gate;
use crate::bus::stats::BusStats;
use crate::clock::Clock;
use crate::http::{
    Allow, AllowOrigin, ErrorAnswer, Method, Progress, Refusal, ReplyTo, Request, RequestReader,
    Responder, Status,
};
use crate::identities::IdentityStats;
use crate::lifecycle::{Lifecycle, Stage};
use crate::limits::{ACCEPT_RETRY_MS, ADMIN_BODY_BYTES_MAX, ADMIN_DEADLINE_MS, ADMIN_THREADS};
use crate::metrics::family::gauges;
use crate::metrics::{self, MetricFamily, Metrics, SourceStats};
use crate::mirror::MirrorStats;
use crate::ring::RingStats;

/// The server of the admin address, and the sources of its figures.
#[derive(Clone)]
pub struct Admin {
    metrics: Arc<Metrics>,
    lifecycle: Arc<Lifecycle>,
    parts: Arc<OnceLock<Parts>>,
    /// The bus, if there is one, and the clock for its ages.
    bus: Arc<OnceLock<(Arc<BusStats>, Clock)>>,
    /// The wakers of its threads, after the start.
    wakers: Arc<OnceLock<Vec<Waker>>>,
}

/// Sources of figures that exist only after a part of the server has started.
pub struct Parts {
    /// Of the ring.
    pub ring: Arc<RingStats>,
    /// Of the identities.
    pub identities: Arc<IdentityStats>,
    /// Of the mirror, if there is one.
    pub mirror: Option<Arc<MirrorStats>>,
    /// Of the sources, if there are some.
    pub sources: Option<Arc<SourceStats>>,
}

const STOP: mio::Token = mio::Token(0);
const ARRIVAL: mio::Token = mio::Token(1);

impl Admin {
    /// An admin that exposes these metrics and this lifecycle.
    pub fn new(metrics: Arc<Metrics>, lifecycle: Arc<Lifecycle>) -> Admin {
        Admin {
            metrics,
            lifecycle,
            parts: Arc::default(),
            bus: Arc::default(),
            wakers: Arc::default(),
        }
    }

    /// Adds the figures of parts. Called once.
    pub fn add_parts(&self, parts: Parts) {
        let is_first = self.parts.set(parts).is_ok();
        debug_assert!(is_first, "called once");
    }

    /// Adds the figures of the bus, and what it reports about readiness. Called once, before the node joins.
    pub fn add_bus(&self, stats: Arc<BusStats>, clock: Clock) {
        let is_first = self.bus.set((stats, clock)).is_ok();
        debug_assert!(is_first, "called once");
    }

    /// Serves on threads of its own until the process ends or [`Admin::stop`]. Called once.
    pub fn start(&self, listener: &TcpListener) -> io::Result<()> {
        listener.set_nonblocking(true)?;
        let gate = Gate::of(listener.local_addr()?.ip());
        let mut wakers = Vec::new();
        for index in 0..ADMIN_THREADS {
            let poll = Poll::new()?;
            wakers.push(Waker::new(poll.registry(), STOP)?);
            let mut listener = mio::net::TcpListener::from_std(listener.try_clone()?);
            poll.registry()
                .register(&mut listener, ARRIVAL, Interest::READABLE)?;
            let admin = self.clone();
            thread::Builder::new()
                .name(format!("admin {index}"))
                .spawn(move || admin.serve(poll, &listener, gate))?;
        }
        let is_first = self.wakers.set(wakers).is_ok();
        debug_assert!(is_first, "called once");
        Ok(())
    }

    /// Accepts no further connection. The socket may stay open in another process, which serves it.
    pub fn stop(&self) {
        for waker in self.wakers.get().into_iter().flatten() {
            // The write to an eventfd fails only if it is full, and then it wakes as well.
            let _ = waker.wake();
        }
    }

    fn serve(&self, mut poll: Poll, listener: &mio::net::TcpListener, gate: Gate) {
        let mut events = Events::with_capacity(2);
        loop {
            // An interruption, or a temporary lack of memory: the next poll returns the events.
            let _ = poll.poll(&mut events, None);
            if events.iter().any(|event| event.token() == STOP) {
                return;
            }
            self.serve_all(listener, gate);
        }
    }

    fn serve_all(&self, listener: &mio::net::TcpListener, gate: Gate) {
        loop {
            match listener.accept() {
                // An error of one connection does not matter for others.
                Ok((connection, _)) => drop(self.serve_one(connection.into(), gate)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // Most likely descriptors are used up, which the shards log: retry later.
                Err(_) => thread::sleep(Duration::from_millis(ACCEPT_RETRY_MS)),
            }
        }
    }

    fn serve_one(&self, mut connection: TcpStream, gate: Gate) -> io::Result<()> {
        connection.set_nonblocking(false)?;
        let deadline = Instant::now() + Duration::from_millis(ADMIN_DEADLINE_MS);
        let responder = Responder::new(AllowOrigin::Listed(Vec::new()), SystemTime::now());
        let mut reader = RequestReader::new(Vec::new(), ADMIN_BODY_BYTES_MAX);
        let mut answer = Vec::new();
        match read_request(&mut connection, &mut reader, deadline)? {
            Ok(()) => {
                if let Some(request) = reader.request() {
                    self.answer(&request, gate, &responder, &mut answer);
                }
            }
            Err(refusal) => responder.refusal(reader.head().as_ref(), refusal, &mut answer),
        }
        let deadline = Instant::now() + Duration::from_millis(ADMIN_DEADLINE_MS);
        write_answer(&mut connection, &answer, deadline)?;
        connection.shutdown(Shutdown::Write)
    }

    fn answer(&self, request: &Request<'_>, gate: Gate, responder: &Responder, out: &mut Vec<u8>) {
        let mut to = responder.reply_to(request);
        to.keep_alive = false;
        if let Err(refused) = gate.examine(request.head) {
            let fields = [("Content-Type", JSON)].into_iter().chain(ALWAYS);
            return responder.document(
                to,
                refused.status(),
                fields,
                refused.body().as_bytes(),
                out,
            );
        }
        if !matches!(request.path, "/" | "/metrics" | "/healthz" | "/readyz") {
            return responder.error(to, ErrorAnswer::NotFound, out);
        }
        if !matches!(request.method, Method::Get | Method::Head) {
            return responder.error(to, ErrorAnswer::MethodNotAllowed(Allow::READ_ALONE), out);
        }
        let text = |status, content_type, body: &str, out| {
            let fields = [("Content-Type", content_type)].into_iter().chain(ALWAYS);
            responder.document(to, status, fields, body.as_bytes(), out);
        };
        match request.path {
            "/metrics" => {
                let body = metrics::encode(&self.gather());
                text(Status::Ok, metrics::CONTENT_TYPE, &body, out);
            }
            "/healthz" => text(Status::Ok, PLAIN, "ok\n", out),
            "/readyz" => {
                let (status, body) = self.readiness(request.query == Some("bus"));
                text(status, PLAIN, &body, out);
            }
            _ => answer_page(to, responder, out),
        }
    }

    /// The answer to `/readyz`, and to `/readyz?bus`, for which the bus has to work, too.
    fn readiness(&self, needs_bus: bool) -> (Status, String) {
        let bus = self.bus.get();
        if needs_bus && let Some(trouble) = bus.and_then(|(bus, clock)| bus.trouble(clock.now())) {
            let body = format!("the bus does not work: {trouble}\n");
            return (Status::ServiceUnavailable, body);
        }
        let stage = self.lifecycle.stage();
        let label = stage.label();
        match stage {
            Stage::Ready => (Status::Ok, format!("{label}\n")),
            Stage::Draining => (Status::ServiceUnavailable, format!("{label}\n")),
            Stage::Starting => {
                let reason = bus.and_then(|(bus, _)| bus.why_not_joined());
                let reason = reason.map_or(String::new(), |reason| format!(": {reason}"));
                (Status::ServiceUnavailable, format!("{label}{reason}\n"))
            }
        }
    }

    fn gather(&self) -> Vec<MetricFamily> {
        let now = self.lifecycle.stage();
        let stages = Stage::ALL.map(|stage| ([("stage", stage.label())], stage == now));
        let mut families = self.metrics.gather();
        families.push(gauges(
            "hookcast_stage",
            "1 for the present stage of the process, 0 for the others.",
            stages
                .iter()
                .map(|(labels, is_now)| (&labels[..], f64::from(u8::from(*is_now)))),
        ));
        if let Some(parts) = self.parts.get() {
            families.extend(parts.ring.gather());
            families.extend(parts.identities.gather());
            families.extend(parts.mirror.iter().flat_map(|mirror| mirror.gather()));
            families.extend(parts.sources.iter().flat_map(|sources| sources.gather()));
        }
        let bus = self.bus.get().into_iter();
        families.extend(bus.flat_map(|(bus, clock)| bus.gather(clock.now())));
        families
    }
}

const PLAIN: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";
const HTML: &str = "text/html; charset=utf-8";

/// The fields of every answer: it is not cached, and its content type is not guessed.
const ALWAYS: [(&str, &str); 2] = [
    ("Cache-Control", "no-store"),
    ("X-Content-Type-Options", "nosniff"),
];

fn answer_page(to: ReplyTo, responder: &Responder, out: &mut Vec<u8>) {
    let Ok((page, policy)) = page::with_nonce() else {
        return responder.error(to, ErrorAnswer::Internal, out);
    };
    let own = [
        ("Content-Type", HTML),
        ("Content-Security-Policy", &*policy),
        ("Referrer-Policy", "no-referrer"),
    ];
    let fields = own.into_iter().chain(ALWAYS);
    responder.document(to, Status::Ok, fields, page.as_bytes(), out);
}

/// Writes an answer before a deadline. Without it, a client that reads byte by byte would block a thread.
fn write_answer(
    connection: &mut TcpStream,
    mut answer: &[u8],
    deadline: Instant,
) -> io::Result<()> {
    while !answer.is_empty() {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        connection.set_write_timeout(Some(left))?;
        match connection.write(answer) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(bytes) => answer = &answer[bytes..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Reads one request. The outer `Err` means that the connection has failed, so no answer is possible.
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
            // The timeout: the deadline is checked again.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
