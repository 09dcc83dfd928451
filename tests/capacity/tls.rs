//! TLS connections: floods of handshakes, the memory of idle and stuck streams.

use std::io::ErrorKind;
use std::net::TcpStream;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};

use crate::support::tls::{Authority, Client, STREAM, TlsServer, certificate};

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

const ONE_SHARD: [&str; 4] = ["--shards", "1", "--heartbeat", "1s"];

/// Bytes of an idle stream of a client with this configuration.
fn idle_stream_bytes(tls: &TlsServer, config: &Arc<ClientConfig>) -> u64 {
    const STREAMS: u64 = 400;
    let open = || {
        let mut streams: Vec<Client> = (0..STREAMS).map(|_| tls.connect(config)).collect();
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
    drop((warm, streams));
    each
}

#[test]
fn an_idle_tls_stream_costs_at_most_what_the_operators_page_says() {
    let tls = TlsServer::start("", &ONE_SHARD);
    let each = idle_stream_bytes(&tls, &tls.authority.client(None));
    assert!((1..=3 * 1024).contains(&each), "{each} bytes per stream");
}

/// TLS 1.3 keeps the client's certificate.
#[test]
fn an_idle_tls_stream_with_a_client_certificate_costs_at_most_what_the_operators_page_says() {
    let clients = Authority::new();
    clients.sign("edge");
    let certificate_bytes = certificate(&clients.path("edge.pem")).len() as u64;
    let ca = clients.path("ca.pem");
    let flags = [&ONE_SHARD[..], &["--tls-client-ca", ca.to_str().unwrap()]].concat();
    let tls = TlsServer::start("", &flags);
    let config = tls.authority.client(Some((&clients, "edge")));
    let each = idle_stream_bytes(&tls, &config);
    println!("a certificate of {certificate_bytes} bytes");
    let bytes_max = 3 * 1024 + certificate_bytes + 256;
    assert!((1..=bytes_max).contains(&each), "{each} bytes per stream");
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
