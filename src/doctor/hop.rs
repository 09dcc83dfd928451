//! The hops that name themselves in an answer, and the settings of each that correct problems.
//!
//! Used by [`judge`](super::judge). A name proves that the hop is present, not that it is the only one: a
//! CDN hides the hops behind it. Never does I/O.

use super::answer::Head;
use crate::foreign_text::Secrets;

/// A program or service that proxies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hop {
    Nginx,
    Apache,
    Haproxy,
    Varnish,
    Caddy,
    QuickTunnel,
    Cloudflare,
    CloudFront,
    Fastly,
}

use Hop as H;

/// The fields in which hops name themselves.
const FIELDS: [&str; 5] = ["server", "via", "x-cache", "cf-ray", "x-served-by"];

/// Sentences of the error pages of `Hop::Haproxy` (502, 503, 504).
const HAPROXY_PAGES: [&str; 3] = [
    "No server is available to handle this request",
    "The server returned an invalid or incomplete response",
    "The server didn't respond in time",
];

/// The marks of hops: a header field and a part of its value that only this hop sends.
const MARKS: [(Hop, &str, &str); 9] = [
    (H::Nginx, "server", "nginx"),
    (H::Nginx, "server", "openresty"),
    (H::Apache, "server", "apache"),
    (H::Varnish, "via", "varnish"),
    (H::Caddy, "server", "caddy"),
    (H::Caddy, "via", "caddy"),
    (H::Cloudflare, "cf-ray", ""),
    (H::CloudFront, "via", "cloudfront"),
    (H::Fastly, "x-served-by", "cache-"),
];

/// What may be wrong on the path to hookcast.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    /// Answers are collected before they are passed on.
    Buffering,
    /// Small writes wait for more.
    Delay,
    Compression,
    /// A hop changes `Host`.
    Host,
    /// Requests of `/api/webhook` go elsewhere, or arrive with another path.
    Path,
    /// The proxy does not reach hookcast.
    Upstream,
    /// Answers that stay open are cut off.
    Timeout,
    /// Fields of the request are dropped.
    RequestFields,
    /// Fields of the answer are dropped or changed.
    AnswerFields,
    /// A cache stores answers in spite of no-store.
    Cache,
    /// A log-in, a challenge or a filter answers instead.
    Gate,
    /// The size of a request is limited.
    Size,
}

/// The settings that correct a problem, by hop.
const fn settings(trouble: Trouble) -> &'static [(Hop, &'static str)] {
    match trouble {
        Trouble::Buffering => &[
            (
                H::Nginx,
                "proxy_http_version 1.1 and proxy_buffering off; do not ignore X-Accel-Buffering; no proxy_cache",
            ),
            (
                H::Apache,
                "flushpackets=on behind ProxyPass, no SetOutputFilter for this path",
            ),
            (H::Haproxy, "no http-response wait-for-body"),
            (H::Varnish, "set beresp.do_stream = true"),
            (H::Caddy, "no response_buffers, flush_interval -1"),
            (
                H::QuickTunnel,
                "a quick tunnel (trycloudflare.com) holds answers to GET back until they end: use a named tunnel",
            ),
            (
                H::Cloudflare,
                "a quick tunnel holds answers to GET back until they end: use a named tunnel; no rule may inspect or change this path's bodies",
            ),
            (
                H::CloudFront,
                "no Lambda@Edge on this path's origin response",
            ),
            (H::Fastly, "set beresp.do_stream = true"),
        ],
        Trouble::Delay => &[
            (H::Haproxy, "option http-no-delay"),
            (H::Nginx, "tcp_nodelay on"),
        ],
        Trouble::Compression => &[
            (H::Nginx, "gzip off"),
            (
                H::Apache,
                "SetEnvIf Request_URI \"^/api/webhook\" no-gzip, where SetOutputFilter or AddOutputFilterByType DEFLATE is on",
            ),
            (H::Haproxy, "no compression type text/event-stream"),
            (H::Varnish, "set beresp.do_gzip = false"),
            (H::Caddy, "no encode for /api/webhook/*"),
            (
                H::Cloudflare,
                "a compression rule that is off for this path",
            ),
            (H::CloudFront, "Compress objects automatically: no"),
            (H::Fastly, "no gzip for text/event-stream"),
        ],
        Trouble::Host => &[
            (H::Nginx, "proxy_set_header Host $host"),
            (H::Apache, "ProxyPreserveHost On"),
            (H::Haproxy, "no http-request set-header or del-header Host"),
            (
                H::Varnish,
                "no set or unset of bereq.http.host, or a sound .host_header",
            ),
            (H::Caddy, "header_up Host {host}"),
            (
                H::Cloudflare,
                "a sound httpHostHeader in the tunnel, no Host override in an origin rule",
            ),
        ],
        Trouble::Path => &[
            (
                H::Nginx,
                "a location / or /api/webhook in the server block of this server_name, and proxy_pass without a path behind the port",
            ),
            (
                H::Apache,
                "ProxyPass /api/webhook http://ADDRESS:PORT/api/webhook in the VirtualHost of this ServerName",
            ),
            (
                H::Haproxy,
                "a use_backend or default_backend for this path, no set-path or replace-path",
            ),
            (H::Varnish, "no synth for this path, no change of req.url"),
            (
                H::Caddy,
                "a site block of this host name with reverse_proxy ADDRESS:PORT, no handle_path and uri strip_prefix",
            ),
            (H::QuickTunnel, "the port of cloudflared tunnel --url"),
            (
                H::Cloudflare,
                "the hostname and path of the tunnel's ingress rules, or the DNS record's origin",
            ),
            (
                H::CloudFront,
                "a behaviour for /api/webhook* with hookcast's origin and no origin path",
            ),
        ],
        Trouble::Upstream => &[
            (
                H::Nginx,
                "the address in proxy_pass or upstream; under SELinux setsebool -P httpd_can_network_connect 1",
            ),
            (
                H::Apache,
                "the address in ProxyPass; under SELinux setsebool -P httpd_can_network_connect 1",
            ),
            (
                H::Haproxy,
                "the address in the server line, and its health check: option httpchk GET /api/webhook",
            ),
            (H::Varnish, "the backend's .host and .port, and its probe"),
            (H::Caddy, "the address behind reverse_proxy"),
            (H::QuickTunnel, "the address in cloudflared tunnel --url"),
            (
                H::Cloudflare,
                "the tunnel's service, or the origin's address, port and SSL mode",
            ),
            (H::CloudFront, "the origin's domain, port and protocol"),
            (H::Fastly, "the backend's address, port and health check"),
        ],
        Trouble::Timeout => &[
            (H::Nginx, "proxy_read_timeout"),
            (H::Apache, "ProxyTimeout, or timeout= behind ProxyPass"),
            (H::Haproxy, "timeout client and timeout server"),
            (H::Varnish, "between_bytes_timeout and send_timeout"),
            (
                H::Caddy,
                "read_timeout of the transport, write timeout of the server",
            ),
            (
                H::Cloudflare,
                "its idle limit of 100 s is fixed: lower --heartbeat",
            ),
            (H::CloudFront, "the origin's response timeout"),
            (H::Fastly, "between_bytes_timeout"),
        ],
        Trouble::RequestFields => &[
            (
                H::Nginx,
                "no proxy_pass_request_headers off, no empty proxy_set_header for it",
            ),
            (H::Apache, "no RequestHeader unset"),
            (H::Haproxy, "no http-request del-header"),
            (H::Varnish, "no unset of req.http fields but Cookie"),
            (H::Caddy, "no header_up -FIELD"),
            (H::Cloudflare, "no transform rule that removes it"),
            (H::CloudFront, "the origin request policy AllViewer"),
            (H::Fastly, "no unset of req.http or bereq.http fields"),
        ],
        Trouble::AnswerFields => &[
            (
                H::Nginx,
                "no proxy_hide_header, no expires, no add_header for it",
            ),
            (H::Apache, "no Header set or unset, no ExpiresActive"),
            (H::Haproxy, "no http-response set-header or del-header"),
            (H::Varnish, "no unset of beresp.http or resp.http fields"),
            (H::Caddy, "no header or header_down for it"),
            (
                H::Cloudflare,
                "respect origin headers: Browser Cache TTL and cache rules",
            ),
            (
                H::CloudFront,
                "no response headers policy that overrides it",
            ),
            (H::Fastly, "no change of beresp.http.Cache-Control"),
        ],
        Trouble::Cache => &[
            (
                H::Nginx,
                "no proxy_ignore_headers Cache-Control, no proxy_cache for /api/webhook",
            ),
            (
                H::Apache,
                "no CacheIgnoreCacheControl, CacheStoreNoStore or CacheStorePrivate, CacheDisable /api/webhook",
            ),
            (H::Haproxy, "no http-request cache-use for this path"),
            (
                H::Varnish,
                "do not return from vcl_backend_response before no-store is looked at",
            ),
            (
                H::Cloudflare,
                "no Cache Everything rule, or a bypass for this path",
            ),
            (H::CloudFront, "the cache policy CachingDisabled"),
            (H::Fastly, "return (pass) for this path"),
        ],
        Trouble::Gate => &[
            (
                H::Nginx,
                "auth_basic off, auth_request off, allow all for /api/webhook",
            ),
            (H::Apache, "Require all granted for /api/webhook"),
            (H::Haproxy, "no http-request deny or auth for this path"),
            (H::Caddy, "no basic_auth or forward_auth for this path"),
            (
                H::Cloudflare,
                "an Access bypass policy and a WAF skip rule for this path",
            ),
            (
                H::CloudFront,
                "no signed URLs, no WAF block for this path; all methods allowed",
            ),
        ],
        Trouble::Size => &[
            (
                H::Nginx,
                "client_max_body_size, large_client_header_buffers",
            ),
            (H::Apache, "LimitRequestBody, LimitRequestFieldSize"),
            (H::Haproxy, "tune.bufsize"),
            (H::Caddy, "request_body max_size"),
        ],
    }
}

impl Hop {
    const fn name(self) -> &'static str {
        match self {
            H::Nginx => "nginx",
            H::Apache => "Apache",
            H::Haproxy => "HAProxy",
            H::Varnish => "Varnish",
            H::Caddy => "Caddy",
            H::QuickTunnel => "cloudflared",
            H::Cloudflare => "Cloudflare",
            H::CloudFront => "CloudFront",
            H::Fastly => "Fastly",
        }
    }

    /// Whether this is a service at the edge, which may hide other hops behind it.
    const fn hides_others(self) -> bool {
        matches!(self, H::Cloudflare | H::CloudFront | H::Fastly)
    }
}

/// The known hops on the path.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Hops(Vec<Hop>);

impl Hops {
    /// The hops that name themselves in an answer. `host` is the host name of the address.
    pub(super) fn of(head: &Head, body: &str, host: &str) -> Hops {
        let mut hops = Vec::new();
        let mut add = |hop| {
            if !hops.contains(&hop) {
                hops.push(hop);
            }
        };
        for (hop, field, part) in MARKS {
            if head.mentions(field, part) {
                add(hop);
            }
        }
        // HAProxy adds no header field of its own, but its error pages are recognisable.
        if HAPROXY_PAGES.iter().any(|words| body.contains(words)) {
            add(Hop::Haproxy);
        }
        if host.ends_with(".trycloudflare.com") {
            hops = vec![Hop::QuickTunnel];
        }
        Hops(hops)
    }

    /// The union of both.
    pub(super) fn and(mut self, others: Hops) -> Hops {
        for hop in others.0 {
            if !self.0.contains(&hop) {
                self.0.push(hop);
            }
        }
        self
    }

    /// The settings that correct a problem. Lists those of the known hops, or of all hops if no
    /// known one has a setting. A CDN hides other hops, so all follow those of a CDN.
    pub(super) fn remedy(&self, trouble: Trouble) -> String {
        let is_known = |hop: &Hop| self.0.contains(hop);
        let has_setting = settings(trouble).iter().any(|(hop, _)| is_known(hop));
        let all = !has_setting || self.0.iter().any(|hop| hop.hides_others());
        let named = settings(trouble).iter().filter(|(hop, _)| is_known(hop));
        let others = settings(trouble)
            .iter()
            .filter(|(hop, _)| all && !is_known(hop) && *hop != Hop::QuickTunnel);
        let text: Vec<String> = named
            .chain(others)
            .map(|(hop, setting)| format!("{}: {setting}", hop.name()))
            .collect();
        text.join("; ")
    }
}

/// The fields in which hops name themselves, quoted; `None` if there are none.
pub(super) fn names(head: &Head, secrets: &Secrets) -> Option<String> {
    let names: Vec<String> = FIELDS
        .iter()
        .filter_map(|name| Some(format!("{name}: {}", head.field(name)?.quote(secrets))))
        .collect();
    (!names.is_empty()).then(|| names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hops(fields: &[(&str, &str)], body: &str, host: &str) -> Hops {
        let fields = fields.iter();
        let head = Head {
            status: 200,
            version: "HTTP/1.1".into(),
            fields: fields
                .map(|(name, value)| ((*name).into(), (*value).to_owned().into()))
                .collect(),
        };
        Hops::of(&head, body, host)
    }

    #[test]
    fn a_hop_is_recognised_by_fields_that_only_it_sends() {
        for (fields, body, host, expected) in [
            (&[("server", "nginx/1.22.1")][..], "", "", &[H::Nginx][..]),
            (&[("server", "Apache/2.4 (Debian)")], "", "", &[H::Apache]),
            (
                &[("via", "1.1 varnish (Varnish/7.1)")],
                "",
                "",
                &[H::Varnish],
            ),
            (
                &[("via", "1.1 varnish"), ("server", "nginx")],
                "",
                "",
                &[H::Nginx, H::Varnish],
            ),
            (
                &[("server", "cloudflare"), ("cf-ray", "8a-FRA")],
                "",
                "",
                &[H::Cloudflare],
            ),
            (
                &[("cf-ray", "8a-FRA")],
                "",
                "a-b.trycloudflare.com",
                &[H::QuickTunnel],
            ),
            (&[], HAPROXY_PAGES[0], "", &[H::Haproxy]),
            (&[("server", "gunicorn")], "", "", &[]),
            (&[], "", "trycloudflare.com.example", &[]),
        ] {
            assert_eq!(hops(fields, body, host).0, expected, "{fields:?} {host}");
        }
    }

    #[test]
    fn a_remedy_lists_the_settings_of_the_known_hop() {
        let nginx = hops(&[("server", "nginx")], "", "").remedy(Trouble::Compression);
        assert_eq!(nginx, "nginx: gzip off");
        let unknown = Hops::default().remedy(Trouble::Compression);
        assert!(
            unknown.contains("nginx: ") && unknown.contains("Apache: "),
            "{unknown}"
        );
        assert!(!unknown.contains("cloudflared"), "{unknown}");
        // Hops behind a CDN are hidden, so all are listed.
        let edge = hops(&[("cf-ray", "1")], "", "").remedy(Trouble::Buffering);
        assert!(
            edge.starts_with("Cloudflare: ") && edge.contains("; nginx: "),
            "{edge}"
        );
        let tunnel = hops(&[("cf-ray", "1")], "", "x.trycloudflare.com").remedy(Trouble::Buffering);
        assert!(
            tunnel.starts_with("cloudflared: ") && !tunnel.contains("nginx"),
            "{tunnel}"
        );
        // Varnish has no setting for delays, so those of all hops are listed.
        let other = hops(&[("via", "1.1 varnish")], "", "").remedy(Trouble::Delay);
        assert!(other.contains("option http-no-delay"), "{other}");
    }
}
