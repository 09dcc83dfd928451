//! Sockets of a supervisor: they stay open while one server follows another.

use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::{Load, Reuse, STATUS, restarts, signal};
use crate::support::tls::{Authority, Client};
use crate::support::{Connection, PATIENCE, Setup};

/// Starts a server on a supervisor's sockets, from descriptor 3 on, as `systemd` does.
fn start_on(setup: &Setup, listeners: &[(&str, &TcpListener)]) -> std::process::Child {
    let fd = |index: usize| Stdio::from(OwnedFd::from(listeners[index].1.try_clone().unwrap()));
    let names: Vec<&str> = listeners.iter().map(|(name, _)| *name).collect();
    let plain = setup.clone().on_passed_sockets().command();
    let mut command = Command::new("/bin/sh");
    // The shell sets `LISTEN_PID`: its process id becomes the server's.
    let (redirections, count) = match listeners.len() {
        1 => ("3<&0 0</dev/null", 1),
        _ => ("3<&0 4<&1 0</dev/null 1>&2", 2),
    };
    command
        .arg("-c")
        .arg(format!(
            r#"LISTEN_PID=$$ LISTEN_FDS={count} exec "$0" "$@" {redirections}"#
        ))
        .arg(plain.get_program())
        .args(plain.get_args())
        .env_clear()
        .env("LISTEN_FDNAMES", names.join(":"))
        .stdin(fd(0))
        .stderr(Stdio::null());
    if listeners.len() > 1 {
        command.stdout(fd(1));
    }
    command.spawn().unwrap()
}

fn wait_for_end(child: &mut std::process::Child) -> std::process::ExitStatus {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        assert!(Instant::now() < deadline, "the server does not end");
        thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn on_a_supervisors_socket_connections_wait_for_the_next_server() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let setup = Setup::new(&["--drain", "300ms", "--shards", "2", "--log-level", "error"]);
    let mut server = start_on(&setup, &[("web", &listener)]);
    let load = Load::new(address);
    load.run(&[Reuse::None, Reuse::None], || {
        for _ in 0..restarts() {
            // An answer shows that the server is up.
            let mut probe = Connection::open(address);
            probe.send_request("GET", "/api/webhook", "", b"");
            assert_eq!(probe.read_response().status, 200);
            signal(server.id(), Signal::TERM);
            assert_eq!(wait_for_end(&mut server).code(), Some(0));
            server = start_on(&setup, &[("web", &listener)]);
        }
    });
    signal(server.id(), Signal::TERM);
    wait_for_end(&mut server);
}

#[test]
fn the_admin_socket_is_found_by_its_name() {
    let web = TcpListener::bind("127.0.0.1:0").unwrap();
    let admin = TcpListener::bind("127.0.0.1:0").unwrap();
    let setup = Setup::new(&["--drain", "0s"]);
    let mut server = start_on(&setup, &[("admin", &admin), ("web", &web)]);
    let get = |listener: &TcpListener, path: &str| {
        let mut connection = Connection::open(listener.local_addr().unwrap());
        connection.send_request("GET", path, "", b"");
        connection.read_response().status
    };
    assert_eq!(get(&admin, "/healthz"), 200);
    assert_eq!(
        (get(&web, "/healthz"), get(&web, "/api/webhook")),
        (404, 200)
    );
    signal(server.id(), Signal::TERM);
    assert_eq!(wait_for_end(&mut server).code(), Some(0));
}

#[test]
fn passed_sockets_get_the_options_of_the_servers_own() {
    let web = TcpListener::bind("127.0.0.1:0").unwrap();
    let passed = socket2::SockRef::from(&web);
    assert!(!passed.tcp_nodelay().unwrap());
    let setup = Setup::new(&["--drain", "0s"]);
    let mut server = start_on(&setup, &[("web", &web)]);
    let mut connection = Connection::open(web.local_addr().unwrap());
    connection.send_request("GET", "/api/webhook", "", b"");
    assert_eq!(connection.read_response().status, 200);
    // The options belong to the socket, which both processes share.
    assert!(passed.tcp_nodelay().unwrap());
    assert!(passed.tcp_user_timeout().unwrap().is_some());
    assert_eq!(passed.send_buffer_size().unwrap(), 2 * 256 * 1024);
    signal(server.id(), Signal::TERM);
    wait_for_end(&mut server);
}

/// A passed socket has the protocols that `--listen` gives for its address.
#[test]
fn a_supervisors_sockets_speak_tls_and_the_proxy_protocol() {
    let authority = Authority::new();
    authority.sign("server");
    let (cert, key) = (authority.path("server.pem"), authority.path("server.key"));
    let (tls, proxy) = (
        TcpListener::bind("127.0.0.1:0").unwrap(),
        TcpListener::bind("127.0.0.1:0").unwrap(),
    );
    let (tls_address, proxy_address) = (tls.local_addr().unwrap(), proxy.local_addr().unwrap());
    let setup = Setup::new(&[
        "--listen",
        &format!("{tls_address}+tls"),
        "--listen",
        &format!("{proxy_address}+proxy"),
        "--trusted-proxy",
        "127.0.0.1",
        "--tls-cert",
        cert.to_str().unwrap(),
        "--tls-key",
        key.to_str().unwrap(),
        "--drain",
        "0s",
    ]);
    let ask = |header: &[u8]| {
        let mut connection = Connection::open(proxy_address);
        connection.send_if_open(header);
        connection.send_if_open(STATUS);
        connection
    };
    // The second server finds the same sockets.
    for _ in 0..2 {
        let mut server = start_on(&setup, &[("web", &tls), ("behind", &proxy)]);
        let socket = TcpStream::connect(tls_address).unwrap();
        assert!(Client::on(socket, &authority.client(None)).is_served());
        let header = b"PROXY TCP4 192.0.2.1 192.0.2.2 1000 2000\r\n";
        assert_eq!(ask(header).read_response().status, 200);
        let refused = ask(b"").read_to_end();
        assert!(!refused.starts_with(b"HTTP/1.1 200"), "{refused:?}");
        let mut plain = Connection::open(tls_address);
        plain.send_if_open(STATUS);
        assert!(!plain.read_to_end().starts_with(b"HTTP/1.1 "));
        signal(server.id(), Signal::TERM);
        assert_eq!(wait_for_end(&mut server).code(), Some(0));
    }
}
