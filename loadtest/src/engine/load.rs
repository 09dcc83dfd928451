//! A load: the number of streams, the messages, the durations; and the error of a run.
//!
//! Every scenario is a [`Load`] with other values, and perhaps figures of its own at the end (`scenarios`).
//! `measurement` runs them.

use std::io;
use std::time::Duration;

/// How messages are paced.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Rate {
    /// A constant number a second, whatever the server does (open loop).
    Open(f64),
    /// A number of connections, each of which posts again once it is answered (closed loop).
    Closed(usize),
    /// No messages: streams are open and idle.
    Idle,
    /// Messages of another publisher.
    Elsewhere,
}

/// One load.
#[derive(Debug, Clone)]
pub struct Load {
    /// Name in results.
    pub scenario: String,
    /// How many streams.
    pub streams: usize,
    /// Sessions that messages are targeted at in turn; 0: messages are for all.
    pub sessions: u32,
    /// Sessions of each stream; a divisor of `sessions`.
    pub sessions_per_stream: u32,
    /// Bytes of each message's text.
    pub message_bytes: usize,
    /// How messages are paced.
    pub rate: Rate,
    /// Time under load before the window.
    pub warmup: Duration,
    /// The measured window.
    pub window: Duration,
    /// Handshakes in progress at once.
    pub opening_max: usize,
    /// Streams that stop reading.
    pub stalled: usize,
    /// Streams closed and opened again per second.
    pub churn_per_second: f64,
    /// Messages published before the first stream is opened.
    pub published_before: u32,
    /// The last of these, shown to every stream when it opens.
    pub replayed: u32,
}

/// An error that ends a run.
#[derive(Debug)]
pub struct LoadError(pub String);

impl From<io::Error> for LoadError {
    fn from(error: io::Error) -> LoadError {
        LoadError(error.to_string())
    }
}
