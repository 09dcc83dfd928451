//! Files of the keys of tokens: unusable ones at the start, of `--check-config` and on SIGHUP.
//! The forms of files are tested beside the code, in `src/tokens`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use rustix::process::Signal;
use tempfile::TempDir;

use hookcast::testkit::{TOKEN_SECRET, sign_token_with};

use crate::support::{Server, Setup};

const HS256: &str = r#"{"alg":"HS256"}"#;
const OTHER_SECRET: &[u8] = b"another secret of 32 bytes or more";

struct Files(TempDir);

impl Files {
    fn new() -> Files {
        Files(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
        path
    }
}

fn flags(path: &Path) -> [&str; 2] {
    ["--token-key", path.to_str().unwrap()]
}

/// The status of a request for one session's history with a token of this secret.
fn status(server: &Server, secret: &[u8]) -> u16 {
    let claims = r#"{"exp":4102444800,"hookcast":{"sessions":["a"]}}"#;
    let token = sign_token_with(secret, HS256, claims);
    let header = format!("Authorization: Bearer {token}\r\n");
    let target = "/api/webhook/messages?sessionId=a";
    server.request("GET", target, &header, b"").status
}

#[test]
fn on_sighup_new_token_keys_are_used_and_bad_ones_are_not() {
    let files = Files::new();
    let path = files.write("key", TOKEN_SECRET);
    let server = Setup::new(&flags(&path)).start();
    assert_eq!(
        server.wait_for_log("the keys of tokens are in use")["keys"],
        1
    );
    let both = |server: &Server| (status(server, TOKEN_SECRET), status(server, OTHER_SECRET));
    assert_eq!(both(&server), (200, 401));

    files.write("key", b"short");
    server.signal(Signal::HUP);
    let line = server.wait_for_log("token keys not reloaded; the old ones stay in use");
    let message = line["message"].as_str().unwrap();
    let expected = format!(
        "--token-key {} is an HS256 secret of 5 bytes",
        path.display()
    );
    assert!(message.contains(&expected), "{message}");
    fs::remove_file(&path).unwrap();
    server.signal(Signal::HUP);
    server.wait_for_nth_log("token keys not reloaded", 1);
    assert_eq!(both(&server), (200, 401));

    files.write("key", OTHER_SECRET);
    server.signal(Signal::HUP);
    assert_eq!(server.wait_for_log("token keys reloaded")["keys"], 1);
    assert_eq!(both(&server), (401, 200));
}

#[test]
fn unusable_token_keys_end_a_start_with_one_line() {
    let files = Files::new();
    let private = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    for (path, expected) in [
        (
            files.write("private", private.serialize_pem().as_bytes()),
            "has a private key",
        ),
        (
            files.write("short", b"s3cret"),
            "is an HS256 secret of 6 bytes",
        ),
        (files.write("empty", b""), "is empty"),
        (
            files.write("set", b"{\"keys\":[]}"),
            "is a JWKS without a key",
        ),
        (
            files.write("long", &vec![b'x'; 65_537]),
            "is longer than 65536 bytes",
        ),
        (
            files.0.path().join("missing"),
            "cannot be read: No such file",
        ),
        (files.0.path().to_owned(), "is not a regular file"),
    ] {
        let setup = Setup::new(&flags(&path));
        let started = setup.command().output().unwrap();
        let text = String::from_utf8_lossy(&started.stderr);
        assert_eq!(started.status.code(), Some(1), "{text}");
        assert!(text.contains(expected), "{text}");
        let checked = setup.command().arg("--check-config").output().unwrap();
        let text = String::from_utf8_lossy(&checked.stderr);
        assert_eq!(checked.status.code(), Some(2), "{text}");
        let place = format!("--token-key {} ", path.display());
        let begin = format!("hookcast: cannot use the keys of tokens: {place}");
        assert!(text.contains(&begin) && text.contains(expected), "{text}");
        assert!(
            !text.contains("s3cret") && !text.contains("BEGIN"),
            "{text}"
        );
    }
}

/// As a service manager gives them: by variables, in a list.
#[test]
fn the_settings_of_tokens_have_variables() {
    let files = Files::new();
    let (one, two) = (
        files.write("one", TOKEN_SECRET),
        files.write("two", OTHER_SECRET),
    );
    let list = format!("{},{}", one.display(), two.display());
    let setup = Setup::new(&[]);
    for (value, expected) in [("true", "required"), ("1", "required"), ("no", "accepted")] {
        let mut command = setup.command();
        command
            .env("HOOKCAST_TOKEN_KEY", &list)
            .env("HOOKCAST_TOKEN_AUDIENCE", "us")
            .env("HOOKCAST_REQUIRE_TOKEN", value)
            .arg("--check-config")
            .stdout(Stdio::piped());
        let output = command.output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        let expected = format!("tokens {expected},");
        assert!(text.contains(&expected), "{output:?}");
    }
    let mut command = setup.command();
    command.env("HOOKCAST_REQUIRE_TOKEN", "yes");
    let output = command.arg("--check-config").output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("--require-token needs --token-key"), "{text}");
}
