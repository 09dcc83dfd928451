//! The file of sources is read again on SIGHUP.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use rustix::process::Signal;

use crate::rig::{Files, GITHUB, OLD_SECRET, Rig, SECRET, push_body, push_headers};
use crate::support::Setup;

impl Rig {
    /// Replaces the file and waits until it is in use.
    fn reload(&self, sources: &str, nth: usize) {
        self.files.write("sources.toml", sources);
        self.server.signal(Signal::HUP);
        let line = "the file of sources was read again";
        self.server.wait_for_nth_log(line, nth);
    }
}

fn with_secrets(secrets: &str) -> String {
    GITHUB.replace("[\"secret\"]", secrets)
}

#[test]
fn a_secret_is_rotated_under_load_without_a_refused_request() {
    const SENDERS: usize = 4;
    let rig = Arc::new(Rig::start(&with_secrets("[\"old\"]")));
    let uses_new = Arc::new(AtomicBool::new(false));
    let is_over = Arc::new(AtomicBool::new(false));
    let deliveries = Arc::new(AtomicUsize::new(0));
    let senders: Vec<_> = (0..SENDERS)
        .map(|_| {
            let (rig, uses_new) = (Arc::clone(&rig), Arc::clone(&uses_new));
            let (is_over, deliveries) = (Arc::clone(&is_over), Arc::clone(&deliveries));
            thread::spawn(move || {
                let mut connection = rig.server.connect();
                while !is_over.load(Ordering::SeqCst) {
                    let number = deliveries.fetch_add(1, Ordering::SeqCst);
                    let body = push_body(&format!("commit {number}"));
                    let is_new = uses_new.load(Ordering::SeqCst);
                    let secret = if is_new { SECRET } else { OLD_SECRET };
                    let headers = push_headers(secret, &body, number);
                    connection.send_request("POST", "/api/webhook/in/github", &headers, &body);
                    let response = connection.read_response();
                    assert_eq!(response.status, 200, "{response:?}");
                }
            })
        })
        .collect();
    let some_more = || {
        let until = deliveries.load(Ordering::SeqCst) + 20 * SENDERS;
        while deliveries.load(Ordering::SeqCst) < until {
            assert!(!senders.iter().any(thread::JoinHandle::is_finished));
            thread::yield_now();
        }
    };
    some_more();
    rig.reload(&with_secrets("[\"secret\", \"old\"]"), 0);
    // Both secrets fit now, on every shard.
    uses_new.store(true, Ordering::SeqCst);
    some_more();
    rig.reload(&with_secrets("[\"secret\"]"), 1);
    some_more();
    is_over.store(true, Ordering::SeqCst);
    for sender in senders {
        sender.join().unwrap();
    }
    let sent = deliveries.load(Ordering::SeqCst) as u64;
    assert_eq!(rig.results("github", "published"), sent);
    let body = push_body("late");
    let headers = push_headers(OLD_SECRET, &body, 1_000_000);
    assert_eq!(rig.post("github", &headers, &body).status, 401);
}

#[test]
fn a_file_with_faults_changes_nothing_and_names_their_lines() {
    let rig = Rig::start(GITHUB);
    rig.files
        .write("sources.toml", with_secrets("[\"whsec_pasted\"]"));
    rig.server.signal(Signal::HUP);
    rig.server
        .wait_for_log("sources not reloaded; the old ones stay in use");
    let path = rig.files.sources();
    let fault = rig.server.wait_for_log(&format!("{path}:"));
    let message = fault["message"].as_str().unwrap();
    // What stands in place of the file's name may be the secret itself.
    let is_named = message.contains("file 1 does not exist");
    assert!(is_named && !message.contains("whsec"), "{fault}");
    let body = push_body("a");
    let response = rig.post("github", &push_headers(SECRET, &body, 1), &body);
    assert_eq!(response.status, 200);
    // A file that is not there is a fault as well.
    std::fs::remove_file(rig.files.path("sources.toml")).unwrap();
    rig.server.signal(Signal::HUP);
    rig.server.wait_for_nth_log("sources not reloaded", 1);
    assert_eq!(
        rig.server
            .request("GET", "/api/webhook/in/github", "", b"")
            .status,
        200
    );

    // A source is there, or gone, once the log says so.
    let hook = GITHUB
        .replace("github]", "hook]")
        .replace("github.", "hook.");
    rig.reload(&hook, 0);
    let response = rig.post("hook", &push_headers(SECRET, &body, 2), &body);
    assert_eq!(response.status, 200, "{response:?}");
    assert_eq!(rig.post("github", "", &body).status, 404);
    assert_eq!(rig.results("hook", "published"), 1);
    let list = rig.server.request("GET", "/api/webhook/sources", "", b"");
    assert_eq!(list.json()["sources"][0]["name"], "hook");
    // A source may take larger bodies than any did at the start.
    rig.reload(&hook.replace("[hook]", "[hook]\nmax_body = \"4MiB\""), 1);
    let body = push_body(&"x".repeat(3_000_000));
    let response = rig.post("hook", &push_headers(SECRET, &body, 3), &body);
    assert_eq!(response.status, 200, "{response:?}");
}

/// A script that replaces the file sends the signal, and does not know whether the start is over.
#[test]
fn a_reload_that_is_requested_during_the_start_follows_it() {
    let files = Files::new(GITHUB);
    let server = Setup::new(&["--sources", &files.sources()]).spawn();
    server.wait_for_log("the file of sources is in use");
    server.signal(Signal::HUP);
    server.wait_for_log("the file of sources was read again");
}
