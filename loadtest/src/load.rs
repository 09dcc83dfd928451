//! What a load is: how many streams, which messages, how long; and what running it can fail with.
//!
//! Every scenario is a [`Load`] with other figures in it, and perhaps a few of its own at the end
//! (`scenarios`). `measurement` runs them.

use std::io;
use std::time::Duration;

/// How messages are paced.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Rate {
    /// So many a second, whatever the server does.
    Open(f64),
    /// So many connections, each posting again once it is answered.
    Closed(usize),
    /// None at all: streams are open and idle.
    Idle,
}

/// One load.
#[derive(Debug, Clone)]
pub struct Load {
    /// As shown in results.
    pub scenario: String,
    /// How many streams.
    pub streams: usize,
    /// Targets of messages in turn; 0: everyone.
    pub sessions: u32,
    /// Bytes of each message's text.
    pub message_bytes: usize,
    /// How messages are paced.
    pub rate: Rate,
    /// Time before the window.
    pub warmup: Duration,
    /// The measured window.
    pub window: Duration,
    /// Handshakes under way at once.
    pub opening_max: usize,
    /// Streams that stop reading.
    pub stalled: usize,
    /// Streams closed and opened again per second.
    pub churn_per_second: f64,
    /// Messages published before the first stream is opened.
    pub published_before: u32,
    /// The last so many of them are shown to every stream when it opens.
    pub replayed: u32,
}

/// A run cannot go on.
#[derive(Debug)]
pub struct LoadError(pub String);

impl From<io::Error> for LoadError {
    fn from(error: io::Error) -> LoadError {
        LoadError(error.to_string())
    }
}
