//! What a request asks for: one decision, made from the request and the configured secret alone.
//!
//! Called by the shards with each whole request. Never answers, publishes or subscribes by itself;
//! it says what is to be done.

use std::borrow::Cow;
use std::fmt;

use percent_encoding::percent_decode_str;
use subtle::ConstantTimeEq;

use crate::limits::{HISTORY_MESSAGES, HISTORY_WAIT_S_MAX};
use crate::message::{Draft, SessionId};

use super::error::{Allow, ErrorAnswer};
use super::json::parse_draft;
use super::request::{Method, Request};

/// Where webhooks come in.
pub const WEBHOOK_PATH: &str = "/api/webhook";
/// Where streams go out.
pub const STREAM_PATH: &str = "/api/webhook/stream";
/// Where the history is asked for.
pub const MESSAGES_PATH: &str = "/api/webhook/messages";

/// What is to be done for a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route<'a> {
    /// Publish a message and answer with its receipt.
    Publish(Draft),
    /// Say that the server is there.
    Status,
    /// Open a stream; for a `HEAD`, send its head alone.
    Subscribe(Subscription<'a>),
    /// Send the history, or what has come since an event; perhaps wait for something to come.
    History(HistoryQuery<'a>),
    /// Answer a CORS preflight or another `OPTIONS` with the methods there are.
    Preflight(Allow),
    /// Send the file of this path.
    Asset(&'a str),
    /// Answer with an error; the connection can go on.
    Error(ErrorAnswer),
}

/// What a stream is to show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription<'a> {
    /// Which messages it may see.
    pub view: View,
    /// Whether everyone who asks the same may be given the same answer.
    pub is_public: bool,
    /// The id to resume after, as it was sent; not empty, and perhaps nonsense.
    pub last_event_id: Option<Cow<'a, str>>,
    /// A `HEAD` request: the headers are all there is.
    pub head_only: bool,
}

/// Which part of the history is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryQuery<'a> {
    /// Which messages it may show.
    pub view: View,
    /// Whether everyone who asks the same may be given the same answer.
    pub is_public: bool,
    /// The event id to go on behind, as it was sent; not empty, and perhaps nonsense.
    pub since: Option<Cow<'a, str>>,
    /// Most messages in the answer: 1 to [`HISTORY_MESSAGES`].
    pub limit: usize,
    /// How long the answer may wait for something to tell, in seconds.
    pub wait_s: u64,
}

/// Which messages a stream may see. All of them see the messages that are for everyone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum View {
    /// Every message.
    Everything,
    /// Only what is for everyone.
    Public,
    /// What is for this session, too.
    Session(SessionId),
}

/// The configured secret, if there is one, and what may be seen without one.
#[derive(Clone, Default)]
pub struct Access {
    secret: Option<Box<[u8]>>,
    is_fanned_out: bool,
}

/// How what a request presents relates to the secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// No secret is configured: whatever is presented does not matter.
    Open,
    Right,
    Wrong,
    Missing,
}

impl Access {
    /// Access without a secret, or with one; the bytes are compared as they stand.
    pub fn new(secret: Option<&[u8]>) -> Access {
        Access {
            secret: secret.map(Box::from),
            is_fanned_out: false,
        }
    }

    /// The same where a shared cache stands in front: what anyone may be given from it is only what
    /// is for everyone, with or without a secret configured.
    #[must_use]
    pub fn fanned_out(self) -> Access {
        Access {
            is_fanned_out: true,
            ..self
        }
    }

    /// Compares in a time that does not depend on where the two differ. It does tell whether they
    /// are of one length.
    fn standing(&self, presented: Option<&[u8]>) -> Standing {
        match (self.secret.as_deref(), presented) {
            (None, _) => Standing::Open,
            (Some(_), None) => Standing::Missing,
            (Some(secret), Some(presented)) if bool::from(secret.ct_eq(presented)) => {
                Standing::Right
            }
            (Some(_), Some(_)) => Standing::Wrong,
        }
    }
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.secret.is_some() {
            "Access(secret)"
        } else {
            "Access(open)"
        })
    }
}

/// Decides what a whole request asks for. `is_asset` says which paths there are besides the API's.
pub fn route<'a>(
    request: &Request<'a>,
    access: &Access,
    is_asset: impl Fn(&str) -> bool,
) -> Route<'a> {
    decide(request, access, is_asset).unwrap_or_else(Route::Error)
}

/// The error that awaits a request whatever its body may be, told from its head. For a client that
/// waits for `100 Continue`: it gets this error instead, and need not send the body (RFC 9110
/// section 10.1.1).
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

/// What a request asks for, as far as its path, its method and its secret tell.
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
    match (request.path, request.method) {
        ("*" | WEBHOOK_PATH, Method::Options) => Ok(Action::Preflight(Allow::READ_WRITE)),
        (WEBHOOK_PATH, Method::Get | Method::Head) => Ok(Action::Status),
        (WEBHOOK_PATH, Method::Post) => match access.standing(request.secret) {
            Standing::Open | Standing::Right => Ok(Action::Publish),
            Standing::Wrong | Standing::Missing => Err(ErrorAnswer::Unauthorized),
        },
        (WEBHOOK_PATH, Method::Other) => Err(ErrorAnswer::MethodNotAllowed(Allow::READ_WRITE)),

        (STREAM_PATH, Method::Get | Method::Head) => match access.standing(request.secret) {
            Standing::Wrong => Err(ErrorAnswer::Unauthorized),
            standing => Ok(Action::Subscribe(standing)),
        },
        (MESSAGES_PATH, Method::Get | Method::Head) => match access.standing(request.secret) {
            Standing::Wrong => Err(ErrorAnswer::Unauthorized),
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

/// A session's name is what lets its streams see its messages, so it needs no secret. The
/// `Last-Event-ID` header, which a browser sends when it reconnects, is newer than the parameter.
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

/// What may be seen, and whether that is so for everyone who asks the same: without a session and
/// without having presented a secret, be it needed or not.
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

/// A number of at most four digits and nothing else.
fn whole(text: &str) -> Option<u64> {
    let is_whole = (1..=4).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    is_whole.then(|| text.parse().ok()).flatten()
}

/// The parameters of a query; a resource passes over those that are not its own.
#[derive(Default)]
struct Parameters<'a> {
    session_id: Option<Cow<'a, str>>,
    last_event_id: Option<Cow<'a, str>>,
    since: Option<Cow<'a, str>>,
    limit: Option<Cow<'a, str>>,
    wait: Option<Cow<'a, str>>,
}

impl<'a> Parameters<'a> {
    /// Parses a query as browsers write it (URL standard, application/x-www-form-urlencoded), but
    /// strictly: what that standard would guess at is an error. Names that are not known are
    /// decoded, too, and passed over.
    fn parse(query: &'a str) -> Result<Parameters<'a>, ErrorAnswer> {
        let mut parameters = Parameters::default();
        for pair in query.split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (name, value) = (decode(name)?, decode(value)?);
            let parameter = match &*name {
                "sessionId" => &mut parameters.session_id,
                "lastEventId" => &mut parameters.last_event_id,
                "since" => &mut parameters.since,
                "limit" => &mut parameters.limit,
                "wait" => &mut parameters.wait,
                _ => continue,
            };
            if parameter.replace(value).is_some() {
                return Err(ErrorAnswer::QueryRepeated);
            }
        }
        Ok(parameters)
    }
}

/// Decodes `+` and percent escapes; a percent sign without two hexadecimal digits, and what does
/// not decode to UTF-8, is an error.
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

#[cfg(test)]
mod tests {
    use super::super::request::Version;
    use super::*;

    const SECRET: &[u8] = b"s3cret";

    fn request(method: Method, target: &str) -> Request<'_> {
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (target, None),
        };
        Request {
            method,
            path,
            query,
            version: Version::Http11,
            keep_alive: true,
            secret: None,
            last_event_id: None,
            origin: None,
            if_none_match: None,
            accept_encoding: None,
            head: b"",
            body: b"",
        }
    }

    fn is_asset(path: &str) -> bool {
        path == "/"
    }

    fn open() -> Access {
        Access::new(None)
    }

    fn guarded() -> Access {
        Access::new(Some(SECRET))
    }

    /// What a stream at this target shows to whom presents this secret.
    fn view(access: &Access, target: &str, secret: Option<&[u8]>) -> Result<View, ErrorAnswer> {
        match route(
            &Request {
                secret,
                ..request(Method::Get, target)
            },
            access,
            is_asset,
        ) {
            Route::Subscribe(subscription) => Ok(subscription.view),
            Route::Error(error) => Err(error),
            other => panic!("{other:?}"),
        }
    }

    fn session(id: &str) -> View {
        View::Session(SessionId::parse(id).unwrap().unwrap())
    }

    #[test]
    fn each_path_has_its_methods() {
        use Method::{Get, Head, Options, Other, Post};
        let not_allowed = |allow| Route::Error(ErrorAnswer::MethodNotAllowed(allow));
        for (method, path, expected) in [
            (Get, "/api/webhook", Route::Status),
            (Head, "/api/webhook?a", Route::Status),
            (Options, "/api/webhook", Route::Preflight(Allow::READ_WRITE)),
            (Post, "/api/webhook", Route::Error(ErrorAnswer::InvalidJson)),
            (Other, "/api/webhook", not_allowed(Allow::READ_WRITE)),
            (
                Options,
                "/api/webhook/stream",
                Route::Preflight(Allow::READ),
            ),
            (Post, "/api/webhook/stream", not_allowed(Allow::READ)),
            (
                Options,
                "/api/webhook/messages",
                Route::Preflight(Allow::READ),
            ),
            (Post, "/api/webhook/messages", not_allowed(Allow::READ)),
            (Other, "/api/webhook/messages", not_allowed(Allow::READ)),
            (Other, "/api/webhook/stream", not_allowed(Allow::READ)),
            (Get, "/", Route::Asset("/")),
            (Head, "/", Route::Asset("/")),
            (Options, "/", Route::Preflight(Allow::READ)),
            (Post, "/", not_allowed(Allow::READ)),
            (Other, "/", not_allowed(Allow::READ)),
            (Options, "*", Route::Preflight(Allow::READ_WRITE)),
        ] {
            assert_eq!(
                route(&request(method, path), &open(), is_asset),
                expected,
                "{path}"
            );
        }
        for path in [
            "/api",
            "/api/webhook/",
            "/api/webhook/stream/",
            "/api/webhook/messages/",
            "//api/webhook",
            "/API/webhook",
            "/api/%77ebhook",
            "/api/webhooks",
            "/x",
        ] {
            for method in [Get, Head, Post, Options, Other] {
                let expected = Route::Error(ErrorAnswer::NotFound);
                assert_eq!(
                    route(&request(method, path), &open(), is_asset),
                    expected,
                    "{path}"
                );
            }
        }
    }

    #[test]
    fn a_stream_by_head_or_get() {
        for (method, head_only) in [(Method::Get, false), (Method::Head, true)] {
            let expected = Subscription {
                view: View::Everything,
                is_public: true,
                last_event_id: None,
                head_only,
            };
            assert_eq!(
                route(&request(method, STREAM_PATH), &open(), is_asset),
                Route::Subscribe(expected)
            );
        }
    }

    #[test]
    fn publishing_takes_the_secret_before_the_body_is_looked_at() {
        let publish = |access: &Access, secret: Option<&'static [u8]>, body: &'static [u8]| {
            route(
                &Request {
                    secret,
                    body,
                    ..request(Method::Post, WEBHOOK_PATH)
                },
                access,
                is_asset,
            )
        };
        let body = br#"{"message":"hi","sessionId":"s"}"#;
        let draft = Draft {
            session: SessionId::parse("s").unwrap(),
            content: "hi".into(),
        };
        let unauthorized = Route::Error(ErrorAnswer::Unauthorized);

        assert_eq!(publish(&open(), None, body), Route::Publish(draft.clone()));
        assert_eq!(
            publish(&open(), Some(b"any"), body),
            Route::Publish(draft.clone())
        );
        assert_eq!(
            publish(&guarded(), Some(SECRET), body),
            Route::Publish(draft)
        );
        assert_eq!(
            publish(&guarded(), Some(SECRET), b"{"),
            Route::Error(ErrorAnswer::InvalidJson)
        );
        for wrong in [
            None,
            Some(&b""[..]),
            Some(b"s3cre"),
            Some(b"s3crets"),
            Some(b"S3CRET"),
        ] {
            assert_eq!(publish(&guarded(), wrong, body), unauthorized, "{wrong:?}");
            assert_eq!(publish(&guarded(), wrong, b"{"), unauthorized, "{wrong:?}");
        }
    }

    #[test]
    fn without_a_secret_a_stream_sees_everything_or_its_session() {
        assert_eq!(view(&open(), STREAM_PATH, None), Ok(View::Everything));
        assert_eq!(
            view(&open(), STREAM_PATH, Some(b"any")),
            Ok(View::Everything)
        );
        assert_eq!(
            view(&open(), "/api/webhook/stream?sessionId=a", None),
            Ok(session("a"))
        );
        assert_eq!(
            view(&open(), "/api/webhook/stream?sessionId=", None),
            Ok(View::Everything)
        );
    }

    #[test]
    fn with_a_secret_a_stream_sees_what_it_may() {
        let of_session = "/api/webhook/stream?sessionId=a";
        assert_eq!(view(&guarded(), STREAM_PATH, None), Ok(View::Public));
        assert_eq!(
            view(&guarded(), STREAM_PATH, Some(SECRET)),
            Ok(View::Everything)
        );
        assert_eq!(view(&guarded(), of_session, None), Ok(session("a")));
        assert_eq!(view(&guarded(), of_session, Some(SECRET)), Ok(session("a")));
        for target in [STREAM_PATH, of_session, "/api/webhook/stream?%"] {
            assert_eq!(
                view(&guarded(), target, Some(b"wrong")),
                Err(ErrorAnswer::Unauthorized)
            );
            assert_eq!(
                view(&guarded(), target, Some(b"")),
                Err(ErrorAnswer::Unauthorized)
            );
        }
    }

    #[test]
    fn fanned_out_only_session_or_secret_show_what_is_not_for_everyone() {
        let open = open().fanned_out();
        let guarded = guarded().fanned_out();
        let of_session = "/api/webhook/stream?sessionId=a";
        assert_eq!(view(&open, STREAM_PATH, None), Ok(View::Public));
        assert_eq!(view(&open, STREAM_PATH, Some(b"x")), Ok(View::Everything));
        assert_eq!(view(&open, of_session, None), Ok(session("a")));
        assert_eq!(view(&guarded, STREAM_PATH, None), Ok(View::Public));
        assert_eq!(
            view(&guarded, STREAM_PATH, Some(SECRET)),
            Ok(View::Everything)
        );
        assert_eq!(history(&open, "", None).0, View::Public);
    }

    #[test]
    fn the_query_is_decoded_strictly() {
        let of_query = |query: &str| view(&open(), &format!("{STREAM_PATH}?{query}"), None);
        let longest = "x".repeat(256);
        for (query, expected) in [
            ("", View::Everything),
            ("&&", View::Everything),
            ("sessionId", View::Everything),
            ("a=b&sessionId=c", session("c")),
            ("sessionId=a%20b", session("a b")),
            ("sessionId=a+b", session("a b")),
            ("sessionId=a%2Bb%2bc", session("a+b+c")),
            ("sessionId=%26%3D%25", session("&=%")),
            ("sessionId=a=b", session("a=b")),
            ("sessionId=%C3%A9", session("é")),
            ("session%49d=a", session("a")),
            ("sessionid=a", View::Everything),
            (&format!("sessionId={longest}"), session(&longest)),
        ] {
            assert_eq!(of_query(query), Ok(expected), "{query}");
        }
        for (query, error) in [
            ("sessionId=%", ErrorAnswer::QueryMalformed),
            ("sessionId=%4", ErrorAnswer::QueryMalformed),
            ("sessionId=%4g", ErrorAnswer::QueryMalformed),
            ("sessionId=%+1", ErrorAnswer::QueryMalformed),
            ("sessionId=%%41", ErrorAnswer::QueryMalformed),
            ("sessionId=%FF", ErrorAnswer::QueryMalformed),
            ("sessionId=%C3", ErrorAnswer::QueryMalformed),
            ("sessionId=%ED%A0%80", ErrorAnswer::QueryMalformed),
            ("other=%zz", ErrorAnswer::QueryMalformed),
            ("%zz=a", ErrorAnswer::QueryMalformed),
            ("sessionId=a&sessionId=a", ErrorAnswer::QueryRepeated),
            ("sessionId=&sessionId=a", ErrorAnswer::QueryRepeated),
            ("sessionId=a&session%49d=b", ErrorAnswer::QueryRepeated),
            ("lastEventId=1&lastEventId=1", ErrorAnswer::QueryRepeated),
            (
                &format!("sessionId={longest}x"),
                ErrorAnswer::SessionTooLong,
            ),
            (
                &format!("sessionId={}", "%C3%A9".repeat(129)),
                ErrorAnswer::SessionTooLong,
            ),
        ] {
            assert_eq!(of_query(query), Err(error), "{query}");
        }
    }

    fn history(access: &Access, query: &str, secret: Option<&[u8]>) -> (View, bool, String) {
        let target = format!("{MESSAGES_PATH}?{query}");
        let request = Request {
            secret,
            ..request(Method::Get, &target)
        };
        match route(&request, access, is_asset) {
            Route::History(query) => {
                let since = query.since.unwrap_or_default();
                let rest = format!("{since} {} {}", query.limit, query.wait_s);
                (query.view, query.is_public, rest)
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_history_shows_what_a_stream_shows_and_is_public_without_session_and_secret() {
        let all = "since=a-1&limit=7&wait=25";
        assert_eq!(
            history(&open(), "", None),
            (View::Everything, true, " 100 0".into())
        );
        assert_eq!(
            history(&open(), all, Some(b"any")),
            (View::Everything, false, "a-1 7 25".into())
        );
        for (secret, expected) in [(None, View::Public), (Some(SECRET), View::Everything)] {
            let (view, is_public, _) = history(&guarded(), "since=&lastEventId=x", secret);
            assert_eq!((view, is_public), (expected, secret.is_none()));
            let (view, is_public, _) = history(&guarded(), "sessionId=a", secret);
            assert_eq!((view, is_public), (session("a"), false));
        }
    }

    #[test]
    fn a_bad_query_of_the_history_is_refused() {
        for (query, secret, error) in [
            ("", Some(&b"wrong"[..]), ErrorAnswer::Unauthorized),
            ("limit=0", None, ErrorAnswer::LimitOutOfRange),
            ("limit=101", None, ErrorAnswer::LimitOutOfRange),
            ("limit=", None, ErrorAnswer::LimitOutOfRange),
            ("limit=-1", None, ErrorAnswer::LimitOutOfRange),
            ("wait=26", None, ErrorAnswer::WaitOutOfRange),
            ("wait=1.5", None, ErrorAnswer::WaitOutOfRange),
            (
                "wait=99999999999999999999",
                None,
                ErrorAnswer::WaitOutOfRange,
            ),
            ("wait=1&wait=1", None, ErrorAnswer::QueryRepeated),
            ("since=a&since=b", None, ErrorAnswer::QueryRepeated),
            ("since=%", None, ErrorAnswer::QueryMalformed),
        ] {
            let target = format!("{MESSAGES_PATH}?{query}");
            let request = Request {
                secret,
                ..request(Method::Get, &target)
            };
            let routed = route(&request, &guarded(), is_asset);
            assert_eq!(routed, Route::Error(error), "{query}");
        }
    }

    #[test]
    fn the_header_wins_over_the_parameter() {
        let id = |header: Option<&'static [u8]>, query: &str| {
            let target = format!("{STREAM_PATH}?{query}");
            let request = Request {
                last_event_id: header,
                ..request(Method::Get, &target)
            };
            match route(&request, &open(), is_asset) {
                Route::Subscribe(subscription) => subscription.last_event_id.map(Cow::into_owned),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(id(None, ""), None);
        assert_eq!(id(None, "lastEventId="), None);
        assert_eq!(id(Some(b""), ""), None);
        assert_eq!(id(None, "lastEventId=a-1").as_deref(), Some("a-1"));
        assert_eq!(id(Some(b""), "lastEventId=a-1").as_deref(), Some("a-1"));
        assert_eq!(id(Some(b"b-2"), "lastEventId=a-1").as_deref(), Some("b-2"));
        assert_eq!(
            id(Some(b"\xff"), "lastEventId=a-1").as_deref(),
            Some("\u{fffd}")
        );
    }

    #[test]
    fn errors_that_need_no_body_are_known_before_it() {
        let before = |method, path, access: &Access| {
            error_before_body(&request(method, path), access, is_asset)
        };
        assert_eq!(before(Method::Post, WEBHOOK_PATH, &open()), None);
        assert_eq!(
            before(Method::Post, WEBHOOK_PATH, &guarded()),
            Some(ErrorAnswer::Unauthorized)
        );
        assert_eq!(
            before(Method::Post, "/x", &open()),
            Some(ErrorAnswer::NotFound)
        );
        assert_eq!(
            before(Method::Post, "/", &open()),
            Some(ErrorAnswer::MethodNotAllowed(Allow::READ))
        );
    }

    #[test]
    fn debug_output_shows_no_secret() {
        assert_eq!(
            format!("{:?} {:?}", guarded(), open()),
            "Access(secret) Access(open)"
        );
    }
}
