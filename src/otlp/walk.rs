//! Walks a line along the [`schema`](super::schema) and notes the items and the required changes.
//!
//! In: the text of one JSON object. Out: a [`Walk`]: positions of spans and log records, and the edits that make the
//! line acceptable to a strict OTLP receiver.
//! Promises: no values are built; a canonical line has no edits; unknown members are kept.
//! Left to others: text that is not JSON (`receiver/fastly/repair.rs`).

mod attributes;
mod ids;
mod keys;
mod scalars;

use std::borrow::Cow;
use std::ops::Range;

use smallvec::SmallVec;

pub(crate) use self::attributes::{AttributeKey, fingerprint, text_attribute};
use self::ids::SpanIdentity;
pub(crate) use self::ids::{NO_IDS, NO_SPAN_ID, NO_TRACE_ID};
use self::keys::Spelling;
pub(crate) use self::keys::{field_named, find, is_free_text, signal_of_key};
use super::json::{Cursor, Fault, Text};
use super::merge::is_empty_value;
use super::schema::{EVENT, Field, FieldType, LINE, Message, MessageRole, SPAN_EVENTS};
use super::splice::{Edits, Removals};
use super::{SpanId, TraceId};
use crate::event::{RejectCode, Repair};

/// Maximum number of items of one text, however short they are. Each item has a note, which takes more memory than
/// `{}`.
pub(crate) const MAX_ITEMS: usize = 1_000_000;

/// Maximum length of a text, in bytes.
const MAX_BYTES: usize = Offset::MAX as usize;

/// Length of an item above which a text may have more items; items with any content are longer.
const LEAST_ITEM_BYTES: usize = 8;

/// Reasons for text that is not a JSON value, by the type that the schema expects.
const VALUE: &str = "expected a value";
const VALUE_IN_BRACES: &str = "expected a value that begins with '{'";
const VALUE_IN_BRACKETS: &str = "expected a value that begins with '['";
const VALUE_IN_QUOTES: &str = "expected a value that begins with '\"'";

/// Contents of a line, by position.
#[derive(Debug, Default)]
pub(crate) struct Walk {
    pub(crate) edits: Edits,
    pub(crate) spans: Few<SpanSite>,
    pub(crate) records: Few<RecordSite>,
    /// Number of data points. A metric without any counts as one, so that it is exported and counted.
    pub(crate) points: u32,
    /// Number of metrics without data points.
    pub(crate) bare_metrics: u32,
    /// Signals that have a section, in the order of [`LINE`].
    pub(crate) sections: [bool; 3],
    /// Ranges of the sections' lists, brackets included.
    pub(crate) section_lists: [Range<usize>; 3],
    /// Spans that are rejected, with the reason.
    pub(crate) dropped: Vec<Dropped>,
    pub(crate) repairs: Vec<Repair>,
    /// Start of a resource or scope that has content, but not the list that it is meant to contain.
    pub(crate) empty_container: Option<usize>,
    /// Unknown members have content.
    pub(crate) has_unknown: bool,
    /// Offset after the end of the object.
    pub(crate) end: usize,
}

/// List for items of a line: nearly every line has one span or one log record, for which this needs no allocation.
pub(crate) type Few<T> = SmallVec<[T; 1]>;

/// Returns the allocated memory of such a list, in bytes.
pub(crate) fn spilled_bytes<T>(notes: &Few<T>) -> usize {
    if notes.spilled() { notes.capacity() * size_of::<T>() } else { 0 }
}

/// A span in the text.
#[derive(Debug, Clone)]
pub(crate) struct SpanSite {
    pub(crate) trace_id: TraceId,
    pub(crate) span_id: SpanId,
    pub(crate) events: EventsSite,
}

/// Position of a span's events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum EventsSite {
    /// There is no list; `at` is the closing brace of the span.
    Absent { at: Offset },
    /// The list is empty; `at` is the position of its first element.
    Empty { at: Offset },
    /// The range of the list, brackets included.
    Present(Range<Offset>),
}

/// Offset in a text, which is shorter than [`MAX_BYTES`]. Many of them are held.
pub(crate) type Offset = u32;

/// A log record in the text.
#[derive(Debug, Clone)]
pub(crate) struct RecordSite {
    pub(crate) range: Range<usize>,
    pub(crate) ids: Option<(TraceId, SpanId)>,
    /// Number of the list that contains the record.
    pub(crate) list: u32,
}

/// A span that was removed from its line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Dropped {
    pub(crate) at: usize,
    pub(crate) code: RejectCode,
    pub(crate) reason: Cow<'static, str>,
    pub(crate) range: Range<usize>,
}

/// The reason why a walk ends early.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    Fault(Fault),
    /// A key occurs twice in an object, or under its old and its new name.
    RepeatedKey,
}

/// Action for a member or an element that was just read.
enum Action {
    Keep,
    Remove,
    /// Keep the member under another key.
    Rename(&'static str),
}

struct Walker<'a> {
    cursor: Cursor<'a>,
    found: Walk,
    /// Keys of the attribute lists that are being read, innermost last.
    keys: &'a mut Vec<AttributeKey>,
    /// Key of the attribute that was read last.
    attribute_key: Option<Text>,
    /// Ids of the span, link or log record that is being read.
    identity: SpanIdentity,
    /// Remove the parent of the span that is being read.
    no_parent: bool,
    events: Option<EventsSite>,
    lists: u32,
}

/// Returns the maximum number of items or attributes of a text, which no text with meaningful items exceeds.
fn max_items(bytes: &[u8]) -> usize {
    MAX_ITEMS + bytes.len() / LEAST_ITEM_BYTES
}

/// Walks the object that starts at `start`, and ignores what follows it. `keys` is a buffer that is reused for many
/// lines.
pub(crate) fn walk(bytes: &[u8], start: usize, keys: &mut Vec<AttributeKey>) -> Result<Walk, Stop> {
    if bytes.len() >= MAX_BYTES {
        return Err(Fault::shape(start, format!("longer than {MAX_BYTES} bytes")).into());
    }
    let mut walker = Walker::new(bytes, start, keys);
    walker.message(&LINE)?;
    walker.found.end = walker.cursor.at;
    Ok(walker.found)
}

/// Returns a range in a text that was walked.
pub(crate) fn offsets(range: &Range<usize>) -> Range<Offset> {
    range.start as Offset..range.end as Offset
}

/// Returns the edits that make a span event canonical.
pub(crate) fn event_edits(bytes: &[u8]) -> Result<Edits, Stop> {
    let mut keys = Vec::new();
    let mut walker = Walker::new(bytes, 0, &mut keys);
    walker.message(&EVENT)?;
    Ok(walker.found.edits)
}

// === impl Stop ===

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

// === impl Walker ===

impl<'a> Walker<'a> {
    fn new(bytes: &'a [u8], start: usize, keys: &'a mut Vec<AttributeKey>) -> Self {
        // A walk that ended in a fault may have left some.
        keys.clear();
        Self {
            cursor: Cursor::new(bytes, start),
            found: Walk::default(),
            keys,
            attribute_key: None,
            identity: SpanIdentity::default(),
            no_parent: false,
            events: None,
            lists: 0,
        }
    }

    fn message(&mut self, message: &'static Message) -> Result<(), Stop> {
        let open = self.cursor.at;
        self.cursor.expect(b'{', "expected '{' at the start of an object")?;
        self.cursor.enter()?;
        self.cursor.skip_whitespace();
        if self.cursor.peek() == Some(b'}') {
            self.cursor.at += 1;
            self.cursor.leave();
            return Ok(());
        }
        let mut seen = 0_u32;
        let mut members = 0_u32;
        let mut next = 0;
        let mut removals = Removals::default();
        loop {
            let start = self.cursor.at;
            let key = self.cursor.key()?;
            match find(message, self.cursor.bytes(), key, next) {
                None => {
                    let value = self.cursor.at;
                    self.cursor.skip_value()?;
                    self.found.has_unknown |= !is_empty_value(&self.cursor.bytes()[value..self.cursor.at]);
                    removals.keep(start..self.cursor.at, &mut self.found.edits);
                }
                Some((index, spelling)) => {
                    if seen & 1 << index != 0 {
                        return Err(Stop::RepeatedKey);
                    }
                    seen |= 1 << index;
                    next = index + 1;
                    let checkpoint = self.found.edits.len();
                    let field = &message.fields[index];
                    if spelling == Spelling::Outdated {
                        self.found.edits.replace(key.start..key.end, field.name);
                    }
                    match self.member(message.role, index, field)? {
                        Action::Keep => {
                            members += 1;
                            removals.keep(start..self.cursor.at, &mut self.found.edits);
                        }
                        Action::Rename(name) => {
                            members += 1;
                            // The key may have been renamed already.
                            self.found.edits.forget(checkpoint, |range| *range == (key.start..key.end));
                            self.found.edits.replace(key.start..key.end, name);
                            removals.keep(start..self.cursor.at, &mut self.found.edits);
                        }
                        Action::Remove => {
                            self.found.edits.truncate(checkpoint);
                            removals.remove(start..self.cursor.at);
                        }
                    }
                }
            }
            if self.cursor.closes(b'}', "expected ',' or '}' after a value")? {
                break;
            }
        }
        self.cursor.leave();
        removals.finish(&mut self.found.edits);
        match message.role {
            MessageRole::AnyValue if members > 1 => {
                Err(Fault::shape(open, "an attribute value with more than one kind of value").into())
            }
            MessageRole::Container if seen & 0b10 == 0 => {
                self.found.empty_container.get_or_insert(open);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Reads the value of a known field.
    fn member(&mut self, role: MessageRole, index: usize, field: &'static Field) -> Result<Action, Stop> {
        if self.cursor.peek() == Some(b'n') {
            // null means the default, as does a missing member; Collectors reject null for a number or an id.
            self.cursor.word("null")?;
            return Ok(Action::Remove);
        }
        match field.kind {
            FieldType::Message(message) => {
                self.require(b'{', field, "an object")?;
                self.message(message)?;
                Ok(Action::Keep)
            }
            FieldType::Messages(message) => {
                self.require(b'[', field, "an array")?;
                let open = self.cursor.at;
                let kept = self.list(message)?;
                match role {
                    MessageRole::Span if index == SPAN_EVENTS && kept == 0 => {
                        self.events = Some(EventsSite::Empty { at: (open + 1) as Offset });
                    }
                    MessageRole::Span if index == SPAN_EVENTS => {
                        self.events = Some(EventsSite::Present(offsets(&(open..self.cursor.at))));
                    }
                    MessageRole::Line => {
                        self.found.sections[index] = true;
                        self.found.section_lists[index] = open..self.cursor.at;
                    }
                    _ => {}
                }
                Ok(Action::Keep)
            }
            FieldType::TraceId => self.trace_id(role),
            FieldType::SpanId => self.span_id(role),
            FieldType::ParentSpanId => self.parent_span_id(),
            FieldType::String => {
                let text = self.string_value(field)?;
                if role == MessageRole::KeyValue {
                    self.attribute_key = Some(text);
                }
                Ok(Action::Keep)
            }
            _ => self.scalar(field, role),
        }
    }

    /// Reads a list of messages and returns the number of kept ones.
    fn list(&mut self, message: &'static Message) -> Result<u32, Stop> {
        self.cursor.expect(b'[', "expected '[' at the start of an array")?;
        self.cursor.enter()?;
        self.cursor.skip_whitespace();
        if self.cursor.peek() == Some(b']') {
            self.cursor.at += 1;
            self.cursor.leave();
            return Ok(0);
        }
        if message.role == MessageRole::KeyValue {
            return self.attributes(message);
        }
        let list = self.lists;
        self.lists += 1;
        let mut kept = 0;
        let mut removals = Removals::default();
        loop {
            let start = self.cursor.at;
            let checkpoint = self.found.edits.len();
            if self.element(message, list)? {
                kept += 1;
                removals.keep(start..self.cursor.at, &mut self.found.edits);
            } else {
                self.found.edits.truncate(checkpoint);
                removals.remove(start..self.cursor.at);
            }
            if self.cursor.closes(b']', "expected ',' or ']' after a value")? {
                break;
            }
        }
        self.cursor.leave();
        removals.finish(&mut self.found.edits);
        Ok(kept)
    }

    /// Reads one element of a list. Returns false when it must be removed.
    fn element(&mut self, message: &'static Message, list: u32) -> Result<bool, Stop> {
        let start = self.cursor.at;
        match self.cursor.peek() {
            Some(b'{') => {}
            Some(b'n') => {
                self.cursor.word("null")?;
                if message.role != MessageRole::AnyValue {
                    return Ok(false);
                }
                // Positions in an array are significant: an empty value keeps the others where they are.
                self.found.edits.replace(start..self.cursor.at, "{}");
                return Ok(true);
            }
            _ => {
                return Err(self
                    .wrong_type("a list element must be an object: expected '{'", VALUE_IN_BRACES)
                    .into());
            }
        }
        let found = &self.found;
        let items = found.spans.len() + found.records.len() + found.dropped.len();
        if items >= max_items(self.cursor.bytes()) {
            return Err(Fault::shape(start, format!("more than {items} spans and log records")).into());
        }
        match message.role {
            MessageRole::Span => self.span(message),
            MessageRole::Link => self.link(message),
            MessageRole::LogRecord => self.record(message, list),
            MessageRole::Metric => {
                let before = self.found.points;
                self.message(message)?;
                let bare = u32::from(self.found.points == before);
                self.found.points += bare;
                self.found.bare_metrics += bare;
                Ok(true)
            }
            MessageRole::Point => {
                self.found.points += 1;
                self.message(message).map(|()| true)
            }
            _ => self.message(message).map(|()| true),
        }
    }

    /// Returns the fault for a value of the wrong type.
    #[cold]
    fn wrong_type(&self, reason: impl Into<Cow<'static, str>>, expected: &'static str) -> Fault {
        match self.cursor.peek() {
            Some(b'{' | b'[' | b'"' | b't' | b'f' | b'-' | b'0'..=b'9') => {
                Fault::shape(self.cursor.at, reason)
            }
            _ => self.cursor.no_value(expected),
        }
    }

    #[inline]
    fn require(&self, opening: u8, field: &Field, wanted: &str) -> Result<(), Fault> {
        if self.cursor.peek() == Some(opening) {
            return Ok(());
        }
        let expected = if opening == b'{' { VALUE_IN_BRACES } else { VALUE_IN_BRACKETS };
        let reason = format!("{} must be {wanted}: expected '{}'", field.name, char::from(opening));
        Err(self.wrong_type(reason, expected))
    }
}
