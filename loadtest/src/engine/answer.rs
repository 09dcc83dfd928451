//! Reads the answers to posted messages: status, length, and whether the connection goes on.
//!
//! Used by `publisher`. Takes bytes and knows no sockets.

/// One complete answer.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// Bytes of head and body.
    pub length: usize,
    /// The server ends the connection after this answer.
    pub closes: bool,
}

/// The first answer in `input`; `None` while it is incomplete.
pub fn parse(input: &[u8]) -> Result<Option<Answer>, &'static str> {
    let mut fields = [httparse::EMPTY_HEADER; 64];
    let mut response = httparse::Response::new(&mut fields);
    let head = match response.parse(input) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(_) => return Err("an answer that is not HTTP"),
    };
    let status = response.code.unwrap_or(0);
    let field = |name: &str| {
        let field = response
            .headers
            .iter()
            .find(|field| field.name.eq_ignore_ascii_case(name));
        field.map(|field| field.value)
    };
    let is_http_1_0 = response.version == Some(0);
    let closes = match field("connection") {
        Some(value) if value.eq_ignore_ascii_case(b"close") => true,
        Some(value) if value.eq_ignore_ascii_case(b"keep-alive") => false,
        _ => is_http_1_0,
    };
    let body = if let Some(length) = field("content-length") {
        let length = std::str::from_utf8(length)
            .ok()
            .and_then(|text| text.trim().parse().ok());
        length.ok_or("an answer with a broken Content-Length")?
    } else if field("transfer-encoding").is_some() {
        // The body is not parsed: acknowledgements are short, so a search for the last chunk is enough.
        match memchr::memmem::find(&input[head..], b"0\r\n\r\n") {
            Some(at) => at + 5,
            None => return Ok(None),
        }
    } else if status == 204 || status == 304 {
        0
    } else if closes {
        // The connection's end delimits the body, which nothing reads.
        input.len() - head
    } else {
        return Err("an answer without a length");
    };
    let length = head + body;
    Ok((input.len() >= length).then_some(Answer {
        status,
        length,
        closes,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_parsed_one_at_a_time_when_complete() {
        let first = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello".as_slice();
        let two = [first, b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n"].concat();
        for cut in 0..first.len() {
            assert_eq!(parse(&two[..cut]), Ok(None), "cut at {cut}");
        }
        let answer = parse(&two).unwrap().unwrap();
        assert_eq!(
            answer,
            Answer {
                status: 200,
                length: first.len(),
                closes: false,
            }
        );
        let answer = parse(&two[answer.length..]).unwrap().unwrap();
        assert_eq!(answer.status, 503);
    }

    #[test]
    fn chunked_bodies_and_answers_without_a_body_are_parsed() {
        let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n";
        assert_eq!(parse(chunked).unwrap().unwrap().length, chunked.len());
        assert_eq!(parse(&chunked[..chunked.len() - 1]), Ok(None));
        let last = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
        assert!(parse(last).unwrap().unwrap().closes);
        let empty = b"HTTP/1.1 204 No Content\r\n\r\n";
        assert_eq!(parse(empty).unwrap().unwrap().length, empty.len());
        assert!(parse(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
        let answer = parse(b"HTTP/1.0 200 OK\r\n\r\nwell").unwrap().unwrap();
        assert_eq!((answer.length, answer.closes), (23, true));
        assert!(parse(b"nonsense\r\n\r\n").is_err());
    }
}
