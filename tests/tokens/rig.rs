//! Servers with keys, and tokens for them.

use std::path::PathBuf;
use std::time::SystemTime;

use hookcast::testkit::sign_token_with;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{Server, Setup};

pub const KEY: &str = "a key of thirty-two bytes or more";
pub const OTHER_KEY: &str = "another key, which no server has yet";
pub const SECRET: &str = "the secret of the webhooks";

/// A directory with the file of a key.
pub struct KeyFile {
    _directory: TempDir,
    pub path: PathBuf,
}

impl KeyFile {
    pub fn new(key: &str) -> KeyFile {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token.key");
        std::fs::write(&path, key).unwrap();
        KeyFile {
            _directory: directory,
            path,
        }
    }

    pub fn replace(&self, key: &str) {
        std::fs::write(&self.path, key).unwrap();
    }

    /// A server with this key and these flags.
    pub fn setup(&self, flags: &[&str]) -> Setup {
        let path = self.path.to_str().unwrap();
        Setup::new(&[&["--token-key", path], flags].concat())
    }
}

/// A token with these claims, signed with this key.
pub fn hs256(key: &str, claims: &Value) -> String {
    hs256_with_header(key, &json!({ "alg": "HS256", "typ": "JWT" }), claims)
}

/// The same with any header.
pub fn hs256_with_header(key: &str, header: &Value, claims: &Value) -> String {
    sign_token_with(key.as_bytes(), &header.to_string(), &claims.to_string())
}

/// Unix seconds in so many seconds from now.
pub fn in_seconds(seconds: i64) -> i64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.unwrap().as_secs().cast_signed() + seconds
}

/// A token with these rights, for an hour.
pub fn token(rights: &Value) -> String {
    token_until(in_seconds(3600), rights)
}

/// A token with these rights, until a Unix second.
pub fn token_until(exp: i64, rights: &Value) -> String {
    hs256(
        KEY,
        &json!({ "exp": exp, "sub": "user-4711", "hookcast": rights }),
    )
}

/// The three ways in: the query and the fields of a request with a token. `query` is empty or begins with `?`.
pub fn ways(token: &str, query: &str) -> [(String, String); 3] {
    let separator = if query.is_empty() { '?' } else { '&' };
    [
        (
            query.to_owned(),
            format!("Authorization: Bearer {token}\r\n"),
        ),
        (format!("{query}{separator}token={token}"), String::new()),
        (
            query.to_owned(),
            format!("Cookie: a=b; hookcast_token={token}\r\n"),
        ),
    ]
}

/// Sends a webhook with these fields. Returns the status.
pub fn post(server: &Server, fields: &str, content: &str, session: Option<&str>) -> u16 {
    let body = match session {
        Some(session) => json!({ "message": content, "sessionId": session }),
        None => json!({ "message": content }),
    };
    let body = body.to_string();
    server
        .request("POST", "/api/webhook", fields, body.as_bytes())
        .status
}
