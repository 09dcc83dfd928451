//! A minimal HTTP/1 client: raw bytes out and in, blocking, with a deadline.

use std::fmt;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Instant;

use serde_json::Value;

use super::PATIENCE;

/// A connection, and the bytes that were read from it and not yet used.
pub struct Connection {
    pub socket: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    /// Connects.
    pub fn open(address: SocketAddr) -> Connection {
        let socket = TcpStream::connect_timeout(&address, PATIENCE).unwrap();
        Connection::on(socket)
    }

    /// Uses a connected socket with options of its own.
    pub fn on(socket: TcpStream) -> Connection {
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.set_write_timeout(Some(PATIENCE)).unwrap();
        socket.set_nodelay(true).unwrap();
        Connection {
            socket,
            buffer: Vec::new(),
        }
    }

    /// Sends bytes.
    pub fn send(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).unwrap();
    }

    /// Sends bytes to a server that may have answered and closed already.
    pub fn send_if_open(&mut self, bytes: &[u8]) {
        match self.socket.write_all(bytes) {
            Err(error)
                if !matches!(
                    error.kind(),
                    ErrorKind::BrokenPipe | ErrorKind::ConnectionReset
                ) =>
            {
                panic!("{error}")
            }
            _ => {}
        }
    }

    /// Sends a request; `headers` are whole lines with CRLF. `Host` is added, and `Content-Length` if there is
    /// a body.
    pub fn send_request(&mut self, method: &str, target: &str, headers: &str, body: &[u8]) {
        let length = match body.len() {
            0 if method != "POST" => String::new(),
            length => format!("Content-Length: {length}\r\n"),
        };
        let head =
            format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\n{headers}{length}\r\n");
        self.send(&[head.as_bytes(), body].concat());
    }

    /// Sends a GET and reads the answer; `headers` are whole lines with CRLF.
    pub fn get(&mut self, target: &str, headers: &str) -> Response {
        self.send_request("GET", target, headers, b"");
        self.read_response()
    }

    /// Closes the sending side.
    pub fn finish(&mut self) {
        self.socket.shutdown(Shutdown::Write).unwrap();
    }

    /// Closes the sending side, if the server has not closed the connection.
    pub fn finish_if_open(&mut self) {
        // The only error is that of a closed connection.
        let _ = self.socket.shutdown(Shutdown::Write);
    }

    /// Reads the answer to a request that was not HEAD.
    pub fn read_response(&mut self) -> Response {
        self.read_response_to("GET")
    }

    /// Reads the answer to a request by this method; skips interim answers (1xx).
    pub fn read_response_to(&mut self, method: &str) -> Response {
        loop {
            let head = self.read_head();
            if !(100..200).contains(&head.status) {
                return self.read_rest(head, method);
            }
        }
    }

    /// Reads the body that follows the head of the answer to a request by this method.
    pub fn read_rest(&mut self, mut response: Response, method: &str) -> Response {
        if method != "HEAD" && response.status != 204 && response.status != 304 {
            response.body = self.read_body(&response);
        }
        response
    }

    /// Reads a status line and the headers, and leaves the body unread.
    pub fn read_head(&mut self) -> Response {
        let end = loop {
            if let Some(at) = self
                .buffer
                .windows(4)
                .position(|window| window == b"\r\n\r\n")
            {
                break at + 4;
            }
            assert!(
                self.read_more(),
                "ended in a head: {:?}",
                String::from_utf8_lossy(&self.buffer)
            );
        };
        let head: Vec<u8> = self.buffer.drain(..end).collect();
        Response::parse(std::str::from_utf8(&head).unwrap())
    }

    fn read_body(&mut self, response: &Response) -> Vec<u8> {
        if response.header("transfer-encoding") == Some("chunked") {
            let mut body = Vec::new();
            let deadline = Instant::now() + PATIENCE;
            loop {
                assert!(
                    Instant::now() < deadline,
                    "no end of {:?}",
                    String::from_utf8_lossy(&body)
                );
                match self.read_chunk() {
                    Some(chunk) if chunk.is_empty() => return body,
                    Some(chunk) => body.extend(chunk),
                    None => panic!(
                        "ended in a chunked body: {:?}",
                        String::from_utf8_lossy(&body)
                    ),
                }
            }
        }
        match response.header("content-length") {
            Some(length) => {
                let length = length.parse().unwrap();
                assert!(
                    self.fill(length),
                    "ended in a body: {:?}",
                    String::from_utf8_lossy(&self.buffer)
                );
                self.buffer.drain(..length).collect()
            }
            None => self.read_to_end(),
        }
    }

    /// Reads one chunk; the last one is empty. `None` if the connection ends first.
    pub fn read_chunk(&mut self) -> Option<Vec<u8>> {
        let line_end = loop {
            if let Some(at) = self.buffer.windows(2).position(|window| window == b"\r\n") {
                break at;
            }
            if !self.read_more() {
                return None;
            }
        };
        let line = std::str::from_utf8(&self.buffer[..line_end]).unwrap();
        let size =
            usize::from_str_radix(line, 16).unwrap_or_else(|_| panic!("chunk size {line:?}"));
        let start = line_end + 2;
        if !self.fill(start + size + 2) {
            return None;
        }
        let chunk = self.buffer[start..start + size].to_vec();
        assert_eq!(
            &self.buffer[start + size..start + size + 2],
            b"\r\n",
            "after {chunk:?}"
        );
        self.buffer.drain(..start + size + 2);
        Some(chunk)
    }

    /// Reads the bytes that are there, at least one; `None` at the end of the connection.
    pub fn read_some(&mut self) -> Option<Vec<u8>> {
        if self.buffer.is_empty() && !self.read_more() {
            return None;
        }
        Some(std::mem::take(&mut self.buffer))
    }

    /// Reads until the server closes.
    pub fn read_to_end(&mut self) -> Vec<u8> {
        while self.read_more() {}
        std::mem::take(&mut self.buffer)
    }

    /// Asserts that the server closes without sending anything more.
    pub fn expect_close(&mut self) {
        let rest = self.read_to_end();
        assert!(rest.is_empty(), "{:?}", String::from_utf8_lossy(&rest));
    }

    /// Reads until the buffer holds `length` bytes; false if the connection ends first.
    fn fill(&mut self, length: usize) -> bool {
        while self.buffer.len() < length {
            if !self.read_more() {
                return false;
            }
        }
        true
    }

    /// Reads once; false at the end of the connection, a reset included.
    fn read_more(&mut self) -> bool {
        let mut bytes = [0; 16 * 1024];
        loop {
            match self.socket.read(&mut bytes) {
                Ok(0) => return false,
                Ok(length) => {
                    self.buffer.extend_from_slice(&bytes[..length]);
                    return true;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return false,
                Err(error) => panic!("{error} after {:?}", String::from_utf8_lossy(&self.buffer)),
            }
        }
    }
}

/// An HTTP response.
#[derive(Clone)]
pub struct Response {
    /// `HTTP/1.1`, for instance.
    pub version: String,
    pub status: u16,
    /// In their order and spelling.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Response {
    fn parse(head: &str) -> Response {
        let mut lines = head.trim_end_matches("\r\n").split("\r\n");
        let status_line = lines.next().unwrap();
        let mut parts = status_line.splitn(3, ' ');
        let version = parts.next().unwrap().to_owned();
        assert!(version.starts_with("HTTP/1."), "{status_line:?}");
        let status = parts.next().and_then(|status| status.parse().ok());
        let status = status.unwrap_or_else(|| panic!("{status_line:?}"));
        let headers = lines
            .map(|line| {
                line.split_once(": ")
                    .unwrap_or_else(|| panic!("header {line:?}"))
            })
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        Response {
            version,
            status,
            headers,
            body: Vec::new(),
        }
    }

    /// The value of a header, by its name in any case. It must not be repeated.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self
            .headers
            .iter()
            .filter(|(other, _)| other.eq_ignore_ascii_case(name));
        let value = values.next().map(|(_, value)| value.as_str());
        assert!(values.next().is_none(), "{name} is repeated in {self:?}");
        value
    }

    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The `error` of a refusal.
    pub fn error(&self) -> String {
        let json = self.json();
        let has_detail = json["detail"].is_string();
        assert_eq!(
            json.as_object().map(serde_json::Map::len),
            Some(1 + usize::from(has_detail)),
            "{json}"
        );
        json["error"].as_str().unwrap().to_owned()
    }
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} {}", self.version, self.status)?;
        for (name, value) in &self.headers {
            writeln!(f, "{name}: {value}")?;
        }
        write!(f, "\n{}", String::from_utf8_lossy(&self.body))
    }
}
