//! Splits a PEM file into sections, line by line.
//!
//! Called by the parent module. Never decodes a section.

use super::{BASE64_BEGIN, PemFault};

/// A section, from `-----BEGIN <label>-----` to `-----END <label>-----`.
pub(super) struct Section {
    pub(super) label: String,
    /// The lines in between, without the headers of a key with a passphrase (RFC 1421).
    pub(super) body: String,
    /// Whether such headers exist: the key has a passphrase.
    pub(super) is_encrypted: bool,
    /// The number of its first line, from 1.
    pub(super) line: usize,
}

const BEGIN: &str = "-----BEGIN ";
const END: &str = "-----END ";
const HYPHENS: &str = "-----";

/// All sections, at least one. Text between them, as `openssl` writes it, is skipped.
pub(super) fn sections(pem: &[u8]) -> Result<Vec<Section>, PemFault> {
    let text = text(pem)?;
    let mut sections = Vec::new();
    let mut open: Option<Section> = None;
    for (index, line) in text.split('\n').enumerate() {
        let number = index + 1;
        for line in line.split('\r').map(str::trim) {
            open = match open {
                None => begin(line, number)?,
                Some(section) => match section.next(line, number)? {
                    Progress::Open(section) => Some(section),
                    Progress::Whole(section) => {
                        sections.push(section);
                        None
                    }
                },
            };
        }
    }
    match open {
        Some(section) => Err(PemFault::NoEnd(section.line)),
        None if sections.is_empty() => Err(PemFault::NoSection),
        None => Ok(sections),
    }
}

/// The file as text. An error if its first bytes show another form.
fn text(bytes: &[u8]) -> Result<String, PemFault> {
    const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
    let bytes = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes);
    match bytes {
        _ if bytes.trim_ascii().is_empty() => Err(PemFault::Empty),
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => Err(PemFault::Utf16),
        _ if bytes
            .trim_ascii_start()
            .starts_with(BASE64_BEGIN.as_bytes()) =>
        {
            Err(PemFault::Base64Twice)
        }
        [0x30, rest @ ..] if !is_printable(bytes) => Err(container(rest)),
        _ => Ok(String::from_utf8_lossy(bytes).into_owned()),
    }
}

fn is_printable(bytes: &[u8]) -> bool {
    bytes
        .iter()
        .take(16)
        .all(|byte| byte.is_ascii_graphic() || byte.is_ascii_whitespace())
}

/// Distinguishes PKCS #12 from other DER by its first element, the version (RFC 7292 section 4).
fn container(rest: &[u8]) -> PemFault {
    let length_bytes = match rest {
        [first @ 0x81..=0x84, ..] => usize::from(first & 0x7f),
        _ => 0,
    };
    match rest.get(1 + length_bytes..) {
        Some([2, 1, 3, ..]) => PemFault::Pkcs12,
        _ => PemFault::Der,
    }
}

enum Progress {
    Open(Section),
    Whole(Section),
}

/// Reads a line outside of sections: perhaps the beginning of one.
fn begin(line: &str, number: usize) -> Result<Option<Section>, PemFault> {
    if let Some(rest) = line.strip_prefix(BEGIN) {
        let label = match rest.split_once(HYPHENS) {
            Some((label, "")) if is_label(label) => label,
            Some((label, behind)) if is_label(label) => {
                return Err(behind_label(behind, number));
            }
            _ => return Err(PemFault::Hyphens(number)),
        };
        return Ok(Some(Section {
            label: label.to_owned(),
            body: String::new(),
            is_encrypted: false,
            line: number,
        }));
    }
    if line.contains(BEGIN) && !line.starts_with('-') {
        return Err(PemFault::StrayText(number));
    }
    if line.starts_with(END) {
        return Err(PemFault::NoBegin(number));
    }
    let words = line.trim_matches(|c: char| !c.is_ascii_alphanumeric());
    if words.len() < line.len() && (words.starts_with("BEGIN ") && is_label(words)) {
        return Err(PemFault::Hyphens(number));
    }
    Ok(None)
}

fn is_label(text: &str) -> bool {
    let is_in_label = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b" .#".contains(&b);
    !text.is_empty() && text.bytes().all(is_in_label)
}

/// The fault of a line with text after its last hyphens.
fn behind_label(behind: &str, number: usize) -> PemFault {
    let behind = behind.trim_start();
    if behind.bytes().all(|b| b == b'-') {
        PemFault::Hyphens(number)
    } else if behind.starts_with("\\n") || behind.starts_with("\\r") {
        PemFault::EscapedLineBreaks(number)
    } else if behind.starts_with(BEGIN) {
        PemFault::Joined(number)
    } else if behind.contains(END) || behind.len() >= 48 {
        PemFault::LostLineBreaks(number)
    } else {
        PemFault::StrayText(number)
    }
}

impl Section {
    /// Reads a line within the section.
    fn next(mut self, line: &str, number: usize) -> Result<Progress, PemFault> {
        if let Some(rest) = line.strip_prefix(END) {
            return self.end(rest, number);
        }
        if line.starts_with(BEGIN) {
            return Err(PemFault::NoEnd(self.line));
        }
        if line.starts_with('-') {
            return Err(PemFault::Hyphens(number));
        }
        if line.contains("\\n") || line.contains("\\r") {
            return Err(PemFault::EscapedLineBreaks(number));
        }
        if line.contains(END) {
            return Err(PemFault::LostLineBreaks(number));
        }
        if let Some((name, value)) = line.split_once(':') {
            let is_about_encryption = name == "Proc-Type" && value.contains("ENCRYPTED");
            self.is_encrypted |= is_about_encryption;
            return Ok(Progress::Open(self));
        }
        let is_base64 = |b: u8| b.is_ascii_alphanumeric() || b"+/= \t".contains(&b);
        if !line.bytes().all(is_base64) {
            return Err(PemFault::Base64(self.line));
        }
        self.body.extend(line.split_ascii_whitespace());
        Ok(Progress::Open(self))
    }

    /// Reads the text after `-----END `.
    fn end(self, rest: &str, number: usize) -> Result<Progress, PemFault> {
        let Some((label, behind)) = rest.split_once(HYPHENS) else {
            return Err(PemFault::Hyphens(number));
        };
        match behind {
            _ if label != self.label => Err(PemFault::NoBegin(number)),
            "" => Ok(Progress::Whole(self)),
            _ => Err(behind_label(behind, number)),
        }
    }
}
