//! A server under load: addresses, and the requests that each kind of server understands.
//!
//! Every server sends the same event bytes, so that a delivery is the same work everywhere. Used by
//! `measurement`, `publisher` and `streams`. Its only I/O is resolving a name.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;

use rustls::ClientConfig;

use crate::engine::payload::{PayloadFormat, Stamp, write_hex};

/// The API of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// hookcast's own contract, which the floor and the axum peer share.
    Hookcast,
    /// Nchan: the body of a POST becomes the event's data unchanged.
    Nchan,
    /// Pushpin: a GRIP publish request on its control port.
    Pushpin,
}

impl Dialect {
    /// Limits the wanted number of handshakes in progress. Pushpin answers some requests of a burst with 502
    /// before it asks its backend.
    pub fn opening_max(self, wanted: usize) -> usize {
        if self == Dialect::Pushpin {
            wanted.min(PUSHPIN_OPENING_MAX)
        } else {
            wanted
        }
    }

    /// How often a stream that fails before messages flow is opened again; counted in the result.
    pub fn open_retries(self) -> u32 {
        if self == Dialect::Pushpin {
            PUSHPIN_OPEN_RETRIES
        } else {
            0
        }
    }
}

/// A server under load.
#[derive(Debug, Clone)]
pub struct Target {
    /// The name in results.
    pub name: String,
    /// Its API.
    pub dialect: Dialect,
    /// Address for streams.
    pub streams: SocketAddr,
    /// Address for posts.
    pub publish: SocketAddr,
    /// Value of the `Host` field.
    pub host: String,
    /// TLS for streams, if it is on; posts are plain.
    pub tls: Option<Arc<ClientConfig>>,
    /// Path before `/api/webhook`.
    pub base_path: String,
    /// Value of `X-Webhook-Secret`, if the server needs one.
    pub secret: Option<String>,
    /// Whether a new stream gets the last 100 messages.
    pub has_history: bool,
    /// Its processes; empty if unknown, then CPU and memory are not measured.
    pub pids: Vec<u32>,
}

/// Event id and time for servers that make none, as long as real ones.
const EVENT_BEFORE: &str =
    r#"{"type":"webhook_message","id":"00000000-0000-4000-8000-000000000000","content":""#;
const EVENT_AFTER: &str = r#"","timestamp":1700000000000}"#;
/// The channel on Nchan and Pushpin.
pub const CHANNEL: &str = "webhook";
/// See [`Dialect::opening_max`].
const PUSHPIN_OPENING_MAX: usize = 16;
/// See [`Dialect::open_retries`].
const PUSHPIN_OPEN_RETRIES: u32 = 20;
const SESSION_DIGITS: usize = 8;

/// The name of session `number`, of constant width.
pub fn session_name(number: u32) -> String {
    format!("session-{number:08x}")
}

impl Target {
    /// A server that was started here, on loopback.
    pub fn local(name: &str, dialect: Dialect, address: SocketAddr, pids: Vec<u32>) -> Target {
        Target {
            name: name.into(),
            dialect,
            streams: address,
            publish: address,
            host: address.to_string(),
            tls: None,
            base_path: String::new(),
            secret: None,
            has_history: dialect != Dialect::Pushpin,
            pids,
        }
    }

    /// Parses `http://host[:port][/base]`. Hosts beyond loopback are refused unless `any_host`: pointed at
    /// someone else's server, this tool is a denial of service.
    pub fn parse(url: &str, any_host: bool) -> Result<Target, String> {
        let rest = url.strip_prefix("http://").ok_or_else(|| {
            format!("{url}: only http:// is supported; use the plain side of a TLS proxy")
        })?;
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let bare_ipv6 = authority.ends_with(']');
        let with_port = match authority.rsplit_once(':') {
            Some(_) if !bare_ipv6 => authority.to_owned(),
            _ => format!("{authority}:80"),
        };
        let mut addresses = with_port
            .to_socket_addrs()
            .map_err(|error| format!("{authority}: {error}"))?;
        let address = addresses
            .next()
            .ok_or_else(|| format!("{authority}: no address"))?;
        if !any_host && !address.ip().is_loopback() {
            return Err(format!(
                "{authority} is not this machine; load only servers that you own, and say so \
                 with --i-own-this-host"
            ));
        }
        let mut target = Target::local("server", Dialect::Hookcast, address, Vec::new());
        authority.clone_into(&mut target.host);
        path.trim_end_matches('/').clone_into(&mut target.base_path);
        Ok(target)
    }

    /// Whether the server has sessions.
    pub fn has_sessions(&self) -> bool {
        self.dialect == Dialect::Hookcast
    }

    /// The request that opens a stream.
    pub fn stream_request(&self, session: Option<u32>, last_event_id: Option<&[u8]>) -> Vec<u8> {
        let path = match self.dialect {
            Dialect::Hookcast => "/api/webhook/stream",
            Dialect::Nchan => "/sub",
            Dialect::Pushpin => "/stream",
        };
        let query = session.map(|number| format!("?sessionId={}", session_name(number)));
        let mut request = format!(
            "GET {}{path}{} HTTP/1.1\r\nHost: {}\r\nAccept: text/event-stream\r\n{}",
            self.base_path,
            query.unwrap_or_default(),
            self.host,
            self.secret_field(),
        )
        .into_bytes();
        if let Some(id) = last_event_id {
            request.extend_from_slice(b"Last-Event-ID: ");
            request.extend_from_slice(id);
            request.extend_from_slice(b"\r\n");
        }
        request.extend_from_slice(b"\r\n");
        request
    }

    /// The request that posts a message, ready to be stamped; with a session if `targeted`.
    pub fn publish_request(&self, format: &PayloadFormat, targeted: bool) -> PublishRequest {
        let text = String::from_utf8_lossy(format.blank());
        let (path, content_type, body) = match self.dialect {
            Dialect::Hookcast => {
                let session = if targeted {
                    format!(r#","sessionId":"{}""#, session_name(0))
                } else {
                    String::new()
                };
                let body = format!(r#"{{"message":"{text}"{session}}}"#);
                ("/api/webhook".into(), "application/json", body)
            }
            Dialect::Nchan => {
                let body = format!("{EVENT_BEFORE}{text}{EVENT_AFTER}");
                ("/pub".into(), "text/plain", body)
            }
            Dialect::Pushpin => {
                let event =
                    format!("id: 0123456789abcdef-1\ndata: {EVENT_BEFORE}{text}{EVENT_AFTER}\n\n");
                let event = serde_json::Value::String(event);
                let body = format!(
                    r#"{{"items":[{{"channel":"{CHANNEL}","formats":{{"http-stream":{{"content":{event}}}}}}}]}}"#
                );
                ("/publish/".to_owned(), "application/json", body)
            }
        };
        let head = format!(
            "POST {}{path} HTTP/1.1\r\nHost: {}\r\nContent-Type: {content_type}\r\n{}\
             Content-Length: {}\r\n\r\n",
            self.base_path,
            self.host,
            self.secret_field(),
            body.len()
        );
        PublishRequest::new(head.into_bytes(), body.as_bytes(), format)
    }

    fn secret_field(&self) -> String {
        let field = |secret: &String| format!("X-Webhook-Secret: {secret}\r\n");
        self.secret.as_ref().map(field).unwrap_or_default()
    }

    /// Source addresses for streams: every loopback address belongs to this machine and has its own ports.
    pub fn source(&self, group: u8) -> Option<SocketAddr> {
        match self.streams.ip() {
            IpAddr::V4(ip) if ip.is_loopback() && group > 0 => {
                Some(SocketAddr::from(([127, 0, 0, 1 + group], 0)))
            }
            _ => None,
        }
    }
}

/// A POST whose variable digits are patched in place.
#[derive(Clone)]
pub struct PublishRequest {
    bytes: Vec<u8>,
    payload_at: usize,
    session_at: Option<usize>,
}

impl PublishRequest {
    fn new(mut head: Vec<u8>, body: &[u8], format: &PayloadFormat) -> PublishRequest {
        let body_at = head.len();
        head.extend_from_slice(body);
        let payload_at = body_at + format.find(body).unwrap_or(0);
        let session = memchr::memmem::find(body, b"session-");
        let session_at = session.map(|at| body_at + at + "session-".len());
        PublishRequest {
            bytes: head,
            payload_at,
            session_at,
        }
    }

    /// Appends the request for the message `stamp` to `out`, for `session` if it is targeted.
    pub fn write(&mut self, out: &mut Vec<u8>, stamp: Stamp, session: u32) {
        PayloadFormat::stamp(&mut self.bytes[self.payload_at..], stamp);
        if let Some(at) = self.session_at {
            write_hex(&mut self.bytes[at..at + SESSION_DIGITS], session.into());
        }
        out.extend_from_slice(&self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_name_host_port_and_base() {
        let target = Target::parse("http://127.0.0.1:3000/hooks/", false).unwrap();
        assert_eq!(target.streams, "127.0.0.1:3000".parse().unwrap());
        assert_eq!(target.host, "127.0.0.1:3000");
        let request = target.stream_request(Some(10), Some(b"abc-7"));
        let request = String::from_utf8(request).unwrap();
        assert!(request.starts_with(
            "GET /hooks/api/webhook/stream?sessionId=session-0000000a HTTP/1.1\r\nHost: 127.0.0.1:3000\r\n"
        ));
        assert!(request.ends_with("Last-Event-ID: abc-7\r\n\r\n"));
        let target = Target::parse("http://[::1]", false).unwrap();
        assert_eq!(target.streams, "[::1]:80".parse().unwrap());
    }

    #[test]
    fn other_machines_are_refused_without_the_flag() {
        assert!(
            Target::parse("http://192.0.2.1:80", false)
                .unwrap_err()
                .contains("own")
        );
        assert!(Target::parse("http://192.0.2.1:80", true).is_ok());
        assert!(
            Target::parse("https://127.0.0.1", false)
                .unwrap_err()
                .contains("http://")
        );
        assert!(Target::parse("http://127.0.0.1:x", false).is_err());
    }

    #[test]
    fn a_stamped_post_is_valid_json_with_its_message() {
        let format = PayloadFormat::new(3, 80);
        let mut out = Vec::new();
        for dialect in [Dialect::Hookcast, Dialect::Nchan, Dialect::Pushpin] {
            let address = "127.0.0.1:1".parse().unwrap();
            let target = Target::local("x", dialect, address, Vec::new());
            let mut request = target.publish_request(&format, dialect == Dialect::Hookcast);
            out.clear();
            let stamp = Stamp {
                number: 77,
                sent_ns: 99,
            };
            request.write(&mut out, stamp, 0xab);
            let text = String::from_utf8(out.clone()).unwrap();
            let (head, body) = text.split_once("\r\n\r\n").unwrap();
            assert!(head.contains(&format!("Content-Length: {}", body.len())));
            let json: serde_json::Value = serde_json::from_str(body).unwrap();
            assert_eq!(format.read(&out[format.find(&out).unwrap()..]), Some(stamp));
            if dialect == Dialect::Hookcast {
                assert_eq!(json["sessionId"], session_name(0xab));
                assert_eq!(json["message"].as_str().unwrap().len(), 80);
            }
        }
    }
}
