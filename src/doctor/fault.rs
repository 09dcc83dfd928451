//! Why a request was not answered, in words.
//!
//! Used by [`visit`](super::visit). What TLS has against a server is said so that an operator knows
//! which file to look at; every other error speaks for itself. Never does I/O.

use rustls::CertificateError as Certificate;
use rustls::{AlertDescription, Error as Tls, InvalidMessage};
use ureq::Error;

use crate::foreign_text::{Secrets, quote};

/// Says what went wrong, without secrets.
pub(super) fn words(error: &Error, secrets: &Secrets) -> String {
    let tls = match error {
        Error::Rustls(tls) => Some(tls),
        Error::Io(io) => io.get_ref().and_then(|inner| inner.downcast_ref::<Tls>()),
        _ => None,
    };
    match tls {
        Some(tls) => words_of_tls(tls, secrets),
        None => quote(&error.to_string(), secrets),
    }
}

fn words_of_tls(error: &Tls, secrets: &Secrets) -> String {
    match error {
        Tls::InvalidCertificate(fault) => {
            format!("the certificate is not valid: {}", certificate(fault, secrets))
        }
        Tls::InvalidMessage(InvalidMessage::InvalidContentType) => {
            "what listens there does not speak TLS; is it http:// instead of https://?".into()
        }
        Tls::AlertReceived(AlertDescription::CertificateRequired) => {
            "the server lets in only clients with a certificate (--tls-client-ca); examine it through the CDN \
             that has one"
                .into()
        }
        other => quote(&format!("TLS: {other}"), secrets),
    }
}

fn certificate(fault: &Certificate, secrets: &Secrets) -> String {
    match fault {
        // An authority that was made anew has the name of the old one, and another key.
        Certificate::UnknownIssuer | Certificate::BadSignature => {
            "no authority that is trusted here has signed it. The server's file must hold the chain behind \
             its certificate (fullchain.pem); an authority of one's own is named by --ca-file"
                .into()
        }
        Certificate::NotValidForName => "it is for another name".into(),
        Certificate::NotValidForNameContext {
            expected,
            presented,
        } => format!(
            "it is for another name than {}: {}",
            expected.to_str(),
            names(presented, secrets)
        ),
        Certificate::Expired | Certificate::ExpiredContext { .. } => {
            "it has expired, or the clock here is wrong".into()
        }
        Certificate::NotValidYet | Certificate::NotValidYetContext { .. } => {
            "its time has not come, or the clock here is wrong".into()
        }
        other => quote(&other.to_string(), secrets),
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

    use super::*;

    fn words(error: &Error) -> String {
        super::words(error, &Secrets::default())
    }

    #[test]
    fn what_a_certificate_says_is_a_quote() {
        let fault = Certificate::NotValidForNameContext {
            expected: "a.example".try_into().unwrap(),
            presented: vec!["DnsName(\"s3cret\u{202e}\")".into(); 100],
        };
        let error = Error::Rustls(Tls::InvalidCertificate(fault));
        let text = super::words(&error, &Secrets::default().with("s3cret"));
        assert!(!text.contains("s3") && !text.contains('\u{202e}'), "{text}");
        assert!(
            text.contains("[secret]") && text.chars().count() < 300,
            "{text}"
        );
    }

    #[test]
    fn what_is_wrong_with_a_certificate_is_said_with_what_to_do() {
        for (fault, expected) in [
            (Certificate::UnknownIssuer, "--ca-file"),
            (Certificate::NotValidForName, "another name"),
            (Certificate::Expired, "expired"),
            (Certificate::NotValidYet, "clock"),
            (Certificate::BadSignature, "--ca-file"),
            (Certificate::Revoked, "not valid: "),
        ] {
            let tls = || Tls::InvalidCertificate(fault.clone());
            let text = words(&Error::Rustls(tls()));
            assert!(text.contains(expected), "{text}");
            assert_eq!(text, words(&Error::Io(io::Error::other(tls()))));
        }
        let fault = Certificate::NotValidForNameContext {
            expected: "a.example".try_into().unwrap(),
            presented: vec![],
        };
        let text = certificate(&fault, &Secrets::default());
        assert!(text.ends_with("than a.example: none at all"), "{text}");
    }

    #[test]
    fn other_errors_speak_for_themselves() {
        assert_eq!(words(&Error::HostNotFound), Error::HostNotFound.to_string());
        let io = || io::Error::from(io::ErrorKind::ConnectionRefused);
        assert_eq!(words(&Error::Io(io())), Error::Io(io()).to_string());
        let tls = Tls::InvalidMessage(InvalidMessage::InvalidContentType);
        assert!(words(&Error::Rustls(tls)).contains("http://"));
    }
}
