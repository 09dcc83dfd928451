//! Decides what to do for a request, from the request, the configured [`Access`] and the names of
//! the chat window's files.
//!
//! Called by the shards with each complete request. Never answers, publishes or subscribes.

use std::borrow::Cow;
use std::sync::Arc;

use crate::limits::{HISTORY_MESSAGES, HISTORY_WAIT_S_MAX};
use crate::message::{Draft, SessionId};

use super::access::{Access, Principal, PublishRight, TokenLife};
use super::begin::{Begin, Since};
use super::error::{Allow, ErrorAnswer};
use super::json::parse_draft;
use super::presence::{PresenceRequest, is_presence, presence};
use super::query::{Parameters, check_no_session};
use super::request::Request;
use super::request_line::Method;

/// The path of webhooks.
pub const WEBHOOK_PATH: &str = "/api/webhook";
/// The path of streams.
pub const STREAM_PATH: &str = "/api/webhook/stream";
/// The path of the history.
pub const MESSAGES_PATH: &str = "/api/webhook/messages";
/// The path of the list of sources.
pub const SOURCES_PATH: &str = "/api/webhook/sources";

/// The canonical path of a resource: a path of the API may have a trailing slash.
pub fn canonical(path: &str) -> &str {
    match path.strip_suffix('/') {
        Some(resource @ (WEBHOOK_PATH | STREAM_PATH | MESSAGES_PATH | SOURCES_PATH)) => resource,
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
    History(HistoryQuery),
    /// Send the list of sources.
    ListSources,
    /// Send the number of streams that see this session.
    Presence(SessionId),
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
    /// Where it begins without a last event id.
    pub begin: Begin,
    /// The request is a `HEAD`: only the head is sent.
    pub head_only: bool,
    /// The end of the token that has opened it, if one has.
    pub token: Option<TokenLife>,
}

/// The part of the history that a request asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryQuery {
    /// The messages that the answer may contain.
    pub view: View,
    /// Whether a cache may give the answer to any client with the same request.
    pub is_public: bool,
    /// Where the answer begins, if not with the newest messages.
    pub since: Option<Since>,
    /// The largest number of messages in the answer: 1 to [`HISTORY_MESSAGES`].
    pub limit: usize,
    /// How long the answer may wait for a message, in seconds.
    pub wait_s: u64,
    /// The end of the token that has opened it, if one has.
    pub token: Option<TokenLife>,
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
    /// Untargeted messages and those for any of these sessions: at least two, each once.
    Sessions(Box<[SessionId]>),
}

impl View {
    /// The view of these sessions. Without any it has only untargeted messages.
    pub fn of_sessions(mut sessions: Vec<SessionId>) -> View {
        let mut different = 0;
        for index in 0..sessions.len() {
            if !sessions[..different].contains(&sessions[index]) {
                sessions.swap(different, index);
                different += 1;
            }
        }
        sessions.truncate(different);
        match sessions.len() {
            0 => View::Public,
            1 => View::Session(sessions.remove(0)),
            _ => View::Sessions(sessions.into_boxed_slice()),
        }
    }
}

/// Decides what to do for a complete request at this Unix time in milliseconds. `is_asset` says whether a path
/// outside the API exists.
pub fn route<'a>(
    request: &Request<'a>,
    access: &Access,
    unix_ms: u64,
    is_asset: impl Fn(&str) -> bool,
) -> Route<'a> {
    decide(request, access, unix_ms, is_asset).unwrap_or_else(Route::Error)
}

/// The error that a request gets with any body, decided from its head. It is sent as soon as the head is
/// complete, also to a client that waits for `100 Continue` (RFC 9110 section 10.1.1). So the body is
/// not buffered.
pub fn error_before_body(
    head: &Request<'_>,
    access: &Access,
    unix_ms: u64,
    is_asset: impl Fn(&str) -> bool,
) -> Option<ErrorAnswer> {
    admit(head, access, unix_ms, is_asset).err()
}

/// Whether the answer to a request depends on whether its secret is right. Only a few requests are checked at all:
/// never a preflight, the status, or the chat window.
pub fn compares_secret(request: &Request<'_>, access: &Access) -> bool {
    access.compares_secret(request) && is_checked(request)
}

/// Whether [`admit`] checks what a request may do.
fn is_checked(request: &Request<'_>) -> bool {
    match request.method {
        Method::Post => canonical(request.path) == WEBHOOK_PATH,
        Method::Get | Method::Head => {
            let path = canonical(request.path);
            [STREAM_PATH, MESSAGES_PATH, SOURCES_PATH].contains(&path) || is_presence(path)
        }
        Method::Options | Method::Other => false,
    }
}

fn decide<'a>(
    request: &Request<'a>,
    access: &Access,
    unix_ms: u64,
    is_asset: impl Fn(&str) -> bool,
) -> Result<Route<'a>, ErrorAnswer> {
    Ok(match admit(request, access, unix_ms, is_asset)? {
        Action::Publish(right) => {
            let mut draft = parse_draft(request.body)?;
            right.check(draft.session.as_ref())?;
            let owner = right.key_owner(draft.session.as_ref());
            let identity = request.idempotency_key.identity(owner, request.body)?;
            draft.identity = identity.map(Arc::new);
            Route::Publish(draft)
        }
        Action::Status => Route::Status,
        Action::Subscribe(principal) => {
            Route::Subscribe(subscription(request, access, &principal)?)
        }
        Action::ReadHistory(principal) => {
            Route::History(history_query(request, access, &principal)?)
        }
        Action::ListSources => Route::ListSources,
        Action::Presence(session) => Route::Presence(session),
        Action::Preflight(allow) => Route::Preflight(allow),
        Action::Asset => Route::Asset(request.path),
    })
}

/// The action for a request, decided from its path, method, secret and token.
enum Action {
    Publish(PublishRight),
    Status,
    Subscribe(Principal),
    ReadHistory(Principal),
    ListSources,
    Presence(SessionId),
    Preflight(Allow),
    Asset,
}

impl From<PresenceRequest> for Action {
    fn from(request: PresenceRequest) -> Action {
        match request {
            PresenceRequest::Count(session) => Action::Presence(session),
            PresenceRequest::Preflight(allow) => Action::Preflight(allow),
        }
    }
}

fn admit(
    request: &Request<'_>,
    access: &Access,
    unix_ms: u64,
    is_asset: impl Fn(&str) -> bool,
) -> Result<Action, ErrorAnswer> {
    if let Some(decided) = presence(request, access, unix_ms) {
        return decided.map(Action::from);
    }
    match (canonical(request.path), request.method) {
        ("*" | WEBHOOK_PATH, Method::Options) => Ok(Action::Preflight(Allow::READ_WRITE)),
        (WEBHOOK_PATH, Method::Get | Method::Head) => Ok(Action::Status),
        (WEBHOOK_PATH, Method::Post) => {
            let right = access.publish_right(&access.principal(request, unix_ms)?)?;
            check_webhook(request)?;
            Ok(Action::Publish(right))
        }
        (WEBHOOK_PATH, Method::Other) => Err(ErrorAnswer::MethodNotAllowed(Allow::READ_WRITE)),

        (STREAM_PATH, Method::Get | Method::Head) => {
            Ok(Action::Subscribe(access.principal(request, unix_ms)?))
        }
        (MESSAGES_PATH, Method::Get | Method::Head) => {
            Ok(Action::ReadHistory(access.principal(request, unix_ms)?))
        }
        (SOURCES_PATH, Method::Get | Method::Head) => {
            access.check_sources(&access.principal(request, unix_ms)?)?;
            Ok(Action::ListSources)
        }
        (path, _)
            if ![STREAM_PATH, MESSAGES_PATH, SOURCES_PATH].contains(&path) && !is_asset(path) =>
        {
            Err(ErrorAnswer::NotFound)
        }
        (_, Method::Options) => Ok(Action::Preflight(Allow::READ)),
        (_, Method::Get | Method::Head) => Ok(Action::Asset),
        (_, Method::Post | Method::Other) => Err(ErrorAnswer::MethodNotAllowed(Allow::READ)),
    }
}

/// Checks the head of a webhook.
fn check_webhook(request: &Request<'_>) -> Result<(), ErrorAnswer> {
    if request.is_encoded {
        return Err(ErrorAnswer::ContentEncoding);
    }
    check_no_session(request.query.unwrap_or_default())?;
    request.idempotency_key.parse()?;
    Ok(())
}

/// Reads the stream's parameters. A stream of a session needs no secret: the session's name takes
/// its place. `Last-Event-ID` has precedence over the parameter: a browser sends it when it
/// reconnects. An answer that begins elsewhere is not public: a relative time is another one for each client.
fn subscription<'a>(
    request: &Request<'a>,
    access: &Access,
    principal: &Principal,
) -> Result<Subscription<'a>, ErrorAnswer> {
    let parameters = Parameters::parse(request.query.unwrap_or_default())?;
    let begin = Begin::parse(parameters.replay.as_deref(), parameters.since.as_deref())?;
    let (view, is_public) = view(request, access, parameters.sessions, principal)?;
    let is_public = is_public && begin == Begin::default();
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
        begin,
        head_only: request.method == Method::Head,
        token: principal.token_life(),
    })
}

fn history_query(
    request: &Request<'_>,
    access: &Access,
    principal: &Principal,
) -> Result<HistoryQuery, ErrorAnswer> {
    let parameters = Parameters::parse(request.query.unwrap_or_default())?;
    let (view, is_public) = view(request, access, parameters.sessions, principal)?;
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
    let since = match parameters.since.filter(|text| !text.is_empty()) {
        None => None,
        Some(text) => Some(Since::parse(&text).ok_or(ErrorAnswer::SinceMalformed)?),
    };
    Ok(HistoryQuery {
        view,
        is_public,
        since,
        limit,
        wait_s,
        token: principal.token_life(),
    })
}

/// The view of a request, and whether its answer is public. An answer is public if the request has
/// neither a session nor a secret nor a token. This holds even if no secret is configured.
fn view(
    request: &Request<'_>,
    access: &Access,
    sessions: Vec<SessionId>,
    principal: &Principal,
) -> Result<(View, bool), ErrorAnswer> {
    let has_token = matches!(principal, Principal::Token(_));
    let is_public = sessions.is_empty() && request.secret.is_none() && !has_token;
    if is_public && access.is_fanned_out && matches!(principal, Principal::Owner) {
        return Ok((View::Public, is_public));
    }
    Ok((access.view(principal, sessions)?, is_public))
}

/// A number of one to four digits.
fn whole(text: &str) -> Option<u64> {
    let is_whole = (1..=4).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    is_whole.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests;
