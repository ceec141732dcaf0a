//! Walks a line along the [`schema`](super::schema) and notes what it finds and what has to change in it.
//!
//! In: the text of one JSON object. Out: a [`Walk`]: spans and log records by place, and the edits that make the
//! line one that a strict OTLP receiver takes.
//! Promises: no value is built; a line that is canonical already has no edits; what is not known stays.
//! Leaves to others: text that is not JSON at all (`receiver/fastly/repair.rs`).

mod attributes;
mod ids;
mod keys;
mod scalars;

use std::borrow::Cow;
use std::ops::Range;

use smallvec::SmallVec;

pub(crate) use self::attributes::{AttributeKey, text_attribute};
use self::ids::Identity;
use self::keys::Spelling;
pub(crate) use self::keys::{field_named, find, is_free_text, signal_of_key};
use super::json::{Cursor, Fault, Text};
use super::schema::{EVENT, Field, Kind, LINE, Message, Role, SPAN_EVENTS};
use super::splice::{Edits, Removals};
use super::twins::is_hollow;
use super::{SpanId, TraceId};
use crate::event::Repair;

/// Items of one text, however short they are. A note is kept of each, which takes more memory than `{}` does.
pub(crate) const MAX_ITEMS: usize = 1_000_000;

/// A text may have more items where they are at least this long, which items with anything in them are.
const LEAST_ITEM_BYTES: usize = 8;

/// Reasons for text that is no JSON value, by what the schema expects.
const VALUE: &str = "expected a value";
const VALUE_IN_BRACES: &str = "expected a value that begins with '{'";
const VALUE_IN_BRACKETS: &str = "expected a value that begins with '['";
const VALUE_IN_QUOTES: &str = "expected a value that begins with '\"'";

/// What is in a line, by place.
#[derive(Debug, Default)]
pub(crate) struct Walk {
    pub(crate) edits: Edits,
    pub(crate) spans: Few<SpanSite>,
    pub(crate) records: Few<RecordSite>,
    /// Metric points.
    pub(crate) points: u32,
    /// Which signals have a member of their own, in the order of [`LINE`].
    pub(crate) sections: [bool; 3],
    /// Where their lists are, brackets included.
    pub(crate) section_lists: [Range<usize>; 3],
    /// Spans that cannot go on, with the reason.
    pub(crate) dropped: Vec<Dropped>,
    pub(crate) repairs: Vec<Repair>,
    /// A resource or scope that has content, but no list of what it is there for.
    pub(crate) hollow: Option<usize>,
    /// Members of attributes and their values that no version of OTLP has.
    pub(crate) strangers: u32,
    /// Whether there is content in members that the schema does not know.
    pub(crate) has_unknown: bool,
    /// One past the end of the object.
    pub(crate) end: usize,
}

/// Nearly every line is about one span, or one log record: a note of it needs no memory of its own.
pub(crate) type Few<T> = SmallVec<[T; 1]>;

/// Memory that such notes take beside their own place, in bytes.
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

/// Where the events of a span go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum EventsSite {
    /// There is no list; here is the closing brace of the span.
    Absent { at: usize },
    /// The list is empty; here is where its first element goes.
    Empty { at: usize },
    /// The list, brackets included.
    Present(Range<usize>),
}

/// A log record in the text.
#[derive(Debug, Clone)]
pub(crate) struct RecordSite {
    pub(crate) range: Range<usize>,
    pub(crate) ids: Option<(TraceId, SpanId)>,
    /// Records of one list have the same number.
    pub(crate) list: u32,
}

/// A span that was taken out of its line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Dropped {
    pub(crate) at: usize,
    pub(crate) reason: Cow<'static, str>,
    pub(crate) range: Range<usize>,
}

/// Why a walk ends early.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    Fault(Fault),
    /// A key stands twice in an object, or under its old and its new name.
    Twins,
}

/// What happens to a member or an element that was just read.
enum Fate {
    Keep,
    Remove,
    /// Stays, under another key.
    Rename(&'static str),
}

struct Walker<'a> {
    cursor: Cursor<'a>,
    found: Walk,
    /// The keys of the attribute lists that are being read, innermost last.
    keys: &'a mut Vec<AttributeKey>,
    /// The key of the attribute that was read last.
    attribute_key: Option<Text>,
    /// Ids of the span, link or log record that is being read.
    identity: Identity,
    /// The parent of the span that is being read goes.
    no_parent: bool,
    events: Option<EventsSite>,
    lists: u32,
}

/// The number of items or attributes that a text may have, which no text exceeds that means something by them.
fn max_items(bytes: &[u8]) -> usize {
    MAX_ITEMS + bytes.len() / LEAST_ITEM_BYTES
}

/// Walks the object that starts at `start`; what follows it is left alone. `keys` is room to work in, and serves many
/// lines.
pub(crate) fn walk(bytes: &[u8], start: usize, keys: &mut Vec<AttributeKey>) -> Result<Walk, Stop> {
    let mut walker = Walker::new(bytes, start, keys);
    walker.message(&LINE)?;
    walker.found.end = walker.cursor.at;
    Ok(walker.found)
}

/// The edits that make a span event canonical.
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
            identity: Identity::default(),
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
                    self.found.strangers +=
                        u32::from(matches!(message.role, Role::KeyValue | Role::AnyValue));
                    let value = self.cursor.at;
                    self.cursor.skip_value()?;
                    self.found.has_unknown |= !is_hollow(&self.cursor.bytes()[value..self.cursor.at]);
                    removals.keep(start..self.cursor.at, &mut self.found.edits);
                }
                Some((index, spelling)) => {
                    if seen & 1 << index != 0 {
                        return Err(Stop::Twins);
                    }
                    seen |= 1 << index;
                    next = index + 1;
                    let checkpoint = self.found.edits.len();
                    let field = &message.fields[index];
                    if spelling == Spelling::Outdated {
                        self.found.edits.replace(key.start..key.end, field.name);
                    }
                    match self.member(message.role, index, field)? {
                        Fate::Keep => {
                            members += 1;
                            removals.keep(start..self.cursor.at, &mut self.found.edits);
                        }
                        Fate::Rename(name) => {
                            members += 1;
                            // It may have had an outdated name.
                            self.found.edits.forget(checkpoint, |range| *range == (key.start..key.end));
                            self.found.edits.replace(key.start..key.end, name);
                            removals.keep(start..self.cursor.at, &mut self.found.edits);
                        }
                        Fate::Remove => {
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
            Role::AnyValue if members > 1 => {
                Err(Fault::shape(open, "an attribute value with more than one kind of value").into())
            }
            Role::Container if seen & 0b10 == 0 => {
                self.found.hollow.get_or_insert(open);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Reads the value of a known field.
    fn member(&mut self, role: Role, index: usize, field: &'static Field) -> Result<Fate, Stop> {
        if self.cursor.peek() == Some(b'n') {
            // null stands for the default, and so does no member at all; Collectors refuse null where a number
            // or an id belongs.
            self.cursor.word("null")?;
            return Ok(Fate::Remove);
        }
        match field.kind {
            Kind::Message(message) => {
                self.require(b'{', field, "an object")?;
                self.message(message)?;
                Ok(Fate::Keep)
            }
            Kind::Messages(message) => {
                self.require(b'[', field, "an array")?;
                let open = self.cursor.at;
                let kept = self.list(message)?;
                match role {
                    Role::Span if index == SPAN_EVENTS && kept == 0 => {
                        self.events = Some(EventsSite::Empty { at: open + 1 });
                    }
                    Role::Span if index == SPAN_EVENTS => {
                        self.events = Some(EventsSite::Present(open..self.cursor.at));
                    }
                    Role::Line => {
                        self.found.sections[index] = true;
                        self.found.section_lists[index] = open..self.cursor.at;
                    }
                    _ => {}
                }
                Ok(Fate::Keep)
            }
            Kind::TraceId => self.trace_id(role),
            Kind::SpanId => self.span_id(role),
            Kind::ParentSpanId => self.parent_span_id(),
            Kind::String => {
                let text = self.string_value(field)?;
                if role == Role::KeyValue {
                    self.attribute_key = Some(text);
                }
                Ok(Fate::Keep)
            }
            _ => self.scalar(field, role),
        }
    }

    /// Reads a list of messages and returns how many of them stay.
    fn list(&mut self, message: &'static Message) -> Result<u32, Stop> {
        self.cursor.expect(b'[', "expected '[' at the start of an array")?;
        self.cursor.enter()?;
        self.cursor.skip_whitespace();
        if self.cursor.peek() == Some(b']') {
            self.cursor.at += 1;
            self.cursor.leave();
            return Ok(0);
        }
        if message.role == Role::KeyValue {
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

    /// Reads one element of a list; false when it has to go.
    fn element(&mut self, message: &'static Message, list: u32) -> Result<bool, Stop> {
        let start = self.cursor.at;
        match self.cursor.peek() {
            Some(b'{') => {}
            Some(b'n') => {
                self.cursor.word("null")?;
                if message.role != Role::AnyValue {
                    return Ok(false);
                }
                // The places of an array mean something: an empty value keeps the others where they are.
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
            Role::Span => self.span(message),
            Role::Link => self.link(message),
            Role::LogRecord => self.record(message, list),
            Role::Point => {
                self.found.points += 1;
                self.message(message).map(|()| true)
            }
            _ => self.message(message).map(|()| true),
        }
    }

    /// The fault of a value that has another type than its field.
    #[cold]
    fn wrong_type(&self, reason: impl Into<Cow<'static, str>>, expected: &'static str) -> Fault {
        match self.cursor.peek() {
            Some(b'{' | b'[' | b'"' | b't' | b'f' | b'-' | b'0'..=b'9') => {
                Fault::shape(self.cursor.at, reason)
            }
            _ => self.cursor.unexpected(expected),
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
