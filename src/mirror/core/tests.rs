//! A mirror step by step, with a KV that returns stale answers and loses writes.

use super::*;
use crate::limits::{HISTORY_MESSAGES, KV_ENTRY_BYTES_MAX};
use crate::mirror::reply::{Failure, FailureKind};

/// The start of the virtual clock, UTC.
const UTC: u64 = 1_800_000_000_000;
const PACE: Pace = Pace {
    poll_ms: 5_000,
    write_interval_ms: 5_000,
};

/// A node: a mirror, and a ring that keeps every message.
struct Node {
    mirror: Mirror,
    ring: RingView,
    now_ms: u64,
    has_date: bool,
    live: Vec<u128>,
}

fn message(id: u128, after_ms: u64) -> Arc<Message> {
    let content = format!("message {id}");
    Arc::new(Message {
        id: MessageId::from_u128(id),
        timestamp_ms: UTC + after_ms,
        session: None,
        content,
        label: None,
        identity: None,
    })
}

fn value(messages: &[Arc<Message>]) -> Vec<u8> {
    let entries = messages.iter().filter_map(|message| Entry::of(message));
    value::serialise(&entries.collect::<Vec<_>>())
}

fn ids(entries: &[Entry]) -> Vec<u128> {
    entries
        .iter()
        .filter_map(Entry::id)
        .map(|id| id.as_u128())
        .collect()
}

fn written(value: &[u8]) -> Vec<u128> {
    ids(&value::parse(Some(value), usize::MAX, &|all| all)
        .unwrap()
        .entries)
}

impl Node {
    fn start(ring: &[Arc<Message>]) -> Node {
        let ring = RingView {
            first_seq: 1,
            messages: ring.to_vec(),
        };
        let mirror = Mirror::new(PACE, HISTORY_MESSAGES, &ring, at(0), Rng::with_seed(3));
        Node {
            mirror,
            ring,
            now_ms: 0,
            has_date: true,
            live: Vec::new(),
        }
    }

    fn publish(&mut self, message: Arc<Message>) {
        self.ring.messages.push(message);
        self.mirror.handle_publish();
    }

    fn ring(&self) -> RingView {
        let first = self.ring.messages.len().saturating_sub(HISTORY_MESSAGES);
        RingView {
            first_seq: 1 + first as u64,
            messages: self.ring.messages[first..].to_vec(),
        }
    }

    /// One cycle at `now_ms` that reads `value`. Returns the value written; the write succeeds.
    fn cycle(&mut self, now_ms: u64, value: Option<&[u8]>) -> Option<Vec<u8>> {
        let written = self.read(now_ms, Ok(value.map(<[u8]>::to_vec)));
        if written.is_some() {
            let reply = self.reply(Ok(()));
            self.mirror.handle_write(at(now_ms), &reply);
        }
        written
    }

    fn read(&mut self, now_ms: u64, result: Result<Option<Vec<u8>>, Failure>) -> Option<Vec<u8>> {
        assert!(now_ms >= self.now_ms);
        self.now_ms = now_ms;
        self.mirror.begin_read(at(now_ms));
        let reply = self.reply(result);
        let news = self.mirror.handle_read(at(now_ms), reply, &self.ring());
        self.live
            .extend(news.iter().map(|message| message.id.as_u128()));
        self.ring.messages.extend(news.iter().cloned());
        let ids: Vec<MessageId> = news.iter().map(|message| message.id).collect();
        self.mirror.handle_admitted(at(now_ms), &ids, &self.ring());
        self.mirror.begin_write(at(now_ms))
    }

    fn reply<T>(&self, result: Result<T, Failure>) -> Reply<T> {
        Reply {
            result,
            date_ms: self.has_date.then_some(UTC + self.now_ms),
        }
    }
}

fn at(now_ms: u64) -> Now {
    Now {
        mono_ms: now_ms,
        mono_us: now_ms * 1000,
        unix_ms: UTC + now_ms,
    }
}

fn failure(kind: FailureKind) -> Failure {
    Failure {
        kind,
        retry_after_ms: None,
        detail: String::new(),
    }
}

#[test]
fn a_message_is_written_once_and_at_once() {
    let mut node = Node::start(&[]);
    assert_eq!(node.cycle(0, None), None);
    node.publish(message(1, 100));
    assert_eq!(node.mirror.lag(&node.ring()), 1);
    assert_eq!(node.mirror.next_cycle_ms(), 0);
    let value = node.cycle(100, None).unwrap();
    assert_eq!(written(&value), [1]);
    assert_eq!(node.mirror.lag(&node.ring()), 0);
    for now_ms in (5_000..600_000).step_by(5_000) {
        assert_eq!(node.cycle(now_ms, Some(&value)), None);
    }
    assert!(node.live.is_empty());
}

#[test]
fn nothing_is_written_before_the_first_read() {
    let mut node = Node::start(&[message(1, 0)]);
    node.mirror.handle_publish();
    assert!(node.mirror.begin_write(at(0)).is_none());
    assert!(node.read(10, Err(failure(FailureKind::Server))).is_none());
    assert!(node.mirror.begin_write(at(20)).is_none());
    assert!(node.mirror.write_is_wanted());
    assert_eq!(node.mirror.lag(&node.ring()), 1);
    assert_eq!(written(&node.cycle(5_000, Some(b"[]")).unwrap()), [1]);
}

#[test]
fn after_a_stale_answer_nothing_is_written_for_a_minute() {
    let mut node = Node::start(&[]);
    let old = value(&[message(1, 0)]);
    node.cycle(0, Some(&old));
    node.publish(message(2, 900));
    assert!(node.cycle(1_000, Some(&old)).is_some());
    for now_ms in (6_000..61_000).step_by(5_000) {
        assert_eq!(node.cycle(now_ms, Some(&old)), None, "at {now_ms}");
    }
    assert_eq!(written(&node.cycle(61_000, Some(&old)).unwrap()), [1, 2]);
}

#[test]
fn a_new_value_without_this_nodes_messages_is_overwritten_at_once() {
    let mut node = Node::start(&[message(1, 0)]);
    assert!(node.cycle(0, None).is_some());
    let theirs = value(&[message(2, 10)]);
    assert_eq!(written(&node.cycle(5_000, Some(&theirs)).unwrap()), [1, 2]);
    assert_eq!(node.live, [2]);
    // The same for a value with fewer messages that was never read here.
    let old = value(&[message(2, 10), message(3, 0)]);
    node.cycle(
        10_000,
        Some(&value(&[message(3, 0), message(1, 0), message(2, 10)])),
    );
    assert_eq!(written(&node.cycle(15_000, Some(&old)).unwrap()), [1, 3, 2]);
}

#[test]
fn a_lost_write_is_repeated_although_its_loss_is_read_twice_before() {
    let mut node = Node::start(&[message(1, 0)]);
    assert!(node.cycle(0, None).is_some());
    let theirs = value(&[message(2, 10)]);
    node.cycle(5_000, Some(&theirs)).unwrap();
    // A node that knows fewer messages overwrites the value. It is read twice within the write
    // interval.
    let less = value(&[message(2, 10), message(3, 20)]);
    assert_eq!(node.cycle(8_000, Some(&less)), None);
    assert_eq!(node.cycle(9_900, Some(&less)), None);
    assert_eq!(
        written(&node.cycle(10_000, Some(&less)).unwrap()),
        [1, 2, 3]
    );
    // By now this value has been read before, so it may be a stale answer.
    assert_eq!(node.cycle(15_000, Some(&less)), None);
}

#[test]
fn missing_messages_of_other_nodes_are_written_after_one_to_two_minutes() {
    let mut node = Node::start(&[]);
    let both = value(&[message(1, 0), message(2, 1)]);
    assert_eq!(node.cycle(0, Some(&both)), None);
    let lacking = value(&[message(2, 1)]);
    let mended_ms = (5_000..)
        .step_by(5_000)
        .find(|ms| node.cycle(*ms, Some(&lacking)).is_some());
    assert!(
        (65_000..=130_000).contains(&mended_ms.unwrap()),
        "{mended_ms:?}"
    );
}

#[test]
fn a_message_older_than_a_full_history_never_enters() {
    let full: Vec<_> = (0..100)
        .map(|n| message(1000 + n, 1_000 + n as u64))
        .collect();
    let mut node = Node::start(&full);
    let with_older = value(&[message(1, 0), message(2, 999)]);
    let value = node.cycle(0, Some(&with_older)).unwrap();
    assert_eq!(written(&value).len(), 100);
    assert!(node.live.is_empty());
}

#[test]
fn an_overfull_or_unordered_value_is_corrected() {
    let mut many: Vec<_> = (0..1_500).map(|n| message(n, n as u64)).collect();
    many.reverse();
    let mut node = Node::start(&[]);
    let overfull = value(&many);
    let corrected = (0..)
        .step_by(5_000)
        .find_map(|ms| node.cycle(ms, Some(&overfull)));
    assert_eq!(
        written(&corrected.unwrap()),
        (1_400..1_500).collect::<Vec<_>>()
    );
    assert_eq!(node.live, (1_400..1_500).collect::<Vec<_>>());
}

#[test]
fn a_value_that_is_not_a_list_is_not_overwritten() {
    let mut node = Node::start(&[message(1, 0)]);
    for (step, garbage) in [&b"<html>"[..], b"{}", b"[1", b"\xff"]
        .into_iter()
        .enumerate()
    {
        node.publish(message(10 + step as u128, 0));
        assert_eq!(node.cycle(step as u64 * 5_000, Some(garbage)), None);
        assert_eq!(node.mirror.condition(), Condition::Unreadable);
    }
    assert!(node.cycle(20_000, None).is_some());
    assert_eq!(node.mirror.condition(), Condition::Good);
}

#[test]
fn foreign_entries_are_kept_unchanged_while_there_is_room() {
    let mut node = Node::start(&[message(1, 0)]);
    let odd = br#"[{"id": "no uuid" ,"content":"x"}]"#;
    let text = String::from_utf8(node.cycle(0, Some(odd)).unwrap()).unwrap();
    assert!(
        text.starts_with(r#"[{"id": "no uuid" ,"content":"x"},"#),
        "{text}"
    );
    assert_eq!(
        node.mirror.condition(),
        Condition::Foreign {
            count: 1,
            first: 0,
            fault: Fault::Id
        }
    );
    for n in 2..=100 {
        node.publish(message(n, n as u64));
    }
    let value = node.cycle(5_000, Some(text.as_bytes())).unwrap();
    assert_eq!(written(&value), (1..=100).collect::<Vec<_>>());
    assert!(!String::from_utf8(value).unwrap().contains("no uuid"));
}

#[test]
fn a_message_from_the_far_future_ranks_behind_all_others() {
    let mut node = Node::start(&[message(1, 0)]);
    let future = value(&[message(2, 86_400_000)]);
    assert_eq!(written(&node.cycle(0, Some(&future)).unwrap()), [2, 1]);
    assert_eq!(node.live, [2]);
    // Without KV's clock the message is ranked by its time.
    let mut node = Node::start(&[message(1, 0)]);
    node.has_date = false;
    assert_eq!(written(&node.cycle(0, Some(&future)).unwrap()), [1, 2]);
}

#[test]
fn a_node_with_a_wrong_clock_uses_the_clock_of_kv() {
    let mut node = Node::start(&[]);
    let wrong = Now {
        mono_ms: 0,
        mono_us: 0,
        unix_ms: 0,
    };
    node.mirror.begin_read(wrong);
    let reply = node.reply(Ok(Some(value(&[message(1, 0)]))));
    node.mirror.handle_read(wrong, reply, &node.ring());
    assert!(node.mirror.history()[0].is_first_class(node.mirror.horizon_ms(wrong)));
    assert_eq!(node.mirror.clock_ahead_ms(), Some(UTC.cast_signed() + 500));
}

#[test]
fn messages_that_were_in_the_ring_do_not_go_live_again() {
    let held = message(1, 0);
    let mut node = Node::start(std::slice::from_ref(&held));
    for n in 0..100 {
        node.publish(message(1000 + n, 0));
    }
    let during = message(2, 50_000);
    node.publish(Arc::clone(&during));
    assert!(node.read(0, Err(failure(FailureKind::Timeout))).is_none());
    for n in 0..100 {
        node.publish(message(2000 + n, 0));
    }
    let late = Arc::new(Message {
        timestamp_ms: UTC + 60_000,
        ..(*held).clone()
    });
    node.cycle(1_000, Some(&value(&[late, during])));
    assert_eq!(node.live, []);
}

#[test]
fn new_streams_replay_the_shared_history() {
    let mut node = Node::start(&[]);
    node.publish(message(1, 500));
    node.cycle(1_000, None);
    let shared = node.mirror.shared_history().unwrap();
    assert_eq!((&shared.seqs[..], shared.until_seq), (&[1][..], 2));
    node.mirror.handle_shared_history(shared);
    assert_eq!(node.mirror.shared_history(), None);
    // A hundred messages of others. One is older than this node's own: it gets a seq, then leaves the
    // shared history.
    let old = message(2, 400);
    let others: Vec<_> = (0..99).map(|n| message(1000 + n, 2_000)).collect();
    node.cycle(6_000, Some(&value(&[old, message(1, 500)])));
    let mut all = vec![message(1, 500)];
    all.extend(others);
    node.cycle(11_000, Some(&value(&all)));
    let shared = node.mirror.shared_history().unwrap();
    assert_eq!(
        (shared.seqs.len(), shared.seqs[0], shared.seqs[1]),
        (100, 1, 3)
    );
}

#[test]
fn publishes_between_two_views_of_the_ring_are_not_lost() {
    let mut node = Node::start(&[]);
    node.mirror.begin_read(at(0));
    let reply = node.reply(Ok(None));
    node.mirror.handle_read(at(0), reply, &node.ring());
    node.publish(message(1, 0));
    node.mirror.handle_admitted(at(0), &[], &node.ring());
    assert_eq!(written(&node.mirror.begin_write(at(0)).unwrap()), [1]);
}

#[test]
fn a_failed_write_is_retried() {
    let mut node = Node::start(&[message(1, 0)]);
    assert!(node.read(0, Ok(None)).is_some());
    let reply = node.reply(Err(failure(FailureKind::Timeout)));
    node.mirror.handle_write(at(0), &reply);
    assert_eq!(node.mirror.lag(&node.ring()), 1);
    assert!(node.mirror.next_cycle_ms() <= 5_000);
    assert!(node.cycle(5_000, None).is_some());
}

#[test]
fn a_message_too_large_for_the_ring_is_kept_in_kv_and_returned_once() {
    let mut node = Node::start(&[]);
    let large = value(&[message(1, 0)]);
    let reply = node.reply(Ok(Some(large.clone())));
    node.mirror.begin_read(at(0));
    assert_eq!(node.mirror.handle_read(at(0), reply, &node.ring()).len(), 1);
    node.mirror.handle_too_large(MessageId::from_u128(1));
    assert_eq!(node.mirror.unheld(), 1);
    node.publish(message(2, 1));
    assert_eq!(written(&node.cycle(5_000, Some(&large)).unwrap()), [1, 2]);
    assert_eq!(node.live, []);
}

/// The ring does not store members that others have added, and a node that has just started knows only its
/// ring.
#[test]
fn a_restart_does_not_remove_members_that_others_have_added() {
    let known = [message(1, 0), message(2, 1)];
    let text = String::from_utf8(value(&known)).unwrap();
    for (place, added) in [
        (
            r#""content":"message 1""#,
            r#""author":"ana","content":"message 1""#,
        ),
        (r#","timestamp":"#, r#","tags":[],"timestamp":"#),
        ("}]", r#","title":"b"}]"#),
    ] {
        let theirs = text.replacen(place, added, 1);
        assert_ne!(theirs, text);
        let mut node = Node::start(&known);
        for cycle in 0..60 {
            let written = node.cycle(cycle * PACE.poll_ms, Some(theirs.as_bytes()));
            assert_eq!(written, None, "in cycle {cycle}");
        }
    }
}

#[test]
fn a_message_over_its_share_stays_on_its_node_and_is_foreign_in_kv() {
    let large = Arc::new(Message {
        content: "x".repeat(KV_ENTRY_BYTES_MAX),
        ..(*message(1, 0)).clone()
    });
    let mut node = Node::start(std::slice::from_ref(&large));
    assert_eq!(node.cycle(0, None), None);
    assert_eq!(
        (node.mirror.unshared(), node.mirror.lag(&node.ring())),
        (1, 0)
    );
    node.publish(message(2, 1));
    assert_eq!(written(&node.cycle(5_000, None).unwrap()), [2]);

    let text = format!(
        r#"{{"content":"{}","id":"{}","timestamp":{UTC}}}"#,
        large.content, large.id
    );
    let value = node
        .cycle(10_000, Some(format!("[{text}]").as_bytes()))
        .unwrap();
    let expected = Condition::Foreign {
        count: 1,
        first: 0,
        fault: Fault::TooLarge,
    };
    assert_eq!(node.mirror.condition(), expected);
    assert_eq!(node.live, []);
    assert!(
        String::from_utf8(value).unwrap().contains(&text),
        "kept unchanged"
    );
}

/// A JavaScript program may cut a string between the halves of a pair.
#[test]
fn half_a_surrogate_pair_goes_live_as_a_replacement_character() {
    let mut node = Node::start(&[]);
    let text = String::from_utf8(value(&[message(1, 0)])).unwrap();
    let cut = text.replace("message 1", r"\ud83d");
    node.read(0, Ok(Some(cut.clone().into_bytes())));
    assert_eq!(node.mirror.condition(), Condition::Good);
    assert_eq!(node.ring.messages[0].content, "\u{fffd}");
    // The message with the escape and the one with U+FFFD are the same.
    for cycle in 1..60 {
        let written = node.cycle(cycle * PACE.poll_ms, Some(cut.as_bytes()));
        assert_eq!(written, None, "in cycle {cycle}");
    }
}
