//! No text shows a secret of the bus: marked ones are used in every place, and what `bus-check` prints, what a
//! node logs at the level `trace`, and its metrics are searched for them.
//!
//! The name of the user counts as a secret where hookcast writes the text. An engine may quote it, since
//! permissions could not be mended otherwise.

use std::process::Stdio;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::cluster::{Cluster, NAME, Node, setup};
use crate::engine::{Engine, free_port};
use crate::fake;
use crate::proxy::Proxy;
use crate::security::Authority;

/// Part of every secret here. Its letters occur in no other text of the program.
const MARK: &str = "qZxJw";

const USER: &str = "us-qZxJw";
const PASSWORD: &str = "pw-qZxJw@0815: \"%41";
const WRONG: &str = "wrong-qZxJw/4711";

/// Every form in which a text may show a secret.
fn spellings(secret: &str) -> Vec<String> {
    let bytes = |form: fn(u8) -> String| secret.bytes().map(form).collect::<Vec<String>>();
    let percent = bytes(|byte| format!("%{byte:02X}")).concat();
    let hex = bytes(|byte| format!("{byte:02x}")).concat();
    let numbers = bytes(|byte| byte.to_string());
    let json = serde_json::to_string(secret).unwrap();
    vec![
        hex,
        numbers.join(", "),
        secret.to_owned(),
        percent,
        json[1..json.len() - 1].to_owned(),
        STANDARD.encode(secret),
        STANDARD.encode(format!("{USER}:{secret}")),
    ]
}

/// Checks that a text shows no part of a secret.
#[track_caller]
fn shows_nothing(what: &str, text: &str) {
    let lower = text.to_lowercase();
    for secret in [USER, PASSWORD, WRONG] {
        for spelling in spellings(secret) {
            for part in [&spelling[..8], &spelling[spelling.len() - 8..]] {
                let is_shown = lower.contains(&part.to_lowercase());
                assert!(!is_shown, "{what}: {part} in {text}");
            }
        }
    }
    let is_marked = lower.contains(&MARK.to_lowercase());
    assert!(!is_marked, "{what}: {text}");
}

/// Checks that a text shows no line of a PEM file.
#[track_caller]
fn shows_nothing_of(pem: &str, what: &str, text: &str) {
    for line in pem.lines().filter(|line| !line.starts_with('-')) {
        assert!(!text.contains(&line[..8]), "{what}: {line} in {text}");
    }
}

/// The exit status of `bus-check`, and all that it prints.
fn bus_check(flags: &[&str]) -> (i32, String) {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_hookcast"))
        .arg("bus-check")
        .args(flags)
        .env_clear()
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8(text).unwrap();
    (output.status.code().unwrap(), text)
}

/// All that a node has logged, and its metrics.
fn texts(node: &Node) -> String {
    let log: Vec<String> = node.log().iter().map(ToString::to_string).collect();
    let metrics = String::from_utf8(node.get("/metrics").body).unwrap();
    log.join("\n") + &metrics
}

/// A node that logs all it can.
fn launch(flags: &[&str]) -> Cluster {
    let nowhere = ([127, 0, 0, 1], 1).into();
    let mut cluster = Cluster::empty(nowhere);
    let flags = [flags, &["--log-level", "trace"]].concat();
    cluster.launch_on(Proxy::to(nowhere), &flags, |setup| setup);
    cluster
}

/// A case that does not work: `bus-check` names the culprit, and a node complains. Returns all texts.
fn expect_refused(what: &str, culprit: &str, flags: &[&str]) -> String {
    let (code, checked) = bus_check(flags);
    assert_eq!(code, 1, "{what}: {checked}");
    assert!(checked.contains(culprit), "{what}: {checked}");
    shows_nothing(what, &checked);
    let cluster = launch(flags);
    let node = cluster.node(0);
    node.poll("a complaint of the bus", |node| {
        let complaints = node.complaints(0);
        complaints
            .iter()
            .any(|line| line.contains("the bus"))
            .then_some(())
    });
    assert!(!node.is_ready(), "{what}");
    let logged = texts(node);
    shows_nothing(what, &logged);
    println!("{what}: {checked}{}", node.complaints(0).join("\n"));
    checked + &logged
}

/// A file with this text in the engine's directory.
fn file(engine: &Engine, name: &str, text: &str) -> String {
    let path = engine.path(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

/// An engine whose default user has no rights, with a user of its own for hookcast.
fn engine_with_user() -> Engine {
    let mut engine = Engine::configured(&["aclfile \"\""]);
    let password = format!(">{PASSWORD}");
    let words = ["ACL", "SETUSER", USER, "on", &password, "~*", "&*", "+@all"];
    engine.attempt(&words).unwrap();
    engine.set("requirepass", "of the rig");
    engine.use_password(Some("of the rig"));
    engine
}

#[test]
fn user_and_password_are_in_no_text_whether_they_are_right_or_wrong() {
    let mut engine = engine_with_user();
    let right = file(&engine, "right", &format!("{PASSWORD}\n"));
    let wrong = file(&engine, "wrong", WRONG);
    let url = format!("redis://{USER}@{}/{NAME}", engine.address);

    let flags = ["--bus", &url, "--bus-password-file", &right];
    let (code, checked) = bus_check(&flags);
    assert_eq!(code, 0, "{checked}");
    assert!(checked.contains("permissions"), "{checked}");
    shows_nothing("right", &checked);
    let cluster = launch(&flags);
    let node = cluster.node(0);
    node.wait_until_ready();
    cluster.publish(0, "stored");
    engine.kill();
    assert!(!cluster.post(0, "not stored").is_stored());
    let logged = texts(node);
    assert!(logged.contains("joined the bus"), "{logged}");
    shows_nothing("right", &logged);
    engine.use_password(None);
    engine.restart();
    // The engine has forgotten its users: the node's user does not exist any more.
    node.poll("a refused user", |node| {
        let complaints = node.complaints(0).join("\n");
        complaints.contains("WRONGPASS").then_some(())
    });
    shows_nothing("right, and then unknown", &texts(node));

    let engine = engine_with_user();
    let url = format!("redis://{USER}@{}/{NAME}", engine.address);
    let flags = ["--bus", &url, "--bus-password-file", &wrong];
    expect_refused("wrong", "WRONGPASS", &flags);
}

#[test]
fn secrets_are_in_no_text_if_the_host_is_unknown_or_nothing_listens() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("password");
    std::fs::write(&path, PASSWORD).unwrap();
    let path = path.to_str().unwrap();
    for host in [
        "no-such-host.invalid:6379".into(),
        format!("127.0.0.1:{}", free_port()),
    ] {
        let url = format!("redis://{USER}@{host}/{NAME}");
        let flags = ["--bus", &url, "--bus-password-file", path];
        let text = expect_refused(&host, "connection", &flags);
        assert!(text.contains(&host), "the host may be shown: {text}");
    }
}

#[test]
fn secrets_and_keys_are_in_no_text_of_a_failed_tls_handshake() {
    let authority = Authority::new();
    authority.sign("node");
    let path = |name: &str| authority.path(name);
    let (engine, tls_port) = Engine::with_tls(&authority);
    let password = file(&engine, "password", PASSWORD);
    let stranger = Authority::new();
    stranger.sign("node");
    let (ca, strange) = (path("ca.pem"), stranger.path("ca.pem"));
    let pem = |authority: &Authority| (authority.path("node.pem"), authority.path("node.key"));
    let url = format!("rediss://{USER}@localhost:{tls_port}/{NAME}");
    for (what, ca, (cert, key)) in [
        ("an unknown authority", &strange, pem(&authority)),
        ("an unknown client certificate", &ca, pem(&stranger)),
    ] {
        let files = ["--bus-password-file", &password, "--bus-ca-file", ca];
        let identity = ["--bus-cert", &cert, "--bus-key", &key];
        let flags = [&["--bus", &url][..], &files, &identity].concat();
        let text = expect_refused(what, "connection", &flags);
        shows_nothing_of(&std::fs::read_to_string(&key).unwrap(), what, &text);
    }
}

/// What an engine, or something in between, says is quoted, without the secrets.
#[test]
fn secrets_that_an_engine_quotes_are_in_no_text() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("password");
    std::fs::write(&path, PASSWORD).unwrap();
    let path = path.to_str().unwrap();
    // Nothing quotes it in the other spellings, as hexadecimal digits or as numbers.
    for spelling in spellings(PASSWORD).into_iter().skip(2) {
        let quote = format!("sorry, got {spelling}, no");
        for (error, takes_user) in [
            (format!("WRONGPASS {quote}"), false),
            (format!("NOPERM {quote}"), true),
            (format!("ERR {quote}"), true),
        ] {
            let address = fake::refuse(&error, takes_user);
            let url = format!("redis://{USER}@{address}/{NAME}");
            let flags = ["--bus", &url, "--bus-password-file", path];
            let (code, checked) = bus_check(&flags);
            assert_eq!(code, 1, "{checked}");
            shows_nothing(&error, &checked);
        }
    }
    let address = fake::refuse(&format!("NOPERM with {PASSWORD}"), true);
    let url = format!("redis://{USER}@{address}/{NAME}");
    let flags = ["--bus", &url, "--bus-password-file", path];
    expect_refused("a quote", "NOPERM", &flags);
}

/// A password in the address is refused at once, by the server and by `bus-check`.
#[test]
fn an_address_with_a_password_is_refused_without_a_quote() {
    for scheme in ["redis", "rediss", "redis+sentinel", "http", ""] {
        for credentials in [format!("{USER}:{WRONG}"), format!(":{WRONG}")] {
            let url = format!("{scheme}://{credentials}@127.0.0.1:6379/rig");
            let (code, text) = bus_check(&["--bus", &url]);
            assert_eq!(code, 2, "{text}");
            assert!(text.contains("--bus"), "{text}");
            shows_nothing(&url, &text);
            let output = setup(&["--bus", &url]).command().output().unwrap();
            assert_eq!(output.status.code(), Some(2));
            shows_nothing(&url, &String::from_utf8(output.stderr).unwrap());
        }
    }
}
