//! Compressed streams (`--compress-streams`): which requests get one, and what the shard keeps for them.
//!
//! Part of the shard. A message is compressed once, by the first shard that logs its batch. A compressed stream
//! is a cursor as any other, in another framing. Beside it only its checksum is kept, in a table by slot: in the
//! stream it would make every plain stream larger. Never compresses for one stream alone.

use crate::http::{self, ReplyTo, StreamCoding, Version};
use crate::hub::Batch;
use crate::metrics::Counter;
use crate::shard::Shard;
use crate::shard::transport::Transport;
use crate::sse::frame::Framing;
use crate::sse::gzip::{Checksum, Compressor};

/// See the module's description. Empty in a server that compresses no streams.
#[derive(Default)]
pub(super) struct Compression {
    compressor: Option<Compressor>,
    /// The checksums of compressed streams, by slot. Those of other slots mean nothing.
    sums: Vec<Checksum>,
}

impl Compression {
    pub(super) fn new(is_on: bool) -> Compression {
        Compression {
            compressor: is_on.then(Compressor::new),
            sums: Vec::new(),
        }
    }

    /// Keeps the checksum of a new compressed stream.
    pub(super) fn begin(&mut self, slot: usize, sum: Checksum) {
        if slot >= self.sums.len() {
            self.sums.resize(slot + 1, Checksum::default());
        }
        self.sums[slot] = sum;
    }

    /// The checksum of a stream. A plain stream gets `none` or a number that means nothing, and uses neither.
    pub(super) fn sum_of<'a>(
        &'a mut self,
        slot: usize,
        none: &'a mut Checksum,
    ) -> &'a mut Checksum {
        self.sums.get_mut(slot).unwrap_or(none)
    }
}

impl<S: Transport> Shard<S> {
    /// Appends the frames of a batch to the log in both forms, and marks the streams that may see them as
    /// behind.
    pub(super) fn log_both(&mut self, batch: &Batch) {
        let Some(compressor) = &mut self.compression.compressor else {
            return;
        };
        let (is_first, compressed) = batch.compressed(compressor);
        let (mut plain_bytes, mut compressed_bytes) = (0, 0);
        for (frame, compressed) in batch.frames().zip(compressed) {
            plain_bytes += frame.bytes.len();
            compressed_bytes += compressed.bytes.len();
            let session = self.log.append_both(
                frame.seq,
                frame.timestamp_ms,
                frame.session,
                (frame.bytes, frame.chunk),
                &compressed,
            );
            self.note_behind(session);
        }
        if is_first {
            let counts = [
                (Counter::CompressionIn, plain_bytes),
                (Counter::CompressionOut, compressed_bytes),
            ];
            for (counter, bytes) in counts {
                self.tally.count(counter, bytes as u64);
            }
        }
    }

    /// The framing of a stream. One that a cache may share is never compressed: the cache would need a copy for
    /// each coding, and so a stream of its own.
    pub(super) fn framing(&self, to: ReplyTo, accepts_gzip: bool, is_shared: bool) -> Framing {
        match to.version {
            Version::Http10 => Framing::Bare,
            Version::Http11 if self.settings.compress_streams && accepts_gzip && !is_shared => {
                Framing::Gzip
            }
            Version::Http11 => Framing::Chunked,
        }
    }

    /// What the head of a stream says of compression.
    pub(super) fn stream_coding(&self, framing: Framing) -> StreamCoding {
        match framing {
            Framing::Gzip => StreamCoding::Gzip,
            Framing::Chunked | Framing::Bare if self.settings.compress_streams => {
                StreamCoding::Plain
            }
            Framing::Chunked | Framing::Bare => StreamCoding::Never,
        }
    }
}

/// Whether a request accepts gzip.
pub(super) fn accepts_gzip(request: &http::Request<'_>) -> bool {
    let accepted = request.accept_encoding.map(str::from_utf8);
    accepted.is_some_and(|accepted| accepted.is_ok_and(http::accepts_gzip))
}
