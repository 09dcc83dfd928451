//! The page for people: one document with its script and its style, which shows `/metrics` live.
//!
//! Asked for by [`Admin`](super::Admin). The script reads the same text as Prometheus does, so there
//! is nothing that only one of the two is told.

/// The document, with `{nonce}` where one belongs.
pub(super) const PAGE: &str = include_str!("page.html");

/// The document for one answer, and its `Content-Security-Policy`: it may run what carries this
/// answer's nonce (Content Security Policy Level 3, section 7.1), ask this address for more, and
/// nothing else.
pub(super) fn with_nonce() -> Result<(String, String), getrandom::Error> {
    let mut random = [0; 16];
    getrandom::fill(&mut random)?;
    let nonce = format!("{:032x}", u128::from_ne_bytes(random));
    let policy = format!(
        "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; \
         connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'; require-trusted-types-for 'script'"
    );
    Ok((PAGE.replace("{nonce}", &nonce), policy))
}
