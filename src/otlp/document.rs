//! One line's spans, log records or metric points: the text that will leave as an export request.

use bytes::Bytes;

use super::{SpanId, TraceId};

/// The spans of one line: one export request for `/v1/traces`.
#[derive(Debug, Clone)]
pub(crate) struct Traces {
    text: Bytes,
}

/// The log records of one line.
#[derive(Debug, Clone)]
pub(crate) struct Logs {
    text: Bytes,
}

/// The metric points of one line: one export request for `/v1/metrics`.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    text: Bytes,
}

/// A log event in the shape of a span event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SpanEvent {
    /// Unix nanoseconds; zero when the log record had no time at all.
    pub(crate) time_unix_nano: u64,
    /// The JSON object that goes into the span's `events`.
    pub(crate) json: Bytes,
}

// === impl Traces ===

#[allow(unused_variables, clippy::todo, dead_code)] // replaced by the real reader
impl Traces {
    /// The ids of every span, in the order of the text. `attach` takes an index into this.
    pub(crate) fn spans(&self) -> impl ExactSizeIterator<Item = (TraceId, SpanId)> + '_ {
        std::iter::empty()
    }

    /// Spans in this request.
    pub(crate) fn span_count(&self) -> u32 {
        todo!()
    }

    /// Memory that holding this costs, in bytes, events that were attached included.
    pub(crate) fn held_bytes(&self) -> usize {
        todo!()
    }

    /// Adds an event to one span. Events of a span leave in the order of their times.
    pub(crate) fn attach(&mut self, span: usize, event: SpanEvent) {
        todo!()
    }

    /// The export request as JSON: a slice of what arrived when nothing had to change.
    pub(crate) fn into_json(self) -> Bytes {
        todo!()
    }
}

// === impl Logs ===

#[allow(unused_variables, clippy::todo, dead_code)] // replaced by the real reader
impl Logs {
    /// For every log record, in the order of the text, the span it belongs to, if it names one.
    pub(crate) fn records(&self) -> impl ExactSizeIterator<Item = Option<(TraceId, SpanId)>> + '_ {
        std::iter::empty()
    }

    /// Log records in this request.
    pub(crate) fn record_count(&self) -> u32 {
        todo!()
    }

    /// Memory that holding this costs, in bytes.
    pub(crate) fn held_bytes(&self) -> usize {
        todo!()
    }

    /// The span event that this record becomes (contract section 4).
    pub(crate) fn event(&self, record: usize) -> SpanEvent {
        todo!()
    }

    /// The export request as JSON with only the records for which `keep` is true, or nothing when none is.
    pub(crate) fn into_json(self, keep: impl Fn(usize) -> bool) -> Option<Bytes> {
        todo!()
    }

    /// A request for `/v1/traces` in which each of the `chosen` records is an event on a zero-length span of its
    /// own, the child of the span that the record names. Records without ids must not be chosen.
    pub(crate) fn carrier_spans(&self, chosen: impl Fn(usize) -> bool) -> Option<Bytes> {
        todo!()
    }
}

// === impl Metrics ===

#[allow(clippy::todo, dead_code)] // replaced by the real reader
impl Metrics {
    /// Metric points in this request.
    pub(crate) fn point_count(&self) -> u32 {
        todo!()
    }

    pub(crate) fn into_json(self) -> Bytes {
        self.text
    }
}
