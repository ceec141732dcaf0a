//! OTLP protobuf to canonical OTLP/JSON, along the [`schema`](crate::otlp::schema): the mirror of
//! [`encode_onto`](super::encode_onto).
//!
//! In: the bytes of an export request. Out: the same data as JSON, members in the order of the schema.
//!
//! Promises:
//! - Whatever the schema knows is there: fields that are present with a default value, empty lists and messages,
//!   unknown numbers of enums, numbers of 64 bits and doubles to their last bit. Only which NaN it was is lost.
//! - Invalid UTF-8 in strings is replaced by U+FFFD, as Collectors do not validate either.
//! - What the schema does not know is left out. A known field in another wire type than its own is refused: leaving
//!   it out would lose it in silence.
//! - What protobuf says about a field that comes more than once holds: lists go on, messages are merged, of scalars and
//!   of the members of a `oneof` the last one counts.
//! - No bytes make it panic. What it writes is bounded by `max_json_bytes` and nested no deeper than the reader of
//!   JSON goes.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::wire::{Fields, Wire, WireFault};
use crate::event::Signal;
use crate::otlp::encode_hex;
use crate::otlp::json::MAX_DEPTH;
use crate::otlp::schema::{Field, Group, Int, Kind, LINE, Message};

/// No message of OTLP has more fields than a span.
const MAX_FIELDS: usize = 16;

/// What may at least be copied to put messages together that come in pieces. Real encoders write no pieces, and so
/// more than the request itself is only for those who want memory to be wasted.
const PIECES_BYTES: usize = 64 * 1024;

/// Why bytes are not an export request, or not one that can be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DecodeError {
    #[error("not protobuf: {0}")]
    Wire(#[from] WireFault),
    #[error("not OTLP: {0} has another wire type than its own")]
    WireType(&'static str),
    #[error("nested too deep: more than {MAX_DEPTH} levels in JSON")]
    TooDeep,
    #[error("messages are split into pieces that come to more than the request itself")]
    TooManyPieces,
    #[error("too large: more than {max_json_bytes} bytes as JSON")]
    TooLarge { max_json_bytes: usize },
}

/// Where a field stands in its message. With the fields between them, which may be others.
#[derive(Debug, Clone, Copy)]
struct Site {
    first: usize,
    last: usize,
}

/// A request as JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Decoded {
    pub(crate) json: Vec<u8>,
    /// Whether invalid UTF-8 was replaced by U+FFFD.
    pub(crate) is_repaired: bool,
    /// Whether there are fields, and none is the list that a request is there for.
    pub(crate) is_foreign: bool,
    /// Whether fields that the schema does not know were left out.
    pub(crate) has_unknown: bool,
}

/// JSON as it grows.
struct Writer {
    json: Vec<u8>,
    max_json_bytes: usize,
    /// Open braces and brackets.
    depth: u32,
    /// What may still be copied to put messages together that come in pieces.
    pieces_bytes: usize,
    is_repaired: bool,
    has_unknown: bool,
}

/// Decodes an export request of one signal.
pub(crate) fn decode(signal: Signal, body: &[u8], max_json_bytes: usize) -> Result<Decoded, DecodeError> {
    let section = &LINE.fields[signal as usize];
    let Kind::Messages(resource) = section.kind else { unreachable!("a request is a list of messages") };
    let mut writer = Writer {
        json: Vec::with_capacity(2 * body.len()),
        max_json_bytes,
        depth: 0,
        pieces_bytes: body.len().max(PIECES_BYTES),
        is_repaired: false,
        has_unknown: false,
    };
    let mut is_foreign = !body.is_empty();
    writer.open(b'{')?;
    writer.key(section.name);
    writer.open(b'[')?;
    let mut fields = Fields::new(body, 0);
    while let Some((number, wire)) = fields.read()? {
        // Every request has its one list as field 1.
        match (number, wire) {
            (1, Wire::Length(bytes)) => {
                is_foreign = false;
                writer.element(|writer| writer.message(resource, bytes))?;
            }
            (1, _) => return Err(DecodeError::WireType(section.name)),
            _ => writer.has_unknown = true,
        }
    }
    writer.close(b']');
    writer.close(b'}');
    let Writer { json, is_repaired, has_unknown, .. } = writer;
    Ok(Decoded { json, is_repaired, is_foreign, has_unknown })
}

/// Finds the fields of a message, each at its place in the schema, and notes whether there are others.
fn locate(
    message: &'static Message,
    bytes: &[u8],
    has_unknown: &mut bool,
) -> Result<[Option<Site>; MAX_FIELDS], DecodeError> {
    let mut sites = [None; MAX_FIELDS];
    let mut fields = Fields::new(bytes, 0);
    loop {
        let at = fields.at;
        let Some((number, wire)) = fields.read()? else { return Ok(sites) };
        let Some(index) = message.fields.iter().position(|field| field.number == number) else {
            *has_unknown = true;
            continue;
        };
        let field = &message.fields[index];
        if !field.kind.comes_as(wire) {
            return Err(DecodeError::WireType(field.name));
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

// === impl Kind ===

impl Kind {
    /// Whether a field of this kind may have this wire type. Lists of numbers come packed or one by one.
    fn comes_as(self, wire: Wire<'_>) -> bool {
        match self {
            Self::Message(_)
            | Self::Messages(_)
            | Self::String
            | Self::Strings
            | Self::Bytes
            | Self::TraceId
            | Self::SpanId
            | Self::ParentSpanId => matches!(wire, Wire::Length(_)),
            Self::Bool | Self::Enum(_) => matches!(wire, Wire::Varint(_)),
            Self::Double => matches!(wire, Wire::Fixed64(_)),
            Self::Doubles => matches!(wire, Wire::Fixed64(_) | Wire::Length(_)),
            Self::Int(int) => int.comes_as(wire),
            Self::Ints(int) => int.comes_as(wire) || matches!(wire, Wire::Length(_)),
        }
    }
}

// === impl Int ===

impl Int {
    fn comes_as(self, wire: Wire<'_>) -> bool {
        match self {
            Self::Uint32 | Self::Sint32 | Self::Int64 | Self::Uint64 => matches!(wire, Wire::Varint(_)),
            Self::Fixed32 => matches!(wire, Wire::Fixed32(_)),
            Self::Sfixed64 | Self::Fixed64 => matches!(wire, Wire::Fixed64(_)),
        }
    }

    /// The next of packed numbers.
    fn unpack<'a>(self, packed: &mut Fields<'_>) -> Result<Wire<'a>, WireFault> {
        Ok(match self {
            Self::Uint32 | Self::Sint32 | Self::Int64 | Self::Uint64 => Wire::Varint(packed.varint()?),
            Self::Fixed32 => Wire::Fixed32(packed.fixed()?),
            Self::Sfixed64 | Self::Fixed64 => Wire::Fixed64(packed.fixed()?),
        })
    }

    /// The number of a value of its own wire type. What is beyond 32 bits in a varint for a 32-bit field is cut
    /// off, as protobuf wants it.
    fn number(self, wire: Wire<'_>) -> i128 {
        let bits = match wire {
            Wire::Varint(bits) => bits,
            Wire::Fixed64(bytes) => u64::from_le_bytes(bytes),
            Wire::Fixed32(bytes) => u64::from(u32::from_le_bytes(bytes)),
            Wire::Length(_) | Wire::Group => unreachable!("the wire type was checked"),
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

// === impl Writer ===

impl Writer {
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

    /// Writes a field that is there.
    fn member(&mut self, field: &'static Field, bytes: &[u8], site: Site) -> Result<(), DecodeError> {
        match field.kind {
            Kind::Messages(_) | Kind::Strings | Kind::Doubles | Kind::Ints(_) => {
                self.key(field.name);
                self.list(field, bytes, site)
            }
            Kind::Message(message) if site.first < site.last => {
                let whole = self.put_together(field, bytes, site)?;
                self.key(field.name);
                self.message(message, &whole)
            }
            _ => {
                let Some((_, wire)) = Fields::new(bytes, site.last).read()? else { return Ok(()) };
                if let (Kind::TraceId | Kind::SpanId | Kind::ParentSpanId, Wire::Length([])) =
                    (field.kind, wire)
                {
                    // An id that is not there, which JSON says with no member at all.
                    return Ok(());
                }
                self.key(field.name);
                self.value(field, wire)
            }
        }
    }

    /// The one message that pieces stand for: one behind the other is how protobuf merges them.
    fn put_together(&mut self, field: &Field, bytes: &[u8], site: Site) -> Result<Vec<u8>, DecodeError> {
        let mut whole = Vec::new();
        let mut fields = Fields::new(bytes, site.first);
        while fields.at <= site.last
            && let Some((number, wire)) = fields.read()?
        {
            if let (true, Wire::Length(piece)) = (number == field.number, wire) {
                self.pieces_bytes =
                    self.pieces_bytes.checked_sub(piece.len()).ok_or(DecodeError::TooManyPieces)?;
                whole.extend_from_slice(piece);
            }
        }
        Ok(whole)
    }

    fn list(&mut self, field: &'static Field, bytes: &[u8], site: Site) -> Result<(), DecodeError> {
        self.open(b'[')?;
        let mut fields = Fields::new(bytes, site.first);
        while fields.at <= site.last
            && let Some((number, wire)) = fields.read()?
        {
            if number != field.number {
                continue;
            }
            match (field.kind, wire) {
                (Kind::Ints(int), Wire::Length(packed)) => {
                    let mut packed = Fields::new(packed, 0);
                    while !packed.is_at_end() {
                        let wire = int.unpack(&mut packed)?;
                        self.element(|writer| writer.value(field, wire))?;
                    }
                }
                (Kind::Doubles, Wire::Length(packed)) => {
                    let mut packed = Fields::new(packed, 0);
                    while !packed.is_at_end() {
                        let wire = Wire::Fixed64(packed.fixed()?);
                        self.element(|writer| writer.value(field, wire))?;
                    }
                }
                _ => self.element(|writer| writer.value(field, wire))?,
            }
        }
        self.close(b']');
        Ok(())
    }

    /// Writes one value, or one element of a list, whose wire type was checked.
    fn value(&mut self, field: &'static Field, wire: Wire<'_>) -> Result<(), DecodeError> {
        match (field.kind, wire) {
            (Kind::Message(message) | Kind::Messages(message), Wire::Length(bytes)) => {
                return self.message(message, bytes);
            }
            (Kind::String | Kind::Strings, Wire::Length(bytes)) => {
                let text = String::from_utf8_lossy(bytes);
                self.is_repaired |= matches!(text, Cow::Owned(_));
                self.fits(text.len())?;
                serde_json::to_writer(&mut self.json, &text).expect("a string can be written to memory");
            }
            (Kind::TraceId | Kind::SpanId | Kind::ParentSpanId, Wire::Length(bytes)) => {
                self.fits(2 * bytes.len())?;
                self.quoted(&encode_hex(bytes));
            }
            (Kind::Bytes, Wire::Length(bytes)) => {
                self.fits(bytes.len())?;
                self.quoted(&STANDARD.encode(bytes));
            }
            (Kind::Bool, Wire::Varint(bits)) => self.word(if bits == 0 { "false" } else { "true" }),
            // Cut off to 32 bits, as protobuf wants it.
            (Kind::Enum(_), Wire::Varint(bits)) => self.word(&(bits as i32).to_string()),
            (Kind::Double | Kind::Doubles, Wire::Fixed64(bytes)) => self.double(f64::from_le_bytes(bytes)),
            (Kind::Int(int) | Kind::Ints(int), wire) => {
                let number = int.number(wire).to_string();
                if int.is_64_bit() { self.quoted(&number) } else { self.word(&number) }
            }
            _ => return Err(DecodeError::WireType(field.name)),
        }
        Ok(())
    }

    fn double(&mut self, number: f64) {
        if number.is_nan() {
            self.quoted("NaN");
        } else if number.is_infinite() {
            self.quoted(if number > 0.0 { "Infinity" } else { "-Infinity" });
        } else {
            // The shortest digits that are read back as the same double.
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
            return Err(DecodeError::TooDeep);
        }
        self.json.push(bracket);
        Ok(())
    }

    fn close(&mut self, bracket: u8) {
        self.depth -= 1;
        self.json.push(bracket);
    }

    /// Whether there is room for so much more.
    fn fits(&self, bytes: usize) -> Result<(), DecodeError> {
        if self.json.len().saturating_add(bytes) > self.max_json_bytes {
            return Err(DecodeError::TooLarge { max_json_bytes: self.max_json_bytes });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
