//! Judges whether hookcast is at the address, and which hops are in front of it.

use super::{Context, refusal};
use crate::doctor::answer::Head;
use crate::doctor::finding::{ADDRESS, Fault, Finding, HTTP, Party};
use crate::doctor::hop::{self, Trouble};
use crate::doctor::probe::Asked;

/// Judges whether the answer is hookcast's.
pub(in crate::doctor) fn address(status: &Asked, context: &Context<'_>) -> Finding {
    match status {
        Ok(answer) if answer.is_own_status() => {
            Finding::passed(ADDRESS, "the answer is hookcast's own")
        }
        Ok(answer) => Finding::failed(ADDRESS, refusal::fault("GET /api/webhook", answer, context)),
        Err(fault) => Finding::failed(ADDRESS, fault.clone()),
    }
}

/// Judges the HTTP version and whether a cache answers; names the hops.
pub(in crate::doctor) fn http(head: &Head, context: &Context<'_>) -> Finding {
    let names = hop::names(head, context.secrets);
    let by = names.as_deref().unwrap_or("no proxy names itself");
    let seen = format!("{}; {by}", head.version);
    if head.field("age").is_some_and(|age| age.as_str() != "0") {
        let seen = format!("{seen}. The answer comes from a cache (Age) though it says no-store");
        return Finding::failed(
            HTTP,
            Fault::new(Party::Proxy, seen, context.hops.remedy(Trouble::Cache)),
        );
    }
    if head.version == "HTTP/1.0" {
        let seen = format!("{seen}. In HTTP/1.0 every answer ends its connection");
        let remedy =
            "let the proxy answer in HTTP/1.1 (Apache: no force-response-1.0 and downgrade-1.0)";
        return Finding::noted(HTTP, Fault::new(Party::Proxy, seen, remedy));
    }
    Finding::passed(HTTP, seen)
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{answer, blames, context, own_error};
    use super::*;
    use crate::check::Verdict;
    use crate::doctor::answer::Answer;
    use crate::foreign_text::Secrets;

    fn found_at(url: &str, answer: Answer) -> Finding {
        address(&Ok(answer), &context(url, &Secrets::default()))
    }

    fn found(answer: Answer) -> Finding {
        found_at("https://hooks.example", answer)
    }

    #[test]
    fn hookcast_is_recognised_by_its_answer() {
        let own = [
            ("content-type", "application/json"),
            ("x-content-type-options", "nosniff"),
        ];
        let finding = found(answer(200, &own, r#"{"status":"ok"}"#));
        assert_eq!(finding.verdict, Verdict::Passed);
        // The answer of any health check.
        let finding = found(answer(200, &own[..1], r#"{"status":"ok"}"#));
        assert_eq!(finding.verdict, Verdict::Failed);
        let page = answer(200, &[("server", "Caddy")], "");
        blames(&found(page), Party::Proxy, "an empty body", "site block");
        let page = answer(200, &[], "<title>Welcome to nginx!</title>");
        blames(
            &found(page),
            Party::Proxy,
            "\"Welcome to nginx!\"",
            "proxy_pass",
        );
    }

    /// An error of hookcast is never attributed to the proxy.
    #[test]
    fn an_error_of_hookcast_shows_what_the_proxy_changed() {
        for (status, error, party, remedy) in [
            (
                400,
                "Malformed Host",
                Party::Proxy,
                "proxy_set_header Host $host",
            ),
            (400, "Missing Host", Party::Proxy, "ProxyPreserveHost On"),
            (
                400,
                "Transfer-Encoding in HTTP/1.0",
                Party::Proxy,
                "proxy_http_version 1.1",
            ),
            (404, "Not found", Party::Proxy, "proxy_pass without a path"),
            (405, "Method not allowed", Party::Proxy, "method"),
            (408, "Request too slow", Party::Proxy, "timeouts"),
            (431, "Too many header fields", Party::Proxy, "fields"),
            (500, "Internal server error", Party::Hookcast, "disk"),
            (
                503,
                "Service unavailable",
                Party::Hookcast,
                "--max-connections",
            ),
        ] {
            let finding = found(own_error(status, error));
            blames(
                &finding,
                party,
                &format!("{status} by hookcast itself: \"{error}\""),
                remedy,
            );
            assert!(!finding.seen.contains("not by hookcast"), "{finding:?}");
        }
        let finding = found_at("https://hooks.example/base", own_error(404, "Not found"));
        blames(
            &finding,
            Party::Command,
            "another one",
            "leave the path out",
        );
    }

    #[test]
    fn a_page_of_a_proxy_names_the_hop_and_its_setting() {
        let nginx = [("server", "nginx/1.22.1")];
        let page = "<html><head><title>404 Not Found</title></head></html>";
        let finding = found(answer(404, &nginx, page));
        blames(
            &finding,
            Party::Proxy,
            "server: nginx/1.22.1",
            "location / or /api/webhook",
        );
        assert!(finding.seen.contains("not by hookcast"), "{finding:?}");
        assert!(finding.seen.contains("\"404 Not Found\""), "{finding:?}");

        for status in [502, 503, 504, 522, 530] {
            let finding = found(answer(status, &nginx, "<h1>Bad</h1>"));
            blames(
                &finding,
                Party::Proxy,
                "could not reach hookcast",
                "proxy_pass",
            );
            let (_, remedy) = finding.blame.unwrap();
            assert!(
                !remedy.contains("auth") && !remedy.contains("HAProxy"),
                "{remedy}"
            );
        }
        let haproxy = answer(
            503,
            &[],
            "<h1>503</h1>No server is available to handle this request.",
        );
        blames(
            &found(haproxy),
            Party::Proxy,
            "does not name itself",
            "HAProxy: the address",
        );
        let login = answer(401, &[("www-authenticate", "Basic")], "");
        blames(&found(login), Party::Proxy, "log-in", "auth_basic off");
        let plain = answer(400, &nginx, "The plain HTTP request was sent to HTTPS port");
        blames(&found(plain), Party::Command, "expects TLS", "https://");
        blames(
            &found(answer(413, &nginx, "")),
            Party::Proxy,
            "limits",
            "client_max_body_size",
        );
        blames(
            &found(answer(418, &nginx, "teapot")),
            Party::Proxy,
            "\"teapot\"",
            "log",
        );
    }

    #[test]
    fn a_redirect_to_https_blames_the_given_address() {
        let to = |location: &str| answer(301, &[("location", location)], "");
        let http = "http://hooks.example:80";
        let finding = found_at(http, to("https://hooks.example/api/webhook"));
        blames(
            &finding,
            Party::Command,
            "points to https://hooks",
            "with https://",
        );
        for (url, location) in [
            (http, "https://hooks.example.evil/"),
            ("https://hooks.example", "https://hooks.example/login"),
        ] {
            blames(
                &found_at(url, to(location)),
                Party::Proxy,
                "points to",
                "without a redirect",
            );
        }
        blames(
            &found(answer(304, &[], "")),
            Party::Proxy,
            "no other address",
            "",
        );
    }

    #[test]
    fn http_1_0_is_noted_and_a_cached_answer_fails() {
        let secrets = Secrets::default();
        let context = context("https://hooks.example", &secrets);
        let mut head = answer(200, &[("via", "1.1 varnish")], "").head;
        assert_eq!(http(&head, &context).verdict, Verdict::Passed);
        head.version = "HTTP/1.0".into();
        blames(
            &http(&head, &context),
            Party::Proxy,
            "via: 1.1 varnish",
            "force-response-1.0",
        );
        assert_eq!(http(&head, &context).verdict, Verdict::Noted);
        let cached = answer(200, &[("age", "3")], "").head;
        assert_eq!(http(&cached, &context).verdict, Verdict::Failed);
        blames(
            &http(&cached, &context),
            Party::Proxy,
            "cache",
            "no proxy_cache",
        );
    }
}
