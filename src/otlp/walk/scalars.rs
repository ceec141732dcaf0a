//! Scalars: a value with only one possible meaning is rewritten to the form that strict receivers accept.
//!
//! Accepted forms are those of the proto3 JSON mapping and others that senders are known to write: numbers in quotes,
//! integral floats, names of enums, bytes as JavaScript prints them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::super::json::{Cursor, Fault, FaultKind, Text};
use super::super::number::{integer, is_plain_integer};
use super::super::protobuf::base64_bytes;
use super::super::schema::{Field, FieldType, Int, MessageRole};
use super::ids::NULL_WORD;
use super::{Action, Stop, VALUE, VALUE_IN_BRACKETS, VALUE_IN_QUOTES, Walker};
use crate::event::Repair;

/// Largest integer (2^53) up to which a double is exact; receivers that read numbers as doubles round larger ones.
const EXACT_IN_A_DOUBLE: u128 = 1 << 53;

// === impl Walker ===

impl Walker<'_> {
    /// Reads a value of any kind that is not a message, a string or an id.
    pub(super) fn scalar(&mut self, field: &'static Field, role: MessageRole) -> Result<Action, Stop> {
        match field.kind {
            FieldType::Int(int) if role == MessageRole::AnyValue => self.int_value(field, int),
            FieldType::Int(int) => self.int(field, int),
            FieldType::Enum(names) => self.enumeration(field, names),
            FieldType::Double => self.double(field),
            FieldType::Bool => self.boolean(field),
            FieldType::Bytes => self.base64(field),
            FieldType::Ints(_) | FieldType::Doubles | FieldType::Strings => self.scalars(field),
            FieldType::Message(_)
            | FieldType::Messages(_)
            | FieldType::String
            | FieldType::TraceId
            | FieldType::SpanId
            | FieldType::ParentSpanId => unreachable!("read by member()"),
        }
    }

    /// Reads a string, or a number or boolean as a string.
    pub(super) fn string_value(&mut self, field: &'static Field) -> Result<Text, Stop> {
        let start = self.cursor.at;
        match self.cursor.peek() {
            Some(b'"') => return Ok(self.cursor.string()?),
            Some(b'-' | b'0'..=b'9') => drop(self.cursor.number()?),
            Some(b't') => self.cursor.word("true")?,
            Some(b'f') => self.cursor.word("false")?,
            _ => {
                return Err(self
                    .wrong_type(format!("{} must be a string", field.name), VALUE_IN_QUOTES)
                    .into());
            }
        }
        let end = self.cursor.at;
        self.found.edits.quote(start..end);
        self.note(Repair::ValueType);
        Ok(Text { start, end, escaped: false })
    }

    /// Reads an attribute's integer; other numbers become doubles.
    fn int_value(&mut self, field: &'static Field, int: Int) -> Result<Action, Stop> {
        let start = self.cursor.at;
        if let Some(b'-' | b'0'..=b'9') = self.cursor.peek() {
            let (_, end) = self.cursor.number()?;
            let literal = &self.cursor.bytes()[start..end];
            if !in_range(integer(literal), int) {
                if is_plain_integer(literal) && !is_exact_double(literal) {
                    // As a number it would lose digits.
                    self.found.edits.quote(start..end);
                    self.note(Repair::ValueType);
                    return Ok(Action::Rename("stringValue"));
                }
                if !is_finite(literal) {
                    return Err(not_an_integer(start, field, int).into());
                }
                return Ok(Action::Rename("doubleValue"));
            }
            self.cursor.at = start;
        }
        self.int(field, int)
    }

    fn int(&mut self, field: &'static Field, int: Int) -> Result<Action, Stop> {
        let start = self.cursor.at;
        match self.cursor.peek() {
            Some(b'"') => {
                let text = self.cursor.string()?;
                let literal = text.unescaped(self.cursor.bytes());
                if self.is_unset(&literal) {
                    return Ok(Action::Remove);
                }
                let value = integer(&literal).filter(|value| in_range(Some(*value), int));
                let value = value.ok_or_else(|| not_an_integer(start, field, int))?;
                match (int.is_64_bit(), is_plain_integer(&literal) && !text.escaped) {
                    (true, true) => {}
                    (true, false) => self.found.edits.replace(text.start..text.end, value.to_string()),
                    (false, _) => self.found.edits.replace(start..self.cursor.at, value.to_string()),
                }
            }
            Some(b'-' | b'0'..=b'9') => {
                let (_, end) = self.cursor.number()?;
                let literal = &self.cursor.bytes()[start..end];
                let value = integer(literal).filter(|value| in_range(Some(*value), int));
                let value = value.ok_or_else(|| not_an_integer(start, field, int))?;
                let plain = is_plain_integer(literal);
                if int.is_64_bit() && value.unsigned_abs() > EXACT_IN_A_DOUBLE {
                    if !plain {
                        self.found.edits.replace(start..end, format!("\"{value}\""));
                    } else {
                        self.found.edits.quote(start..end);
                    }
                } else if !plain {
                    self.found.edits.replace(start..end, value.to_string());
                }
            }
            _ => return Err(self.wrong_type(format!("{} must be an integer", field.name), VALUE).into()),
        }
        Ok(Action::Keep)
    }

    fn enumeration(&mut self, field: &'static Field, names: &'static [(&str, i32)]) -> Result<Action, Stop> {
        let start = self.cursor.at;
        let mut example = names[1].0;
        if self.cursor.peek() == Some(b'"') {
            let text = self.cursor.string()?;
            let literal = text.unescaped(self.cursor.bytes());
            if let Some((_, number)) = names.iter().find(|(name, _)| name.as_bytes() == &*literal) {
                self.found.edits.replace(start..self.cursor.at, number.to_string());
                return Ok(Action::Keep);
            }
            example =
                names.iter().find(|(name, _)| is_short_for(&literal, name)).map_or(example, |(name, _)| name);
            self.cursor.at = start;
        }
        self.int(field, Int::Sint32).map_err(|stop| match stop {
            Stop::Fault(fault) if fault.kind == FaultKind::Shape => {
                let reason = format!("{}, or a name such as {example:?}", fault.reason);
                Fault::shape(fault.at, reason).into()
            }
            stop => stop,
        })
    }

    fn double(&mut self, field: &'static Field) -> Result<Action, Stop> {
        let start = self.cursor.at;
        match self.cursor.peek() {
            Some(b'-' | b'0'..=b'9') => {
                let (_, end) = self.cursor.number()?;
                // Infinity has a word of its own, and receivers reject the whole request for a number out of range.
                if !is_finite(&self.cursor.bytes()[start..end]) {
                    return Err(Fault::shape(start, format!("{} is out of range", field.name)).into());
                }
            }
            Some(b'"') => {
                let text = self.cursor.string()?;
                let literal = text.unescaped(self.cursor.bytes());
                if self.is_unset(&literal) {
                    return Ok(Action::Remove);
                }
                if !is_double(&literal) {
                    return Err(Fault::shape(start, format!("{} must be a number", field.name)).into());
                }
                if text.escaped {
                    let literal = String::from_utf8_lossy(&literal).into_owned();
                    self.found.edits.replace(text.start..text.end, literal);
                }
            }
            _ => return Err(self.wrong_type(format!("{} must be a number", field.name), VALUE).into()),
        }
        Ok(Action::Keep)
    }

    fn boolean(&mut self, field: &'static Field) -> Result<Action, Stop> {
        let start = self.cursor.at;
        match self.cursor.peek() {
            Some(b't') => self.cursor.word("true")?,
            Some(b'f') => self.cursor.word("false")?,
            Some(b'"') => {
                let text = self.cursor.string()?;
                match &*text.unescaped(self.cursor.bytes()) {
                    b"true" => self.found.edits.replace(start..self.cursor.at, "true"),
                    b"false" => self.found.edits.replace(start..self.cursor.at, "false"),
                    literal if self.is_unset(literal) => return Ok(Action::Remove),
                    _ => {
                        return Err(
                            Fault::shape(start, format!("{} must be true or false", field.name)).into()
                        );
                    }
                }
                self.note(Repair::ValueType);
            }
            _ => return Err(self.wrong_type(format!("{} must be true or false", field.name), VALUE).into()),
        }
        Ok(Action::Keep)
    }

    /// Reads bytes: Base64 in any of the four forms that proto3 JSON allows, or a list of numbers as JavaScript prints
    /// an array of bytes. Collectors read only the standard alphabet with padding.
    fn base64(&mut self, field: &'static Field) -> Result<Action, Stop> {
        let start = self.cursor.at;
        match self.cursor.peek() {
            Some(b'"') => {
                let text = self.cursor.string()?;
                let literal = text.unescaped(self.cursor.bytes());
                let bytes = base64_bytes(&literal)
                    .ok_or_else(|| Fault::shape(start, format!("{} is not Base64", field.name)))?;
                let canonical = STANDARD.encode(bytes);
                if canonical.as_bytes() != text.raw(self.cursor.bytes()) {
                    self.found.edits.replace(text.start..text.end, canonical);
                }
            }
            Some(b'{' | b'[') => {
                let bytes = self.listed_bytes(field)?;
                let literal = format!("\"{}\"", STANDARD.encode(bytes));
                self.found.edits.replace(start..self.cursor.at, literal);
                self.note(Repair::ValueType);
            }
            _ => {
                return Err(self
                    .wrong_type(format!("{} must be Base64 in a string", field.name), VALUE)
                    .into());
            }
        }
        Ok(Action::Keep)
    }

    /// Reads bytes in the forms in which JavaScript prints them: `{"0":104,"1":105}`,
    /// `{"type":"Buffer","data":[104,105]}` and `[104,105]`.
    fn listed_bytes(&mut self, field: &'static Field) -> Result<Vec<u8>, Fault> {
        let open = self.cursor.at;
        let wrong = |at| Fault::shape(at, format!("{} is neither Base64 nor a list of bytes", field.name));
        let mut bytes = Vec::new();
        let byte = |cursor: &mut Cursor<'_>| {
            let (from, to) = cursor.number()?;
            let byte = integer(&cursor.bytes()[from..to]).and_then(|value| u8::try_from(value).ok());
            byte.ok_or_else(|| wrong(from))
        };
        if self.cursor.peek() == Some(b'[') {
            self.cursor.array(|cursor, _| byte(cursor).map(|byte| bytes.push(byte)))?;
            return Ok(bytes);
        }
        let (mut is_buffer, mut has_data, mut numbered) = (false, false, 0_usize);
        self.cursor.object(|cursor, start, key| {
            match key.raw(cursor.bytes()) {
                b"type" if !is_buffer => {
                    is_buffer = cursor.string()?.raw(cursor.bytes()) == b"Buffer";
                }
                b"data" if !has_data => {
                    has_data = true;
                    cursor.array(|cursor, _| byte(cursor).map(|byte| bytes.push(byte)))?;
                }
                number if number == numbered.to_string().as_bytes() => {
                    numbered += 1;
                    bytes.push(byte(cursor)?);
                }
                _ => return Err(wrong(start)),
            }
            Ok(())
        })?;
        // The forms must not be mixed.
        if is_buffer != has_data || (has_data && numbered > 0) { Err(wrong(open)) } else { Ok(bytes) }
    }

    /// Reads a list of scalars of one kind.
    fn scalars(&mut self, field: &'static Field) -> Result<Action, Stop> {
        if self.cursor.peek() != Some(b'[') {
            return Err(self
                .wrong_type(format!("{} must be an array", field.name), VALUE_IN_BRACKETS)
                .into());
        }
        self.cursor.at += 1;
        self.cursor.skip_whitespace();
        if self.cursor.peek() == Some(b']') {
            self.cursor.at += 1;
            return Ok(Action::Keep);
        }
        loop {
            let start = self.cursor.at;
            let action = match (self.cursor.peek(), field.kind) {
                (Some(b'n'), _) => {
                    self.cursor.word("null")?;
                    Action::Remove
                }
                (_, FieldType::Ints(int)) => self.int(field, int)?,
                (_, FieldType::Doubles) => self.double(field)?,
                _ => self.string_value(field).map(|_| Action::Keep)?,
            };
            if let Action::Remove = action {
                // Positions in a list of numbers are significant: the default keeps the others where they are.
                let default = if matches!(field.kind, FieldType::Strings) { "\"\"" } else { "0" };
                self.found.edits.replace(start..self.cursor.at, default);
            }
            if self.cursor.closes(b']', "expected ',' or ']' after a value")? {
                return Ok(Action::Keep);
            }
        }
    }

    /// Returns whether the text is one that VCL writes for an unset variable: empty, or `(null)`.
    fn is_unset(&mut self, literal: &[u8]) -> bool {
        let nothing = literal.is_empty() || literal == NULL_WORD;
        if nothing {
            self.note(Repair::NullWord);
        }
        nothing
    }
}

fn in_range(value: Option<i128>, int: Int) -> bool {
    let (least, most) = int.range();
    value.is_some_and(|value| (least..=most).contains(&value))
}

#[cold]
fn not_an_integer(at: usize, field: &Field, int: Int) -> Fault {
    let (least, most) = int.range();
    let unit = if field.name.ends_with("UnixNano") { "Unix nanoseconds, " } else { "" };
    Fault::shape(at, format!("{} must be {unit}an integer from {least} to {most}", field.name))
}

/// Returns whether a literal is the name of an enum's number in another case, or its last words.
fn is_short_for(literal: &[u8], name: &str) -> bool {
    let name = name.as_bytes();
    name.len().checked_sub(literal.len()).is_some_and(|start| {
        let begins_a_word = start == 0 || name[start - 1] == b'_';
        !literal.is_empty() && begins_a_word && name[start..].eq_ignore_ascii_case(literal)
    })
}

fn is_double(literal: &[u8]) -> bool {
    match literal {
        b"NaN" | b"Infinity" | b"-Infinity" => true,
        // Rust also reads words such as `inf`, which proto3 JSON does not have.
        _ if literal.iter().any(|byte| byte.is_ascii_alphabetic() && !matches!(byte, b'e' | b'E')) => false,
        _ => {
            std::str::from_utf8(literal).is_ok_and(|text| text.parse::<f64>().is_ok_and(|it| it.is_finite()))
        }
    }
}

/// Returns whether a double has all digits of an integer.
fn is_exact_double(literal: &[u8]) -> bool {
    std::str::from_utf8(literal)
        .is_ok_and(|text| text.parse::<f64>().is_ok_and(|double| format!("{double:.0}") == text))
}

/// Returns whether a JSON number is finite as a double. Nearly all are too short to be anything else.
fn is_finite(literal: &[u8]) -> bool {
    const MOST_DIGITS: usize = 308;
    if literal.len() <= MOST_DIGITS && !literal.iter().any(|byte| matches!(byte, b'e' | b'E')) {
        return true;
    }
    is_double(literal)
}
