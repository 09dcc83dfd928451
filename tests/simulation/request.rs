//! The requests of clients, valid and invalid, and the expected answer to each.

use fastrand::Rng;

use hookcast::testkit::sign_token_with;
use serde_json::json;

use super::model::{Model, SESSIONS, View, one_line, session_name};
use super::node::token_secret;
use super::operation::pick;
use super::stream::{Begin, Since, StreamSpec, TokenSpec};

pub const SECRET: &str = "open sesame";

/// A request and its bytes.
#[expect(clippy::struct_excessive_bools, reason = "independent facts")]
pub struct Request {
    pub bytes: Vec<u8>,
    /// The body, if the client waits for `100 Continue` before it.
    pub held: Option<Vec<u8>>,
    pub expected: Expected,
    pub is_http10: bool,
    pub is_head: bool,
    /// The answer must be the last of its connection.
    pub closes: bool,
    /// It waits for a verdict.
    pub is_for_source: bool,
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
    pub compresses: bool,
    pub body_bytes_max: usize,
    /// The size of most messages, at most.
    pub message_bytes_usual: usize,
    /// What tokens are made with, if the server has keys of them.
    pub token: Option<TokenSetting>,
}

/// What a token is made with.
#[derive(Debug, Clone, Copy)]
pub struct TokenSetting {
    /// The present time.
    pub unix_ms: u64,
    /// The number of the key.
    pub key: usize,
}

/// Where a stream ended that another client may resume.
#[derive(Debug, Clone)]
pub struct Resumption {
    pub view: View,
    pub epoch: String,
    pub seq: u64,
}

/// Draws a message, which fits into a webhook, and returns its key.
fn draw_message(rng: &mut Rng, setting: &Setting, model: &mut Model) -> usize {
    let session = rng.bool().then(|| rng.usize(..SESSIONS));
    let bytes_max = match rng.u8(..8) {
        0 => setting.body_bytes_max,
        1 => 60,
        _ => rng.usize(60..=setting.message_bytes_usual.min(setting.body_bytes_max)),
    };
    let is_plain = rng.bool();
    model.offer(session, None, |key| {
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
    })
}

/// Draws a webhook.
pub fn webhook(rng: &mut Rng, setting: &Setting, model: &mut Model) -> Request {
    let key = draw_message(rng, setting, model);
    let session = model.offers[key].session;
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
        is_for_source: false,
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

/// A body that a source refuses.
pub const REFUSED: &str = "refuse";

/// A body that a source answers without a message.
pub const ANSWERED: &str = "answer";

/// Draws a request to a source: a message as it is, or one that publishes nothing.
pub fn to_source(rng: &mut Rng, setting: &Setting, model: &mut Model) -> Request {
    let (expected, body) = match rng.u8(..8) {
        0 => (Expected::Status(400), REFUSED.to_owned()),
        1 => (Expected::Status(200), ANSWERED.to_owned()),
        _ => {
            let key = draw_message(rng, setting, model);
            let body = model.offers[key].content.clone();
            (Expected::Receipt { key }, body)
        }
    };
    let closes = rng.u8(..16) == 0;
    let mut head = Head::new("POST /api/webhook/in/large?a=b", false);
    if closes {
        head.field("Connection", "close");
    }
    let body = if rng.u8(..4) == 0 {
        head.field("Transfer-Encoding", "chunked");
        chunked(rng, body.as_bytes())
    } else {
        head.field("Content-Length", &body.len().to_string());
        body.into_bytes()
    };
    let mut bytes = head.end();
    bytes.extend(body);
    Request {
        bytes,
        expected,
        closes,
        is_for_source: true,
        ..status()
    }
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
        is_for_source: false,
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
    let sessions: Vec<String> = (0..17).map(|i| format!("sessionId={i}")).collect();
    let too_many = format!("GET /api/webhook/messages?{}", sessions.join("&"));
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
        ("GET /api/webhook/stream?replay=1&replay=1", "", 400),
        ("GET /api/webhook/stream?replay=101", "", 400),
        ("GET /api/webhook/stream?since=yesterday", "", 400),
        ("GET /api/webhook/messages?since=nonsense", "", 400),
        (&too_many, "", 400),
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
        is_for_source: false,
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
        is_for_source: false,
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
    // A generator of its own leaves the other choices of a seed as they are.
    let mut own = Rng::with_seed(!rng.clone().u64(..));
    let token = setting.token.filter(|_| !is_head && own.bool());
    let token = token.map(|setting| draw_token(&mut own, setting, view));
    // Without a session in the request, the token decides.
    let names_sessions = token.is_none() || own.bool();
    for index in view.sessions().filter(|_| names_sessions) {
        let name = percent_encoded(&session_name(index));
        query.push(format!("sessionId={name}"));
        if own.u8(..8) == 0 {
            query.push(format!("sessionId={name}"));
        }
    }
    let begin = draw_begin(&mut own, model, &mut query);
    if let Some((text, _)) = &token {
        query.push(format!("token={text}"));
    }
    own.shuffle(&mut query);
    let id = match resumed {
        Some(resumption) => Some((
            resumption.epoch == model.epoch,
            resumption.seq,
            format!("{}-{}", resumption.epoch, resumption.seq),
        )),
        None => draw_id(rng, model),
    };
    let has_id = id.is_some();
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
        View::Session(_) | View::Several(_) => {
            setting.has_secret && (rng.bool() || setting.token.is_some())
        }
    };
    if presents && token.is_none() {
        head.field("X-Webhook-Secret", SECRET);
    }
    if token.is_some() {
        // A token that has ended gets an ordinary answer.
        head.field("Connection", "close");
    }
    if let Some(id) = header {
        head.field("Last-Event-ID", &id);
    }
    let is_plain = begin == Begin::default();
    let is_public = view == View::Public && token.is_none();
    let is_shared = setting.is_fanned_out && is_public && !is_http10 && is_plain;
    let accepts_gzip = setting.compresses && own.u8(..3) == 0;
    if accepts_gzip {
        head.field("Accept-Encoding", "gzip");
    }
    let spec = StreamSpec {
        view,
        is_chunked: !is_http10,
        is_gzip: accepts_gzip && !is_http10 && !is_shared,
        // Clients that the cache adds later have other last event ids.
        resume_after: resume_after.filter(|_| !is_shared),
        // An id wins, also if it is unknown.
        begin: if has_id { Begin::default() } else { begin },
        is_shared,
        token: token.map(|(_, spec)| spec),
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
        is_for_source: false,
    }
}

/// Draws a token for a view.
fn draw_token(own: &mut Rng, setting: TokenSetting, view: View) -> (String, TokenSpec) {
    let seconds = [0, 1, 3, 15, 58, 61, 63, 80, 200, 100_000];
    let exp = setting.unix_ms / 1000 + seconds[own.usize(..seconds.len())];
    let sessions: Vec<String> = view.sessions().map(session_name).collect();
    let claims = json!({
        "exp": exp,
        "hookcast": { "sessions": sessions, "everything": view == View::Everything },
    });
    let header = r#"{"alg":"HS256"}"#;
    let text = sign_token_with(&token_secret(setting.key), header, &claims.to_string());
    let spec = TokenSpec {
        expires_ms: exp * 1000,
        key: setting.key,
    };
    (text, spec)
}

fn draw_view(rng: &mut Rng, setting: &Setting) -> View {
    match rng.u8(..4) {
        0 if setting.has_secret => View::Public,
        0 if setting.is_fanned_out => View::Public,
        0 | 1 => View::Everything,
        _ => {
            let session = rng.usize(..SESSIONS);
            let mut own = Rng::with_seed(!rng.clone().u64(..));
            let others = own.u8(..1 << SESSIONS) & !(1 << session);
            if others != 0 && own.u8(..3) == 0 {
                View::Several(others | 1 << session)
            } else {
                View::Session(session)
            }
        }
    }
}

/// Draws where a stream begins, and adds the parameters to its query.
fn draw_begin(rng: &mut Rng, model: &Model, query: &mut Vec<String>) -> Begin {
    let mut begin = Begin::default();
    if rng.u8(..8) == 0 {
        let count = *pick(rng, &[0, 1, 5, 50, 100]);
        query.push(format!("replay={count}"));
        begin.replay_max = Some(count);
    }
    if rng.u8(..8) == 0 {
        let head_seq = model.head_seq();
        let seq = rng.u64(head_seq.saturating_sub(120)..=head_seq);
        let near_ms = model.get(seq).map_or(0, |stored| stored.timestamp_ms);
        let (text, since) = match rng.u8(..4) {
            0 => ("2s".into(), Since::Ago(2_000)),
            1 => ("10m".into(), Since::Ago(600_000)),
            2 => (
                "9999-12-31T23:59:59Z".into(),
                Since::At(253_402_300_799_000),
            ),
            // A smaller number would be a time in seconds, which is refused.
            _ if near_ms >= 1_000_000_000_000 => (near_ms.to_string(), Since::At(near_ms)),
            _ => ("0".into(), Since::At(0)),
        };
        query.push(format!("since={text}"));
        begin.since = Some(since);
    }
    begin
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
