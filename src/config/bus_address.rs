//! The address of the bus: which engine, by which way, and the name under which the nodes meet.
//!
//! Parsed from `--bus`, used by `bus`. Pure. Never shows the user: the forms for people are scheme, hosts and
//! name alone.

use std::fmt;

use percent_encoding::percent_decode_str;

use crate::limits::{BUS_HOSTS_MAX, BUS_NAME_BYTES_MAX};

/// The port of Redis and Valkey.
const PORT_DEFAULT: u16 = 6379;

/// The port of Sentinel.
const SENTINEL_PORT_DEFAULT: u16 = 26379;

const EXPECTED: &str = "must be redis://HOST:PORT/NAME, rediss:// for TLS, or \
                        redis+sentinel://HOST:PORT,HOST:PORT/MASTER/NAME";

/// Where the engine is, and under which name the nodes share it.
#[derive(Clone, PartialEq, Eq)]
pub struct BusAddress {
    /// The connection is encrypted.
    pub tls: bool,
    /// The engine, or the Sentinels that know it: 1 to [`BUS_HOSTS_MAX`].
    pub hosts: Vec<HostPort>,
    /// The name by which the Sentinels know the primary; `None`: the host is the engine itself.
    pub master: Option<String>,
    /// The user of the engine's access list; `None`: the default user.
    pub user: Option<String>,
    /// The name in front of the keys: 1 to [`BUS_NAME_BYTES_MAX`] of `[A-Za-z0-9._-]`.
    pub name: String,
}

/// A host with its port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPort {
    /// A name or an address; IPv6 without brackets.
    pub host: String,
    /// The TCP port.
    pub port: u16,
}

impl HostPort {
    /// Parses `host`, `host:port` or `[v6]:port`.
    pub fn parse(text: &str, port_default: u16) -> Option<HostPort> {
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, after) = rest.split_once(']')?;
                host.parse::<std::net::Ipv6Addr>().ok()?;
                (host, after)
            }
            None => text.split_at(text.find(':').unwrap_or(text.len())),
        };
        let port = match port.strip_prefix(':') {
            Some(port) => port.parse().ok().filter(|port| *port != 0)?,
            None if port.is_empty() => port_default,
            None => return None,
        };
        let is_plain = |c: char| c.is_ascii_alphanumeric() || ".-_:".contains(c);
        (!host.is_empty() && host.chars().all(is_plain)).then(|| HostPort {
            host: host.to_owned(),
            port,
        })
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl BusAddress {
    /// Parses the value of `--bus`. An error never quotes it: it may contain a password.
    pub(crate) fn parse(text: &str) -> Result<BusAddress, String> {
        let (scheme, rest) = text.trim().split_once("://").ok_or(EXPECTED)?;
        let (tls, by_sentinel) = match scheme {
            "redis" | "valkey" => (false, false),
            "rediss" | "valkeys" => (true, false),
            "redis+sentinel" | "valkey+sentinel" => (false, true),
            "rediss+sentinel" | "valkeys+sentinel" => (true, true),
            _ => return Err(EXPECTED.into()),
        };
        if rest.contains(['?', '#']) {
            return Err("has no query and no fragment; the settings of the bus are flags".into());
        }
        // A password may have any character, and the host has no @.
        let (user, rest) = match rest.rsplit_once('@') {
            Some((user, rest)) => (Some(user), rest),
            None => (None, rest),
        };
        let user = user.map(parse_user).transpose()?.flatten();
        let mut parts = rest.split('/');
        let hosts = parts.next().unwrap_or_default();
        let path: Vec<&str> = parts.collect();
        let (master, name) = match (by_sentinel, &path[..]) {
            (false, [name]) => (None, *name),
            (true, [master, name]) => (Some((*master).to_owned()), *name),
            (false, _) => {
                return Err(format!(
                    "{EXPECTED}: it ends in one NAME, which all nodes of this bus have and no others"
                ));
            }
            (true, _) => {
                return Err(format!(
                    "{EXPECTED}: MASTER is the name that the Sentinels give the primary, NAME that of this bus"
                ));
            }
        };
        if !is_name(name) || master.as_deref().is_some_and(|master| !is_name(master)) {
            return Err(format!(
                "has a NAME of letters, digits, dots, hyphens and underscores, 1 to {BUS_NAME_BYTES_MAX} of them"
            ));
        }
        Ok(BusAddress {
            tls,
            hosts: parse_hosts(hosts, by_sentinel)?,
            master,
            user,
            name: name.to_owned(),
        })
    }
}

fn parse_user(user: &str) -> Result<Option<String>, String> {
    if user.contains(':') {
        return Err(
            "must not contain a password, which the list of processes would show: write it into a file \
             and give --bus-password-file"
                .into(),
        );
    }
    let user = percent_decode_str(user)
        .decode_utf8()
        .map_err(|_| EXPECTED)?;
    if user.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err("has a user with white space or a control character".into());
    }
    Ok((!user.is_empty()).then(|| user.into_owned()))
}

fn parse_hosts(text: &str, by_sentinel: bool) -> Result<Vec<HostPort>, String> {
    let port = if by_sentinel {
        SENTINEL_PORT_DEFAULT
    } else {
        PORT_DEFAULT
    };
    let hosts = text.split(',').map(|host| HostPort::parse(host, port));
    let hosts = hosts.collect::<Option<Vec<_>>>().ok_or(EXPECTED)?;
    match (hosts.len(), by_sentinel) {
        (1, _) => Ok(hosts),
        (_, false) => Err("names one engine; a list of hosts is for redis+sentinel://".into()),
        (count, true) if count > BUS_HOSTS_MAX => {
            Err(format!("names at most {BUS_HOSTS_MAX} Sentinels"))
        }
        _ => Ok(hosts),
    }
}

fn is_name(text: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    (1..=BUS_NAME_BYTES_MAX).contains(&text.len()) && text.chars().all(is_plain)
}

impl fmt::Display for BusAddress {
    /// The address without its user.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.tls { "rediss" } else { "redis" })?;
        f.write_str(if self.master.is_some() {
            "+sentinel://"
        } else {
            "://"
        })?;
        for (nth, host) in self.hosts.iter().enumerate() {
            let comma = if nth > 0 { "," } else { "" };
            write!(f, "{comma}{host}")?;
        }
        if let Some(master) = &self.master {
            write!(f, "/{master}")?;
        }
        write!(f, "/{}", self.name)
    }
}

impl fmt::Debug for BusAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BusAddress({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_shows_as_it_was_written_without_its_user() {
        for (text, shown) in [
            ("redis://a/n", "redis://a:6379/n"),
            ("redis://u@a:1/n", "redis://a:1/n"),
            ("rediss://[::1]:7/A.b_c-9", "rediss://[::1]:7/A.b_c-9"),
            ("redis://[::1]/n", "redis://[::1]:6379/n"),
            ("valkey://a/n", "redis://a:6379/n"),
            (
                "redis+sentinel://a,b:2/m/n",
                "redis+sentinel://a:26379,b:2/m/n",
            ),
            ("rediss+sentinel://a/m/n", "rediss+sentinel://a:26379/m/n"),
        ] {
            let address = BusAddress::parse(text).unwrap();
            assert_eq!(address.to_string(), shown, "{text}");
            assert!(!format!("{address:?}").contains("u@"));
        }
        let user = |text| BusAddress::parse(text).unwrap().user;
        assert_eq!(user("redis://u%40x@a/n").as_deref(), Some("u@x"));
        assert_eq!(user("redis://@a/n"), None);
        assert_eq!(user("redis://a/n"), None);
    }

    #[test]
    fn any_other_text_is_no_address() {
        let long = format!("redis://a/{}", "n".repeat(65));
        for text in [
            "",
            "redis://",
            "redis:///n",
            "redis://a",
            "redis://a/",
            "redis://a/n/m",
            "redis://a/n?x",
            "redis://a/n#x",
            "redis://a:0/n",
            "redis://a:65536/n",
            "redis://a:x/n",
            "redis://[::1/n",
            "redis://[a]/n",
            "redis://[::1]x/n",
            "redis://a,b/n",
            "redis://a b/n",
            "redis://a/n{}",
            "redis://a/\u{e9}",
            "redis+sentinel://a/n",
            "redis+sentinel://a,,b/m/n",
            "redis+sentinel://a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,p,q/m/n",
            "http://a/n",
            &long,
        ] {
            assert!(BusAddress::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_password_in_an_address_is_refused_and_not_shown() {
        for text in [
            "redis://:s3cret@a/n",
            "redis://u:s3cret@a/n",
            "redis://u:s3/c@ret@a/n",
        ] {
            let error = BusAddress::parse(text).unwrap_err();
            assert!(error.contains("--bus-password-file"), "{error}");
            assert!(!error.contains("s3"), "{error}");
        }
    }
}
