//! Several clients that share the memory of a shard: 20,000 bytes.

use super::*;
use crate::hub::Committer;
use crate::limits::{DEADLINE_SCAN_INTERVAL_MS, PUBLISHING_BYTES_MAX, SHARE_STALLED_MS_MIN};

impl Peer {
    /// A connection of the client with this number.
    fn of_client(number: u8, room: usize) -> Peer {
        let peer = Peer::with_room(room);
        peer.0.borrow_mut().address = Some([192, 0, 2, number].into());
        peer
    }
}

const HISTORY: &[u8] = b"GET /api/webhook/messages HTTP/1.1\r\nHost: a\r\n\r\n";

/// A node with a history of `messages`, 800 bytes each.
fn with_history(messages: usize, held_bytes_max: usize) -> Node {
    let mut node = Node::with(|settings| settings.held_bytes_max = held_bytes_max);
    node.publish(messages, 800);
    node
}

/// A webhook of about 3,500 bytes, split before the last two.
fn upload() -> (Vec<u8>, Vec<u8>) {
    let body = format!("{{\"message\":\"{}\"}}", "x".repeat(3_400));
    let head = "POST /api/webhook HTTP/1.1\r\nHost: a\r\nContent-Length:";
    let mut bytes = format!("{head} {}\r\n\r\n{body}", body.len()).into_bytes();
    let last = bytes.split_off(bytes.len() - 2);
    (bytes, last)
}

/// Fills the memory with stalled uploads of one client, one each millisecond.
fn fill(node: &mut Node, client: u8) -> Vec<(Peer, Token)> {
    let (most, _) = upload();
    let mut held = Vec::new();
    loop {
        let peer = Peer::of_client(client, 10_000);
        let token = node.ask(&peer, &most);
        if !peer.take().is_empty() {
            assert!(held.len() > 2, "only {} uploads had room", held.len());
            return held;
        }
        held.push((peer, token));
        node.pass(1);
    }
}

#[test]
fn an_upload_ends_the_longest_stalled_upload_of_another_client() {
    let mut node = Node::new();
    let (most, last) = upload();
    let mut held = fill(&mut node, 1);
    // The oldest upload makes progress.
    held[0].0.send(&last[..1]);
    node.turn(&[(held[0].1, READABLE)]);
    let other = Peer::of_client(2, 10_000);
    let token = node.ask(&other, &most);
    assert_eq!(other.take(), "");
    let ended: Vec<String> = held.iter().map(|(peer, _)| peer.take()).collect();
    assert!(ended[1].starts_with("HTTP/1.1 503 "), "{ended:?}");
    assert!(ended[1].contains("\r\nRetry-After: "), "{ended:?}");
    assert!(held[1].0.0.borrow().is_shut && !held[1].0.is_closed());
    let count = ended.iter().filter(|answer| !answer.is_empty()).count();
    assert_eq!(count, 1, "{ended:?}");
    node.shard.holdings();

    // All remaining uploads are served, that of the other client too.
    held.remove(1);
    held.push((other, token));
    for (index, (peer, token)) in held.iter().enumerate() {
        peer.send(&last[usize::from(index == 0)..]);
        node.turn(&[(*token, READABLE)]);
        assert!(peer.take().starts_with("HTTP/1.1 200 "));
    }
}

/// The answer that needs room is already encoded when uploads are refused for it.
#[test]
fn an_answer_that_ends_uploads_for_its_room_arrives_unchanged() {
    let mut node = with_history(8, 20_000);
    let whole = Peer::of_client(3, 1 << 20);
    node.ask(&whole, HISTORY);
    let expected = whole.take();
    assert!(
        (7_000..9_000).contains(&expected.len()),
        "{} bytes",
        expected.len()
    );
    let held = fill(&mut node, 1);
    let reader = Peer::of_client(2, 1_000);
    let token = node.ask(&reader, HISTORY);
    let refused = held
        .iter()
        .filter(|(peer, _)| !peer.take().is_empty())
        .count();
    assert!(refused > 1, "{refused} uploads were refused");
    let mut seen = reader.take();
    while seen.len() < expected.len() {
        reader.make_room(1_000);
        node.turn(&[(token, WRITABLE)]);
        let more = reader.take();
        assert!(!more.is_empty(), "{} of {}", seen.len(), expected.len());
        seen.push_str(&more);
    }
    assert_eq!(seen, expected);
    node.shard.holdings();
}

/// Of two readers of one client, the one that takes nothing is cut off to make room for another
/// client.
#[test]
fn a_stalled_reader_is_cut_off_before_one_that_reads() {
    let mut node = with_history(15, 40_000);
    let readers: Vec<(Peer, Token)> = (0..2)
        .map(|_| {
            let peer = Peer::of_client(1, 500);
            let token = node.ask(&peer, HISTORY);
            (peer, token)
        })
        .collect();
    readers[0].0.make_room(10);
    node.turn(&[(readers[0].1, WRITABLE)]);
    let (most, _) = upload();
    let uploads: Vec<Peer> = (0..5).map(|_| Peer::of_client(2, 10_000)).collect();
    for upload in &uploads {
        node.ask(upload, &most);
        if readers[1].0.is_closed() {
            break;
        }
    }
    assert!(readers[1].0.is_closed() && !readers[0].0.is_closed());
    assert!(uploads.iter().all(|upload| upload.take().is_empty()));
}

#[test]
fn a_client_ends_an_upload_of_its_own_only_after_a_stall() {
    let mut node = Node::new();
    let (most, _) = upload();
    let held = fill(&mut node, 1);
    node.pass(SHARE_STALLED_MS_MIN - held.len() as u64 - 1);
    let refused = Peer::of_client(1, 10_000);
    node.ask(&refused, &most);
    assert!(refused.take().starts_with("HTTP/1.1 503 "));
    assert!(held.iter().all(|(peer, _)| peer.take().is_empty()));
    node.pass(1);
    let admitted = Peer::of_client(1, 10_000);
    node.ask(&admitted, &most);
    assert_eq!(admitted.take(), "");
    assert!(held[0].0.take().starts_with("HTTP/1.1 503 "));
    assert!(held[1..].iter().all(|(peer, _)| peer.take().is_empty()));
}

/// If the shared history is in another order, a new stream holds copies of its first messages.
#[test]
fn a_client_loses_streams_that_hold_copies_to_make_room_for_another() {
    let mut node = Node::with(|settings| settings.held_bytes_max = 1 << 20);
    node.publish(130, 1_000);
    let seqs: Vec<u64> = (29..131).filter(|seq| ![40, 41].contains(seq)).collect();
    assert!(node.hub.set_shared_history(SharedHistory {
        seqs,
        until_seq: 131,
    }));
    node.take_batches();
    let idle: Vec<Peer> = (0..200).map(|_| Peer::of_client(1, 100)).collect();
    for peer in &idle {
        node.ask(peer, STREAM);
    }
    assert!(node.shard.holdings().own_bytes > 500_000);
    let other = Peer::of_client(2, 1 << 20);
    node.ask(&other, STREAM);
    assert!(other.take().contains("\"replay\":100"));
    let closed = idle.iter().filter(|peer| peer.is_closed()).count();
    assert!((1..100).contains(&closed), "{closed} streams were ended");
    node.shard.holdings();
    node.shard.close_all();
    assert_eq!(node.shard.connections.holding(), 0);
}

/// The spare capacity of a buffer does not count against a short request.
#[test]
fn a_small_request_has_room_although_its_buffer_was_large() {
    let mut node = Node::new();
    // Pipelined requests: 100 complete ones, and the beginning of one more.
    let status = b"GET /api/webhook HTTP/1.1\r\nHost: a\r\n\r\n";
    let peer = Peer::with_room(1 << 20);
    let token = node.ask(&peer, &[&status.repeat(100), &status[..20]].concat());
    while node.shard.unfinished() > 0 {
        node.turn(&[]);
    }
    assert_eq!(answers(&peer), 100);
    assert_eq!(
        (
            node.shard.connections.holding(),
            node.shard.holdings().readers
        ),
        (0, 1)
    );
    fill(&mut node, 1);
    peer.send(&status[20..]);
    node.turn(&[(token, READABLE)]);
    assert_eq!(answers(&peer), 1);
}

/// A node with commits to disk that happen only when the test calls the committer.
fn with_disk() -> (Node, Committer) {
    let mut node = Node::new();
    let (hub, committer, inbox) = hub_with_commits(4000);
    node.shard = Shard::new(Arc::new(settings()), &hub, 1, node.now);
    (node.hub, node.poller.inbox) = (hub, inbox);
    (node, committer)
}

impl Node {
    /// Passes the time with a turn for each scan of the deadlines.
    fn stall(&mut self, ms: u64) {
        for _ in 0..ms / DEADLINE_SCAN_INTERVAL_MS {
            self.pass(DEADLINE_SCAN_INTERVAL_MS);
            self.turn(&[]);
        }
    }
}

/// The number of webhooks of a peer stored since the last call. The peer must have no other answer.
fn stored(peer: &Peer) -> usize {
    let text = peer.take();
    let stored = text.matches("HTTP/1.1 200 ").count();
    assert_eq!(text.matches("HTTP/1.1 ").count(), stored, "{text}");
    stored
}

/// A webhook of a few bytes may have a head of 16 KiB, which the hub does not count.
#[test]
fn webhooks_count_as_held_until_they_are_answered() {
    let (mut node, mut committer) = with_disk();
    let request = format!(
        "POST /api/webhook HTTP/1.1\r\nHost: a\r\nX: {}\r\nContent-Length: 15\r\n\r\n{{\"message\":\"a\"}}",
        "x".repeat(15_000)
    );
    let peers: Vec<Peer> = (0..3_000).map(|_| Peer::with_room(1_000)).collect();
    for peer in &peers {
        node.ask(peer, request.as_bytes());
    }
    let [_, waiting, _] = node.shard.publishing.counts();
    let most = PUBLISHING_BYTES_MAX / 15_000 + 1;
    assert!((500..=most).contains(&waiting), "{waiting} of {most}");
    assert!(!node.shard.has_drafts());
    assert_ne!(
        node.shard.idle_ms(node.now),
        Some(0),
        "the shard waits for the disk"
    );
    // A connection that waits for the disk does not time out, not even in the turn in which the hub
    // continues.
    node.stall(2 * REQUEST_DEADLINE_MS - DEADLINE_SCAN_INTERVAL_MS);
    node.pass(DEADLINE_SCAN_INTERVAL_MS);
    assert_eq!(node.shard.connections(), peers.len());
    let metrics = Metrics::new(Arc::default());
    let mut answered = 0;
    while answered < peers.len() {
        let now = node.now;
        assert!(committer.commit(&node.hub, &metrics, || now));
        // One turn for the outcomes, one for the requests that were put off.
        node.turn(&[]);
        node.turn(&[]);
        answered += peers.iter().map(stored).sum::<usize>();
    }
    assert_eq!(node.shard.publishing.counts(), [0; 3]);
}

/// Only connections that are still of use keep their places while the hub is behind.
#[test]
fn peers_that_hang_up_while_the_hub_is_behind_are_closed() {
    let (mut node, _committer) = with_disk();
    let body = "x".repeat(3_500);
    let request = format!(
        "POST /api/webhook HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{{\"message\":\"{body}\"}}",
        body.len() + 14
    );
    while !node.shard.publishing.is_full() {
        node.ask(&Peer::with_room(1_000), request.as_bytes());
    }
    let before = node.shard.connections();
    let (left, stays) = (Peer::with_room(1_000), Peer::with_room(1_000));
    let token = node.ask(&left, request.as_bytes());
    node.ask(&stays, request.as_bytes());
    left.0.borrow_mut().has_ended = true;
    node.turn(&[(token, HUNG_UP)]);
    let surplus = Peer::with_room(1_000);
    let token = node.shard.open(surplus.clone(), Role::Surplus, node.now);
    surplus.send(request.as_bytes());
    node.turn(&[(token, READABLE)]);
    assert!(
        surplus.take().starts_with("HTTP/1.1 503 "),
        "refused at once"
    );
    node.stall(2 * REQUEST_DEADLINE_MS);
    assert!(left.is_closed());
    assert!(!stays.is_closed());
    assert_eq!(node.shard.connections(), before + 1);
}

/// The shard has read a complete request, and does not parse it while the hub is behind.
#[test]
fn a_read_request_of_a_half_closed_peer_outlasts_the_wait_for_the_hub() {
    let (mut node, mut committer) = with_disk();
    let peer = Peer::with_room(10_000);
    let token = node.open(&peer);
    let ask = b"GET /api/webhook HTTP/1.1\r\nHost: a\r\n\r\n";
    peer.send(&ask.repeat(READS_PER_TURN + 1));
    peer.0.borrow_mut().has_ended = true;
    node.shard.ready(token, READABLE, node.now);
    let body = "x".repeat(3_500);
    let request = format!(
        "POST /api/webhook HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{{\"message\":\"{body}\"}}",
        body.len() + 14
    );
    while !node.shard.publishing.is_full() {
        let other = Peer::with_room(1_000);
        let token = node.open(&other);
        other.send(request.as_bytes());
        node.shard.ready(token, READABLE, node.now);
    }
    node.turn(&[(token, HUNG_UP)]);
    node.stall(2 * REQUEST_DEADLINE_MS);
    let metrics = Metrics::new(Arc::default());
    let now = node.now;
    while node.shard.publishing.is_full() {
        assert!(committer.commit(&node.hub, &metrics, || now));
        node.turn(&[]);
    }
    node.turn(&[]);
    assert_eq!(stored(&peer), READS_PER_TURN + 1);
}

/// A body that is skipped after an early answer may need room mid-turn when there is none. A second
/// answer would count as that of the next request.
#[test]
fn an_answered_request_gets_no_second_answer_for_lack_of_room() {
    let mut node = Node::with(|settings| settings.body_bytes_max = 100_000);
    let _held = fill(&mut node, 1);
    let peer = Peer::of_client(1, 10_000);
    let head = "POST /nowhere HTTP/1.1\r\nHost: a\r\nContent-Length: 60000\r\n\r\n";
    let mut bytes = head.as_bytes().to_vec();
    bytes.resize(7 * READ_BYTES / 2, b'x');
    node.ask(&peer, &bytes);
    node.turn(&[]);
    let answers = peer.take();
    assert!(answers.starts_with("HTTP/1.1 404 "), "{answers}");
    assert_eq!(answers.matches("HTTP/1.1 ").count(), 1, "{answers}");
    node.shard.holdings();
}

/// A request that is answered at once needs no room for its long head.
#[test]
fn a_history_answered_at_once_ends_no_other_connection() {
    let mut node = with_history(1, 20_000);
    let held = fill(&mut node, 1);
    let peer = Peer::of_client(2, 10_000);
    let cookie = "x".repeat(6_000);
    let request =
        format!("GET /api/webhook/messages HTTP/1.1\r\nHost: a\r\nCookie: {cookie}\r\n\r\n");
    node.ask(&peer, request.as_bytes());
    assert!(peer.take().starts_with("HTTP/1.1 200 "));
    assert!(held.iter().all(|(peer, _)| peer.take().is_empty()));
    node.shard.holdings();
}
