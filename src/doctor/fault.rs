//! Why a request was not answered, as text, and which party is at fault.
//!
//! Used by [`probe`](super::probe) and [`stream`](super::stream). The text of TLS errors comes from
//! [`client`](crate::client). Never does I/O.

use std::io;

use rustls::CertificateError as Certificate;
use rustls::{AlertDescription, Error as Tls, InvalidMessage};
use ureq::Error;

use super::finding::{Fault, Party};
use crate::client::tls_words::{CA_AS_SERVER, OLD_VERSION, tls_error, tls_words, webpki_name};
use crate::foreign_text::{Secrets, quote};
use crate::limits::DOCTOR_PATIENCE_MS;

/// The fault that an error shows, without secrets.
pub(super) fn of(error: &Error, secrets: &Secrets) -> Fault {
    let io = match error {
        Error::Io(io) => Some(io),
        _ => None,
    };
    if let Some(tls) = tls_error(error) {
        return of_tls(tls, secrets);
    }
    let quoted = quote(&error.to_string(), secrets);
    match (error, io.map(io::Error::kind)) {
        (Error::HostNotFound, _) => Fault::new(
            Party::Network,
            format!("no answer: the name of the host has no address ({quoted})"),
            "look at the spelling of the address, and at its record in the DNS",
        ),
        (Error::ConnectProxyFailed(_), _) => Fault::new(
            Party::Command,
            format!("no answer: the proxy of this machine refused the connection: {quoted}"),
            "look at ALL_PROXY, HTTPS_PROXY and HTTP_PROXY, or list the host in NO_PROXY",
        ),
        (_, Some(io::ErrorKind::ConnectionRefused)) => Fault::new(
            Party::Network,
            format!("no answer: nothing listens at that address and port ({quoted})"),
            "start what should listen there, or correct the port; hookcast listens on loopback alone \
             unless --listen says more",
        ),
        (Error::Timeout(_), _) | (_, Some(io::ErrorKind::TimedOut)) => Fault::new(
            Party::Network,
            format!("no answer within {DOCTOR_PATIENCE_MS} ms ({quoted})"),
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
            format!("no answer: the connection was closed without one ({quoted})"),
            "if that port expects TLS, give the address with https://; if it expects the PROXY protocol \
             (+proxy in --listen), ask by way of the proxy",
        ),
        (Error::Protocol(_) | Error::LargeResponseHeader(..), _) => Fault::new(
            Party::Unknown,
            format!("no answer: what listens there does not answer in HTTP/1.1 ({quoted})"),
            "look at the port; if it expects TLS, give the address with https://",
        ),
        _ => Fault::new(
            Party::Unknown,
            format!("no answer: {quoted}"),
            "look at the address, its DNS record, and the route to it",
        ),
    }
}

fn of_tls(error: &Tls, secrets: &Secrets) -> Fault {
    let (party, remedy) = match error {
        Tls::InvalidCertificate(fault) => (Party::Certificate, certificate(fault)),
        Tls::InvalidMessage(InvalidMessage::InvalidContentType) => (
            Party::Command,
            "give the address with http://, or the port that has TLS (nginx: listen 443 ssl; hookcast: \
             --listen ADDRESS:PORT+tls)",
        ),
        Tls::AlertReceived(AlertDescription::CertificateRequired) => (
            Party::Command,
            "the server asks for one by --tls-client-ca: examine it through the CDN that has one",
        ),
        Tls::AlertReceived(AlertDescription::UnrecognisedName) => (
            Party::Certificate,
            "set the name up there: server_name in nginx, ServerName in Apache, the site's name in Caddy",
        ),
        Tls::AlertReceived(
            AlertDescription::HandshakeFailure | AlertDescription::ProtocolVersion,
        )
        | Tls::PeerIncompatible(_) => (
            Party::Certificate,
            "allow TLS 1.2 or 1.3 there (nginx: ssl_protocols TLSv1.2 TLSv1.3), and see that a certificate is set",
        ),
        _ => (
            Party::Unknown,
            "look at the log of what ends TLS at this address",
        ),
    };
    Fault::new(party, tls_words(error, secrets), remedy)
}

/// The remedy for a certificate's fault.
fn certificate(fault: &Certificate) -> &'static str {
    match fault {
        Certificate::UnknownIssuer | Certificate::BadSignature => {
            "the server's file must hold the chain behind its certificate (fullchain.pem); for a private \
             authority, or a self-signed certificate, give --ca-file"
        }
        Certificate::NotValidForName | Certificate::NotValidForNameContext { .. } => {
            "get a certificate for this name, or examine the name that it is for"
        }
        Certificate::Expired
        | Certificate::ExpiredContext { .. }
        | Certificate::NotValidYet
        | Certificate::NotValidYetContext { .. } => {
            "renew it (certbot renew) and reload what ends TLS; compare the clocks of both machines"
        }
        Certificate::Revoked => "get a new one",
        Certificate::InvalidPurpose | Certificate::InvalidPurposeContext { .. } => {
            "make it with the extended key usage serverAuth"
        }
        other => match webpki_name(other).as_deref() {
            Some(CA_AS_SERVER | OLD_VERSION) => {
                "use a certificate of a public authority (certbot, Caddy); or make one with openssl req -x509 -addext \
                 basicConstraints=CA:FALSE -addext subjectAltName=DNS:NAME, and give it with --ca-file"
            }
            _ => "see with openssl s_client what the server presents",
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_request_names_the_party_at_fault_and_a_remedy() {
        let io = |kind| Error::Io(io::Error::from(kind));
        let no_tls = Tls::InvalidMessage(InvalidMessage::InvalidContentType);
        let certificate = |fault| Error::Rustls(Tls::InvalidCertificate(fault));
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
            (
                certificate(Certificate::UnknownIssuer),
                Party::Certificate,
                "--ca-file",
            ),
            (
                certificate(Certificate::NotValidForName),
                Party::Certificate,
                "for this name",
            ),
            (
                certificate(Certificate::Expired),
                Party::Certificate,
                "certbot renew",
            ),
            (
                certificate(Certificate::NotValidYet),
                Party::Certificate,
                "clocks",
            ),
        ] {
            let fault = of(&error, &Secrets::default());
            assert_eq!(fault.party, party, "{fault:?}");
            assert!(fault.remedy.contains(remedy), "{fault:?}");
        }
    }
}
