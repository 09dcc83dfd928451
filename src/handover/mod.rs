//! Handing over to a successor: a restart that nobody notices.
//!
//! On SIGUSR2 (as nginx has it for the same purpose) the running server starts the program anew,
//! with the same arguments, and passes on what it has:
//!
//! ```text
//! predecessor                                     successor
//!   starts it; sends the listening sockets  ──▶   reads its configuration
//!                                           ◀──   Prepared
//!   holds: no request is read any more
//!   writes the ring to disk, unlocks it
//!   RingFree                                ──▶   opens the ring, begins to serve
//!                                           ◀──   Serving
//!   sends the connections, each with the
//!   bytes of a request that are read        ──▶   goes on with them
//!   ends its streams, spread over the drain
//! ```
//!
//! Until `Serving` everything can be taken back: if the successor ends, hangs or speaks nonsense,
//! the predecessor opens the ring again and goes on. A message is published by the one who holds
//! the ring and by nobody else, so none is lost and none is doubled; the epoch is in the ring, so
//! event ids go on. The listening sockets are never closed, and no connection is but streams,
//! whose clients come back with their `Last-Event-ID`.
//!
//! The channel is a pair of Unix sockets, of which the successor finds its end as its standard input.
//! Why not `LISTEN_FDS`: `LISTEN_PID` would have to name a process before it exists, and descriptors
//! with fixed numbers need code between fork and exec. A service manager's sockets
//! ([`inherit`](crate::inherit)) are passed on here like all others.

mod channel;
pub mod predecessor;
pub mod successor;

pub use channel::Channel;

/// Set in a successor's environment, to [`PROTOCOL`]. No `HOOKCAST_` variable, for it is no setting.
pub const VARIABLE: &str = "SUCCESSOR_OF_HOOKCAST";

/// The version of what is said on the channel. A successor of another version refuses, and the
/// predecessor goes on.
pub const PROTOCOL: &str = "1";
