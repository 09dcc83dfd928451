//! Where a reader begins: the parameters `since` and `replay`.
//!
//! Called by `route` with decoded parameters. The shards turn the result into a place in the history. Never
//! reads a clock: a relative time stays relative until a shard has the time of the request.

use std::time::UNIX_EPOCH;

use crate::limits::HISTORY_MESSAGES;
use crate::sse::event_id::EventId;

use super::error::ErrorAnswer;

/// A time that a request names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// Unix milliseconds.
    At(u64),
    /// Milliseconds before the request.
    Ago(u64),
}

impl Moment {
    /// The time in Unix milliseconds, for a request of this time.
    pub fn unix_ms(self, now_unix_ms: u64) -> u64 {
        match self {
            Moment::At(unix_ms) => unix_ms,
            Moment::Ago(ago_ms) => now_unix_ms.saturating_sub(ago_ms),
        }
    }
}

/// Where a stream begins that resumes after no event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Begin {
    /// Most messages of its replay; `None` if the request does not limit it.
    pub replay_max: Option<usize>,
    /// It begins with the first message of this time or later.
    pub since: Option<Moment>,
}

/// Where an answer with the history begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Since {
    /// After this event.
    Event(EventId),
    /// With the first message of this time or later.
    Time(Moment),
}

impl Begin {
    /// Reads the parameters of a stream. An empty `since` counts as none.
    pub(super) fn parse(replay: Option<&str>, since: Option<&str>) -> Result<Begin, ErrorAnswer> {
        let replay_max = match replay {
            None => None,
            Some(text) => Some(replay_max(text).ok_or(ErrorAnswer::ReplayOutOfRange)?),
        };
        let since = match since.filter(|text| !text.is_empty()) {
            None => None,
            Some(text) => match Since::parse(text) {
                Some(Since::Time(moment)) => Some(moment),
                Some(Since::Event(_)) => return Err(ErrorAnswer::SinceOfEvent),
                None => return Err(ErrorAnswer::SinceOfStreamMalformed),
            },
        };
        Ok(Begin { replay_max, since })
    }
}

impl Since {
    /// An event id, or a time: RFC 3339, Unix milliseconds, or a whole number with `s`, `m`, `h` or `d`.
    pub(super) fn parse(text: &str) -> Option<Since> {
        if let Some(id) = EventId::parse(text.as_bytes()) {
            return Some(Since::Event(id));
        }
        let moment = unix_ms(text)
            .or_else(|| ago(text))
            .or_else(|| rfc3339(text));
        moment.map(Since::Time)
    }
}

fn replay_max(text: &str) -> Option<usize> {
    let is_whole = (1..=3).contains(&text.len()) && is_digits(text);
    let count = text.parse().ok().filter(|_| is_whole)?;
    (count <= HISTORY_MESSAGES).then_some(count)
}

/// Unix milliseconds. A smaller number is a time in seconds by mistake; zero is the beginning in both.
fn unix_ms(text: &str) -> Option<Moment> {
    let unix_ms = is_digits(text).then(|| saturating(text))?;
    (unix_ms == 0 || unix_ms >= SINCE_UNIX_MS_MIN).then_some(Moment::At(unix_ms))
}

/// A duration before the request. One that is too long for 64 bits goes back to the beginning.
fn ago(text: &str) -> Option<Moment> {
    let unit_ms = match text.as_bytes().last()? {
        b's' => 1_000,
        b'm' => 60_000,
        b'h' => 3_600_000,
        b'd' => 86_400_000,
        _ => return None,
    };
    let number = &text[..text.len() - 1];
    is_digits(number).then(|| Moment::Ago(saturating(number).saturating_mul(unit_ms)))
}

/// The number, or the largest one if it is larger.
fn saturating(digits: &str) -> u64 {
    digits.parse().unwrap_or(u64::MAX)
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

/// The smallest time in Unix milliseconds: in the year 2001. As seconds, it is in the year 33658.
const SINCE_UNIX_MS_MIN: u64 = 1_000_000_000_000;

/// Bytes of `2026-11-29T03:45:00`.
const SECONDS_END: usize = 19;

/// The calendar repeats after 400 years (RFC 3339 appendix C).
const CALENDAR_YEARS: i64 = 400;
const CALENDAR_MS: i64 = 146_097 * 86_400_000;

/// A time of RFC 3339. `humantime` knows only UTC and the years from 1970 on. So the offset is split off, and
/// the year is moved into the years from 2000 on. Times before 1970 become 1970.
fn rfc3339(text: &str) -> Option<Moment> {
    let (local, rest) = text.split_at_checked(SECONDS_END)?;
    let fraction_bytes = match rest.strip_prefix('.') {
        Some(digits) => 1 + digits.bytes().take_while(u8::is_ascii_digit).count(),
        None => 0,
    };
    let (fraction, offset) = rest.split_at(fraction_bytes);
    if fraction == "." || !matches!(local.as_bytes()[10], b'T' | b't') {
        return None;
    }
    let offset_ms = offset_ms(offset)?;
    let year: i64 = local
        .get(..4)
        .filter(|year| is_digits(year))?
        .parse()
        .ok()?;
    let moved = 2000 + year % CALENDAR_YEARS;
    let (date, time) = (&local[4..10], &local[11..]);
    let utc = humantime::parse_rfc3339(&format!("{moved}{date}T{time}{fraction}Z")).ok()?;
    let moved_ms = utc.duration_since(UNIX_EPOCH).ok()?.as_millis() as i64;
    let unix_ms = moved_ms + (year - moved) / CALENDAR_YEARS * CALENDAR_MS - offset_ms;
    Some(Moment::At(u64::try_from(unix_ms).unwrap_or(0)))
}

/// `Z`, or hours and minutes east or west of Greenwich. A `+` that is not escaped in a query is a blank.
fn offset_ms(text: &str) -> Option<i64> {
    if matches!(text, "Z" | "z") {
        return Some(0);
    }
    let (sign, hours_minutes) = match text.as_bytes().first()? {
        b'+' | b' ' => (1, &text[1..]),
        b'-' => (-1, &text[1..]),
        _ => return None,
    };
    let (hours, minutes) = hours_minutes.split_once(':')?;
    let number = |digits: &str, end: i64| {
        let is_two = digits.len() == 2 && is_digits(digits);
        let number: i64 = digits.parse().ok().filter(|_| is_two)?;
        (number < end).then_some(number)
    };
    Some(sign * (number(hours, 24)? * 60 + number(minutes, 60)?) * 60_000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Epoch;

    fn at(unix_ms: u64) -> Since {
        Since::Time(Moment::At(unix_ms))
    }

    #[test]
    fn a_time_has_three_forms() {
        for (text, unix_ms) in [
            ("0", 0),
            ("1000000000000", 1_000_000_000_000),
            ("1795923900123", 1_795_923_900_123),
            ("99999999999999999999999999", u64::MAX),
            ("2026-11-29T03:45:00Z", 1_795_923_900_000),
            ("2026-11-29t03:45:00z", 1_795_923_900_000),
            ("2026-11-29T05:45:00+02:00", 1_795_923_900_000),
            ("2026-11-29T05:45:00 02:00", 1_795_923_900_000),
            ("2026-11-28T22:15:00-05:30", 1_795_923_900_000),
            ("2026-11-29T03:45:00.1Z", 1_795_923_900_100),
            ("2026-11-29T03:45:00.123987654321+00:00", 1_795_923_900_123),
            ("2026-11-29T03:45:00-00:00", 1_795_923_900_000),
            ("2000-02-29T00:00:00Z", 951_782_400_000),
            ("1970-01-01T00:30:00+01:00", 0),
            ("1969-12-31T23:30:00-01:00", 1_800_000),
            ("0000-01-01T00:00:00Z", 0),
            ("1900-03-01T00:00:00Z", 0),
            ("2400-02-29T00:00:00Z", 13_574_563_200_000),
            ("9999-12-31T23:59:59Z", 253_402_300_799_000),
        ] {
            assert_eq!(Since::parse(text), Some(at(unix_ms)), "{text}");
        }
        for (text, ago_ms) in [
            ("0s", 0),
            ("90s", 90_000),
            ("10m", 600_000),
            ("36h", 129_600_000),
            ("7d", 604_800_000),
            ("99999999999999999999d", u64::MAX),
        ] {
            let ago = Some(Since::Time(Moment::Ago(ago_ms)));
            assert_eq!(Since::parse(text), ago, "{text}");
        }
        assert_eq!(Moment::Ago(u64::MAX).unix_ms(5), 0);
        assert_eq!(Moment::Ago(2).unix_ms(5), 3);
        assert_eq!(Moment::At(u64::MAX).unix_ms(5), u64::MAX);
    }

    /// Every day of 800 years, compared with a count of days.
    #[test]
    fn every_day_has_its_time() {
        let mut days = 0_u64;
        for year in 1970..2770 {
            let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
            let february = if is_leap { 29 } else { 28 };
            let months = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
            for (month, length) in (1..).zip(months) {
                for day in 1..=length {
                    let text = format!("{year}-{month:02}-{day:02}T00:00:00Z");
                    assert_eq!(Since::parse(&text), Some(at(days * 86_400_000)), "{text}");
                    days += 1;
                }
                let text = format!("{year}-{month:02}-{:02}T00:00:00Z", length + 1);
                assert_eq!(Since::parse(&text), None, "{text}");
            }
        }
    }

    #[test]
    fn an_event_id_is_one_only_in_its_form() {
        let id = EventId {
            epoch: Epoch(9),
            seq: 131,
        };
        assert_eq!(Since::parse("0000000000000009-131"), Some(Since::Event(id)));
        for text in ["0000000000000009-0131", "0000000000000009-", "9-131"] {
            assert_eq!(Since::parse(text), None, "{text}");
        }
    }

    #[test]
    fn any_other_text_is_no_beginning() {
        for text in [
            " ",
            "7",
            "1795923900",
            "999999999999",
            "-1",
            "+1",
            "1.5",
            "1e3",
            "0x10",
            "10 m",
            "m",
            "10M",
            "10w",
            "10ms",
            "1h30m",
            "-10m",
            "10\u{661}",
            "\u{661}m",
            "now",
            "2026-11-29",
            "2026-11-29T03:45:00",
            "2026-11-29T03:45Z",
            "2026-11-29 03:45:00Z",
            "2026-11-29T03:45:00.Z",
            "2026-11-29T03:45:00,5Z",
            "2026-11-29T03:45:00+2:00",
            "2026-11-29T03:45:00+0200",
            "2026-11-29T03:45:00+24:00",
            "2026-11-29T03:45:00+02:60",
            "2026-11-29T03:45:00+02",
            "2026-11-29T03:45:00ZZ",
            "2026-11-29T03:45:00 Z",
            "2026-13-01T00:00:00Z",
            "2026-02-29T00:00:00Z",
            "2026-11-31T00:00:00Z",
            "2026-00-01T00:00:00Z",
            "2026-11-00T00:00:00Z",
            "2026-11-29T24:00:00Z",
            "2026-11-29T03:60:00Z",
            "2026-11-29T03:45:61Z",
            "+026-11-29T03:45:00Z",
            "12026-11-29T03:45:00Z",
            "2026-11-29T03:45:0\u{e9}",
            "\u{1f600}\u{1f600}\u{1f600}\u{1f600}\u{1f600}",
            "2026/11/29T03:45:00Z",
            "Sun, 29 Nov 2026 03:45:00 GMT",
        ] {
            assert_eq!(Since::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_replay_is_a_number_up_to_a_hundred() {
        let of = |text| Begin::parse(Some(text), None).map(|begin| begin.replay_max);
        for (text, count) in [("0", 0), ("7", 7), ("007", 7), ("100", 100)] {
            assert_eq!(of(text), Ok(Some(count)), "{text}");
        }
        for text in ["", "-1", "+1", "101", "1.5", "0100", "all", "\u{661}"] {
            assert_eq!(of(text), Err(ErrorAnswer::ReplayOutOfRange), "{text:?}");
        }
    }

    #[test]
    fn a_stream_begins_at_times_only() {
        let of = |text| Begin::parse(None, Some(text)).map(|begin| begin.since);
        assert_eq!(of(""), Ok(None));
        assert_eq!(of("10m"), Ok(Some(Moment::Ago(600_000))));
        assert_eq!(of("0000000000000009-131"), Err(ErrorAnswer::SinceOfEvent));
        assert_eq!(of("a-1"), Err(ErrorAnswer::SinceOfStreamMalformed));
    }
}
