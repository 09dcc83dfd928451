//! The findings of `hookcast kv-check`.

use serde_json::json;

use crate::kv::{World, namespace_id, own_rights};
use crate::support::Setup;

/// Runs it; returns the exit code and the output.
fn kv_check(world: &World<'_>, token: &str, arguments: &[&str]) -> (i32, String) {
    run(&world.setup_at(token, &[&["kv-check"], arguments].concat()))
}

fn run(setup: &Setup) -> (i32, String) {
    let output = setup
        .command()
        .stdout(std::process::Stdio::piped())
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    (
        output.status.code().unwrap(),
        String::from_utf8(text).unwrap(),
    )
}

fn line<'a>(text: &'a str, subject: &str) -> &'a str {
    text.lines()
        .find(|line| line.starts_with(subject))
        .unwrap_or_else(|| panic!("{subject} in {text}"))
}

#[test]
fn a_working_kv_has_no_findings() {
    let world = World::new(&["good"]);
    world.put(r#"[{"id":"10000000-0000-4000-8000-000000000000","content":"x","timestamp":1}]"#);
    let (code, text) = kv_check(&world, "good", &[]);
    assert_eq!(code, 0, "{text}");
    assert!(
        line(&text, "history").contains("holds 1 messages"),
        "{text}"
    );
    assert!(line(&text, "write").contains(" ok "), "{text}");
    assert_eq!(world.history().len(), 1);
    assert!(
        !text.contains("FAILED") && !text.contains("skipped"),
        "{text}"
    );
}

#[test]
fn each_fault_is_reported_with_its_remedy() {
    let world = World::new(&["good"]);
    let rights = |read, write| json!({ "read": read, "write": write });
    world.set(&json!({ "tokens": {
        "good": rights(true, true), "reader": rights(true, false), "own-token": own_rights(),
        "blind": rights(false, false),
        "accounts": { "read": false, "write": false, "is_account_owned": true },
        "old": { "read": false, "write": false, "status": "expired" },
    } }));
    let nowhere = format!("{}/wrong", world.kv.url);
    for (token, arguments, subject, words) in [
        ("unknown", &[][..], "token", "is not a valid API token"),
        ("old", &[], "token", "has expired"),
        ("blind", &[], "token", "the token itself is valid"),
        ("accounts", &[], "token", "the token itself is valid"),
        ("reader", &[], "write", "Workers KV Storage: Edit"),
        (
            "good",
            &["--kv-endpoint", "http://127.0.0.1:9"],
            "connection",
            "--kv-endpoint",
        ),
        (
            "good",
            &["--kv-endpoint", &nowhere],
            "connection",
            "--kv-endpoint",
        ),
    ] {
        let (code, text) = kv_check(&world, token, arguments);
        assert_eq!(code, 1, "{text}");
        let line = line(&text, subject);
        assert!(line.contains("FAILED") && line.contains(words), "{text}");
    }

    world.put("{}");
    let (code, text) = kv_check(&world, "good", &[]);
    assert_eq!(code, 1, "{text}");
    assert!(line(&text, "history").contains("delete the key"), "{text}");
}

/// Both ids are well-formed; one of them belongs to another account.
#[test]
fn a_wrong_account_and_a_wrong_namespace_have_different_findings() {
    let world = World::new(&["good"]);
    let other = namespace_id("other");
    for (variable, subject) in [
        ("CLOUDFLARE_ACCOUNT_ID", "account"),
        ("WEBHOOK_KV", "namespace"),
    ] {
        let setup = world
            .setup_at("good", &["kv-check"])
            .variable(variable, &other);
        let (code, text) = run(&setup);
        assert_eq!(code, 1, "{text}");
        let found = line(&text, subject);
        assert!(
            found.contains("FAILED") && found.contains(variable),
            "{text}"
        );
        assert!(line(&text, "token").contains(" ok "), "{text}");

        let node = world.setup("good", &[]).variable(variable, &other).start();
        let said = node.wait_for_log("reading from KV fails");
        let said = said["message"].as_str().unwrap();
        assert!(said.contains(&format!("the id {variable}")), "{said}");
    }
}
