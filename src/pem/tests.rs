use rcgen::{CertificateParams, KeyPair};

use super::*;

/// A certificate and its key, in PEM.
fn pair() -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["localhost".into()]).unwrap();
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

fn fault_of_key(pem: impl AsRef<[u8]>) -> PemFault {
    let text = String::from_utf8_lossy(pem.as_ref()).into_owned();
    private_keys(pem.as_ref()).map(drop).expect_err(&text)
}

fn fault_of_certificate(pem: impl AsRef<[u8]>) -> PemFault {
    let text = String::from_utf8_lossy(pem.as_ref()).into_owned();
    certificates(pem.as_ref()).map(drop).expect_err(&text)
}

/// Checks that a fault shows no part of the key, neither as characters nor as numbers.
fn check_shows_no_key(fault: PemFault, key: &str) {
    let body: Vec<&str> = key.lines().filter(|line| !line.starts_with('-')).collect();
    let body = body.concat();
    let text = format!("{fault} {fault:?}");
    for at in 0..body.len() - 8 {
        assert!(!text.contains(&body[at..at + 8]), "{text}");
        let numbers: Vec<String> = body[at..at + 3].bytes().map(|b| b.to_string()).collect();
        assert!(!text.contains(&numbers.join(", ")), "{text}");
    }
}

#[test]
fn files_of_openssl_and_of_editors_are_read() {
    let (certificate, key) = pair();
    let both = format!("{key}{certificate}");
    for pem in [
        both.clone(),
        both.replace('\n', "\r\n"),
        both.replace('\n', "\r"),
        format!("\u{feff}{both}"),
        format!("Bag Attributes\n    friendlyName: é\nsubject=CN = a\n{both}\n\n"),
        both.replace('\n', "\n  "),
        both.trim_end().to_owned(),
        format!(
            "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n{both}"
        ),
    ] {
        assert_eq!(
            certificates(pem.as_bytes()).map(|all| all.len()),
            Ok(1),
            "{pem}"
        );
        assert_eq!(
            private_keys(pem.as_bytes()).map(|all| all.len()),
            Ok(1),
            "{pem}"
        );
        assert!(has_private_key(pem.as_bytes()));
    }
    let chain = certificate.repeat(3);
    assert_eq!(certificates(chain.as_bytes()).map(|all| all.len()), Ok(3));
    let expected = CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap();
    assert_eq!(certificates(chain.as_bytes()).unwrap()[2], expected);
    assert_eq!(
        private_keys(key.repeat(2).as_bytes()).map(|all| all.len()),
        Ok(2)
    );
}

#[test]
fn lost_line_breaks_are_reported_without_a_part_of_the_key() {
    let (_, key) = pair();
    let body = |separator| {
        let lines: Vec<&str> = key.lines().collect();
        let body = lines[1..lines.len() - 1].join(separator);
        format!("{}\n{body}\n{}\n", lines[0], lines[lines.len() - 1])
    };
    for (pem, expected) in [
        (key.replace('\n', "\\n"), PemFault::EscapedLineBreaks(1)),
        (key.replace('\n', "\\r\\n"), PemFault::EscapedLineBreaks(1)),
        (body("\\n"), PemFault::EscapedLineBreaks(2)),
        (key.replace('\n', " "), PemFault::LostLineBreaks(1)),
        (key.replace('\n', ""), PemFault::LostLineBreaks(1)),
        (key.replacen('\n', "", 1), PemFault::LostLineBreaks(1)),
        (
            key.replace("\n-----END", "-----END"),
            PemFault::LostLineBreaks(4),
        ),
        (format!("\"{}\"", key.trim()), PemFault::StrayText(1)),
        (format!("key: {key}"), PemFault::StrayText(1)),
        (format!("{}%", key.trim()), PemFault::StrayText(5)),
        (key.replace("-----", "----"), PemFault::Hyphens(1)),
        (key.replace("-----", "------"), PemFault::Hyphens(1)),
        (key.replacen("-----", "\u{2014}", 1), PemFault::Hyphens(1)),
        (key.lines().next().unwrap().to_owned(), PemFault::NoEnd(1)),
        (
            key.replace("-----END PRIVATE", "-----END PUBLIC"),
            PemFault::NoBegin(5),
        ),
        (
            key.lines().skip(1).collect::<Vec<_>>().join("\n"),
            PemFault::NoBegin(4),
        ),
        (
            format!("{}\n{key}", key.replace("-----END PRIVATE KEY-----\n", "")),
            PemFault::NoEnd(1),
        ),
        (key.replace('M', "*"), PemFault::Base64(1)),
    ] {
        let fault = fault_of_key(&pem);
        let lines = key.lines().count();
        assert_eq!((fault, lines), (expected, 5), "{pem}");
        check_shows_no_key(fault, &key);
    }
}

/// A label may be any text, even the key, so it is never shown.
#[test]
fn a_key_in_the_place_of_a_label_is_not_shown() {
    let (_, key) = pair();
    let body = key.lines().nth(1).unwrap();
    for pem in [
        format!("-----BEGIN {body}-----\n"),
        format!("-----BEGIN {}-----\nAAAA\n", body.to_uppercase()),
        format!("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END {body}-----\n"),
    ] {
        check_shows_no_key(fault_of_key(&pem), &key);
    }
}

#[test]
fn a_chain_that_was_joined_without_a_line_break_is_refused() {
    let (certificate, _) = pair();
    let joined = [certificate.trim_end(); 3].concat();
    let lines = certificate.lines().count();
    assert_eq!(fault_of_certificate(&joined), PemFault::Joined(lines));
    let with_blank = [certificate.trim_end(); 2].join(" ");
    assert_eq!(fault_of_certificate(with_blank), PemFault::Joined(lines));
}

#[test]
fn other_forms_are_named() {
    let (certificate, key) = pair();
    let der = CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap();
    let as_label = |pem: &str, from: &str, to: &str| pem.replace(from, to);
    let utf16: Vec<u8> = certificate
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    for (pem, expected) in [
        (der.to_vec(), PemFault::Der),
        (vec![0x30, 0x82, 9, 0, 2, 1, 3, 0x30], PemFault::Pkcs12),
        ([&[0xff, 0xfe], &utf16[..]].concat(), PemFault::Utf16),
        (
            b"LS0tLS1CRUdJTiBQUklWQVRFIEtFWS0tLS0t".to_vec(),
            PemFault::Base64Twice,
        ),
        (vec![], PemFault::Empty),
        (b"\xef\xbb\xbf \r\n".to_vec(), PemFault::Empty),
        (b"0 is text".to_vec(), PemFault::NoSection),
        (key.clone().into_bytes(), PemFault::NoCertificate),
        (
            as_label(&certificate, "CERTIFICATE", "PKCS7").into(),
            PemFault::Pkcs7,
        ),
        (
            as_label(&certificate, "CERTIFICATE", "CERTIFICATE REQUEST").into(),
            PemFault::RequestAlone,
        ),
        (
            // Otherwise one certificate of the chain would be missing without an error.
            format!(
                "{certificate}{}",
                as_label(&certificate, "CERT", "TRUSTED CERT")
            )
            .into(),
            PemFault::CertificateForm(certificate.lines().count() + 1),
        ),
    ] {
        assert_eq!(fault_of_certificate(&pem), expected);
    }
    let lines: Vec<&str> = certificate.lines().collect();
    let damaged = [lines[0], &lines[1][4..], lines[lines.len() - 1], ""].join("\n");
    assert_eq!(authorities(damaged.as_bytes()), Err(PemFault::Damaged(1)));
    let damaged = format!("{certificate}{damaged}");
    assert_eq!(chain(damaged.as_bytes()), Err(PemFault::Damaged(2)));
    assert_eq!(authorities(damaged.as_bytes()).map(|all| all.len()), Ok(2));

    let with_header = key.replacen(
        '\n',
        "\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\n",
        1,
    );
    for (pem, expected) in [
        (certificate.clone(), PemFault::CertificateAlone),
        (
            as_label(&key, "PRIVATE", "PUBLIC"),
            PemFault::PublicKeyAlone,
        ),
        (
            as_label(&key, "PRIVATE", "ENCRYPTED PRIVATE"),
            PemFault::Encrypted,
        ),
        (
            as_label(&with_header, "PRIVATE", "RSA PRIVATE"),
            PemFault::Encrypted,
        ),
        (
            as_label(&key, "PRIVATE", "OPENSSH PRIVATE"),
            PemFault::OpenSsh,
        ),
        (as_label(&key, "PRIVATE", "DSA PRIVATE"), PemFault::Dsa),
    ] {
        assert_eq!(fault_of_key(&pem), expected, "{pem}");
    }
}

#[test]
fn any_bytes_are_a_fault_or_sections() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let (certificate, key) = pair();
    let whole = format!("{key}{certificate}").into_bytes();
    for _ in 0..5_000 {
        let mut pem = whole.clone();
        for _ in 0..random.usize(1..4) {
            let at = random.usize(..pem.len().max(1));
            match random.u8(..3) {
                0 => pem.insert(at, random.u8(..)),
                1 => drop(pem.drain(at..pem.len().min(at + 1))),
                _ => pem.truncate(at),
            }
        }
        for fault in [certificates(&pem).err(), private_keys(&pem).err()]
            .into_iter()
            .flatten()
        {
            check_shows_no_key(fault, &key);
        }
    }
}
