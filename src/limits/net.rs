//! Sockets: listeners, connections and their number, kernel buffers, PROXY headers, TLS.

use super::SHARDS_MAX;

/// Default of `--listen`: loopback, so nothing is public by accident.
pub const LISTEN_DEFAULT: &str = "127.0.0.1:3000";

/// Most `--listen` addresses: each takes a descriptor of [`FILES_RESERVED`].
pub const LISTEN_ADDRESSES_MAX: usize = 16;

/// Connections in the kernel's queue for accept(2), which `net.core.somaxconn` may lower. A storm
/// of 10,000 clients fills it; their connects retry within a second.
pub const LISTEN_BACKLOG: i32 = 4096;

/// Delay of the next accept(2) after one that found no descriptor or no memory.
pub const ACCEPT_RETRY_MS: u64 = 100;

/// Mode of a Unix socket without `+mode=`: for its owner and its group, which includes the proxy in
/// front.
pub const UNIX_MODE_DEFAULT: u32 = 0o660;

/// Longest path of a Unix socket in bytes. `sun_path` has 108 with a final NUL (unix(7)).
pub const UNIX_PATH_BYTES_MAX: usize = 107;

/// Descriptors that are not connections: three for each shard (two epoll sets and a waker), the
/// listeners, and some 20 others. The others are the ring, its lock, the log, signals, the admin
/// address and the mirror's sockets. With the most shards and listeners some 90 are left, more than
/// [`SURPLUS_CONNECTIONS_MAX`].
pub const FILES_RESERVED: u64 = 320;
const _: () = assert!(
    FILES_RESERVED as usize >= 3 * SHARDS_MAX + LISTEN_ADDRESSES_MAX + 20 + SURPLUS_CONNECTIONS_MAX
);

/// Largest value of `--max-connections`, and its default if the file limit allows more. The slots
/// of a million open connections take 256 MiB.
pub const CONNECTIONS_MAX_LIMIT: usize = 1 << 20;

/// Connections over `--max-connections` that are accepted so that their requests can be refused.
/// Further ones wait in the listen queue.
pub const SURPLUS_CONNECTIONS_MAX: usize = 64;

/// Largest value of `--max-connections-per-ip`: all connections.
pub const CONNECTIONS_PER_ADDRESS_MAX_LIMIT: usize = CONNECTIONS_MAX_LIMIT;

/// Connections of one address over its limit that are accepted so that their requests can be refused.
/// Further ones are closed at once. The six connections of a browser, and two more.
pub const ADDRESS_SURPLUS_MAX: u32 = 8;

/// Most `--trusted-proxy` networks. The public lists of CDNs have twenty to some hundred.
pub const TRUSTED_PROXIES_MAX: usize = 1024;

/// Longest PROXY protocol header in bytes. Version 2 with two Unix addresses has 232. The fields of
/// load balancers (ids, TLS names) add some hundred.
pub const PROXY_HEADER_BYTES_MAX: usize = 2048;

/// Send buffer of a connection in bytes (`SO_SNDBUF`, which the kernel doubles). It bounds the
/// kernel's memory for a reader that has stopped.
pub const SEND_BUFFER_BYTES: usize = 256 * 1024;

/// Unsent bytes below which a socket is writable (`TCP_NOTSENT_LOWAT`).
pub const UNSENT_BYTES_LOW: u32 = 128 * 1024;

/// Extents of one gathering write: far below the kernel's `IOV_MAX` of 1024, and small enough for the
/// stack.
pub const GATHER_EXTENTS_MAX: usize = 64;

/// Extents of at most this many bytes are copied to the stack and sent with send(2). The call is
/// cheaper than writev(2) by more than the copy. Enough for a usual message with a heartbeat.
pub const JOINED_WRITE_BYTES_MAX: usize = 1024;

/// Seconds without a byte from the peer until the kernel sends the first probe (tcp(7),
/// `TCP_KEEPIDLE`). Further ones follow every [`KEEPALIVE_INTERVAL_S`] (`TCP_KEEPINTVL`). So the
/// connection of a vanished peer ends within 90 s even if `--keep-alive` is an hour. Streams have
/// heartbeats.
pub const KEEPALIVE_IDLE_S: u64 = 60;

/// Seconds between two probes. Three are sent before `TCP_USER_TIMEOUT`, which is
/// [`STALL_MS`](super::STALL_MS), ends the connection.
pub const KEEPALIVE_INTERVAL_S: u64 = 10;

/// Largest PEM file of a certificate, a key or authorities in bytes. A chain has some 10 KiB, a
/// list of public authorities 220 KiB.
pub const TLS_FILE_BYTES_MAX: usize = 1024 * 1024;

/// Most content of a TLS record in bytes (RFC 8446 section 5.1).
pub const TLS_RECORD_CONTENT_BYTES_MAX: usize = 16 * 1024;

/// Largest TLS record in bytes: content, cipher's part and head (RFC 8446 section 5.2), and the key update that
/// may precede it. At most one record of a connection waits for its socket.
pub const TLS_RECORD_BYTES_MAX: usize = TLS_RECORD_CONTENT_BYTES_MAX + 256 + 5 + 256;

/// Most bytes that a peer may send in a handshake. A hello has less than 2 KiB, a client's chain of
/// certificates some 6 KiB.
pub const TLS_HANDSHAKE_BYTES_MAX: usize = 32 * 1024;

/// How much of a handshake is read at once, in bytes.
pub const TLS_HANDSHAKE_READ_BYTES: usize = 4 * 1024;

/// Most received bytes of one connection that are not processed: a part of a record, or of a message of a
/// handshake. Also how much is read at once.
pub const TLS_INCOMING_BYTES_MAX: usize = TLS_HANDSHAKE_BYTES_MAX;

/// Most reads of a socket for one read of content. A flight of a handshake takes up to eight reads of 4 KiB. As
/// many bytes of content as a shard reads at once take 15 reads of 32 KiB if each is a record of its own.
pub const TLS_READS_MAX: usize = 16;

/// Most records without content in a row (rustls has the same limit).
pub const TLS_EMPTY_RECORDS_MAX: u8 = 32;

/// Most key updates of a peer without content in either direction between them (rustls has the same limit, and
/// counts the peer's content alone).
pub const TLS_KEY_UPDATES_MAX: u8 = 32;

/// Most warnings of a peer in a connection (rustls has the same limit).
pub const TLS_WARNINGS_MAX: u8 = 4;

/// Most requests of a peer of TLS 1.2 for a new handshake, in a connection. Each is refused with an alert, which may
/// wait for the socket.
pub const TLS_RENEGOTIATION_REQUESTS_MAX: u8 = 1;
