//! TLS: own authorities, the engine's name, a client certificate.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

use super::*;
use crate::bus::engine::FaultKind;
use crate::bus::redis::bus_check;
use crate::check::Verdict;
use crate::config::BusIdentity;

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Authority {
    let mut params = CertificateParams::new(vec![]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A certificate and its key, in PEM.
fn certificate(authority: &Authority, name: &str) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    // With the authority's name it would count as self-signed.
    params.distinguished_name.push(DnType::CommonName, name);
    let certificate = params.signed_by(&key, authority).unwrap();
    (certificate.pem(), key.serialize_pem())
}

fn with_ca(config: BusConfig, authority: &Authority) -> BusConfig {
    let ca_pem = Some(authority.pem().into_bytes());
    BusConfig { ca_pem, ..config }
}

fn fault_of(config: &BusConfig) -> Fault {
    Node::new(config).writer.snapshot().unwrap_err()
}

#[test]
fn an_engine_with_tls_is_used_with_its_authority_and_a_client_certificate() {
    let own = authority();
    let (cert, key) = certificate(&own, "localhost");
    let files = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = files.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let (cert, key) = (write("cert", &cert), write("key", &key));
    let ca = write("ca", &own.pem());
    let plain = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let tls_port = plain.local_addr().unwrap().port();
    drop(plain);
    let lines = [
        format!("tls-port {tls_port}"),
        format!("tls-cert-file {cert}"),
        format!("tls-key-file {key}"),
        format!("tls-ca-cert-file {ca}"),
    ];
    let Some(server) = Server::start(&lines.each_ref().map(String::as_str)) else {
        return;
    };
    let at = |host: &str| config(&format!("rediss://{host}:{tls_port}/t"));
    // Without a client certificate the engine refuses.
    let anonymous = with_ca(at("localhost"), &own);
    let fault = fault_of(&anonymous);
    assert_eq!(fault.kind, FaultKind::Unreachable, "{fault}");
    let identified = |config: BusConfig, authority: &Authority| {
        let (cert, key) = certificate(authority, "node");
        let identity = BusIdentity {
            cert_pem: cert.into_bytes(),
            key_pem: key.into_bytes(),
        };
        BusConfig {
            identity: Some(identity),
            ..config
        }
    };
    let good = identified(anonymous.clone(), &own);
    let mut node = Node::new(&good);
    assert!(node.begin(9, &[]));
    let large = "x".repeat(60_000);
    for _ in 0..20 {
        node.append(&outgoing(&[&*large; 5])).unwrap();
    }
    let entries = node.read(id(9, 0));
    assert_eq!(entries.len(), 100);
    assert!(entries.iter().all(|entry| content_of(entry) == large));
    server.do_it("CLIENT KILL TYPE normal");
    node.append(&outgoing(&["a"])).unwrap();
    assert_eq!(node.read(id(9, 100)).len(), 1);
    assert!(
        bus_check(&good)
            .iter()
            .all(|check| check.verdict != Verdict::Failed)
    );

    let fault = fault_of(&identified(anonymous, &authority()));
    assert_eq!(fault.kind, FaultKind::Unreachable, "{fault}");
    let fault = fault_of(&identified(with_ca(at("localhost"), &authority()), &own));
    assert!(fault.text.contains("no authority"), "{fault}");
    // The public authorities have not signed it, either.
    let fault = fault_of(&at("localhost"));
    assert!(fault.text.contains("no authority"), "{fault}");
    let fault = fault_of(&identified(with_ca(at("127.0.0.1"), &own), &own));
    assert!(fault.text.ends_with("for another name"), "{fault}");
    // TLS to a port without it, and the reverse.
    let mut plain = with_ca(at("localhost"), &own);
    plain.address.hosts[0].port = server.port;
    let fault = fault_of(&plain);
    assert_eq!(fault.kind, FaultKind::Unreachable, "{fault}");
    let fault = fault_of(&config(&format!("redis://127.0.0.1:{tls_port}/t")));
    assert!(
        matches!(fault.kind, FaultKind::Unreachable | FaultKind::Unusable),
        "{fault}"
    );
}

#[test]
fn a_key_of_another_certificate_is_refused_before_a_connection() {
    let own = authority();
    let (cert, _) = certificate(&own, "node");
    let (_, key) = certificate(&own, "node");
    let mut config = with_ca(config("rediss://localhost:1/t"), &own);
    config.identity = Some(BusIdentity {
        cert_pem: cert.into_bytes(),
        key_pem: key.into_bytes(),
    });
    let error = halves(&config).err().unwrap().to_string();
    assert!(error.contains("--bus-key"), "{error}");
    assert!(!format!("{config:?}").contains("PRIVATE"));
}
