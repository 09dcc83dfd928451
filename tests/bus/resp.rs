//! A client of the Redis protocol (RESP2), for what the tests do to an engine.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};

use crate::support::PATIENCE;

/// An answer. Errors are the `Err` of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    Nil,
    Text(String),
    Number(i64),
    List(Vec<Reply>),
}

impl Reply {
    pub fn text(&self) -> &str {
        match self {
            Reply::Text(text) => text,
            other => panic!("no text: {other:?}"),
        }
    }

    pub fn number(&self) -> i64 {
        match self {
            Reply::Number(number) => *number,
            other => panic!("no number: {other:?}"),
        }
    }

    pub fn list(&self) -> &[Reply] {
        match self {
            Reply::List(list) => list,
            other => panic!("no list: {other:?}"),
        }
    }
}

/// A connection to an engine.
pub struct Client(BufReader<TcpStream>);

impl Client {
    pub fn connect(address: SocketAddr) -> io::Result<Client> {
        let socket = TcpStream::connect_timeout(&address, PATIENCE)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_nodelay(true)?;
        Ok(Client(BufReader::new(socket)))
    }

    /// Executes a command. The outer error is the connection's, the inner one the engine's.
    pub fn command(&mut self, words: &[&str]) -> io::Result<Result<Reply, String>> {
        let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            bytes.extend(format!("${}\r\n{word}\r\n", word.len()).bytes());
        }
        self.0.get_mut().write_all(&bytes)?;
        self.read()
    }

    fn read(&mut self) -> io::Result<Result<Reply, String>> {
        let mut line = String::new();
        if self.0.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let (kind, rest) = line.trim_end().split_at(1);
        let length = || -> i64 { rest.parse().unwrap() };
        Ok(Ok(match kind {
            "+" => Reply::Text(rest.to_owned()),
            "-" => return Ok(Err(rest.to_owned())),
            ":" => Reply::Number(length()),
            "$" | "*" if length() < 0 => Reply::Nil,
            "$" => {
                let mut bytes = vec![0; usize::try_from(length()).unwrap() + 2];
                self.0.read_exact(&mut bytes)?;
                bytes.truncate(bytes.len() - 2);
                Reply::Text(String::from_utf8_lossy(&bytes).into_owned())
            }
            "*" => {
                let mut list = Vec::new();
                for _ in 0..length() {
                    match self.read()? {
                        Ok(reply) => list.push(reply),
                        Err(error) => list.push(Reply::Text(error)),
                    }
                }
                Reply::List(list)
            }
            _ => panic!("answer {line:?}"),
        }))
    }
}
