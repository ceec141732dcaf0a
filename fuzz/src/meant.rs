//! Meaning of a line that is JSON, by the table in the documentation and on a tree, which is independent of the relay's
//! edits of a text.
//!
//! In: a [`Json`] that the reader of lines accepts. Out: the same in canonical form, and the number of spans that had
//! to be dropped. Only accepted lines are passed here: the module does not know what must be rejected.

use base64::Engine as _;
use base64::alphabet::{STANDARD as STANDARD_ALPHABET, URL_SAFE};
use base64::engine::general_purpose::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::json::Json;
use super::messages::{Field, Kind, Spelling, field, number_of};

/// Text that VCL writes for an unset variable.
const NULL_WORD: &str = "(null)";

type Members = Vec<(String, Json)>;

/// A line in canonical form.
#[derive(Debug)]
pub(super) struct Meant {
    pub(super) line: Json,
    /// Number of spans without valid ids.
    pub(super) dropped: usize,
}

/// Returns the meaning of the line; `None` where a required value is invalid.
pub(super) fn meant(line: &Json) -> Option<Meant> {
    let mut dropped = 0;
    let line = message("Line", line, &mut dropped)?;
    Some(Meant { line, dropped })
}

/// Returns the part of a line that the request of one signal has.
pub(super) fn section(line: &Json, section: &str) -> Json {
    let Json::Object(members) = line else { return line.clone() };
    let belongs = |key: &str| field("Line", key).is_none_or(|(field, _)| field.name == section);
    Json::Object(members.iter().filter(|(key, _)| belongs(key)).cloned().collect())
}

fn message(name: &str, json: &Json, dropped: &mut usize) -> Option<Json> {
    let Json::Object(members) = json else { return None };
    let mut out = Vec::new();
    for (place, (key, value)) in members.iter().enumerate() {
        let Some((field, _)) = field(name, key) else {
            out.push((key.clone(), value.clone()));
            continue;
        };
        let chosen = chosen(name, members, field);
        if chosen.last() != Some(&place) || *value == Json::Null {
            continue;
        }
        let value = &one_of_many(field, &chosen.iter().map(|&place| &members[place].1).collect::<Vec<_>>())?;
        if let Some((name, value)) = member(name, field, value, dropped)? {
            out.push((name.to_owned(), value));
        }
    }
    let text =
        |members: &Members, key| members.iter().find(|(name, _)| name == key).map(|(_, value)| value.clone());
    if name == "Span" && text(&out, "spanId").is_some() && text(&out, "parentSpanId") == text(&out, "spanId")
    {
        out.retain(|(key, _)| key != "parentSpanId");
    }
    Some(Json::Object(out))
}

/// Returns the members that determine a field: those with today's name, or those with an older name if one of them holds
/// more; empty ones only if there is nothing else.
fn chosen(name: &str, members: &Members, wanted: &Field) -> Vec<usize> {
    let of_field = |key: &str| field(name, key).filter(|(field, _)| field.name == wanted.name);
    let that = |right: bool, least: u8| -> Vec<usize> {
        let counts = |(key, value): &(String, Json)| {
            of_field(key).is_some_and(|(_, spelling)| {
                (spelling == Spelling::Right) == right && content(wanted, value) >= least
            })
        };
        (0..members.len()).filter(|place| counts(&members[*place])).collect()
    };
    for most in [2, 1, 0] {
        for right in [true, false] {
            if !that(right, most).is_empty() {
                return that(right, most.min(1));
            }
        }
    }
    Vec::new()
}

/// Rates how much a value holds: nothing (0), resources or scopes around nothing (1), or more (2).
fn content(field: &Field, value: &Json) -> u8 {
    let is_nothing = match (field.is_list, field.kind) {
        (true, Kind::Message(name)) if name.starts_with("Resource") || name.starts_with("Scope") => {
            if let Json::List(elements) = value {
                let contents = elements.iter().map(|element| content_of_container(name, element));
                return contents.max().unwrap_or(0);
            }
            is_hollow(value)
        }
        (true, _) => is_hollow(value),
        (false, Kind::Message(_)) => says_nothing(value),
        _ => *value == Json::Null,
    };
    if is_nothing { 0 } else { 2 }
}

fn content_of_container(name: &str, container: &Json) -> u8 {
    let Json::Object(members) = container else { return 0 };
    let of_member = |(key, value): &(String, Json)| match (field(name, key), value) {
        (Some((inner, _)), Json::List(_)) if inner.is_list && inner.name.starts_with("scope") => {
            content(inner, value)
        }
        (Some((inner, _)), value) if inner.is_list && !is_hollow(value) => 2,
        (Some((inner, _)), Json::List(_)) if inner.is_list => u8::from(has_object(value)),
        (_, value) => u8::from(!says_nothing(value)),
    };
    members.iter().map(of_member).max().unwrap_or(0)
}

fn has_object(value: &Json) -> bool {
    match value {
        Json::List(elements) => elements.iter().any(has_object),
        Json::Object(_) => true,
        _ => false,
    }
}

fn says_nothing(value: &Json) -> bool {
    match value {
        Json::Null => true,
        Json::Text(text) => text.is_empty(),
        Json::List(elements) => elements.iter().all(says_nothing),
        Json::Object(members) => members.iter().all(|(_, value)| says_nothing(value)),
        _ => false,
    }
}

/// Merges repeated values: lists are concatenated, the last scalar wins. Different messages cannot be merged.
fn one_of_many(field: &Field, values: &[&Json]) -> Option<Json> {
    let last = values.last()?;
    if field.is_list && values.len() > 1 {
        let elements =
            |json: &&Json| if let Json::List(elements) = json { Some(elements.clone()) } else { None };
        return Some(Json::List(values.iter().map(elements).collect::<Option<Vec<_>>>()?.concat()));
    }
    let differ = values.iter().any(|value| value != last);
    (!differ || !matches!(field.kind, Kind::Message(_))).then(|| (*last).clone())
}

/// Returns whether a value holds nothing.
pub(super) fn is_hollow(value: &Json) -> bool {
    match value {
        Json::Null => true,
        Json::List(elements) => elements.iter().all(is_hollow),
        Json::Object(members) => members.is_empty(),
        _ => false,
    }
}

/// Returns a member with its name; the inner `None` if it is omitted, the outer one if it is invalid.
fn member(
    owner: &str,
    field: &'static Field,
    json: &Json,
    dropped: &mut usize,
) -> Option<Option<(&'static str, Json)>> {
    let value = match (field.is_list, field.kind, json) {
        (true, Kind::Message("KeyValue"), Json::List(elements)) => Some(attributes(elements, dropped)?),
        (true, Kind::Message(name), Json::List(elements)) => Some(messages(name, elements, dropped)?),
        (true, _, Json::List(elements)) => Some(scalars(field, elements)?),
        (true, _, _) => return None,
        (false, Kind::Message(name), _) => Some(message(name, json, dropped)?),
        // In an attribute, a number that is not an integer is a double.
        (false, Kind::Wide { .. }, Json::Number(digits))
            if owner == "AnyValue" && integer(digits, field.kind).is_none() =>
        {
            // Except when it would lose digits.
            let is_whole = digits.trim_start_matches('-').bytes().all(|digit| digit.is_ascii_digit());
            let double: f64 = digits.parse().ok()?;
            return Some(Some(match is_whole && format!("{double:.0}") != *digits {
                true => ("stringValue", Json::Text(digits.clone())),
                false => ("doubleValue", json.clone()),
            }));
        }
        _ => scalar(field.kind, json)?,
    };
    Some(value.map(|value| (field.name, value)))
}

fn messages(name: &str, elements: &[Json], dropped: &mut usize) -> Option<Json> {
    let mut out = Vec::new();
    for element in elements {
        if *element == Json::Null {
            if name == "AnyValue" {
                // An element's position has a meaning.
                out.push(Json::Object(Vec::new()));
            }
            continue;
        }
        let element = message(name, element, dropped)?;
        let is_identified = element.get("traceId").is_some() && element.get("spanId").is_some();
        match name {
            "Span" if !is_identified => *dropped += 1,
            "Link" if !is_identified => {}
            _ => out.push(element),
        }
    }
    Some(Json::List(out))
}

/// Keeps the last of two attributes with the same key.
fn attributes(elements: &[Json], dropped: &mut usize) -> Option<Json> {
    let Json::List(all) = messages("KeyValue", elements, dropped)? else { return None };
    let key = |attribute: &Json| attribute.get("key").and_then(Json::text).unwrap_or_default().to_owned();
    let keys: Vec<String> = all.iter().map(key).collect();
    let is_last = |place: &usize| !keys[place + 1..].contains(&keys[*place]);
    Some(Json::List((0..all.len()).filter(is_last).map(|place| all[place].clone()).collect()))
}

fn scalars(field: &Field, elements: &[Json]) -> Option<Json> {
    let default =
        if field.kind == Kind::String { Json::Text(String::new()) } else { Json::Number("0".to_owned()) };
    let element = |json: &Json| match json {
        Json::Null => Some(default.clone()),
        json => Some(scalar(field.kind, json)?.unwrap_or_else(|| default.clone())),
    };
    Some(Json::List(elements.iter().map(element).collect::<Option<_>>()?))
}

fn scalar(kind: Kind, json: &Json) -> Option<Option<Json>> {
    let stands_for_nothing = matches!(json, Json::Text(text) if text.is_empty() || text == NULL_WORD);
    let value = match (kind, json) {
        (Kind::String, Json::Text(_)) => json.clone(),
        (Kind::String, Json::Number(digits)) => Json::Text(digits.clone()),
        (Kind::String, Json::Bool(word)) => Json::Text(word.to_string()),
        (Kind::TraceId, _) => return Some(id(json, 32)),
        (Kind::SpanId | Kind::ParentSpanId, _) => return Some(id(json, 16)),
        (Kind::Bytes, Json::Text(text)) => Json::Text(STANDARD.encode(base64(text)?)),
        (Kind::Bytes, Json::Object(members)) => {
            let buffer = match (json.get("type"), json.get("data")) {
                (Some(Json::Text(kind)), Some(Json::List(bytes)))
                    if kind == "Buffer" && members.len() == 2 =>
                {
                    Some(bytes)
                }
                _ => None,
            };
            let bytes = buffer.map_or_else(|| numbered_bytes(members), |bytes| listed_bytes(bytes))?;
            Json::Text(STANDARD.encode(bytes))
        }
        (Kind::Bytes, Json::List(bytes)) => Json::Text(STANDARD.encode(listed_bytes(bytes)?)),
        _ if stands_for_nothing => return Some(None),
        (Kind::Bool, Json::Bool(_)) => json.clone(),
        (Kind::Bool, Json::Text(word)) => Json::Bool(word.parse().ok()?),
        (Kind::Double, Json::Number(_) | Json::Text(_)) => json.clone(),
        (Kind::Enum(names), Json::Text(text)) => match number_of(names, text) {
            Some(number) => Json::Number(number.to_string()),
            None => Json::Number(integer(text, kind)?.to_string()),
        },
        (Kind::Narrow { .. } | Kind::Enum(_), Json::Text(digits) | Json::Number(digits)) => {
            let number = integer(digits, kind)?;
            let keeps = matches!(json, Json::Number(_)) && is_plain(digits, number);
            Json::Number(if keeps { digits.clone() } else { number.to_string() })
        }
        (Kind::Wide { .. }, Json::Text(digits)) => {
            let number = integer(digits, kind)?;
            Json::Text(if is_plain(digits, number) { digits.clone() } else { number.to_string() })
        }
        (Kind::Wide { .. }, Json::Number(digits)) => {
            let number = integer(digits, kind)?;
            let text = if is_plain(digits, number) { digits.clone() } else { number.to_string() };
            // Receivers that read numbers as doubles round larger ones.
            if number.unsigned_abs() > 1 << 53 { Json::Text(text) } else { Json::Number(text) }
        }
        _ => return None,
    };
    Some(Some(value))
}

fn id(json: &Json, digits: usize) -> Option<Json> {
    let hex = json.text()?;
    let is_valid = hex.len() == digits
        && hex.bytes().all(|digit| digit.is_ascii_hexdigit())
        && hex.bytes().any(|digit| digit != b'0');
    is_valid.then(|| Json::Text(hex.to_ascii_lowercase()))
}

/// Parses an integer in any decimal form, if it is in the range of its kind.
fn integer(text: &str, kind: Kind) -> Option<i128> {
    let (negative, digits) = text.strip_prefix('-').map_or((false, text), |digits| (true, digits));
    let (mantissa, exponent) = digits.split_once(['e', 'E']).unwrap_or((digits, "0"));
    let exponent: i64 = exponent.strip_prefix('+').unwrap_or(exponent).parse().ok()?;
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all = [whole, fraction].concat();
    if whole.is_empty() || !all.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    // Resulting position of the point, as an index into the digits without leading and trailing zeros.
    let significant = all.trim_start_matches('0');
    let point = exponent.checked_add(whole.len() as i64)? - (all.len() - significant.len()) as i64;
    let significant = significant.trim_end_matches('0');
    let (least, most) = kind.range();
    let number = match usize::try_from(point) {
        _ if significant.is_empty() => 0,
        Ok(point) if point >= significant.len() && point <= 20 => {
            let zeros = point - significant.len();
            format!("{significant}{}", "0".repeat(zeros)).parse().ok()?
        }
        _ => return None,
    };
    let number: i128 = if negative { -number } else { number };
    (least..=most).contains(&number).then_some(number)
}

/// Returns whether the text is in the usual form of integers; a zero has no sign.
fn is_plain(text: &str, number: i128) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    digits.bytes().all(|digit| digit.is_ascii_digit()) && (number != 0 || digits.len() == text.len())
}

/// Decodes either alphabet, with or without padding.
fn base64(text: &str) -> Option<Vec<u8>> {
    let tolerant = GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true);
    let decode = |alphabet| GeneralPurpose::new(alphabet, tolerant).decode(text).ok();
    decode(&STANDARD_ALPHABET).or_else(|| decode(&URL_SAFE))
}

/// Decodes `[104,105]`.
fn listed_bytes(elements: &[Json]) -> Option<Vec<u8>> {
    let byte = |json: &Json| match json {
        Json::Number(digits) => u8::try_from(integer(digits, Kind::Wide { signed: true })?).ok(),
        _ => None,
    };
    elements.iter().map(byte).collect()
}

/// Decodes `{"0":104,"1":105}`.
fn numbered_bytes(members: &Members) -> Option<Vec<u8>> {
    let byte = |(place, (key, value)): (usize, &(String, Json))| match value {
        Json::Number(digits) if *key == place.to_string() => {
            u8::try_from(integer(digits, Kind::Wide { signed: true })?).ok()
        }
        _ => None,
    };
    members.iter().enumerate().map(byte).collect()
}
