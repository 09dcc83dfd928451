//! The result of a call to KV as a value.
//!
//! Made by the client (`cloudflare`), used by the mirror core. Never does I/O. The classification takes
//! any status, header and body, and never fails.

use std::fmt;

use serde::Deserialize;

use crate::limits::KV_RETRY_AFTER_MS_MAX;

/// The result of a call.
#[derive(Debug, Clone)]
pub struct Reply<T> {
    /// The result, or the failure.
    pub result: Result<T, Failure>,
    /// The `Date` of the answer in milliseconds since the Unix epoch, with a resolution of a second. It is
    /// the clock that all nodes share.
    pub date_ms: Option<u64>,
}

/// Why a call failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The kind of failure, for counters and decisions.
    pub kind: FailureKind,
    /// `Retry-After`, if the answer had a valid one, at most [`KV_RETRY_AFTER_MS_MAX`].
    pub retry_after_ms: Option<u64>,
    /// Status, code and message. The client quotes it: one short line without secrets.
    pub detail: String,
}

/// The kinds of failure, by their remedy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FailureKind {
    /// No connection: name resolution, TCP or TLS has failed, or the connection broke.
    Unreachable,
    /// No answer in time.
    Timeout,
    /// A server error (5xx).
    Server,
    /// Too many calls (429).
    RateLimited,
    /// The daily limit is reached (code 10048).
    DailyLimit,
    /// The token is missing, malformed, wrong or lacks the permission for the account (400, 401, 403).
    Credentials,
    /// The account does not exist.
    Account,
    /// The namespace does not exist in the account.
    Namespace,
    /// Any other answer: it probably does not come from the Cloudflare API.
    Unexpected,
}

impl FailureKind {
    /// All kinds, in the order of [`FailureKind::index`].
    pub const ALL: [FailureKind; 9] = [
        FailureKind::Unreachable,
        FailureKind::Timeout,
        FailureKind::Server,
        FailureKind::RateLimited,
        FailureKind::DailyLimit,
        FailureKind::Credentials,
        FailureKind::Account,
        FailureKind::Namespace,
        FailureKind::Unexpected,
    ];

    /// The name as a metric's label.
    pub fn label(self) -> &'static str {
        match self {
            FailureKind::Unreachable => "unreachable",
            FailureKind::Timeout => "timeout",
            FailureKind::Server => "server",
            FailureKind::RateLimited => "rate_limited",
            FailureKind::DailyLimit => "daily_limit",
            FailureKind::Credentials => "credentials",
            FailureKind::Account => "account",
            FailureKind::Namespace => "namespace",
            FailureKind::Unexpected => "unexpected",
        }
    }

    /// The position in [`FailureKind::ALL`].
    pub fn index(self) -> usize {
        self as usize
    }

    /// Whether only an operator can correct the cause.
    pub fn needs_operator(self) -> bool {
        matches!(
            self,
            FailureKind::Credentials
                | FailureKind::Account
                | FailureKind::Namespace
                | FailureKind::Unexpected
        )
    }
}

impl fmt::Display for FailureKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            FailureKind::Unreachable => "KV cannot be reached",
            FailureKind::Timeout => "KV does not answer in time",
            FailureKind::Server => "KV is in trouble",
            FailureKind::RateLimited => "too many calls",
            FailureKind::DailyLimit => "the day's allowance is used up",
            FailureKind::Credentials => {
                "the token CLOUDFLARE_API_TOKEN is not accepted for the account"
            }
            FailureKind::Account => "there is no account with the id CLOUDFLARE_ACCOUNT_ID",
            FailureKind::Namespace => "the account has no namespace with the id WEBHOOK_KV",
            FailureKind::Unexpected => "the answer is not one of the Cloudflare API",
        })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.kind, self.detail)
    }
}

/// The state of the token according to the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenState {
    /// It is valid.
    Active,
    /// It is disabled, or has expired.
    Inactive,
    /// It is not a token of a user or of this account.
    Refused,
    /// The API did not answer the question.
    Unknown,
}

/// Code of the API: the key does not exist.
const KEY_NOT_FOUND: u32 = 10009;
/// Code of the API: the free plan's daily limit is reached.
const DAILY_LIMIT: u32 = 10048;
/// Code of the API: an object in the path does not exist. The first one in the path is the account.
const NO_SUCH_OBJECT: u32 = 7003;
/// Code of the API: the path does not exist.
const NO_SUCH_ROUTE: u32 = 7000;
/// Codes of the API: the namespace id is malformed, or the namespace does not exist.
const NAMESPACE_MALFORMED: u32 = 10011;
const NAMESPACE_NOT_FOUND: u32 = 10013;

/// Whether an error answer means that the key does not exist, which is no failure.
pub fn is_key_not_found(status: u16, body: &[u8]) -> bool {
    status == 404 && first_error(body).is_some_and(|error| error.code == KEY_NOT_FOUND)
}

/// Classifies an answer other than 2xx with any body. The codes for account and namespace come with status
/// 400 as well as 404. Other answers are classified by status. The detail is not quoted yet.
pub fn classify(
    status: u16,
    retry_after: Option<&str>,
    body: &[u8],
    now_ms: Option<u64>,
) -> Failure {
    let error = first_error(body);
    let code = error.as_ref().map(|error| error.code);
    let by_code = code.and_then(|code| kind_by_code(status, code));
    let kind = by_code.unwrap_or(match (status, code) {
        (429, _) => FailureKind::RateLimited,
        (400 | 401 | 403, _) => FailureKind::Credentials,
        (404, Some(_)) => FailureKind::Namespace,
        (408, _) => FailureKind::Timeout,
        (500.., _) => FailureKind::Server,
        _ => FailureKind::Unexpected,
    });
    let detail = match error {
        Some(error) => format!("status {status}, code {}: {}", error.code, error.message),
        None => format!("status {status}, and a body that is no API answer"),
    };
    Failure {
        kind,
        retry_after_ms: retry_after_ms(retry_after, now_ms),
        detail,
    }
}

/// The kind that a code alone determines.
fn kind_by_code(status: u16, code: u32) -> Option<FailureKind> {
    let is_refusal = (400..500).contains(&status) && status != 429;
    match code {
        DAILY_LIMIT if status >= 400 => Some(FailureKind::DailyLimit),
        NO_SUCH_OBJECT if is_refusal => Some(FailureKind::Account),
        NAMESPACE_MALFORMED | NAMESPACE_NOT_FOUND if is_refusal => Some(FailureKind::Namespace),
        NO_SUCH_ROUTE if is_refusal => Some(FailureKind::Unexpected),
        _ => None,
    }
}

/// `Retry-After` as seconds or as a date (RFC 9110 section 10.2.3).
fn retry_after_ms(value: Option<&str>, now_ms: Option<u64>) -> Option<u64> {
    let value = value?.trim();
    let wait_ms = match value.parse::<u64>() {
        Ok(seconds) => seconds.saturating_mul(1000),
        Err(_) => date_ms(value)?.saturating_sub(now_ms?),
    };
    Some(wait_ms.min(KV_RETRY_AFTER_MS_MAX))
}

/// An HTTP date (RFC 9110 section 5.6.7) in milliseconds since the Unix epoch.
pub fn date_ms(value: &str) -> Option<u64> {
    let date = httpdate::parse_http_date(value).ok()?;
    let since_epoch = date.duration_since(std::time::UNIX_EPOCH).ok()?;
    Some(since_epoch.as_millis() as u64)
}

/// The state of a token according to the answer to its verification.
pub fn token_state(status: u16, body: &[u8]) -> TokenState {
    match status {
        200..=299 => match serde_json::from_slice::<Verification>(body) {
            Ok(answer) if answer.result.status == "active" => TokenState::Active,
            Ok(_) => TokenState::Inactive,
            Err(_) => TokenState::Unknown,
        },
        400 | 401 | 403 => TokenState::Refused,
        _ => TokenState::Unknown,
    }
}

#[derive(Deserialize)]
struct Verification {
    result: VerifiedToken,
}

#[derive(Deserialize)]
struct VerifiedToken {
    status: String,
}

#[derive(Deserialize)]
struct Envelope {
    errors: Vec<ApiError>,
}

#[derive(Deserialize)]
struct ApiError {
    code: u32,
    #[serde(default)]
    message: String,
}

fn first_error(body: &[u8]) -> Option<ApiError> {
    serde_json::from_slice::<Envelope>(body)
        .ok()?
        .errors
        .into_iter()
        .next()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn envelope(code: u32) -> Vec<u8> {
        format!(r#"{{"success":false,"errors":[{{"code":{code},"message":"m"}}],"result":null}}"#)
            .into_bytes()
    }

    fn kind(status: u16, body: &[u8]) -> FailureKind {
        classify(status, None, body, None).kind
    }

    #[test]
    fn an_answer_is_classified_by_code_and_status() {
        let html = b"<html><h1>502</h1></html>";
        for (status, body, expected) in [
            (400, envelope(6003), FailureKind::Credentials),
            (401, envelope(10000), FailureKind::Credentials),
            (403, envelope(10000), FailureKind::Credentials),
            (403, html.to_vec(), FailureKind::Credentials),
            (404, envelope(10013), FailureKind::Namespace),
            (404, envelope(10011), FailureKind::Namespace),
            (400, envelope(10011), FailureKind::Namespace),
            (400, envelope(10013), FailureKind::Namespace),
            (404, envelope(7003), FailureKind::Account),
            (400, envelope(7003), FailureKind::Account),
            (404, envelope(7000), FailureKind::Unexpected),
            (400, envelope(7000), FailureKind::Unexpected),
            (500, envelope(7003), FailureKind::Server),
            (404, html.to_vec(), FailureKind::Unexpected),
            (429, envelope(971), FailureKind::RateLimited),
            (429, html.to_vec(), FailureKind::RateLimited),
            (429, envelope(10048), FailureKind::DailyLimit),
            (403, envelope(10048), FailureKind::DailyLimit),
            (500, envelope(10001), FailureKind::Server),
            (502, html.to_vec(), FailureKind::Server),
            (530, vec![], FailureKind::Server),
            (302, vec![], FailureKind::Unexpected),
            (413, vec![0xff, 0], FailureKind::Unexpected),
        ] {
            assert_eq!(kind(status, &body), expected, "{status} {body:?}");
        }
    }

    #[test]
    fn only_the_code_of_a_missing_key_means_an_empty_history() {
        assert!(is_key_not_found(404, &envelope(10009)));
        assert!(!is_key_not_found(404, &envelope(10013)));
        assert!(!is_key_not_found(404, b"<html>not found"));
        assert!(!is_key_not_found(404, br#"{"errors":[]}"#));
        assert!(!is_key_not_found(410, &envelope(10009)));
    }

    #[test]
    fn a_token_is_active_only_if_the_api_says_so() {
        let state = |status, body: &str| token_state(status, body.as_bytes());
        let verified =
            |status: &str| format!(r#"{{"success":true,"result":{{"status":"{status}"}}}}"#);
        assert_eq!(state(200, &verified("active")), TokenState::Active);
        assert_eq!(state(200, &verified("expired")), TokenState::Inactive);
        assert_eq!(state(200, "<html>"), TokenState::Unknown);
        assert_eq!(state(401, "{}"), TokenState::Refused);
        assert_eq!(state(404, &verified("active")), TokenState::Unknown);
        assert_eq!(state(502, ""), TokenState::Unknown);
    }

    #[test]
    fn retry_after_is_seconds_or_a_date_and_bounded() {
        let read =
            |value: &str| classify(429, Some(value), b"", Some(784_111_777_000)).retry_after_ms;
        assert_eq!(read("7"), Some(7_000));
        assert_eq!(read(" 0 "), Some(0));
        assert_eq!(read("Sun, 06 Nov 1994 08:49:57 GMT"), Some(20_000));
        assert_eq!(read("Sun, 06 Nov 1994 08:00:00 GMT"), Some(0));
        assert_eq!(read("99999999999999999999"), None);
        assert_eq!(read("18446744073709551615"), Some(KV_RETRY_AFTER_MS_MAX));
        assert_eq!(read("soon"), None);
        assert_eq!(classify(429, None, b"", None).retry_after_ms, None);
    }

    #[test]
    fn the_index_of_a_kind_is_its_position() {
        for (index, kind) in FailureKind::ALL.into_iter().enumerate() {
            assert_eq!(kind.index(), index);
        }
    }
}
