//! Checks whether a start could open the ring at a path, and changes nothing there.
//!
//! Called by `server` for `--check-config`. If a start would create a file, this creates one
//! without a name (open(2), `O_TMPFILE`), which disappears when it is closed. On a file system
//! without such files only the permissions and the free space are checked. Never writes to a ring,
//! never removes or renames a file.

use std::io;
use std::path::Path;

use rustix::io::Errno;

use super::file::{
    allocate, allocate_error, check_kind, check_mappable, check_owner, file_error, lock,
    read_boot_id,
};
use super::layout::Geometry;
use super::place::{self, Place};
use super::recovery::{Plan, Step, Survey};
use super::storage::Image;
use super::{Report, RingError, wanted_geometry};

/// What a start would find.
pub struct Rehearsal {
    /// The report on the ring that a start would log.
    pub report: Report,
    /// Another process uses the ring, so the report may be out of date at once.
    pub is_in_use: bool,
}

/// Tries what [`super::Ring::open`] would do, or, with an `unsynced_max` of more than 1,
/// [`super::Ring::open_for_commits`]. The ring is locked for an instant only, so that a start at the
/// same time succeeds.
///
/// # Errors
///
/// Those of a start, except [`RingError::Locked`].
pub fn rehearse(
    path: &Path,
    content_bytes_max: usize,
    unsynced_max: usize,
) -> Result<Rehearsal, RingError> {
    let wanted = wanted_geometry(content_bytes_max, unsynced_max)?;
    let place = Place::find(&place::absolute(path)?)?;
    check_new_name(&place)?;
    let (plan, is_in_use) = plan(&place, wanted)?;
    if let Step::Rewrite(_) = plan.step {
        if place.is_mount_point() {
            return Err(RingError::MountPoint {
                path: place.path().to_owned(),
            });
        }
        try_create(&place, plan.geometry.file_bytes())?;
    }
    let report = Report {
        found: plan.found,
        messages: plan.messages.len(),
        lost_max: plan.lost_max,
        moved_to: None,
    };
    Ok(Rehearsal { report, is_in_use })
}

/// The plan of recovery for the file, or for a new one if there is none, and whether it is in use.
fn plan(place: &Place, wanted: Geometry) -> Result<(Plan, bool), RingError> {
    let cannot_open = || file_error("open", place.path());
    match place.stat("") {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok((Plan::create(wanted), false));
        }
        found => check_kind(place, "", &found.map_err(cannot_open())?)?,
    }
    let file = place.open("").map_err(cannot_open())?;
    check_owner(place, &file)?;
    let is_in_use = match lock(&file, place.path()) {
        Ok(()) => {
            file.unlock().map_err(cannot_open())?;
            false
        }
        Err(RingError::Locked { .. }) => true,
        Err(error) => return Err(error),
    };
    if Image::len(&file).map_err(RingError::Storage)? == 0 {
        return Ok((Plan::create(wanted), is_in_use));
    }
    let boot_id = read_boot_id().map_err(cannot_open())?;
    Ok((Survey::of(&file).plan(wanted, &boot_id), is_in_use))
}

/// Checks that no file has the name of a new one, or only a leftover.
fn check_new_name(place: &Place) -> Result<(), RingError> {
    match place.stat(super::file::NEW) {
        Ok(found) => check_kind(place, super::file::NEW, &found),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(file_error("create", place.path())(error)),
    }
}

/// Makes a file of this length without a name, and closes it.
fn try_create(place: &Place, len: u64) -> Result<(), RingError> {
    let cannot = |doing| file_error(doing, place.path());
    let new = match place.create_unnamed() {
        Ok(new) => new,
        Err(error) if is_unsupported(&error) => return check_directory(place, len),
        Err(error) => return Err(cannot("create")(error)),
    };
    check_mappable(&new).map_err(cannot("map"))?;
    allocate(&new, len).map_err(|error| allocate_error(place, &new, len, error))
}

/// Whether this is an error of a file system without `O_TMPFILE` (open(2)).
fn is_unsupported(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::OPNOTSUPP | Errno::ISDIR | Errno::NOENT | Errno::INVAL)
    )
}

/// Checks the permissions and the free space of the directory.
fn check_directory(place: &Place, len: u64) -> Result<(), RingError> {
    place
        .check_writable()
        .map_err(file_error("create", place.path()))?;
    let available = place
        .bytes_available()
        .map_err(file_error("create", place.path()))?;
    if available < len {
        return Err(RingError::NoSpace {
            path: place.path().to_owned(),
            needed: len,
            available,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_with_too_little_space_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let place = Place::find(&directory.path().join("a.ring")).unwrap();
        check_directory(&place, 1).unwrap();
        let error = check_directory(&place, u64::MAX).unwrap_err();
        assert!(matches!(error, RingError::NoSpace { .. }), "{error}");
        try_create(&place, 4096).unwrap();
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}
