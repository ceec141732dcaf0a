//! What was sent, and what came of it: every span by its number, so that loss, duplicates and wrong joins are exact.
//!
//! In: batches as they are sent, requests as they arrive. Out: [`Counts`], and how long each line was under way.

use std::time::{Duration, Instant};

use serde::Deserialize;
use spanrelay::internals::bench::lines;

use super::batch::Fate;

/// Of one contestant.
pub(crate) struct Tally {
    began: Instant,
    lines: Vec<Line>,
    /// Spans that were to come and have.
    arrived: u64,
    /// Spans that are still to come.
    missing: u64,
    unknown: u64,
    wrong_joins: u64,
    logs: u64,
    unreadable: u64,
    requests: u64,
    /// Microseconds, in the order of arrival.
    latencies: Vec<u32>,
}

#[derive(Clone, Copy)]
struct Line {
    fate: Fate,
    spans: u8,
    events: u8,
    /// Microseconds after the tally began.
    sent: u32,
}

/// What is wrong with what arrived: nothing, if all are 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Spans, or their events, that did not arrive.
    pub(crate) lost: u64,
    /// Spans, or their events, that arrived again.
    pub(crate) duplicates: u64,
    /// Events on the span of another line.
    pub(crate) wrong_joins: u64,
    /// Spans and requests of which nobody knows what they are: not sent, refused, of another trace, not JSON.
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
    records: Vec<Event<'a>>,
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

    /// The number of the first line of a batch that is sent now, or should have been at that time.
    pub(crate) fn send(&mut self, fates: &[Fate], at: Instant) -> u64 {
        let first = self.lines.len() as u64;
        let sent = micros(at - self.began);
        self.lines.extend(fates.iter().map(|fate| Line { fate: *fate, spans: 0, events: 0, sent }));
        self.missing += fates.iter().filter(|fate| **fate != Fate::Nothing).count() as u64;
        first
    }

    /// The batch was refused as a whole: nothing of it is to come.
    pub(crate) fn refused(&mut self, first: u64, fates: &[Fate]) {
        for number in first..first + fates.len() as u64 {
            let line = &mut self.lines[number as usize];
            if line.fate != Fate::Nothing && line.spans == 0 {
                self.missing -= 1;
            }
            line.fate = Fate::Nothing;
        }
    }

    /// What a request holds, which was complete at that time: one JSON document or several, one behind another.
    pub(crate) fn take(&mut self, body: &[u8], at: Instant) {
        self.requests += 1;
        for request in serde_json::Deserializer::from_slice(body).into_iter::<Request<'_>>() {
            let Ok(request) = request else {
                self.unreadable += 1;
                return;
            };
            let scopes = request.resource_spans.iter().flat_map(|resource| &resource.scope_spans);
            for span in scopes.flat_map(|scope| &scope.spans) {
                self.take_span(span, at);
            }
            let scopes = request.resource_logs.iter().flat_map(|resource| &resource.scope_logs);
            self.logs += scopes.map(|scope| scope.records.len() as u64).sum::<u64>();
        }
    }

    fn take_span(&mut self, span: &Span<'_>, at: Instant) {
        let ids = (u128::from_str_radix(span.trace, 16), u64::from_str_radix(span.span, 16));
        let (Ok(trace), Ok(id)) = ids else {
            self.unknown += 1;
            return;
        };
        let number = lines::number(id);
        let known = number < self.lines.len() as u64 && lines::ids(number).0 == trace;
        if !known || self.lines[number as usize].fate == Fate::Nothing {
            self.unknown += 1;
            return;
        }
        let line = &mut self.lines[number as usize];
        if line.spans == 0 {
            self.arrived += 1;
            self.missing -= 1;
            self.latencies.push(micros(at - self.began).saturating_sub(line.sent));
        }
        line.spans = line.spans.saturating_add(1);
        for event in &span.events {
            if event.time.parse() == Ok(lines::event_time(number)) {
                line.events = line.events.saturating_add(1);
            } else {
                self.wrong_joins += 1;
            }
        }
    }

    /// Spans that arrived and were to.
    pub(crate) fn arrived(&self) -> u64 {
        self.arrived
    }

    /// Spans that were sent and have not arrived yet.
    pub(crate) fn missing(&self) -> u64 {
        self.missing
    }

    /// Log records that arrived as logs.
    pub(crate) fn logs(&self) -> u64 {
        self.logs
    }

    pub(crate) fn requests(&self) -> u64 {
        self.requests
    }

    /// From the time that a batch was to be sent to the time that the request with its line was complete. Sorted, and
    /// forgotten here.
    pub(crate) fn latencies(&mut self) -> Vec<Duration> {
        let mut latencies = std::mem::take(&mut self.latencies);
        latencies.sort_unstable();
        latencies.into_iter().map(|micros| Duration::from_micros(micros.into())).collect()
    }

    /// `joins`: is each event to be on its span?
    pub(crate) fn counts(&self, joins: bool) -> Counts {
        let mut counts = Counts {
            wrong_joins: self.wrong_joins,
            unknown: self.unknown + self.unreadable,
            ..Counts::default()
        };
        for line in &self.lines {
            let spans = u64::from(line.fate != Fate::Nothing);
            let events = u64::from(line.fate == Fate::SpanWithEvent && joins);
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
