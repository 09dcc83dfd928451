//! A compressed stream: gzip (RFC 1952) in pieces that all streams share.
//!
//! Called by `frame`, which puts each event into a chunk. An event is a piece of raw deflate (RFC 1951)
//! that refers to nothing before it and ends on a byte boundary, with an empty stored block: only there does Go's
//! decoder give out what it has. So one piece serves every stream, wherever that stream began, and the client
//! decodes each event when it arrives. A message is compressed once, by a [`Compressor`]. The events of one stream
//! alone are stored blocks: 10 bytes longer, and without a compressor. Never compresses two events together, so no text can be guessed from the length of another.
//!
//! The end of a gzip stream has the CRC-32 of all its bytes. Varnish and several decoders check it. A
//! stream keeps a [`Checksum`], to which each event adds its [`Piece`] without a look at its bytes.

use flate2::{Compress, Compression, FlushCompress};

/// The header: deflate, no time, no name, and no statement about the system.
pub(super) const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];

/// An empty last block: nothing follows.
const LAST_BLOCK: [u8; 2] = [3, 0];

/// The most bytes of a stored block (RFC 1951 section 3.2.4).
const STORED_BLOCK_BYTES_MAX: usize = 0xffff;

/// Bytes of a stored block beside its content.
pub(super) const STORED_HEAD_BYTES: usize = 5;

/// The end of a piece: an empty stored block (zlib's sync flush).
pub(super) const PIECE_END: [u8; STORED_HEAD_BYTES] = [0, 0, 0, 0xff, 0xff];

/// Of zlib's levels the one above which JSON of 2 to 25 KB shrinks by less than a hundredth more.
const LEVEL: u32 = 3;

/// Room in which the compressor finishes a piece that is as long as a stored one.
const SLACK_BYTES: usize = 16;

/// The bytes of a text as a piece of stored blocks.
pub const fn stored_bytes(text_bytes: usize) -> usize {
    let blocks = text_bytes.div_ceil(STORED_BLOCK_BYTES_MAX);
    text_bytes + STORED_HEAD_BYTES * blocks + PIECE_END.len()
}

/// Compresses messages, one by one. Kept, because it takes some 300 KiB.
pub struct Compressor {
    deflate: Compress,
}

impl Compressor {
    /// A compressor for pieces of raw deflate.
    pub fn new() -> Compressor {
        let with_zlib_header = false;
        Compressor {
            deflate: Compress::new(Compression::new(LEVEL), with_zlib_header),
        }
    }

    /// Appends a text as a piece. It is never longer than in stored blocks.
    pub(super) fn push(&mut self, out: &mut Vec<u8>, text: &[u8]) {
        let start = out.len();
        let stored = stored_bytes(text.len());
        out.reserve(stored + SLACK_BYTES);
        self.deflate.reset();
        let done = self.deflate.compress_vec(text, out, FlushCompress::Sync);
        // A full buffer may hide a rest.
        let is_whole = done.is_ok()
            && self.deflate.total_in() == text.len() as u64
            && out.len() < out.capacity();
        if !is_whole || out.len() - start > stored {
            out.truncate(start);
            push_stored(out, text);
        }
    }
}

impl Default for Compressor {
    fn default() -> Compressor {
        Compressor::new()
    }
}

/// Appends a text as a piece of stored blocks.
fn push_stored(out: &mut Vec<u8>, text: &[u8]) {
    for block in text.chunks(STORED_BLOCK_BYTES_MAX) {
        out.extend_from_slice(&stored_head(block.len()));
        out.extend_from_slice(block);
    }
    out.extend_from_slice(&PIECE_END);
}

/// The head of a stored block that is not the last one: its length, and the complement of it.
pub(super) fn stored_head(block_bytes: usize) -> [u8; STORED_HEAD_BYTES] {
    let length = u16::try_from(block_bytes).expect("a block has less than 64 KiB");
    let [low, high] = length.to_le_bytes();
    [0, low, high, !low, !high]
}

/// The length of the content of a stored block, as [`stored_head`] has it.
pub(super) fn stored_block_bytes(block: &[u8]) -> usize {
    usize::from(u16::from_le_bytes([block[1], block[2]]))
}

/// What an event adds to the checksum of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    crc: u32,
    /// By what the CRC of everything before is multiplied: x to the power of the event's bits.
    shift: u32,
    bytes: u32,
}

impl Piece {
    /// The piece of an event.
    pub fn of(event: &[u8]) -> Piece {
        Piece {
            crc: crc32fast::hash(event),
            shift: x_to_the_bits_of(event.len()),
            bytes: event.len() as u32,
        }
    }
}

/// A piece with a table of its products, 512 bytes: for one that many streams add, one after the other. Adding it takes
/// about a tenth of the time.
pub struct TabledPiece {
    piece: Piece,
    /// The shifted CRC of each half byte, from the lowest one. The shift of a CRC is their sum.
    shifted: [[u32; 16]; 8],
}

impl TabledPiece {
    /// The table of a piece.
    pub fn new(piece: Piece) -> TabledPiece {
        let mut shifted = [[0; 16]; 8];
        let mut of_bit = piece.shift;
        for bit in (0..32).rev() {
            shifted[bit / 4][1 << (bit % 4)] = of_bit;
            of_bit = times_x(of_bit);
        }
        for row in &mut shifted {
            for number in 1..16_usize {
                let rest = number & (number - 1);
                row[number] = row[number ^ rest] ^ row[rest];
            }
        }
        TabledPiece { piece, shifted }
    }

    fn shift(&self, crc: u32) -> u32 {
        let halves = self.shifted.iter().enumerate();
        halves.fold(0, |sum, (at, row)| {
            sum ^ row[(crc >> (4 * at) & 15) as usize]
        })
    }
}

/// The CRC-32 and the length of all events that a stream has sent, both modulo 2^32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Checksum {
    crc: u32,
    bytes: u32,
}

impl Checksum {
    /// Adds the next event.
    pub fn add(&mut self, piece: &Piece) {
        self.crc = product(self.crc, piece.shift) ^ piece.crc;
        self.bytes = self.bytes.wrapping_add(piece.bytes);
    }

    /// Adds the next event by its table.
    pub fn add_tabled(&mut self, tabled: &TabledPiece) {
        self.crc = tabled.shift(self.crc) ^ tabled.piece.crc;
        self.bytes = self.bytes.wrapping_add(tabled.piece.bytes);
    }

    /// The end of the stream: an empty last block, the CRC-32 and the length.
    pub(super) fn end(self) -> [u8; 10] {
        let mut end = [0; 10];
        end[..2].copy_from_slice(&LAST_BLOCK);
        end[2..6].copy_from_slice(&self.crc.to_le_bytes());
        end[6..].copy_from_slice(&self.bytes.to_le_bytes());
        end
    }
}

/// The polynomial of CRC-32. The highest bit of a number is the coefficient of 1, the lowest that of x^31.
const POLYNOMIAL: u32 = 0xedb8_8320;

/// The product of two polynomials, modulo [`POLYNOMIAL`].
const fn product(mut left: u32, right: u32) -> u32 {
    let mut shifted = right;
    let mut sum = 0;
    while left != 0 {
        sum ^= shifted & (left >> 31).wrapping_neg();
        left <<= 1;
        shifted = times_x(shifted);
    }
    sum
}

/// A polynomial times x, modulo [`POLYNOMIAL`].
const fn times_x(polynomial: u32) -> u32 {
    (polynomial >> 1) ^ (POLYNOMIAL & (polynomial & 1).wrapping_neg())
}

/// x to the power of 2^n.
const POWERS: [u32; 32] = {
    let mut powers = [1 << 30; 32];
    let mut n = 1;
    while n < 32 {
        powers[n] = product(powers[n - 1], powers[n - 1]);
        n += 1;
    }
    powers
};

/// x to the power of eight times `bytes`. The powers repeat after 2^32 - 1, so the table does not end.
fn x_to_the_bits_of(bytes: usize) -> u32 {
    let set = (0..usize::BITS as usize).filter(|bit| bytes >> bit & 1 == 1);
    set.fold(1 << 31, |power, bit| product(POWERS[(bit + 3) % 32], power))
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use proptest::prelude::*;

    use super::*;

    /// What a client reads of these pieces.
    fn decoded(pieces: &[Vec<u8>], end: [u8; 10]) -> Vec<u8> {
        let stream = [&HEADER[..], &pieces.concat(), &end].concat();
        let mut decoder = flate2::bufread::GzDecoder::new(&stream[..]);
        let mut text = Vec::new();
        decoder.read_to_end(&mut text).expect("a valid stream");
        assert!(decoder.into_inner().is_empty(), "nothing follows the end");
        text
    }

    fn piece(compressor: &mut Compressor, text: &[u8]) -> Vec<u8> {
        let mut out = b"before".to_vec();
        compressor.push(&mut out, text);
        out.split_off(6)
    }

    #[test]
    fn any_choice_of_pieces_is_a_stream_and_each_ends_with_its_event() {
        let texts = [
            "data: a\n\n",
            ": heartbeat\n",
            "data: abcabcabcabcabcabc\n\n",
        ];
        let mut compressor = Compressor::new();
        let pieces = texts.map(|text| piece(&mut compressor, text.as_bytes()));
        for choice in [&[0, 1, 2][..], &[2, 1], &[1], &[2, 2, 0, 2], &[]] {
            let (mut sum, mut sent, mut text) = (Checksum::default(), Vec::new(), Vec::new());
            let mut inflate = flate2::Decompress::new(false);
            for &index in choice {
                sum.add(&Piece::of(texts[index].as_bytes()));
                sent.push(pieces[index].clone());
                text.extend_from_slice(texts[index].as_bytes());
                let mut out = Vec::with_capacity(100);
                let flush = flate2::FlushDecompress::None;
                inflate
                    .decompress_vec(&pieces[index], &mut out, flush)
                    .unwrap();
                assert_eq!(
                    out,
                    texts[index].as_bytes(),
                    "without a look at the next piece"
                );
            }
            assert_eq!(decoded(&sent, sum.end()), text, "{choice:?}");
        }
    }

    #[test]
    fn a_text_that_does_not_shrink_takes_no_more_than_stored_blocks() {
        let mut rng = fastrand::Rng::with_seed(7);
        let mut compressor = Compressor::new();
        for bytes in [1, 4, 100, 65_535, 65_536, 200_000] {
            let text: Vec<u8> = std::iter::repeat_with(|| rng.u8(..)).take(bytes).collect();
            let piece = piece(&mut compressor, &text);
            assert!(piece.ends_with(&PIECE_END));
            assert!(
                piece.len() <= stored_bytes(bytes),
                "{bytes}: {}",
                piece.len()
            );
            let mut sum = Checksum::default();
            sum.add(&Piece::of(&text));
            assert_eq!(decoded(&[piece], sum.end()), text);
        }
    }

    #[test]
    fn a_long_json_text_shrinks_to_a_fraction() {
        let item =
            |n: u32| format!("{{\"id\":{n},\"state\":\"open\",\"url\":\"https://a.example/{n}\"}}");
        let text = (0..100).map(item).collect::<String>();
        let mut compressor = Compressor::new();
        let first = piece(&mut compressor, text.as_bytes());
        assert!(
            first.len() * 4 < text.len(),
            "{} of {}",
            first.len(),
            text.len()
        );
        // It refers to nothing before it.
        assert_eq!(piece(&mut compressor, text.as_bytes()), first);
    }

    proptest! {
        #[test]
        fn a_checksum_is_that_of_all_bytes(texts in proptest::collection::vec(any::<Vec<u8>>(), 0..8)) {
            let (mut sum, mut tabled) = (Checksum::default(), Checksum::default());
            for text in &texts {
                sum.add(&Piece::of(text));
                tabled.add_tabled(&TabledPiece::new(Piece::of(text)));
            }
            let all = texts.concat();
            prop_assert_eq!(tabled, sum);
            prop_assert_eq!(sum, Checksum { crc: crc32fast::hash(&all), bytes: all.len() as u32 });
        }
    }

    #[test]
    fn the_powers_of_long_texts_are_right() {
        for bytes in [0_usize, 1, 65_535, 1 << 20, (1 << 20) + 77] {
            let mut whole = crc32fast::Hasher::new();
            whole.update(b"before");
            whole.update(&vec![b'x'; bytes]);
            let mut sum = Checksum::default();
            sum.add(&Piece::of(b"before"));
            sum.add(&Piece::of(&vec![b'x'; bytes]));
            assert_eq!(sum.crc, whole.finalize(), "{bytes}");
        }
    }
}
