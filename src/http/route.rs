//! Decides what to do for a request, from the request, the configured [`Access`] and the names of
//! the chat window's files.
//!
//! Called by the shards with each complete request. Never answers, publishes or subscribes.

use std::borrow::Cow;

use crate::limits::{HISTORY_MESSAGES, HISTORY_WAIT_S_MAX};
use crate::message::{Draft, SessionId};

use super::access::{Access, Standing};
use super::error::{Allow, ErrorAnswer};
use super::json::parse_draft;
use super::query::{Parameters, check_no_session};
use super::request::Request;
use super::request_line::Method;

/// The path of webhooks.
pub const WEBHOOK_PATH: &str = "/api/webhook";
/// The path of streams.
pub const STREAM_PATH: &str = "/api/webhook/stream";
/// The path of the history.
pub const MESSAGES_PATH: &str = "/api/webhook/messages";

/// The canonical path of a resource: a path of the API may have a trailing slash.
pub fn canonical(path: &str) -> &str {
    match path.strip_suffix('/') {
        Some(resource @ (WEBHOOK_PATH | STREAM_PATH | MESSAGES_PATH)) => resource,
        _ => path,
    }
}

/// The action for a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route<'a> {
    /// Publish a message and acknowledge it.
    Publish(Draft),
    /// Answer that the server runs.
    Status,
    /// Open a stream; for a `HEAD`, send only its head.
    Subscribe(Subscription<'a>),
    /// Send the history, or the messages after an event. Wait for a message if the request says so.
    History(HistoryQuery<'a>),
    /// Answer a CORS preflight or another `OPTIONS` with these methods.
    Preflight(Allow),
    /// Send the file of this path.
    Asset(&'a str),
    /// Answer with an error; the connection can continue.
    Error(ErrorAnswer),
}

/// The stream that a request opens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription<'a> {
    /// The messages that the stream may see.
    pub view: View,
    /// Whether a cache may give the answer to any client with the same request.
    pub is_public: bool,
    /// The event id to resume after, as it was sent: not empty, but perhaps invalid.
    pub last_event_id: Option<Cow<'a, str>>,
    /// The request is a `HEAD`: only the head is sent.
    pub head_only: bool,
}

/// The part of the history that a request asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryQuery<'a> {
    /// The messages that the answer may contain.
    pub view: View,
    /// Whether a cache may give the answer to any client with the same request.
    pub is_public: bool,
    /// The event id to continue after, as it was sent: not empty, but perhaps invalid.
    pub since: Option<Cow<'a, str>>,
    /// The largest number of messages in the answer: 1 to [`HISTORY_MESSAGES`].
    pub limit: usize,
    /// How long the answer may wait for a message, in seconds.
    pub wait_s: u64,
}

/// The messages that a stream may see. Every view contains the untargeted messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum View {
    /// Every message.
    Everything,
    /// Only untargeted messages.
    Public,
    /// Untargeted messages and those for this session.
    Session(SessionId),
}

/// Decides what to do for a complete request. `is_asset` says whether a path outside the API exists.
pub fn route<'a>(
    request: &Request<'a>,
    access: &Access,
    is_asset: impl Fn(&str) -> bool,
) -> Route<'a> {
    decide(request, access, is_asset).unwrap_or_else(Route::Error)
}

/// The error that a request gets with any body, decided from its head. It is sent as soon as the head is
/// complete, also to a client that waits for `100 Continue` (RFC 9110 section 10.1.1). So the body is
/// not buffered.
pub fn error_before_body(
    head: &Request<'_>,
    access: &Access,
    is_asset: impl Fn(&str) -> bool,
) -> Option<ErrorAnswer> {
    admit(head, access, is_asset).err()
}

fn decide<'a>(
    request: &Request<'a>,
    access: &Access,
    is_asset: impl Fn(&str) -> bool,
) -> Result<Route<'a>, ErrorAnswer> {
    Ok(match admit(request, access, is_asset)? {
        Action::Publish => Route::Publish(parse_draft(request.body)?),
        Action::Status => Route::Status,
        Action::Subscribe(standing) => Route::Subscribe(subscription(request, access, standing)?),
        Action::ReadHistory(standing) => Route::History(history_query(request, access, standing)?),
        Action::Preflight(allow) => Route::Preflight(allow),
        Action::Asset => Route::Asset(request.path),
    })
}

/// The action for a request, decided from its path, method and secret.
enum Action {
    Publish,
    Status,
    Subscribe(Standing),
    ReadHistory(Standing),
    Preflight(Allow),
    Asset,
}

fn admit(
    request: &Request<'_>,
    access: &Access,
    is_asset: impl Fn(&str) -> bool,
) -> Result<Action, ErrorAnswer> {
    match (canonical(request.path), request.method) {
        ("*" | WEBHOOK_PATH, Method::Options) => Ok(Action::Preflight(Allow::READ_WRITE)),
        (WEBHOOK_PATH, Method::Get | Method::Head) => Ok(Action::Status),
        (WEBHOOK_PATH, Method::Post) => match access.standing(request.secret) {
            Standing::Open | Standing::Right => check_webhook(request),
            Standing::Wrong => Err(ErrorAnswer::SecretWrong),
            Standing::Missing => Err(ErrorAnswer::SecretMissing),
        },
        (WEBHOOK_PATH, Method::Other) => Err(ErrorAnswer::MethodNotAllowed(Allow::READ_WRITE)),

        (STREAM_PATH, Method::Get | Method::Head) => match access.standing(request.secret) {
            Standing::Wrong => Err(ErrorAnswer::SecretWrong),
            standing => Ok(Action::Subscribe(standing)),
        },
        (MESSAGES_PATH, Method::Get | Method::Head) => match access.standing(request.secret) {
            Standing::Wrong => Err(ErrorAnswer::SecretWrong),
            standing => Ok(Action::ReadHistory(standing)),
        },
        (path, _) if path != STREAM_PATH && path != MESSAGES_PATH && !is_asset(path) => {
            Err(ErrorAnswer::NotFound)
        }
        (_, Method::Options) => Ok(Action::Preflight(Allow::READ)),
        (_, Method::Get | Method::Head) => Ok(Action::Asset),
        (_, Method::Post | Method::Other) => Err(ErrorAnswer::MethodNotAllowed(Allow::READ)),
    }
}

/// Checks the head of a webhook.
fn check_webhook(request: &Request<'_>) -> Result<Action, ErrorAnswer> {
    if request.is_encoded {
        return Err(ErrorAnswer::ContentEncoding);
    }
    check_no_session(request.query.unwrap_or_default())?;
    Ok(Action::Publish)
}

/// Reads the stream's parameters. A stream of a session needs no secret: the session's name takes
/// its place. `Last-Event-ID` has precedence over the parameter: a browser sends it when it
/// reconnects.
fn subscription<'a>(
    request: &Request<'a>,
    access: &Access,
    standing: Standing,
) -> Result<Subscription<'a>, ErrorAnswer> {
    let parameters = Parameters::parse(request.query.unwrap_or_default())?;
    let (view, is_public) = view(request, access, &parameters, standing)?;
    let last_event_id = request
        .last_event_id
        .map(String::from_utf8_lossy)
        .filter(|id| !id.is_empty())
        .or(parameters.last_event_id)
        .filter(|id| !id.is_empty());
    Ok(Subscription {
        view,
        is_public,
        last_event_id,
        head_only: request.method == Method::Head,
    })
}

fn history_query<'a>(
    request: &Request<'a>,
    access: &Access,
    standing: Standing,
) -> Result<HistoryQuery<'a>, ErrorAnswer> {
    let parameters = Parameters::parse(request.query.unwrap_or_default())?;
    let (view, is_public) = view(request, access, &parameters, standing)?;
    let limit = match parameters.limit {
        None => HISTORY_MESSAGES,
        Some(text) => whole(&text)
            .map(|limit| limit as usize)
            .filter(|limit| (1..=HISTORY_MESSAGES).contains(limit))
            .ok_or(ErrorAnswer::LimitOutOfRange)?,
    };
    let wait_s = match parameters.wait {
        None => 0,
        Some(text) => whole(&text)
            .filter(|wait_s| *wait_s <= HISTORY_WAIT_S_MAX)
            .ok_or(ErrorAnswer::WaitOutOfRange)?,
    };
    Ok(HistoryQuery {
        view,
        is_public,
        since: parameters.since.filter(|id| !id.is_empty()),
        limit,
        wait_s,
    })
}

/// The view of a request, and whether its answer is public. An answer is public if the request has
/// neither a session nor a secret. This holds even if no secret is configured.
fn view(
    request: &Request<'_>,
    access: &Access,
    parameters: &Parameters<'_>,
    standing: Standing,
) -> Result<(View, bool), ErrorAnswer> {
    let session = match &parameters.session_id {
        Some(id) => SessionId::parse(id).map_err(|_| ErrorAnswer::SessionTooLong)?,
        None => None,
    };
    let is_public = session.is_none() && request.secret.is_none();
    let view = match (session, standing) {
        (Some(session), _) => View::Session(session),
        (None, Standing::Open) if is_public && access.is_fanned_out => View::Public,
        (None, Standing::Open | Standing::Right) => View::Everything,
        (None, Standing::Missing | Standing::Wrong) => View::Public,
    };
    Ok((view, is_public))
}

/// A number of one to four digits.
fn whole(text: &str) -> Option<u64> {
    let is_whole = (1..=4).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    is_whole.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests;
