//! Files with secrets of sources.
//!
//! Called when a source is made. Never shows a byte of such a file.

use std::fs::{File, Metadata};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::limits::SECRET_BYTES_MAX;

/// The bits of a mode by which every user can read or write a file.
const OTHERS: u32 = 0o006;

/// The bytes of a file, and what may be unwanted about it.
pub struct SecretFile {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// A note for the operator.
    pub note: Option<String>,
}

/// Reads a file with a secret. A fault says what is wrong with the file.
pub fn read(path: &Path) -> Result<SecretFile, String> {
    let failed = |error: std::io::Error| format!("cannot be read: {error}");
    // Opening a pipe would wait for its writer.
    let metadata = std::fs::metadata(path).map_err(failed)?;
    if !metadata.is_file() {
        return Err("is not a regular file".to_owned());
    }
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed)?;
    let note = file.metadata().ok().and_then(|metadata| note_of(&metadata));
    file.take(SECRET_BYTES_MAX as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    match bytes.len() {
        0..=SECRET_BYTES_MAX => Ok(SecretFile { bytes, note }),
        _ => Err(format!(
            "is larger than {SECRET_BYTES_MAX} bytes: it has to hold the secret alone"
        )),
    }
}

/// Whether a text that should be the path of a secret file may be the secret: there is no such file, and it
/// does not begin like a path.
pub fn may_be_secret(directory: &Path, path: &str) -> bool {
    let is_path = ["/", "./", "../"]
        .iter()
        .any(|start| path.starts_with(start));
    let found = std::fs::metadata(directory.join(path));
    let is_missing = found.is_err_and(|error| error.kind() != ErrorKind::PermissionDenied);
    is_missing && !is_path
}

fn note_of(metadata: &Metadata) -> Option<String> {
    let others = metadata.mode() & OTHERS;
    let verb = match others {
        0 => return None,
        0o004 => "read",
        _ => "change",
    };
    Some(format!(
        "every user of this machine can {verb} it: chmod o-rw"
    ))
}
