//! The spans of one line, and the events that are attached to them.

use std::ops::Range;

use bytes::Bytes;

use super::super::json::{Cursor, Fault};
use super::super::number::integer;
use super::super::splice::Edits;
use super::super::walk::{EventsSite, Few, Offset, SpanSite, offsets, spilled_bytes};
use super::super::{SpanId, TraceId};
use super::{ExportRequest, SpanEvent, canonical, read_line};

/// The spans of one line: one export request for `/v1/traces`.
#[derive(Debug, Clone)]
pub struct Traces {
    text: Bytes,
    /// Range of the list of resources, brackets included.
    list: Range<Offset>,
    spans: Few<SpanSite>,
    /// `None` while nothing changes, as in most lines that are held.
    changes: Option<Box<Changes>>,
}

/// Changes of the text of spans.
#[derive(Debug, Clone)]
struct Changes {
    edits: Edits,
    /// Attached events with the index of their span, in the order of attachment.
    attached: Vec<(usize, SpanEvent)>,
    /// Memory that all this takes, in bytes.
    bytes: usize,
}

// === impl Traces ===

impl Traces {
    pub(super) fn new(text: Bytes, list: Range<usize>, edits: Edits, spans: Few<SpanSite>) -> Self {
        let changes = (!edits.is_empty()).then(|| Box::new(Changes::new(edits)));
        Self { text, list: offsets(&list), spans, changes }
    }

    /// Reads an export request that the program itself wrote.
    pub(crate) fn from_canonical(json: Vec<u8>) -> Option<Self> {
        read_line(&json.into()).ok()?.traces
    }

    /// Returns the ids of every span, in the order of the text, which defines the index for `attach`.
    pub fn spans(&self) -> impl ExactSizeIterator<Item = (TraceId, SpanId)> + '_ {
        self.spans.iter().map(|span| (span.trace_id, span.span_id))
    }

    /// Returns the ids of one span.
    pub(crate) fn ids(&self, span: usize) -> Option<(TraceId, SpanId)> {
        self.spans.get(span).map(|span| (span.trace_id, span.span_id))
    }

    /// Returns the number of spans.
    pub(crate) fn span_count(&self) -> u32 {
        u32::try_from(self.spans.len()).unwrap_or(u32::MAX)
    }

    /// Returns the memory that the spans and their attached events take, in bytes, at a constant cost.
    pub(crate) fn held_bytes(&self) -> usize {
        self.text.len()
            + spilled_bytes(&self.spans)
            + self.changes.as_ref().map_or(0, |changes| changes.bytes)
    }

    /// Adds an event to one span. Events of a span are exported in the order of their times.
    pub(crate) fn attach(&mut self, span: usize, event: SpanEvent) {
        debug_assert!(span < self.spans.len());
        self.changes.get_or_insert_with(|| Box::new(Changes::new(Edits::default()))).attach(span, event);
    }

    /// Returns the export request: a slice of the body when nothing was changed.
    pub fn into_request(self) -> ExportRequest {
        let Self { mut text, list, mut spans, changes } = self;
        let mut list = list.start as usize..list.end as usize;
        let Some(changes) = changes else { return ExportRequest::new(text, list) };
        let Changes { mut edits, mut attached, bytes: _ } = *changes;
        let joins_others = attached.iter().any(|(span, _)| {
            spans.get(*span).is_some_and(|span| matches!(span.events, EventsSite::Present(_)))
        });
        if joins_others && !edits.is_empty() {
            // The list will be replaced as a whole, so that no edits may remain inside it.
            if let Ok((canonical, walk)) = canonical(&text, std::mem::take(&mut edits)) {
                let [canonical_list, ..] = walk.section_lists;
                (text, list, spans) = (canonical, canonical_list, walk.spans);
            }
        }
        // The sort is stable: events with the same time keep their order.
        attached.sort_by_key(|(span, event)| (*span, event.time_unix_nano));
        for group in attached.chunk_by(|(one, _), (other, _)| one == other) {
            let Some(site) = spans.get(group[0].0) else { continue };
            let new = group.iter().map(|(_, event)| (event.time_unix_nano, &event.json[..]));
            match &site.events {
                EventsSite::Absent { at } => edits.insert(*at as usize, joined(",\"events\":[", new, "]")),
                EventsSite::Empty { at } => edits.insert(*at as usize, joined("", new, "")),
                EventsSite::Present(list) => {
                    let list = list.start as usize..list.end as usize;
                    let mut all = existing(&text, list.start).unwrap_or_default();
                    all.extend(new);
                    all.sort_by_key(|(time, _)| *time);
                    let all = joined("[", all.into_iter(), "]");
                    edits.replace(list, all);
                }
            }
        }
        let list = edits.range_after(&list);
        ExportRequest::new(edits.apply(&text), list)
    }

    /// Returns the export request as JSON.
    pub fn into_json(self) -> Bytes {
        self.into_request().into_json()
    }
}

// === impl Changes ===

impl Changes {
    fn new(edits: Edits) -> Self {
        let bytes = size_of::<Self>() + edits.held_bytes();
        Self { edits, attached: Vec::new(), bytes }
    }

    fn attach(&mut self, span: usize, event: SpanEvent) {
        // The list doubles when it grows.
        self.bytes += 2 * size_of::<(usize, SpanEvent)>() + event.json.len();
        self.attached.push((span, event));
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
