//! Entity tags: computed from the bytes of a representation, and found in `If-None-Match`.
//!
//! Called for the chat window's files and for the history. Never makes a weak tag: other bytes have
//! another tag (RFC 9110 section 8.8.1).

use std::hash::{DefaultHasher, Hasher};

/// The tag of a representation, quotes included.
pub fn of(representation: &[u8]) -> String {
    let mut hasher = DefaultHasher::new();
    hasher.write(representation);
    format!("\"{:016x}\"", hasher.finish())
}

/// Whether `If-None-Match` contains `etag`. The comparison is weak, because a proxy that recompresses
/// makes tags weak (RFC 9110 section 13.1.2).
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
    fn equal_bytes_have_equal_tags() {
        let tag = of(b"a");
        assert_eq!(tag, of(b"a"));
        assert_ne!(tag, of(b"b"));
        assert!(tag.starts_with('"') && tag.ends_with('"') && tag.len() == 18);
    }

    #[test]
    fn a_tag_is_found_in_every_form_of_the_list() {
        for list in ["\"a\"", "W/\"a\"", "*", "\"b\", \"a\"", "\"b\",W/\"a\" "] {
            assert!(any_matches(list, "\"a\""), "{list}");
        }
        for list in ["", "\"b\"", "a", "\"A\"", "\"aa\""] {
            assert!(!any_matches(list, "\"a\""), "{list}");
        }
    }
}
