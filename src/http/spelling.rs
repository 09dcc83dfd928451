//! Detects misspelled names.
//!
//! Called by `json` and `query`. They ignore unknown names, but a misspelled `sessionId` would send a
//! message for one session to everyone. Never decides what a misspelled name means.

/// The longest name that is compared, in bytes. The known names have at most 11.
const NAME_BYTES_MAX: usize = 32;

/// Whether `name` is a misspelling of `right`. Case and separators between words are ignored, and one
/// letter may be missing, added, wrong, or swapped with the next. False if `name` is `right`.
pub(super) fn is_nearly(name: &[u8], right: &str) -> bool {
    if name == right.as_bytes() || name.len() > NAME_BYTES_MAX {
        return false;
    }
    let mut letters = [[0; NAME_BYTES_MAX]; 2];
    let [name_letters, right_letters] = &mut letters;
    let name = letters_of(name, name_letters);
    let right = letters_of(right.as_bytes(), right_letters);
    is_one_slip(name, right)
}

/// The letters of a name, in lower case and without separators (`_`, `-`, a blank).
fn letters_of<'a>(name: &[u8], room: &'a mut [u8; NAME_BYTES_MAX]) -> &'a [u8] {
    let is_kept = |byte: &&u8| byte.is_ascii_alphanumeric() || !byte.is_ascii();
    let kept = name.iter().filter(is_kept).map(u8::to_ascii_lowercase);
    let mut count = 0;
    for (place, byte) in room.iter_mut().zip(kept) {
        *place = byte;
        count += 1;
    }
    &room[..count]
}

/// Whether two names are equal or differ by one edit.
fn is_one_slip(a: &[u8], b: &[u8]) -> bool {
    let same = a.iter().zip(b).take_while(|(x, y)| x == y).count();
    match (&a[same..], &b[same..]) {
        ([], rest) | (rest, []) => rest.len() <= 1,
        ([x, a_rest @ ..], [y, b_rest @ ..]) => {
            let is_swapped = |a: &[u8], b: &[u8]| {
                a.first() == Some(y) && b.first() == Some(x) && a[1..] == b[1..]
            };
            a_rest == b_rest
                || a_rest == &b[same..]
                || &a[same..] == b_rest
                || is_swapped(a_rest, b_rest)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_spellings_and_typing_errors_are_detected() {
        for name in [
            "session_id",
            "sessionID",
            "SessionId",
            "SessionID",
            "session-id",
            "Session-ID",
            "sessionid",
            "SESSION_ID",
            "session id",
            "session.id",
            " sessionId",
            "sessionId\n",
            "sesionId",
            "sessionIds",
            "sessionI",
            "sessionld",
            "sessoinId",
            "session_di",
            "x_sessionId",
        ] {
            assert!(is_nearly(name.as_bytes(), "sessionId"), "{name}");
        }
        for name in [
            "lasteventid",
            "last_event_id",
            "Last-Event-ID",
            "lastEventID",
        ] {
            assert!(is_nearly(name.as_bytes(), "lastEventId"), "{name}");
        }
    }

    #[test]
    fn the_name_itself_and_other_names_are_accepted() {
        for name in [
            "sessionId",
            "",
            "session",
            "sessions",
            "id",
            "sid",
            "sessionKey",
            "sessionToken",
            "userSessionId",
            "sessionIdentifier",
            "message",
            "missionIds",
            "sessi\u{f6}nId",
            "sessionId_sessionId_sessionId_sessionId",
        ] {
            assert!(!is_nearly(name.as_bytes(), "sessionId"), "{name}");
        }
        assert!(!is_nearly(&[b's'; 1000], "sessionId"));
        assert!(!is_nearly(b"\xff\xed\xa0\x80", "sessionId"));
    }

    /// Every single edit of the letters, exhaustively.
    #[test]
    fn every_single_edit_is_detected() {
        let right = b"abcd";
        let mut edits: Vec<Vec<u8>> = vec![right.to_vec()];
        for at in 0..=right.len() {
            let (before, after) = right.split_at(at);
            edits.push([before, b"x", after].concat());
            if let [first, rest @ ..] = after {
                edits.push([before, rest].concat());
                edits.push([before, b"x", rest].concat());
                if let [second, rest @ ..] = rest {
                    edits.push([before, &[*second, *first], rest].concat());
                }
            }
        }
        for edit in edits {
            assert!(is_one_slip(&edit, right), "{}", edit.escape_ascii());
            assert!(is_one_slip(right, &edit), "{}", edit.escape_ascii());
        }
        for other in [
            &b"abcdxx"[..],
            b"ab",
            b"xbcx",
            b"badc",
            b"xabcdx",
            b"dcba",
            b"",
        ] {
            assert!(!is_one_slip(other, right), "{}", other.escape_ascii());
        }
    }
}
