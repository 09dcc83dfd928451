//! The text of a test message: it shows every stream whether messages are complete, unrepeated, in order and
//! unchanged, and how late they are.
//!
//! A template with the fields `{id}`, `{time}` and `{filler}`, unless `--message-in` gives another:
//! `hc:<run, 8 hex>-<number, 8 hex>:<due time in unix microseconds, 16 decimal>:<filler>`. The width is fixed:
//! the publisher patches digits into a prepared request, and the scanner reads them without a parser. The run
//! keeps messages of earlier runs apart. JSON and forms need no escapes. Written by `publisher`, read by
//! `scanner`.

use std::ops::Range;

use memchr::memmem;
use serde::{Deserialize, Serialize};

use crate::engine::clock;
use crate::engine::template::{self, Field, ID_BYTES, Part, TIME_BYTES};

/// The text of a message, unless another is given.
pub const MESSAGE: &str = "hc:{id}:{time}:{filler}";

/// Bytes of an id before the number: the scanner's search text.
const RUN_BYTES: usize = 9;

/// The longest message: every tested server takes it with its default limits.
pub const MESSAGE_BYTES_MAX: usize = 32 * 1024;

/// What describes the messages of a run, as processes pass it on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FormatPlan {
    /// The run, in every message.
    pub run: u32,
    /// Bytes of a message.
    pub message_bytes: usize,
    /// The text of a message.
    pub template: String,
    /// The unix time at the start of the run's clock: the same for all processes of a run.
    pub clock_offset_ns: u64,
}

/// What all messages of a run have in common.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(try_from = "FormatPlan", into = "FormatPlan")]
pub struct PayloadFormat {
    plan: FormatPlan,
    text: Vec<u8>,
    id_at: usize,
    time_at: usize,
    filler: Vec<u8>,
    /// The bytes that all messages share.
    fixed: Vec<Range<usize>>,
    mark: memmem::Finder<'static>,
}

/// The two varying fields of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Position in the run, from 0.
    pub number: u32,
    /// Intended send time, on the clock of `clock`.
    pub sent_ns: u64,
}

impl From<PayloadFormat> for FormatPlan {
    fn from(format: PayloadFormat) -> FormatPlan {
        format.plan
    }
}

impl TryFrom<FormatPlan> for PayloadFormat {
    type Error = String;

    fn try_from(plan: FormatPlan) -> Result<PayloadFormat, String> {
        let parts = template::parts(&plan.template)?;
        let count = |field| {
            parts
                .iter()
                .filter(|&&part| part == Part::Field(field))
                .count()
        };
        if count(Field::Id) != 1 || count(Field::Time) != 1 || count(Field::Filler) > 1 {
            return Err("a message has {id} and {time} once, and {filler} at most once".into());
        }
        if count(Field::Message) + count(Field::Session) > 0 {
            return Err("a message has no fields but {id}, {time} and {filler}".into());
        }
        let width = |part: &Part| match part {
            Part::Text(text) => text.len(),
            Part::Field(Field::Id) => ID_BYTES,
            Part::Field(Field::Time) => TIME_BYTES,
            Part::Field(_) => 0,
        };
        let least = parts.iter().map(width).sum();
        if least > MESSAGE_BYTES_MAX {
            return Err(format!("a message has at most {MESSAGE_BYTES_MAX} bytes"));
        }
        // A body may have the filler where events do not show it.
        let filler_bytes = plan.message_bytes.clamp(least, MESSAGE_BYTES_MAX) - least;
        let filler: Vec<u8> = filler().take(filler_bytes).collect();
        let (mut text, mut id_at, mut time_at) = (Vec::new(), 0, 0);
        for part in &parts {
            match part {
                Part::Text(same) => text.extend_from_slice(same.as_bytes()),
                Part::Field(Field::Id) => {
                    id_at = text.len();
                    text.extend_from_slice(format!("{:08x}-00000000", plan.run).as_bytes());
                }
                Part::Field(Field::Time) => {
                    time_at = text.len();
                    text.extend_from_slice(&[b'0'; TIME_BYTES]);
                }
                Part::Field(_) => text.extend_from_slice(&filler),
            }
        }
        let number = id_at + RUN_BYTES..id_at + ID_BYTES;
        let time = time_at..time_at + TIME_BYTES;
        let (first, second) = if id_at < time_at {
            (number, time)
        } else {
            (time, number)
        };
        let fixed = vec![
            0..first.start,
            first.end..second.start,
            second.end..text.len(),
        ];
        let mark = memmem::Finder::new(&text[id_at..id_at + RUN_BYTES]).into_owned();
        Ok(PayloadFormat {
            plan,
            text,
            id_at,
            time_at,
            filler,
            fixed,
            mark,
        })
    }
}

/// Names of the filler.
const FILLER_NAMES: [&str; 12] = [
    "html_url",
    "node_id",
    "commits_url",
    "created_at",
    "default_branch",
    "full_name",
    "followers",
    "open_issues_count",
    "permissions",
    "repository",
    "sender_type",
    "visibility",
];

/// An endless text, the same in every run: the letters, and then what compresses as JSON of providers does, names
/// that repeat and values that do not. JSON and forms need no escapes in it.
fn filler() -> impl Iterator<Item = u8> {
    // xorshift32 (Marsaglia, 2003).
    let mut state = 0x9e37_79b9_u32;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state
    };
    let fields = std::iter::repeat_with(move || {
        let random = next();
        let name = FILLER_NAMES[random as usize % FILLER_NAMES.len()];
        format!("{name}_url-https.api.example.com.{:x}-", random >> 8).into_bytes()
    });
    (b'a'..=b'z').chain(fields.flatten())
}

impl PayloadFormat {
    /// The usual format of run `run` with messages of `message_bytes`, limited to what fits.
    pub fn new(run: u32, message_bytes: usize) -> PayloadFormat {
        // The template is a constant that satisfies the rules.
        PayloadFormat::of(run, message_bytes, MESSAGE).expect("constant template")
    }

    /// The format of messages with this text.
    pub fn of(run: u32, message_bytes: usize, template: &str) -> Result<PayloadFormat, String> {
        PayloadFormat::try_from(FormatPlan {
            run,
            message_bytes,
            template: template.to_owned(),
            clock_offset_ns: clock::unix_offset_ns(),
        })
    }

    /// The text with number and time zero; [`PayloadFormat::stamp`] fills them in.
    #[cfg(test)]
    pub fn blank(&self) -> &[u8] {
        &self.text
    }

    /// The run, in every message.
    pub fn run(&self) -> u32 {
        self.plan.run
    }

    /// Bytes of every message.
    pub fn message_bytes(&self) -> usize {
        self.text.len()
    }

    /// The bytes of a field in the blank text.
    pub fn blank_field(&self, field: Field) -> &[u8] {
        match field {
            Field::Message => &self.text,
            Field::Id => &self.text[self.id_at..self.id_at + ID_BYTES],
            Field::Time => &self.text[self.time_at..self.time_at + TIME_BYTES],
            Field::Filler => &self.filler,
            Field::Session => &[],
        }
    }

    /// Writes the varying fields into a copy of the text.
    pub fn stamp(&self, text: &mut [u8], stamp: Stamp) {
        PayloadFormat::write_id(&mut text[self.id_at..self.id_at + ID_BYTES], stamp);
        self.write_time(&mut text[self.time_at..self.time_at + TIME_BYTES], stamp);
    }

    /// Writes the number into an id.
    pub fn write_id(id: &mut [u8], stamp: Stamp) {
        write_hex(&mut id[RUN_BYTES..ID_BYTES], u64::from(stamp.number));
    }

    /// Writes the time.
    pub fn write_time(&self, time: &mut [u8], stamp: Stamp) {
        let us = stamp.sent_ns.saturating_add(self.plan.clock_offset_ns) / 1_000;
        write_decimal(&mut time[..TIME_BYTES], us);
    }

    /// The position in `bytes` of the first message of this run. If none of its ids stands in a whole message,
    /// the first place where one should be.
    pub fn find(&self, bytes: &[u8]) -> Option<usize> {
        let mut places = self
            .mark
            .find_iter(bytes)
            .filter_map(|at| at.checked_sub(self.id_at));
        let first = places.next()?;
        if self.read(&bytes[first..]).is_some() {
            return Some(first);
        }
        places
            .find(|&at| self.read(&bytes[at..]).is_some())
            .or(Some(first))
    }

    /// Whether a message of this run begins at `at`.
    #[inline]
    pub fn is_at(&self, bytes: &[u8], at: usize) -> bool {
        let id_at = at + self.id_at;
        bytes.get(id_at..id_at + RUN_BYTES) == Some(&self.text[self.id_at..self.id_at + RUN_BYTES])
    }

    /// Reads the message at the start of `bytes`; `None` if any byte of it differs from what was sent.
    #[inline]
    pub fn read(&self, bytes: &[u8]) -> Option<Stamp> {
        let bytes = bytes.get(..self.text.len())?;
        for fixed in &self.fixed {
            if bytes[fixed.clone()] != self.text[fixed.clone()] {
                return None;
            }
        }
        let number = &bytes[self.id_at + RUN_BYTES..self.id_at + ID_BYTES];
        let number = read_hex8(number.try_into().ok()?)?;
        let us = read_decimal(&bytes[self.time_at..self.time_at + TIME_BYTES])?;
        Some(Stamp {
            number,
            sent_ns: (us * 1_000).saturating_sub(self.plan.clock_offset_ns),
        })
    }
}

/// Writes `value` in decimal over the whole of `digits`.
fn write_decimal(digits: &mut [u8], mut value: u64) {
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

/// Reads at most 16 decimal digits.
#[inline]
fn read_decimal(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0, |value: u64, byte| {
        byte.is_ascii_digit()
            .then(|| value * 10 + u64::from(byte - b'0'))
    })
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

    const STAMP: Stamp = Stamp {
        number: 0x0123_abcd,
        sent_ns: 9_876_543_211_000,
    };

    fn stamped(format: &PayloadFormat) -> Vec<u8> {
        let mut text = format.blank().to_vec();
        format.stamp(&mut text, STAMP);
        text
    }

    #[test]
    fn a_stamped_message_reads_back() {
        let format = PayloadFormat::new(0xdead_beef, 128);
        let text = stamped(&format);
        assert_eq!(text.len(), 128);
        assert!(
            text.starts_with(b"hc:deadbeef-0123abcd:"),
            "{}",
            String::from_utf8_lossy(&text)
        );
        assert!(text[37..].starts_with(b":abcdef"));
        assert_eq!(format.read(&text), Some(STAMP));
        assert_eq!(format.find(&[b"data: ", &text[..]].concat()), Some(6));
        let plan = serde_json::to_string(&format).unwrap();
        let other: PayloadFormat = serde_json::from_str(&plan).unwrap();
        assert_eq!(other.read(&text), Some(STAMP));
    }

    #[test]
    fn any_text_with_an_id_and_a_time_is_a_message() {
        for template in [
            "{id}{time}",
            "{time},{filler},{id}!",
            r#"{id}","at":{time},"text":"{filler}"#,
        ] {
            let format = PayloadFormat::of(7, 90, template).unwrap();
            let text = stamped(&format);
            assert_eq!(format.read(&text), Some(STAMP), "{template}");
            // An id alone is no message.
            let id = String::from_utf8(format.blank_field(Field::Id).to_vec()).unwrap();
            let event = [format!("{:60}id: {id}\ndata: ", "").as_bytes(), &text].concat();
            assert_eq!(
                format.find(&event),
                Some(event.len() - text.len()),
                "{template}"
            );
            let has_filler = template.contains("{filler}");
            assert_eq!(format.message_bytes() == 90, has_filler, "{template}");
            assert!(format.blank_field(Field::Filler).starts_with(b"abc"));
        }
        for wrong in [
            "{id}",
            "{time}",
            "{id}{id}{time}",
            "{id}{time}{session}",
            "{id}{time}{x}",
            "",
        ] {
            assert!(PayloadFormat::of(7, 90, wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn any_changed_byte_is_noticed() {
        let format = PayloadFormat::new(7, 64);
        let text = stamped(&format);
        for at in 0..text.len() {
            let mut changed = text.clone();
            changed[at] ^= 1;
            assert_ne!(format.read(&changed), Some(STAMP), "byte {at}");
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
