//! The PROXY protocol, versions 1 and 2: a header in which a proxy names its client, before the
//! client's bytes (`proxy-protocol.txt` of `HAProxy`, sections 2.1 and 2.2).
//!
//! Used by the sockets of listeners that expect the header. Bytes in, an address out: there is no
//! socket, no clock and no state. A header that deviates from the specification is refused, as the
//! specification demands. A lenient receiver would let a client forge its address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::limits::PROXY_HEADER_BYTES_MAX;

/// The first 12 bytes of version 2. No HTTP request and no TLS handshake begins with them.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// Longest header of version 1, its CRLF included (section 2.1).
const V1_BYTES_MAX: usize = 107;

/// Bytes of version 2 before the addresses.
const V2_FIXED_BYTES: usize = 16;

/// A complete header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Its length. The client's bytes follow.
    pub bytes: usize,
    /// The client. None if the connection is the proxy's own (`LOCAL`, a health check), or the
    /// header has no IP address (`UNKNOWN`, unspecified, a Unix socket). The connection's own
    /// address counts then.
    pub client: Option<IpAddr>,
}

/// The bytes are not a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

/// Parses the header at the start of `bytes`; `None` while it is incomplete. Never needs more than
/// [`PROXY_HEADER_BYTES_MAX`] bytes to decide.
pub fn parse(bytes: &[u8]) -> Result<Option<Header>, Malformed> {
    if starts_alike(bytes, SIGNATURE) {
        parse_v2(bytes)
    } else if starts_alike(bytes, b"PROXY ") {
        parse_v1(bytes)
    } else {
        Err(Malformed)
    }
}

/// Whether one is a prefix of the other.
fn starts_alike(bytes: &[u8], expected: &[u8]) -> bool {
    bytes.iter().zip(expected).all(|(a, b)| a == b)
}

fn parse_v1(bytes: &[u8]) -> Result<Option<Header>, Malformed> {
    let window = &bytes[..bytes.len().min(V1_BYTES_MAX)];
    let Some(line_bytes) = memchr::memchr(b'\n', window) else {
        return if window.len() == V1_BYTES_MAX {
            Err(Malformed)
        } else {
            Ok(None)
        };
    };
    let line = window[..line_bytes].strip_suffix(b"\r").ok_or(Malformed)?;
    let line = str::from_utf8(line).map_err(|_| Malformed)?;
    let header = |client| {
        Ok(Some(Header {
            bytes: line_bytes + 1,
            client,
        }))
    };
    let mut words = line.split(' ').skip(1);
    let family = words.next().ok_or(Malformed)?;
    if family == "UNKNOWN" {
        // The rest of the line is ignored (section 2.1).
        return header(None);
    }
    let mut word = || words.next().ok_or(Malformed);
    let (source, destination, ports) = (word()?, word()?, [word()?, word()?]);
    let has_ports = ports.iter().all(|port| is_port(port));
    let client = match family {
        "TCP4" => both::<Ipv4Addr>(source, destination).map(IpAddr::V4),
        "TCP6" => both::<Ipv6Addr>(source, destination).map(IpAddr::V6),
        _ => None,
    };
    match client {
        Some(client) if has_ports && words.next().is_none() => header(Some(client)),
        _ => Err(Malformed),
    }
}

/// The first of two addresses, if both are valid in the family.
fn both<A: std::str::FromStr>(source: &str, destination: &str) -> Option<A> {
    destination.parse::<A>().ok()?;
    source.parse().ok()
}

/// A decimal number without leading zeros, up to 65535.
fn is_port(text: &str) -> bool {
    text.parse::<u16>()
        .is_ok_and(|port| port.to_string() == text)
}

fn parse_v2(bytes: &[u8]) -> Result<Option<Header>, Malformed> {
    let Some((fixed, rest)) = bytes.split_first_chunk::<V2_FIXED_BYTES>() else {
        return Ok(None);
    };
    let [.., version_and_command, family, high, low] = *fixed;
    let length = usize::from(u16::from_be_bytes([high, low]));
    if version_and_command >> 4 != 2 || V2_FIXED_BYTES + length > PROXY_HEADER_BYTES_MAX {
        return Err(Malformed);
    }
    let is_local = match version_and_command & 0xF {
        0 => true,
        1 => false,
        _ => return Err(Malformed),
    };
    let Some(addresses) = rest.get(..length) else {
        return Ok(None);
    };
    // The length includes fields (TLV) after the addresses. They are skipped.
    let client = match family {
        _ if is_local => None,
        // TCP or UDP over IPv4 or IPv6: two addresses and two ports.
        0x11 | 0x12 if length >= 12 => first::<4>(addresses).map(IpAddr::from),
        0x21 | 0x22 if length >= 36 => first::<16>(addresses).map(IpAddr::from),
        // Unspecified.
        0x00 => None,
        // Unix sockets: two paths.
        0x31 | 0x32 if length >= 216 => None,
        _ => return Err(Malformed),
    };
    Ok(Some(Header {
        bytes: V2_FIXED_BYTES + length,
        client,
    }))
}

fn first<const N: usize>(bytes: &[u8]) -> Option<[u8; N]> {
    bytes.first_chunk().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v2(version_and_command: u8, family: u8, addresses: &[u8]) -> Vec<u8> {
        let length = u16::try_from(addresses.len()).unwrap().to_be_bytes();
        [
            &SIGNATURE[..],
            &[version_and_command, family],
            &length,
            addresses,
        ]
        .concat()
    }

    const V4: [u8; 12] = [192, 0, 2, 1, 198, 51, 100, 2, 0x30, 0x39, 0x0B, 0xB8];

    fn v6() -> Vec<u8> {
        let source: Ipv6Addr = "2001:db8::1".parse().unwrap();
        [&source.octets()[..], &[0; 16], &[1, 2, 3, 4]].concat()
    }

    fn valid_headers() -> Vec<(Vec<u8>, Option<&'static str>)> {
        // Fields of the types no-op, TLS and experimental; below, a field that is cut off.
        let with_fields = [
            &V4[..],
            &[0x04, 0, 2, 0, 0],
            &[0x20, 0, 1, 7],
            &[0xF7, 0, 0],
        ]
        .concat();
        let with_cut_field = [&V4[..], &[0xEA, 0xFF, 0xFF, 1]].concat();
        vec![
            (
                b"PROXY TCP4 192.0.2.1 198.51.100.2 12345 3000\r\n".to_vec(),
                Some("192.0.2.1"),
            ),
            (
                b"PROXY TCP4 192.0.2.1 198.51.100.2 0 65535\r\n".to_vec(),
                Some("192.0.2.1"),
            ),
            (
                b"PROXY TCP6 2001:db8::1 ::1 1 2\r\n".to_vec(),
                Some("2001:db8::1"),
            ),
            (b"PROXY UNKNOWN\r\n".to_vec(), None),
            (
                format!(
                    "PROXY UNKNOWN {0} {0} 65535 65535\r\n",
                    ["ffff"; 8].join(":")
                )
                .into_bytes(),
                None,
            ),
            (v2(0x21, 0x11, &V4), Some("192.0.2.1")),
            (v2(0x21, 0x12, &V4), Some("192.0.2.1")),
            (v2(0x21, 0x21, &v6()), Some("2001:db8::1")),
            (v2(0x21, 0x11, &with_fields), Some("192.0.2.1")),
            (v2(0x21, 0x11, &with_cut_field), Some("192.0.2.1")),
            (v2(0x20, 0x7F, b"junk"), None),
            (v2(0x20, 0x00, &[]), None),
            (v2(0x20, 0x11, &V4), None),
            (v2(0x20, 0x11, &[]), None),
            (v2(0x21, 0x00, &[]), None),
            (v2(0x21, 0x00, &[1, 2, 3]), None),
            (v2(0x21, 0x31, &[0; 216]), None),
            (
                v2(0x21, 0x21, &vec![9; PROXY_HEADER_BYTES_MAX - 16]),
                Some("909:909:909:909:909:909:909:909"),
            ),
        ]
    }

    #[test]
    fn a_valid_header_is_parsed_from_any_split_without_the_bytes_behind_it() {
        for (header, client) in valid_headers() {
            let expected = Header {
                bytes: header.len(),
                client: client.map(|address| address.parse().unwrap()),
            };
            for cut in 0..header.len() {
                assert_eq!(parse(&header[..cut]), Ok(None), "{cut} of {header:?}");
            }
            for rest in [&b""[..], b"G", b"GET / HTTP/1.1\r\n\r\n", &[0; 5000]] {
                let bytes = [&header, rest].concat();
                assert_eq!(parse(&bytes), Ok(Some(expected)), "{header:?}");
            }
        }
    }

    #[test]
    fn malformed_headers_are_refused() {
        let mut cases: Vec<Vec<u8>> = [
            "GET / HTTP/1.1\r\n",
            "proxy TCP4 192.0.2.1 198.51.100.2 1 2\r\n",
            "PROXY  TCP4 192.0.2.1 198.51.100.2 1 2\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.2 1 2\n",
            "PROXY TCP4 192.0.2.1 198.51.100.2 1 2 \r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.2 1\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.2 1 65536\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.2 01 2\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.2 +1 2\r\n",
            "PROXY TCP4 192.0.2.1 ::1 1 2\r\n",
            "PROXY TCP4 2001:db8::1 ::1 1 2\r\n",
            "PROXY TCP6 192.0.2.1 198.51.100.2 1 2\r\n",
            "PROXY TCP4 192.0.2.256 198.51.100.2 1 2\r\n",
            "PROXY UDP4 192.0.2.1 198.51.100.2 1 2\r\n",
            // Zones are valid on one machine only, brackets only in URLs.
            "PROXY TCP6 fe80::1%eth0 fe80::2 1 2\r\n",
            "PROXY TCP6 fe80::1 fe80::2%1 1 2\r\n",
            "PROXY TCP6 [2001:db8::1] [::1] 1 2\r\n",
            "PROXY TCP4 192.0.2.01 198.51.100.2 1 2\r\n",
            "PROXY UNKNOWNS\r\n",
            "PROXY \r\n",
            "\r\n\r\n\0\r\nQUIX\n",
            "\x16\x03\x01",
        ]
        .iter()
        .map(|text| text.as_bytes().to_vec())
        .collect();
        cases.push([&b"PROXY UNKNOWN "[..], &[b'x'; 100]].concat());
        cases.push(v2(0x11, 0x11, &V4));
        cases.push(v2(0x22, 0x11, &V4));
        cases.push(v2(0x21, 0x11, &V4[..11]));
        cases.push(v2(0x21, 0x21, &v6()[..35]));
        cases.push(v2(0x21, 0x31, &[0; 215]));
        cases.push(v2(0x21, 0x13, &V4));
        cases.push(v2(0x21, 0x41, &V4));
        cases.push(v2(0x21, 0x00, &vec![0; PROXY_HEADER_BYTES_MAX - 15]));
        for bytes in cases {
            assert_eq!(parse(&bytes), Err(Malformed), "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn proxy_header_bytes_max_is_enough_to_decide() {
        for start in [&b"PROXY "[..], &v2(0x21, 0x11, &[])[..14]] {
            for filler in [b' ', b'x', 0, 0xFF] {
                let mut bytes = start.to_vec();
                bytes.resize(PROXY_HEADER_BYTES_MAX, filler);
                assert_ne!(parse(&bytes), Ok(None), "{start:?} {filler}");
            }
        }
    }
}
