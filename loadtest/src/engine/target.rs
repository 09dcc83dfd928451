//! A server under load: its addresses, and the requests that its protocol makes.
//!
//! Every server that this tool starts sends the same event bytes, so that a delivery is the same work
//! everywhere. Used by `measurement`, `publisher` and `streams`. Its only I/O is resolving a name.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;

use rustls::ClientConfig;
use serde::{Deserialize, Serialize};

use crate::engine::payload::{PayloadFormat, Stamp, write_hex};
use crate::engine::protocol::{Header, Preset, Protocol, Route};
use crate::engine::template::{
    self, Field, ID_BYTES, Part, SESSION_BYTES, SESSION_DIGITS_AT, TIME_BYTES, session_name,
};

/// The field of a stream request that asks for compression (RFC 9110 section 12.5.3).
const ACCEPT_GZIP: &str = "Accept-Encoding: gzip\r\n";

/// The channel on servers that this tool starts.
pub const CHANNEL: &str = "webhook";

/// An address of a server, as a URL names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Where to connect.
    pub address: SocketAddr,
    /// Value of the `Host` field.
    pub host: String,
}

impl Place {
    /// An address without a name.
    pub fn at(address: SocketAddr) -> Place {
        Place {
            address,
            host: address.to_string(),
        }
    }

    /// Parses `http://host[:port][/path]`; returns the path, too. Hosts beyond loopback are refused unless
    /// `any_host`: pointed at someone else's server, this tool is a denial of service.
    pub fn parse(url: &str, any_host: bool) -> Result<(Place, &str), String> {
        let rest = url.strip_prefix("http://").ok_or_else(|| {
            if url.starts_with("https://") {
                format!("{url}: TLS is not supported; name the plain side of its proxy, by http://")
            } else {
                format!("{url}: a URL begins with http://, as http://127.0.0.1:3000")
            }
        })?;
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        if let Some(wrong) = path
            .chars()
            .find(|c| c.is_whitespace() || c.is_control() || *c == '#')
        {
            return Err(format!("{url}: a URL has no {wrong:?}"));
        }
        if authority.is_empty() {
            return Err(format!("{url}: it names no host"));
        }
        let bare_ipv6 = authority.ends_with(']');
        let with_port = match authority.rsplit_once(':') {
            Some(_) if !bare_ipv6 => authority.to_owned(),
            _ => format!("{authority}:80"),
        };
        let mut addresses = with_port
            .to_socket_addrs()
            .map_err(|error| format!("{url}: no address: {error}"))?;
        let address = addresses
            .next()
            .ok_or_else(|| format!("{url}: no address"))?;
        if !any_host && !address.ip().is_loopback() {
            return Err(format!(
                "{authority} is not this machine; load only servers that you own, and say so \
                 with --i-own-this-host"
            ));
        }
        let host = authority.to_owned();
        Ok((Place { address, host }, path))
    }
}

/// A server under load.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Target {
    /// The name in results.
    pub name: String,
    /// Where streams are opened.
    pub streams: Place,
    /// Where messages are posted.
    pub publish: Place,
    /// The requests.
    pub protocol: Protocol,
    /// TLS for streams, if it is on; posts are plain.
    #[serde(skip)]
    pub tls: Option<Arc<ClientConfig>>,
    /// Streams ask for compression, and must get it.
    pub gzip: bool,
    /// Its processes; empty if unknown, then CPU and memory are not measured.
    pub pids: Vec<u32>,
}

impl Target {
    /// A server that was started here, on loopback.
    pub fn local(name: &str, protocol: Protocol, address: SocketAddr, pids: Vec<u32>) -> Target {
        Target {
            name: name.into(),
            streams: Place::at(address),
            publish: Place::at(address),
            protocol,
            tls: None,
            gzip: false,
            pids,
        }
    }

    /// A server with hookcast's API, on loopback.
    pub fn hookcast(name: &str, address: SocketAddr, pids: Vec<u32>) -> Target {
        Target::local(name, Preset::Hookcast.protocol(CHANNEL), address, pids)
    }

    /// Whether the server has sessions.
    pub fn has_sessions(&self) -> bool {
        self.protocol.to_session.is_some()
    }

    fn route(&self, targeted: bool) -> &Route {
        let to_session = self.protocol.to_session.as_ref().filter(|_| targeted);
        to_session.unwrap_or(&self.protocol.to_all)
    }

    /// Whether a stream can have several sessions.
    pub fn repeats_session(&self) -> bool {
        let to_session = self.protocol.to_session.as_ref();
        to_session.is_some_and(|route| template::repeats_session(&route.stream))
    }

    /// The request that opens stream `at`, of its sessions if messages are for sessions.
    pub fn stream_request(
        &self,
        at: usize,
        sessions: impl IntoIterator<Item = u32>,
        last_event_id: Option<&[u8]>,
    ) -> Vec<u8> {
        let mut sessions = sessions.into_iter().peekable();
        let path = &self.route(sessions.peek().is_some()).stream;
        let path = match sessions.peek() {
            Some(_) => template::with_sessions(path, sessions),
            None => template::with_session(path, at as u32),
        };
        let mut request = format!(
            "GET {path} HTTP/1.1\r\nHost: {}\r\nAccept: text/event-stream\r\n{}{}",
            self.streams.host,
            if self.gzip { ACCEPT_GZIP } else { "" },
            lines(&self.protocol.stream_headers),
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
        let route = self.route(targeted);
        let mut body = Draft::default();
        body.append(&route.body, format);
        let mut request = Draft::default();
        request.text(&format!("{} ", self.protocol.publish_method));
        request.append(&route.publish, format);
        request.text(&format!(
            " HTTP/1.1\r\nHost: {}\r\n{}Content-Length: {}\r\n\r\n",
            self.publish.host,
            lines(&self.protocol.publish_headers),
            body.bytes.len()
        ));
        let body_at = request.bytes.len();
        request.bytes.extend_from_slice(&body.bytes);
        let moved = body
            .fields
            .into_iter()
            .map(|(at, field)| (body_at + at, field));
        request.fields.extend(moved);
        PublishRequest {
            bytes: request.bytes,
            fields: request.fields,
            format: format.clone(),
        }
    }

    /// Source addresses for streams: every loopback address belongs to this machine and has its own ports.
    pub fn source(&self, group: u8) -> Option<SocketAddr> {
        match self.streams.address.ip() {
            IpAddr::V4(ip) if ip.is_loopback() && group > 0 => {
                Some(SocketAddr::from(([127, 0, 0, 1 + group], 0)))
            }
            _ => None,
        }
    }
}

fn lines(headers: &[Header]) -> String {
    let line = |header: &Header| format!("{}: {}\r\n", header.name, header.value);
    headers.iter().map(line).collect()
}

/// A request under construction.
#[derive(Default)]
struct Draft {
    bytes: Vec<u8>,
    fields: Vec<(usize, Field)>,
}

impl Draft {
    fn text(&mut self, text: &str) {
        self.bytes.extend_from_slice(text.as_bytes());
    }

    /// Appends a template. One that is no template was refused when the protocol was made.
    fn append(&mut self, template: &str, format: &PayloadFormat) {
        for part in template::parts(template).unwrap_or_default() {
            match part {
                Part::Text(text) => self.text(text),
                Part::Field(field) => {
                    self.fields.push((self.bytes.len(), field));
                    match field {
                        Field::Session => self.text(&session_name(0)),
                        _ => self.bytes.extend_from_slice(format.blank_field(field)),
                    }
                }
            }
        }
    }
}

/// A publish request whose variable digits are patched in place.
#[derive(Clone)]
pub struct PublishRequest {
    bytes: Vec<u8>,
    fields: Vec<(usize, Field)>,
    format: PayloadFormat,
}

impl PublishRequest {
    /// Appends the request for the message `stamp` to `out`, for `session` if it is targeted.
    pub fn write(&mut self, out: &mut Vec<u8>, stamp: Stamp, session: u32) {
        for &(at, field) in &self.fields {
            let bytes = &mut self.bytes[at..];
            match field {
                Field::Message => self.format.stamp(bytes, stamp),
                Field::Id => PayloadFormat::write_id(&mut bytes[..ID_BYTES], stamp),
                Field::Time => self.format.write_time(&mut bytes[..TIME_BYTES], stamp),
                Field::Session => {
                    write_hex(&mut bytes[SESSION_DIGITS_AT..SESSION_BYTES], session.into());
                }
                Field::Filler => {}
            }
        }
        out.extend_from_slice(&self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::protocol::blank;

    fn target(protocol: Protocol) -> Target {
        Target::local("x", protocol, "127.0.0.1:1".parse().unwrap(), Vec::new())
    }

    #[test]
    fn urls_name_host_port_and_path() {
        let (place, path) = Place::parse("http://127.0.0.1:3000/hooks?x", false).unwrap();
        assert_eq!(place.address, "127.0.0.1:3000".parse().unwrap());
        assert_eq!((&place.host[..], path), ("127.0.0.1:3000", "/hooks?x"));
        let (place, path) = Place::parse("http://[::1]?a", false).unwrap();
        assert_eq!((place.address, path), ("[::1]:80".parse().unwrap(), "?a"));
        let target = target(Preset::Hookcast.protocol(CHANNEL));
        let request = String::from_utf8(target.stream_request(0, [10], Some(b"abc-7"))).unwrap();
        assert!(request.starts_with(
            "GET /api/webhook/stream?sessionId=session-0000000a HTTP/1.1\r\nHost: 127.0.0.1:1\r\n"
        ));
        assert!(request.ends_with("Last-Event-ID: abc-7\r\n\r\n"));
    }

    #[test]
    fn other_machines_are_refused_without_the_flag() {
        let error = |url| Place::parse(url, false).unwrap_err();
        assert!(error("http://192.0.2.1:80").contains("own"));
        assert!(Place::parse("http://192.0.2.1:80", true).is_ok());
        assert!(error("https://127.0.0.1").contains("TLS"));
        assert!(error("127.0.0.1:3000").contains("begins with http://"));
        assert!(error("http://:3000").contains("no address"));
        assert!(error("http:///").contains("no host"));
        assert!(error("http://127.0.0.1/a b").contains("' '"));
        assert!(Place::parse("http://127.0.0.1:x", false).is_err());
    }

    /// The body of a stamped request.
    fn post(target: &Target, format: &PayloadFormat, targeted: bool) -> (String, String) {
        let mut out = Vec::new();
        let stamp = Stamp {
            number: 77,
            sent_ns: 99_000,
        };
        let mut request = target.publish_request(format, targeted);
        request.write(&mut out, stamp, 0xab);
        assert_eq!(format.read(&out[format.find(&out).unwrap()..]), Some(stamp));
        let text = String::from_utf8(out).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(
            head.contains(&format!("Content-Length: {}", body.len())),
            "{head}"
        );
        (head.to_owned(), body.to_owned())
    }

    #[test]
    fn every_preset_posts_its_message_in_a_valid_body() {
        let format = PayloadFormat::new(3, 80);
        for preset in <Preset as clap::ValueEnum>::value_variants() {
            let target = target(preset.protocol(CHANNEL));
            let (_, body) = post(&target, &format, target.has_sessions());
            if *preset == Preset::Mercure {
                assert!(
                    body.starts_with("topic=webhook-session-000000ab&data=hc:"),
                    "{body}"
                );
                continue;
            }
            let json: serde_json::Value = serde_json::from_str(&body).unwrap();
            if *preset == Preset::Hookcast {
                assert_eq!(json["sessionId"], session_name(0xab));
                assert_eq!(json["message"].as_str().unwrap().len(), 80);
            }
        }
    }

    #[test]
    fn a_request_of_single_fields_is_patched_in_head_and_body() {
        let body = r#"{"n":"{id}","at":{time},"text":"{filler}"}"#;
        let format = PayloadFormat::of(3, 90, &template::message_of(body).unwrap()).unwrap();
        let route = Route {
            stream: "/s/{session}".into(),
            publish: "/p/{session}/{id}".into(),
            body: body.into(),
        };
        let target = target(Protocol {
            to_all: route,
            publish_method: "PUT".into(),
            publish_headers: vec![Header::new("X-Key", "k")],
            ..blank()
        });
        let (head, body) = post(&target, &format, false);
        assert!(
            head.starts_with("PUT /p/session-000000ab/00000003-0000004d HTTP/1.1\r\n"),
            "{head}"
        );
        assert!(head.contains("\r\nX-Key: k\r\n"), "{head}");
        let json: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert!(json["at"].as_u64().unwrap() > 1_600_000_000_000_000);
        let stream = String::from_utf8(target.stream_request(5, [], None)).unwrap();
        assert!(stream.starts_with("GET /s/session-00000005 "), "{stream}");
    }
}
