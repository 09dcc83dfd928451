//! One value of `--listen`: an address, and the protocols below HTTP.
//!
//! `ADDRESS:PORT` or `unix:PATH`, followed by options: `[::]:443+tls`, `10.0.0.1:3000+proxy`,
//! `unix:/run/hookcast.sock+mode=660`. The options are part of the value, because each belongs to one
//! of several addresses. They begin with `+`: commas separate the values of a list, and a plus sign has
//! no meaning in a shell. Used when the configuration is built. Pure: opens nothing.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use super::value;
use crate::limits::{UNIX_MODE_DEFAULT, UNIX_PATH_BYTES_MAX};

/// The settings of a listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen {
    /// Its address.
    pub address: ListenAddress,
    /// Every connection begins with a PROXY protocol header, which gives the client address.
    pub proxy: bool,
    /// Connections use TLS, after the PROXY header.
    pub tls: bool,
}

/// The address of a listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenAddress {
    /// An IP address and a port; port 0 means any free one.
    Tcp(SocketAddr),
    /// A Unix socket (unix(7)).
    Unix {
        /// Its file.
        path: PathBuf,
        /// The file's permissions, as for chmod(2).
        mode: u32,
    },
}

impl Listen {
    /// A plain listener on an address.
    pub fn tcp(address: SocketAddr) -> Listen {
        Listen {
            address: ListenAddress::Tcp(address),
            proxy: false,
            tls: false,
        }
    }

    /// The IP address, if it is one.
    pub fn socket_address(&self) -> Option<SocketAddr> {
        match self.address {
            ListenAddress::Tcp(address) => Some(address),
            ListenAddress::Unix { .. } => None,
        }
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ListenAddress::Tcp(address) => address.fmt(f),
            ListenAddress::Unix { path, .. } => write!(f, "unix:{}", path.display()),
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.fmt(f)?;
        if let ListenAddress::Unix { mode, .. } = self.address {
            write!(f, "+mode={mode:o}")?;
        }
        f.write_str(if self.proxy { "+proxy" } else { "" })?;
        f.write_str(if self.tls { "+tls" } else { "" })
    }
}

/// Reads one value of `--listen`.
pub(super) fn listen(text: &str) -> Result<Listen, String> {
    let mut parts = text.trim().split('+');
    let place = parts.next().unwrap_or_default();
    let mut listen = match place.strip_prefix("unix:") {
        Some(path) => Listen {
            address: unix(path)?,
            proxy: false,
            tls: false,
        },
        None => Listen::tcp(value::address(place)?),
    };
    for option in parts {
        match (option, &mut listen.address) {
            ("proxy", _) => listen.proxy = true,
            ("tls", _) => listen.tls = true,
            (option, ListenAddress::Unix { mode, .. }) if option.starts_with("mode=") => {
                *mode = octal_mode(&option["mode=".len()..])?;
            }
            (_, ListenAddress::Tcp(_)) => {
                return Err("takes +proxy and +tls behind an address".into());
            }
            (_, ListenAddress::Unix { .. }) => {
                return Err(
                    "takes +mode=660, +proxy and +tls behind the path of a Unix socket".into(),
                );
            }
        }
    }
    Ok(listen)
}

fn unix(path: &str) -> Result<ListenAddress, String> {
    if path.is_empty() || path.len() > UNIX_PATH_BYTES_MAX || path.contains('\0') {
        return Err(format!(
            "must have a path of 1 to {UNIX_PATH_BYTES_MAX} bytes behind unix:"
        ));
    }
    Ok(ListenAddress::Unix {
        path: path.into(),
        mode: UNIX_MODE_DEFAULT,
    })
}

fn octal_mode(text: &str) -> Result<u32, String> {
    let is_octal =
        (3..=4).contains(&text.len()) && text.bytes().all(|b| (b'0'..=b'7').contains(&b));
    match u32::from_str_radix(text, 8) {
        Ok(mode) if is_octal && mode <= 0o777 => Ok(mode),
        _ => Err("must have an octal mode such as +mode=660".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_is_displayed_in_the_form_that_is_parsed() {
        for text in [
            "127.0.0.1:3000",
            "[::1]:0+proxy",
            "0.0.0.0:443+tls",
            "[::]:443+proxy+tls",
            "unix:/run/hookcast.sock+mode=660",
            "unix:relative/path+mode=600+proxy",
        ] {
            assert_eq!(listen(text).unwrap().to_string(), text);
        }
        assert_eq!(
            listen(" unix:/a+tls+mode=0666 ").unwrap().to_string(),
            "unix:/a+mode=666+tls"
        );
        assert_eq!(listen("unix:/a").unwrap().to_string(), "unix:/a+mode=660");
    }

    #[test]
    fn an_invalid_listener_is_refused_with_the_reason() {
        for (text, expected) in [
            ("", "IP address"),
            ("localhost:3000", "127.0.0.1 for localhost"),
            ("127.0.0.1:3000+", "+proxy and +tls"),
            ("127.0.0.1:3000+mode=660", "+proxy and +tls"),
            ("127.0.0.1:3000+TLS", "+proxy and +tls"),
            ("unix:", "path"),
            ("unix:+tls", "path"),
            ("unix:/a+b", "+mode=660"),
            ("unix:/a+mode=", "octal"),
            ("unix:/a+mode=66", "octal"),
            ("unix:/a+mode=888", "octal"),
            ("unix:/a+mode=4755", "octal"),
            ("unix:/a+mode=+66", "octal"),
        ] {
            let message = listen(text).unwrap_err();
            assert!(message.contains(expected), "{text}: {message}");
        }
        assert!(listen(&format!("unix:/{}", "a".repeat(107))).is_err());
    }
}
