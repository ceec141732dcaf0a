//! Repairs one unit that is not JSON, where only one reading makes sense.
//!
//! In: the bytes of one unit that the strict reader rejected. Out: JSON text for the strict reader, or nothing.
//!
//! Promises:
//! - One pass over the unit; nothing beyond it is looked at, and what was cut off stays cut off.
//! - A quote belongs to a value only in free text ([`Message::is_free_text`]). Every other string ends at its first quote.
//! - A quote in free text ends the text where what follows continues the message: closing brackets, then a comma and a
//!   known field, an element, or the end of the unit. Such a text never holds a field name of the enclosing messages next
//!   to a quote, so that a forgotten comma, quote or brace cannot move a field into a text.

use bytes::Bytes;
use smallvec::SmallVec;

use super::super::Repair;
use crate::otlp::decode_hex;
use crate::otlp::json::{MAX_DEPTH, Text};
use crate::otlp::{DroppedSpan, Field, Kind, LINE, Message, field_named};

/// Memory requested before anything was read: the unit may be one of many.
const USUAL_BYTES: usize = 8 * 1024;

/// Most lines are nested no deeper, and have no more places where the repaired text moves away from the input.
const USUAL_DEPTH: usize = 16;

/// Longest text between quotes that can be the key of an unknown field.
const MAX_KEY_BYTES: usize = 64;

/// A repaired unit.
#[derive(Debug)]
pub(super) struct Mended {
    pub(super) text: Vec<u8>,
    /// Length of the unit in the input.
    pub(super) consumed: usize,
    /// Kinds of repairs, each once.
    pub(super) repairs: Vec<Repair>,
    /// Offsets in `text` and in the input from which on both run in parallel.
    origins: Vec<(usize, usize)>,
}

/// Repairs the object at the start of `input`. The error is the number of bytes that were read until its meaning was in
/// doubt.
pub(super) fn mend(input: &[u8]) -> Result<Mended, usize> {
    let mut mender = Mender {
        input,
        at: 0,
        out: Vec::with_capacity(input.len().min(USUAL_BYTES) + 16),
        open: Vec::with_capacity(USUAL_DEPTH),
        field: None,
        repairs: Vec::new(),
        origins: Vec::with_capacity(USUAL_DEPTH),
    };
    match mender.run() {
        Some(()) => Ok(Mended {
            text: mender.out,
            consumed: mender.at,
            repairs: mender.repairs,
            origins: mender.origins,
        }),
        None => Err(mender.at),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Container {
    Object,
    Array,
}

/// An object or array that is open.
#[derive(Clone, Copy)]
struct Level {
    container: Container,
    /// The message that the object is, or the elements of the array are; nothing in unknown fields.
    message: Option<&'static Message>,
}

/// What the grammar requires next.
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

/// The role of a quote inside free text.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Quote {
    EndsText,
    BelongsToText,
    /// Both readings make some sense.
    Unclear,
}

/// The name between two quotes, if a colon follows them.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Key {
    None,
    Known,
    Unknown,
}

struct Mender<'a> {
    input: &'a [u8],
    at: usize,
    out: Vec<u8>,
    open: Vec<Level>,
    /// The field whose key was read last.
    field: Option<&'static Field>,
    repairs: Vec<Repair>,
    origins: Vec<(usize, usize)>,
}

// === impl Mended ===

impl Mended {
    /// Moves the positions of spans that were rejected in the repaired text back to the input.
    pub(super) fn restore(&self, input: &Bytes, dropped: &mut [DroppedSpan]) {
        for span in dropped {
            span.at = self.origin(span.at);
            span.range = self.origin(span.range.start)..self.origin(span.range.end);
            span.text = input.slice(span.range.clone());
        }
    }

    /// The offset in the input of what stands at `at` in the repaired text.
    pub(super) fn origin(&self, at: usize) -> usize {
        let next = self.origins.partition_point(|(out, _)| *out <= at);
        let end = self.origins.get(next).map_or(self.consumed, |(_, input)| *input);
        match next.checked_sub(1).map(|last| self.origins[last]) {
            Some((out, input)) => (input + (at - out)).min(end),
            None => 0,
        }
    }
}

// === impl Mender ===

impl Mender<'_> {
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
        let (out, input) = (self.out.len(), self.at);
        // A comma that was taken back leaves a note of what never came.
        while self.origins.last().is_some_and(|(noted, _)| *noted > out) {
            self.origins.pop();
        }
        let parallel = self.origins.last().is_some_and(|(o, i)| out - o == input - i);
        if !parallel {
            self.origins.push((out, input));
        }
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
            b'"' if self.is_free_text() => self.free_text()?,
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

    fn is_free_text(&self) -> bool {
        match (self.open.last(), self.field) {
            (Some(Level { container: Container::Object, message: Some(message) }), Some(field)) => {
                message.is_free_text(field)
            }
            _ => false,
        }
    }

    fn enter(&mut self, container: Container, then: Expect) -> Option<Expect> {
        if self.open.len() >= MAX_DEPTH as usize {
            return None;
        }
        let message = match (self.open.last(), container, self.field.map(|field| field.kind)) {
            (None, Container::Object, _) => Some(&LINE),
            (Some(Level { container: Container::Array, message }), Container::Object, _) => *message,
            (Some(Level { container: Container::Array, .. }), ..) => None,
            (Some(_), Container::Object, Some(Kind::Message(message))) => Some(message),
            (Some(_), Container::Array, Some(Kind::Messages(message))) => Some(message),
            _ => None,
        };
        self.open.push(Level { container, message });
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

    /// Copies a string in which quotes may have been left unescaped.
    fn free_text(&mut self) -> Option<()> {
        self.copy_quote();
        let start = self.at;
        let mut inner_quotes = 0_u32;
        loop {
            if self.copy_up_to_quote()? != b'"' {
                continue;
            }
            match self.quote(self.at + 1) {
                Quote::EndsText => break,
                Quote::Unclear => return None,
                Quote::BelongsToText => {
                    inner_quotes += 1;
                    self.at += 1;
                    self.out.extend_from_slice(b"\\\"");
                    self.note(Repair::UnescapedQuote);
                }
            }
        }
        if inner_quotes > 0 && !self.is_text(start, inner_quotes) {
            return None;
        }
        self.copy_quote();
        Some(())
    }

    fn copy_quote(&mut self) {
        self.align();
        self.out.push(b'"');
        self.at += 1;
    }

    /// Copies the next part of a string, and returns the byte that follows it. A quote is not copied.
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

    /// The role of a quote before `at`, by what follows it.
    fn quote(&self, mut at: usize) -> Quote {
        let mut depth = self.open.len();
        let mut after_comma = false;
        while let Some(Level { container, message }) = depth.checked_sub(1).map(|top| self.open[top]) {
            at = self.skip_blanks(at);
            match (self.input.get(at), container) {
                (Some(b'}'), Container::Object) | (Some(b']'), Container::Array) => {
                    depth -= 1;
                    after_comma = false;
                }
                (Some(b','), _) if !after_comma => after_comma = true,
                (Some(b'{'), Container::Array) if after_comma => return Quote::EndsText,
                (Some(b'"'), Container::Object) => {
                    return match self.key_at(at, message) {
                        Key::Known if after_comma => Quote::EndsText,
                        Key::None => Quote::BelongsToText,
                        // A comma is missing, or the key is none.
                        Key::Known | Key::Unknown => Quote::Unclear,
                    };
                }
                (Some(_), _) => return Quote::BelongsToText,
                (None, _) => return Quote::Unclear,
            }
            at += 1;
        }
        Quote::EndsText
    }

    /// The key whose opening quote is at `at`.
    fn key_at(&self, at: usize, message: Option<&'static Message>) -> Key {
        let start = at + 1;
        let window = &self.input[start..self.input.len().min(start + MAX_KEY_BYTES + 1)];
        let Some(length) = window.iter().position(|&byte| byte == b'"') else { return Key::None };
        let end = start + length;
        if self.input.get(self.skip_blanks(end + 1)) != Some(&b':') {
            return Key::None;
        }
        let key = Text { start, end, escaped: false };
        match message.and_then(|message| field_named(message, self.input, key)) {
            Some(_) => Key::Known,
            None => Key::Unknown,
        }
    }

    fn skip_blanks(&self, at: usize) -> usize {
        let rest = self.input.get(at..).unwrap_or_default();
        at + rest.iter().take_while(|&&byte| byte <= b' ').count()
    }

    /// Returns whether the input from `start` to the cursor, with this many unescaped quotes, can only be one text.
    fn is_text(&self, start: usize, inner_quotes: u32) -> bool {
        let text = &self.input[start..self.at];
        // Quotes of a text come in pairs: one more next to its own quote is that one doubled.
        if !inner_quotes.is_multiple_of(2) && (text.starts_with(b"\"") || text.ends_with(b"\"")) {
            return false;
        }
        let mut messages: SmallVec<[&'static Message; 16]> = SmallVec::new();
        for message in self.open.iter().filter_map(|level| level.message) {
            if !messages.iter().any(|known| std::ptr::eq(*known, message)) {
                messages.push(message);
            }
        }
        let names_field = |start: usize, end: usize| {
            let word = Text { start, end, escaped: false };
            start < end && messages.iter().any(|message| field_named(message, text, word).is_some())
        };
        let is_word = |byte: &&u8| byte.is_ascii_alphanumeric() || **byte == b'_';
        memchr::memchr_iter(b'"', text).all(|quote| {
            let before = text[..quote].strip_suffix(b"\\").unwrap_or(&text[..quote]);
            let word_before = before.iter().rev().take_while(is_word).count();
            let word_after = text[quote + 1..].iter().take_while(is_word).count();
            !names_field(before.len() - word_before, before.len())
                && !names_field(quote + 1, quote + 1 + word_after)
                && !self.is_member(start, start + quote)
        })
    }

    /// Returns whether the quote at `at` opens the key of an unknown field, after something that a value ends with.
    fn is_member(&self, text_start: usize, at: usize) -> bool {
        if self.key_at(at, None) == Key::None {
            return false;
        }
        let before =
            self.input[text_start..at].iter().rposition(|byte| !matches!(byte, 0..=b' ' | b'{' | b'['));
        before.is_some_and(|last| matches!(self.input[text_start + last], b'"' | b',' | b':' | b'}' | b']'))
    }

    /// Copies bytes that are neither quote, backslash nor control character, invalid UTF-8 replaced.
    fn plain(&mut self) {
        let rest = &self.input[self.at..];
        let length =
            rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..=0x1f)).unwrap_or(rest.len());
        for chunk in rest[..length].utf8_chunks() {
            self.out.extend_from_slice(chunk.valid().as_bytes());
            if !chunk.invalid().is_empty() {
                self.out.extend_from_slice("\u{fffd}".as_bytes());
                self.note(Repair::InvalidUtf8);
            }
        }
        self.at += length;
    }

    /// Copies an escape; the cursor stands on the backslash.
    fn escape(&mut self) -> Option<()> {
        match *self.input.get(self.at + 1)? {
            escape @ (b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {
                self.out.extend_from_slice(&[b'\\', escape]);
                self.at += 2;
            }
            b'u' => self.unicode_escape(),
            b'x' if self.hex_byte(self.at).is_some() => self.hex_escapes(),
            b'v' => {
                self.at += 2;
                self.escaped('\u{b}');
                self.note(Repair::HexEscape);
            }
            b'\'' => {
                self.out.push(b'\'');
                self.at += 2;
                self.note(Repair::HexEscape);
            }
            _ => self.loose_backslash(),
        }
        Some(())
    }

    fn unicode_escape(&mut self) {
        let unit = |at: usize| {
            let digits = self.input.get(at..at + 6)?.strip_prefix(b"\\u")?;
            decode_hex::<2>(digits).map(u16::from_be_bytes)
        };
        let length = match (unit(self.at), unit(self.at + 6)) {
            (None, _) => return self.loose_backslash(),
            (Some(0xd800..=0xdbff), Some(0xdc00..=0xdfff)) => 12,
            (Some(0xd800..=0xdfff), _) => {
                self.at += 6;
                self.out.extend_from_slice("\u{fffd}".as_bytes());
                return self.note(Repair::LoneSurrogate);
            }
            (Some(_), _) => 6,
        };
        self.out.extend_from_slice(&self.input[self.at..self.at + length]);
        self.at += length;
    }

    /// The byte of the `\xHH` at `at`.
    fn hex_byte(&self, at: usize) -> Option<u8> {
        let digits = self.input.get(at..at + 4)?.strip_prefix(b"\\x")?;
        decode_hex::<1>(digits).map(|[byte]| byte)
    }

    /// A run of `\xHH`: together they are UTF-8, as VCL's `cstr_escape` writes it.
    fn hex_escapes(&mut self) {
        let mut bytes = Vec::new();
        while let Some(byte) = self.hex_byte(self.at) {
            bytes.push(byte);
            self.at += 4;
        }
        self.note(Repair::HexEscape);
        for character in String::from_utf8_lossy(&bytes).chars() {
            self.escaped(character);
        }
    }

    /// A backslash that begins no escape stands for itself.
    fn loose_backslash(&mut self) {
        self.out.extend_from_slice(b"\\\\");
        self.at += 1;
        self.note(Repair::LooseBackslash);
    }

    fn escaped(&mut self, character: char) {
        match character {
            '"' | '\\' => self.out.extend_from_slice(&[b'\\', character as u8]),
            '\n' => self.out.extend_from_slice(b"\\n"),
            '\r' => self.out.extend_from_slice(b"\\r"),
            '\t' => self.out.extend_from_slice(b"\\t"),
            '\0'..='\u{1f}' => self.out.extend_from_slice(format!("\\u{:04x}", character as u32).as_bytes()),
            _ => self.out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }

    fn note(&mut self, repair: Repair) {
        if !self.repairs.contains(&repair) {
            self.repairs.push(repair);
        }
    }
}

#[cfg(test)]
mod tests;
