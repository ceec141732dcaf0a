//! Reads the maps of a payload, which are open: CircleCI adds fields at any level without notice, and leaves out
//! what its reference calls always present.
//!
//! In:  the text of any JSON value. Out: the members that were asked for, and leaves of the types that spans need.
//! Promises: never fails. A member that is missing, `null`, `""` or of another type is absent; of a name that occurs
//! twice the last counts; nothing is built of what was not asked for, however large or deep it is.

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::otlp::number;

/// A member of an object: its JSON text, unless it is missing or `null`.
pub(super) type Member<'a> = Option<&'a RawValue>;

/// The members with these names, each in the place of its name. Those of anything but an object are all absent.
pub(super) fn members<'a, const N: usize>(object: Member<'a>, names: [&'static str; N]) -> [Member<'a>; N] {
    let Some(object) = object else { return [None; N] };
    Members(names).deserialize(&mut serde_json::Deserializer::from_str(object.get())).unwrap_or([None; N])
}

/// A string, unless it is empty: some payloads write `""` for what they do not know.
pub(super) fn text(member: Member<'_>) -> Option<Cow<'_, str>> {
    #[derive(Deserialize)]
    struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

    let Text(text) = serde_json::from_str(member?.get()).ok()?;
    (!text.is_empty()).then_some(text)
}

/// An integer, in any form that has no other value: `6`, `6.0`, `"6"`.
pub(super) fn integer(member: Member<'_>) -> Option<i64> {
    let written = text(member).unwrap_or(Cow::Borrowed(member?.get()));
    i64::try_from(number::integer(written.trim().as_bytes())?).ok()
}

/// A time as RFC 3339 writes it, `Z` or an offset, with any number of digits behind the second: in Unix nanoseconds.
/// Digits after the ninth are cut off.
///
/// Times that OTLP has no number for are absent: before 1970, after 2554, and the epoch itself, which it reads as
/// "unknown".
pub(super) fn time(member: Member<'_>) -> Option<u64> {
    let written = text(member)?;
    let timestamp: jiff::Timestamp = to_nanoseconds(written.trim()).parse().ok()?;
    u64::try_from(timestamp.as_nanosecond()).ok().filter(|&nanoseconds| nanoseconds != 0)
}

/// Returns the time with at most nine fraction digits, and without a point that no digit follows.
fn to_nanoseconds(written: &str) -> Cow<'_, str> {
    const DIGITS: usize = 9;
    let Some((seconds, fraction)) = written.split_once(['.', ',']) else { return Cow::Borrowed(written) };
    let zone = fraction.trim_start_matches(|c: char| c.is_ascii_digit());
    let digits = fraction.strip_suffix(zone).unwrap_or(fraction);
    match (digits.len(), digits.get(..DIGITS)) {
        (0, _) => Cow::Owned([seconds, zone].concat()),
        (1..=DIGITS, _) | (_, None) => Cow::Borrowed(written),
        (_, Some(kept)) => Cow::Owned([seconds, ".", kept, zone].concat()),
    }
}

struct Members<const N: usize>([&'static str; N]);

/// Reads a key as the place of its name.
struct Place<'n, const N: usize>(&'n [&'static str; N]);

// === impl Members ===

impl<'de, const N: usize> DeserializeSeed<'de> for Members<N> {
    type Value = [Member<'de>; N];

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, const N: usize> Visitor<'de> for Members<N> {
    type Value = [Member<'de>; N];

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = [None; N];
        while let Some(place) = map.next_key_seed(Place(&self.0))? {
            match place {
                Some(place) => {
                    found[place] = Some(map.next_value::<&RawValue>()?).filter(|raw| raw.get() != "null")
                }
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(found)
    }
}

// === impl Place ===

impl<'de, const N: usize> DeserializeSeed<'de> for Place<'_, N> {
    type Value = Option<usize>;

    // As bytes, not as a string: a lone surrogate in the key of an unknown member is no reason to lose the others.
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_bytes(self)
    }
}

impl<const N: usize> Visitor<'_> for Place<'_, N> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a key")
    }

    fn visit_bytes<E>(self, key: &[u8]) -> Result<Self::Value, E> {
        Ok(self.0.iter().position(|name| name.as_bytes() == key))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn raw(json: &str) -> Member<'_> {
        Some(serde_json::from_str(json).unwrap())
    }

    fn texts<'a>(found: &[Member<'a>]) -> Vec<Option<&'a str>> {
        found.iter().map(|member| member.map(RawValue::get)).collect()
    }

    #[test]
    fn members_come_in_the_order_of_the_names_and_the_last_of_a_name_counts() {
        let found = members(raw(r#" {"b":1,"x":[{}],"a":"y","b" : {"c":2} } "#), ["a", "b", "c"]);
        assert_eq!(texts(&found), [Some(r#""y""#), Some(r#"{"c":2}"#), None]);
        assert_eq!(texts(&members(raw(r#"{"a":1,"a":null,"b": null }"#), ["a", "b"])), [None, None]);
    }

    #[test]
    fn a_key_is_known_in_its_escaped_spelling() {
        assert_eq!(texts(&members(raw(r#"{"\u0061":1}"#), ["a"])), [Some("1")]);
    }

    #[test]
    fn lone_surrogates_huge_numbers_and_deep_nesting_elsewhere_do_no_harm() {
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        let json = format!(r#"{{"\ud800":"\ud800","n":1e999,"deep":{deep},"a":1}}"#);
        assert_eq!(texts(&members(raw(&json), ["a"])), [Some("1")]);
    }

    #[test]
    fn members_of_anything_but_an_object_are_absent() {
        for json in ["null", "[]", "[1,2]", "\"a\"", "1", "true"] {
            assert_eq!(texts(&members(raw(json), ["a"])), [None], "{json}");
        }
        assert_eq!(texts(&members(None, ["a"])), [None]);
    }

    #[test]
    fn a_leaf_of_another_type_is_absent() {
        for json in ["null", "\"\"", "1", "true", "[]", "{}", r#""\ud800""#] {
            assert_eq!(text(raw(json)), None, "{json}");
        }
        for json in
            ["null", "\"seven\"", "\"\"", "\"7 8\"", "1.5", "9223372036854775808", "true", "[]", "[7]"]
        {
            assert_eq!(integer(raw(json)), None, "{json}");
        }
        assert_eq!(text(raw(r#""a\n\u00e9""#)).as_deref(), Some("a\né"));
        assert_eq!(integer(raw("-9223372036854775808")), Some(i64::MIN));
    }

    #[test]
    fn times_have_any_offset() {
        for (written, nanoseconds) in [
            ("2022-09-19T15:59:36Z", 1_663_603_176_000_000_000),
            ("2022-09-19T15:59:36.5Z", 1_663_603_176_500_000_000),
            ("2022-09-19T15:59:36.507Z", 1_663_603_176_507_000_000),
            ("2022-09-19T15:59:36.507435Z", 1_663_603_176_507_435_000),
            ("2022-09-19T15:59:36.507435123Z", 1_663_603_176_507_435_123),
            ("2022-09-19T15:59:36.507435+00:00", 1_663_603_176_507_435_000),
            ("2022-09-19T17:59:36.507435+02:00", 1_663_603_176_507_435_000),
            ("2022-09-19T10:29:36.507435-05:30", 1_663_603_176_507_435_000),
            ("2554-07-21T23:34:33.709551615Z", u64::MAX),
            ("1970-01-01T00:00:00.000000001Z", 1),
            ("2022-09-19t15:59:36.507z", 1_663_603_176_507_000_000),
            (" 2022-09-19T15:59:36.Z ", 1_663_603_176_000_000_000),
        ] {
            assert_eq!(time(raw(&format!("\"{written}\""))), Some(nanoseconds), "{written}");
        }
    }

    #[test]
    fn a_time_that_cannot_be_read_or_held_is_absent() {
        for written in [
            "",
            "yesterday",
            "2022-09-19",
            "2022-09-19T15:59:36",
            "2022-13-19T15:59:36Z",
            "2022-09-19T25:59:36Z",
            "2024-12-18 17:23:29.361740256 +0000 UTC",
            "1663603176",
            "0001-01-01T00:00:00Z",
            "1970-01-01T00:00:00Z",
            "1969-12-31T23:59:59.999999999Z",
            "2554-07-21T23:34:33.709551616Z",
            "9999-12-31T23:59:59Z",
            "-009999-01-01T00:00:00Z",
            "+999999-01-01T00:00:00Z",
            "99999-01-01T00:00:00Z",
        ] {
            assert_eq!(time(raw(&format!("\"{written}\""))), None, "{written}");
        }
        assert_eq!(time(raw("1663603176507")), None);
    }

    /// Days from 1970 to a date, counted one by one.
    fn days_until(year: u32, month: u32, day: u32) -> u64 {
        let leap =
            |year: u32| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
        let of_month = |year, month| match month {
            2 if leap(year) => 29,
            2 => 28,
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        };
        let years: u64 = (1970..year).map(|year| if leap(year) { 366 } else { 365 }).sum();
        let months: u64 = (1..month).map(|month| of_month(year, month)).sum();
        years + months + u64::from(day) - 1
    }

    proptest! {
        #[test]
        fn a_time_is_exact_to_the_nanosecond_with_any_number_of_digits(
            (year, month, day) in (1971u32..2500, 1u32..=12, 1u32..=28),
            (hour, minute, second) in (0u64..24, 0u64..60, 0u64..60),
            fraction in "[0-9]{0,30}",
            (ahead, offset) in (any::<bool>(), 0u64..24 * 60),
            (zulu, lower) in (any::<bool>(), any::<bool>()),
        ) {
            let sign = if ahead { '+' } else { '-' };
            let zone = if zulu { "Z".to_owned() } else { format!("{sign}{:02}:{:02}", offset / 60, offset % 60) };
            let point = if fraction.is_empty() { "" } else { "." };
            let written = format!("{year}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{point}{fraction}{zone}");
            let written = if lower { written.to_lowercase() } else { written };
            let local = (days_until(year, month, day) * 24 * 60 + hour * 60 + minute) * 60 + second;
            let seconds = match (zulu, ahead) {
                (true, _) => local,
                (false, true) => local - offset * 60,
                (false, false) => local + offset * 60,
            };
            let nanoseconds: u64 = format!("{fraction:0<9}").get(..9).unwrap().parse().unwrap();
            prop_assert_eq!(time(raw(&format!("\"{written}\""))), Some(seconds * 1_000_000_000 + nanoseconds));
        }

        #[test]
        fn an_integer_is_the_same_in_every_form(value in any::<i64>(), zeros in "0{1,5}", blanks in " {0,2}") {
            for json in [
                format!("{value}"),
                format!("{value}.{zeros}"),
                format!("\"{blanks}{value}{blanks}\""),
                format!("\"{value}.{zeros}\""),
            ] {
                prop_assert_eq!(integer(raw(&json)), Some(value), "{}", json);
            }
        }
    }
}
