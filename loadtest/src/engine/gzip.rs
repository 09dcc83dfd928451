//! Compressed streams: from a chunked gzip response (RFC 1952) to the same response without compression.
//!
//! Called by `streams`, between a stream's socket and its scanner. Takes what hookcast's `--compress-streams`
//! promises: every chunk holds whole pieces of raw deflate that refer to nothing before them, so one decoder
//! serves all streams, and a piece that another stream has had is recognised by its bytes. Another server's
//! gzip response, whose chunks need what came before them, is an error. Never checks the CRC at the end:
//! most runs close their streams first, and the server's own tests read it with other decoders.

use std::collections::VecDeque;

use flate2::{Decompress, FlushDecompress, Status};
use memchr::memmem;

use crate::engine::event::ScanError;
use crate::engine::scanner::whole_chunk;

/// The header that hookcast sends: deflate, no optional fields.
const HEADER_BYTES: usize = 10;

/// Its beginning.
const MAGIC: [u8; 4] = [0x1f, 0x8b, 8, 0];

/// CRC-32 and length, after the last block.
const TRAILER_BYTES: usize = 8;

/// Pieces that are recognised: more than one stream lags behind another, in messages.
const KNOWN_MAX: usize = 1024;

/// The longest head or chunk: the longest message, its other fields, and framing.
const CARRY_BYTES_MAX: usize = 128 * 1024;

/// The longest text of one chunk.
const TEXT_BYTES_MAX: usize = 1 << 20;

/// The chunk that ends a body, as far as it differs from others.
const LAST_CHUNK: &[u8] = b"0\r\n";

/// The decoder of all streams, and the pieces that it has decoded.
pub struct Pieces {
    inflate: Decompress,
    text: Vec<u8>,
    known: VecDeque<Known>,
    /// The number of the first of `known`, counted from the start of the run.
    known_from: u64,
}

struct Known {
    packed: Vec<u8>,
    /// The text as a chunk.
    chunk: Vec<u8>,
}

impl Default for Pieces {
    fn default() -> Pieces {
        Pieces {
            inflate: Decompress::new(false),
            text: Vec::new(),
            known: VecDeque::new(),
            known_from: 0,
        }
    }
}

impl Pieces {
    /// Appends the text of a chunk's data, as a chunk. `next` is the number of the known piece that probably
    /// follows in this stream.
    fn decode(
        &mut self,
        packed: &[u8],
        next: &mut u64,
        plain: &mut Vec<u8>,
    ) -> Result<(), ScanError> {
        let is_known = |known: &Known| known.packed == packed;
        let at = next.checked_sub(self.known_from).map(|at| at as usize);
        let at = at
            .filter(|&at| self.known.get(at).is_some_and(is_known))
            .or_else(|| self.known.iter().rposition(is_known));
        if let Some(at) = at {
            plain.extend_from_slice(&self.known[at].chunk);
            *next = self.known_from + at as u64 + 1;
            return Ok(());
        }
        self.inflate(packed)?;
        // A chunk without data would end the body.
        if self.text.is_empty() {
            return Ok(());
        }
        let mut chunk = format!("{:x}\r\n", self.text.len()).into_bytes();
        chunk.extend_from_slice(&self.text);
        chunk.extend_from_slice(b"\r\n");
        plain.extend_from_slice(&chunk);
        if self.known.len() == KNOWN_MAX {
            self.known.pop_front();
            self.known_from += 1;
        }
        let packed = packed.to_vec();
        self.known.push_back(Known { packed, chunk });
        *next = self.known_from + self.known.len() as u64;
        Ok(())
    }

    fn inflate(&mut self, packed: &[u8]) -> Result<(), ScanError> {
        self.inflate.reset(false);
        self.text.clear();
        loop {
            self.text.reserve(4 * packed.len() + 64);
            let rest = &packed[self.inflate.total_in() as usize..];
            let step = self
                .inflate
                .decompress_vec(rest, &mut self.text, FlushDecompress::Sync);
            let left = packed.len() - self.inflate.total_in() as usize;
            match step {
                Ok(Status::StreamEnd) if left == TRAILER_BYTES => return Ok(()),
                Err(_) | Ok(Status::StreamEnd) => return Err(ScanError::Compression),
                Ok(_) if left == 0 && self.text.len() < self.text.capacity() => return Ok(()),
                Ok(_) if self.text.len() > TEXT_BYTES_MAX => return Err(ScanError::TooLong),
                Ok(Status::BufError) if self.text.len() < self.text.capacity() => {
                    return Err(ScanError::Compression);
                }
                Ok(_) => {}
            }
        }
    }
}

/// The state of one stream.
#[derive(Default)]
pub struct GzipStream {
    place: Place,
    /// See [`Pieces::decode`].
    next: u64,
    /// An incomplete head or chunk.
    carry: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Place {
    #[default]
    Head,
    /// Before the gzip header.
    Start,
    Body,
    /// After the last chunk.
    End,
}

impl GzipStream {
    /// Takes received bytes, cut anywhere, and appends the uncompressed response to `plain`.
    pub fn incoming(
        &mut self,
        bytes: &[u8],
        pieces: &mut Pieces,
        plain: &mut Vec<u8>,
    ) -> Result<(), ScanError> {
        if self.carry.is_empty() {
            let used = self.take(bytes, pieces, plain)?;
            self.carry.extend_from_slice(&bytes[used..]);
        } else {
            self.carry.extend_from_slice(bytes);
            let carry = std::mem::take(&mut self.carry);
            let used = self.take(&carry, pieces, plain)?;
            self.carry = carry;
            self.carry.drain(..used);
        }
        if self.carry.len() > CARRY_BYTES_MAX {
            return Err(ScanError::TooLong);
        }
        Ok(())
    }

    /// Takes what is complete; returns its length.
    fn take(
        &mut self,
        bytes: &[u8],
        pieces: &mut Pieces,
        plain: &mut Vec<u8>,
    ) -> Result<usize, ScanError> {
        let mut used = 0;
        while used < bytes.len() {
            let rest = &bytes[used..];
            let taken = match self.place {
                Place::Head => match memmem::find(rest, b"\r\n\r\n") {
                    Some(at) => {
                        plain.extend_from_slice(&rest[..at + 4]);
                        // The scanner reports any other status.
                        if is_compressed(&rest[..at + 4])? {
                            self.place = Place::Start;
                        } else {
                            self.place = Place::End;
                        }
                        at + 4
                    }
                    None => 0,
                },
                Place::Start | Place::Body => self.chunk(rest, pieces, plain)?,
                Place::End => {
                    plain.extend_from_slice(rest);
                    rest.len()
                }
            };
            if taken == 0 {
                break;
            }
            used += taken;
        }
        Ok(used)
    }

    fn chunk(
        &mut self,
        bytes: &[u8],
        pieces: &mut Pieces,
        plain: &mut Vec<u8>,
    ) -> Result<usize, ScanError> {
        if bytes.starts_with(LAST_CHUNK) {
            self.place = Place::End;
            plain.extend_from_slice(bytes);
            return Ok(bytes.len());
        }
        let Some(chunk) = whole_chunk(bytes) else {
            return Ok(0);
        };
        let mut packed = &bytes[chunk.data];
        if self.place == Place::Start {
            if !packed.starts_with(&MAGIC) || packed.len() < HEADER_BYTES {
                return Err(ScanError::Compression);
            }
            packed = &packed[HEADER_BYTES..];
            self.place = Place::Body;
        }
        if !packed.is_empty() {
            pieces.decode(packed, &mut self.next, plain)?;
        }
        Ok(chunk.end)
    }
}

/// Whether the body behind a response head is compressed. A successful answer without compression is an
/// error: the figures of the run would be those of plain streams.
fn is_compressed(head: &[u8]) -> Result<bool, ScanError> {
    let head = String::from_utf8_lossy(head).to_ascii_lowercase();
    if head.lines().any(|line| line == "content-encoding: gzip") {
        return Ok(true);
    }
    if head.split(' ').nth(1) == Some("200") {
        return Err(ScanError::Uncompressed);
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compress, Compression, FlushCompress};

    const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n";
    const HEADER: &[u8] = &[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];

    fn chunk(data: &[u8]) -> Vec<u8> {
        [format!("{:x}\r\n", data.len()).as_bytes(), data, b"\r\n"].concat()
    }

    fn piece(text: &str) -> Vec<u8> {
        let mut deflate = Compress::new(Compression::fast(), false);
        let mut out = Vec::with_capacity(text.len() + 64);
        let done = deflate.compress_vec(text.as_bytes(), &mut out, FlushCompress::Sync);
        done.unwrap();
        out
    }

    /// A response with these texts and an end, and what a scanner should see of it.
    fn response(texts: &[&str]) -> (Vec<u8>, Vec<u8>) {
        let mut packed = [HEAD, &chunk(HEADER)].concat();
        let mut plain = HEAD.to_vec();
        for text in texts {
            packed.extend(chunk(&piece(text)));
            plain.extend(chunk(text.as_bytes()));
        }
        packed.extend(chunk(&[&[3, 0][..], &[7; TRAILER_BYTES]].concat()));
        for bytes in [&mut packed, &mut plain] {
            bytes.extend_from_slice(b"0\r\n\r\n");
        }
        (packed, plain)
    }

    #[test]
    fn a_response_cut_anywhere_becomes_the_plain_one() {
        let long = "data: abc ".repeat(900) + "\n\n";
        let (packed, expected) = response(&["data: a\n\n", &long, ": heartbeat\n", "data: a\n\n"]);
        let mut pieces = Pieces::default();
        for cut in 0..packed.len() {
            let (mut stream, mut plain) = (GzipStream::default(), Vec::new());
            for part in [&packed[..cut], &packed[cut..]] {
                stream.incoming(part, &mut pieces, &mut plain).unwrap();
            }
            assert_eq!(plain, expected, "cut at {cut}");
        }
        let (mut stream, mut plain) = (GzipStream::default(), Vec::new());
        for byte in packed.chunks(1) {
            stream.incoming(byte, &mut pieces, &mut plain).unwrap();
        }
        assert_eq!(plain, expected);
    }

    #[test]
    fn what_is_no_compressed_stream_of_pieces_is_an_error() {
        let refused = |bytes: &[u8]| {
            let mut stream = GzipStream::default();
            let done = stream.incoming(bytes, &mut Pieces::default(), &mut Vec::new());
            done.unwrap_err()
        };
        let plain = b"HTTP/1.1 200 OK\r\n\r\n";
        assert_eq!(refused(plain), ScanError::Uncompressed);
        assert_eq!(
            refused(&[HEAD, &chunk(b"data: a\n\n")].concat()),
            ScanError::Compression
        );
        let text = "data: abcabcabc abcabcabc\n\n";
        // A piece that refers to the one before it.
        let mut deflate = Compress::new(Compression::fast(), false);
        let mut out = Vec::with_capacity(200);
        let mut pack = |out: &mut Vec<u8>| {
            out.clear();
            let done = deflate.compress_vec(text.as_bytes(), out, FlushCompress::Sync);
            done.unwrap();
        };
        pack(&mut out);
        pack(&mut out);
        let start = [HEAD, &chunk(HEADER)].concat();
        assert_eq!(
            refused(&[&start[..], &chunk(&out)].concat()),
            ScanError::Compression
        );
        // A piece without its end.
        let half = piece(text);
        let mut stream = GzipStream::default();
        let (mut pieces, mut plain) = (Pieces::default(), Vec::new());
        let cut = [&start[..], &chunk(&half[..half.len() / 2])].concat();
        let _ = stream.incoming(&cut, &mut pieces, &mut plain);
        assert!(!String::from_utf8_lossy(&plain).contains(text));
    }

    #[test]
    fn a_refusal_reaches_the_scanner_as_it_is() {
        let refusal = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\n{}";
        let (mut stream, mut plain) = (GzipStream::default(), Vec::new());
        let mut pieces = Pieces::default();
        stream.incoming(refusal, &mut pieces, &mut plain).unwrap();
        assert_eq!(plain, refusal);
    }

    #[test]
    fn few_pieces_are_kept() {
        let mut pieces = Pieces::default();
        for n in 0..2 * KNOWN_MAX {
            let text = format!("data: {n}\n\n");
            let (mut next, mut plain) = (0, Vec::new());
            pieces.decode(&piece(&text), &mut next, &mut plain).unwrap();
            assert_eq!(plain, chunk(text.as_bytes()));
        }
        assert_eq!(pieces.known.len(), KNOWN_MAX);
    }
}
