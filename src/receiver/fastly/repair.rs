//! Mends a line that is not JSON, where only one reading makes sense.
//!
//! In: a line that the strict reader could not read. Out: JSON text, to be read strictly again, or nothing.
//! Promises: one pass, no guessing. A quote inside a string ends the string where what follows fits the grammar
//! there, and belongs to the text where it does not; keys are never guessed at. What was cut off stays cut off.

use super::super::Repair;
use crate::otlp::decode_hex;
use crate::otlp::json::MAX_DEPTH;

/// What memory is asked for before anything was read: the object may be the first of very many in its line.
const USUAL_BYTES: usize = 8 * 1024;

/// A mended line.
#[derive(Debug)]
pub(super) struct Mended {
    pub(super) text: Vec<u8>,
    /// How much of the input the object took.
    pub(super) consumed: usize,
    /// What was done, each once.
    pub(super) repairs: Vec<Repair>,
}

/// Mends the object at the start of `input`. When its meaning is in doubt: how much of the input that took to see.
pub(super) fn mend(input: &[u8]) -> Result<Mended, usize> {
    let mut mender = Mender {
        input,
        at: 0,
        out: Vec::with_capacity(input.len().min(USUAL_BYTES) + 16),
        open: Vec::new(),
        repairs: Vec::new(),
    };
    match mender.run() {
        Some(()) => Ok(Mended { text: mender.out, consumed: mender.at, repairs: mender.repairs }),
        None => Err(mender.at),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Container {
    Object,
    Array,
}

/// What the grammar asks for next.
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

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Key,
    Value,
}

struct Mender<'a> {
    input: &'a [u8],
    at: usize,
    out: Vec<u8>,
    open: Vec<Container>,
    repairs: Vec<Repair>,
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
            expect = match expect {
                Expect::Value | Expect::ValueOrEnd => match byte {
                    b']' => self.close(Container::Array, expect == Expect::Value)?,
                    _ => self.value(byte)?,
                },
                Expect::Key | Expect::KeyOrEnd => match byte {
                    b'"' => {
                        self.string(Place::Key)?;
                        Expect::Colon
                    }
                    b'}' => self.close(Container::Object, expect == Expect::Key)?,
                    _ => return None,
                },
                Expect::Colon if byte == b':' => self.copy(Expect::Value),
                Expect::Separator => match byte {
                    b',' if self.open.last() == Some(&Container::Object) => self.copy(Expect::Key),
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

    fn value(&mut self, byte: u8) -> Option<Expect> {
        match byte {
            b'{' => return self.enter(Container::Object, Expect::KeyOrEnd),
            b'[' => return self.enter(Container::Array, Expect::ValueOrEnd),
            b'"' => self.string(Place::Value)?,
            b'(' => self.word("(null)", "null", Repair::NullWord)?,
            b'N' => self.word("NaN", "\"NaN\"", Repair::BareNumberWord)?,
            b'I' => self.word("Infinity", "\"Infinity\"", Repair::BareNumberWord)?,
            b'-' if self.input[self.at..].starts_with(b"-Inf") => {
                self.word("-Infinity", "\"-Infinity\"", Repair::BareNumberWord)?;
            }
            // Words and numbers as they are: the strict reader will see to them.
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
        self.open.push(container);
        Some(self.copy(then))
    }

    fn copy(&mut self, then: Expect) -> Expect {
        self.out.push(self.input[self.at]);
        self.at += 1;
        then
    }

    fn close(&mut self, container: Container, behind_comma: bool) -> Option<Expect> {
        if self.open.pop() != Some(container) {
            return None;
        }
        if behind_comma {
            // White space outside of strings is not copied, so that the comma is the last byte.
            debug_assert_eq!(self.out.last(), Some(&b','));
            self.out.pop();
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

    /// Copies a string; the cursor stands on its opening quote.
    fn string(&mut self, place: Place) -> Option<()> {
        self.out.push(b'"');
        self.at += 1;
        loop {
            match *self.input.get(self.at)? {
                b'"' if self.ends_string(place) => {
                    self.at += 1;
                    self.out.push(b'"');
                    return Some(());
                }
                b'"' if place == Place::Key => return None,
                b'"' => {
                    self.at += 1;
                    self.out.extend_from_slice(b"\\\"");
                    self.note(Repair::UnescapedQuote);
                }
                b'\\' => self.escape()?,
                byte @ 0..=0x1f => {
                    self.at += 1;
                    self.escaped(char::from(byte));
                    self.note(Repair::ControlCharacter);
                }
                _ => self.plain(),
            }
        }
    }

    /// Whether the quote here ends the string: what follows must fit the grammar.
    fn ends_string(&self, place: Place) -> bool {
        let (next, rest) = first_of(&self.input[self.at + 1..]);
        let (second, _) = first_of(rest);
        let closes = |byte: Option<u8>| matches!(byte, None | Some(b',' | b'}' | b']' | b'{' | b'\n'));
        match (place, next, self.open.last()) {
            (Place::Key, Some(b':'), _) => {
                matches!(
                    second,
                    Some(b'"' | b'{' | b'[' | b'(' | b'-' | b'0'..=b'9' | b't' | b'f' | b'n' | b'N' | b'I')
                )
            }
            (Place::Value, Some(b','), Some(Container::Object)) => matches!(second, Some(b'"' | b'}')),
            (Place::Value, Some(b','), Some(Container::Array)) => {
                matches!(second, Some(b'"' | b'{' | b'[' | b']' | b'-' | b'0'..=b'9' | b't' | b'f' | b'n'))
            }
            (Place::Value, Some(b'}'), Some(Container::Object)) => closes(second),
            (Place::Value, Some(b']'), Some(Container::Array)) => closes(second),
            _ => false,
        }
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

/// The first byte that is neither white space nor a control character, and what follows it.
fn first_of(text: &[u8]) -> (Option<u8>, &[u8]) {
    match text.iter().position(|&byte| byte > b' ') {
        Some(place) => (Some(text[place]), &text[place + 1..]),
        None => (None, &[]),
    }
}
