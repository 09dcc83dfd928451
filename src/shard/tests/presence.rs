//! Questions how many streams see a session: several shards, a shard that does not count, the end of a wait.

use super::*;
use crate::limits::{DEADLINE_SCAN_INTERVAL_MS, PRESENCE_QUESTIONS_MAX, PRESENCE_WAIT_MS_MAX};
use crate::shard::poller::Command;
use crossbeam_channel::bounded;

/// Shards of one server.
struct Shards(Vec<Node>);

impl Shards {
    fn new(count: usize) -> Shards {
        let node = |_| {
            let mut node = Node::new();
            node.poller.others = count - 1;
            node
        };
        Shards((0..count).map(node).collect())
    }

    /// Passes questions and counts between the shards until there are none.
    fn rest(&mut self) {
        while self.pass_on() {}
    }

    fn pass_on(&mut self) -> bool {
        let mut is_passed = false;
        for asker in 0..self.0.len() {
            self.0[asker].rest();
            let asked = std::mem::take(&mut self.0[asker].poller.asked);
            for other in (0..self.0.len()).filter(|&other| other != asker) {
                for question in &asked {
                    let command = Command::Count(Arc::clone(question), asker);
                    self.0[other].poller.commands.push_back(command);
                    is_passed = true;
                }
            }
        }
        for other in 0..self.0.len() {
            self.0[other].turn(&[]);
            for (asker, question) in std::mem::take(&mut self.0[other].poller.sent_back) {
                let command = Command::Counted(question);
                self.0[asker].poller.commands.push_back(command);
                self.0[asker].turn(&[]);
                is_passed = true;
            }
        }
        is_passed
    }

    fn ask(&mut self, shard: usize, name: &str) -> String {
        let peer = Peer::with_room(10_000);
        self.0[shard].ask(&peer, &question(name));
        self.rest();
        let answer = peer.take();
        let (head, body) = answer.split_once("\r\n\r\n").expect("an answer");
        assert!(head.starts_with("HTTP/1.1 200 "), "{answer}");
        assert!(head.contains("\r\nCache-Control: private, no-store"));
        body.to_owned()
    }
}

fn question(name: &str) -> Vec<u8> {
    format!("GET /api/webhook/sessions/{name} HTTP/1.1\r\nHost: a\r\n\r\n").into_bytes()
}

fn stream_of(name: &str) -> Vec<u8> {
    format!("GET /api/webhook/stream?sessionId={name} HTTP/1.1\r\nHost: a\r\n\r\n").into_bytes()
}

fn poll_of(name: &str) -> Vec<u8> {
    let line = format!("GET /api/webhook/messages?sessionId={name}&wait=50 HTTP/1.1");
    format!("{line}\r\nHost: a\r\n\r\n").into_bytes()
}

impl Node {
    /// A question that waits for the count of another shard.
    fn await_count(&mut self) -> (Peer, Token) {
        let peer = Peer::with_room(10_000);
        let token = self.ask(&peer, &question("a"));
        assert_eq!(peer.take(), "");
        (peer, token)
    }

    /// The other shard counts, and sends the oldest question back.
    fn count(&mut self, streams: u64) {
        let question = self.poller.asked.remove(0);
        assert!(question.add(streams));
        self.poller.commands.push_back(Command::Counted(question));
        self.turn(&[]);
    }
}

fn of_two() -> Node {
    let mut node = Node::new();
    node.poller.others = 1;
    node
}

#[test]
fn the_streams_of_all_shards_are_counted_and_nothing_else() {
    let mut shards = Shards::new(3);
    let mut peers = Vec::new();
    for (shard, request) in [
        (0, stream_of("a")),
        (1, stream_of("a")),
        (1, stream_of("a")),
        (2, stream_of("b")),
        (2, STREAM.to_vec()),
        (0, poll_of("a")),
        (1, poll_of("a")),
        (2, poll_of("c")),
    ] {
        let peer = Peer::with_room(10_000);
        let token = shards.0[shard].ask(&peer, &request);
        peers.push((shard, token, peer));
    }
    // A message to a session without streams.
    shards.0[0].publish_to(Some("d"), 1, 10);
    for shard in 0..3 {
        assert_eq!(shards.ask(shard, "a"), "{\"streams\":3}");
        assert_eq!(shards.ask(shard, "b"), "{\"streams\":1}");
        for none in ["c", "d", "e", "everything"] {
            assert_eq!(shards.ask(shard, none), "{\"streams\":0}", "{none}");
        }
    }
    // The end of a stream and of a long poll is counted at once.
    for index in [1, 5] {
        let (shard, token, _) = peers[index];
        let slot = shards.0[shard].shard.connections.slot_of(token).unwrap();
        shards.0[shard].shard.close(slot);
    }
    assert_eq!(shards.ask(2, "a"), "{\"streams\":2}");
    for node in &mut shards.0 {
        assert_eq!(node.shard.presence.waiting(), 0);
        node.shard.close_all();
        node.shard.holdings();
    }
    assert_eq!(shards.ask(0, "a"), "{\"streams\":0}");
}

/// Streams and long polls come and go at random. The count is that of a model.
#[test]
fn streams_are_told_from_long_polls_in_any_order() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut node = Node::with(|settings| settings.held_bytes_max = 1 << 24);
    let mut open: Vec<(Token, Peer, Option<usize>)> = Vec::new();
    for _ in 0..2_000 {
        if open.len() < 40 && rng.bool() {
            let (session, is_stream) = (rng.usize(..3), rng.bool());
            let name = ["a", "b", "c"][session];
            let request = if is_stream {
                stream_of(name)
            } else {
                poll_of(name)
            };
            let peer = Peer::with_room(1 << 20);
            let token = node.ask(&peer, &request);
            open.push((token, peer, is_stream.then_some(session)));
        } else if !open.is_empty() {
            let (token, ..) = open.swap_remove(rng.usize(..open.len()));
            let slot = node.shard.connections.slot_of(token).unwrap();
            node.shard.close(slot);
        }
        for (session, name) in ["a", "b", "c"].into_iter().enumerate() {
            let name = SessionId::parse(name).unwrap().unwrap();
            let expected = open.iter().filter(|(_, _, of)| *of == Some(session));
            let counted = node.shard.log.streams_of(&name) as usize;
            assert_eq!(counted, expected.count());
        }
    }
    node.shard.close_all();
    assert_eq!(node.shard.sessions(), 0);
}

#[test]
fn a_head_gets_the_answer_without_its_body_and_a_wrong_name_an_error() {
    let mut node = Node::new();
    let mut ask = |bytes: &[u8]| {
        let peer = Peer::with_room(10_000);
        node.ask(&peer, bytes);
        node.rest();
        peer.take()
    };
    let head = ask(b"HEAD /api/webhook/sessions/a HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 200 ") && head.contains("\r\nContent-Length: 13\r\n"));
    assert!(head.ends_with("\r\n\r\n"), "{head}");
    let malformed = ask(&question("%ff"));
    assert!(malformed.starts_with("HTTP/1.1 400 "), "{malformed}");
    assert!(ask(&question("")).starts_with("HTTP/1.1 404 "));
}

#[test]
fn a_question_that_a_shard_never_answers_gets_a_503_and_the_connection_continues() {
    let mut node = of_two();
    let (peer, token) = node.await_count();
    node.pass(PRESENCE_WAIT_MS_MAX - 1);
    node.turn(&[]);
    assert_eq!(peer.take(), "");
    node.pass(1 + DEADLINE_SCAN_INTERVAL_MS);
    node.turn(&[]);
    let answer = peer.take();
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(answer.contains("\r\nRetry-After: ") && !answer.contains("close"));
    assert_eq!(node.shard.presence.waiting(), 0);
    // The count of the first question comes late. It is not the answer to the second one.
    peer.send(&question("a"));
    node.turn(&[(token, READABLE)]);
    node.count(7);
    assert_eq!(peer.take(), "");
    node.count(2);
    assert!(peer.take().ends_with("{\"streams\":2}"));
    node.shard.holdings();
}

#[test]
fn a_count_that_is_given_up_makes_the_answer_a_503_at_once() {
    let mut node = of_two();
    let (peer, _) = node.await_count();
    let question = node.poller.asked.remove(0);
    assert!(question.give_up());
    let counted = Command::Counted(question);
    node.poller.commands.push_back(counted);
    node.turn(&[]);
    assert!(peer.take().starts_with("HTTP/1.1 503 "));
}

#[test]
fn a_peer_that_has_hung_up_costs_nothing_once_its_question_is_answered() {
    let mut node = of_two();
    let (peer, token) = node.await_count();
    peer.0.borrow_mut().has_ended = true;
    node.turn(&[(token, HUNG_UP)]);
    node.rest();
    // It may have ended its side alone, and still read.
    assert!(!peer.is_closed());
    node.count(1);
    node.rest();
    assert!(peer.take().ends_with("{\"streams\":1}"));
    assert!(peer.is_closed());

    // Another connection in the slot of one that is closed does not get its answer.
    let (_, token) = node.await_count();
    let slot = node.shard.connections.slot_of(token).unwrap();
    node.shard.close(slot);
    let (next, next_token) = node.await_count();
    assert_eq!(next_token.slot, token.slot);
    node.count(5);
    assert_eq!(next.take(), "");
    node.count(6);
    assert!(next.take().ends_with("{\"streams\":6}"));
    assert_eq!(node.shard.presence.waiting(), 0);
}

#[test]
fn pipelined_questions_are_answered_in_order() {
    let mut shards = Shards::new(2);
    for name in ["a", "b", "b"] {
        let peer = Peer::with_room(10_000);
        shards.0[1].ask(&peer, &stream_of(name));
        std::mem::forget(peer);
    }
    let peer = Peer::with_room(10_000);
    let questions = [question("a"), question("b"), question("c")].concat();
    shards.0[0].ask(&peer, &questions);
    shards.rest();
    let answers = peer.take();
    let counts: Vec<&str> = answers.split("\"streams\":").skip(1).collect();
    let firsts: Vec<&str> = counts.iter().map(|count| &count[..1]).collect();
    assert_eq!(firsts, ["1", "2", "0"]);
}

#[test]
fn questions_over_the_limit_get_a_503_and_later_ones_an_answer() {
    let mut node = Node::with(|settings| settings.held_bytes_max = 1 << 20);
    node.poller.others = 1;
    let waiting: Vec<_> = (0..PRESENCE_QUESTIONS_MAX)
        .map(|_| node.await_count())
        .collect();
    let peer = Peer::with_room(10_000);
    let token = node.ask(&peer, &question("a"));
    let answer = peer.take();
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(answer.contains("\r\nRetry-After: ") && !answer.contains("close"));
    node.count(3);
    assert!(waiting[0].0.take().ends_with("{\"streams\":3}"));
    peer.send(&question("a"));
    node.turn(&[(token, READABLE)]);
    assert_eq!(peer.take(), "");
    assert_eq!(node.shard.presence.waiting(), PRESENCE_QUESTIONS_MAX);
    node.shard.close_all();
    assert_eq!(node.shard.presence.waiting(), 0);
}

#[test]
fn a_question_that_does_not_fit_the_socket_is_answered_when_there_is_room() {
    let mut node = Node::new();
    let peer = Peer::with_room(10);
    let token = node.ask(&peer, &question("a"));
    assert_eq!(peer.take(), "HTTP/1.1 2");
    peer.make_room(10_000);
    node.turn(&[(token, WRITABLE)]);
    assert!(peer.take().ends_with("{\"streams\":0}"));
}

#[test]
fn a_drain_answers_a_question_that_waits_and_closes_its_connection() {
    let mut node = of_two();
    let (peer, _) = node.await_count();
    node.shard.start_drain(node.now);
    node.turn(&[]);
    assert_eq!(peer.take(), "");
    node.count(1);
    let answer = peer.take();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(answer.contains("\r\nConnection: close\r\n"));
}

/// The other shard may have ended: its question gets no count.
#[test]
fn a_drain_does_not_hang_on_a_question() {
    let mut node = of_two();
    let (peer, _) = node.await_count();
    node.shard.start_drain(node.now);
    node.pass(PRESENCE_WAIT_MS_MAX + DEADLINE_SCAN_INTERVAL_MS);
    node.turn(&[]);
    assert!(peer.take().starts_with("HTTP/1.1 503 "));
}

/// A question needs no ring.
#[test]
fn a_handover_does_not_wait_for_a_question_and_answers_it() {
    let mut node = of_two();
    let (peer, _) = node.await_count();
    let (held, is_held) = bounded(1);
    node.poller.commands.push_back(Command::Hold(held));
    node.turn(&[]);
    assert!(is_held.is_full());
    node.poller
        .commands
        .push_back(Command::HandOver("successor"));
    node.turn(&[]);
    node.count(4);
    assert!(peer.take().ends_with("{\"streams\":4}"));
}
