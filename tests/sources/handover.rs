//! A handover (SIGUSR2) of a server with sources: the new process verifies as the old one did, and knows what the
//! old one has published.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::thread;

use rustix::process::{Pid, Signal, kill_process};

use crate::rig::{GITHUB, Rig, SECRET, push_body, push_headers};
use crate::support::Response;

/// The length of a replay.
const HISTORY: usize = 100;

/// The new process, killed at the end of the test.
struct Successor(Pid);

impl Drop for Successor {
    fn drop(&mut self) {
        let _ = kill_process(self.0, Signal::KILL);
    }
}

fn hand_over(rig: &Rig) -> Successor {
    rig.server.signal(Signal::USR2);
    let line = rig.server.wait_for_log("handed over");
    let pid = i32::try_from(line["pid"].as_i64().unwrap()).unwrap();
    let successor = Successor(Pid::from_raw(pid).unwrap());
    rig.server.wait_for_log("the predecessor has ended");
    successor
}

fn deliver(rig: &Rig, secret: &str, nth: usize) -> Response {
    let body = push_body(&format!("push {nth}"));
    rig.post("github", &push_headers(secret, &body, nth), &body)
}

#[test]
fn a_handover_keeps_sources_and_what_they_have_published() {
    for durability in ["process", "disk"] {
        hand_over_under_deliveries(durability);
    }
}

fn hand_over_under_deliveries(durability: &str) {
    let rig = Rig::start_with(GITHUB, &["--durability", durability], None);
    let receipt = |nth: usize| {
        let response = deliver(&rig, SECRET, nth);
        assert_eq!(
            response.status, 200,
            "{durability}, push {nth}: {response:?}"
        );
        response.json()
    };
    let is_over = AtomicBool::new(false);
    let answered = AtomicUsize::new(0);
    let mut receipts = vec![receipt(0)];
    let (_successor, receipts) = thread::scope(|scope| {
        let sender = scope.spawn(|| {
            while !is_over.load(Relaxed) {
                receipts.push(receipt(receipts.len()));
                answered.store(receipts.len(), Relaxed);
            }
            // By the new process alone.
            receipts.push(receipt(receipts.len()));
            receipts
        });
        // The sender ends if the handover panics, too.
        let end = OnDrop(|| is_over.store(true, Relaxed));
        while answered.load(Relaxed) < 2 {
            thread::yield_now();
        }
        let successor = hand_over(&rig);
        drop(end);
        (successor, sender.join().unwrap())
    });
    for (nth, first) in receipts.iter().enumerate() {
        assert_eq!(receipt(nth), *first, "{durability}, a repeat of push {nth}");
    }
    let forged = deliver(&rig, "another secret of 16", receipts.len());
    assert_eq!(forged.status, 401, "{forged:?}");
    let published = (0..receipts.len()).map(|nth| format!("acme/shop: push {nth}"));
    let first = receipts.len().saturating_sub(HISTORY);
    assert_eq!(
        rig.server.history(),
        published.skip(first).collect::<Vec<_>>(),
        "{durability}: each once and in order"
    );
}

/// Calls a function when it is dropped, in a panic as well.
struct OnDrop<F: Fn()>(F);

impl<F: Fn()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}
