//! Another history replaces that of the node: what open streams and long polls get, and what follows.

use super::resumption::{resume_after, seqs};
use super::*;
use crate::limits::{DEADLINE_SCAN_INTERVAL_MS, RETRY_MS, STALL_MS};
use crate::message::Epoch;
use crate::shard::stream::{EndReason, Ending};
use crate::sse::lineage::Lineage;

const OLD: Epoch = Epoch(10);
const NEW: Epoch = Epoch(20);

/// The old history was taken over up to 5. The new one has the messages 6 and 7, as the old one had.
fn replace(node: &mut Node) {
    let lineage = Lineage::new(OLD).next(NEW, 5);
    node.turn_over(lineage, Some(1), 1..=7);
}

fn closed_by_reset(node: &mut Node) -> u64 {
    let metrics = Metrics::new(Arc::default());
    node.shard.tally_mut().flush(&metrics);
    metrics.total(Counter::StreamsReset)
}

/// Asserts that this is an end with a delay, and nothing else. Returns the delay.
fn end_of(text: &str, framing: &str) -> u64 {
    let text = match framing {
        "1.1" => text.strip_suffix("0\r\n\r\n").expect(text),
        _ => text,
    };
    assert!(text.contains("data: {\"type\":\"end\"}\n\n"), "{text}");
    assert_eq!(text.matches("data: ").count(), 1, "{text}");
    let (_, rest) = text.split_once("retry: ").unwrap();
    rest.split('\n').next().unwrap().parse().unwrap()
}

fn stream(version: &str, query: &str) -> String {
    format!("GET /api/webhook/stream{query} HTTP/{version}\r\nHost: a\r\n\r\n")
}

#[test]
fn all_streams_end_in_order_with_delays_that_differ() {
    let mut node = Node::on_bus(10);
    // More than a slice, of each kind of view and framing.
    let requests = [
        ("1.1", ""),
        ("1.0", ""),
        ("1.1", "?sessionId=a"),
        ("1.0", "?sessionId=a"),
    ];
    let peers: Vec<_> = (0..4 * SLICE_WRITES)
        .map(|number| {
            let (version, query) = requests[number % requests.len()];
            let peer = Peer::with_room(10_000);
            node.ask(&peer, stream(version, query).as_bytes());
            (version, peer)
        })
        .collect();
    node.rest();
    for (_, peer) in &peers {
        peer.take();
    }
    replace(&mut node);
    node.rest();
    let mut delays = Vec::new();
    for (version, peer) in &peers {
        delays.push(end_of(&peer.take(), version));
        assert!(peer.0.borrow().is_shut);
    }
    assert!(
        delays.iter().all(|delay| RETRY_MS.contains(delay)),
        "{delays:?}"
    );
    delays.sort_unstable();
    let (first, last) = (delays[0], delays[delays.len() - 1]);
    assert!(last - first > 1_500, "spread: {first} to {last}");
    assert_eq!(closed_by_reset(&mut node), peers.len() as u64);
    assert_eq!(node.shard.streams(), 0);
    // The last stream of the session is gone.
    assert_eq!(node.shard.sessions(), 0);
}

/// The new history may be shorter or longer than the old one, and begin before or after it.
#[test]
fn a_stream_that_is_opened_after_a_reset_begins_in_the_new_history() {
    for (first, last) in [(1, 7), (1, 30), (8, 9), (200, 350), (1, 0)] {
        let mut node = Node::on_bus(10);
        let before = Peer::with_room(10_000);
        node.ask(&before, stream("1.1", "?sessionId=a").as_bytes());
        before.take();
        let lineage = Lineage::new(OLD).next(NEW, 5);
        node.turn_over(lineage, Some(first), first..=last);
        let expected: Vec<u64> = (first..=last).rev().take(HISTORY_MESSAGES).collect();
        let expected: Vec<u64> = expected.into_iter().rev().collect();
        // Its own turn serves it, while the old stream has not ended.
        let (peer, session) = (Peer::with_room(1 << 20), Peer::with_room(1 << 20));
        node.ask(&peer, STREAM);
        node.ask(&session, stream("1.1", "?sessionId=a").as_bytes());
        node.rest();
        for peer in [&peer, &session] {
            let text = peer.take();
            assert_eq!(seqs(&text), expected, "{first}..={last}");
            assert!(
                text.contains(&format!("\"replay\":{}", expected.len())),
                "{text}"
            );
        }
        end_of(&before.take(), "1.1");
        node.follow(None, [last + 1]);
        node.follow(Some("a"), [last + 2]);
        node.rest();
        for peer in [&peer, &session] {
            assert_eq!(seqs(&peer.take()), [last + 1, last + 2]);
        }
        assert_eq!(before.take(), "");
    }
}

/// An id of the old epoch is exact as far as it was carried over. After a later one, the client gets all that
/// replaces what it has seen.
#[test]
fn ids_of_a_replaced_history_are_known_up_to_where_the_new_one_branches_off() {
    let mut node = Node::on_bus(10);
    replace(&mut node);
    for (seq, expected) in [(4, 5..=7), (5, 6..=7), (6, 6..=7), (10, 6..=7)] {
        let peer = Peer::with_room(10_000);
        node.ask(&peer, resume_after(OLD, seq).as_bytes());
        assert_eq!(
            seqs(&peer.take()),
            expected.collect::<Vec<_>>(),
            "after {seq}"
        );
    }
}

/// A client cannot use an end inside a frame.
#[test]
fn a_stream_inside_a_frame_is_cut_off_at_once() {
    for version in ["1.1", "1.0"] {
        let mut node = Node::on_bus(0);
        let peer = Peer::with_room(10_000);
        node.ask(&peer, stream(version, "").as_bytes());
        peer.take();
        peer.0.borrow_mut().room = 20;
        node.follow(None, [1]);
        node.rest();
        assert_eq!(peer.take().len(), 20);
        replace(&mut node);
        node.rest();
        assert_eq!(peer.take(), "");
        // Although its socket is full.
        assert!(peer.is_closed());
        assert_eq!(closed_by_reset(&mut node), 1);
    }
}

/// The socket is full, at the end of a frame: the end follows when there is room.
#[test]
fn a_blocked_stream_between_two_frames_ends_when_its_socket_has_room() {
    let mut node = Node::on_bus(0);
    let peer = Peer::with_room(10_000);
    let token = node.ask(&peer, STREAM);
    let probe = Peer::with_room(10_000);
    node.ask(&probe, STREAM);
    probe.take();
    node.follow(None, [1]);
    node.rest();
    peer.take();
    peer.0.borrow_mut().room = probe.take().len();
    node.follow(None, [2]);
    node.rest();
    // There is no room for this one.
    node.follow(None, [3]);
    node.rest();
    assert_eq!(seqs(&peer.take()), [2]);
    replace(&mut node);
    node.rest();
    assert_eq!((peer.take(), node.shard.streams()), (String::new(), 1));
    peer.make_room(30);
    node.turn(&[(token, WRITABLE)]);
    peer.make_room(10_000);
    node.turn(&[(token, WRITABLE)]);
    end_of(&peer.take(), "1.1");
    assert_eq!(closed_by_reset(&mut node), 2);
}

/// The peer may never take the end.
#[test]
fn a_stream_that_stalls_in_its_end_is_closed() {
    let mut node = Node::on_bus(0);
    let peer = Peer::with_room(300);
    node.ask(&peer, STREAM);
    peer.0.borrow_mut().room = 0;
    replace(&mut node);
    node.rest();
    node.pass(STALL_MS - 1);
    node.turn(&[]);
    assert_eq!(node.shard.streams(), 1);
    node.pass(1 + DEADLINE_SCAN_INTERVAL_MS);
    node.turn(&[]);
    assert!(peer.is_closed());
}

/// The first bytes of a stream are its response head and its first event. Neither is a message.
#[test]
fn a_stream_whose_first_bytes_are_sent_in_part_gets_their_rest_and_the_end() {
    for version in ["1.1", "1.0"] {
        let mut node = Node::on_bus(10);
        let probe = Peer::with_room(10_000);
        node.ask(&probe, stream(version, "").as_bytes());
        // All of the first event but the blank line at its end.
        let most = probe.take().find("\"replay\":10}").unwrap() + "\"replay\":10}".len();
        for room in [0, 1, most / 2, most] {
            let mut node = Node::on_bus(10);
            let peer = Peer::with_room(room);
            let token = node.ask(&peer, stream(version, "").as_bytes());
            replace(&mut node);
            peer.make_room(10_000);
            node.turn(&[(token, WRITABLE)]);
            node.rest();
            let text = peer.take();
            assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
            assert_eq!(seqs(&text), Vec::<u64>::new(), "{room}: {text}");
            let (_, first) = text.split_once("\"replay\":10}").expect(&text);
            end_of(first, version);
        }
    }
}

/// A stream may have copies of messages among its first bytes.
#[test]
fn copies_of_replaced_messages_are_not_sent() {
    let shared_history = |node: &mut Node| {
        node.shard.log.set_shared_history(SharedHistory {
            seqs: (29..131).filter(|seq| ![40, 41].contains(seq)).collect(),
            until_seq: 131,
        });
    };
    let mut node = Node::on_bus(130);
    shared_history(&mut node);
    let probe = Peer::with_room(1 << 20);
    node.ask(&probe, STREAM);
    let text = probe.take();
    let first_bytes = text.find("\"replay\":100}").unwrap() + 20;
    assert_eq!(
        seqs(&text)[..11],
        [29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39]
    );
    assert_eq!(seqs(&text).len(), 100);

    for (room, is_cut) in [(first_bytes - 50, false), (first_bytes + 60, true)] {
        let mut node = Node::on_bus(130);
        shared_history(&mut node);
        let peer = Peer::with_room(room);
        let token = node.ask(&peer, STREAM);
        replace(&mut node);
        peer.make_room(1 << 20);
        node.turn(&[(token, WRITABLE)]);
        node.rest();
        let text = peer.take();
        assert_eq!(seqs(&text), Vec::<u64>::new(), "{text}");
        assert_eq!(peer.is_closed(), is_cut);
        assert_eq!(text.ends_with("0\r\n\r\n"), !is_cut, "{text}");
        assert_eq!(closed_by_reset(&mut node), 1);
        node.shard.holdings();
    }
    // The shared history has gone with its messages.
    let mut node = Node::on_bus(130);
    shared_history(&mut node);
    node.turn_over(Lineage::new(OLD).next(NEW, 5), Some(1), 1..=140);
    let peer = Peer::with_room(1 << 20);
    node.ask(&peer, STREAM);
    assert_eq!(seqs(&peer.take()), (41..=140).collect::<Vec<_>>());
}

/// A cache would keep a complete response, and replay the old history to clients that reconnect.
#[test]
fn a_shared_stream_is_cut_off() {
    let mut node = Node::on_bus_with(10, |settings| {
        settings.fanout_life = Some(Duration::from_secs(10));
        settings.access = Access::new(None).fanned_out();
    });
    let (shared, over) = (Peer::with_room(10_000), Peer::with_room(10_000));
    let token = node.ask(&over, STREAM);
    // Its life is over, but its socket is full between two frames.
    over.0.borrow_mut().room = 0;
    over.take();
    node.follow(None, [11]);
    node.rest();
    for _ in 0..11 {
        node.pass(1_000);
        node.turn(&[]);
    }
    node.ask(&shared, STREAM);
    assert!(shared.take().contains("s-maxage="));
    replace(&mut node);
    node.rest();
    assert_eq!(shared.take(), "");
    assert!(shared.is_closed());
    over.make_room(10_000);
    node.turn(&[(token, WRITABLE)]);
    end_of(&over.take(), "1.1");
    assert_eq!(closed_by_reset(&mut node), 2);
}

/// The sweep has visited a part of the streams when the reset arrives.
#[test]
fn streams_in_the_middle_of_a_sweep_get_no_message_after_the_reset() {
    for session in [None, Some("a")] {
        let mut node = Node::on_bus(10);
        let peers: Vec<Peer> = (0..3 * SLICE_WRITES)
            .map(|_| {
                let peer = Peer::with_room(10_000);
                node.ask(&peer, stream("1.1", "?sessionId=a").as_bytes());
                peer
            })
            .collect();
        node.rest();
        for peer in &peers {
            peer.take();
        }
        node.follow(session, [11]);
        node.turn(&[]);
        assert!(node.shard.is_sweeping());
        let has_message: Vec<bool> = peers
            .iter()
            .map(|peer| !seqs(&peer.take()).is_empty())
            .collect();
        assert!(has_message.contains(&true) && has_message.contains(&false));
        replace(&mut node);
        node.rest();
        for peer in &peers {
            end_of(&peer.take(), "1.1");
        }
        assert_eq!(node.shard.sessions(), 0);
    }
}

#[test]
fn streams_that_end_in_a_drain_keep_their_delay_and_get_no_further_message() {
    let mut node = Node::on_bus(0);
    let peers: Vec<(Peer, Token)> = (0..2)
        .map(|_| {
            let peer = Peer::with_room(10_000);
            let token = node.ask(&peer, STREAM);
            peer.take();
            (peer, token)
        })
        .collect();
    let [(begun, begun_token), (due, due_token)] = &peers[..] else {
        unreachable!()
    };
    begun.0.borrow_mut().room = 10;
    due.0.borrow_mut().room = 0;
    node.shard.start_drain(node.now);
    node.pass(4_000);
    node.turn(&[]);
    node.rest();
    let ending = |node: &mut Node, token: &Token| {
        let stream = node.shard.connections.stream_mut(token.slot as usize);
        stream.unwrap().ending
    };
    assert_eq!(
        ending(&mut node, begun_token),
        Ending::Begun {
            reason: EndReason::Due
        }
    );
    let Ending::Due { retry_ms } = ending(&mut node, due_token) else {
        panic!("its end is not due");
    };
    node.follow(None, [1]);
    replace(&mut node);
    for (peer, token) in &peers {
        peer.make_room(10_000);
        node.turn(&[(*token, WRITABLE)]);
    }
    node.rest();
    end_of(&begun.take(), "1.1");
    assert_eq!(end_of(&due.take(), "1.1"), u64::from(retry_ms));
    assert_eq!(closed_by_reset(&mut node), 1);
}

#[test]
fn in_a_handover_streams_end_and_requests_in_flight_leave() {
    let mut node = Node::on_bus(10);
    let (stream, upload) = (Peer::with_room(10_000), Peer::with_room(10_000));
    node.ask(&stream, STREAM);
    node.ask(&upload, b"POST /api/webhook HTTP/1.1\r\n");
    stream.take();
    node.shard.hold();
    replace(&mut node);
    node.shard.hand_over(node.now);
    node.rest();
    end_of(&stream.take(), "1.1");
    assert_eq!(node.poller.handed_over.len(), 1);
    assert_eq!(upload.take(), "");
    assert_eq!(closed_by_reset(&mut node), 1);
}

/// A second reset may arrive before a stream could send its end.
#[test]
fn a_reset_of_a_reset_ends_a_stream_once() {
    let mut node = Node::on_bus(10);
    let peer = Peer::with_room(10_000);
    let token = node.ask(&peer, STREAM);
    peer.take();
    peer.0.borrow_mut().room = 0;
    node.follow(None, [11]);
    node.rest();
    for room in [0, 40, 10_000] {
        node.turn_over(Lineage::new(NEW), Some(1), 1..=3);
        peer.make_room(room);
        node.turn(&[(token, WRITABLE)]);
        node.rest();
    }
    end_of(&peer.take(), "1.1");
    assert_eq!(closed_by_reset(&mut node), 1);
}

/// What a client has of the old history may be gone, so a long poll is answered even without news.
#[test]
fn long_polls_are_answered_from_the_new_history() {
    let mut node = Node::on_bus(10);
    let poll = |node: &mut Node, query: &str| {
        let peer = Peer::with_room(1 << 20);
        let tag = if query.contains("since") {
            ""
        } else {
            "If-None-Match: *\r\n"
        };
        let line = format!("GET /api/webhook/messages?wait=25&{query} HTTP/1.1");
        let request = format!("{line}\r\nHost: a\r\n{tag}\r\n");
        node.ask(&peer, request.as_bytes());
        assert_eq!(peer.take(), "");
        peer
    };
    let since = format!("since={OLD}-10");
    let (all, session, any) = (
        poll(&mut node, &since),
        poll(&mut node, &format!("{since}&sessionId=a")),
        poll(&mut node, "sessionId=b"),
    );
    let ahead = poll(&mut node, &format!("since={NEW}-8"));
    replace(&mut node);
    node.rest();
    for peer in [&all, &session] {
        let text = peer.take();
        assert_eq!(seqs(&text), [6, 7]);
        assert!(text.contains("\"reset\":false"), "{text}");
        assert!(
            text.contains(&format!("\"lastEventId\":\"{NEW}-7\"")),
            "{text}"
        );
    }
    assert!(any.take().starts_with("HTTP/1.1 304 "));
    // The new history has not reached that id yet.
    assert_eq!(ahead.take(), "");
    node.follow(None, [8]);
    node.rest();
    assert_eq!(ahead.take(), "", "the poll goes on");
    node.follow(None, [9]);
    node.rest();
    assert_eq!(seqs(&ahead.take()), [9]);
    assert_eq!(node.shard.sweeps.waits.members(), 0);
    assert_eq!(node.shard.sessions(), 0);
}

/// A page of the old history may have the same seqs as one of the new.
#[test]
fn the_encoded_page_is_of_the_new_history() {
    let mut node = Node::on_bus(7);
    let get = b"GET /api/webhook/messages HTTP/1.1\r\nHost: a\r\n\r\n";
    let (old, new) = (Peer::with_room(10_000), Peer::with_room(10_000));
    node.ask(&old, get);
    let old = old.take();
    replace(&mut node);
    node.ask(&new, get);
    let new = new.take();
    assert!(old.contains(&format!("{OLD}-7")) && !old.contains(&NEW.to_string()));
    assert!(new.contains(&format!("{NEW}-7")) && !new.contains(&OLD.to_string()));
    let tag = |text: &str| {
        text.split_once("ETag: ")
            .unwrap()
            .1
            .split("\r\n")
            .next()
            .unwrap()
            .to_owned()
    };
    assert_ne!(tag(&old), tag(&new));
}
