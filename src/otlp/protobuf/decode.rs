//! Decoder from OTLP protobuf to canonical OTLP/JSON, along the [`schema`](crate::otlp::schema): the inverse of
//! [`encode_onto`](super::encode_onto).
//!
//! In: the bytes of an export request. Out: the same data as JSON, members in the order of the schema.
//!
//! Promises:
//! - Known fields are preserved: fields that are present with a default value, empty lists and messages, unknown
//!   numbers of enums, 64-bit numbers and doubles to the last bit. Only the payload of a NaN is lost.
//! - Invalid UTF-8 in strings is replaced by U+FFFD, because Collectors do not validate it either.
//! - Unknown fields are left out. A known field with the wrong wire type is rejected, because leaving it out would lose
//!   it silently.
//! - Repeated fields follow the rules of protobuf: lists are concatenated, messages are merged, the last scalar and the
//!   last member of a `oneof` win.
//! - A fault has its position: the byte and the field.
//! - No bytes cause a panic. The output is limited by `max_json_bytes` and nested no deeper than the JSON reader
//!   accepts.

mod fault;

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::wire::{Fields, WireFault, WireValue};
use crate::event::Signal;
use crate::otlp::encode_hex;
use crate::otlp::json::MAX_DEPTH;
use crate::otlp::schema::{Field, FieldType, Group, Int, LINE, Message};
use crate::otlp::splice::Origins;

pub(crate) use fault::{DecodeCause, DecodeError};

/// Maximum number of fields of a message: a span has the most.
const MAX_FIELDS: usize = 16;

/// Limit for copying messages that are split, at least. Real encoders do not split messages, so that more than the size
/// of the request is only copied for malicious input.
const PARTS_BYTES: usize = 64 * 1024;

/// Position of a field in its message. Other fields may be in between.
#[derive(Debug, Clone, Copy)]
struct Site {
    first: usize,
    last: usize,
}

/// A request as JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decoded {
    pub json: Vec<u8>,
    /// Invalid UTF-8 was replaced by U+FFFD.
    pub(crate) is_repaired: bool,
    /// There are fields, and none is the list of the signal.
    pub(crate) is_foreign: bool,
    /// Unknown fields were left out.
    pub(crate) has_unknown: bool,
}

/// JSON that is being written.
struct JsonWriter {
    json: Vec<u8>,
    max_json_bytes: usize,
    /// Number of open braces and brackets.
    depth: u32,
    /// Bytes that may still be copied to join split messages.
    parts_bytes: usize,
    is_repaired: bool,
    has_unknown: bool,
}

/// Decodes an export request of one signal.
pub fn decode(signal: Signal, body: &[u8], max_json_bytes: usize) -> Result<Decoded, DecodeError> {
    let section = &LINE.fields[signal as usize];
    let FieldType::Messages(resource) = section.kind else { unreachable!("a request is a list of messages") };
    let mut writer = JsonWriter::new(body.len(), max_json_bytes);
    let mut elements = 0;
    writer.open(b'{')?;
    writer.key(section.name);
    writer.open(b'[')?;
    let mut fields = Fields::new(body, 0);
    loop {
        let at = fields.at;
        let Some((number, wire)) = next(&mut fields)? else { break };
        // Every request has its one list as field 1.
        match (number, wire) {
            (1, WireValue::Length(bytes)) => {
                let written = writer.element(|writer| writer.message(resource, bytes));
                written
                    .map_err(|error| error.inside(section.name, Some(elements), fields.at - bytes.len()))?;
                elements += 1;
            }
            (1, _) => return Err(DecodeError::new(at, DecodeCause::WireType).inside(section.name, None, 0)),
            _ => writer.has_unknown = true,
        }
    }
    let is_foreign = !body.is_empty() && elements == 0;
    writer.close(b']');
    writer.close(b'}');
    let JsonWriter { json, is_repaired, has_unknown, .. } = writer;
    Ok(Decoded { json, is_repaired, is_foreign, has_unknown })
}

/// Decodes one message of a request; `None` if it is not one.
pub(super) fn decode_message(message: &'static Message, bytes: &[u8]) -> Option<Vec<u8>> {
    let mut writer = JsonWriter::new(bytes.len(), usize::MAX);
    writer.message(message, bytes).ok()?;
    Some(writer.json)
}

/// Reads the number and the value of the next field; `None` at the end.
fn next<'a>(fields: &mut Fields<'a>) -> Result<Option<(u32, WireValue<'a>)>, DecodeError> {
    let at = fields.at;
    fields.read().map_err(|fault| DecodeError::new(at, fault))
}

/// Returns the offset of the content of a field that begins at `at` and was just read.
fn content_at(at: usize, fields: &Fields<'_>, wire: WireValue<'_>) -> usize {
    if let WireValue::Length(content) = wire { fields.at - content.len() } else { at }
}

/// Finds the fields of a message by their index in the schema, and notes whether there are others.
fn locate(
    message: &'static Message,
    bytes: &[u8],
    has_unknown: &mut bool,
) -> Result<[Option<Site>; MAX_FIELDS], DecodeError> {
    let mut sites = [None; MAX_FIELDS];
    let mut fields = Fields::new(bytes, 0);
    loop {
        let at = fields.at;
        let Some((number, wire)) = next(&mut fields)? else { return Ok(sites) };
        let Some((index, field)) = message.numbered(number) else {
            *has_unknown = true;
            continue;
        };
        if !field.kind.accepts(wire) {
            return Err(DecodeError::new(at, DecodeCause::WireType).inside(field.name, None, 0));
        }
        if field.group == Group::OneOf {
            let others = message.fields.iter().zip(&mut sites).enumerate();
            others
                .filter(|(other, (field, _))| *other != index && field.group == Group::OneOf)
                .for_each(|(_, (_, site))| *site = None);
        }
        sites[index].get_or_insert(Site { first: at, last: at }).last = at;
    }
}

// === impl FieldType ===

impl FieldType {
    /// Returns whether a field of this kind may have this wire type. Lists of numbers may be packed or not.
    pub(super) fn accepts(self, wire: WireValue<'_>) -> bool {
        match self {
            Self::Message(_)
            | Self::Messages(_)
            | Self::String
            | Self::Strings
            | Self::Bytes
            | Self::TraceId
            | Self::SpanId
            | Self::ParentSpanId => matches!(wire, WireValue::Length(_)),
            Self::Bool | Self::Enum(_) => matches!(wire, WireValue::Varint(_)),
            Self::Double => matches!(wire, WireValue::Fixed64(_)),
            Self::Doubles => matches!(wire, WireValue::Fixed64(_) | WireValue::Length(_)),
            Self::Int(int) => int.accepts(wire),
            Self::Ints(int) => int.accepts(wire) || matches!(wire, WireValue::Length(_)),
        }
    }

    /// Reads the next packed number.
    pub(super) fn unpack<'a>(self, packed: &mut Fields<'_>) -> Result<WireValue<'a>, WireFault> {
        Ok(match self {
            Self::Ints(Int::Uint32 | Int::Sint32 | Int::Int64 | Int::Uint64) => {
                WireValue::Varint(packed.varint()?)
            }
            Self::Ints(Int::Fixed32) => WireValue::Fixed32(packed.fixed()?),
            _ => WireValue::Fixed64(packed.fixed()?),
        })
    }
}

// === impl Int ===

impl Int {
    fn accepts(self, wire: WireValue<'_>) -> bool {
        match self {
            Self::Uint32 | Self::Sint32 | Self::Int64 | Self::Uint64 => matches!(wire, WireValue::Varint(_)),
            Self::Fixed32 => matches!(wire, WireValue::Fixed32(_)),
            Self::Sfixed64 | Self::Fixed64 => matches!(wire, WireValue::Fixed64(_)),
        }
    }

    /// Returns the number of a value with the right wire type. A varint for a 32-bit field is truncated, as protobuf
    /// requires.
    fn number(self, wire: WireValue<'_>) -> i128 {
        let bits = match wire {
            WireValue::Varint(bits) => bits,
            WireValue::Fixed64(bytes) => u64::from_le_bytes(bytes),
            WireValue::Fixed32(bytes) => u64::from(u32::from_le_bytes(bytes)),
            WireValue::Length(_) | WireValue::Group => unreachable!("the wire type was checked"),
        };
        match self {
            Self::Uint32 | Self::Fixed32 => i128::from(bits as u32),
            Self::Sint32 => {
                let zigzag = bits as u32;
                i128::from((zigzag >> 1) as i32 ^ -((zigzag & 1) as i32))
            }
            Self::Int64 | Self::Sfixed64 => i128::from(bits as i64),
            Self::Uint64 | Self::Fixed64 => i128::from(bits),
        }
    }
}

// === impl JsonWriter ===

impl JsonWriter {
    /// Creates a writer for a message of this length.
    fn new(bytes: usize, max_json_bytes: usize) -> Self {
        Self {
            json: Vec::with_capacity(2 * bytes),
            max_json_bytes,
            depth: 0,
            parts_bytes: bytes.max(PARTS_BYTES),
            is_repaired: false,
            has_unknown: false,
        }
    }

    fn message(&mut self, message: &'static Message, bytes: &[u8]) -> Result<(), DecodeError> {
        let sites = locate(message, bytes, &mut self.has_unknown)?;
        self.open(b'{')?;
        for (field, site) in message.fields.iter().zip(sites) {
            if let Some(site) = site {
                self.member(field, bytes, site)?;
            }
        }
        self.close(b'}');
        Ok(())
    }

    /// Writes a field that is present.
    fn member(&mut self, field: &'static Field, bytes: &[u8], site: Site) -> Result<(), DecodeError> {
        match field.kind {
            FieldType::Messages(_) | FieldType::Strings | FieldType::Doubles | FieldType::Ints(_) => {
                self.key(field.name);
                let opened = self.open(b'[');
                opened.map_err(|error| error.inside(field.name, None, site.first))?;
                self.list(field, bytes, site)?;
                self.close(b']');
                Ok(())
            }
            FieldType::Message(message) if site.first < site.last => {
                let (whole, origins) = self.join_parts(field, bytes, site)?;
                self.key(field.name);
                self.message(message, &whole).map_err(|error| {
                    let at = origins.of(error.at);
                    DecodeError { at, ..error }.inside(field.name, None, 0)
                })
            }
            _ => {
                let mut fields = Fields::new(bytes, site.last);
                let Some((_, wire)) = next(&mut fields)? else { return Ok(()) };
                if let (
                    FieldType::TraceId | FieldType::SpanId | FieldType::ParentSpanId,
                    WireValue::Length([]),
                ) = (field.kind, wire)
                {
                    // A missing id, which JSON expresses by a missing member.
                    return Ok(());
                }
                self.key(field.name);
                let start = content_at(site.last, &fields, wire);
                self.value(field, wire).map_err(|error| error.inside(field.name, None, start))
            }
        }
    }

    /// Joins the parts of a split message: protobuf merges them by concatenation. Also returns where they came from.
    fn join_parts(
        &mut self,
        field: &Field,
        bytes: &[u8],
        site: Site,
    ) -> Result<(Vec<u8>, Origins), DecodeError> {
        let (mut whole, mut origins) = (Vec::new(), Origins::default());
        let mut fields = Fields::new(bytes, site.first);
        while fields.at <= site.last
            && let Some((number, wire)) = next(&mut fields)?
        {
            if let (true, WireValue::Length(part)) = (number == field.number, wire) {
                let start = fields.at - part.len();
                let too_many =
                    || DecodeError::new(start, DecodeCause::TooManyParts).inside(field.name, None, 0);
                self.parts_bytes = self.parts_bytes.checked_sub(part.len()).ok_or_else(too_many)?;
                origins.note(whole.len(), start);
                whole.extend_from_slice(part);
            }
        }
        Ok((whole, origins))
    }

    /// Writes the elements of a list.
    fn list(&mut self, field: &'static Field, bytes: &[u8], site: Site) -> Result<(), DecodeError> {
        let mut index = 0;
        let mut element = |writer: &mut Self, wire: WireValue<'_>, start: usize| {
            let written = writer.element(|writer| writer.value(field, wire));
            index += 1;
            written.map_err(|error| error.inside(field.name, Some(index - 1), start))
        };
        let mut fields = Fields::new(bytes, site.first);
        loop {
            let at = fields.at;
            let Some((number, wire)) = next(&mut fields)?.filter(|_| at <= site.last) else { return Ok(()) };
            if number != field.number {
                continue;
            }
            let start = content_at(at, &fields, wire);
            match (field.kind, wire) {
                (FieldType::Ints(_) | FieldType::Doubles, WireValue::Length(packed)) => {
                    let mut packed = Fields::new(packed, 0);
                    while !packed.is_at_end() {
                        let at = start + packed.at;
                        let wire = field.kind.unpack(&mut packed);
                        let wire =
                            wire.map_err(|fault| DecodeError::new(at, fault).inside(field.name, None, 0))?;
                        element(self, wire, at)?;
                    }
                }
                _ => element(self, wire, start)?,
            }
        }
    }

    /// Writes one value, or one element of a list, whose wire type was checked.
    fn value(&mut self, field: &'static Field, wire: WireValue<'_>) -> Result<(), DecodeError> {
        match (field.kind, wire) {
            (FieldType::Message(message) | FieldType::Messages(message), WireValue::Length(bytes)) => {
                return self.message(message, bytes);
            }
            (FieldType::String | FieldType::Strings, WireValue::Length(bytes)) => {
                let text = String::from_utf8_lossy(bytes);
                self.is_repaired |= matches!(text, Cow::Owned(_));
                self.fits(text.len())?;
                serde_json::to_writer(&mut self.json, &text).expect("a string can be written to memory");
            }
            (FieldType::TraceId | FieldType::SpanId | FieldType::ParentSpanId, WireValue::Length(bytes)) => {
                self.fits(2 * bytes.len())?;
                self.quoted(&encode_hex(bytes));
            }
            (FieldType::Bytes, WireValue::Length(bytes)) => {
                self.fits(bytes.len())?;
                self.quoted(&STANDARD.encode(bytes));
            }
            (FieldType::Bool, WireValue::Varint(bits)) => self.word(if bits == 0 { "false" } else { "true" }),
            // Truncated to 32 bits, as protobuf requires.
            (FieldType::Enum(_), WireValue::Varint(bits)) => self.word(&(bits as i32).to_string()),
            (FieldType::Double | FieldType::Doubles, WireValue::Fixed64(bytes)) => {
                self.double(f64::from_le_bytes(bytes))
            }
            (FieldType::Int(int) | FieldType::Ints(int), wire) => {
                let number = int.number(wire).to_string();
                if int.is_64_bit() { self.quoted(&number) } else { self.word(&number) }
            }
            _ => return Err(DecodeError::new(0, DecodeCause::WireType)),
        }
        Ok(())
    }

    fn double(&mut self, number: f64) {
        if number.is_nan() {
            self.quoted("NaN");
        } else if number.is_infinite() {
            self.quoted(if number > 0.0 { "Infinity" } else { "-Infinity" });
        } else {
            // The shortest digits that are read as the same double.
            serde_json::to_writer(&mut self.json, &number).expect("a number can be written to memory");
        }
    }

    fn word(&mut self, word: &str) {
        self.json.extend_from_slice(word.as_bytes());
    }

    /// Writes a string in which nothing needs an escape.
    fn quoted(&mut self, text: &str) {
        self.json.push(b'"');
        self.word(text);
        self.json.push(b'"');
    }

    fn key(&mut self, name: &str) {
        self.separate();
        self.quoted(name);
        self.json.push(b':');
    }

    fn element(
        &mut self,
        write: impl FnOnce(&mut Self) -> Result<(), DecodeError>,
    ) -> Result<(), DecodeError> {
        self.fits(1)?;
        self.separate();
        write(self)
    }

    fn separate(&mut self) {
        if !matches!(self.json.last(), Some(b'{' | b'[')) {
            self.json.push(b',');
        }
    }

    fn open(&mut self, bracket: u8) -> Result<(), DecodeError> {
        self.fits(1)?;
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(DecodeError::new(0, DecodeCause::TooDeep));
        }
        self.json.push(bracket);
        Ok(())
    }

    fn close(&mut self, bracket: u8) {
        self.depth -= 1;
        self.json.push(bracket);
    }

    /// Checks that `bytes` more bytes fit.
    fn fits(&self, bytes: usize) -> Result<(), DecodeError> {
        if self.json.len().saturating_add(bytes) > self.max_json_bytes {
            let max_json_bytes = self.max_json_bytes;
            return Err(DecodeError::new(0, DecodeCause::TooLarge { max_json_bytes }));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
