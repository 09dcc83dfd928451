//! Bodies of webhooks: never a panic, and the same answer as a JSON reader that builds everything.

use hookcast::http::{Access, ErrorAnswer, Progress, RequestReader, Route, route};
use hookcast::limits::{READ_BYTES, SESSION_BYTES_MAX};
use hookcast::message::Draft;
use serde_json::Value;

pub fn run(body: &[u8]) {
    let outcome = publish(body);
    // The server passes over members that it does not know without building them, so it takes some
    // that this reader has no room for (numbers beyond a double, half surrogates); and it refuses
    // a member that counts and comes twice, of which this reader takes the last.
    let Ok(value) = serde_json::from_slice::<Value>(body) else {
        return;
    };
    let Value::Object(members) = value else {
        return assert_eq!(outcome, Err(ErrorAnswer::InvalidJson));
    };
    if outcome == Err(ErrorAnswer::InvalidJson) {
        return assert!(
            is_repeated(body, "message") || is_repeated(body, "sessionId"),
            "an object is refused"
        );
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

/// Sends a body on the way that the server's connections take it.
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
    let request = reader.request().expect("it is whole");
    match route(&request, &Access::default(), |_| false) {
        Route::Publish(draft) => Ok(draft),
        Route::Error(error) => Err(error),
        other => panic!("a webhook becomes {other:?}"),
    }
}

/// Whether a name may stand in a text twice, however it is written.
fn is_repeated(body: &[u8], name: &str) -> bool {
    let names = memchr::memmem::find_iter(body, name.as_bytes()).count();
    names > 1 || body.contains(&b'\\')
}

/// White space of Unicode and of ECMAScript.
fn is_blank(text: &str) -> bool {
    text.chars().all(|c| c.is_whitespace() || c == '\u{feff}')
}
