//! Metrics, health and a page with live figures on an address of their own (`--admin`), for the
//! operator alone.
//!
//! Started by `server` before anything else, so that it can tell of the start; in a successor, only
//! when that serves, as the predecessor's answers until then. A few threads serve
//! one connection after the other, one request each: rendering the metrics, which counts 20,000
//! descriptors if need be, never delays a stream, and a scraper that is slow does not delay a health
//! check. Uses the HTTP core with blocking sockets and short deadlines. Never serves anything
//! public, and never waits for a lock that is held while a disk is waited for.

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
use crate::http::{
    Allow, AllowOrigin, ErrorAnswer, Method, Progress, Refusal, ReplyTo, Request, RequestReader,
    Responder, Status,
};
use crate::lifecycle::{Lifecycle, Stage};
use crate::limits::{ACCEPT_RETRY_MS, ADMIN_BODY_BYTES_MAX, ADMIN_DEADLINE_MS, ADMIN_THREADS};
use crate::metrics::family::gauges;
use crate::metrics::{self, MetricFamily, Metrics};
use crate::mirror::MirrorStats;
use crate::ring::RingStats;

/// What the admin address tells.
#[derive(Clone)]
pub struct Admin {
    metrics: Arc<Metrics>,
    lifecycle: Arc<Lifecycle>,
    parts: Arc<OnceLock<Parts>>,
    /// Those of its threads, once there are any.
    wakers: Arc<OnceLock<Vec<Waker>>>,
}

/// What there is to tell of once it has been started.
struct Parts {
    ring: Arc<RingStats>,
    mirror: Option<Arc<MirrorStats>>,
}

const STOP: mio::Token = mio::Token(0);
const ARRIVAL: mio::Token = mio::Token(1);

impl Admin {
    /// An admin that tells of these metrics, and whether the server is ready.
    pub fn new(metrics: Arc<Metrics>, lifecycle: Arc<Lifecycle>) -> Admin {
        Admin {
            metrics,
            lifecycle,
            parts: Arc::default(),
            wakers: Arc::default(),
        }
    }

    /// Tells of the ring from now on, and of the mirror if there is one. To be called once.
    pub fn tell_of(&self, ring: Arc<RingStats>, mirror: Option<Arc<MirrorStats>>) {
        let is_first = self.parts.set(Parts { ring, mirror }).is_ok();
        debug_assert!(is_first, "there is one ring");
    }

    /// Serves on threads of its own until the process ends or [`Admin::stop`]. To be called once.
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
        debug_assert!(is_first, "it serves one address");
        Ok(())
    }

    /// Accepts no further connection: the socket may live on in another process, which serves it.
    pub fn stop(&self) {
        for waker in self.wakers.get().into_iter().flatten() {
            // An eventfd that cannot be written to is one that is full, which wakes as well.
            let _ = waker.wake();
        }
    }

    fn serve(&self, mut poll: Poll, listener: &mio::net::TcpListener, gate: Gate) {
        let mut events = Events::with_capacity(2);
        loop {
            // An interruption, or no memory for a moment; the next look tells.
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
                // A peer that hangs up or is too slow is its own loss.
                Ok((connection, _)) => drop(self.serve_one(connection.into(), gate)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // No descriptor, most likely: the shards say so, and it passes.
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
                let stage = self.lifecycle.stage();
                let status = match stage {
                    Stage::Ready => Status::Ok,
                    Stage::Starting | Stage::Draining => Status::ServiceUnavailable,
                };
                text(status, PLAIN, &format!("{}\n", stage.label()), out);
            }
            _ => answer_page(to, responder, out),
        }
    }

    fn gather(&self) -> Vec<MetricFamily> {
        let now = self.lifecycle.stage();
        let stages = Stage::ALL.map(|stage| ([("stage", stage.label())], stage == now));
        let mut families = self.metrics.gather();
        families.push(gauges(
            "hookcast_stage",
            "1 for the stage of the process's life that it is in, 0 for the others.",
            stages
                .iter()
                .map(|(labels, is_now)| (&labels[..], f64::from(u8::from(*is_now)))),
        ));
        if let Some(parts) = self.parts.get() {
            families.extend(parts.ring.gather());
            families.extend(parts.mirror.iter().flat_map(|mirror| mirror.gather()));
        }
        families
    }
}

const PLAIN: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";
const HTML: &str = "text/html; charset=utf-8";

/// On every answer: it is of this moment, and what it says it is.
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

/// Writes an answer before a deadline. One that takes it byte by byte would else keep its thread.
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
