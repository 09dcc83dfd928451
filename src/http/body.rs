//! Chunked transfer coding (RFC 9112 section 7.1), decoded in place.
//!
//! Called by [`RequestReader`](super::RequestReader). A state machine with one step per byte of framing:
//! each byte is examined once, and only the decoded bytes are kept. Every line must end with CRLF.
//! Extensions and trailer fields are checked and ignored; trailer fields never become header fields
//! (RFC 9110 section 6.5.1). Never allocates.

use crate::limits::{CHUNK_LINE_BYTES_MAX, HEADERS_MAX, TRAILER_BYTES_MAX};

use super::error::Refusal;
use super::head::is_token_byte;

/// Decodes one chunked body; the result does not depend on how the bytes are cut.
#[derive(Debug)]
pub(super) struct ChunkedDecoder {
    state: State,
    /// The sum of the chunk sizes so far.
    announced_bytes: u64,
    body_bytes_max: u64,
    /// Bytes of the current chunk-size line, or of the trailer section.
    line_bytes: usize,
    trailer_fields: usize,
}

/// The part of the body that the next byte belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Size { size: u64, digits: u8 },
    Extension { size: u64, part: ExtensionPart },
    SizeLineFeed { size: u64 },
    Data { left: u64 },
    DataReturn,
    DataLineFeed,
    TrailerStart,
    TrailerName,
    TrailerValue,
    TrailerLineFeed,
    LastLineFeed,
    Done,
}

/// `chunk-ext = *( BWS ";" BWS name [ BWS "=" BWS ( token / quoted-string ) ] )`
/// (RFC 9112 section 7.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ExtensionPart {
    /// Space before a semicolon.
    BeforeSemicolon,
    BeforeName,
    Name,
    /// Space after a name: an equals sign or a semicolon follows.
    AfterName,
    BeforeValue,
    Token,
    Quoted,
    QuotedPair,
    AfterQuoted,
}

/// The result of [`ChunkedDecoder::decode`].
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Decoded {
    /// The number of data bytes, which are now at the front.
    pub data_bytes: usize,
    /// The number of consumed bytes, framing included. All bytes are consumed unless the body has ended.
    pub used_bytes: usize,
    /// Whether the body and its trailer section are complete.
    pub is_done: bool,
}

impl ChunkedDecoder {
    pub fn new(body_bytes_max: usize) -> ChunkedDecoder {
        ChunkedDecoder {
            state: State::Size { size: 0, digits: 0 },
            announced_bytes: 0,
            body_bytes_max: body_bytes_max as u64,
            line_bytes: 0,
            trailer_fields: 0,
        }
    }

    /// Decodes the next bytes, and moves the data to the front of `bytes`.
    pub fn decode(&mut self, bytes: &mut [u8]) -> Result<Decoded, Refusal> {
        let mut data_bytes = 0;
        let mut used_bytes = 0;
        while used_bytes < bytes.len() && self.state != State::Done {
            if let State::Data { left } = self.state {
                let run_bytes =
                    (bytes.len() - used_bytes).min(usize::try_from(left).unwrap_or(usize::MAX));
                bytes.copy_within(used_bytes..used_bytes + run_bytes, data_bytes);
                data_bytes += run_bytes;
                used_bytes += run_bytes;
                let left = left - run_bytes as u64;
                self.state = if left == 0 {
                    State::DataReturn
                } else {
                    State::Data { left }
                };
            } else {
                self.state = self.after(bytes[used_bytes])?;
                used_bytes += 1;
            }
        }
        Ok(Decoded {
            data_bytes,
            used_bytes,
            is_done: self.state == State::Done,
        })
    }

    /// The state after one byte of framing.
    fn after(&mut self, byte: u8) -> Result<State, Refusal> {
        match self.state {
            State::Size { size, digits } => {
                self.count_chunk_line_byte()?;
                after_size(size, digits, byte)
            }
            State::Extension { size, part } => {
                self.count_chunk_line_byte()?;
                after_extension(size, part, byte)
            }
            State::SizeLineFeed { size } if byte == b'\n' => self.begin_chunk(size),
            State::SizeLineFeed { .. } => Err(Refusal::ChunkSize),
            State::DataReturn if byte == b'\r' => Ok(State::DataLineFeed),
            State::DataLineFeed if byte == b'\n' => Ok(State::Size { size: 0, digits: 0 }),
            State::DataReturn | State::DataLineFeed => Err(Refusal::ChunkEnd),
            State::TrailerStart
            | State::TrailerName
            | State::TrailerValue
            | State::TrailerLineFeed => self.after_trailer_byte(byte),
            State::LastLineFeed if byte == b'\n' => Ok(State::Done),
            State::LastLineFeed => Err(Refusal::Trailer),
            // `decode` never calls this function in these states.
            State::Data { .. } | State::Done => Ok(self.state),
        }
    }

    fn count_chunk_line_byte(&mut self) -> Result<(), Refusal> {
        self.line_bytes += 1;
        if self.line_bytes > CHUNK_LINE_BYTES_MAX {
            Err(Refusal::ChunkLineTooLong)
        } else {
            Ok(())
        }
    }

    /// Ends a chunk-size line. The limit of a body holds for the sum of the chunk sizes.
    fn begin_chunk(&mut self, size: u64) -> Result<State, Refusal> {
        self.line_bytes = 0;
        self.announced_bytes = self.announced_bytes.saturating_add(size);
        if self.announced_bytes > self.body_bytes_max {
            return Err(Refusal::BodyTooLarge);
        }
        Ok(if size == 0 {
            State::TrailerStart
        } else {
            State::Data { left: size }
        })
    }

    fn after_trailer_byte(&mut self, byte: u8) -> Result<State, Refusal> {
        self.line_bytes += 1;
        if self.line_bytes > TRAILER_BYTES_MAX {
            return Err(Refusal::TrailerTooLarge);
        }
        match (self.state, byte) {
            (State::TrailerStart, b'\r') => Ok(State::LastLineFeed),
            (State::TrailerStart, byte) if is_token_byte(byte) => {
                self.trailer_fields += 1;
                if self.trailer_fields > HEADERS_MAX {
                    return Err(Refusal::TrailerTooLarge);
                }
                Ok(State::TrailerName)
            }
            (State::TrailerName, b':') => Ok(State::TrailerValue),
            (State::TrailerName, byte) if is_token_byte(byte) => Ok(State::TrailerName),
            (State::TrailerValue, b'\r') => Ok(State::TrailerLineFeed),
            (State::TrailerValue, byte) if is_text_byte(byte) => Ok(State::TrailerValue),
            (State::TrailerLineFeed, b'\n') => Ok(State::TrailerStart),
            _ => Err(Refusal::Trailer),
        }
    }
}

/// Accepts up to 16 digits, which fit 64 bits. More are refused, also leading zeros.
fn after_size(size: u64, digits: u8, byte: u8) -> Result<State, Refusal> {
    let digit = char::from(byte).to_digit(16);
    match (digit, byte) {
        (Some(_), _) if digits == 16 => Err(Refusal::ChunkSize),
        (Some(digit), _) => Ok(State::Size {
            size: size << 4 | u64::from(digit),
            digits: digits + 1,
        }),
        (None, _) if digits == 0 => Err(Refusal::ChunkSize),
        (None, b'\r') => Ok(State::SizeLineFeed { size }),
        (None, b';') => Ok(State::Extension {
            size,
            part: ExtensionPart::BeforeName,
        }),
        (None, b' ' | b'\t') => Ok(State::Extension {
            size,
            part: ExtensionPart::BeforeSemicolon,
        }),
        _ => Err(Refusal::ChunkSize),
    }
}

fn after_extension(size: u64, part: ExtensionPart, byte: u8) -> Result<State, Refusal> {
    use ExtensionPart as Part;
    let next = match (part, byte) {
        (Part::Name | Part::Token | Part::AfterQuoted, b'\r') => {
            return Ok(State::SizeLineFeed { size });
        }
        (
            Part::BeforeSemicolon | Part::Name | Part::AfterName | Part::Token | Part::AfterQuoted,
            b';',
        ) => Part::BeforeName,
        (Part::BeforeSemicolon | Part::Token | Part::AfterQuoted, b' ' | b'\t') => {
            Part::BeforeSemicolon
        }
        (Part::Name | Part::AfterName, b' ' | b'\t') => Part::AfterName,
        (Part::BeforeName | Part::BeforeValue, b' ' | b'\t') => part,
        (Part::Name | Part::AfterName, b'=') => Part::BeforeValue,
        (Part::BeforeName | Part::Name, byte) if is_token_byte(byte) => Part::Name,
        (Part::BeforeValue | Part::Token, byte) if is_token_byte(byte) => Part::Token,
        (Part::BeforeValue, b'"') => Part::Quoted,
        (Part::Quoted, b'"') => Part::AfterQuoted,
        (Part::Quoted, b'\\') => Part::QuotedPair,
        (Part::Quoted | Part::QuotedPair, byte) if is_text_byte(byte) => Part::Quoted,
        _ => return Err(Refusal::ChunkExtension),
    };
    Ok(State::Extension { size, part: next })
}

/// Bytes of a field value or a quoted string: tab, space, visible ASCII and bytes beyond ASCII
/// (RFC 9110 sections 5.5 and 5.6.4).
fn is_text_byte(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}
