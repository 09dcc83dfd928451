//! What an operator runs before and beside the server: `--check-config`, `source-check`, `source-list`.

use std::process::{Command, Output};

use crate::rig::{Files, GITHUB, PUSH, SECRET, push_headers};
use crate::support::Setup;

fn hookcast(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_hookcast"))
        .args(arguments)
        .env_clear()
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn check_config_reads_the_file_and_names_every_fault_with_its_line() {
    let files = Files::new(GITHUB);
    let path = files.sources();
    let check = |path: &str| {
        hookcast(&[
            "--check-config",
            "--listen",
            "127.0.0.1:0",
            "--sources",
            path,
        ])
    };
    let good = check(&path);
    assert_eq!(good.status.code(), Some(0), "{good:?}");
    assert!(
        text(&good.stdout).contains(&format!("sources {path}")),
        "{good:?}"
    );

    let faulty = GITHUB.replace("\"secret\"", "\"missing\"") + "\n[x]\npreset = \"githib\"\n";
    files.write("sources.toml", faulty);
    let bad = check(&path);
    assert_eq!(bad.status.code(), Some(2));
    let lines = text(&bad.stderr);
    for (line, what) in [(4, "file 1 does not exist"), (9, "github")] {
        let start = format!("{path}:{line}: ");
        let found = lines
            .lines()
            .any(|text| text.contains(&start) && text.contains(what));
        assert!(found, "{start} {what}: {lines}");
    }
    let absent = check("/nowhere/sources.toml");
    assert_eq!(absent.status.code(), Some(2));
    assert!(text(&absent.stderr).contains("/nowhere/sources.toml"));

    // A server with such a file does not start, and leaves no ring behind.
    let setup = Setup::new(&["--sources", &path]);
    let output = setup.command().output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(!setup.ring().exists());
}

#[test]
fn source_check_says_what_would_become_of_a_request() {
    let files = Files::new(GITHUB);
    files.write("push.json", PUSH);
    let (path, body) = (files.sources(), files.path("push.json"));
    let check = |name: &str, headers: &str| {
        let own = [
            "source-check",
            name,
            "--sources",
            &path,
            "--body",
            body.to_str().unwrap(),
        ];
        let headers: Vec<&str> = headers
            .split("\r\n")
            .filter(|line| !line.is_empty())
            .flat_map(|line| ["--header", line])
            .collect();
        hookcast(&[&own[..], &headers].concat())
    };
    let good = check("github", &push_headers(SECRET, PUSH.as_bytes(), 1));
    assert_eq!(good.status.code(), Some(0), "{good:?}");
    assert!(
        text(&good.stdout).contains("acme/shop: Fix rounding"),
        "{good:?}"
    );
    let forged = check(
        "github",
        &push_headers("another secret", PUSH.as_bytes(), 1),
    );
    assert_eq!(forged.status.code(), Some(1), "{forged:?}");
    assert!(text(&forged.stdout).contains("fits none"), "{forged:?}");
    assert!(!text(&forged.stdout).contains(SECRET));
    assert_eq!(check("githib", "").status.code(), Some(1));
    let nobody = [
        "source-check",
        "github",
        "--sources",
        &path,
        "--body",
        "/nowhere",
    ];
    assert_eq!(hookcast(&nobody).status.code(), Some(2));
}

#[test]
fn source_list_prints_the_addresses_to_enter() {
    let files = Files::new(GITHUB);
    let path = files.sources();
    let list = hookcast(&["source-list", "https://hooks.example", "--sources", &path]);
    assert_eq!(list.status.code(), Some(0), "{list:?}");
    assert!(text(&list.stdout).contains("https://hooks.example/api/webhook/in/github"));
    let list = hookcast(&["source-list", "--sources", &path]);
    assert!(
        text(&list.stdout).contains("/api/webhook/in/github"),
        "{list:?}"
    );
    let without = hookcast(&["source-list"]);
    assert_eq!(without.status.code(), Some(2));
    assert!(text(&without.stderr).contains("--sources"));
}

#[test]
fn help_lists_only_flags_that_the_commands_of_sources_use() {
    for command in ["source-check", "source-list"] {
        for flag in ["--help", "-h"] {
            let help = hookcast(&[command, flag]);
            assert_eq!(help.status.code(), Some(0), "{help:?}");
            let help = text(&help.stdout);
            assert!(help.contains("--sources"), "{help}");
            for unused in ["--kv-", "--bus", "--log-", "--secret-file", "--listen"] {
                assert!(!help.contains(unused), "{unused}: {help}");
            }
        }
        // Hidden flags are still taken: a unit file may set them for all commands.
        let files = Files::new(GITHUB);
        let path = files.sources();
        let own: &[&str] = match command {
            "source-list" => &[],
            _ => &["github", "--body", &path],
        };
        let output =
            hookcast(&[&[command, "--log-level", "warn", "--sources", &path], own].concat());
        assert_ne!(output.status.code(), Some(2), "{output:?}");
    }
}

/// A source that verifies nothing is a risk where others have to show a secret, and where other machines reach it.
#[test]
fn an_open_source_is_a_warning_on_a_public_address_or_beside_a_secret() {
    const OPEN: &str = "[kuma]\npreset = \"uptime-kuma\"\nverify = false\n";
    const WARNING: &str = "sources that verify nothing (verify = false): kuma; ";
    let files = Files::new(&format!("{GITHUB}{OPEN}"));
    let path = files.sources();
    let check = |address: &str, secret: Option<&str>| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hookcast"));
        command.args(["--check-config", "--listen", address, "--sources", &path]);
        command.env_clear();
        if let Some(secret) = secret {
            command.env("WEBHOOK_SECRET", secret);
        }
        let output = command.current_dir(files.path("")).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        text(&output.stderr)
    };
    assert!(!check("127.0.0.1:0", None).contains("verify nothing"));
    for (address, secret) in [
        ("0.0.0.0:0", None),
        ("127.0.0.1:0", Some("a-secret-of-webhooks")),
    ] {
        let lines = check(address, secret);
        assert_eq!(lines.matches(WARNING).count(), 1, "{lines}");
    }
    let setup = Setup::new(&["--sources", &path]).secret("a-secret-of-webhooks");
    let server = setup.start();
    let line = server.wait_for_log(WARNING);
    assert_eq!(line["level"], "WARN", "{line}");
}
