//! An answer, and the evidence of its origin: hookcast itself, or a hop in front of it.
//!
//! Made by [`probe`](super::probe), read by [`judge`](super::judge). Text of a server leaves this module
//! only as a quote. Never does I/O.

use serde::Deserialize;
use ureq::Body;
use ureq::http::Response;

use crate::foreign_text::{ForeignText, Secrets};
use crate::limits::DOCTOR_BODY_BYTES_MAX;

/// The status line and the header fields of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// Such as 200.
    pub status: u16,
    /// Such as `HTTP/1.1`.
    pub version: String,
    /// Names in lower case.
    pub fields: Vec<(String, ForeignText)>,
}

/// An answer with its body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Its head.
    pub head: Head,
    /// Its body; empty if that is longer than [`DOCTOR_BODY_BYTES_MAX`] or incomplete.
    pub body: ForeignText,
}

/// The body of hookcast's errors. A body with other members is another application's.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ErrorBody {
    error: String,
    detail: Option<String>,
}

/// The body of hookcast's status.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StatusBody {
    status: String,
}

impl Head {
    pub(super) fn of(response: &Response<Body>) -> Head {
        let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned().into();
        let fields = response.headers().iter();
        Head {
            status: response.status().as_u16(),
            version: format!("{:?}", response.version()),
            fields: fields
                .map(|(name, value)| (name.as_str().to_owned(), text(value.as_bytes())))
                .collect(),
        }
    }

    /// The value of a field, by its name in lower case. Of several lines of the field the first.
    pub fn field(&self, name: &str) -> Option<&ForeignText> {
        self.lines(name).next()
    }

    /// Whether a line of a field contains `part`, ignoring case. `part` is in lower case.
    pub(super) fn mentions(&self, name: &str, part: &str) -> bool {
        self.lines(name)
            .any(|value| value.as_str().to_ascii_lowercase().contains(part))
    }

    /// The values of all lines of a field.
    fn lines(&self, name: &str) -> impl Iterator<Item = &ForeignText> {
        let found = self.fields.iter().filter(move |(other, _)| other == name);
        found.map(|(_, value)| value)
    }
}

impl Answer {
    pub(super) fn of(response: Response<Body>) -> Answer {
        let head = Head::of(&response);
        let mut body = response.into_body();
        let body = body
            .with_config()
            .limit(DOCTOR_BODY_BYTES_MAX)
            .lossy_utf8(true);
        Answer {
            head,
            // A body that is incomplete or too long becomes empty, which fails the checks.
            body: body.read_to_string().unwrap_or_default().into(),
        }
    }

    /// Whether this is hookcast's answer to `GET /api/webhook`. The body alone would be weak
    /// evidence, because other servers answer a health check alike. Only hookcast may get the
    /// secret.
    pub(super) fn is_own_status(&self) -> bool {
        let body: Result<StatusBody, _> = serde_json::from_str(self.body.as_str());
        self.head.status == 200
            && self.has_own_fields()
            && body.is_ok_and(|body| body.status == "ok")
    }

    /// Whether the head has two fields as hookcast writes them.
    fn has_own_fields(&self) -> bool {
        let is = |name: &str, value: &str| {
            let field = self.head.field(name);
            field.is_some_and(|field| field.as_str().eq_ignore_ascii_case(value))
        };
        is("content-type", "application/json") && is("x-content-type-options", "nosniff")
    }

    /// The text of an error answer of hookcast itself. The form of the body alone would be weak evidence:
    /// other applications use it too, but not with these two header fields as hookcast writes them.
    pub(super) fn own_error(&self) -> Option<ForeignText> {
        if !self.has_own_fields() {
            return None;
        }
        let body: ErrorBody = serde_json::from_str(self.body.as_str()).ok()?;
        Some(match body.detail {
            None => body.error.into(),
            Some(detail) => format!("{}: {detail}", body.error).into(),
        })
    }

    /// The text of the body in quotation marks, without the tags of HTML.
    pub(super) fn quote_body(&self, secrets: &Secrets) -> String {
        let text = text_of(self.body.as_str());
        // After the tags are removed, because a tag may split a secret.
        let quoted = ForeignText::from(text).quote(secrets);
        let quoted = quoted.replace("\\u{d}", "").replace("\\u{a}", " ");
        match quoted.trim() {
            "" => "an empty body".into(),
            quoted => format!("\"{quoted}\""),
        }
    }
}

/// The visible text of a page, without tags, styles and scripts. Parts are separated by one line break.
fn text_of(body: &str) -> String {
    let body = body.trim();
    if !body.starts_with('<') {
        return body.to_owned();
    }
    // ASCII lower case keeps the length, so an index is valid in both texts.
    let lower = body.to_ascii_lowercase();
    let mut text = String::new();
    let mut at = 0;
    while let Some(before) = lower[at..].find('<') {
        push_line(&mut text, &body[at..at + before]);
        at += before;
        let end = ["<style", "<script"]
            .iter()
            .find(|name| lower[at..].starts_with(**name))
            .map_or("", |name| &name[1..]);
        let closing = match end {
            "" => Some(0),
            name => lower[at..].find(&format!("</{name}")),
        };
        let tag_end = closing.and_then(|closing| {
            let from = at + closing;
            lower[from..].find('>').map(|length| from + length + 1)
        });
        at = tag_end.unwrap_or(body.len());
    }
    push_line(&mut text, &body[at..]);
    text
}

fn push_line(text: &mut String, line: &str) {
    let line = line.trim();
    if !line.is_empty() {
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, fields: &[(&str, &str)], body: &str) -> Answer {
        let text = |text: &str| ForeignText::from(text.to_owned());
        let fields = fields.iter();
        Answer {
            head: Head {
                status,
                version: "HTTP/1.1".into(),
                fields: fields
                    .map(|(name, value)| ((*name).into(), text(value)))
                    .collect(),
            },
            body: text(body),
        }
    }

    const OWN: [(&str, &str); 2] = [
        ("content-type", "application/json"),
        ("x-content-type-options", "nosniff"),
    ];

    #[test]
    fn errors_of_hookcast_are_distinguished_from_those_of_other_servers() {
        let error = |fields: &[(&str, &str)], body: &str| {
            let error = answer(404, fields, body).own_error();
            error.map(|error| error.as_str().to_owned())
        };
        let own = r#"{"error":"Not found"}"#;
        assert_eq!(error(&OWN, own).as_deref(), Some("Not found"));
        let detailed = r#"{"error":"Unauthorized","detail":"the header is missing"}"#;
        let expected = "Unauthorized: the header is missing";
        assert_eq!(error(&OWN, detailed).as_deref(), Some(expected));
        assert_eq!(error(&OWN[..1], own), None);
        assert_eq!(error(&OWN[1..], own), None);
        let express = ("content-type", "application/json; charset=utf-8");
        assert_eq!(error(&[express, OWN[1]], own), None);
        for other in [
            "",
            "<html>404</html>",
            r#"{"error":1}"#,
            r#"{"error":"Not found","code":404}"#,
            r#"{"detail":"Not Found"}"#,
            r#""error""#,
        ] {
            assert_eq!(error(&OWN, other), None, "{other}");
        }
    }

    #[test]
    fn the_status_of_hookcast_is_distinguished_from_other_pages() {
        assert!(answer(200, &OWN, r#"{"status":"ok"}"#).is_own_status());
        for (status, body) in [
            (200, ""),
            (200, "<html>Welcome</html>"),
            (200, r#"{"status":"ok","uptime":1}"#),
            (200, r#"{"status":"up"}"#),
            (500, r#"{"status":"ok"}"#),
        ] {
            assert!(!answer(status, &OWN, body).is_own_status(), "{body}");
        }
    }

    #[test]
    fn a_page_is_quoted_as_its_text() {
        let quote =
            |body: &str| answer(404, &[], body).quote_body(&Secrets::default().with("s3cret"));
        for (body, expected) in [
            ("", "an empty body"),
            (" \r\n", "an empty body"),
            ("<br>", "an empty body"),
            ("{\"a\":\"<b>\"}", "\"{\"a\":\"<b>\"}\""),
            (
                "<html>\r\n<head><title>404 Not Found</title></head>\r\n<hr>nginx</html>",
                "\"404 Not Found nginx\"",
            ),
            (
                "<style>a > b { x }</style><SCRIPT>if (a < b) {}</script>Hello",
                "\"Hello\"",
            ),
            ("<style>no end", "an empty body"),
            ("<p>s3<b>cret</p>", "\"s3 cret\""),
            ("<p>a s3cret</p>", "\"a [secret]\""),
            ("<", "an empty body"),
            ("<é", "an empty body"),
        ] {
            assert_eq!(quote(body), expected, "{body}");
        }
    }
}
