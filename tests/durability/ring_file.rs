//! The ring file and its path for operators: failed starts leave nothing behind, and changes to the file by
//! other programs lose no acknowledged message.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Instant;

use rustix::fs::{CWD, Mode, mkfifoat};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::{PATIENCE, Server, Setup};

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

/// A failed start; returns the last line of its output.
fn failure(setup: &Setup) -> String {
    let log = setup.start_in_vain();
    let last = log.lines().last().unwrap();
    let line: Value = serde_json::from_str(last).unwrap();
    assert_eq!(line["level"], "ERROR", "{log}");
    line["message"].as_str().unwrap().to_owned()
}

/// Every other fault of the configuration is found before the ring is created.
#[test]
fn a_failed_start_leaves_no_ring_behind() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let directory = tempfile::tempdir().unwrap();
    let junk = directory.path().join("junk");
    fs::write(&junk, "junk").unwrap();
    let junk = junk.to_str().unwrap();
    let in_the_way = format!("unix:{junk}");
    let tls = [
        "--listen",
        "127.0.0.1:0+tls",
        "--tls-cert",
        junk,
        "--tls-key",
        junk,
    ];
    for (flags, expected) in [
        (&["--listen", &address][..], "in use"),
        (&["--admin", &address], "in use"),
        (&["--listen", "192.0.2.1:0"], "192.0.2.1"),
        (&["--listen", &in_the_way], "is not a socket"),
        (&["--listen", "unix:/missing/a.sock"], "/missing"),
        (&tls, "TLS"),
    ] {
        let setup = Setup::new(flags);
        let message = failure(&setup);
        assert!(message.contains(expected), "{message}");
        assert!(
            names(setup.ring().parent().unwrap()).is_empty(),
            "{flags:?}"
        );
    }
    // An existing ring is not changed, either.
    let mut server = Server::start(&[]);
    server.publish("kept");
    server.kill();
    let setup = server.setup().clone();
    let before = fs::read(setup.ring()).unwrap();
    failure(&setup.clone().arguments(&["--listen", &address]));
    assert!(fs::read(setup.ring()).unwrap() == before);
}

/// Each error names what is there and the remedy. The file is not changed.
#[test]
fn a_path_that_cannot_be_a_ring_gets_the_reason_and_the_remedy() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    fs::create_dir(at("directory")).unwrap();
    mkfifoat(CWD, at("pipe"), Mode::RUSR | Mode::WUSR).unwrap();
    symlink("nowhere", at("dangling")).unwrap();
    fs::write(at("file"), "").unwrap();
    fs::create_dir(at("in-the-way.new")).unwrap();
    let long = "x".repeat(300);
    let almost = "y".repeat(253);
    let before = names(directory.path());
    for (name, expected) in [
        ("directory", "a directory; name a file with --ring"),
        ("directory/", "a directory; name a file with --ring"),
        ("missing/", "a directory; name a file with --ring"),
        ("pipe", "a pipe; name a file with --ring"),
        ("/dev/null", "a device; name a file with --ring"),
        ("dangling", "make what it points to, or remove it"),
        ("missing/ring", "missing does not exist; create it"),
        ("file/ring", "Not a directory"),
        (
            "in-the-way",
            "in-the-way.new: not a regular file but a directory",
        ),
        (&long, "choose a shorter name with --ring"),
        (&almost, "choose a shorter name with --ring"),
    ] {
        let message = failure(&Setup::new(&[]).ring_at(at(name)));
        assert!(message.contains(expected), "{name}: {message}");
    }
    assert_eq!(names(directory.path()), before);
    assert!(names(&at("directory")).is_empty());
}

#[test]
fn a_ring_in_use_is_left_alone() {
    let server = Server::start(&[]);
    let id = server.publish("kept");
    let message = failure(server.setup());
    assert!(message.contains("in use by another process"), "{message}");
    assert_eq!(
        names(server.setup().ring().parent().unwrap()),
        ["test.ring"]
    );
    let mut stream = server.stream("", "");
    assert_eq!(stream.connected(), 1);
    assert_eq!(stream.next().json()["id"], id.as_str());
}

/// A server whose ring file is changed by other programs.
struct Node {
    server: Server,
    published: usize,
    path: PathBuf,
}

impl Node {
    fn start(flags: &[&str]) -> Node {
        let server = Server::start(flags);
        let path = server.setup().ring();
        let mut node = Node {
            server,
            published: 0,
            path,
        };
        for _ in 0..130 {
            node.publish();
        }
        node
    }

    /// Publishes a message, which must be acknowledged.
    fn publish(&mut self) {
        self.server.publish(&format!("message {}", self.published));
        self.published += 1;
    }

    /// Publishes until the server has logged this.
    fn publish_until(&mut self, message: &str) {
        let deadline = Instant::now() + PATIENCE;
        let has_noticed = |server: &Server| {
            let log = server.log();
            log.iter().any(|line| {
                line["message"]
                    .as_str()
                    .is_some_and(|text| text.starts_with(message))
            })
        };
        while !has_noticed(&self.server) {
            assert!(Instant::now() < deadline, "{:#?}", self.server.log());
            self.publish();
        }
    }

    /// Checks that the history holds the last hundred acknowledged messages.
    fn expect_all(server: &Server, published: usize) {
        let mut stream = server.stream("", "");
        assert_eq!(stream.connected(), 100);
        let expected: Vec<String> = (published - 100..published)
            .map(|nth| format!("message {nth}"))
            .collect();
        assert_eq!(stream.contents(100), expected);
    }

    /// Ends the server by a kill or a drain; the next one must have everything.
    fn end(mut self, is_killed: bool) {
        if is_killed {
            self.server.kill();
        } else {
            self.server.signal(Signal::TERM);
            assert_eq!(
                self.server.wait().code(),
                Some(0),
                "{:#?}",
                self.server.log()
            );
        }
        let published = self.published;
        let server = self.server.restart();
        assert!(
            server.log().iter().all(|line| line["level"] != "WARN"),
            "{:#?}",
            server.log()
        );
        Node::expect_all(&server, published);
    }

    fn kept(&self) -> PathBuf {
        let line = self
            .server
            .wait_for_log("the file that another program put in place");
        line["kept"].as_str().unwrap().into()
    }
}

const DURABILITIES: [&[&str]; 2] = [
    &["--drain", "0s"],
    &["--drain", "0s", "--durability", "disk"],
];

#[test]
fn a_file_that_replaces_the_ring_is_kept_and_no_webhook_is_refused() {
    for flags in DURABILITIES {
        let mut node = Node::start(flags);
        let other = node.path.with_file_name("other");
        fs::write(&other, "precious").unwrap();
        fs::rename(&other, &node.path).unwrap();
        node.publish();
        assert_eq!(fs::read(node.kept()).unwrap(), b"precious");
        for _ in 0..20 {
            node.publish();
        }
        node.end(true);
    }
}

#[test]
fn a_moved_or_overwritten_ring_is_created_again() {
    for flags in DURABILITIES {
        let mut node = Node::start(flags);
        let backup = fs::read(&node.path).unwrap();
        fs::rename(&node.path, node.path.with_file_name("moved")).unwrap();
        node.publish_until("the ring file was changed from outside");
        node.end(true);

        let mut node = Node::start(flags);
        fs::write(&node.path, &backup).unwrap();
        node.publish_until("the ring file was changed from outside");
        assert!(fs::read(node.kept()).unwrap().len() == backup.len());
        node.end(true);
    }
}

/// No webhook follows; the close finds the change.
#[test]
fn a_moved_ring_is_found_at_the_latest_at_the_close() {
    for flags in DURABILITIES {
        let node = Node::start(flags);
        fs::rename(&node.path, node.path.with_file_name("moved")).unwrap();
        node.end(false);
    }
}

#[test]
fn a_directory_at_the_rings_path_is_reported_and_webhooks_work_once_it_is_removed() {
    let mut node = Node::start(&[]);
    fs::remove_file(&node.path).unwrap();
    fs::create_dir(&node.path).unwrap();
    let refused = node.server.post(&json!({ "message": "refused" }));
    assert_eq!(refused.status, 500);
    let line = node.server.wait_for_log("the ring cannot be written anew");
    assert!(
        line["error"].as_str().unwrap().contains("directory"),
        "{line}"
    );
    Node::expect_all(&node.server, node.published);
    fs::remove_dir(&node.path).unwrap();
    let deadline = Instant::now() + PATIENCE;
    let next = json!({ "message": format!("message {}", node.published) });
    while node.server.post(&next).status != 200 {
        assert!(Instant::now() < deadline, "{:#?}", node.server.log());
    }
    node.published += 1;
    node.end(true);
}
