//! Random requests in protobuf, for tests.

use super::super::{FIXED32, FIXED64, Int, LENGTH, VARINT, bytes, tag, varint};
use crate::event::Signal;
use crate::otlp::schema::{Field, FieldType, Group, LINE, Message, MessageRole};

/// Returns a message with one field with this content.
fn field(number: u32, content: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    bytes(number, content, &mut out);
    out
}

/// SplitMix64 generator: a test that fails for a seed fails for it again.
pub(crate) struct Random(pub(crate) u64);

// === impl Random ===

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Returns a number below `bound`, or zero when `bound` is zero.
    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound.max(1) as u64).expect("a number below a usize")
    }

    fn number(&mut self) -> u64 {
        let any = self.next();
        [0, 1, 127, 128, any, any >> 40, u64::MAX, i64::MIN as u64, i64::MAX as u64, u64::from(u32::MAX)]
            [self.below(10)]
    }

    fn double(&mut self) -> f64 {
        let any = f64::from_bits(self.next());
        [0.0, -0.0, 0.1, 1e16, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MAX, 5e-324, any]
            [self.below(10)]
    }

    fn text(&mut self) -> &'static str {
        ["", "a", "service.name", "\u{0}\n\"\\\u{7f}", "é😀\u{2028}", "{\"a\":[1]}", "NaN"][self.below(7)]
    }

    fn id(&mut self, length: usize, out: &mut Vec<u8>) {
        let length = if self.below(4) == 0 { 0 } else { length };
        out.extend((0..length).map(|_| self.next() as u8));
    }

    /// Returns a message with random fields in any order, some repeated, with unknown ones among them.
    fn message(&mut self, message: &'static Message, depth: u32) -> Vec<u8> {
        let mut out = Vec::new();
        for _ in 0..self.below(if depth < 5 { 8 } else { 4 }) {
            match self.below(message.fields.len() + 1) {
                0 => self.unknown(&mut out),
                index => self.field(&message.fields[index - 1], depth, &mut out),
            }
        }
        out
    }

    fn unknown(&mut self, out: &mut Vec<u8>) {
        match self.below(3) {
            0 => {
                tag(1000, VARINT, out);
                varint(self.number(), out);
            }
            1 => bytes(1001, b"\xff", out),
            _ => {
                tag(1002, 3, out);
                bytes(1, b"x", out);
                tag(1002, 4, out);
            }
        }
    }

    fn field(&mut self, field: &Field, depth: u32, out: &mut Vec<u8>) {
        let number = field.number;
        let mut content = Vec::new();
        match field.kind {
            FieldType::Message(_) | FieldType::Messages(_) if depth > 12 => {}
            FieldType::Message(message) | FieldType::Messages(message) => {
                content = self.message(message, depth + 1);
                bytes(number, &content, out);
            }
            FieldType::String | FieldType::Strings => bytes(number, self.text().as_bytes(), out),
            FieldType::Bytes => bytes(number, &self.next().to_le_bytes()[..self.below(8)], out),
            FieldType::TraceId | FieldType::SpanId | FieldType::ParentSpanId => {
                self.id(if matches!(field.kind, FieldType::TraceId) { 16 } else { 8 }, &mut content);
                bytes(number, &content, out);
            }
            FieldType::Bool | FieldType::Enum(_) => {
                tag(number, VARINT, out);
                varint(self.number(), out);
            }
            FieldType::Double => {
                tag(number, FIXED64, out);
                out.extend(self.double().to_le_bytes());
            }
            FieldType::Int(int) => {
                tag(number, int.wire_type(), out);
                self.scalar(int, out);
            }
            FieldType::Doubles => {
                (0..self.below(4)).for_each(|_| content.extend(self.double().to_le_bytes()));
                self.numbers(number, FIXED64, &content, out);
            }
            FieldType::Ints(int) => {
                (0..self.below(4)).for_each(|_| self.scalar(int, &mut content));
                // Varints of different lengths cannot be separated again here.
                let apart = if int.wire_type() == FIXED64 { FIXED64 } else { LENGTH };
                self.numbers(number, apart, &content, out);
            }
        }
    }

    /// Writes numbers packed or, where possible, one by one.
    fn numbers(&mut self, number: u32, apart: u32, content: &[u8], out: &mut Vec<u8>) {
        if apart == FIXED64 && self.below(2) == 0 {
            for chunk in content.chunks(8) {
                tag(number, FIXED64, out);
                out.extend(chunk);
            }
        } else {
            bytes(number, content, out);
        }
    }

    fn scalar(&mut self, int: Int, out: &mut Vec<u8>) {
        match int.wire_type() {
            VARINT => varint(self.number(), out),
            FIXED32 => out.extend((self.number() as u32).to_le_bytes()),
            _ => out.extend(self.number().to_le_bytes()),
        }
    }

    pub(crate) fn request(&mut self, signal: Signal) -> Vec<u8> {
        let FieldType::Messages(resource) = LINE.fields[signal as usize].kind else { unreachable!() };
        (0..1 + self.below(3)).flat_map(|_| field(1, &self.message(resource, 0))).collect()
    }

    /// Returns a message as encoders write it: each field once, in order, with valid ids and different keys. With `defects`,
    /// one in so many ids, keys and texts is invalid or repeated.
    fn proper(&mut self, message: &'static Message, depth: u32, defects: Option<usize>) -> Vec<u8> {
        let mut out = Vec::new();
        let members = message.fields.iter().filter(|field| field.group == Group::OneOf).count();
        let (chosen, mut member) = (self.below(members + 1), 0);
        for field in message.fields {
            let is_one_of = field.group == Group::OneOf;
            member += usize::from(is_one_of);
            let is_present = if is_one_of { member == chosen } else { self.below(3) > 0 };
            let has_ids = matches!(message.role, MessageRole::Span | MessageRole::Link);
            match field.kind {
                FieldType::Messages(_) if depth > 6 => {}
                FieldType::Messages(inner) => {
                    for _ in 0..self.below(4) {
                        let content = self.proper(inner, depth + 1, defects);
                        bytes(field.number, &content, &mut out);
                    }
                }
                FieldType::TraceId | FieldType::SpanId if has_ids => self.id_field(field, defects, &mut out),
                _ if !is_present => {}
                FieldType::TraceId | FieldType::SpanId | FieldType::ParentSpanId => {
                    self.id_field(field, defects, &mut out)
                }
                FieldType::String | FieldType::Strings if self.is_defect(defects) => {
                    bytes(field.number, [&b"\xff"[..], b"\xfe", b"k\xe2\x82"][self.below(3)], &mut out);
                }
                FieldType::String if message.role == MessageRole::KeyValue => {
                    let mut key = format!("{:0length$x}", self.next(), length = self.below(40));
                    if self.is_defect(defects) {
                        key = "k".repeat(self.below(2));
                    }
                    bytes(field.number, key.as_bytes(), &mut out);
                }
                FieldType::Message(_) if depth > 8 => {}
                FieldType::Message(inner) => {
                    let content = self.proper(inner, depth + 1, defects);
                    bytes(field.number, &content, &mut out);
                }
                _ => self.field(field, depth, &mut out),
            }
        }
        if self.below(8) == 0 {
            self.unknown(&mut out);
        }
        out
    }

    fn is_defect(&mut self, defects: Option<usize>) -> bool {
        defects.is_some_and(|one_in| self.below(one_in) == 0)
    }

    fn id_field(&mut self, field: &Field, defects: Option<usize>, out: &mut Vec<u8>) {
        let mut id = [(self.next() | 1).to_le_bytes(), self.next().to_le_bytes()].concat();
        id.truncate(if matches!(field.kind, FieldType::TraceId) { 16 } else { 8 });
        if self.is_defect(defects) {
            match self.below(4) {
                0 => id.fill(0),
                // A span may be its own parent.
                1 | 2 => id.fill(1),
                _ => id.truncate(self.below(8)),
            }
        }
        bytes(field.number, &id, out);
    }

    /// Returns a request that needs repairs.
    pub(crate) fn request_with_defects(&mut self, signal: Signal) -> Vec<u8> {
        let defects = Some(2 + self.below(20));
        let FieldType::Messages(resource) = LINE.fields[signal as usize].kind else { unreachable!() };
        (0..1 + self.below(3)).flat_map(|_| field(1, &self.proper(resource, 0, defects))).collect()
    }

    pub(crate) fn proper_request(&mut self, signal: Signal) -> Vec<u8> {
        let FieldType::Messages(resource) = LINE.fields[signal as usize].kind else { unreachable!() };
        (0..1 + self.below(3)).flat_map(|_| field(1, &self.proper(resource, 0, None))).collect()
    }
}
