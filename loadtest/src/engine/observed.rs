//! Messages that others publish: their time, and their place among all messages.
//!
//! Used by `event` in place of `payload` when the publisher is not this tool's. A message's number is its place
//! in the order in which the streams of this process first read it, or what the publisher counts. So the same
//! checks serve: each stream is compared with all others. Reads JSON, takes no time.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::engine::event::last_event_id;
use crate::engine::payload::Stamp;

/// Messages whose place is known, the newest ones: 24 MiB. An older one that comes again is a new one.
const KNOWN_MAX: usize = 1 << 20;

/// Numbers before the first one seen that a later replay may have.
const NUMBERS_BEFORE: u64 = 1 << 20;

/// Where an event of another publisher has its fields: JSON pointers (RFC 6901) into its data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fields {
    /// The time: unix seconds, milliseconds, microseconds or nanoseconds by its size, or RFC 3339.
    pub time: String,
    /// What is equal for the same message only; `None`: the event's id, or else all of its data.
    pub id: Option<String>,
    /// A number that counts up by one.
    pub number: Option<String>,
    /// The unix time at the start of the run's clock.
    pub clock_offset_ns: u64,
}

/// The messages read so far.
pub struct Observer {
    fields: Fields,
    places: HashMap<u64, u32>,
    order: VecDeque<u64>,
    /// The publisher's number that has place 0.
    base: Option<u64>,
    /// The lowest place of a numbered message.
    lowest: Option<u32>,
    next: u32,
    /// Events without a time where it should be.
    pub untimed: u64,
}

impl Observer {
    /// No message yet.
    pub fn new(fields: Fields) -> Observer {
        Observer {
            fields,
            places: HashMap::new(),
            order: VecDeque::new(),
            base: None,
            lowest: None,
            next: 0,
            untimed: 0,
        }
    }

    /// The place of the next message.
    pub fn next(&self) -> u32 {
        self.next
    }

    /// How many messages there were, as far as is known: numbers in between count.
    pub fn count(&self) -> u32 {
        self.next - self.lowest.unwrap_or(0)
    }

    /// The message of an event; `None` if it has no time, or not the number that it should have.
    pub fn observe(&mut self, frame: &[u8]) -> Option<Stamp> {
        let data = data(frame)?;
        let json: Option<Value> = serde_json::from_slice(&data).ok();
        let at = |pointer: &String| json.as_ref()?.pointer(pointer);
        let time_ns = at(&self.fields.time).and_then(time_ns);
        let place = match &self.fields.number {
            Some(pointer) => at(pointer).and_then(Value::as_u64),
            None => {
                let id = self.fields.id.as_ref();
                let id = id.map(|pointer| at(pointer).map(Value::to_string));
                let hash = BuildHasherDefault::<DefaultHasher>::default();
                match (id, last_event_id(frame)) {
                    (Some(id), _) => id.map(|id| hash.hash_one(id)),
                    (None, Some(id)) => Some(hash.hash_one(id)),
                    (None, None) => Some(hash.hash_one(&data)),
                }
            }
        };
        let (Some(time_ns), Some(place)) = (time_ns, place) else {
            self.untimed += 1;
            return None;
        };
        let number = if self.fields.number.is_some() {
            self.counted(place)
        } else {
            Some(self.placed(place))
        };
        Some(Stamp {
            number: number?,
            sent_ns: time_ns.saturating_sub(self.fields.clock_offset_ns),
        })
    }

    /// The place of a message by the publisher's number.
    fn counted(&mut self, number: u64) -> Option<u32> {
        let base = *self
            .base
            .get_or_insert(number.saturating_sub(NUMBERS_BEFORE));
        let place = number
            .checked_sub(base)
            .filter(|&place| place < u64::from(u32::MAX / 2));
        let Some(place) = place else {
            self.untimed += 1;
            return None;
        };
        let place = place as u32;
        self.lowest = Some(self.lowest.map_or(place, |lowest| lowest.min(place)));
        self.next = self.next.max(place + 1);
        Some(place)
    }

    /// The place of a message by its identity.
    fn placed(&mut self, id: u64) -> u32 {
        if let Some(&place) = self.places.get(&id) {
            return place;
        }
        if self.order.len() == KNOWN_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.places.remove(&oldest);
        }
        self.order.push_back(id);
        self.places.insert(id, self.next);
        self.next += 1;
        self.next - 1
    }
}

/// The data of an event (HTML standard, section 9.2.6); `None` without any.
fn data(frame: &[u8]) -> Option<Vec<u8>> {
    let mut data = None::<Vec<u8>>;
    for line in frame.split(|&byte| byte == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let Some(value) = line.strip_prefix(b"data:") else {
            continue;
        };
        match &mut data {
            None => data = Some(Vec::new()),
            Some(data) => data.push(b'\n'),
        }
        let value = value.strip_prefix(b" ").unwrap_or(value);
        data.as_mut()?.extend_from_slice(value);
    }
    data
}

/// A time as nanoseconds since 1970.
fn time_ns(value: &Value) -> Option<u64> {
    match value {
        Value::Number(number) => unix_ns(number.as_f64()?, number.as_u64()),
        Value::String(text) => match text.parse::<u64>() {
            Ok(number) => unix_ns(number as f64, Some(number)),
            Err(_) => rfc_3339_ns(text),
        },
        _ => None,
    }
}

/// Seconds, milliseconds, microseconds or nanoseconds: for the years 1973 to 5138 they differ in size.
fn unix_ns(number: f64, whole: Option<u64>) -> Option<u64> {
    let unit_ns = match number {
        n if n < 1e8 => return None,
        n if n < 1e11 => 1_000_000_000,
        n if n < 1e14 => 1_000_000,
        n if n < 1e17 => 1_000,
        n if n < 1.8e19 => 1,
        _ => return None,
    };
    match whole {
        Some(whole) => whole.checked_mul(unit_ns),
        None => Some((number * unit_ns as f64) as u64),
    }
}

/// `2026-11-29T08:00:00.123Z`, or with an offset such as `+02:00`.
fn rfc_3339_ns(text: &str) -> Option<u64> {
    let at = text.len().checked_sub(6)?;
    let (local, offset) = match text.as_bytes()[at] {
        sign @ (b'+' | b'-') => {
            let (hours, minutes) = text.get(at + 1..)?.split_once(':')?;
            let minutes = hours.parse::<u64>().ok()? * 60 + minutes.parse::<u64>().ok()?;
            (format!("{}Z", text.get(..at)?), Some((sign, minutes)))
        }
        _ => (text.to_owned(), None),
    };
    let time: SystemTime = humantime::parse_rfc3339(&local.to_ascii_uppercase()).ok()?;
    let ns = u64::try_from(time.duration_since(UNIX_EPOCH).ok()?.as_nanos()).ok()?;
    match offset {
        None => Some(ns),
        Some((b'+', minutes)) => ns.checked_sub(minutes * 60_000_000_000),
        Some((_, minutes)) => ns.checked_add(minutes * 60_000_000_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn observer(id: Option<&str>, number: Option<&str>) -> Observer {
        Observer::new(Fields {
            time: "/pub/at".into(),
            id: id.map(str::to_owned),
            number: number.map(str::to_owned),
            clock_offset_ns: 1_000_000_000_000_000_000,
        })
    }

    fn event(fields: &str, data: &Value) -> Vec<u8> {
        format!("{fields}data: {data}\r\n\r\n").into_bytes()
    }

    fn number(observer: &mut Observer, fields: &str, data: &Value) -> Option<u32> {
        observer
            .observe(&event(fields, data))
            .map(|stamp| stamp.number)
    }

    #[test]
    fn times_are_read_in_every_usual_form() {
        let at = 1_700_000_000_u64;
        for value in [
            json!(at),
            json!(at * 1_000),
            json!(at * 1_000_000),
            json!(at * 1_000_000_000),
            json!("1700000000000"),
            json!(1_700_000_000.0),
            json!("2023-11-14T22:13:20Z"),
            json!("2023-11-14T22:13:20.000z"),
            json!("2023-11-15T00:13:20+02:00"),
            json!("2023-11-14T17:13:20.000-05:00"),
        ] {
            assert_eq!(time_ns(&value), Some(at * 1_000_000_000), "{value}");
        }
        for value in [
            json!(7),
            json!("soon"),
            json!(null),
            json!(-5),
            json!("é+02:00"),
            json!(1e30),
        ] {
            assert_eq!(time_ns(&value), None, "{value}");
        }
    }

    #[test]
    fn a_message_has_one_place_however_it_is_identified() {
        let data = |id: u32| json!({"pub": {"at": 1_700_000_000_123_u64, "id": id}});
        for (id, fields) in [
            (Some("/pub/id"), ["", "id: 9\n"]),
            (None, ["id: 1\n", "id: 2\n"]),
        ] {
            let mut observer = observer(id, None);
            assert_eq!(number(&mut observer, fields[0], &data(1)), Some(0));
            assert_eq!(number(&mut observer, fields[1], &data(2)), Some(1));
            assert_eq!(number(&mut observer, fields[0], &data(1)), Some(0));
        }
        // Without any id, all of the data.
        let mut observer = observer(None, None);
        assert_eq!(number(&mut observer, "", &data(1)), Some(0));
        assert_eq!(number(&mut observer, "", &data(2)), Some(1));
        assert_eq!(number(&mut observer, "", &data(2)), Some(1));
        let stamp = observer.observe(&event("", &data(2))).unwrap();
        assert_eq!(stamp.sent_ns, 700_000_000_123_000_000);
    }

    #[test]
    fn a_publishers_number_is_a_place() {
        let data = |number: u64| json!({"pub": {"at": 1_700_000_000, "n": number}});
        let mut observer = observer(None, Some("/pub/n"));
        let first = number(&mut observer, "", &data(5_000_000)).unwrap();
        assert_eq!(number(&mut observer, "", &data(5_000_003)), Some(first + 3));
        assert_eq!(number(&mut observer, "", &data(4_999_999)), Some(first - 1));
        assert_eq!(observer.next(), first + 4);
        assert_eq!(observer.count(), 5, "one came before the first");
        assert_eq!(number(&mut observer, "", &data(1)), None);
    }

    #[test]
    fn events_without_a_time_are_counted() {
        let mut observer = observer(None, None);
        for data in [
            json!({"pub": {}}),
            json!("text"),
            json!({"pub": {"at": "x"}}),
        ] {
            assert_eq!(number(&mut observer, "", &data), None);
        }
        assert_eq!(observer.observe(b"data: not json\n\n"), None);
        assert_eq!(observer.observe(b"retry: 5\n\n"), None);
        assert_eq!(observer.untimed, 4);
        assert_eq!(data(b"data: a\ndata:b\n\n").unwrap(), b"a\nb");
    }
}
