//! What the engine refuses, and how it is reported.

use super::*;
use crate::bus::engine::FaultKind;

#[test]
fn each_error_of_a_real_engine_has_its_kind() {
    let lines = ["user joe on >pw ~* +@all -xadd", "requirepass s3cret"];
    let Some(server) = Server::start(&lines) else {
        return;
    };
    let open = server.config();
    let config = with_password(open.clone(), "s3cret");
    let mut node = Node::new(&config);
    node.begin(9, &[]);
    let kind_of = |config: &BusConfig| {
        let mut node = Node::new(config);
        node.epoch = Epoch(9);
        let fault = node.append_from(1, &[], Some(1)).unwrap_err();
        assert!(!fault.text.contains("s3cret"), "{fault}");
        (fault.kind, fault.text)
    };
    assert_eq!(kind_of(&open).0, FaultKind::Denied);
    assert_eq!(
        kind_of(&with_password(open.clone(), "wrong")).0,
        FaultKind::Denied
    );
    let mut joe = with_password(open.clone(), "pw");
    joe.address.user = Some("joe".into());
    let (kind, text) = kind_of(&joe);
    assert_eq!(kind, FaultKind::Denied, "{text}");
    assert!(text.contains("script") && !text.contains("joe"), "{text}");
    ask(&config, &["ACL", "SETUSER", "joe", "+xadd", "-evalsha"]).unwrap();
    let (kind, text) = kind_of(&joe);
    assert_eq!(kind, FaultKind::Denied, "{text}");
    assert!(text.contains("evalsha") && !text.contains("joe"), "{text}");
    for keys in ["{t}:m", "{t}:s"] {
        let only = format!("~{keys}");
        ask(
            &config,
            &["ACL", "SETUSER", "joe", "resetkeys", &only, "+evalsha"],
        )
        .unwrap();
        let (kind, text) = kind_of(&joe);
        assert_eq!(kind, FaultKind::Denied, "{text}");
        assert!(text.contains("keys") && !text.contains("joe"), "{text}");
    }

    // A script that is forgotten is sent again.
    ask(&config, &["SCRIPT", "FLUSH"]).unwrap();
    assert_eq!(node.append(&outgoing(&["a"])), Ok(stored(1)));
    ask(&config, &["SCRIPT", "FLUSH"]).unwrap();
    assert!(node.writer.snapshot().unwrap().is_unbroken());

    ask(&config, &["CONFIG", "SET", "min-replicas-to-write", "1"]).unwrap();
    let Ok(Appended::Stored {
        messages: 0,
        fault: Some(fault),
        ..
    }) = node.append(&outgoing(&["b"]))
    else {
        panic!();
    };
    assert_eq!(fault.kind, FaultKind::Full, "{fault}");
    assert_eq!(node.read(id(9, 0)).len(), 1);
    ask(&config, &["CONFIG", "SET", "min-replicas-to-write", "0"]).unwrap();
    // None of the refused messages has used a seq.
    node.number = 1;
    assert_eq!(node.append(&outgoing(&["b"])), Ok(stored(1)));
    assert_eq!(node.read(id(9, 1)).len(), 1);

    ask(&config, &["REPLICAOF", "127.0.0.1", "1"]).unwrap();
    let fault = node.append(&outgoing(&["c"])).unwrap_err();
    assert_eq!(fault.kind, FaultKind::NotPrimary, "{fault}");
    // A new connection finds out before it calls.
    let fault = node.append(&outgoing(&["c"])).unwrap_err();
    assert_eq!(fault.kind, FaultKind::NotPrimary, "{fault}");
    let fault = Node::new(&config)
        .reader
        .read(id(9, 0), Duration::from_millis(1))
        .unwrap_err();
    assert_eq!(fault.kind, FaultKind::NotPrimary, "{fault}");
}

/// Without its number a message could be stored twice.
#[test]
fn a_message_whose_number_cannot_be_written_is_not_stored() {
    let Some(server) = Server::start(&["user joe on >pw ~* +@all -hset"]) else {
        return;
    };
    server.node().begin(9, &[]);
    let mut config = with_password(server.config(), "pw");
    config.address.user = Some("joe".into());
    let mut node = Node::new(&config);
    node.epoch = Epoch(9);
    let Ok(Appended::Stored {
        messages: 0,
        fault: Some(fault),
        ..
    }) = node.append(&outgoing(&["a"]))
    else {
        panic!();
    };
    assert_eq!(fault.kind, FaultKind::Denied, "{fault}");
    assert!(node.read(id(9, 0)).is_empty());
    // The permission is lost later: the outcome is not known, and no number says it.
    server.do_it("ACL SETUSER joe +hset");
    node.number = 0;
    assert_eq!(node.append(&outgoing(&["a"])), Ok(stored(1)));
    server.do_it("ACL SETUSER joe -hset");
    let fault = node.append(&outgoing(&["b"])).unwrap_err();
    assert_eq!(fault.kind, FaultKind::Lost, "{fault}");
}

#[test]
fn an_engine_that_cannot_save_refuses_messages() {
    let Some(server) = Server::start(&["enable-protected-configs yes"]) else {
        return;
    };
    let mut node = server.node();
    node.begin(9, &[]);
    server
        .ask(&["CONFIG", "SET", "save", "3600 1000000"])
        .unwrap();
    // The name of a snapshot that is a directory cannot be written.
    std::fs::create_dir(server.directory.path().join("d")).unwrap();
    std::fs::write(server.directory.path().join("d/x"), "").unwrap();
    server.ask(&["CONFIG", "SET", "dbfilename", "d"]).unwrap();
    server.do_it("BGSAVE");
    let failed = || {
        let info = server.do_it("INFO persistence");
        reply::info_field(reply::text(&info).unwrap(), "rdb_last_bgsave_status") == Some("err")
    };
    let since = Instant::now();
    while !failed() {
        assert!(since.elapsed() < PATIENCE);
    }
    let Ok(Appended::Stored {
        messages: 0,
        fault: Some(fault),
        ..
    }) = node.append(&outgoing(&["b"]))
    else {
        panic!();
    };
    assert_eq!(fault.kind, FaultKind::Full, "{fault}");
    assert!(fault.text.contains("MISCONF"), "{fault}");
}

#[test]
fn keys_of_another_type_are_named() {
    for (key, suffix) in [(LOG, ":s"), (RECORD, ":m"), (PROBES, ":p")] {
        let Some(server) = Server::start(&[]) else {
            return;
        };
        let mut node = server.node();
        if key == PROBES {
            node.begin(9, &[]);
        }
        server.do_it(&format!("SET {key} x"));
        let fault = match key {
            PROBES => node.append_from(1, &[], Some(1)).unwrap_err(),
            _ => node.writer.snapshot().unwrap_err(),
        };
        assert_eq!(fault.kind, FaultKind::Unusable, "{fault}");
        assert!(fault.text.contains(&format!("ends in {suffix}")), "{fault}");
        let appended = node.append_from(1, &[], Some(1));
        match key {
            LOG => assert_eq!(appended, Ok(Appended::Broken), "there is no record"),
            _ => assert_eq!(appended.unwrap_err().kind, FaultKind::Unusable),
        }
        if key == PROBES {
            // Messages are not held up by it.
            assert_eq!(
                node.append_from(1, &outgoing(&["a"]), Some(1)),
                Ok(stored(1))
            );
        }
    }
}

#[test]
fn an_unreadable_record_is_not_taken_for_none() {
    let Some(server) = Server::start(&[]) else {
        return;
    };
    let mut node = server.node();
    node.begin(9, &[]);
    for (field, value) in [("lineage", "later"), ("body", "many")] {
        server.do_it(&format!("HSET {RECORD} {field} {value}"));
        let fault = node.writer.snapshot().unwrap_err();
        assert_eq!(fault.kind, FaultKind::Unusable, "{fault}");
        server.do_it(&format!("HSET {RECORD} lineage {}", Lineage::new(Epoch(9))));
    }
}
