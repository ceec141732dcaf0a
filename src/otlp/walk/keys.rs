//! Lookup of fields by key, in any spelling.

use super::super::json::Text;
use super::super::schema::{Field, LINE, Message, MessageRole};
use crate::event::Signal;

/// Spelling of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spelling {
    Current,
    /// The field's name in an earlier version of OTLP, or in snake case.
    Outdated,
}

/// Returns the signal whose section a key of a line names, by [`LINE`].
pub(crate) fn signal_of_key(bytes: &[u8], key: Text) -> Option<Signal> {
    find(&LINE, bytes, key, 0).map(|(index, _)| Signal::ALL[index])
}

/// Returns the field of a message that a key names in any of its spellings.
pub(crate) fn field_named(message: &'static Message, bytes: &[u8], key: Text) -> Option<&'static Field> {
    find(message, bytes, key, 0).map(|(index, _)| &message.fields[index])
}

/// Returns whether a field holds text for people, in which any character may occur.
pub(crate) fn is_free_text(message: &Message, field: &Field) -> bool {
    matches!(
        (message.role, field.name),
        (MessageRole::AnyValue, "stringValue")
            | (MessageRole::Span, "name")
            | (MessageRole::LogRecord, "eventName")
            | (MessageRole::Status, "message")
    )
}

/// Finds the field that a key names. Fields mostly come in the order of the table, so it is searched from `next` on.
#[inline]
pub(crate) fn find(
    message: &'static Message,
    bytes: &[u8],
    key: Text,
    next: usize,
) -> Option<(usize, Spelling)> {
    let raw = key.raw(bytes);
    let is = |field: &Field| field.name.as_bytes() == raw;
    let (before, from_next) = message.fields.split_at(next.min(message.fields.len()));
    if let Some(index) = from_next.iter().position(is) {
        return Some((next + index, Spelling::Current));
    }
    if let Some(index) = before.iter().position(is) {
        return Some((index, Spelling::Current));
    }
    find_outdated(message, bytes, key)
}

/// Finds the field of a key in another spelling: a name of an earlier version of OTLP, snake case (which Collectors
/// read although the specification forbids it), or a name with escapes.
#[cold]
fn find_outdated(message: &'static Message, bytes: &[u8], key: Text) -> Option<(usize, Spelling)> {
    let name = key.unescaped(bytes);
    let is = |wanted: &str| wanted.as_bytes() == &*name;
    if let Some(index) = message.fields.iter().position(|field| field.legacy.is_some_and(is)) {
        return Some((index, Spelling::Outdated));
    }
    if key.escaped {
        return message
            .fields
            .iter()
            .position(|field| is(field.name))
            .map(|index| (index, Spelling::Outdated));
    }
    if !name.contains(&b'_') {
        return None;
    }
    let camel = camel_case(&name)?;
    message
        .fields
        .iter()
        .position(|field| field.name.as_bytes() == camel)
        .map(|index| (index, Spelling::Outdated))
}

/// Converts snake case to the field's name; `None` when it is not snake case: `name_` is another key.
fn camel_case(snake: &[u8]) -> Option<Vec<u8>> {
    let mut camel = Vec::with_capacity(snake.len());
    let mut upper = false;
    for &byte in snake {
        match byte {
            b'a'..=b'z' if upper => {
                camel.push(byte.to_ascii_uppercase());
                upper = false;
            }
            b'a'..=b'z' => camel.push(byte),
            b'_' if !upper && !camel.is_empty() => upper = true,
            _ => return None,
        }
    }
    (!upper).then_some(camel)
}
