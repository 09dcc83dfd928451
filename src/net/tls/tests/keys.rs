//! Keys: how they follow the handshake, change, and run out.

use rustls::crypto::CipherSuiteCommon;
use rustls::{Tls12CipherSuite, Tls13CipherSuite};

use super::*;

impl Rig {
    fn records(&mut self) -> &mut Records {
        match &mut self.session.state {
            State::Established(records) => records,
            _ => panic!("no records"),
        }
    }

    /// The server changes its keys before the next content.
    pub(super) fn update_keys_of_server(&mut self) {
        self.records().request_update();
    }

    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.session.write(&mut self.wire, &[IoSlice::new(text)])
    }
}

/// A suite whose keys are used up after so many records.
fn with_limit(suite: SupportedCipherSuite, confidentiality_limit: u64) -> SupportedCipherSuite {
    match suite {
        SupportedCipherSuite::Tls13(suite) => {
            let common = CipherSuiteCommon {
                confidentiality_limit,
                ..suite.common
            };
            SupportedCipherSuite::Tls13(Box::leak(Box::new(Tls13CipherSuite {
                common,
                quic: None,
                ..*suite
            })))
        }
        SupportedCipherSuite::Tls12(suite) => {
            let common = CipherSuiteCommon {
                confidentiality_limit,
                ..suite.common
            };
            SupportedCipherSuite::Tls12(Box::leak(Box::new(Tls12CipherSuite { common, ..*suite })))
        }
    }
}

#[test]
fn content_that_comes_with_the_end_of_the_handshake_is_read() {
    for suite in tls13_suites() {
        let mut rig = Rig::new(suite);
        rig.pass(usize::MAX);
        assert_eq!(rig.read(1).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        rig.pass(0);
        assert!(!rig.client.is_handshaking() && !rig.is_established());
        // These records follow the `Finished` of the client in the same bytes.
        rig.client.writer().write_all(b"a request").unwrap();
        rig.client.refresh_traffic_keys().unwrap();
        rig.client.writer().write_all(b" and more").unwrap();
        rig.pass(usize::MAX);
        assert_eq!(rig.read(100).unwrap(), b"a request and more", "{suite:?}");
        assert_eq!(rig.write(b"an answer").unwrap(), 9);
        assert_eq!(rig.received_by_client(), b"an answer", "{suite:?}");
    }
}

#[test]
fn keys_change_when_the_client_wants_it_and_when_they_are_used_up() {
    for suite in tls13_suites() {
        let mut rig = Rig::with(with_limit(suite, 10), suite, None);
        rig.connect(|| usize::MAX);
        for number in 0..100u8 {
            assert_eq!(rig.write(&[number]).unwrap(), 1);
            assert_eq!(rig.received_by_client(), [number], "{suite:?}");
            let sent = rig.records().write_sequence_number();
            assert!((1..10).contains(&sent), "{sent} records with one key");
        }
        // One update answers all requests, and comes before the next content.
        for _ in 0..5 {
            rig.client.refresh_traffic_keys().unwrap();
            rig.pass(usize::MAX);
            assert_eq!(rig.read(1).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        }
        assert!(rig.wire.from_server.is_empty());
        assert_eq!(rig.write(b"x").unwrap(), 1);
        assert_eq!(rig.records().write_sequence_number(), 1);
        assert_eq!(rig.received_by_client(), b"x");
        rig.client.writer().write_all(b"y").unwrap();
        rig.pass(usize::MAX);
        assert_eq!(rig.read(1).unwrap(), b"y");
    }
}

#[test]
fn a_connection_of_tls_1_2_ends_before_its_keys_are_used_up() {
    for suite in tls12_suites() {
        let mut rig = Rig::with(with_limit(suite, 10), suite, None);
        rig.connect(|| usize::MAX);
        let mut sent = 0;
        let error = loop {
            match rig.write(b"x") {
                Ok(_) => sent += 1,
                Err(error) => break error,
            }
            assert!(sent < 100, "the keys have no end");
        };
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        // The `Finished` has taken one number, and the `close_notify` takes the last one.
        assert_eq!(sent, 8);
        rig.session.notify_close(&mut rig.wire);
        assert_eq!(rig.records().write_sequence_number(), 10);
        assert_eq!(rig.received_by_client(), b"xxxxxxxx");
        assert_eq!(rig.client.reader().read(&mut [0; 1]).unwrap(), 0);
    }
}

#[test]
fn secrets_are_not_extracted_before_the_end_of_the_handshake() {
    let mut rig = Rig::new(TLS13);
    rig.pass(usize::MAX);
    assert_eq!(rig.read(1).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    let State::Handshaking(handshake) = rig.session.state else {
        panic!("no handshake");
    };
    assert!(handshake.into_records().is_err());
}
