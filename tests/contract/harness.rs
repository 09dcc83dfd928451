//! Tests of the client in `support`: if it misread an answer, all other tests would be worthless. Its peers send known
//! bytes.

use std::io::Write;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;

use socket2::{Domain, Socket, Type};

use crate::support::loopback::unread_bytes;
use crate::support::{Connection, Ending, EventStream};

/// A peer that accepts one connection, sends each of `pieces` in a write of its own, and closes.
fn peer(pieces: Vec<Vec<u8>>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        socket.set_nodelay(true).unwrap();
        for piece in pieces {
            socket.write_all(&piece).unwrap();
        }
        // Closing with an unread request would send a reset, which can discard sent bytes.
        socket.shutdown(Shutdown::Write).unwrap();
        let _ = std::io::copy(&mut socket, &mut std::io::sink());
    });
    address
}

/// `bytes` in one piece, and split in two at every position.
fn splits(bytes: &[u8]) -> Vec<Vec<Vec<u8>>> {
    (0..bytes.len())
        .map(|at| vec![bytes[..at].to_vec(), bytes[at..].to_vec()])
        .collect()
}

#[test]
fn responses_are_read_however_they_are_cut() {
    let text = "HTTP/1.1 100 Continue\r\n\r\n\
        HTTP/1.1 200 OK\r\nContent-Length: 7\r\nX-Test: a: b\r\n\r\n{\"a\":1}\
        HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\n\
        HTTP/1.0 200 OK\r\n\r\nuntil the end";
    for pieces in splits(text.as_bytes()) {
        let mut connection = Connection::open(peer(pieces));
        let first = connection.read_response();
        assert_eq!((first.status, first.json()["a"].as_u64()), (200, Some(1)));
        assert_eq!(first.header("x-TEST"), Some("a: b"));
        let second = connection.read_response();
        assert_eq!(
            (second.status, second.body.as_slice()),
            (404, &b"abc0123456789"[..])
        );
        let third = connection.read_response();
        assert_eq!(
            (third.version.as_str(), third.body.as_slice()),
            ("HTTP/1.0", &b"until the end"[..])
        );
        connection.expect_close();
    }
}

#[test]
fn an_answer_to_head_has_no_body() {
    let bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n";
    let mut connection = Connection::open(peer(vec![bytes.to_vec()]));
    assert_eq!(connection.read_response_to("HEAD").status, 200);
    assert_eq!(connection.read_response().status, 204);
}

const EVENTS: &str = "retry: 1234\ndata: {\"type\":\"connected\",\"timestamp\":1,\"replay\":1}\n\n\
    : heartbeat\nid: 0a-1\ndata: {\"type\":\"webhook_message\",\"content\":\"x\\ny\"}\n\n\
    data: {\"type\":\"gap\",\"missed\":7}\n\n";

/// Reads [`EVENTS`] and checks them.
fn expect_events(stream: &mut EventStream) {
    assert_eq!(stream.connected(), 1);
    assert!(stream.next_event().unwrap().is_heartbeat());
    let message = stream.next();
    assert_eq!(
        (message.id.as_deref(), message.content().as_str()),
        (Some("0a-1"), "x\ny")
    );
    assert_eq!(stream.next().missed(), 7);
}

#[test]
fn events_are_read_however_they_are_chunked() {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n";
    for at in 1..EVENTS.len() {
        let (a, b) = EVENTS.split_at(at);
        let chunks = format!(
            "{head}{:x}\r\n{a}\r\n{:X}\r\n{b}\r\n0\r\n\r\n",
            a.len(),
            b.len()
        );
        let mut stream = EventStream::open(peer(vec![chunks.into_bytes()]), "", "");
        expect_events(&mut stream);
        assert_eq!(stream.drain(), (Ending::LastChunk, vec![]));
        assert_eq!(stream.chunks, [a.len(), b.len()]);
    }
    let torn = format!("{head}{:x}\r\n{EVENTS}\r\n5\r\ndata:", EVENTS.len());
    let mut stream = EventStream::open(peer(vec![torn.into_bytes()]), "", "");
    expect_events(&mut stream);
    assert_eq!(stream.drain(), (Ending::Close, vec![]));
}

#[test]
fn events_are_read_up_to_the_close() {
    let text = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n\r\n{EVENTS}: torn"
    );
    for pieces in splits(text.as_bytes()) {
        let mut stream = EventStream::open_1_0(peer(pieces), "");
        expect_events(&mut stream);
        assert_eq!(stream.drain(), (Ending::Close, vec![]));
    }
}

#[test]
#[should_panic(expected = "torn event")]
fn a_last_chunk_in_the_middle_of_an_event_is_a_failure() {
    let text = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n\
        5\r\ndata:\r\n0\r\n\r\n";
    EventStream::open(peer(vec![text.as_bytes().to_vec()]), "", "").drain();
}

/// A client that is bound to another loopback address can have the port of a server.
#[test]
fn unread_bytes_of_a_port_are_those_of_its_server() {
    let bind = || TcpListener::bind("127.0.0.1:0").unwrap();
    let (server, other) = (bind(), bind());
    let port = server.local_addr().unwrap().port();
    let other_address = other.local_addr().unwrap();
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let source = SocketAddr::from(([127, 0, 0, 9], port));
    socket.bind(&source.into()).unwrap();
    socket.connect(&other_address.into()).unwrap();
    let mut client = TcpStream::from(socket);
    let (mut accepted, _) = other.accept().unwrap();
    accepted.write_all(b"for the client").unwrap();
    client.write_all(b"for the server").unwrap();
    for socket in [&client, &accepted] {
        assert!(socket.peek(&mut [0; 1]).unwrap() > 0);
    }
    assert_eq!(unread_bytes(port), 0);
    assert_eq!(unread_bytes(other_address.port()), 14);
}
