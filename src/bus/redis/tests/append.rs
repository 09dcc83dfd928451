//! Appends, numbers, the fence.

use super::*;
use crate::bus::engine::{FaultKind, Fenced, Keep};

#[test]
fn appended_messages_have_dense_seqs_and_the_engines_time() {
    let Some(server) = Server::start(&[]) else {
        return;
    };
    let mut node = server.node();
    assert!(node.begin(9, &[]));
    assert_eq!(node.append(&outgoing(&["a", "b for s"])), Ok(stored(2)));
    assert_eq!(node.append(&outgoing(&["c"])), Ok(stored(1)));
    let entries = node.read(id(9, 0));
    assert_eq!(
        seqs_and_contents(&entries),
        [(1, "a"), (2, "b for s"), (3, "c")]
    );
    assert!(entries.iter().all(|entry| entry.id.epoch == Epoch(9)));
    let now = node.writer.snapshot().unwrap().unix_ms;
    for entry in &entries {
        let crate::bus::engine::Content::Message(message) = &entry.content else {
            panic!();
        };
        assert!(now - message.timestamp_ms < 60_000, "{message:?}");
        let session = message.session.as_ref().map(SessionId::as_str);
        assert_eq!(session, message.content.contains("for s").then_some("s"));
    }
}

#[test]
fn the_engines_time_never_goes_back_and_a_kept_time_stays() {
    let Some(server) = Server::start(&[]) else {
        return;
    };
    let mut node = server.node();
    node.begin(9, &[]);
    let late = 4_000_000_000_000_u64;
    server.do_it(&format!("HSET {RECORD} time {late}"));
    let mut messages = outgoing(&["a", "b"]);
    messages[1].keeps_time = true;
    node.append(&messages).unwrap();
    let entries = node.read(id(9, 0));
    let times: Vec<u64> = entries
        .iter()
        .map(|entry| match &entry.content {
            crate::bus::engine::Content::Message(message) => message.timestamp_ms,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(times, [late, 5]);
    assert_eq!(field(&server, "time"), Some(late.to_string()));
}

#[test]
fn numbers_that_were_stored_are_skipped_and_count_as_stored() {
    let Some(server) = Server::start(&[]) else {
        return;
    };
    let mut node = server.node();
    node.begin(9, &[]);
    // Beyond 2^53 a double would take neighbours for equal.
    let first = (1 << 53) + 1;
    let messages = outgoing(&["a", "b", "c"]);
    assert_eq!(node.append_from(first, &messages[..2], None), Ok(stored(2)));
    assert_eq!(node.append_from(first, &messages, None), Ok(stored(3)));
    assert_eq!(node.append_from(first, &messages, None), Ok(stored(3)));
    let entries = node.read(id(9, 0));
    assert_eq!(seqs_and_contents(&entries), [(1, "a"), (2, "b"), (3, "c")]);
}

#[test]
fn a_fence_refuses_a_late_batch() {
    let Some(server) = Server::start(&[]) else {
        return;
    };
    let mut node = server.node();
    node.begin(9, &[]);
    node.append(&outgoing(&["a"])).unwrap();
    assert_eq!(node.writer.fence(Epoch(9), PRODUCER, 3), Ok(Fenced::At(1)));
    // The batch with 2 and 3 comes late; 4 is new.
    assert_eq!(
        node.append_from(2, &outgoing(&["late", "late"]), None),
        Ok(stored(2))
    );
    assert_eq!(node.append_from(4, &outgoing(&["d"]), None), Ok(stored(1)));
    let entries = node.read(id(9, 0));
    assert_eq!(seqs_and_contents(&entries), [(1, "a"), (2, "d")]);
    // It never goes back.
    assert_eq!(node.writer.fence(Epoch(9), PRODUCER, 1), Ok(Fenced::At(4)));
    assert_eq!(node.writer.fence(Epoch(9), PRODUCER, 9), Ok(Fenced::At(4)));
    assert_eq!(
        node.writer.fence(Epoch(9), Producer(8), 2),
        Ok(Fenced::At(0))
    );
    assert_eq!(
        node.writer.fence(Epoch(8), PRODUCER, 9),
        Ok(Fenced::OtherEpoch(Epoch(9)))
    );
}

#[test]
fn another_epoch_and_a_broken_one_change_nothing() {
    let Some(mut server) = Server::start(&["appendonly yes", "appendfsync always"]) else {
        return;
    };
    let mut node = server.node();
    // Nothing is there yet.
    assert_eq!(node.append(&outgoing(&["x"])), Ok(Appended::Broken));
    assert_eq!(node.writer.fence(Epoch(9), PRODUCER, 1), Ok(Fenced::Broken));
    let old = u64::MAX - 9;
    node.begin(old, &[]);
    node.epoch = Epoch(8);
    let other = Ok(Appended::OtherEpoch(Epoch(old)));
    assert_eq!(node.append(&outgoing(&["x"])), other);
    node.epoch = Epoch(old);
    assert_eq!(node.append(&outgoing(&["a"])), Ok(stored(1)));
    // A restart forgets nothing here, and still begins another history.
    server.restart();
    assert_eq!(node.append(&outgoing(&["x"])), Ok(Appended::Broken));
    assert_eq!(
        node.writer.fence(Epoch(old), PRODUCER, 1),
        Ok(Fenced::Broken)
    );
    let snapshot = node.writer.snapshot().unwrap();
    assert!(!snapshot.is_unbroken());
    assert_eq!(snapshot.last, Some(id(old, 1)));
    for (key, epoch) in [(LOG, old + 1), (RECORD, old + 2)] {
        assert!(node.begin(epoch, &[]));
        server.do_it(&format!("DEL {key}"));
        assert_eq!(
            node.append(&outgoing(&["x"])),
            Ok(Appended::Broken),
            "{key}"
        );
    }
}

#[test]
fn a_call_without_memory_stores_nothing_and_says_so() {
    let Some(server) = Server::start(&[]) else {
        return;
    };
    let mut node = server.node();
    node.begin(9, &[]);
    node.append(&outgoing(&["a"])).unwrap();
    for producer in [PRODUCER, Producer(8)] {
        node.producer = producer;
        server.do_it("CONFIG SET maxmemory 1");
        let appended = node.append_from(5, &outgoing(&["b", "c"]), None).unwrap();
        let Appended::Stored {
            messages: 0,
            fault: Some(fault),
            ..
        } = appended
        else {
            panic!("{appended:?}");
        };
        assert_eq!(fault.kind, FaultKind::Full, "{fault}");
        let probe = node.append_from(5, &[], Some(1)).unwrap_err();
        assert_eq!(probe.kind, FaultKind::Full, "{probe}");
        // Reading goes on.
        assert_eq!(node.read(id(9, 0)).len(), 1);
        server.do_it("CONFIG SET maxmemory 0");
    }
    assert_eq!(
        node.append_from(5, &outgoing(&["b", "c"]), None),
        Ok(stored(2))
    );
}

#[test]
fn old_entries_are_trimmed_by_whole_blocks_and_not_beyond() {
    let Some(server) = Server::start(&["stream-node-max-entries 10"]) else {
        return;
    };
    let mut node = server.node();
    node.begin(9, &[]);
    node.append(&outgoing(&["x"; 100])).unwrap();
    let messages = outgoing(&["y"]);
    let trimmed = node.writer.append(&Append {
        epoch: Epoch(9),
        producer: PRODUCER,
        first_number: 101,
        messages: &messages,
        probe: None,
        keep: Keep::From(id(9, 55)),
        replicas: 0,
    });
    assert_eq!(trimmed, Ok(stored(1)));
    let first = node.writer.snapshot().unwrap().first.unwrap();
    assert!((45..=55).contains(&first.seq), "{first}");
    assert_eq!(node.read(first).last().unwrap().id.seq, 101);
}

/// While the oldest message that a node holds is of an earlier epoch, there is no id before which entries may go.
#[test]
fn a_log_of_many_short_epochs_is_trimmed_by_number() {
    let Some(server) = Server::start(&["stream-node-max-entries 10"]) else {
        return;
    };
    let mut node = server.node();
    for epoch in 9..20 {
        server.do_it(&format!("HSET {RECORD} history abc"));
        assert!(node.begin(epoch, &[]));
        node.number = 0;
        node.append(&outgoing(&["x"; 20])).unwrap();
    }
    let messages = outgoing(&["y"]);
    let trimmed = node.writer.append(&Append {
        epoch: Epoch(19),
        producer: PRODUCER,
        first_number: 21,
        messages: &messages,
        probe: None,
        keep: Keep::Newest(100),
        replicas: 0,
    });
    assert_eq!(trimmed, Ok(stored(1)));
    let Value::Integer(entries) = server.do_it(&format!("XLEN {LOG}")) else {
        panic!();
    };
    assert!((100..=110).contains(&entries), "{entries}");
    assert_eq!(node.writer.snapshot().unwrap().last, Some(id(19, 221)));
}

#[test]
fn idle_producers_are_removed_when_there_are_too_many() {
    let Some(server) = Server::start(&[]) else {
        return;
    };
    let mut node = server.node();
    node.begin(9, &[]);
    let called_at = |unix_ms: u64| format!("{:020} {:020} {unix_ms}", 3, 0);
    let old = called_at(5);
    for nth in 0..256 {
        server.do_it(&format!("HSET {RECORD} p:{nth:016x} x"));
        server
            .ask(&["HSET", RECORD, &format!("p:{nth:016x}"), &old])
            .unwrap();
    }
    let now = node.writer.snapshot().unwrap().unix_ms;
    let new = called_at(now);
    server
        .ask(&["HSET", RECORD, "p:00000000000000ff", &new])
        .unwrap();
    node.producer = Producer(1000);
    node.append(&outgoing(&["a"])).unwrap();
    // Those that are new stay, and the facts of the record.
    node.producer = Producer(1001);
    node.append_from(1, &outgoing(&["b"]), None).unwrap();
    assert_eq!(
        server.do_it(&format!("HLEN {RECORD}")),
        Value::Integer(5 + 3)
    );
    assert!(node.writer.snapshot().unwrap().is_unbroken());
}

#[test]
fn replicas_that_confirm_are_counted_and_missing_ones_are_not_waited_for_without_a_message() {
    let Some(server) = Server::start(&[]) else {
        return;
    };
    let mut config = server.config();
    config.timeout = Duration::from_millis(300);
    let mut node = Node::new(&config);
    node.begin(9, &[]);
    let messages = outgoing(&["a"]);
    let call = |node: &mut Node, first_number, epoch| {
        node.writer.append(&Append {
            epoch: Epoch(epoch),
            producer: PRODUCER,
            first_number,
            messages: &messages,
            probe: None,
            keep: Keep::All,
            replicas: 1,
        })
    };
    // There is none: the time is over, and the message is stored.
    assert_eq!(call(&mut node, 1, 9), Ok(stored(1)));
    // Nothing is stored, so the call is not made to wait, and its answer is not taken for a later one's.
    assert_eq!(call(&mut node, 2, 8), Ok(Appended::OtherEpoch(Epoch(9))));
    assert_eq!(node.append_from(2, &outgoing(&["b"]), None), Ok(stored(1)));
    let line = format!("replicaof 127.0.0.1 {}", server.port);
    let Some(_replica) = Server::start(&[&line, "repl-diskless-sync-delay 0"]) else {
        return;
    };
    server.do_it("WAIT 1 30000");
    config.timeout = Duration::from_secs(10);
    let mut node = Node::new(&config);
    // The first replica changes the identity of the history, though nothing is lost.
    assert!(node.begin(10, &[]));
    let mut appended = call(&mut node, 3, 10);
    // One call waits a short time only. A call without a message asks again.
    while appended == Ok(stored(1)) || appended == Ok(stored(0)) {
        appended = node.writer.append(&Append {
            epoch: Epoch(10),
            producer: PRODUCER,
            first_number: 4,
            messages: &[],
            probe: Some(1),
            keep: Keep::All,
            replicas: 1,
        });
    }
    assert!(
        matches!(appended, Ok(Appended::Stored { replicas: 1, .. })),
        "{appended:?}"
    );
}
