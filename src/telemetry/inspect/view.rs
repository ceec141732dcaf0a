//! What the inspector's page is told, and by whom. The names of the fields are those that the page's script reads.

use std::borrow::Cow;

use bytes::Bytes;
use serde::Serialize;

use crate::otlp::Signal;
use crate::queue::RecordId;

/// Whether values of attributes, bodies of logs and the text of lines are shown.
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
}

/// Where one signal goes.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Downstream {
    pub(crate) signal: &'static str,
    pub(crate) endpoint: String,
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RequestOutcome {
    /// All of it was taken.
    Accepted,
    /// A part of it was.
    Partial,
    /// Nothing of it could be used.
    Rejected,
    /// There was nothing in it.
    Empty,
    /// It had been taken before.
    Duplicate,
    /// Authentic, and of no use.
    Ignored,
    /// The queue had no room.
    Refused,
    /// The sender did not show what it must.
    Unauthorized,
    /// It did not get as far as a receiver's reading.
    TurnedAway,
}

/// One request and what was made of it.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Request {
    /// The id of the receiver; none when it did not get as far.
    pub(crate) receiver: Option<String>,
    pub(crate) outcome: RequestOutcome,
    /// Why it was not taken.
    pub(crate) reason: Option<String>,
    /// What the operator can do about that.
    pub(crate) advice: Option<Cow<'static, str>>,
    pub(crate) size_bytes: usize,
    /// The queue's number for it.
    pub(crate) record: Option<u64>,
    /// For webhooks.
    pub(crate) event: Option<&'static str>,
    pub(crate) lines: Vec<Line>,
    /// Lines that were left out of `lines`.
    pub(crate) more_lines: usize,
    pub(crate) counts: Counts,
}

/// What a request held.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(crate) struct Counts {
    pub(crate) accepted: u64,
    pub(crate) repaired: u64,
    pub(crate) rejected: u64,
    pub(crate) spans: u64,
    pub(crate) log_records: u64,
    pub(crate) metric_points: u64,
}

/// What became of one line at the door.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verdict {
    Accepted,
    Repaired,
    Rejected,
}

/// One line, or a part of one that was rejected.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Line {
    pub(crate) line: u32,
    pub(crate) verdict: Verdict,
    pub(crate) repairs: Vec<Mended>,
    pub(crate) fault: Option<Fault>,
    pub(crate) contents: Contents,
}

/// What was mended.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Mended {
    pub(crate) what: &'static str,
    pub(crate) advice: Option<&'static str>,
}

/// Where a line is wrong, and why.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Fault {
    pub(crate) column: u32,
    pub(crate) reason: String,
    /// One word for the mistake behind it.
    pub(crate) mistake: Option<&'static str>,
    pub(crate) advice: Option<&'static str>,
    pub(crate) excerpt: Excerpt,
}

/// A piece of a line around a column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Excerpt {
    pub(crate) before: String,
    /// The character at the column; empty behind the end of the line.
    pub(crate) at: String,
    pub(crate) after: String,
    pub(crate) cut_before: bool,
    pub(crate) cut_after: bool,
}

/// The spans, log records and metric points of a document.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Contents {
    pub(crate) spans: Vec<Span>,
    pub(crate) logs: Vec<Log>,
    pub(crate) metric_points: u32,
    /// Spans and log records that were left out.
    pub(crate) more: usize,
}

/// One span. Times are Unix nanoseconds, as text because a script's numbers are too short for them.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Span {
    pub(crate) trace: String,
    pub(crate) span: String,
    pub(crate) parent: Option<String>,
    pub(crate) name: String,
    pub(crate) kind: Option<&'static str>,
    pub(crate) start: Option<String>,
    pub(crate) end: Option<String>,
    pub(crate) is_error: bool,
    /// The resource's and the span's.
    pub(crate) attributes: Vec<Attribute>,
    pub(crate) events: Vec<Event>,
    pub(crate) more_events: usize,
}

/// An event of a span.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Event {
    pub(crate) name: String,
    pub(crate) time: Option<String>,
    pub(crate) attributes: Vec<Attribute>,
}

/// A log record.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Log {
    pub(crate) trace: Option<String>,
    pub(crate) span: Option<String>,
    /// None when only its body could tell and values are hidden.
    pub(crate) name: Option<String>,
    pub(crate) time: Option<String>,
    pub(crate) severity: Option<String>,
    pub(crate) attributes: Vec<Attribute>,
}

/// A key, and its value unless that is hidden.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Attribute {
    pub(crate) key: String,
    pub(crate) value: Option<String>,
}

/// An export as it leaves the processor.
#[derive(Debug)]
pub(crate) struct Departure<'a> {
    pub(crate) signal: Signal,
    pub(crate) items: u32,
    pub(crate) json: &'a Bytes,
    /// The records that it came out of.
    pub(crate) records: Vec<RecordId>,
}

/// What does not change about an export once it has left the processor.
#[derive(Debug, Serialize)]
pub(crate) struct Export {
    pub(crate) at_ms: u64,
    pub(crate) signal: &'static str,
    pub(crate) items: u32,
    pub(crate) size_bytes: usize,
    pub(crate) records: Vec<u64>,
    pub(crate) contents: Contents,
}

/// Where an export is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ExportState {
    Queued,
    Sending,
    Retrying,
    Delivered,
    Rejected,
}

/// How an export ended, or went on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ExportEnd {
    Delivered,
    Rejected,
    /// It is sent again in halves.
    Split,
}

/// One attempt to send.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Attempt {
    /// `sent`, `throttled`, `retryable`, `blocked`, `permanent`.
    pub(crate) outcome: &'static str,
    pub(crate) is_final: bool,
    /// What the downstream said.
    pub(crate) answer: String,
    pub(crate) took_ms: u64,
}
