//! Decodes the query of a request.
//!
//! Called by `route`, which checks the values. Never corrects a malformed query.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

use crate::limits::SESSIONS_PER_STREAM_MAX;
use crate::message::SessionId;

use super::error::ErrorAnswer;
use super::spelling;

const SESSION_ID: &str = "sessionId";
const LAST_EVENT_ID: &str = "lastEventId";

/// The known parameters of a query. Each resource uses some of them.
#[derive(Default)]
pub(super) struct Parameters<'a> {
    /// The values of `sessionId`, each once, in the order of the query.
    pub(super) sessions: Vec<SessionId>,
    pub(super) last_event_id: Option<Cow<'a, str>>,
    pub(super) since: Option<Cow<'a, str>>,
    pub(super) limit: Option<Cow<'a, str>>,
    pub(super) wait: Option<Cow<'a, str>>,
    pub(super) replay: Option<Cow<'a, str>>,
}

impl<'a> Parameters<'a> {
    /// Parses a query as browsers encode it (URL standard, application/x-www-form-urlencoded).
    /// Malformed escapes, which that standard accepts, are errors. Unknown names are decoded and
    /// ignored. A misspelled `sessionId` or `lastEventId` is an error. If it were ignored, the
    /// stream would lack messages, and its client would not notice. Only `sessionId` may be repeated.
    pub(super) fn parse(query: &'a str) -> Result<Parameters<'a>, ErrorAnswer> {
        let mut parameters = Parameters::default();
        for pair in query.split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (name, value) = (decode(name)?, decode(value)?);
            let parameter = match &*name {
                SESSION_ID => {
                    parameters.add_session(&value)?;
                    continue;
                }
                LAST_EVENT_ID => &mut parameters.last_event_id,
                "since" => &mut parameters.since,
                "limit" => &mut parameters.limit,
                "wait" => &mut parameters.wait,
                "replay" => &mut parameters.replay,
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

    /// Adds a value of `sessionId`. An empty one names no session.
    fn add_session(&mut self, name: &str) -> Result<(), ErrorAnswer> {
        let session = SessionId::parse(name).map_err(|_| ErrorAnswer::SessionTooLong)?;
        let Some(session) = session.filter(|session| !self.sessions.contains(session)) else {
            return Ok(());
        };
        if self.sessions.len() == SESSIONS_PER_STREAM_MAX {
            return Err(ErrorAnswer::TooManySessions);
        }
        self.sessions.push(session);
        Ok(())
    }
}

/// The decoded value of a parameter. A second value is an error. The rest of the query is not checked.
pub(super) fn value_of<'a>(
    query: &'a str,
    name: &str,
) -> Result<Option<Cow<'a, str>>, ErrorAnswer> {
    let mut found = None;
    for pair in query.split('&') {
        let (sent_name, value) = pair.split_once('=').unwrap_or((pair, ""));
        if decode(sent_name).is_ok_and(|sent_name| sent_name == name)
            && found.replace(decode(value)?).is_some()
        {
            return Err(ErrorAnswer::QueryRepeated);
        }
    }
    Ok(found)
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

/// Refuses a query with a misspelling of a parameter. If it were ignored, the client would not notice what its
/// answer lacks. The rest of the query is not checked.
pub(super) fn check_no_misspelled(
    query: &str,
    right: &str,
    error: ErrorAnswer,
) -> Result<(), ErrorAnswer> {
    let names = query
        .split('&')
        .map(|pair| pair.split('=').next().unwrap_or_default());
    for name in names.filter_map(|name| decode(name).ok()) {
        if spelling::is_nearly(name.as_bytes(), right) {
            return Err(error);
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
    if !has_valid_escapes(text) {
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

/// Whether two hexadecimal digits follow each percent sign.
pub(super) fn has_valid_escapes(text: &str) -> bool {
    let is_escape = |escape: &[u8]| matches!(escape, [a, b, ..] if a.is_ascii_hexdigit() && b.is_ascii_hexdigit());
    text.split('%')
        .skip(1)
        .all(|escape| is_escape(escape.as_bytes()))
}
