//! Derives findings from the records of an examination, each with the party at fault and the remedy.
//!
//! Used by [`examination`](super::examination); one module for each group of checks. Pure: the input is
//! records alone, so every fault can be tested without a network. Never prints text of a server except as
//! a quote.

pub(super) mod address;
mod credentials;
pub(super) mod delivery;
pub(super) mod fields;
pub(super) mod history;
pub(super) mod life;
pub(super) mod post;
mod refusal;

use super::answer::{Answer, Head};
use super::hop::Hops;
use crate::foreign_text::Secrets;

/// Facts of the examination that all checks share.
#[expect(
    clippy::struct_excessive_bools,
    reason = "facts about the address and what is sent, of which any may be true"
)]
pub(super) struct Context<'a> {
    pub(super) secrets: &'a Secrets,
    /// The hops that have named themselves so far.
    hops: Hops,
    host: String,
    /// Whether the address has a path.
    has_path: bool,
    /// Whether the address is `http://`.
    is_plain: bool,
    /// Whether a secret is sent.
    pub(super) has_secret: bool,
    /// Whether a token is sent.
    pub(super) has_token: bool,
}

impl<'a> Context<'a> {
    pub(super) fn new(url: &str, secrets: &'a Secrets, has_secret: bool) -> Context<'a> {
        let (scheme, rest) = url.split_once("://").unwrap_or_default();
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let host = match authority.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
            _ => authority,
        };
        Context {
            secrets,
            hops: Hops::default(),
            host: host.to_owned(),
            has_path: !path.is_empty(),
            is_plain: scheme == "http",
            has_secret,
            has_token: false,
        }
    }

    /// Adds the hops that name themselves in an answer.
    pub(super) fn record_hops(&mut self, answer: &Answer) {
        self.hops = self.hops_of(answer);
    }

    fn hops_of(&self, answer: &Answer) -> Hops {
        let found = Hops::of(&answer.head, answer.body.as_str(), &self.host);
        self.hops.clone().and(found)
    }

    /// The same for an answer whose body is a stream.
    fn hops_of_stream(&self, head: &Head) -> Hops {
        self.hops.clone().and(Hops::of(head, "", &self.host))
    }
}

#[cfg(test)]
pub(super) mod fixture {
    //! Records of a path without faults, for tests to change.

    use std::time::Duration;

    use super::*;
    use crate::doctor::finding::{Finding, Party};
    use crate::doctor::probe::Post;
    use crate::doctor::watch::StreamSeen;
    use crate::foreign_text::ForeignText;

    pub(in super::super) fn text(text: &str) -> ForeignText {
        text.to_owned().into()
    }

    pub(in super::super) fn head(status: u16, fields: &[(&str, &str)]) -> Head {
        let fields = fields.iter();
        Head {
            status,
            version: "HTTP/1.1".into(),
            fields: fields
                .map(|(name, value)| ((*name).into(), text(value)))
                .collect(),
        }
    }

    pub(in super::super) fn answer(status: u16, fields: &[(&str, &str)], body: &str) -> Answer {
        Answer {
            head: head(status, fields),
            body: text(body),
        }
    }

    /// An error as hookcast answers it.
    pub(in super::super) fn own_error(status: u16, error: &str) -> Answer {
        let fields = [
            ("content-type", "application/json"),
            ("x-content-type-options", "nosniff"),
        ];
        answer(status, &fields, &format!("{{\"error\":\"{error}\"}}"))
    }

    pub(in super::super) const STREAM_FIELDS: [(&str, &str); 3] = [
        ("content-type", "text/event-stream; charset=utf-8"),
        ("cache-control", "private, no-store, no-transform"),
        ("access-control-allow-origin", "*"),
    ];

    /// A stream that was watched for 15 s and is still open.
    pub(in super::super) fn stream() -> StreamSeen {
        StreamSeen {
            head: Some((Duration::from_millis(5), head(200, &STREAM_FIELDS))),
            refusal: ForeignText::default(),
            connected: Some((Duration::from_millis(5), 0)),
            heartbeats: (1..7).map(|n| Duration::from_millis(2000 * n)).collect(),
            retry: Some(Duration::from_millis(5)),
            end: None,
            watched: Duration::from_secs(15),
        }
    }

    pub(in super::super) fn post(status: u16, arrived_ms: Option<u64>) -> Post {
        Post {
            answer: Ok((Duration::from_millis(3), answer(status, &[], "{}"))),
            arrived: arrived_ms.map(Duration::from_millis),
            event_id: None,
        }
    }

    pub(in super::super) fn context<'a>(url: &str, secrets: &'a Secrets) -> Context<'a> {
        Context::new(url, secrets, false)
    }

    /// Asserts the party at fault, and that the evidence and the remedy contain these texts.
    pub(in super::super) fn blames(finding: &Finding, party: Party, seen: &str, remedy: &str) {
        let (found, words) = finding
            .blame
            .as_ref()
            .unwrap_or_else(|| panic!("{finding:?}"));
        assert_eq!(*found, party, "{finding:?}");
        assert!(finding.seen.contains(seen), "{seen}: {finding:?}");
        assert!(words.contains(remedy), "{remedy}: {finding:?}");
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::fixture::{answer, context, head, post, stream};
    use super::*;
    use crate::doctor::finding::Finding;
    use crate::doctor::probe::{Asked, Post};
    use crate::doctor::watch::End;
    use crate::foreign_text::is_plain;

    /// Every finding that these answers lead to.
    fn findings(fields: &[(&str, &str)], body: &str, context: &Context<'_>) -> Vec<Finding> {
        let own = [
            ("content-type", "application/json"),
            ("x-content-type-options", "nosniff"),
        ];
        let own_body = serde_json::json!({ "error": body }).to_string();
        let mut answers: Vec<Answer> = [200, 301, 302, 400, 401, 404, 502, 504, 599]
            .map(|status| answer(status, fields, body))
            .into();
        answers
            .extend([400, 401, 403, 404, 429, 500].map(|status| answer(status, &own, &own_body)));
        let mut findings = Vec::new();
        for answer in answers {
            let mut seen = stream();
            seen.head = Some((Duration::ZERO, answer.head.clone()));
            seen.refusal = answer.body.clone();
            seen.end = Some((Duration::ZERO, End::Whole));
            let posted = Post {
                answer: Ok((Duration::ZERO, answer.clone())),
                ..post(200, None)
            };
            let asked: Asked = Ok(answer.clone());
            findings.extend([
                address::address(&asked, context),
                address::http(&answer.head, context),
                delivery::stream(&seen, context),
                delivery::buffering(&seen, &[], context),
                fields::compression(&answer.head, &seen, context),
                fields::headers(&answer.head, context),
                post::post(&posted, Some(&asked), context),
                post::secret(&asked, &asked, context),
                history::history(&asked, None, 1, context),
            ]);
        }
        findings
    }

    /// Text of a server is printed only as a quote, from every header field and from the body.
    #[test]
    fn a_secret_that_a_server_sends_back_is_not_printed() {
        let evil = format!(
            "{}\u{202e}\u{1b}[2Js3cret-4711 czNjcmV0LTQ3MTE= s3cret%2D4711",
            "x".repeat(150)
        );
        let names = [
            "server",
            "via",
            "x-cache",
            "cf-ray",
            "x-served-by",
            "age",
            "location",
            "content-type",
            "content-encoding",
            "cache-control",
            "www-authenticate",
        ];
        let secrets = Secrets::default().with("s3cret-4711");
        let mut context = context("http://a.example", &secrets);
        context.has_secret = true;
        context.has_token = true;
        for evil in [&evil, &evil[150..], &evil[155..]] {
            let fields = names.map(|name| (name, evil));
            assert_eq!(head(200, &fields).fields.len(), names.len());
            for body in [evil, &format!("<p>{evil}</p>")] {
                for finding in findings(&fields, body, &context) {
                    let remedy = finding.blame.map_or(String::new(), |(_, remedy)| remedy);
                    let words = format!("{} {remedy}", finding.seen);
                    assert!(!words.contains("s3c") && !words.contains("czN"), "{words}");
                    assert!(words.chars().all(is_plain), "{words}");
                }
            }
        }
    }

    #[test]
    fn an_address_is_split_into_its_parts() {
        let secrets = Secrets::default();
        for (url, host, has_path, is_plain) in [
            ("https://hooks.example", "hooks.example", false, false),
            (
                "http://hooks.example:8080/base",
                "hooks.example",
                true,
                true,
            ),
            ("http://[::1]:80", "[::1]", false, true),
            ("https://[::1]", "[::1]", false, false),
        ] {
            let context = context(url, &secrets);
            assert_eq!(context.host, host);
            assert_eq!(
                (context.has_path, context.is_plain),
                (has_path, is_plain),
                "{url}"
            );
        }
    }
}
