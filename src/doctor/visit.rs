//! A visit to a public address: what a client sees there.
//!
//! Used by the doctor. Opens two streams, posts a few messages to a session that nobody else knows,
//! asks for the history. Writes down what came when; judges nothing.

use std::time::{Duration, Instant};

use ureq::http::{Response, Uri};
use ureq::{Agent, Body};

use super::fault;
use super::stream::{Happening, Reading};
use crate::client;
use crate::config::{DoctorConfig, Secret};
use crate::foreign_text::{ForeignText, Secrets};
use crate::http::route::{MESSAGES_PATH, STREAM_PATH, WEBHOOK_PATH};
use crate::limits::{
    DOCTOR_HEARTBEATS_MAX, DOCTOR_HELD_BACK_MS, DOCTOR_MESSAGES, DOCTOR_PATIENCE_MS,
};
use crate::message::MessageId;

/// What was seen. What could not be done says why.
#[derive(Debug, Clone)]
pub struct Visit {
    /// The plain question whether the server is there.
    pub status: Result<Answer, String>,
    /// The stream; none if the server was not there.
    pub stream: Option<StreamSeen>,
    /// The messages posted while it was open.
    pub posts: Vec<Post>,
    /// A second stream, asked to resume behind the first message; none without one.
    pub resumed: Option<Resumed>,
    /// The history of the session.
    pub history: Option<Result<Answer, String>>,
    /// A secret was presented.
    pub has_secret: bool,
}

/// The status line and the header fields of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// 200, for instance.
    pub status: u16,
    /// `HTTP/1.1`, for instance.
    pub version: String,
    /// Names in lower case.
    pub fields: Vec<(String, ForeignText)>,
}

/// An answer with its body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Its head.
    pub head: Head,
    /// Its body, if that is not too long.
    pub body: ForeignText,
}

/// What was seen of a stream. Times count from when it was asked for.
#[derive(Debug, Clone, Default)]
pub struct StreamSeen {
    /// Its head and when it came; none if it did not come.
    pub head: Option<(Duration, Head)>,
    /// When the `connected` event came.
    pub connected: Option<Duration>,
    /// When heartbeats came.
    pub heartbeats: Vec<Duration>,
    /// When it ended, and how, if it did so while it was watched.
    pub end: Option<(Duration, Result<(), String>)>,
    /// How long it was watched.
    pub watched: Duration,
}

/// A message that was posted.
#[derive(Debug, Clone)]
pub struct Post {
    /// The answer, and how long it took.
    pub answer: Result<(Duration, Answer), String>,
    /// How long after the answer its event came; zero if before.
    pub arrived: Option<Duration>,
    /// The event's id.
    pub event_id: Option<String>,
}

/// How a stream resumed that was asked to go on behind the first message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resumed {
    /// The last message came, and the first did not come again.
    Behind,
    /// The first message came again.
    FromStart,
    /// The last message did not come.
    Nothing,
}

impl Head {
    pub(super) fn of(response: &Response<Body>) -> Head {
        let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned().into();
        let fields = response.headers().iter();
        Head {
            status: response.status().as_u16(),
            version: format!("{:?}", response.version()),
            fields: fields
                .map(|(name, value)| (name.as_str().to_owned(), text(value.as_bytes())))
                .collect(),
        }
    }

    /// The value of a field, by its name in lower case.
    pub fn field(&self, name: &str) -> Option<&ForeignText> {
        let found = self.fields.iter().find(|(other, _)| other == name);
        found.map(|(_, value)| value)
    }
}

/// Longest part of an answer's body that is kept, in bytes.
const BODY_BYTES_MAX: u64 = 256 * 1024;

const PATIENCE: Duration = Duration::from_millis(DOCTOR_PATIENCE_MS);

/// Goes there. The errors in the result are quotes without `secrets`.
pub fn visit(config: &DoctorConfig, secret: Option<&Secret>, secrets: &Secrets) -> Visit {
    let mut visit = Visit {
        status: Err(String::new()),
        stream: None,
        posts: Vec::new(),
        resumed: None,
        history: None,
        has_secret: secret.is_some(),
    };
    let visitor = match Visitor::new(config, secret, secrets) {
        Ok(visitor) => visitor,
        Err(why) => {
            visit.status = Err(why);
            return visit;
        }
    };
    visit.status = visitor.get(WEBHOOK_PATH);
    if !visit
        .status
        .as_ref()
        .is_ok_and(|answer| answer.head.status == 200)
    {
        return visit;
    }
    let reading = visitor.read_stream(None, config.watch + 2 * PATIENCE);
    let mut watch = Watch::new(&reading);
    watch.until(Instant::now() + PATIENCE, |watch| {
        watch.seen.connected.is_some()
    });
    for number in 1..=DOCTOR_MESSAGES {
        let post = visitor.post(number, &mut watch);
        let is_lost = post.arrived.is_none();
        visit.posts.push(post);
        if is_lost {
            break;
        }
    }
    watch.until(reading.began + config.watch, |_| false);
    visit.stream = Some(watch.finish());
    visit.resumed = visitor.resume(&visit.posts);
    let in_session = format!("{MESSAGES_PATH}?sessionId={}", visitor.session);
    visit.history = Some(visitor.get(&in_session));
    visit
}

struct Visitor<'a> {
    agent: Agent,
    base: &'a str,
    secret: Option<&'a Secret>,
    secrets: &'a Secrets,
    session: String,
}

impl<'a> Visitor<'a> {
    fn new(
        config: &'a DoctorConfig,
        secret: Option<&'a Secret>,
        secrets: &'a Secrets,
    ) -> Result<Visitor<'a>, String> {
        let base = config.url.as_str();
        let address: Uri = base.parse().map_err(|error| format!("{error}"))?;
        let settings = client::config(&address, config.ca_pem.as_deref())
            .map_err(|_| "--ca-file holds no well-formed PEM certificate".to_owned())?;
        let mut random = [0; 16];
        getrandom::fill(&mut random).map_err(|error| error.to_string())?;
        Ok(Visitor {
            agent: settings.build().new_agent(),
            base,
            secret,
            secrets,
            session: format!("doctor-{}", MessageId::from_bytes(random).simple()),
        })
    }

    fn get(&self, target: &str) -> Result<Answer, String> {
        let request = self.agent.get(format!("{}{target}", self.base));
        let request = request.config().timeout_global(Some(PATIENCE)).build();
        request
            .call()
            .map(answer)
            .map_err(|error| fault::words(&error, self.secrets))
    }

    fn read_stream(&self, last_event_id: Option<&str>, time: Duration) -> Reading {
        let url = format!("{}{STREAM_PATH}?sessionId={}", self.base, self.session);
        Reading::begin(&self.agent, &url, last_event_id, time, self.secrets)
    }

    /// Posts a message and waits for its event.
    fn post(&self, number: usize, watch: &mut Watch<'_>) -> Post {
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
            Ok(response) => Ok((answered - began, answer(response))),
            Err(error) => Err(fault::words(&error, self.secrets)),
        };
        let is_accepted = matches!(&answer, Ok((_, answer)) if answer.head.status == 200);
        let mut post = Post {
            answer,
            arrived: None,
            event_id: None,
        };
        if is_accepted {
            let deadline = answered + 3 * Duration::from_millis(DOCTOR_HELD_BACK_MS);
            watch.until(deadline, |watch| watch.message(number).is_some());
            if let Some((at, event_id)) = watch.message(number) {
                let at = watch.reading.began + *at;
                post.arrived = Some(at.saturating_duration_since(answered));
                post.event_id.clone_from(event_id);
            }
        }
        post
    }

    /// Asks for a stream behind the first message, and reads it up to the last.
    fn resume(&self, posts: &[Post]) -> Option<Resumed> {
        let id = posts.first()?.event_id.as_deref()?;
        let arrived = posts.iter().filter(|post| post.arrived.is_some()).count();
        if arrived < 2 {
            return None;
        }
        let reading = self.read_stream(Some(id), PATIENCE);
        let mut watch = Watch::new(&reading);
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
}

/// The content of a message that is posted, numbered from 1.
pub(super) fn content(number: usize) -> String {
    format!("hookcast doctor, message {number}")
}

/// The number of a message that is posted, by its content.
pub(super) fn number_of(text: &str) -> Option<usize> {
    (1..=DOCTOR_MESSAGES).find(|number| content(*number) == text)
}

fn answer(response: Response<Body>) -> Answer {
    let head = Head::of(&response);
    let mut body = response.into_body();
    let body = body.with_config().limit(BODY_BYTES_MAX).lossy_utf8(true);
    Answer {
        head,
        // A body that breaks off or is too long shows in what it lacks.
        body: body.read_to_string().unwrap_or_default().into(),
    }
}

/// What a stream has shown so far.
struct Watch<'a> {
    reading: &'a Reading,
    seen: StreamSeen,
    /// By number, less 1: when a message came first, and its event id.
    messages: [Option<(Duration, Option<String>)>; DOCTOR_MESSAGES],
}

impl Watch<'_> {
    fn new(reading: &Reading) -> Watch<'_> {
        Watch {
            reading,
            seen: StreamSeen::default(),
            messages: [const { None }; DOCTOR_MESSAGES],
        }
    }

    fn message(&self, number: usize) -> Option<&(Duration, Option<String>)> {
        self.messages.get(number - 1)?.as_ref()
    }

    /// Watches until `is_enough`, the end of the stream, or the deadline.
    fn until(&mut self, deadline: Instant, is_enough: impl Fn(&Self) -> bool) {
        while self.seen.end.is_none() && !is_enough(self) {
            match self.reading.next(deadline) {
                None => return,
                Some((at, happening)) => self.take(at, happening),
            }
        }
    }

    fn take(&mut self, at: Duration, happening: Happening) {
        match happening {
            Happening::Head(head) => self.seen.head = Some((at, head)),
            Happening::Connected => self.seen.connected = Some(at),
            Happening::Heartbeat if self.seen.heartbeats.len() == DOCTOR_HEARTBEATS_MAX => {
                let words = format!("more than {DOCTOR_HEARTBEATS_MAX} comments came");
                self.seen.end = Some((at, Err(words)));
            }
            Happening::Heartbeat => self.seen.heartbeats.push(at),
            Happening::Message(number, event_id) => {
                if let Some(message) = self.messages.get_mut(number - 1) {
                    message.get_or_insert((at, event_id));
                }
            }
            Happening::End(end) => self.seen.end = Some((at, end)),
        }
    }

    fn finish(mut self) -> StreamSeen {
        self.seen.watched = self.reading.began.elapsed();
        self.seen
    }
}
