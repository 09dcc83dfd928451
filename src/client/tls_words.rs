//! TLS errors as sentences, instead of the names of rustls and webpki.
//!
//! Used by the mirror and by `doctor`, which add the remedy. Never does I/O.

use rustls::CertificateError as Certificate;
use rustls::{AlertDescription, Error as Tls, InvalidMessage, OtherError};

use crate::foreign_text::{Secrets, quote};

/// The TLS error inside an error of the HTTP client, if there is one.
pub fn tls_error(error: &ureq::Error) -> Option<&Tls> {
    match error {
        ureq::Error::Rustls(tls) => Some(tls),
        ureq::Error::Io(io) => io.get_ref()?.downcast_ref(),
        _ => None,
    }
}

/// The error as a sentence, without secrets.
pub fn tls_words(error: &Tls, secrets: &Secrets) -> String {
    match error {
        Tls::InvalidCertificate(fault) => {
            format!(
                "the certificate is not valid: {}",
                certificate(fault, secrets)
            )
        }
        Tls::InvalidMessage(InvalidMessage::InvalidContentType) => {
            "what listens there does not speak TLS".into()
        }
        Tls::AlertReceived(AlertDescription::CertificateRequired) => {
            "the server lets in only clients with a certificate".into()
        }
        Tls::AlertReceived(AlertDescription::UnrecognisedName) => {
            "the server has no certificate for this name (TLS alert unrecognized_name)".into()
        }
        Tls::AlertReceived(
            AlertDescription::HandshakeFailure | AlertDescription::ProtocolVersion,
        )
        | Tls::PeerIncompatible(_) => {
            let quoted = quote(&error.to_string(), secrets);
            format!("no TLS version or cipher is common to both sides ({quoted})")
        }
        other => format!("TLS failed: {}", quote(&other.to_string(), secrets)),
    }
}

/// The name of a fault in webpki, if rustls has none for it.
pub fn webpki_name(fault: &Certificate) -> Option<String> {
    match fault {
        Certificate::Other(OtherError(inner)) => Some(inner.to_string()),
        _ => None,
    }
}

/// A certificate of an authority that is used as a server's.
pub const CA_AS_SERVER: &str = "CaUsedAsEndEntity";
/// A certificate without extensions, as old tools make them.
pub const OLD_VERSION: &str = "UnsupportedCertVersion";

fn certificate(fault: &Certificate, secrets: &Secrets) -> String {
    match fault {
        // An authority that was created anew has the old name and another key, so the signature is bad.
        Certificate::UnknownIssuer | Certificate::BadSignature => {
            "no authority that is trusted here has signed it: it is self-signed, of a private authority, or \
             sent without its chain"
                .into()
        }
        Certificate::NotValidForName => "it is for another name".into(),
        Certificate::NotValidForNameContext {
            expected,
            presented,
        } => format!(
            "it is for another name than {}: {}",
            quote(&expected.to_str(), secrets),
            names(presented, secrets)
        ),
        Certificate::Expired | Certificate::ExpiredContext { .. } => {
            "it has expired, or the clock here is wrong".into()
        }
        Certificate::NotValidYet | Certificate::NotValidYetContext { .. } => {
            "its time has not come, or the clock here is wrong".into()
        }
        Certificate::Revoked => "it was revoked".into(),
        Certificate::InvalidPurpose | Certificate::InvalidPurposeContext { .. } => {
            "it is not meant for servers".into()
        }
        Certificate::BadEncoding => "it is malformed".into(),
        other => match webpki_name(other).as_deref() {
            Some(CA_AS_SERVER) => {
                "it is marked as an authority (CA:TRUE) instead of a server, as self-signed ones are by default"
                    .into()
            }
            Some(OLD_VERSION) => "it is of X.509 version 1, which has no names of hosts".into(),
            Some(name) => quote(name, secrets),
            None => quote(&other.to_string(), secrets),
        },
    }
}

/// The names in a certificate: `DnsName("hooks.example")` as rustls has them.
fn names(presented: &[String], secrets: &Secrets) -> String {
    if presented.is_empty() {
        "none at all".into()
    } else {
        quote(&presented.join(", "), secrets)
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;

    use super::*;

    #[derive(Debug)]
    struct Named(&'static str);

    impl std::fmt::Display for Named {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str(self.0)
        }
    }

    impl std::error::Error for Named {}

    fn words(fault: Certificate) -> String {
        tls_words(&Tls::InvalidCertificate(fault), &Secrets::default())
    }

    #[test]
    fn text_of_a_certificate_is_quoted() {
        let fault = Certificate::NotValidForNameContext {
            expected: "a.example".try_into().unwrap(),
            presented: vec!["DnsName(\"s3cret\u{202e}\")".into(); 100],
        };
        let secrets = Secrets::default().with("s3cret");
        let text = tls_words(&Tls::InvalidCertificate(fault), &secrets);
        assert!(!text.contains("s3") && !text.contains('\u{202e}'), "{text}");
        assert!(
            text.contains("[secret]") && text.chars().count() < 300,
            "{text}"
        );
    }

    #[test]
    fn known_faults_are_sentences_without_names_of_libraries() {
        let other = |name| Certificate::Other(OtherError(Arc::new(Named(name))));
        for (fault, expected) in [
            (Certificate::UnknownIssuer, "self-signed"),
            (Certificate::BadSignature, "no authority"),
            (other(CA_AS_SERVER), "CA:TRUE"),
            (other(OLD_VERSION), "version 1"),
            (Certificate::NotValidForName, "another name"),
            (Certificate::Expired, "expired"),
            (Certificate::NotValidYet, "not come"),
            (Certificate::Revoked, "revoked"),
            (other("Unheard"), "not valid: Unheard"),
        ] {
            let text = words(fault);
            assert!(text.contains(expected), "{text}");
            assert!(!text.contains("Other"), "{text}");
        }
        let text = words(Certificate::NotValidForNameContext {
            expected: "a.example".try_into().unwrap(),
            presented: vec![],
        });
        assert!(text.ends_with("than a.example: none at all"), "{text}");
    }

    #[test]
    fn a_tls_error_is_found_in_every_form_of_the_client() {
        let tls = || Tls::InvalidCertificate(Certificate::Expired);
        let wrapped = ureq::Error::Io(io::Error::other(tls()));
        assert_eq!(tls_error(&ureq::Error::Rustls(tls())), Some(&tls()));
        assert_eq!(tls_error(&wrapped), Some(&tls()));
        assert_eq!(tls_error(&ureq::Error::HostNotFound), None);
    }
}
