//! Records that a correct client never sends, made with the keys of a real handshake.

use rustls::crypto::cipher::{
    InboundOpaqueMessage, MessageDecrypter, MessageEncrypter, OutboundChunks, OutboundPlainMessage,
};
use rustls::{ContentType, ProtocolVersion};

use super::*;
use crate::net::tls::records::{decrypter, encrypter};

const ALERT: ContentType = ContentType::Alert;
const HANDSHAKE: ContentType = ContentType::Handshake;
const CONTENT: ContentType = ContentType::ApplicationData;

const UNEXPECTED_MESSAGE: Option<[u8; 2]> = Some([2, 10]);
const BAD_RECORD_MAC: Option<[u8; 2]> = Some([2, 20]);
const RECORD_OVERFLOW: Option<[u8; 2]> = Some([2, 22]);
const ILLEGAL_PARAMETER: Option<[u8; 2]> = Some([2, 47]);
const DECODE_ERROR: Option<[u8; 2]> = Some([2, 50]);
const NO_RENEGOTIATION: [u8; 2] = [1, 100];

const KEY_UPDATE: [u8; 5] = [24, 0, 0, 1, 0];

/// A record, and the alert with which the connection ends.
type Case = (&'static str, ContentType, Vec<u8>, Option<[u8; 2]>);

/// A server after the handshake, and a client that sends any record.
struct Forger {
    session: TlsSession,
    wire: Wire,
    suite: SupportedCipherSuite,
    encrypter: Box<dyn MessageEncrypter>,
    decrypter: Box<dyn MessageDecrypter>,
    write_sequence_number: u64,
    read_sequence_number: u64,
}

impl Forger {
    fn new(suite: SupportedCipherSuite) -> Forger {
        let Rig {
            session,
            wire,
            client,
            ..
        } = Rig::connected(suite);
        let secrets = client.dangerous_extract_secrets().unwrap();
        Forger {
            session,
            wire,
            suite,
            encrypter: encrypter(suite, secrets.tx.1).unwrap(),
            decrypter: decrypter(suite, secrets.rx.1).unwrap(),
            write_sequence_number: secrets.tx.0,
            read_sequence_number: secrets.rx.0,
        }
    }

    fn seal(&mut self, typ: ContentType, content: &[u8]) -> Vec<u8> {
        self.write_sequence_number += 1;
        let message = OutboundPlainMessage {
            typ,
            version: ProtocolVersion::TLSv1_2,
            payload: OutboundChunks::Single(content),
        };
        self.encrypter
            .encrypt(message, self.write_sequence_number - 1)
            .unwrap()
            .encode()
    }

    fn send(&mut self, typ: ContentType, content: &[u8]) {
        let record = self.seal(typ, content);
        self.wire.to_server.extend(record);
    }

    /// What the server reads: content, or nothing so far.
    fn read(&mut self) -> io::Result<Vec<u8>> {
        let mut buffer = vec![0; 100];
        match self.session.read(&mut self.wire, &mut buffer) {
            Ok(count) => Ok(buffer[..count].to_vec()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    /// The next alert of the server.
    fn alert(&mut self) -> Option<[u8; 2]> {
        let header: Vec<u8> = self.wire.from_server.drain(..).collect();
        if header.is_empty() {
            return None;
        }
        let bytes = usize::from(u16::from_be_bytes([header[3], header[4]]));
        let mut body = header[5..5 + bytes].to_vec();
        self.wire.from_server.extend(&header[5 + bytes..]);
        let record = InboundOpaqueMessage::new(
            ContentType::from(header[0]),
            ProtocolVersion::TLSv1_2,
            &mut body,
        );
        let plain = self
            .decrypter
            .decrypt(record, self.read_sequence_number)
            .unwrap();
        self.read_sequence_number += 1;
        assert_eq!(plain.typ, ALERT);
        Some(plain.payload.try_into().unwrap())
    }

    /// The connection ends with this alert, or with none, and nothing is written after it.
    fn expect_end(&mut self, alert: Option<[u8; 2]>, why: &str) {
        for _ in 0..2 {
            let error = self.read().expect_err(why);
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{why}");
        }
        let written = self.session.write(&mut self.wire, &[IoSlice::new(b"x")]);
        assert_eq!(written.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        self.session.notify_close(&mut self.wire);
        assert_eq!(self.alert(), alert, "{why}, {:?}", self.suite);
        assert_eq!(self.alert(), None, "{why}");
    }

    /// The connection goes on: content is read.
    fn expect_more(&mut self, why: &str) {
        assert_eq!(self.read().expect(why), b"", "{why}");
        self.send(CONTENT, b"more");
        assert_eq!(self.read().expect(why), b"more", "{why}");
    }
}

/// RFC 8446 sections 4.6.3, 5.1, 5.4, 6 and 6.2.
#[test]
fn records_that_tls_1_3_forbids_end_the_connection_with_an_alert() {
    let update_and = |more: &[u8]| [&KEY_UPDATE, more].concat();
    let unknown = ContentType::Unknown(99);
    let cases: [Case; 21] = [
        (
            "ClientHello",
            HANDSHAKE,
            vec![1, 0, 0, 0],
            UNEXPECTED_MESSAGE,
        ),
        ("Finished", HANDSHAKE, vec![20; 40], UNEXPECTED_MESSAGE),
        ("its beginning", HANDSHAKE, vec![20], UNEXPECTED_MESSAGE),
        ("no message", HANDSHAKE, vec![], UNEXPECTED_MESSAGE),
        (
            "update of length 2",
            HANDSHAKE,
            vec![24, 0, 0, 2, 0, 0],
            DECODE_ERROR,
        ),
        ("long update", HANDSHAKE, vec![24, 1, 0, 1], DECODE_ERROR),
        (
            "wrong request",
            HANDSHAKE,
            vec![24, 0, 0, 1, 2],
            ILLEGAL_PARAMETER,
        ),
        (
            "two updates",
            HANDSHAKE,
            update_and(&KEY_UPDATE),
            UNEXPECTED_MESSAGE,
        ),
        (
            "byte after an update",
            HANDSHAKE,
            update_and(&[24]),
            UNEXPECTED_MESSAGE,
        ),
        ("no alert", ALERT, vec![], UNEXPECTED_MESSAGE),
        ("short alert", ALERT, vec![1], DECODE_ERROR),
        ("long alert", ALERT, vec![1, 0, 0], DECODE_ERROR),
        ("level 3", ALERT, vec![3, 0], ILLEGAL_PARAMETER),
        ("level 0", ALERT, vec![0, 90], ILLEGAL_PARAMETER),
        ("fatal alert", ALERT, vec![2, 80], None),
        ("warning that is an error", ALERT, vec![1, 41], None),
        ("unknown alert", ALERT, vec![1, 200], None),
        (
            "encrypted change_cipher_spec",
            ContentType::ChangeCipherSpec,
            vec![1],
            UNEXPECTED_MESSAGE,
        ),
        (
            "heartbeat",
            ContentType::Heartbeat,
            vec![1, 2],
            UNEXPECTED_MESSAGE,
        ),
        ("unknown type", unknown, vec![1, 2], UNEXPECTED_MESSAGE),
        (
            "zeros alone",
            ContentType::Unknown(0),
            vec![0; 30],
            UNEXPECTED_MESSAGE,
        ),
    ];
    for suite in tls13_suites() {
        for (why, typ, content, alert) in &cases {
            let mut forger = Forger::new(suite);
            forger.send(*typ, content);
            forger.expect_end(*alert, why);
        }
    }
}

/// RFC 8446 sections 5.1 and 5.2, RFC 5246 section 6.2.
#[test]
fn malformed_records_end_the_connection_with_an_alert() {
    for suite in suites() {
        let header = |typ, bytes: usize| vec![typ, 3, 3, (bytes >> 8) as u8, bytes as u8];
        let bytes_max = (1 << 14) + if suite.tls13().is_some() { 256 } else { 2048 };
        for (why, bytes, alert) in [
            (
                "plain change_cipher_spec",
                vec![20, 3, 3, 0, 1, 1],
                UNEXPECTED_MESSAGE,
            ),
            ("heartbeat outside", header(24, 40), UNEXPECTED_MESSAGE),
            ("no TLS", b"GET / HTTP/1.1".to_vec(), UNEXPECTED_MESSAGE),
            (
                "a byte too long",
                header(23, bytes_max + 1),
                RECORD_OVERFLOW,
            ),
            ("empty", header(23, 0), BAD_RECORD_MAC),
            (
                "shorter than its tag",
                [header(23, 10), vec![0; 10]].concat(),
                BAD_RECORD_MAC,
            ),
            (
                "plain alert",
                vec![21, 3, 3, 0, 2, 1, 0],
                match suite.tls13() {
                    Some(_) => UNEXPECTED_MESSAGE,
                    None => BAD_RECORD_MAC,
                },
            ),
        ] {
            let mut forger = Forger::new(suite);
            forger.wire.to_server.extend(bytes);
            forger.expect_end(alert, why);
        }
        // A record of the most bytes is awaited.
        let mut forger = Forger::new(suite);
        forger.wire.to_server.extend(header(23, bytes_max));
        assert_eq!(forger.read().unwrap(), b"");

        let mut forger = Forger::new(suite);
        forger.send(CONTENT, &vec![7; (1 << 14) + 1]);
        forger.expect_end(RECORD_OVERFLOW, "content of a byte too much");

        for place in [5, 14, 20] {
            let mut forger = Forger::new(suite);
            let mut record = forger.seal(CONTENT, b"forged");
            record[place] ^= 1;
            forger.wire.to_server.extend(record);
            forger.expect_end(BAD_RECORD_MAC, "a changed bit");
        }
        let mut forger = Forger::new(suite);
        let record = forger.seal(CONTENT, b"once");
        forger.wire.to_server.extend(&record);
        assert_eq!(forger.read().unwrap(), b"once");
        forger.wire.to_server.extend(&record);
        forger.expect_end(BAD_RECORD_MAC, "a record again");

        let mut forger = Forger::new(suite);
        let first = forger.seal(CONTENT, b"first");
        let second = forger.seal(CONTENT, b"second");
        forger
            .wire
            .to_server
            .extend(second.into_iter().chain(first));
        forger.expect_end(BAD_RECORD_MAC, "in another order");
    }
}

#[test]
fn what_is_repeated_without_content_ends_the_connection() {
    for suite in suites() {
        let mut forger = Forger::new(suite);
        for round in 0..3 {
            for _ in 0..32 {
                forger.send(CONTENT, b"");
            }
            forger.expect_more(&format!("empty records, round {round}"));
        }
        for _ in 0..33 {
            forger.send(CONTENT, b"");
        }
        forger.expect_end(UNEXPECTED_MESSAGE, "empty records");

        let mut forger = Forger::new(suite);
        for _ in 0..4 {
            forger.send(ALERT, &[1, 90]);
            forger.expect_more("user_canceled");
        }
        forger.send(ALERT, &[1, 90]);
        forger.expect_end(UNEXPECTED_MESSAGE, "warnings");
    }
}

/// rustls' client makes the updates: a `Forger` cannot derive the next key.
#[test]
fn key_updates_are_counted_and_may_be_in_two_records() {
    for suite in tls13_suites() {
        let mut rig = Rig::connected(suite);
        for _ in 0..32 {
            rig.client.refresh_traffic_keys().unwrap();
        }
        rig.client.writer().write_all(b"content").unwrap();
        rig.pass(usize::MAX);
        assert_eq!(rig.read(100).unwrap(), b"content");
        for _ in 0..33 {
            rig.client.refresh_traffic_keys().unwrap();
        }
        rig.pass(usize::MAX);
        let error = rig.read(100).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{error}");

        for cut in 1..KEY_UPDATE.len() {
            let (first, last) = KEY_UPDATE.split_at(cut);
            let mut forger = Forger::new(suite);
            forger.send(HANDSHAKE, first);
            assert_eq!(forger.read().unwrap(), b"");
            forger.send(HANDSHAKE, last);
            assert_eq!(forger.read().unwrap(), b"");
            // From now on the server has another key.
            forger.send(CONTENT, b"of the old key");
            forger.expect_end(BAD_RECORD_MAC, "the old key");

            for between in [CONTENT, ALERT] {
                let mut forger = Forger::new(suite);
                forger.send(HANDSHAKE, first);
                forger.send(between, &[1, 90]);
                forger.expect_end(UNEXPECTED_MESSAGE, "another record between");
            }
        }
    }
}

/// RFC 5246 section 7.2.2, RFC 5746 section 4.5.
#[test]
fn a_renegotiation_of_tls_1_2_is_refused_once() {
    let hello = [[1, 0, 0, 200].as_slice(), &[7; 200]].concat();
    for suite in tls12_suites() {
        for cuts in [vec![204], vec![1, 203], vec![4, 200], vec![3, 100, 101]] {
            let mut forger = Forger::new(suite);
            let mut rest = hello.as_slice();
            for cut in cuts {
                let (part, more) = rest.split_at(cut);
                forger.send(HANDSHAKE, part);
                assert_eq!(forger.read().unwrap(), b"");
                rest = more;
            }
            assert_eq!(forger.alert(), Some(NO_RENEGOTIATION));
            forger.expect_more("a refused renegotiation");
            forger.send(HANDSHAKE, &hello);
            forger.expect_end(UNEXPECTED_MESSAGE, "a second one");
        }
        for (why, content) in [
            ("HelloRequest", vec![0, 0, 0, 0]),
            ("Finished", vec![20]),
            ("key update", KEY_UPDATE.to_vec()),
            ("nothing", vec![]),
        ] {
            let mut forger = Forger::new(suite);
            forger.send(HANDSHAKE, &content);
            forger.expect_end(UNEXPECTED_MESSAGE, why);
        }
        let mut forger = Forger::new(suite);
        forger.send(HANDSHAKE, &hello[..50]);
        assert_eq!(forger.read().unwrap(), b"");
        assert_eq!(forger.alert(), Some(NO_RENEGOTIATION));
        forger.send(CONTENT, b"x");
        forger.expect_end(UNEXPECTED_MESSAGE, "content within a message");

        // The version is authenticated.
        let mut forger = Forger::new(suite);
        let mut record = forger.seal(CONTENT, b"x");
        record[2] = 2;
        forger.wire.to_server.extend(record);
        forger.expect_end(BAD_RECORD_MAC, "another version");

        let mut forger = Forger::new(suite);
        forger.send(ALERT, &[1, 41]);
        forger.expect_more("a warning");
        forger.send(ALERT, &[2, 41]);
        forger.expect_end(None, "a fatal alert");
    }
}

#[test]
fn what_follows_a_close_notify_is_ignored() {
    for suite in suites() {
        let mut forger = Forger::new(suite);
        forger.send(CONTENT, b"last");
        forger.send(ALERT, &[1, 0]);
        forger.send(CONTENT, b"late");
        forger.wire.to_server.extend([0; 50]);
        assert_eq!(forger.read().unwrap(), b"last");
        assert!(forger.session.has_end());
        let mut buffer = [0; 10];
        for _ in 0..2 {
            let end = forger.session.read(&mut forger.wire, &mut buffer);
            assert_eq!(end.unwrap(), 0);
        }
        assert_eq!(forger.alert(), None, "the own direction is open");
    }
}

/// A log line names the cause. The fault is found by a read that returns the content, and reported by the next one.
#[test]
fn the_cause_of_a_fault_behind_content_is_kept() {
    for suite in suites() {
        for room in [100, 5, 2] {
            let mut forger = Forger::new(suite);
            forger.send(CONTENT, b"first");
            let mut record = forger.seal(CONTENT, b"forged");
            record[20] ^= 1;
            forger.wire.to_server.extend(record);
            let mut content = Vec::<u8>::new();
            let mut buffer = vec![0; room];
            let error = loop {
                match forger.session.read(&mut forger.wire, &mut buffer) {
                    Ok(count) => content.extend(&buffer[..count]),
                    Err(error) => break error,
                }
            };
            assert_eq!(content, b"first");
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
            let text = error.to_string();
            assert!(text.contains("BadRecordMac"), "{suite:?}: {text}");
        }
    }
}

/// Any records, sent in any parts: only content before a fault is delivered, and after a fault nothing is.
#[test]
fn any_records_deliver_content_or_end_the_connection() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut rng = fastrand::Rng::with_seed(seed);
    for suite in suites() {
        for _ in 0..30 {
            let mut forger = Forger::new(suite);
            let (mut sent, mut read, mut is_over) = (Vec::new(), Vec::new(), false);
            for _ in 0..30 {
                let typ = [CONTENT, CONTENT, CONTENT, HANDSHAKE, ALERT][rng.usize(..5)];
                // Bytes that stand for something: lengths, levels, types of messages and of alerts.
                let bytes = [0, 1, 2, 24, 90, 100];
                let payload: Vec<u8> = (0..rng.usize(..7)).map(|_| bytes[rng.usize(..6)]).collect();
                if typ == CONTENT {
                    sent.extend(&payload);
                }
                let record = forger.seal(typ, &payload);
                let (first, second) = record.split_at(rng.usize(..=record.len()));
                for part in [first, second] {
                    forger.wire.to_server.extend(part);
                    match forger.read() {
                        Ok(content) => {
                            assert!(!is_over || content.is_empty(), "content after a fault");
                            read.extend(content);
                        }
                        Err(_) => is_over = true,
                    }
                }
            }
            assert!(sent.starts_with(&read), "{suite:?}");
            assert!(
                is_over || forger.session.has_end() || read == sent,
                "{suite:?}"
            );
        }
    }
}

/// A bit of the version is the only one that may change: TLS 1.3 ignores it (RFC 8446 section 5.1).
#[test]
fn a_changed_bit_never_changes_content() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut rng = fastrand::Rng::with_seed(seed);
    for suite in suites().repeat(10) {
        let mut forger = Forger::new(suite);
        let sent: Vec<u8> = (0..rng.usize(1..2000)).map(|_| rng.u8(..)).collect();
        let (mut bytes, mut versions) = (Vec::new(), Vec::new());
        for part in sent.chunks(rng.usize(100..700)) {
            versions.extend([bytes.len() + 1, bytes.len() + 2]);
            bytes.extend(forger.seal(CONTENT, part));
        }
        let place = rng.usize(..bytes.len());
        bytes[place] ^= 1 << rng.u8(..8);
        let is_ignored = suite.tls13().is_some() && versions.contains(&place);

        let mut rest = bytes.as_slice();
        let mut read = Vec::new();
        let end = loop {
            match forger.read() {
                Err(error) => break Some(error),
                Ok(content) if !content.is_empty() => read.extend(content),
                Ok(_) if rest.is_empty() => break None,
                Ok(_) => {
                    let (now, later) = rest.split_at(rng.usize(1..400).min(rest.len()));
                    forger.wire.to_server.extend(now);
                    rest = later;
                }
            }
        };
        assert!(sent.starts_with(&read), "{suite:?}, byte {place}");
        assert_eq!(read.len() == sent.len(), is_ignored, "{end:?}");
    }
}
