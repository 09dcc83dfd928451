//! Long polls as an attack: each connection waits for a message and polls again after each answer.
//!
//! Used by `attack` alone: one thread, one epoll, any number of connections. Bodies are read and dropped.

use std::collections::HashMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use memchr::memmem;

use crate::engine::epoll::Poll;

/// Longest wait for events, so that the end is noticed in time.
const LOOK: Duration = Duration::from_millis(20);
/// Timeout of a connect.
const CONNECT: Duration = Duration::from_secs(1);
/// Bytes of one read: a page of the history takes several.
const READ_BYTES: usize = 256 * 1024;
/// Longest response head; hookcast's are shorter.
const HEAD_BYTES_MAX: usize = 4096;
/// The server's longest `wait`.
const WAIT_S: u32 = 25;
/// The server's largest `limit`.
const LIMIT_MAX: usize = 100;

/// The validator of a poll.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    /// `If-None-Match: *`: each answer is a 304.
    Anything,
    /// The `ETag` of the last page. Each poll has another `limit`.
    LastPage,
}

/// Keeps up to `polls_max` polls waiting until stopped, and counts answers.
pub fn run(
    address: SocketAddr,
    known: Known,
    polls_max: usize,
    is_over: &AtomicBool,
    answers: &AtomicU64,
) {
    let Ok(mut poll) = Poll::new() else { return };
    let mut open: HashMap<u64, Client> = HashMap::new();
    let mut scratch = vec![0; READ_BYTES];
    let mut next_token = 0;
    while !is_over.load(Relaxed) {
        // A few connections at a time, so that waiting polls are served in between. A refused connection is
        // tried again later.
        for _ in 0..64.min(polls_max.saturating_sub(open.len())) {
            if let Ok(client) = Client::connect(address, known, next_token as usize)
                && poll.add(&client.socket, next_token).is_ok()
            {
                open.insert(next_token, client);
            }
            next_token += 1;
        }
        if poll.wait(LOOK).is_err() {
            return;
        }
        for at in 0..poll.len() {
            let token = poll.get(at).token;
            let Some(client) = open.get_mut(&token) else {
                continue;
            };
            match client.take(&mut scratch) {
                Ok(count) => _ = answers.fetch_add(count, Relaxed),
                Err(_) => _ = open.remove(&token),
            }
        }
    }
}

/// A connection with a poll in progress.
struct Client {
    socket: TcpStream,
    known: Known,
    limit: usize,
    etag: Option<String>,
    /// Bytes of the present response head.
    head: Vec<u8>,
    /// Bytes missing from its body; `None` before the head is complete.
    body_left: Option<usize>,
}

impl Client {
    fn connect(address: SocketAddr, known: Known, number: usize) -> io::Result<Client> {
        let socket = TcpStream::connect_timeout(&address, CONNECT)?;
        socket.set_nonblocking(true)?;
        let limit = match known {
            Known::Anything => LIMIT_MAX,
            Known::LastPage => LIMIT_MAX - number % (LIMIT_MAX / 2),
        };
        let mut client = Client {
            socket,
            known,
            limit,
            etag: None,
            head: Vec::new(),
            body_left: None,
        };
        client.ask()?;
        Ok(client)
    }

    fn ask(&mut self) -> io::Result<()> {
        let tag = match (self.known, &self.etag) {
            (Known::Anything, _) => "If-None-Match: *\r\n".into(),
            (Known::LastPage, Some(etag)) => format!("If-None-Match: {etag}\r\n"),
            (Known::LastPage, None) => String::new(),
        };
        let request = format!(
            "GET /api/webhook/messages?wait={WAIT_S}&limit={} HTTP/1.1\r\nHost: a\r\n{tag}\r\n",
            self.limit
        );
        // The send buffer is empty, so it takes the whole request.
        self.socket.write_all(request.as_bytes())
    }

    /// Reads what has arrived and polls again after each answer. Returns the number of complete answers.
    fn take(&mut self, scratch: &mut [u8]) -> io::Result<u64> {
        let mut answers = 0;
        loop {
            let count = match self.socket.read(scratch) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(answers),
                Err(error) => return Err(error),
            };
            let mut bytes = &scratch[..count];
            while !bytes.is_empty() {
                bytes = self.absorb(bytes)?;
                if self.body_left == Some(0) {
                    self.body_left = None;
                    answers += 1;
                    self.ask()?;
                }
            }
        }
    }

    /// Consumes bytes of the present answer and returns the rest.
    fn absorb<'a>(&mut self, bytes: &'a [u8]) -> io::Result<&'a [u8]> {
        if let Some(left) = &mut self.body_left {
            let taken = bytes.len().min(*left);
            *left -= taken;
            return Ok(&bytes[taken..]);
        }
        let before = self.head.len();
        self.head.extend_from_slice(bytes);
        let Some(end) = memmem::find(&self.head, b"\r\n\r\n").map(|at| at + 4) else {
            return match self.head.len() {
                ..=HEAD_BYTES_MAX => Ok(&[]),
                _ => Err(ErrorKind::InvalidData.into()),
            };
        };
        let head = String::from_utf8_lossy(&self.head[..end]).into_owned();
        self.head.clear();
        let field = |name: &str| head.lines().find_map(|line| line.strip_prefix(name));
        let is_bodiless = head.starts_with("HTTP/1.1 304");
        let length = field("Content-Length: ").filter(|_| !is_bodiless);
        self.body_left = Some(length.and_then(|text| text.parse().ok()).unwrap_or(0));
        self.etag = field("ETag: ").map(str::to_owned);
        if !is_bodiless && self.etag.is_none() {
            // Not a page: the server is full.
            return Err(ErrorKind::ConnectionRefused.into());
        }
        Ok(&bytes[end - before..])
    }
}
