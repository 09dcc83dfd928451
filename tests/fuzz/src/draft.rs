//! The bounds that every draft of a source keeps, whatever its file and its request are. The targets `source` and
//! `sources_file` check their drafts with this. Never makes a draft.

use hookcast::limits::{EVENT_TYPE_BYTES_MAX, SESSION_BYTES_MAX};
use hookcast::message::Draft;
use hookcast::sources::Source;

use crate::sources_at_hand::CONTENT_BYTES_MAX;

/// Panics if the draft is blank, exceeds a bound, or lacks the label of its source.
pub fn check(source: &Source, draft: &Draft) {
    let session = draft
        .session
        .as_ref()
        .map(hookcast::message::SessionId::as_str);
    let session_bytes = session.map_or(0, str::len);
    assert!(draft.content.len() + session_bytes <= CONTENT_BYTES_MAX);
    assert!(!draft.content.trim().is_empty(), "a blank message");
    assert!(session_bytes <= SESSION_BYTES_MAX);
    assert_ne!(session.map(str::trim), Some(""), "a blank session");
    let label = draft.label.as_ref();
    let label = label.expect("a source's message has a label");
    assert_eq!(label.source(), source.name());
    assert!(label.event().len() <= EVENT_TYPE_BYTES_MAX);
    assert!(!label.event().chars().any(char::is_control));
    if let Some(identity) = &draft.identity {
        assert!(identity.id.is_some() || identity.tag.is_some());
        assert!(identity.window_s > 0);
    }
}
