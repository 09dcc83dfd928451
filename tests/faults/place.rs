//! Paths at which a ring cannot be, and starts that fail halfway: each gives the reason and leaves nothing
//! behind.

use std::fs;
use std::os::unix::fs::{lchown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::ring::{SmallDisk, expect_no_start, mount};
use crate::support::{PATIENCE, Server, Setup};
use crate::tracer::from_the_start;

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

/// A file mounted on another, as by `docker run -v ./ring:/data/ring`. The mount is in a namespace of the
/// server, so that it ends with the server.
struct BindMount {
    directory: tempfile::TempDir,
    source: PathBuf,
}

impl BindMount {
    fn new() -> BindMount {
        let directory = tempfile::tempdir().unwrap();
        let source = directory.path().join("source");
        fs::write(&source, "").unwrap();
        fs::create_dir(directory.path().join("data")).unwrap();
        fs::write(directory.path().join("data/ring"), "").unwrap();
        BindMount { directory, source }
    }

    fn target(&self) -> PathBuf {
        self.directory.path().join("data/ring")
    }

    fn setup(&self, flags: &[&str]) -> Setup {
        let script = r#"mount --bind "$1" "$2" && shift 2 && exec "$@""#;
        let (source, target) = (self.source.to_str().unwrap(), self.target());
        let mut wrapper = vec!["/usr/bin/unshare", "--mount", "--propagation", "private"];
        wrapper.extend(["/bin/sh", "-c", script, "sh", source]);
        wrapper.push(target.to_str().unwrap());
        Setup::new(flags).ring_at(self.target()).under(&wrapper)
    }

    /// Creates or opens the ring without the mount.
    fn publish_to_source(&self, message: &str) {
        let mut server = Setup::new(&[]).ring_at(self.source.clone()).start();
        server.publish(message);
        server.kill();
    }

    fn expect_refusal(&self, flags: &[&str]) {
        let before = fs::read(&self.source).unwrap();
        let log = self.setup(flags).start_in_vain();
        assert!(
            log.contains("mount its directory instead"),
            "{flags:?}: {log}"
        );
        assert!(fs::read(&self.source).unwrap() == before);
        assert_eq!(names(self.target().parent().unwrap()), ["ring"]);
        assert_eq!(names(self.directory.path()), ["data", "source"]);
    }
}

/// A mount point cannot be the target of a rename, so a ring that needs a rewrite cannot be opened. One that
/// needs none works, with a warning.
#[test]
fn a_ring_that_is_a_mount_point() {
    let mounted = BindMount::new();
    mounted.expect_refusal(&[]);
    fs::write(&mounted.source, "not a ring").unwrap();
    mounted.expect_refusal(&[]);
    fs::remove_file(&mounted.source).unwrap();
    mounted.publish_to_source("before");
    for flags in [
        &["--durability", "disk"][..],
        &["--max-body-bytes", "1048576"],
    ] {
        mounted.expect_refusal(flags);
    }
    for published in 1..3 {
        let mut server = mounted.setup(&[]).start();
        server.wait_for_log("the ring is a mount point");
        let mut stream = server.stream("", "");
        assert_eq!(stream.connected(), published);
        server.publish("through the mount");
        server.kill();
    }
    let server = Setup::new(&[]).ring_at(mounted.source.clone()).start();
    let mut stream = server.stream("", "");
    assert_eq!(stream.connected(), 3);
    // Its directory may be a mount point.
    drop((stream, server));
    let script = r#"mount --bind "$1" "$1" && shift && exec "$@""#;
    let directory = mounted.directory.path().to_str().unwrap();
    let wrapper = [
        "/usr/bin/unshare",
        "--mount",
        "/bin/sh",
        "-c",
        script,
        "sh",
        directory,
    ];
    let setup = Setup::new(&["--durability", "disk"]).ring_at(mounted.source.clone());
    let server = setup.under(&wrapper).start();
    assert_eq!(server.stream("", "").connected(), 3);
    assert!(server.log().iter().all(|line| line["level"] != "WARN"));
}

/// A file system without shared memory maps: FUSE without a cache.
struct Unmappable {
    source: tempfile::TempDir,
    mounted: tempfile::TempDir,
}

impl Unmappable {
    fn new() -> Unmappable {
        let [source, mounted] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let status = Command::new("bindfs")
            .args(["-o", "direct_io"])
            .args([source.path(), mounted.path()])
            .status();
        let status = status.expect("bindfs (Debian package of that name)");
        assert!(status.success(), "bindfs needs root and /dev/fuse");
        Unmappable { source, mounted }
    }
}

impl Drop for Unmappable {
    fn drop(&mut self) {
        let unmounted = Command::new("umount")
            .arg("--lazy")
            .arg(self.mounted.path())
            .status();
        assert!(std::thread::panicking() || unmounted.is_ok_and(|status| status.success()));
    }
}

#[test]
fn a_file_system_without_shared_maps() {
    let disk = Unmappable::new();
    let setup = Setup::new(&[]).ring_at(disk.mounted.path().join("ring"));
    let log = setup.start_in_vain();
    assert!(log.contains("no shared memory maps"), "{log}");
    // Files that were removed while open vanish when the file system has handled the close.
    let deadline = Instant::now() + PATIENCE;
    while !names(disk.source.path()).is_empty() {
        assert!(Instant::now() < deadline, "{:?}", names(disk.source.path()));
        std::thread::sleep(Duration::from_millis(5));
    }
    // A ring that was copied there stays unchanged.
    let mut server = Server::start(&[]);
    server.publish("kept");
    server.kill();
    fs::copy(server.setup().ring(), disk.source.path().join("ring")).unwrap();
    let log = setup.start_in_vain();
    assert!(log.contains("no shared memory maps"), "{log}");
    assert_eq!(names(disk.source.path()), ["ring"]);
}

/// The check comes before any space is allocated.
#[test]
fn the_check_for_maps_comes_before_any_allocation() {
    let setup = Setup::new(&[]);
    for errno in ["ENODEV", "EINVAL"] {
        let trace = tempfile::NamedTempFile::new().unwrap();
        let path = trace.path().to_str().unwrap();
        let fault = format!("mmap:error={errno}");
        let mut wrapper = from_the_start(path, "mmap,fallocate", &[&fault]);
        wrapper.extend(["-P".into(), format!("{}.new", setup.ring().display())]);
        let wrapper: Vec<&str> = wrapper.iter().map(String::as_str).collect();
        let log = setup.clone().under(&wrapper).start_in_vain();
        assert!(log.contains("no shared memory maps"), "{log}");
        let calls = fs::read_to_string(path).unwrap();
        assert!(
            calls.contains("mmap(") && !calls.contains("fallocate("),
            "{calls}"
        );
        assert!(names(setup.ring().parent().unwrap()).is_empty());
    }
}

#[test]
fn a_read_only_file_system() {
    let disk = SmallDisk::new("20m");
    mount(&["-o", "remount,ro"], disk.path());
    let setup = Setup::new(&[]).ring_at(disk.path().join("ring"));
    let log = setup.start_in_vain();
    assert!(
        log.contains("choose a place that can be written to"),
        "{log}"
    );
    mount(&["-o", "remount,rw"], disk.path());
    let mut server = setup.start();
    server.publish("kept");
    server.kill();
    mount(&["-o", "remount,ro"], disk.path());
    let log = setup.start_in_vain();
    assert!(
        log.contains("choose a place that can be written to"),
        "{log}"
    );
    assert_eq!(names(disk.path()), ["ring"]);
}

#[test]
fn a_file_system_without_locks() {
    expect_no_start("flock", "flock:error=ENOLCK", "no locks");
}

#[test]
fn an_exhausted_quota() {
    expect_no_start(
        "fallocate",
        "fallocate:error=EDQUOT",
        "disk quota of user 0",
    );
}

/// If the rename fails, the second name of a damaged ring is removed again. Otherwise every start would leave one.
#[test]
fn a_rename_that_fails() {
    let calls = "rename,renameat,renameat2";
    let faults = ["renameat:error=EIO", "renameat2:error=EIO"];
    for fault in faults {
        let setup = Setup::new(&[]);
        fs::write(setup.ring(), "not a ring").unwrap();
        let trace = tempfile::NamedTempFile::new().unwrap();
        let wrapper = from_the_start(trace.path().to_str().unwrap(), calls, &faults);
        let wrapper: Vec<&str> = wrapper.iter().map(String::as_str).collect();
        let log = setup.clone().under(&wrapper).start_in_vain();
        assert!(log.contains("Input/output error"), "{fault}: {log}");
        assert_eq!(names(setup.ring().parent().unwrap()), ["test.ring"]);
        assert_eq!(fs::read(setup.ring()).unwrap(), b"not a ring");
    }
}

/// By then the ring has its name.
#[test]
fn a_directory_that_cannot_be_synced() {
    expect_no_start("fsync", "fsync:error=EIO:when=2", "Input/output error");
    // Some file systems cannot sync directories.
    let trace = tempfile::NamedTempFile::new().unwrap();
    let fault = "fsync:error=EINVAL:when=2";
    let wrapper = from_the_start(trace.path().to_str().unwrap(), "fsync", &[fault]);
    let wrapper: Vec<&str> = wrapper.iter().map(String::as_str).collect();
    Setup::new(&[])
        .under(&wrapper)
        .start()
        .publish("it goes on");
    assert!(
        fs::read_to_string(trace.path())
            .unwrap()
            .contains("INJECTED")
    );
}

/// The first thread is the log's. Those of signals and control start after the ring is open.
#[test]
fn a_thread_that_cannot_start_after_the_ring_is_created() {
    for nth in ["2+", "3+"] {
        let fault = format!("clone3:error=EAGAIN:when={nth}");
        expect_no_start("clone3", &fault, "temporarily unavailable");
    }
}

#[test]
fn a_shard_without_epoll() {
    expect_no_start(
        "epoll_create1",
        "epoll_create1:error=EMFILE",
        "Too many open files",
    );
}

/// The server runs as root here, and could replace any file of the machine.
#[test]
fn a_link_of_another_user() {
    const OTHER_USER: u32 = 65_533;
    let directory = tempfile::tempdir().unwrap();
    let victim = directory.path().join("victim");
    fs::write(&victim, "precious").unwrap();
    let link = directory.path().join("ring");
    symlink(&victim, &link).unwrap();
    lchown(&link, Some(OTHER_USER), None).unwrap();
    let setup = Setup::new(&[]).ring_at(link.clone());
    let log = setup.start_in_vain();
    assert!(log.contains("belongs to user 65533"), "{log}");
    assert_eq!(fs::read(&victim).unwrap(), b"precious");
    assert_eq!(names(directory.path()), ["ring", "victim"]);
    // A link of root itself is followed.
    lchown(&link, Some(0), None).unwrap();
    setup.start().publish("stored in the target");
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(&fs::read(&victim).unwrap()[..8], b"HOOKRING");
}
