//! One client's use of shared resources, and its effect on other clients.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use serde_json::json;

use crate::support::loopback::{connect_from, connect_narrow, wait_until_read};
use crate::support::{Connection, EventStream, Server};

/// Publishes a history whose answer has the maximum length.
fn fill_history(server: &Server) {
    let message = "x".repeat(10_000);
    for _ in 0..100 {
        server.publish(&message);
    }
}

/// How the server distinguishes the clients of a test.
#[derive(Clone, Copy)]
enum Naming {
    /// By the source address.
    Address,
    /// By the header of a trusted proxy, from which all connections come.
    Header,
}

impl Naming {
    fn server(self) -> Server {
        match self {
            Naming::Address => Server::start(&[]),
            Naming::Header => Server::start(&["--trusted-proxy", "127.0.0.1"]),
        }
    }

    /// A connection of a client, and the header fields of its requests.
    fn open(self, client: &str, server: &Server) -> (Connection, String) {
        match self {
            Naming::Address => (connect_from(client, server.address), String::new()),
            Naming::Header => (server.connect(), format!("X-Forwarded-For: {client}\r\n")),
        }
    }

    /// The same with a minimal receive buffer.
    fn open_narrow(self, client: &str, server: &Server) -> (Connection, String) {
        let (source, fields) = match self {
            Naming::Address => (client, String::new()),
            Naming::Header => ("127.0.0.1", format!("X-Forwarded-For: {client}\r\n")),
        };
        (connect_narrow(source, server.address), fields)
    }
}

/// One client takes all memory for requests and answers in progress: requests for the history that are not
/// read, and incomplete uploads.
fn take_all(naming: Naming, client: &str, server: &Server) -> Vec<Connection> {
    const READERS: usize = 110;
    const UPLOADS: usize = 60;
    let readers = (0..READERS).map(|_| {
        let (mut connection, fields) = naming.open_narrow(client, server);
        connection.send_request("GET", "/api/webhook/messages", &fields, b"");
        connection
    });
    let mut held: Vec<Connection> = readers.collect();
    wait_until_read(server.address.port());
    let body = vec![b'x'; 60_000];
    held.extend((0..UPLOADS).map(|_| {
        let (mut connection, fields) = naming.open(client, server);
        let request = format!(
            "POST /api/webhook HTTP/1.1\r\nHost: a\r\n{fields}Content-Length: 60001\r\n\r\n"
        );
        connection.send_if_open(&[request.as_bytes(), &body].concat());
        connection
    }));
    wait_until_read(server.address.port());
    held
}

/// The number of refused webhooks of other clients; each is sent in two parts.
fn webhooks_refused(naming: Naming, server: &Server) -> usize {
    let body = format!(r#"{{"message":"{}"}}"#, "y".repeat(40_000));
    let mut halves: Vec<(Connection, &str)> = (0..40)
        .map(|number| {
            let (mut connection, fields) =
                naming.open(&format!("127.0.1.{}", 1 + number % 20), server);
            let length = body.len();
            let request = format!(
                "POST /api/webhook HTTP/1.1\r\nHost: a\r\n{fields}Content-Length: {length}\r\n\r\n"
            );
            let (first, second) = body.split_at(length / 2);
            connection.send(&[request.as_bytes(), first.as_bytes()].concat());
            (connection, second)
        })
        .collect();
    wait_until_read(server.address.port());
    let statuses = halves.iter_mut().map(|(connection, second)| {
        connection.send_if_open(second.as_bytes());
        connection.read_response().status
    });
    statuses.filter(|status| *status != 200).count()
}

/// The number of other clients that read the history and got only a part.
fn histories_cut_off(naming: Naming, server: &Server) -> usize {
    let mut readers: Vec<Connection> = (0..20)
        .map(|number| {
            let (mut connection, fields) = naming.open(&format!("127.0.2.{}", 1 + number), server);
            let fields = format!("{fields}Connection: close\r\n");
            connection.send_request("GET", "/api/webhook/messages", &fields, b"");
            connection
        })
        .collect();
    // All are being answered when the first one reads.
    wait_until_read(server.address.port());
    let whole = readers.iter_mut().filter_map(|connection| {
        let head = connection.read_head();
        let length: usize = head.header("content-length")?.parse().ok()?;
        Some(connection.read_to_end().len() == length)
    });
    20 - whole.filter(|is_whole| *is_whole).count()
}

fn assert_shared(naming: Naming) {
    let server = naming.server();
    fill_history(&server);
    let before_kb = server.proc_status("RssAnon:");
    let taken = take_all(naming, "127.0.0.9", &server);
    let taken_kb = server.proc_status("RssAnon:") - before_kb;
    let cut_off = histories_cut_off(naming, &server);
    let refused = webhooks_refused(naming, &server);
    println!(
        "{taken_kb} KiB taken; {refused} of 40 webhooks refused, {cut_off} of 20 histories cut off"
    );
    assert!(
        taken_kb > 48 * 1024,
        "{taken_kb} KiB: not all memory was taken"
    );
    assert_eq!((refused, cut_off), (0, 0));
    drop(taken);
}

#[test]
fn memory_held_by_one_address_costs_others_nothing() {
    assert_shared(Naming::Address);
}

#[test]
fn memory_held_by_one_client_of_a_proxy_costs_others_nothing() {
    assert_shared(Naming::Header);
}

/// The address of the attacks below.
const ATTACKER: &str = "127.0.0.9";

/// Runs an attack of one client, and checks meanwhile that others lose nothing: their webhooks are stored,
/// their streams show each message, their requests for the history and long polls are answered.
fn assert_unharmed(
    server: &Server,
    webhooks: usize,
    attack: impl Fn(SocketAddr, &AtomicBool) + Sync,
) {
    let is_over = AtomicBool::new(false);
    let mut connection = connect_from("127.0.0.2", server.address);
    connection.send_request("GET", "/api/webhook/stream?sessionId=theirs", "", b"");
    let mut stream = EventStream::read(connection);
    let replay = stream.connected();
    stream.contents(usize::try_from(replay).unwrap());
    let others = || {
        let mut sender = connect_from("127.0.0.3", server.address);
        let mut reader = connect_from("127.0.0.4", server.address);
        for number in 0..webhooks {
            let content = format!("{number}: {}", "z".repeat(1_000));
            let body = json!({ "message": content, "sessionId": "theirs" }).to_string();
            sender.send_request("POST", "/api/webhook", "", body.as_bytes());
            assert_eq!(sender.read_response().status, 200);
            assert_eq!(stream.next().content(), content);
            let query = "/api/webhook/messages?sessionId=theirs&limit=1&wait=1";
            reader.send_request("GET", query, "", b"");
            assert_eq!(reader.read_response().status, 200);
        }
    };
    thread::scope(|scope| {
        scope.spawn(|| attack(server.address, &is_over));
        // The attack must end even if the checks fail.
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(others));
        is_over.store(true, Ordering::Relaxed);
        // Ends the long polls.
        server.publish("the end");
        if let Err(panic) = result {
            std::panic::resume_unwind(panic);
        }
    });
}

fn connect_all(count: usize, address: SocketAddr) -> Vec<Connection> {
    (0..count)
        .map(|_| connect_from(ATTACKER, address))
        .collect()
}

/// Webhooks of the largest size, on many connections at once, as fast as they are answered.
fn flood_with_webhooks(address: SocketAddr, is_over: &AtomicBool) {
    let body = json!({ "message": "x".repeat(60_000), "sessionId": "other" }).to_string();
    let mut connections = connect_all(200, address);
    while !is_over.load(Ordering::Relaxed) {
        for connection in &mut connections {
            connection.send_request("POST", "/api/webhook", "", body.as_bytes());
        }
        for connection in &mut connections {
            assert_eq!(connection.read_response().status, 200);
        }
    }
}

/// Attacks the webhooks of a turn, the inboxes and the live log.
#[test]
fn webhooks_of_one_client_cost_others_nothing() {
    let server = Server::start(&[]);
    assert_unharmed(&server, 200, flood_with_webhooks);
}

/// Also attacks the queue of messages that wait for their commit.
#[test]
fn webhooks_of_one_client_that_wait_for_the_disk_cost_others_nothing() {
    let server = Server::start(&["--durability", "disk"]);
    assert_unharmed(&server, 50, flood_with_webhooks);
}

#[test]
fn long_polls_of_one_client_cost_others_nothing() {
    let server = Server::start(&[]);
    fill_history(&server);
    let ask =
        "GET /api/webhook/messages?limit=1&wait=25 HTTP/1.1\r\nHost: a\r\nIf-None-Match: *\r\n\r\n";
    assert_unharmed(&server, 100, |address, is_over| {
        let mut waiting = connect_all(500, address);
        for connection in &mut waiting {
            connection.send(ask.as_bytes());
        }
        while !is_over.load(Ordering::Relaxed) {
            for connection in &mut waiting {
                if is_over.load(Ordering::Relaxed) {
                    return;
                }
                connection.read_response();
                connection.send(ask.as_bytes());
            }
        }
    });
}

/// An answer takes a megabyte, its request almost nothing.
#[test]
fn history_requests_of_one_client_cost_others_nothing() {
    let server = Server::start(&[]);
    fill_history(&server);
    let heads = "HEAD /api/webhook/messages HTTP/1.1\r\nHost: a\r\n\r\n".repeat(10);
    assert_unharmed(&server, 30, |address, is_over| {
        let mut asking = connect_all(50, address);
        while !is_over.load(Ordering::Relaxed) {
            for connection in &mut asking {
                connection.send(heads.as_bytes());
            }
            for connection in &mut asking {
                for _ in 0..10 {
                    assert_eq!(connection.read_response_to("HEAD").status, 200);
                }
            }
        }
    });
}

/// With a limit, one address can take neither all connections nor all places for refusals.
#[test]
fn with_a_limit_one_address_takes_no_more_than_its_connections() {
    let flags = ["--max-connections", "60", "--max-connections-per-ip", "20"];
    let server = Server::start(&flags);
    let silent = connect_all(200, server.address);
    let full = |source: &str| {
        let connections = (0..20).map(|_| {
            let mut connection = connect_from(source, server.address);
            connection.send_request("GET", "/api/webhook", "", b"");
            let status = connection.read_response().status;
            (connection, status)
        });
        connections.collect::<Vec<_>>()
    };
    let (first, second) = (full("127.0.0.2"), full("127.0.0.3"));
    let answered = |connections: &[(Connection, u16)]| {
        let statuses = connections.iter().map(|(_, status)| *status);
        statuses.filter(|status| *status == 200).count()
    };
    // Eight of the silent connections were accepted beyond the limit, and get their 503 once they send a
    // request.
    assert_eq!(answered(&first) + answered(&second), 60 - 20 - 8);
    let refused = full("127.0.0.4");
    assert!(refused.iter().all(|(_, status)| *status == 503));
    drop(silent);
}
