use std::collections::VecDeque;

use rcgen::{CertificateParams, KeyPair};
use rustls::crypto::CryptoProvider;
use rustls::crypto::ring::cipher_suite::TLS13_AES_128_GCM_SHA256 as TLS13;
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, SupportedCipherSuite};

use super::*;
use crate::limits::{TLS_HANDSHAKE_BYTES_MAX, TLS_RECORD_BYTES_MAX};

mod bounds;
mod faults;
mod keys;

/// Two ends without a kernel: bytes to the server, and how many it may send.
#[derive(Default)]
struct Wire {
    to_server: VecDeque<u8>,
    from_server: VecDeque<u8>,
    room: usize,
    /// After so many bytes a write fails.
    fault: Option<usize>,
    /// The client sends no more.
    has_end: bool,
    is_shut: bool,
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.to_server.is_empty() && !self.has_end {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.to_server.read(buffer)
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.fault == Some(0) {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        let mut count = bytes.len().min(self.room);
        if let Some(before) = &mut self.fault {
            count = count.min(*before);
            *before -= count;
        }
        if count == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.room -= count;
        self.from_server.extend(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl ByteStream for Wire {
    fn shutdown_write(&mut self) -> io::Result<()> {
        self.is_shut = true;
        Ok(())
    }
}

struct Rig {
    session: TlsSession,
    wire: Wire,
    client: ClientConnection,
    /// The client's bytes that are not on the wire.
    unsent: VecDeque<u8>,
    /// The content that the client has received.
    received: Vec<u8>,
}

/// The suites of both versions that a server with an ECDSA key has. Those with RSA have the same ciphers.
fn suites() -> Vec<SupportedCipherSuite> {
    let all = rustls::crypto::ring::ALL_CIPHER_SUITES.iter().copied();
    let suites: Vec<_> = all
        .filter(|suite| !format!("{:?}", suite.suite()).contains("_RSA_"))
        .collect();
    assert_eq!(suites.len(), 6);
    suites
}

fn tls13_suites() -> Vec<SupportedCipherSuite> {
    let mut all = suites();
    all.retain(|suite| suite.tls13().is_some());
    all
}

fn tls12_suites() -> Vec<SupportedCipherSuite> {
    let mut all = suites();
    all.retain(|suite| suite.tls13().is_none());
    all
}

fn provider(suite: SupportedCipherSuite) -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider {
        cipher_suites: vec![suite],
        ..rustls::crypto::ring::default_provider()
    })
}

impl Rig {
    fn new(suite: SupportedCipherSuite) -> Rig {
        Rig::with(suite, suite, None)
    }

    /// A rig whose server may have another implementation of the suite, and whose client cuts its messages into
    /// small records.
    fn with(
        suite: SupportedCipherSuite,
        of_client: SupportedCipherSuite,
        fragment: Option<usize>,
    ) -> Rig {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".into()]).unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(certificate.der().clone()).unwrap();
        let secret = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let mut config = ServerConfig::builder_with_provider(provider(suite))
            .with_protocol_versions(&[suite.version()])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], secret)
            .unwrap();
        config.enable_secret_extraction = true;
        config.ticketer = rustls::crypto::ring::Ticketer::new().unwrap();
        let mut trusting = ClientConfig::builder_with_provider(provider(of_client))
            .with_protocol_versions(&[suite.version()])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        trusting.max_fragment_size = fragment;
        trusting.enable_secret_extraction = true;
        let name = ServerName::try_from("localhost").unwrap();
        Rig {
            session: TlsSession::new(Arc::new(config)).unwrap(),
            wire: Wire {
                room: usize::MAX,
                ..Wire::default()
            },
            client: ClientConnection::new(Arc::new(trusting), name).unwrap(),
            unsent: VecDeque::new(),
            received: Vec::new(),
        }
    }

    /// A rig whose handshake is over.
    fn connected(suite: SupportedCipherSuite) -> Rig {
        let mut rig = Rig::new(suite);
        rig.connect(|| usize::MAX);
        rig
    }

    /// Performs the handshake, with up to so many of the client's bytes at once.
    fn connect(&mut self, mut bytes_max: impl FnMut() -> usize) {
        while self.client.is_handshaking() || !self.is_established() {
            self.pass(bytes_max());
            let error = self.read(1).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::WouldBlock, "{error}");
        }
        self.pass(usize::MAX);
    }

    fn is_established(&self) -> bool {
        matches!(self.session.state, State::Established(_))
    }

    /// Passes up to so many of the client's bytes to the server, and all of the server's to the client.
    fn pass(&mut self, bytes_max: usize) {
        while self.client.wants_write() {
            self.client.write_tls(&mut self.unsent).unwrap();
        }
        let count = bytes_max.min(self.unsent.len());
        self.wire.to_server.extend(self.unsent.drain(..count));
        while !self.wire.from_server.is_empty() {
            self.client.read_tls(&mut self.wire.from_server).unwrap();
            self.client.process_new_packets().unwrap();
            let _ = self.client.reader().read_to_end(&mut self.received);
        }
    }

    fn read(&mut self, room: usize) -> io::Result<Vec<u8>> {
        let mut buffer = vec![0; room];
        let count = self.session.read(&mut self.wire, &mut buffer)?;
        buffer.truncate(count);
        Ok(buffer)
    }

    fn received_by_client(&mut self) -> Vec<u8> {
        self.pass(0);
        std::mem::take(&mut self.received)
    }
}

/// Writes extents of a text from `sent` on. Returns how much is taken.
fn write_some(rig: &mut Rig, text: &[u8], rng: &mut fastrand::Rng) -> usize {
    let mut left = &text[..rng.usize(..=text.len().min(60_000))];
    let mut extents = Vec::new();
    for _ in 0..rng.usize(1..8) {
        let (extent, rest) = left.split_at(rng.usize(..=left.len()));
        extents.push(IoSlice::new(extent));
        left = rest;
    }
    match rig.session.write(&mut rig.wire, &extents) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn every_byte_arrives_however_reads_and_writes_are_cut() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut rng = fastrand::Rng::with_seed(seed);
    for suite in suites().repeat(2) {
        let fragment = [None, Some(40), Some(500)][rng.usize(..3)];
        let mut rig = Rig::with(suite, suite, fragment);
        rig.connect(|| [1, 30, 1000, 10_000][rng.usize(..4)]);
        let up: Vec<u8> = (0..200_000).map(|_| rng.u8(..)).collect();
        let down: Vec<u8> = (0..200_000).map(|_| rng.u8(..)).collect();
        let (mut queued, mut sent) = (0, 0);
        let (mut got_up, mut got_down) = (Vec::new(), Vec::new());
        let mut rounds = 0;
        while got_up.len() < up.len() || got_down.len() < down.len() {
            rounds += 1;
            assert!(rounds < 100_000, "bytes are missing");
            let count = rng.usize(..40_000).min(up.len() - queued);
            queued += rig
                .client
                .writer()
                .write(&up[queued..queued + count])
                .unwrap();
            if rng.u8(..) < 20 && suite.tls13().is_some() {
                // The client requests an update of the keys of the server too.
                rig.client.refresh_traffic_keys().unwrap();
            }
            if rng.u8(..) < 20 && suite.tls13().is_some() {
                rig.update_keys_of_server();
            }
            rig.pass(rng.usize(..30_000));
            match rig.read([1, 100, 16_384, 50_000][rng.usize(..4)]) {
                Ok(bytes) => got_up.extend(bytes),
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
            }
            rig.wire.room = rng.usize(..50_000);
            sent += write_some(&mut rig, &down[sent..], &mut rng);
            let _ = rig.session.flush(&mut rig.wire);
            assert!(rig.session.outgoing.bytes.len() <= TLS_RECORD_BYTES_MAX);
            assert!(rig.session.incoming.len() <= TLS_INCOMING_BYTES_MAX);
            assert!(rig.session.content.len() <= TLS_INCOMING_BYTES_MAX);
            got_down.extend(rig.received_by_client());
        }
        assert!(got_up == up && got_down == down, "{suite:?}");
    }
}

#[test]
fn between_reads_and_writes_a_session_has_no_buffers() {
    let mut rig = Rig::connected(TLS13);
    rig.client.writer().write_all(b"a request").unwrap();
    rig.pass(usize::MAX);
    assert_eq!(rig.read(16_384).unwrap(), b"a request");
    let answer = [
        IoSlice::new(b"an "),
        IoSlice::new(b""),
        IoSlice::new(b"answer"),
    ];
    assert_eq!(rig.session.write(&mut rig.wire, &answer).unwrap(), 9);
    assert_eq!(rig.received_by_client(), b"an answer");
    let TlsSession {
        incoming,
        content,
        outgoing,
        ..
    } = &rig.session;
    let kept = [incoming, content, &outgoing.bytes].map(Vec::capacity);
    assert_eq!(kept, [0; 3]);
    println!("a session has {} bytes", size_of::<TlsSession>());
}

#[test]
fn a_message_in_several_extents_is_one_record() {
    let mut rig = Rig::connected(TLS13);
    let extents = [b"1\r\n".as_slice(), b"a", b"\r\n"].map(IoSlice::new);
    assert_eq!(rig.session.write(&mut rig.wire, &extents).unwrap(), 6);
    // Its head, the content, its type, and the tag of the cipher.
    assert_eq!(rig.wire.from_server.len(), 5 + 6 + 1 + 16);
}

#[test]
fn the_end_of_the_peer_is_in_order_only_with_its_close_notify() {
    for is_notified in [true, false] {
        let mut rig = Rig::connected(TLS13);
        rig.client.writer().write_all(b"last").unwrap();
        if is_notified {
            rig.client.send_close_notify();
        }
        rig.pass(usize::MAX);
        rig.wire.has_end = true;
        assert!(!rig.session.has_end());
        assert_eq!(rig.read(100).unwrap(), b"last");
        assert_eq!(rig.session.has_end(), is_notified, "no event would follow");
        // The peer may still receive.
        let answer = rig.session.write(&mut rig.wire, &[IoSlice::new(b"answer")]);
        assert_eq!(answer.unwrap(), 6);
        let end = rig.read(100).map_err(|error| error.kind());
        let wanted = is_notified.then(Vec::new);
        assert_eq!(end, wanted.ok_or(io::ErrorKind::UnexpectedEof));
        assert_eq!(rig.received_by_client(), b"answer");
    }
}

#[test]
fn a_closed_write_side_has_a_close_notify_behind_all_content() {
    let mut rig = Rig::connected(TLS13);
    rig.wire.room = 10;
    let text = vec![7; 40_000];
    let taken = rig.session.write(&mut rig.wire, &[IoSlice::new(&text)]);
    assert_eq!(taken.unwrap(), TLS_RECORD_CONTENT_BYTES_MAX);
    rig.session.close_write(&mut rig.wire).unwrap();
    assert!(rig.session.has_unsent() && !rig.wire.is_shut);
    rig.wire.room = usize::MAX;
    rig.session.flush(&mut rig.wire).unwrap();
    assert!(!rig.session.has_unsent() && rig.wire.is_shut);
    assert_eq!(rig.received_by_client().len(), TLS_RECORD_CONTENT_BYTES_MAX);
    // Without a `close_notify` the client would still wait.
    assert_eq!(rig.client.reader().read(&mut [0; 1]).unwrap(), 0);
}

#[test]
fn a_forged_record_is_answered_with_an_alert_and_ends_the_session() {
    let mut rig = Rig::connected(TLS13);
    rig.client.writer().write_all(b"first").unwrap();
    rig.pass(usize::MAX);
    rig.wire
        .to_server
        .extend([23, 3, 3, 0, 20].into_iter().chain([1; 20]));
    assert_eq!(rig.read(100).unwrap(), b"first", "it came before");
    for _ in 0..2 {
        assert_eq!(
            rig.read(100).unwrap_err().kind(),
            io::ErrorKind::InvalidData
        );
    }
    let written = rig.session.write(&mut rig.wire, &[IoSlice::new(b"x")]);
    assert_eq!(written.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    let alert = rig.client.read_tls(&mut rig.wire.from_server).unwrap();
    assert!(alert > 0);
    let error = rig.client.process_new_packets().unwrap_err();
    assert!(matches!(error, rustls::Error::AlertReceived(_)), "{error}");
}

#[test]
fn a_handshake_is_bounded_and_no_content_is_sent_in_it() {
    let mut rig = Rig::new(TLS13);
    let written = rig.session.write(&mut rig.wire, &[IoSlice::new(b"x")]);
    assert_eq!(written.unwrap_err().kind(), io::ErrorKind::NotConnected);
    // A hello of 65,535 bytes, of which more and more arrives.
    let mut record = vec![22, 3, 1, 0x10, 0, 1, 0, 0xFF, 0xFF];
    record.resize(5 + 0x1000, 0);
    let mut rounds = 0;
    let error = loop {
        rig.wire.to_server.extend(&record);
        match rig.read(100).unwrap_err() {
            error if error.kind() == io::ErrorKind::WouldBlock => rounds += 1,
            error => break error,
        }
        assert!(rig.session.incoming.len() <= TLS_HANDSHAKE_BYTES_MAX);
        record = [22, 3, 1, 0x10, 0].into_iter().chain([0; 0x1000]).collect();
    };
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    assert!(rounds >= 2, "{error}");
}
