//! The live log against a model that keeps every frame ever appended.

use proptest::prelude::*;

use super::*;
use crate::limits::{SESSION_FRAMES_LEAST, SESSION_FRAMES_SPREAD, SESSIONS_PER_STREAM_MAX};
use crate::sse::frame::push_compressed;
use crate::sse::gzip::{Compressor, Piece};

const LOG_BYTES: usize = 6_000;

/// The sizes from which the memory bound of the log is derived.
#[test]
fn index_entries_have_the_sizes_that_the_limits_assume() {
    use crate::limits::{
        BROADCAST_BYTES_MIN, FRAME_BYTES_MIN, LOG_BROADCAST_BYTES, LOG_COMPRESSED_ENTRY_BYTES,
        LOG_ENTRY_BYTES, LOG_SESSION_BUCKET_BYTES, LOG_SESSION_BYTES,
    };
    use crate::message::Epoch;
    use crate::message::{Message, MessageId};
    use crate::sse::frame::push_message;

    assert_eq!(size_of::<Entry>(), LOG_ENTRY_BYTES);
    assert_eq!(compressed::ENTRY_BYTES, LOG_COMPRESSED_ENTRY_BYTES);
    assert_eq!(sessions::RECORD_BYTES, LOG_SESSION_BYTES);
    assert_eq!(names::BUCKET_BYTES, LOG_SESSION_BUCKET_BYTES);
    let smallest = Message {
        id: MessageId::from_u128(0),
        timestamp_ms: 1_700_000_000_000,
        session: SessionId::parse("x").unwrap(),
        content: String::new(),
        label: None,
        identity: None,
    };
    let chunk = push_message(&mut Vec::new(), Epoch(0), 1, &smallest);
    assert!(chunk.bytes as usize >= FRAME_BYTES_MIN, "{chunk:?}");
    let smallest = Message {
        session: None,
        ..smallest
    };
    let chunk = push_message(&mut Vec::new(), Epoch(0), 1, &smallest);
    assert!(chunk.bytes as usize >= BROADCAST_BYTES_MIN, "{chunk:?}");
    let seqs: VecDeque<u64> = VecDeque::from([0]);
    assert_eq!(size_of_val(&seqs[0]), LOG_BROADCAST_BYTES);
}

/// Random texts of every size do not shrink. The smallest frames grow most, by 11 of 144 bytes.
#[test]
fn the_compressed_log_holds_all_messages_of_the_log() {
    let mut rng = fastrand::Rng::with_seed(1);
    let mut compressor = Compressor::new();
    for event_bytes in [139, 250, 261, 2_000, 70_000] {
        let log_bytes = HISTORY_MESSAGES * 71_000;
        let mut plain = LiveLog::new(1, log_bytes);
        let mut both = LiveLog::with_compression(1, log_bytes);
        for seq in 1..=(log_bytes / event_bytes) as u64 {
            let event: Vec<u8> = std::iter::repeat_with(|| rng.u8(..))
                .take(event_bytes)
                .collect();
            let mut frame = format!("{event_bytes:x}\r\n").into_bytes();
            let head_bytes = frame.len() as u8;
            frame.extend_from_slice(&event);
            frame.extend_from_slice(b"\r\n");
            let chunk = Chunk {
                bytes: frame.len() as u32,
                head_bytes,
            };
            let mut bytes = Vec::new();
            let piece = push_compressed(&mut bytes, &mut compressor, &event);
            assert!(bytes.len() > frame.len());
            let compressed = CompressedFrame {
                bytes: &bytes,
                piece,
            };
            plain.append(seq, seq, None, &frame, chunk);
            both.append_both(seq, seq, None, (&frame, chunk), &compressed);
        }
        assert_eq!(both.tail_seq(), plain.tail_seq(), "{event_bytes}");
    }
}

/// Twenty sessions with a stream each. One after the other fills the whole log with its frames.
#[test]
fn the_index_of_a_held_session_shrinks_with_its_frames() {
    let mut pair = Pair::new(1);
    let names: Vec<SessionId> = (0..20).map(|i| session(&format!("held {i}"))).collect();
    let keys: Vec<SessionKey> = names
        .iter()
        .map(|name| pair.log.hold_session(name))
        .collect();
    for name in &names {
        for _ in 0..2_000 {
            pair.append(Some(name), 1);
        }
    }
    let frames = pair.log.entries.len();
    let most: usize = keys
        .iter()
        .map(|&key| pair.log.sessions.session(key).frames.capacity())
        .sum();
    let bound = SESSION_FRAMES_SPREAD * frames + names.len() * SESSION_FRAMES_LEAST;
    assert!(
        most <= bound,
        "capacity for {most} frames, {frames} in the log"
    );
}

/// A log, and every frame that was ever appended to it.
struct Pair {
    log: LiveLog,
    all: Vec<(Option<SessionId>, Vec<u8>, Chunk)>,
    first_seq: u64,
}

impl Pair {
    fn new(first_seq: u64) -> Pair {
        Pair {
            log: LiveLog::new(first_seq, LOG_BYTES),
            all: Vec::new(),
            first_seq,
        }
    }

    /// A log with the compressed form of each frame.
    fn compressed(first_seq: u64) -> Pair {
        Pair {
            log: LiveLog::with_compression(first_seq, LOG_BYTES),
            ..Pair::new(first_seq)
        }
    }

    /// Stands for the compressed form of a frame: any bytes, mostly fewer.
    fn compressed_frame(seq: u64, frame: &[u8]) -> Vec<u8> {
        let bytes = match seq % 5 {
            0 => frame.len() + 5,
            _ => frame.len() / 3 + 1,
        };
        (0..bytes).map(|i| (seq as usize * 11 + i) as u8).collect()
    }

    fn append(&mut self, session: Option<&SessionId>, payload_bytes: usize) {
        let seq = self.log.head_seq();
        let mut frame = format!("{payload_bytes:x}\r\n").into_bytes();
        let head_bytes = frame.len() as u8;
        frame.extend((0..payload_bytes).map(|i| (seq as usize * 7 + i) as u8));
        frame.extend_from_slice(b"\r\n");
        let chunk = Chunk {
            bytes: frame.len() as u32,
            head_bytes,
        };
        if self.log.compressed.is_some() {
            let compressed = CompressedFrame {
                bytes: &Pair::compressed_frame(seq, &frame),
                piece: Piece::of(&Pair::event(&frame, chunk)),
            };
            let plain = (&frame[..], chunk);
            self.log.append_both(seq, seq, session, plain, &compressed);
        } else {
            self.log.append(seq, seq, session, &frame, chunk);
        }
        self.all.push((session.cloned(), frame, chunk));
    }

    fn may_see(&self, viewer: Option<&Viewer>, seq: u64) -> bool {
        let (session, ..) = &self.all[(seq - self.first_seq) as usize];
        match (viewer, session) {
            (None, _) | (_, None) => true,
            (Some(viewer), Some(session)) => viewer.sessions.contains(session),
        }
    }

    /// The bytes that a viewer should receive from `from` on.
    fn expected(&self, viewer: Option<&Viewer>, framing: Framing, from: u64) -> Vec<u8> {
        (from..self.log.head_seq())
            .filter(|&seq| self.may_see(viewer, seq))
            .flat_map(|seq| self.wire(seq, framing))
            .collect()
    }

    fn wire(&self, seq: u64, framing: Framing) -> Vec<u8> {
        let (_, frame, chunk) = &self.all[(seq - self.first_seq) as usize];
        match framing {
            Framing::Chunked => frame.clone(),
            Framing::Bare => Pair::event(frame, *chunk),
            Framing::Gzip => Pair::compressed_frame(seq, frame),
        }
    }

    fn event(frame: &[u8], chunk: Chunk) -> Vec<u8> {
        frame[usize::from(chunk.head_bytes)..frame.len() - 2].to_vec()
    }

    fn count(&self, viewer: Option<&Viewer>, from: u64, to: u64) -> u64 {
        (from..to).filter(|&seq| self.may_see(viewer, seq)).count() as u64
    }
}

/// A viewer whose view is not [`View::Everything`]: it sees untargeted messages and those of these sessions.
struct Viewer {
    sessions: Vec<SessionId>,
}

fn session(name: &str) -> SessionId {
    SessionId::parse(name).unwrap().unwrap()
}

fn bytes_of(gather: &Gather<'_>) -> Vec<u8> {
    gather.extents().iter().flat_map(|e| e.to_vec()).collect()
}

#[derive(Debug, Clone)]
enum Step {
    Append {
        session: u8,
        payload_bytes: usize,
    },
    /// Serves the stream with a socket that accepts this many bytes.
    Serve {
        takes: usize,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let append = (0..5_u8, 1..50_usize).prop_map(|(session, payload_bytes)| Step::Append {
        session,
        payload_bytes,
    });
    let serve = prop_oneof![0..100_usize, Just(usize::MAX)].prop_map(|takes| Step::Serve { takes });
    prop::collection::vec(prop_oneof![4 => append, 1 => serve], 1..600)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// For any interleaving of appends and partial writes, a stream receives the frames of its view
    /// whole, in order, and each once. If frames are missing, their exact number is reported.
    #[test]
    fn a_stream_receives_its_view_or_the_exact_size_of_the_gap(
        steps in steps(),
        view_kind in 0..6_usize,
        framing in prop_oneof![Just(Framing::Chunked), Just(Framing::Bare), Just(Framing::Gzip)],
        is_compressed in any::<bool>(),
        before in 0..150_usize,
    ) {
        let names: Vec<_> = (0..4).map(|i| session(&format!("s{i}"))).collect();
        let mut pair = if is_compressed || framing == Framing::Gzip {
            Pair::compressed(1000)
        } else {
            Pair::new(1000)
        };
        for i in 0..before {
            pair.append((i % 3 == 0).then(|| &names[i % 4]), 10);
        }

        // A union has two, three or all four of them.
        let sessions = &names[..view_kind.saturating_sub(1)];
        let view = match view_kind {
            0 => View::Everything,
            1 => View::Public,
            2 => View::Session(pair.log.hold_session(&names[0])),
            _ => pair.log.hold_sessions(sessions),
        };
        let viewer = (view != View::Everything).then(|| Viewer { sessions: sessions.to_vec() });
        let viewer = viewer.as_ref();
        let start = pair.log.catch_up(view, None);
        prop_assert_eq!(start.missed, 0);
        prop_assert_eq!(
            start.replay,
            pair.count(viewer, pair.log.tail_seq(), pair.log.head_seq()).min(100)
        );

        let mut cursor = start.cursor;
        let (mut sum, mut events) = (Checksum::default(), Vec::new());
        let mut received = Vec::new();
        let mut expected_from = cursor.next_seq;
        for step in steps {
            match step {
                Step::Append { session, payload_bytes } => {
                    pair.append(names.get(usize::from(session)), payload_bytes);
                    prop_assert!(pair.log.entries.len() >= 100.min(pair.all.len()));
                }
                Step::Serve { takes } => {
                    match pair.log.lag(view, &cursor) {
                        Lag::Within => {}
                        Lag::Torn => {
                            prop_assert!(cursor.sent_bytes > 0);
                            return Ok(());
                        }
                        Lag::Skips { cursor: ahead, missed } => {
                            let gone = pair.count(viewer, cursor.next_seq, pair.log.tail_seq());
                            prop_assert_eq!(missed, gone);
                            prop_assert!(received.is_empty());
                            cursor = ahead;
                            expected_from = ahead.next_seq;
                        }
                    }
                    let mut gather = Gather::new();
                    let after = pair.log.gather(view, framing, &cursor, &mut gather);
                    let offered = bytes_of(&gather);
                    prop_assert_eq!(offered.len(), gather.bytes());
                    let taken = takes.min(offered.len());
                    received.extend_from_slice(&offered[..taken]);
                    let before = cursor;
                    cursor = if taken == offered.len() {
                        after
                    } else {
                        pair.log.advance(view, framing, &cursor, taken)
                    };
                    if framing == Framing::Gzip {
                        pair.log.add_frames(view, &before, &cursor, &mut sum);
                        let passed = before.next_seq..cursor.next_seq;
                        for seq in passed.filter(|seq| pair.may_see(viewer, *seq)) {
                            let (_, frame, chunk) = &pair.all[(seq - 1000) as usize];
                            events.extend(Pair::event(frame, *chunk));
                        }
                        let mut expected = Checksum::default();
                        expected.add(&Piece::of(&events));
                        prop_assert_eq!(sum, expected);
                    }
                    let expected = pair.expected(viewer, framing, expected_from);
                    prop_assert!(expected.starts_with(&received));
                    if taken == offered.len() && after.next_seq == pair.log.head_seq() {
                        prop_assert_eq!(&expected, &received);
                    }
                    // Cleared at frame boundaries, so that `received` never spans a gap.
                    if cursor.sent_bytes == 0 {
                        received.clear();
                        expected_from = cursor.next_seq;
                    }
                }
            }
        }
    }

    /// A resume after any seq yields all later messages, or the number of those that are gone.
    #[test]
    fn a_resume_is_exact(count in 1..400_usize, after in 990..1500_u64) {
        let mut pair = Pair::new(1000);
        for _ in 0..count {
            pair.append(None, 20);
        }
        let (tail, head) = (pair.log.tail_seq(), pair.log.head_seq());
        let resumed = pair.log.catch_up(View::Everything, Some(after));
        if after >= head {
            prop_assert_eq!(resumed, pair.log.catch_up(View::Everything, None));
        } else {
            prop_assert_eq!(resumed.cursor.next_seq, (after + 1).max(tail));
            prop_assert_eq!(resumed.missed, tail.saturating_sub(after + 1));
            prop_assert_eq!(resumed.replay, head - (after + 1).max(tail));
        }
    }
}

#[test]
fn catching_up_with_a_hundred_frames_is_one_write() {
    let mut pair = Pair::new(1);
    let cursor = pair.log.catch_up(View::Everything, None).cursor;
    for _ in 0..100 {
        pair.append(None, 50);
    }
    let mut gather = Gather::new();
    let after = pair
        .log
        .gather(View::Everything, Framing::Chunked, &cursor, &mut gather);
    assert_eq!({ after.next_seq }, pair.log.head_seq());
    assert!(gather.extents().len() <= 2);
}

#[test]
fn the_replay_of_a_session_skips_messages_of_other_sessions() {
    let mut pair = Pair::new(1);
    let (mine, other) = (session("mine"), session("other"));
    pair.append(Some(&mine), 10);
    for _ in 0..120 {
        pair.append(Some(&other), 10);
    }
    let key = pair.log.hold_session(&mine);
    let start = pair.log.catch_up(View::Session(key), None);
    assert_eq!((start.cursor.next_seq, start.replay), (1, 1));
}

#[test]
fn a_session_is_removed_with_its_last_stream_and_frame() {
    let mut pair = Pair::new(1);
    let name = session("gone");
    pair.append(Some(&name), 40);
    let key = pair.log.hold_session(&name);
    pair.log.release_session(key);
    assert_eq!(pair.log.sessions(), 1);
    for _ in 0..200 {
        pair.append(None, 40);
    }
    assert_eq!(pair.log.sessions(), 0);
}

#[test]
fn more_runs_than_extents_take_several_writes() {
    let mut pair = Pair::new(1);
    let (mine, other) = (session("mine"), session("other"));
    let view = View::Session(pair.log.hold_session(&mine));
    let mut cursor = pair.log.catch_up(view, None).cursor;
    for i in 0..200 {
        pair.append(Some(if i % 2 == 0 { &mine } else { &other }), 5);
    }
    let viewer = Viewer {
        sessions: vec![mine],
    };
    let mut received = Vec::new();
    let mut writes = 0;
    while cursor.next_seq < pair.log.head_seq() {
        let mut gather = Gather::new();
        cursor = pair
            .log
            .gather(view, Framing::Chunked, &cursor, &mut gather);
        received.extend(bytes_of(&gather));
        writes += 1;
    }
    assert_eq!(received, pair.expected(Some(&viewer), Framing::Chunked, 1));
    assert!((2..=4).contains(&writes), "{writes}");
}

/// A log that has restarted, one that is new, and the names of the sessions that streams hold in both.
struct Twins {
    restarted: LiveLog,
    fresh: LiveLog,
    held: Vec<(SessionId, [SessionKey; 2])>,
    unions: Vec<(Vec<SessionId>, [View; 2])>,
}

impl Twins {
    fn both(&mut self) -> [&mut LiveLog; 2] {
        [&mut self.restarted, &mut self.fresh]
    }

    fn append(&mut self, session: Option<&SessionId>, payload_bytes: usize) {
        for log in self.both() {
            let seq = log.head_seq();
            let frame = format!("{payload_bytes:x}\r\n{}\r\n", "x".repeat(payload_bytes));
            let chunk = Chunk {
                bytes: frame.len() as u32,
                head_bytes: (frame.len() - payload_bytes - 2) as u8,
            };
            log.append(seq, seq, session, frame.as_bytes(), chunk);
        }
    }

    fn hold(&mut self, name: &SessionId) {
        let keys = self.both().map(|log| log.hold_session(name));
        self.held.push((name.clone(), keys));
    }

    fn release(&mut self, index: usize) {
        let (_, keys) = self.held.swap_remove(index);
        for (log, key) in self.both().into_iter().zip(keys) {
            log.release_session(key);
        }
    }

    fn hold_union(&mut self, names: &[SessionId]) {
        let views = self.both().map(|log| log.hold_sessions(names));
        self.unions.push((names.to_vec(), views));
    }

    fn release_union(&mut self, index: usize) {
        let (_, views) = self.unions.swap_remove(index);
        for (log, view) in self.both().into_iter().zip(views) {
            log.release_view(view);
        }
    }

    /// Restarts the log, and replaces its twin by a new one with the same streams.
    fn restart(&mut self, first_seq: u64) {
        self.restarted.restart(first_seq);
        self.fresh = LiveLog::new(first_seq, LOG_BYTES);
        for (name, keys) in &mut self.held {
            keys[1] = self.fresh.hold_session(name);
        }
        for (names, views) in &mut self.unions {
            views[1] = self.fresh.hold_sessions(names);
        }
    }

    fn compare(&self, after: u64) {
        let logs = [&self.restarted, &self.fresh];
        let [restarted, fresh] = logs.map(|log| {
            (
                log.tail_seq(),
                log.head_seq(),
                log.sessions(),
                log.broadcasts_total(),
            )
        });
        assert_eq!(restarted, fresh);
        let mut views = vec![[View::Everything; 2], [View::Public; 2]];
        views.extend(self.held.iter().map(|(_, keys)| keys.map(View::Session)));
        views.extend(self.unions.iter().map(|(_, views)| *views));
        for views in views {
            for after in [None, Some(after)] {
                for framing in [Framing::Chunked, Framing::Bare] {
                    let [restarted, fresh] = [0, 1].map(|twin| {
                        let (log, view) = (logs[twin], views[twin]);
                        let start = log.catch_up(view, after);
                        let mut gather = Gather::new();
                        let end = log.gather(view, framing, &start.cursor, &mut gather);
                        let page = log.page(view, after, 7, 500);
                        (bytes_of(&gather), end, log.end(view), page, start)
                    });
                    assert_eq!(restarted, fresh);
                }
            }
        }
    }
}

/// A restarted log differs in nothing from a new one with the same streams, whatever it held before. The first
/// seq may be lower or higher than any before.
#[test]
fn a_restarted_log_equals_a_new_one_with_the_same_streams() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut rng = fastrand::Rng::with_seed(seed);
    for _ in 0..60 {
        let names: Vec<_> = (0..5).map(|i| session(&format!("s{i}"))).collect();
        let mut twins = Twins {
            restarted: LiveLog::new(1_000, LOG_BYTES),
            fresh: LiveLog::new(1_000, LOG_BYTES),
            held: Vec::new(),
            unions: Vec::new(),
        };
        for _ in 0..rng.usize(1..1_500) {
            let streams = twins.held.len();
            match rng.u8(..) {
                0..=5 => twins.restart(rng.u64(0..3_000)),
                6..=14 => twins.hold(rng.choice(&names).unwrap()),
                15..=20 => twins.hold_union(&names[rng.usize(..3)..][..2]),
                21..=24 if !twins.unions.is_empty() => {
                    twins.release_union(rng.usize(..twins.unions.len()));
                }
                21..=30 if streams > 0 => twins.release(rng.usize(..streams)),
                31..=33 => {
                    let head = twins.fresh.head_seq();
                    let until_seq = head.saturating_sub(rng.u64(0..20));
                    let shown = head.saturating_sub(150)..until_seq;
                    let seqs: Vec<u64> = shown.filter(|_| rng.bool()).take(100).collect();
                    for log in twins.both() {
                        let seqs = seqs.clone();
                        log.set_shared_history(SharedHistory { seqs, until_seq });
                    }
                }
                34..=50 => {
                    let head = twins.fresh.head_seq();
                    twins.compare(rng.u64(head.saturating_sub(200)..head + 2));
                }
                _ => {
                    // Without a name it is for all.
                    let session = names.get(rng.usize(0..8)).cloned();
                    twins.append(session.as_ref(), rng.usize(1..50));
                }
            }
        }
        twins.compare(twins.fresh.head_seq());
        while !twins.held.is_empty() {
            twins.release(0);
        }
        while !twins.unions.is_empty() {
            twins.release_union(0);
        }
        assert!(twins.both().iter().all(|log| log.unions.len() == 0));
        assert_eq!(twins.restarted.sessions(), twins.fresh.sessions());
    }
}

/// Walks of random unions over random logs: each message of the view once, in order.
#[test]
fn a_union_is_the_merge_of_its_sessions() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut rng = fastrand::Rng::with_seed(seed);
    for _ in 0..200 {
        let mut pair = Pair::new(rng.u64(1..2_000));
        let count = rng.usize(2..=SESSIONS_PER_STREAM_MAX);
        let mut names: Vec<_> = (0..count + 3).map(|i| session(&format!("s{i}"))).collect();
        rng.shuffle(&mut names);
        let sessions = names[..count].to_vec();
        let view = pair.log.hold_sessions(&sessions);
        let viewer = Viewer { sessions };
        for _ in 0..rng.usize(0..500) {
            // Without a name it is for all.
            let name = names.get(rng.usize(..names.len() + 3));
            pair.append(name, rng.usize(1..30));
        }
        let (log, head) = (&pair.log, pair.log.head_seq());
        let visible = |from: u64| (from..head).filter(|&seq| pair.may_see(Some(&viewer), seq));
        for _ in 0..20 {
            let from = rng.u64(log.tail_seq()..=head);
            assert!(log.visible(view, from).eq(visible(from)));
            let skipped = log.visible_before(view, head) - log.visible_before(view, from);
            assert_eq!(skipped, visible(from).count() as u64);
        }
        let whole: Vec<u64> = visible(log.tail_seq()).collect();
        let newest = &whole[whole.len().saturating_sub(HISTORY_MESSAGES)..];
        assert_eq!(
            log.history_start(view),
            newest.first().copied().unwrap_or(head)
        );
        for (count_max, from) in [(0, 0), (1, 0), (7, 0), (100, 0), (7, head - 1), (100, head)] {
            let start = log.catch_up_newest(view, count_max, from);
            let shown = &newest[newest.len().saturating_sub(count_max)..];
            let shown: Vec<u64> = shown.iter().copied().filter(|seq| *seq >= from).collect();
            assert_eq!(start.replay, shown.len() as u64);
            assert!(log.visible(view, start.cursor.next_seq).eq(shown));
        }
        let page = log.page(view, Some(log.tail_seq()), 5, usize::MAX);
        assert!(
            page.seqs
                .iter()
                .copied()
                .eq(visible(log.tail_seq() + 1).take(5))
        );
        pair.log.release_view(view);
    }
}

/// Messages of other nodes arrive late, and clocks are set back: no message of the time or later is left out.
#[test]
fn a_time_is_that_of_the_first_message_that_reaches_it() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut rng = fastrand::Rng::with_seed(seed);
    for _ in 0..300 {
        let mut log = LiveLog::new(5, LOG_BYTES);
        let mut times = Vec::new();
        let chunk = Chunk {
            bytes: 30,
            head_bytes: 4,
        };
        let mut clock_ms = 1_000_u64;
        for _ in 0..rng.usize(0..600) {
            clock_ms += rng.u64(0..3);
            let time_ms = clock_ms.saturating_sub(rng.u64(0..10) * u64::from(rng.u8(..4) == 0));
            log.append(log.head_seq(), time_ms, None, &[b'x'; 30], chunk);
            times.push(time_ms);
        }
        for time_ms in [
            0,
            1,
            clock_ms,
            clock_ms + 1,
            u64::MAX,
            rng.u64(990..clock_ms + 10),
        ] {
            let first = times.iter().position(|time| *time >= time_ms);
            let expected = 5 + first.unwrap_or(times.len()) as u64;
            assert_eq!(log.seq_at(time_ms), expected.max(log.tail_seq()));
        }
        log.restart(1);
        log.append(1, 3, None, &[b'x'; 30], chunk);
        assert_eq!((log.seq_at(3), log.seq_at(4)), (1, 2), "times begin anew");
    }
}

#[test]
fn a_shorter_replay_is_the_end_of_the_whole_one() {
    let mut pair = Pair::new(1);
    for _ in 0..150 {
        pair.append(None, 10);
    }
    let start = |count_max, from_seq| {
        let start = pair
            .log
            .catch_up_newest(View::Everything, count_max, from_seq);
        ({ start.cursor.next_seq }, start.replay, start.after)
    };
    assert_eq!(start(100, 0), (51, 100, None));
    assert_eq!(start(3, 0), (148, 3, None));
    // The later start decides.
    assert_eq!(start(3, 150), (150, 1, None));
    assert_eq!(start(3, 90), (148, 3, None));
    // A stream with nothing to replay can resume after the newest message.
    assert_eq!(start(0, 0), (151, 0, Some(150)));
    assert_eq!(start(100, 151), (151, 0, Some(150)));
}

/// The streams of a session are in a list that the shard keeps. A walk along it may be in progress.
#[test]
fn a_restart_keeps_the_list_and_the_walk_of_a_session() {
    let mut pair = Pair::new(1);
    let name = session("held");
    let key = pair.log.hold_session(&name);
    pair.log.set_first_slot(key, 7);
    pair.append(Some(&name), 10);
    assert!(pair.log.begin_walk(key));
    pair.log.restart(1);
    assert_eq!(
        (pair.log.first_slot(key), pair.log.walk_slot(key)),
        (7, Some(7))
    );
    pair.log.walk_past(key, 7, NO_SLOT);
    assert_eq!(pair.log.walk_slot(key), None);
    pair.log.set_first_slot(key, NO_SLOT);
    pair.log.release_session(key);
    assert_eq!(pair.log.sessions(), 0);
}
