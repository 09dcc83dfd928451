//! The ring file on a disk that is full, broken or unusual.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use rustix::process::Signal;

use crate::audience::Audience;
use crate::support::{PATIENCE, Server, Setup};
use crate::tracer::{Fault, from_the_start};

/// Starts with faults, and expects one line with the reason and no file left behind. Without the faults the
/// server starts.
pub fn expect_no_start(call: &str, fault: &str, said: &str) {
    let setup = Setup::new(&[]);
    let directory = setup.ring().parent().unwrap().to_owned();
    let trace = tempfile::NamedTempFile::new().unwrap();
    let trace = trace.path().to_str().unwrap();
    let wrapper = from_the_start(trace, call, &[fault]);
    let wrapper: Vec<&str> = wrapper.iter().map(String::as_str).collect();
    let log = setup.clone().under(&wrapper).start_in_vain();
    assert!(log.contains(said), "{fault}: {log}");
    let left: Vec<_> = std::fs::read_dir(&directory).unwrap().collect();
    assert!(left.is_empty(), "{fault}: {left:?}");
    setup.start().publish("now it works");
}

#[test]
fn enospc_when_the_ring_is_allocated() {
    expect_no_start("fallocate", "fallocate:error=ENOSPC", "bytes");
}

#[test]
fn enospc_when_the_ring_is_written_without_fallocate() {
    let trace = tempfile::NamedTempFile::new().unwrap();
    let setup = Setup::new(&[]);
    let wrapper = from_the_start(
        trace.path().to_str().unwrap(),
        "fallocate,pwrite64",
        &[
            "fallocate:error=EOPNOTSUPP",
            "pwrite64:error=ENOSPC:when=2+",
        ],
    );
    let wrapper: Vec<&str> = wrapper.iter().map(String::as_str).collect();
    let output = setup.clone().under(&wrapper).command().output().unwrap();
    let log = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{log}");
    assert!(!setup.ring().exists() && !log.contains("panicked"), "{log}");
    setup.start().publish("now it works");
}

#[test]
fn eio_when_the_ring_is_synced() {
    expect_no_start("msync", "msync:error=EIO", "Input/output error");
    expect_no_start("fsync", "fsync:error=EIO:when=1", "Input/output error");
}

#[test]
fn enomem_when_the_ring_is_mapped() {
    let setup = Setup::new(&[]);
    // The map of the ring is the only shared one. Its position among the calls is not constant, but its
    // descriptor is.
    let trace = tempfile::NamedTempFile::new().unwrap();
    let mut wrapper = from_the_start(
        trace.path().to_str().unwrap(),
        "mmap",
        &["mmap:error=ENOMEM"],
    );
    let new = format!("{}.new", setup.ring().display());
    wrapper.extend(["-P".into(), new]);
    let wrapper: Vec<&str> = wrapper.iter().map(String::as_str).collect();
    let output = setup.clone().under(&wrapper).command().output().unwrap();
    let log = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{log}");
    assert!(log.contains("Cannot allocate memory"), "{log}");
    setup.start().publish("now it works");
}

#[test]
fn no_thread_can_be_started() {
    let setup = Setup::new(&[]);
    let trace = tempfile::NamedTempFile::new().unwrap();
    let wrapper = from_the_start(
        trace.path().to_str().unwrap(),
        "clone3,clone",
        &["clone3:error=EAGAIN", "clone:error=EAGAIN"],
    );
    let wrapper: Vec<&str> = wrapper.iter().map(String::as_str).collect();
    let output = setup.clone().under(&wrapper).command().output().unwrap();
    let log = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{log}");
    assert!(
        log.contains("temporarily unavailable") && !log.contains("panicked"),
        "{log}"
    );
    setup.start().publish("now it works");
}

/// A file system without fallocate(2), and interrupted calls: the ring is created all the same.
#[test]
fn a_ring_is_created_without_fallocate_and_with_interrupted_calls() {
    let trace = tempfile::NamedTempFile::new().unwrap();
    for faults in [
        &[
            "fallocate:error=EOPNOTSUPP",
            "pwrite64:error=EINTR:when=1+2",
        ][..],
        &["fallocate:error=EINTR:when=1..3"],
        &["openat:error=EINTR:when=5+2", "flock:error=EINTR:when=1"],
    ] {
        let setup = Setup::new(&[]);
        let calls = "fallocate,pwrite64,openat,flock";
        let wrapper = from_the_start(trace.path().to_str().unwrap(), calls, faults);
        let wrapper: Vec<&str> = wrapper.iter().map(String::as_str).collect();
        let mut server = setup.clone().under(&wrapper).start();
        server.publish("kept");
        server.kill();
        let server = setup.start();
        assert_eq!(server.stream("", "").connected(), 1, "{faults:?}");
    }
}

/// The disk fails at the end of the process. The log and the exit status say so, and the next start has what
/// reached the page cache.
#[test]
fn eio_when_the_ring_is_closed() {
    let mut server = Server::start(&["--drain", "0s"]);
    let audience = Audience::of(&server);
    let fault = Fault::inject(
        &server,
        "msync,fsync",
        &["msync:error=EIO", "fsync:error=EIO"],
    );
    server.signal(Signal::TERM);
    let status = server.wait();
    assert_eq!(status.code(), Some(1), "{:#?}", server.log());
    assert!(fault.end().failures() > 0);
    let log = serde_json::to_string(&server.log()).unwrap();
    assert!(log.contains("to disk: Input/output error"), "{log}");
    let server = server.restart();
    audience.expect_history(&server);
}

/// The disk cannot be read at the start. The server says so, and starts with the part that it can read. The
/// file is kept for repair.
#[test]
fn eio_when_the_ring_is_read() {
    let mut server = Server::start(&[]);
    Audience::of(&server);
    server.kill();
    let setup = server.setup().clone();
    let before = std::fs::read(setup.ring()).unwrap();
    let trace = tempfile::NamedTempFile::new().unwrap();
    let fault = "pread64:error=EIO:when=3+";
    let mut wrapper = from_the_start(trace.path().to_str().unwrap(), "pread64", &[fault]);
    wrapper.extend(["-P".into(), setup.ring().display().to_string()]);
    let wrapper: Vec<&str> = wrapper.iter().map(String::as_str).collect();
    let server = setup.under(&wrapper).start();
    let line = server.wait_for_log("ring damaged");
    let message = line["message"].as_str().unwrap();
    assert!(message.contains("Input/output error"), "{line}");
    let aside = message
        .rsplit_once(" kept as ")
        .expect("the path of the copy")
        .1;
    assert!(std::fs::read(aside).unwrap() == before, "the copy differs");
    server.publish("it goes on");
}

/// A file system of this size.
pub struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    pub fn new(size: &str) -> SmallDisk {
        let directory = tempfile::tempdir().unwrap();
        let option = format!("size={size}");
        mount(&["-t", "tmpfs", "-o", &option, "none"], directory.path());
        SmallDisk(directory)
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    fn resize(&self, size: &str) {
        mount(&["-o", &format!("remount,size={size}")], self.0.path());
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let status = Command::new("umount")
            .arg("--lazy")
            .arg(self.0.path())
            .status();
        assert!(std::thread::panicking() || status.is_ok_and(|status| status.success()));
    }
}

pub fn mount(arguments: &[&str], path: &Path) {
    let status = Command::new("mount")
        .args(arguments)
        .arg(path)
        .status()
        .unwrap();
    assert!(
        status.success(),
        "this test has to mount a tmpfs: run it as root"
    );
}

/// No injection: first no room for the ring, then a disk that fills up beside it.
#[test]
fn a_full_disk() {
    let disk = SmallDisk::new("1m");
    let ring = disk.0.path().join("ring");
    let setup = Setup::new(&["--shards", "2"]).ring_at(ring);
    let output = setup.command().output().unwrap();
    let log = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{log}");
    assert!(log.contains("bytes"), "{log}");
    assert_eq!(std::fs::read_dir(disk.0.path()).unwrap().count(), 0);

    disk.resize("20m");
    let mut server = setup.start();
    let filler = std::fs::write(disk.0.path().join("filler"), vec![1; 30 << 20]);
    assert_eq!(filler.unwrap_err().kind(), std::io::ErrorKind::StorageFull);
    let mut audience = Audience::of(&server);
    for _ in 0..60 {
        audience.expect_service();
    }
    server.kill();
    let server = setup.start();
    audience.expect_history(&server);
}

/// The disk fails under `--durability disk`. Webhooks get a 500 and no stream shows their messages. Streams
/// are served, and webhooks work again when the disk does.
#[test]
fn eio_when_a_commit_is_synced() {
    let mut server = Server::start(&["--shards", "2", "--durability", "disk"]);
    let mut audience = Audience::of(&server);
    let calls = ["msync", "fsync", "fdatasync"];
    let faults = calls.map(|call| format!("{call}:error=EIO"));
    let faults = faults.each_ref().map(String::as_str);
    let fault = Fault::inject(&server, &calls.join(","), &faults);
    for _ in 0..5 {
        assert_eq!(audience.try_to_publish(), 500);
        assert_eq!(server.request("GET", "/api/webhook", "", b"").status, 200);
    }
    server.wait_for_log("webhooks cannot be stored");
    assert!(fault.end().failures() > 0);
    let deadline = Instant::now() + PATIENCE;
    while audience.try_to_publish() != 200 {
        assert!(Instant::now() < deadline, "webhooks do not recover");
    }
    audience.expect_service();
    server.wait_for_log("webhooks can be stored again");
    audience.expect_history(&server);
    server.kill();
    audience.expect_history(&server.restart());
}
