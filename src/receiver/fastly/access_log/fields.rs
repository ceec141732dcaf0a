//! The fields of a JSON line: each value with the names on its path, joined by dots.
//!
//! In: the text of one object. Out: its fields, in the order of the line; unchanged text is not copied.
//! Promises: time and memory are linear in the length of the text, however deep it is.

use std::borrow::Cow;

use super::super::framing::RESOURCE_KEYS;
use crate::otlp::KeyPath;
use crate::otlp::json::{Cursor, Fault, Text};

/// Maximum length of a name. Longer objects are not entered, because every field in them would repeat it.
const MAX_PREFIX_BYTES: usize = 128;

/// Tells by its name whether a field must not be kept, and whether it is an object.
pub(super) type LeftOut<'a> = &'a dyn Fn(&str, bool) -> bool;

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

/// Reads the object at the start of `text`. Returns its fields and its length, without objects that are left out, and without
/// arrays and objects that hold something that is: they become text as a whole.
pub(super) fn read<'a>(
    text: &'a str,
    is_left_out: Option<LeftOut<'_>>,
) -> Result<(Vec<LineField<'a>>, usize), Fault> {
    let mut cursor = Cursor::new(text.as_bytes(), 0);
    let mut fields = Vec::with_capacity(32);
    object(&mut cursor, text, "", is_left_out, &mut fields)?;
    Ok((fields, cursor.at))
}

fn object<'a>(
    cursor: &mut Cursor<'a>,
    text: &'a str,
    prefix: &str,
    is_left_out: Option<LeftOut<'_>>,
    fields: &mut Vec<LineField<'a>>,
) -> Result<(), Fault> {
    cursor.object(|cursor, _, key| {
        let key = inside(text, key);
        let name = match prefix {
            "" => Cow::Borrowed(key),
            _ => Cow::Owned([prefix, ".", key].concat()),
        };
        // A line with one of these is OTLP.
        let is_left_out = is_left_out.filter(|_| !RESOURCE_KEYS.contains(&unescaped(&name).as_bytes()));
        if cursor.peek() == Some(b'{') {
            if is_left_out.is_some_and(|is_left_out| is_left_out(&unescaped(&name), true)) {
                return cursor.skip_value();
            }
            if name.len() <= MAX_PREFIX_BYTES {
                return object(cursor, text, &name, is_left_out, fields);
            }
        }
        let value = value(cursor, text)?;
        let is_kept = |value: &FieldValue<'_>| match (value, is_left_out) {
            // What cannot be searched is left out, too.
            (FieldValue::Json(json), Some(is_left_out)) => {
                holds(json, &name, is_left_out).is_ok_and(|is_found| !is_found)
            }
            _ => true,
        };
        fields.extend(value.filter(is_kept).map(|value| LineField { name, value }));
        Ok(())
    })
}

/// Returns whether an object in the JSON text of the field `name` has a field that is left out, by its key or the keys that lead to it.
fn holds(json: &str, name: &str, is_left_out: LeftOut<'_>) -> Result<bool, Fault> {
    fn search(cursor: &mut Cursor<'_>, path: &mut KeyPath, is_left_out: LeftOut<'_>) -> Result<bool, Fault> {
        let mut is_found = false;
        match cursor.peek() {
            Some(b'{') => cursor.object(|cursor, _, key| {
                path.enter(&key.unescaped(cursor.bytes()));
                let is_object = cursor.peek() == Some(b'{');
                is_found |= path.names(0).any(|name| is_left_out(&name, is_object));
                is_found |= search(cursor, path, is_left_out)?;
                path.leave();
                Ok(())
            })?,
            Some(b'[') => cursor.array(|cursor, _| {
                is_found |= search(cursor, path, is_left_out)?;
                Ok(())
            })?,
            _ => cursor.skip_value()?,
        }
        Ok(is_found)
    }
    let mut path = KeyPath::default();
    path.enter(unescaped(name).as_bytes());
    search(&mut Cursor::new(json.as_bytes(), 0), &mut path, is_left_out)
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
        read(text, None).unwrap().0.into_iter().map(|field| (field.name.into_owned(), field.value)).collect()
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
        assert_eq!(read(r#"{"a":1} {"b":2}"#, None).unwrap().1, 7);
        assert!(read(r#"{"a":1"#, None).is_err());
    }

    #[test]
    fn long_names_are_not_repeated_in_each_field() {
        let long = "k".repeat(MAX_PREFIX_BYTES + 1);
        let line = format!(r#"{{"{long}":{{"a":1,"b":2}}}}"#);
        assert_eq!(shown(&line), [(long, FieldValue::Json(r#"{"a":1,"b":2}"#))]);
    }

    #[test]
    fn objects_and_arrays_that_hold_what_is_left_out_are_left_out() {
        let is_left_out = |name: &str, _: bool| matches!(name, "user" | "who.email");
        let names = |line: &str| -> Vec<String> {
            read(line, Some(&is_left_out))
                .unwrap()
                .0
                .into_iter()
                .map(|field| field.name.into_owned())
                .collect()
        };
        for (line, expected) in [
            (r#"{"a":1,"user":{"b":{"c":2}},"d":3}"#, &["a", "d"][..]),
            (r#"{"a":1,"us\u0065r":{"b":2}}"#, &["a"]),
            (r#"{"list":[1,[{"user":2}]],"other":[{"use":"user"}]}"#, &["other"]),
            (r#"{"list":[{"x":{"who":{"email":1}}}],"d":[{"who":[{"name":1}]}]}"#, &["d"]),
            (r#"{"x":{"list":[{"who":[{"email":1}]}],"d":4}}"#, &["x.d"]),
            // Other values are judged where their meaning is known.
            (r#"{"user":1}"#, &["user"]),
        ] {
            assert_eq!(names(line), expected, "{line}");
        }
        let long = "k".repeat(MAX_PREFIX_BYTES + 1);
        assert!(names(&format!(r#"{{"{long}":{{"user":1}}}}"#)).is_empty());
        assert_eq!(names(&format!(r#"{{"{long}":{{"use":1}}}}"#)), [long]);
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
