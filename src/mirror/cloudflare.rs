//! A blocking client of the Cloudflare KV REST API: read, write and delete one value.
//!
//! Called by the mirror thread and by the `kv-check` command. Every call is bounded in time and
//! bytes and ends in a [`Reply`]; no answer, however odd, is an error of this program. The token is
//! in the `Authorization` header and nowhere else: not in a `Debug` form, not in a failure's text
//! even if the server sends it back, and no redirect is followed that could carry it elsewhere.
//! Whom it trusts and which proxies it takes is the matter of [`client`](crate::client).

use std::fmt;
use std::io::{ErrorKind, Read};
use std::time::Duration;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use ureq::http::{HeaderMap, HeaderValue, Response, Uri, header};
use ureq::{Agent, Body, RequestBuilder};

use crate::client;
use crate::client::tls_words::{tls_error, tls_words};
use crate::config::KvConfig;
use crate::foreign_text::{Secrets, quote};
use crate::limits::{KV_ERROR_BODY_BYTES_MAX, KV_VALUE_BYTES_MAX};
use crate::mirror::reply::{
    Failure, FailureKind, Reply, TokenState, classify, date_ms, is_key_not_found, token_state,
};

/// What needs no escape in a path segment (RFC 3986 section 2.3).
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// Least time that an idle connection is kept; the API's end keeps it for some minutes.
const IDLE_AGE_MIN: Duration = Duration::from_secs(60);

/// A client for one namespace. It keeps one connection alive.
pub struct Client {
    agent: Agent,
    /// Where tokens of a user are verified, and those of the account.
    token_urls: [String; 2],
    values_url: String,
    authorization: HeaderValue,
    /// What a server may send back: the token, a proxy's password.
    secrets: Secrets,
}

/// Why there can be no client: a setting that cannot work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientError {
    /// The endpoint is not a URL.
    Endpoint,
    /// The token has characters that no header may carry.
    Token,
    /// The certificates to trust are malformed, or there are none.
    Certificates,
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ClientError::Endpoint => "--kv-endpoint is not a URL",
            ClientError::Token => "the KV token has characters that a header cannot carry",
            ClientError::Certificates => "--kv-ca-file holds no well-formed PEM certificate",
        })
    }
}

impl std::error::Error for ClientError {}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("values_url", &self.values_url)
            .finish_non_exhaustive()
    }
}

/// Cuts a client's calls short from another thread.
pub struct Interrupt(Agent);

impl fmt::Debug for Interrupt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Interrupt")
    }
}

impl Interrupt {
    /// Fails the call in flight, if any, and all later ones.
    pub fn interrupt(self) {
        self.0.shutdown();
    }
}

impl Client {
    /// A client for the configured namespace. Connects to nothing yet.
    pub fn new(config: &KvConfig) -> Result<Client, ClientError> {
        let endpoint: Uri = config
            .endpoint
            .as_str()
            .parse()
            .map_err(|_| ClientError::Endpoint)?;
        let agent = client::config(&endpoint, config.ca_pem.as_deref())
            .map_err(|_| ClientError::Certificates)?
            .max_idle_connections(1)
            // Kept over several polls, so that a poll costs no handshake.
            .max_idle_age(config.poll_interval.saturating_mul(4).max(IDLE_AGE_MIN))
            .build()
            .new_agent();
        let base_url = config.endpoint.as_str().trim_end_matches('/');
        let account_url = format!("{base_url}/accounts/{}", config.account);
        let values_url = format!(
            "{account_url}/storage/kv/namespaces/{}/values/",
            config.namespace,
        );
        let token = config.token.expose();
        Ok(Client {
            agent,
            token_urls: [
                format!("{base_url}/user/tokens/verify"),
                format!("{account_url}/tokens/verify"),
            ],
            values_url,
            authorization: bearer(token)?,
            secrets: client::secrets(Some(token)),
        })
    }

    /// What can interrupt this client's calls.
    pub fn interrupt_handle(&self) -> Interrupt {
        Interrupt(self.agent.clone())
    }

    /// Reads a value; `None` if there is no such key.
    pub fn read(&self, key: &str, timeout: Duration) -> Reply<Option<Vec<u8>>> {
        let outcome = self
            .authorized(self.agent.get(self.url(key)), timeout)
            .call();
        self.reply(outcome, |response| match response.status().as_u16() {
            200..=299 => read_value(response.body_mut())
                .map(Some)
                .map_err(|error| broken(&error, &self.secrets)),
            status => match error_body(response) {
                body if is_key_not_found(status, &body) => Ok(None),
                body => Err(failure(status, response.headers(), &body)),
            },
        })
    }

    /// Writes a value; it replaces what was there.
    pub fn write(&self, key: &str, value: &[u8], timeout: Duration) -> Reply<()> {
        let request = self
            .agent
            .put(self.url(key))
            .content_type("application/octet-stream");
        let outcome = self.authorized(request, timeout).send(value);
        self.reply(outcome, accepted)
    }

    /// Deletes a value, if there is one.
    pub fn delete(&self, key: &str, timeout: Duration) -> Reply<()> {
        let outcome = self
            .authorized(self.agent.delete(self.url(key)), timeout)
            .call();
        self.reply(outcome, accepted)
    }

    /// What the API says of the token, whatever it may do. Takes up to two calls.
    pub fn token_state(&self, timeout: Duration) -> TokenState {
        let mut state = TokenState::Unknown;
        for url in &self.token_urls {
            let call = self.authorized(self.agent.get(url), timeout).call();
            state = match call {
                Ok(mut response) => {
                    let status = response.status().as_u16();
                    token_state(status, &error_body(&mut response))
                }
                Err(_) => TokenState::Unknown,
            };
            if state != TokenState::Refused {
                break;
            }
        }
        state
    }

    fn url(&self, key: &str) -> String {
        format!("{}{}", self.values_url, utf8_percent_encode(key, SEGMENT))
    }

    fn authorized<Any>(
        &self,
        request: RequestBuilder<Any>,
        timeout: Duration,
    ) -> RequestBuilder<Any> {
        request
            .header(header::AUTHORIZATION, self.authorization.clone())
            .config()
            .timeout_global(Some(timeout))
            // A dead address must leave time for the next one.
            .timeout_connect(Some(timeout / 2))
            .build()
    }

    fn reply<T>(
        &self,
        outcome: Result<Response<Body>, ureq::Error>,
        interpret: impl FnOnce(&mut Response<Body>) -> Result<T, Failure>,
    ) -> Reply<T> {
        match outcome {
            Ok(mut response) => {
                let date_ms = response_date_ms(response.headers());
                Reply {
                    result: interpret(&mut response).map_err(|failure| self.quoted(failure)),
                    date_ms,
                }
            }
            Err(error) => Reply {
                result: Err(self.quoted(broken(&error, &self.secrets))),
                date_ms: None,
            },
        }
    }

    /// Makes a quote of what the server, or an error about it, said.
    fn quoted(&self, mut failure: Failure) -> Failure {
        failure.detail = quote(&failure.detail, &self.secrets);
        failure
    }
}

/// The outcome of a call whose answer's body does not matter.
fn accepted(response: &mut Response<Body>) -> Result<(), Failure> {
    let status = response.status().as_u16();
    // The body is read in any case: only then can the connection be used again.
    let body = error_body(response);
    match status {
        200..=299 => Ok(()),
        _ => Err(failure(status, response.headers(), &body)),
    }
}

fn failure(status: u16, headers: &HeaderMap, body: &[u8]) -> Failure {
    let retry_after = headers
        .get(header::RETRY_AFTER)
        .and_then(|value| value.to_str().ok());
    classify(status, retry_after, body, response_date_ms(headers))
}

fn response_date_ms(headers: &HeaderMap) -> Option<u64> {
    date_ms(headers.get(header::DATE)?.to_str().ok()?)
}

/// A value of at most [`KV_VALUE_BYTES_MAX`]. Takes no more memory than its bytes if its length is said
/// before, and up to twice as much address space otherwise.
fn read_value(body: &mut Body) -> Result<Vec<u8>, ureq::Error> {
    let expected = body.content_length().unwrap_or(0);
    let expected = usize::try_from(expected).unwrap_or(KV_VALUE_BYTES_MAX);
    let mut bytes = Vec::new();
    bytes
        .try_reserve_exact(expected.min(KV_VALUE_BYTES_MAX))
        .map_err(|_| ureq::Error::Io(ErrorKind::OutOfMemory.into()))?;
    let mut body = body.with_config().limit(KV_VALUE_BYTES_MAX as u64).reader();
    body.read_to_end(&mut bytes).map_err(ureq::Error::from)?;
    Ok(bytes)
}

/// The beginning of an answer's body, as far as it comes: the status is what counts.
fn error_body(response: &mut Response<Body>) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut body = response
        .body_mut()
        .as_reader()
        .take(KV_ERROR_BODY_BYTES_MAX as u64);
    let _the_rest_is_missing = body.read_to_end(&mut bytes);
    bytes
}

/// A call that brought no whole answer.
fn broken(error: &ureq::Error, secrets: &Secrets) -> Failure {
    let kind = match error {
        ureq::Error::Timeout(_) => FailureKind::Timeout,
        ureq::Error::BodyExceedsLimit(_) => FailureKind::Unexpected,
        ureq::Error::Io(error) if error.kind() == ErrorKind::TimedOut => FailureKind::Timeout,
        _ => FailureKind::Unreachable,
    };
    Failure {
        kind,
        retry_after_ms: None,
        detail: match tls_error(error) {
            Some(tls) => tls_words(tls, secrets),
            None => error.to_string(),
        },
    }
}

fn bearer(token: &str) -> Result<HeaderValue, ClientError> {
    let mut header =
        HeaderValue::try_from(format!("Bearer {token}")).map_err(|_| ClientError::Token)?;
    header.set_sensitive(true);
    Ok(header)
}
