//! Data model of the inspector's page. The page's script reads these field names.

use std::borrow::Cow;

use bytes::Bytes;
use serde::Serialize;

use crate::event::{RecordId, RequestOutcome, Signal, UnitOutcome};

/// Visibility of attribute values, log bodies and the text of lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Values {
    Hidden,
    Shown,
}

/// A configured receiver.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct ReceiverSetting {
    pub(crate) id: String,
    pub(crate) path: String,
    /// Names of the headers that a request needs.
    pub(crate) headers: Vec<String>,
}

/// Endpoint of one signal.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Downstream {
    pub(crate) signal: &'static str,
    pub(crate) endpoint: String,
}

/// One request and its outcome.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct RequestView {
    /// Id of the receiver; `None` if the request did not reach one.
    pub(crate) receiver: Option<String>,
    pub(crate) outcome: RequestOutcome,
    /// Reason that it was not accepted.
    pub(crate) reason: Option<String>,
    /// Advice for the operator.
    pub(crate) advice: Option<Cow<'static, str>>,
    pub(crate) size_bytes: usize,
    /// Number of its record in the queue.
    pub(crate) record: Option<u64>,
    /// Type of a webhook event.
    pub(crate) event: Option<&'static str>,
    pub(crate) lines: Vec<LineView>,
    /// Number of lines that are not in `lines`.
    pub(crate) more_lines: usize,
    pub(crate) counts: Counts,
}

/// Number of items in a request.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(crate) struct Counts {
    pub(crate) accepted: u64,
    pub(crate) repaired: u64,
    pub(crate) rejected: u64,
    pub(crate) spans: u64,
    pub(crate) log_records: u64,
    pub(crate) metric_points: u64,
}

/// One line, or a part of one that was rejected.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct LineView {
    pub(crate) line: u32,
    pub(crate) verdict: UnitOutcome,
    pub(crate) repairs: Vec<RepairView>,
    pub(crate) fault: Option<FaultView>,
    pub(crate) contents: ContentsView,
}

/// A repair.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct RepairView {
    pub(crate) what: &'static str,
    pub(crate) advice: Option<&'static str>,
}

/// Position of an error in a line, and its reason.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct FaultView {
    pub(crate) column: u32,
    pub(crate) reason: String,
    /// One-word diagnosis.
    pub(crate) mistake: Option<&'static str>,
    pub(crate) advice: Option<&'static str>,
    pub(crate) excerpt: ExcerptView,
}

/// Excerpt of a line around a column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct ExcerptView {
    pub(crate) before: String,
    /// Character at the column; empty after the end of the line.
    pub(crate) at: String,
    pub(crate) after: String,
    pub(crate) cut_before: bool,
    pub(crate) cut_after: bool,
}

/// Spans, log records and metric points of a document.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct ContentsView {
    pub(crate) spans: Vec<SpanView>,
    pub(crate) logs: Vec<LogView>,
    pub(crate) metric_points: u32,
    /// Number of spans and log records that are not included.
    pub(crate) more: usize,
}

/// One span. Times are Unix nanoseconds as text, because JavaScript numbers cannot represent them.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct SpanView {
    pub(crate) trace: String,
    pub(crate) span: String,
    pub(crate) parent: Option<String>,
    /// Name of the service, which is shown like the names of spans; empty if there is none.
    pub(crate) service: String,
    pub(crate) name: String,
    pub(crate) kind: Option<&'static str>,
    pub(crate) start: Option<String>,
    pub(crate) end: Option<String>,
    pub(crate) is_error: bool,
    /// Attributes of the resource and of the span.
    pub(crate) attributes: Vec<Attribute>,
    pub(crate) events: Vec<EventView>,
    pub(crate) more_events: usize,
}

/// An event of a span.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct EventView {
    pub(crate) name: String,
    pub(crate) time: Option<String>,
    pub(crate) attributes: Vec<Attribute>,
}

/// A log record.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct LogView {
    pub(crate) trace: Option<String>,
    pub(crate) span: Option<String>,
    /// Name; `None` if it is the body and values are hidden.
    pub(crate) name: Option<String>,
    pub(crate) time: Option<String>,
    pub(crate) severity: Option<String>,
    pub(crate) attributes: Vec<Attribute>,
}

/// An attribute; the value is `None` if values are hidden.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Attribute {
    pub(crate) key: String,
    pub(crate) value: Option<String>,
}

/// An export released by the processor.
pub(crate) struct Departure<'a> {
    pub(crate) signal: Signal,
    pub(crate) items: u32,
    /// The request in the form that it is passed on in.
    pub(crate) bytes: &'a Bytes,
    /// Returns the request as JSON.
    pub(crate) json: Box<dyn Fn() -> Bytes + 'a>,
    /// Records whose data it contains.
    pub(crate) records: Vec<RecordId>,
}

/// Constant properties of an export.
#[derive(Debug, Serialize)]
pub(crate) struct ExportView {
    pub(crate) at_ms: u64,
    pub(crate) signal: &'static str,
    pub(crate) items: u32,
    pub(crate) size_bytes: usize,
    pub(crate) records: Vec<u64>,
    pub(crate) contents: ContentsView,
}

/// State of an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ExportState {
    Queued,
    Sending,
    Retrying,
    Delivered,
    Rejected,
}

/// One export attempt.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct AttemptView {
    /// `sent`, `throttled`, `retryable`, `blocked`, `permanent`.
    pub(crate) outcome: &'static str,
    pub(crate) is_final: bool,
    /// Response of the downstream.
    pub(crate) answer: String,
    pub(crate) took_ms: u64,
}
