//! Attribute lists: keys are unique, and the last of several attributes with the same key is kept.

use std::collections::HashMap;
use std::ops::Range;

use super::super::json::{Fault, Text, plain_text_end};
use super::super::schema::Message;
use super::super::splice::Removals;
use super::{Stop, VALUE_IN_BRACES, Walker, max_items};

/// Length of a list from which keys are looked up by hash; below it, comparing them one by one is faster.
const FEW: usize = 40;

/// One attribute of a list that is being read.
#[derive(Debug, Clone)]
pub(crate) struct AttributeKey {
    /// Hash of the key's length and of its first and last bytes: keys with different hashes differ.
    print: u64,
    key: Text,
    element: Range<usize>,
    keep: Keep,
}

/// Approximate set of the keys of a list.
#[derive(Debug, Default)]
struct SeenKeys {
    /// One bit for each key; some keys share a bit.
    bits: u128,
    /// Index of each key, once the list is long or has a key with escapes, which has several spellings.
    places: HashMap<Vec<u8>, usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Keep {
    Yes,
    No,
}

// === impl Walker ===

impl Walker<'_> {
    /// Reads a list of attributes from its first element. Returns the number of kept ones.
    pub(super) fn attributes(&mut self, message: &'static Message) -> Result<u32, Stop> {
        // This list may be inside an attribute of another one.
        let outer_key = self.attribute_key.take();
        let base = self.keys.len();
        let checkpoint = self.found.edits.len();
        let mut gone = 0;
        let mut seen = SeenKeys::default();
        loop {
            let start = self.cursor.at;
            let element_checkpoint = self.found.edits.len();
            let keep = self.attribute(message)?;
            let key = self.attribute_key.take().unwrap_or(Text { start, end: start, escaped: false });
            let attribute = AttributeKey {
                print: fingerprint(self.cursor.bytes(), key.start..key.end),
                key,
                element: start..self.cursor.at,
                keep,
            };
            if keep == Keep::No {
                self.found.edits.truncate(element_checkpoint);
                gone += 1;
            } else if let Some(earlier) = self.earlier_with_key(&attribute, base, &mut seen) {
                self.keys[earlier].keep = Keep::No;
                gone += 1;
            }
            self.keys.push(attribute);
            if self.keys.len() - base > max_items(self.cursor.bytes()) {
                let reason = format!("more than {} attributes in one list", self.keys.len() - base - 1);
                return Err(Fault::shape(start, reason).into());
            }
            if self.cursor.closes(b']', "expected ',' or ']' after a value")? {
                break;
            }
        }
        self.cursor.leave();
        let count = self.keys.len() - base;
        if gone > 0 {
            let elements = &self.keys[base..];
            self.found.edits.forget(checkpoint, |edit| {
                let next = elements.partition_point(|attribute| attribute.element.start <= edit.start);
                next.checked_sub(1).is_some_and(|place| elements[place].keep == Keep::No)
            });
            let mut removals = Removals::default();
            for attribute in &self.keys[base..] {
                match attribute.keep {
                    Keep::Yes => removals.keep(attribute.element.clone(), &mut self.found.edits),
                    Keep::No => removals.remove(attribute.element.clone()),
                }
            }
            removals.finish(&mut self.found.edits);
        }
        self.keys.truncate(base);
        self.attribute_key = outer_key;
        Ok(u32::try_from(count - gone).unwrap_or(u32::MAX))
    }

    #[inline]
    fn attribute(&mut self, message: &'static Message) -> Result<Keep, Stop> {
        if let Some(attribute) = text_attribute(self.cursor.bytes(), self.cursor.at)
            && self.cursor.has_room_below(2)
        {
            self.attribute_key = Some(attribute.key);
            self.cursor.at = attribute.end;
            return Ok(Keep::Yes);
        }
        match self.cursor.peek() {
            Some(b'{') => {
                self.message(message)?;
                Ok(Keep::Yes)
            }
            Some(b'n') => {
                self.cursor.word("null")?;
                Ok(Keep::No)
            }
            _ => Err(self.wrong_type("an attribute must be an object: expected '{'", VALUE_IN_BRACES).into()),
        }
    }

    /// Returns the earlier attribute of this list that has the same key.
    #[inline]
    fn earlier_with_key(&self, attribute: &AttributeKey, base: usize, seen: &mut SeenKeys) -> Option<usize> {
        let earlier = self.keys.len() - base;
        if earlier < FEW && !attribute.key.escaped && seen.places.is_empty() {
            let bit = 1 << (attribute.print.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 57);
            if seen.bits & bit == 0 {
                seen.bits |= bit;
                return None;
            }
        }
        self.find_earlier(&self.keys[base..], attribute, base, seen)
    }

    #[cold]
    #[inline(never)]
    fn find_earlier(
        &self,
        earlier: &[AttributeKey],
        attribute: &AttributeKey,
        base: usize,
        seen: &mut SeenKeys,
    ) -> Option<usize> {
        let bytes = self.cursor.bytes();
        let key = attribute.key.unescaped(bytes);
        if earlier.len() < FEW && !attribute.key.escaped && seen.places.is_empty() {
            return earlier
                .iter()
                .position(|other| {
                    other.print == attribute.print && other.keep == Keep::Yes && other.key.raw(bytes) == &*key
                })
                .map(|place| base + place);
        }
        if seen.places.is_empty() {
            let kept = earlier.iter().enumerate().filter(|(_, other)| other.keep == Keep::Yes);
            seen.places
                .extend(kept.map(|(place, other)| (other.key.unescaped(bytes).into_owned(), base + place)));
        }
        seen.places.insert(key.into_owned(), self.keys.len())
    }
}

/// An attribute in the usual form.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TextAttribute {
    pub(crate) key: Text,
    pub(crate) value: Text,
    /// One past the end of the object.
    pub(crate) end: usize,
}

/// Reads an attribute in the usual form: canonical JSON, with a string value and no escapes. Other forms are left to
/// [`Walker::message`], which would make no edits of this form either.
#[inline]
pub(crate) fn text_attribute(bytes: &[u8], at: usize) -> Option<TextAttribute> {
    let text = |start| Some(Text { start, end: plain_text_end(bytes, start)?, escaped: false });
    let key = text(after(bytes, at, b"{\"key\":\"")?)?;
    let value = text(after(bytes, key.end, b"\",\"value\":{\"stringValue\":\"")?)?;
    let mut at = value.end + 1;
    // VCL cannot write a quote and a brace without something in between.
    while bytes.get(at) == Some(&b' ') {
        at += 1;
    }
    let end = after(bytes, at, b"}}")?;
    Some(TextAttribute { key, value, end })
}

/// Returns the offset after `literal`, if it is at `at`.
#[inline(always)]
fn after<const N: usize>(bytes: &[u8], at: usize, literal: &[u8; N]) -> Option<usize> {
    (bytes.get(at..)?.first_chunk::<N>()? == literal).then_some(at + N)
}

/// Returns a hash that is cheap to compute and nearly always different for different keys.
#[inline]
pub(crate) fn fingerprint(bytes: &[u8], key: Range<usize>) -> u64 {
    let length = key.len();
    let head = match bytes[key.start..].first_chunk::<8>() {
        Some(chunk) => u64::from_le_bytes(*chunk),
        None => bytes[key.start..].iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte)),
    };
    if length < 8 {
        // Bytes after the key are not part of it.
        return (head & ((1 << (8 * length)) - 1)).wrapping_add(length as u64);
    }
    let tail = bytes[..key.end].last_chunk::<8>().map_or(0, |chunk| u64::from_le_bytes(*chunk));
    (head ^ tail.rotate_left(29)).wrapping_add(length as u64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::super::schema::{FieldType, LINE};
    use super::*;

    /// Returns the message of attributes, by its path through the schema.
    fn key_value() -> &'static Message {
        let inside = |message: &'static Message, name| match message
            .fields
            .iter()
            .find(|field| field.name == name)
            .map(|field| field.kind)
        {
            Some(FieldType::Message(inside) | FieldType::Messages(inside)) => inside,
            other => panic!("{name} is no message: {other:?}"),
        };
        inside(inside(inside(&LINE, "resourceSpans"), "resource"), "attributes")
    }

    /// Generates fragments of attributes as they are written, and others.
    fn piece() -> impl Strategy<Value = &'static str> {
        proptest::sample::select(vec![
            "{\"key\":\"",
            "http.method",
            "a",
            "",
            "\",\"value\":{\"stringValue\":\"",
            "GET",
            "é😀",
            "\\n",
            "\\",
            "\t",
            "\u{7f}",
            "\"",
            " ",
            "}}",
            "\"}}",
            "\" }}",
            "\"} }",
            "}",
            "{",
            ",",
            ":",
            "null",
            "twelve chars",
            "0123456",
            "\"key\":\"b\"",
            "\",\"value\":{\"intValue\":\"",
        ])
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]

        #[test]
        fn the_fast_path_of_an_attribute_ends_where_the_slow_one_does(
            before in piece(), key in piece(), between in piece(), value in piece(), after in piece(), rest in piece(),
            changed in 0..64_u8,
        ) {
            // Most fragments are the expected ones.
            let right = ["{\"key\":\"", key, "\",\"value\":{\"stringValue\":\"", value, "\"}}", rest];
            let wrong = [before, key, between, value, after, rest];
            let text: String =
                (0..6).map(|place| if changed & 1 << place == 0 { right[place] } else { wrong[place] }).collect();
            if let Some(TextAttribute { key, end, .. }) = text_attribute(text.as_bytes(), 0) {
                let mut keys = Vec::new();
                let mut walker = Walker::new(text.as_bytes(), 0, &mut keys);
                prop_assert_eq!(walker.message(key_value()), Ok(()), "{}", text);
                prop_assert_eq!((walker.attribute_key, walker.cursor.at), (Some(key), end), "{}", text);
                prop_assert!(walker.found.edits.is_empty() && walker.found.repairs.is_empty(), "{}", text);
                prop_assert!(!walker.found.has_unknown, "{}", text);
            }
        }

        #[test]
        fn keys_that_are_equal_have_equal_fingerprints(key in "[a-c.]{0,20}", behind in "[a-c]{0,9}", other in "[a-c]{0,9}") {
            let print = |behind: &str| fingerprint(format!("{key}{behind}").as_bytes(), 0..key.len());
            prop_assert_eq!(print(&behind), print(&other));
        }
    }

    #[test]
    fn attributes_mostly_take_the_fast_path() {
        for text in [
            r#"{"key":"http.method","value":{"stringValue":"GET"}}"#,
            r#"{"key":"","value":{"stringValue":""}}"#,
            r#"{"key":"service.name","value":{"stringValue":"www" }}"#,
        ] {
            assert_eq!(
                text_attribute(text.as_bytes(), 0).map(|attribute| attribute.end),
                Some(text.len()),
                "{text}"
            );
        }
    }
}
