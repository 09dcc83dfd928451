//! The faults of a PEM file.
//!
//! Made by the parent module. Each says what to do. Never contains a byte of the file.

use std::fmt;

/// What is wrong with a PEM file. Its text continues a sentence that begins with the file's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PemFault {
    /// It is empty.
    Empty,
    /// It is text in UTF-16.
    Utf16,
    /// It is DER, not PEM.
    Der,
    /// It is a PEM file, encoded in Base64 once more.
    Base64Twice,
    /// It is a PKCS #12 container.
    Pkcs12,
    /// It is a PKCS #7 container, in PEM.
    Pkcs7,
    /// It has no section at all.
    NoSection,
    /// Line breaks were replaced by `\n`, two characters.
    EscapedLineBreaks(usize),
    /// Line breaks were replaced by blanks, or removed.
    LostLineBreaks(usize),
    /// A section begins in the line in which another ends.
    Joined(usize),
    /// A line that begins or ends a section contains other text.
    StrayText(usize),
    /// A line that begins or ends a section is malformed.
    Hyphens(usize),
    /// The section that begins in this line has no end.
    NoEnd(usize),
    /// The section that ends in this line has no beginning, or one with another label.
    NoBegin(usize),
    /// The section that begins in this line is not Base64.
    Base64(usize),
    /// The certificate with this number, from 1, cannot be parsed.
    Damaged(usize),
    /// It contains no certificate.
    NoCertificate,
    /// It contains a certificate request, but no certificate.
    RequestAlone,
    /// It contains a certificate in an unsupported form.
    CertificateForm(usize),
    /// It contains no private key.
    NoPrivateKey,
    /// It contains a public key, but no private key.
    PublicKeyAlone,
    /// It contains a certificate, but no private key.
    CertificateAlone,
    /// The key has a passphrase.
    Encrypted,
    /// The key is in OpenSSH's form.
    OpenSsh,
    /// The key is for DSA.
    Dsa,
    /// It contains no public key, and nothing that looks like one.
    NoPublicKey,
    /// It contains a public key in an unsupported form.
    PublicKeyForm(usize),
    /// It contains a private key, and a public one is required.
    PrivateKeyInside,
    /// It contains a certificate, and a public key is required.
    CertificateInside,
}

impl fmt::Display for PemFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use PemFault as Fault;
        match self {
            Fault::Empty => f.write_str("is empty"),
            Fault::Utf16 => f.write_str("is text in UTF-16; save it as UTF-8"),
            Fault::Der => f.write_str(
                "is in DER form, not in PEM form; convert it: openssl x509 -inform DER, for a key \
                 openssl pkey -inform DER",
            ),
            Fault::Base64Twice => {
                f.write_str("is a PEM file that was encoded in Base64 once more; decode it: base64 -d")
            }
            Fault::Pkcs12 => f.write_str(
                "is a PKCS #12 container, not in PEM form; convert it: openssl pkcs12 -nodes -in FILE -out FILE.pem",
            ),
            Fault::Pkcs7 => f.write_str(
                "is a PKCS #7 container; convert it: openssl pkcs7 -print_certs -in FILE -out FILE.pem",
            ),
            Fault::NoSection => {
                f.write_str("has no -----BEGIN line, so it is not in PEM form")
            }
            Fault::EscapedLineBreaks(line) => write!(
                f,
                "has \\n, two characters, where its line breaks were (line {line}); \
                 write it with line breaks"
            ),
            Fault::LostLineBreaks(line) => write!(
                f,
                "has lost its line breaks, or has blanks in their place (line {line}); copy the file as it is"
            ),
            Fault::Joined(line) => write!(
                f,
                "has -----END and the next -----BEGIN in one line, line {line}; put a line break between them"
            ),
            Fault::StrayText(line) => write!(
                f,
                "has other text beside -----BEGIN or -----END in line {line}; remove it"
            ),
            Fault::Hyphens(line) => write!(
                f,
                "has a malformed BEGIN or END in line {line}: capital letters with five hyphens on each side"
            ),
            Fault::NoEnd(line) => write!(
                f,
                "has a -----BEGIN in line {line} without its -----END: it is cut off"
            ),
            Fault::NoBegin(line) => write!(
                f,
                "has an -----END in line {line} that does not belong to a -----BEGIN"
            ),
            Fault::Base64(line) => write!(
                f,
                "has a section that is not Base64; it begins in line {line}"
            ),
            Fault::Damaged(place) => {
                write!(f, "has a damaged certificate, number {place} in the file")
            }
            Fault::NoCertificate => f.write_str("contains no certificate in PEM form"),
            Fault::RequestAlone => f.write_str(
                "has a certificate request but no certificate: send the request to the authority",
            ),
            Fault::CertificateForm(line) => write!(
                f,
                "has a certificate in another form in line {line}; convert it: openssl x509 -in FILE -out FILE.pem"
            ),
            Fault::NoPrivateKey => f.write_str("contains no private key in PEM form"),
            Fault::PublicKeyAlone => {
                f.write_str("has a public key but no private key, which is required")
            }
            Fault::CertificateAlone => {
                f.write_str("has a certificate but no private key in PEM form")
            }
            Fault::Encrypted => f.write_str(
                "has a passphrase, which the server cannot ask for; decrypt it: \
                 openssl pkey -in FILE -out NEW, and let only the server read NEW",
            ),
            Fault::OpenSsh => f.write_str(
                "is a key of OpenSSH; convert a copy of it: ssh-keygen -p -m PKCS8 -f COPY",
            ),
            Fault::Dsa => f.write_str(
                "is a DSA key; RSA of 2048 to 4096 bits, ECDSA P-256 and P-384, and Ed25519 are supported",
            ),
            Fault::NoPublicKey => f.write_str("contains no public key in PEM form"),
            Fault::PublicKeyForm(line) => write!(
                f,
                "has a public key in another form in line {line}; convert it: \
                 openssl rsa -RSAPublicKey_in -pubout -in FILE -out FILE.pem"
            ),
            Fault::PrivateKeyInside => f.write_str(
                "has a private key, which only the issuer may have; give the public one: \
                 openssl pkey -pubout -in FILE -out FILE.pem",
            ),
            Fault::CertificateInside => f.write_str(
                "has a certificate, which is not checked here; give its public key: \
                 openssl x509 -pubkey -noout -in FILE",
            ),
        }
    }
}

impl std::error::Error for PemFault {}
