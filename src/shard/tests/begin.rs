//! Where a stream and an answer with the history begin: `replay`, `since`, and the event id.

use super::*;

/// A node with ten messages, a second apart. The first has the time that is returned.
fn node() -> (Node, u64) {
    let mut node = Node::new();
    let first_ms = node.now.unix_ms;
    for _ in 0..10 {
        node.publish(1, 1);
        node.pass(1000);
    }
    (node, first_ms)
}

impl Node {
    /// The seqs of the messages that the answer to a request contains, and the answer.
    fn seqs(&mut self, target: &str, field: &str) -> (Vec<u64>, String) {
        let peer = Peer::with_room(1 << 20);
        let request = format!("GET {target} HTTP/1.1\r\nHost: a\r\n{field}\r\n");
        self.ask(&peer, request.as_bytes());
        let answer = peer.take();
        let seq_of = |part: &str| {
            part.split('-')
                .nth(1)?
                .split(['\n', '"'])
                .next()?
                .parse()
                .ok()
        };
        let ids = if target.contains("/stream") {
            let events = answer.split("data: {\"type\":\"webhook_message\"").skip(1);
            events
                .map(|event| seq_of(event.split("\nid: ").nth(1).unwrap()).unwrap())
                .collect()
        } else {
            let entries = answer.split("{\"eventId\":\"").skip(1);
            entries.map(|entry| seq_of(entry).unwrap()).collect()
        };
        (ids, answer)
    }

    fn stream_seqs(&mut self, query: &str, field: &str) -> Vec<u64> {
        self.seqs(&format!("/api/webhook/stream?{query}"), field).0
    }

    fn page_seqs(&mut self, query: &str) -> Vec<u64> {
        self.seqs(&format!("/api/webhook/messages?{query}"), "").0
    }

    fn id(&self, seq: u64) -> String {
        let epoch = self.shard.resumption.lineage.epoch();
        crate::sse::event_id::EventId { epoch, seq }.to_string()
    }
}

#[test]
fn replay_limits_the_history_of_a_stream() {
    let (mut node, _) = node();
    for count in [0, 1, 7, 10, 100] {
        let first = 11 - u64::min(count, 10);
        let seqs = node.stream_seqs(&format!("replay={count}"), "");
        assert!(seqs.into_iter().eq(first..11), "{count}");
    }
    let (_, answer) = node.seqs("/api/webhook/stream?replay=0", "");
    let place = format!("\"replay\":0}}\nid: {}\n", node.id(10));
    assert!(answer.contains(&place), "{answer}");
    // It is live from then on.
    let peer = Peer::with_room(10_000);
    let get = "GET /api/webhook/stream?replay=0 HTTP/1.1\r\nHost: a\r\n\r\n";
    node.ask(&peer, get.as_bytes());
    peer.take();
    node.publish(1, 1);
    node.rest();
    assert!(peer.take().contains(&node.id(11)));
}

#[test]
fn a_time_begins_with_the_first_message_of_it_or_later() {
    let (mut node, first_ms) = node();
    for (since, first) in [
        ("0".to_owned(), 1),
        (first_ms.to_string(), 1),
        ((first_ms + 1).to_string(), 2),
        ((first_ms + 9000).to_string(), 10),
        ((first_ms + 9001).to_string(), 11),
        ("9999-12-31T23:59:59Z".to_owned(), 11),
        ("1900-01-01T00:00:00%2B01:00".to_owned(), 1),
        // The present is ten seconds after the first message.
        ("10s".to_owned(), 1),
        ("3s".to_owned(), 8),
        ("0s".to_owned(), 11),
        ("99999999999d".to_owned(), 1),
    ] {
        let query = format!("since={since}");
        assert!(
            node.stream_seqs(&query, "").into_iter().eq(first..11),
            "{since}"
        );
        assert!(node.page_seqs(&query).into_iter().eq(first..11), "{since}");
    }
    // Both given: the later start.
    assert_eq!(node.stream_seqs("since=3s&replay=2", ""), [9, 10]);
    assert_eq!(node.stream_seqs("since=2s&replay=5", ""), [9, 10]);
    // A page continues like any other.
    assert_eq!(node.page_seqs("since=8s&limit=2"), [3, 4]);
    let (_, page) = node.seqs("/api/webhook/messages?since=8s&limit=2", "");
    let tail = format!(
        "\"lastEventId\":\"{}\",\"reset\":false,\"missed\":0,\"more\":true}}",
        node.id(4)
    );
    assert!(page.ends_with(&tail), "{page}");
}

/// A client that has sent an id has begun before. With an unknown id it may have missed any message.
#[test]
fn an_event_id_wins_over_replay_and_since() {
    let (mut node, _) = node();
    let known = node.id(4);
    let unknown = "00000000000000ff-4";
    for query in [
        "replay=0",
        "since=9999-12-31T00:00:00Z",
        "since=1s&replay=1",
    ] {
        for (id, first) in [(known.as_str(), 5), (unknown, 1), ("nonsense", 1)] {
            let by_field = node.stream_seqs(query, &format!("Last-Event-ID: {id}\r\n"));
            let by_query = node.stream_seqs(&format!("{query}&lastEventId={id}"), "");
            assert!(by_field.into_iter().eq(first..11), "{query} {id}");
            assert!(by_query.into_iter().eq(first..11), "{query} {id}");
        }
        let empty = node.stream_seqs(&format!("{query}&lastEventId="), "");
        assert!(empty.len() < 2, "an empty id is none");
    }
}

/// A wait must not move the time: a message that arrives meanwhile would be left out.
#[test]
fn a_long_poll_keeps_the_time_of_its_request() {
    let (mut node, _) = node();
    let peer = Peer::with_room(10_000);
    let get = "GET /api/webhook/messages?since=0s&wait=25 HTTP/1.1\r\nHost: a\r\n\r\n";
    node.ask(&peer, get.as_bytes());
    node.pass(5000);
    node.turn(&[]);
    assert_eq!(peer.take(), "", "it waits");
    node.publish(1, 1);
    node.pass(5000);
    node.rest();
    assert!(peer.take().contains(&node.id(11)));
}
