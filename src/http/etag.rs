//! Entity tags: made from the bytes they stand for, and looked up in `If-None-Match`.
//!
//! Used by the chat window's files and by the history. Always strong: what differs in one byte has
//! another tag (RFC 9110 section 8.8.1).

use std::hash::{DefaultHasher, Hasher};

/// The tag of a representation, quotes included.
pub fn of(representation: &[u8]) -> String {
    let mut hasher = DefaultHasher::new();
    hasher.write(representation);
    format!("\"{:016x}\"", hasher.finish())
}

/// Whether `If-None-Match` holds `etag`, by weak comparison: a proxy that recompresses makes tags weak
/// (RFC 9110 section 13.1.2).
pub fn any_matches(if_none_match: &str, etag: &str) -> bool {
    if_none_match
        .split(',')
        .map(str::trim)
        .any(|tag| tag == "*" || tag.trim_start_matches("W/") == etag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_that_of_the_bytes() {
        let tag = of(b"a");
        assert_eq!(tag, of(b"a"));
        assert_ne!(tag, of(b"b"));
        assert!(tag.starts_with('"') && tag.ends_with('"') && tag.len() == 18);
    }

    #[test]
    fn a_tag_is_found_in_any_form_of_the_list() {
        for list in ["\"a\"", "W/\"a\"", "*", "\"b\", \"a\"", "\"b\",W/\"a\" "] {
            assert!(any_matches(list, "\"a\""), "{list}");
        }
        for list in ["", "\"b\"", "a", "\"A\"", "\"aa\""] {
            assert!(!any_matches(list, "\"a\""), "{list}");
        }
    }
}
