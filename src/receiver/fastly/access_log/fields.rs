//! The fields of a JSON line: each value with the names on its path, joined by dots.
//!
//! In: the text of one object. Out: its fields, in the order of the line; unchanged text is not copied.
//! Promises: time and memory are linear in the length of the text, however deep it is.

use std::borrow::Cow;

use crate::otlp::json::{Cursor, Fault, Text};

/// Maximum length of a name. Longer objects are not entered, because every field in them would repeat it.
const MAX_PREFIX_BYTES: usize = 128;

/// A value of a line, and its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LineField<'a> {
    /// Name as in the line, with its JSON escapes.
    pub(super) name: Cow<'a, str>,
    pub(super) value: FieldValue<'a>,
}

/// The value of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FieldValue<'a> {
    /// Text without escapes. What JSON escapes may be in it.
    Plain(&'a str),
    /// The inside of a JSON string, with its escapes.
    Escaped(&'a str),
    /// A number, as written.
    Number(&'a str),
    Bool(bool),
    /// An array, or an object that was not entered: its JSON text.
    Json(&'a str),
}

// === impl FieldValue ===

impl<'a> FieldValue<'a> {
    /// Returns the text of a string or number; `None` for other values, and for words that mean no value.
    pub(super) fn text(self) -> Option<Cow<'a, str>> {
        let text = match self {
            Self::Plain(text) | Self::Number(text) => Cow::Borrowed(text),
            Self::Escaped(raw) => Cow::Owned(serde_json::from_str(&["\"", raw, "\""].concat()).ok()?),
            Self::Bool(_) | Self::Json(_) => return None,
        };
        (!matches!(&*text, "" | "-" | "(null)")).then_some(text)
    }
}

/// Reads the object at the start of `text`. Returns its fields and its length.
pub(super) fn read(text: &str) -> Result<(Vec<LineField<'_>>, usize), Fault> {
    let mut cursor = Cursor::new(text.as_bytes(), 0);
    let mut fields = Vec::with_capacity(32);
    object(&mut cursor, text, "", &mut fields)?;
    Ok((fields, cursor.at))
}

fn object<'a>(
    cursor: &mut Cursor<'a>,
    text: &'a str,
    prefix: &str,
    fields: &mut Vec<LineField<'a>>,
) -> Result<(), Fault> {
    cursor.object(|cursor, _, key| {
        let key = inside(text, key);
        let name = match prefix {
            "" => Cow::Borrowed(key),
            _ => Cow::Owned([prefix, ".", key].concat()),
        };
        if cursor.peek() == Some(b'{') && name.len() <= MAX_PREFIX_BYTES {
            return object(cursor, text, &name, fields);
        }
        if let Some(value) = value(cursor, text)? {
            fields.push(LineField { name, value });
        }
        Ok(())
    })
}

/// Skips one value. `null` is absent.
fn value<'a>(cursor: &mut Cursor<'a>, text: &'a str) -> Result<Option<FieldValue<'a>>, Fault> {
    let (start, first) = (cursor.at, cursor.peek());
    if first == Some(b'"') {
        let string = cursor.string()?;
        let raw = inside(text, string);
        return Ok(Some(if string.escaped { FieldValue::Escaped(raw) } else { FieldValue::Plain(raw) }));
    }
    cursor.skip_value()?;
    let written = text.get(start..cursor.at).unwrap_or_default();
    Ok(match first {
        Some(b'n') => None,
        Some(b't' | b'f') => Some(FieldValue::Bool(written == "true")),
        Some(b'{' | b'[') => Some(FieldValue::Json(written)),
        _ => Some(FieldValue::Number(written)),
    })
}

/// Returns a name without JSON escapes.
pub(super) fn unescaped<'a>(name: &'a str) -> Cow<'a, str> {
    if !name.bytes().any(|byte| byte == b'\\') {
        return Cow::Borrowed(name);
    }
    serde_json::from_str(&["\"", name, "\""].concat()).map_or(Cow::Borrowed(name), Cow::Owned)
}

/// Returns the elements of an array, unless one of them is an array or an object.
pub(super) fn elements(json: &str) -> Option<Vec<FieldValue<'_>>> {
    let mut values = Vec::new();
    let mut is_flat = true;
    let mut cursor = Cursor::new(json.as_bytes(), 0);
    cursor
        .array(|cursor, _| {
            let value = value(cursor, json)?;
            is_flat &= !matches!(value, Some(FieldValue::Json(_)));
            values.extend(value);
            Ok(())
        })
        .ok()?;
    is_flat.then_some(values)
}

fn inside(text: &str, literal: Text) -> &str {
    // The ends of a literal are quotes, so that the range is valid UTF-8.
    text.get(literal.start..literal.end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Vec<(String, FieldValue<'_>)> {
        read(text).unwrap().0.into_iter().map(|field| (field.name.into_owned(), field.value)).collect()
    }

    #[test]
    fn fields_of_objects_in_objects_have_dotted_names() {
        let line =
            r#"{"http":{"method":"GET","size":12},"ok":true,"none":null,"list":[1,{"a":2}],"q":"a\"b"}"#;
        let expected = [
            ("http.method", FieldValue::Plain("GET")),
            ("http.size", FieldValue::Number("12")),
            ("ok", FieldValue::Bool(true)),
            ("list", FieldValue::Json(r#"[1,{"a":2}]"#)),
            ("q", FieldValue::Escaped(r#"a\"b"#)),
        ];
        assert_eq!(shown(line), expected.map(|(name, value)| (name.to_owned(), value)));
    }

    #[test]
    fn the_length_is_that_of_the_object() {
        assert_eq!(read(r#"{"a":1} {"b":2}"#).unwrap().1, 7);
        assert!(read(r#"{"a":1"#).is_err());
    }

    #[test]
    fn long_names_are_not_repeated_in_each_field() {
        let long = "k".repeat(MAX_PREFIX_BYTES + 1);
        let line = format!(r#"{{"{long}":{{"a":1,"b":2}}}}"#);
        assert_eq!(shown(&line), [(long, FieldValue::Json(r#"{"a":1,"b":2}"#))]);
    }

    #[test]
    fn elements_are_those_of_flat_arrays() {
        assert_eq!(elements(r#"[1,"a",null]"#), Some(vec![FieldValue::Number("1"), FieldValue::Plain("a")]));
        assert_eq!(elements("[[1]]"), None);
        assert_eq!(elements("{}"), None);
    }

    #[test]
    fn words_that_mean_no_value_are_absent() {
        for value in [
            FieldValue::Plain(""),
            FieldValue::Plain("-"),
            FieldValue::Plain("(null)"),
            FieldValue::Bool(true),
        ] {
            assert_eq!(value.text(), None, "{value:?}");
        }
        assert_eq!(FieldValue::Escaped(r"a\u0041").text().as_deref(), Some("aA"));
    }
}
