//! TLS for streams: the certificate of the server, and the client's side of a stream.
//!
//! `servers` makes the certificate, `streams` reads through [`TlsStream`]. Posts stay plain, so that only
//! deliveries differ from a run without TLS. Only servers that this tool started have TLS, so no other
//! certificate is verified.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore};

/// Name in the certificate.
const HOST: &str = "localhost";

/// A certificate for one run, and the configuration of its clients.
pub struct Certificate {
    /// The certificate, PEM.
    pub chain: PathBuf,
    /// Its key, PEM, readable only by the owner.
    pub key: PathBuf,
    /// Trusts this certificate and no other.
    pub client: Arc<ClientConfig>,
}

/// Makes a certificate and writes it into `directory`.
pub fn certificate(directory: &Path) -> Result<Certificate, String> {
    let made = rcgen::generate_simple_self_signed([HOST.to_owned()]);
    let made = made.map_err(|error| format!("no certificate: {error}"))?;
    let write = |name: &str, pem: String| {
        let path = directory.join(name);
        let written = std::fs::write(&path, pem);
        written.map_err(|error| format!("{}: {error}", path.display()))?;
        Ok::<_, String>(path)
    };
    let mut roots = RootCertStore::empty();
    roots
        .add(made.cert.der().clone())
        .map_err(|error| format!("own certificate: {error}"))?;
    let client = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Certificate {
        chain: write("certificate.pem", made.cert.pem())?,
        key: write("key.pem", made.signing_key.serialize_pem())?,
        client: Arc::new(client),
    })
}

/// One stream's TLS, without its socket.
pub struct TlsStream {
    connection: ClientConnection,
}

impl TlsStream {
    /// Begins a handshake that `request` will follow.
    pub fn new(config: &Arc<ClientConfig>, request: &[u8]) -> io::Result<TlsStream> {
        let name = ServerName::try_from(HOST).map_err(io::Error::other)?;
        let connection = ClientConnection::new(Arc::clone(config), name);
        let mut connection = connection.map_err(io::Error::other)?;
        connection.writer().write_all(request)?;
        Ok(TlsStream { connection })
    }

    /// Appends the bytes to send now to `out`.
    pub fn outgoing(&mut self, out: &mut Vec<u8>) -> io::Result<()> {
        while self.connection.wants_write() {
            self.connection.write_tls(out)?;
        }
        Ok(())
    }

    /// Takes received bytes, and appends decrypted ones to `plain`. Bytes behind the server's `close_notify`
    /// are ignored.
    pub fn incoming(&mut self, mut came: &[u8], plain: &mut Vec<u8>) -> io::Result<()> {
        while !came.is_empty() && self.connection.read_tls(&mut came)? > 0 {
            let state = self.connection.process_new_packets();
            let bytes = state.map_err(io::Error::other)?.plaintext_bytes_to_read();
            let at = plain.len();
            plain.resize(at + bytes, 0);
            self.connection.reader().read_exact(&mut plain[at..])?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    use rustls::{ServerConfig, ServerConnection};

    /// A client with its request sent, and its server.
    fn pair() -> (TlsStream, ServerConnection) {
        let directory = tempfile::tempdir().unwrap();
        let made = certificate(directory.path()).unwrap();
        let chain = vec![CertificateDer::from_pem_file(&made.chain).unwrap()];
        let key = PrivateKeyDer::from_pem_file(&made.key).unwrap();
        let config = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        let server = ServerConnection::new(Arc::new(config)).unwrap();
        (TlsStream::new(&made.client, b"request").unwrap(), server)
    }

    fn to_server(client: &mut TlsStream, server: &mut ServerConnection) {
        let mut out = Vec::new();
        client.outgoing(&mut out).unwrap();
        let mut out = &out[..];
        while !out.is_empty() {
            server.read_tls(&mut out).unwrap();
            server.process_new_packets().unwrap();
        }
    }

    fn from_server(server: &mut ServerConnection) -> Vec<u8> {
        let mut back = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut back).unwrap();
        }
        back
    }

    /// Bytes arrive in pieces, as from a socket.
    #[test]
    fn a_request_and_an_answer_of_many_records_pass_through_tls() {
        let (mut client, mut server) = pair();
        let answer: Vec<u8> = (0..60_000u32).map(|at| at as u8).collect();
        let (mut asked, mut plain, mut answered) = (Vec::new(), Vec::new(), 0);
        for _ in 0..2_000 {
            to_server(&mut client, &mut server);
            let _ = server.reader().read_to_end(&mut asked);
            if !asked.is_empty() {
                answered += server.writer().write(&answer[answered..]).unwrap();
            }
            for piece in from_server(&mut server).chunks(777) {
                client.incoming(piece, &mut plain).unwrap();
            }
        }
        assert_eq!(asked, b"request");
        assert_eq!(plain, answer);
        assert!(client.incoming(b"no record at all", &mut plain).is_err());
    }

    #[test]
    fn bytes_behind_close_notify_are_ignored() {
        let (mut client, mut server) = pair();
        let mut plain = Vec::new();
        while server.is_handshaking() {
            to_server(&mut client, &mut server);
            let back = from_server(&mut server);
            client.incoming(&back, &mut plain).unwrap();
        }
        server.writer().write_all(b"the last").unwrap();
        server.send_close_notify();
        client
            .incoming(&from_server(&mut server), &mut plain)
            .unwrap();
        client.incoming(b"and more", &mut plain).unwrap();
        assert_eq!(plain, b"the last");
    }
}
