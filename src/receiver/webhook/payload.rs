//! Payloads of webhooks. Their objects are open: senders add fields at any level without notice, and omit fields that
//! their reference describes as always present.
//!
//! In: the body of a webhook. Out: requested members, and leaves of the types that spans need; or the position and the
//! reason why a body is not a JSON object.
//! Promises: reading a member never fails. A member that is missing, `null`, `""` or of another type is absent; the
//! last of repeated members wins; members that were not requested cost nothing, however large or deep they are.

mod repair;

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

pub(in crate::receiver) use self::repair::{RepairedPayload, repair};
use crate::otlp::number;

/// Maximum length of an event id. Senders use UUIDs, and the relay remembers the ids that it has seen.
const MAX_EVENT_ID_BYTES: usize = 256;

/// A member of an object: its JSON text, unless it is missing or `null`.
pub(in crate::receiver) type Member<'a> = Option<&'a RawValue>;

/// A body that is not a JSON object. The reason repeats nothing of the body.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::receiver) struct Malformed {
    /// Line in the body; 1 is the first.
    pub(in crate::receiver) line: u32,
    /// Position in the line, in bytes; 1 is the first.
    pub(in crate::receiver) column: u32,
    pub(in crate::receiver) reason: String,
}

/// Returns the object that the whole body is.
pub(in crate::receiver) fn object<'a>(repaired: &'a RepairedPayload<'_>) -> Result<&'a RawValue, Malformed> {
    let text = &*repaired.text;
    let json: &RawValue = serde_json::from_str(text).map_err(|error| Malformed::json(repaired, &error))?;
    if json.get().starts_with('{') {
        return Ok(json);
    }
    let blanks = text.len() - text.trim_start_matches([' ', '\t', '\r', '\n']).len();
    Err(Malformed::at(repaired, blanks, "the body is JSON, but not an object".to_owned()))
}

/// Returns the members with these names, in the order of the names. All members of anything but an object are absent.
pub(in crate::receiver) fn members<'a, const N: usize>(
    object: Member<'a>,
    names: [&'static str; N],
) -> [Member<'a>; N] {
    let Some(object) = object else { return [None; N] };
    Members(names).deserialize(&mut serde_json::Deserializer::from_str(object.get())).unwrap_or([None; N])
}

/// Reads a string, unless it is empty: some payloads write `""` for unknown values.
pub(in crate::receiver) fn text(member: Member<'_>) -> Option<Cow<'_, str>> {
    #[derive(Deserialize)]
    struct PayloadText<'a>(#[serde(borrow)] Cow<'a, str>);

    let PayloadText(text) = serde_json::from_str(member?.get()).ok()?;
    (!text.is_empty()).then_some(text)
}

/// Returns the elements of a list. Anything else has none.
pub(in crate::receiver) fn list(member: Member<'_>) -> Vec<&RawValue> {
    member.and_then(|member| serde_json::from_str(member.get()).ok()).unwrap_or_default()
}

/// Reads a boolean.
pub(in crate::receiver) fn flag(member: Member<'_>) -> Option<bool> {
    serde_json::from_str(member?.get()).ok()
}

/// Reads the id of an event, by which redeliveries are recognised. Longer strings are not ids.
pub(in crate::receiver) fn event_id(member: Member<'_>) -> Option<Cow<'_, str>> {
    text(member).filter(|id| id.len() <= MAX_EVENT_ID_BYTES)
}

/// Reads an integer, in any unambiguous form: `6`, `6.0`, `"6"`.
pub(in crate::receiver) fn integer(member: Member<'_>) -> Option<i64> {
    let written = text(member).unwrap_or(Cow::Borrowed(member?.get()));
    i64::try_from(number::integer(written.trim().as_bytes())?).ok()
}

/// Reads a time in RFC 3339, with `Z` or an offset and any number of fraction digits, as Unix nanoseconds. Digits after
/// the ninth are cut off.
///
/// Times that OTLP cannot represent are absent: before 1970, after 2554, and the epoch itself, which OTLP defines as
/// "unknown".
pub(in crate::receiver) fn time(member: Member<'_>) -> Option<u64> {
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

/// Reads a key as the index of its name.
struct NameIndex<'n, const N: usize>(&'n [&'static str; N]);

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
        while let Some(index) = map.next_key_seed(NameIndex(&self.0))? {
            match index {
                Some(index) => {
                    found[index] = Some(map.next_value::<&RawValue>()?).filter(|raw| raw.get() != "null")
                }
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(found)
    }
}

// === impl NameIndex ===

impl<'de, const N: usize> DeserializeSeed<'de> for NameIndex<'_, N> {
    type Value = Option<usize>;

    // As bytes, not as a string: an unpaired surrogate in the key of an unknown member must not lose the others.
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_bytes(self)
    }
}

impl<const N: usize> Visitor<'_> for NameIndex<'_, N> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a key")
    }

    fn visit_bytes<E>(self, key: &[u8]) -> Result<Self::Value, E> {
        Ok(self.0.iter().position(|name| name.as_bytes() == key))
    }
}

// === impl Malformed ===

impl Malformed {
    /// Describes an event that is too large for an export request.
    pub(in crate::receiver) fn too_large() -> Self {
        Self { line: 1, column: 1, reason: "the event is too large for an export request".to_owned() }
    }

    /// Describes a fault at the byte `offset` of the text. Line and column are those of the input.
    fn at(repaired: &RepairedPayload<'_>, offset: usize, reason: String) -> Self {
        let before = &repaired.body[..repaired.offset_in_body(offset)];
        let line_start = memchr::memrchr(b'\n', before).map_or(0, |newline| newline + 1);
        Self {
            line: saturating(memchr::memchr_iter(b'\n', before).count() + 1),
            column: saturating(before.len() - line_start + 1),
            reason,
        }
    }

    fn json(repaired: &RepairedPayload<'_>, error: &serde_json::Error) -> Self {
        let message = error.to_string();
        // The position is reported separately.
        let what = message.rsplit_once(" at line ").map_or(message.as_str(), |(what, _)| what);
        let lines = repaired.text.split_inclusive('\n').take(error.line().saturating_sub(1));
        let offset = lines.map(str::len).sum::<usize>() + error.column().saturating_sub(1);
        Self::at(repaired, offset, format!("the body is not JSON: {what}"))
    }
}

fn saturating(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
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

    fn malformed(body: &[u8]) -> (u32, u32, String) {
        let Malformed { line, column, reason } = object(&repair(body)).unwrap_err();
        (line, column, reason)
    }

    #[test]
    fn a_body_that_is_not_an_object_is_rejected_with_its_position() {
        for (body, line, column, reason) in [
            (&b""[..], 1, 1, "the body is not JSON: EOF while parsing a value"),
            (b"payload=%7B%7D", 1, 1, "the body is not JSON: expected value"),
            (b"{\n \"id\": x}", 2, 8, "the body is not JSON: expected value"),
            (b"{\"id\":\"a\"}\n{}", 2, 1, "the body is not JSON: trailing characters"),
            (b"{\"id\":", 1, 6, "the body is not JSON: EOF while parsing a value"),
            (b"\n\t[{}]", 2, 2, "the body is JSON, but not an object"),
            (b"null", 1, 1, "the body is JSON, but not an object"),
            (b"\"workflow-completed\"", 1, 1, "the body is JSON, but not an object"),
            // Positions are those of the input, not of the repaired text.
            (b"\xef\xbb\xbf{\n\"a\t\xff\\ud800\": x}", 2, 14, "the body is not JSON: expected value"),
            (b"\xff\xfex{}", 1, 3, "the body is not JSON: expected value"),
        ] {
            assert_eq!(malformed(body), (line, column, reason.to_owned()), "{}", body.escape_ascii());
        }
    }

    #[test]
    fn an_overlong_event_id_is_absent() {
        let id = |length| format!("\"{}\"", "a".repeat(length));
        assert!(event_id(raw(&id(MAX_EVENT_ID_BYTES))).is_some());
        assert!(event_id(raw(&id(MAX_EVENT_ID_BYTES + 1))).is_none());
    }

    #[test]
    fn members_are_in_the_order_of_the_names_and_the_last_of_a_name_wins() {
        let found = members(raw(r#" {"b":1,"x":[{}],"a":"y","b" : {"c":2} } "#), ["a", "b", "c"]);
        assert_eq!(texts(&found), [Some(r#""y""#), Some(r#"{"c":2}"#), None]);
        assert_eq!(texts(&members(raw(r#"{"a":1,"a":null,"b": null }"#), ["a", "b"])), [None, None]);
    }

    #[test]
    fn an_escaped_key_is_recognised() {
        assert_eq!(texts(&members(raw(r#"{"\u0061":1}"#), ["a"])), [Some("1")]);
    }

    #[test]
    fn lone_surrogates_huge_numbers_and_deep_nesting_elsewhere_are_ignored() {
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
    fn a_time_that_cannot_be_parsed_or_represented_is_absent() {
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
