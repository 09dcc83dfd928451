//! Judges whether the history can be read. It is the alternative for networks that block streams.

use serde::Deserialize;

use super::{Context, refusal};
use crate::doctor::answer::Answer;
use crate::doctor::finding::{Fault, Finding, HISTORY, Party};
use crate::doctor::hop::Trouble;
use crate::doctor::probe::{Asked, CONTENT};
use crate::limits::DOCTOR_EVENT_ID_BYTES_MAX;

const REQUEST: &str = "GET /api/webhook/messages";

/// The part of a history that is checked.
#[derive(Deserialize)]
struct Page {
    messages: Vec<serde::de::IgnoredAny>,
    #[serde(rename = "lastEventId")]
    last_event_id: Option<String>,
}

/// The number of messages in the session's history, and the event id of the last; `None` if it is empty.
pub(in crate::doctor) fn kept(history: &Asked) -> Option<(u64, String)> {
    let page: Page = serde_json::from_str(history.as_ref().ok()?.body.as_str()).ok()?;
    let kept = page.messages.len() as u64;
    page.last_event_id
        .filter(|id| kept > 0 && is_event_id(id))
        .map(|id| (kept, id))
}

/// Whether this is safe in a header field: an event id is sent back as `Last-Event-ID`.
fn is_event_id(id: &str) -> bool {
    (1..=DOCTOR_EVENT_ID_BYTES_MAX).contains(&id.len())
        && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

/// Judges the history after `posted` messages. `before` is the history without them.
pub(in crate::doctor) fn history(
    history: &Asked,
    before: Option<&Asked>,
    posted: usize,
    context: &Context<'_>,
) -> Finding {
    let answer = match history {
        Err(fault) => return Finding::failed(HISTORY, fault.clone()),
        Ok(answer) if answer.head.status != 200 => {
            return Finding::failed(HISTORY, refusal::fault(REQUEST, answer, context));
        }
        Ok(answer) => answer,
    };
    let failed = |seen: String, trouble| {
        let fault = Fault::new(Party::Proxy, seen, context.hops.remedy(trouble));
        Finding::failed(HISTORY, fault)
    };
    let shown = answer.body.as_str().matches(CONTENT).count();
    if shown < posted && is_same(answer, before) {
        let seen = format!(
            "{REQUEST} shows {shown} of {posted} messages, the same as before they were posted: a cache answers"
        );
        return failed(seen, Trouble::Cache);
    }
    if shown < posted {
        let seen =
            format!("{REQUEST} shows {shown} of {posted} messages: its query does not arrive");
        return failed(seen, Trouble::Path);
    }
    if !answer.head.mentions("cache-control", "no-store") {
        let seen = "a session's history came without no-store: a cache may show it to others";
        return failed(seen.into(), Trouble::AnswerFields);
    }
    Finding::passed(
        HISTORY,
        format!("{REQUEST} works, for clients that streams do not reach"),
    )
}

fn is_same(answer: &Answer, before: Option<&Asked>) -> bool {
    matches!(before, Some(Ok(before)) if before.body == answer.body)
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{answer, blames, context};
    use super::*;
    use crate::check::Verdict;
    use crate::foreign_text::Secrets;

    const PRIVATE: [(&str, &str); 1] = [("cache-control", "private, no-store")];
    const SHOWN: &str =
        r#"{"messages":[{"content":"hookcast doctor, message 1"}],"lastEventId":"a-1"}"#;
    const EMPTY: &str = r#"{"messages":[],"lastEventId":null}"#;

    #[test]
    fn a_history_that_is_old_or_partial_is_noticed() {
        let secrets = Secrets::default();
        let context = context("https://hooks.example", &secrets);
        let found = |fields: &[(&str, &str)], body: &str, before: &str| {
            let before = Ok(answer(200, &PRIVATE, before));
            history(&Ok(answer(200, fields, body)), Some(&before), 1, &context)
        };
        assert_eq!(found(&PRIVATE, SHOWN, EMPTY).verdict, Verdict::Passed);
        blames(
            &found(&[], SHOWN, EMPTY),
            Party::Proxy,
            "no-store",
            "proxy_hide_header",
        );
        blames(
            &found(&PRIVATE, EMPTY, EMPTY),
            Party::Proxy,
            "a cache answers",
            "no proxy_cache",
        );
        let other = r#"{"messages":[{}],"lastEventId":null}"#;
        blames(
            &found(&PRIVATE, EMPTY, other),
            Party::Proxy,
            "query",
            "proxy_pass",
        );
        let page = Ok(answer(404, &[("server", "nginx")], ""));
        let finding = history(&page, None, 0, &context);
        blames(&finding, Party::Proxy, "404, not by hookcast", "location");
    }

    #[test]
    fn the_messages_of_a_history_are_counted() {
        let kept = |body: &str| kept(&Ok(answer(200, &[], body)));
        assert_eq!(kept(SHOWN), Some((1, "a-1".into())));
        for body in [
            EMPTY,
            "",
            "{}",
            r#"{"messages":[1],"lastEventId":"a\r\nb"}"#,
            r#"{"messages":[1],"lastEventId":""}"#,
        ] {
            assert_eq!(kept(body), None, "{body}");
        }
    }
}
