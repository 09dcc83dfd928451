//! An answer that is not the one that was asked for: who gave it, and what that means.
//!
//! Used by every check that sends a request. An error of hookcast's own says what arrived there, and
//! so what a hop on the way did; any other page is the work of a hop that did not ask hookcast.

use super::Context;
use crate::doctor::answer::{Answer, Head};
use crate::doctor::finding::{Fault, Party};
use crate::doctor::hop::{self, Trouble};

/// Says who refused `request`, why, and what to change.
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

/// The request that the doctor sends is sound, so what hookcast refuses was changed on its way.
fn by_hookcast(error: &str, seen: String, head: &Head, context: &Context<'_>) -> Fault {
    let hops = &context.hops;
    match head.status {
        400 if error.ends_with("Host") => Fault::new(
            Party::Proxy,
            format!("{seen}. The doctor sent a sound Host, so a hop on the way changed it"),
            hops.remedy(Trouble::Host),
        ),
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

fn by_another(request: &str, answer: &Answer, context: &Context<'_>) -> Fault {
    let status = answer.head.status;
    let named = hop::names(&answer.head, context.secrets)
        .unwrap_or_else(|| "it does not name itself".into());
    let body = answer.quote_body(context.secrets);
    let seen = format!("{request} is answered {status}, not by hookcast ({named}): {body}");
    // The page may name a hop that other answers do not.
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

/// A client that follows redirects loses its body or its secret: webhooks must go to the last address.
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

/// What nginx, Apache, Go and others answer to a request without TLS on a port that expects it.
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
