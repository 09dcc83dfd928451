//! The kernel's side of a shard: polls, listeners, sockets with their layers, and the thread loop.
//!
//! `server` makes a [`reactor`] for each shard and hands it the listeners. Of the modules that serve
//! clients only these know `mio`; a shard sees a socket as a [`Transport`](crate::shard::Transport).
//! Knows no HTTP.
//!
//! - `reactor`: the loop of a shard's thread: poll, accept, and the turns of the shard.
//! - `handle`: commands to a shard from other threads.
//! - `epoll`: the sets of priority and standard sockets.
//! - `listener`: listening sockets, and failures of accept(2).
//! - `socket`: an accepted socket and its layers: `proxy_protocol`, `tls`.
//! - `peers`: trusted proxies, and connections by client address.
//! - `waker`: wakes a shard's sleeping thread.

mod epoll;
pub mod handle;
pub mod judge;
pub mod listener;
pub mod peers;
pub mod proxy_protocol;
pub mod reactor;
pub mod socket;
mod tls;
mod waker;
