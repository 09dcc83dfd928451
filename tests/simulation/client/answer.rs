//! The answers to requests: their heads, receipts and errors.

use memchr::memmem;

use super::super::model::Fate;
use super::super::stream::number;
use super::{RETRY_SLACK_MS, Surroundings};

/// The head of an answer.
pub struct Answer {
    pub status: u16,
    pub head_bytes: usize,
    fields: Vec<(String, String)>,
    pub length: Option<usize>,
    pub closes: bool,
}

impl Answer {
    /// Parses the first head, if it is complete (RFC 9112 section 2.1).
    pub fn parse(bytes: &[u8]) -> Option<Answer> {
        let head_bytes = memmem::find(bytes, b"\r\n\r\n")? + 4;
        let head = str::from_utf8(&bytes[..head_bytes - 4]).expect("a head is ASCII");
        let mut lines = head.split("\r\n");
        let line = lines.next().unwrap_or_default();
        let status = line
            .strip_prefix("HTTP/1.1 ")
            .and_then(|rest| rest.get(..3)?.parse().ok());
        let status = status.unwrap_or_else(|| panic!("no status line: {line:?}"));
        let fields: Vec<(String, String)> = lines
            .map(|line| {
                let (name, value) = line
                    .split_once(": ")
                    .unwrap_or_else(|| panic!("no field: {line:?}"));
                assert!(
                    !name.is_empty()
                        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
                );
                assert!(!value.contains(['\r', '\n', '\0']));
                (name.to_owned(), value.to_owned())
            })
            .collect();
        let mut answer = Answer {
            status,
            head_bytes,
            fields,
            length: None,
            closes: false,
        };
        answer.length = answer
            .get("Content-Length")
            .map(|length| number(length) as usize);
        answer.closes = answer.get("Connection") == Some("close");
        Some(answer)
    }

    fn get(&self, name: &str) -> Option<&str> {
        let mut found = self
            .fields
            .iter()
            .filter(|(known, _)| known.eq_ignore_ascii_case(name));
        let value = found.next().map(|(_, value)| value.as_str());
        assert!(found.next().is_none(), "{name} twice");
        value
    }

    pub fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// Checks the fields of every final answer.
    pub fn assert_common_fields(&self, is_http10: bool) {
        let date = self.get("Date").expect("every answer has a date");
        assert!(httpdate::parse_http_date(date).is_ok(), "{date}");
        assert_eq!(self.get("Access-Control-Allow-Origin"), Some("*"));
        assert!(!(self.has("Content-Length") && self.has("Transfer-Encoding")));
        assert!(
            !(is_http10 && self.has("Transfer-Encoding")),
            "chunks in HTTP/1.0"
        );
        if is_http10 && !self.closes {
            assert_eq!(self.get("Connection"), Some("keep-alive"));
        }
    }

    /// Fails unless a stream is compressed as it should be.
    pub fn assert_coding(&self, is_gzip: bool) {
        let coding = is_gzip.then_some("gzip");
        assert_eq!(self.get("Content-Encoding"), coding);
    }

    /// Checks the fields of a stream. Returns for how many seconds a cache may add clients to it.
    pub fn assert_stream(&self, is_http10: bool, is_shared: bool) -> u64 {
        assert_eq!(
            self.get("Content-Type"),
            Some("text/event-stream; charset=utf-8")
        );
        let cache = self
            .get("Cache-Control")
            .expect("a stream has Cache-Control");
        let shared_s = cache
            .strip_prefix("public, max-age=0, s-maxage=")
            .and_then(|rest| rest.strip_suffix(", no-transform"))
            .map(number);
        assert_eq!(shared_s.is_some(), is_shared, "{cache}");
        assert!(
            is_shared || cache == "private, no-store, no-transform",
            "{cache}"
        );
        let vary = self.get("Vary");
        let is_private = |vary: &str| vary.starts_with("X-Webhook-Secret");
        assert_eq!(vary.is_some_and(is_private), is_shared, "{vary:?}");
        assert!(
            !is_shared || self.closes,
            "a shared stream does not close its connection"
        );
        assert_eq!(self.get("X-Accel-Buffering"), Some("no"));
        let coding = (!is_http10).then_some("chunked");
        assert_eq!(self.get("Transfer-Encoding"), coding);
        assert!(
            !is_http10 || self.closes,
            "a stream in HTTP/1.0 does not close its connection"
        );
        shared_s.unwrap_or(0)
    }
}

/// Checks the answer to a webhook.
pub fn check_receipt(
    key: usize,
    status: u16,
    text: &str,
    read_ms: Option<u64>,
    around: &mut Surroundings<'_>,
) {
    let fate = around.model.offers[key].fate;
    if status == 500 {
        let fails_until_ms = around
            .ring_failed_ms
            .map(|failed_ms| failed_ms + RETRY_SLACK_MS);
        assert!(fails_until_ms >= read_ms, "500, but the ring works");
        assert_eq!(fate, Fate::Open, "answered with 500, but stored");
        around.model.offers[key].fate = if around.has_commits {
            Fate::Failed
        } else {
            Fate::Refused
        };
        return assert_error(text);
    }
    assert_eq!(status, 200, "{text}");
    let Fate::Stored(seq) = fate else {
        panic!("acknowledged, but not stored: {fate:?}");
    };
    let stored = around.model.get(seq).expect("it is stored");
    assert!(
        seq < around.node.log.head_seq(),
        "acknowledged before it is in the shard's own log"
    );
    let expected = format!(
        "{{\"success\":true,\"messageId\":\"{}\",\"timestamp\":{}}}",
        stored.id, stored.timestamp_ms
    );
    assert_eq!(text, expected);
}

/// Checks the body of an error.
pub fn assert_error(text: &str) {
    if text.is_empty() {
        return; // The answer to a HEAD.
    }
    let value: serde_json::Value = serde_json::from_str(text).expect("an error is JSON");
    let members = value.as_object().expect("an object");
    let names: Vec<&str> = members.keys().map(String::as_str).collect();
    assert!(names == ["error"] || names == ["detail", "error"], "{text}");
    assert!(members.values().all(serde_json::Value::is_string), "{text}");
}
