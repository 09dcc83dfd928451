//! The backend of Pushpin: it answers each stream request with the GRIP headers that hold the response open
//! and subscribe it to the channel.
//!
//! Started by `servers` as a process beside Pushpin. It has work only while streams are opened.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use crate::console;
use crate::engine::target::CHANNEL;

/// Serves until it is killed. Logs its address as the other servers do.
pub fn run(heartbeat: Duration) -> io::Result<()> {
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    console::note(format!(
        r#"{{"fields":{{"address":"{}"}}}}"#,
        listener.local_addr()?
    ));
    let answer = answer(heartbeat);
    for connection in listener.incoming() {
        let answer = answer.clone();
        // The proxy replaces broken connections.
        std::thread::spawn(move || connection.and_then(|connection| serve(&connection, &answer)));
    }
    Ok(())
}

fn answer(heartbeat: Duration) -> String {
    let body =
        "retry: 2000\ndata: {\"type\":\"connected\",\"timestamp\":1700000000000,\"replay\":0}\n\n";
    let keep_alive = if heartbeat.is_zero() {
        String::new()
    } else {
        let seconds = heartbeat.as_secs().max(1);
        format!(
            "Grip-Keep-Alive: : heartbeat\\n; format=cstring; mode=interval; timeout={seconds}\r\n"
        )
    };
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nGrip-Hold: stream\r\n\
         Grip-Channel: {CHANNEL}\r\n{keep_alive}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Answers each request head on a connection.
fn serve(connection: &TcpStream, answer: &str) -> io::Result<()> {
    connection.set_nodelay(true)?;
    let mut lines = BufReader::new(connection).lines();
    while let Some(line) = lines.next().transpose()? {
        if line.is_empty() {
            (&mut &*connection).write_all(answer.as_bytes())?;
        }
    }
    Ok(())
}
