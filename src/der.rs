//! Elements of DER (X.690), as far as keys need them.
//!
//! Called by `tls` and `tokens`, for files that an operator names. Never decides whether a key is accepted.

/// The tag of an integer.
pub const INTEGER: u8 = 0x02;
/// The tag of a string of bits.
pub const BIT_STRING: u8 = 0x03;
/// The tag of a string of bytes.
pub const OCTET_STRING: u8 = 0x04;
/// The tag of an identifier.
pub const OBJECT_ID: u8 = 0x06;
/// The tag of a sequence of elements.
pub const SEQUENCE: u8 = 0x30;

/// The content of the first element, if it has this tag, and the bytes after it.
pub fn take(tag: u8, der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&first, rest) = der.split_first()?;
    let (&short, rest) = rest.split_first()?;
    let (length, rest) = match short {
        0..=0x7f => (usize::from(short), rest),
        0x81..=0x84 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(short & 0x7f))?;
            let length = bytes
                .iter()
                .fold(0, |length, byte| length << 8 | usize::from(*byte));
            (length, rest)
        }
        _ => return None,
    };
    (first == tag).then(|| rest.split_at_checked(length))?
}
