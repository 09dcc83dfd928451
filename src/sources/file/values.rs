//! Sizes and durations, as an operator writes them.
//!
//! Used when a table is read. Never rounds: what is no whole number of units is a fault.

/// Bytes from `1MiB`, `512KiB`, `65536`.
pub fn bytes(text: &str) -> Option<u64> {
    let text = text.trim();
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let scale = match unit.trim_start().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kib" | "k" => 1024,
        "mib" | "m" => 1024 * 1024,
        "kb" => 1000,
        "mb" => 1_000_000,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(scale)
}

/// Seconds from `72h`, `10m`, `1h 30m`, `0s`.
pub fn seconds(text: &str) -> Option<u64> {
    let duration = humantime::parse_duration(text.trim()).ok()?;
    (duration.subsec_nanos() == 0).then_some(duration.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        let cases = [
            ("1MiB", Some(1_048_576)),
            ("512 kib", Some(524_288)),
            ("64KB", Some(64_000)),
            ("65536", Some(65_536)),
            ("10 B", Some(10)),
            ("", None),
            ("MiB", None),
            ("1.5MiB", None),
            ("-1", None),
            ("1TiB", None),
            ("99999999999999999999", None),
            ("18446744073709551615MiB", None),
        ];
        for (text, expected) in cases {
            assert_eq!(bytes(text), expected, "{text}");
        }
    }

    #[test]
    fn durations_are_whole_seconds() {
        let cases = [
            ("72h", Some(259_200)),
            ("1h 30m", Some(5_400)),
            ("0s", Some(0)),
            ("500ms", None),
            ("1500ms", None),
            ("72", None),
            ("", None),
            ("forever", None),
        ];
        for (text, expected) in cases {
            assert_eq!(seconds(text), expected, "{text}");
        }
    }
}
