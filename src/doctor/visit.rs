//! A visit to a public address: what a client sees there.
//!
//! Used by the doctor. Opens two streams, posts a few messages to a session that nobody else knows,
//! asks for the history. Writes down what came when; judges nothing.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use serde_json::Value;
use ureq::http::{Response, Uri};
use ureq::{Agent, Body};

use super::fault;
use super::stream::{Happening, Reading};
use crate::client;
use crate::config::{DoctorConfig, Secret};
use crate::http::route::{MESSAGES_PATH, STREAM_PATH, WEBHOOK_PATH};
use crate::limits::{DOCTOR_HELD_BACK_MS, DOCTOR_MESSAGES, DOCTOR_PATIENCE_MS};
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
    pub fields: Vec<(String, String)>,
}

/// An answer with its body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Its head.
    pub head: Head,
    /// The beginning of its body.
    pub body: String,
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
        let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
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
    pub fn field(&self, name: &str) -> Option<&str> {
        let found = self.fields.iter().find(|(other, _)| other == name);
        found.map(|(_, value)| value.as_str())
    }
}

/// Longest part of an answer's body that is kept, in bytes.
const BODY_BYTES_MAX: u64 = 256 * 1024;

const PATIENCE: Duration = Duration::from_millis(DOCTOR_PATIENCE_MS);

/// Goes there.
pub fn visit(config: &DoctorConfig, secret: Option<&Secret>) -> Visit {
    let mut visit = Visit {
        status: Err(String::new()),
        stream: None,
        posts: Vec::new(),
        resumed: None,
        history: None,
        has_secret: secret.is_some(),
    };
    let visitor = match Visitor::new(config, secret) {
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
    session: String,
}

impl<'a> Visitor<'a> {
    fn new(config: &'a DoctorConfig, secret: Option<&'a Secret>) -> Result<Visitor<'a>, String> {
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
            session: format!("doctor-{}", MessageId::from_bytes(random).simple()),
        })
    }

    fn get(&self, target: &str) -> Result<Answer, String> {
        let request = self.agent.get(format!("{}{target}", self.base));
        let request = request.config().timeout_global(Some(PATIENCE)).build();
        request
            .call()
            .map(answer)
            .map_err(|error| fault::words(&error))
    }

    fn read_stream(&self, last_event_id: Option<&str>, time: Duration) -> Reading {
        let url = format!("{}{STREAM_PATH}?sessionId={}", self.base, self.session);
        Reading::begin(&self.agent, &url, last_event_id, time)
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
            Err(error) => Err(fault::words(&error)),
        };
        let is_accepted = matches!(&answer, Ok((_, answer)) if answer.head.status == 200);
        let mut post = Post {
            answer,
            arrived: None,
            event_id: None,
        };
        if is_accepted {
            let deadline = answered + 3 * Duration::from_millis(DOCTOR_HELD_BACK_MS);
            watch.until(deadline, |watch| watch.messages.contains_key(&message));
            if let Some((at, event_id)) = watch.messages.get(&message) {
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
        let (first, last) = (content(1), content(arrived));
        watch.until(Instant::now() + PATIENCE, |watch| {
            watch.messages.contains_key(&last)
        });
        Some(if watch.messages.contains_key(&first) {
            Resumed::FromStart
        } else if watch.messages.contains_key(&last) {
            Resumed::Behind
        } else {
            Resumed::Nothing
        })
    }
}

/// The content of a message that is posted.
fn content(number: usize) -> String {
    format!("hookcast doctor, message {number}")
}

fn answer(response: Response<Body>) -> Answer {
    let head = Head::of(&response);
    let mut body = response.into_body();
    let body = body.with_config().limit(BODY_BYTES_MAX).lossy_utf8(true);
    Answer {
        head,
        // A body that breaks off or is too long shows in what it lacks.
        body: body.read_to_string().unwrap_or_default(),
    }
}

/// What a stream has shown so far.
struct Watch<'a> {
    reading: &'a Reading,
    seen: StreamSeen,
    /// By content: when it came, and its event id.
    messages: HashMap<String, (Duration, Option<String>)>,
    /// Of the event that is being read: its id, and its message with the time it came.
    event_id: Option<String>,
    message: Option<(Duration, String)>,
}

impl Watch<'_> {
    fn new(reading: &Reading) -> Watch<'_> {
        Watch {
            reading,
            seen: StreamSeen::default(),
            messages: HashMap::new(),
            event_id: None,
            message: None,
        }
    }

    /// Watches until `is_enough`, the end of the stream, or the deadline.
    fn until(&mut self, deadline: Instant, is_enough: impl Fn(&Self) -> bool) {
        while self.seen.end.is_none() && !is_enough(self) {
            match self.reading.next(deadline) {
                None => return,
                Some((at, Happening::Head(head))) => self.seen.head = Some((at, head)),
                Some((at, Happening::Line(line))) => self.take_line(at, &line),
                Some((at, Happening::End(end))) => self.seen.end = Some((at, end)),
            }
        }
    }

    fn take_line(&mut self, at: Duration, line: &str) {
        if line.is_empty() {
            let event_id = self.event_id.take();
            if let Some((at, content)) = self.message.take() {
                self.messages.insert(content, (at, event_id));
            }
        } else if line.starts_with(':') {
            self.seen.heartbeats.push(at);
        } else if let Some(id) = line.strip_prefix("id: ") {
            self.event_id = Some(id.to_owned());
        } else if let Some(data) = line.strip_prefix("data: ") {
            let data: Value = serde_json::from_str(data).unwrap_or_default();
            if data["type"] == "connected" {
                self.seen.connected = Some(at);
            } else if let Some(content) = data["content"].as_str() {
                self.message = Some((at, content.to_owned()));
            }
        }
    }

    fn finish(mut self) -> StreamSeen {
        self.seen.watched = self.reading.began.elapsed();
        self.seen
    }
}
