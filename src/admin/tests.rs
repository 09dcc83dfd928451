//! The admin address over HTTP, and the metrics that the files for operators name.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::mpsc::{self, TryRecvError};

use serde_json::Value;

use super::*;
use crate::bus::engine::Producer;
use crate::metrics::{Counter, Endpoint, SourceStats, Tally};
use crate::testkit::ring_in_memory;

/// The admin of a server that is starting, and its address.
fn start() -> (Admin, SocketAddr) {
    let metrics = Arc::new(Metrics::new(Arc::default()));
    let admin = Admin::new(metrics, Arc::new(Lifecycle::new()));
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = listener.local_addr().unwrap();
    admin.start(&listener).unwrap();
    (admin, address)
}

/// An admin with all metrics.
fn complete() -> Admin {
    let metrics = Arc::new(Metrics::new(Arc::default()));
    let admin = Admin::new(metrics, Arc::new(Lifecycle::new()));
    let (ring, _) = ring_in_memory(100);
    let mirror = MirrorStats::new();
    mirror.note_success();
    mirror.set_clock_ahead(Some(1));
    let sources = SourceStats::default();
    sources.set_names(["github"]);
    let bus = BusStats::new(Producer(1), Clock::start().now());
    admin.add_parts(Parts {
        ring: ring.stats(),
        identities: Arc::default(),
        mirror: Some(Arc::new(mirror)),
        sources: Some(Arc::new(sources)),
    });
    admin.add_bus(Arc::new(bus), Clock::start());
    admin
}

/// The whole answer to a request line.
fn ask(address: SocketAddr, request_line: &str) -> String {
    let mut connection = TcpStream::connect(address).unwrap();
    write!(
        connection,
        "{request_line} HTTP/1.1\r\nHost: localhost\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).unwrap();
    answer
}

/// DNS rebinding makes a page's own name resolve to this address, and the browser lets the page read the
/// answer.
#[test]
fn a_page_reads_nothing_by_dns_rebinding() {
    let (_admin, address) = start();
    for path in ["/metrics", "/healthz", "/readyz", "/", "/nowhere"] {
        let mut connection = TcpStream::connect(address).unwrap();
        write!(
            connection,
            "GET {path} HTTP/1.1\r\nHost: evil.example:9000\r\n\r\n"
        )
        .unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 421 "), "{answer}");
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        let body: Value = serde_json::from_str(body).unwrap();
        assert!(
            body["error"].as_str().unwrap().contains("localhost"),
            "{body}"
        );
    }
}

#[test]
fn readiness_follows_the_stage_of_the_process() {
    let (admin, address) = start();
    let ready = || {
        let answer = ask(address, "GET /readyz");
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head[9..12].to_owned(), body.to_owned())
    };
    let stage_of = |stage: &str| {
        let line = format!("hookcast_stage{{stage=\"{stage}\"}} 1\n");
        ask(address, "GET /metrics").contains(&line)
    };
    assert_eq!(ready(), ("503".into(), "starting\n".into()));
    assert!(stage_of("starting") && !stage_of("ready"));
    admin.lifecycle.set_ready();
    assert_eq!(ready(), ("200".into(), "ready\n".into()));
    assert!(stage_of("ready") && !stage_of("starting"));
    admin.lifecycle.start_drain();
    assert_eq!(ready(), ("503".into(), "draining\n".into()));
    assert!(ask(address, "GET /healthz").ends_with("\r\n\r\nok\n"));
}

#[test]
fn a_silent_client_delays_no_health_check() {
    let (_admin, address) = start();
    let silent: Vec<_> = (1..ADMIN_THREADS)
        .map(|_| TcpStream::connect(address).unwrap())
        .collect();
    // With a single thread the answer would come only after the silent connections were closed.
    assert!(ask(address, "GET /healthz").ends_with("ok\n"));
    for connection in &silent {
        connection.set_nonblocking(true).unwrap();
        let error = (&mut &*connection).read(&mut [0]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock, "still open");
    }
}

/// The client reads slowly but steadily, and would take many seconds.
#[test]
fn an_answer_that_is_read_too_slowly_is_cut_off() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (mut connection, _) = listener.accept().unwrap();
    let (end, ended) = mpsc::channel::<()>();
    let reader = thread::spawn(move || {
        let mut buffer = [0; 1024];
        while ended.try_recv() == Err(TryRecvError::Empty) {
            assert!(peer.read(&mut buffer).unwrap() > 0);
            thread::sleep(Duration::from_millis(1));
        }
    });
    let answer = vec![b'x'; 16 << 20];
    let deadline = Instant::now() + Duration::from_millis(100);
    assert!(write_answer(&mut connection, &answer, deadline).is_err());
    drop(end);
    reader.join().unwrap();
}

#[test]
fn only_allowed_methods_are_answered() {
    let (_admin, address) = start();
    for method in ["OPTIONS", "POST", "DELETE"] {
        let answer = ask(address, &format!("{method} /metrics"));
        assert!(answer.starts_with("HTTP/1.1 405 "), "{answer}");
        assert!(answer.contains("\r\nAllow: GET, HEAD\r\n"), "{answer}");
    }
    for path in ["/", "/metrics", "/healthz"] {
        let answer = ask(address, &format!("HEAD {path}"));
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n\r\n"));
    }
    for method in ["GET", "POST"] {
        assert!(ask(address, &format!("{method} /api/webhook")).starts_with("HTTP/1.1 404 "));
    }
}

#[test]
fn the_page_may_run_only_its_own_script() {
    let (_admin, address) = start();
    let nonce = || {
        let answer = ask(address, "GET /");
        let (head, page) = answer.split_once("\r\n\r\n").unwrap();
        let policy = head.split("Content-Security-Policy: ").nth(1).unwrap();
        assert!(policy.starts_with("default-src 'none'; "), "{policy}");
        assert!(!policy.contains("unsafe"), "{policy}");
        let script = policy.split("script-src 'nonce-").nth(1).unwrap();
        let (nonce, _) = script.split_once('\'').unwrap();
        assert_eq!(page.matches(&format!("nonce=\"{nonce}\"")).count(), 2);
        assert_eq!(page.matches("<script").count(), 1);
        assert!(!page.contains("{nonce}"));
        nonce.to_owned()
    };
    let first = nonce();
    assert_eq!(first.len(), 32);
    assert_ne!(first, nonce(), "each answer has its own");
}

/// The names of metrics in a text.
fn names_in(text: &str) -> BTreeSet<&str> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| {
            let rest = word
                .strip_prefix("hookcast_")
                .or(word.strip_prefix("process_"));
            rest.is_some_and(|rest| !rest.is_empty())
        })
        .collect()
}

/// The names in `/metrics`: those of the families, and those of their samples, which differ for a
/// histogram.
fn exposed_names() -> BTreeSet<String> {
    let text = metrics::encode(&complete().gather());
    let names = text.lines().filter_map(|line| {
        let line = line.strip_prefix("# TYPE ").unwrap_or(line);
        line.split(['{', ' ']).next().map(str::to_owned)
    });
    names.filter(|name| name != "#").collect()
}

#[test]
fn every_metric_named_in_the_operators_files_exists() {
    let exposed = exposed_names();
    let page = include_str!("../packaging/OPERATING.md");
    let (_, watching) = page.split_once("\n## Watching\n").unwrap();
    let (watching, _) = watching.split_once("\n## ").unwrap();
    for (file, text) in [
        ("page.html", page::PAGE),
        ("grafana.json", include_str!("../packaging/grafana.json")),
        ("alerts.yml", include_str!("../packaging/alerts.yml")),
        ("OPERATING.md", watching),
    ] {
        let names = names_in(text);
        assert!(names.len() > 10, "{file}: {names:?}");
        for name in names {
            let bucket = format!("{name}_bucket");
            let is_exposed = exposed.contains(name) || exposed.contains(&bucket);
            assert!(is_exposed, "{file} names {name}, which does not exist");
        }
    }
}

#[test]
fn every_family_is_on_the_dashboard_and_on_the_operators_page() {
    let dashboard = names_in(include_str!("../packaging/grafana.json"));
    let page = names_in(include_str!("../packaging/OPERATING.md"));
    for family in complete().gather() {
        let name = family.name();
        let bucket = format!("{name}_bucket");
        let is_shown = dashboard.contains(name) || dashboard.contains(&*bucket);
        assert!(is_shown || NOT_ON_THE_DASHBOARD.contains(&name), "{name}");
        assert!(page.contains(name), "{name} is not on the page");
    }
}

/// Families that need no chart.
const NOT_ON_THE_DASHBOARD: [&str; 5] = [
    "hookcast_identities",
    "hookcast_ring_last_seq",
    "hookcast_ring_file_bytes",
    "process_threads",
    "process_virtual_memory_bytes",
];

#[test]
fn the_dashboard_has_the_structure_that_grafana_loads() {
    let dashboard: Value = serde_json::from_str(include_str!("../packaging/grafana.json")).unwrap();
    assert_eq!(dashboard["title"], "hookcast");
    assert!(dashboard["schemaVersion"].as_u64().unwrap() >= 36);
    let variables: BTreeSet<&str> = dashboard["templating"]["list"]
        .as_array()
        .unwrap()
        .iter()
        .map(|variable| variable["name"].as_str().unwrap())
        .collect();
    let panels = dashboard["panels"].as_array().unwrap();
    let mut ids = BTreeSet::new();
    let mut places = BTreeSet::new();
    for panel in panels {
        let title = panel["title"].as_str().unwrap();
        assert!(
            !title.is_empty() && ids.insert(panel["id"].as_u64().unwrap()),
            "{title}"
        );
        let place = |key| panel["gridPos"][key].as_u64().unwrap();
        for x in place("x")..place("x") + place("w") {
            for y in place("y")..place("y") + place("h") {
                assert!(
                    x < 24 && places.insert((x, y)),
                    "{title} lies on another panel"
                );
            }
        }
        if panel["type"] == "row" {
            continue;
        }
        assert!(["stat", "timeseries"].contains(&panel["type"].as_str().unwrap()));
        assert!(
            panel["fieldConfig"]["defaults"]["unit"].is_string(),
            "{title}"
        );
        let targets = panel["targets"].as_array().unwrap();
        assert!(!targets.is_empty(), "{title}");
        for target in targets {
            let expression = target["expr"].as_str().unwrap();
            assert_eq!(target["datasource"]["uid"], "${datasource}");
            assert!(!names_in(expression).is_empty(), "{title}: {expression}");
            let used = expression.split('$').skip(1);
            for variable in used.map(|rest| rest.split(|c: char| !c.is_alphanumeric() && c != '_'))
            {
                let variable = variable.into_iter().next().unwrap();
                assert!(
                    variables.contains(variable) || variable == "__rate_interval",
                    "{title}: ${variable}"
                );
            }
        }
    }
}

/// No label takes its value from a peer, so the number of series does not depend on the requests.
#[test]
fn the_number_of_series_is_bounded() {
    let admin = complete();
    let mut tally = Tally::new();
    for status in 0..1000 {
        for endpoint in [
            Endpoint::Webhook,
            Endpoint::Stream,
            Endpoint::Chat,
            Endpoint::None,
        ] {
            tally.count_request(endpoint, status);
        }
    }
    tally.count(Counter::Accepts, u64::MAX / 2);
    tally.flush(&admin.metrics);
    let text = metrics::encode(&admin.gather());
    let series = text.lines().filter(|line| !line.starts_with('#')).count();
    assert!(series < 310, "{series}");
}
