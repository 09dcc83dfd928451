//! `hookcast doctor` against servers with keys of tokens.

use std::process::Command;
use std::thread;

use serde_json::{Value, json};

use crate::rig::{KEY, KeyFile, SECRET, in_seconds, token, token_until};

/// The checks of a doctor with this token, by name, and its exit status.
struct Report {
    status: i32,
    checks: Vec<Value>,
}

impl Report {
    /// The check of this name: its verdict, what was seen and the remedy.
    fn check(&self, name: &str) -> String {
        let found = self.checks.iter().find(|check| check["check"] == name);
        let check = found.unwrap_or_else(|| panic!("{name}: {:?}", self.checks));
        format!(
            "{}: {} {}",
            check["verdict"], check["seen"], check["remedy"]
        )
    }
}

fn doctor(url: &str, token: Option<&str>, secret: Option<&str>) -> Report {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("token");
    let mut command = Command::new(env!("CARGO_BIN_EXE_hookcast"));
    command.args(["doctor", url, "--watch", "5s", "--json"]);
    command.env_clear();
    if let Some(token) = token {
        std::fs::write(&path, format!("{token}\n")).unwrap();
        command.arg("--token-file").arg(&path);
    }
    command.envs(secret.map(|secret| ("WEBHOOK_SECRET", secret)));
    let output = command.output().unwrap();
    let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    for part in token
        .unwrap_or_default()
        .split('.')
        .filter(|part| !part.is_empty())
    {
        assert!(!text.contains(part), "{text}");
    }
    let lines = text
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok());
    Report {
        status: output.status.code().unwrap(),
        checks: lines.collect(),
    }
}

#[test]
fn doctor_names_what_a_server_with_keys_wants() {
    let file = KeyFile::new(KEY);
    let keys = file.setup(&["--auth-failures-max", "0"]).start();
    let required = file.setup(&["--require-token"]).start();
    let both = file.setup(&[]).secret(SECRET).start();
    let open = |address: std::net::SocketAddr| format!("http://{address}");
    let least = token(&json!({ "sessions": ["a", "doctor 1"], "publish": ["doctor 1"] }));
    let most = token(&json!({ "everything": true, "publish": true }));
    let mute = token(&json!({ "everything": true }));
    let other = token(&json!({ "sessions": ["a"], "publish": true }));
    let expired = token_until(in_seconds(-5), &json!({ "everything": true }));
    let (least, most, mute) = (
        Some(least.as_str()),
        Some(most.as_str()),
        Some(mute.as_str()),
    );
    let (other, expired) = (Some(other.as_str()), Some(expired.as_str()));
    // The server, the token, the secret; and what a check says.
    let rows = [
        (&keys, None, None, "stream", "no token was given"),
        (&keys, None, None, "history", "no token was given"),
        (&required, None, None, "post", "no token was given"),
        (&both, None, Some(SECRET), "stream", "no token was given"),
        (&keys, expired, None, "stream", "the token has expired"),
        (&required, expired, None, "post", "the token has expired"),
        (
            &keys,
            other,
            None,
            "stream",
            "does not contain this session",
        ),
        (&required, mute, None, "post", "does not allow webhooks"),
        (&required, least, None, "resume", "\"ok\""),
        (&required, most, None, "history", "\"ok\""),
        (&both, least, None, "post", "\"ok\""),
        (&both, most, Some(SECRET), "history", "\"ok\""),
    ];
    thread::scope(|scope| {
        for (server, token, secret, check, expected) in rows {
            scope.spawn(move || {
                let report = doctor(&open(server.address), token, secret);
                let text = report.check(check);
                assert!(text.contains(expected), "{check}: {text}");
                assert!(!text.contains("disk"), "{text}");
                let is_ok = expected == "\"ok\"";
                assert_eq!(report.status, i32::from(!is_ok), "{:?}", report.checks);
            });
        }
    });
    // The messages of an earlier examination are not taken for those of the next.
    let report = doctor(&open(required.address), least, None);
    assert_eq!(report.status, 0, "{:?}", report.checks);
}
