//! Reads a server's history from outside: opens a stream and counts its replay.
//!
//! Used by `measurement` after a load without streams.

use std::collections::HashSet;
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::engine::event::{Event, Shape};
use crate::engine::payload::PayloadFormat;
use crate::engine::scanner::Scanner;
use crate::engine::target::Target;

/// The replay is complete after this long without another byte.
const SILENCE: Duration = Duration::from_millis(300);

/// Longest replay in bytes.
const BYTES_MAX: usize = 64 * 1024 * 1024;

/// The number of different messages of the run in a replay.
pub fn shown(target: &Target, format: &PayloadFormat) -> io::Result<usize> {
    let mut connection = TcpStream::connect(target.streams.address)?;
    connection.set_read_timeout(Some(SILENCE))?;
    connection.write_all(&target.stream_request(0, [], None))?;
    let mut scanner = Scanner::default();
    let mut shape = Shape::new(format.clone());
    let mut numbers = HashSet::new();
    let mut announced = None;
    let mut buffer = vec![0; 64 * 1024];
    let mut bytes = 0;
    while bytes < BYTES_MAX && announced != Some(numbers.len() as u64) {
        let length = match connection.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => length,
            // The error of a timeout on a blocking socket (socket(7)).
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => return Err(error),
        };
        bytes += length;
        let seen = scanner.feed(&buffer[..length], &mut shape, &mut |event| match event {
            Event::Messages { stamps, .. } => {
                numbers.extend(stamps.iter().map(|stamp| stamp.number));
            }
            Event::Connected { replay, .. } if replay > 0 => announced = Some(replay),
            _ => {}
        });
        seen.map_err(|error| io::Error::other(error.to_string()))?;
    }
    Ok(numbers.len())
}
