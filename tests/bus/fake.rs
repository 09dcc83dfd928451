//! An engine that answers only what a node asks first, and says that it is another version.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;

/// Listens until the end of the tests.
pub fn start(version: &str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let info = format!(
        "# Server\r\nredis_version:{version}\r\nredis_mode:standalone\r\n# Replication\r\nrole:master\r\n\
         master_replid:{}\r\nmaster_repl_offset:0\r\n# Memory\r\nmaxmemory_policy:noeviction\r\n",
        "0".repeat(40)
    );
    let version = version.to_owned();
    thread::spawn(move || {
        for socket in listener.incoming().map_while(Result::ok) {
            let (info, version) = (info.clone(), version.clone());
            // A closed connection is an expected error.
            thread::spawn(move || serve(&socket, &info, &version));
        }
    });
    address
}

/// Refuses the user with this error until the end of the tests, or else every other command.
pub fn refuse(error: &str, takes_user: bool) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let refusal = format!("-{error}\r\n");
    thread::spawn(move || {
        for socket in listener.incoming().map_while(Result::ok) {
            let refusal = refusal.clone();
            let serve = move || -> std::io::Result<()> {
                let mut reader = BufReader::new(&socket);
                loop {
                    let command = command(&mut reader)?;
                    let is_user = command.first().is_some_and(|word| word == "AUTH");
                    let answer = if takes_user && is_user {
                        "+OK\r\n"
                    } else {
                        &refusal
                    };
                    (&socket).write_all(answer.as_bytes())?;
                }
            };
            // A closed connection is an expected error.
            thread::spawn(serve);
        }
    });
    address
}

/// The words of the next command, in capitals.
fn command(reader: &mut impl BufRead) -> std::io::Result<Vec<String>> {
    let count = length(reader)?;
    let mut word = || {
        let mut word = vec![0; length(reader)? + 2];
        reader.read_exact(&mut word)?;
        let word = String::from_utf8_lossy(&word);
        Ok(word.trim_end().to_ascii_uppercase())
    };
    (0..count).map(|_| word()).collect()
}

fn serve(socket: &TcpStream, info: &str, version: &str) -> std::io::Result<()> {
    let mut reader = BufReader::new(socket);
    loop {
        let words = command(&mut reader)?;
        let answer = match words.first().map(String::as_str) {
            Some("INFO") => format!("${}\r\n{info}\r\n", info.len()),
            Some("HELLO") => format!(
                "*6\r\n$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n${}\r\n{version}\r\n\
                 $5\r\nproto\r\n:2\r\n",
                version.len()
            ),
            Some("PING") => "+PONG\r\n".into(),
            Some("CLIENT" | "SELECT" | "AUTH") => "+OK\r\n".into(),
            Some("EVALSHA") => "-NOSCRIPT No matching script. Please use EVAL.\r\n".into(),
            // Every script is answered as the one that asks what the engine holds: it is empty.
            Some("EVAL") => {
                let info = format!("${}\r\n{info}\r\n", info.len());
                let empty = "$0\r\n\r\n".repeat(7);
                format!("*10\r\n$13\r\n1700000000000\r\n{info}{info}{empty}")
            }
            Some("HGET") => "$-1\r\n".into(),
            _ => "-ERR unknown command\r\n".into(),
        };
        (&*socket).write_all(answer.as_bytes())?;
    }
}

/// The number of a line such as `*2` or `$4`.
fn length(reader: &mut impl BufRead) -> std::io::Result<usize> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    line.trim_end()[1..].parse().map_err(std::io::Error::other)
}
