//! The addresses of a host name, in bounded time.
//!
//! Used by `connection`. The system's resolver may take half a minute, so it runs on a thread of its own. At most
//! one is under way for each host: a later call waits for the same one.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Instant;

use crate::config::HostPort;
use crate::limits::BUS_HOSTS_MAX;

type Answer = io::Result<Vec<SocketAddr>>;

/// Looks up names.
#[derive(Default)]
pub(super) struct Resolver {
    under_way: Vec<(HostPort, Receiver<Answer>)>,
}

impl Resolver {
    /// The addresses of a host, at least one.
    pub(super) fn addresses(&mut self, host: &HostPort, deadline: Instant) -> Answer {
        if let Ok(address) = host.host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(address, host.port)]);
        }
        let same = self.under_way.iter().position(|(other, _)| other == host);
        let answer = match same {
            Some(index) => self.under_way.swap_remove(index).1,
            None if self.under_way.len() > BUS_HOSTS_MAX => return Err(ErrorKind::TimedOut.into()),
            None => start(host)?,
        };
        let left = deadline.saturating_duration_since(Instant::now());
        match answer.recv_timeout(left) {
            Ok(Ok(addresses)) if !addresses.is_empty() => Ok(addresses),
            Ok(_) | Err(RecvTimeoutError::Disconnected) => Err(ErrorKind::NotFound.into()),
            Err(RecvTimeoutError::Timeout) => {
                self.under_way.push((host.clone(), answer));
                Err(ErrorKind::TimedOut.into())
            }
        }
    }
}

fn start(host: &HostPort) -> io::Result<Receiver<Answer>> {
    let (sender, answer) = sync_channel(1);
    let HostPort { host, port } = host.clone();
    std::thread::Builder::new()
        .name("bus-resolve".into())
        .spawn(move || {
            let addresses = (host, port).to_socket_addrs().map(Iterator::collect);
            // The call that asked may have ended.
            let _ = sender.send(addresses);
        })?;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn resolve(host: &str) -> Answer {
        let host = HostPort {
            host: host.into(),
            port: 7,
        };
        Resolver::default().addresses(&host, Instant::now() + Duration::from_secs(30))
    }

    #[test]
    fn addresses_and_names_are_resolved_and_unknown_names_are_an_error() {
        assert_eq!(resolve("::1").unwrap(), ["[::1]:7".parse().unwrap()]);
        assert!(!resolve("localhost").unwrap().is_empty());
        assert!(resolve("no-such-host.invalid").is_err());
    }
}
