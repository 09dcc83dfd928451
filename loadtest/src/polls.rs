//! Long polls as an attack: connections that each wait for a message and ask again once answered.
//!
//! Used by `attack` alone: one thread, one epoll, any number of connections. What an answer holds is
//! read and dropped.

use std::collections::HashMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use memchr::memmem;

use crate::poll::Poll;

/// How long a wait for events lasts at most, so that the end is noticed.
const LOOK: Duration = Duration::from_millis(20);
/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(1);
/// Bytes read in one call: a page of the history takes some calls.
const READ_BYTES: usize = 256 * 1024;
/// A head that is longer is no answer of hookcast.
const HEAD_BYTES_MAX: usize = 4096;
/// The server's longest wait.
const WAIT_S: u32 = 25;
/// The largest `limit` that the server takes.
const LIMIT_MAX: usize = 100;

/// What a poll says that it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    /// Anything (`If-None-Match: *`): each answer is a 304.
    Anything,
    /// The page of its last answer, and each poll another number of messages.
    LastPage,
}

/// Keeps up to `polls_max` polls waiting until it is over. Counts answers.
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
        // A few at a time, so that those that wait are served meanwhile. One that the server
        // refuses makes room for the next try.
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

/// A connection with a poll on its way.
struct Client {
    socket: TcpStream,
    known: Known,
    limit: usize,
    etag: Option<String>,
    /// The head of the answer that is being read.
    head: Vec<u8>,
    /// Bytes of its body that have not come; none while the head has not.
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
        // An empty send buffer takes a request whole.
        self.socket.write_all(request.as_bytes())
    }

    /// Reads what is there and asks again behind each answer. Returns how many answers were whole.
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

    /// Takes in what belongs to the current answer and returns the rest.
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
