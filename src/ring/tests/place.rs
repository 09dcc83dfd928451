//! The ring's path: symbolic links in it, and changes by other programs while the ring is in use.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::super::{Found, Ring, RingError};
use super::file::{error, open};
use super::{CONTENT_BYTES_MAX, last_100, message, numbers};
use crate::message::Message;

/// A user id that is not root's and, in all likelihood, not that of the running user.
const OTHER_USER: u32 = 65_533;

fn messages(first: u64, last: u64) -> Vec<Message> {
    (first..=last).map(|nth| message(nth, 40)).collect()
}

/// A ring in use with messages 1 to `count`.
fn ring_with(path: &Path, count: u64) -> Ring {
    let (mut ring, _) = open(path);
    for message in messages(1, count) {
        ring.append(&message).unwrap();
    }
    ring
}

/// The image of a ring with messages 1 to `count`.
fn image_with(count: u64) -> Vec<u8> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("other.ring");
    drop(ring_with(&path, count));
    fs::read(path).unwrap()
}

fn directory() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("test.ring");
    (directory, path)
}

/// The names beside `test.ring`.
fn others(directory: &TempDir) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory.path()).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.filter(|path| !path.ends_with("test.ring")).collect()
}

#[test]
fn links_are_followed_in_any_component() {
    let (root, _) = directory();
    let at = |name: &str| root.path().join(name);
    fs::create_dir_all(at("a/b")).unwrap();
    fs::create_dir(at("c")).unwrap();
    symlink("../a/b", at("c/relative")).unwrap();
    symlink(at("c/relative"), at("absolute")).unwrap();
    symlink("absolute/../up.ring", at("file")).unwrap();
    drop(ring_with(&at("a/up.ring"), 3));
    for path in [
        "file",
        "absolute/../up.ring",
        "c/relative/../../a/./up.ring",
    ] {
        let (ring, recovered) = open(&at(path));
        assert_eq!(numbers(&recovered), last_100(3), "{path}");
        assert!(matches!(error(&at("a/up.ring")), RingError::Locked { .. }));
        drop(ring);
    }
    drop(open(&at("absolute/new.ring")));
    assert!(at("a/b/new.ring").exists());

    symlink("around", at("around")).unwrap();
    for path in ["around/ring", "around"] {
        assert!(matches!(error(&at(path)), RingError::DanglingLink { .. }));
    }
    symlink("nowhere", at("to-nowhere")).unwrap();
    let found = error(&at("to-nowhere/ring"));
    assert!(matches!(found, RingError::NoDirectory { .. }), "{found}");
    assert!(!at("nowhere").exists());
}

#[test]
fn a_path_that_names_a_directory_is_refused() {
    let (root, _) = directory();
    for name in ["missing/", "missing/.", "..", ".", ""] {
        let found = error(&root.path().join(name));
        let RingError::NotAFile { kind, .. } = found else {
            panic!("{name}: {found}");
        };
        assert_eq!(kind, "directory");
    }
    assert!(matches!(error(Path::new("/")), RingError::NotAFile { .. }));
    assert!(others(&root).is_empty());
}

/// Needs root: only root can change a link's owner.
#[test]
fn a_link_of_another_user_is_not_followed() {
    let (root, path) = directory();
    let at = |name: &str| root.path().join(name);
    fs::create_dir(at("precious")).unwrap();
    let target = at("precious/target");
    fs::write(&target, "precious").unwrap();
    symlink(&target, &path).unwrap();
    symlink("precious", at("to-directory")).unwrap();
    symlink("to-directory", at("chain")).unwrap();
    let foreign_links = [&path, &at("to-directory")];
    let given = foreign_links.map(|link| lchown(link, Some(OTHER_USER), None));
    if given.iter().any(Result::is_err) {
        return;
    }
    for (path, link) in [
        (path.clone(), &path),
        (at("to-directory/target"), &at("to-directory")),
        (at("to-directory/new.ring"), &at("to-directory")),
        (at("chain/target"), &at("to-directory")),
    ] {
        let found = error(&path);
        let text = found.to_string();
        let RingError::ForeignLink { path, owner, .. } = found else {
            panic!("{text}");
        };
        assert_eq!((&path, owner), (link, OTHER_USER));
        assert!(
            text.contains("precious") && text.contains("chown -h"),
            "{text}"
        );
    }
    assert_eq!(fs::read(&target).unwrap(), b"precious");
    assert_eq!(fs::read_dir(at("precious")).unwrap().count(), 1);
}

/// Needs root, too.
#[test]
fn another_users_file_in_a_sticky_public_directory_is_refused() {
    let (root, path) = directory();
    drop(ring_with(&path, 3));
    let set_mode = |mode| fs::set_permissions(root.path(), fs::Permissions::from_mode(mode));
    if std::os::unix::fs::chown(&path, Some(OTHER_USER), None).is_err() {
        return;
    }
    drop(open(&path));
    set_mode(0o1777).unwrap();
    let found = error(&path);
    assert!(
        matches!(
            found,
            RingError::ForeignFile {
                owner: OTHER_USER,
                ..
            }
        ),
        "{found}"
    );
    set_mode(0o777).unwrap();
    drop(open(&path));
}

#[test]
fn another_file_at_the_path_is_kept_and_the_ring_is_written_anew() {
    for other in [&image_with(40)[..], b"not a ring", b""] {
        let (directory, path) = directory();
        let mut ring = ring_with(&path, 130);
        let epoch = ring.epoch();
        ring.examine().unwrap();
        let beside = path.with_file_name("other");
        fs::write(&beside, other).unwrap();
        fs::rename(&beside, &path).unwrap();
        assert!(ring.check().is_err() && ring.examine().is_err());
        let kept = ring.repair(&messages(31, 130)).unwrap();
        ring.examine().unwrap();
        assert_eq!(ring.append(&message(131, 40)).unwrap(), 131);
        assert!(matches!(error(&path), RingError::Locked { .. }));
        drop(ring);
        let (ring, recovered) = open(&path);
        assert_eq!(numbers(&recovered), last_100(131));
        assert_eq!(ring.epoch(), epoch);
        assert_eq!(others(&directory), Vec::from_iter(kept.clone()));
        assert_eq!(kept.is_none(), other.is_empty());
        if let Some(kept) = kept {
            assert!(fs::read(kept).unwrap() == other);
        }
    }
}

/// The moved file still has a name, so its link count does not change.
#[test]
fn a_moved_file_is_made_again_at_the_path() {
    let (directory, path) = directory();
    let mut ring = ring_with(&path, 130);
    let moved = path.with_file_name("moved");
    fs::rename(&path, &moved).unwrap();
    ring.check().unwrap();
    assert!(matches!(ring.examine().unwrap_err(), RingError::Removed));
    assert!(ring.repair(&messages(31, 130)).unwrap().is_none());
    ring.examine().unwrap();
    drop(ring);
    assert_eq!(numbers(&open(&path).1), last_100(130));
    assert_eq!(numbers(&open(&moved).1), last_100(130));
    // A link from the path to the moved file is enough: the next start would find it.
    let ring = ring_with(&path, 0);
    fs::remove_file(&moved).unwrap();
    fs::rename(&path, &moved).unwrap();
    symlink(&moved, &path).unwrap();
    ring.examine().unwrap();
    assert_eq!(others(&directory), [moved]);
}

#[test]
fn if_no_regular_file_is_at_the_path_repair_is_an_error_and_leaves_it() {
    let (_directory, path) = directory();
    let mut ring = ring_with(&path, 3);
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    let found = ring.repair(&messages(1, 3)).unwrap_err();
    assert!(matches!(found, RingError::NotAFile { .. }), "{found}");
    assert!(found.to_string().contains("directory"), "{found}");
    fs::remove_dir(&path).unwrap();
    symlink("nowhere", &path).unwrap();
    let found = ring.repair(&messages(1, 3)).unwrap_err();
    assert!(matches!(found, RingError::DanglingLink { .. }), "{found}");
    fs::remove_file(&path).unwrap();
    ring.repair(&messages(1, 3)).unwrap();
    ring.examine().unwrap();
}

/// `cp` overwrites a file in this way: the inode stays, and the contents change.
#[test]
fn an_overwritten_file_is_kept_and_the_ring_is_written_anew() {
    let (directory, path) = directory();
    let mut ring = ring_with(&path, 30);
    let older = fs::read(&path).unwrap();
    for message in messages(31, 130) {
        ring.append(&message).unwrap();
    }
    let zeros = vec![0; older.len()];
    let mut kept = Vec::new();
    for image in [&older, &image_with(130), &zeros] {
        ring.examine().unwrap();
        let node = fs::metadata(&path).unwrap().ino();
        fs::write(&path, image).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().ino(), node);
        ring.check().unwrap();
        assert!(matches!(
            ring.examine().unwrap_err(),
            RingError::Overwritten
        ));
        let aside = ring.repair(&messages(31, 130)).unwrap().unwrap();
        assert!(&fs::read(&aside).unwrap() == image);
        kept.push(aside);
    }
    // A truncated file holds nothing that the ring does not have: it is not kept.
    File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_len(9000)
        .unwrap();
    assert!(ring.repair(&messages(31, 130)).unwrap().is_none());
    // A shorter file with other contents is kept.
    fs::write(&path, &image_with(130)[..9000]).unwrap();
    kept.extend(ring.repair(&messages(31, 130)).unwrap());
    drop(ring);
    assert_eq!(numbers(&open(&path).1), last_100(130));
    let mut others = others(&directory);
    others.sort();
    kept.sort();
    assert_eq!(others, kept);
    assert_eq!(kept.len(), 4);
}

#[test]
fn an_unchanged_ring_passes_every_examination() {
    let (_directory, path) = directory();
    let mut ring = ring_with(&path, 0);
    for nth in 1..=250 {
        ring.examine().unwrap();
        ring.append(&message(nth, 40)).unwrap();
        if nth % 50 == 0 {
            drop(ring);
            let bytes_max = if nth == 100 {
                10_000
            } else {
                CONTENT_BYTES_MAX
            };
            let (opened, recovered) = Ring::open(&path, bytes_max).unwrap();
            assert!(matches!(
                recovered.report.found,
                Found::Intact | Found::Grown
            ));
            ring = opened;
        }
    }
    // The file then holds more than the ring, as after a failed commit.
    assert!(ring.rewind(250, &messages(150, 249)).unwrap().is_none());
    ring.examine().unwrap();
    assert_eq!(ring.append(&message(250, 40)).unwrap(), 250);
    ring.examine().unwrap();
}

#[test]
fn a_start_that_fails_removes_the_file_it_has_made() {
    let (directory, path) = directory();
    let (mut ring, _) = open(&path);
    let made = ring.take_made().unwrap();
    assert!(ring.take_made().is_none());
    drop((made, ring));
    assert!(!path.exists() && others(&directory).is_empty());
    let (mut ring, _) = open(&path);
    ring.take_made().unwrap().keep();
    drop(ring);
    assert!(path.exists());
    // A file that existed before is not removed, nor one that has replaced the file.
    assert!(open(&path).0.take_made().is_none());
    fs::remove_file(&path).unwrap();
    let (mut ring, _) = open(&path);
    let made = ring.take_made();
    fs::remove_file(&path).unwrap();
    fs::write(&path, "precious").unwrap();
    drop((made, ring));
    assert_eq!(fs::read(&path).unwrap(), b"precious");
}

#[test]
fn a_name_without_room_for_a_suffix_is_an_error() {
    let (directory, _) = directory();
    let path = directory.path().join("x".repeat(253));
    let found = error(&path);
    assert!(found.to_string().contains("shorter name"), "{found}");
    assert!(others(&directory).is_empty());
    // An intact file with this name is usable, until it has to be replaced.
    fs::write(&path, image_with(3)).unwrap();
    let (ring, recovered) = open(&path);
    assert_eq!(numbers(&recovered), last_100(3));
    drop(ring);
    fs::write(&path, "damaged").unwrap();
    assert!(error(&path).to_string().contains("shorter name"));
    assert_eq!(fs::read(&path).unwrap(), b"damaged");
    assert_eq!(others(&directory), [path]);
}
