//! Tests of tokens: vectors of other implementations, refusals, forgeries, claims, and files of keys.

mod claims;
mod files;
mod forgeries;
mod vectors;

use super::{Grant, PublishGrant, TokenFault, TokenKeys};
use crate::message::SessionId;
use crate::testkit::{TOKEN_SECRET, sign_token_with};

/// A time at which the tokens of these tests are valid.
const NOW_MS: u64 = 1_800_000_000_000;
const NOW_S: u64 = NOW_MS / 1000;

fn session(name: &str) -> SessionId {
    SessionId::parse(name).unwrap().unwrap()
}

/// The verdict on a token with this header and these claims, signed with the right secret.
fn verdict(header: &str, claims: &str) -> Result<Grant, TokenFault> {
    let keys = TokenKeys::parse(TOKEN_SECRET, None).unwrap();
    let token = sign_token_with(TOKEN_SECRET, header, claims);
    keys.verify(token.as_bytes(), NOW_MS)
}

/// The verdict on a token with these claims, for a server with this audience.
fn claimed(claims: &str, audience: Option<&str>) -> Result<Grant, TokenFault> {
    let keys = TokenKeys::parse(TOKEN_SECRET, audience).unwrap();
    let token = sign_token_with(TOKEN_SECRET, HS256, claims);
    keys.verify(token.as_bytes(), NOW_MS)
}

const HS256: &str = r#"{"alg":"HS256"}"#;
const VALID: &str = r#"{"exp":1800003600,"hookcast":{"sessions":["a","b"]}}"#;

#[test]
fn a_valid_token_grants_what_it_claims() {
    let grant = verdict(HS256, VALID).unwrap();
    assert_eq!(grant.expires_ms, NOW_MS + 3_600_000);
    assert_eq!(*grant.sessions, [session("a"), session("b")]);
    assert!(!grant.everything);
    assert_eq!(grant.publish, PublishGrant::Nothing);
    let keys = TokenKeys::parse(TOKEN_SECRET, None).unwrap();
    assert!(keys.has(grant.key) && keys.count() == 1);
    let others = TokenKeys::parse(&[7; 32], None).unwrap();
    assert!(!others.has(grant.key) && !TokenKeys::default().has(grant.key));
}

#[test]
fn the_text_of_a_fault_is_one_line_and_true() {
    for fault in TokenFault::ALL {
        assert!(
            fault.text().starts_with("a claim of the token ") || fault.text().contains("token")
        );
        assert!(!fault.text().contains('\n') && fault.text().len() < 120);
    }
    let bytes_max = crate::limits::TOKEN_BYTES_MAX.to_string();
    assert!(TokenFault::TooLong.text().contains(&bytes_max));
    let bytes_max = crate::limits::SESSION_BYTES_MAX.to_string();
    assert!(TokenFault::Session.text().contains(&bytes_max));
    let guesses = TokenFault::ALL.iter().filter(|fault| fault.is_guess());
    assert_eq!(guesses.count(), 6);
}
