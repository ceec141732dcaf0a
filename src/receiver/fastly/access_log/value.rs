//! JSON of OTLP values, made of the fields of a line.

use super::fields::{self, FieldValue};

/// Writes the contents of an OTLP value.
pub(super) fn any_value(out: &mut String, value: FieldValue<'_>) {
    let mut push = |parts: &[&str]| parts.iter().for_each(|part| out.push_str(part));
    match value {
        FieldValue::Plain(raw) | FieldValue::Escaped(raw) => push(&["\"stringValue\":\"", raw, "\""]),
        FieldValue::Bool(value) => push(&["\"boolValue\":", if value { "true" } else { "false" }]),
        FieldValue::Number(number) if number.parse::<i64>().is_ok() => {
            push(&["\"intValue\":\"", number, "\""])
        }
        FieldValue::Number(number) if is_fraction(number) => push(&["\"doubleValue\":", number]),
        // A number that neither type can represent exactly is kept as text.
        FieldValue::Number(number) => push(&["\"stringValue\":\"", number, "\""]),
        FieldValue::Json(json) => match fields::elements(json) {
            Some(values) => {
                out.push_str("\"arrayValue\":{\"values\":[");
                for (index, value) in values.into_iter().enumerate() {
                    out.push_str(if index > 0 { ",{" } else { "{" });
                    any_value(out, value);
                    out.push('}');
                }
                out.push_str("]}");
            }
            None => {
                out.push_str("\"stringValue\":");
                push_quoted(out, json);
            }
        },
    }
}

/// Returns whether a number has a fraction or an exponent, and a double can represent it.
fn is_fraction(number: &str) -> bool {
    number.contains(['.', 'e', 'E']) && number.parse::<f64>().is_ok_and(f64::is_finite)
}

/// Returns a JSON string.
pub(super) fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    push_quoted(&mut out, text);
    out
}

/// Writes a JSON string.
pub(super) fn push_quoted(out: &mut String, text: &str) {
    // Without an early end the loop is vectorized; most texts have nothing to escape.
    let needs_escape =
        text.bytes().fold(false, |needs, byte| needs | (byte < b' ') | (byte == b'"') | (byte == b'\\'));
    if needs_escape {
        out.push_str(&serde_json::to_string(text).unwrap_or_default());
    } else {
        out.push('"');
        out.push_str(text);
        out.push('"');
    }
}
