//! TLS connections: floods of handshakes, the memory of idle and stuck streams.

use std::io::ErrorKind;
use std::net::TcpStream;
use std::sync::Arc;

use rustls::ClientConnection;
use rustls::pki_types::ServerName;

use crate::support::tls::{Client, STREAM, TlsServer};

/// `ClientHello`s without a further message, again and again, while streams are served.
#[test]
fn a_flood_of_handshakes_is_survived() {
    let tls = TlsServer::start("", &["--shards", "2"]);
    let config = tls.authority.client(None);
    let mut stream = tls.open();
    stream.send(STREAM);
    stream.read_to("connected");
    let mut plain = tls.server.stream("", "");
    plain.connected();
    let mut held = Vec::new();
    for round in 0..20 {
        for _ in 0..20 {
            let name = ServerName::try_from("localhost").unwrap();
            let mut client = ClientConnection::new(Arc::clone(&config), name).unwrap();
            let mut socket = TcpStream::connect(tls.address).unwrap();
            client.write_tls(&mut socket).unwrap();
            held.push(socket);
        }
        if round % 2 == 0 {
            held.clear();
        }
        let message = format!("round {round}");
        tls.server.publish(&message);
        stream.read_to(&message);
        assert_eq!(plain.next().content(), message);
    }
    assert!(tls.open().is_served());
}

#[test]
fn an_idle_tls_stream_costs_at_most_what_the_operators_page_says() {
    const STREAMS: u64 = 400;
    const BYTES_MAX: u64 = 3 * 1024;
    let tls = TlsServer::start("", &["--shards", "1", "--heartbeat", "1s"]);
    let config = tls.authority.client(None);
    let open = || {
        let mut streams: Vec<Client> = (0..STREAMS).map(|_| tls.connect(&config)).collect();
        for stream in &mut streams {
            stream.send(STREAM);
        }
        for stream in &mut streams {
            stream.read_to("connected");
            stream.read_to(": heartbeat");
        }
        streams
    };
    let warm = open();
    let before = tls.server.proc_status("RssAnon:") * 1024;
    let streams = open();
    let after = tls.server.proc_status("RssAnon:") * 1024;
    let each = after.saturating_sub(before) / STREAMS;
    println!("{STREAMS} streams: {before} to {after} bytes, {each} bytes each");
    assert!((1..=BYTES_MAX).contains(&each), "{each} bytes per stream");
    drop((warm, streams));
}

/// Bytes that the kernel does not take are kept for the stream, up to the bound.
#[test]
fn stuck_tls_readers_stay_below_the_bound_of_connections() {
    const STREAMS: u64 = 50;
    let tls = TlsServer::start("", &["--shards", "1"]);
    let config = tls.authority.client(None);
    let mut streams: Vec<Client> = (0..STREAMS).map(|_| tls.connect(&config)).collect();
    for stream in &mut streams {
        stream.send(STREAM);
        stream.read_to("connected");
    }
    let mut witness = tls.server.stream("", "");
    witness.connected();
    let before = tls.server.proc_status("RssAnon:") * 1024;
    let filler = "x".repeat(60_000);
    for _ in 0..200 {
        tls.server.publish(&filler);
        witness.next();
    }
    let after = tls.server.proc_status("RssAnon:") * 1024;
    let log = hookcast::limits::LOG_BYTES_MIN as u64;
    let bound = STREAMS * hookcast::limits::TLS_CONNECTION_BYTES_MAX as u64;
    println!("{before} to {after} bytes");
    assert!(
        after < before + log + bound + (8 << 20),
        "{before} to {after}"
    );
    let stalled = streams[0].stream.sock.peek(&mut [0; 1]);
    assert!(!matches!(&stalled, Err(error) if error.kind() == ErrorKind::WouldBlock));
}
