//! Clients with several addresses on one machine: all of 127.0.0.0/8 is loopback.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Instant;

use socket2::{Domain, Socket, Type};

use super::PATIENCE;
use super::client::Connection;

/// Connects from a loopback address.
pub fn connect_from(source: &str, address: SocketAddr) -> Connection {
    Connection::on(connected(source, address, None).into())
}

/// The same with the kernel's smallest receive buffer, so that unread answers stay in the server.
pub fn connect_narrow(source: &str, address: SocketAddr) -> Connection {
    Connection::on(connected(source, address, Some(1)).into())
}

fn connected(source: &str, address: SocketAddr, buffer_bytes: Option<usize>) -> Socket {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
    if let Some(bytes) = buffer_bytes {
        socket.set_recv_buffer_size(bytes).unwrap();
    }
    let source: IpAddr = source.parse().unwrap();
    socket.bind(&SocketAddr::from((source, 0)).into()).unwrap();
    socket.connect_timeout(&address.into(), PATIENCE).unwrap();
    socket
}

/// Received and unread bytes of all connections of a listener on 127.0.0.1 (proc(5), `/proc/net/tcp`).
///
/// The address is compared, too: a client that is bound to another loopback address may have the same port.
pub fn unread_bytes(port: u16) -> u64 {
    let sockets = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let address = u32::from_ne_bytes(Ipv4Addr::LOCALHOST.octets());
    let local = format!("{address:08X}:{port:04X}");
    let lines = sockets.lines().filter(|line| line.contains(&local));
    let unread = lines.filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let queues = (fields[1] == local).then(|| fields[4])?;
        Some(u64::from_str_radix(queues.split_once(':')?.1, 16).unwrap())
    });
    unread.sum()
}

/// Waits until the server has read everything that was sent to its port.
///
/// The kernel lists every socket of the machine each time. So a test waits once for all of its requests, not for each: the
/// deadlines of the first would pass while tests beside it have thousands of connections.
pub fn wait_until_read(port: u16) {
    let deadline = Instant::now() + PATIENCE;
    while unread_bytes(port) > 0 {
        assert!(
            Instant::now() < deadline,
            "{} bytes are not read",
            unread_bytes(port)
        );
    }
}
