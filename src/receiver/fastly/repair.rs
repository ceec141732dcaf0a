//! Repairs one unit that is not JSON, where only one reading makes sense.
//!
//! In: the bytes of one unit that the strict reader rejected. Out: JSON text for the strict reader, or nothing.
//!
//! Promises:
//! - One pass over the unit in linear time. Nothing after it is read, and a unit that was cut off is not completed.
//! - A quote is repaired only in free text ([`crate::otlp::is_free_text`]). Every other string ends at its first quote.
//! - A repaired free text never holds a field name of the enclosing messages next to a quote, nor an unknown field, so that
//!   a missing or doubled comma, quote, colon or brace can't move a field into a text.

mod escapes;
mod text;

use bytes::Bytes;

use crate::event::Repair;
use crate::otlp::json::{MAX_DEPTH, Text};
use crate::otlp::{DroppedSpan, Field, FieldType, LINE, Message, Origins, field_named};

/// Maximum initial capacity of the output: the unit may be one of many in the input.
const USUAL_BYTES: usize = 8 * 1024;

/// Nesting depth of most units.
const USUAL_DEPTH: usize = 16;

/// A repaired unit.
#[derive(Debug)]
pub(super) struct RepairedUnit {
    pub(super) text: Vec<u8>,
    /// Length of the unit in the input.
    pub(super) consumed: usize,
    /// Kinds of the repairs made, without duplicates.
    pub(super) repairs: Vec<Repair>,
    origins: Origins,
}

/// Repairs the object at the start of `input`, if that has only one reading.
pub(super) fn repair(input: &[u8]) -> Option<RepairedUnit> {
    let mut repairer = Repairer {
        input,
        at: 0,
        out: Vec::with_capacity(input.len().min(USUAL_BYTES) + 16),
        open: Vec::with_capacity(USUAL_DEPTH),
        field: None,
        repairs: Vec::new(),
        origins: Origins::default(),
    };
    repairer.run()?;
    let Repairer { at: consumed, out: text, repairs, origins, .. } = repairer;
    Some(RepairedUnit { text, consumed, repairs, origins })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Container {
    Object,
    Array,
}

/// An object or array that is open.
#[derive(Clone, Copy)]
struct OpenLevel {
    container: Container,
    /// Type of the object or of the array's elements; `None` in unknown fields.
    message: Option<&'static Message>,
}

/// Token that the grammar requires next.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Expect {
    Value,
    /// A value, or the end of an array that just began.
    ValueOrEnd,
    Key,
    /// A key, or the end of an object that just began.
    KeyOrEnd,
    Colon,
    Separator,
}

struct Repairer<'a> {
    input: &'a [u8],
    at: usize,
    out: Vec<u8>,
    open: Vec<OpenLevel>,
    /// Field of the last key.
    field: Option<&'static Field>,
    repairs: Vec<Repair>,
    origins: Origins,
}

// === impl RepairedUnit ===

impl RepairedUnit {
    /// Maps the positions of rejected spans from the repaired text to the input.
    pub(super) fn restore(&self, input: &Bytes, dropped: &mut [DroppedSpan]) {
        for span in dropped {
            span.at = self.origins.of(span.at);
            span.range = self.origins.of_range(&span.range);
            span.text = input.slice(span.range.clone());
        }
    }
}

// === impl Repairer ===

impl Repairer<'_> {
    fn run(&mut self) -> Option<()> {
        let mut expect = Expect::Value;
        loop {
            let byte = *self.input.get(self.at)?;
            if byte <= b' ' {
                if !matches!(byte, b' ' | b'\t' | b'\n' | b'\r') {
                    self.note(Repair::ControlCharacter);
                }
                self.at += 1;
                continue;
            }
            self.align();
            expect = match expect {
                Expect::Value | Expect::ValueOrEnd => match byte {
                    b']' => self.close(Container::Array, expect == Expect::Value)?,
                    _ => self.value(byte)?,
                },
                Expect::Key | Expect::KeyOrEnd => match byte {
                    b'"' => self.key()?,
                    b'}' => self.close(Container::Object, expect == Expect::Key)?,
                    _ => return None,
                },
                Expect::Colon if byte == b':' => self.copy(Expect::Value),
                Expect::Separator => match byte {
                    b',' if self.container() == Some(Container::Object) => self.copy(Expect::Key),
                    b',' => self.copy(Expect::Value),
                    b'}' => self.close(Container::Object, false)?,
                    b']' => self.close(Container::Array, false)?,
                    _ => return None,
                },
                Expect::Colon => return None,
            };
            if self.open.is_empty() {
                return (expect == Expect::Separator).then_some(());
            }
        }
    }

    /// Notes that the next byte of the output comes from the cursor's position.
    fn align(&mut self) {
        self.origins.note(self.out.len(), self.at);
    }

    fn container(&self) -> Option<Container> {
        self.open.last().map(|level| level.container)
    }

    fn key(&mut self) -> Option<Expect> {
        let start = self.out.len() + 1;
        self.string()?;
        let end = self.out.len() - 1;
        let escaped = memchr::memchr(b'\\', &self.out[start..end]).is_some();
        let message = self.open.last().and_then(|level| level.message);
        self.field =
            message.and_then(|message| field_named(message, &self.out, Text { start, end, escaped }));
        Some(Expect::Colon)
    }

    fn value(&mut self, byte: u8) -> Option<Expect> {
        match byte {
            b'{' => return self.enter(Container::Object, Expect::KeyOrEnd),
            b'[' => return self.enter(Container::Array, Expect::ValueOrEnd),
            b'"' if self.expects_free_text() => self.free_text()?,
            b'"' => self.string()?,
            b'(' => self.word("(null)", "null", Repair::NullWord)?,
            b'N' => self.word("NaN", "\"NaN\"", Repair::BareNumberWord)?,
            b'I' => self.word("Infinity", "\"Infinity\"", Repair::BareNumberWord)?,
            b'-' if self.input[self.at..].starts_with(b"-Inf") => {
                self.word("-Infinity", "\"-Infinity\"", Repair::BareNumberWord)?;
            }
            // Words and numbers are copied for the strict reader to check.
            b'-' | b'0'..=b'9' | b't' | b'f' | b'n' => {
                let rest = &self.input[self.at..];
                let length = rest
                    .iter()
                    .position(|byte| !matches!(byte, b'-' | b'+' | b'.' | b'0'..=b'9' | b'a'..=b'z' | b'E'))
                    .unwrap_or(rest.len());
                self.out.extend_from_slice(&rest[..length]);
                self.at += length;
            }
            _ => return None,
        }
        Some(Expect::Separator)
    }

    fn enter(&mut self, container: Container, then: Expect) -> Option<Expect> {
        if self.open.len() >= MAX_DEPTH as usize {
            return None;
        }
        let message = match (self.open.last(), container, self.field.map(|field| field.kind)) {
            (None, Container::Object, _) => Some(&LINE),
            (Some(OpenLevel { container: Container::Array, message }), Container::Object, _) => *message,
            (Some(OpenLevel { container: Container::Array, .. }), ..) => None,
            (Some(_), Container::Object, Some(FieldType::Message(message))) => Some(message),
            (Some(_), Container::Array, Some(FieldType::Messages(message))) => Some(message),
            _ => None,
        };
        self.open.push(OpenLevel { container, message });
        Some(self.copy(then))
    }

    fn copy(&mut self, then: Expect) -> Expect {
        self.out.push(self.input[self.at]);
        self.at += 1;
        then
    }

    fn close(&mut self, container: Container, after_comma: bool) -> Option<Expect> {
        if self.open.pop()?.container != container {
            return None;
        }
        if after_comma {
            // White space outside of strings is not copied, so that the comma is the last byte.
            debug_assert_eq!(self.out.last(), Some(&b','));
            self.out.pop();
            self.align();
            self.note(Repair::TrailingComma);
        }
        Some(self.copy(Expect::Separator))
    }

    fn word(&mut self, word: &str, replacement: &str, repair: Repair) -> Option<()> {
        if !self.input[self.at..].starts_with(word.as_bytes()) {
            return None;
        }
        self.at += word.len();
        self.out.extend_from_slice(replacement.as_bytes());
        self.note(repair);
        Some(())
    }

    /// Copies a string that ends at its first quote; the cursor stands on the opening quote.
    fn string(&mut self) -> Option<()> {
        self.copy_quote();
        while self.copy_up_to_quote()? != b'"' {}
        self.copy_quote();
        Some(())
    }

    fn copy_quote(&mut self) {
        self.align();
        self.out.push(b'"');
        self.at += 1;
    }

    /// Copies the next part of a string and returns the byte after it. Quotes are not copied.
    fn copy_up_to_quote(&mut self) -> Option<u8> {
        self.align();
        match *self.input.get(self.at)? {
            b'"' => {}
            b'\\' => self.escape()?,
            byte @ 0..=0x1f => {
                self.at += 1;
                self.escaped(char::from(byte));
                self.note(Repair::ControlCharacter);
            }
            _ => self.plain(),
        }
        self.input.get(self.at).copied()
    }

    fn note(&mut self, repair: Repair) {
        if !self.repairs.contains(&repair) {
            self.repairs.push(repair);
        }
    }
}

#[cfg(test)]
mod tests;
