//! Reports of requests to the inspector.
//!
//! In: a body and its reading, before anything is done with it; then the result. Out: one report, if the inspector is
//! in use.
//! Promises: nothing is copied when the inspector is not in use; a report has at most [`MAX_LINES`] lines, rejected
//! ones first.

use std::borrow::Cow;

use bytes::Bytes;

use super::super::Answer;
use crate::event::{RecordId, Repair, RequestOutcome, Signal, UnitOutcome};
use crate::otlp::{Logs, Traces};
use crate::receiver::{Item, Reading, Receiver, Rejected};
use crate::telemetry::Inspector;
use crate::telemetry::inspect::Watching;
use crate::telemetry::inspect::view::{ContentsView, Counts, FaultView, LineView, RepairView, RequestView};

/// Number of lines in a report.
const MAX_LINES: usize = 60;
/// Number of rejected lines in a report.
const MAX_REJECTED: usize = 40;
/// Size above which a line is not parsed for the report.
const MAX_LINE_BYTES: usize = 64 * 1024;

/// Report of one request.
pub(in crate::relay) struct RequestReport<'a> {
    watching: Watching<'a>,
    /// The request is shown, and not only counted.
    is_shown: bool,
    request: RequestView,
}

// === impl RequestReport ===

impl<'a> RequestReport<'a> {
    /// Describes what was read of a body, if the inspector is in use. The body is given as it is kept, with its size as it was read.
    pub(in crate::relay) fn begin(
        inspector: &'a Inspector,
        receiver: &dyn Receiver,
        (body, size_bytes): (&Bytes, usize),
        reading: &Reading,
    ) -> Option<Self> {
        let watching = inspector.watching()?;
        let is_shown = watching.has_room_for_request();
        let mut request = RequestView {
            event: reading.event.map(|event| event.as_str()),
            ..for_receiver(receiver, RequestOutcome::Empty, size_bytes)
        };
        if is_shown {
            request.lines = lines(&watching, receiver, body, reading);
            let rejected: usize = reading.rejected.iter().map(|part| part.scope.count()).sum();
            request.more_lines = (reading.items.len() + rejected).saturating_sub(request.lines.len());
        }
        Some(Self { watching, is_shown, request })
    }

    pub(in crate::relay) fn queued(&mut self, record: Option<RecordId>) {
        self.request.record = record.map(|record| record.0);
    }

    /// Sends the report, with the result of the request.
    pub(in crate::relay) fn finish(self, counts: Counts, answer: &Answer) {
        let Self { watching, is_shown, request } = self;
        let reason = match answer {
            Answer::Ignored(reason) => Some(reason.as_str().to_owned()),
            Answer::Unavailable { reason, .. } | Answer::TooLarge { reason } => Some(reason.clone()),
            _ => None,
        };
        let request = RequestView { counts, outcome: answer.outcome(), reason, ..request };
        if is_shown {
            watching.request(&request);
        } else {
            watching.count(&request);
        }
    }
}

/// Reports a request that was rejected before its body was read, or that reached no receiver.
pub(in crate::relay) fn observe_declined(
    inspector: &Inspector,
    receiver: Option<&dyn Receiver>,
    outcome: RequestOutcome,
    reason: String,
    advice: Option<Cow<'static, str>>,
) {
    let Some(watching) = inspector.watching() else { return };
    let request =
        receiver.map_or_else(|| without_receiver(outcome), |receiver| for_receiver(receiver, outcome, 0));
    report(&watching, &RequestView { reason: Some(reason), advice, ..request });
}

fn report(watching: &Watching<'_>, request: &RequestView) {
    if watching.has_room_for_request() {
        watching.request(request);
    } else {
        watching.count(request);
    }
}

fn for_receiver(receiver: &dyn Receiver, outcome: RequestOutcome, size_bytes: usize) -> RequestView {
    RequestView { receiver: Some(receiver.id().to_owned()), size_bytes, ..without_receiver(outcome) }
}

fn without_receiver(outcome: RequestOutcome) -> RequestView {
    RequestView {
        receiver: None,
        outcome,
        reason: None,
        advice: None,
        size_bytes: 0,
        record: None,
        event: None,
        lines: Vec::new(),
        more_lines: 0,
        counts: Counts::default(),
    }
}

/// Counts the units and the items of a reading.
pub(in crate::relay) fn counts(reading: &Reading) -> Counts {
    let repaired = reading.items.iter().filter(|item| !item.repairs.is_empty()).count() as u64;
    let mut counts = Counts {
        accepted: reading.items.len() as u64 - repaired,
        repaired,
        rejected: Rejected::units(&reading.rejected) as u64,
        ..Counts::default()
    };
    for item in &reading.items {
        let [spans, log_records, metric_points] = item.counts().map(u64::from);
        counts.spans += spans;
        counts.log_records += log_records;
        counts.metric_points += metric_points;
    }
    counts
}

/// Returns the lines of the report, in the order of the body.
fn lines(watching: &Watching<'_>, receiver: &dyn Receiver, body: &Bytes, reading: &Reading) -> Vec<LineView> {
    let rejected = reading.rejected.iter().take(MAX_REJECTED);
    let mut lines: Vec<LineView> =
        rejected.map(|part| rejected_line(watching, receiver, body, part)).collect();
    let room = MAX_LINES - lines.len();
    lines.extend(reading.items.iter().take(room).map(|item| accepted_line(watching, item)));
    lines.sort_by_key(|line| (line.line, line.verdict == UnitOutcome::Rejected));
    lines
}

fn accepted_line(watching: &Watching<'_>, item: &Item) -> LineView {
    let verdict = if item.repairs.is_empty() { UnitOutcome::Accepted } else { UnitOutcome::Repaired };
    let traces = item.traces.as_ref().filter(|traces| traces.held_bytes() <= MAX_LINE_BYTES);
    let logs = item.logs.as_ref().filter(|logs| logs.held_bytes() <= MAX_LINE_BYTES);
    let protobuf = item.protobuf.as_ref().filter(|request| request.bytes().len() <= MAX_LINE_BYTES);
    let in_json = |signal: Signal| {
        protobuf.filter(|request| request.signal() == signal).map(|request| Bytes::from(request.to_json()))
    };
    let spans = traces.cloned().map(Traces::into_json).or_else(|| in_json(Signal::Traces));
    let records = logs.cloned().and_then(all_records).or_else(|| in_json(Signal::Logs));
    let spans = spans.map(|json| watching.summary(Signal::Traces, &json)).unwrap_or_default();
    let records = records.map(|json| watching.summary(Signal::Logs, &json)).unwrap_or_default();
    let contents = ContentsView {
        spans: spans.spans,
        logs: records.logs,
        metric_points: item.counts()[Signal::Metrics as usize],
        more: spans.more + records.more,
    };
    LineView {
        line: item.line,
        verdict,
        repairs: item.repairs.iter().map(repair_view).collect(),
        fault: None,
        contents,
    }
}

fn all_records(logs: Logs) -> Option<Bytes> {
    logs.into_json(|_| true)
}

fn repair_view(repair: &Repair) -> RepairView {
    RepairView { what: repair.as_str(), advice: repair.diagnosis().map(|diagnosis| diagnosis.advice) }
}

fn rejected_line(
    watching: &Watching<'_>,
    receiver: &dyn Receiver,
    body: &Bytes,
    part: &Rejected,
) -> LineView {
    let diagnosis = part.diagnose(receiver);
    let (line, column) = shown_line(body, part);
    let fault = FaultView {
        column: part.column,
        reason: part.reason.clone(),
        mistake: diagnosis.map(|diagnosis| diagnosis.mistake),
        advice: diagnosis.map(|diagnosis| diagnosis.advice),
        excerpt: watching.excerpt(line, column),
    };
    LineView {
        line: part.line,
        verdict: UnitOutcome::Rejected,
        repairs: Vec::new(),
        fault: Some(fault),
        contents: ContentsView::default(),
    }
}

/// Returns the line to show of a rejected part, and the column of its fault.
fn shown_line<'a>(body: &'a Bytes, part: &'a Rejected) -> (&'a [u8], u32) {
    match part.scrubbed {
        None => (line_of(body, part), part.column),
        // The rest of its line may hold values that were scrubbed.
        Some(scrubbed) if scrubbed.is_changed => (&part.input, 1),
        Some(_) => (&part.input, u32::try_from(part.at + 1).unwrap_or(u32::MAX)),
    }
}

/// Returns the line of the body that contains a rejected part, whose column is counted from the start of that line.
fn line_of<'a>(body: &'a Bytes, part: &'a Rejected) -> &'a [u8] {
    // The rejected bytes are a slice of the body, unless something was repaired before.
    let offset = (part.input.as_ptr() as usize).checked_sub(body.as_ptr() as usize);
    let Some(offset) = offset.filter(|offset| *offset <= body.len()) else { return &part.input };
    let start = memchr::memrchr2(b'\n', b'\r', &body[..offset]).map_or(0, |newline| newline + 1);
    let line = &body[start..];
    let end = memchr::memchr2(b'\n', b'\r', line).unwrap_or(line.len());
    &line[..end]
}
