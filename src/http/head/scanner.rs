//! Finds the end of a request head as the bytes arrive.
//!
//! Called by [`RequestReader`](super::super::RequestReader). Examines every byte once, however the bytes are
//! cut. Refuses a request at the first wrong byte, so the result does not depend on the cuts. Never
//! allocates.

use crate::limits::{HEAD_BYTES_MAX, HEADERS_MAX, METHOD_BYTES_MAX, TARGET_BYTES_MAX};

use super::super::error::Refusal;

/// Finds the end of a head (RFC 9112 section 2.2, but with CRLF as the only end of a line).
///
/// The request line is checked byte by byte, so that garbage, a TLS handshake or an endless target is
/// refused at once. In the header fields it only searches for the ends of lines; `httparse` checks the
/// rest.
#[derive(Debug)]
pub struct HeadScanner {
    stage: Stage,
    /// The number of examined bytes.
    scanned: usize,
    /// The offset of the current part: the method, the target, the version, or a field line.
    mark: usize,
    field_lines: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Method,
    Target,
    Version,
    Fields,
}

impl HeadScanner {
    pub fn new() -> HeadScanner {
        HeadScanner {
            stage: Stage::Method,
            scanned: 0,
            mark: 0,
            field_lines: 0,
        }
    }

    /// Examines the new part of `bytes`, which are all bytes of the request so far. Returns the length of
    /// the head in bytes when it is complete.
    pub fn scan(&mut self, bytes: &[u8]) -> Result<Option<usize>, Refusal> {
        loop {
            let stage = self.stage;
            match stage {
                Stage::Method => self.scan_method(bytes)?,
                Stage::Target => self.scan_target(bytes)?,
                Stage::Version => self.scan_version(bytes)?,
                Stage::Fields => return self.scan_fields(bytes),
            }
            if self.stage == stage {
                return Ok(None);
            }
        }
    }

    fn enter(&mut self, stage: Stage, at: usize) {
        self.stage = stage;
        self.scanned = at;
        self.mark = at;
    }

    fn scan_method(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        let window = window(bytes, self.mark + METHOD_BYTES_MAX + 1);
        let Some(end) = position_from(window, self.scanned, |byte| !is_token_byte(byte)) else {
            self.scanned = window.len();
            let method_bytes = window.len() - self.mark;
            return if method_bytes > METHOD_BYTES_MAX {
                Err(Refusal::MethodTooLong)
            } else {
                Ok(())
            };
        };
        if window[end] != b' ' || end == self.mark {
            return Err(Refusal::Method);
        }
        self.enter(Stage::Target, end + 1);
        Ok(())
    }

    fn scan_target(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        let window = window(bytes, self.mark + TARGET_BYTES_MAX + 1);
        let Some(end) = position_from(window, self.scanned, |byte| !is_target_byte(byte)) else {
            self.scanned = window.len();
            let target_bytes = window.len() - self.mark;
            return if target_bytes > TARGET_BYTES_MAX {
                Err(Refusal::TargetTooLong)
            } else {
                Ok(())
            };
        };
        match window[end] {
            b' ' if end > self.mark => {
                self.enter(Stage::Version, end + 1);
                Ok(())
            }
            // A line of HTTP/0.9 ends after the target (RFC 1945 section 5): its version is missing.
            b'\r' | b'\n' => Err(Refusal::Version),
            _ => Err(Refusal::Target),
        }
    }

    fn scan_version(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        for &byte in &bytes[self.scanned..] {
            let at = self.scanned - self.mark;
            let is_expected = match at {
                0..=4 => byte == b"HTTP/"[at],
                5 | 7 => byte.is_ascii_digit(),
                6 => byte == b'.',
                8 => byte == b'\r',
                _ => byte == b'\n',
            };
            if !is_expected {
                return Err(Refusal::Version);
            }
            self.scanned += 1;
            if at == 8 && !matches!(&bytes[self.mark + 5..self.mark + 8], b"1.1" | b"1.0") {
                return Err(Refusal::VersionUnsupported);
            }
            if at == 9 {
                self.enter(Stage::Fields, self.scanned);
                return Ok(());
            }
        }
        Ok(())
    }

    fn scan_fields(&mut self, bytes: &[u8]) -> Result<Option<usize>, Refusal> {
        let window = window(bytes, HEAD_BYTES_MAX);
        while let Some(skipped) = memchr::memchr(b'\n', &window[self.scanned..]) {
            let line_end = self.scanned + skipped;
            let line = &window[self.mark..line_end];
            self.scanned = line_end + 1;
            self.mark = line_end + 1;
            match line {
                b"\r" => return Ok(Some(line_end + 1)),
                [.., b'\r'] => self.field_lines += 1,
                _ => return Err(Refusal::BareLineFeed),
            }
            if self.field_lines > HEADERS_MAX {
                return Err(Refusal::TooManyHeaders);
            }
        }
        self.scanned = window.len();
        if window.len() == HEAD_BYTES_MAX {
            Err(Refusal::HeadTooLarge)
        } else {
            Ok(None)
        }
    }
}

fn window(bytes: &[u8], bytes_max: usize) -> &[u8] {
    &bytes[..bytes.len().min(bytes_max)]
}

fn position_from(bytes: &[u8], from: usize, matches: impl Fn(u8) -> bool) -> Option<usize> {
    bytes[from..]
        .iter()
        .position(|&byte| matches(byte))
        .map(|skipped| from + skipped)
}

/// `tchar` of RFC 9110 section 5.6.2.
pub fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Visible ASCII except `#`: RFC 9112 section 3.2 allows no fragment in a target. Some of these bytes
/// are not in the URI grammar, but browsers send them (`|`, `{` and `}` in a query).
fn is_target_byte(byte: u8) -> bool {
    byte.is_ascii_graphic() && byte != b'#'
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A peer that sends one byte at a time must not cost the square of its head. So each scan begins
    /// after the bytes of the previous one.
    #[test]
    fn each_byte_is_examined_once() {
        let head = b"GET /a?b HTTP/1.1\r\nHost: a\r\nX: y\r\n\r\n";
        let mut scanner = HeadScanner::new();
        for end in 0..head.len() {
            assert_eq!(scanner.scan(&head[..end]), Ok(None));
            assert_eq!(scanner.scanned, end);
        }
        assert_eq!(scanner.scan(head), Ok(Some(head.len())));
    }
}
