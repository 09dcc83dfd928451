//! The dry run of a start: tries every step that can fail, and leaves nothing behind.
//!
//! Called by `main` for `--check-config`. Sockets listen for a moment and are closed. Never starts a
//! thread, creates a named file or calls KV (`kv-check` does that).

use std::io;

use super::{ServerError, listening, sources, tokens};
use crate::config::{Config, Durability, ListenAddress};
use crate::inherit::Sockets;
use crate::mirror;
use crate::net::listener;
use crate::ring::{self, RingError, unsynced_wanted};
use crate::tls::Tls;

/// Tries the steps of [`super::run`]. Returns the warnings that it would log.
///
/// A locked ring belongs to a running server. Addresses in use are then assumed to be that server's, so
/// that a new configuration can be checked before a restart.
///
/// # Errors
///
/// The first error that would end a start.
pub fn rehearse(config: &Config, sockets: &Sockets) -> Result<Vec<String>, ServerError> {
    listening::check(config, sockets)?;
    let (listen, admin) = listening::addresses(config, sockets);
    let mut warnings = config.warnings_on(&listen, admin);
    let ring =
        rehearse_ring(config).map_err(|error| ServerError::Ring(config.ring.clone(), error))?;
    let is_running = ring.is_in_use;
    let mut rehearsal = Listeners {
        is_running,
        in_use: Vec::new(),
        held: Vec::new(),
    };
    rehearsal.admin(config, sockets)?;
    let tls = config.tls.clone().map(Tls::load).transpose();
    let tls = tls.map_err(ServerError::Tls)?;
    warnings.extend(tls.iter().flat_map(Tls::warnings));
    let token_keys = tokens::load(config).map_err(ServerError::TokenKeys)?;
    warnings.extend(token_keys.into_iter().flat_map(|loaded| loaded.notes));
    let sources = sources::load(config, &listen).map_err(ServerError::Sources)?;
    warnings.extend(sources.into_iter().flat_map(|loaded| loaded.notes));
    if sockets.serving.is_empty() {
        rehearsal.listen(config)?;
    }
    if ring.is_in_use {
        warnings.push(rehearsal.running_words(config));
    } else if ring.report.is_warning() {
        warnings.push(ring.report.to_string());
    }
    if let Some(kv) = &config.kv {
        mirror::check_client(kv).map_err(ServerError::Mirror)?;
    }
    Ok(warnings)
}

fn rehearse_ring(config: &Config) -> Result<ring::Rehearsal, RingError> {
    let unsynced_max = match config.durability {
        Durability::Process => 1,
        Durability::Disk => unsynced_wanted(config.body_bytes_max),
    };
    ring::rehearse(&config.ring, config.body_bytes_max, unsynced_max)
}

/// The listeners, all open at once: two addresses may exclude each other.
struct Listeners {
    /// Whether a running server uses the ring.
    is_running: bool,
    /// The addresses in use, which are assumed to be that server's.
    in_use: Vec<String>,
    held: Vec<std::net::TcpListener>,
}

impl Listeners {
    fn admin(&mut self, config: &Config, passed: &Sockets) -> Result<(), ServerError> {
        if let (None, Some(address)) = (&passed.admin, config.admin) {
            let bound = std::net::TcpListener::bind(address);
            self.note(address.to_string(), bound.map(Some))?;
        }
        Ok(())
    }

    fn listen(&mut self, config: &Config) -> Result<(), ServerError> {
        for listen in &config.listen {
            let bound = match &listen.address {
                ListenAddress::Tcp(address) => listener::listen(*address).map(Some),
                ListenAddress::Unix { path, .. } => listener::rehearse_unix(path).map(|()| None),
            };
            self.note(listen.address.to_string(), bound)?;
        }
        Ok(())
    }

    fn note(
        &mut self,
        address: String,
        bound: io::Result<Option<std::net::TcpListener>>,
    ) -> Result<(), ServerError> {
        match bound {
            Ok(socket) => self.held.extend(socket),
            Err(error) if self.is_running && error.kind() == io::ErrorKind::AddrInUse => {
                self.in_use.push(address);
            }
            Err(error) => return Err(ServerError::Listen(address, error)),
        }
        Ok(())
    }

    fn running_words(&self, config: &Config) -> String {
        let ring = config.ring.display();
        match self.in_use.join(" and ") {
            addresses if addresses.is_empty() => format!(
                "a running server uses the ring {ring}: this configuration starts once it has ended"
            ),
            addresses => format!(
                "a running server uses the ring {ring}, and {addresses} (assumed to be its own): this \
                 configuration starts once it has ended"
            ),
        }
    }
}
