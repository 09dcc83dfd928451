//! Streams and long polls of tokens: the warning, the end, and keys that are gone.

use super::*;
use crate::limits::TOKEN_NOTICE_MS;
use crate::testkit::{sign_token, token_keys};
use crate::tokens::TokenKeys;

fn guarded() -> Node {
    Node::with(|settings| {
        settings.access = Access::new(None).with_tokens(token_keys(), false);
        settings.held_bytes_max = 1 << 20;
    })
}

impl Node {
    /// The target's parameter with a token for all messages that ends in so many seconds.
    fn token(&self, seconds: u64) -> String {
        let exp = self.now.unix_ms / 1000 + seconds;
        let claims = format!(r#"{{"exp":{exp},"hookcast":{{"everything":true}}}}"#);
        format!("token={}", sign_token(&claims))
    }

    /// Opens a stream of a token that ends in so many seconds.
    fn ask_with_token(&mut self, peer: &Peer, seconds: u64) -> Token {
        let token = self.token(seconds);
        let request = format!("GET /api/webhook/stream?{token} HTTP/1.1\r\nHost: a\r\n\r\n");
        let token = self.ask(peer, request.as_bytes());
        self.turn(&[]);
        token
    }
}

const EXPIRED: &str = "data: {\"type\":\"token_expired\"}\n\n\r\n0\r\n\r\n";
const EXPIRING: &str = "data: {\"type\":\"token_expiring\",\"expiresAt\":";

#[test]
fn a_stream_is_warned_a_minute_before_the_end_and_ends_in_time() {
    let mut node = guarded();
    let peer = Peer::with_room(10_000);
    let begin_ms = node.now.unix_ms;
    node.ask_with_token(&peer, 200);
    assert!(!peer.take().contains("token_"));
    assert_eq!(
        node.shard.idle_ms(node.now).map(|ms| ms <= 140_000),
        Some(true)
    );
    node.pass(139_999 - begin_ms % 1000);
    node.turn(&[]);
    assert!(!peer.take().contains("token_"));
    node.pass(1);
    node.rest();
    let end_ms = (begin_ms / 1000 + 200) * 1000;
    assert!(
        peer.take()
            .ends_with(&format!("{EXPIRING}{end_ms}}}\n\n\r\n"))
    );
    node.pass(TOKEN_NOTICE_MS - 1);
    node.publish(1, 1);
    node.rest();
    let text = peer.take();
    assert!(
        text.contains("webhook_message") && !text.contains("token_"),
        "{text}"
    );
    // A message that arrives in the turn of the end is too late.
    node.pass(1);
    node.publish(1, 1);
    node.turn(&[]);
    let text = peer.take();
    assert!(
        !text.contains("webhook_message") && text.ends_with(EXPIRED),
        "{text}"
    );
    assert_eq!(node.shard.streams(), 0);
    assert!(peer.0.borrow().is_shut);
    assert_eq!(node.shard.expiry.left_ms(node.now), None);
}

#[test]
fn a_stream_with_less_than_two_minutes_is_warned_after_half_of_them() {
    let mut node = guarded();
    let peer = Peer::with_room(10_000);
    node.ask_with_token(&peer, 10);
    let left_ms = 10_000 - node.now.unix_ms % 1000;
    node.pass(left_ms / 2 - 1);
    node.rest();
    let text = peer.take();
    assert!(
        text.contains("connected") && !text.contains(EXPIRING),
        "{text}"
    );
    node.pass(1);
    node.rest();
    assert!(peer.take().contains(EXPIRING));
    node.pass(left_ms.div_ceil(2));
    node.rest();
    assert!(peer.take().ends_with(EXPIRED));
}

/// A token ends at a time of the wall clock.
#[test]
fn a_clock_that_is_set_counts_at_once() {
    let mut node = guarded();
    let peer = Peer::with_room(10_000);
    node.ask_with_token(&peer, 1000);
    peer.take();
    node.now.unix_ms += 2_000_000;
    node.publish(1, 1);
    node.turn(&[]);
    let text = peer.take();
    assert!(
        !text.contains("webhook_message") && text.ends_with(EXPIRED),
        "{text}"
    );
}

#[test]
fn a_closed_stream_leaves_nothing_behind() {
    let mut node = guarded();
    for seconds in [5, 100, 1_000_000_000] {
        let peer = Peer::with_room(10_000);
        let token = node.ask_with_token(&peer, seconds);
        assert!(node.shard.expiry.left_ms(node.now).is_some());
        peer.0.borrow_mut().has_ended = true;
        node.turn(&[(token, HUNG_UP)]);
        assert!(peer.is_closed());
        assert_eq!(node.shard.expiry.left_ms(node.now), None);
    }
}

/// The socket takes nothing at the end of the token. Messages that are published later must not reach the
/// client, however slowly it reads.
#[test]
fn a_stream_that_is_blocked_at_its_end_is_closed() {
    for room in [0, 300] {
        let mut node = guarded();
        let peer = Peer::with_room(100_000);
        let token = node.ask_with_token(&peer, 70);
        peer.take();
        peer.0.borrow_mut().room = room;
        node.publish(1, 2000);
        node.rest();
        // The warning does not fit into the frame.
        node.pass(15_000);
        node.rest();
        node.pass(15_000);
        peer.make_room(1);
        node.turn(&[(token, WRITABLE)]);
        node.pass(25_000);
        peer.make_room(1);
        node.turn(&[(token, WRITABLE)]);
        assert!(!peer.is_closed());
        assert!(!peer.take().contains("token_"));
        node.pass(15_000);
        node.rest();
        assert!(peer.is_closed(), "{room}");
        assert_eq!(node.shard.expiry.left_ms(node.now), None);
    }
}

/// Between frames, too: its end would wait for the socket.
#[test]
fn a_stream_whose_socket_takes_nothing_is_closed_at_its_end() {
    let mut node = guarded();
    let peer = Peer::with_room(100_000);
    node.ask_with_token(&peer, 20);
    peer.take();
    peer.0.borrow_mut().room = 0;
    node.publish(1, 2000);
    node.rest();
    node.pass(20_000);
    node.rest();
    assert!(peer.is_closed());
    assert_eq!(peer.take(), "");
}

/// The socket takes bytes again in the turn of the end, before the sweep.
#[test]
fn the_end_is_never_within_a_frame() {
    let mut node = guarded();
    let peer = Peer::with_room(100_000);
    let token = node.ask_with_token(&peer, 20);
    peer.take();
    peer.0.borrow_mut().room = 300;
    node.publish(1, 2000);
    node.rest();
    assert_eq!(peer.take().len(), 300);
    node.pass(20_000);
    peer.make_room(100_000);
    node.turn(&[(token, WRITABLE)]);
    node.rest();
    assert!(peer.is_closed());
    let text = peer.take();
    assert!(!text.contains("token_"), "{text}");
}

#[test]
fn the_warning_comes_between_frames_after_a_blocked_one() {
    let mut node = guarded();
    let peer = Peer::with_room(100_000);
    let token = node.ask_with_token(&peer, 20);
    peer.take();
    peer.0.borrow_mut().room = 300;
    node.publish(1, 2000);
    node.rest();
    node.pass(15_000);
    node.rest();
    assert_eq!(peer.take().len(), 300);
    peer.make_room(100_000);
    node.turn(&[(token, WRITABLE)]);
    node.rest();
    assert!(peer.take().ends_with("\n\n\r\n"));
    node.pass(1_000);
    node.rest();
    assert!(peer.take().contains(EXPIRING));
    node.pass(60_000);
    node.rest();
    assert!(peer.take().ends_with(EXPIRED));
}

#[test]
fn streams_and_long_polls_end_when_their_key_is_gone() {
    let mut node = guarded();
    let streams: Vec<Peer> = (0..200)
        .map(|_| {
            let peer = Peer::with_room(10_000);
            node.ask_with_token(&peer, 1000);
            peer
        })
        .collect();
    let anonymous = Peer::with_room(10_000);
    node.ask(&anonymous, STREAM);
    let poll = Peer::with_room(10_000);
    let token = node.token(1000);
    let request = format!("GET /api/webhook/messages?wait=20&{token} HTTP/1.1\r\nHost: a\r\n\r\n");
    node.ask(&poll, request.as_bytes());
    node.rest();
    assert_eq!(poll.take(), "");
    node.shard.use_token_keys(token_keys());
    node.rest();
    assert_eq!(node.shard.streams(), streams.len() + 1);

    node.shard.use_token_keys(Arc::new(TokenKeys::default()));
    // Too late for all of them, however long their ends take.
    node.publish(1, 1);
    node.rest();
    for peer in &streams {
        let text = peer.take();
        assert!(
            !text.contains("webhook_message") && text.ends_with(EXPIRED),
            "{text}"
        );
    }
    let text = poll.take();
    assert!(
        text.starts_with("HTTP/1.1 401 ") && !text.contains("webhook_message"),
        "{text}"
    );
    assert_eq!(node.shard.streams(), 1);
    let text = anonymous.take();
    assert!(
        text.contains("webhook_message") && !text.contains("token_"),
        "{text}"
    );
    assert_eq!(node.shard.expiry.left_ms(node.now), None);
    // A request with the old token.
    let peer = Peer::with_room(10_000);
    node.ask_with_token(&peer, 1000);
    assert!(peer.take().starts_with("HTTP/1.1 401 "));
}

/// Without a message, too: nothing else would wake it before its deadline.
#[test]
fn a_long_poll_ends_at_once_when_its_key_is_gone() {
    let mut node = guarded();
    let poll = Peer::with_room(10_000);
    let token = node.token(1000);
    let request = format!("GET /api/webhook/messages?wait=20&{token} HTTP/1.1\r\nHost: a\r\n\r\n");
    node.ask(&poll, request.as_bytes());
    node.rest();
    assert_eq!(poll.take(), "");
    node.shard.use_token_keys(Arc::new(TokenKeys::default()));
    node.rest();
    let text = poll.take();
    assert!(text.starts_with("HTTP/1.1 401 "), "{text}");
}

#[test]
fn a_long_poll_waits_no_longer_than_its_token() {
    let mut node = guarded();
    let peer = Peer::with_room(10_000);
    let token = node.token(5);
    let request = format!("GET /api/webhook/messages?wait=20&{token} HTTP/1.1\r\nHost: a\r\n\r\n");
    node.ask(&peer, request.as_bytes());
    node.rest();
    node.pass(4_000);
    node.rest();
    assert_eq!(peer.take(), "");
    // The deadline is found up to a second late. A message of that second is not for this client.
    node.pass(1_000);
    node.publish(1, 1);
    node.rest();
    let text = peer.take();
    assert!(
        text.starts_with("HTTP/1.1 401 ") && !text.contains("webhook_message"),
        "{text}"
    );
}
