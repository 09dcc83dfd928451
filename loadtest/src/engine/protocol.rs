//! The protocol of a server: how a stream is opened, how a message is published, how an event shows it.
//!
//! One description serves the servers that this tool starts, the presets and the flags of a run. `target` makes
//! requests of it. Plain data: a process of a run gets it as JSON.

use std::fmt::Write;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::engine::payload::MESSAGE;

/// A field of a request. Its value may be a secret: it is shown in no output.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
}

impl std::fmt::Debug for Header {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: …", self.name)
    }
}

impl Header {
    /// A field.
    pub fn new(name: &str, value: &str) -> Header {
        Header {
            name: name.into(),
            value: value.into(),
        }
    }

    /// Parses `Name: value`. An error never holds the value.
    pub fn parse(line: &str) -> Result<Header, String> {
        let is_token =
            |byte: u8| byte.is_ascii_graphic() && !b"()<>@,;:\\\"/[]?={}".contains(&byte);
        let is_value = |byte: u8| byte == b'\t' || (byte >= b' ' && byte != 0x7f);
        let (name, value) = line
            .split_once(':')
            .ok_or("a header has the form 'Name: value'")?;
        let value = value.trim();
        if name.is_empty() || !name.bytes().all(is_token) {
            return Err(
                "the name of a header is letters, digits and hyphens before a colon".into(),
            );
        }
        if !value.bytes().all(is_value) {
            return Err(format!("the value of {name} has a control character"));
        }
        let own = ["host", "content-length", "transfer-encoding", "connection"];
        if own.contains(&name.to_ascii_lowercase().as_str()) {
            return Err(format!("{name} is set by this program"));
        }
        Ok(Header::new(name, value))
    }
}

/// Adds a field, in the place of one of the same name.
pub fn set_header(headers: &mut Vec<Header>, header: Header) {
    headers.retain(|other| !other.name.eq_ignore_ascii_case(&header.name));
    headers.push(header);
}

/// The requests of one kind of message, as templates.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Path and query of a stream: `{session}`.
    pub stream: String,
    /// Path and query of a publish request: `{session}`.
    pub publish: String,
    /// Its body: all fields.
    pub body: String,
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Protocol {
    /// Messages for all streams.
    pub to_all: Route,
    /// Messages for the streams of one session, if the server has sessions.
    pub to_session: Option<Route>,
    /// Fields of a stream request.
    pub stream_headers: Vec<Header>,
    /// The method of a publish request.
    pub publish_method: String,
    /// Its fields.
    pub publish_headers: Vec<Header>,
    /// The text of a message as it stands in an event.
    pub message: String,
    /// Whether the server takes a request before it has answered the last one.
    pub pipelining: bool,
    /// Handshakes in progress at once, at most.
    pub opening_max: usize,
    /// How often a stream that fails before messages flow is opened again; counted in the result.
    pub open_retries: u32,
    /// Whether a new stream gets the last 100 messages.
    pub shows_history: bool,
    /// Whether the first event of a stream announces how many.
    pub announces_history: bool,
}

/// Servers whose protocol is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Preset {
    /// hookcast and servers with its API: the floor, the axum peer
    Hookcast,
    /// A Pages app with hookcast's API: one request at a time
    Pages,
    /// Nchan with `nchan_channel_id $arg_id` at /pub and /sub
    Nchan,
    /// Pushpin: streams at /stream, its control port at --publish-url [default: port 5561]
    Pushpin,
    /// A Mercure hub at /.well-known/mercure; its token is a --publish-header
    Mercure,
    /// Centrifugo with `uni_sse`; its X-API-Key is a --publish-header
    Centrifugo,
}

/// Port of Pushpin's control requests, by its default configuration.
const PUSHPIN_PORT: u16 = 5561;

/// Pushpin answers some requests of a burst with 502 before it asks its backend.
const PUSHPIN_OPENING_MAX: usize = 16;

/// See [`Protocol::open_retries`].
const PUSHPIN_OPEN_RETRIES: u32 = 20;

/// An event as long as hookcast's, for servers that take a finished one.
const EVENT: &str = r#"{"type":"webhook_message","id":"00000000-0000-4000-8000-000000000000","content":"{message}","timestamp":1700000000000}"#;

impl Preset {
    /// The port of publish requests, if it is not that of streams.
    pub fn publish_port(self) -> Option<u16> {
        (self == Preset::Pushpin).then_some(PUSHPIN_PORT)
    }

    /// The protocol, for messages on `channel` where the server has channels.
    pub fn protocol(self, channel: &str) -> Protocol {
        match self {
            Preset::Hookcast => hookcast(),
            Preset::Pages => Protocol {
                pipelining: false,
                announces_history: false,
                ..hookcast()
            },
            Preset::Nchan => Protocol {
                shows_history: true,
                pipelining: true,
                ..blank()
            }
            .on_channels(
                |_, channel| Route {
                    stream: format!("/sub?id={channel}"),
                    publish: format!("/pub?id={channel}"),
                    body: EVENT.into(),
                },
                channel,
            )
            .publishing("text/plain"),
            Preset::Pushpin => Protocol {
                opening_max: PUSHPIN_OPENING_MAX,
                open_retries: PUSHPIN_OPEN_RETRIES,
                ..blank()
            }
            .on_one(Route {
                stream: "/stream".into(),
                publish: "/publish/".into(),
                body: pushpin_body(channel),
            })
            .publishing("application/json"),
            Preset::Mercure => Protocol {
                pipelining: true,
                ..blank()
            }
            .on_channels(
                |_, channel| Route {
                    stream: format!("/.well-known/mercure?topic={channel}"),
                    publish: "/.well-known/mercure".into(),
                    body: format!("topic={channel}&data={{message}}"),
                },
                channel,
            )
            .publishing("application/x-www-form-urlencoded"),
            Preset::Centrifugo => Protocol {
                pipelining: true,
                ..blank()
            }
            .on_channels(
                |channel, in_url| Route {
                    // {"subs":{"CHANNEL":{}}}
                    stream: format!(
                        "/connection/uni_sse?cf_connect=%7B%22subs%22%3A%7B%22{in_url}%22%3A%7B%7D%7D%7D"
                    ),
                    publish: "/api/publish".into(),
                    body: format!(r#"{{"channel":"{channel}","data":{{"text":"{{message}}"}}}}"#),
                },
                channel,
            )
            .publishing("application/json"),
        }
    }
}

/// What is true of an HTTP server of which nothing is known.
pub fn blank() -> Protocol {
    Protocol {
        to_all: Route {
            stream: "/".into(),
            publish: "/".into(),
            body: String::new(),
        },
        to_session: None,
        stream_headers: Vec::new(),
        publish_method: "POST".into(),
        publish_headers: Vec::new(),
        message: MESSAGE.into(),
        pipelining: false,
        opening_max: usize::MAX,
        open_retries: 0,
        shows_history: false,
        announces_history: false,
    }
}

impl Protocol {
    fn on_one(self, route: Route) -> Protocol {
        Protocol {
            to_all: route,
            ..self
        }
    }

    /// One channel for all; for each session a channel of its own.
    fn on_channels(self, route: impl Fn(&str, &str) -> Route, channel: &str) -> Protocol {
        let in_url = percent_encoded(channel);
        let own = |name: &str| format!("{name}-{{session}}");
        Protocol {
            to_all: route(channel, &in_url),
            to_session: Some(route(&own(channel), &own(&in_url))),
            ..self
        }
    }

    fn publishing(mut self, content_type: &str) -> Protocol {
        set_header(
            &mut self.publish_headers,
            Header::new("Content-Type", content_type),
        );
        self
    }
}

fn hookcast() -> Protocol {
    let stream = "/api/webhook/stream";
    let publish = "/api/webhook";
    Protocol {
        to_all: Route {
            stream: stream.into(),
            publish: publish.into(),
            body: r#"{"message":"{message}"}"#.into(),
        },
        to_session: Some(Route {
            stream: format!("{stream}?sessionId={{session}}"),
            publish: publish.into(),
            body: r#"{"message":"{message}","sessionId":"{session}"}"#.into(),
        }),
        pipelining: true,
        shows_history: true,
        announces_history: true,
        ..blank()
    }
    .publishing("application/json")
}

/// A publish request of GRIP, with a finished event.
fn pushpin_body(channel: &str) -> String {
    let text = |text: &str| serde_json::Value::String(text.to_owned()).to_string();
    let event = text(&format!("id: 0123456789abcdef-1\ndata: {EVENT}\n\n"));
    format!(
        r#"{{"items":[{{"channel":{},"formats":{{"http-stream":{{"content":{event}}}}}}}]}}"#,
        text(channel)
    )
}

/// `text` as a part of a query or a form.
fn percent_encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut encoded, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
        encoded
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_checked_and_its_value_never_shown() {
        let header = Header::parse("Authorization:  Bearer abc ").unwrap();
        assert_eq!(
            (&header.name[..], &header.value[..]),
            ("Authorization", "Bearer abc")
        );
        assert_eq!(format!("{header:?}"), "Authorization: …");
        for wrong in [
            "secret",
            ": secret",
            "a b: secret",
            "x: secret\r\ny: z",
            "Host: secret",
        ] {
            let error = Header::parse(wrong).unwrap_err();
            assert!(!error.contains("secret"), "{wrong:?}: {error}");
        }
        let mut headers = vec![Header::new("content-type", "a")];
        set_header(&mut headers, Header::new("Content-Type", "b"));
        assert_eq!(headers, [Header::new("Content-Type", "b")]);
    }

    #[test]
    fn channels_are_encoded_where_they_stand() {
        let route = |preset: Preset| preset.protocol("https://a.b/c d").to_all;
        let mercure = route(Preset::Mercure);
        assert_eq!(
            mercure.stream,
            "/.well-known/mercure?topic=https%3A%2F%2Fa.b%2Fc%20d"
        );
        assert_eq!(
            mercure.body,
            "topic=https%3A%2F%2Fa.b%2Fc%20d&data={message}"
        );
        assert!(
            route(Preset::Pushpin)
                .body
                .contains(r#""channel":"https://a.b/c d""#)
        );
    }
}
