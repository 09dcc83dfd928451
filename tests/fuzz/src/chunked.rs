//! Chunked bodies: an encoded body is decoded again, and a minimal reader of RFC 9112 section 7.1 decodes each
//! accepted body alike. Request smuggling needs two readers that disagree.

use arbitrary::Unstructured;
use hookcast::http::{Progress, RequestReader};
use hookcast::limits::READ_BYTES;

const BODY_BYTES_MAX: usize = 2000;
const HEAD: &[u8] = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";

pub fn run(bytes: &[u8]) {
    let mut input = Unstructured::new(bytes);
    let (Ok(cut), Ok(sizes)) = (input.arbitrary::<u8>(), input.arbitrary::<[u8; 3]>()) else {
        return;
    };
    let bytes = input.take_rest();
    let cut = usize::from(cut) + 1;
    if let Some((body, used)) = decode(bytes, cut) {
        assert_eq!(plainly(bytes), Some((body, used)), "readers disagree");
    }
    let body = &bytes[..bytes.len().min(BODY_BYTES_MAX)];
    let encoded = encode(body, sizes);
    assert_eq!(decode(&encoded, cut), Some((body.to_vec(), encoded.len())));
}

/// The body and its length in the input, if it is complete and valid. The bytes arrive in pieces.
fn decode(bytes: &[u8], cut: usize) -> Option<(Vec<u8>, usize)> {
    let mut reader = RequestReader::new(Vec::new(), BODY_BYTES_MAX);
    reader.push(HEAD);
    let mut pushed = 0;
    let mut progress = reader.poll();
    for piece in bytes.chunks(cut.min(READ_BYTES)) {
        if progress != Ok(Progress::Incomplete) {
            break;
        }
        reader.push(piece);
        pushed += piece.len();
        progress = reader.poll();
    }
    if progress != Ok(Progress::Complete) {
        return None;
    }
    let body = reader.request()?.body.to_vec();
    // Bytes after the body belong to the next request. The decoder does not return the end of the body, which
    // is the shortest complete input.
    reader.consume();
    let is_exact = |end: usize| {
        let mut reader = RequestReader::new(Vec::new(), BODY_BYTES_MAX);
        [HEAD, &bytes[..end]]
            .iter()
            .flat_map(|part| part.chunks(READ_BYTES))
            .any(|piece| {
                reader.push(piece);
                reader.poll() == Ok(Progress::Complete)
            })
    };
    let least = pushed.saturating_sub(cut);
    let used = (least..=pushed).find(|&end| is_exact(end));
    Some((body, used.expect("the complete input is complete")))
}

/// The minimal reader. It omits checks that do not affect the end of a body.
fn plainly(bytes: &[u8]) -> Option<(Vec<u8>, usize)> {
    let mut body = Vec::new();
    let mut at = 0;
    let line = |at: usize| {
        let end = memchr::memmem::find(&bytes[at..], b"\r\n")? + at;
        Some((&bytes[at..end], end + 2))
    };
    loop {
        let (text, after) = line(at)?;
        let digits = text.iter().take_while(|b| b.is_ascii_hexdigit()).count();
        let digits = str::from_utf8(&text[..digits]).ok()?;
        let size = usize::from_str_radix(digits, 16).ok()?;
        at = after;
        if size == 0 {
            break;
        }
        body.extend_from_slice(bytes.get(at..at + size)?);
        at += size;
        if bytes.get(at..at + 2)? != b"\r\n" {
            return None;
        }
        at += 2;
    }
    loop {
        let (text, after) = line(at)?;
        at = after;
        if text.is_empty() {
            return Some((body, at));
        }
    }
}

fn encode(body: &[u8], sizes: [u8; 3]) -> Vec<u8> {
    let mut encoded = Vec::new();
    let mut rest = body;
    for size in sizes.iter().cycle() {
        let (chunk, after) = rest.split_at(usize::from(*size).max(1).min(rest.len()));
        rest = after;
        let extension = if size.is_multiple_of(3) {
            ";a=\"\\\"\"; b"
        } else {
            ""
        };
        encoded.extend_from_slice(format!("{:X}{extension}\r\n", chunk.len()).as_bytes());
        if chunk.is_empty() {
            break;
        }
        encoded.extend_from_slice(chunk);
        encoded.extend_from_slice(b"\r\n");
    }
    let trailer: &[u8] = if sizes[0].is_multiple_of(2) {
        b"Last: yes\r\n"
    } else {
        b""
    };
    encoded.extend_from_slice(trailer);
    encoded.extend_from_slice(b"\r\n");
    encoded
}
