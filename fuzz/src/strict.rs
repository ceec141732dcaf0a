//! A strict reader of OTLP/JSON: every receiver accepts what it accepts.
//!
//! In: a [`Json`]. Out: its meaning, reduced to the fields of OTLP, or the reason for a rejection: `null`, a repeated
//! key, a name of an earlier version, a number in another form than the protobuf mapping has for its type, an invalid
//! id, two attributes with the same key, Base64 without padding. Unknown members are allowed, because they must be
//! passed on.

use std::collections::HashSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::json::Json;
use super::messages::{Field, Kind, Spelling, field};

/// The largest integer up to which doubles represent all integers.
const EXACT_IN_A_DOUBLE: u128 = 1 << 53;

type Refusal = String;

/// Reads a request, or a line with sections of several signals. Numbers are returned as text.
pub(super) fn read(request: &Json) -> Result<Value, Refusal> {
    message("Line", request)
}

fn message(name: &str, json: &Json) -> Result<Value, Refusal> {
    let Json::Object(members) = json else { return Err(format!("{name} is no object: {json:?}")) };
    let mut seen = HashSet::new();
    let mut out = Map::new();
    let mut chosen: Option<&str> = None;
    for (key, value) in members {
        let Some((field, spelling)) = field(name, key) else { continue };
        if spelling == Spelling::Old {
            return Err(format!("{name} has a {key}, which is called {} today", field.name));
        }
        if !seen.insert(field.name) {
            return Err(format!("{name} has two {key}"));
        }
        if field.is_one_of
            && let Some(other) = chosen.replace(field.name)
        {
            if name == "AnyValue" {
                return Err(format!("{name} has both {other} and {key}"));
            }
            // The last of repeated scalars wins, as in protobuf.
            out.remove(other);
        }
        out.insert(field.name.to_owned(), member(field, value)?);
    }
    check_whole(name, json)?;
    Ok(Value::Object(out))
}

fn member(field: &Field, json: &Json) -> Result<Value, Refusal> {
    if !field.is_list {
        return one(field, json);
    }
    let Json::List(elements) = json else { return Err(format!("{} is no list: {json:?}", field.name)) };
    if field.kind == Kind::Message("KeyValue") {
        let mut keys = HashSet::new();
        for element in elements {
            let key = element.get("key").and_then(Json::text).unwrap_or_default();
            if !keys.insert(key) {
                return Err(format!("{} has the key {key:?} twice", field.name));
            }
        }
    }
    Ok(Value::Array(elements.iter().map(|element| one(field, element)).collect::<Result<_, _>>()?))
}

fn one(field: &Field, json: &Json) -> Result<Value, Refusal> {
    let right = match (field.kind, json) {
        (Kind::Message(name), _) => return message(name, json),
        (Kind::Bool, Json::Bool(word)) => return Ok(Value::Bool(*word)),
        (Kind::String, Json::Text(_)) => true,
        (Kind::Double, Json::Text(text)) => is_double_in_quotes(text),
        // Out of range is not infinity, for which JSON has a word.
        (Kind::Double, Json::Number(digits)) => digits.parse().is_ok_and(f64::is_finite),
        (Kind::Bytes, Json::Text(text)) => STANDARD.decode(text).is_ok(),
        (Kind::TraceId, Json::Text(text)) => is_id(text, 32),
        (Kind::SpanId | Kind::ParentSpanId, Json::Text(text)) => is_id(text, 16),
        (Kind::Wide { .. }, Json::Text(digits)) => is_integer(field.kind, digits),
        (Kind::Wide { .. }, Json::Number(digits)) => {
            is_integer(field.kind, digits)
                && digits.parse().is_ok_and(|number: i128| number.unsigned_abs() <= EXACT_IN_A_DOUBLE)
        }
        (Kind::Narrow { .. } | Kind::Enum(_), Json::Number(digits)) => is_integer(field.kind, digits),
        _ => false,
    };
    match json {
        Json::Text(text) | Json::Number(text) if right => Ok(Value::String(text.clone())),
        _ => Err(format!("{} has a value that is none for it: {json:?}", field.name)),
    }
}

/// Checks rules that concern more than one member.
fn check_whole(name: &str, json: &Json) -> Result<(), Refusal> {
    let has = |key| json.get(key).is_some();
    match name {
        "Span" | "Link" if !has("traceId") || !has("spanId") => Err(format!("{name} without its ids")),
        "Span" if has("parentSpanId") && json.get("parentSpanId") == json.get("spanId") => {
            Err("a span that is its own parent".to_owned())
        }
        _ => Ok(()),
    }
}

fn is_id(text: &str, digits: usize) -> bool {
    text.len() == digits
        && text.bytes().all(|digit| digit.is_ascii_digit() || (b'a'..=b'f').contains(&digit))
        && text.bytes().any(|digit| digit != b'0')
}

/// Returns whether the text is digits as parsers of the usual languages read them: a minus sign before an unsigned
/// number is an error to them, even before zero. No encoder writes one before any other zero.
fn is_integer(kind: Kind, text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let (least, most) = kind.range();
    let is_negative = digits.len() < text.len();
    !digits.is_empty()
        && digits.bytes().all(|digit| digit.is_ascii_digit())
        && (!is_negative || digits.bytes().any(|digit| digit != b'0'))
        && text.parse().is_ok_and(|number: i128| (least..=most).contains(&number))
}

fn is_double_in_quotes(text: &str) -> bool {
    let is_word = matches!(text, "NaN" | "Infinity" | "-Infinity");
    is_word
        || matches!(Json::parse(text.as_bytes()), Some(Json::Number(_)))
            && text.parse().is_ok_and(f64::is_finite)
}
