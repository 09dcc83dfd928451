//! The doctor and TLS: a good server, and faults of certificates.

use std::net::SocketAddr;
use std::process::{Command, Output};

use rustix::process::Signal;

use crate::support::tls::{Authority, TlsServer, Validity};

/// Runs the doctor against localhost, with the authority's certificate as `--ca-file`.
fn doctor(scheme: &str, address: SocketAddr, authority: &Authority) -> Output {
    Command::new(env!("CARGO_BIN_EXE_hookcast"))
        .arg("doctor")
        .arg(format!("{scheme}://localhost:{}", address.port()))
        .args(["--watch", "5s", "--ca-file"])
        .arg(authority.path("ca.pem"))
        .env_clear()
        .output()
        .unwrap()
}

#[test]
fn the_doctor_finds_nothing_wrong_with_tls() {
    let tls = TlsServer::start("", &["--shards", "1"]);
    let output = doctor("https", tls.address, &tls.authority);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(
        !text.contains("FAILED") && !text.contains(" note "),
        "{text}"
    );
    for subject in ["post", "buffering", "heartbeat", "resume", "history"] {
        let is_fine = |line: &str| line.starts_with(subject) && line.contains(" ok ");
        assert!(text.lines().any(is_fine), "{subject}: {text}");
    }
}

#[test]
fn the_doctor_explains_faults_of_certificates() {
    let tls = TlsServer::start("", &["--shards", "1"]);
    let text_of = |output: Output| {
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(1), "{text}");
        text
    };
    let text = text_of(doctor("https", tls.address, &Authority::new()));
    assert!(
        text.contains("no authority that is trusted here has signed it"),
        "{text}"
    );
    let text = text_of(doctor("https", tls.server.address, &tls.authority));
    assert!(text.contains("does not speak TLS"), "{text}");
    text_of(doctor("http", tls.address, &tls.authority));

    tls.authority.sign_for("other.example", "server");
    tls.server.signal(Signal::HUP);
    tls.server.wait_for_log("new connections get");
    let text = text_of(doctor("https", tls.address, &tls.authority));
    assert!(
        text.contains("another name than localhost") && text.contains("other.example"),
        "{text}"
    );

    tls.authority.sign_with("server", Validity::Over);
    tls.server.signal(Signal::HUP);
    tls.server.wait_for_log("the certificate");
    let text = text_of(doctor("https", tls.address, &tls.authority));
    assert!(
        text.contains("it has expired") && text.contains("certificate renew it"),
        "{text}"
    );
}
