//! Commits to a disk that fails.

use crate::support::Server;
use crate::tracer::Fault;

/// The webhook of a failed commit gets a 500, and no stream shows its message, not even after a kill. Webhooks
/// work as soon as the disk does. Seqs have no hole.
#[test]
fn a_failed_commit_is_refused_and_no_stream_shows_it() {
    let mut server = Server::start(&["--durability", "disk"]);
    let mut stream = server.stream("", "");
    stream.connected();
    server.publish("before");
    // The first failure is the commit's. Then the rewrite of the ring must be synced as well.
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

/// While the disk fails, webhooks are refused and streams are served.
#[test]
fn a_disk_that_keeps_failing_stops_webhooks_and_no_streams() {
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
    // The server retries within seconds.
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
