//! Parsing and formatting of durations and sizes.
//!
//! Durations have Go's syntax, like the Collector's: `500ms`, `3s`, `1m30s`, `1.5h`. Sizes have a unit of bytes, in
//! powers of 1000 (`500MB`) or of 1024 (`64KiB`), or none (`1024`). Neither is rounded: formatted values parse as the
//! same value.

use std::time::Duration;

const NANOSECONDS: [(&str, u64); 7] = [
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("µs", 1_000),
    ("ns", 1),
];

const BYTES: [(&str, u64); 10] = [
    ("", 1),
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("kB", 1_000),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
];

/// Regular expression of durations, for the schema.
pub(super) const DURATION_PATTERN: &str = "^(([0-9]+\\.?[0-9]*|\\.[0-9]+)(h|ms|m|s|us|µs|ns))+$|^0$";

/// Regular expression of sizes, for the schema.
pub(super) const SIZE_PATTERN: &str = "^[0-9]+ *(B|KiB|MiB|GiB|TiB|kB|KB|MB|GB)?$";

/// Parses a duration. A bare `0` is one; any other number needs a unit.
pub(super) fn parse_duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut nanoseconds = 0u64;
    let mut rest = text;
    loop {
        let (number, after) = split_number(rest);
        let (unit, after) = after.split_at(after.find(is_of_number).unwrap_or(after.len()));
        nanoseconds = nanoseconds.checked_add(to_nanoseconds(number, unit)?)?;
        if after.is_empty() {
            return Some(Duration::from_nanos(nanoseconds));
        }
        rest = after;
    }
}

/// Parses a size in bytes.
pub(super) fn parse_size(text: &str) -> Option<u64> {
    let (number, unit) = split_number(text);
    let number: u64 = number.parse().ok()?;
    let unit = unit.trim_start();
    let (_, bytes) = BYTES.iter().find(|(name, _)| *name == unit)?;
    number.checked_mul(*bytes)
}

pub(crate) fn format_duration(duration: Duration) -> String {
    let mut rest = duration.as_nanos();
    let mut text = String::new();
    for (unit, nanoseconds) in NANOSECONDS.iter().filter(|(unit, _)| *unit != "µs") {
        let nanoseconds = u128::from(*nanoseconds);
        if rest >= nanoseconds {
            text.push_str(&format!("{}{unit}", rest / nanoseconds));
            rest %= nanoseconds;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

pub(super) fn format_size(bytes: u64) -> String {
    let binary = BYTES.iter().rev().filter(|(unit, _)| unit.ends_with("iB"));
    for (unit, size) in binary {
        if bytes > 0 && bytes.is_multiple_of(*size) {
            return format!("{}{unit}", bytes / size);
        }
    }
    bytes.to_string()
}

fn is_of_number(c: char) -> bool {
    c.is_ascii_digit() || c == '.'
}

fn split_number(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c| !is_of_number(c)).unwrap_or(text.len()))
}

fn to_nanoseconds(number: &str, unit: &str) -> Option<u64> {
    let (_, nanoseconds) = NANOSECONDS.iter().find(|(name, _)| *name == unit)?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let mut total = whole.checked_mul(*nanoseconds)?;
    if !fraction.is_empty() {
        let scale = 10u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
        let part = u128::from(fraction.parse::<u64>().ok()?) * u128::from(*nanoseconds) / scale;
        total = total.checked_add(u64::try_from(part).ok()?)?;
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn parses_durations() {
        let cases = [
            ("0s", 0),
            ("0", 0),
            ("500ms", 500_000_000),
            ("3s", 3_000_000_000),
            ("5m", 300_000_000_000),
            ("1h", 3_600_000_000_000),
            ("1m30s", 90_000_000_000),
            ("1.5s", 1_500_000_000),
            ("250us", 250_000),
            ("250µs", 250_000),
            ("7ns", 7),
        ];
        for (text, nanoseconds) in cases {
            assert_eq!(parse_duration(text), Some(Duration::from_nanos(nanoseconds)), "{text}");
        }
    }

    #[test]
    fn rejects_invalid_durations() {
        for text in
            ["", "10", "s", "-1s", "1d", "1 s", "1s ", "1.2.3s", ".s", "five", "1e3s", "99999999999h", "1S"]
        {
            assert_eq!(parse_duration(text), None, "{text}");
        }
    }

    #[test]
    fn parses_sizes() {
        let cases = [
            ("1024", 1024),
            ("64KiB", 65_536),
            ("100MiB", 104_857_600),
            ("100 MiB", 104_857_600),
            ("1GiB", 1_073_741_824),
            ("500MB", 500_000_000),
            ("2kB", 2_000),
            ("0", 0),
        ];
        for (text, bytes) in cases {
            assert_eq!(parse_size(text), Some(bytes), "{text}");
        }
    }

    #[test]
    fn rejects_invalid_sizes() {
        for text in ["", "MiB", "1M", "1mb", "-1", "1.5GiB", "1 0", "99999999999GiB", "0x10"] {
            assert_eq!(parse_size(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_formatted_duration_parses_as_the_same_value(nanoseconds: u64) {
            let duration = Duration::from_nanos(nanoseconds);
            prop_assert_eq!(parse_duration(&format_duration(duration)), Some(duration));
        }

        #[test]
        fn a_formatted_size_parses_as_the_same_value(bytes: u64, shift in 0u32..64) {
            let bytes = (bytes >> shift) << (shift / 2);
            prop_assert_eq!(parse_size(&format_size(bytes)), Some(bytes));
        }

        #[test]
        fn no_text_causes_a_panic(text: String) {
            let _either = (parse_duration(&text), parse_size(&text));
        }
    }
}
