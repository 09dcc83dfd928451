//! The floor: a server that does the kernel's part of the work and almost nothing else.
//!
//! It accepts connections and distinguishes stream requests and POSTs. For each POST it makes one `send` for each stream, of
//! the same bytes that hookcast would send. Its cost is the kernel's cost on this machine at this moment, so
//! the figures of other servers are given as ratios to it.
//!
//! Not for use: it has no history, sessions or deadlines, and a stream that is not ready loses its message.

use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use memchr::memmem;
use rustix::net::{RecvFlags, SendFlags, SocketFlags};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::engine::clock::now_ns;
use crate::engine::epoll::Poll;

const LISTENER: u64 = u64::MAX;
const BACKLOG: i32 = 4096;
const READ_BYTES: usize = 64 * 1024;
/// Heartbeats are spread over this many phases of the interval, and runs of streams share a phase, as in
/// hookcast: writing to neighbours is cheaper.
const HEARTBEAT_PHASES: u64 = 128;
const HEARTBEAT_RUN: usize = 16;
const STREAM_HEAD: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n\
    Cache-Control: no-store, no-transform\r\nTransfer-Encoding: chunked\r\n\r\n\
    45\r\nretry: 2000\ndata: {\"type\":\"connected\",\"timestamp\":1700000000000   }\n\n\r\n";
const ACK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 93\r\n\r\n\
    {\"success\":true,\"messageId\":\"00000000-0000-4000-8000-000000000000\",\"timestamp\":1700000000000}";
const HEARTBEAT: &[u8] = b"c\r\n: heartbeat\n\r\n";

/// Options of the floor.
pub struct FloorOptions {
    /// Where to listen.
    pub listen: SocketAddr,
    /// Interval of heartbeats on every stream; `None`: none.
    pub heartbeat: Option<Duration>,
}

/// Serves until SIGTERM or SIGINT. Logs its address to stderr in hookcast's format.
pub fn run(options: &FloorOptions, stop: &Arc<AtomicBool>) -> io::Result<()> {
    let listener = listen(options.listen)?;
    let address = listener.local_addr()?;
    writeln!(
        io::stderr(),
        r#"{{"level":"INFO","fields":{{"address":"{address}"}}}}"#
    )?;
    let mut floor = Floor {
        poll: Poll::new()?,
        listener,
        connections: Vec::new(),
        free: Vec::new(),
        streams: Vec::new(),
        buffer: vec![0; READ_BYTES],
        sequence: 0,
    };
    floor.poll.add_listener(&floor.listener, LISTENER)?;
    let phase_ns = options
        .heartbeat
        .map(|interval| interval.as_nanos() as u64 / HEARTBEAT_PHASES);
    let mut phase = 0;
    let mut phase_due_ns = now_ns();
    while !stop.load(Relaxed) {
        let mut pause = Duration::from_millis(100);
        if let Some(phase_ns) = phase_ns {
            while now_ns() >= phase_due_ns {
                floor.heartbeat(phase);
                phase = (phase + 1) % HEARTBEAT_PHASES;
                phase_due_ns += phase_ns.max(1);
            }
            pause = pause.min(Duration::from_nanos(phase_due_ns.saturating_sub(now_ns())));
        }
        floor.turn(pause)?;
    }
    Ok(())
}

struct Connection {
    socket: OwnedFd,
    /// Index in the list of streams.
    stream_at: Option<usize>,
    input: Vec<u8>,
}

struct Floor {
    poll: Poll,
    listener: TcpListener,
    connections: Vec<Option<Connection>>,
    free: Vec<usize>,
    streams: Vec<usize>,
    buffer: Vec<u8>,
    sequence: u64,
}

impl Floor {
    fn turn(&mut self, pause: Duration) -> io::Result<()> {
        self.poll.wait(pause)?;
        for at in 0..self.poll.len() {
            let readiness = self.poll.get(at);
            if readiness.token == LISTENER {
                self.accept();
            } else if readiness.readable || readiness.closed {
                self.read(readiness.token as usize);
            }
        }
        Ok(())
    }

    /// Accepts waiting connections. Without descriptors it tries again in the next turn.
    fn accept(&mut self) {
        while let Ok(socket) =
            rustix::net::accept_with(&self.listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC)
        {
            let at = self.free.pop().unwrap_or_else(|| {
                self.connections.push(None);
                self.connections.len() - 1
            });
            if self.poll.add(&socket, at as u64).is_ok() {
                let connection = Connection {
                    socket,
                    stream_at: None,
                    input: Vec::new(),
                };
                self.connections[at] = Some(connection);
            } else {
                self.free.push(at);
            }
        }
    }

    fn read(&mut self, at: usize) {
        let Some(connection) = &mut self.connections[at] else {
            return;
        };
        match rustix::net::recv(&connection.socket, &mut self.buffer[..], RecvFlags::empty()) {
            Ok((0, _)) => self.close(at),
            Ok((length, _)) => {
                connection.input.extend_from_slice(&self.buffer[..length]);
                self.requests(at);
            }
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
            Err(_) => self.close(at),
        }
    }

    /// Answers every complete request in the buffer.
    fn requests(&mut self, at: usize) {
        while let Some(connection) = &mut self.connections[at] {
            let input = &connection.input;
            let Some(head) = memmem::find(input, b"\r\n\r\n").map(|end| end + 4) else {
                return;
            };
            if input.starts_with(b"GET ") {
                connection.input = Vec::new();
                return self.open_stream(at);
            }
            let body_bytes = content_length(&input[..head]);
            let Some(body) = input.get(head..head + body_bytes) else {
                return;
            };
            let frame = self.sequence.checked_add(1).and_then(|next| {
                self.sequence = next;
                message_text(body).map(|text| frame(next, text))
            });
            connection.input.drain(..head + body_bytes);
            if !send_whole(&connection.socket, ACK) {
                return self.close(at);
            }
            if let Some(frame) = frame {
                self.fan_out(&frame);
            }
        }
    }

    fn open_stream(&mut self, at: usize) {
        let Some(connection) = &mut self.connections[at] else {
            return;
        };
        connection.stream_at = Some(self.streams.len());
        self.streams.push(at);
        if !send_whole(&connection.socket, STREAM_HEAD) {
            self.close(at);
        }
    }

    fn fan_out(&self, frame: &[u8]) {
        for &at in &self.streams {
            if let Some(connection) = &self.connections[at] {
                send_whole(&connection.socket, frame);
            }
        }
    }

    fn heartbeat(&self, phase: u64) {
        let of_phase = self
            .streams
            .chunks(HEARTBEAT_RUN)
            .skip(phase as usize)
            .step_by(HEARTBEAT_PHASES as usize);
        for &at in of_phase.flatten() {
            if let Some(connection) = &self.connections[at] {
                send_whole(&connection.socket, HEARTBEAT);
            }
        }
    }

    fn close(&mut self, at: usize) {
        let Some(connection) = self.connections[at].take() else {
            return;
        };
        self.free.push(at);
        if let Some(place) = connection.stream_at {
            self.streams.swap_remove(place);
            if let Some(&moved) = self.streams.get(place)
                && let Some(connection) = &mut self.connections[moved]
            {
                connection.stream_at = Some(place);
            }
        }
    }
}

/// Whether the socket took all bytes. The reader counts the loss of a slow stream as missing messages.
fn send_whole(socket: &OwnedFd, bytes: &[u8]) -> bool {
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    rustix::net::send(socket, bytes, flags).is_ok_and(|sent| sent == bytes.len())
}

/// The value of a `Content-Length` in the usual spelling; 0 without one.
fn content_length(head: &[u8]) -> usize {
    const NAME: &[u8] = b"Content-Length: ";
    let Some(at) = memmem::find(head, NAME) else {
        return 0;
    };
    let digits = head[at + NAME.len()..]
        .iter()
        .take_while(|byte| byte.is_ascii_digit());
    digits.fold(0, |length: usize, digit| {
        length
            .saturating_mul(10)
            .saturating_add(usize::from(digit - b'0'))
    })
}

/// The JSON text of the member `message`, still escaped, so that it can be copied into another JSON string.
fn message_text(body: &[u8]) -> Option<&[u8]> {
    const NAME: &[u8] = br#""message":""#;
    let text = &body[memmem::find(body, NAME)? + NAME.len()..];
    let mut escaped = false;
    let end = text.iter().position(|&byte| {
        let ends = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        ends
    })?;
    Some(&text[..end])
}

/// One event with its chunk framing, as long as hookcast's.
fn frame(sequence: u64, text: &[u8]) -> Vec<u8> {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_millis();
    let before = format!(
        "id: 0123456789abcdef-{sequence}\ndata: {{\"type\":\"webhook_message\",\
         \"id\":\"00000000-0000-4000-8000-{sequence:012}\",\"content\":\""
    );
    let after = format!("\",\"timestamp\":{now}}}\n\n\r\n");
    let data_bytes = before.len() + text.len() + after.len() - 2;
    [
        format!("{data_bytes:x}\r\n").as_bytes(),
        before.as_bytes(),
        text,
        after.as_bytes(),
    ]
    .concat()
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let kind = Type::STREAM.nonblocking().cloexec();
    let socket = Socket::new(Domain::for_address(address), kind, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    // Accepted sockets inherit the option (tcp(7)).
    socket.set_tcp_nodelay(true)?;
    socket.bind(&SockAddr::from(address))?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stated_lengths_match_the_bytes() {
        let head = memmem::find(ACK, b"\r\n\r\n").unwrap() + 4;
        assert_eq!(content_length(&ACK[..head]), ACK.len() - head);
        let body = &STREAM_HEAD[memmem::find(STREAM_HEAD, b"\r\n\r\n").unwrap() + 4..];
        let event = &body[4..body.len() - 2];
        assert_eq!(format!("{:x}", event.len()), "45");
        let frame = frame(7, b"hello");
        let (size, rest) = frame.split_at(memmem::find(&frame, b"\r\n").unwrap());
        let size = usize::from_str_radix(std::str::from_utf8(size).unwrap(), 16).unwrap();
        assert_eq!(rest.len(), 2 + size + 2);
    }

    #[test]
    fn the_message_is_copied_with_its_escapes() {
        assert_eq!(
            message_text(br#"{"message":"a\"b\\","x":1}"#),
            Some(&br#"a\"b\\"#[..])
        );
        assert_eq!(message_text(br#"{"message":"open"#), None);
        assert_eq!(message_text(b"{}"), None);
    }
}
