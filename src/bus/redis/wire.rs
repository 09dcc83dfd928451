//! The protocol of Redis (RESP2): commands as bytes, and answers from bytes that arrive in pieces.
//!
//! Used by all of this module, with `redis-protocol` as the decoder. That crate begins an answer anew with each piece
//! and recurses as deep as the answer is nested. So an answer is decoded once, when its end has been found here and
//! its size is known. Never reads a socket, and never allocates for a length that is only declared.

use memchr::memchr_iter;
use redis_protocol::resp2::decode::decode;
pub(super) use redis_protocol::resp2::types::OwnedFrame as Value;

use crate::limits::{
    BUS_ANSWER_DEPTH_MAX as DEPTH_MAX, BUS_ANSWER_KEPT_BYTES_MAX as KEPT_BYTES_MAX,
    BUS_ANSWER_READ_BYTES_MIN as READ_BYTES_MIN, BUS_ANSWER_VALUES_MAX as VALUES_MAX,
};

/// A command and its arguments. It may hold a password, so it has no `Debug`.
pub(super) struct Command {
    words: usize,
    encoded: Vec<u8>,
}

impl Command {
    pub(super) fn new(name: &str) -> Command {
        let mut command = Command {
            words: 0,
            encoded: Vec::new(),
        };
        command.arg(name);
        command
    }

    /// Makes room for arguments of so many bytes, with their lengths.
    pub(super) fn reserve(&mut self, bytes: usize) -> &mut Command {
        self.encoded.reserve(bytes);
        self
    }

    pub(super) fn arg(&mut self, arg: impl AsRef<[u8]>) -> &mut Command {
        let arg = arg.as_ref();
        self.words += 1;
        push_length(&mut self.encoded, b'$', arg.len());
        self.encoded.extend_from_slice(arg);
        self.encoded.extend_from_slice(b"\r\n");
        self
    }

    pub(super) fn args(&mut self, args: &[&str]) -> &mut Command {
        for arg in args {
            self.arg(arg);
        }
        self
    }

    pub(super) fn number(&mut self, number: u64) -> &mut Command {
        self.arg(itoa::Buffer::new().format(number))
    }

    /// Adds the command to a request.
    pub(super) fn write_to(&self, request: &mut Vec<u8>) {
        push_length(request, b'*', self.words);
        request.extend_from_slice(&self.encoded);
    }

    /// A request of this command alone.
    pub(super) fn to_request(&self) -> Vec<u8> {
        let mut request = Vec::with_capacity(self.encoded.len() + 16);
        self.write_to(&mut request);
        request
    }
}

fn push_length(bytes: &mut Vec<u8>, kind: u8, length: usize) {
    bytes.push(kind);
    bytes.extend_from_slice(itoa::Buffer::new().format(length).as_bytes());
    bytes.extend_from_slice(b"\r\n");
}

/// The first word of an error answer: its kind.
pub(super) fn error_code(error: &str) -> &str {
    error.split(' ').next().unwrap_or_default()
}

/// Bytes that are no answer, or none that is taken; says why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed(pub(super) &'static str);

const OTHER_PROTOCOL: Malformed =
    Malformed("what listens there does not speak the protocol of Redis");

/// The answers on one connection: what has arrived and is not yet used.
#[derive(Debug, Default)]
pub(super) struct Answers {
    space: Vec<u8>,
    /// The bytes at the beginning of the space that have arrived.
    arrived: usize,
    search: Search,
}

impl Answers {
    /// Whether all that has arrived was used.
    pub(super) fn is_empty(&self) -> bool {
        self.arrived == 0
    }

    /// Where the next bytes are to be put.
    pub(super) fn space(&mut self) -> &mut [u8] {
        if self.space.len() - self.arrived < READ_BYTES_MIN {
            // Only the space of a read is cleared. The capacity doubles, so that a long answer is moved a few times only.
            self.space.resize(self.arrived + READ_BYTES_MIN, 0);
        }
        &mut self.space[self.arrived..]
    }

    /// Takes the first bytes of the space as arrived.
    pub(super) fn add(&mut self, length: usize) {
        self.arrived = (self.arrived + length).min(self.space.len());
    }

    /// The length of the next answer, if it is there whole. After an error the connection must not be used any more.
    pub(super) fn find(&mut self) -> Result<Option<usize>, Malformed> {
        self.search.end(&self.space[..self.arrived])
    }

    /// Removes the answer of this length that was found, and returns what `read` makes of its bytes.
    pub(super) fn take<T>(&mut self, end: usize, read: impl FnOnce(&[u8]) -> T) -> T {
        let taken = read(&self.space[..end]);
        self.search = Search::default();
        self.space.copy_within(end..self.arrived, 0);
        self.arrived -= end;
        if self.space.len() > KEPT_BYTES_MAX && self.arrived < KEPT_BYTES_MAX {
            self.space.truncate(KEPT_BYTES_MAX);
            self.space.shrink_to_fit();
        }
        taken
    }
}

/// A whole answer as a value.
pub(super) fn decoded(answer: &[u8]) -> Result<Value, Malformed> {
    match decode(answer) {
        Ok(Some((value, length))) if length == answer.len() => Ok(value),
        _ => Err(OTHER_PROTOCOL),
    }
}

/// The end of a value's first line, with its CR and LF; there is none before `from`.
pub(super) fn line_end(value: &[u8], from: usize) -> Option<usize> {
    let ends = memchr_iter(b'\n', &value[from..]).map(|found| from + found + 1);
    let mut line_ends = ends.filter(|end| *end >= 3 && value[end - 2] == b'\r');
    line_ends.next()
}

/// The search for the end of an answer. It keeps its place, so that no piece is searched again.
#[derive(Debug, Default)]
struct Search {
    /// The beginning of the first value that is not whole.
    at: usize,
    /// The length in which there is no end of its first line.
    searched: usize,
    /// For each open array the values that are missing, the outermost first.
    missing: Vec<usize>,
    values: usize,
}

impl Search {
    /// The length of the answer that the bytes begin with, if they have all of it. The bytes are those of the last
    /// call and those that have arrived since.
    fn end(&mut self, bytes: &[u8]) -> Result<Option<usize>, Malformed> {
        while let Some(kind) = bytes.get(self.at) {
            if !b"+-:$*".contains(kind) {
                return Err(OTHER_PROTOCOL);
            }
            let Some(line_end) = self.line_end(bytes) else {
                return Ok(None);
            };
            let text = &bytes[self.at + 1..line_end - 2];
            let (end, inner) = match kind {
                b'$' => (bulk_end(line_end, length(text)?)?, 0),
                b'*' => (line_end, length(text)?.unwrap_or(0)),
                _ => (line_end, 0),
            };
            if end > bytes.len() {
                return Ok(None);
            }
            if self.pass(end, inner)? {
                return Ok(Some(end));
            }
        }
        Ok(None)
    }

    /// The end of the line at the search's place, with its CR and LF.
    fn line_end(&mut self, bytes: &[u8]) -> Option<usize> {
        let from = self.searched.max(self.at) - self.at;
        let line_end = line_end(&bytes[self.at..], from);
        if line_end.is_none() {
            self.searched = bytes.len();
        }
        line_end.map(|end| self.at + end)
    }

    /// Goes to the end of a value, or into an array with values. True at the end of the answer.
    fn pass(&mut self, end: usize, inner: usize) -> Result<bool, Malformed> {
        self.at = end;
        self.values += 1;
        if self.values > VALUES_MAX {
            return Err(Malformed("it has too many values"));
        }
        if inner > 0 {
            if self.missing.len() == DEPTH_MAX {
                return Err(Malformed("it is nested too deep"));
            }
            self.missing.push(inner);
            return Ok(false);
        }
        while let Some(missing) = self.missing.last_mut() {
            *missing -= 1;
            if *missing > 0 {
                return Ok(false);
            }
            self.missing.pop();
        }
        Ok(true)
    }
}

/// A declared length; `None` for the value nil.
pub(super) fn length(text: &[u8]) -> Result<Option<usize>, Malformed> {
    let length = str::from_utf8(text)
        .ok()
        .and_then(|text| text.parse::<isize>().ok());
    match length {
        Some(-1) => Ok(None),
        Some(length) => usize::try_from(length)
            .map(Some)
            .map_err(|_| OTHER_PROTOCOL),
        None => Err(OTHER_PROTOCOL),
    }
}

/// The end of a text of a declared length, with its CR and LF.
fn bulk_end(line_end: usize, length: Option<usize>) -> Result<usize, Malformed> {
    let Some(length) = length else {
        return Ok(line_end);
    };
    let end = line_end
        .checked_add(length)
        .and_then(|end| end.checked_add(2));
    end.ok_or(OTHER_PROTOCOL)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    impl Answers {
        /// The next answer, if it is there whole.
        pub(in crate::bus::redis) fn next(&mut self) -> Result<Option<Value>, Malformed> {
            let Some(end) = self.find()? else {
                return Ok(None);
            };
            self.take(end, decoded).map(Some)
        }
    }

    fn feed(answers: &mut Answers, bytes: &[u8]) {
        let mut left = bytes;
        while !left.is_empty() {
            let space = answers.space();
            let length = space.len().min(left.len());
            space[..length].copy_from_slice(&left[..length]);
            answers.add(length);
            left = &left[length..];
        }
    }

    /// The first answer in bytes that arrive at once.
    fn first(bytes: &[u8]) -> Result<Option<Value>, Malformed> {
        let mut answers = Answers::default();
        feed(&mut answers, bytes);
        answers.next()
    }

    fn bulk(text: &str) -> Value {
        Value::BulkString(text.into())
    }

    #[test]
    fn a_command_is_an_array_of_its_words() {
        let mut command = Command::new("XREAD");
        command
            .args(&["COUNT", ""])
            .number(u64::MAX)
            .arg(b"\xff\r\n");
        let mut request = b"before".to_vec();
        command.write_to(&mut request);
        let expected = b"*5\r\n$5\r\nXREAD\r\n$5\r\nCOUNT\r\n$0\r\n\r\n\
                         $20\r\n18446744073709551615\r\n$3\r\n\xff\r\n\r\n";
        assert_eq!(request, [&b"before"[..], expected].concat());
        assert_eq!(command.to_request(), expected);
        // Lengths with each number of digits.
        for length in [9, 10, 99, 100, 999, 1_000, 99_999, 100_000, 1_000_000] {
            let request = Command::new(&"x".repeat(length)).to_request();
            let answer = first(&request).unwrap();
            assert_eq!(answer, Some(Value::Array(vec![bulk(&"x".repeat(length))])));
        }
    }

    #[test]
    fn answers_are_the_same_however_they_arrive() {
        let bytes = b"+OK\r\n:-12\r\n$-1\r\n*-1\r\n*0\r\n-MOVED 1 a:2\r\n$4\r\n\r\n\r\n\r\n\
                      *3\r\n*2\r\n$1\r\na\r\n:7\r\n*0\r\n$0\r\n\r\n+a\nb\rc\r\n";
        let expected = [
            Value::SimpleString("OK".into()),
            Value::Integer(-12),
            Value::Null,
            Value::Null,
            Value::Array(Vec::new()),
            Value::Error("MOVED 1 a:2".into()),
            bulk("\r\n\r\n"),
            Value::Array(vec![
                Value::Array(vec![bulk("a"), Value::Integer(7)]),
                Value::Array(Vec::new()),
                bulk(""),
            ]),
            Value::SimpleString("a\nb\rc".into()),
        ];
        for piece in 1..=bytes.len() {
            let mut answers = Answers::default();
            let mut found = Vec::new();
            for bytes in bytes.chunks(piece) {
                feed(&mut answers, bytes);
                while let Some(value) = answers.next().unwrap() {
                    found.push(value);
                }
            }
            assert_eq!(found, expected, "{piece}");
            assert!(answers.is_empty());
        }
    }

    #[test]
    fn a_hostile_answer_is_refused_or_waits_and_takes_no_more_space_than_its_bytes() {
        let nested = |depth| [b"*1\r\n".repeat(depth), b":1\r\n".to_vec()].concat();
        assert!(first(&nested(DEPTH_MAX)).unwrap().is_some());
        let too_deep = Err(Malformed("it is nested too deep"));
        assert_eq!(first(&nested(DEPTH_MAX + 1)), too_deep);
        assert_eq!(first(&b"*1\r\n".repeat(100_000)), too_deep);
        let array = |values| {
            [
                format!("*{values}\r\n").into_bytes(),
                b":1\r\n".repeat(values),
            ]
        };
        assert!(first(&array(VALUES_MAX - 1).concat()).unwrap().is_some());
        let too_many = Err(Malformed("it has too many values"));
        assert_eq!(first(&array(VALUES_MAX).concat()), too_many);
        for waits in [
            "$1000000000\r\n",
            "*1000000000\r\n",
            "$9223372036854775807\r\n",
            "*9223372036854775807\r\n",
        ] {
            let mut answers = Answers::default();
            feed(&mut answers, waits.as_bytes());
            assert_eq!(answers.next(), Ok(None), "{waits}");
            assert!(answers.space.len() <= READ_BYTES_MIN, "{waits}");
            assert!(answers.search.missing.capacity() <= DEPTH_MAX, "{waits}");
        }
        for wrong in [
            "$18446744073709551616\r\n",
            "$-2\r\n",
            "*-2\r\n",
            "*\r\n",
            "$x\r\n",
            ":x\r\n",
            "H",
            "_\r\n",
            "*2\r\n:1\r\n\r\n",
            "-\u{0}\u{7f}\r\r\n$z\r\n",
        ] {
            // The last one is an answer, and then none.
            let mut answers = Answers::default();
            feed(&mut answers, wrong.as_bytes());
            let refused = answers.next().and_then(|_| answers.next());
            assert_eq!(refused, Err(OTHER_PROTOCOL), "{wrong:?}");
        }
        assert_eq!(first(b"-\xff\r\n"), Err(OTHER_PROTOCOL));
    }

    /// Otherwise the work for a long answer would grow with the square of its length.
    #[test]
    fn no_piece_of_a_long_answer_is_searched_again() {
        let line = format!("+{}\r\n", "x".repeat(5_000));
        let text = format!("${}\r\n{}\r\n", 5_000, "\n".repeat(5_000));
        let bytes = format!("*200\r\n{}", (line.clone() + &text).repeat(100));
        let mut answers = Answers::default();
        let mut is_found = false;
        for piece in bytes.as_bytes().chunks(7) {
            assert!(!is_found);
            feed(&mut answers, piece);
            is_found = answers.next().unwrap().is_some();
            let search = &answers.search;
            let place = search.searched.max(search.at);
            let is_text = answers.space.get(search.at) == Some(&b'$');
            assert!(place == answers.arrived || is_text, "{search:?}");
            assert!(answers.arrived - search.at <= text.len(), "{search:?}");
        }
        assert!(is_found);
        assert!(answers.space.len() <= KEPT_BYTES_MAX);
    }

    fn value() -> impl Strategy<Value = Vec<u8>> {
        let end = prop_oneof![
            Just("\r\n"),
            Just("\n"),
            Just("\r"),
            Just("\n\r\n"),
            Just("")
        ];
        let kind = prop::sample::select(b"+-:$*x".to_vec());
        (kind, -2..6_i64, end, "[a\r\n]{0,4}").prop_map(|(kind, number, end, text)| {
            let text = if kind == b'$' { text } else { String::new() };
            format!("{}{number}{end}{text}{end}", char::from(kind)).into_bytes()
        })
    }

    proptest! {
        /// A difference could make the decoder recurse, or a call wait for the end of a whole answer.
        #[test]
        fn the_search_and_the_decoder_agree_on_any_bytes(
            parts in prop::collection::vec(value(), 0..8),
            cut in 0..40_usize,
        ) {
            let bytes = parts.concat();
            let bytes = &bytes[..bytes.len().saturating_sub(cut)];
            let decoded = decode(bytes);
            let agree = match Search::default().end(bytes) {
                // A number is no matter of the search.
                Ok(Some(end)) => decoded.is_err() || matches!(decoded, Ok(Some((_, length))) if length == end),
                Ok(None) | Err(_) => !matches!(decoded, Ok(Some(_))),
            };
            prop_assert!(agree, "{bytes:?} {decoded:?}");
        }
    }
}
