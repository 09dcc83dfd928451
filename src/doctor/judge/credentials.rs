//! Judges refusals that are about the secret or a token: 401, 403 and 429 of hookcast itself.
//!
//! Used by [`refusal`](super::refusal) and [`post`](super::post). The challenge of an answer says which of the two is
//! wanted.

use super::Context;
use crate::doctor::answer::Head;
use crate::doctor::finding::{Fault, Party};
use crate::doctor::hop::Trouble;

const CHALLENGE: &str = "www-authenticate";

/// The token that the doctor needs.
const RIGHTS: &str = "\"hookcast\":{\"sessions\":[\"doctor\"],\"publish\":[\"doctor\"]}";

/// Whether a refusal is about the token. A server that takes either asks for both; then it is about what the
/// doctor has sent.
pub(super) fn is_about_token(head: &Head, context: &Context<'_>) -> bool {
    let is_about_secret = wants_secret(head) && context.has_secret && !context.has_token;
    head.mentions(CHALLENGE, "bearer") && !is_about_secret
}

/// Whether an answer asks for the secret, perhaps among others.
fn wants_secret(head: &Head) -> bool {
    head.mentions(CHALLENGE, "x-webhook-secret")
}

/// The fault behind a 401 that is not about a wrong secret. `seen` quotes the answer.
pub(super) fn unauthorized(seen: &str, head: &Head, context: &Context<'_>) -> Fault {
    let is_refused = head.mentions(CHALLENGE, "invalid_token");
    if is_refused && !context.has_token {
        return Fault::new(
            Party::Proxy,
            format!("{seen}. The doctor sent no token, so a hop on the way adds one"),
            "look which fields and cookies the proxy adds to requests",
        );
    }
    if is_refused {
        return Fault::new(
            Party::Command,
            format!("{seen}. The token arrives, and is refused"),
            format!("give --token-file a token that is valid now, with {RIGHTS}"),
        );
    }
    if is_about_token(head, context) && context.has_token {
        return Fault::new(
            Party::Proxy,
            format!("{seen}. The doctor sent a token, so a hop on the way drops Authorization"),
            format!(
                "forward it: {}",
                context.hops.remedy(Trouble::RequestFields)
            ),
        );
    }
    if is_about_token(head, context) && wants_secret(head) {
        return Fault::new(
            Party::Command,
            format!("{seen}. The server wants a secret or a token, and neither was given"),
            format!(
                "put the secret into WEBHOOK_SECRET, or give --token-file a token with {RIGHTS}"
            ),
        );
    }
    if is_about_token(head, context) {
        return Fault::new(
            Party::Command,
            format!("{seen}. The server has keys of tokens, and no token was given"),
            format!("give --token-file a token with {RIGHTS}"),
        );
    }
    Fault::new(
        Party::Command,
        format!("{seen}. The server wants a secret"),
        "put it into WEBHOOK_SECRET, or give --secret-file",
    )
}

/// The fault behind a 403: the token is valid, and does not allow the request.
pub(super) fn forbidden(seen: &str, context: &Context<'_>) -> Fault {
    let party = if context.has_token {
        Party::Command
    } else {
        Party::Proxy
    };
    Fault::new(
        party,
        format!("{seen}. The token is valid, and lacks this right"),
        format!(
            "give --token-file a token with {RIGHTS}, or with \"everything\":true and \"publish\":true"
        ),
    )
}

/// The fault behind a 429: too many guesses.
pub(super) fn too_many_guesses(seen: &str) -> Fault {
    Fault::new(
        Party::Command,
        format!("{seen}. Wrong secrets or tokens came from this address before"),
        "correct the secret or the token, and try again in a minute; behind a proxy, set --trusted-proxy",
    )
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{blames, context, own_error, text};
    use super::super::{delivery, history, post};
    use super::*;
    use crate::doctor::answer::Answer;
    use crate::doctor::finding::Finding;
    use crate::doctor::probe::{Asked, Post};
    use crate::doctor::watch::StreamSeen;
    use crate::foreign_text::Secrets;
    use std::time::Duration;

    /// An answer with these challenges, each in a line of its own.
    fn refused(status: u16, error: &str, challenges: &[&str]) -> Answer {
        let mut answer = own_error(status, error);
        let fields = challenges.iter();
        let fields = fields.map(|challenge| (CHALLENGE.to_owned(), text(challenge)));
        answer.head.fields.extend(fields);
        answer
    }

    /// What a stream, the history and a post find that get this answer.
    fn findings(answer: &Answer, has_secret: bool, has_token: bool) -> Vec<Finding> {
        let secrets = Secrets::default();
        let context = Context {
            has_secret,
            has_token,
            ..context("https://hooks.example", &secrets)
        };
        let asked: Asked = Ok(answer.clone());
        let seen = StreamSeen {
            head: Some((Duration::ZERO, answer.head.clone())),
            refusal: answer.body.clone(),
            ..StreamSeen::default()
        };
        let posted = Post {
            answer: Ok((Duration::ZERO, answer.clone())),
            arrived: None,
            event_id: None,
        };
        vec![
            delivery::stream(&seen, &context),
            history::history(&asked, None, 0, &context),
            post::post(&posted, None, &context),
        ]
    }

    #[test]
    fn a_refusal_about_tokens_names_what_is_wrong_with_the_token() {
        let wanted = refused(401, "Unauthorized", &["Bearer"]);
        let either = refused(401, "Unauthorized", &["X-Webhook-Secret", "Bearer"]);
        let invalid = refused(401, "Unauthorized", &["Bearer error=\"invalid_token\""]);
        let forbidden = own_error(403, "Forbidden");
        let too_many = own_error(429, "Too many requests");
        for (answer, has_token, party, seen, remedy) in [
            (
                &wanted,
                false,
                Party::Command,
                "no token was given",
                "--token-file",
            ),
            (
                &wanted,
                true,
                Party::Proxy,
                "drops Authorization",
                "nginx: ",
            ),
            (&invalid, true, Party::Command, "is refused", "valid now"),
            (&invalid, false, Party::Proxy, "adds one", "cookies"),
            (
                &forbidden,
                true,
                Party::Command,
                "lacks this right",
                "\"publish\"",
            ),
            (
                &too_many,
                true,
                Party::Command,
                "from this address",
                "in a minute",
            ),
        ] {
            for has_secret in [false, true] {
                for finding in findings(answer, has_secret, has_token) {
                    blames(&finding, party, seen, remedy);
                    assert!(!finding.seen.contains("disk"), "{finding:?}");
                }
            }
        }
        for finding in findings(&either, false, false) {
            blames(
                &finding,
                Party::Command,
                "neither was given",
                "--token-file",
            );
        }
        for finding in findings(&either, true, true) {
            blames(&finding, Party::Proxy, "drops Authorization", "nginx: ");
        }
        let post = findings(&either, true, false).pop().unwrap();
        assert!(!post.seen.contains("token"), "{post:?}");
        let secret = refused(401, "Unauthorized", &["X-Webhook-Secret"]);
        for finding in findings(&secret, false, false) {
            blames(&finding, Party::Command, "wants a secret", "WEBHOOK_SECRET");
        }
    }
}
