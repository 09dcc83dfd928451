//! Judges whether the head of a stream arrives as hookcast sends it.

use super::Context;
use crate::doctor::answer::Head;
use crate::doctor::finding::{COMPRESSION, Fault, Finding, HEADERS, Party};
use crate::doctor::hop::Trouble;
use crate::doctor::watch::StreamSeen;
use crate::foreign_text::{ForeignText, Secrets};

/// Judges whether a hop compresses the stream. hookcast does so with `--compress-streams`, event by event: then
/// the first event arrives with the head.
pub(in crate::doctor) fn compression(
    head: &Head,
    stream: &StreamSeen,
    context: &Context<'_>,
) -> Finding {
    let coding = head.field("content-encoding");
    match coding.filter(|coding| coding.as_str() != "identity") {
        None => Finding::passed(COMPRESSION, "none, as asked by no-transform"),
        Some(coding) if coding.as_str() == "gzip" && stream.begins_at_once() => {
            Finding::passed(COMPRESSION, "gzip, and events are not held back")
        }
        Some(coding) => Finding::failed(
            COMPRESSION,
            Fault::new(
                Party::Proxy,
                format!(
                    "a hop compresses the stream ({}), which holds events back until a block is full",
                    coding.quote(context.secrets)
                ),
                context.hops_of_stream(head).remedy(Trouble::Compression),
            ),
        ),
    }
}

/// Judges the fields that clients and caches depend on.
pub(in crate::doctor) fn headers(head: &Head, context: &Context<'_>) -> Finding {
    let mut faults = Vec::new();
    faults.extend(content_type(head.field("content-type"), context.secrets));
    let cache_control = head.field("cache-control").cloned().unwrap_or_default();
    let is_missing = |directive: &&str| {
        let mut given = cache_control.as_str().split(',').map(str::trim);
        !given.any(|given| given == *directive)
    };
    let missing: Vec<&str> = ["no-store", "no-transform"]
        .into_iter()
        .filter(is_missing)
        .collect();
    if !missing.is_empty() {
        faults.push(format!(
            "Cache-Control is \"{}\" and lacks {}: caches between may keep or change the stream",
            cache_control.quote(context.secrets),
            missing.join(" and ")
        ));
    }
    if head.field("content-length").is_some() {
        faults.push("there is a Content-Length: the stream was collected first".into());
    }
    if head.field("access-control-allow-origin").is_none() {
        faults.push(
            "Access-Control-Allow-Origin is missing: pages of other origins cannot read the stream, which may be \
             meant by --allow-origin"
                .into(),
        );
    }
    if faults.is_empty() {
        return Finding::passed(HEADERS, "as the server sends them");
    }
    let remedy = format!(
        "let the server's header fields through: {}",
        context.hops_of_stream(head).remedy(Trouble::AnswerFields)
    );
    Finding::failed(
        HEADERS,
        Fault::new(Party::Proxy, faults.join(". Also: "), remedy),
    )
}

/// What is wrong with the media type of a stream, if anything. Parameters may differ in case and
/// quoting.
fn content_type(value: Option<&ForeignText>, secrets: &Secrets) -> Option<String> {
    let Some(value) = value else {
        return Some("Content-Type is missing: browsers refuse the stream".into());
    };
    let mut parts = value.as_str().split(';').map(str::trim);
    let media_type = parts.next().unwrap_or_default();
    let quoted = value.quote(secrets);
    if !media_type.eq_ignore_ascii_case("text/event-stream") {
        return Some(format!(
            "Content-Type is \"{quoted}\" instead of text/event-stream: browsers may refuse it"
        ));
    }
    let is_utf_8 = |parameter: &str| {
        let (name, charset) = parameter.split_once('=').unwrap_or_default();
        name.eq_ignore_ascii_case("charset")
            && charset.trim_matches('"').eq_ignore_ascii_case("utf-8")
    };
    (!parts.any(is_utf_8)).then(|| {
        format!(
            "Content-Type is \"{quoted}\" and lacks charset=utf-8: clients on Python's requests read Latin-1"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{STREAM_FIELDS, blames, context, head, stream, text};
    use super::*;
    use crate::check::Verdict;

    #[test]
    fn a_changed_head_is_noticed() {
        let secrets = Secrets::default();
        let context = context("https://hooks.example", &secrets);
        let good = head(200, &STREAM_FIELDS);
        assert_eq!(headers(&good, &context).verdict, Verdict::Passed);
        let at_once = stream();
        assert_eq!(
            compression(&good, &at_once, &context).verdict,
            Verdict::Passed
        );
        let changed = |name: &str, value: Option<&str>| {
            let mut head = good.clone();
            head.fields.retain(|(other, _)| other != name);
            let added = value.map(|value| (name.to_owned(), text(value)));
            head.fields.extend(added);
            head
        };
        for (name, value, seen) in [
            (
                "cache-control",
                Some("public"),
                "lacks no-store and no-transform",
            ),
            ("cache-control", None, "lacks no-store"),
            ("content-type", Some("text/plain"), "text/event-stream"),
            ("content-type", None, "missing"),
            ("content-length", Some("9"), "collected first"),
            ("access-control-allow-origin", None, "other origins"),
        ] {
            let finding = headers(&changed(name, value), &context);
            blames(&finding, Party::Proxy, seen, "proxy_hide_header");
        }
        for (server, remedy) in [("nginx", "nginx: gzip off"), ("Apache", "Apache: SetEnvIf")] {
            let mut head = changed("content-encoding", Some("gzip"));
            head.fields.push(("server".into(), text(server)));
            // hookcast itself, with --compress-streams.
            let own = compression(&head, &at_once, &context);
            assert_eq!(own.verdict, Verdict::Passed);
            let held_back = StreamSeen {
                connected: None,
                ..stream()
            };
            blames(
                &compression(&head, &held_back, &context),
                Party::Proxy,
                "(gzip)",
                remedy,
            );
        }
    }

    #[test]
    fn a_media_type_is_compared_without_regard_to_case_and_quoting() {
        let none = Secrets::default();
        for good in [
            "text/event-stream; charset=utf-8",
            "text/event-stream;charset=UTF-8",
            "Text/Event-Stream; x=y ; Charset=\"utf-8\"",
        ] {
            assert_eq!(content_type(Some(&text(good)), &none), None, "{good}");
        }
        for (bad, expected) in [
            (None, "missing"),
            (Some(""), "instead of"),
            (Some("text/event-streams"), "instead of"),
            (Some("text/event-stream"), "Latin-1"),
            (Some("text/event-stream; charset=iso-8859-1"), "Latin-1"),
            (Some("text/event-stream; charset"), "Latin-1"),
        ] {
            let fault = content_type(bad.map(text).as_ref(), &none).unwrap_or_default();
            assert!(fault.contains(expected), "{bad:?}: {fault}");
        }
    }
}
