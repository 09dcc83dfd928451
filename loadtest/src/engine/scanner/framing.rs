//! Chunked framing (RFC 9112 section 7.1): where the next byte of a response stands, and chunks
//! that are complete in one read.

use crate::engine::event::ScanError;

/// Where the next byte stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// In the response head.
    Head,
    /// In the line of a chunk size; `extension` after the digits.
    Size {
        size: u64,
        digits: u8,
        extension: bool,
    },
    /// In the data of a chunk; the value is the number of missing bytes.
    Data { left: u64 },
    /// In the CR LF after a chunk's data; the value is the number of missing bytes.
    DataEnd { left: u8 },
    /// After the last chunk; `line` counts the bytes of the present trailer line.
    Trailer { line: u32 },
    /// Delimited by the end of the connection.
    Close,
    /// After the last chunk and its trailer.
    Ended,
}

/// Before a chunk.
pub const SIZE_START: Framing = Framing::Size {
    size: 0,
    digits: 0,
    extension: false,
};

impl Framing {
    /// The state after a byte of the line of a chunk size.
    #[inline]
    pub fn after_size_byte(self, byte: u8) -> Result<Framing, ScanError> {
        let Framing::Size {
            size,
            digits,
            extension,
        } = self
        else {
            return Err(ScanError::Framing);
        };
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            b'A'..=b'F' => byte - b'A' + 10,
            b'\n' if digits > 0 && size == 0 => return Ok(Framing::Trailer { line: 0 }),
            b'\n' if digits > 0 => return Ok(Framing::Data { left: size }),
            b'\r' | b';' | b' ' if digits > 0 => {
                return Ok(Framing::Size {
                    size,
                    digits,
                    extension: true,
                });
            }
            _ if extension => return Ok(self),
            _ => return Err(ScanError::Framing),
        };
        if extension {
            return Ok(self);
        }
        if digits == 15 {
            return Err(ScanError::Framing);
        }
        Ok(Framing::Size {
            size: size << 4 | u64::from(digit),
            digits: digits + 1,
            extension,
        })
    }
}

/// A chunk that is complete in one read.
pub struct Unit {
    /// Its end, framing included.
    pub end: usize,
    /// Its data.
    pub data: std::ops::Range<usize>,
}

/// The chunk at the start of `bytes`, if it is complete, has data and no extension.
#[inline]
pub fn whole_chunk(bytes: &[u8]) -> Option<Unit> {
    const DIGITS_MAX: usize = 6;
    let mut size = 0;
    for at in 0..=DIGITS_MAX {
        let digit = match *bytes.get(at)? {
            byte @ b'0'..=b'9' => byte - b'0',
            byte @ b'a'..=b'f' => byte - b'a' + 10,
            byte @ b'A'..=b'F' => byte - b'A' + 10,
            b'\r' if at > 0 && size > 0 && bytes.get(at + 1) == Some(&b'\n') => {
                let data = at + 2..at + 2 + size;
                let end = data.end + 2;
                return (bytes.get(data.end..end)? == b"\r\n").then_some(Unit { end, data });
            }
            _ => return None,
        };
        size = size << 4 | usize::from(digit);
    }
    None
}
