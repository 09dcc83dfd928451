//! The handover to a successor: a restart that closes no connection but streams.
//!
//! Used by `control` in the predecessor and by `server` in the successor. On SIGUSR2 (nginx uses the same
//! signal for this) the running server starts the program again with the same arguments, and passes on its
//! sockets, its ring and its connections:
//!
//! ```text
//! predecessor                                     successor
//!   starts it; sends the listening sockets  ──▶   reads its configuration
//!                                           ◀──   Prepared
//!   reads no more requests
//!   writes the ring to disk, unlocks it
//!   RingFree                                ──▶   opens the ring, begins to serve
//!                                           ◀──   Begun
//!   sends the connections, each with the
//!   bytes of its request that were read     ──▶   serves them
//!   ends its streams, spread over the drain
//! ```
//!
//! Until `Begun` the predecessor can take everything back: if the successor ends, hangs or sends an invalid
//! message, the predecessor opens the ring again and continues. Only the process with the ring publishes, so
//! no message is lost or published twice. The epoch is in the ring, so event ids continue. The listening
//! sockets are never closed. Of the connections only streams are closed; their clients reconnect with
//! `Last-Event-ID`.
//!
//! The channel is a pair of Unix sockets; the successor's end is its standard input. `LISTEN_FDS` is not
//! used, because `LISTEN_PID` would have to name a process before it exists, and descriptors with fixed
//! numbers need code between fork and exec. The sockets of a service manager
//! ([`inherit`](crate::inherit)) are passed on like all others. Never interprets what is in the ring.

mod channel;
pub mod predecessor;
pub mod successor;

pub use channel::Channel;

/// Set in a successor's environment, to [`PROTOCOL`]. Its name does not begin with `HOOKCAST_`, since it is
/// not a setting.
pub const VARIABLE: &str = "SUCCESSOR_OF_HOOKCAST";

/// The version of the messages on the channel. A successor of another version refuses, and the predecessor
/// continues.
pub const PROTOCOL: &str = "1";
