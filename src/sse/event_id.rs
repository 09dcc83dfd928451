//! Event ids: `<epoch>-<seq>`, the `id:` of every message event, which a client sends back in
//! `Last-Event-ID` (HTML standard, section 9.2 "Server-sent events").
//!
//! Written by `frame`, parsed by the shards to resume a stream. Never accepts another form: a client
//! with an invalid id gets the full replay.

use std::fmt;

use crate::message::Epoch;

/// The place of a message in the order of one ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct EventId {
    /// The epoch of the ring.
    pub epoch: Epoch,
    /// The message's seq in that ring.
    pub seq: u64,
}

impl EventId {
    /// Parses the form that `Display` writes: 16 lower-case hexadecimal digits, a hyphen, a decimal
    /// number without leading zeros. `None` for any other text.
    pub fn parse(text: &[u8]) -> Option<EventId> {
        let (epoch, rest) = text.split_at_checked(16)?;
        let seq = rest.strip_prefix(b"-")?;
        let is_epoch = epoch.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let is_seq =
            seq.iter().all(u8::is_ascii_digit) && (seq.len() == 1 || !seq.starts_with(b"0"));
        if !is_epoch || !is_seq {
            return None;
        }
        Some(EventId {
            epoch: Epoch(u64::from_str_radix(str::from_utf8(epoch).ok()?, 16).ok()?),
            seq: str::from_utf8(seq).ok()?.parse().ok()?,
        })
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.epoch, self.seq)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_written_id_is_parsed_back() {
        for (epoch, seq) in [(0, 0), (1, 9), (u64::MAX, u64::MAX), (0xdead_beef, 100)] {
            let id = EventId {
                epoch: Epoch(epoch),
                seq,
            };
            assert_eq!(EventId::parse(id.to_string().as_bytes()), Some(id));
        }
    }

    #[test]
    fn any_other_text_is_no_event_id() {
        let good = "00000000deadbeef-12";
        assert!(EventId::parse(good.as_bytes()).is_some());
        for bad in [
            "",
            "-",
            "12",
            "00000000deadbeef",
            "00000000deadbeef-",
            "00000000deadbeef-012",
            "00000000deadbeef-+12",
            "00000000deadbeef-1 ",
            "00000000DEADBEEF-12",
            "+0000000deadbeef-12",
            "0000000deadbeef-12",
            "00000000deadbeef-18446744073709551616",
            "00000000deadbee\u{e9}-12",
        ] {
            assert_eq!(EventId::parse(bad.as_bytes()), None, "{bad:?}");
        }
    }
}
