//! Patterns of events: `push`, `pull_request.*`, `issue*`, `*`.
//!
//! Used for a source's `events` and for the names of its templates. Never parses an event's type.

/// A set of event types.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pattern {
    /// This type alone.
    Exact(String),
    /// All types that begin with the text. For `pull_request.*` also `pull_request`.
    Prefix(String),
}

impl Pattern {
    /// Parses a pattern. `None` if it is empty, or has `*` elsewhere than at its end.
    pub fn parse(text: &str) -> Option<Pattern> {
        let pattern = match text.strip_suffix('*') {
            Some(prefix) => Pattern::Prefix(prefix.to_owned()),
            None => Pattern::Exact(text.to_owned()),
        };
        let has_inner_star = text.trim_end_matches('*').contains('*') || text.ends_with("**");
        (!text.is_empty() && !has_inner_star).then_some(pattern)
    }

    /// Whether the event is one of the set.
    pub fn matches(&self, event: &str) -> bool {
        match self {
            Pattern::Exact(name) => event == name,
            Pattern::Prefix(prefix) => {
                event.starts_with(prefix.as_str()) || prefix.strip_suffix('.') == Some(event)
            }
        }
    }

    /// Orders the patterns that match an event: the larger one says more about it.
    pub fn weight(&self) -> usize {
        match self {
            Pattern::Exact(_) => usize::MAX,
            Pattern::Prefix(prefix) => prefix.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_a_type_or_the_beginning_of_one() {
        let cases = [
            ("push", "push", true),
            ("push", "push.x", false),
            ("push", "pus", false),
            ("pull_request.*", "pull_request.opened", true),
            ("pull_request.*", "pull_request", true),
            ("pull_request.*", "pull_request_review.submitted", false),
            ("pull_request*", "pull_request_review.submitted", true),
            ("*", "", true),
            ("*", "anything", true),
            ("Push Hook", "Push Hook", true),
            ("push", "Push", false),
        ];
        for (pattern, event, expected) in cases {
            let pattern = Pattern::parse(pattern).unwrap();
            assert_eq!(pattern.matches(event), expected, "{pattern:?} {event}");
        }
    }

    #[test]
    fn a_star_stands_at_the_end() {
        for text in ["", "*x", "a*b", "a.*.b", "**", "a**"] {
            assert_eq!(Pattern::parse(text), None, "{text}");
        }
    }
}
