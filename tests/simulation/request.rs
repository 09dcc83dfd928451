//! The requests of clients, valid and invalid, and the expected answer to each.

use fastrand::Rng;

use super::model::{Model, SESSIONS, View, one_line, session_name};
use super::stream::StreamSpec;

pub const SECRET: &str = "open sesame";

/// A request and its bytes.
pub struct Request {
    pub bytes: Vec<u8>,
    /// The body, if the client waits for `100 Continue` before it.
    pub held: Option<Vec<u8>>,
    pub expected: Expected,
    pub is_http10: bool,
    pub is_head: bool,
    /// The answer must be the last of its connection.
    pub closes: bool,
}

/// The expected answer to a request.
#[derive(Debug, Clone, Copy)]
pub enum Expected {
    /// A receipt for the message with this key.
    Receipt { key: usize },
    /// This status.
    Status(u16),
    /// This status as soon as the server has read the fault, and nothing after it.
    Refusal(u16),
    /// A stream.
    Stream(StreamSpec),
    /// The head of a stream.
    StreamHead,
    /// None, because the request is never complete; in the end a 408.
    Never,
}

/// The settings on which requests depend.
pub struct Setting {
    pub has_secret: bool,
    /// Streams are shared by a cache. A stream without session and secret gets only untargeted
    /// messages.
    pub is_fanned_out: bool,
    pub body_bytes_max: usize,
    /// The size of most messages, at most.
    pub message_bytes_usual: usize,
}

/// Where a stream ended that another client may resume.
#[derive(Debug, Clone)]
pub struct Resumption {
    pub view: View,
    pub epoch: String,
    pub seq: u64,
}

/// Draws a webhook.
pub fn webhook(rng: &mut Rng, setting: &Setting, model: &mut Model) -> Request {
    let session = rng.bool().then(|| rng.usize(..SESSIONS));
    let bytes_max = match rng.u8(..8) {
        0 => setting.body_bytes_max,
        1 => 60,
        _ => rng.usize(60..=setting.message_bytes_usual.min(setting.body_bytes_max)),
    };
    let is_plain = rng.bool();
    let key = model.offer(session, None, |key| {
        let mut content = filler(key, bytes_max, is_plain);
        // The limits of the body and of the event include escapes.
        while body_of(&content, session, one_line).len() > setting.body_bytes_max {
            let half = content.len() / 2;
            cut(&mut content, half.max(format!("m{key}:").len()));
        }
        if bytes_max == setting.body_bytes_max {
            let room = setting.body_bytes_max - body_of(&content, session, one_line).len();
            content.extend(std::iter::repeat_n('x', room));
        }
        content
    });
    let json: fn(&str) -> String = if key.is_multiple_of(2) {
        one_line
    } else {
        plain
    };
    let body = body_of(&model.offers[key].content, session, json);
    let is_http10 = rng.u8(..8) == 0;
    let asks_to_close = rng.u8(..16) == 0;
    let mut request = Request {
        bytes: Vec::new(),
        held: None,
        expected: Expected::Receipt { key },
        is_http10,
        is_head: false,
        closes: asks_to_close,
    };
    let mut head = Head::new("POST /api/webhook", is_http10);
    if setting.has_secret {
        head.field("X-Webhook-Secret", SECRET);
    }
    if is_http10 && !asks_to_close {
        head.field("Connection", "keep-alive");
    } else if asks_to_close {
        head.field("Connection", "close");
    }
    let waits = !is_http10 && rng.u8(..6) == 0;
    if waits {
        head.field("Expect", "100-continue");
    }
    let body = if !is_http10 && rng.u8(..4) == 0 {
        head.field("Transfer-Encoding", "chunked");
        chunked(rng, body.as_bytes())
    } else {
        head.field("Content-Length", &body.len().to_string());
        body.into_bytes()
    };
    request.bytes = head.end();
    if waits {
        request.held = Some(body);
    } else {
        request.bytes.extend(body);
    }
    request
}

/// The smallest request.
pub fn status() -> Request {
    Request {
        bytes: Head::new("GET /api/webhook", false).end(),
        held: None,
        expected: Expected::Status(200),
        is_http10: false,
        is_head: false,
        closes: false,
    }
}

/// A request for the history without waiting.
pub fn history() -> Request {
    Request {
        bytes: Head::new("GET /api/webhook/messages", false).end(),
        ..status()
    }
}

/// Draws a request that gets a complete answer and publishes nothing.
pub fn other(rng: &mut Rng, setting: &Setting) -> Request {
    let long = "s".repeat(257);
    // Mostly, the server reads the head before the end of this body.
    let body = "x".repeat(rng.usize(..=setting.body_bytes_max));
    let mut cases = vec![
        ("GET /api/webhook", "", 200),
        ("HEAD /api/webhook", "", 200),
        ("OPTIONS /api/webhook", "", 204),
        ("OPTIONS /api/webhook/stream", "", 204),
        ("GET /", "", 200),
        ("HEAD /", "", 200),
        ("GET /nowhere", "", 404),
        ("DELETE /api/webhook", "", 405),
        ("POST /api/webhook/stream", "", 405),
        ("POST /api/webhook/stream", &body, 405),
        ("POST /nowhere", &body, 404),
        ("GET /api/webhook/stream?sessionId=%zz", "", 400),
        ("GET /api/webhook/stream?sessionId=a&sessionId=b", "", 400),
        ("GET /api/webhook/stream?session_id=a", "", 400),
        ("GET /api/webhook/", "", 200),
    ];
    let session_too_long = format!("{{\"message\":\"x\",\"sessionId\":\"{long}\"}}");
    let bodies = [
        "",
        "{",
        "{\"message\":\" \\t\"}",
        "{\"message\":1}",
        "{\"message\":\"x\",\"sessionId\":7}",
        "{\"message\":\"x\",\"session_id\":\"a\"}",
        "{\"message\":\"x\"} x",
        &session_too_long,
    ];
    cases.extend(bodies.map(|body| ("POST /api/webhook", body, 400)));
    let (line, body, mut status) = cases[rng.usize(..cases.len())];
    let mut head = Head::new(line, false);
    let is_guarded = setting.has_secret && line == "POST /api/webhook";
    if is_guarded && rng.bool() {
        head.field("X-Webhook-Secret", SECRET);
    } else if is_guarded {
        status = 401;
        if rng.bool() {
            head.field("X-Webhook-Secret", "open sesami");
        }
    }
    let closes = rng.u8(..16) == 0;
    if closes {
        head.field("Connection", "close");
    }
    if !body.is_empty() {
        head.field("Content-Length", &body.len().to_string());
    }
    let mut bytes = head.end();
    bytes.extend(body.as_bytes());
    Request {
        bytes,
        held: None,
        expected: Expected::Status(status),
        is_http10: false,
        is_head: line.starts_with("HEAD"),
        closes,
    }
}

/// Draws a request that ends its connection, because it is invalid or never complete.
pub fn bad(rng: &mut Rng, setting: &Setting) -> Request {
    let over = setting.body_bytes_max + 1;
    // Without the secret, a valid head is answered before its body is read.
    let secret = if setting.has_secret {
        format!("X-Webhook-Secret: {SECRET}\r\n")
    } else {
        String::new()
    };
    let head = format!("POST /api/webhook HTTP/1.1\r\nHost: sim\r\n{secret}");
    let refused: [(String, u16); 12] = [
        ("GET  / HTTP/1.1\r\n".into(), 400),
        ("\0\0\0".into(), 400),
        ("GET / HTTP/2.0\r\n".into(), 505),
        ("GET / HTTP/1.1\r\n\r\n".into(), 400),
        ("GET / HTTP/1.1\nHost: sim\r\n".into(), 400),
        ("GET / HTTP/1.1\r\nHost : sim\r\n\r\n".into(), 400),
        (format!("{head}Content-Length: {over}\r\n\r\n"), 413),
        (
            format!("{head}Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
            400,
        ),
        (
            format!("{head}Transfer-Encoding: gzip, chunked\r\n\r\n"),
            501,
        ),
        (
            format!("{head}Transfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n"),
            400,
        ),
        (
            format!("{head}Expect: a miracle\r\nContent-Length: 3\r\n\r\nabc"),
            417,
        ),
        (format!("GET /{} HTTP/1.1\r\n", "x".repeat(8200)), 414),
    ];
    let unfinished = [
        "G".to_owned(),
        "GET / HTTP/1.1\r\nHost: sim\r\n".to_owned(),
        format!("{head}Content-Length: 30\r\n\r\n{{\"message\":"),
        format!("{head}Transfer-Encoding: chunked\r\n\r\n5\r\n{{\"mes"),
    ];
    let (bytes, expected) = if rng.u8(..4) == 0 {
        let bytes = &unfinished[rng.usize(..unfinished.len())];
        (bytes.clone().into_bytes(), Expected::Never)
    } else {
        let (bytes, status) = &refused[rng.usize(..refused.len())];
        (bytes.clone().into_bytes(), Expected::Refusal(*status))
    };
    Request {
        bytes,
        held: None,
        expected,
        is_http10: false,
        is_head: false,
        closes: true,
    }
}

/// Draws a request for a stream, which may resume an earlier one.
pub fn subscription(
    rng: &mut Rng,
    setting: &Setting,
    model: &Model,
    resumed: Option<&Resumption>,
) -> Request {
    let is_http10 = rng.u8(..4) == 0;
    let is_head = rng.u8(..16) == 0;
    let view = resumed.map_or_else(|| draw_view(rng, setting), |resumption| resumption.view);
    let mut query = Vec::new();
    if let View::Session(index) = view {
        query.push(format!(
            "sessionId={}",
            percent_encoded(&session_name(index))
        ));
    }
    let id = match resumed {
        Some(resumption) => Some((
            resumption.epoch == model.epoch,
            resumption.seq,
            format!("{}-{}", resumption.epoch, resumption.seq),
        )),
        None => draw_id(rng, model),
    };
    let mut resume_after = None;
    let mut header = None;
    if let Some((is_known, seq, id)) = id {
        resume_after = is_known.then_some(seq);
        if rng.bool() {
            header = Some(id);
        } else {
            query.push(format!("lastEventId={id}"));
        }
    }
    let method = if is_head { "HEAD" } else { "GET" };
    let mark = if query.is_empty() { "" } else { "?" };
    let line = format!("{method} /api/webhook/stream{mark}{}", query.join("&"));
    let mut head = Head::new(&line, is_http10);
    let presents = match view {
        View::Everything => setting.has_secret || setting.is_fanned_out,
        View::Public => false,
        View::Session(_) => setting.has_secret && rng.bool(),
    };
    if presents {
        head.field("X-Webhook-Secret", SECRET);
    }
    if let Some(id) = header {
        head.field("Last-Event-ID", &id);
    }
    let is_shared = setting.is_fanned_out && view == View::Public && !is_http10;
    let spec = StreamSpec {
        view,
        is_chunked: !is_http10,
        // Clients that the cache adds later have other last event ids.
        resume_after: resume_after.filter(|_| !is_shared),
        is_shared,
    };
    Request {
        bytes: head.end(),
        held: None,
        expected: if is_head {
            Expected::StreamHead
        } else {
            Expected::Stream(spec)
        },
        is_http10,
        is_head,
        closes: is_http10 || !is_head,
    }
}

fn draw_view(rng: &mut Rng, setting: &Setting) -> View {
    match rng.u8(..4) {
        0 if setting.has_secret => View::Public,
        0 if setting.is_fanned_out => View::Public,
        0 | 1 => View::Everything,
        _ => View::Session(rng.usize(..SESSIONS)),
    }
}

/// Draws a last event id: whether it is valid, its seq, its text.
fn draw_id(rng: &mut Rng, model: &Model) -> Option<(bool, u64, String)> {
    let seq = rng.u64(0..=model.head_seq() + 2);
    match rng.u8(..8) {
        0 | 1 => Some((true, seq, format!("{}-{seq}", model.epoch))),
        2 => Some((false, seq, format!("00000000deadbeef-{seq}"))),
        3 => Some((false, seq, format!("{}-0{seq}", model.epoch))),
        4 => Some((false, 0, "nonsense".into())),
        _ => None,
    }
}

/// A message's content: its key and a pattern, of about `bytes_max` bytes in all.
pub fn filler(key: usize, bytes_max: usize, is_plain: bool) -> String {
    const PLAIN: &str = "the quick brown fox jumps over the lazy dog ";
    const HARD: &str =
        "\n\r\n\ndata: x\u{0}\u{1f}\"\\/\u{7f}\u{e9}\u{2028}\u{85}\u{2029}\u{1f600}\u{feff} id: 1 ";
    let mut content = format!("m{key}:");
    let pattern = if is_plain { PLAIN } else { HARD };
    while content.len() < bytes_max {
        content.push_str(pattern);
    }
    cut(&mut content, bytes_max.max(format!("m{key}:").len()));
    content
}

fn cut(text: &mut String, bytes_max: usize) {
    let is_boundary = |end: &usize| text.is_char_boundary(*end);
    let end = (0..=bytes_max.min(text.len())).rev().find(is_boundary);
    text.truncate(end.unwrap_or(0));
}

fn plain(text: &str) -> String {
    serde_json::to_string(text).expect("text is JSON")
}

fn body_of(content: &str, session: Option<usize>, json: fn(&str) -> String) -> String {
    match session {
        None => format!("{{\"message\":{}}}", json(content)),
        Some(index) => {
            let name = json(&session_name(index));
            format!("{{\"message\":{},\"sessionId\":{name}}}", json(content))
        }
    }
}

fn chunked(rng: &mut Rng, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = body;
    while !rest.is_empty() {
        let size = rng.usize(1..=rest.len());
        let extension = if rng.u8(..4) == 0 { ";a=\"b\"" } else { "" };
        bytes.extend(format!("{size:x}{extension}\r\n").into_bytes());
        bytes.extend(&rest[..size]);
        bytes.extend(b"\r\n");
        rest = &rest[size..];
    }
    let trailer = if rng.bool() { "Trailing: yes\r\n" } else { "" };
    bytes.extend(format!("0\r\n{trailer}\r\n").into_bytes());
    bytes
}

fn percent_encoded(text: &str) -> String {
    percent_encoding::percent_encode(text.as_bytes(), percent_encoding::NON_ALPHANUMERIC)
        .to_string()
}

/// A request head being written.
struct Head {
    text: String,
}

impl Head {
    fn new(line: &str, is_http10: bool) -> Head {
        let version = if is_http10 { "1.0" } else { "1.1" };
        Head {
            text: format!("{line} HTTP/{version}\r\nHost: sim\r\n"),
        }
    }

    fn field(&mut self, name: &str, value: &str) {
        self.text.extend([name, ": ", value, "\r\n"]);
    }

    fn end(mut self) -> Vec<u8> {
        self.text.push_str("\r\n");
        self.text.into_bytes()
    }
}
