//! `hookcast kv-check` says what is wrong.

use serde_json::json;

use crate::kv::{World, own_rights};

/// Runs it: the exit code and what it printed.
fn kv_check(world: &World<'_>, token: &str, arguments: &[&str]) -> (i32, String) {
    let setup = world.setup_at(token, &[&["kv-check"], arguments].concat());
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
fn all_is_well() {
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
fn what_is_wrong_is_named_with_what_to_do() {
    let world = World::new(&["good"]);
    let rights = |read, write| json!({ "read": read, "write": write });
    world.tell(&json!({ "tokens": {
        "good": rights(true, true), "reader": rights(true, false), "own-token": own_rights(),
    } }));
    for (token, arguments, subject, words) in [
        ("unknown", &[][..], "token", "Workers KV Storage: Edit"),
        ("reader", &[], "write", "Workers KV Storage: Edit"),
        (
            "good",
            &["--kv-endpoint", "http://127.0.0.1:9"],
            "connection",
            "--kv-endpoint",
        ),
        (
            "good",
            &["--kv-endpoint", &format!("{}/wrong", world.kv.url)],
            "namespace",
            "WEBHOOK_KV",
        ),
    ] {
        let (code, text) = kv_check(&world, token, arguments);
        assert_eq!(code, 1, "{text}");
        let line = line(&text, subject);
        assert!(line.contains("FAILED") && line.contains(words), "{text}");
    }
    let elsewhere = World {
        kv: world.kv,
        namespace: "nowhere".into(),
        endpoint: world.kv.url.clone(),
    };
    let (code, text) = kv_check(&elsewhere, "good", &[]);
    assert_eq!(code, 1, "{text}");
    assert!(
        line(&text, "namespace").contains("WEBHOOK_KV must be the id"),
        "{text}"
    );

    world.put("{}");
    let (code, text) = kv_check(&world, "good", &[]);
    assert_eq!(code, 1, "{text}");
    assert!(line(&text, "history").contains("delete the key"), "{text}");
}
