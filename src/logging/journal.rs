//! Priorities for the journal of systemd.
//!
//! A line for the journal may begin with its priority as `<N>` (sd-daemon(3)). The journal removes the
//! prefix and records the priority, so `journalctl -p err` works. systemd names the journal's file in
//! `JOURNAL_STREAM`, by device and inode (systemd.exec(5)). If standard error is redirected to another
//! file, lines must have no prefix. Used by the parent module. Never writes.

use std::ffi::OsStr;
use std::os::fd::AsFd;

use rustix::fs::fstat;
use tracing::Level;

/// Whether `output` is the file that `variable`, the value of `JOURNAL_STREAM`, names.
pub(super) fn is_behind(output: impl AsFd, variable: Option<&OsStr>) -> bool {
    let named = variable.and_then(OsStr::to_str).and_then(parse);
    match (named, fstat(output)) {
        (Some(named), Ok(file)) => named == (file.st_dev, file.st_ino),
        _ => false,
    }
}

/// `device:inode`, both decimal.
fn parse(variable: &str) -> Option<(u64, u64)> {
    let (device, inode) = variable.split_once(':')?;
    Some((device.parse().ok()?, inode.parse().ok()?))
}

/// The priority of a level, as a prefix (syslog(3)).
pub(super) fn prefix(level: Level) -> &'static str {
    match level {
        Level::ERROR => "<3>",
        Level::WARN => "<4>",
        Level::INFO => "<6>",
        Level::DEBUG | Level::TRACE => "<7>",
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn the_journal_is_recognised_by_device_and_inode() {
        let file = tempfile::tempfile().unwrap();
        let is = file.metadata().unwrap();
        let named = |text: String| is_behind(&file, Some(OsStr::new(&text)));
        assert!(named(format!("{}:{}", is.dev(), is.ino())));
        assert!(!named(format!("{}:{}", is.dev(), is.ino() + 1)));
        assert!(!named(format!("{}:{}", is.dev() + 1, is.ino())));
        for nonsense in ["", ":", "1", "1:2:3", "a:b", "-1:2"] {
            assert!(!named(nonsense.into()), "{nonsense}");
        }
        assert!(!is_behind(&file, None));
    }
}
