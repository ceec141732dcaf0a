//! Human-readable times and durations.

const MICROSECOND: u64 = 1_000;
const MILLISECOND: u64 = 1_000 * MICROSECOND;
const SECOND: u64 = 1_000 * MILLISECOND;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// Formats a duration: `850 ns`, `1.2 ms`, `182 ms`, `3m 12s`, `2d 5h`. Three digits are enough to compare by eye.
/// Rounds down, so that nothing reads `1000 ms`.
pub(crate) fn human(nanoseconds: u64) -> String {
    match nanoseconds {
        0 => "0 s".to_owned(),
        1..MICROSECOND => format!("{nanoseconds} ns"),
        MICROSECOND..MILLISECOND => decimal(nanoseconds, MICROSECOND, "us"),
        MILLISECOND..SECOND => decimal(nanoseconds, MILLISECOND, "ms"),
        SECOND..MINUTE => decimal(nanoseconds, SECOND, "s"),
        MINUTE..HOUR => pair(nanoseconds, (MINUTE, "m"), (SECOND, "s")),
        HOUR..DAY => pair(nanoseconds, (HOUR, "h"), (MINUTE, "m")),
        DAY.. => pair(nanoseconds, (DAY, "d"), (HOUR, "h")),
    }
}

/// Formats the time from one moment to another, with a sign when the other one is earlier.
pub(super) fn between(from: u64, to: u64) -> String {
    if to < from { format!("-{}", human(from - to)) } else { human(to - from) }
}

/// Formats like [`between`], but always with a sign.
pub(super) fn offset(from: u64, to: u64) -> String {
    if to < from { between(from, to) } else { format!("+{}", between(from, to)) }
}

/// Formats a time as `2026-01-31 12:00:00.123 UTC`; `None` for a time outside the calendar.
pub(super) fn moment(unix_nano: u64) -> Option<String> {
    let moment = jiff::Timestamp::from_nanosecond(i128::from(unix_nano)).ok()?;
    Some(moment.strftime("%Y-%m-%d %H:%M:%S.%3f UTC").to_string())
}

fn decimal(nanoseconds: u64, unit: u64, name: &str) -> String {
    let (whole, tenth) = (nanoseconds / unit, nanoseconds % unit / (unit / 10));
    if whole >= 100 || tenth == 0 { format!("{whole} {name}") } else { format!("{whole}.{tenth} {name}") }
}

fn pair(nanoseconds: u64, (large, large_name): (u64, &str), (small, small_name): (u64, &str)) -> String {
    format!("{}{large_name} {}{small_name}", nanoseconds / large, nanoseconds % large / small)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_use_the_largest_suitable_unit() {
        for (nanoseconds, text) in [
            (0, "0 s"),
            (850, "850 ns"),
            (1_250, "1.2 us"),
            (1_200_000, "1.2 ms"),
            (2_000_000, "2 ms"),
            (182_400_000, "182 ms"),
            (999_999_999, "999 ms"),
            (59_999_999_999, "59.9 s"),
            (192_000_000_000, "3m 12s"),
            (7_500_000_000_000, "2h 5m"),
            (90_061_000_000_000, "1d 1h"),
            (u64::MAX, "213503d 23h"),
        ] {
            assert_eq!(human(nanoseconds), text);
        }
    }

    #[test]
    fn offsets_carry_their_sign() {
        assert_eq!(offset(5_000_000, 8_000_000), "+3 ms");
        assert_eq!(offset(8_000_000, 5_000_000), "-3 ms");
        assert_eq!(between(8_000_000, 5_000_000), "-3 ms");
        assert_eq!(offset(5, 5), "+0 s");
    }

    #[test]
    fn every_moment_that_64_bits_hold_is_on_the_calendar() {
        assert_eq!(moment(1_655_990_400_123_457_000).as_deref(), Some("2022-06-23 13:20:00.123 UTC"));
        assert!(moment(u64::MAX).is_some());
    }
}
