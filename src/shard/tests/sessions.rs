//! Streams and long polls of several sessions, beside those of one.

use super::*;
use crate::limits::SESSIONS_PER_STREAM_MAX;

const NAMES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

/// A request for a stream, or a long poll, of these sessions.
fn request(path: &str, sessions: &[&str]) -> String {
    let query: Vec<String> = sessions
        .iter()
        .map(|name| format!("sessionId={name}&"))
        .collect();
    let query = query.concat();
    format!("GET {path}?{query}wait=25&since=3000-01-01T00:00:00Z HTTP/1.1\r\nHost: a\r\n\r\n")
}

fn stream(sessions: &[&str]) -> String {
    request("/api/webhook/stream", sessions)
}

/// The numbers of the messages in what a client has received, in order.
fn numbers(text: &str) -> Vec<u64> {
    let parts = text.split("\"content\":\"").skip(1);
    parts
        .map(|part| part.split('"').next().unwrap().parse().unwrap())
        .collect()
}

impl Node {
    fn publish_number(&mut self, session: Option<&str>, number: u64) {
        let draft = Draft {
            session: session.and_then(|name| SessionId::parse(name).unwrap()),
            content: number.to_string(),
            label: None,
            identity: None,
        };
        let mut drafts = VecDeque::from([draft]);
        let sender = self.hub.new_sender();
        self.hub
            .publish(sender, &mut drafts, self.now, &mut Vec::new());
        self.take_batches();
    }

    fn links(&self) -> usize {
        self.shard.links.len()
    }
}

#[test]
fn a_stream_of_several_sessions_gets_each_message_once_in_order() {
    let mut node = Node::new();
    let peer = Peer::with_room(1 << 20);
    let token = node.ask(&peer, stream(&["a", "b", "a"]).as_bytes());
    assert_eq!((node.shard.sessions(), node.links()), (2, 2));
    for (number, session) in (0..).zip([Some("a"), None, Some("b"), Some("c"), Some("a"), None]) {
        node.publish_number(session, number);
    }
    node.rest();
    assert_eq!(numbers(&peer.take()), [0, 1, 2, 4, 5]);
    peer.0.borrow_mut().has_ended = true;
    node.turn(&[(token, READABLE)]);
    node.rest();
    assert!(peer.is_closed());
    assert_eq!((node.shard.streams(), node.links()), (0, 0));
}

/// The promise of sessions: what is for other sessions costs nothing.
#[test]
fn a_message_touches_only_the_streams_of_its_session() {
    let mut node = Node::new();
    let peers: Vec<Peer> = (0..40).map(|_| Peer::with_room(1 << 20)).collect();
    for (number, peer) in peers.iter().enumerate() {
        let sessions = if number % 2 == 0 {
            ["a", "b"]
        } else {
            ["c", "d"]
        };
        node.ask(peer, stream(&sessions).as_bytes());
    }
    node.rest();
    node.publish_number(Some("b"), 1);
    let mut visits = 0;
    while let Some(candidate) = node.shard.sweeps.streams.next() {
        let slot = node
            .shard
            .slot_of_candidate(candidate, crate::shard::membership::Holder::Stream);
        visits += usize::from(slot.is_some());
    }
    assert_eq!(visits, 20);
}

/// A walk along the list of a session visits every stream that stays, whatever joins and leaves meanwhile. A list
/// contains slots and links, and a stream with several sessions is in several lists with walks.
#[test]
fn walks_skip_no_stream_while_others_join_and_leave() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut rng = fastrand::Rng::with_seed(seed);
    for _ in 0..60 {
        let mut node = Node::with(|settings| settings.held_bytes_max = 1 << 24);
        // A stream, its sessions, and the numbers that it has to receive.
        let mut open: Vec<(Peer, Token, Vec<&str>, Vec<u64>)> = Vec::new();
        let mut number = 0;
        for _ in 0..rng.usize(1..150) {
            match rng.u8(..10) {
                0..=3 => {
                    let mut names = NAMES.to_vec();
                    rng.shuffle(&mut names);
                    names.truncate(rng.usize(0..=3));
                    let peer = Peer::with_room(1 << 20);
                    // It begins before the next message.
                    let token = node.ask(&peer, stream(&names).as_bytes());
                    open.push((peer, token, names, Vec::new()));
                }
                4..=5 if !open.is_empty() => {
                    let (peer, token, ..) = open.swap_remove(rng.usize(..open.len()));
                    peer.0.borrow_mut().has_ended = true;
                    node.shard.ready(token, READABLE, node.now);
                }
                6 => node.shard.sweep(node.now),
                _ => {
                    for _ in 0..rng.usize(1..4) {
                        let session = NAMES.get(rng.usize(..=NAMES.len())).copied();
                        number += 1;
                        node.publish_number(session, number);
                        for (_, _, names, expected) in &mut open {
                            // Without a secret, a stream without sessions is_visible everything.
                            let is_visible = names.is_empty()
                                || session.is_none_or(|session| names.contains(&session));
                            expected.extend(is_visible.then_some(number));
                        }
                    }
                    if rng.bool() {
                        // A visit or two.
                        for _ in 0..rng.u8(1..3) {
                            if let Some(candidate) = node.shard.sweeps.streams.next() {
                                let holder = crate::shard::membership::Holder::Stream;
                                let slot = node.shard.slot_of_candidate(candidate, holder);
                                if let Some(slot) = slot {
                                    node.shard.enqueue(slot);
                                }
                            }
                        }
                    }
                }
            }
        }
        node.rest();
        for (peer, _, names, expected) in &open {
            assert_eq!(numbers(&peer.take()), *expected, "{names:?}");
        }
        let links: usize = open
            .iter()
            .map(|(_, _, names, _)| names.len())
            .filter(|len| *len > 1)
            .sum();
        assert_eq!(node.links(), links);
        for (peer, token, ..) in open {
            peer.0.borrow_mut().has_ended = true;
            node.shard.ready(token, READABLE, node.now);
        }
        node.rest();
        assert_eq!((node.shard.streams(), node.links()), (0, 0));
    }
}

#[test]
fn a_long_poll_of_several_sessions_waits_for_any_of_them() {
    for session in [Some("a"), Some("b"), None] {
        let mut node = Node::new();
        let peer = Peer::with_room(10_000);
        let poll =
            "GET /api/webhook/messages?sessionId=a&sessionId=b&wait=25 HTTP/1.1\r\nHost: a\r\n\r\n";
        node.ask(&peer, poll.as_bytes());
        node.publish_number(Some("c"), 1);
        node.rest();
        assert_eq!(peer.take(), "", "it waits");
        assert_eq!(node.links(), 2);
        node.publish_number(session, 2);
        node.rest();
        assert_eq!(numbers(&peer.take()), [2]);
        assert_eq!(node.links(), 0);
    }
}

/// The sessions of a stream take memory that all clients share.
#[test]
fn a_stream_without_room_for_its_sessions_gets_a_503_with_a_delay() {
    let mut node = Node::with(|settings| settings.held_bytes_max = 30_000);
    let names: Vec<String> = (0..SESSIONS_PER_STREAM_MAX)
        .map(|i| format!("{i}{}", "x".repeat(200)))
        .collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let peers: Vec<Peer> = (0..10).map(|_| Peer::with_room(10_000)).collect();
    for peer in &peers {
        node.ask(peer, stream(&names).as_bytes());
    }
    node.rest();
    let held = node.shard.connections.holding();
    assert_eq!(node.shard.streams(), held);
    assert!((2..5).contains(&held), "{held}");
    let declined = peers
        .iter()
        .filter(|peer| peer.take().contains("{\"type\":\"end\"}"));
    assert_eq!(declined.count(), peers.len() - held);
    // Streams with few sessions hold too little to count.
    let small = Peer::with_room(10_000);
    node.ask(&small, stream(&["a", "b"]).as_bytes());
    assert_eq!(node.shard.streams(), held + 1);
    node.shard.holdings();
}

/// A stream with one session costs no byte for those with several.
#[test]
fn streams_places_and_views_have_not_grown() {
    assert_eq!(size_of::<crate::live_log::View>(), 8);
    assert_eq!(size_of::<crate::shard::membership::Place>(), 24);
    assert_eq!(size_of::<crate::shard::stream::Stream>(), 72);
}
