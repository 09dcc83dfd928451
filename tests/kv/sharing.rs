//! Several nodes and the Pages app share one history.

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::{Value, json};

use crate::kv::{Kv, World, namespace_id, open_to, own_rights, wait_for};
use crate::support::{EventStream, PATIENCE, Server};

/// A node, and a stream on it that is open before the first message.
fn node_with_stream(world: &World<'_>, token: &str) -> (Server, EventStream) {
    let node = world.node(token);
    let mut stream = node.stream("", "");
    stream.connected();
    (node, stream)
}

/// The replay of a new stream: contents in their order.
fn replay(node: &Server) -> Vec<String> {
    let mut stream = node.stream("", "");
    let count = stream.connected();
    stream.contents(usize::try_from(count).unwrap())
}

fn sorted(mut texts: Vec<String>) -> Vec<String> {
    texts.sort();
    texts
}

#[test]
fn what_is_posted_to_one_node_is_streamed_by_the_other() {
    let world = World::new(&["a", "b"]);
    let (a, mut on_a) = node_with_stream(&world, "a");
    let (b, mut on_b) = node_with_stream(&world, "b");
    let mut for_s = b.stream("?sessionId=s", "");
    let mut for_t = b.stream("?sessionId=t", "");
    for_s.connected();
    for_t.connected();

    let id = a.publish("to all");
    a.post(&json!({ "message": "to s", "sessionId": "s" }));
    b.publish("back");

    let event = on_b.next().json();
    let mut seen = vec![event["content"].as_str().unwrap().to_owned()];
    seen.extend(on_b.contents(2));
    assert_eq!(sorted(seen), ["back", "to all", "to s"]);
    assert_eq!(sorted(on_a.contents(3)), ["back", "to all", "to s"]);
    assert_eq!(sorted(for_s.contents(3)), ["back", "to all", "to s"]);
    assert_eq!(sorted(for_t.contents(2)), ["back", "to all"]);

    world.wait_for_contents(&["to all".into(), "to s".into(), "back".into()]);
    let entry = world
        .history()
        .into_iter()
        .find(|entry| entry["content"] == "to all")
        .unwrap();
    assert_eq!(entry["id"], id.as_str());
    assert_eq!(entry.as_object().unwrap().len(), 3, "{entry}");
}

/// Three nodes, 30 messages within a second: each stream shows each once, KV has all in the order of time, and
/// then no node writes.
#[test]
fn three_nodes_show_every_message_once_and_then_stop_writing() {
    let tokens = ["one", "two", "three"];
    let world = World::new(&tokens);
    let mut nodes: Vec<_> = tokens
        .iter()
        .map(|token| node_with_stream(&world, token))
        .collect();
    let expected: Vec<String> = (0..30).map(|n| format!("message {n}")).collect();
    let begin = std::time::Instant::now();
    for (n, content) in expected.iter().enumerate() {
        nodes[n % 3].0.publish(content);
    }
    println!("30 messages posted in {:?}", begin.elapsed());
    for (_, stream) in &mut nodes {
        assert_eq!(sorted(stream.contents(30)), sorted(expected.clone()));
    }
    println!(
        "every stream of every node has all 30 after {:?}",
        begin.elapsed()
    );

    world.wait_for_contents(&expected);
    let history = world.history();
    let order = |entry: &Value| {
        (
            entry["timestamp"].as_u64(),
            entry["id"].as_str().unwrap().to_owned(),
        )
    };
    assert!(history.is_sorted_by_key(order), "{history:?}");

    // All nodes must have read that first. Then ten polls, or a minute at the defaults.
    world.wait_for_reads(&tokens, 2);
    let writes = world.writes().len();
    world.wait_for_reads(&tokens, 12);
    assert_eq!(
        world.writes().len(),
        writes,
        "a node wrote although all agree"
    );
    println!("{writes} writes in all, none in the 12 polls since");

    // The next event on every stream is this message, so none was repeated.
    nodes[0].0.publish("last");
    for (_, stream) in &mut nodes {
        assert_eq!(stream.contents(1), ["last"]);
    }
}

/// More messages than a ring holds, from two nodes and over several syncs. In the end a new stream on either
/// node shows the same hundred, and KV has them.
#[test]
fn new_streams_replay_the_same_hundred_on_every_node() {
    let world = World::new(&["a", "b"]);
    let (a, mut on_a) = node_with_stream(&world, "a");
    let (b, mut on_b) = node_with_stream(&world, "b");
    let mut posted = 0;
    for round in 0..6 {
        for n in 0..25 {
            // Unequal numbers, so that the cut to a hundred lies between messages that arrived in different
            // orders.
            let node = if (n + round) % 3 == 0 { &b } else { &a };
            node.publish(&format!("{round}.{n}"));
            posted += 1;
        }
        world.wait_for_reads(&["a"], 1);
    }
    a.publish("end of a");
    b.publish("end of b");
    for stream in [&mut on_a, &mut on_b] {
        let mut ends = 0;
        while ends < 2 {
            ends += usize::from(stream.next().content().starts_with("end of"));
        }
    }
    let has_ends = || {
        let contents = world.contents();
        (contents.contains(&"end of a".into()) && contents.contains(&"end of b".into()))
            .then_some(())
    };
    wait_for(PATIENCE, "both ends in KV", has_ends);
    world.wait_for_reads(&["a", "b"], 2);
    let in_kv = sorted(world.contents());
    assert_eq!((in_kv.len(), posted), (100, 150));
    assert_eq!(sorted(replay(&a)), in_kv);
    assert_eq!(sorted(replay(&b)), in_kv);
}

#[test]
fn the_pages_app_and_nodes_share_one_history() {
    let kv = Kv::shared();
    let world = World::named(kv, "pages", &["node"]);
    let (node, mut stream) = node_with_stream(&world, "node");
    let pages = |method: &str, body: &Value| {
        kv.request(method, "/pages/", "", body.to_string().as_bytes())
            .json()
    };

    node.publish("from the node");
    let has = |content: &str| {
        let list = pages("GET", &json!({}));
        list.as_array()
            .unwrap()
            .iter()
            .find(|entry| entry["content"] == content)
            .cloned()
    };
    let entry = wait_for(PATIENCE, "the node's message at the Pages app", || {
        has("from the node")
    });
    assert!(
        entry["id"].is_string() && entry["timestamp"].is_u64(),
        "{entry}"
    );

    let answer = pages("POST", &json!({ "message": "from the app" }));
    pages("POST", &json!({ "message": "for one", "sessionId": "s" }));
    assert_eq!(
        stream.contents(3),
        ["from the node", "from the app", "for one"]
    );
    let mut of_session = node.stream("?sessionId=other", "");
    assert_eq!(of_session.connected(), 2);
    of_session.next();
    assert_eq!(of_session.next().json()["id"], answer["messageId"]);

    // A write of the app removes messages of the node that the app has not read. The node writes them again.
    let all: Vec<String> = (0..20).map(|n| format!("both {n}")).collect();
    for pair in all.chunks(2) {
        node.publish(&pair[0]);
        pages("POST", &json!({ "message": pair[1] }));
    }
    let ours = all.iter().step_by(2);
    for content in ours {
        wait_for(PATIENCE, content, || has(content));
    }
}

/// Stale reads delay agreement and do not prevent it.
#[test]
fn a_node_with_stale_reads_agrees_in_the_end() {
    let world = World::new(&["fresh", "stale"]);
    world.set(&json!({ "tokens": {
        "fresh": { "read": true, "write": true },
        "stale": { "read": true, "write": true, "stale_ms": 4_000 },
        "own-token": own_rights(),
    } }));
    let (fresh, mut on_fresh) = node_with_stream(&world, "fresh");
    let (stale, mut on_stale) = node_with_stream(&world, "stale");
    let expected: Vec<String> = (0..10).map(|n| format!("message {n}")).collect();
    for (n, content) in expected.iter().enumerate() {
        let node = if n % 2 == 0 { &fresh } else { &stale };
        node.publish(content);
    }
    for stream in [&mut on_fresh, &mut on_stale] {
        assert_eq!(sorted(stream.contents(10)), sorted(expected.clone()));
    }
    world.wait_for_contents(&expected);
}

#[test]
fn a_private_authority_is_trusted_only_if_configured() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let openssl = |arguments: &[&str]| {
        let output = Command::new("openssl").args(arguments).output().unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    };
    let (ca, ca_key) = (path("ca.pem"), path("ca.key"));
    let (cert, key) = (path("cert.pem"), path("cert.key"));
    let new = [
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-days",
        "2",
    ];
    openssl(
        &[
            &new[..],
            &["-subj", "/CN=Test CA", "-keyout", &ca_key, "-out", &ca],
        ]
        .concat(),
    );
    let signed = [
        "-subj",
        "/CN=127.0.0.1",
        "-addext",
        "subjectAltName=IP:127.0.0.1",
        "-addext",
        "basicConstraints=critical,CA:FALSE",
        "-CA",
        &ca,
        "-CAkey",
        &ca_key,
        "-keyout",
        &key,
        "-out",
        &cert,
    ];
    openssl(&[&new[..], &signed].concat());

    let worlds = BTreeMap::from([(namespace_id("private"), open_to(&["token-a", "token-b"]))]);
    let kv = Kv::start(&json!({ "key": key, "cert": cert, "worlds": worlds }));
    assert!(kv.url.starts_with("https://"));
    let world = World {
        kv: &kv,
        namespace: namespace_id("private"),
        endpoint: kv.url.clone(),
    };
    let trusting = |token| world.setup(token, &["--kv-ca-file", &ca]).start();
    let (a, b) = (trusting("token-a"), trusting("token-b"));
    let mut stream = b.stream("", "");
    stream.connected();
    a.publish("by TLS");
    assert_eq!(stream.contents(1), ["by TLS"]);

    let distrusting = world.node("token-a");
    let line = distrusting.wait_for_log("reading from KV fails");
    let text = line["message"].as_str().unwrap();
    assert!(
        text.contains("no authority that is trusted here has signed it"),
        "{text}"
    );
}

/// A message of a source keeps its label on the way to another node, and over a restart there.
#[test]
fn source_and_event_of_a_message_reach_the_other_node() {
    let world = World::new(&["a", "b"]);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "[hub]\npreset = \"github\"\nverify = false\n").unwrap();
    let sources = ["--sources", file.path().to_str().unwrap()];
    let a = world.setup("a", &sources).start();
    // It has no such source.
    let (b, mut on_b) = node_with_stream(&world, "b");

    let headers = "X-GitHub-Event: star\r\n";
    let body =
        br#"{"action":"created","sender":{"login":"ana"},"repository":{"full_name":"acme/shop"}}"#;
    let response = a.request("POST", "/api/webhook/in/hub", headers, body);
    assert_eq!(response.status, 200, "{response:?}");
    b.publish("unlabelled");

    let label = |message: &Value| {
        let member = |name: &str| message.get(name).and_then(Value::as_str).map(str::to_owned);
        (member("source"), member("event"))
    };
    let labels = |messages: Vec<Value>| -> BTreeMap<String, _> {
        let content = |message: &Value| message["content"].as_str().unwrap().to_owned();
        { messages.iter() }
            .map(|message| (content(message), label(message)))
            .collect()
    };
    let expected = BTreeMap::from([
        (
            "ana starred acme/shop".to_owned(),
            (Some("hub".to_owned()), Some("star.created".to_owned())),
        ),
        ("unlabelled".to_owned(), (None, None)),
    ]);
    let contents: Vec<String> = expected.keys().cloned().collect();
    assert_eq!(
        labels(vec![on_b.next().json(), on_b.next().json()]),
        expected
    );
    world.wait_for_contents(&contents);
    assert_eq!(labels(world.history()), expected);

    // A node that was not there reads both from KV.
    let third = world.node("b");
    let mut late = third.stream("", "");
    let count = late.connected();
    let replayed: Vec<Value> = (0..count).map(|_| late.next().json()).collect();
    let rest = 2_usize.saturating_sub(replayed.len());
    let live: Vec<Value> = (0..rest).map(|_| late.next().json()).collect();
    assert_eq!(labels([replayed, live].concat()), expected);
}
