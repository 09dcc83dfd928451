//! `bus-check` against engines in good and bad order.

use super::*;
use crate::bus::redis::bus_check;
use crate::check::{Check, Verdict};

/// The check of a subject.
fn of<'a>(checks: &'a [Check], subject: &str) -> &'a Check {
    let found = checks.iter().find(|check| check.subject == subject);
    found.unwrap_or_else(|| panic!("{subject}: {checks:#?}"))
}

fn assert_check(config: &BusConfig, subject: &str, verdict: Verdict, words: &str) {
    let checks = bus_check(config);
    let check = of(&checks, subject);
    assert_eq!(check.verdict, verdict, "{checks:#?}");
    assert!(check.words.contains(words), "{checks:#?}");
    let subjects: Vec<&str> = checks.iter().map(|check| check.subject).collect();
    assert_eq!(subjects.len(), 11, "{subjects:?}");
    for check in &checks {
        assert!(!check.words.contains("s3cret"), "{check}");
    }
}

#[test]
fn an_engine_in_good_order_passes_and_keeps_no_key() {
    let lines = [
        "appendonly yes",
        "maxmemory 1gb",
        "min-replicas-to-write 0",
        "requirepass s3cret",
    ];
    let Some(server) = Server::start(&lines) else {
        return;
    };
    let config = with_password(server.config(), "s3cret");
    let checks = bus_check(&config);
    for check in &checks {
        let expected = match check.subject {
            "replicas" => Verdict::Noted,
            _ => Verdict::Passed,
        };
        assert_eq!(check.verdict, expected, "{check}");
    }
    assert_eq!(ask(&config, &["DBSIZE"]), Ok(Value::Integer(0)));
    Node::new(&config).begin(9, &[]);
    assert_check(&config, "keys", Verdict::Passed, "0000000000000009");
    let other = |body_bytes_max| BusConfig {
        body_bytes_max,
        ..config.clone()
    };
    assert_check(
        &other(1024),
        "keys",
        Verdict::Failed,
        "--max-body-bytes 65536",
    );
    assert_check(
        &other(131_072),
        "keys",
        Verdict::Noted,
        "--max-body-bytes 65536",
    );
    let two = BusConfig {
        replicas: 2,
        ..config.clone()
    };
    assert_check(
        &two,
        "replicas",
        Verdict::Failed,
        "--bus-replicas asks for 2",
    );
    assert_eq!(ask(&config, &["DBSIZE"]), Ok(Value::Integer(2)));
}

#[test]
fn what_is_risky_or_wrong_is_said_with_the_way_out() {
    let Some(server) = Server::start(&[]) else {
        return;
    };
    let config = server.config();
    assert_check(&config, "persistence", Verdict::Noted, "appendonly yes");
    assert_check(&config, "memory", Verdict::Noted, "set maxmemory");
    assert_check(&config, "replicas", Verdict::Noted, "none");
    for (line, subject, verdict, words) in [
        (
            "CONFIG SET maxmemory-policy allkeys-lru",
            "memory",
            Verdict::Failed,
            "set noeviction",
        ),
        ("CONFIG SET maxmemory 1", "write", Verdict::Failed, "OOM"),
        (
            "CONFIG SET maxmemory 0",
            "write",
            Verdict::Passed,
            "{t}:check",
        ),
        (
            "CONFIG SET min-replicas-to-write 1",
            "write",
            Verdict::Failed,
            "NOREPLICAS",
        ),
        (
            "CONFIG SET min-replicas-to-write 0",
            "write",
            Verdict::Passed,
            "",
        ),
        (
            "SET {t}:l x",
            "keys",
            Verdict::Passed,
            "no bus of this name",
        ),
        ("LPUSH {t}:p x", "keys", Verdict::Failed, "ends in :p"),
        (
            "REPLICAOF 127.0.0.1 1",
            "primary",
            Verdict::Failed,
            "replica",
        ),
    ] {
        server.do_it(line);
        assert_check(&config, subject, verdict, words);
    }
}

#[test]
fn a_user_without_permissions_is_told_which() {
    let lines = [
        "requirepass s3cret",
        "user few on >pw ~{t}:* +@all -xsetid -wait -config",
        "user other on >pw ~other:* +@all",
    ];
    let Some(server) = Server::start(&lines) else {
        return;
    };
    let config = server.config();
    assert_check(&config, "user", Verdict::Failed, "--bus-password-file");
    assert_check(
        &with_password(config.clone(), "wrong"),
        "user",
        Verdict::Failed,
        "WRONGPASS",
    );
    let user = |name: &str| {
        let mut config = with_password(config.clone(), "pw");
        config.address.user = Some(name.into());
        config
    };
    assert_check(
        &user("few"),
        "permissions",
        Verdict::Failed,
        "+xsetid +wait",
    );
    assert_check(
        &user("few"),
        "persistence",
        Verdict::Noted,
        "CONFIG GET is not allowed",
    );
    assert_check(&user("few"), "memory", Verdict::Noted, "maxmemory");
    assert_check(&user("other"), "user", Verdict::Failed, "keys of the bus");
}

#[test]
fn an_engine_that_is_away_leaves_the_rest_untried() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let config = config(&format!("redis://127.0.0.1:{port}/t"));
    assert_check(&config, "connection", Verdict::Failed, "refused");
    assert_check(&config, "replicas", Verdict::Skipped, "not tried");
}

/// The commands of the scripts and of both halves are those that are tried.
#[test]
fn every_command_of_the_bus_is_tried() {
    let Some(server) = Server::start(&[]) else {
        return;
    };
    let used = || {
        let info = server.do_it("INFO commandstats");
        let info = reply::text(&info).unwrap().to_owned();
        let names = info.lines().filter_map(|line| {
            let (name, _) = line.strip_prefix("cmdstat_")?.split_once(':')?;
            Some(name.to_owned())
        });
        names.collect::<std::collections::BTreeSet<_>>()
    };
    let mut node = server.node();
    server.do_it("CONFIG RESETSTAT");
    node.begin(9, &[]);
    node.append(&outgoing(&["a"])).unwrap();
    node.append_from(2, &[], Some(1)).unwrap();
    node.read(id(9, 0));
    node.reader.read_back(None, 10).unwrap();
    node.writer.fence(Epoch(9), PRODUCER, 1).unwrap();
    node.writer.lease(PRODUCER, PATIENCE).unwrap();
    node.writer.end_lease(PRODUCER).unwrap();
    let mut bus = used();
    bus.remove("config|resetstat");
    server.do_it("CONFIG RESETSTAT");
    bus_check(&server.config());
    let tried = used();
    let missing: Vec<_> = bus.difference(&tried).collect();
    assert!(
        missing.is_empty() && bus.len() > 10,
        "{missing:?} of {bus:?}"
    );
}
