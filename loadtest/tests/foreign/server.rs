//! A server with a protocol of its own, which loses, repeats and disorders messages on command.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A header of the server, which no output shows.
pub const KEY: &str = "X-Key: top-secret";

/// What the server does with every fiftieth message, from the fifth on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    None,
    /// The first stream lacks it.
    Lose,
    /// The first stream lacks all messages.
    LoseAll,
    /// The first stream gets it twice.
    Repeat,
    /// The first stream gets it behind the next one.
    Disorder,
    /// A byte of it is changed on the first stream.
    Change,
    /// No stream gets it.
    Drop,
    /// Publish requests are refused.
    Refuse,
}

/// Streams at `GET /events/…`, messages by `PUT /send` with `X-Key: top-secret`. It answers as HTTP/1.0 does, ends
/// lines in CR LF, and wraps what is sent in JSON.
pub struct Server {
    pub address: SocketAddr,
    fault: Fault,
    state: Mutex<State>,
}

#[derive(Default)]
pub struct State {
    streams: Vec<TcpStream>,
    pub messages: u64,
    aside: String,
    pub requests: Vec<String>,
}

impl Server {
    pub fn start(fault: Fault) -> Arc<Server> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Arc::new(Server {
            address: listener.local_addr().unwrap(),
            fault,
            state: Mutex::default(),
        });
        let shared = Arc::clone(&server);
        thread::spawn(move || {
            for connection in listener.incoming().map_while(Result::ok) {
                let server = Arc::clone(&shared);
                thread::spawn(move || server.serve(connection));
            }
        });
        server
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self, mut connection: TcpStream) -> Option<()> {
        let mut reader = BufReader::new(connection.try_clone().ok()?);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head).ok()? == 0 {
                return None;
            }
        }
        self.state().requests.push(head.clone());
        if head.starts_with("GET /events/") {
            let mut state = self.state();
            let at = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n: welcome\r\n\r\n\
                 data: {{\"type\":\"connected\",\"pub\":{{\"at\":{}}}}}\r\n\r\n",
                at.as_micros()
            );
            connection.write_all(head.as_bytes()).ok()?;
            state.streams.push(connection);
            return None;
        }
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("Content-Length: "))?;
        let mut body = vec![0; length.parse().ok()?];
        reader.read_exact(&mut body).ok()?;
        let is_right = head.starts_with("PUT /send ") && head.contains(&format!("\r\n{KEY}\r\n"));
        let answer = if !is_right || self.fault == Fault::Refuse {
            "HTTP/1.0 403 Forbidden\r\n\r\n"
        } else {
            self.publish(&String::from_utf8(body).ok()?);
            "HTTP/1.0 202 Accepted\r\n\r\nthank you"
        };
        connection.write_all(answer.as_bytes()).ok()
    }

    /// Sends a message to every stream, but for the fault.
    fn publish(&self, data: &str) {
        let mut state = self.state();
        state.messages += 1;
        let is_bad = state.messages % 50 == 5;
        let event = format!(
            "event: news\r\nid: {}\r\ndata: {{\"pub\":{data}}}\r\n\r\n",
            state.messages
        );
        if is_bad && self.fault == Fault::Drop {
            return;
        }
        let mut first = event.clone();
        match self.fault {
            Fault::Lose if is_bad => first.clear(),
            Fault::LoseAll => first.clear(),
            Fault::Repeat if is_bad => first = event.repeat(2),
            Fault::Change if is_bad => first = event.replace("abc", "abd"),
            Fault::Disorder if is_bad => state.aside = std::mem::take(&mut first),
            Fault::Disorder => first += &std::mem::take(&mut state.aside),
            _ => {}
        }
        for (at, stream) in state.streams.iter_mut().enumerate() {
            // Before the run, the program looks at the server through a stream.
            let text = if at == 1 { &first } else { &event };
            let _ = stream.write_all(text.as_bytes());
        }
    }

    /// Publishes on its own, for as long as the test runs.
    pub fn publish_by_itself(self: &Arc<Server>, clock_ahead: Duration) {
        let server = Arc::clone(self);
        thread::spawn(move || {
            loop {
                let number = server.state().messages + 1;
                let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap() + clock_ahead;
                server.publish(&format!(
                    r#"{{"kind":"price","at":{},"n":{number}}}"#,
                    at.as_micros()
                ));
                thread::sleep(Duration::from_millis(4));
            }
        });
    }

    /// The flags that describe it.
    pub fn flags(&self) -> Vec<String> {
        let address = self.address;
        [
            "--stream-url",
            &format!("http://{address}/events/{{session}}"),
            "--publish-url",
            &format!("http://{address}/send"),
            "--publish-method",
            "PUT",
            "--publish-header",
            KEY,
            "--publish-body",
            r#"{"id":"{id}","at":{time},"text":"{filler}"}"#,
        ]
        .map(str::to_owned)
        .into()
    }
}
