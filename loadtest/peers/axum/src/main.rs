//! hookcast's contract on axum and tokio: a peer for comparisons.
//!
//! Written to be fast by the means that axum and tokio offer. An event is encoded once and shared as [`Bytes`]
//! through a `tokio::sync::broadcast` channel. A stream is a response body that yields those bytes; hyper
//! gathers the ready ones into one vectored write. `TCP_NODELAY` is set. The runtime has as many workers as
//! the compared server has shards.
//!
//! Like hookcast it keeps the last 100 messages, replays them without loss or repeat, resumes by
//! `Last-Event-ID`, and sends heartbeats. It keeps nothing on disk and has no sessions or secrets, which is to
//! its advantage.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::serve::ListenerExt;
use axum::{Json, Router};
use bytes::Bytes;
use clap::Parser;
use futures_core::Stream;
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;
use tokio::time::{Instant, Interval, MissedTickBehavior};
use tokio_stream::wrappers::BroadcastStream;
use tokio_stream::wrappers::errors::BroadcastStreamRecvError;
use uuid::Uuid;

/// Messages kept, and shown to a new stream.
const HISTORY_MESSAGES: usize = 100;

/// Messages that a stream may lag behind before it loses some: about 80,000 small ones, as in hookcast.
const CHANNEL_MESSAGES: usize = 65_536;

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 4096;

/// The same contract as hookcast on axum and tokio, for comparison.
#[derive(Parser)]
#[command(version)]
struct Options {
    /// Where to listen
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Worker threads of the runtime
    #[arg(long, default_value_t = 1)]
    workers: usize,
    /// Interval of heartbeats on every stream; 0s: none
    #[arg(long, value_parser = humantime::parse_duration, default_value = "2s")]
    heartbeat: Duration,
}

fn main() -> io::Result<()> {
    let options = Options::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(options.workers)
        .enable_all()
        .build()?;
    // `block_on` runs the accept loop on this thread, beside the workers. As a task it would run on a worker.
    runtime.block_on(async move { tokio::spawn(serve(options)).await? })
}

async fn serve(options: Options) -> io::Result<()> {
    let socket = match options.listen {
        SocketAddr::V4(_) => tokio::net::TcpSocket::new_v4()?,
        SocketAddr::V6(_) => tokio::net::TcpSocket::new_v6()?,
    };
    socket.set_reuseaddr(true)?;
    socket.bind(options.listen)?;
    let listener = socket.listen(BACKLOG)?;
    eprintln!(r#"{{"fields":{{"address":"{}"}}}}"#, listener.local_addr()?);
    let listener = listener.tap_io(|connection| {
        // An option that cannot be set means that the connection has gone; it ends by itself.
        let _ = connection.set_nodelay(true);
    });
    let hub = Arc::new(Hub::new(options.heartbeat));
    let routes = Router::new()
        .route(
            "/api/webhook",
            post(publish).get(async || Json(Status { status: "ok" })),
        )
        .route("/api/webhook/stream", get(stream))
        .with_state(hub);
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        result = axum::serve(listener, routes) => result,
        _ = terminate.recv() => Ok(()),
    }
}

#[derive(Serialize)]
struct Status {
    status: &'static str,
}

#[derive(Deserialize)]
struct Post {
    message: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Ack {
    success: bool,
    message_id: Uuid,
    timestamp: u64,
}

#[derive(Serialize)]
#[serde(tag = "type", rename = "webhook_message")]
struct Event<'a> {
    id: Uuid,
    content: &'a str,
    timestamp: u64,
}

#[derive(Clone)]
struct Frame {
    sequence: u64,
    bytes: Bytes,
}

struct Hub {
    epoch: String,
    heartbeat: Duration,
    sender: broadcast::Sender<Frame>,
    history: Mutex<History>,
}

#[derive(Default)]
struct History {
    sequence: u64,
    frames: VecDeque<Frame>,
}

impl Hub {
    fn new(heartbeat: Duration) -> Hub {
        let epoch = Uuid::new_v4().simple().to_string()[..16].to_owned();
        let (sender, _) = broadcast::channel(CHANNEL_MESSAGES);
        Hub {
            epoch,
            heartbeat,
            sender,
            history: Mutex::default(),
        }
    }

    /// Appends and sends under one lock, so that all streams have one order.
    fn publish(&self, content: &str, id: Uuid, timestamp: u64) -> serde_json::Result<()> {
        let data = serde_json::to_string(&Event {
            id,
            content,
            timestamp,
        })?;
        let mut history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        history.sequence += 1;
        let sequence = history.sequence;
        let text = format!("id: {}-{sequence}\ndata: {data}\n\n", self.epoch);
        let frame = Frame {
            sequence,
            bytes: text.into(),
        };
        if history.frames.len() == HISTORY_MESSAGES {
            history.frames.pop_front();
        }
        history.frames.push_back(frame.clone());
        // Sending fails if there are no streams, which is no error.
        let _ = self.sender.send(frame);
        Ok(())
    }

    /// The replay of a new stream, and its channel of live messages: no gap, no overlap.
    fn subscribe(&self, last_event_id: Option<&str>) -> (Bytes, broadcast::Receiver<Frame>) {
        let after = last_event_id
            .and_then(|id| {
                id.strip_prefix(self.epoch.as_str())?
                    .strip_prefix('-')?
                    .parse()
                    .ok()
            })
            .unwrap_or(0);
        let history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        let replay = || history.frames.iter().filter(|frame| frame.sequence > after);
        let mut text = format!(
            "retry: 2000\ndata: {{\"type\":\"connected\",\"timestamp\":{},\"replay\":{}}}\n\n",
            now_ms(),
            replay().count()
        )
        .into_bytes();
        replay().for_each(|frame| text.extend_from_slice(&frame.bytes));
        (text.into(), self.sender.subscribe())
    }
}

async fn publish(State(hub): State<Arc<Hub>>, body: Bytes) -> Response {
    let Ok(post) = serde_json::from_slice::<Post>(&body) else {
        return (StatusCode::BAD_REQUEST, r#"{"error":"Invalid JSON"}"#).into_response();
    };
    let (message_id, timestamp) = (Uuid::new_v4(), now_ms());
    match hub.publish(&post.message, message_id, timestamp) {
        Ok(()) => Json(Ack {
            success: true,
            message_id,
            timestamp,
        })
        .into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

async fn stream(State(hub): State<Arc<Hub>>, headers: HeaderMap) -> Response {
    let last_event_id = headers.get("last-event-id").and_then(|id| id.to_str().ok());
    let (first, receiver) = hub.subscribe(last_event_id);
    let heartbeat = (!hub.heartbeat.is_zero()).then(|| {
        let mut ticks = tokio::time::interval_at(Instant::now() + hub.heartbeat, hub.heartbeat);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks
    });
    let events = Events {
        first: Some(first),
        messages: BroadcastStream::new(receiver),
        heartbeat,
    };
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream; charset=utf-8"),
        (header::CACHE_CONTROL, "no-store, no-transform"),
    ];
    (headers, Body::from_stream(events)).into_response()
}

/// A stream's body: the replay, then live messages, and heartbeats at intervals.
struct Events {
    first: Option<Bytes>,
    messages: BroadcastStream<Frame>,
    heartbeat: Option<Interval>,
}

impl Stream for Events {
    type Item = io::Result<Bytes>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let events = self.get_mut();
        if let Some(first) = events.first.take() {
            return Poll::Ready(Some(Ok(first)));
        }
        match Pin::new(&mut events.messages).poll_next(context) {
            Poll::Ready(Some(Ok(frame))) => return Poll::Ready(Some(Ok(frame.bytes))),
            Poll::Ready(Some(Err(BroadcastStreamRecvError::Lagged(missed)))) => {
                let gap = format!("data: {{\"type\":\"gap\",\"missed\":{missed}}}\n\n");
                return Poll::Ready(Some(Ok(gap.into())));
            }
            Poll::Ready(None) => return Poll::Ready(None),
            Poll::Pending => {}
        }
        let Some(heartbeat) = &mut events.heartbeat else {
            return Poll::Pending;
        };
        ready!(heartbeat.poll_tick(context));
        Poll::Ready(Some(Ok(Bytes::from_static(b": heartbeat\n"))))
    }
}

fn now_ms() -> u64 {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}
