//! The connections of a predecessor: where they go in this process.
//!
//! Run by `server` on a thread of its own, beside the shards. Never reads from a connection: the bytes
//! that its predecessor had read go along with it.

use std::io;
use std::sync::Arc;

use crate::handover::predecessor::{HandoverConnection, Predecessor};
use crate::net::handle::ShardHandle;
use crate::net::peers::Peers;
use crate::net::socket::{Layers, Stream};

/// Takes the predecessor's connections as it gives them away.
pub(super) fn take_connections(
    predecessor: &Predecessor,
    shards: &[ShardHandle],
    peers: &Arc<Peers>,
) {
    let mut connections: u64 = 0;
    let mut take_all = || {
        while let Some(inherited) = predecessor.next_connection()? {
            connections += u64::from(take_in(inherited, shards, peers)?);
        }
        io::Result::Ok(())
    };
    match take_all() {
        Ok(()) => tracing::info!(connections, "the predecessor has ended"),
        Err(error) => tracing::warn!(%error, connections, "the predecessor is lost"),
    }
}

/// Gives a connection to the emptiest shard; false if it may not come in. It has neither TLS nor a
/// PROXY header, or it would not have left its predecessor.
fn take_in(
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
    // Its peer may have hung up meanwhile.
    let socket = stream
        .address()
        .ok()
        .and_then(|peer| layers.wrap(stream, peer).ok());
    let emptiest = shards.iter().min_by_key(|shard| shard.load());
    let (Some(socket), Some(shard)) = (socket, emptiest) else {
        return Ok(false);
    };
    shard.take_over(socket, inherited.bytes);
    Ok(true)
}
