//! `hookcast health`: checks that a server answers. Containers use it as their health check, because the
//! image has no other HTTP client.
//!
//! Called by `main`. One request, within a bounded time. Never posts anything.

use std::time::Duration;

use ureq::http::Uri;

use crate::check::{Check, Verdict};
use crate::client;
use crate::foreign_text::{Secrets, quote};
use crate::limits::HEALTH_PATIENCE_MS;

/// Requests the URL. The check passes if the status is 200.
pub fn check(url: &str) -> Check {
    // The path may hold a token.
    let shown = quote(url, &Secrets::default());
    let (verdict, words) = match status(url) {
        Ok(200) => (Verdict::Passed, format!("{shown} answers")),
        Ok(status) => (
            Verdict::Failed,
            format!("{shown} answers with status {status}"),
        ),
        Err(error) => (Verdict::Failed, format!("{shown}: {error}")),
    };
    Check {
        subject: "health",
        verdict,
        words,
    }
}

fn status(url: &str) -> Result<u16, String> {
    let uri: Uri = url.parse().map_err(|_| "it is no URL".to_owned())?;
    let settings = client::config(&uri, None).expect("no certificates are given");
    let agent = settings
        .timeout_global(Some(Duration::from_millis(HEALTH_PATIENCE_MS)))
        .build()
        .new_agent();
    let answer = agent.get(uri).call().map_err(|error| error.to_string())?;
    Ok(answer.status().as_u16())
}
