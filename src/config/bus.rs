//! The settings of the bus: `--bus` and the flags that begin with it.
//!
//! Used when the configuration is built. Reads the files that they name. Never calls the engine: `bus-check`
//! tests the access.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use super::args::Args;
use super::pem_files::{ca_pem, pem_file};
use super::{BusAddress, ConfigError, Secret};
use crate::pem;

/// An engine and how to use it.
#[derive(Debug, Clone)]
pub struct BusConfig {
    /// Where the engine is, and the name of the bus.
    pub address: BusAddress,
    /// The password of the user, or of the default user.
    pub password: Option<Secret>,
    /// Certificates in PEM to trust instead of the public authorities.
    pub ca_pem: Option<Vec<u8>>,
    /// The certificate of this node, if the engine asks for one.
    pub identity: Option<BusIdentity>,
    /// The longest time for one call.
    pub timeout: Duration,
    /// The replicas that must confirm a message before it is acknowledged.
    pub replicas: u32,
    /// Messages that the engine keeps.
    pub history_messages: usize,
    /// The longest body of a webhook; see [`Config`](super::Config).
    pub body_bytes_max: usize,
}

/// The certificate of a client of the engine. Its `Debug` form is empty, because of the key.
#[derive(Clone)]
pub struct BusIdentity {
    /// The certificate with its chain, in PEM.
    pub cert_pem: Vec<u8>,
    /// Its private key, in PEM.
    pub key_pem: Vec<u8>,
}

impl fmt::Debug for BusIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BusIdentity(..)")
    }
}

/// The settings of the bus, if there is one, and whether every user may read the password's file.
pub(super) fn settings(args: &Args) -> Result<(Option<BusConfig>, bool), ConfigError> {
    let Some(address) = args.bus.clone() else {
        return Ok((None, false));
    };
    let has_files = args.bus_ca_file.is_some() || args.bus_cert.is_some();
    if has_files && !address.tls {
        let flag = if args.bus_ca_file.is_some() {
            "--bus-ca-file"
        } else {
            "--bus-cert"
        };
        return Err(ConfigError::new(format!(
            "{flag} is for TLS, and --bus {address} has none: write rediss:// or rediss+sentinel://"
        )));
    }
    if address.user.is_some() && args.bus_password_file.is_none() {
        return Err(ConfigError::new(
            "--bus names a user, and a user has a password: give --bus-password-file",
        ));
    }
    let password = args.bus_password_file.as_deref();
    let password = password
        .map(|path| Secret::read_password(path, "--bus-password-file"))
        .transpose()?;
    let (password, is_public) = password.unzip();
    let ca_pem = args.bus_ca_file.as_deref();
    let config = BusConfig {
        address,
        password,
        ca_pem: ca_pem.map(ca_pem_of).transpose()?,
        identity: identity(args.bus_cert.as_deref(), args.bus_key.as_deref())?,
        timeout: args.bus_timeout,
        replicas: args.bus_replicas as u32,
        history_messages: args.bus_history,
        body_bytes_max: args.max_body_bytes,
    };
    Ok((Some(config), is_public.unwrap_or(false)))
}

fn ca_pem_of(path: &Path) -> Result<Vec<u8>, ConfigError> {
    ca_pem(path, "--bus-ca-file")
}

/// The client certificate; `clap` takes either both files or none.
fn identity(cert: Option<&Path>, key: Option<&Path>) -> Result<Option<BusIdentity>, ConfigError> {
    let (Some(cert), Some(key)) = (cert, key) else {
        return Ok(None);
    };
    let cert_pem = pem_file(cert, "--bus-cert", |pem| pem::chain(pem).map(drop))?;
    let key_pem = pem_file(key, "--bus-key", |pem| pem::private_keys(pem).map(drop))?;
    Ok(Some(BusIdentity { cert_pem, key_pem }))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{config, error, parse_with};
    use super::super::{Action, Config};
    use super::*;

    const BUS: [&str; 2] = ["--bus", "redis://engine.example/hooks"];

    fn with(flags: &[&str]) -> Config {
        config(&[&BUS[..], flags].concat(), &[])
    }

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    }

    fn path(file: &tempfile::NamedTempFile) -> &str {
        file.path().to_str().unwrap()
    }

    #[test]
    fn the_bus_is_off_unless_it_is_given() {
        assert!(config(&[], &[]).bus.is_none());
        assert!(config(&[], &[]).summary().ends_with("bus off"));
        let config = with(&[]);
        assert!(
            config
                .summary()
                .ends_with("bus redis://engine.example:6379/hooks")
        );
        let bus = config.bus.unwrap();
        assert_eq!(bus.timeout, Duration::from_secs(2));
        assert_eq!((bus.replicas, bus.history_messages), (0, 10_000));
        assert_eq!(bus.body_bytes_max, 65_536);
        assert!(bus.password.is_none() && bus.identity.is_none() && bus.ca_pem.is_none());
    }

    #[test]
    fn flags_of_the_bus_keep_to_their_ranges() {
        let flags = [
            "--bus-timeout",
            "5s",
            "--bus-replicas",
            "8",
            "--bus-history",
            "100",
        ];
        let bus = with(&flags).bus.unwrap();
        assert_eq!(bus.timeout, Duration::from_secs(5));
        assert_eq!((bus.replicas, bus.history_messages), (8, 100));
        for (flag, value) in [
            ("--bus-timeout", "99ms"),
            ("--bus-timeout", "61s"),
            ("--bus-replicas", "9"),
            ("--bus-history", "99"),
            ("--bus-history", "100001"),
            ("--bus", "http://engine.example/hooks"),
            ("--bus", "redis://engine.example"),
        ] {
            assert!(error(&[flag, value], &[]).contains(flag), "{flag} {value}");
        }
    }

    #[test]
    fn flags_of_the_bus_alone_have_no_effect() {
        let warnings = config(&["--bus-timeout", "1s", "--bus-replicas", "1"], &[]).warnings();
        for flag in ["--bus-timeout", "--bus-replicas"] {
            let expected = format!("{flag} has no effect: --bus is not given");
            assert!(warnings.contains(&expected), "{warnings:?}");
        }
        assert!(with(&["--bus-timeout", "1s"]).warnings().is_empty());
    }

    #[test]
    fn a_password_is_read_from_its_file_and_never_shown() {
        let file = file("s3cret pass word \n");
        let config = with(&["--bus-password-file", path(&file)]);
        let bus = config.bus.as_ref().unwrap();
        assert_eq!(bus.password.as_ref().unwrap().expose(), "s3cret pass word ");
        let shown = format!("{config:?} {} {:?}", config.summary(), config.warnings());
        assert!(!shown.contains("s3cret"), "{shown}");
        // The network in between can read it.
        assert!(shown.contains("use rediss://"), "{shown}");
        let here = [
            "--bus",
            "redis://127.0.0.1/h",
            "--bus-password-file",
            path(&file),
        ];
        assert!(
            !format!("{:?}", super::super::tests::config(&here, &[]).warnings()).contains("rediss")
        );
        for text in ["", "\n", "a\nb", "a\0b"] {
            let file = self::file(text);
            let flags = [&BUS[..], &["--bus-password-file", path(&file)]].concat();
            assert!(error(&flags, &[]).starts_with("--bus-password-file"));
        }
        let flags = [&BUS[..], &["--bus-password-file", "s3cret"]].concat();
        let error = error(&flags, &[]);
        assert!(
            !error.contains("s3") && error.contains("not the secret itself"),
            "{error}"
        );
    }

    #[test]
    fn a_password_in_the_address_is_refused_and_not_shown() {
        for address in [
            "redis://u:s3cret@h/n",
            "redis://:s3cret@h/n",
            "redis://s3cret@h",
        ] {
            let error = error(&["--bus", address], &[]);
            assert!(!error.contains("s3cret"), "{error}");
        }
        let error = error(&["--bus", "redis://user@h/n"], &[]);
        assert!(error.contains("--bus-password-file"), "{error}");
    }

    #[test]
    fn files_of_tls_are_read_and_need_tls() {
        let params = rcgen::CertificateParams::new(vec!["node.example".into()]).unwrap();
        let pair = rcgen::KeyPair::generate().unwrap();
        let cert = file(&params.self_signed(&pair).unwrap().pem());
        let key = file(&pair.serialize_pem());
        let all = [
            "--bus-ca-file",
            path(&cert),
            "--bus-cert",
            path(&cert),
            "--bus-key",
            path(&key),
        ];
        let tls = ["--bus", "rediss://h/n"];
        let config = config(&[&tls[..], &all].concat(), &[]);
        let bus = config.bus.as_ref().unwrap();
        assert!(bus.ca_pem.is_some() && bus.identity.is_some());
        assert!(!format!("{config:?}").contains("PRIVATE"));
        for flags in [&all[..2], &all[2..]] {
            let error = error(&[&BUS[..], flags].concat(), &[]);
            assert!(
                error.contains(flags[0]) && error.contains("rediss://"),
                "{error}"
            );
        }
        for (flags, expected) in [
            (&all[2..4], "--bus-key"),
            (
                &["--bus-cert", path(&key), "--bus-key", path(&key)][..],
                "--bus-cert",
            ),
            (
                &["--bus-cert", path(&cert), "--bus-key", path(&cert)][..],
                "--bus-key",
            ),
            (&["--bus-ca-file", "/no/such"][..], "cannot be read"),
        ] {
            let error = error(&[&tls[..], flags].concat(), &[]);
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn bus_check_takes_the_flags_of_the_bus_and_needs_one() {
        let flags = [&["bus-check"][..], &BUS, &["--bus-timeout", "1s"]].concat();
        let parsed = parse_with(&flags, &[]).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(parsed.action, Action::BusCheck);
        assert_eq!(parsed.config.bus.unwrap().timeout, Duration::from_secs(1));
        assert!(error(&["bus-check"], &[]).contains("--bus"));
    }
}
