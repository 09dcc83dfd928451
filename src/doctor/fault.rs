//! Why a request was not answered, in words, and whose fault that is.
//!
//! Used by [`probe`](super::probe) and [`stream`](super::stream). What TLS has against a server is said
//! so that an operator knows which file to look at. Never does I/O.

use std::io;

use rustls::CertificateError as Certificate;
use rustls::{AlertDescription, Error as Tls, InvalidMessage, OtherError};
use ureq::Error;

use super::finding::{Fault, Party};
use crate::foreign_text::{Secrets, quote};
use crate::limits::DOCTOR_PATIENCE_MS;

/// Says what went wrong, without secrets.
pub(super) fn of(error: &Error, secrets: &Secrets) -> Fault {
    let io = match error {
        Error::Io(io) => Some(io),
        _ => None,
    };
    let tls = match error {
        Error::Rustls(tls) => Some(tls),
        _ => io.and_then(|io| io.get_ref()?.downcast_ref::<Tls>()),
    };
    if let Some(tls) = tls {
        return of_tls(tls, secrets);
    }
    let said = quote(&error.to_string(), secrets);
    match (error, io.map(io::Error::kind)) {
        (Error::HostNotFound, _) => Fault::new(
            Party::Network,
            format!("no answer: the name of the host has no address ({said})"),
            "look at the spelling of the address, and at its record in the DNS",
        ),
        (Error::ConnectProxyFailed(_), _) => Fault::new(
            Party::Command,
            format!("no answer: the proxy of this machine refused the connection: {said}"),
            "look at ALL_PROXY, HTTPS_PROXY and HTTP_PROXY, or list the host in NO_PROXY",
        ),
        (_, Some(io::ErrorKind::ConnectionRefused)) => Fault::new(
            Party::Network,
            format!("no answer: nothing listens at that address and port ({said})"),
            "start what should listen there, or correct the port; hookcast listens on loopback alone \
             unless --listen says more",
        ),
        (Error::Timeout(_), _) | (_, Some(io::ErrorKind::TimedOut)) => Fault::new(
            Party::Network,
            format!("no answer within {DOCTOR_PATIENCE_MS} ms ({said})"),
            "look for a firewall that drops the packets, and for a proxy that waits for hookcast in vain",
        ),
        (
            _,
            Some(
                io::ErrorKind::ConnectionReset
                | io::ErrorKind::ConnectionAborted
                | io::ErrorKind::BrokenPipe
                | io::ErrorKind::UnexpectedEof,
            ),
        ) => Fault::new(
            Party::Unknown,
            format!("no answer: the connection was closed without one ({said})"),
            "if that port expects TLS, give the address with https://; if it expects the PROXY protocol \
             (+proxy in --listen), ask by way of the proxy",
        ),
        (Error::Protocol(_) | Error::LargeResponseHeader(..), _) => Fault::new(
            Party::Unknown,
            format!("no answer: what listens there does not answer in HTTP/1.1 ({said})"),
            "look at the port; if it expects TLS, give the address with https://",
        ),
        _ => Fault::new(
            Party::Unknown,
            format!("no answer: {said}"),
            "look at the address, its DNS record, and the route to it",
        ),
    }
}

fn of_tls(error: &Tls, secrets: &Secrets) -> Fault {
    match error {
        Tls::InvalidCertificate(fault) => certificate(fault, secrets),
        Tls::InvalidMessage(InvalidMessage::InvalidContentType) => Fault::new(
            Party::Command,
            "no answer: what listens there does not speak TLS",
            "give the address with http://, or the port that has TLS (nginx: listen 443 ssl; hookcast: \
             --listen ADDRESS:PORT+tls)",
        ),
        Tls::AlertReceived(AlertDescription::CertificateRequired) => Fault::new(
            Party::Command,
            "the server lets in only clients with a certificate (--tls-client-ca)",
            "examine it through the CDN that has one",
        ),
        Tls::AlertReceived(AlertDescription::UnrecognisedName) => Fault::new(
            Party::Certificate,
            "the server has no certificate for this name (TLS alert unrecognized_name)",
            "set the name up there: server_name in nginx, ServerName in Apache, the site's name in Caddy",
        ),
        Tls::AlertReceived(
            AlertDescription::HandshakeFailure | AlertDescription::ProtocolVersion,
        )
        | Tls::PeerIncompatible(_) => Fault::new(
            Party::Certificate,
            format!(
                "no TLS version or cipher is common to both sides ({})",
                quote(&error.to_string(), secrets)
            ),
            "allow TLS 1.2 or 1.3 there (nginx: ssl_protocols TLSv1.2 TLSv1.3), and see that a certificate is set",
        ),
        other => Fault::new(
            Party::Unknown,
            format!("TLS failed: {}", quote(&other.to_string(), secrets)),
            "look at the log of what ends TLS at this address",
        ),
    }
}

const PUBLIC: &str = "use a certificate of a public authority (certbot, Caddy)";
const LOOK: &str = "see with openssl s_client what the server presents";

fn certificate(fault: &Certificate, secrets: &Secrets) -> Fault {
    let invalid = |seen: String, remedy: &str| {
        Fault::new(
            Party::Certificate,
            format!("the certificate is not valid: {seen}"),
            remedy,
        )
    };
    let renew =
        "renew it (certbot renew) and reload what ends TLS; compare the clocks of both machines";
    let rename = "get a certificate for this name, or examine the name that it is for";
    match fault {
        // An authority that was made anew has the name of the old one, and another key.
        Certificate::UnknownIssuer | Certificate::BadSignature => invalid(
            "no authority that is trusted here has signed it: it is self-signed, of an authority of one's \
             own, or sent without its chain"
                .into(),
            "the server's file must hold the chain behind its certificate (fullchain.pem); for an authority \
             of your own, or a self-signed certificate, give --ca-file",
        ),
        // What rustls has no words for has a name of webpki's.
        Certificate::Other(OtherError(inner)) => match inner.to_string().as_str() {
            "CaUsedAsEndEntity" => invalid(
                "it is self-signed, and marked as an authority (CA:TRUE) instead of a server".into(),
                &format!("{PUBLIC}; or make one that is no authority: openssl req -x509 -addext \
                     basicConstraints=CA:FALSE -addext subjectAltName=DNS:NAME, and give it with --ca-file"),
            ),
            "UnsupportedCertVersion" => invalid(
                "it is of X.509 version 1, which has no names of hosts".into(),
                &format!("{PUBLIC}; or make one with openssl req -x509 -addext subjectAltName=DNS:NAME"),
            ),
            name => invalid(quote(name, secrets), LOOK),
        },
        Certificate::NotValidForName => invalid("it is for another name".into(), rename),
        Certificate::NotValidForNameContext {
            expected,
            presented,
        } => invalid(
            format!(
                "it is for another name than {}: {}",
                quote(&expected.to_str(), secrets),
                names(presented, secrets)
            ),
            rename,
        ),
        Certificate::Expired | Certificate::ExpiredContext { .. } => invalid(
            "it has expired, or the clock here is wrong".into(),
            renew,
        ),
        Certificate::NotValidYet | Certificate::NotValidYetContext { .. } => invalid(
            "its time has not come, or the clock here is wrong".into(),
            renew,
        ),
        Certificate::Revoked => invalid("it was revoked".into(), "get a new one"),
        Certificate::InvalidPurpose | Certificate::InvalidPurposeContext { .. } => invalid(
            "it is not meant for servers".into(),
            "make it with the extended key usage serverAuth",
        ),
        Certificate::BadEncoding => invalid(
            "it is malformed".into(),
            "see with openssl x509 -text what the server's file holds",
        ),
        other => invalid(quote(&other.to_string(), secrets), LOOK),
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
    use std::sync::Arc;

    use super::*;

    fn fault(error: &Error) -> Fault {
        of(error, &Secrets::default())
    }

    #[derive(Debug)]
    struct Named(&'static str);

    impl std::fmt::Display for Named {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str(self.0)
        }
    }

    impl std::error::Error for Named {}

    #[test]
    fn what_a_certificate_says_is_a_quote() {
        let fault = Certificate::NotValidForNameContext {
            expected: "a.example".try_into().unwrap(),
            presented: vec!["DnsName(\"s3cret\u{202e}\")".into(); 100],
        };
        let error = Error::Rustls(Tls::InvalidCertificate(fault));
        let text = super::of(&error, &Secrets::default().with("s3cret")).seen;
        assert!(!text.contains("s3") && !text.contains('\u{202e}'), "{text}");
        assert!(
            text.contains("[secret]") && text.chars().count() < 300,
            "{text}"
        );
    }

    #[test]
    fn what_is_wrong_with_a_certificate_is_said_with_what_to_do() {
        let other = |name| Certificate::Other(OtherError(Arc::new(Named(name))));
        for (fault, seen, remedy) in [
            (Certificate::UnknownIssuer, "self-signed", "--ca-file"),
            (Certificate::BadSignature, "no authority", "--ca-file"),
            (other("CaUsedAsEndEntity"), "self-signed", "CA:FALSE"),
            (
                Certificate::NotValidForName,
                "another name",
                "for this name",
            ),
            (Certificate::Expired, "expired", "certbot renew"),
            (Certificate::NotValidYet, "not come", "clocks"),
            (Certificate::Revoked, "revoked", "new one"),
            (
                other("UnsupportedCertVersion"),
                "version 1",
                "subjectAltName",
            ),
            (other("Unheard"), "Unheard", "openssl s_client"),
        ] {
            let tls = || Tls::InvalidCertificate(fault.clone());
            let said = of(&Error::Rustls(tls()), &Secrets::default());
            assert_eq!(said.party, Party::Certificate);
            assert!(
                said.seen.contains(seen) && said.remedy.contains(remedy),
                "{said:?}"
            );
            assert!(!said.seen.contains("OtherError"), "{said:?}");
            let wrapped = Error::Io(io::Error::other(tls()));
            assert_eq!(said, of(&wrapped, &Secrets::default()));
        }
        let fault = Certificate::NotValidForNameContext {
            expected: "a.example".try_into().unwrap(),
            presented: vec![],
        };
        let text = certificate(&fault, &Secrets::default()).seen;
        assert!(text.ends_with("than a.example: none at all"), "{text}");
    }

    #[test]
    fn a_failure_to_reach_the_address_names_what_to_look_at() {
        let io = |kind| Error::Io(io::Error::from(kind));
        let no_tls = Tls::InvalidMessage(InvalidMessage::InvalidContentType);
        for (error, party, remedy) in [
            (Error::HostNotFound, Party::Network, "DNS"),
            (io(io::ErrorKind::ConnectionRefused), Party::Network, "port"),
            (io(io::ErrorKind::TimedOut), Party::Network, "firewall"),
            (
                io(io::ErrorKind::ConnectionReset),
                Party::Unknown,
                "https://",
            ),
            (
                Error::ConnectProxyFailed("407".into()),
                Party::Command,
                "NO_PROXY",
            ),
            (Error::Rustls(no_tls), Party::Command, "http://"),
            (Error::TlsRequired, Party::Unknown, "DNS"),
        ] {
            let fault = fault(&error);
            assert_eq!(fault.party, party, "{fault:?}");
            assert!(fault.remedy.contains(remedy), "{fault:?}");
        }
    }
}
