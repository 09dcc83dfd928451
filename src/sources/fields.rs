//! Header fields of a request to a source.
//!
//! Used by schemes and presets. Never decides what a missing field means.

use std::fmt;

use crate::limits::HEADERS_MAX;

/// Header fields in order. Names compare without case.
#[derive(Clone, Default)]
pub struct Fields<'a>(Vec<(&'a str, &'a [u8])>);

/// A field occurs twice, where two values contradict each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Repeated;

impl<'a> Fields<'a> {
    /// Parses a request head with its request line. `None` if it is none: the caller has parsed it
    /// before, so this is a fault of the caller.
    pub fn parse(head: &'a [u8]) -> Option<Fields<'a>> {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut request = httparse::Request::new(&mut headers);
        match request.parse(head) {
            Ok(httparse::Status::Complete(_)) => {}
            _ => return None,
        }
        Some(Fields::from_pairs(
            request
                .headers
                .iter()
                .map(|header| (header.name, header.value)),
        ))
    }

    /// Fields from names and values.
    pub fn from_pairs(pairs: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Fields<'a> {
        Fields(pairs.into_iter().collect())
    }

    /// The value of a field, without white space around it. `None` if there is none.
    pub fn get_once(&self, name: &str) -> Result<Option<&'a [u8]>, Repeated> {
        let mut values = self.values(name);
        match (values.next(), values.next()) {
            (value, None) => Ok(value),
            _ => Err(Repeated),
        }
    }

    /// The first value of a field as text, where a second one does no harm.
    pub fn text(&self, name: &str) -> Option<&'a str> {
        let value = self.values(name).next()?;
        std::str::from_utf8(value).ok()
    }

    /// Whether there is such a field.
    pub fn has(&self, name: &str) -> bool {
        self.values(name).next().is_some()
    }

    fn values(&self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        self.0
            .iter()
            .filter(move |(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim_ascii())
    }
}

impl fmt::Debug for Fields<'_> {
    /// Shows names only: values can be tags and secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.0.iter().map(|(name, _)| name))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_no_case_and_values_no_white_space_around_them() {
        let head = b"POST /api/webhook/in/a HTTP/1.1\r\nHost: a\r\nX-Sum: \t one \r\nx-sum:two\r\n\
                     Empty:\r\n\r\n";
        let fields = Fields::parse(head).unwrap();
        assert_eq!(fields.get_once("HOST"), Ok(Some(b"a".as_slice())));
        assert_eq!(fields.get_once("X-SUM"), Err(Repeated));
        assert_eq!(fields.text("x-Sum"), Some("one"));
        assert_eq!(fields.get_once("empty"), Ok(Some(b"".as_slice())));
        assert_eq!(fields.get_once("none"), Ok(None));
        assert!(fields.has("Empty") && !fields.has("none"));
        assert_eq!(
            format!("{fields:?}"),
            r#"["Host", "X-Sum", "x-sum", "Empty"]"#
        );
    }

    #[test]
    fn what_is_no_whole_head_has_no_fields() {
        for head in ["", "POST / HTTP/1.1\r\nHost: a\r\n", "\0\r\n\r\n"] {
            assert!(Fields::parse(head.as_bytes()).is_none(), "{head:?}");
        }
        let many = format!(
            "POST / HTTP/1.1\r\n{}\r\n",
            "a: b\r\n".repeat(HEADERS_MAX + 1)
        );
        assert!(Fields::parse(many.as_bytes()).is_none());
    }
}
