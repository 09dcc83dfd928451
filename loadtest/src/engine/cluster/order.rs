//! The order of messages as the streams of one process have seen it: which message each event id names.
//!
//! All nodes have to show the same message, in the same bytes, under the same event id. The first stream that
//! reads an event parses it and remembers its bytes. All others compare their next bytes with those of the
//! event that followed on an earlier stream, which costs a third of parsing. Owned by `reader`; knows no
//! sockets.

use std::collections::HashMap;
use std::ops::Range;

use memchr::memmem;

use crate::engine::event::last_event_id;
use crate::engine::payload::Stamp;

/// Bytes of recent events: more than any node's delay, and few compared with a level 3 cache.
const RECENT_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Stands for no event.
pub const NONE: u32 = u32::MAX;

/// An event id: the place of a message in the order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    /// The epoch.
    pub epoch: u64,
    /// The number in the order; goes on across epochs.
    pub seq: u64,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}-{}", self.epoch, self.seq)
    }
}

impl Place {
    /// Parses `<epoch hex16>-<seq>`.
    pub fn parse(text: &[u8]) -> Option<Place> {
        let (epoch, seq) = std::str::from_utf8(text).ok()?.split_once('-')?;
        Some(Place {
            epoch: (epoch.len() == 16).then(|| u64::from_str_radix(epoch, 16).ok())??,
            seq: seq.parse().ok()?,
        })
    }
}

/// A message at its place.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The event id.
    pub place: Place,
    /// The number of the message in the run.
    pub number: u32,
    /// Its due time.
    pub sent_ns: u64,
    /// Its message id.
    pub id: u128,
    /// The event that follows, with the next seq of the same epoch; [`NONE`] if it is not known.
    next: u32,
    /// The place of the same message that was seen before this one; [`NONE`] if there is none.
    older: u32,
    /// The message has several places.
    has_twin: bool,
    /// Its bytes on the wire in `recent`, if it is still there.
    bytes: Range<u64>,
}

/// See the module.
#[derive(Default)]
pub struct Order {
    entries: Vec<Entry>,
    places: HashMap<Place, u32>,
    /// The newest place of each message.
    numbers: HashMap<u32, u32>,
    recent: Vec<u8>,
    /// The position of the first byte of `recent`.
    recent_at: u64,
    /// Events that differ from an earlier one with the same event id.
    pub differing: u64,
}

/// An event that is not one of a hookcast cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotAnEvent;

impl Order {
    /// The event at the beginning of `bytes`, if it is the one that follows `last`, and its length. `None`: it
    /// has to be parsed.
    #[inline]
    pub fn recognise(&self, last: u32, bytes: &[u8]) -> Option<(u32, usize)> {
        let next = self.entries.get(last as usize)?.next;
        let entry = self.entries.get(next as usize)?;
        let known = self.bytes_of(entry)?;
        (bytes.get(..known.len()) == Some(known)).then_some((next, known.len()))
    }

    fn bytes_of(&self, entry: &Entry) -> Option<&[u8]> {
        let start = entry.bytes.start.checked_sub(self.recent_at)? as usize;
        let length = (entry.bytes.end - entry.bytes.start) as usize;
        (length > 0).then(|| self.recent.get(start..start + length))?
    }

    /// Parses the event of a message. `unit` are its bytes on the wire, if they are known.
    pub fn meet(
        &mut self,
        stamp: Stamp,
        frame: &[u8],
        unit: Option<&[u8]>,
    ) -> Result<u32, NotAnEvent> {
        let (place, id) = parse(frame).ok_or(NotAnEvent)?;
        if let Some(&at) = self.places.get(&place) {
            let known = &self.entries[at as usize];
            let bytes = self.bytes_of(known);
            let has_bytes = bytes.is_some();
            let is_same = known.number == stamp.number
                && known.id == id
                && (!has_bytes || unit.is_none() || bytes == unit);
            self.differing += u64::from(!is_same);
            if let (true, false, Some(unit)) = (is_same, has_bytes, unit) {
                let bytes = self.remember(unit);
                self.entries[at as usize].bytes = bytes;
            }
            return Ok(at);
        }
        let at = self.entries.len() as u32;
        let older = self.numbers.insert(stamp.number, at).unwrap_or(NONE);
        if let Some(twin) = self.entries.get_mut(older as usize) {
            twin.has_twin = true;
        }
        let bytes = self.remember(unit.unwrap_or_default());
        self.entries.push(Entry {
            place,
            number: stamp.number,
            sent_ns: stamp.sent_ns,
            id,
            next: NONE,
            older,
            has_twin: older != NONE,
            bytes,
        });
        self.places.insert(place, at);
        Ok(at)
    }

    fn remember(&mut self, unit: &[u8]) -> Range<u64> {
        if self.recent.len() + unit.len() > RECENT_BYTES_MAX {
            let half = self.recent.len() / 2;
            self.recent.drain(..half);
            self.recent_at += half as u64;
        }
        let start = self.recent_at + self.recent.len() as u64;
        self.recent.extend_from_slice(unit);
        start..start + unit.len() as u64
    }

    /// Notes that `next` follows `last` on a connection, without a hole and in the same epoch.
    pub fn link(&mut self, last: u32, next: u32) {
        if let Some(entry) = self.entries.get_mut(last as usize) {
            entry.next = next;
        }
    }

    /// The event at a position.
    #[inline]
    pub fn get(&self, at: u32) -> &Entry {
        &self.entries[at as usize]
    }

    /// All events, as they were first seen.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Whether the message of an event has other places.
    pub fn has_twin(&self, at: u32) -> bool {
        self.get(at).has_twin
    }

    /// All places of a message, the newest first.
    pub fn places_of(&self, number: u32) -> impl Iterator<Item = Place> {
        let mut at = self.numbers.get(&number).copied().unwrap_or(NONE);
        std::iter::from_fn(move || {
            let entry = self.entries.get(at as usize)?;
            at = entry.older;
            Some(entry.place)
        })
    }
}

/// The event id and the message id of an event.
fn parse(frame: &[u8]) -> Option<(Place, u128)> {
    let place = Place::parse(last_event_id(frame)?)?;
    let at = memmem::find(frame, br#""id":""#)? + br#""id":""#.len();
    Some((place, uuid(frame.get(at..)?)?))
}

/// The UUID at the beginning of `bytes`.
pub fn uuid(bytes: &[u8]) -> Option<u128> {
    let text = std::str::from_utf8(bytes.get(..36)?).ok()?;
    u128::from_str_radix(&text.replace('-', ""), 16).ok()
}

/// An event as a node sends it; for tests.
#[cfg(test)]
pub fn frame(place: Place, number: u32, id: u128) -> Vec<u8> {
    let hex = format!("{id:032x}");
    let id = [
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..],
    ]
    .join("-");
    format!("data: {{\"id\":\"{id}\",\"content\":\"{number}\"}}\nid: {place}\n\n").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(number: u32) -> Stamp {
        Stamp { number, sent_ns: 1 }
    }

    fn place(seq: u64) -> Place {
        Place { epoch: 7, seq }
    }

    fn meet(order: &mut Order, seq: u64, number: u32, id: u128) -> u32 {
        let frame = frame(place(seq), number, id);
        order.meet(stamp(number), &frame, Some(&frame)).unwrap()
    }

    #[test]
    fn ids_are_parsed_and_others_refused() {
        let place = Place {
            epoch: 0xab,
            seq: 12,
        };
        assert_eq!(Place::parse(place.to_string().as_bytes()), Some(place));
        for text in ["", "ab-1", "00000000000000ab", "00000000000000ab-x"] {
            assert_eq!(Place::parse(text.as_bytes()), None, "{text}");
        }
        assert_eq!(
            uuid(b"0190163d-8694-739b-aea5-966c26f8ad91"),
            Some(0x0190_163d_8694_739b_aea5_966c_26f8_ad91)
        );
    }

    #[test]
    fn an_event_that_follows_is_recognised_by_its_bytes() {
        let mut order = Order::default();
        let first = meet(&mut order, 1, 10, 100);
        let second = meet(&mut order, 2, 11, 101);
        let bytes = [frame(place(2), 11, 101), b"more".to_vec()].concat();
        assert_eq!(order.recognise(first, &bytes), None);
        order.link(first, second);
        assert_eq!(
            order.recognise(first, &bytes),
            Some((second, bytes.len() - 4))
        );
        assert_eq!(order.recognise(first, &bytes[..20]), None);
        assert_eq!(order.recognise(first, &frame(place(2), 11, 102)), None);
        assert_eq!(order.differing, 0);
    }

    #[test]
    fn another_message_under_the_same_event_id_is_noticed() {
        let mut order = Order::default();
        meet(&mut order, 1, 10, 100);
        assert_eq!(meet(&mut order, 1, 10, 100), 0);
        assert_eq!(order.differing, 0);
        meet(&mut order, 1, 11, 101);
        assert_eq!(order.differing, 1);
        let mut other = frame(place(1), 10, 100);
        let content = other.len() - 40;
        other[content] ^= 1;
        let _ = order.meet(stamp(10), &other, Some(&other));
        assert_eq!(order.differing, 2);
    }

    #[test]
    fn a_message_with_two_places_is_marked_at_both() {
        let mut order = Order::default();
        let first = meet(&mut order, 1, 10, 100);
        let second = meet(&mut order, 2, 11, 101);
        let again = meet(&mut order, 3, 11, 101);
        order.link(first, second);
        order.link(second, again);
        assert!(order.has_twin(second) && order.has_twin(again) && !order.has_twin(first));
        assert_eq!(
            order.places_of(11).collect::<Vec<_>>(),
            [place(3), place(2)]
        );
    }

    #[test]
    fn the_bytes_are_bounded_and_old_events_still_known() {
        let mut order = Order::default();
        let long = vec![b'x'; 1_000_000];
        for seq in 0..20 {
            let frame = frame(place(seq), seq as u32, 1);
            order.meet(stamp(seq as u32), &frame, Some(&long)).unwrap();
            assert!(order.recent.len() <= RECENT_BYTES_MAX);
        }
        meet(&mut order, 0, 0, 1);
        assert_eq!(order.differing, 0);
        assert_eq!(order.entries().len(), 20);
    }
}
