//! Passes the connections of a predecessor to the shards of this process.
//!
//! Run by `server` on a thread of its own, beside the shards. Never reads from a connection: each arrives
//! with the bytes that the predecessor has read from it.

use std::io;
use std::sync::Arc;

use crate::handover::predecessor::{HandoverConnection, Predecessor};
use crate::net::handle::ShardHandle;
use crate::net::peers::Peers;
use crate::net::socket::{Layers, Stream};

/// Receives the predecessor's connections until it ends.
pub(super) fn take_connections(
    predecessor: &Predecessor,
    shards: &[ShardHandle],
    peers: &Arc<Peers>,
) {
    let mut connections: u64 = 0;
    let mut take_all = || {
        while let Some(inherited) = predecessor.next_connection()? {
            connections += u64::from(pass_to_shard(inherited, shards, peers)?);
        }
        io::Result::Ok(())
    };
    match take_all() {
        Ok(()) => tracing::info!(connections, "the predecessor has ended"),
        Err(error) => tracing::warn!(%error, connections, "the predecessor is lost"),
    }
}

/// Passes a connection to the shard with the lowest load. Returns false if the connection is refused or
/// already closed. Connections with TLS or a PROXY header never arrive here: their predecessor keeps them.
fn pass_to_shard(
    inherited: HandoverConnection,
    shards: &[ShardHandle],
    peers: &Arc<Peers>,
) -> io::Result<bool> {
    let layers = Layers {
        proxy: false,
        tls: None,
        peers: Arc::clone(peers),
    };
    let stream = Stream::from_fd(inherited.connection)?;
    // The peer may have closed the connection meanwhile.
    let socket = stream
        .address()
        .ok()
        .and_then(|peer| layers.wrap(stream, peer).ok());
    let least_loaded = shards.iter().min_by_key(|shard| shard.load());
    let (Some(socket), Some(shard)) = (socket, least_loaded) else {
        return Ok(false);
    };
    shard.take_over(socket, inherited.bytes);
    Ok(true)
}
