//! The spans of one line, and the events that are attached to them.

use std::ops::Range;

use bytes::Bytes;

use super::super::json::{Cursor, Fault};
use super::super::number::integer;
use super::super::splice::Edits;
use super::super::walk::{EventsSite, Few, SpanSite, spilled_bytes};
use super::super::{SpanId, TraceId};
use super::{ExportRequest, SpanEvent, canonical, read_line};

/// The spans of one line: one export request for `/v1/traces`.
#[derive(Debug, Clone)]
pub struct Traces {
    text: Bytes,
    /// Range of the list of resources, brackets included.
    list: Range<usize>,
    edits: Edits,
    spans: Few<SpanSite>,
    /// Attached events with the index of their span, in the order of attachment.
    attached: Vec<(usize, SpanEvent)>,
}

// === impl Traces ===

impl Traces {
    pub(super) fn new(text: Bytes, list: Range<usize>, edits: Edits, spans: Few<SpanSite>) -> Self {
        Self { text, list, edits, spans, attached: Vec::new() }
    }

    /// Reads an export request that the program itself wrote.
    pub(crate) fn from_canonical(json: Vec<u8>) -> Option<Self> {
        read_line(&json.into()).ok()?.traces
    }

    /// Returns the ids of every span, in the order of the text, which defines the index for `attach`.
    pub fn spans(&self) -> impl ExactSizeIterator<Item = (TraceId, SpanId)> + '_ {
        self.spans.iter().map(|span| (span.trace_id, span.span_id))
    }

    /// Returns the number of spans.
    pub(crate) fn span_count(&self) -> u32 {
        u32::try_from(self.spans.len()).unwrap_or(u32::MAX)
    }

    /// Returns the memory that the spans and their attached events take, in bytes.
    pub(crate) fn held_bytes(&self) -> usize {
        self.text.len()
            + self.edits.held_bytes()
            + spilled_bytes(&self.spans)
            + self.attached.capacity() * size_of::<(usize, SpanEvent)>()
            + self.attached.iter().map(|(_, event)| event.json.len()).sum::<usize>()
    }

    /// Adds an event to one span. Events of a span are exported in the order of their times.
    pub(crate) fn attach(&mut self, span: usize, event: SpanEvent) {
        debug_assert!(span < self.spans.len());
        self.attached.push((span, event));
    }

    /// Returns the export request: a slice of the body when nothing was changed.
    pub fn into_request(mut self) -> ExportRequest {
        if self.attached.is_empty() {
            return self.edited();
        }
        let joins_others = self.attached.iter().any(|(span, _)| {
            self.spans.get(*span).is_some_and(|span| matches!(span.events, EventsSite::Present(_)))
        });
        if joins_others && !self.edits.is_empty() {
            // The list will be replaced as a whole, so that no edits may remain inside it.
            if let Ok((text, walk)) = canonical(&self.text, std::mem::take(&mut self.edits)) {
                let [list, ..] = walk.section_lists;
                (self.text, self.list) = (text, list);
                self.spans = walk.spans;
            }
        }
        // The sort is stable: events with the same time keep their order.
        self.attached.sort_by_key(|(span, event)| (*span, event.time_unix_nano));
        for group in self.attached.chunk_by(|(one, _), (other, _)| one == other) {
            let Some(site) = self.spans.get(group[0].0) else { continue };
            let new = group.iter().map(|(_, event)| (event.time_unix_nano, &event.json[..]));
            match &site.events {
                EventsSite::Absent { at } => self.edits.insert(*at, joined(",\"events\":[", new, "]")),
                EventsSite::Empty { at } => self.edits.insert(*at, joined("", new, "")),
                EventsSite::Present(list) => {
                    let mut all = existing(&self.text, list.start).unwrap_or_default();
                    all.extend(new);
                    all.sort_by_key(|(time, _)| *time);
                    self.edits.replace(list.clone(), joined("[", all.into_iter(), "]"));
                }
            }
        }
        self.edited()
    }

    /// Returns the export request as JSON.
    pub fn into_json(self) -> Bytes {
        self.into_request().into_json()
    }

    fn edited(self) -> ExportRequest {
        let list = self.edits.range_after(&self.list);
        ExportRequest::new(self.edits.apply(&self.text), list)
    }
}

/// Returns the events that a span already has, each with its time.
fn existing(text: &[u8], open: usize) -> Result<Vec<(u64, &[u8])>, Fault> {
    let mut events = Vec::new();
    Cursor::new(text, open).array(|cursor, start| {
        let mut time = 0;
        cursor.object(|cursor, _, key| {
            let from = cursor.at;
            cursor.skip_value()?;
            if key.raw(cursor.bytes()) == b"timeUnixNano" {
                time = unsigned(&cursor.bytes()[from..cursor.at]);
            }
            Ok(())
        })?;
        events.push((time, &text[start..cursor.at]));
        Ok(())
    })?;
    Ok(events)
}

/// Parses a 64-bit number, with or without quotes; anything else is zero.
pub(super) fn unsigned(literal: &[u8]) -> u64 {
    let digits = literal.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\"")).unwrap_or(literal);
    integer(digits).and_then(|value| u64::try_from(value).ok()).unwrap_or(0)
}

/// Joins events to a list between `before` and `behind`.
fn joined<'a>(before: &str, events: impl Iterator<Item = (u64, &'a [u8])> + Clone, behind: &str) -> String {
    let events_bytes: usize = events.clone().map(|(_, json)| json.len() + 1).sum();
    let mut list = Vec::with_capacity(before.len() + events_bytes + behind.len());
    list.extend_from_slice(before.as_bytes());
    for (place, (_, json)) in events.enumerate() {
        if place > 0 {
            list.push(b',');
        }
        list.extend_from_slice(json);
    }
    list.extend_from_slice(behind.as_bytes());
    String::from_utf8(list).expect("events are slices of text that is UTF-8")
}
