//! hookcast: webhooks in, Server-Sent Events out.
//!
//! The binary reads its configuration ([`config`]) and calls [`server::run`], which is the life of the
//! process from top to bottom. Every module begins with what it is for, who calls it, and what it
//! never does; every bound is in [`limits`].
//!
//! # Follow one message
//!
//! From a socket to ten thousand sockets, in reading order:
//!
//! 1. *It arrives.* `shard/reactor` is the loop of a shard's thread: it polls the kernel, accepts
//!    (`shard/accept`, `shard/wire`), and makes the turns of a [`shard`] (`Reactor::turn`). The shard
//!    is told that a socket has bytes: `Shard::ready`.
//! 2. *It is read.* `shard/requests` reads the socket; [`http`] finds the request
//!    (`http/request`, `http/head`), decides what it asks for (`http/route`) and makes a
//!    [`message::Draft`] of its body (`http/json`). The draft joins those of this turn, and its
//!    connection waits.
//! 3. *It is stored.* When all events of the turn are dealt with, `Shard::publish` brings its drafts to
//!    the [`hub`]. Under one lock each gets its id, its time and its number, is encoded once
//!    (`sse/frame`), and is appended to the [`ring`]. Where it is to wait for the disk, `hub/commit`
//!    does the same on a thread of its own.
//! 4. *It goes to every shard.* The hub puts the turn's frames, one shared batch, into the inbox of
//!    each shard, and wakes those that sleep (`shard/doorbell`).
//! 5. *It is in the log.* `Shard::deliver` appends the frames to the live [`log`] of the shard and notes
//!    that everyone who may see them is behind (`shard/fanout`): in constant time, however many they
//!    are. `Shard::answer_webhooks` tells the sender (`shard/answers`).
//! 6. *It goes out.* `Shard::sweep`: the sweep (`shard/sweep`) yields one stream after the other, and
//!    each gets all that it lacks in one write, straight from the log (`shard/streams`,
//!    `shard/stream`). After a slice of writes the shard looks at its sockets again, so ten thousand
//!    streams hold up nobody; a stream that the sweep has not reached gets the next message with this
//!    one.
//!
//! Beside that path: `shard/history` answers who asks instead of keeping a stream, [`mirror`] shares
//! the history with other nodes, [`handover`] gives all of it to a successor.
//!
//! # Threads, and who owns what
//!
//! - One per shard: its connections, its log, its counters. Nothing of these is shared. Shard 0 accepts.
//! - None for the hub: the ring, the numbers and the history are behind its lock, which nobody
//!   holds while it waits for a socket. Where commits wait for the disk, a thread has the ring.
//! - The mirror: KV and what other nodes had. It talks to the hub alone.
//! - `signals` and [`control`]: what the operator wants; they tell the shards by errands.
//! - The [`admin`] address, the watchdog ([`service`]), the log's writer ([`logging`]), and, while one
//!   server takes over from another, one for the predecessor's connections.
//!
//! Between threads go batches and errands over bounded channels, and counters over atomics
//! ([`metrics`]).
//!
//! # Imports
//!
//! They run one way: [`limits`] and [`message`] know nobody; [`ring`] and [`sse`] are about messages,
//! [`log`] about frames; [`hub`] puts these together; [`http`] knows requests and no connection;
//! [`shard`] drives it all, and [`server`] starts it.

pub mod admin;
pub mod check;
pub mod client;
pub mod clock;
pub mod config;
pub mod control;
pub mod doctor;
pub mod foreign_text;
pub mod handover;
pub mod health;
pub mod http;
pub mod hub;
pub mod inherit;
pub mod json_text;
pub mod lifecycle;
pub mod limits;
pub mod log;
pub mod logging;
pub mod message;
pub mod metrics;
pub mod mirror;
pub mod pem;
pub mod proxy_protocol;
pub mod ring;
pub mod server;
pub mod service;
pub mod shard;
pub mod sse;
pub mod tls;
pub mod window;
