//! What a peer can make the server do, and ends that are received with other bytes.

use super::*;

/// rustls would try each of them again with every further record (`early_data`).
#[test]
fn a_record_of_a_handshake_that_is_too_short_ends_it() {
    for record in [
        vec![22, 3, 3, 0, 0],
        vec![23, 3, 3, 0, 16],
        vec![20, 3, 3, 0, 0],
    ] {
        let mut rig = Rig::new(TLS13);
        rig.client.write_tls(&mut rig.unsent).unwrap();
        rig.pass(usize::MAX);
        rig.wire.to_server.extend(&record);
        let error = rig.read(1).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{record:?}");
        assert!(rig.session.has_end());
    }
}

/// No event follows for an end that is received with bytes without content.
#[test]
fn an_end_behind_bytes_without_content_is_noticed() {
    for suite in suites() {
        let mut rig = Rig::connected(suite);
        let _ = rig.read(1);
        rig.wire.to_server.extend([23, 3, 3]);
        rig.wire.has_end = true;
        let error = rig.read(100).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "{suite:?}");
    }
    let mut rig = Rig::new(TLS13);
    rig.pass(usize::MAX);
    rig.wire.to_server.truncate(50);
    rig.wire.has_end = true;
    let error = rig.read(100).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
}

/// A key update takes more time than the content between two of them.
#[test]
fn one_read_takes_a_bounded_number_of_records() {
    let mut rig = Rig::connected(TLS13);
    rig.client.set_buffer_limit(None);
    for _ in 0..700 {
        for _ in 0..32 {
            rig.client.refresh_traffic_keys().unwrap();
        }
        rig.client.writer().write_all(b"x").unwrap();
    }
    rig.pass(usize::MAX);
    let sent = rig.wire.to_server.len();
    assert!(
        sent > (TLS_READS_MAX + 1) * TLS_INCOMING_BYTES_MAX,
        "{sent}"
    );
    let content = rig.read(16 * 1024).unwrap();
    assert!((1..700).contains(&content.len()), "{}", content.len());
    assert!(rig.session.has_end(), "it has no event to wait for");
    let error = rig.read(1).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
}

/// Records of one byte are allowed, as many as a shard reads at once.
#[test]
fn content_in_records_of_a_byte_is_read() {
    for suite in suites() {
        let mut rig = Rig::connected(suite);
        rig.client.set_buffer_limit(None);
        for _ in 0..16 * 1024 {
            rig.client.writer().write_all(b"x").unwrap();
        }
        rig.pass(usize::MAX);
        let content = rig.read(16 * 1024).unwrap();
        assert_eq!(content.len(), 16 * 1024, "{suite:?}");
    }
}

/// The client of a stream sends no content.
#[test]
fn a_client_renews_its_keys_for_as_long_as_it_gets_content() {
    let mut rig = Rig::connected(TLS13);
    for _ in 0..100 {
        rig.client.refresh_traffic_keys().unwrap();
        rig.pass(usize::MAX);
        let error = rig.read(1).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        let written = rig.session.write(&mut rig.wire, &[IoSlice::new(b"x")]);
        assert_eq!(written.unwrap(), 1);
    }
    assert_eq!(rig.received_by_client(), [b'x'; 100]);
}

/// After a failed write it is unknown which bytes were sent.
#[test]
fn nothing_follows_a_write_that_failed() {
    let mut rig = Rig::connected(TLS13);
    rig.received_by_client();
    rig.wire.fault = Some(10);
    let written = rig.session.write(&mut rig.wire, &[IoSlice::new(b"first")]);
    assert_eq!(written.unwrap_err().kind(), io::ErrorKind::OutOfMemory);
    rig.wire.fault = None;
    rig.session.notify_close(&mut rig.wire);
    assert_eq!(rig.wire.from_server.len(), 10);
    assert!(!rig.session.has_unsent());
}
