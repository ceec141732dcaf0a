//! Times of access logs, in the forms that Fastly's formats write them.

use jiff::civil::DateTime;
use jiff::tz::Offset;

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// Number of fraction digits of a second that OTLP can represent.
const FRACTION_DIGITS: usize = 9;

/// Reads a time, in Unix nanoseconds. A time without a zone is in UTC, as Fastly's are.
///
/// The forms are ISO 8601 (`2026-11-28T10:11:12.5Z`, with any fraction, `+0100`, `UTC`), Unix time in seconds,
/// milliseconds, microseconds or nanoseconds, told apart by the number of digits, the time of the Common Log Format
/// (`28/Nov/2026:10:11:12 +0000`) and that of HTTP headers (`Sat, 28 Nov 2026 10:11:12 GMT`). Times that OTLP has no
/// number for are absent: before 1970, after 2554, and the epoch itself.
pub(super) fn nanoseconds(written: &str) -> Option<u64> {
    let written = written.trim().trim_start_matches('[').trim_end_matches(']');
    let first = written.split(['-', '/', ',', ' ']).next()?;
    let nanoseconds = match first.len() {
        _ if written.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') => unix(written)?,
        4 => iso(written)?,
        1 | 2 => common(written)?,
        _ => http_date(written)?,
    };
    Some(nanoseconds).filter(|&nanoseconds| nanoseconds != 0)
}

/// Reads a duration in microseconds, with or without a fraction. Returns nanoseconds.
pub(super) fn microseconds(written: &str) -> Option<u64> {
    scaled(written, 3)
}

/// Reads Unix time; each unit has its number of digits for the years 1973 to 5138.
fn unix(written: &str) -> Option<u64> {
    let digits = written.split('.').next()?.len();
    scaled(
        written,
        match digits {
            0..=11 => 9,
            12..=14 => 6,
            15..=17 => 3,
            _ => 0,
        },
    )
}

/// Reads a decimal number as a multiple of its `10^-places`; further digits are cut off.
fn scaled(written: &str, places: usize) -> Option<u64> {
    let (whole, fraction) = written.split_once('.').unwrap_or((written, ""));
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !is_number(whole) || !is_number(fraction) {
        return None;
    }
    let kept = fraction.get(..fraction.len().min(places))?;
    let unit = 10_u64.pow(u32::try_from(places - kept.len()).ok()?);
    [whole, kept].concat().parse::<u64>().ok()?.checked_mul(unit)
}

/// Parses `2026-11-28T10:11:12.5+01:00`.
fn iso(written: &str) -> Option<u64> {
    let (date, rest) = written.split_once(['T', 't', ' '])?;
    let mut date = date.splitn(3, '-');
    let (year, month, day) = (date.next()?, date.next()?, date.next()?);
    let end = rest.find(|c: char| !matches!(c, '0'..='9' | ':' | '.' | ',')).unwrap_or(rest.len());
    let (time, zone) = rest.split_at(end);
    let (time, fraction) = time.split_once(['.', ',']).unwrap_or((time, ""));
    to_unix([year, month, day], time, fraction, zone)
}

/// Parses `28/Nov/2026:10:11:12 +0000`.
fn common(written: &str) -> Option<u64> {
    let (date, rest) = written.split_once(':')?;
    let mut date = date.splitn(3, '/');
    let (day, month, year) = (date.next()?, date.next()?, date.next()?);
    let (time, zone) = rest.split_once(' ').unwrap_or((rest, ""));
    to_unix([year, month, day], time, "", zone)
}

/// Parses `Sat, 28 Nov 2026 10:11:12 GMT`.
fn http_date(written: &str) -> Option<u64> {
    let mut words = written.split_once(", ")?.1.split(' ');
    let (day, month, year, time) = (words.next()?, words.next()?, words.next()?, words.next()?);
    to_unix([year, month, day], time, "", words.next()?)
}

fn to_unix(date: [&str; 3], time: &str, fraction: &str, zone: &str) -> Option<u64> {
    let [year, month, day] = date;
    let month = match MONTHS.iter().position(|name| *name == month) {
        Some(index) => i8::try_from(index + 1).ok()?,
        None => month.parse().ok()?,
    };
    let mut time = time.splitn(3, ':');
    let (hour, minute, second) = (time.next()?, time.next()?, time.next()?);
    // UTC has leap seconds, Unix time does not.
    let second = second.parse::<i8>().ok().filter(|second| (0..=60).contains(second))?.min(59);
    let kept = fraction.get(..fraction.len().min(FRACTION_DIGITS))?;
    let fraction = if kept.is_empty() { 0 } else { scaled(&["0.", kept].concat(), FRACTION_DIGITS)? };
    let civil = DateTime::new(
        year.parse().ok()?,
        month,
        day.parse().ok()?,
        hour.parse().ok()?,
        minute.parse().ok()?,
        second,
        i32::try_from(fraction).ok()?,
    );
    let timestamp = offset(zone.trim())?.to_timestamp(civil.ok()?).ok()?;
    u64::try_from(timestamp.as_nanosecond()).ok()
}

/// Reads a zone: `Z`, `UTC`, `GMT`, none at all, or hours and minutes with or without a colon.
fn offset(zone: &str) -> Option<Offset> {
    if matches!(zone, "" | "Z" | "z" | "UTC" | "GMT") {
        return Some(Offset::UTC);
    }
    let (sign, digits) = match zone.split_at_checked(1)? {
        ("+", digits) => (1, digits.replace(':', "")),
        ("-", digits) => (-1, digits.replace(':', "")),
        _ => return None,
    };
    if !matches!(digits.len(), 2 | 4) || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let (hours, minutes) = digits.split_at(2);
    let minutes = if minutes.is_empty() { 0 } else { minutes.parse().ok()? };
    Offset::from_seconds(sign * (hours.parse::<i32>().ok()? * 3600 + minutes * 60)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-28T10:11:12Z, as computed by `date -d`.
    const SECONDS: u64 = 1_795_860_672;

    #[test]
    fn a_time_is_read_in_every_form_of_fastlys_formats() {
        for written in [
            "2026-11-28T10:11:12Z",
            "2026-11-28T10:11:12+0000",
            "2026-11-28T10:11:12+00:00",
            "2026-11-28T11:11:12+01",
            "2026-11-28T04:41:12-0530",
            "2026-11-28T10:11:12UTC",
            "2026-11-28T10:11:12GMT",
            "2026-11-28T10:11:12",
            "2026-11-28 10:11:12",
            "28/Nov/2026:10:11:12 +0000",
            "[28/Nov/2026:11:11:12 +0100]",
            "Sat, 28 Nov 2026 10:11:12 GMT",
            "1795860672",
            "1795860672000",
            "1795860672000000",
            "1795860672000000000",
            "1795860672.000",
        ] {
            assert_eq!(nanoseconds(written), Some(SECONDS * 1_000_000_000), "{written}");
        }
    }

    #[test]
    fn every_digit_of_a_time_is_kept_up_to_the_nanosecond() {
        for (written, fraction) in [
            ("2026-11-28T10:11:12.5Z", 500_000_000),
            ("2026-11-28T10:11:12.123456789Z", 123_456_789),
            ("2026-11-28T10:11:12,1234567891Z", 123_456_789),
            ("1795860672.123456", 123_456_000),
            ("1795860672123", 123_000_000),
            ("1795860672123.25", 123_250_000),
            ("1795860672123456", 123_456_000),
            ("1795860672123456789", 123_456_789),
        ] {
            assert_eq!(nanoseconds(written), Some(SECONDS * 1_000_000_000 + fraction), "{written}");
        }
    }

    #[test]
    fn invalid_times_are_absent() {
        for written in [
            "",
            "-",
            "0",
            ".",
            "1.2.3",
            "yesterday",
            "2026-13-28T10:11:12Z",
            "2026-11-28",
            "2026-11-28T10:11Z",
            "2026-11-28T10:11:12.xZ",
            "2026-11-28T10:11:12 CET",
            "1969-12-31T23:59:59Z",
            "28/Foo/2026:10:11:12 +0000",
            "Sat, 28 Nov 2026",
            "99999999999999999999",
            "é026-11-28T10:11:12Z",
            "2026-11-28T10:11:12+0é",
        ] {
            assert_eq!(nanoseconds(written), None, "{written}");
        }
    }

    #[test]
    fn durations_may_have_a_fraction() {
        assert_eq!(microseconds("1500"), Some(1_500_000));
        assert_eq!(microseconds("1500.25"), Some(1_500_250));
        assert_eq!(microseconds("-1"), None);
    }
}
