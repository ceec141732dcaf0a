//! Documents: the spans, log records or metric points of one line, as the text of an export request.
//!
//! In: the text of one JSON object ([`read_line`]). Out: for each signal in it a document, which is a complete
//! OTLP/JSON export request once its edits are made. A line of one signal without edits stays a slice of the body.

#[cfg(any(test, feature = "kafka"))]
mod divide;
mod export_request;
mod logs;
mod request;
mod select;
mod traces;

use std::borrow::Cow;
use std::ops::Range;

use bytes::Bytes;

use super::json::{Cursor, Fault};
use super::merge::merge;
use super::splice::{Edits, Removals};
use super::walk::{AttributeKey, Dropped, Stop, Walk, walk};
use crate::event::{RejectCode, Repair, Signal};

pub use export_request::ExportRequest;
pub use logs::Logs;
pub(crate) use request::{Mismatch, Request};
pub use request::{read_request, signal_of};
pub(crate) use traces::Traces;

/// Reader of lines, which reuses its buffers.
#[derive(Debug, Default)]
pub struct LineReader {
    keys: Vec<AttributeKey>,
}

/// Contents of one line.
#[derive(Debug, Default)]
pub struct Line {
    /// Spans of the unit.
    pub traces: Option<Traces>,
    /// Log records of the unit.
    pub logs: Option<Logs>,
    /// Metrics of the unit.
    pub metrics: Option<Metrics>,
    /// Repairs that made it canonical.
    pub repairs: Vec<Repair>,
    /// Spans that were rejected.
    pub dropped: Vec<DroppedSpan>,
    /// Offset after the end of the object in the text.
    pub end: usize,
}

/// A span that was rejected, unlike the rest of its line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DroppedSpan {
    /// Offset of the fault in the text that was read.
    pub(crate) at: usize,
    pub(crate) code: RejectCode,
    pub(crate) reason: Cow<'static, str>,
    /// Range of the span in the text that was read.
    pub(crate) range: Range<usize>,
    pub(crate) text: Bytes,
}

/// The metric points of one line: one export request for `/v1/metrics`.
#[derive(Debug, Clone)]
pub struct Metrics {
    text: Bytes,
    /// Range of the list of resources, brackets included.
    list: Range<usize>,
    points: u32,
    bare_metrics: u32,
}

/// A log event in the shape of a span event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpanEvent {
    /// Unix nanoseconds; zero when neither the log record has a time nor its arrival is known.
    pub time_unix_nano: u64,
    /// The JSON object that goes into the span's `events`.
    pub json: Bytes,
}

/// Reads the object at the start of `text`, and ignores what follows it. The text must be UTF-8.
pub(crate) fn read_line(text: &Bytes) -> Result<Line, Fault> {
    LineReader::default().read(text)
}

/// A text that was walked.
struct Walked {
    /// The object, with every key once.
    text: Bytes,
    walk: Walk,
    /// Spans that were rejected, with positions in the given text.
    dropped: Vec<DroppedSpan>,
    /// Offset after the end of the object in the given text.
    end: usize,
}

fn has_no_items(walk: &Walk) -> bool {
    walk.spans.is_empty() && walk.records.is_empty() && walk.points == 0
}

// === impl LineReader ===

impl LineReader {
    /// Reads a line like [`read_line`].
    pub fn read(&mut self, text: &Bytes) -> Result<Line, Fault> {
        let walked = read(text, &mut self.keys)?;
        let walk = &walked.walk;
        if walk.sections == [false; 3] {
            let reason = "neither resourceSpans nor resourceLogs nor resourceMetrics";
            return Err(Fault::shape(0, reason).coded(RejectCode::NoSection));
        }
        if let (true, true, Some(at)) = (has_no_items(walk), walked.dropped.is_empty(), walk.empty_container)
        {
            let reason = "no scopeSpans, scopeLogs or scopeMetrics with anything in them";
            return Err(Fault::shape(at, reason).coded(RejectCode::NoItems));
        }
        Line::new(walked)
    }
}

// === impl Line ===

impl Line {
    fn new(walked: Walked) -> Result<Self, Fault> {
        let Walked { text, walk, dropped, end } = walked;
        let nothing = has_no_items(&walk);
        let [spans, records, list] = walk.section_lists;
        let mut line = Self { repairs: walk.repairs, dropped, end, ..Self::default() };
        match walk.sections {
            _ if nothing => {}
            [true, false, false] => line.traces = Some(Traces::new(text, spans, walk.edits, walk.spans)),
            [false, true, false] if walk.edits.is_empty() => {
                line.logs = Some(Logs::new(text, records, walk.records));
            }
            [false, false, true] if walk.edits.is_empty() => {
                let (points, bare_metrics) = (walk.points, walk.bare_metrics);
                line.metrics = Some(Metrics { text, list, points, bare_metrics });
            }
            _ => line.divide(&text, walk.edits)?,
        }
        Ok(line)
    }

    /// Gives every signal of the line its own text.
    fn divide(&mut self, text: &Bytes, edits: Edits) -> Result<(), Fault> {
        let (text, walk) = canonical(text, edits)?;
        let members = top_level(&text)?;
        for signal in Signal::ALL {
            let items = match signal {
                Signal::Traces => walk.spans.len(),
                Signal::Logs => walk.records.len(),
                Signal::Metrics => walk.points as usize,
            };
            if items == 0 {
                continue;
            }
            let (text, walk) = canonical(&text, of_one_signal(&members, signal))?;
            let [spans, records, list] = walk.section_lists;
            match signal {
                Signal::Traces => self.traces = Some(Traces::new(text, spans, walk.edits, walk.spans)),
                Signal::Logs => self.logs = Some(Logs::new(text, records, walk.records)),
                Signal::Metrics => {
                    let (points, bare_metrics) = (walk.points, walk.bare_metrics);
                    self.metrics = Some(Metrics { text, list, points, bare_metrics });
                }
            }
        }
        Ok(())
    }
}

// === impl Walked ===

impl Walked {
    fn new(text: Bytes, given: &Bytes, mut walk: Walk) -> Self {
        let dropped = std::mem::take(&mut walk.dropped);
        let dropped = dropped.into_iter().map(|dropped| DroppedSpan::new(dropped, given)).collect();
        Self { text, end: walk.end, walk, dropped }
    }
}

// === impl DroppedSpan ===

impl DroppedSpan {
    fn new(dropped: Dropped, text: &Bytes) -> Self {
        let Dropped { at, code, reason, range } = dropped;
        Self { at, code, reason, text: text.slice(range.clone()), range }
    }
}

// === impl Metrics ===

impl Metrics {
    /// Returns the number of data points; a metric without any counts as one.
    pub fn point_count(&self) -> u32 {
        self.points
    }

    /// Returns whether no metric has a data point.
    pub(crate) fn is_bare(&self) -> bool {
        self.points == self.bare_metrics
    }

    /// Returns the export request.
    pub fn into_request(self) -> ExportRequest {
        ExportRequest::new(self.text, self.list)
    }
}

/// Walks the object at the start of a text, or a text with merged keys if a key is repeated.
fn read(given: &Bytes, keys: &mut Vec<AttributeKey>) -> Result<Walked, Fault> {
    let walk = match walk(given, 0, keys) {
        Ok(walk) => walk,
        Err(Stop::Fault(fault)) => return Err(fault),
        Err(Stop::RepeatedKey) => return read_merged(given, keys),
    };
    Ok(Walked::new(given.slice(..walk.end), given, walk))
}

#[cold]
fn read_merged(given: &Bytes, keys: &mut Vec<AttributeKey>) -> Result<Walked, Fault> {
    let merged = merge(given)?;
    let mut walk = walk(&merged.text, 0, keys).map_err(|stop| match stop {
        Stop::Fault(fault) => Fault { at: merged.origins.of(fault.at), ..fault },
        Stop::RepeatedKey => Fault::shape(0, "a key occurs twice in one object"),
    })?;
    for dropped in &mut walk.dropped {
        dropped.at = merged.origins.of(dropped.at);
        dropped.range = merged.origins.of_range(&dropped.range);
    }
    walk.empty_container = walk.empty_container.map(|at| merged.origins.of(at));
    if merged.dropped_scalars {
        walk.repairs.push(Repair::RepeatedKey);
    }
    let mut walked = Walked::new(merged.text.clone(), given, walk);
    walked.end = merged.consumed;
    Ok(walked)
}

/// Returns the text with its edits made, and its contents. The result needs no further edits.
fn canonical(text: &Bytes, edits: Edits) -> Result<(Bytes, Walk), Fault> {
    let Walked { text, walk, .. } = read(&edits.apply(text), &mut Vec::new())?;
    debug_assert!(walk.edits.is_empty(), "a written text needs edits: {:?}", walk.edits);
    Ok((text, walk))
}

type TopLevel = Vec<(Option<Signal>, Range<usize>)>;

fn top_level(text: &[u8]) -> Result<TopLevel, Fault> {
    let mut members = Vec::new();
    Cursor::new(text, 0).object(|cursor, start, key| {
        let signal = match key.raw(cursor.bytes()) {
            b"resourceSpans" => Some(Signal::Traces),
            b"resourceLogs" => Some(Signal::Logs),
            b"resourceMetrics" => Some(Signal::Metrics),
            _ => None,
        };
        cursor.skip_value()?;
        members.push((signal, start..cursor.at));
        Ok(())
    })?;
    Ok(members)
}

/// Deletes the sections of other signals; unknown members stay with each signal.
fn of_one_signal(members: &TopLevel, signal: Signal) -> Edits {
    let mut edits = Edits::default();
    let mut removals = Removals::default();
    for (belongs_to, range) in members {
        match belongs_to {
            Some(other) if *other != signal => removals.remove(range.clone()),
            _ => removals.keep(range.clone(), &mut edits),
        }
    }
    removals.finish(&mut edits);
    edits
}

#[cfg(test)]
mod tests;
