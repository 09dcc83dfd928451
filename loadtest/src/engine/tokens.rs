//! Tokens for streams: JSON Web Tokens (RFC 7519) by HS256, with a key that is made for the run.
//!
//! Used by `runs`, which writes the file of the key for the nodes, and by `cluster::reader`, which signs. Neither a key nor
//! a token is shown: nothing here implements `Debug` with one.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use memchr::memmem;
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};

use crate::engine::template::session_name;

/// Random bytes of a key.
const KEY_BYTES: usize = 32;

/// The header of every token.
const HEADER: &str = r#"{"alg":"HS256","typ":"JWT"}"#;

/// Writes the file of a new key, readable by its owner only.
pub fn write_key(path: &Path) -> io::Result<()> {
    let mut key = [0; KEY_BYTES];
    let random = SystemRandom::new();
    let filled = random.fill(&mut key);
    filled.map_err(|_| io::Error::other("the kernel gives no random bytes"))?;
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    writeln!(file, "{}", STANDARD.encode(key))
}

/// Signs tokens with the key of a file.
pub struct Issuer {
    key: hmac::Key,
}

impl Issuer {
    /// Reads the file of a key.
    pub fn read(path: &Path) -> io::Result<Issuer> {
        let text = std::fs::read_to_string(path)?;
        Ok(Issuer {
            key: hmac::Key::new(hmac::HMAC_SHA256, text.trim_end().as_bytes()),
        })
    }

    /// A token that opens these sessions, or everything if there are none, until a Unix time in milliseconds.
    pub fn token(&self, ends_ms: u64, sessions: impl Iterator<Item = u32>) -> String {
        let names: Vec<String> = sessions.map(session_name).collect();
        let rights = if names.is_empty() {
            serde_json::json!({ "everything": true })
        } else {
            serde_json::json!({ "sessions": names })
        };
        let (seconds, ms) = (ends_ms / 1_000, ends_ms % 1_000);
        let claims = format!(r#"{{"exp":{seconds}.{ms:03},"hookcast":{rights}}}"#);
        let part = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let signed = format!("{}.{}", part(HEADER.as_bytes()), part(claims.as_bytes()));
        let signature = hmac::sign(&self.key, signed.as_bytes());
        format!("{signed}.{}", part(signature.as_ref()))
    }
}

/// How a request carries its token. The server takes all three.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// `Authorization: Bearer`.
    Field,
    /// `?token=`, as `EventSource` does.
    Query,
    /// The cookie `hookcast_token`.
    Cookie,
}

impl Way {
    /// Streams take the ways in turn.
    pub fn of_stream(stream: usize) -> Way {
        [Way::Field, Way::Query, Way::Cookie][stream % 3]
    }

    /// Adds a token to a request without a body. One that is no request stays as it is.
    pub fn add(self, request: &mut Vec<u8>, token: &str) {
        const VERSION: &[u8] = b" HTTP/1.1\r\n";
        let Some(target_end) = memmem::find(request, VERSION) else {
            return;
        };
        let fields_at = target_end + VERSION.len();
        let (at, text) = match self {
            Way::Field => (fields_at, format!("Authorization: Bearer {token}\r\n")),
            Way::Cookie => (fields_at, format!("Cookie: hookcast_token={token}\r\n")),
            Way::Query => {
                let has_query = request[..target_end].contains(&b'?');
                let separator = if has_query { '&' } else { '?' };
                (target_end, format!("{separator}token={token}"))
            }
        };
        request.splice(at..at, text.bytes());
    }
}

/// The wall clock in Unix milliseconds: tokens end by it.
pub fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.unwrap_or(Duration::ZERO).as_millis() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A token's claims, if the key of the file has signed it.
    fn claims(path: &Path, token: &str) -> Option<serde_json::Value> {
        let (signed, signature) = token.rsplit_once('.')?;
        let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
        let secret = std::fs::read_to_string(path).ok()?;
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.trim_end().as_bytes());
        hmac::verify(&key, signed.as_bytes(), &signature).ok()?;
        let (_, claims) = signed.split_once('.')?;
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).ok()?).ok()
    }

    #[test]
    fn a_token_has_its_end_and_its_sessions() {
        let files = tempfile::tempdir().unwrap();
        let [path, other] = ["a.key", "b.key"].map(|name| files.path().join(name));
        write_key(&path).unwrap();
        write_key(&other).unwrap();
        let issuer = Issuer::read(&path).unwrap();
        let token = issuer.token(1_795_924_800_050, [1, 0x2a].into_iter());
        let expected = serde_json::json!({
            "exp": 1_795_924_800.050,
            "hookcast": { "sessions": ["session-00000001", "session-0000002a"] },
        });
        assert_eq!(claims(&path, &token), Some(expected));
        assert_eq!(claims(&other, &token), None);
        let token = issuer.token(1_795_924_800_000, std::iter::empty());
        assert_eq!(
            claims(&path, &token).unwrap()["hookcast"]["everything"],
            true
        );
        assert!(write_key(&path).is_err(), "a file is never replaced");
    }

    #[test]
    fn a_request_carries_its_token_in_three_ways() {
        let with = |stream, target: &str| {
            let mut request = format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n").into_bytes();
            Way::of_stream(stream).add(&mut request, "t.t.t");
            String::from_utf8(request).unwrap()
        };
        let line = "GET /s HTTP/1.1\r\n";
        assert_eq!(
            with(0, "/s"),
            format!("{line}Authorization: Bearer t.t.t\r\nHost: h\r\n\r\n")
        );
        assert_eq!(
            with(2, "/s"),
            format!("{line}Cookie: hookcast_token=t.t.t\r\nHost: h\r\n\r\n")
        );
        assert!(with(1, "/s").starts_with("GET /s?token=t.t.t HTTP/1.1\r\nHost"));
        assert!(with(4, "/s?a=b").starts_with("GET /s?a=b&token=t.t.t HTTP/1.1\r\nHost"));
    }
}
