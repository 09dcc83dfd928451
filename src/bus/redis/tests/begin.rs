//! The beginning of an epoch, what is put back, the lease.

use super::*;
use crate::bus::engine::Content;
use crate::limits::KV_AHEAD_MS_MAX;

fn numbered(seqs: std::ops::RangeInclusive<u64>) -> Vec<(u64, Arc<Message>)> {
    seqs.map(|seq| (seq, message(&format!("message {seq}"))))
        .collect()
}

#[test]
fn one_of_two_beginners_begins() {
    let Some(server) = Server::start(&[]) else {
        return;
    };
    let (mut one, mut other) = (server.node(), server.node());
    let seen = other.writer.snapshot().unwrap();
    assert_eq!((&seen.lineage, seen.last), (&None, None));
    assert!(one.begin(5, &[]));
    assert!(!other.begin_on(&seen, 6, &[]));
    // The same on an old record, of which each part is compared.
    server.do_it(&format!("HSET {RECORD} history abc"));
    let seen = other.writer.snapshot().unwrap();
    for change in [
        format!("HSET {RECORD} history abd"),
        format!("HSET {RECORD} lineage {}", Lineage::new(Epoch(4))),
        format!("XADD {LOG} 5-* x y"),
    ] {
        server.do_it(&change);
        assert!(!other.begin_on(&seen, 7, &[]), "{change}");
        server.do_it(&format!(
            "HSET {RECORD} history abc lineage {}",
            Lineage::new(Epoch(5))
        ));
    }
    server.do_it(&format!("XSETID {LOG} 5-1"));
    assert!(other.begin(8, &[]));
}

#[test]
fn an_unbroken_epoch_is_not_begun_again() {
    let Some(server) = Server::start(&[]) else {
        return;
    };
    let mut node = server.node();
    node.begin(5, &[]);
    let seen = node.writer.snapshot().unwrap();
    assert!(seen.is_unbroken());
    assert!(!node.begin_on(&seen, 6, &[]));
    let now = node.writer.snapshot().unwrap();
    assert_eq!((now.lineage, now.last), (seen.lineage, seen.last));
}

#[test]
fn lost_messages_are_put_back_with_their_seqs_after_the_loss_of_either_key() {
    for loss in ["FLUSHALL", "DEL {t}:s", "DEL {t}:m"] {
        let Some(server) = Server::start(&[]) else {
            return;
        };
        let mut node = server.node();
        node.begin(5, &[]);
        node.append(&outgoing(&["message 1", "message 2"])).unwrap();
        server.do_it(loss);
        let survivors = node
            .writer
            .snapshot()
            .unwrap()
            .last
            .map_or(0, |last| last.seq);
        assert!(node.begin(7, &numbered(survivors + 1..=120)), "{loss}");
        let snapshot = node.writer.snapshot().unwrap();
        assert!(snapshot.is_unbroken());
        assert_eq!(snapshot.last, Some(id(7, 120)), "{loss}");
        assert_eq!(snapshot.body_bytes_max, Some(65_536));
        assert_eq!(
            snapshot.lineage.as_ref().map(Lineage::epoch),
            Some(Epoch(7))
        );
        assert_eq!(snapshot.lineage.unwrap().begun_after(), 120);
        // The time of a record that survives does not go back.
        let survives = loss == "DEL {t}:s";
        assert_eq!(field(&server, "time").unwrap() == "5", !survives, "{loss}");
        node.number = 0;
        node.append(&outgoing(&["next"])).unwrap();
        let mut all = node.read(id(0, 0));
        let begun = all.iter().position(|entry| entry.id == id(7, 0)).unwrap();
        let marker = all.remove(begun);
        assert!(matches!(&marker.content, Content::Begin(lineage) if lineage.epoch() == Epoch(7)));
        all.retain(|entry| matches!(entry.content, Content::Message(_)));
        let seqs: Vec<u64> = all.iter().map(|entry| entry.id.seq).collect();
        assert_eq!(seqs, (1..=121).collect::<Vec<_>>(), "{loss}");
        for (entry, seq) in all.iter().zip(1..121) {
            assert_eq!(content_of(entry), format!("message {seq}"));
        }
    }
}

#[test]
fn seqs_go_on_where_nothing_is_put_back() {
    let Some(mut server) = Server::start(&["appendonly yes", "appendfsync always"]) else {
        return;
    };
    let mut node = server.node();
    node.begin(5, &[]);
    node.append(&outgoing(&["a", "b", "c"])).unwrap();
    let before = field(&server, "time").unwrap();
    server.restart();
    assert!(node.begin(6, &[]));
    assert_eq!(node.writer.snapshot().unwrap().last, Some(id(6, 3)));
    assert_eq!(field(&server, "time").unwrap(), before);
    // Producers are known again when they append.
    assert_eq!(field(&server, "p:0000000000000007"), None);
    node.number = 0;
    node.append(&outgoing(&["d"])).unwrap();
    let all = node.read(id(5, 3));
    assert_eq!(all[0].id, id(6, 0));
    assert_eq!((all[1].id, content_of(&all[1])), (id(6, 4), "d"));
}

/// A node whose clock is wrong has stamped a message. All later ones would have its time.
#[test]
fn the_time_of_what_is_put_back_is_not_far_in_the_future() {
    let Some(server) = Server::start(&[]) else {
        return;
    };
    let mut node = server.node();
    let now_ms = node.writer.snapshot().unwrap().unix_ms;
    let year_ms = 365 * 24 * 3_600_000;
    let late = |timestamp_ms| {
        let message = Message::clone(&message("late"));
        Arc::new(Message {
            timestamp_ms,
            ..message
        })
    };
    let put_back = [(1, late(now_ms + year_ms)), (2, late(5))];
    assert!(node.begin(7, &put_back));
    let time: u64 = field(&server, "time").unwrap().parse().unwrap();
    assert!(
        time >= now_ms && time < now_ms + 2 * KV_AHEAD_MS_MAX + 60_000,
        "{time}"
    );
    node.number = 0;
    node.append(&outgoing(&["next"])).unwrap();
    let entries = node.read(id(7, 0));
    let times: Vec<u64> = entries
        .iter()
        .map(|entry| match &entry.content {
            Content::Message(message) => message.timestamp_ms,
            other => panic!("{other:?}"),
        })
        .collect();
    // What nodes have shown keeps its time.
    assert_eq!(times, [now_ms + year_ms, 5, time]);
}

#[test]
fn an_epoch_that_is_not_greater_changes_nothing() {
    let Some(server) = Server::start(&[]) else {
        return;
    };
    let mut node = server.node();
    node.begin(5, &[]);
    server.do_it(&format!("HSET {RECORD} history abc"));
    let seen = node.writer.snapshot().unwrap();
    let lineage = Lineage::new(Epoch(4));
    let begin = Begin {
        seen: &seen,
        lineage: &lineage,
        put_back: &[],
        body_bytes_max: 1,
    };
    assert!(node.writer.begin(&begin).is_err());
    assert_eq!(
        node.writer.snapshot().unwrap().recorded_history.as_deref(),
        Some("abc")
    );
}

#[test]
fn ten_thousand_messages_are_put_back_in_one_call() {
    let Some(server) = Server::start(&[]) else {
        return;
    };
    let mut node = server.node();
    assert!(node.begin(9, &numbered(1..=10_000)));
    let back = node.reader.read_back(None, 20_000).unwrap();
    assert_eq!(back.len(), 10_001);
    assert_eq!(back[0].id, id(9, 10_000));
    assert_eq!(back[10_000].id, id(9, 0));
}

#[test]
fn one_node_has_the_lease_until_it_returns_it_or_its_time_is_over() {
    let Some(server) = Server::start(&[]) else {
        return;
    };
    let mut node = server.node();
    let long = Duration::from_secs(3600);
    assert_eq!(node.writer.lease(Producer(1), long), Ok(true));
    assert_eq!(node.writer.lease(Producer(2), long), Ok(false));
    assert_eq!(node.writer.lease(Producer(1), long), Ok(true));
    node.writer.end_lease(Producer(2)).unwrap();
    assert_eq!(node.writer.lease(Producer(2), long), Ok(false));
    node.writer.end_lease(Producer(1)).unwrap();
    assert_eq!(
        node.writer.lease(Producer(2), Duration::from_millis(1)),
        Ok(true)
    );
    let since = Instant::now();
    while node.writer.lease(Producer(1), long) != Ok(true) {
        assert!(since.elapsed() < PATIENCE);
    }
}
