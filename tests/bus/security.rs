//! Credentials, the least permissions, and TLS.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

use crate::cluster::{Cluster, NAME};
use crate::engine::Engine;
use crate::judge::judge;
use crate::load::Load;
use crate::presence::wait_for;
use crate::proxy::Proxy;
use crate::watcher::{see_all, stop_all};

/// What a node needs of an engine, in the form of `ACL SETUSER`. The operator's page gives the same line.
const PERMISSIONS: &str = "~{rig}:* resetchannels -@all +info +time +wait +eval +evalsha +exists +type +del \
                           +get +set +hget +hmget +hset +hdel +hlen +hgetall +pexpire +xadd +xread +xrange \
                           +xrevrange +xtrim +xsetid +xinfo|stream";

const PASSWORD: &str = "correct horse: battery @ staple/%41";

fn cluster(count: usize, scheme: &str, host: &str, port: u16, flags: &[&str]) -> Cluster {
    let address = ([127, 0, 0, 1], port).into();
    let mut cluster = Cluster::empty(address);
    for nth in 0..count {
        let proxy = Proxy::to(address);
        let url = format!("{scheme}://{host}:{}/{NAME}", proxy.address.port());
        cluster.launch_on(proxy, &[&["--bus", &url], flags].concat(), |setup| setup);
        cluster.node(nth).wait_until_ready();
    }
    cluster
}

/// Posts to all nodes and reads on all; no log has the password.
fn expect_works(what: &str, cluster: &Cluster) {
    let watchers = cluster.watch_all();
    let load = Load::start(&cluster.roster, 2, Duration::from_millis(1));
    load.wait_for_stored(100);
    let posted = load.stop();
    see_all(&watchers, &posted);
    let records = stop_all(watchers);
    judge(&posted, &records).hold_exactly(what);
    for node in cluster.nodes() {
        let log = format!("{:?}", node.log());
        assert!(!log.contains("battery"), "{what}: {log}");
        let metrics = String::from_utf8(node.get("/metrics").body).unwrap();
        assert!(!metrics.contains("battery"), "{what}");
    }
}

#[test]
fn a_password_of_the_default_user() {
    let mut engine = Engine::configured(&[]);
    engine.set("requirepass", PASSWORD);
    engine.use_password(Some(PASSWORD));
    let file = engine.path("password");
    std::fs::write(&file, format!("{PASSWORD}\n")).unwrap();
    let flags = ["--bus-password-file", file.to_str().unwrap()];
    let cluster = cluster(2, "redis", "127.0.0.1", engine.address.port(), &flags);
    expect_works("requirepass", &cluster);
}

/// The engine is then killed, so that beginning an epoch needs no more permissions.
#[test]
fn a_user_with_the_least_permissions() {
    let mut engine = Engine::configured(&["aclfile \"\""]);
    let set_user = |engine: &Engine| {
        let mut words = vec!["ACL", "SETUSER", "hookcast", "on"];
        let password = format!(">{PASSWORD}");
        words.push(&password);
        words.extend(PERMISSIONS.split_whitespace());
        engine.attempt(&words).unwrap();
    };
    set_user(&engine);
    let file = engine.path("password");
    std::fs::write(&file, PASSWORD).unwrap();
    let flags = ["--bus-password-file", file.to_str().unwrap()];
    let port = engine.address.port();
    let cluster = cluster(2, "redis", "hookcast@127.0.0.1", port, &flags);
    expect_works("least permissions", &cluster);
    wait_for(&cluster, "least permissions", "a", 0);
    engine.kill();
    engine.restart();
    set_user(&engine);
    cluster.publish_eventually(0, "after");
    expect_works("least permissions after a restart", &cluster);
}

#[test]
fn tls_with_an_authority_and_a_client_certificate_of_its_own() {
    let authority = Authority::new();
    authority.sign("node");
    let path = |name: &str| authority.path(name);
    let (_engine, tls_port) = Engine::with_tls(&authority);
    let (ca, cert, key) = (path("ca.pem"), path("node.pem"), path("node.key"));
    let identity = ["--bus-cert", &cert, "--bus-key", &key];
    let flags = [&["--bus-ca-file", &ca][..], &identity].concat();
    let works = cluster(2, "rediss", "localhost", tls_port, &flags);
    expect_works("TLS", &works);

    // Each of these must not connect, and says why in a line.
    let stranger = Authority::new();
    let strange = stranger.path("ca.pem");
    let cases = [
        (
            "an unknown authority",
            [&["--bus-ca-file", &strange][..], &identity].concat(),
        ),
        ("no client certificate", vec!["--bus-ca-file", &ca]),
    ];
    for (what, flags) in cases {
        let url = format!("rediss://localhost:{tls_port}/{NAME}");
        let mut cluster = Cluster::empty(([127, 0, 0, 1], tls_port).into());
        let proxy = Proxy::to(cluster.target());
        cluster.launch_on(proxy, &[&["--bus", &url], &flags[..]].concat(), |setup| {
            setup
        });
        let node = cluster.node(0);
        let line = node.poll("a complaint", |node| node.complaints(0).first().cloned());
        println!("{what}: {line}");
        assert!(!node.is_ready(), "{what}");
    }
}

/// An authority and its certificates for localhost, as files. OpenSSL takes a certificate for self-signed if its name is
/// that of the authority, so each has a name of its own.
pub struct Authority {
    directory: tempfile::TempDir,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub fn new() -> Authority {
        let directory = tempfile::tempdir().unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = named("authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        std::fs::write(directory.path().join("ca.pem"), certificate.pem()).unwrap();
        let issuer = Issuer::new(params, key);
        Authority { directory, issuer }
    }

    pub fn path(&self, name: &str) -> String {
        self.directory
            .path()
            .join(name)
            .to_str()
            .unwrap()
            .to_owned()
    }

    pub fn sign(&self, name: &str) {
        let key = KeyPair::generate().unwrap();
        let certificate = named(name).signed_by(&key, &self.issuer).unwrap();
        std::fs::write(self.path(&format!("{name}.pem")), certificate.pem()).unwrap();
        let path = self.path(&format!("{name}.key"));
        std::fs::write(&path, key.serialize_pem()).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
    }
}

fn named(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(vec!["localhost".into()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}
