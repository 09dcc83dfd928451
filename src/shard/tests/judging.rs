//! Requests to sources: the queue, verdicts that are late or for closed connections, the end of a shard.

use super::*;
use crate::limits::{
    DEADLINE_SCAN_INTERVAL_MS, JUDGING_REQUESTS_MAX, JUDGING_SMALL_BODY_BYTES_MAX, VERDICT_MS_MAX,
};
use crate::message::Label;
use crate::shard::judging::{Judged, Judgement, SourceRequest};
use crate::shard::poller::Command;
use crate::sources::{Refusal, Reply, Success, Unpublished, Verdict};
use crate::testkit::{source_table, source_table_of};
use crossbeam_channel::bounded;

fn with_sources() -> Node {
    let mut node = Node::with(|settings| settings.held_bytes_max = 1 << 20);
    node.shard.use_sources(source_table());
    node
}

fn post(name: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    let head = format!("POST /api/webhook/in/{name}?a=b HTTP/1.1\r\nHost: a\r\nX-Tag: t\r\n");
    format!("{head}Content-Length: {length}\r\n\r\n{body}").into_bytes()
}

fn publish(content: &str, success: Success) -> Judgement {
    let draft = Draft {
        session: None,
        content: content.to_owned(),
        label: Label::new("small", "push").map(Arc::new),
        identity: None,
    };
    Judgement::Verdict(Verdict::Publish { draft, success })
}

fn refuse() -> Judgement {
    Judgement::Verdict(Verdict::Refuse(Refusal::TagMissing("X-Tag".to_owned())))
}

impl Node {
    /// The one request that the judging thread was given.
    fn request(&mut self) -> SourceRequest {
        assert_eq!(self.poller.judged.len(), 1);
        self.poller.judged.remove(0)
    }

    fn judge(&mut self, request: &SourceRequest, judgement: Judgement) {
        let ticket = request.ticket;
        self.poller
            .commands
            .push_back(Command::Judged(Box::new(Judged {
                ticket,
                judgement,
                counts: None,
            })));
        self.turn(&[]);
    }

    /// A peer whose request waits for its verdict.
    fn await_verdict(&mut self) -> (Peer, Token, SourceRequest) {
        let peer = Peer::with_room(10_000);
        let token = self.ask(&peer, &post("small", "{}"));
        assert_eq!(peer.take(), "");
        let request = self.request();
        (peer, token, request)
    }

    fn history(&self) -> Vec<String> {
        let (_, batch) = self.hub.history_batch();
        let frames = batch.frames();
        frames
            .map(|frame| String::from_utf8_lossy(frame.bytes).into_owned())
            .collect()
    }
}

#[test]
fn a_request_to_a_source_is_published_after_its_verdict() {
    let mut node = with_sources();
    let peer = Peer::with_room(10_000);
    let token = node.ask(&peer, &post("small", "{\"a\":1}"));
    let request = node.request();
    assert_eq!(
        (&*request.name, request.request.query()),
        ("small", Some("a=b"))
    );
    assert_eq!(request.request.body(), b"{\"a\":1}");
    let head = String::from_utf8_lossy(request.request.head()).into_owned();
    assert!(head.contains("\r\nX-Tag: t\r\n") && head.ends_with("\r\n\r\n"));
    assert_eq!(peer.take(), "");
    node.judge(&request, publish("hello", Success::Receipt));
    let answer = peer.take();
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("\"messageId\":"));
    assert!(node.history()[0].contains("\"content\":\"hello\""));
    // The connection continues.
    peer.send(&post("small", "x"));
    node.turn(&[(token, READABLE)]);
    let request = node.request();
    node.judge(&request, refuse());
    let answer = peer.take();
    assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
    assert!(answer.ends_with("\"error\":\"Unauthorized\",\"detail\":\"no signature in X-Tag\"}"));
    assert_eq!(node.history().len(), 1);
    assert_eq!(node.shard.docket.counts(), [0; 3]);
}

#[test]
fn the_success_is_what_the_provider_expects() {
    let mut node = with_sources();
    for (success, start, end) in [
        (
            Success::Empty,
            "HTTP/1.1 200 OK\r\n",
            "Content-Length: 0\r\n\r\n",
        ),
        (
            Success::NoContent,
            "HTTP/1.1 204 No Content\r\n",
            "nosniff\r\n\r\n",
        ),
        (
            Success::Unchanged,
            "HTTP/1.1 200 OK\r\n",
            "\r\n\r\n{\"type\":6}",
        ),
    ] {
        let (peer, _, request) = node.await_verdict();
        node.judge(&request, publish("a", success));
        let answer = peer.take();
        assert!(
            answer.starts_with(start) && answer.ends_with(end),
            "{answer}"
        );
    }
    let (peer, _, request) = node.await_verdict();
    let mut reply = Reply::text(b"challenge".to_vec());
    reply.fields = vec![
        ("X-Safe", "a b".to_owned()),
        ("X-Unsafe", "a\r\nb: c".to_owned()),
    ];
    let why = Unpublished::Handshake;
    node.judge(&request, Judgement::Verdict(Verdict::Reply { reply, why }));
    let answer = peer.take();
    assert!(answer.contains("\r\nX-Safe: a b\r\n") && !answer.contains("X-Unsafe"));
    assert!(answer.ends_with("\r\n\r\nchallenge"), "{answer}");
    assert_eq!(node.history().len(), 3);
}

#[test]
fn paths_of_sources_have_their_own_methods_and_limits() {
    let mut node = with_sources();
    let mut ask = |bytes: &[u8]| {
        let peer = Peer::with_room(10_000);
        node.ask(&peer, bytes);
        peer.take()
    };
    let request = |method: &str, name: &str, fields: &str| {
        format!("{method} /api/webhook/in/{name} HTTP/1.1\r\nHost: a\r\n{fields}\r\n").into_bytes()
    };
    for (bytes, status) in [
        (request("GET", "small", ""), 200),
        (request("HEAD", "small/", ""), 200),
        (request("OPTIONS", "small", ""), 204),
        (request("PUT", "small", ""), 405),
        (request("GET", "other", ""), 404),
        (request("POST", "other", "Content-Length: 5000000\r\n"), 404),
        (request("POST", "", "Content-Length: 5\r\n"), 404),
        // The head alone decides, before the body.
        (request("POST", "small", "Content-Length: 2049\r\n"), 413),
        (request("POST", "large", "Content-Length: 131073\r\n"), 413),
        (
            request(
                "POST",
                "small",
                "Expect: 100-continue\r\nContent-Length: 2048\r\n",
            ),
            100,
        ),
        (
            request(
                "POST",
                "small",
                "Expect: 100-continue\r\nContent-Length: 2049\r\n",
            ),
            413,
        ),
        (
            b"POST /api/webhook HTTP/1.1\r\nHost: a\r\nContent-Length: 131072\r\n\r\n".to_vec(),
            413,
        ),
    ] {
        let answer = ask(&bytes);
        let start = format!("HTTP/1.1 {status} ");
        assert!(
            answer.starts_with(&start),
            "{}: {answer}",
            String::from_utf8_lossy(&bytes)
        );
    }
    let list = ask(b"GET /api/webhook/sources HTTP/1.1\r\nHost: a\r\n\r\n");
    for member in [
        "\"name\":\"small\"",
        "\"open\":true",
        "\"preset\":",
        "\"title\":",
    ] {
        assert!(list.contains(member), "{list}");
    }
    let mut chunked = request("POST", "small", "Transfer-Encoding: chunked\r\n");
    chunked.extend(format!("801\r\n{}", "x".repeat(2049)).into_bytes());
    assert!(ask(&chunked).starts_with("HTTP/1.1 413 "));
    let large = ask(&post("large", &"x".repeat(30_000)));
    assert_eq!(large, "");
    assert_eq!(node.request().request.body().len(), 30_000);
}

#[test]
fn without_a_file_of_sources_there_are_none() {
    let mut node = Node::new();
    let peer = Peer::with_room(10_000);
    node.ask(&peer, &post("small", "{}"));
    assert!(peer.take().starts_with("HTTP/1.1 404 "));
    node.ask(
        &peer,
        b"GET /api/webhook/sources HTTP/1.1\r\nHost: a\r\n\r\n",
    );
    assert!(peer.take().ends_with("{\"sources\":[]}"));
}

/// Requests over the bound of the queue stay in their connections, and are judged as others leave.
#[test]
fn a_full_queue_puts_requests_off_and_loses_none() {
    let mut node = with_sources();
    let mut peers = Vec::new();
    for _ in 0..3 * JUDGING_REQUESTS_MAX {
        let peer = Peer::with_room(10_000);
        node.ask(&peer, &post("small", "{}"));
        peers.push(peer);
    }
    node.rest();
    let put_off = 2 * JUDGING_REQUESTS_MAX;
    let [waiting, _, kept] = node.shard.docket.counts();
    assert_eq!((waiting, kept), (JUDGING_REQUESTS_MAX, put_off));
    assert_eq!(node.poller.judged.len(), JUDGING_REQUESTS_MAX);
    // A webhook is not put off, and a shard with requests that are put off sleeps.
    let webhook = Peer::with_room(1000);
    node.ask(
        &webhook,
        b"POST /api/webhook HTTP/1.1\r\nHost: a\r\nContent-Length: 15\r\n\r\n{\"message\":\"a\"}",
    );
    assert!(webhook.take().starts_with("HTTP/1.1 200 "));
    assert_ne!(node.shard.idle_ms(node.now), Some(0));
    let mut judged = 0;
    while let Some(request) = node.poller.judged.pop() {
        node.judge(&request, publish("a", Success::Receipt));
        node.rest();
        judged += 1;
    }
    assert_eq!(judged, peers.len());
    for peer in &peers {
        assert!(peer.take().starts_with("HTTP/1.1 200 "));
    }
    assert_eq!(node.shard.docket.counts(), [0; 3]);
    node.shard.holdings();
}

/// The requests of one source fill the queue and wait behind it. Another source has the second place that gets
/// free, however many wait.
#[test]
fn a_source_is_judged_while_another_is_flooded() {
    let mut node = with_sources();
    let mut peers = Vec::new();
    let mut ask = |node: &mut Node, name: &str| {
        let peer = Peer::with_room(10_000);
        node.ask(&peer, &post(name, "{}"));
        peers.push(peer);
    };
    for _ in 0..2 * JUDGING_REQUESTS_MAX {
        ask(&mut node, "large");
    }
    ask(&mut node, "small");
    node.rest();
    assert!(node.poller.judged.iter().all(|it| &*it.name == "large"));
    for verdicts in 1..=2 {
        let request = node.poller.judged.remove(0);
        node.judge(&request, refuse());
        node.rest();
        let last = node.poller.judged.last().unwrap();
        assert_eq!(&*last.name, ["large", "small"][verdicts - 1]);
    }
    while let Some(request) = node.poller.judged.pop() {
        node.judge(&request, refuse());
        node.rest();
    }
    for peer in &peers {
        assert!(peer.take().starts_with("HTTP/1.1 401 "));
    }
    assert_eq!(node.shard.docket.counts(), [0; 3]);
}

/// A large body costs many times the work of a small one, so it has a queue of its own.
#[test]
fn small_bodies_do_not_wait_for_large_ones() {
    let mut node = Node::with(|settings| {
        settings.held_bytes_max = 8 << 20;
        settings.shards = 1024;
    });
    node.shard.use_sources(source_table_of("1MiB"));
    let large = post("large", &"x".repeat(JUDGING_SMALL_BODY_BYTES_MAX + 1));
    let peers: Vec<_> = (0..2).map(|_| Peer::with_room(10_000)).collect();
    for peer in &peers {
        node.ask(peer, &large);
        node.rest();
    }
    let [waiting, _, put_off] = node.shard.docket.counts();
    assert_eq!(
        (waiting, put_off),
        (1, 1),
        "16 KiB of large ones are the part of this shard"
    );
    let first = node.request();
    let small = Peer::with_room(10_000);
    node.ask(&small, &post("large", "{}"));
    let request = node.request();
    node.judge(&request, refuse());
    assert!(small.take().starts_with("HTTP/1.1 401 "));
    assert_eq!(
        node.shard.docket.counts()[2],
        1,
        "its verdict made no room for a large one"
    );
    node.judge(&first, refuse());
    node.rest();
    let second = node.request();
    node.judge(&second, refuse());
    for peer in &peers {
        assert!(peer.take().starts_with("HTTP/1.1 401 "));
    }
}

/// The wait of a request that is put off is the server's, so its deadline does not count. A queue that is
/// full of bytes ends the same way as one that is full of requests.
#[test]
fn a_request_that_is_put_off_is_not_refused_as_slow() {
    let mut node = Node::with(|settings| {
        settings.held_bytes_max = 1 << 20;
        settings.shards = 1024;
    });
    node.shard.use_sources(source_table());
    let first = Peer::with_room(10_000);
    node.ask(&first, &post("large", &"x".repeat(40_000)));
    let request = node.request();
    let second = Peer::with_room(10_000);
    node.ask(&second, &post("small", "{}"));
    assert_eq!(
        node.shard.docket.counts()[2],
        1,
        "16 KiB are the part of this shard"
    );
    for _ in 0..8 {
        node.pass(900);
        node.turn(&[]);
    }
    // The verdict makes room, and deadlines are checked before the request is read again.
    node.pass(REQUEST_DEADLINE_MS + DEADLINE_SCAN_INTERVAL_MS);
    node.judge(&request, refuse());
    node.rest();
    assert!(first.take().starts_with("HTTP/1.1 401 "));
    let request = node.request();
    node.judge(&request, refuse());
    assert!(second.take().starts_with("HTTP/1.1 401 "));
}

#[test]
fn a_verdict_that_takes_too_long_has_no_effect() {
    let mut node = with_sources();
    let (peer, _, request) = node.await_verdict();
    node.pass(VERDICT_MS_MAX - 1001);
    node.turn(&[]);
    assert_eq!(peer.take(), "");
    node.pass(2100);
    node.turn(&[]);
    let answer = peer.take();
    assert!(
        answer.starts_with("HTTP/1.1 503 ") && answer.contains("\r\nRetry-After: "),
        "{answer}"
    );
    assert!(answer.contains("\r\nConnection: close\r\n"));
    assert_eq!(
        node.shard.docket.counts()[0],
        1,
        "its place is in use until the verdict"
    );
    node.judge(&request, publish("late", Success::Receipt));
    assert!(node.history().is_empty() && peer.take().is_empty());
    assert_eq!(node.shard.docket.counts(), [0; 3]);
}

/// As with any other webhook: it was received, so it is published. Its provider may not send it again.
#[test]
fn the_message_of_a_connection_that_has_closed_is_published() {
    let mut node = with_sources();
    let (peer, token, request) = node.await_verdict();
    let slot = node.shard.connections.slot_of(token).unwrap();
    node.shard.close(slot);
    assert!(peer.is_closed());
    // Another connection in the same slot waits for another verdict.
    let (next, next_token, other) = node.await_verdict();
    assert_eq!(next_token.slot, token.slot);
    assert_ne!(request.ticket, other.ticket);
    node.judge(&request, publish("first", Success::Receipt));
    assert_eq!(next.take(), "");
    assert_eq!(node.history().len(), 1);
    node.judge(&other, refuse());
    assert!(next.take().starts_with("HTTP/1.1 401 "));
    // The refusal of a closed connection goes nowhere.
    let (_, token, request) = node.await_verdict();
    node.shard
        .close(node.shard.connections.slot_of(token).unwrap());
    node.judge(&request, refuse());
    assert_eq!(node.shard.docket.counts(), [0; 3]);
}

#[test]
fn verdicts_may_come_in_any_order() {
    let mut node = with_sources();
    let mut waiting: Vec<_> = (0..4).map(|_| node.await_verdict()).collect();
    waiting.reverse();
    for (index, (peer, _, request)) in waiting.iter().enumerate() {
        node.judge(request, publish(&format!("m{index}"), Success::Receipt));
        assert!(peer.take().starts_with("HTTP/1.1 200 "));
    }
    assert_eq!(node.history().len(), 4);
}

#[test]
fn a_request_that_the_queue_does_not_take_is_answered_and_its_place_is_free_again() {
    let mut node = with_sources();
    node.poller.is_judge_gone = true;
    for _ in 0..2 * JUDGING_REQUESTS_MAX {
        let peer = Peer::with_room(10_000);
        node.ask(&peer, &post("small", "{}"));
        assert!(peer.take().starts_with("HTTP/1.1 503 "));
    }
    assert_eq!(node.shard.docket.counts(), [0; 3]);
}

#[test]
fn a_handover_waits_for_verdicts_and_then_moves_the_connections() {
    let mut node = with_sources();
    let (peer, _, request) = node.await_verdict();
    let (held, is_held) = bounded(1);
    node.poller.commands.push_back(Command::Hold(held));
    node.turn(&[]);
    assert!(
        is_held.is_empty(),
        "a verdict may bring a message for the ring"
    );
    node.judge(&request, publish("a", Success::Receipt));
    assert!(is_held.is_full());
    assert!(peer.take().starts_with("HTTP/1.1 200 "));
    node.poller
        .commands
        .push_back(Command::HandOver("successor"));
    node.turn(&[]);
    assert_eq!(node.poller.handed_over, [Some("successor")]);
    assert_eq!(node.history().len(), 1);
}

/// What is put off during a handover goes to the successor whole.
#[test]
fn a_request_that_is_put_off_goes_to_the_successor() {
    let mut node = with_sources();
    let waiting: Vec<_> = (0..JUDGING_REQUESTS_MAX)
        .map(|_| node.await_verdict())
        .collect();
    let last = Peer::with_room(10_000);
    node.ask(&last, &post("small", "{}"));
    let (held, is_held) = bounded(1);
    node.poller.commands.push_back(Command::Hold(held));
    for (_, _, request) in &waiting {
        node.judge(request, refuse());
    }
    node.rest();
    assert!(is_held.is_full() && node.poller.judged.is_empty());
    node.poller
        .commands
        .push_back(Command::HandOver("successor"));
    node.turn(&[]);
    assert_eq!(node.poller.handed_over.len(), JUDGING_REQUESTS_MAX + 1);
    assert_eq!(last.take(), "");
}

#[test]
fn a_drain_answers_a_request_that_waits_for_its_verdict() {
    let mut node = with_sources();
    let (peer, _, request) = node.await_verdict();
    node.shard.start_drain(node.now);
    node.pass(DRAIN_IDLE_MS + 1);
    node.turn(&[]);
    assert_eq!(peer.take(), "");
    node.judge(&request, publish("a", Success::Receipt));
    let answer = peer.take();
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("\r\nConnection: close\r\n"));
}

/// Bytes in the queue count as the client's until the verdict, like an upload.
#[test]
fn a_client_holds_its_requests_until_their_verdicts() {
    let mut node = Node::with(|settings| settings.held_bytes_max = 20_000);
    let table = source_table();
    node.shard.use_sources(table);
    node.shard.connections.raise_held_bytes_max(0);
    let peer = Peer::with_room(10_000);
    node.ask(&peer, &post("large", &"x".repeat(100_000)));
    node.rest();
    let request = node.request();
    assert_eq!(node.shard.connections.holding(), 1);
    node.shard.holdings();
    node.judge(&request, publish("a", Success::Receipt));
    assert_eq!(node.shard.connections.holding(), 0);
}

#[test]
fn a_source_that_is_gone_by_its_verdict_is_not_found() {
    let mut node = with_sources();
    let (peer, _, request) = node.await_verdict();
    node.judge(&request, Judgement::Gone);
    let answer = peer.take();
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
    assert!(!answer.contains("close"));
}
