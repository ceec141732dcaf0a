//! Repairs of an export request in protobuf, by which it stays protobuf.
//!
//! In: a request that [`check`](super::check) did not accept. Out: the request with the changes that the reader of JSON would
//! make: spans without valid ids are left out, and so are links without ids, other invalid ids, useless parents, and all but the
//! last attribute with a key; invalid text is replaced. `None` where the request must be decoded, because it is invalid or
//! is encoded in a way that real encoders do not use.
//! Promises: all other fields are byte-identical, unknown ones included; a message is read a constant number of times for each
//! message around it.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use super::super::document::DroppedSpan;
use super::super::schema::{FieldType, LINE, Message, MessageRole};
use super::super::walk::{MAX_ITEMS, NO_IDS, NO_SPAN_ID, NO_TRACE_ID};
use super::check::{RESOURCE_DEPTH, Seen, key_of};
use super::decode::decode_message;
use super::wire::{Fields, WireValue};
use super::{LENGTH, bytes, delimited, tag};
use crate::event::{RejectCode, Repair, Signal};
use crate::otlp::json::MAX_DEPTH;

/// A request after its repair.
#[derive(Debug, Default)]
pub(super) struct RepairedRequest {
    pub(super) bytes: Vec<u8>,
    pub(super) repairs: Vec<Repair>,
    pub(super) dropped: Vec<DroppedSpan>,
    /// The request had unknown fields.
    pub(super) has_unknown: bool,
}

/// Findings in a request.
#[derive(Debug, Default)]
struct RequestFindings {
    repairs: Vec<Repair>,
    dropped: Vec<DroppedSpan>,
    has_invalid_text: bool,
    has_unknown: bool,
    /// Number of elements of lists.
    elements: usize,
}

/// A message that is read.
#[derive(Debug, Clone, Copy)]
struct MessagePart<'a> {
    message: &'static Message,
    bytes: &'a [u8],
    /// Offset of the bytes in the request.
    at: usize,
    /// Levels that the message is nested in, as JSON.
    depth: u32,
}

/// An id in a message.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Id<'a> {
    #[default]
    Missing,
    Invalid,
    Valid(&'a [u8]),
}

/// Ids of a span or a link.
#[derive(Debug, Default)]
struct ReadIds<'a> {
    trace: Id<'a>,
    span: Id<'a>,
}

/// Repairs a request.
pub(super) fn repair(signal: Signal, body: &[u8]) -> Option<RepairedRequest> {
    let FieldType::Messages(message) = LINE.fields[signal as usize].kind else { return None };
    let mut found = RequestFindings::default();
    let mut out = Vec::with_capacity(body.len());
    let mut fields = Fields::new(body, 0);
    loop {
        let start = fields.at;
        let Some((number, wire)) = fields.read().ok()? else { break };
        match (number, wire) {
            // Every request has its one list as field 1.
            (1, WireValue::Length(content)) => {
                let at = fields.at - content.len();
                let resource = MessagePart { message, bytes: content, at, depth: RESOURCE_DEPTH };
                tag(number, LENGTH, &mut out);
                delimited(&mut out, |out| found.message(resource, out))?;
            }
            (1, _) => return None,
            _ => {
                found.has_unknown = true;
                out.extend_from_slice(&body[start..fields.at]);
            }
        }
    }
    let RequestFindings { mut repairs, dropped, has_invalid_text, has_unknown, .. } = found;
    repairs.extend(has_invalid_text.then_some(Repair::InvalidUtf8));
    Some(RepairedRequest { bytes: out, repairs, dropped, has_unknown })
}

// === impl RequestFindings ===

impl RequestFindings {
    /// Copies a message with its repairs.
    fn message(&mut self, part: MessagePart<'_>, out: &mut Vec<u8>) -> Option<()> {
        let MessagePart { message, bytes: content, depth, .. } = part;
        if depth >= MAX_DEPTH {
            return None;
        }
        let last = part.last_of_each_key()?;
        let own_id = if message.role == MessageRole::Span { part.ids()?.span } else { Id::Missing };
        let mut seen = Seen::default();
        let mut fields = Fields::new(content, 0);
        loop {
            let start = fields.at;
            let Some((number, wire)) = fields.read().ok()? else { return Some(()) };
            let raw = &content[start..fields.at];
            let Some((index, field)) = message.numbered(number) else {
                self.has_unknown = true;
                out.extend_from_slice(raw);
                continue;
            };
            if !seen.admits(index, field, wire) {
                return None;
            }
            let inner = |message, bytes: &[u8], levels| MessagePart {
                message,
                bytes: &content[fields.at - bytes.len()..fields.at],
                at: part.at + fields.at - bytes.len(),
                depth: depth + levels,
            };
            match (field.kind, wire) {
                (FieldType::Messages(message), WireValue::Length(bytes)) => {
                    let before = out.len();
                    let element = inner(message, bytes, 2);
                    tag(number, LENGTH, out);
                    delimited(out, |out| self.message(element, out))?;
                    let is_last = message.role != MessageRole::KeyValue || last.contains(&start);
                    if !(self.keeps(element)? && is_last) {
                        out.truncate(before);
                    }
                }
                (FieldType::Message(message), WireValue::Length(bytes)) => {
                    tag(number, LENGTH, out);
                    delimited(out, |out| self.message(inner(message, bytes, 1), out))?;
                }
                (FieldType::String | FieldType::Strings, WireValue::Length(text)) => {
                    self.text(number, text, raw, out)
                }
                (FieldType::TraceId | FieldType::SpanId, WireValue::Length(id))
                    if !matches!(message.role, MessageRole::Span | MessageRole::Link)
                        && Id::of(field.kind, id) == Id::Invalid =>
                {
                    self.note(Repair::InvalidId);
                }
                (FieldType::ParentSpanId, WireValue::Length(id))
                    if matches!(Id::of(field.kind, id), Id::Invalid) || Id::of(field.kind, id) == own_id => {}
                _ => out.extend_from_slice(raw),
            }
        }
    }

    /// Returns whether an element of a list is kept.
    fn keeps(&mut self, element: MessagePart<'_>) -> Option<bool> {
        self.elements += 1;
        if self.elements >= MAX_ITEMS {
            return None;
        }
        match element.message.role {
            MessageRole::Link => {
                let keeps = matches!(element.ids()?, ReadIds { trace: Id::Valid(_), span: Id::Valid(_) });
                if !keeps {
                    self.note(Repair::InvalidLink);
                }
                Some(keeps)
            }
            MessageRole::Span => {
                let (code, reason) = match element.ids()? {
                    ReadIds { trace: Id::Valid(_), span: Id::Valid(_) } => return Some(true),
                    ReadIds { trace: Id::Invalid, .. } => (RejectCode::TraceId, NO_TRACE_ID),
                    ReadIds { span: Id::Invalid, .. } => (RejectCode::SpanId, NO_SPAN_ID),
                    _ => (RejectCode::TraceId, NO_IDS),
                };
                let range = element.at..element.at + element.bytes.len();
                let text = decode_message(element.message, element.bytes)?.into();
                let reason = Cow::Borrowed(reason);
                self.dropped.push(DroppedSpan { at: range.start, code, reason, range, text });
                Some(false)
            }
            _ => Some(true),
        }
    }

    fn text(&mut self, number: u32, text: &[u8], raw: &[u8], out: &mut Vec<u8>) {
        match String::from_utf8_lossy(text) {
            Cow::Borrowed(_) => out.extend_from_slice(raw),
            Cow::Owned(repaired) => {
                self.has_invalid_text = true;
                bytes(number, repaired.as_bytes(), out);
            }
        }
    }

    fn note(&mut self, repair: Repair) {
        if !self.repairs.contains(&repair) {
            self.repairs.push(repair);
        }
    }
}

// === impl MessagePart ===

impl<'a> MessagePart<'a> {
    /// Returns the offsets of attributes that are the last with their key.
    fn last_of_each_key(self) -> Option<HashSet<usize>> {
        let mut last: HashMap<Cow<'_, str>, usize> = HashMap::new();
        let is_attributes = |kind: FieldType| matches!(kind, FieldType::Messages(message) if message.role == MessageRole::KeyValue);
        let Some(list) = self.message.fields.iter().find(|field| is_attributes(field.kind)) else {
            return Some(HashSet::new());
        };
        let mut fields = Fields::new(self.bytes, 0);
        loop {
            let start = fields.at;
            let Some((number, wire)) = fields.read().ok()? else { return Some(last.into_values().collect()) };
            if let (true, WireValue::Length(attribute)) = (number == list.number, wire) {
                last.insert(String::from_utf8_lossy(key_of(attribute)?), start);
            }
        }
    }

    fn ids(self) -> Option<ReadIds<'a>> {
        let mut ids = ReadIds::default();
        let mut fields = Fields::new(self.bytes, 0);
        while let Some((number, wire)) = fields.read().ok()? {
            let Some((_, field)) = self.message.numbered(number) else { continue };
            match (field.kind, wire) {
                (FieldType::TraceId, WireValue::Length(id)) => ids.trace = Id::of(field.kind, id),
                (FieldType::SpanId, WireValue::Length(id)) => ids.span = Id::of(field.kind, id),
                _ => {}
            }
        }
        Some(ids)
    }
}

// === impl Id ===

impl<'a> Id<'a> {
    fn of(kind: FieldType, id: &'a [u8]) -> Self {
        let length = if matches!(kind, FieldType::TraceId) { 16 } else { 8 };
        match id {
            [] => Self::Missing,
            _ if id.len() == length && id.iter().any(|byte| *byte != 0) => Self::Valid(id),
            _ => Self::Invalid,
        }
    }
}
