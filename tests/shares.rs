//! What one client can take of what all share, and what the others notice of it.

mod support;

use support::loopback::{connect_from, connect_narrow, wait_until_read};
use support::{Connection, Server};

/// A history of which one answer is as long as they get.
fn fill_history(server: &Server) {
    let message = "x".repeat(10_000);
    for _ in 0..100 {
        server.publish(&message);
    }
}

/// How the clients of a test are told apart.
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
        let head = format!(
            "POST /api/webhook HTTP/1.1\r\nHost: a\r\n{fields}Content-Length: 60001\r\n\r\n"
        );
        connection.send_if_open(&[head.as_bytes(), &body].concat());
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
            let head = format!(
                "POST /api/webhook HTTP/1.1\r\nHost: a\r\n{fields}Content-Length: {length}\r\n\r\n"
            );
            let (first, second) = body.split_at(length / 2);
            connection.send(&[head.as_bytes(), first.as_bytes()].concat());
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
