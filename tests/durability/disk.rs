//! `--durability disk`: acknowledgements and deliveries wait for the disk.

use rustix::process::Signal;
use serde_json::json;

use crate::support::{Connection, Server, Setup};

/// A server with an admin address, and that address.
fn start(durability: &str) -> (Server, std::net::SocketAddr) {
    let server = Server::start(&["--durability", durability, "--admin", "127.0.0.1:0"]);
    let admin = server.wait_for_log("metrics and health")["address"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    (server, admin)
}

/// The value of a metric without labels.
fn metric(admin: std::net::SocketAddr, name: &str) -> f64 {
    let mut connection = Connection::open(admin);
    connection.send_request("GET", "/metrics", "", b"");
    let text = String::from_utf8(connection.read_response().body).unwrap();
    let line = text.lines().find_map(|line| {
        let (found, value) = line.split_once(' ')?;
        (found == name).then_some(value)
    });
    line.unwrap_or_else(|| panic!("no {name} in {text}"))
        .parse()
        .unwrap()
}

fn publish_pipelined(connection: &mut Connection, messages: usize) {
    let mut requests = Vec::new();
    for nth in 0..messages {
        let body = json!({ "message": format!("pipelined {nth}") }).to_string();
        let length = body.len();
        requests.extend(
            format!(
                "POST /api/webhook HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{body}"
            )
            .into_bytes(),
        );
    }
    connection.send(&requests);
}

#[test]
fn sequential_acknowledgements_each_follow_a_sync() {
    let (server, admin) = start("disk");
    let mut stream = server.stream("", "");
    stream.connected();
    for nth in 1..=30 {
        server.publish(&format!("message {nth}"));
        assert_eq!(stream.next().content(), format!("message {nth}"));
        let syncs = metric(admin, "hookcast_ring_sync_seconds_count");
        assert!(syncs >= f64::from(nth), "{syncs} syncs of {nth} messages");
    }
    assert!(metric(admin, "hookcast_ring_sync_errors_total") < 1.0);
}

#[test]
fn with_durability_process_nothing_is_synced() {
    let (server, admin) = start("process");
    server.publish("message");
    assert!(metric(admin, "hookcast_ring_sync_seconds_count") < 1.0);
}

#[test]
fn concurrent_webhooks_share_a_sync() {
    let (server, admin) = start("disk");
    let mut connections: Vec<Connection> = (0..50).map(|_| server.connect()).collect();
    for connection in &mut connections {
        publish_pipelined(connection, 40);
    }
    for connection in &mut connections {
        for _ in 0..40 {
            assert_eq!(connection.read_response().status, 200);
        }
    }
    let syncs = metric(admin, "hookcast_ring_sync_seconds_count");
    assert!(
        (1.0..1500.0).contains(&syncs),
        "{syncs} syncs of 2000 messages"
    );
    assert!(metric(admin, "hookcast_ring_appends_total") > 1999.0);
}

#[test]
fn a_drain_answers_webhooks_that_wait_for_the_disk() {
    let setup = Setup::new(&["--durability", "disk", "--shards", "2"]);
    let mut server = setup.start();
    let mut connections: Vec<Connection> = (0..20).map(|_| server.connect()).collect();
    for connection in &mut connections {
        publish_pipelined(connection, 1);
    }
    // A drain reads and answers requests that have arrived. Connections that are not accepted by then get no
    // answer.
    let mut acknowledged = vec![message_id(&connections[0].read_response().body)];
    server.signal(Signal::TERM);
    for connection in &mut connections[1..] {
        let answer = String::from_utf8(connection.read_to_end()).unwrap();
        if let Some((head, body)) = answer.split_once("\r\n\r\n") {
            assert!(head.starts_with("HTTP/1.1 200 "), "{answer}");
            acknowledged.push(message_id(body.as_bytes()));
        }
    }
    assert_eq!(server.wait().code(), Some(0));
    let server = setup.start();
    let mut stream = server.stream("", "");
    let replay = stream.connected();
    let ids: Vec<_> = (0..replay)
        .map(|_| message_id(stream.next().json().to_string().as_bytes()))
        .collect();
    for id in &acknowledged {
        assert!(
            ids.contains(id),
            "{id} was acknowledged and is not on disk: {ids:?}"
        );
    }
}

/// The id in an answer or an event.
fn message_id(json: &[u8]) -> String {
    let json: serde_json::Value = serde_json::from_slice(json).unwrap();
    let id = json.get("messageId").or_else(|| json.get("id"));
    id.unwrap().as_str().unwrap().to_owned()
}

#[test]
fn a_ring_can_change_between_durability_modes() {
    let with = |durability| ["--durability", durability];
    let setup = Setup::new(&[]);
    let mut expected = Vec::new();
    let mut epochs = std::collections::BTreeSet::new();
    for durability in ["process", "disk", "process", "disk"] {
        let mut server = setup.clone().arguments(&with(durability)).start();
        expected.push(server.publish(durability));
        let mut stream = server.stream("", "");
        assert_eq!(stream.connected(), expected.len() as u64);
        for id in &expected {
            let event = stream.next();
            assert_eq!(event.json()["id"].as_str(), Some(id.as_str()));
            epochs.insert(event.id.unwrap().split_once('-').unwrap().0.to_owned());
        }
        server.kill();
    }
    assert_eq!(epochs.len(), 1, "the epoch changed");
}
