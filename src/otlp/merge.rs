//! Merges repeated keys of an object, and old and new names of the same field.
//!
//! In: the text of one object in which a walk found such keys. Out: the same object with each known key once.
//!
//! Promises:
//! - Lists with the same key are concatenated, in the order of the text, as OTLP receivers do.
//! - The last scalar wins, as in every JSON reader; [`Merged::dropped_scalars`] reports whether they differed.
//! - A new name takes precedence over an old one, unless the old one has more content: `null` and empty values have none, and
//!   a list of resources or scopes has more with spans, log records or metrics than without. Any value replaces `null`.
//! - Equal messages become one. Different ones are a fault, because one of them would be lost.
//! - Linear in the text: every byte is read once and written at most once.

use std::ops::Range;

use bytes::Bytes;
use smallvec::SmallVec;

use super::json::{Cursor, Fault};
use super::schema::{Field, FieldType, LINE, Message, MessageRole};
use super::splice::{Edits, Origins, Removals};
use super::walk::find;

/// A text without repeated keys.
#[derive(Debug)]
pub(super) struct Merged {
    pub(super) text: Bytes,
    /// Length of the object in the input.
    pub(super) consumed: usize,
    /// A scalar was dropped in favour of a different one.
    pub(super) dropped_scalars: bool,
    pub(super) origins: Origins,
}

/// Change of the text, with positions in the input.
#[derive(Debug)]
enum Change {
    Delete(Range<usize>),
    /// Inserts elements of other lists before those of the list that begins at `at`.
    Join {
        at: usize,
        elements: Vec<Range<usize>>,
    },
}

/// A member of an object.
#[derive(Debug)]
struct ObjectMember {
    /// Index of the field, if it is known.
    field: Option<usize>,
    /// The key is today's name of the field.
    is_current: bool,
    range: Range<usize>,
    value: Range<usize>,
}

#[derive(Debug)]
struct Merger<'a> {
    bytes: &'a [u8],
    changes: Vec<Change>,
    dropped_scalars: bool,
    out: Vec<u8>,
    origins: Origins,
}

/// Merges repeated keys of the line at the start of `bytes`.
pub(super) fn merge(bytes: &[u8]) -> Result<Merged, Fault> {
    let mut merger = Merger {
        bytes,
        changes: Vec::new(),
        dropped_scalars: false,
        out: Vec::with_capacity(bytes.len()),
        origins: Origins::default(),
    };
    let mut cursor = Cursor::new(bytes, 0);
    merger.message(&mut cursor, &LINE)?;
    let consumed = cursor.at;
    merger.changes.sort_by_key(Change::start);
    merger.write(0..consumed);
    let Merger { dropped_scalars, out, origins, .. } = merger;
    Ok(Merged { text: out.into(), consumed, dropped_scalars, origins })
}

/// Content of a value, least first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum ValueContent {
    Nothing,
    /// Resources or scopes in which no span, log record or metric has content.
    Wrapping,
    Full,
}

/// Returns whether a value has no content: `null`, or nested brackets with nothing in them.
pub(super) fn is_empty_value(value: &[u8]) -> bool {
    value.split(|byte| b"[]{}, \t\r\n".contains(byte)).all(|word| word.is_empty() || word == b"null")
}

/// Returns whether a value has no content at any depth: it consists of brackets, keys, `null` and empty strings. The value
/// must be JSON.
fn is_deeply_empty(value: &[u8]) -> bool {
    let mut cursor = Cursor::new(value, 0);
    while let Some(byte) = cursor.peek() {
        let start = cursor.at;
        match byte {
            b'"' if cursor.key().is_ok() => {}
            b'"' if value[start..].starts_with(b"\"\"") => cursor.at = start + 2,
            b'n' => cursor.at += "null".len(),
            byte if b"[]{}, \t\r\n".contains(&byte) => cursor.at += 1,
            _ => return false,
        }
    }
    true
}

/// Skips a list of resources or scopes and returns its content.
fn content_of_containers(
    cursor: &mut Cursor<'_>,
    container: &'static Message,
) -> Result<ValueContent, Fault> {
    let mut most = ValueContent::Nothing;
    cursor.array(|cursor, _| {
        if cursor.peek() != Some(b'{') {
            return cursor.skip_value();
        }
        cursor.object(|cursor, _, key| {
            let field = find(container, cursor.bytes(), key, 0).map(|(index, _)| &container.fields[index]);
            let content = match (field.map(|field| field.kind), cursor.peek()) {
                (Some(FieldType::Messages(inner)), Some(b'[')) if inner.role == MessageRole::Container => {
                    content_of_containers(cursor, inner)?
                }
                (kind, _) => {
                    let value = cursor.at;
                    cursor.skip_value()?;
                    let value = &cursor.bytes()[value..cursor.at];
                    match kind {
                        Some(FieldType::Messages(_)) if !is_empty_value(value) => ValueContent::Full,
                        // They have no content, but they are items.
                        Some(FieldType::Messages(_)) if value.starts_with(b"[") && value.contains(&b'{') => {
                            ValueContent::Wrapping
                        }
                        _ if is_deeply_empty(value) => ValueContent::Nothing,
                        _ => ValueContent::Wrapping,
                    }
                }
            };
            most = most.max(content);
            Ok(())
        })
    })?;
    Ok(most)
}

// === impl FieldType ===

impl FieldType {
    /// Returns whether a field of this kind may have several values.
    pub(super) fn is_list(self) -> bool {
        matches!(self, Self::Messages(_) | Self::Strings | Self::Doubles | Self::Ints(_))
    }
}

// === impl Change ===

impl Change {
    fn start(&self) -> usize {
        match self {
            Self::Delete(range) => range.start,
            Self::Join { at, .. } => *at,
        }
    }
}

// === impl Merger ===

impl Merger<'_> {
    /// Reads a message and notes the required changes.
    fn message(&mut self, cursor: &mut Cursor<'_>, message: &'static Message) -> Result<(), Fault> {
        let mut members: SmallVec<[ObjectMember; 16]> = SmallVec::new();
        let mut seen = 0_u32;
        let mut repeated = 0_u32;
        cursor.object(|cursor, start, key| {
            let field = find(message, cursor.bytes(), key, 0).map(|(index, _)| index);
            let value = cursor.at;
            self.value(cursor, field.map(|index| &message.fields[index]))?;
            let mut is_current = false;
            if let Some(index) = field {
                repeated |= seen & 1 << index;
                seen |= 1 << index;
                is_current = *key.unescaped(cursor.bytes()) == *message.fields[index].name.as_bytes();
            }
            members.push(ObjectMember {
                field,
                is_current,
                range: start..cursor.at,
                value: value..cursor.at,
            });
            Ok(())
        })?;
        if repeated == 0 {
            return Ok(());
        }
        let mut kept: SmallVec<[bool; 16]> = SmallVec::from_elem(true, members.len());
        for (index, field) in
            message.fields.iter().enumerate().filter(|(index, _)| repeated & 1 << index != 0)
        {
            let chosen = self.choose(field, index, &members);
            for (member, kept) in members.iter().zip(&mut kept) {
                *kept &= member.field != Some(index);
            }
            kept[self.merge(field, &members, &chosen)?] = true;
        }
        let mut deletions = Edits::default();
        let mut removals = Removals::default();
        for (member, kept) in members.into_iter().zip(kept) {
            match kept {
                true => removals.keep(member.range, &mut deletions),
                false => removals.remove(member.range),
            }
        }
        removals.finish(&mut deletions);
        self.changes.extend(deletions.ranges().map(|range| Change::Delete(range.clone())));
        Ok(())
    }

    fn value(&mut self, cursor: &mut Cursor<'_>, field: Option<&'static Field>) -> Result<(), Fault> {
        match (field.map(|field| field.kind), cursor.peek()) {
            (Some(FieldType::Message(message)), Some(b'{')) => self.message(cursor, message),
            (Some(FieldType::Messages(message)), Some(b'[')) => {
                cursor.array(|cursor, _| match cursor.peek() {
                    Some(b'{') => self.message(cursor, message),
                    _ => cursor.skip_value(),
                })
            }
            _ => cursor.skip_value(),
        }
    }

    /// Returns the members that determine a field, in the order of the text.
    fn choose(&self, field: &Field, index: usize, members: &[ObjectMember]) -> SmallVec<[usize; 4]> {
        let with_field: SmallVec<[(usize, bool, ValueContent); 4]> = (members.iter().enumerate())
            .filter(|(_, member)| member.field == Some(index))
            .map(|(place, member)| (place, member.is_current, self.content(field, member.value.clone())))
            .collect();
        let most = |current: bool| {
            let those = with_field.iter().filter(|(_, is_current, _)| *is_current == current);
            those.map(|(.., content)| *content).max()
        };
        // `None`, for no members, is less than any content.
        let (newest, oldest) = (most(true), most(false));
        let current = newest >= oldest;
        let least = newest.max(oldest).map_or(ValueContent::Nothing, |most| most.min(ValueContent::Wrapping));
        let counts = |(_, is_current, content): &&(usize, bool, ValueContent)| {
            *is_current == current && *content >= least
        };
        with_field.iter().filter(counts).map(|(place, ..)| *place).collect()
    }

    fn content(&self, field: &Field, value: Range<usize>) -> ValueContent {
        let text = &self.bytes[value.clone()];
        let is_nothing = match field.kind {
            FieldType::Messages(message)
                if message.role == MessageRole::Container && text.starts_with(b"[") =>
            {
                let mut cursor = Cursor::new(self.bytes, value.start);
                return content_of_containers(&mut cursor, message).unwrap_or(ValueContent::Full);
            }
            FieldType::Message(_) => is_deeply_empty(text),
            kind if kind.is_list() => is_empty_value(text),
            _ => text == b"null",
        };
        if is_nothing { ValueContent::Nothing } else { ValueContent::Full }
    }

    /// Merges members of one field, and returns the index of the one that is kept.
    fn merge(&mut self, field: &Field, members: &[ObjectMember], chosen: &[usize]) -> Result<usize, Fault> {
        let (&last, others) = chosen.split_last().expect("a repeated key has members");
        let value = |place: usize| members[place].value.clone();
        let differs = |&&place: &&usize| self.bytes[value(place)] != self.bytes[value(last)];
        if field.kind.is_list() && !others.is_empty() {
            if let Some(&place) = chosen.iter().find(|&&place| self.bytes[value(place).start] != b'[') {
                return Err(Fault::shape(value(place).start, format!("{} must be an array", field.name)));
            }
            let elements = others.iter().map(|&place| value(place).start + 1..value(place).end - 1);
            let elements =
                elements.filter(|range| !self.bytes[range.clone()].trim_ascii().is_empty()).collect();
            self.changes.push(Change::Join { at: value(last).start + 1, elements });
        } else if let Some(&place) = others.iter().find(differs) {
            if matches!(field.kind, FieldType::Message(_)) {
                let reason = format!("{} occurs twice in one object, with different content", field.name);
                return Err(Fault::shape(members[place].range.start, reason));
            }
            self.dropped_scalars = true;
        }
        Ok(last)
    }

    /// Writes a range of the input with its changes.
    fn write(&mut self, range: Range<usize>) {
        let mut from = range.start;
        let from_start = |changes: &[Change], start: usize| changes.partition_point(|it| it.start() < start);
        let mut next = from_start(&self.changes, from);
        while let Some(change) = self.changes.get_mut(next).filter(|it| it.start() < range.end) {
            let at = change.start();
            match change {
                Change::Delete(gone) => {
                    let end = gone.end;
                    self.copy(from..at);
                    from = end;
                    next = from_start(&self.changes, from);
                }
                Change::Join { elements, .. } => {
                    let elements = std::mem::take(elements);
                    self.copy(from..at);
                    for list in elements {
                        self.write(list);
                        self.out.push(b',');
                    }
                    from = at;
                    next += 1;
                }
            }
        }
        self.copy(from..range.end);
    }

    fn copy(&mut self, range: Range<usize>) {
        if !range.is_empty() {
            self.origins.note(self.out.len(), range.start);
            self.out.extend_from_slice(&self.bytes[range]);
        }
    }
}

#[cfg(test)]
mod tests;
