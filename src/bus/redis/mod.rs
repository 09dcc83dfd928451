//! The bus's engine as Redis or Valkey, from 7.0.
//!
//! Made by [`halves`] for the appender and the follower; `bus-check` uses its parts. Everything about Redis is in
//! this module. Sockets, deadlines, TLS and the encoding of commands are its own; the crate `redis-protocol` decodes
//! answers.
//!
//! - `check`: the command `bus-check`.
//! - `scripts`: the keys, and what runs in the engine.
//! - `reply`, `entries`, `fault`: answers and errors as values of the seam.
//! - `connection`, `stream`, `resolve`, `tls`: the way to the primary.
//! - `wire`: commands as bytes, bytes as answers; `cursor`: answers with many values.
//! - `writer`, `reader`: the two halves; `census`: the counts of streams.

mod census;
mod check;
mod connection;
mod cursor;
mod entries;
#[cfg(feature = "testkit")]
pub mod extras;
#[cfg(not(feature = "testkit"))]
mod extras;
mod fault;
mod reader;
mod reply;
mod resolve;
mod scripts;
mod stream;
#[cfg(test)]
mod tests;
mod tls;
mod wire;
mod writer;

use std::sync::Arc;

use self::census::RedisCensus;
pub use self::check::bus_check;
use self::reader::RedisReader;
use self::scripts::Scripts;
pub use self::tls::BusTlsError;
use self::writer::RedisWriter;
use crate::bus::engine::{CensusTable, Reader, Writer};
use crate::config::BusConfig;

/// The writer and the reader of one node.
pub type Halves = (Box<dyn Writer>, Box<dyn Reader>);

/// Both halves for one node. They connect when they are called.
pub fn halves(config: &BusConfig) -> Result<Halves, BusTlsError> {
    let scripts = Arc::new(Scripts::new());
    let writer = RedisWriter::new(config, Arc::clone(&scripts))?;
    let reader = RedisReader::new(config, scripts)?;
    Ok((Box::new(writer), Box::new(reader)))
}

/// The counts of streams of all nodes. Connects when it is called.
pub fn census(config: &BusConfig) -> Result<Box<dyn CensusTable>, BusTlsError> {
    Ok(Box::new(RedisCensus::new(config)?))
}
