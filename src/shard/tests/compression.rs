//! Compressed streams: every byte of one decodes to the events of its view, and its end fits them.

use std::io::Write as _;

use super::resumption::seqs;
use super::*;
use crate::message::Epoch;
use crate::sse::lineage::Lineage;
use crate::testkit::{sign_token, token_keys};

const OLD: Epoch = Epoch(10);
const NEW: Epoch = Epoch(20);

fn compressing(settings: &mut Settings) {
    settings.compress_streams = true;
    settings.held_bytes_max = 1 << 20;
}

fn request(query: &str) -> String {
    format!(
        "GET /api/webhook/stream{query} HTTP/1.1\r\nHost: a\r\nAccept-Encoding: br, gzip\r\n\r\n"
    )
}

impl Peer {
    /// All bytes since the last call.
    fn take_bytes(&self) -> Vec<u8> {
        std::mem::take(&mut self.0.borrow_mut().written)
    }
}

/// A client that decodes what has arrived, each time.
struct Reader {
    /// What is left of the head, and of an incomplete chunk.
    rest: Vec<u8>,
    decoder: flate2::write::GzDecoder<Vec<u8>>,
    head: String,
    has_last_chunk: bool,
}

impl Reader {
    fn new() -> Reader {
        Reader {
            rest: Vec::new(),
            decoder: flate2::write::GzDecoder::new(Vec::new()),
            head: String::new(),
            has_last_chunk: false,
        }
    }

    /// The text of whole chunks that arrived.
    fn read(&mut self, bytes: &[u8]) -> String {
        self.rest.extend_from_slice(bytes);
        if self.head.is_empty()
            && let Some(end) = memchr::memmem::find(&self.rest, b"\r\n\r\n")
        {
            let head = self.rest.drain(..end + 4).collect();
            self.head = String::from_utf8(head).unwrap();
        }
        if self.head.is_empty() {
            return String::new();
        }
        let mut used = 0;
        while let Some(line_end) = memchr::memmem::find(&self.rest[used..], b"\r\n") {
            let size = str::from_utf8(&self.rest[used..used + line_end]).unwrap();
            let size = usize::from_str_radix(size, 16).unwrap();
            let start = used + line_end + 2;
            if self.rest.len() < start + size + 2 {
                break;
            }
            self.decoder
                .write_all(&self.rest[start..start + size])
                .unwrap();
            self.decoder.flush().unwrap();
            self.has_last_chunk |= size == 0;
            used = start + size + 2;
        }
        self.rest.drain(..used);
        String::from_utf8(std::mem::take(self.decoder.get_mut())).unwrap()
    }

    /// Asserts that the stream has ended in order, with the right checksum.
    fn end(mut self) {
        assert!(self.has_last_chunk && self.rest.is_empty());
        self.decoder.try_finish().expect("a trailer that fits");
    }
}

/// A client, and what it has read.
struct Viewer {
    peer: Peer,
    token: Token,
    sessions: Option<&'static str>,
    /// Its socket takes nothing until the end.
    is_stuck: bool,
    reader: Reader,
    text: String,
}

impl Viewer {
    fn open(node: &mut Node, sessions: Option<&'static str>, room: usize) -> Viewer {
        let query = sessions.map_or(String::new(), |names| {
            let names = names.split(',').map(|name| format!("sessionId={name}"));
            format!("?{}", names.collect::<Vec<_>>().join("&"))
        });
        let peer = Peer::with_room(room);
        let token = node.ask(&peer, request(&query).as_bytes());
        Viewer {
            peer,
            token,
            sessions,
            is_stuck: room == 0,
            reader: Reader::new(),
            text: String::new(),
        }
    }

    fn sees(&self, session: Option<&str>) -> bool {
        match (self.sessions, session) {
            (None, _) | (_, None) => true,
            (Some(names), Some(session)) => names.split(',').any(|name| name == session),
        }
    }

    fn read(&mut self) {
        let bytes = self.peer.take_bytes();
        self.text.push_str(&self.reader.read(&bytes));
    }

    /// Asserts that the events are those of the view, in order, less the numbers that gaps name. `sessions[i]` is
    /// that of message i + 1.
    fn check(&self, sessions: &[Option<&'static str>]) {
        let seen = (1_u64..)
            .zip(sessions)
            .filter(|(_, name)| self.sees(**name));
        let view: Vec<u64> = seen.map(|(seq, _)| seq).collect();
        let (mut place, mut missed) = (None, 0);
        for event in self.text.split_inclusive("\n\n") {
            if let Some((_, rest)) = event.split_once("\"missed\":") {
                missed += rest.split('}').next().unwrap().parse::<usize>().unwrap();
            }
            let Some((_, id)) = event.split_once("\nid: ") else {
                continue;
            };
            if event.contains("\"connected\"") {
                continue;
            }
            let seq: u64 = id.trim_end().split_once('-').unwrap().1.parse().unwrap();
            let at = view.binary_search(&seq).expect("a message of its view");
            assert!(
                place.is_none_or(|last| last + 1 + missed == at),
                "{seq}: {}",
                self.text
            );
            (place, missed) = (Some(at), 0);
        }
        let unseen = view.len() - place.map_or(0, |last| last + 1);
        assert!(
            place.is_none() || unseen == missed,
            "the last messages are lost"
        );
    }
}

const NAMES: [Option<&str>; 3] = [None, Some("a"), Some("b")];

/// Streams of every view with sockets that take a random number of bytes: they fall behind, skip ahead, are cut
/// inside events and own bytes. They end by a drain, and their end fits all that they have sent.
#[test]
fn streams_of_all_views_and_paces_decode_to_their_messages() {
    let (mut ended, mut gaps) = (0, 0);
    for seed in 0..12 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut node = Node::with(|settings| {
            compressing(settings);
            settings.body_bytes_max = 1000;
        });
        let mut sessions = Vec::new();
        let mut viewers: Vec<Viewer> = Vec::new();
        for _ in 0..150 {
            match rng.u8(0..6) {
                0 if viewers.len() < 8 => {
                    let names = *rng
                        .choice(&[None, Some("a"), Some("b"), Some("a,b"), Some("c")])
                        .unwrap();
                    let room = *rng.choice(&[0, 50, 1 << 30]).unwrap();
                    viewers.push(Viewer::open(&mut node, names, room));
                }
                1 | 2 => {
                    let name = *rng.choice(&NAMES).unwrap();
                    let (messages, bytes) =
                        (rng.usize(1..200), *rng.choice(&[1, 100, 900]).unwrap());
                    node.publish_to(name, messages, bytes);
                    sessions.extend(vec![name; messages]);
                }
                3 => {
                    node.pass(rng.u64(1..700));
                    node.turn(&[]);
                }
                _ => {
                    let count = viewers.len().max(1);
                    if let Some(viewer) = viewers.get_mut(rng.usize(0..count)) {
                        let room = if viewer.is_stuck {
                            0
                        } else {
                            rng.usize(1..3_000)
                        };
                        viewer.peer.make_room(room);
                        node.turn(&[(viewer.token, WRITABLE)]);
                        viewer.read();
                    }
                }
            }
        }
        for viewer in &mut viewers {
            viewer.peer.make_room(1 << 30);
            node.turn(&[(viewer.token, WRITABLE)]);
        }
        node.rest();
        node.shard.start_drain(node.now);
        for _ in 0..60 {
            node.pass(100);
            // A shard that has ended has no rest.
            for _ in 0..4 {
                node.turn(&[]);
            }
        }
        for mut viewer in viewers {
            viewer.read();
            if viewer.reader.has_last_chunk {
                assert!(
                    viewer.text.ends_with("data: {\"type\":\"end\"}\n\n"),
                    "seed {seed}"
                );
                viewer.check(&sessions);
                viewer.reader.end();
                ended += 1;
                gaps += viewer.text.matches("\"missed\"").count();
            }
        }
        node.shard.holdings();
    }
    assert!(ended > 25 && gaps > 10, "{ended} ends, {gaps} gaps");
}

#[test]
fn a_stream_of_a_token_is_warned_and_ended_in_gzip() {
    let mut node = Node::with(|settings| {
        compressing(settings);
        settings.access = Access::new(None).with_tokens(token_keys(), false);
    });
    let exp = node.now.unix_ms / 1000 + 100;
    let claims = format!(r#"{{"exp":{exp},"hookcast":{{"everything":true}}}}"#);
    let peer = Peer::with_room(1 << 20);
    node.ask(
        &peer,
        request(&format!("?token={}", sign_token(&claims))).as_bytes(),
    );
    for _ in 0..110 {
        node.pass(1_000);
        node.turn(&[]);
        node.rest();
    }
    let mut reader = Reader::new();
    let text = reader.read(&peer.take_bytes());
    let (_, after_warning) = text.split_once("\"token_expiring\"").unwrap();
    assert!(after_warning.ends_with("data: {\"type\":\"token_expired\"}\n\n"));
    reader.end();
}

/// Another history ends a stream in order. If copies of the shared history are unsent, its checksum already
/// counts them, so it is cut off.
#[test]
fn a_reset_ends_a_stream_in_gzip_or_cuts_it_off() {
    for (has_copies, room) in [(false, 1 << 20), (false, 0), (true, 1 << 20), (true, 0)] {
        let mut node = Node::on_bus_with(130, compressing);
        if has_copies {
            node.shard.log.set_shared_history(SharedHistory {
                seqs: (29..131).filter(|seq| ![40, 41].contains(seq)).collect(),
                until_seq: 131,
            });
        }
        let peer = Peer::with_room(room);
        let token = node.ask(&peer, request("").as_bytes());
        node.turn_over(Lineage::new(OLD).next(NEW, 5), Some(1), 1..=7);
        peer.make_room(1 << 20);
        node.turn(&[(token, WRITABLE)]);
        node.rest();
        let mut reader = Reader::new();
        let text = reader.read(&peer.take_bytes());
        if has_copies && room == 0 {
            assert!(peer.is_closed());
            continue;
        }
        let replayed = if room == 0 { Vec::new() } else { seqs(&text) };
        assert_eq!(replayed.len(), if room == 0 { 0 } else { 100 });
        assert!(text.ends_with("data: {\"type\":\"end\"}\n\n"), "{text}");
        reader.end();
        let next = Peer::with_room(1 << 20);
        node.ask(&next, request("").as_bytes());
        let text = Reader::new().read(&next.take_bytes());
        assert_eq!(seqs(&text), (1..=7).collect::<Vec<_>>());
    }
}

#[test]
fn gzip_is_for_requests_that_accept_it_by_http_1_1_and_never_for_a_shared_stream() {
    let mut node = Node::with(compressing);
    let head = |node: &mut Node, request: &str| {
        let peer = Peer::with_room(1 << 20);
        node.ask(&peer, request.as_bytes());
        let bytes = peer.take_bytes();
        let end = memchr::memmem::find(&bytes, b"\r\n\r\n").unwrap();
        String::from_utf8(bytes[..end + 2].to_vec()).unwrap()
    };
    let zipped = request("");
    for (request, coding) in [
        (zipped.clone(), Some(true)),
        (zipped.replace("GET", "HEAD"), Some(true)),
        (zipped.replace("gzip", "gzip;q=0"), Some(false)),
        (zipped.replace("gzip", "*"), Some(true)),
        (zipped.replace("1.1", "1.0"), Some(false)),
        (zipped.replace("Accept-Encoding", "X-Accept"), Some(false)),
    ] {
        let head = head(&mut node, &request);
        let is_zipped = head.contains("\r\nContent-Encoding: gzip\r\n");
        assert_eq!(Some(is_zipped), coding, "{request}{head}");
        assert!(head.contains("\r\nVary: Accept-Encoding\r\n"), "{head}");
    }
    let metrics = Metrics::new(Arc::default());
    node.shard.tally_mut().flush(&metrics);
    assert_eq!(metrics.level(Gauge::StreamsCompressed), 2);
    node.shard.close_all();
    node.shard.tally_mut().flush(&metrics);
    assert_eq!(metrics.level(Gauge::StreamsCompressed), 0);

    let mut off = Node::new();
    let plain = head(&mut off, &zipped);
    assert!(
        !plain.contains("gzip") && !plain.contains("Vary"),
        "{plain}"
    );
    let mut shared = Node::with(|settings| {
        compressing(settings);
        settings.fanout_life = Some(Duration::from_secs(10));
        settings.access = Access::new(None).fanned_out();
    });
    let plain = head(&mut shared, &zipped);
    assert!(
        plain.contains("s-maxage=") && !plain.contains("gzip"),
        "{plain}"
    );
    assert!(!plain.contains("Accept-Encoding"), "{plain}");
    shared.shard.tally_mut().flush(&metrics);
    assert_eq!(metrics.level(Gauge::StreamsCompressed), 0);
}

/// Frames are compressed by the first shard alone.
#[test]
fn a_batch_is_compressed_once_for_all_shards() {
    let mut node = Node::with(compressing);
    let mut other: Shard<Peer> = Shard::new(node.shard.settings.clone(), &node.hub, 2, node.now);
    let sender = node.hub.new_sender();
    let mut drafts = VecDeque::from([Draft {
        session: None,
        content: "a long text, a long text, a long text".into(),
        label: None,
        identity: None,
    }]);
    node.hub
        .publish(sender, &mut drafts, node.now, &mut Vec::new());
    let batch = node.poller.inbox.try_recv().unwrap();
    let mut totals = [&mut node.shard, &mut other].map(|shard| {
        shard.deliver(&batch);
        let metrics = Metrics::new(Arc::default());
        shard.tally_mut().flush(&metrics);
        [Counter::CompressionIn, Counter::CompressionOut].map(|counter| metrics.total(counter))
    });
    assert!(
        totals[0][0] > totals[0][1] && totals[0][1] > 0,
        "{totals:?}"
    );
    assert_eq!(std::mem::take(&mut totals[1]), [0, 0]);
    assert_eq!(other.log.head_seq(), node.shard.log.head_seq());
}
