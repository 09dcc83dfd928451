//! What one client can take of what all share, and what the others notice of it.

mod support;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use serde_json::json;
use support::loopback::{connect_from, connect_narrow, wait_until_read};
use support::{Connection, EventStream, Server};

/// A history of which one answer is as long as they get.
fn fill_history(server: &Server) {
    let message = "x".repeat(10_000);
    for _ in 0..100 {
        server.publish(&message);
    }
}

/// How the server knows the clients of a test from one another.
#[derive(Clone, Copy)]
enum Naming {
    /// By the address that they connect from.
    Address,
    /// By the header of a trusted proxy, which is where all connections come from.
    Header,
}

impl Naming {
    fn server(self) -> Server {
        match self {
            Naming::Address => Server::start(&[]),
            Naming::Header => Server::start(&["--trusted-proxy", "127.0.0.1"]),
        }
    }

    /// A connection of a client, and the fields of its requests.
    fn open(self, client: &str, server: &Server) -> (Connection, String) {
        match self {
            Naming::Address => (connect_from(client, server.address), String::new()),
            Naming::Header => (server.connect(), format!("X-Forwarded-For: {client}\r\n")),
        }
    }

    /// The same, and it takes next to nothing of what it is sent.
    fn open_narrow(self, client: &str, server: &Server) -> (Connection, String) {
        let (source, fields) = match self {
            Naming::Address => (client, String::new()),
            Naming::Header => ("127.0.0.1", format!("X-Forwarded-For: {client}\r\n")),
        };
        (connect_narrow(source, server.address), fields)
    }
}

/// One client takes all that is for requests and answers under way: readers that ask for the history
/// and read nothing, uploads that stop half way.
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

/// Of so many webhooks, each in two parts, those that are not taken.
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
            wait_until_read(server.address.port());
            (connection, second)
        })
        .collect();
    let statuses = halves.iter_mut().map(|(connection, second)| {
        connection.send_if_open(second.as_bytes());
        connection.read_response().status
    });
    statuses.filter(|status| *status != 200).count()
}

/// Of so many clients that read all of the history, those that get a part.
fn histories_cut_off(naming: Naming, server: &Server) -> usize {
    let mut readers: Vec<Connection> = (0..20)
        .map(|number| {
            let (mut connection, fields) = naming.open(&format!("127.0.2.{}", 1 + number), server);
            let fields = format!("{fields}Connection: close\r\n");
            connection.send_request("GET", "/api/webhook/messages", &fields, b"");
            connection
        })
        .collect();
    // All are being served when the first begins to read.
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
    assert!(taken_kb > 48 * 1024, "{taken_kb} KiB are not all there is");
    assert_eq!((refused, cut_off), (0, 0));
    drop(taken);
}

#[test]
fn what_one_address_holds_is_no_loss_to_others() {
    assert_shared(Naming::Address);
}

#[test]
fn what_one_client_of_a_proxy_holds_is_no_loss_to_others() {
    assert_shared(Naming::Header);
}

/// The client that takes what it can, in the tests below.
const GREEDY: &str = "127.0.0.9";

/// Lets one client do something again and again, and checks meanwhile that others lose nothing: their
/// webhooks are stored, their streams see each, their histories and long polls are answered.
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
        // However it ends, the attack is to end as well.
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(others));
        is_over.store(true, Ordering::Relaxed);
        // Ends what waits for a message.
        server.publish("the end");
        if let Err(panic) = result {
            std::panic::resume_unwind(panic);
        }
    });
}

fn connect_all(count: usize, address: SocketAddr) -> Vec<Connection> {
    (0..count).map(|_| connect_from(GREEDY, address)).collect()
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

/// The webhooks of a turn, the inboxes and the live log.
#[test]
fn webhooks_of_one_client_are_no_loss_to_others() {
    let server = Server::start(&[]);
    assert_unharmed(&server, 200, flood_with_webhooks);
}

/// And the messages that wait for their commit.
#[test]
fn webhooks_of_one_client_that_wait_for_the_disk_are_no_loss_to_others() {
    let server = Server::start(&["--durability", "disk"]);
    assert_unharmed(&server, 50, flood_with_webhooks);
}

#[test]
fn long_polls_of_one_client_are_no_loss_to_others() {
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

/// Each costs a megabyte to make, and nothing to ask for.
#[test]
fn histories_of_one_client_are_no_loss_to_others() {
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

/// Where an address has a limit, it holds neither all connections nor all the places for those that are
/// told that the server is full.
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
    // Eight of the silent ones were accepted beyond the limit, and get their 503 with their request.
    assert_eq!(answered(&first) + answered(&second), 60 - 20 - 8);
    let refused = full("127.0.0.4");
    assert!(refused.iter().all(|(_, status)| *status == 503));
    drop(silent);
}
