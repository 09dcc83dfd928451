//! The requests that the doctor sends, and what it writes down of their answers.
//!
//! Used by [`examination`](super::examination). Posts to a session whose name is random, so that its
//! messages reach no other session's streams. Judges nothing.

use std::time::{Duration, Instant};

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

/// An answer, or why there is none.
pub type Asked = Result<Answer, Fault>;

/// A message that was posted.
#[derive(Debug, Clone)]
pub struct Post {
    /// The answer, and how long it took.
    pub answer: Result<(Duration, Answer), Fault>,
    /// How long after the answer its event came; zero if before.
    pub arrived: Option<Duration>,
    /// The event's id.
    pub event_id: Option<String>,
}

impl Post {
    /// Whether the server has it.
    pub fn is_accepted(&self) -> bool {
        matches!(&self.answer, Ok((_, answer)) if answer.head.status == 200)
    }
}

/// How a stream resumed that was asked to go on behind a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resumed {
    /// What came before was not sent again.
    Behind,
    /// What came before was sent again.
    FromStart,
    /// Nothing came.
    Nothing,
}

pub(super) const PATIENCE: Duration = Duration::from_millis(DOCTOR_PATIENCE_MS);

/// What is presented as a secret to see whether the field arrives: no server has it.
const DUMMY_SECRET: &str = "hookcast-doctor-dummy";

/// A client of the address.
pub(super) struct Probe<'a> {
    agent: Agent,
    base: &'a str,
    secret: Option<&'a Secret>,
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
            secrets,
            session: format!("doctor-{}", MessageId::from_bytes(random).simple()),
        })
    }

    /// The status of the server.
    pub(super) fn status(&self) -> Asked {
        self.call(self.agent.get(format!("{}{WEBHOOK_PATH}", self.base)))
    }

    /// The history that the session sees.
    pub(super) fn history(&self) -> Asked {
        self.call(self.agent.get(self.history_url()))
    }

    /// The history, asked for with a secret that is wrong: refused, if the field arrives.
    pub(super) fn history_with_dummy_secret(&self) -> Asked {
        let request = self.agent.get(self.history_url());
        self.call(request.header("X-Webhook-Secret", DUMMY_SECRET))
    }

    /// The history, asked for with the secret.
    pub(super) fn history_with_secret(&self) -> Option<Asked> {
        let request = self.agent.get(self.history_url());
        let secret = self.secret?.expose();
        Some(self.call(request.header("X-Webhook-Secret", secret)))
    }

    fn history_url(&self) -> String {
        format!("{}{MESSAGES_PATH}?sessionId={}", self.base, self.session)
    }

    fn call(&self, request: RequestBuilder<typestate::WithoutBody>) -> Asked {
        let request = request.config().timeout_global(Some(PATIENCE)).build();
        let called = request.call();
        called
            .map(Answer::of)
            .map_err(|error| fault::of(&error, self.secrets))
    }

    /// Asks for a stream, and waits for its beginning.
    pub(super) fn stream(&self, last_event_id: Option<&str>, time: Duration) -> Watch {
        let url = format!("{}{STREAM_PATH}?sessionId={}", self.base, self.session);
        let reading = Reading::begin(&self.agent, &url, last_event_id, time, self.secrets);
        let mut watch = Watch::new(reading);
        watch.until(Instant::now() + PATIENCE, |watch| {
            watch.seen.connected.is_some()
        });
        watch
    }

    /// Posts messages one after the other, each when the event of the last has come.
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

    /// Asks for a stream behind the first message, and reads it up to the last.
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

    /// Asks for a stream behind the last of the messages that are kept, `kept` in number. It announces
    /// how many it replays.
    pub(super) fn resume_at(&self, last_event_id: &str, kept: u64) -> Resumed {
        let watch = self.stream(Some(last_event_id), PATIENCE);
        match watch.seen.connected {
            None => Resumed::Nothing,
            Some((_, replay)) if replay >= kept => Resumed::FromStart,
            Some(_) => Resumed::Behind,
        }
    }
}

/// The content of a message that is posted, numbered from 1.
pub(super) fn content(number: usize) -> String {
    format!("{CONTENT} {number}")
}

/// What the messages that are posted begin with.
pub(super) const CONTENT: &str = "hookcast doctor, message";

/// The number of a message that is posted, by its content.
pub(super) fn number_of(text: &str) -> Option<usize> {
    (1..=DOCTOR_MESSAGES).find(|number| content(*number) == text)
}
