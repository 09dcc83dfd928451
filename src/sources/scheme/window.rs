//! The time of a request, and how far it may be from this server's.
//!
//! Both sides are bounded: a request from the future could be repeated until its time is over.

use super::super::Refusal;

/// Numbers from here on are milliseconds: as seconds they are in the year 5138, as milliseconds in
/// 1973.
const MILLISECONDS_FROM: u64 = 100_000_000_000;

/// Most digits of a time: enough for microseconds, and too few to overflow.
const DIGITS_MAX: usize = 16;

/// Checks a time in decimal digits. Returns how far it is ahead of `now_unix_ms`, in seconds.
pub(super) fn check(
    digits: &[u8],
    name: &str,
    now_unix_ms: u64,
    tolerance_s: u32,
) -> Result<i64, Refusal> {
    match parse(digits) {
        Some(time) => check_number(time, now_unix_ms, tolerance_s),
        None => Err(Refusal::TimeMalformed(name.to_owned())),
    }
}

/// Checks a time in seconds or milliseconds.
pub(super) fn check_number(time: u64, now_unix_ms: u64, tolerance_s: u32) -> Result<i64, Refusal> {
    let skew_ms = if time < MILLISECONDS_FROM {
        // Whole seconds on both sides, as the providers' own libraries compare them.
        (signed(time) - signed(now_unix_ms / 1000)).saturating_mul(1000)
    } else {
        signed(time).saturating_sub(signed(now_unix_ms))
    };
    if skew_ms.unsigned_abs() <= u64::from(tolerance_s) * 1000 {
        return Ok(skew_ms / 1000);
    }
    // Rounded up: the text would else name the tolerance itself.
    let beyond_s = signed(skew_ms.unsigned_abs().div_ceil(1000));
    Err(Refusal::TimeOutside {
        skew_s: skew_ms.signum() * beyond_s,
        tolerance_s,
    })
}

fn parse(digits: &[u8]) -> Option<u64> {
    let is_number =
        (1..=DIGITS_MAX).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit);
    let text = std::str::from_utf8(digits).ok()?;
    is_number.then(|| text.parse().ok())?
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: u64 = 1_700_000_000_000;

    fn outside(skew_s: i64) -> Result<i64, Refusal> {
        Err(Refusal::TimeOutside {
            skew_s,
            tolerance_s: 300,
        })
    }

    #[test]
    fn the_window_has_two_sides_and_includes_its_bounds() {
        let at = |text: &str, now_ms| check(text.as_bytes(), "time", now_ms, 300);
        for skew_s in [-300, -299, 0, 299, 300] {
            assert_eq!(
                at(&(1_700_000_000 + skew_s).to_string(), NOW_MS),
                Ok(skew_s)
            );
            let ms = (1_700_000_000 + skew_s) * 1000;
            assert_eq!(at(&ms.to_string(), NOW_MS), Ok(skew_s));
        }
        assert_eq!(at("1699999699", NOW_MS), outside(-301));
        assert_eq!(at("1700000301", NOW_MS), outside(301));
        assert_eq!(at("1700000300001", NOW_MS), outside(301));
        assert_eq!(at("1699999699999", NOW_MS), outside(-301));
        // The rest of this second is not counted against a sender that sends whole ones.
        assert_eq!(at("1699999700", NOW_MS + 999), Ok(-300));
        assert!(at("0", NOW_MS).is_err());
        assert!(at("0", 0).is_ok());
        assert!(at("9999999999999999", NOW_MS).is_err());
        assert!(check(b"9999999999999999", "time", u64::MAX, 300).is_err());
    }

    #[test]
    fn a_time_is_digits_only() {
        for text in [
            "",
            " 1700000000",
            "+1700000000",
            "-1",
            "1.7e9",
            "1700000000.0",
            "0x65",
            "１",
            "17000000000000000",
            "99999999999999999999999",
        ] {
            assert_eq!(
                check(text.as_bytes(), "time", NOW_MS, 300),
                Err(Refusal::TimeMalformed("time".to_owned())),
                "{text}"
            );
        }
    }
}
