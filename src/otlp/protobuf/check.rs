//! Check of an export request that may be passed on as it is.
//!
//! In: the bytes of a request of one signal. Out: the number of its items, or `None` where the request must be decoded:
//! it is invalid, needs a repair, or is encoded in a way that real encoders do not use.
//!
//! Promises: of a request that passes, the decoder and the reader of JSON would change nothing, and each of its items
//! is at exactly one position. Nothing is copied. Unknown fields are allowed.

use super::super::schema::{Field, FieldType, Group, LINE, Message, MessageRole};
use super::super::walk::{MAX_ITEMS, fingerprint};
use super::wire::{Fields, WireValue};
use crate::event::Signal;
use crate::otlp::json::MAX_DEPTH;

/// Number of attributes up to which a key is compared with all earlier ones; longer lists are sorted.
const FEW: usize = 64;

/// Levels that the content of a resource is nested in, as JSON: the request, its list, and the resource.
pub(super) const RESOURCE_DEPTH: u32 = 3;

/// Contents of a request that needs no change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RequestContents {
    /// Number of spans, log records or data points. A metric without any data points counts as one.
    pub(super) items: u32,
    /// All items are metrics without data points.
    pub(super) is_bare: bool,
}

/// Contents of a request that was not rejected so far.
#[derive(Debug, Default)]
struct RequestCheck<'a> {
    /// Number of spans, log records or data points. A metric without any data points counts as one.
    items: u32,
    /// Number of metrics without data points.
    bare_metrics: u32,
    has_unknown: bool,
    /// Keys of the attribute lists that are being read, innermost last.
    keys: Vec<&'a [u8]>,
    /// Hash of each key, for lists with few attributes.
    prints: Vec<u32>,
}

/// Fields of one message that were read so far. A message with any that it does not admit is left to the decoder.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// One bit for each field that is not a list, by its index in the schema.
    fields: u32,
    has_one_of: bool,
}

/// Ids of a message.
#[derive(Debug, Default)]
struct MessageIds {
    has_trace: bool,
    span: Option<[u8; 8]>,
    parent: Option<[u8; 8]>,
}

/// Returns the contents of a request that needs no change. A request without items is left to the decoder.
pub(super) fn check(signal: Signal, body: &[u8]) -> Option<RequestContents> {
    let FieldType::Messages(resource) = LINE.fields[signal as usize].kind else { return None };
    let mut check = RequestCheck::default();
    let mut fields = Fields::new(body, 0);
    while let Some((number, wire)) = fields.read().ok()? {
        match (number, wire) {
            // Every request has its one list as field 1.
            (1, WireValue::Length(bytes)) => check.message(resource, bytes, RESOURCE_DEPTH)?,
            (1, _) => return None,
            _ => check.has_unknown = true,
        }
    }
    let RequestCheck { items, bare_metrics, has_unknown, .. } = check;
    let is_bare = items == bare_metrics;
    // Data points of a kind that the schema does not know are unknown fields of a metric without any.
    (items > 0 && !(is_bare && has_unknown)).then_some(RequestContents { items, is_bare })
}

// === impl Seen ===

impl Seen {
    /// Adds a field. Returns `false` for another wire type than the field's, a part of a split message, and a scalar of which the
    /// last value counts.
    #[inline]
    pub(super) fn admits(&mut self, index: usize, field: &Field, wire: WireValue<'_>) -> bool {
        if !field.kind.accepts(wire) {
            return false;
        }
        if field.kind.is_list() {
            return true;
        }
        let is_repeated = self.fields & 1 << index != 0;
        self.fields |= 1 << index;
        let is_second = field.group == Group::OneOf && std::mem::replace(&mut self.has_one_of, true);
        !is_repeated && !is_second
    }
}

// === impl RequestCheck ===

impl<'a> RequestCheck<'a> {
    /// Reads a message, which is nested `depth` levels deep as JSON.
    fn message(&mut self, message: &'static Message, bytes: &'a [u8], depth: u32) -> Option<()> {
        // A list in the message is one level deeper.
        if depth >= MAX_DEPTH {
            return None;
        }
        let base = self.keys.len();
        let mut seen = Seen::default();
        let mut ids = MessageIds::default();
        let mut fields = Fields::new(bytes, 0);
        while let Some((number, wire)) = fields.read().ok()? {
            let Some((index, field)) = message.numbered(number) else {
                self.has_unknown = true;
                continue;
            };
            if let (FieldType::Messages(inner), WireValue::Length(content)) = (field.kind, wire) {
                self.element(inner, content, depth + 2, base)?;
                continue;
            }
            if !seen.admits(index, field, wire) {
                return None;
            }
            self.value(field, wire, &mut ids, depth)?;
        }
        self.end_list(base)?;
        ids.are_valid_for(message.role).then_some(())
    }

    /// Reads a value, whose wire type was checked.
    fn value(&mut self, field: &Field, wire: WireValue<'a>, ids: &mut MessageIds, depth: u32) -> Option<()> {
        match (field.kind, wire) {
            (FieldType::Message(inner), WireValue::Length(content)) => {
                self.message(inner, content, depth + 1)
            }
            (FieldType::String | FieldType::Strings, WireValue::Length(text)) => is_text(text),
            (FieldType::TraceId, WireValue::Length(id)) => {
                ids.has_trace = read_id::<16>(id)?.is_some();
                Some(())
            }
            (FieldType::SpanId, WireValue::Length(id)) => {
                ids.span = read_id(id)?;
                Some(())
            }
            (FieldType::ParentSpanId, WireValue::Length(id)) => {
                ids.parent = read_id(id)?;
                Some(())
            }
            (FieldType::Ints(_) | FieldType::Doubles, WireValue::Length(packed)) => {
                let mut packed = Fields::new(packed, 0);
                while !packed.is_at_end() {
                    field.kind.unpack(&mut packed).ok()?;
                }
                Some(())
            }
            _ => Some(()),
        }
    }

    /// Reads an element of a list of messages; `base` is the number of keys before the list.
    fn element(
        &mut self,
        message: &'static Message,
        content: &'a [u8],
        depth: u32,
        base: usize,
    ) -> Option<()> {
        match message.role {
            MessageRole::KeyValue => self.attribute(message, content, depth, base),
            MessageRole::Span | MessageRole::LogRecord | MessageRole::Point => {
                self.item()?;
                self.message(message, content, depth)
            }
            MessageRole::Metric => {
                let before = self.items;
                self.message(message, content, depth)?;
                if self.items == before {
                    self.item()?;
                    self.bare_metrics += 1;
                }
                Some(())
            }
            _ => self.message(message, content, depth),
        }
    }

    /// Counts an item. The decoder decides whether a request may have more than the usual maximum.
    fn item(&mut self) -> Option<()> {
        self.items += 1;
        ((self.items as usize) < MAX_ITEMS).then_some(())
    }

    #[inline]
    fn attribute(
        &mut self,
        message: &'static Message,
        content: &'a [u8],
        depth: u32,
        base: usize,
    ) -> Option<()> {
        let key = match text_attribute(content) {
            // The value is one level deeper.
            Some(key) if depth + 1 < MAX_DEPTH => {
                is_text(content)?;
                key
            }
            _ => {
                self.message(message, content, depth)?;
                key_of(content)?
            }
        };
        let earlier = self.keys.len() - base;
        if earlier >= MAX_ITEMS {
            return None;
        }
        let mut print = 0;
        if earlier < FEW {
            print = (fingerprint(key, 0..key.len()).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32;
            if self.prints[base..].contains(&print) && self.keys[base..].contains(&key) {
                return None;
            }
        }
        self.keys.push(key);
        self.prints.push(print);
        Some(())
    }

    /// Ends the list of attributes of a message, if it has one.
    fn end_list(&mut self, base: usize) -> Option<()> {
        let keys = &mut self.keys[base..];
        if keys.len() > FEW {
            keys.sort_unstable();
            if keys.windows(2).any(|pair| pair[0] == pair[1]) {
                return None;
            }
        }
        self.keys.truncate(base);
        self.prints.truncate(base);
        Some(())
    }
}

// === impl Message ===

impl Message {
    /// Returns the field with this number in protobuf, and its index.
    #[inline]
    pub(super) fn numbered(&self, number: u32) -> Option<(usize, &'static Field)> {
        let is = |field: &&Field| field.number == number;
        // Most messages have all numbers from 1, in order.
        let usual = (number as usize).wrapping_sub(1);
        if let Some(field) = self.fields.get(usual).filter(is) {
            return Some((usual, field));
        }
        self.fields.iter().enumerate().find(|(_, field)| is(field))
    }
}

// === impl MessageIds ===

impl MessageIds {
    /// Returns whether a message may have these ids. An id that is present was checked.
    fn are_valid_for(&self, role: MessageRole) -> bool {
        match role {
            MessageRole::Span => self.has_trace && self.span.is_some() && self.parent != self.span,
            MessageRole::Link => self.has_trace && self.span.is_some(),
            _ => true,
        }
    }
}

/// Returns an id, which may be missing; `None` for an invalid one.
#[inline]
fn read_id<const N: usize>(id: &[u8]) -> Option<Option<[u8; N]>> {
    if id.is_empty() {
        return Some(None);
    }
    let id: [u8; N] = id.try_into().ok()?;
    (id != [0; N]).then_some(Some(id))
}

fn is_text(text: &[u8]) -> Option<()> {
    std::str::from_utf8(text).is_ok().then_some(())
}

/// Returns the key of an attribute with a string value, encoded as every encoder does, with lengths below 128. Then the
/// bytes around both texts are ASCII, so that key and value are UTF-8 exactly if the whole attribute is.
#[inline]
fn text_attribute(content: &[u8]) -> Option<&[u8]> {
    const KEY: u8 = 0x0a;
    const VALUE: u8 = 0x12;
    const STRING_VALUE: u8 = 0x0a;
    let [KEY, key_length @ 0..0x80, rest @ ..] = content else { return None };
    let (key, value) = rest.split_at_checked(usize::from(*key_length))?;
    match value {
        [VALUE, value_length @ 0..0x80, STRING_VALUE, text_length @ 0..0x80, text @ ..]
            if usize::from(*text_length) == text.len() && usize::from(*value_length) == text.len() + 2 =>
        {
            Some(key)
        }
        _ => None,
    }
}

/// Returns the key of any attribute: empty if it is missing.
pub(super) fn key_of(content: &[u8]) -> Option<&[u8]> {
    let mut fields = Fields::new(content, 0);
    while let Some((number, wire)) = fields.read().ok()? {
        if let (1, WireValue::Length(key)) = (number, wire) {
            return Some(key);
        }
    }
    Some(&[])
}

#[cfg(test)]
mod tests;
