//! Judges whether webhooks and the secret arrive.

use super::{Context, credentials, refusal};
use crate::doctor::finding::{Fault, Finding, POST, Party, SECRET, ms};
use crate::doctor::hop::Trouble;
use crate::doctor::probe::{Asked, Post};

/// Judges the answer to the last post. `dummy` is the answer to a secret that is certainly wrong.
pub(in crate::doctor) fn post(
    post: &Post,
    dummy: Option<&Asked>,
    context: &Context<'_>,
) -> Finding {
    match &post.answer {
        Err(fault) => Finding::failed(
            POST,
            Fault {
                seen: format!("a webhook is not answered though GET is: {}", fault.seen),
                ..fault.clone()
            },
        ),
        Ok((took, answer)) if answer.head.status == 200 => {
            Finding::passed(POST, format!("answered after {}", ms(*took)))
        }
        Ok((_, answer))
            if is_unauthorized(answer.head.status, answer.own_error().is_some())
                && !credentials::is_about_token(&answer.head, context) =>
        {
            Finding::failed(POST, unauthorized(dummy, context))
        }
        Ok((_, answer)) => {
            Finding::failed(POST, refusal::fault("POST /api/webhook", answer, context))
        }
    }
}

/// Judges without a post whether the secret is right and arrives.
pub(in crate::doctor) fn secret(real: &Asked, dummy: &Asked, context: &Context<'_>) -> Finding {
    const REQUEST: &str = "GET /api/webhook/messages";
    match (real, dummy) {
        (Err(fault), _) | (Ok(_), Err(fault)) => Finding::failed(SECRET, fault.clone()),
        (Ok(real), Ok(dummy)) => match (real.head.status, dummy.head.status) {
            (200, 401) => {
                Finding::passed(SECRET, "it is the right one, and X-Webhook-Secret arrives")
            }
            (200, 200) => Finding::noted(
                SECRET,
                Fault::new(
                    Party::Unknown,
                    "a wrong secret is taken as well: the server has none, or X-Webhook-Secret does not arrive",
                    context.hops.remedy(Trouble::RequestFields),
                ),
            ),
            (status, _) if is_unauthorized(status, real.own_error().is_some()) => {
                Finding::failed(SECRET, wrong())
            }
            (200, _) => Finding::failed(SECRET, refusal::fault(REQUEST, dummy, context)),
            _ => Finding::failed(SECRET, refusal::fault(REQUEST, real, context)),
        },
    }
}

fn is_unauthorized(status: u16, is_own: bool) -> bool {
    status == 401 && is_own
}

/// The fault behind a 401. hookcast refuses a read with a wrong secret, but not one without a secret. So
/// a read with a certainly wrong secret shows whether the field arrives.
fn unauthorized(dummy: Option<&Asked>, context: &Context<'_>) -> Fault {
    if !context.has_secret {
        return Fault::new(
            Party::Command,
            "hookcast itself answers 401: the server wants a secret, and none was given",
            "put it into WEBHOOK_SECRET, or give --secret-file",
        );
    }
    match dummy {
        Some(Ok(answer)) if answer.head.status == 401 => wrong(),
        Some(Ok(answer)) if answer.head.status == 200 => Fault::new(
            Party::Proxy,
            "hookcast itself answers 401: X-Webhook-Secret does not arrive. A wrong secret is not \
             noticed on a read, so a hop on the way drops the field",
            format!(
                "forward it: {}",
                context.hops.remedy(Trouble::RequestFields)
            ),
        ),
        _ => Fault::new(
            Party::Unknown,
            "hookcast itself answers 401: the secret is wrong, or X-Webhook-Secret does not arrive",
            format!(
                "compare the secret with the server's; {}",
                context.hops.remedy(Trouble::RequestFields)
            ),
        ),
    }
}

fn wrong() -> Fault {
    Fault::new(
        Party::Command,
        "hookcast itself answers 401: X-Webhook-Secret arrives, and the secret is wrong",
        "compare WEBHOOK_SECRET or --secret-file with that of the server",
    )
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{self, answer, blames, own_error};
    use super::*;
    use crate::check::Verdict;
    use crate::doctor::answer::Answer;
    use crate::foreign_text::Secrets;
    use std::time::Duration;

    fn context(secrets: &Secrets, has_secret: bool) -> Context<'_> {
        Context {
            has_secret,
            ..fixture::context("https://hooks.example", secrets)
        }
    }

    fn posted(answer: Answer) -> Post {
        Post {
            answer: Ok((Duration::from_millis(3), answer)),
            ..fixture::post(200, None)
        }
    }

    #[test]
    fn a_missing_a_wrong_and_a_dropped_secret_have_different_findings() {
        let secrets = Secrets::default();
        let refused = posted(own_error(401, "Unauthorized"));
        let found = |has_secret, dummy: Option<Asked>| {
            post(&refused, dummy.as_ref(), &context(&secrets, has_secret))
        };
        let unauthorized = || Ok(own_error(401, "Unauthorized"));
        let taken = || Ok(answer(200, &[], "{}"));
        blames(
            &found(false, None),
            Party::Command,
            "none was given",
            "WEBHOOK_SECRET",
        );
        blames(
            &found(true, Some(unauthorized())),
            Party::Command,
            "is wrong",
            "compare",
        );
        blames(
            &found(true, Some(taken())),
            Party::Proxy,
            "does not arrive",
            "nginx: ",
        );
        blames(
            &found(true, None),
            Party::Unknown,
            "or X-Webhook-Secret",
            "compare",
        );
        // A proxy's log-in page is no answer of hookcast.
        let login = posted(answer(401, &[("www-authenticate", "Basic")], "Log in"));
        let finding = post(&login, None, &context(&secrets, true));
        blames(&finding, Party::Proxy, "not by hookcast", "auth_basic off");
    }

    #[test]
    fn a_secret_is_checked_without_a_post() {
        let secrets = Secrets::default();
        let context = context(&secrets, true);
        let ok = || Ok(answer(200, &[], "{}"));
        let refused = || Ok(own_error(401, "Unauthorized"));
        let good = secret(&ok(), &refused(), &context);
        assert_eq!(good.verdict, Verdict::Passed);
        let open = secret(&ok(), &ok(), &context);
        assert_eq!(open.verdict, Verdict::Noted);
        blames(&open, Party::Unknown, "or X-Webhook-Secret", "nginx: ");
        blames(
            &secret(&refused(), &refused(), &context),
            Party::Command,
            "is wrong",
            "compare",
        );
        let bad = || Ok(answer(502, &[], ""));
        blames(
            &secret(&bad(), &bad(), &context),
            Party::Proxy,
            "could not reach",
            "proxy_pass",
        );
        blames(
            &secret(&ok(), &bad(), &context),
            Party::Proxy,
            "could not reach",
            "proxy_pass",
        );
    }

    #[test]
    fn a_post_that_is_not_answered_keeps_its_fault() {
        let secrets = Secrets::default();
        let context = context(&secrets, false);
        let fault = Fault::new(Party::Network, "no answer: reset", "look");
        let lost = Post {
            answer: Err(fault),
            ..fixture::post(200, None)
        };
        blames(
            &post(&lost, None, &context),
            Party::Network,
            "though GET is",
            "look",
        );
        let good = post(&fixture::post(200, None), None, &context);
        assert_eq!(good.verdict, Verdict::Passed);
        let page = posted(answer(
            405,
            &[("server", "nginx")],
            "<h1>405 Not Allowed</h1>",
        ));
        blames(
            &post(&page, None, &context),
            Party::Proxy,
            "405, not by hookcast",
            "location",
        );
    }
}
