//! The way to the engine: connections that break, time-outs, other servers on the way.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use super::*;
use crate::bus::engine::{CensusStep, CensusWrite, FaultKind};
use crate::bus::redis::census;
use crate::bus::redis::wire::Answers;

/// A server that answers each connection as `serve` does, for as long as the test.
fn fake(serve: impl Fn(TcpStream) + Send + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            serve(socket.unwrap());
        }
    });
    port
}

fn read_fault(port: u16, timeout: Duration) -> Fault {
    let mut config = config(&format!("redis://127.0.0.1:{port}/t"));
    config.timeout = timeout;
    let mut node = Node::new(&config);
    node.writer.snapshot().unwrap_err()
}

#[test]
fn a_server_that_is_no_engine_is_a_fault() {
    let patience = Duration::from_secs(20);
    let free = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let fault = read_fault(free.port(), patience);
    assert_eq!(fault.kind, FaultKind::Unreachable, "{fault}");
    let http = fake(|mut socket| {
        let _ = socket.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        let _ = socket.read(&mut [0; 1024]);
    });
    let fault = read_fault(http, patience);
    assert_eq!(fault.kind, FaultKind::Unusable, "{fault}");
    let closed = fake(drop);
    let fault = read_fault(closed, patience);
    assert_eq!(fault.kind, FaultKind::Unreachable, "{fault}");
    let (held, holding) = std::sync::mpsc::channel();
    let silent = fake(move |socket| held.send(socket).unwrap());
    let fault = read_fault(silent, Duration::from_millis(100));
    assert_eq!(
        (fault.kind, &*fault.text),
        (FaultKind::Unreachable, "no answer within the time")
    );
    drop(holding);
}

#[test]
fn an_endless_or_slow_answer_ends_with_its_bound() {
    let endless = fake(|mut socket| {
        let _ = socket.write_all(b"$1000000000\r\n");
        while socket.write_all(&[b'x'; 4096]).is_ok() {}
    });
    let fault = read_fault(endless, Duration::from_secs(20));
    assert!(fault.text.contains("longer than"), "{fault}");
    let nested = fake(|mut socket| while socket.write_all(&b"*1\r\n".repeat(1024)).is_ok() {});
    let fault = read_fault(nested, Duration::from_secs(20));
    assert!(fault.text.contains("nested too deep"), "{fault}");
    // A byte at a time keeps no call alive beyond its time.
    let slow = fake(|mut socket| {
        std::thread::spawn(move || {
            while socket.write_all(b"+").is_ok() {
                std::thread::sleep(Duration::from_millis(5));
            }
        });
    });
    let fault = read_fault(slow, Duration::from_millis(100));
    assert_eq!(fault.kind, FaultKind::Unreachable, "{fault}");
}

#[test]
fn what_comes_unasked_with_an_answer_is_not_taken_for_the_next_one() {
    let (connected, connections) = std::sync::mpsc::channel();
    let chatty = fake(move |mut socket| {
        connected.send(()).unwrap();
        let mut request = [0; 16 * 1024];
        loop {
            let Ok(length @ 1..) = socket.read(&mut request) else {
                return;
            };
            let is_greeting = request[..length].ends_with(b"epoch\r\n");
            let answer: &[u8] = if is_greeting {
                b"$11\r\nrole:master\r\n$-1\r\n"
            } else {
                b"+a\r\n+b\r\n"
            };
            let _ = socket.write_all(answer);
        }
    });
    let mut node = Node::new(&config(&format!("redis://127.0.0.1:{chatty}/t")));
    for _ in 0..3 {
        let fault = node.writer.snapshot().unwrap_err();
        assert!(fault.text.contains("what it holds"), "{fault}");
        connections.recv_timeout(PATIENCE).unwrap();
    }
}

#[test]
fn after_a_lost_call_the_next_one_has_its_own_answer() {
    let Some(server) = Server::start(&[]) else {
        return;
    };
    let mut config = server.config();
    config.timeout = Duration::from_millis(200);
    let mut node = Node::new(&config);
    assert!(node.begin(9, &[]));
    let pid = rustix::process::Pid::from_child(&server.child);
    rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
    let fault = node.append(&outgoing(&["a"])).unwrap_err();
    assert_eq!(fault.kind, FaultKind::Lost, "{fault}");
    // Meanwhile there is no connection.
    let fault = node.append_from(1, &outgoing(&["a"]), None).unwrap_err();
    assert_eq!(fault.kind, FaultKind::Unreachable, "{fault}");
    rustix::process::kill_process(pid, rustix::process::Signal::CONT).unwrap();
    let since = Instant::now();
    let fenced = loop {
        match node.writer.fence(Epoch(9), PRODUCER, 1) {
            Ok(fenced) => break fenced,
            Err(_) => assert!(since.elapsed() < PATIENCE),
        }
    };
    // The stopped engine may execute the call before or after the fence: once or not at all.
    let crate::bus::engine::Fenced::At(number) = fenced else {
        panic!("{fenced:?}");
    };
    node.append_from(2, &outgoing(&["b"]), None).unwrap();
    assert_eq!(node.read(id(9, 0)).len() as u64, number + 1);
}

#[test]
fn a_connection_that_the_engine_has_closed_is_replaced_before_a_call() {
    let Some(mut server) = Server::start(&[]) else {
        return;
    };
    let mut node = server.node();
    node.begin(9, &[]);
    assert_eq!(node.append(&outgoing(&["a"])), Ok(stored(1)));
    server.do_it("CLIENT KILL TYPE normal");
    assert_eq!(node.append(&outgoing(&["b"])), Ok(stored(1)));
    server.restart();
    assert_eq!(node.append(&outgoing(&["c"])), Ok(Appended::Broken));
}

#[test]
fn a_sentinel_names_the_primary_and_a_replica_is_not_used() {
    let Some(primary) = Server::start(&[]) else {
        return;
    };
    let line = format!("replicaof 127.0.0.1 {}", primary.port);
    let Some(replica) = Server::start(&[&line]) else {
        return;
    };
    // The first replica changes the identity of the history.
    let since = Instant::now();
    let is_attached = || {
        let info = primary.do_it("INFO replication");
        let info = reply::text(&info).unwrap().to_owned();
        info.contains("state=online")
    };
    while !is_attached() {
        assert!(since.elapsed() < PATIENCE);
    }
    let sentinel = |port: u16| {
        fake(move |mut socket| {
            let _ = socket.read(&mut [0; 1024]);
            let port = port.to_string();
            let answer = format!("*2\r\n$9\r\n127.0.0.1\r\n${}\r\n{port}\r\n", port.len());
            let _ = socket.write_all(answer.as_bytes());
        })
    };
    let gone = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    // The first is gone, the second does not know it yet, the third does.
    let (stale, good) = (sentinel(replica.port), sentinel(primary.port));
    let hosts = format!("127.0.0.1:{gone},127.0.0.1:{stale},127.0.0.1:{good}");
    let mut node = Node::new(&config(&format!("redis+sentinel://{hosts}/m/t")));
    assert!(node.begin(9, &[]));
    assert_eq!(node.append(&outgoing(&["a"])), Ok(stored(1)));
    let stale = config(&format!("redis+sentinel://127.0.0.1:{stale}/m/t"));
    let fault = Node::new(&stale).writer.snapshot().unwrap_err();
    assert_eq!(fault.kind, FaultKind::NotPrimary, "{fault}");
    let unknown = fake(|mut socket| {
        let _ = socket.read(&mut [0; 1024]);
        let _ = socket.write_all(b"*-1\r\n");
    });
    let unknown = config(&format!("redis+sentinel://127.0.0.1:{unknown}/m/t"));
    let fault = Node::new(&unknown).writer.snapshot().unwrap_err();
    assert!(fault.text.contains("does not know"), "{fault}");
}

#[test]
fn a_cluster_leads_to_the_node_with_the_keys() {
    let Some(owner) = Server::start(&["cluster-enabled yes", "cluster-port 0"]) else {
        return;
    };
    let Some(entry) = Server::start(&["cluster-enabled yes", "cluster-port 0"]) else {
        return;
    };
    let engine = |port| config(&format!("redis://127.0.0.1:{port}/t"));
    let raw = |port: u16, words: &[&str]| {
        let mut socket = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let mut command = EngineCommand::new(words[0]);
        command.args(&words[1..]);
        socket.write_all(&command.to_request()).unwrap();
        let mut answers = Answers::default();
        while answers.next().unwrap().is_none() {
            let length = socket.read(answers.space()).unwrap();
            assert!(length > 0, "the engine has closed the connection");
            answers.add(length);
        }
    };
    // Without slots the cluster is down.
    let fault = Node::new(&engine(owner.port))
        .writer
        .snapshot()
        .unwrap_err();
    assert_eq!(fault.kind, FaultKind::NotPrimary, "{fault}");
    raw(owner.port, &["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]);
    raw(
        entry.port,
        &["CLUSTER", "MEET", "127.0.0.1", &owner.port.to_string()],
    );
    let since = Instant::now();
    loop {
        let mut node = Node::new(&engine(entry.port));
        match node.writer.snapshot() {
            Ok(_) => {
                assert!(node.begin(9, &[]));
                break;
            }
            Err(fault) => assert!(since.elapsed() < PATIENCE, "{fault}"),
        }
    }
    let mut node = Node::new(&engine(owner.port));
    node.epoch = Epoch(9);
    assert_eq!(node.append(&outgoing(&["a"])), Ok(stored(1)));
    // A script makes the keys of the tables of other nodes.
    let mut tables = [entry.port, owner.port].map(|port| census(&engine(port)).unwrap());
    for (table, producer) in tables.iter_mut().zip([1, 2]) {
        let write = CensusWrite {
            node: Producer(producer),
            table: 1,
            number: 1,
            step: CensusStep::Publish,
            counts: &[([7; 16], producer)],
        };
        assert_eq!(table.write(&write), Ok(true));
    }
    let since = Instant::now();
    loop {
        match tables[0].read(Producer(1), &[[7; 16]]).unwrap() {
            Some(sums) => break assert_eq!(sums, [2]),
            None => assert!(since.elapsed() < PATIENCE),
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
