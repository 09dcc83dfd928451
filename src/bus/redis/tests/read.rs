//! Reads, probes, foreign entries.

use super::*;
use crate::bus::engine::Content;

fn wait() -> Duration {
    Duration::from_millis(1)
}

#[test]
fn a_read_waits_and_returns_what_is_appended_meanwhile() {
    let Some(server) = Server::start(&[]) else {
        return;
    };
    let mut node = server.node();
    node.begin(9, &[]);
    assert!(node.read(id(9, 0)).is_empty());
    let mut reading = server.node();
    let read = std::thread::spawn(move || {
        reading
            .reader
            .read(id(9, 0), Duration::from_secs(60))
            .unwrap()
    });
    let blocked = || {
        let info = server.do_it("INFO clients");
        reply::info_field(reply::text(&info).unwrap(), "blocked_clients") == Some("1")
    };
    let since = Instant::now();
    while !blocked() {
        assert!(since.elapsed() < PATIENCE);
    }
    node.append(&outgoing(&["a"])).unwrap();
    let news = read.join().unwrap();
    assert_eq!(seqs_and_contents(&news.entries), [(1, "a")]);
}

#[test]
fn a_read_returns_a_bounded_number_of_entries_in_order() {
    let Some(server) = Server::start(&[]) else {
        return;
    };
    let mut node = server.node();
    node.begin(9, &[]);
    for _ in 0..3 {
        node.append(&outgoing(&["x"; 128])).unwrap();
    }
    let first = node.read(id(9, 0));
    assert_eq!(first.len(), 256);
    let rest = node.read(first[255].id);
    assert_eq!((rest.len(), rest[127].id), (128, id(9, 384)));
    let back = node.reader.read_back(Some(id(9, 300)), 280).unwrap();
    assert_eq!(
        (back.len(), back[0].id, back[279].id),
        (280, id(9, 299), id(9, 20))
    );
}

#[test]
fn large_messages_are_read_a_few_at_a_time() {
    let Some(server) = Server::start(&[]) else {
        return;
    };
    let mut config = server.config();
    config.body_bytes_max = 4 * 1024 * 1024;
    let mut node = Node::new(&config);
    node.begin(9, &[]);
    let large = "x".repeat(4 * 1024 * 1024);
    for _ in 0..6 {
        node.append(&outgoing(&[&large])).unwrap();
    }
    let entries = node.read(id(9, 0));
    assert_eq!(entries.len(), 4);
    assert!(entries.iter().all(|entry| content_of(entry) == large));
    assert_eq!(node.reader.read_back(None, 10).unwrap().len(), 7);
    // A longer one than any node may send is no reason to read it.
    let mut small = server.config();
    small.body_bytes_max = 1024;
    for _ in 0..20 {
        node.append(&outgoing(&[&large])).unwrap();
    }
    // Some 80 MB on a busy machine: the wait bounds the whole answer.
    let fault = Node::new(&small)
        .reader
        .read(id(9, 0), PATIENCE)
        .unwrap_err();
    assert!(fault.text.contains("longer than"), "{fault}");
}

#[test]
fn probes_come_back_to_all_readers_from_their_first_read_on() {
    let Some(server) = Server::start(&[]) else {
        return;
    };
    let mut node = server.node();
    node.begin(9, &[]);
    node.append_from(1, &[], Some(1)).unwrap();
    assert_eq!(node.reader.read(id(9, 0), wait()).unwrap().probes, []);
    node.append_from(1, &[], Some(2)).unwrap();
    node.append_from(1, &outgoing(&["a"]), Some(3)).unwrap();
    let news = node.reader.read(id(9, 0), wait()).unwrap();
    assert_eq!(news.probes, [(PRODUCER, 2), (PRODUCER, 3)]);
    assert_eq!(news.entries.len(), 1);
    assert_eq!(node.reader.read(id(9, 1), wait()).unwrap().probes, []);
    // They come back after the loss of their key alone, and of everything.
    for (number, loss) in [(4, "DEL {t}:p"), (5, "FLUSHALL")] {
        server.do_it(loss);
        if loss == "FLUSHALL" {
            assert!(node.begin(10, &[]));
        }
        let after = id(node.epoch.0, 9);
        let _ = node.reader.read(after, wait()).unwrap();
        node.append_from(9, &[], Some(number)).unwrap();
        let news = node.reader.read(after, wait()).unwrap();
        assert_eq!(news.probes, [(PRODUCER, number)], "{loss}");
    }
    for number in 0..2_000 {
        node.append_from(9, &[], Some(number)).unwrap();
    }
    let Value::Integer(length) = server.do_it(&format!("XLEN {PROBES}")) else {
        panic!();
    };
    assert!(length < 300, "{length}");
}

#[test]
fn entries_of_other_programs_are_foreign_and_none_is_skipped() {
    let Some(server) = Server::start(&[]) else {
        return;
    };
    let mut node = server.node();
    node.begin(9, &[]);
    let uuid = "0123456789abcdef";
    let long = "s".repeat(257);
    let foreign: &[&[&str]] = &[
        &["x", "y"],
        &["i", uuid, "t", "5"],
        &["i", uuid, "t", "5", "c", "a", "z", "later"],
        &["i", "short", "t", "5", "c", "a"],
        &["i", uuid, "t", "-5", "c", "a"],
        &["i", uuid, "t", "", "c", "a"],
        &["i", uuid, "t", "5", "c", " "],
        &["i", uuid, "t", "5", "s", "", "c", "a"],
        &["i", uuid, "t", "5", "s", &long, "c", "a"],
        &["t", "5", "i", uuid, "c", "a"],
        &["b", "nonsense"],
        &["b", "0000000000000009"],
        &["b", "0000000000000008"],
    ];
    for fields in foreign {
        server
            .ask(&[&["XADD", LOG, "9-*"], *fields].concat())
            .unwrap();
    }
    server
        .ask(&["XADD", LOG, "9-*", "i", uuid, "t", "5", "c", "good"])
        .unwrap();
    let entries = node.read(id(9, 0));
    assert_eq!(entries.len(), foreign.len() + 1);
    let (good, bad) = entries.split_last().unwrap();
    for (entry, fields) in bad.iter().zip(foreign) {
        assert!(
            matches!(&entry.content, Content::Foreign(why) if !why.is_empty()),
            "{fields:?}"
        );
    }
    assert_eq!(content_of(good), "good");
    // In the place of a beginning.
    server
        .ask(&["XADD", LOG, "10-0", "i", uuid, "t", "5", "c", "a"])
        .unwrap();
    let last = node.read(good.id);
    assert!(matches!(last[0].content, Content::Foreign(_)));
    let mut latin = EngineCommand::new("XADD");
    latin
        .arg(LOG)
        .arg("11-1")
        .arg("i")
        .arg(uuid)
        .arg("t")
        .arg("5")
        .arg("c")
        .arg(&b"\xff"[..]);
    let mut engine = Engine::new(&server.config()).unwrap();
    engine.ask(&latin, Instant::now() + PATIENCE, 1024).unwrap();
    let last = node.read(id(10, 0));
    assert!(matches!(last[0].content, Content::Foreign(_)));
}
