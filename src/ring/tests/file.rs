//! The ring on real files: creating, locking, replacing, links, and paths that are not files.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::super::{Damage, Found, Recovered, Ring, RingError};
use super::{CONTENT_BYTES_MAX, last_100, message, numbers};

fn directory() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("test.ring");
    (directory, path)
}

pub(super) fn open(path: &Path) -> (Ring, Recovered) {
    Ring::open(path, CONTENT_BYTES_MAX).unwrap()
}

pub(super) fn error(path: &Path) -> RingError {
    match Ring::open(path, CONTENT_BYTES_MAX) {
        Ok(_) => panic!("{} was opened", path.display()),
        Err(error) => error,
    }
}

fn names(directory: &TempDir) -> Vec<String> {
    let entries = fs::read_dir(directory.path()).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names = names.collect::<Vec<_>>();
    names.sort();
    names
}

/// A file with messages 1 to `count`.
fn file_with(path: &Path, count: u64) {
    let (mut ring, _) = open(path);
    for nth in 1..=count {
        ring.append(&message(nth, 40)).unwrap();
    }
}

#[test]
fn a_new_file_has_mode_0600_and_is_fully_allocated() {
    let (directory, path) = directory();
    // Slots of many pages. Making the file writes only one page of each.
    let (ring, recovered) = Ring::open(&path, 100_000).unwrap();
    assert!(matches!(recovered.report.found, Found::Nothing));
    let metadata = fs::metadata(&path).unwrap();
    assert_eq!(metadata.mode() & 0o7777, 0o600);
    assert_eq!(metadata.len(), 4096 + 101 * 102_400);
    assert!(metadata.blocks() * 512 >= metadata.len(), "no holes");
    assert_eq!(names(&directory), ["test.ring"]);
    ring.check().unwrap();
}

#[test]
fn messages_survive_a_dropped_and_a_synced_ring() {
    let (directory, path) = directory();
    file_with(&path, 130);
    let (mut ring, recovered) = open(&path);
    let epoch = ring.epoch();
    assert!(
        matches!(recovered.report.found, Found::Intact),
        "{}",
        recovered.report
    );
    assert_eq!(numbers(&recovered), last_100(130));
    ring.append(&message(131, 40)).unwrap();
    ring.sync().unwrap();
    ring.append(&message(132, 40)).unwrap();
    assert_eq!(ring.history().len(), 100);
    drop(ring);
    let (mut ring, recovered) = open(&path);
    assert_eq!(numbers(&recovered), last_100(132));
    ring.sync().unwrap();
    drop(ring);
    let (ring, recovered) = open(&path);
    assert_eq!(numbers(&recovered), last_100(132));
    assert_eq!(ring.epoch(), epoch);
    assert_eq!(names(&directory), ["test.ring"]);
}

#[test]
fn a_second_handle_is_refused_also_after_a_rewrite() {
    let (_directory, path) = directory();
    let (ring, _) = open(&path);
    let found = error(&path);
    assert!(matches!(found, RingError::Locked { .. }));
    assert!(found.to_string().contains("test.ring"), "{found}");
    drop(ring);
    // The lock is now that of the new file, which was renamed over the old one.
    let (ring, recovered) = Ring::open(&path, 10_000).unwrap();
    assert!(matches!(recovered.report.found, Found::Grown));
    assert!(matches!(error(&path), RingError::Locked { .. }));
    drop(ring);
    open(&path);
}

#[test]
fn a_file_that_another_process_is_making_is_locked() {
    let (_directory, path) = directory();
    let new_path = path.with_file_name("test.ring.new");
    let new = File::create(&new_path).unwrap();
    new.lock().unwrap();
    assert!(matches!(error(&path), RingError::Locked { .. }));
    assert!(new_path.exists(), "a locked file is not removed");
}

#[test]
fn the_leftover_of_an_interrupted_rewrite_is_removed() {
    let (directory, path) = directory();
    let stale = path.with_file_name("test.ring.new");
    fs::write(&stale, "half a ring").unwrap();
    drop(open(&path));
    assert_eq!(names(&directory), ["test.ring"]);
    fs::write(&stale, "half a ring").unwrap();
    drop(open(&path));
    assert_eq!(names(&directory), ["test.ring"]);
}

#[test]
fn a_link_at_the_temporary_name_is_an_error_and_not_followed() {
    let (directory, path) = directory();
    let victim = directory.path().join("victim");
    fs::write(&victim, "precious").unwrap();
    let new_path = path.with_file_name("test.ring.new");
    symlink(&victim, &new_path).unwrap();
    let found = error(&path);
    assert!(found.to_string().contains("test.ring.new"), "{found}");
    assert_eq!(fs::read(&victim).unwrap(), b"precious");
}

#[test]
fn a_damaged_file_is_kept_under_another_name() {
    let (directory, path) = directory();
    file_with(&path, 130);
    let mut image = fs::read(&path).unwrap();
    image[4096 + 50 * 4096 + 70] ^= 1;
    fs::write(&path, &image).unwrap();
    let (ring, recovered) = open(&path);
    assert_eq!(recovered.report.lost_max, Some(1));
    let aside = recovered.report.moved_to.as_deref().unwrap();
    let name = aside.file_name().unwrap().to_str().unwrap().to_owned();
    let time = name.strip_prefix("test.ring.corrupt-").unwrap();
    assert!(time.parse::<u64>().unwrap() > 1_700_000_000);
    assert_eq!(fs::read(aside).unwrap(), image);
    assert!(
        recovered.report.to_string().contains(&name),
        "{}",
        recovered.report
    );
    assert_eq!(names(&directory), ["test.ring", &name]);
    assert!(matches!(error(&path), RingError::Locked { .. }));
    drop(ring);
    assert!(matches!(open(&path).1.report.found, Found::Intact));
}

#[test]
fn damaged_files_of_the_same_second_are_all_kept() {
    let (directory, path) = directory();
    for nth in 1..=3 {
        fs::write(&path, format!("not a ring, {nth}")).unwrap();
        let (_, recovered) = open(&path);
        assert!(matches!(
            recovered.report.found,
            Found::Damaged(Damage::NotARing)
        ));
        assert_eq!(names(&directory).len(), nth + 1);
    }
}

#[test]
fn a_truncated_file_is_reported_with_its_length_and_salvaged() {
    let (_directory, path) = directory();
    file_with(&path, 50);
    File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_len(4096 * 11)
        .unwrap();
    let (_, recovered) = open(&path);
    assert_eq!(numbers(&recovered), (1..=9).collect::<Vec<_>>());
    let text = recovered.report.to_string();
    assert!(
        text.contains("45056 bytes long instead of 417792"),
        "{text}"
    );
}

#[test]
fn a_link_to_a_ring_is_followed_and_stays_a_link() {
    let (directory, path) = directory();
    let elsewhere = tempfile::tempdir().unwrap();
    let target = elsewhere.path().join("target.ring");
    file_with(&target, 5);
    symlink(&target, &path).unwrap();
    let (ring, recovered) = Ring::open(&path, 10_000).unwrap();
    assert!(matches!(recovered.report.found, Found::Grown));
    assert_eq!(numbers(&recovered), last_100(5));
    assert!(fs::symlink_metadata(&path).unwrap().is_symlink());
    assert!(matches!(error(&target), RingError::Locked { .. }));
    drop(ring);
    assert_eq!(numbers(&open(&target).1), last_100(5));
    assert_eq!(names(&directory), ["test.ring"]);
}

#[test]
fn a_dangling_link_is_never_followed() {
    let (directory, path) = directory();
    symlink(directory.path().join("nowhere"), &path).unwrap();
    let found = error(&path);
    assert!(matches!(found, RingError::DanglingLink { .. }), "{found}");
    assert!(found.to_string().contains("test.ring"), "{found}");
    assert_eq!(names(&directory), ["test.ring"]);
    fs::remove_file(&path).unwrap();
    symlink(&path, &path).unwrap();
    assert!(matches!(error(&path), RingError::DanglingLink { .. }));
}

#[test]
fn a_path_that_is_no_regular_file_is_refused() {
    let (directory, path) = directory();
    assert!(matches!(
        error(directory.path()),
        RingError::NotAFile { .. }
    ));
    assert!(matches!(
        error(Path::new("/dev/null")),
        RingError::NotAFile { .. }
    ));
    let _socket = std::os::unix::net::UnixListener::bind(&path).unwrap();
    assert!(matches!(error(&path), RingError::NotAFile { .. }));
}

#[test]
fn a_missing_directory_is_named_in_the_error() {
    let (directory, _) = directory();
    let path = directory.path().join("missing/test.ring");
    let found = error(&path);
    assert!(matches!(found, RingError::NoDirectory { .. }), "{found}");
    assert!(
        found.to_string().contains("/missing does not exist"),
        "{found}"
    );
}

#[test]
fn a_directory_that_is_not_writable_is_an_error() {
    // Not even root can create a file here.
    let found = error(Path::new("/proc/self/test.ring"));
    assert!(
        matches!(
            found,
            RingError::File {
                doing: "create",
                ..
            }
        ),
        "{found:?}"
    );
    assert!(found.to_string().contains("/test.ring.new"), "{found}");
    let (directory, path) = directory();
    let found = error(&path.join("below-a-file"));
    assert!(matches!(found, RingError::NoDirectory { .. }), "{found}");
    fs::write(&path, "").unwrap();
    let found = error(&path.join("below-a-file"));
    assert!(matches!(found, RingError::File { .. }), "{found}");
    drop(directory);
}

#[test]
fn a_truncated_file_in_use_is_repaired_and_stays_locked() {
    let (directory, path) = directory();
    file_with(&path, 130);
    let (mut ring, _) = open(&path);
    let epoch = ring.epoch();
    File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_len(5000)
        .unwrap();
    let found = ring.check().unwrap_err();
    assert!(
        matches!(
            found,
            RingError::Truncated {
                found: 5000,
                expected: 417_792
            }
        ),
        "{found}"
    );
    let history = (31..=130).map(|nth| message(nth, 40)).collect::<Vec<_>>();
    ring.repair(&history).unwrap();
    ring.check().unwrap();
    assert_eq!(ring.append(&message(131, 40)).unwrap(), 131);
    assert!(matches!(error(&path), RingError::Locked { .. }));
    drop(ring);
    let (ring, recovered) = open(&path);
    assert_eq!(numbers(&recovered), last_100(131));
    assert_eq!(ring.epoch(), epoch);
    assert_eq!(names(&directory), ["test.ring"]);
}

#[test]
fn a_deleted_file_is_made_again_unless_another_process_has_made_one() {
    let (_directory, path) = directory();
    file_with(&path, 3);
    let (mut ring, _) = open(&path);
    let history = (1..=3).map(|nth| message(nth, 40)).collect::<Vec<_>>();
    fs::remove_file(&path).unwrap();
    assert!(matches!(ring.check().unwrap_err(), RingError::Removed));
    ring.repair(&history).unwrap();
    ring.check().unwrap();
    // Another process makes a ring at the path. That ring must not be replaced.
    fs::remove_file(&path).unwrap();
    let (other, _) = open(&path);
    assert!(matches!(ring.check().unwrap_err(), RingError::Removed));
    let found = ring.repair(&history).unwrap_err();
    assert!(matches!(found, RingError::Replaced { .. }), "{found}");
    other.check().unwrap();
}

#[test]
fn a_file_of_another_boot_gets_a_new_epoch_unless_it_was_closed() {
    for was_closed in [false, true] {
        let (directory, path) = directory();
        let (mut ring, _) = open(&path);
        let epoch = ring.epoch();
        ring.append(&message(1, 40)).unwrap();
        if was_closed {
            ring.sync().unwrap();
        }
        drop(ring);
        // As if written during another boot: the boot id is another one, with a right checksum.
        let mut image = fs::read(&path).unwrap();
        image[512..528].copy_from_slice(&[7; 16]);
        let crc = crc32fast::hash(&[7; 16]);
        image[528..532].copy_from_slice(&crc.to_le_bytes());
        fs::write(&path, image).unwrap();
        let (ring, recovered) = open(&path);
        assert_eq!(numbers(&recovered), [1]);
        assert_eq!(ring.epoch() == epoch, was_closed);
        assert_eq!(
            matches!(recovered.report.found, Found::Rebooted),
            !was_closed
        );
        assert_eq!(names(&directory), ["test.ring"]);
    }
}

#[test]
fn a_full_disk_is_an_error_with_the_sizes() {
    // A quarter of an exabyte is more than any file system here has. A ring refuses such a size, so
    // this calls the layer below.
    let (directory, path) = directory();
    let mut medium = super::super::file::FileMedium::new(&path).unwrap();
    let len = 1 << 58;
    let found =
        super::super::Medium::replace(&mut medium, len, super::super::Aside::Drop, &mut |_| {
            unreachable!("nothing to fill")
        });
    let Err(found) = found else {
        panic!("allocated")
    };
    match &found {
        RingError::NoSpace {
            needed, available, ..
        } => assert!(needed > available),
        RingError::File {
            doing: "allocate", ..
        } => {}
        _ => panic!("{found:?}"),
    }
    assert!(
        names(&directory).is_empty(),
        "nothing is left behind: {:?}",
        names(&directory)
    );
}
