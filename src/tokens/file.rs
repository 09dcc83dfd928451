//! The files of `--token-key`: read, recognised, and checked.
//!
//! Called by `server` at the start and on SIGHUP, and for `--check-config`. A file that holds something public in
//! an unknown form is no secret: its bytes may be public, and every client could sign with them. Faults never
//! quote a file, nor a value that may be the secret itself in place of a path.

use std::fmt;
use std::fs::{File, Metadata};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::key::{Key, KeyProblem};
use super::{TokenKeys, disguise, jwks, public};
use crate::limits::{TOKEN_KEY_FILE_BYTES_MAX, TOKEN_KEYS_MAX};
use crate::pem::{self, PemFault};
use crate::tls::key::KeyKind;

const FLAG: &str = "--token-key";

/// Keys that were read, and notes for the operator, a sentence each.
pub struct LoadedKeys {
    /// The keys.
    pub keys: TokenKeys,
    /// What is unwanted about their files.
    pub notes: Vec<String>,
}

/// Why the keys cannot be used, with the name of the file.
#[derive(Debug)]
pub struct KeyFileError {
    /// The flag, and the path if it certainly is one.
    place: String,
    /// What is wrong.
    pub fault: KeyFileFault,
}

impl fmt::Display for KeyFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.place, self.fault)
    }
}

impl std::error::Error for KeyFileError {}

/// Why a file of keys cannot be used. Its text continues a sentence that begins with the file's name.
#[derive(Debug)]
pub enum KeyFileFault {
    /// It cannot be read.
    Read(io::Error),
    /// It is a directory, a pipe or the like.
    NoFile,
    /// It is longer than [`TOKEN_KEY_FILE_BYTES_MAX`].
    TooLong,
    /// It is empty.
    Empty,
    /// It is no usable PEM file.
    Pem(PemFault),
    /// It is DER, which is public, and so no secret.
    Der,
    /// It is base64 or hexadecimal digits of DER.
    EncodedDer,
    /// It is base64 of JSON.
    EncodedJson,
    /// It is a key of OpenSSH, which is public, and so no secret.
    OpenSsh,
    /// It is the address of keys.
    Url,
    /// It is XML or HTML.
    Markup,
    /// It is a token.
    Token,
    /// It begins like JSON, and is none.
    Json {
        /// The line of the fault, from 1.
        line: usize,
        /// The column of the fault, from 1.
        column: usize,
    },
    /// It is JSON, but no set of keys.
    NoSet,
    /// The key with this number is private.
    PrivateKey(usize),
    /// The set has no key that can be used, for this reason.
    NoUsableKey(Option<String>),
    /// The key is of an unsupported kind.
    Unsupported(KeyKind),
    /// The key is weak or damaged.
    Key(KeyProblem),
    /// All files together have too many keys.
    TooMany(usize),
    /// So many keys would have to be tried for a token, and so many are.
    TooManyAlike(usize, usize),
}

impl fmt::Display for KeyFileFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use KeyFileFault as Fault;
        match self {
            Fault::Read(error) => {
                let hint = match error.kind() {
                    ErrorKind::NotFound | ErrorKind::InvalidFilename => {
                        "; it takes the path of a file, not the key itself"
                    }
                    _ => "",
                };
                write!(f, "cannot be read: {error}{hint}")
            }
            Fault::NoFile => f.write_str("is not a regular file"),
            Fault::TooLong => write!(f, "is longer than {TOKEN_KEY_FILE_BYTES_MAX} bytes"),
            Fault::Empty => f.write_str("is empty"),
            Fault::Pem(fault) => fault.fmt(f),
            Fault::Der => f.write_str(
                "is in DER form, not in PEM form; convert it: openssl pkey -pubin -inform DER -in FILE -out FILE.pem",
            ),
            Fault::EncodedDer => f.write_str(
                "is a key or a certificate in DER form, encoded; put a public key between -----BEGIN PUBLIC KEY----- and -----END PUBLIC KEY-----, each on a line",
            ),
            Fault::EncodedJson => f.write_str(
                "is base64 of JSON, such as of a JWKS; decode it: base64 -d FILE > FILE.json",
            ),
            Fault::Url => f.write_str(
                "is a URL, and no keys are read over the network; save the JWKS: curl -fo FILE URL",
            ),
            Fault::Markup => f.write_str(
                "is XML or HTML, and no key; get the public key in PEM form, or a JWKS",
            ),
            Fault::Token => f.write_str(
                "is a token, and no key: its receivers know it; get the key of its issuer",
            ),
            Fault::OpenSsh => f.write_str(
                "is a key of OpenSSH; convert it: ssh-keygen -e -m PKCS8 -f FILE",
            ),
            Fault::Json { line, column } => write!(
                f,
                "begins like a JWKS but is no JSON: line {line}, column {column}; a secret must not begin with a brace or a bracket"
            ),
            Fault::NoSet => f.write_str("is JSON but no JWKS: an object with a list \"keys\""),
            Fault::PrivateKey(place) => write!(
                f,
                "has a private key, number {place} of the set, which only the issuer may have; remove its d, p, q, dp, dq and qi"
            ),
            Fault::NoUsableKey(None) => f.write_str("is a JWKS without a key"),
            Fault::NoUsableKey(Some(why)) => {
                write!(f, "is a JWKS without a key that can be used: {why}")
            }
            Fault::Unsupported(kind) => write!(
                f,
                "is {kind}; RSA of 2048 to 4096 bits, ECDSA P-256 and Ed25519 are supported"
            ),
            Fault::Key(problem) => problem.fmt(f),
            Fault::TooMany(keys) => write!(f, "has {keys} keys in all files; {TOKEN_KEYS_MAX} are supported"),
            Fault::TooManyAlike(keys, tried_max) => write!(
                f,
                "has {keys} keys of one algorithm that a token may be signed with; {tried_max} are tried: \
                 give them different kids"
            ),
        }
    }
}

impl TokenKeys {
    /// Reads the files of keys.
    pub fn load(paths: &[PathBuf], audience: Option<&str>) -> Result<LoadedKeys, KeyFileError> {
        let mut all = Vec::new();
        let mut notes = Vec::new();
        for path in paths {
            let place = place(path);
            let error = |fault| KeyFileError {
                place: place.clone(),
                fault,
            };
            let (bytes, metadata) = read(path).map_err(error)?;
            let (keys, of_file) = parse(&bytes).map_err(error)?;
            let keys = TokenKeys::new(keys, None);
            let of_file = of_file.into_iter().chain(mode_note(&keys, &metadata));
            notes.extend(of_file.map(|note| format!("{place}: {note}")));
            all.extend(keys.into_keys());
        }
        let keys = TokenKeys::new(all, audience);
        let failed = |fault| KeyFileError {
            place: FLAG.to_owned(),
            fault,
        };
        match (keys.count(), keys.untried()) {
            (count, _) if count > TOKEN_KEYS_MAX => Err(failed(KeyFileFault::TooMany(count))),
            (_, Some((alike, tried_max))) => {
                Err(failed(KeyFileFault::TooManyAlike(alike, tried_max)))
            }
            _ => Ok(LoadedKeys { keys, notes }),
        }
    }

    /// The keys of one file's content.
    pub fn parse(content: &[u8], audience: Option<&str>) -> Result<TokenKeys, KeyFileFault> {
        let (keys, _) = parse(content)?;
        Ok(TokenKeys::new(keys, audience))
    }
}

/// The flag with the path. The path is left out if it may be a key that was given in its place.
fn place(path: &Path) -> String {
    let bytes = path.as_os_str().as_encoded_bytes();
    let has_beginning = ["/", "./", "../", "~/"]
        .iter()
        .any(|beginning| bytes.starts_with(beginning.as_bytes()));
    let is_path = (has_beginning && !pem::is_in_place_of_path(path)) || path.exists();
    if is_path {
        format!("{FLAG} {}", path.display())
    } else {
        FLAG.to_owned()
    }
}

fn read(path: &Path) -> Result<(Vec<u8>, Metadata), KeyFileFault> {
    // Opening a pipe would wait for its writer.
    if !std::fs::metadata(path)
        .map_err(KeyFileFault::Read)?
        .is_file()
    {
        return Err(KeyFileFault::NoFile);
    }
    let file = File::open(path).map_err(KeyFileFault::Read)?;
    let metadata = file.metadata().map_err(KeyFileFault::Read)?;
    let mut bytes = Vec::new();
    file.take(TOKEN_KEY_FILE_BYTES_MAX as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(KeyFileFault::Read)?;
    match bytes.len() {
        0..=TOKEN_KEY_FILE_BYTES_MAX => Ok((bytes, metadata)),
        _ => Err(KeyFileFault::TooLong),
    }
}

/// A note about a file that other users can read, though it is secret, or change.
fn mode_note(keys: &TokenKeys, metadata: &Metadata) -> Option<String> {
    let (others, verb) = match metadata.mode() & 0o006 {
        0o002 | 0o006 => ("o-rw", "change"),
        0o004 if keys.has_secret() => ("o-r", "read"),
        _ => return None,
    };
    Some(format!(
        "every user of this machine can {verb} it, and so make tokens: chmod {others}"
    ))
}

/// What a file is, by its first bytes.
enum Form<'a> {
    Pem,
    Json(&'a [u8]),
    Secret(&'a [u8]),
}

fn form(content: &[u8]) -> Result<Form<'_>, KeyFileFault> {
    const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
    let text = content.strip_prefix(BYTE_ORDER_MARK).unwrap_or(content);
    let text = text.trim_ascii_start();
    let begins_with = |beginnings: &[&str]| {
        let mut beginnings = beginnings.iter();
        beginnings.any(|beginning| text.starts_with(beginning.as_bytes()))
    };
    let has_section = memchr::memmem::find(content, b"-----BEGIN ").is_some();
    match text.first() {
        None => Err(KeyFileFault::Empty),
        _ if has_section || begins_with(&[pem::BASE64_BEGIN]) => Ok(Form::Pem),
        Some(b'{' | b'[') => Ok(Form::Json(text)),
        _ if matches!(content, [0xff, 0xfe, ..] | [0xfe, 0xff, ..]) => {
            Err(KeyFileFault::Pem(PemFault::Utf16))
        }
        _ => match disguise::fault(content) {
            Some(fault) => Err(fault),
            None => Ok(Form::Secret(without_line_end(content))),
        },
    }
}

fn without_line_end(content: &[u8]) -> &[u8] {
    let line = content.strip_suffix(b"\n").unwrap_or(content);
    line.strip_suffix(b"\r").unwrap_or(line)
}

fn parse(content: &[u8]) -> Result<(Vec<Key>, Vec<String>), KeyFileFault> {
    match form(content)? {
        Form::Pem => Ok((public::keys(content)?, Vec::new())),
        Form::Json(json) => jwks::keys(json),
        Form::Secret(secret) => {
            let key = Key::secret(secret).map_err(KeyFileFault::Key)?;
            let has_lines = std::str::from_utf8(secret).is_ok_and(|text| text.contains('\n'));
            let note = has_lines.then_some("it has several lines, and all of them are the secret");
            Ok((vec![key], note.map(str::to_owned).into_iter().collect()))
        }
    }
}
