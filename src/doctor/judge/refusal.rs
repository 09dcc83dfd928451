//! Judges an answer other than the expected one: its origin, the cause and the remedy.
//!
//! Used by every check that sends a request. An error of hookcast shows what arrived there, and so what a
//! hop has changed. Any other error comes from a hop that did not forward the request.

use super::{Context, credentials};
use crate::doctor::answer::{Answer, Head};
use crate::doctor::finding::{Fault, Party};
use crate::doctor::hop::{self, Trouble};

/// The fault behind a refused `request`.
pub(super) fn fault(request: &str, answer: &Answer, context: &Context<'_>) -> Fault {
    match answer.own_error() {
        Some(error) => {
            let error = error.quote(context.secrets);
            let status = answer.head.status;
            let through = hop::names(&answer.head, context.secrets)
                .map_or(String::new(), |names| format!(" (through {names})"));
            let seen =
                format!("{request} is answered {status} by hookcast itself: \"{error}\"{through}");
            by_hookcast(&error, seen, &answer.head, context)
        }
        None => by_another(request, answer, context),
    }
}

/// A refusal by hookcast. The doctor's request is valid, so a hop has changed what hookcast refuses.
fn by_hookcast(error: &str, seen: String, head: &Head, context: &Context<'_>) -> Fault {
    let hops = &context.hops;
    match head.status {
        400 if error.ends_with("Host") => Fault::new(
            Party::Proxy,
            format!("{seen}. The doctor sent a sound Host, so a hop on the way changed it"),
            hops.remedy(Trouble::Host),
        ),
        401 => credentials::unauthorized(&seen, head, context),
        403 => credentials::forbidden(&seen, context),
        429 => credentials::too_many_guesses(&seen),
        404 => Fault::new(
            if context.has_path {
                Party::Command
            } else {
                Party::Proxy
            },
            format!("{seen}. The path that arrives there is another one"),
            if context.has_path {
                format!(
                    "leave the path out of the address, or let the proxy take it away; {}",
                    hops.remedy(Trouble::Path)
                )
            } else {
                hops.remedy(Trouble::Path)
            },
        ),
        400 | 405 | 415 | 417 | 501 | 505 => Fault::new(
            Party::Proxy,
            format!("{seen}. The doctor's request is sound, so a hop on the way changed it"),
            "let method, path, fields and body through as they come, in HTTP/1.1 (nginx: \
             proxy_http_version 1.1)",
        ),
        408 => Fault::new(
            Party::Proxy,
            format!("{seen}. A hop on the way held the request back"),
            "look at the load and the timeouts of the proxy's connections to hookcast",
        ),
        413 | 414 | 431 => Fault::new(
            Party::Proxy,
            format!("{seen}. The doctor's request is small, so a hop on the way added to it"),
            "look which fields the proxy adds to requests",
        ),
        503 => Fault::new(
            Party::Hookcast,
            format!("{seen}. It has no room for another connection or request"),
            "raise --max-connections and the hard limit of open files (LimitNOFILE in systemd); with \
             --max-connections-per-ip behind a proxy set --trusted-proxy, else all clients count as one",
        ),
        _ => Fault::new(
            Party::Hookcast,
            seen,
            "look at hookcast's log: the ring's disk may be full or failing",
        ),
    }
}

/// A refusal by a hop or another server.
fn by_another(request: &str, answer: &Answer, context: &Context<'_>) -> Fault {
    let status = answer.head.status;
    let named = hop::names(&answer.head, context.secrets)
        .unwrap_or_else(|| "it does not name itself".into());
    let body = answer.quote_body(context.secrets);
    let seen = format!("{request} is answered {status}, not by hookcast ({named}): {body}");
    // This page may name a hop that earlier answers did not.
    let hops = context.hops_of(answer);
    let remedy = |trouble| hops.remedy(trouble);
    match status {
        200..=299 => Fault::new(
            Party::Proxy,
            format!("{seen}. Another server or page has this address or path"),
            remedy(Trouble::Path),
        ),
        300..=399 => redirect(&seen, answer, context),
        400 if is_plain_on_tls(answer) => Fault::new(
            Party::Command,
            format!("{seen}. That port expects TLS"),
            "give the address with https://",
        ),
        401 | 403 | 407 | 429 => Fault::new(
            Party::Proxy,
            format!("{seen}. A log-in, a challenge, a filter or a rate limit stands in front"),
            remedy(Trouble::Gate),
        ),
        404 | 405 | 410 | 421 => Fault::new(
            Party::Proxy,
            format!("{seen}. The proxy does not pass this path and method on"),
            remedy(Trouble::Path),
        ),
        408 | 413 | 414 | 431 => Fault::new(
            Party::Proxy,
            format!("{seen}. The proxy's own limits refuse it"),
            remedy(Trouble::Size),
        ),
        502 | 503 | 520 | 521 | 523 | 525 | 526 | 530 => Fault::new(
            Party::Proxy,
            format!("{seen}. The proxy could not reach hookcast"),
            format!(
                "see that hookcast runs and at which address it listens (\"listening\" in its log; in a \
                 container 127.0.0.1 is the container itself), and name that address: {}",
                remedy(Trouble::Upstream)
            ),
        ),
        504 | 522 | 524 => Fault::new(
            Party::Proxy,
            format!("{seen}. The proxy could not reach hookcast in time"),
            format!(
                "see that no firewall drops what the proxy sends to hookcast, and name the address at which \
                 that listens: {}",
                remedy(Trouble::Upstream)
            ),
        ),
        _ => Fault::new(
            Party::Proxy,
            seen,
            "look at the log of the proxy, and at what its error page says",
        ),
    }
}

/// A redirect. A client that follows one may lose its body or its secret, so webhooks must be sent to the
/// final address.
fn redirect(seen: &str, answer: &Answer, context: &Context<'_>) -> Fault {
    let Some(location) = answer.head.field("location") else {
        let seen = format!("{seen}. It names no other address");
        return Fault::new(Party::Proxy, seen, context.hops.remedy(Trouble::Path));
    };
    let seen = format!("{seen}. It points to {}", location.quote(context.secrets));
    let secure = format!("https://{}/", context.host.to_ascii_lowercase());
    let is_secure = location.as_str().to_ascii_lowercase().starts_with(&secure);
    if is_secure && context.is_plain {
        let remedy =
            "give the address with https://, and let senders use it: many do not follow a redirect";
        Fault::new(Party::Command, seen, remedy)
    } else {
        let remedy = format!(
            "answer /api/webhook without a redirect or a log-in page: {}",
            context.hops.remedy(Trouble::Gate)
        );
        Fault::new(Party::Proxy, seen, remedy)
    }
}

/// Whether this is the answer of nginx, Apache, Go and others to a request without TLS on a TLS port.
fn is_plain_on_tls(answer: &Answer) -> bool {
    let body = answer.body.as_str();
    [
        "HTTPS port",
        "SSL-enabled server port",
        "HTTP request to an HTTPS server",
    ]
    .iter()
    .any(|words| body.contains(words))
}
