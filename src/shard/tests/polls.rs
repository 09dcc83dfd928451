//! Requests for the history and long polls: encodings, order, and bytes per turn.

use super::*;
use crate::shard::membership::Holder;

/// The longest content of a message in these tests, in bytes.
const CONTENT_BYTES: usize = 3000;

const GET: &str = "GET /api/webhook/messages";

/// A node with a full history of large messages.
fn node_with_history() -> Node {
    let mut node = Node::with(|settings| settings.held_bytes_max = 1 << 26);
    node.publish(HISTORY_MESSAGES, CONTENT_BYTES);
    node
}

fn all_answers(peers: &[Peer]) -> usize {
    peers.iter().map(answers).sum()
}

fn request(line: &str, fields: &str) -> String {
    format!("{line} HTTP/1.1\r\nHost: a\r\n{fields}\r\n")
}

fn field(answer: &str, name: &str) -> String {
    let mut lines = answer.lines().take_while(|line| !line.is_empty());
    let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    value.unwrap_or_else(|| panic!("{name} in {answer}")).into()
}

impl Node {
    /// Opens `count` connections. Each sends the long poll `request(number)`.
    fn wait(&mut self, count: usize, request: impl Fn(usize) -> String) -> Vec<Peer> {
        let peers: Vec<Peer> = (0..count).map(|_| Peer::with_room(1 << 24)).collect();
        for (number, peer) in peers.iter().enumerate() {
            self.ask(peer, request(number).as_bytes());
        }
        assert_eq!(all_answers(&peers), 0, "they wait");
        assert_eq!(self.shard.sweeps.waits.members(), count);
        peers
    }

    /// The entity tag of a page.
    fn tag(&mut self, query: &str) -> String {
        let peer = Peer::with_room(1 << 24);
        self.ask(
            &peer,
            request(&format!("HEAD /api/webhook/messages{query}"), "").as_bytes(),
        );
        field(&peer.take(), "ETag")
    }

    /// Pages encoded since the last call.
    fn encodings(&mut self) -> u64 {
        let metrics = Metrics::new(Arc::default());
        self.shard.tally_mut().flush(&metrics);
        metrics.total(Counter::HistoryEncodings)
    }

    /// Runs turns until nothing is left to do. Returns the answers to these peers in each turn.
    fn answers_by_turn(&mut self, peers: &[Peer]) -> Vec<usize> {
        let mut by_turn = Vec::new();
        while self.shard.idle_ms(self.now) == Some(0) {
            self.turn(&[]);
            by_turn.push(all_answers(peers));
        }
        by_turn
    }
}

/// The most pages of the full history that a turn encodes. The last one may exceed the budget.
const PAGES_PER_TURN: usize = HISTORY_TURN_BYTES.div_ceil(HISTORY_MESSAGES * CONTENT_BYTES);

/// A request of a hundred bytes may cause an answer of 1 MiB. Other requests do not wait for all
/// of these answers.
#[test]
fn a_flood_of_history_requests_is_answered_over_several_turns() {
    let mut node = node_with_history();
    let gets = request(GET, "").repeat(5);
    let flood: Vec<Peer> = (0..40).map(|_| Peer::with_room(1 << 24)).collect();
    for peer in &flood {
        let token = node.open(peer);
        peer.send(gets.as_bytes());
        node.shard.ready(token, READABLE, node.now);
    }
    let mut answered = all_answers(&flood);
    assert!((1..=PAGES_PER_TURN).contains(&answered), "{answered}");
    // Requests that are put off have a queue of their own.
    assert!(
        node.shard.unfinished() <= PAGES_PER_TURN,
        "they do not delay unfinished uploads"
    );

    let sender = Peer::with_room(1000);
    let body = r#"{"message":"x"}"#;
    let post = format!(
        "POST /api/webhook HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    node.ask(&sender, post.as_bytes());
    assert!(sender.take().starts_with("HTTP/1.1 200 "));
    answered += all_answers(&flood);

    let by_turn = node.answers_by_turn(&flood);
    // At most twice the budget, and the further requests of the connection that used it up.
    let most = 2 * PAGES_PER_TURN + READS_PER_TURN;
    assert!(by_turn.iter().all(|count| *count <= most), "{by_turn:?}");
    assert_eq!(answered + by_turn.iter().sum::<usize>(), 5 * flood.len());
}

#[test]
fn a_head_request_gets_the_length_of_a_page_without_encoding() {
    let mut node = node_with_history();
    node.encodings();
    for query in ["", "?limit=7", "?sessionId=a", "?since=00000000000000ff-5"] {
        let peer = Peer::with_room(1 << 24);
        let line = format!("HEAD /api/webhook/messages{query}");
        let token = node.ask(&peer, request(&line, "").as_bytes());
        let head = peer.take();
        assert!(head.ends_with("\r\n\r\n"), "{head}");
        assert_eq!(node.encodings(), 0);
        peer.send(request(&format!("{GET}{query}"), "").as_bytes());
        node.turn(&[(token, READABLE)]);
        let answer = peer.take();
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        assert_eq!(field(&head, "Content-Length"), body.len().to_string());
        assert_eq!(field(&head, "ETag"), field(&answer, "ETag"));
        assert_eq!(node.encodings(), 1);
    }
}

#[test]
fn long_polls_with_if_none_match_any_cost_no_encoding() {
    let mut node = node_with_history();
    let polls = node.wait(300, |_| {
        request(&format!("{GET}?wait=25"), "If-None-Match: *\r\n")
    });
    node.publish(1, CONTENT_BYTES);
    node.rest();
    let texts: Vec<String> = polls.iter().map(Peer::take).collect();
    assert!(texts.iter().all(|text| text.starts_with("HTTP/1.1 304 ")));
    assert_eq!(node.encodings(), 0);
}

#[test]
fn long_polls_for_the_same_page_cost_one_encoding_for_each_message() {
    let mut node = node_with_history();
    for _ in 0..3 {
        let tag = format!("If-None-Match: {}\r\n", node.tag(""));
        let polls = node.wait(50, |_| request(&format!("{GET}?wait=25"), &tag));
        node.publish(1, CONTENT_BYTES);
        let by_turn = node.answers_by_turn(&polls);
        assert_eq!(by_turn.iter().sum::<usize>(), 50);
        assert_eq!(node.encodings(), 1);
    }
    assert!(node.shard.answer.capacity() < HISTORY_MESSAGES * CONTENT_BYTES);
    node.publish(1, 1);
    assert_eq!(node.shard.histories.encoded.held_bytes(), 0);
}

/// There are 100 different pages, so an encoded page is rarely of use for the next long poll. The
/// long polls are older than the streams.
#[test]
fn streams_are_served_before_long_polls() {
    for query in ["", "&sessionId=a"] {
        let mut node = node_with_history();
        let tags: Vec<String> = (0..100)
            .map(|number| node.tag(&format!("?limit={}{query}", 1 + number)))
            .collect();
        let polls = node.wait(1000, |number| {
            let line = format!("{GET}?wait=25&limit={}{query}", 1 + number % 100);
            request(&line, &format!("If-None-Match: {}\r\n", tags[number % 100]))
        });
        let streams: Vec<Peer> = (0..SLICE_WRITES)
            .map(|number| {
                let peer = Peer::with_room(1 << 24);
                let query = if number % 2 == 0 { "" } else { "?sessionId=a" };
                let line = format!("GET /api/webhook/stream{query}");
                node.ask(&peer, request(&line, "").as_bytes());
                peer.take();
                peer
            })
            .collect();
        node.answers_by_turn(&[]);
        assert_eq!(node.shard.streams(), streams.len());

        node.publish(1, CONTENT_BYTES);
        node.shard.sweep(node.now);
        let is_served = |peer: &Peer| peer.take().contains("webhook_message");
        assert!(streams.iter().all(is_served), "in the first slice");
        assert_eq!(all_answers(&polls), 0);

        node.encodings();
        let by_turn = node.answers_by_turn(&polls);
        assert_eq!(by_turn.iter().sum::<usize>(), polls.len());
        // The budget is of bytes, not of answers: small pages do not use it up.
        let bytes_max = 2 * HISTORY_TURN_BYTES;
        let turns_least = 10 * (1..=100).sum::<usize>() * CONTENT_BYTES / bytes_max;
        assert!(by_turn.len() >= turns_least, "{} turns", by_turn.len());
        assert!(node.encodings() <= 1000);
    }
}

/// The walk along a session finds its streams and its long polls.
#[test]
fn a_targeted_message_answers_only_long_polls_that_may_see_it() {
    let mut node = node_with_history();
    let wait = |session: &str| {
        let line = format!("{GET}?wait=25&sessionId={session}");
        request(&line, "If-None-Match: *\r\n")
    };
    let targeted = node.wait(100, |_| wait("a"));
    let stream = Peer::with_room(1 << 24);
    let line = "GET /api/webhook/stream?sessionId=a";
    node.ask(&stream, request(line, "").as_bytes());
    stream.take();
    let others: Vec<Peer> = (0..100).map(|_| Peer::with_room(1 << 24)).collect();
    for peer in &others {
        node.ask(peer, wait("b").as_bytes());
    }
    let everything = Peer::with_room(1 << 24);
    let line = format!("{GET}?wait=25");
    node.ask(
        &everything,
        request(&line, "If-None-Match: *\r\n").as_bytes(),
    );

    node.publish_to(Some("a"), 1, 10);
    let by_turn = node.answers_by_turn(&targeted);
    assert_eq!(by_turn.iter().sum::<usize>(), targeted.len());
    assert!(stream.take().contains("webhook_message"));
    assert_eq!(answers(&everything), 1);
    assert_eq!(all_answers(&others), 0);
    assert_eq!(node.shard.sweeps.waits.members(), others.len());
}

/// All long polls may have the same deadline. The tick only marks them as due.
#[test]
fn long_polls_with_one_deadline_are_answered_over_several_turns() {
    let mut node = node_with_history();
    let tags: Vec<String> = (0..100)
        .map(|number| node.tag(&format!("?limit={}", 1 + number)))
        .collect();
    let polls = node.wait(400, |number| {
        let line = format!("{GET}?wait=25&limit={}", 1 + number % 100);
        request(&line, &format!("If-None-Match: {}\r\n", tags[number % 100]))
    });
    node.pass(27_000);
    node.shard.tick(node.now);
    assert_eq!(all_answers(&polls), 0);
    assert!(node.shard.answer_next_history(node.now).is_some());
    assert_eq!(all_answers(&polls), 1);
    let by_turn = node.answers_by_turn(&polls);
    assert_eq!(1 + by_turn.iter().sum::<usize>(), polls.len());
    assert_eq!(node.encodings(), 0, "the pages are unchanged");
}

#[test]
fn a_drain_answers_all_long_polls_over_several_turns_and_closes_their_connections() {
    let mut node = node_with_history();
    let line = format!("{GET}?wait=25");
    let polls = node.wait(400, |_| request(&line, "If-None-Match: *\r\n"));
    node.shard.start_drain(node.now);
    // All phases are due together.
    node.pass(4_900);
    node.shard.tick(node.now);
    assert_eq!(all_answers(&polls), 0);
    node.answers_by_turn(&[]);
    for peer in &polls {
        let answer = peer.take();
        assert!(answer.starts_with("HTTP/1.1 304 "), "{answer}");
        assert!(answer.contains("Connection: close\r\n"), "{answer}");
    }
    assert_eq!(node.shard.sweeps.waits.members(), 0);
}

/// Requests that were put off alternate with long polls that are due.
#[test]
fn neither_new_history_requests_nor_long_polls_starve_the_other() {
    let mut node = node_with_history();
    let line = format!("{GET}?wait=25");
    let polls = node.wait(20, |_| request(&line, "If-None-Match: *\r\n"));
    let flood: Vec<Peer> = (0..20 + PAGES_PER_TURN)
        .map(|_| Peer::with_room(1 << 24))
        .collect();
    for peer in &flood {
        let token = node.open(peer);
        peer.send(request(GET, "").as_bytes());
        node.shard.ready(token, READABLE, node.now);
    }
    assert_eq!(all_answers(&flood), PAGES_PER_TURN);
    node.publish(1, 10);
    for _ in 0..10 {
        node.shard.answer_next_history(node.now);
        node.shard.answer_next_history(node.now);
        assert_eq!((all_answers(&polls), all_answers(&flood)), (1, 1));
    }
}

/// The queues hold slots. The slot of a closed long poll may have a stream before the queue reaches
/// it.
#[test]
fn a_queue_entry_of_a_closed_long_poll_does_not_serve_the_stream_in_its_slot() {
    let mut node = node_with_history();
    let line = format!("{GET}?wait=25");
    node.wait(1, |_| request(&line, "If-None-Match: *\r\n"));
    node.shard.wake(0);
    node.shard.close(0);
    let peer = Peer::with_room(1 << 24);
    let token = node.open(&peer);
    assert_eq!(token.slot, 0);
    peer.send(STREAM);
    node.shard.ready(token, READABLE, node.now);
    let place = node.shard.connections.place_mut(0).unwrap();
    assert!(place.queued && place.holder == Holder::Stream);
    while node.shard.answer_next_history(node.now).is_some() {}
    assert!(
        node.shard.connections.place_mut(0).unwrap().queued,
        "the stream is still in its own queue"
    );
    node.shard.sweep(node.now);
    assert!(peer.take().contains("connected"));
}

/// Each step visits a bounded number of long polls without news.
#[test]
fn long_polls_without_news_are_passed_in_small_steps() {
    let mut node = node_with_history();
    let line = format!("{GET}?wait=25&sessionId=a");
    let waits = SLICE_VISITS;
    node.wait(waits, |_| request(&line, "If-None-Match: *\r\n"));
    // Restarts their round without a message.
    node.shard
        .sweeps
        .waits
        .restart(crate::shard::sweep::RoundKind::Filtered);
    let mut steps = 0;
    while node.shard.answer_next_history(node.now) == Some(0) {
        steps += 1;
    }
    assert_eq!(steps, waits.div_ceil(crate::limits::WAITS_PER_LOOK));
    assert_eq!(node.shard.sweeps.waits.members(), waits);
}

const WAIT: &[u8] = b"GET /api/webhook/messages?wait=25 HTTP/1.1\r\nHost: a\r\n\r\n";

/// A long poll does not count as a stream, and holds no reader.
#[test]
fn a_message_answers_a_long_poll_once_and_a_stream_each_time() {
    let mut node = Node::new();
    let peers: Vec<Peer> = (0..5).map(|_| Peer::with_room(10_000)).collect();
    for (index, peer) in peers.iter().enumerate() {
        node.ask(peer, if index % 2 == 0 { WAIT } else { STREAM });
    }
    assert_eq!((node.shard.streams(), node.shard.connections()), (2, 5));
    assert_eq!(node.shard.holdings().readers, 0);
    assert_eq!(peers[0].take(), "");
    node.publish(1, 10);
    node.turn(&[]);
    for peer in &peers {
        assert!(peer.take().contains("xxxxxxxxxx"));
    }
    // A second message finds only the streams.
    node.publish(1, 10);
    node.turn(&[]);
    for (index, peer) in peers.iter().enumerate() {
        assert_eq!(peer.take().contains("xxxxxxxxxx"), index % 2 == 1);
    }
}

#[test]
fn a_long_poll_ends_at_its_deadline_or_with_its_connection() {
    let mut node = Node::new();
    let (peer, closing) = (Peer::with_room(10_000), Peer::with_room(10_000));
    node.ask(&peer, WAIT);
    let token = node.ask(&closing, WAIT);
    closing.0.borrow_mut().has_ended = true;
    node.turn(&[(token, HUNG_UP)]);
    assert!(closing.is_closed());
    node.pass(24_000);
    node.turn(&[]);
    assert_eq!(peer.take(), "");
    node.pass(2_000);
    node.turn(&[]);
    node.turn(&[]);
    assert!(peer.take().contains("\"messages\":[]"));
    assert!(!peer.is_closed());
}

/// No event follows for an end that was received with the request.
#[test]
fn a_long_poll_of_a_peer_that_has_ended_does_not_wait() {
    let mut node = Node::new();
    let peer = Peer::with_room(10_000);
    let token = node.open(&peer);
    peer.send_last(WAIT);
    node.turn(&[(token, READABLE)]);
    node.turn(&[]);
    assert!(peer.take().contains("\"messages\":[]"));
    assert!(peer.is_closed());
}

/// A connection is not read during a long poll. Bytes that follow its request are the next request;
/// on a stream they would be dropped.
#[test]
fn a_request_pipelined_behind_a_long_poll_is_answered_after_it() {
    let mut node = Node::new();
    let peer = Peer::with_room(10_000);
    let token = node.open(&peer);
    peer.send(
        b"POST /api/webhook HTTP/1.1\r\nHost: a\r\nContent-Length: 15\r\n\r\n{\"message\":\"a\"}",
    );
    peer.send(
        b"GET /api/webhook/messages?sessionId=b&limit=1&wait=25 HTTP/1.1\r\nHost: a\r\nIf-None-Match: *\r\n\r\n",
    );
    node.shard.ready(token, READABLE, node.now);
    peer.send(b"GET /api/webhook HTTP/1.1\r\nHost: a\r\n\r\n");
    node.shard.ready(token, READABLE, node.now);
    node.turn(&[]);
    assert_eq!(answers(&peer), 1, "to the webhook");
    node.pass(26_000);
    node.turn(&[]);
    node.turn(&[]);
    assert_eq!(
        answers(&peer),
        2,
        "to the long poll, and to the next request"
    );
    assert!(!peer.is_closed());
}
