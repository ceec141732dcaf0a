//! Account of sent and received spans by number, so that loss, duplicates and misattached events are exact.
//!
//! In: batches as they are sent, requests as they arrive. Out: [`Counts`], and the latency of each line.

use std::borrow::Cow;
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message as _;
use serde::Deserialize;
use spanrelay_bench::lines;

use super::batch::Expectation;

/// Account of one contestant.
pub(crate) struct Tally {
    began: Instant,
    lines: Vec<Line>,
    /// Number of expected spans and log records that arrived.
    arrived: u64,
    /// Number of expected spans and log records that have not arrived.
    missing: u64,
    unknown: u64,
    wrong_joins: u64,
    /// Number of log records that belong to no line.
    logs: u64,
    unreadable: u64,
    requests: u64,
    /// Latencies in microseconds, in order of arrival.
    latencies: Vec<u32>,
}

#[derive(Clone, Copy)]
struct Line {
    expectation: Expectation,
    /// Number of spans, or of log records if one is expected.
    spans: u8,
    events: u8,
    /// Scheduled time, in microseconds after the start of the tally.
    sent: u32,
}

/// Number of faults by kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Missing spans, log records or events.
    pub(crate) lost: u64,
    /// Duplicate spans, log records or events.
    pub(crate) duplicates: u64,
    /// Events attached to the span of another line.
    pub(crate) wrong_joins: u64,
    /// Unknown spans and requests: not sent, refused, of another trace, not JSON.
    pub(crate) unknown: u64,
}

#[derive(Deserialize)]
struct Request<'a> {
    #[serde(borrow, default, rename = "resourceSpans")]
    resource_spans: Vec<ResourceSpans<'a>>,
    #[serde(borrow, default, rename = "resourceLogs")]
    resource_logs: Vec<ResourceLogs<'a>>,
}

#[derive(Deserialize)]
struct ResourceSpans<'a> {
    #[serde(borrow, default, rename = "scopeSpans", alias = "instrumentationLibrarySpans")]
    scope_spans: Vec<ScopeSpans<'a>>,
}

#[derive(Deserialize)]
struct ScopeSpans<'a> {
    #[serde(borrow, default)]
    spans: Vec<Span<'a>>,
}

#[derive(Deserialize)]
struct Span<'a> {
    #[serde(rename = "traceId")]
    trace: &'a str,
    #[serde(rename = "spanId")]
    span: &'a str,
    #[serde(borrow, default)]
    events: Vec<Event<'a>>,
}

#[derive(Deserialize)]
struct Event<'a> {
    #[serde(rename = "timeUnixNano")]
    time: &'a str,
}

#[derive(Deserialize)]
struct ResourceLogs<'a> {
    #[serde(borrow, default, rename = "scopeLogs")]
    scope_logs: Vec<ScopeLogs<'a>>,
}

#[derive(Deserialize)]
struct ScopeLogs<'a> {
    #[serde(borrow, default, rename = "logRecords")]
    records: Vec<LogRecord<'a>>,
}

#[derive(Deserialize)]
struct LogRecord<'a> {
    #[serde(borrow, default)]
    body: Option<Body<'a>>,
}

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow, default, rename = "stringValue")]
    text: Cow<'a, str>,
}

// === impl Tally ===

impl Tally {
    pub(crate) fn new() -> Self {
        Self {
            began: Instant::now(),
            lines: Vec::new(),
            arrived: 0,
            missing: 0,
            unknown: 0,
            wrong_joins: 0,
            logs: 0,
            unreadable: 0,
            requests: 0,
            latencies: Vec::new(),
        }
    }

    /// Registers a batch with its scheduled time; returns the number of its first line.
    pub(crate) fn send(&mut self, expectations: &[Expectation], at: Instant) -> u64 {
        let first = self.lines.len() as u64;
        let sent = micros(at - self.began);
        self.lines.extend(expectations.iter().map(|expectation| Line {
            expectation: *expectation,
            spans: 0,
            events: 0,
            sent,
        }));
        self.missing +=
            expectations.iter().filter(|expectation| **expectation != Expectation::Nothing).count() as u64;
        first
    }

    /// Records that the batch was refused, so that none of its lines is expected.
    pub(crate) fn refused(&mut self, first: u64, expectations: &[Expectation]) {
        for number in first..first + expectations.len() as u64 {
            let line = &mut self.lines[number as usize];
            if line.expectation != Expectation::Nothing && line.spans == 0 {
                self.missing -= 1;
            }
            line.expectation = Expectation::Nothing;
        }
    }

    /// Records the content of a request that was complete at that time: one or several JSON documents, or protobuf.
    pub(crate) fn take(&mut self, body: &[u8], at: Instant) {
        self.requests += 1;
        if !body.starts_with(b"{") {
            return self.take_protobuf(body, at);
        }
        for request in serde_json::Deserializer::from_slice(body).into_iter::<Request<'_>>() {
            let Ok(request) = request else {
                self.unreadable += 1;
                return;
            };
            let scopes = request.resource_spans.iter().flat_map(|resource| &resource.scope_spans);
            for span in scopes.flat_map(|scope| &scope.spans) {
                let ids = (u128::from_str_radix(span.trace, 16), u64::from_str_radix(span.span, 16));
                let ids = if let (Ok(trace), Ok(span)) = ids { Some((trace, span)) } else { None };
                self.take_span(ids, span.events.iter().map(|event| event.time.parse().ok()), at);
            }
            let scopes = request.resource_logs.iter().flat_map(|resource| &resource.scope_logs);
            for record in scopes.flat_map(|scope| &scope.records) {
                self.take_log_record(record.body.as_ref().map_or("", |body| &body.text), at);
            }
        }
    }

    fn take_protobuf(&mut self, body: &[u8], at: Instant) {
        let Ok(request) = ExportTraceServiceRequest::decode(body) else {
            self.unreadable += 1;
            return;
        };
        let scopes = request.resource_spans.iter().flat_map(|resource| &resource.scope_spans);
        for span in scopes.flat_map(|scope| &scope.spans) {
            let ids = (span.trace_id[..].try_into().ok()).zip(span.span_id[..].try_into().ok());
            let ids = ids.map(|(trace, span)| (u128::from_be_bytes(trace), u64::from_be_bytes(span)));
            self.take_span(ids, span.events.iter().map(|event| Some(event.time_unix_nano)), at);
        }
    }

    fn take_span(
        &mut self,
        ids: Option<(u128, u64)>,
        event_times: impl Iterator<Item = Option<u64>>,
        at: Instant,
    ) {
        let is_span = |expectation| matches!(expectation, Expectation::Span | Expectation::SpanWithEvent);
        let Some(number) = self.take_item(ids, is_span, at) else {
            self.unknown += 1;
            return;
        };
        let line = &mut self.lines[number as usize];
        for time in event_times {
            if time == Some(lines::event_time(number)) {
                line.events = line.events.saturating_add(1);
            } else {
                self.wrong_joins += 1;
            }
        }
    }

    /// Records a log record with this text: that of an access-log line has the line's path in it.
    fn take_log_record(&mut self, text: &str, at: Instant) {
        let ids = || {
            let (trace, rest) = text.split_once(lines::PATH)?.1.split_once('/')?;
            let span = rest.split(' ').next()?;
            Some((u128::from_str_radix(trace, 16).ok()?, u64::from_str_radix(span, 16).ok()?))
        };
        if self.take_item(ids(), |expectation| expectation == Expectation::LogRecord, at).is_none() {
            self.logs += 1;
        }
    }

    /// Records an item with these ids. Returns the number of its line; `None` if the line expects no such item.
    fn take_item(
        &mut self,
        ids: Option<(u128, u64)>,
        is_expected: fn(Expectation) -> bool,
        at: Instant,
    ) -> Option<u64> {
        let (trace, id) = ids?;
        let number = lines::number(id);
        let line = self.lines.get_mut(usize::try_from(number).ok()?)?;
        if lines::ids(number).0 != trace || !is_expected(line.expectation) {
            return None;
        }
        if line.spans == 0 {
            self.arrived += 1;
            self.missing -= 1;
            self.latencies.push(micros(at - self.began).saturating_sub(line.sent));
        }
        line.spans = line.spans.saturating_add(1);
        Some(number)
    }

    /// Returns the number of expected spans and log records that arrived.
    pub(crate) fn arrived(&self) -> u64 {
        self.arrived
    }

    /// Returns the number of expected spans and log records that have not arrived.
    pub(crate) fn missing(&self) -> u64 {
        self.missing
    }

    /// Returns the number of log records that arrived and belong to no line.
    pub(crate) fn logs(&self) -> u64 {
        self.logs
    }

    pub(crate) fn requests(&self) -> u64 {
        self.requests
    }

    /// Returns and clears the latencies, sorted: from the scheduled time of a batch to the arrival of the line's export.
    pub(crate) fn latencies(&mut self) -> Vec<Duration> {
        let mut latencies = std::mem::take(&mut self.latencies);
        latencies.sort_unstable();
        latencies.into_iter().map(|micros| Duration::from_micros(micros.into())).collect()
    }

    /// Returns the faults; `joins` requires each event to be attached to its span.
    pub(crate) fn counts(&self, joins: bool) -> Counts {
        let mut counts = Counts {
            wrong_joins: self.wrong_joins,
            unknown: self.unknown + self.unreadable,
            ..Counts::default()
        };
        for line in &self.lines {
            let spans = u64::from(line.expectation != Expectation::Nothing);
            let events = u64::from(line.expectation == Expectation::SpanWithEvent && joins);
            let came = (u64::from(line.spans), u64::from(line.events));
            counts.lost += spans.saturating_sub(came.0) + events.saturating_sub(came.1);
            counts.duplicates += came.0.saturating_sub(spans) + came.1.saturating_sub(events);
        }
        counts
    }
}

fn micros(duration: Duration) -> u32 {
    u32::try_from(duration.as_micros()).unwrap_or(u32::MAX)
}

// === impl Counts ===

impl Counts {
    pub(crate) fn are_right(&self) -> bool {
        *self == Self::default()
    }
}
