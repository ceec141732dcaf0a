//! Ids: a span with invalid ids is removed, other invalid ids are removed alone.

use std::borrow::Cow;

use super::super::json::Text;
use super::super::schema::{Message, MessageRole};
use super::super::{SpanId, TraceId};
use super::{Action, Dropped, EventsSite, Offset, RecordSite, SpanSite, Stop, Walker};
use crate::event::{RejectCode, Repair};

/// Text that VCL writes for an unset variable.
pub(super) const NULL_WORD: &[u8] = b"(null)";

/// Reasons for which a span is rejected.
pub(crate) const NO_TRACE_ID: &str = "traceId is not 32 hexadecimal digits, or all zero";
pub(crate) const NO_SPAN_ID: &str = "spanId is not 16 hexadecimal digits, or all zero";
pub(crate) const NO_IDS: &str = "span without traceId and spanId";

/// Ids of the message that is being read.
#[derive(Debug, Default)]
pub(super) struct SpanIdentity {
    trace_id: Option<TraceId>,
    span_id: Option<SpanId>,
    parent_span_id: Option<SpanId>,
    /// Position of an invalid id, its code and the reason.
    invalid: Option<(usize, RejectCode, &'static str)>,
}

// === impl Walker ===

impl Walker<'_> {
    pub(super) fn span(&mut self, message: &'static Message) -> Result<bool, Stop> {
        let open = self.cursor.at;
        let checkpoint = self.found.edits.len();
        let mut identity = self.span_message(message)?;
        if identity.parent_span_id.is_some() && identity.parent_span_id == identity.span_id {
            // A span that is its own parent is a root: it is read again without the parent.
            self.cursor.at = open;
            self.found.edits.truncate(checkpoint);
            self.no_parent = true;
            identity = self.span_message(message)?;
            self.no_parent = false;
        }
        let close = self.cursor.at - 1;
        let (Some(trace_id), Some(span_id)) = (identity.trace_id, identity.span_id) else {
            let missing = (open, RejectCode::TraceId, NO_IDS);
            let (at, code, reason) = identity.invalid.unwrap_or(missing);
            self.found.dropped.push(Dropped {
                at,
                code,
                reason: Cow::Borrowed(reason),
                range: open..self.cursor.at,
            });
            return Ok(false);
        };
        let events = self.events.take().unwrap_or(EventsSite::Absent { at: close as Offset });
        self.found.spans.push(SpanSite { trace_id, span_id, events });
        Ok(true)
    }

    fn span_message(&mut self, message: &'static Message) -> Result<SpanIdentity, Stop> {
        self.identity = SpanIdentity::default();
        self.events = None;
        self.message(message)?;
        Ok(std::mem::take(&mut self.identity))
    }

    pub(super) fn link(&mut self, message: &'static Message) -> Result<bool, Stop> {
        // Links are inside a span, whose own ids must be kept.
        let span = std::mem::take(&mut self.identity);
        self.message(message)?;
        let link = std::mem::replace(&mut self.identity, span);
        if link.trace_id.is_some() && link.span_id.is_some() {
            return Ok(true);
        }
        // The link is useless, and Collectors reject the whole request because of it.
        self.note(Repair::InvalidLink);
        Ok(false)
    }

    pub(super) fn record(&mut self, message: &'static Message, list: u32) -> Result<bool, Stop> {
        let open = self.cursor.at;
        self.identity = SpanIdentity::default();
        self.message(message)?;
        let ids = self.identity.trace_id.zip(self.identity.span_id);
        self.found.records.push(RecordSite { range: open..self.cursor.at, ids, list });
        Ok(true)
    }

    pub(super) fn trace_id(&mut self, role: MessageRole) -> Result<Action, Stop> {
        let at = self.cursor.at;
        let id = self.hex()?.and_then(|hex| {
            let id = TraceId::from_hex(&hex.unescaped(self.cursor.bytes()))?;
            self.lower_case(hex);
            Some(id)
        });
        if id.is_none() {
            self.identity.invalid.get_or_insert((at, RejectCode::TraceId, NO_TRACE_ID));
        }
        self.identity.trace_id = id;
        Ok(self.action_for(id.is_some(), role, at))
    }

    pub(super) fn span_id(&mut self, role: MessageRole) -> Result<Action, Stop> {
        let at = self.cursor.at;
        let id = self.span_id_value()?;
        if id.is_none() {
            self.identity.invalid.get_or_insert((at, RejectCode::SpanId, NO_SPAN_ID));
        }
        self.identity.span_id = id;
        Ok(self.action_for(id.is_some(), role, at))
    }

    pub(super) fn parent_span_id(&mut self) -> Result<Action, Stop> {
        let start = self.cursor.at;
        self.identity.parent_span_id = self.span_id_value()?;
        if self.identity.parent_span_id.is_some() {
            return Ok(if self.no_parent { Action::Remove } else { Action::Keep });
        }
        // `"(null)"` including its quotes.
        if self.cursor.bytes()[start..self.cursor.at].get(1..7) == Some(NULL_WORD) {
            self.note(Repair::NullWord);
        }
        Ok(Action::Remove)
    }

    fn span_id_value(&mut self) -> Result<Option<SpanId>, Stop> {
        Ok(self.hex()?.and_then(|hex| {
            let id = SpanId::from_hex(&hex.unescaped(self.cursor.bytes()))?;
            self.lower_case(hex);
            Some(id)
        }))
    }

    /// Returns the contents of a string, or `None` for another value.
    fn hex(&mut self) -> Result<Option<Text>, Stop> {
        if self.cursor.peek() == Some(b'"') {
            return Ok(Some(self.cursor.string()?));
        }
        self.cursor.skip_value()?;
        Ok(None)
    }

    fn lower_case(&mut self, hex: Text) {
        let digits = hex.unescaped(self.cursor.bytes());
        if hex.escaped || digits.iter().any(u8::is_ascii_uppercase) {
            let lower: String = digits.iter().map(|digit| char::from(digit.to_ascii_lowercase())).collect();
            self.found.edits.replace(hex.start..hex.end, lower);
        }
    }

    /// Returns the action for an id: an invalid one of a span or a link removes that message, other invalid ids are
    /// removed alone.
    fn action_for(&mut self, is_valid: bool, role: MessageRole, at: usize) -> Action {
        if is_valid || matches!(role, MessageRole::Span | MessageRole::Link) {
            return Action::Keep;
        }
        match &self.cursor.bytes()[at..self.cursor.at] {
            // Protobuf's form of a missing id.
            b"\"\"" => {}
            b"\"(null)\"" => self.note(Repair::NullWord),
            _ => self.note(Repair::InvalidId),
        }
        Action::Remove
    }

    pub(super) fn note(&mut self, repair: Repair) {
        if !self.found.repairs.contains(&repair) {
            self.found.repairs.push(repair);
        }
    }
}
