//! The requests that the doctor sends, and the records of their answers.
//!
//! Used by [`examination`](super::examination). Posts to a session whose name is random, or in the token, so that
//! its messages reach no other session's streams. Judges nothing.

use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use ureq::http::Uri;
use ureq::{Agent, RequestBuilder, typestate};

use super::answer::Answer;
use super::fault;
use super::finding::{Fault, Party};
use super::stream::Reading;
use super::watch::Watch;
use crate::client;
use crate::config::{DoctorConfig, Secret};
use crate::foreign_text::Secrets;
use crate::http::route::{MESSAGES_PATH, STREAM_PATH, WEBHOOK_PATH};
use crate::limits::{DOCTOR_HELD_BACK_MS, DOCTOR_MESSAGES, DOCTOR_PATIENCE_MS};
use crate::message::MessageId;

/// An answer, or the fault that prevented it.
pub type Asked = Result<Answer, Fault>;

/// A message that was posted.
#[derive(Debug, Clone)]
pub struct Post {
    /// The answer, and the time until it arrived.
    pub answer: Result<(Duration, Answer), Fault>,
    /// The time from the answer to the event; zero if the event arrived first, `None` if it did not arrive.
    pub arrived: Option<Duration>,
    /// The event's id.
    pub event_id: Option<String>,
}

impl Post {
    /// Whether the server has accepted the message.
    pub fn is_accepted(&self) -> bool {
        matches!(&self.answer, Ok((_, answer)) if answer.head.status == 200)
    }
}

/// What a stream with a `Last-Event-ID` began with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resumed {
    /// The messages after that one: it resumed.
    Behind,
    /// Earlier messages again.
    FromStart,
    /// No message.
    Nothing,
}

pub(super) const PATIENCE: Duration = Duration::from_millis(DOCTOR_PATIENCE_MS);

/// A secret that no server has, to check whether the field arrives.
const DUMMY_SECRET: &str = "hookcast-doctor-dummy";

/// A client of the examined address.
pub(super) struct Probe<'a> {
    agent: Agent,
    base: &'a str,
    secret: Option<&'a Secret>,
    token: Option<&'a Secret>,
    secrets: &'a Secrets,
    session: String,
}

impl<'a> Probe<'a> {
    pub(super) fn new(
        config: &'a DoctorConfig,
        secret: Option<&'a Secret>,
        secrets: &'a Secrets,
    ) -> Result<Probe<'a>, Fault> {
        let base = config.url.as_str();
        let address: Uri = base.parse().map_err(|error| {
            let seen = format!("the address is malformed: {error}");
            Fault::new(Party::Command, seen, "give it as https://HOST")
        })?;
        let settings = client::config(&address, config.ca_pem.as_deref()).map_err(|_| {
            let seen = "--ca-file holds no well-formed PEM certificate";
            Fault::new(
                Party::Command,
                seen,
                "see with openssl x509 -text what it holds",
            )
        })?;
        let mut random = [0; 16];
        getrandom::fill(&mut random).map_err(|error| {
            let seen = format!("no random numbers: {error}");
            Fault::new(Party::Command, seen, "look at this machine's kernel")
        })?;
        Ok(Probe {
            agent: settings.build().new_agent(),
            base,
            secret,
            token: config.token.as_ref(),
            secrets,
            session: session_of(config.token.as_ref())
                .unwrap_or_else(|| format!("doctor-{}", MessageId::from_bytes(random).simple())),
        })
    }

    /// Requests the status of the server.
    pub(super) fn status(&self) -> Asked {
        self.call(self.agent.get(format!("{}{WEBHOOK_PATH}", self.base)))
    }

    /// Requests the history of the session.
    pub(super) fn history(&self) -> Asked {
        self.call(self.get(&self.history_url()))
    }

    /// Requests the history with a wrong secret: refused, if the field arrives.
    pub(super) fn history_with_dummy_secret(&self) -> Asked {
        let request = self.agent.get(self.history_url());
        self.call(request.header("X-Webhook-Secret", DUMMY_SECRET))
    }

    /// Requests the history with the secret, if there is one.
    pub(super) fn history_with_secret(&self) -> Option<Asked> {
        let request = self.agent.get(self.history_url());
        let secret = self.secret?.expose();
        Some(self.call(request.header("X-Webhook-Secret", secret)))
    }

    fn history_url(&self) -> String {
        format!("{}{MESSAGES_PATH}?{}", self.base, self.session_parameter())
    }

    fn session_parameter(&self) -> String {
        let name = utf8_percent_encode(&self.session, NON_ALPHANUMERIC);
        format!("sessionId={name}")
    }

    /// A request that reads, with the token if there is one.
    fn get(&self, url: &str) -> RequestBuilder<typestate::WithoutBody> {
        let request = self.agent.get(url);
        match self.authorization() {
            Some(value) => request.header("Authorization", value),
            None => request,
        }
    }

    fn authorization(&self) -> Option<String> {
        self.token.map(|token| format!("Bearer {}", token.expose()))
    }

    fn call(&self, request: RequestBuilder<typestate::WithoutBody>) -> Asked {
        let request = request.config().timeout_global(Some(PATIENCE)).build();
        let called = request.call();
        called
            .map(Answer::of)
            .map_err(|error| fault::of(&error, self.secrets))
    }

    /// Requests a stream, and waits for its first event.
    pub(super) fn stream(&self, last_event_id: Option<&str>, time: Duration) -> Watch {
        // The session of a token may have messages of an earlier examination.
        let replay = match (self.token, last_event_id) {
            (Some(_), None) => "&replay=0",
            _ => "",
        };
        let session = self.session_parameter();
        let request = self.get(&format!("{}{STREAM_PATH}?{session}{replay}", self.base));
        let reading = Reading::begin(request, last_event_id, time, self.secrets);
        let mut watch = Watch::new(reading);
        watch.until(Instant::now() + PATIENCE, |watch| {
            watch.seen.connected.is_some()
        });
        watch
    }

    /// Posts messages one by one, each after the event of the previous one has arrived. Stops if an event
    /// does not arrive.
    pub(super) fn posts(&self, watch: &mut Watch) -> Vec<Post> {
        let mut posts = Vec::new();
        for number in 1..=DOCTOR_MESSAGES {
            let post = self.post(number, watch);
            let is_lost = post.arrived.is_none();
            posts.push(post);
            if is_lost {
                break;
            }
        }
        posts
    }

    /// Posts a message and waits for its event.
    fn post(&self, number: usize, watch: &mut Watch) -> Post {
        let message = content(number);
        let body = serde_json::json!({ "message": message, "sessionId": self.session });
        let mut request = self
            .agent
            .post(format!("{}{WEBHOOK_PATH}", self.base))
            .content_type("application/json");
        if let Some(secret) = self.secret {
            request = request.header("X-Webhook-Secret", secret.expose());
        }
        if let Some(value) = self.authorization() {
            request = request.header("Authorization", value);
        }
        let request = request.config().timeout_global(Some(PATIENCE)).build();
        let began = Instant::now();
        let outcome = request.send(body.to_string().as_bytes());
        let answered = Instant::now();
        let answer = match outcome {
            Ok(response) => Ok((answered - began, Answer::of(response))),
            Err(error) => Err(fault::of(&error, self.secrets)),
        };
        let mut post = Post {
            answer,
            arrived: None,
            event_id: None,
        };
        if post.is_accepted() {
            let deadline = answered + 3 * Duration::from_millis(DOCTOR_HELD_BACK_MS);
            watch.until(deadline, |watch| watch.message(number).is_some());
            if let Some((at, event_id)) = watch.message(number) {
                let at = watch.began() + *at;
                post.arrived = Some(at.saturating_duration_since(answered));
                post.event_id.clone_from(event_id);
            }
        }
        post
    }

    /// Requests a stream after the first message, and reads it up to the last.
    pub(super) fn resume_behind(&self, posts: &[Post]) -> Option<Resumed> {
        let id = posts.first()?.event_id.as_deref()?;
        let arrived = posts.iter().filter(|post| post.arrived.is_some()).count();
        if arrived < 2 {
            return None;
        }
        let mut watch = self.stream(Some(id), PATIENCE);
        watch.until(Instant::now() + PATIENCE, |watch| {
            watch.message(arrived).is_some()
        });
        Some(if watch.message(1).is_some() {
            Resumed::FromStart
        } else if watch.message(arrived).is_some() {
            Resumed::Behind
        } else {
            Resumed::Nothing
        })
    }

    /// Requests a stream after the last of the `kept` messages in the history. Its first event says how
    /// many it replays.
    pub(super) fn resume_at(&self, last_event_id: &str, kept: u64) -> Resumed {
        let watch = self.stream(Some(last_event_id), PATIENCE);
        match watch.seen.connected {
            None => Resumed::Nothing,
            Some((_, replay)) if replay >= kept => Resumed::FromStart,
            Some(_) => Resumed::Behind,
        }
    }
}

/// The session of a token that is meant for the doctor: one whose name begins so. The claims are read without a
/// check; the server makes it.
fn session_of(token: Option<&Secret>) -> Option<String> {
    let claims = token?.expose().split('.').nth(1)?;
    let claims = URL_SAFE_NO_PAD.decode(claims).ok()?;
    let claims: Value = serde_json::from_slice(&claims).ok()?;
    let sessions = claims.get("hookcast")?.get("sessions")?.as_array()?;
    let mut names = sessions.iter().filter_map(Value::as_str);
    names
        .find(|name| name.starts_with("doctor"))
        .map(str::to_owned)
}

/// The content of a posted message, numbered from 1.
pub(super) fn content(number: usize) -> String {
    format!("{CONTENT} {number}")
}

/// The prefix of the posted messages.
pub(super) const CONTENT: &str = "hookcast doctor, message";

/// The number of a posted message, by its content.
pub(super) fn number_of(text: &str) -> Option<usize> {
    (1..=DOCTOR_MESSAGES).find(|number| content(*number) == text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_session_of_a_token_is_one_for_the_doctor() {
        for (claims, expected) in [
            (
                r#"{"hookcast":{"sessions":["a","doctor x","doctor"]}}"#,
                Some("doctor x"),
            ),
            (r#"{"hookcast":{"sessions":["a"]}}"#, None),
            (r#"{"hookcast":{"sessions":7}}"#, None),
            (r#"{"hookcast":{"everything":true}}"#, None),
            ("nonsense", None),
        ] {
            let token = format!("e30.{}.s", URL_SAFE_NO_PAD.encode(claims));
            let token = Secret::parse(&token, "").unwrap();
            assert_eq!(session_of(Some(&token)).as_deref(), expected);
        }
        let opaque = Secret::parse("opaque", "").unwrap();
        assert_eq!(session_of(Some(&opaque)), None);
    }
}
