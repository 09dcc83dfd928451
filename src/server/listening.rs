//! The listening sockets: bound here, or passed to this process.
//!
//! Used by `server` at the start. Sets the [`Layers`] of each, and keeps duplicates for a successor and
//! the files of Unix sockets. Never accepts.

use std::fmt::Display;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use socket2::Socket;

use super::ServerError;
use crate::config::{Config, Listen, ListenAddress};
use crate::inherit::{Passed, Protocols, Sockets};
use crate::net::listener::{self, Bound, BoundSocket, SocketFile};
use crate::net::peers::Peers;
use crate::net::socket::Layers;
use crate::tls::Tls;

/// The listening sockets of this process.
pub(super) struct Listening {
    /// The bound addresses, with the port that the kernel chose, and their options.
    addresses: Vec<Listen>,
    files: Vec<SocketFile>,
    /// Duplicates of the sockets, for a successor.
    serving: Vec<Passed>,
}

/// The addresses to serve, and the admin address. Those of passed sockets replace the configured ones.
pub(super) fn addresses(config: &Config, passed: &Sockets) -> (Vec<Listen>, Option<SocketAddr>) {
    let listen = serving_addresses(config, &passed.serving);
    let admin = match &passed.admin {
        Some(socket) => socket.local_addr().ok(),
        None => config.admin,
    };
    (listen, admin)
}

fn serving_addresses(config: &Config, passed: &[Passed]) -> Vec<Listen> {
    let of_passed = |passed: &Passed| {
        let address = address_of(&passed.socket).ok()?;
        Some(Listen {
            address,
            proxy: false,
            tls: false,
        })
    };
    if passed.is_empty() {
        config.listen.clone()
    } else {
        passed.iter().filter_map(of_passed).collect()
    }
}

/// Refuses a configured address that no socket of the service manager has: it would have no effect. If a
/// socket has the address, the configured options apply to that socket.
pub(super) fn check(config: &Config, passed: &Sockets) -> Result<(), ServerError> {
    let (listen, admin) = addresses(config, passed);
    let is_missing = |wanted: &&Listen| !listen.iter().any(|l| l.address == wanted.address);
    if config.listen_is_given
        && let Some(missing) = config.listen.iter().find(is_missing)
    {
        let there: Vec<String> = listen.iter().map(ToString::to_string).collect();
        return Err(has_no_effect(
            "listen",
            missing,
            &there.join(" and "),
            "hookcast.socket",
        ));
    }
    match (config.admin, admin) {
        (Some(wanted), Some(there)) if wanted != there => Err(has_no_effect(
            "admin",
            &wanted,
            &there,
            "hookcast-admin.socket",
        )),
        _ => Ok(()),
    }
}

fn has_no_effect(flag: &str, wanted: &dyn Display, there: &dyn Display, unit: &str) -> ServerError {
    let variable = format!("HOOKCAST_{}", flag.to_uppercase());
    ServerError::Passed(format!(
        "--{flag} or {variable} {wanted} has no effect: the service manager listens, on {there}. To \
         change the address, set ListenStream= with `systemctl edit {unit}` (the file is \
         /etc/systemd/system/{unit}.d/override.conf) and remove {variable} from /etc/default/hookcast"
    ))
}

/// Binds the addresses of `--listen`, or adopts passed sockets instead.
pub(super) fn bind(
    config: &Config,
    passed: Vec<Passed>,
    tls: Option<&Arc<Tls>>,
    peers: &Arc<Peers>,
) -> Result<(Vec<Bound>, Listening), ServerError> {
    let mut listening = Listening {
        addresses: Vec::new(),
        files: Vec::new(),
        serving: Vec::new(),
    };
    let sockets = if passed.is_empty() {
        let bind = |listen: &Listen| listening.bind(listen);
        config.listen.iter().map(bind).collect::<Result<_, _>>()?
    } else {
        listening.adopt_all(config, passed)?
    };
    let mut listeners = Vec::new();
    for (socket, address) in sockets.into_iter().zip(&listening.addresses) {
        if address.tls && tls.is_none() {
            let error = io::Error::other("TLS needs a certificate, and there is none");
            return Err(ServerError::Listen(address.address.to_string(), error));
        }
        let layers = Layers {
            proxy: address.proxy,
            tls: tls.filter(|_| address.tls).cloned(),
            peers: Arc::clone(peers),
        };
        listeners.push(Bound { socket, layers });
    }
    Ok((listeners, listening))
}

/// The socket of the admin address: passed, or bound here.
pub(super) fn bind_admin(
    config: &Config,
    passed: Option<TcpListener>,
) -> Result<Option<TcpListener>, ServerError> {
    match (passed, config.admin) {
        (Some(socket), _) => Ok(Some(socket)),
        (None, Some(address)) => TcpListener::bind(address)
            .map(Some)
            .map_err(|error| ServerError::Listen(address.to_string(), error)),
        (None, None) => Ok(None),
    }
}

/// The peers that are trusted to name the client: the configured proxies, and peers on Unix sockets.
pub(super) fn peers(config: &Config, passed: &[Passed]) -> Peers {
    let listen = serving_addresses(config, passed);
    let has_unix = listen.iter().any(|l| l.socket_address().is_none());
    let has_proxies = has_unix || !config.trusted_proxies.is_empty();
    Peers::new(
        config.trusted_proxies.clone(),
        has_proxies.then(|| config.client_address_header.as_str().to_owned()),
        config.connections_per_address_max,
    )
}

impl Listening {
    fn bind(&mut self, listen: &Listen) -> Result<BoundSocket, ServerError> {
        let failed = |error| ServerError::Listen(listen.address.to_string(), error);
        let mut address = listen.clone();
        let socket = match &listen.address {
            ListenAddress::Tcp(wanted) => {
                let socket = listener::listen(*wanted).map_err(failed)?;
                address.address = ListenAddress::Tcp(socket.local_addr().map_err(failed)?);
                BoundSocket::Tcp(socket)
            }
            ListenAddress::Unix { path, mode } => {
                let (socket, file) = listener::listen_unix(path, *mode).map_err(failed)?;
                self.files.push(file);
                BoundSocket::Unix(socket)
            }
        };
        self.keep(&socket, address).map_err(failed)?;
        Ok(socket)
    }

    fn adopt_all(
        &mut self,
        config: &Config,
        passed: Vec<Passed>,
    ) -> Result<Vec<BoundSocket>, ServerError> {
        let adopt = |passed| self.adopt(config, passed);
        passed
            .into_iter()
            .map(adopt)
            .collect::<io::Result<Vec<_>>>()
            .map_err(|error| ServerError::Start("listening on a passed socket", error))
    }

    fn adopt(&mut self, config: &Config, passed: Passed) -> io::Result<BoundSocket> {
        let address = address_of(&passed.socket)?;
        let mut configured = config.listen.iter();
        let configured = configured.find(|listen| listen.address == address);
        let protocols = passed.protocols.unwrap_or_else(|| Protocols {
            proxy: configured.is_some_and(|listen| listen.proxy),
            tls: configured.is_some_and(|listen| listen.tls),
        });
        let (socket, file) = listener::adopt(passed.socket)?;
        self.files.extend(file);
        let listen = Listen {
            address,
            proxy: protocols.proxy,
            tls: protocols.tls,
        };
        self.keep(&socket, listen)?;
        Ok(socket)
    }

    fn keep(&mut self, socket: &BoundSocket, address: Listen) -> io::Result<()> {
        let socket: Socket = match socket {
            BoundSocket::Tcp(socket) => socket.try_clone()?.into(),
            BoundSocket::Unix(socket) => socket.try_clone()?.into(),
        };
        let protocols = Some(Protocols {
            proxy: address.proxy,
            tls: address.tls,
        });
        self.serving.push(Passed { socket, protocols });
        self.addresses.push(address);
        Ok(())
    }

    /// The sockets for a successor.
    pub(super) fn take_sockets(&mut self, admin: Option<&TcpListener>) -> io::Result<Sockets> {
        Ok(Sockets {
            serving: std::mem::take(&mut self.serving),
            admin: admin.map(TcpListener::try_clone).transpose()?,
        })
    }

    /// Sets whether this process removes the files of Unix sockets at its end, or leaves them to a
    /// predecessor or a successor.
    pub(super) fn set_files_ours(&mut self, are_ours: bool) {
        for file in &mut self.files {
            file.set_ours(are_ours);
        }
    }

    pub(super) fn log(&self, config: &Config, history: usize) {
        for address in &self.addresses {
            tracing::info!(
                address = %address.address,
                window = window_url(address),
                ring = %config.ring.display(),
                history,
                shards = config.shards,
                connections_max = config.connections_max,
                body_bytes_max = config.body_bytes_max,
                file_limit = config.file_limit,
                secret = config.secret.is_some(),
                kv = config.kv.is_some(),
                version = env!("CARGO_PKG_VERSION"),
                "listening"
            );
        }
    }
}

fn address_of(socket: &Socket) -> io::Result<ListenAddress> {
    let address = socket.local_addr()?;
    if let Some(address) = address.as_socket() {
        return Ok(ListenAddress::Tcp(address));
    }
    let path = address.as_pathname().unwrap_or(Path::new(""));
    let mode = std::fs::symlink_metadata(path).map_or(0, |file| file.permissions().mode() & 0o777);
    Ok(ListenAddress::Unix {
        path: path.to_owned(),
        mode,
    })
}

/// The URL of the chat window.
fn window_url(listen: &Listen) -> Option<String> {
    let scheme = if listen.tls { "https" } else { "http" };
    let address = listen.socket_address()?;
    Some(format!("{scheme}://{address}/"))
}
