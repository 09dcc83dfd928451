//! The text of a test message: it shows every stream whether messages are complete, unrepeated, in order and
//! unchanged, and how late they are.
//!
//! `hc:<run, 8 hex>:<number, 8 hex>:<intended send time in ns, 16 hex>:<padding>`. The width is fixed: the
//! publisher patches digits into a prepared request, and the scanner reads them without a parser. JSON needs
//! no escapes for it. Written by `publisher`, read by `scanner`.

use memchr::memmem;

/// Bytes before the number: the scanner's search text.
const PREFIX_BYTES: usize = 12;
const NUMBER_AT: usize = PREFIX_BYTES;
const SENT_AT: usize = NUMBER_AT + 9;
const PADDING_AT: usize = SENT_AT + 17;

/// The shortest message: without padding.
pub const MESSAGE_BYTES_MIN: usize = PADDING_AT;

/// The longest message: every tested server takes it with its default limits.
pub const MESSAGE_BYTES_MAX: usize = 32 * 1024;

/// What all messages of a run have in common.
#[derive(Clone)]
pub struct PayloadFormat {
    text: Vec<u8>,
    prefix: memmem::Finder<'static>,
}

/// The two varying fields of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Position in the run, from 0.
    pub number: u32,
    /// Intended send time, on the clock of `clock`.
    pub sent_ns: u64,
}

impl PayloadFormat {
    /// The format of run `run` with messages of `message_bytes`, limited to
    /// [`MESSAGE_BYTES_MIN`]..=[`MESSAGE_BYTES_MAX`].
    pub fn new(run: u32, message_bytes: usize) -> PayloadFormat {
        let message_bytes = message_bytes.clamp(MESSAGE_BYTES_MIN, MESSAGE_BYTES_MAX);
        let mut text = format!("hc:{run:08x}:00000000:0000000000000000:").into_bytes();
        text.extend((b'a'..=b'z').cycle().take(message_bytes - text.len()));
        let prefix = memmem::Finder::new(&text[..PREFIX_BYTES]).into_owned();
        PayloadFormat { text, prefix }
    }

    /// The text with number and time zero; [`PayloadFormat::stamp`] fills them in.
    pub fn blank(&self) -> &[u8] {
        &self.text
    }

    /// Bytes of every message.
    pub fn message_bytes(&self) -> usize {
        self.text.len()
    }

    /// Writes the varying fields into a copy of the text.
    pub fn stamp(text: &mut [u8], stamp: Stamp) {
        write_hex(&mut text[NUMBER_AT..NUMBER_AT + 8], u64::from(stamp.number));
        write_hex(&mut text[SENT_AT..SENT_AT + 16], stamp.sent_ns);
    }

    /// The position in `bytes` of the first message of this run.
    pub fn find(&self, bytes: &[u8]) -> Option<usize> {
        self.prefix.find(bytes)
    }

    /// Whether a message of this run begins at `at`.
    #[inline]
    pub fn is_at(&self, bytes: &[u8], at: usize) -> bool {
        bytes.get(at..at + PREFIX_BYTES) == Some(&self.text[..PREFIX_BYTES])
    }

    /// Reads the message at the start of `bytes`; `None` if any byte of it differs from what was sent.
    #[inline]
    pub fn read(&self, bytes: &[u8]) -> Option<Stamp> {
        let bytes = bytes.get(..self.text.len())?;
        let whole = bytes[NUMBER_AT + 8] == b':'
            && bytes[SENT_AT + 16] == b':'
            && bytes[PADDING_AT..] == self.text[PADDING_AT..]
            && bytes[..PREFIX_BYTES] == self.text[..PREFIX_BYTES];
        if !whole {
            return None;
        }
        let number = read_hex8(bytes[NUMBER_AT..NUMBER_AT + 8].try_into().ok()?)?;
        let high = read_hex8(bytes[SENT_AT..SENT_AT + 8].try_into().ok()?)?;
        let low = read_hex8(bytes[SENT_AT + 8..SENT_AT + 16].try_into().ok()?)?;
        Some(Stamp {
            number,
            sent_ns: u64::from(high) << 32 | u64::from(low),
        })
    }
}

/// Writes `value` in lower-case hexadecimal over the whole of `digits`.
pub fn write_hex(digits: &mut [u8], mut value: u64) {
    for digit in digits.iter_mut().rev() {
        *digit = b"0123456789abcdef"[(value & 15) as usize];
        value >>= 4;
    }
}

/// Reads eight lower-case hexadecimal digits at once, as one word: about a nanosecond.
#[inline]
fn read_hex8(digits: [u8; 8]) -> Option<u32> {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let word = u64::from_be_bytes(digits);
    // Bit 6 tells a letter from a digit; a letter's low nibble is its value less 9.
    let letters = (word >> 6) & ONES;
    let nibbles = (word & (0x0f * ONES)) + 9 * letters;
    // Formatting the value must give the same digits; otherwise the input was not hexadecimal.
    let above_9 = ((nibbles + 6 * ONES) >> 4) & ONES;
    if nibbles & (0xf0 * ONES) != 0 || nibbles + 0x30 * ONES + 0x27 * above_9 != word {
        return None;
    }
    let pairs = (nibbles | nibbles >> 4) & 0x00ff_00ff_00ff_00ff;
    let quads = (pairs | pairs >> 8) & 0x0000_ffff_0000_ffff;
    Some((quads | quads >> 16) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamped_message_reads_back() {
        let format = PayloadFormat::new(0xdead_beef, 128);
        let mut text = format.blank().to_vec();
        let stamp = Stamp {
            number: 0x0123_abcd,
            sent_ns: 0xfedc_ba98_7654_3210,
        };
        PayloadFormat::stamp(&mut text, stamp);
        assert_eq!(text.len(), 128);
        assert!(text.starts_with(b"hc:deadbeef:0123abcd:fedcba9876543210:abc"));
        assert_eq!(format.read(&text), Some(stamp));
        assert_eq!(format.find(&[b"data: ", &text[..]].concat()), Some(6));
    }

    #[test]
    fn any_changed_byte_is_noticed() {
        let format = PayloadFormat::new(7, 64);
        let mut text = format.blank().to_vec();
        PayloadFormat::stamp(
            &mut text,
            Stamp {
                number: 9,
                sent_ns: 10,
            },
        );
        let sent = format.read(&text);
        for at in 0..text.len() {
            let mut changed = text.clone();
            changed[at] ^= 1;
            assert_ne!(format.read(&changed), sent, "byte {at}");
        }
        assert_eq!(format.read(&text[..63]), None);
    }

    #[test]
    fn hex_words_match_the_standard_library() {
        for value in [0, 1, 9, 10, 15, 16, 0x9a9a_9a9a, 0xffff_ffff, 0x0f0f_a0a0] {
            let text = format!("{value:08x}");
            assert_eq!(read_hex8(text.as_bytes().try_into().unwrap()), Some(value));
        }
        for bad in ["0000000g", "ABCDEF00", "        ", "0000:000", "000`0000"] {
            assert_eq!(read_hex8(bad.as_bytes().try_into().unwrap()), None, "{bad}");
        }
    }
}
