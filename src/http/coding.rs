//! The content codings that a client accepts.
//!
//! Called for the files of the chat window and for streams. Knows gzip alone.

/// Whether `Accept-Encoding` names gzip, or `*` without naming gzip, at a weight above zero and not below that of
/// `identity` (RFC 9110 section 12.5.3). A weight that is none counts as zero: the plain form is always right.
pub fn accepts_gzip(accept_encoding: &str) -> bool {
    let (mut gzip, mut any, mut identity) = (None, None, None);
    for item in accept_encoding.split(',') {
        let (coding, parameter) = item.split_once(';').unwrap_or((item, "q=1"));
        let weight = weight(parameter).unwrap_or(0.0);
        match coding.trim() {
            name if name.eq_ignore_ascii_case("gzip") => gzip = Some(weight),
            name if name.eq_ignore_ascii_case("identity") => identity = Some(weight),
            "*" => any = Some(weight),
            _ => {}
        }
    }
    let gzip = gzip.or(any).unwrap_or(0.0);
    gzip > 0.0 && gzip >= identity.unwrap_or(0.0)
}

/// The weight of a coding: `q=` and a number from 0 to 1 with up to three decimals.
fn weight(parameter: &str) -> Option<f32> {
    let number = parameter.trim().strip_prefix(['q', 'Q'])?;
    let number = number.trim().strip_prefix('=')?.trim();
    let is_plain = number.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let weight: f32 = number.parse().ok()?;
    (is_plain && number.len() <= "0.000".len() && weight <= 1.0).then_some(weight)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accept_encoding_is_read_with_its_weights() {
        for yes in [
            "gzip",
            "GZIP",
            "br,gzip",
            "gzip ; q=0.001",
            "*",
            "gzip, *;q=0",
            "identity;q=0.5, *;q=0.5",
        ] {
            assert!(accepts_gzip(yes), "{yes}");
        }
        for no in [
            "",
            "br",
            "gzip;q=0",
            "gzip; Q=0.000",
            "*;q=0",
            "*, gzip;q=0",
            "gzipped",
            "identity",
            "identity, *;q=0.5",
            "gzip;q=0.1, identity;q=1",
            "gzip;q=abc",
            "gzip;q=",
            "gzip;q=-1",
            "gzip;q=NaN",
            "gzip;q=1e9",
            "gzip;q=1.5",
            "gzip;foo=1;q=0",
        ] {
            assert!(!accepts_gzip(no), "{no}");
        }
    }
}
