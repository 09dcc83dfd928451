//! Bodies of webhooks: no panic, and the same result as a JSON reader that builds every value.

use hookcast::http::{Access, ErrorAnswer, Progress, RequestReader, Route, route};
use hookcast::limits::{READ_BYTES, SESSION_BYTES_MAX};
use hookcast::message::Draft;
use serde_json::Value;

pub fn run(body: &[u8]) {
    let outcome = publish(body);
    let Ok(text) = str::from_utf8(body) else {
        return assert_eq!(outcome, Err(ErrorAnswer::NotUtf8));
    };
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    // The server skips unknown members without building them. So it accepts some that this reader cannot
    // represent (numbers beyond a double). It refuses a known member that is repeated, of which this reader
    // takes the last.
    let Ok(value) = serde_json::from_str::<Value>(&without_halves(text)) else {
        return;
    };
    let Value::Object(members) = value else {
        return assert_eq!(outcome, Err(ErrorAnswer::InvalidJson));
    };
    if outcome == Err(ErrorAnswer::InvalidJson) {
        return assert!(
            is_repeated(body, "message") || is_repeated(body, "sessionId"),
            "a valid object is refused"
        );
    }
    if members.keys().any(|name| is_nearly_session_id(name)) {
        return assert_eq!(outcome, Err(ErrorAnswer::SessionMisspelled));
    }
    let content = match members.get("message") {
        Some(Value::String(content)) if !is_blank(content) => content,
        _ => return assert_eq!(outcome, Err(ErrorAnswer::MessageRequired)),
    };
    let session = match members.get("sessionId") {
        None | Some(Value::Null) => "",
        Some(Value::String(session)) if session.len() > SESSION_BYTES_MAX => {
            return assert_eq!(outcome, Err(ErrorAnswer::SessionTooLong));
        }
        Some(Value::String(session)) => session,
        Some(_) => return assert_eq!(outcome, Err(ErrorAnswer::SessionNotText)),
    };
    let draft = outcome.expect("a webhook is refused");
    assert_eq!(draft.content, *content);
    assert_eq!(draft.session.as_ref().map_or("", |id| id.as_str()), session);
}

/// The text with every escape of a lone surrogate replaced by that of U+FFFD. Backslashes outside of strings
/// are not JSON, so changing them is harmless.
fn without_halves(text: &str) -> String {
    let unit_at = |at: usize| {
        let digits = text.get(at..at + 6)?.strip_prefix("\\u")?;
        let is_hex = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_hex
            .then(|| u32::from_str_radix(digits, 16).ok())
            .flatten()
    };
    let mut out = String::new();
    let mut at = 0;
    while let Some(c) = text[at..].chars().next() {
        let step = match (unit_at(at), unit_at(at + 6)) {
            (Some(0xd800..=0xdbff), Some(0xdc00..=0xdfff)) => 12,
            (Some(0xd800..=0xdfff), _) => {
                out.push_str("\\ufffd");
                at += 6;
                continue;
            }
            (Some(_), _) => 6,
            (None, _) if c == '\\' => 1 + text[at + 1..].chars().next().map_or(0, char::len_utf8),
            (None, _) => c.len_utf8(),
        };
        out.push_str(&text[at..at + step]);
        at += step;
    }
    out
}

/// By the full table of edit distances, transpositions included, over the letters and digits of both names.
fn is_nearly_session_id(name: &str) -> bool {
    if name == "sessionId" || name.len() > 32 {
        return false;
    }
    let kept = |byte: &u8| byte.is_ascii_alphanumeric() || !byte.is_ascii();
    let a: Vec<u8> = name
        .bytes()
        .filter(kept)
        .map(|b| b.to_ascii_lowercase())
        .collect();
    let b = b"sessionid";
    let mut edits = vec![vec![0_usize; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            edits[i][j] = if i == 0 || j == 0 {
                i.max(j)
            } else {
                let replaced = edits[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
                let mut least = replaced.min(edits[i - 1][j] + 1).min(edits[i][j - 1] + 1);
                if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                    least = least.min(edits[i - 2][j - 2] + 1);
                }
                least
            };
        }
    }
    edits[a.len()][b.len()] <= 1
}

/// Reads a body through the server's request reader.
fn publish(body: &[u8]) -> Result<Draft, ErrorAnswer> {
    let mut reader = RequestReader::new(Vec::new(), body.len());
    let head = format!(
        "POST /api/webhook HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let mut progress = None;
    for piece in [head.as_bytes(), body]
        .iter()
        .flat_map(|part| part.chunks(READ_BYTES))
    {
        reader.push(piece);
        progress = Some(reader.poll());
    }
    assert_eq!(progress, Some(Ok(Progress::Complete)));
    let request = reader.request().expect("it is complete");
    match route(&request, &Access::default(), 0, |_| false) {
        Route::Publish(draft) => Ok(draft),
        Route::Error(error) => Err(error),
        other => panic!("a webhook becomes {other:?}"),
    }
}

/// Whether a name may occur twice in a text, in any spelling.
fn is_repeated(body: &[u8], name: &str) -> bool {
    let names = memchr::memmem::find_iter(body, name.as_bytes()).count();
    names > 1 || body.contains(&b'\\')
}

/// White space of Unicode and of ECMAScript.
fn is_blank(text: &str) -> bool {
    text.chars().all(|c| c.is_whitespace() || c == '\u{feff}')
}
