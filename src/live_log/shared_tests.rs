//! The shared history, compared with a model: a list of messages in the order of arrival, each with
//! its place in the order that the nodes share.

use proptest::prelude::*;

use super::*;
use crate::limits::REPLAY_COPY_BYTES_MAX;

/// A message of the model.
struct Sent {
    seq: u64,
    /// The time in the shared order. Of two equal times the earlier arrival comes first.
    time: u64,
    session: Option<SessionId>,
    /// The bytes on the wire, chunk framing included.
    frame: Vec<u8>,
    chunk: Chunk,
}

/// A log and its model.
struct Pair {
    log: LiveLog,
    arrived: Vec<Sent>,
    /// The seqs of the shared history that was set last.
    shared: Vec<u64>,
    /// One more than the seq of the last arrival at that time.
    until_seq: u64,
}

impl Pair {
    fn new(log_bytes: usize) -> Pair {
        Pair {
            log: LiveLog::new(FIRST_SEQ, log_bytes),
            arrived: Vec::new(),
            shared: Vec::new(),
            until_seq: 0,
        }
    }

    fn append(&mut self, session: Option<&SessionId>, payload_bytes: usize, late: u64) {
        let seq = self.log.head_seq();
        let mut frame = format!("{payload_bytes:x}\r\n").into_bytes();
        let head_bytes = frame.len() as u8;
        frame.extend((0..payload_bytes).map(|i| (seq as usize * 7 + i) as u8));
        frame.extend_from_slice(b"\r\n");
        let chunk = Chunk {
            bytes: frame.len() as u32,
            head_bytes,
        };
        self.log.append(seq, seq, session, &frame, chunk);
        self.arrived.push(Sent {
            seq,
            time: seq.saturating_sub(late),
            session: session.cloned(),
            frame,
            chunk,
        });
    }

    /// Sets the shared history: the last arrivals by time. Every `lacks_every`th is left out, as if KV
    /// had lost it or messages of other nodes had pushed it out.
    fn share(&mut self, lacks_every: usize) {
        let mut by_time: Vec<&Sent> = self.arrived.iter().collect();
        by_time.sort_by_key(|sent| (sent.time, sent.seq));
        let newest = by_time.iter().rev().take(HISTORY_MESSAGES).rev();
        let kept = newest
            .enumerate()
            .filter(|(place, _)| lacks_every == 0 || place % lacks_every != 0);
        self.shared = kept.map(|(_, sent)| sent.seq).collect();
        self.shared.sort_unstable();
        self.until_seq = self.log.head_seq();
        self.log.set_shared_history(SharedHistory {
            seqs: self.shared.clone(),
            until_seq: self.until_seq,
        });
    }

    /// The expected replay of a new stream, and how many messages of it are copies.
    fn expected(&self, viewer: &Viewer) -> (Vec<&Sent>, usize) {
        let seen: Vec<&Sent> = self
            .arrived
            .iter()
            .filter(|sent| sent.seq >= self.log.tail_seq() && viewer.may_see(sent))
            .collect();
        let last_arrivals = seen.len().saturating_sub(HISTORY_MESSAGES);
        // Highest are new messages, then shared ones, then others of the last arrivals. Within a rank
        // the newest is highest.
        let mut ranked: Vec<(u8, &Sent)> = seen
            .iter()
            .enumerate()
            .filter_map(|(place, sent)| {
                let rank = match self.shared.contains(&sent.seq) {
                    _ if sent.seq >= self.until_seq => 2,
                    true => 1,
                    false if place >= last_arrivals => 0,
                    false => return None,
                };
                Some((rank, *sent))
            })
            .collect();
        ranked.sort_by_key(|(rank, sent)| (*rank, sent.seq));
        let first = ranked.len().saturating_sub(HISTORY_MESSAGES);
        let mut shown: Vec<&Sent> = ranked[first..].iter().map(|(_, sent)| *sent).collect();
        shown.sort_by_key(|sent| sent.seq);

        // The cursor covers the end of the log in which no message is left out. Earlier messages are
        // copied.
        let seqs_alike = |(a, b): &(&&Sent, &&Sent)| a.seq == b.seq;
        let by_cursor = shown.iter().rev().zip(seen.iter().rev());
        let copied = shown.len() - by_cursor.take_while(seqs_alike).count();
        let mut bytes = 0;
        let fitting = shown[..copied].iter().rev().take_while(|sent| {
            bytes += sent.frame.len();
            bytes <= REPLAY_COPY_BYTES_MAX
        });
        let kept = fitting.count();
        shown.drain(..copied - kept);
        (shown, kept)
    }

    /// Opens a stream and compares its bytes with those of the model.
    fn check(&mut self, viewer: &Viewer, framing: Framing) -> Result<(), TestCaseError> {
        let view = match viewer {
            Viewer::Everything => View::Everything,
            Viewer::Public => View::Public,
            Viewer::Sessions(names) => self.log.hold_sessions(names),
        };
        let start = self.log.catch_up(view, None);
        let (shown, copied) = self.expected(viewer);
        let copied_seqs: Vec<u64> = shown[..copied].iter().map(|sent| sent.seq).collect();
        prop_assert_eq!(&start.ahead, &copied_seqs);
        prop_assert_eq!(start.replay, shown.len() as u64);
        prop_assert_eq!(start.missed, 0);

        let mut bytes = Vec::new();
        for &seq in &start.ahead {
            self.log.copy_message(seq, framing, &mut bytes);
        }
        let mut cursor = start.cursor;
        while cursor.next_seq < self.log.head_seq() {
            let mut gather = Gather::new();
            cursor = self.log.gather(view, framing, &cursor, &mut gather);
            bytes.extend(gather.extents().iter().flat_map(|extent| extent.to_vec()));
        }
        let wire: Vec<&[u8]> = shown.iter().map(|sent| sent.wire(framing)).collect();
        prop_assert!(bytes == wire.concat(), "the bytes differ");
        self.check_shorter(view, &shown)?;
        self.log.release_view(view);
        Ok(())
    }
}

impl Pair {
    /// Opens streams with a shorter replay, and compares them with the whole one.
    fn check_shorter(&self, view: View, whole: &[&Sent]) -> Result<(), TestCaseError> {
        let head = self.log.head_seq();
        let late = whole.get(whole.len() / 2).map_or(head, |sent| sent.seq + 1);
        for (count_max, from) in [
            (0, 0),
            (1, 0),
            (40, 0),
            (100, 0),
            (100, late),
            (3, late),
            (100, head),
        ] {
            let start = self.log.catch_up_newest(view, count_max, from);
            let by_cursor = self.log.visible(view, start.cursor.next_seq);
            let shown: Vec<u64> = start.ahead.iter().copied().chain(by_cursor).collect();
            let newest = &whole[whole.len().saturating_sub(count_max)..];
            let newest = newest.iter().map(|sent| sent.seq);
            let expected: Vec<u64> = newest.filter(|seq| *seq >= from).collect();
            prop_assert_eq!(start.replay, expected.len() as u64);
            prop_assert_eq!(shown, expected);
        }
        Ok(())
    }
}

impl Sent {
    fn wire(&self, framing: Framing) -> &[u8] {
        match framing {
            Framing::Chunked | Framing::Gzip => &self.frame,
            Framing::Bare => &self.frame[usize::from(self.chunk.head_bytes)..self.frame.len() - 2],
        }
    }
}

enum Viewer {
    Everything,
    Public,
    Sessions(Vec<SessionId>),
}

impl Viewer {
    fn may_see(&self, sent: &Sent) -> bool {
        match (self, &sent.session) {
            (Viewer::Everything, _) | (_, None) => true,
            (Viewer::Public, Some(_)) => false,
            (Viewer::Sessions(own), Some(session)) => own.contains(session),
        }
    }
}

const FIRST_SEQ: u64 = 1_000;

#[derive(Debug, Clone)]
enum Step {
    Append {
        session: u8,
        payload_bytes: usize,
        /// The delay of the arrival: by how many places in the order of time.
        late: u64,
    },
    Share {
        lacks_every: usize,
    },
    Check {
        viewer: u8,
        chunked: bool,
    },
}

fn steps(payload_bytes: std::ops::Range<usize>, count: usize) -> impl Strategy<Value = Vec<Step>> {
    let late = prop_oneof![4 => Just(0), 2 => 0..10_u64, 1 => 0..160_u64];
    let append =
        (0..6_u8, payload_bytes, late).prop_map(|(session, payload_bytes, late)| Step::Append {
            session,
            payload_bytes,
            late,
        });
    let share = prop_oneof![2 => Just(0), 1 => 1..40_usize]
        .prop_map(|lacks_every| Step::Share { lacks_every });
    let check =
        (0..5_u8, any::<bool>()).prop_map(|(viewer, chunked)| Step::Check { viewer, chunked });
    let step = prop_oneof![40 => append, 2 => share, 3 => check];
    prop::collection::vec(step, 1..count)
}

fn run(steps: Vec<Step>, log_bytes: usize) -> Result<(), TestCaseError> {
    let names: Vec<SessionId> = ["a", "b"]
        .map(|name| SessionId::parse(name).unwrap().unwrap())
        .into();
    let mut pair = Pair::new(log_bytes);
    for step in steps {
        match step {
            // Of six sessions, two exist: the other four make untargeted messages.
            Step::Append {
                session,
                payload_bytes,
                late,
            } => pair.append(names.get(usize::from(session)), payload_bytes, late),
            Step::Share { lacks_every } => pair.share(lacks_every),
            Step::Check { viewer, chunked } => {
                let viewer = match viewer {
                    0 => Viewer::Everything,
                    1 => Viewer::Public,
                    4 => Viewer::Sessions(names.clone()),
                    own => Viewer::Sessions(vec![names[usize::from(own) - 2].clone()]),
                };
                let framing = if chunked {
                    Framing::Chunked
                } else {
                    Framing::Bare
                };
                pair.check(&viewer, framing)?;
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// For any order of arrivals and any moments of sharing, a new stream gets the messages of the
    /// model, in the order of arrival, each once and whole.
    #[test]
    fn a_new_stream_gets_the_messages_of_the_model(steps in steps(1..50, 500)) {
        run(steps, 6_000)?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// The same with messages so large that the copies exceed their bound.
    #[test]
    fn copies_are_the_newest_that_fit(steps in steps(1..20_000, 300)) {
        run(steps, 100 * 21_000)?;
    }
}
