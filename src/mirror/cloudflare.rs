//! A blocking client of the Cloudflare KV REST API: read, write and delete one value.
//!
//! Called by the mirror thread and by the `kv-check` command. Every call is bounded in time and bytes and
//! returns a [`Reply`]; no answer can make it panic. Never shows the token: it is only in the
//! `Authorization` header, not in a `Debug` form, nor in a failure's text if the server sends it back. No
//! redirect is followed, so the token goes to no other server. [`client`](crate::client) sets the trusted
//! authorities and the proxies.

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

/// Characters that are escaped in a path segment: all but the unreserved ones (RFC 3986 section 2.3).
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// The shortest time that an idle connection is kept. The API keeps it for some minutes.
const IDLE_AGE_MIN: Duration = Duration::from_secs(60);

/// A client for one namespace. It keeps one connection alive.
pub struct Client {
    agent: Agent,
    /// The URLs that verify a user's token and an account's token.
    token_urls: [String; 2],
    values_url: String,
    authorization: HeaderValue,
    /// Secrets that a server may send back: the token and a proxy's password.
    secrets: Secrets,
}

/// An invalid setting of the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientError {
    /// The endpoint is not a URL.
    Endpoint,
    /// The token has characters that are invalid in a header.
    Token,
    /// The certificates of the authorities are malformed or missing.
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

/// Aborts a client's calls from another thread.
pub struct Interrupt(Agent);

impl fmt::Debug for Interrupt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Interrupt")
    }
}

impl Interrupt {
    /// Fails the call in progress, if any, and all later ones.
    pub fn interrupt(self) {
        self.0.shutdown();
    }
}

impl Client {
    /// A client for the configured namespace. Does not connect yet.
    pub fn new(config: &KvConfig) -> Result<Client, ClientError> {
        let endpoint: Uri = config
            .endpoint
            .as_str()
            .parse()
            .map_err(|_| ClientError::Endpoint)?;
        let agent = client::config(&endpoint, config.ca_pem.as_deref())
            .map_err(|_| ClientError::Certificates)?
            .max_idle_connections(1)
            // Kept for several polls, so that a poll needs no handshake.
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

    /// A handle that can abort this client's calls.
    pub fn interrupt_handle(&self) -> Interrupt {
        Interrupt(self.agent.clone())
    }

    /// Reads a value; `None` if the key does not exist.
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

    /// Writes a value, replacing the previous one.
    pub fn write(&self, key: &str, value: &[u8], timeout: Duration) -> Reply<()> {
        let request = self
            .agent
            .put(self.url(key))
            .content_type("application/octet-stream");
        let outcome = self.authorized(request, timeout).send(value);
        self.reply(outcome, accepted)
    }

    /// Deletes a key and its value, if it exists.
    pub fn delete(&self, key: &str, timeout: Duration) -> Reply<()> {
        let outcome = self
            .authorized(self.agent.delete(self.url(key)), timeout)
            .call();
        self.reply(outcome, accepted)
    }

    /// Asks the API whether the token is valid, whatever its permissions. Takes up to two calls.
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
            // Half of the time for connecting. The other half is for another address, if the first
            // does not answer.
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

    /// Quotes the detail, which comes from the server or from an error about it.
    fn quoted(&self, mut failure: Failure) -> Failure {
        failure.detail = quote(&failure.detail, &self.secrets);
        failure
    }
}

/// The result of a call whose answer's body is not used.
fn accepted(response: &mut Response<Body>) -> Result<(), Failure> {
    let status = response.status().as_u16();
    // The body is read in any case, because only then the connection can be reused.
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

/// Reads a value of at most [`KV_VALUE_BYTES_MAX`]. With a `Content-Length` it takes no more memory than its
/// bytes, otherwise up to twice as much address space.
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

/// The beginning of an answer's body. If the body breaks off, the received part is enough, because
/// the status counts.
fn error_body(response: &mut Response<Body>) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut body = response
        .body_mut()
        .as_reader()
        .take(KV_ERROR_BODY_BYTES_MAX as u64);
    let _the_rest_is_missing = body.read_to_end(&mut bytes);
    bytes
}

/// The failure of a call without a complete answer.
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
