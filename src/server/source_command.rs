//! The commands `source-check` and `source-list`: read the file of sources as the server does, and print.
//!
//! Called by `main`. Never contacts a server, and publishes nothing.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use super::{ServerError, sources};
use crate::config::{Config, SourceCheck, SourceCommand};
use crate::limits::BODY_BYTES_MAX_LIMIT;
use crate::sources::explain::{self, Trial};

/// What a command prints, and whether it has succeeded.
#[derive(Debug)]
pub struct Printout {
    /// The text, with a newline at its end.
    pub text: String,
    /// Whether the request would be taken.
    pub is_ok: bool,
    /// Notes about the file.
    pub notes: Vec<String>,
}

/// Runs the command of a configuration.
///
/// # Errors
///
/// A fault of the file of sources, or a body that cannot be read.
pub fn run_source_command(
    config: &Config,
    command: &SourceCommand,
) -> Result<Printout, ServerError> {
    let loaded = sources::load(config, &[]).map_err(ServerError::Sources)?;
    let Some(loaded) = loaded else {
        // The parser has checked that there is a file.
        return Err(ServerError::Start(
            "without --sources",
            io::ErrorKind::NotFound.into(),
        ));
    };
    let (text, is_ok) = match command {
        SourceCommand::List { public_url } => {
            (explain::list(&loaded.sources, public_url.as_deref()), true)
        }
        SourceCommand::Check(check) => {
            let body = read_body(&check.body)
                .map_err(|error| ServerError::Body(check.body.clone(), error))?;
            let trial = Trial {
                query: check.query.as_deref(),
                headers: &check.headers,
                body: &body,
            };
            let report = explain::check(&loaded.sources, &check.name, &trial, unix_ms(check));
            (report.text, report.is_taken)
        }
    };
    Ok(Printout {
        text,
        is_ok,
        notes: loaded.notes,
    })
}

fn unix_ms(check: &SourceCheck) -> u64 {
    check.at_unix_s.map_or_else(
        || {
            let now = SystemTime::now().duration_since(UNIX_EPOCH);
            now.map_or(0, |now| now.as_millis() as u64)
        },
        |seconds| seconds.saturating_mul(1000),
    )
}

/// Reads a body. One byte more than the largest shows that it is too large.
fn read_body(path: &Path) -> io::Result<Vec<u8>> {
    let most = BODY_BYTES_MAX_LIMIT as u64 + 1;
    let mut body = Vec::new();
    if path == Path::new("-") {
        io::stdin().take(most).read_to_end(&mut body)?;
    } else {
        File::open(path)?.take(most).read_to_end(&mut body)?;
    }
    Ok(body)
}
