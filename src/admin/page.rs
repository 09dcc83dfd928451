//! The page with live figures: one document with its script and its style, which shows `/metrics`.
//!
//! Called by [`Admin`](super::Admin). The script reads the text that Prometheus reads, so both have the
//! same figures. Never contains a figure itself.

/// The document, with `{nonce}` in place of each nonce.
pub(super) const PAGE: &str = include_str!("page.html");

/// The document for one answer, and its `Content-Security-Policy`. The page may run only scripts and styles
/// with this answer's nonce (Content Security Policy Level 3, section 7.1), and connect only to this address.
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
