//! Event ids of a bus: those of earlier epochs, and those that are ahead of this node.

use super::*;
use crate::hub::Turnover;
use crate::limits::{DEADLINE_SCAN_INTERVAL_MS, RESUME_AHEAD_MS_MAX};
use crate::message::{Epoch, Message, MessageId};
use crate::sse::event_id::EventId;
use crate::sse::lineage::Lineage;

/// The first epoch of the nodes in these tests, and one that is greater than any of them.
const FIRST: Epoch = Epoch(10);
const LATER: Epoch = Epoch(20);
const FORGED: Epoch = Epoch(u64::MAX);

impl Node {
    /// A node of a bus, whose history has `messages` messages of the first epoch.
    pub(super) fn on_bus(messages: u64) -> Node {
        Node::on_bus_with(messages, |_| {})
    }

    pub(super) fn on_bus_with(messages: u64, set: impl FnOnce(&mut Settings)) -> Node {
        let mut node = Node::with(|settings| {
            settings.held_bytes_max = 1 << 20;
            set(settings);
        });
        node.shard.resumption.is_shared = true;
        node.turn_over(Lineage::new(FIRST), None, 1..=messages);
        node
    }

    /// Delivers the batch of a turnover with the messages of these seqs.
    pub(super) fn turn_over(
        &mut self,
        lineage: Lineage,
        replaced_from: Option<u64>,
        seqs: impl IntoIterator<Item = u64>,
    ) {
        let epoch = lineage.epoch();
        let turnover = Turnover {
            lineage: Arc::new(lineage),
            replaced_from,
        };
        let messages: Vec<_> = seqs.into_iter().map(|seq| (seq, message(seq))).collect();
        let batch = Batch::of_messages(epoch, &messages, Some(turnover));
        self.shard.deliver(&batch);
    }

    /// Delivers messages of the present epoch, for a session or for all.
    pub(super) fn follow(&mut self, session: Option<&str>, seqs: impl IntoIterator<Item = u64>) {
        let messages = seqs.into_iter().map(|seq| {
            let session = session.and_then(|name| SessionId::parse(name).unwrap());
            let message = Message {
                session,
                ..message(seq)
            };
            (seq, message)
        });
        let messages: Vec<_> = messages.collect();
        let epoch = self.shard.resumption.lineage.epoch();
        self.shard
            .deliver(&Batch::of_messages(epoch, &messages, None));
    }

    /// Opens a stream that names an event id, in one turn.
    fn resume(&mut self, peer: &Peer, epoch: Epoch, seq: u64) -> Token {
        self.ask(peer, resume_after(epoch, seq).as_bytes())
    }

    /// The totals of waits: reached and expired.
    fn waits(&mut self) -> [u64; 2] {
        let metrics = Metrics::new(Arc::default());
        self.shard.tally_mut().flush(&metrics);
        [Counter::ResumesReached, Counter::ResumesExpired].map(|counter| metrics.total(counter))
    }

    /// Passes the longest wait, and runs the turns that end it.
    fn expire(&mut self) {
        self.pass(RESUME_AHEAD_MS_MAX - 1);
        self.turn(&[]);
        self.pass(1 + DEADLINE_SCAN_INTERVAL_MS);
        self.turn(&[]);
        self.rest();
    }
}

/// A message whose content says its seq.
pub(super) fn message(seq: u64) -> Message {
    Message {
        id: MessageId::from_u128(u128::from(seq)),
        timestamp_ms: 1_700_000_000_000,
        session: None,
        content: format!("m{seq}."),
        label: None,
        identity: None,
    }
}

fn id(epoch: Epoch, seq: u64) -> String {
    EventId { epoch, seq }.to_string()
}

pub(super) fn resume_after(epoch: Epoch, seq: u64) -> String {
    let id = id(epoch, seq);
    format!("GET /api/webhook/stream HTTP/1.1\r\nHost: a\r\nLast-Event-ID: {id}\r\n\r\n")
}

fn get(query: &str) -> String {
    format!("GET /api/webhook/messages?{query} HTTP/1.1\r\nHost: a\r\n\r\n")
}

/// The seqs of the messages in a text, as their contents say.
pub(super) fn seqs(text: &str) -> Vec<u64> {
    let contents = text.split("\"content\":\"m").skip(1);
    let seqs = contents.map(|rest| rest.split('.').next().unwrap().parse().unwrap());
    seqs.collect()
}

#[test]
fn an_id_of_an_earlier_epoch_resumes_as_far_as_it_was_carried_over() {
    let mut node = Node::on_bus(130);
    node.turn_over(Lineage::new(FIRST).next(LATER, 128), None, 131..=140);
    for (epoch, seq, first) in [(FIRST, 100, 101), (FIRST, 128, 129), (LATER, 139, 140)] {
        let peer = Peer::with_room(1 << 20);
        node.resume(&peer, epoch, seq);
        let text = peer.take();
        assert_eq!(seqs(&text), (first..=140).collect::<Vec<_>>());
        // The place of the first event is of the current epoch.
        assert!(
            text.contains(&format!("id: {}\n", id(LATER, seq))),
            "{text}"
        );

        let peer = Peer::with_room(1 << 20);
        node.ask(&peer, get(&format!("since={}", id(epoch, seq))).as_bytes());
        let text = peer.take();
        assert_eq!(seqs(&text), (first..=140).collect::<Vec<_>>());
        assert!(text.contains("\"reset\":false"), "{text}");
        let last_id = format!("\"lastEventId\":\"{}\"", id(LATER, 140));
        assert!(text.contains(&last_id), "{text}");
    }
    // 129 of the first epoch was lost; the message with that seq is another one, and the client gets it.
    let peer = Peer::with_room(1 << 20);
    node.resume(&peer, FIRST, 129);
    assert_eq!(seqs(&peer.take()), (129..=140).collect::<Vec<_>>());
    assert_eq!(node.waits(), [0, 0]);
}

#[test]
fn the_newest_message_is_not_ahead_and_the_next_one_is() {
    let mut node = Node::on_bus(10);
    let (newest, next) = (Peer::with_room(10_000), Peer::with_room(10_000));
    node.resume(&newest, FIRST, 10);
    node.resume(&next, FIRST, 11);
    assert!(newest.take().contains("\"replay\":0"));
    assert_eq!(next.take(), "", "it waits");
    assert_eq!(node.shard.streams(), 1);
    node.follow(None, [11]);
    node.rest();
    assert_eq!(seqs(&newest.take()), [11]);
    let text = next.take();
    assert!(text.contains("\"replay\":0"), "{text}");
    assert!(text.contains(&format!("id: {}\n", id(FIRST, 11))), "{text}");
    node.follow(None, [12]);
    node.rest();
    assert_eq!(seqs(&next.take()), [12]);
    assert_eq!(node.waits(), [1, 0]);
}

/// The message that the node has to reach is for another session, so the view of the stream gets none.
#[test]
fn a_message_outside_the_view_ends_a_wait_as_well() {
    for query in ["sessionId=a&", ""] {
        let mut node = Node::on_bus_with(10, |settings| {
            settings.access = Access::new(Some(b"secret"));
        });
        let ahead = id(FIRST, 12);
        let lines = [
            format!("/api/webhook/stream?{query}lastEventId={ahead}"),
            format!("/api/webhook/messages?{query}since={ahead}"),
        ];
        for line in lines {
            let peer = Peer::with_room(10_000);
            let head = node.shard.log.head_seq();
            let line = line.replace(&ahead, &id(FIRST, head + 1));
            node.ask(
                &peer,
                format!("GET {line} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes(),
            );
            node.follow(Some("b"), [head]);
            node.rest();
            assert_eq!(peer.take(), "", "{line}");
            node.follow(Some("b"), [head + 1]);
            node.rest();
            let text = peer.take();
            assert!(text.starts_with("HTTP/1.1 200 "), "{line}: {text}");
            assert_eq!(seqs(&text), Vec::<u64>::new());
        }
        assert_eq!(node.waits(), [2, 0]);
    }
}

#[test]
fn a_wait_for_an_id_ends_after_its_time_with_the_history() {
    for (epoch, seq) in [(FIRST, 12), (FIRST, u64::MAX), (FORGED, 1)] {
        let mut node = Node::on_bus(10);
        let (stream, history) = (Peer::with_room(10_000), Peer::with_room(10_000));
        node.resume(&stream, epoch, seq);
        let query = format!("since={}&wait=25", id(epoch, seq));
        node.ask(&history, get(&query).as_bytes());
        node.pass(RESUME_AHEAD_MS_MAX - 1);
        // A message that is not the awaited one.
        node.follow(None, [11]);
        node.turn(&[]);
        node.rest();
        assert_eq!((stream.take(), history.take()), Default::default());
        assert_ne!(node.shard.idle_ms(node.now), Some(0), "the node sleeps");
        node.expire();
        assert_eq!(seqs(&stream.take()), (1..=11).collect::<Vec<_>>());
        let page = history.take();
        assert_eq!(seqs(&page), (1..=11).collect::<Vec<_>>());
        assert!(page.contains("\"reset\":true"), "{page}");
        assert_eq!(node.waits(), [0, 2]);
        assert_eq!(node.shard.sweeps.waits.members(), 0);
        assert_eq!(node.shard.streams(), 1);
    }
}

/// The engine may have lost what another node has shown. Once this node knows the lineage, it need not wait.
#[test]
fn a_turnover_decides_over_ids_that_were_ahead() {
    let mut node = Node::on_bus(10);
    let (of_later, lost, ahead) = (
        Peer::with_room(10_000),
        Peer::with_room(10_000),
        Peer::with_room(10_000),
    );
    node.resume(&of_later, LATER, 10);
    node.resume(&lost, FIRST, 12);
    node.resume(&ahead, LATER, 13);
    // Not a single message, which would end the waits as well.
    node.turn_over(Lineage::new(FIRST).next(LATER, 11), None, []);
    node.rest();
    let text = of_later.take();
    assert!(text.contains("\"replay\":0"), "{text}");
    assert_eq!((lost.take(), ahead.take()), (String::new(), String::new()));
    assert_eq!(node.waits(), [1, 0]);
    node.follow(None, 11..=13);
    node.rest();
    assert_eq!(seqs(&lost.take()), [12, 13]);
    assert!(ahead.take().contains("\"replay\":0"));
    assert_eq!(node.waits(), [2, 0]);
}

#[test]
fn without_a_bus_no_id_is_ahead() {
    let mut node = Node::on_bus(10);
    node.shard.resumption.is_shared = false;
    for (epoch, seq) in [(FIRST, 11), (FORGED, 1), (FIRST, u64::MAX)] {
        let peer = Peer::with_room(10_000);
        node.resume(&peer, epoch, seq);
        assert_eq!(seqs(&peer.take()).len(), 10);
        let peer = Peer::with_room(10_000);
        node.ask(&peer, get(&format!("since={}", id(epoch, seq))).as_bytes());
        assert!(peer.take().contains("\"reset\":true"));
    }
    assert_eq!(node.waits(), [0, 0]);
}

#[test]
fn a_head_request_does_not_wait_for_an_id() {
    let mut node = Node::on_bus(10);
    for request in [
        resume_after(FORGED, 1),
        get(&format!("since={}", id(FORGED, 1))),
    ] {
        let peer = Peer::with_room(10_000);
        node.ask(&peer, request.replace("GET", "HEAD").as_bytes());
        let head = peer.take();
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        assert!(head.ends_with("\r\n\r\n"), "{head}");
    }
    assert_eq!(node.shard.sweeps.waits.members(), 0);
}

/// A shared stream always begins with the whole history.
#[test]
fn a_shared_stream_does_not_wait_for_an_id() {
    let mut node = Node::on_bus_with(10, |settings| {
        settings.fanout_life = Some(Duration::from_secs(10));
        settings.access = Access::new(None).fanned_out();
    });
    let peer = Peer::with_room(10_000);
    node.resume(&peer, FORGED, 1);
    assert_eq!(seqs(&peer.take()).len(), 10);
}

/// A long poll of 25 s that had to wait for its id goes on to wait for a message.
#[test]
fn a_long_poll_goes_on_after_its_id_is_reached() {
    let mut node = Node::on_bus(10);
    let (peer, at_once) = (Peer::with_room(10_000), Peer::with_room(10_000));
    let since = format!("since={}", id(FIRST, 11));
    node.ask(&peer, get(&format!("{since}&wait=25")).as_bytes());
    node.ask(&at_once, get(&since).as_bytes());
    node.pass(1_000);
    node.follow(None, [11]);
    node.rest();
    assert!(at_once.take().contains("\"messages\":[]"));
    assert_eq!(peer.take(), "");
    assert_eq!(node.shard.sweeps.waits.members(), 1);
    node.pass(20_000);
    node.turn(&[]);
    node.follow(None, [12]);
    node.rest();
    assert_eq!(seqs(&peer.take()), [12]);
    // The connection is kept, and its next request is answered.
    assert!(!peer.is_closed());
    assert_eq!(node.waits(), [2, 0]);
}

/// The time until the id was reached is a part of the poll's own.
#[test]
fn a_long_poll_that_waited_for_its_id_ends_in_its_own_time() {
    let mut node = Node::on_bus(10);
    let peer = Peer::with_room(10_000);
    let query = format!("since={}&wait=3", id(FIRST, 11));
    node.ask(&peer, get(&query).as_bytes());
    node.pass(1_900);
    node.follow(None, [11]);
    node.rest();
    node.pass(1_099 + DEADLINE_SCAN_INTERVAL_MS);
    node.turn(&[]);
    node.pass(1);
    node.turn(&[]);
    node.rest();
    let text = peer.take();
    assert!(text.contains("\"messages\":[]"), "{text}");
    assert!(
        text.contains("private, no-store"),
        "no cache may keep it: {text}"
    );
}

#[test]
fn a_peer_that_hangs_up_while_its_id_is_ahead_is_closed() {
    let mut node = Node::on_bus(10);
    for request in [
        resume_after(FORGED, 1),
        get(&format!("since={}", id(FORGED, 1))),
    ] {
        let peer = Peer::with_room(10_000);
        let token = node.ask(&peer, request.as_bytes());
        assert_eq!(node.shard.sweeps.waits.members(), 1);
        peer.0.borrow_mut().has_ended = true;
        node.turn(&[(token, HUNG_UP)]);
        node.rest();
        assert!(peer.is_closed());
        assert_eq!((node.shard.streams(), node.shard.connections()), (0, 0));
    }
    // A request that arrives with the end of the peer's side does not wait at all.
    let peer = Peer::with_room(10_000);
    let token = node.open(&peer);
    peer.send(resume_after(FORGED, 1).as_bytes());
    peer.0.borrow_mut().has_ended = true;
    node.turn(&[(token, HUNG_UP)]);
    assert!(peer.is_closed());
    assert_eq!(node.waits(), [0, 0]);
}

/// The client keeps its id, and resumes at another node.
#[test]
fn in_a_drain_no_request_waits_for_an_id() {
    let mut node = Node::on_bus(10);
    let request = resume_after(FIRST, 20);
    let (waiting, later, history) = (
        Peer::with_room(10_000),
        Peer::with_room(10_000),
        Peer::with_room(10_000),
    );
    node.ask(&waiting, request.as_bytes());
    node.shard.start_drain(node.now);
    node.ask(&later, request.as_bytes());
    node.ask(
        &history,
        get(&format!("since={}", id(FIRST, 20))).as_bytes(),
    );
    let declined = |text: &str| {
        assert!(text.starts_with("HTTP/1.1 200 "), "{text}");
        assert!(text.contains("\"type\":\"end\""), "{text}");
        assert!(text.contains(&format!("id: {}\n", id(FIRST, 20))), "{text}");
    };
    declined(&later.take());
    assert!(history.take().contains("\"reset\":true"));
    // Less than the wait would take.
    for _ in 0..4 {
        node.pass(1_000);
        node.turn(&[]);
        node.rest();
    }
    declined(&waiting.take());
    assert!(waiting.0.borrow().is_shut);
    assert_eq!(node.shard.streams(), 0);
}

/// What pipelined requests and a long head hold is freed before the wait, and there may be no room at all.
#[test]
fn waits_for_an_id_are_bounded_together() {
    let mut node = Node::on_bus_with(10, |settings| settings.held_bytes_max = 20_000);
    let request = resume_after(FORGED, 1);
    let cookie = format!("Cookie: {}\r\n\r\n", "x".repeat(6_000));
    let peers: Vec<Peer> = (0..200).map(|_| Peer::with_room(1 << 20)).collect();
    for peer in &peers {
        let request = format!("{}{cookie}", request.strip_suffix("\r\n").unwrap());
        let request = format!("{request}{}", "x".repeat(3_000));
        node.ask(peer, request.as_bytes());
    }
    assert_eq!(node.shard.sweeps.waits.members(), peers.len());
    assert_eq!(
        node.shard.connections.holding(),
        0,
        "each holds a few hundred bytes"
    );
    assert_eq!(node.shard.holdings().readers, 0);
    node.expire();
    for peer in &peers {
        assert_eq!(seqs(&peer.take()).len(), 10);
    }
    node.shard.holdings();
    node.shard.close_all();
    assert_eq!(node.shard.connections(), 0);
}

/// A page of the old epoch has another tag, so its client gets the page once more, and never a wrong 304.
#[test]
fn a_turnover_leaves_streams_and_long_polls_alone() {
    let mut node = Node::on_bus(10);
    let (stream, poll, tagged) = (
        Peer::with_room(10_000),
        Peer::with_room(10_000),
        Peer::with_room(10_000),
    );
    node.ask(&stream, STREAM);
    node.ask(
        &poll,
        get(&format!("since={}&wait=25", id(FIRST, 10))).as_bytes(),
    );
    node.ask(&tagged, get("").as_bytes());
    let page = tagged.take();
    let (_, tag) = page.split_once("ETag: ").unwrap();
    let tag = tag.split("\r\n").next().unwrap().to_owned();
    stream.take();
    let lineage = Lineage::new(FIRST).next(LATER, 11);
    node.turn_over(lineage.clone(), None, []);
    node.rest();
    assert_eq!((stream.take(), poll.take()), Default::default());

    let again = Peer::with_room(10_000);
    let request = get("").replace("\r\n\r\n", &format!("\r\nIf-None-Match: {tag}\r\n\r\n"));
    node.ask(&again, request.as_bytes());
    let text = again.take();
    assert!(text.starts_with("HTTP/1.1 200 "), "{text}");
    assert!(
        text.contains(&format!("\"lastEventId\":\"{}\"", id(LATER, 10))),
        "{text}"
    );

    node.turn_over(lineage, None, [11]);
    node.rest();
    let text = stream.take();
    assert_eq!(seqs(&text), [11]);
    assert!(text.contains(&format!("id: {}\n", id(LATER, 11))), "{text}");
    assert_eq!(seqs(&poll.take()), [11]);
}
