//! Commits on a disk that fails while it is waited for.

use crate::support::Server;
use crate::tracer::Fault;

/// The webhook of a failed commit gets an error and is shown to nobody, also after a kill; as soon as
/// the disk works, so do webhooks. Seqs have no hole.
#[test]
fn what_the_disk_did_not_take_is_refused_and_shown_to_nobody() {
    let mut server = Server::start(&["--durability", "disk"]);
    let mut stream = server.stream("", "");
    stream.connected();
    server.publish("before");
    // The first is the commit's; the ring is then written anew, which has to be synced as well.
    let fault = Fault::inject(&server, "msync", &["msync:error=EIO:when=1"]);
    let refused = server.post(&serde_json::json!({ "message": "lost" }));
    assert_eq!(refused.status, 500, "{refused:?}");
    server.wait_for_log("a commit has failed");
    server.publish("after");
    server.wait_for_log("the ring is written anew and works");
    let trace = fault.end();
    assert_eq!(trace.failures_of("msync"), 1);
    let seqs = ["before", "after"].map(|content| {
        let event = stream.next();
        assert_eq!(event.content(), content);
        let id = event.id.unwrap();
        id.split_once('-').unwrap().1.to_owned()
    });
    assert_eq!(seqs, ["1", "2"]);
    server.kill();
    let server = server.restart();
    let mut stream = server.stream("", "");
    assert_eq!(stream.connected(), 2);
}

/// While the disk stays broken, webhooks are refused and streams are served.
#[test]
fn a_disk_that_stays_broken_costs_webhooks_and_no_streams() {
    let server = Server::start(&["--durability", "disk"]);
    server.publish("before");
    let fault = Fault::inject(&server, "msync", &["msync:error=EIO"]);
    for _ in 0..3 {
        let refused = server.post(&serde_json::json!({ "message": "lost" }));
        assert_eq!(refused.status, 500, "{refused:?}");
    }
    let mut stream = server.stream("", "");
    assert_eq!(stream.connected(), 1);
    assert_eq!(stream.next().content(), "before");
    fault.end();
    // It is tried again within seconds.
    let works = || {
        server
            .post(&serde_json::json!({ "message": "after" }))
            .status
            == 200
    };
    let deadline = std::time::Instant::now() + crate::support::PATIENCE;
    while !works() {
        assert!(std::time::Instant::now() < deadline, "{:#?}", server.log());
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    let content = std::iter::repeat_with(|| stream.next()).find(|event| !event.is_heartbeat());
    assert_eq!(content.unwrap().content(), "after");
}
