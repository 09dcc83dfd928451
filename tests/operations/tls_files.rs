//! TLS files that are unusable, readable by everyone, or expire soon: the messages at the start, of `--check-config` and
//! on SIGHUP.
//! `secrets` checks that no message shows a part of a key.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;
use serde_json::Value;

use crate::support::Setup;
use crate::support::tls::{Authority, STREAM, TlsServer, Validity, certificate};

/// Keys that no listener accepts, made for this test by `openssl genpkey`.
const RSA_1024: &str = "-----BEGIN PRIVATE KEY-----\n\
MIICdwIBADANBgkqhkiG9w0BAQEFAASCAmEwggJdAgEAAoGBAMnGfDN5d6ZQEPNN\n\
Jrq5lCWkzeCKLZB+o6Dc7l+G35dWi7hhixXkdAmi9Uwna7e0KMY243LOw6O4KuOk\n\
rkfDkyczLWmPyi3sjpzG+XebdEH6G/Vh48ah0YJm/wdoqRfMTwnYh0cG2VjwWFfP\n\
u6aNbaY+MI+fc9NXq8BCHBukbXYrAgMBAAECgYEAtG+otadT1ggXgFtn3OcDkj40\n\
VS173ZFB5iJrkEVeQUmFnJat+B/ZnJx7W2SNMTQMmmSPNSWtUgTpZbTonQhJ19dh\n\
n64SrBuK3kNyYn11YfdkI6vd2sZjI/18i9jIwuzErGdqiAZ83oYo5f3Gg60QHLr8\n\
MfzBT+4cfN5nmfN20cECQQDsXWziKT4Uo1UhPv8gH2d1Q2VdC08n5HOXRMSoIPVa\n\
HholsqmlWN66lo0hsoH995XQ/HBtR8oGACl7F0b55g5RAkEA2ol4vm1SboUeTAwh\n\
ESRnkC9qD0Uig7744WzMgBcSDw2lL6sTeUuwLatxjs0b+7I7ZUsPJKsy9686TLna\n\
rAuxuwJBALozbw9LRiij8vBZ3EnF846hJT0DJ7xZb+X+up1oOWBgzmBcOuCS/gMn\n\
js64/UbAwDj+ZOLx5uiLQCJD2BoNbcECQAblV54KrRM3uCEGMPTthScTl/EraU9m\n\
80uJt1pDYBqBf7jlWRP2w3RteIPdDQkAMseberrZfB48tUY+hxvusokCQDBXA/tP\n\
OpyxAhMvRVVFhpLb+Cmeq21SeJ/I9jWt/5X/SdODuAPn0CsplCAVJfNXks4rsIps\n\
+lYHuJfHQcweAu4=\n\
-----END PRIVATE KEY-----\n\
";
const P_521: &str = "-----BEGIN PRIVATE KEY-----\n\
MIHuAgEAMBAGByqGSM49AgEGBSuBBAAjBIHWMIHTAgEBBEIAYsSEBP7Jo3o4CB8O\n\
BxXmzWXMyJ4KyXfbkq7BULSQbutA64oyS9fVBB2hzrLMwASz5j6n/PoT6f6R4kQZ\n\
Lane47qhgYkDgYYABAFxnkwrUn44zretrnrqsN3WQYU0/E8SOPHC14/cZtM37/MJ\n\
6/KC7SVbhr+DlIYBxIIrHUq/gF5M+Dpndfq7ZphNPwEiDGE28hQV/ZvCrcVNczzX\n\
/zlQu9SWuuhXGZYIiBbiC1eg+ROFnbS8hWPDPbsoXrxKfyYHuxSF8dBbeZ+L69iZ\n\
Zg==\n\
-----END PRIVATE KEY-----\n\
";

/// Runs `--check-config` with a certificate file and a key file; returns the exit code and the lines.
fn check(cert: &Path, key: &Path) -> (i32, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_hookcast"))
        .args(["--check-config", "--listen", "127.0.0.1:0+tls"])
        .args(["--tls-cert".as_ref(), cert.as_os_str()])
        .args(["--tls-key".as_ref(), key.as_os_str()])
        .env_clear()
        .output()
        .unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    (output.status.code().unwrap(), text)
}

/// The files of one certificate for localhost, and other files beside them.
struct Files(Authority);

impl Files {
    fn new() -> Files {
        let authority = Authority::new();
        authority.sign("server");
        authority.sign("other");
        Files(authority)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path(name)
    }

    fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    /// Writes a file that only its owner can read.
    fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
        path
    }
}

#[test]
fn an_unusable_key_is_reported_with_the_usable_kinds() {
    let files = Files::new();
    let key = files.text("server.key");
    for (pem, expected) in [
        (
            RSA_1024,
            "is an RSA key of 1024 bits; RSA of 2048 to 4096 bits",
        ),
        (
            P_521,
            "is a key on the curve P-521; RSA of 2048 to 4096 bits, ECDSA P-256 and P-384",
        ),
        (
            &key.replace("PRIVATE", "ENCRYPTED PRIVATE"),
            "openssl pkey -in FILE -out NEW",
        ),
        (
            &key.replace("PRIVATE", "OPENSSH PRIVATE"),
            "ssh-keygen -p -m PKCS8",
        ),
        (
            &key.replace('\n', "\\n"),
            "has \\n, two characters, where its line breaks were (line 1)",
        ),
        (&key.replace('\n', " "), "has lost its line breaks"),
        (
            &files.text("server.pem"),
            "has a certificate but no private key in PEM form",
        ),
        ("", "is empty"),
        ("\u{feff}", "is empty"),
        (
            &files.text("other.key"),
            "certificate and key do not belong together",
        ),
    ] {
        let path = files.write("broken.key", pem);
        let (code, text) = check(&files.path("server.pem"), &path);
        assert_eq!((code, text.lines().count()), (2, 1), "{text}");
        assert!(
            text.contains("broken.key ") || text.contains("broken.key is not"),
            "{text}"
        );
        assert!(text.contains(expected), "{expected}: {text}");
    }
}

#[test]
fn no_certificate_of_a_chain_is_dropped_silently() {
    let files = Files::new();
    let (own, ca) = (files.text("server.pem"), files.text("ca.pem"));
    let joined = [own.trim_end(), ca.trim_end(), ca.trim_end()].concat();
    let (cut, _) = ca.rsplit_once("-----END").unwrap();
    let trusted = ca.replace("CERTIFICATE", "TRUSTED CERTIFICATE");
    let lines: Vec<&str> = ca.lines().collect();
    let short = [lines[0], lines[1], lines[lines.len() - 1]].join("\n");
    let line = own.lines().count();
    for (chain, expected) in [
        (joined, format!("-----BEGIN in one line, line {line};")),
        (
            format!("{own}{cut}"),
            format!("a -----BEGIN in line {} without its -----END", line + 1),
        ),
        (
            format!("{own}{trusted}"),
            format!("another form in line {}", line + 1),
        ),
        (
            format!("{own}{short}"),
            "a damaged certificate, number 2 in the file".to_owned(),
        ),
        (
            format!("{ca}{own}"),
            "the server's own, its chain behind it".to_owned(),
        ),
    ] {
        let path = files.write("chain.pem", &chain);
        let (code, text) = check(&path, &files.path("server.key"));
        assert_eq!((code, text.lines().count()), (2, 1), "{text}");
        assert!(
            text.contains("chain.pem") && text.contains(&expected),
            "{expected}: {text}"
        );
    }
    let path = files.write(
        "chain.pem",
        format!("\u{feff}{own}{ca}").replace('\n', "\r\n"),
    );
    assert_eq!(check(&path, &files.path("server.key")), (0, String::new()));
}

/// Of several keys in a file the one of the certificate is used, also if both are in one file.
#[test]
fn the_key_of_the_certificate_is_found() {
    let files = Files::new();
    let (cert, key) = (files.text("server.pem"), files.text("server.key"));
    let keys = files.write("keys", [RSA_1024, &files.text("other.key"), &key].concat());
    assert_eq!(check(&files.path("server.pem"), &keys), (0, String::new()));
    let both = files.write("both.pem", [&cert[..], &key].concat());
    assert_eq!(check(&both, &both), (0, String::new()));
    assert_eq!(check(&both, &keys), (0, String::new()));
    std::fs::set_permissions(&both, PermissionsExt::from_mode(0o644)).unwrap();
    let (code, text) = check(&both, &keys);
    assert!(
        code == 0 && text.contains("--tls-cert ") && text.contains("has a private key in it"),
        "{text}"
    );
}

#[test]
fn an_expired_or_future_certificate_is_warned_about() {
    let files = Files::new();
    for (validity, expected) in [
        (Validity::Over, "expired on 2001-01-01T00:00:00Z"),
        (Validity::ToCome, "is not valid before 4000-01-01T00:00:00Z"),
    ] {
        files.0.sign_with("server", validity);
        let (code, text) = check(&files.path("server.pem"), &files.path("server.key"));
        assert_eq!((code, text.lines().count()), (0, 1), "{text}");
        assert!(
            text.contains("warning: the certificate in --tls-cert") && text.contains(expected),
            "{text}"
        );
    }
    let old = files.text("server.pem");
    files.0.sign("server");
    let chain = files.write("chain.pem", format!("{}{old}", files.text("server.pem")));
    let (code, text) = check(&chain, &files.path("server.key"));
    assert!(
        code == 0 && text.contains("certificate 2 in --tls-cert"),
        "{text}"
    );
}

fn copy(authority: &Authority, from: &str, to: &str) {
    for kind in ["pem", "key"] {
        let read = std::fs::read(authority.path(&format!("{from}.{kind}"))).unwrap();
        std::fs::write(authority.path(&format!("{to}.{kind}")), read).unwrap();
    }
}

#[test]
fn on_sighup_a_new_certificate_is_used_and_a_bad_one_is_not() {
    let tls = TlsServer::start("", &[]);
    let seen = || {
        let mut client = tls.open();
        assert!(client.is_served());
        client.stream.conn.peer_certificates().unwrap()[0].clone()
    };
    let (old, other) = (seen(), Authority::new());
    let mut stream = tls.open();
    stream.send(STREAM);
    stream.read_to("connected");

    std::fs::write(tls.authority.path("server.pem"), "garbage").unwrap();
    tls.server.signal(Signal::HUP);
    let line = tls.server.wait_for_log("certificate not reloaded");
    assert!(
        line["error"].as_str().unwrap().contains("server.pem"),
        "{line}"
    );
    assert_eq!(seen(), old);

    tls.authority.sign("next");
    copy(&tls.authority, "next", "server");
    tls.server.signal(Signal::HUP);
    tls.server.wait_for_log("new connections get");
    assert_eq!(seen(), certificate(&tls.authority.path("next.pem")));
    assert_ne!(seen(), old);
    tls.server.publish("still here");
    stream.read_to("still here");
    drop(other);
}

#[test]
fn unusable_files_are_reported_at_the_start() {
    let authority = Authority::new();
    authority.sign("a");
    authority.sign("b");
    for (cert, key, expected) in [
        ("nowhere.pem", "a.key", "nowhere.pem cannot be read"),
        ("a.key", "a.key", "contains no certificate"),
        ("a.pem", "a.pem", "but no private key"),
        ("a.pem", "b.key", "certificate and key"),
    ] {
        let (cert, key) = (authority.path(cert), authority.path(key));
        let setup = Setup::new(&[
            "--listen",
            "127.0.0.1:0+tls",
            "--tls-cert",
            cert.to_str().unwrap(),
            "--tls-key",
            key.to_str().unwrap(),
        ]);
        let output = setup.command().output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains(expected), "{text}");
        let output = setup.command().arg("--check-config").output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(text.starts_with("hookcast: cannot set up TLS: ") && text.contains(expected));
        assert_eq!(
            (text.lines().count(), output.stdout.as_slice()),
            (1, &b""[..])
        );
    }
}

#[test]
fn a_world_readable_key_is_warned_about() {
    const WARNING: &str = "has access to --tls-key";
    let tls = TlsServer::start("", &[]);
    let key = tls.authority.path("server.key");
    let set_mode = |mode| std::fs::set_permissions(&key, PermissionsExt::from_mode(mode)).unwrap();
    let warnings = || {
        let log = tls.server.log();
        let warns = |line: &&Value| line["message"].as_str().unwrap().contains(WARNING);
        log.iter().filter(warns).count()
    };
    let check = || {
        let cert = tls.authority.path("server.pem");
        let output = Command::new(env!("CARGO_BIN_EXE_hookcast"))
            .args(["--check-config", "--listen", "127.0.0.1:0+tls"])
            .args(["--tls-cert".as_ref(), cert.as_os_str()])
            .args(["--tls-key".as_ref(), key.as_os_str()])
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(0));
        String::from_utf8(output.stderr).unwrap()
    };
    let at_start = warnings();
    set_mode(0o640);
    assert_eq!(check(), "");
    set_mode(0o644);
    let text = check();
    assert!(
        text.starts_with("hookcast: warning: ") && text.contains(WARNING),
        "{text}"
    );
    assert!(text.contains("chmod o-rwx"), "{text}");
    tls.server.signal(Signal::HUP);
    tls.server.wait_for_log("new connections get");
    assert_eq!(warnings(), at_start + 1);
}
