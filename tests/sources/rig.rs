//! A server with a file of sources, and requests signed as GitHub signs them.

use std::fmt::Write;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use ring::hmac;
use tempfile::TempDir;

use crate::support::{Connection, Response, Server, Setup};

pub const SECRET: &str = "0123456789abcdef-the-secret";
pub const OLD_SECRET: &str = "fedcba9876543210-the-secret";

/// A push, with what the template of [`GITHUB`] shows.
pub const PUSH: &str = r#"{"ref":"refs/heads/main","repository":{"full_name":"acme/shop"},"pusher":{"name":"ana"},"commits":[{"message":"Fix rounding"}],"head_commit":{"message":"Fix rounding\n\nIn totals."}}"#;

/// A source with one secret and a template of its own.
pub const GITHUB: &str = r#"
[github]
preset = "github"
secret_files = ["secret"]
[github.templates]
push = "{{ repository.full_name }}: {{ head_commit.message|lines|first }}"
"#;

/// The tag of a body, as a header line.
pub fn signed(secret: &str, body: &[u8]) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let tag = hex(hmac::sign(&key, body).as_ref());
    format!("X-Hub-Signature-256: sha256={tag}\r\n")
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The header lines of a push. Each delivery has its own number.
pub fn push_headers(secret: &str, body: &[u8], delivery: usize) -> String {
    let event = "X-GitHub-Event: push\r\nContent-Type: application/json\r\n";
    format!(
        "{event}X-GitHub-Delivery: {delivery}\r\n{}",
        signed(secret, body)
    )
}

/// A push with this text.
pub fn push_body(message: &str) -> Vec<u8> {
    let body = serde_json::json!({
        "ref": "refs/heads/main",
        "repository": { "full_name": "acme/shop" },
        "head_commit": { "message": message },
    });
    body.to_string().into_bytes()
}

/// The files that a server's sources need.
pub struct Files(TempDir);

impl Files {
    /// The two secrets, and this file of sources.
    pub fn new(sources: &str) -> Files {
        let files = Files(tempfile::tempdir().unwrap());
        files.write("secret", SECRET);
        files.write("old", OLD_SECRET);
        files.write("sources.toml", sources);
        files
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes a file that only its owner can read.
    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
    }

    pub fn sources(&self) -> String {
        self.path("sources.toml").to_str().unwrap().to_owned()
    }
}

/// A server with sources and an admin address.
pub struct Rig {
    pub files: Files,
    pub server: Server,
}

impl Rig {
    pub fn start(sources: &str) -> Rig {
        Rig::start_with(sources, &[], None)
    }

    pub fn start_with(sources: &str, flags: &[&str], secret: Option<&str>) -> Rig {
        Rig::with_files(Files::new(sources), flags, secret)
    }

    pub fn with_files(files: Files, flags: &[&str], secret: Option<&str>) -> Rig {
        let path = files.sources();
        let own = ["--sources", &path, "--admin", "127.0.0.1:0"];
        let shards = if flags.contains(&"--shards") {
            &[][..]
        } else {
            &["--shards", "2"]
        };
        let mut setup = Setup::new(&[&own[..], shards, flags].concat());
        if let Some(secret) = secret {
            setup = setup.secret(secret);
        }
        let server = setup.start();
        Rig { files, server }
    }

    /// Sends a request to a source.
    pub fn post(&self, name: &str, headers: &str, body: &[u8]) -> Response {
        let target = format!("/api/webhook/in/{name}");
        self.server.request("POST", &target, headers, body)
    }

    /// The number of a series, 0 if it is not there.
    pub fn metric(&self, series: &str) -> u64 {
        let line = self.server.wait_for_log("metrics and health");
        let address = line["address"].as_str().unwrap().parse().unwrap();
        let mut connection = Connection::open(address);
        let text = String::from_utf8(connection.get("/metrics", "").body).unwrap();
        let mut lines = text.lines();
        let value = lines.find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        value.map_or(0, |value| value.parse().unwrap())
    }

    /// The number of a source's requests with this result.
    pub fn results(&self, name: &str, result: &str) -> u64 {
        let labels = format!("{{source=\"{name}\",result=\"{result}\"}}");
        self.metric(&format!("hookcast_source_requests_total{labels}"))
    }
}
