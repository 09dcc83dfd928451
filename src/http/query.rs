//! Decodes the query of a request.
//!
//! Called by `route`, which checks the values. Never corrects a malformed query.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

use super::error::ErrorAnswer;
use super::spelling;

const SESSION_ID: &str = "sessionId";
const LAST_EVENT_ID: &str = "lastEventId";

/// The known parameters of a query. Each resource uses some of them.
#[derive(Default)]
pub(super) struct Parameters<'a> {
    pub(super) session_id: Option<Cow<'a, str>>,
    pub(super) last_event_id: Option<Cow<'a, str>>,
    pub(super) since: Option<Cow<'a, str>>,
    pub(super) limit: Option<Cow<'a, str>>,
    pub(super) wait: Option<Cow<'a, str>>,
}

impl<'a> Parameters<'a> {
    /// Parses a query as browsers encode it (URL standard, application/x-www-form-urlencoded).
    /// Malformed escapes, which that standard accepts, are errors. Unknown names are decoded and
    /// ignored. A misspelled `sessionId` or `lastEventId` is an error. If it were ignored, the
    /// stream would lack messages, and its client would not notice.
    pub(super) fn parse(query: &'a str) -> Result<Parameters<'a>, ErrorAnswer> {
        let mut parameters = Parameters::default();
        for pair in query.split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (name, value) = (decode(name)?, decode(value)?);
            let parameter = match &*name {
                SESSION_ID => &mut parameters.session_id,
                LAST_EVENT_ID => &mut parameters.last_event_id,
                "since" => &mut parameters.since,
                "limit" => &mut parameters.limit,
                "wait" => &mut parameters.wait,
                other => {
                    check_spelling(other)?;
                    continue;
                }
            };
            if parameter.replace(value).is_some() {
                return Err(ErrorAnswer::QueryRepeated);
            }
        }
        Ok(parameters)
    }
}

/// Refuses a webhook with a `sessionId` in its query, in any spelling. If it were ignored, the
/// message would go to everyone. The rest of the query is not checked.
pub(super) fn check_no_session(query: &str) -> Result<(), ErrorAnswer> {
    let names = query
        .split('&')
        .map(|pair| pair.split('=').next().unwrap_or_default());
    for name in names.filter_map(|name| decode(name).ok()) {
        if name == SESSION_ID || spelling::is_nearly(name.as_bytes(), SESSION_ID) {
            return Err(ErrorAnswer::SessionInQuery);
        }
    }
    Ok(())
}

fn check_spelling(name: &str) -> Result<(), ErrorAnswer> {
    if spelling::is_nearly(name.as_bytes(), SESSION_ID) {
        return Err(ErrorAnswer::SessionMisspelled);
    }
    if spelling::is_nearly(name.as_bytes(), LAST_EVENT_ID) {
        return Err(ErrorAnswer::LastEventIdMisspelled);
    }
    Ok(())
}

/// Decodes `+` and percent escapes. A percent sign without two hexadecimal digits is an error, and so
/// are bytes that are not UTF-8.
fn decode(text: &str) -> Result<Cow<'_, str>, ErrorAnswer> {
    let is_escaped = |escape: &[u8]| matches!(escape, [a, b, ..] if a.is_ascii_hexdigit() && b.is_ascii_hexdigit());
    if !text
        .split('%')
        .skip(1)
        .all(|escape| is_escaped(escape.as_bytes()))
    {
        return Err(ErrorAnswer::QueryMalformed);
    }
    if !text.contains(['%', '+']) {
        return Ok(Cow::Borrowed(text));
    }
    let spaced = text.replace('+', " ");
    match percent_decode_str(&spaced).decode_utf8() {
        Ok(decoded) => Ok(Cow::Owned(decoded.into_owned())),
        Err(_) => Err(ErrorAnswer::QueryMalformed),
    }
}
