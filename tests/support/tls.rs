//! TLS for clients: an authority of the test, and rustls over a socket.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use tempfile::TempDir;

use super::{PATIENCE, Server};

/// The validity of a certificate.
#[derive(Clone, Copy)]
pub enum Validity {
    Over,
    ToCome,
}

/// An authority and its certificates, as files.
pub struct Authority {
    directory: TempDir,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub fn new() -> Authority {
        let directory = tempfile::tempdir().unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        std::fs::write(directory.path().join("ca.pem"), certificate.pem()).unwrap();
        Authority {
            directory,
            issuer: Issuer::new(params, key),
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes a certificate for localhost and its key.
    pub fn sign(&self, name: &str) {
        self.sign_for("localhost", name);
    }

    /// Writes a certificate for another host and its key.
    pub fn sign_for(&self, host: &str, name: &str) {
        self.write(&CertificateParams::new(vec![host.into()]).unwrap(), name);
    }

    /// Writes a certificate for localhost with another validity.
    pub fn sign_with(&self, name: &str, validity: Validity) {
        let mut params = CertificateParams::new(vec!["localhost".into()]).unwrap();
        (params.not_before, params.not_after) = match validity {
            Validity::Over => (date_time_ymd(2000, 1, 1), date_time_ymd(2001, 1, 1)),
            Validity::ToCome => (date_time_ymd(4000, 1, 1), date_time_ymd(4001, 1, 1)),
        };
        self.write(&params, name);
    }

    fn write(&self, params: &CertificateParams, name: &str) {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        std::fs::write(self.path(&format!("{name}.pem")), certificate.pem()).unwrap();
        let path = self.path(&format!("{name}.key"));
        std::fs::write(&path, key.serialize_pem()).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
    }

    /// The configuration of a client that trusts this authority, and shows a certificate if the server wants
    /// one.
    pub fn client(&self, own: Option<(&Authority, &str)>) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(certificate(&self.path("ca.pem"))).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match own {
            None => builder.with_no_client_auth(),
            Some((signer, name)) => {
                let chain = vec![certificate(&signer.path(&format!("{name}.pem")))];
                let key = PrivateKeyDer::from_pem_file(signer.path(&format!("{name}.key")));
                builder.with_client_auth_cert(chain, key.unwrap()).unwrap()
            }
        };
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Arc::new(config)
    }
}

pub fn certificate(path: &Path) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(path).unwrap()
}

/// A request for the status.
pub const STATUS: &str = "GET /api/webhook HTTP/1.1\r\nHost: localhost\r\n\r\n";
pub const STREAM: &str = "GET /api/webhook/stream HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// A server with a plain and a TLS listener.
pub struct TlsServer {
    pub server: Server,
    pub address: SocketAddr,
    pub authority: Authority,
}

impl TlsServer {
    pub fn start(options: &str, flags: &[&str]) -> TlsServer {
        let authority = Authority::new();
        authority.sign("server");
        let listen = format!("127.0.0.1:0+tls{options}");
        let (cert, key) = (authority.path("server.pem"), authority.path("server.key"));
        let tls = [
            "--listen",
            &listen,
            "--tls-cert",
            cert.to_str().unwrap(),
            "--tls-key",
            key.to_str().unwrap(),
        ];
        let server = Server::start(&[&tls, flags].concat());
        let address = server.listening_at(1);
        TlsServer {
            server,
            address,
            authority,
        }
    }

    pub fn connect(&self, config: &Arc<ClientConfig>) -> Client {
        Client::on(TcpStream::connect(self.address).unwrap(), config)
    }

    pub fn open(&self) -> Client {
        self.connect(&self.authority.client(None))
    }
}

pub struct Client {
    pub stream: StreamOwned<ClientConnection, TcpStream>,
    seen: Vec<u8>,
}

impl Client {
    pub fn on(socket: TcpStream, config: &Arc<ClientConfig>) -> Client {
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.set_write_timeout(Some(PATIENCE)).unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let connection = ClientConnection::new(Arc::clone(config), name).unwrap();
        Client {
            stream: StreamOwned::new(connection, socket),
            seen: Vec::new(),
        }
    }

    pub fn send(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).unwrap();
        self.stream.flush().unwrap();
    }

    /// Reads until this text has arrived, and drops everything up to its end.
    pub fn read_to(&mut self, text: &str) {
        let mut bytes = vec![0; 64 * 1024];
        let mut from = 0;
        loop {
            let found = self.seen[from..]
                .windows(text.len())
                .position(|window| window == text.as_bytes());
            if let Some(at) = found {
                self.seen.drain(..from + at + text.len());
                return;
            }
            from = self.seen.len().saturating_sub(text.len());
            let count = self.stream.read(&mut bytes).unwrap();
            assert!(count > 0, "{text:?} did not come before the end");
            self.seen.extend_from_slice(&bytes[..count]);
        }
    }

    pub fn is_served(&mut self) -> bool {
        let asked = self.stream.write_all(STATUS.as_bytes());
        let mut bytes = [0; 1024];
        asked.is_ok()
            && match self.stream.read(&mut bytes) {
                Ok(count) => bytes[..count].starts_with(b"HTTP/1.1 200 "),
                Err(_) => false,
            }
    }
}
