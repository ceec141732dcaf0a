//! Log events become events of the spans that they belong to.
//!
//! In: the lines of one accepted request at a time, and the time. Out: [`Export`]s, with the receipts of all that
//! is in them.
//!
//! Promises:
//! - A line with spans leaves as one request, `wait` after it arrived; what comes later never extends that. Lines
//!   leave in the order in which they came. Metrics leave at once, and so does every line whose [`Passage`] is straight:
//!   it meets nothing and nothing meets it.
//! - A log record that names a span becomes an event of the oldest span with the same trace id and span id that waits
//!   when it comes, or else of the first that comes while it waits itself, also for `wait`. It leaves once and is
//!   never lost: what has no span by then goes the `unmatched` way.
//! - What waits takes at most `max_held_bytes` after each call. When there is more, the oldest leave first and at
//!   once, with the events that they have. A line that is larger than that on its own passes through after it has
//!   met the rest of its request, instead of driving everything else out.
//! - The price of a span or a record does not depend on how many are held, or on how often its ids are repeated.
//!
//! Leaves to others: what an event looks like ([`Logs::event`]), and calling [`SpanEvents::expire`] in time. There is
//! no clock here: the caller says what time it is.

mod log_exit;

mod hold;

mod entry;

mod index;

mod arrivals;

mod steps;

use std::time::{Duration, Instant};

use self::arrivals::Position;
use self::entry::{Entry, WaitingLogs, WaitingSpans};
use self::hold::Hold;
use self::log_exit::LogExit;
use super::Work;
use crate::config::SpanEventsConfig;
use crate::event::{Settled, Signal};
use crate::exporter::{Carried, Export};
use crate::otlp::{ExportRequest, Logs, Metrics, Traces};
use crate::queue::Part;
use crate::receiver::Passage;
use crate::telemetry::metrics::{LogEventOutcome, Metrics as Telemetry};

/// A longer `wait` is as good as this one, and an [`Instant`] cannot be any distance away.
const LONGEST_WAIT: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Puts log events onto their spans.
pub(crate) struct SpanEvents {
    wait: Duration,
    max_held_bytes: u64,
    keep_logs: bool,
    hold: Hold,
    log_exit: LogExit,
    telemetry: Telemetry,
}

// === impl SpanEvents ===

impl SpanEvents {
    pub(crate) fn new(config: &SpanEventsConfig, telemetry: Telemetry) -> Self {
        Self {
            wait: config.wait.min(LONGEST_WAIT),
            max_held_bytes: config.max_held_bytes,
            keep_logs: config.keep_logs,
            hold: Hold::new(),
            log_exit: LogExit::new(config, telemetry.clone()),
            telemetry,
        }
    }

    /// Takes the lines of one request, in its order. What is to leave now is added to `out`.
    pub(crate) fn accept(&mut self, now: Instant, request: Vec<Work>, out: &mut Vec<Export>) {
        // A caller that comes late must not find what should have left.
        self.release_due(now, out);
        let deadline = now + self.wait;
        let mut oversized = Vec::new();
        let mut logs = Vec::new();
        // All spans first: then no record waits for a span of its own request.
        for work in request {
            out.extend(work.metrics.map(|(points, part)| export_metrics(points, part)));
            if work.passage == Passage::Straight {
                out.extend(work.traces.map(|(traces, part)| export_traces(traces, part)));
                out.extend(work.logs.and_then(|(records, part)| export_logs(records, part)));
                continue;
            }
            match work.traces {
                Some((traces, part)) if traces.span_count() == 0 => part.close(),
                Some((traces, part)) => {
                    let spans = WaitingSpans::new(traces, part, deadline);
                    oversized.extend(self.accept_spans(spans, out));
                }
                None => {}
            }
            logs.extend(work.logs);
        }
        for (records, part) in logs {
            let mut logs = WaitingLogs::new(records, part, deadline);
            logs.keep_logs = self.keep_logs;
            self.accept_logs(logs, out);
        }
        // With a `wait` of zero this is where everything leaves again.
        self.release_due(now, out);
        for position in oversized {
            if let Some(spans) = self.hold.take(position) {
                self.release(spans, out);
            }
        }
        self.release_excess(out);
        self.publish();
    }

    /// Lets go of everything that has waited long enough.
    pub(crate) fn expire(&mut self, now: Instant, out: &mut Vec<Export>) {
        self.release_due(now, out);
        self.publish();
    }

    /// Lets go of everything.
    pub(crate) fn flush(&mut self, out: &mut Vec<Export>) {
        while let Some(entry) = self.hold.take_oldest() {
            self.release(entry, out);
        }
        self.publish();
    }

    /// When [`expire`](Self::expire) has something to do next.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.hold.oldest().map(Entry::deadline)
    }

    /// Spans that wait for their log events.
    pub(crate) fn held_spans(&self) -> usize {
        self.hold.span_count()
    }

    /// Memory that waiting spans and log records take, in bytes.
    pub(crate) fn held_bytes(&self) -> usize {
        self.hold.bytes()
    }

    /// Answers with the place of spans that may not stay after their request.
    fn accept_spans(&mut self, spans: WaitingSpans, out: &mut Vec<Export>) -> Option<Position> {
        let oversized = self.is_excess(spans.bytes_to_hold());
        let met = self.hold.keep_spans(spans);
        self.count_attached(met.attached);
        for logs in met.decided {
            self.log_exit.release(logs, out);
        }
        oversized.then_some(met.position)
    }

    fn accept_logs(&mut self, mut logs: WaitingLogs, out: &mut Vec<Export>) {
        let attached = self.hold.attach(&mut logs);
        self.count_attached(attached);
        // All spans of the request are here already, so logs that are too large to be held have met theirs.
        if logs.is_decided() || self.is_excess(logs.bytes_to_hold()) {
            self.log_exit.release(logs, out);
        } else {
            self.hold.keep_logs(logs);
        }
    }

    fn release_due(&mut self, now: Instant, out: &mut Vec<Export>) {
        while self.next_deadline().is_some_and(|deadline| deadline <= now)
            && let Some(entry) = self.hold.take_oldest()
        {
            self.release(entry, out);
        }
    }

    fn release_excess(&mut self, out: &mut Vec<Export>) {
        while self.is_excess(self.hold.bytes())
            && let Some(entry) = self.hold.take_oldest()
        {
            self.release(entry, out);
        }
    }

    fn release(&self, entry: Entry, out: &mut Vec<Export>) {
        match entry {
            Entry::Spans(spans) => out.push(spans.into_export()),
            Entry::Logs(logs) => self.log_exit.release(*logs, out),
        }
    }

    fn is_excess(&self, bytes: usize) -> bool {
        bytes as u64 > self.max_held_bytes
    }

    fn count_attached(&self, records: u32) {
        if records > 0 {
            self.telemetry.log_events(LogEventOutcome::Attached, records);
        }
    }

    fn publish(&self) {
        self.telemetry.held_spans.set(gauge(self.held_spans()));
        self.telemetry.held_bytes.set(gauge(self.held_bytes()));
    }
}

fn export_traces(traces: Traces, part: Part) -> Export {
    export(Signal::Traces, traces.into_request(), part)
}

fn export_logs(records: Logs, part: Part) -> Option<Export> {
    let Some(request) = records.into_request(|_| true) else {
        part.close();
        return None;
    };
    Some(export(Signal::Logs, request, part))
}

fn export_metrics(points: Metrics, part: Part) -> Export {
    export(Signal::Metrics, points.into_request(), part)
}

/// A document that leaves as it is.
fn export(signal: Signal, request: ExportRequest, part: Part) -> Export {
    let items = part.items();
    let receipts = Carried::in_order(part.into_receipts(), Settled::Delivered).into_vec();
    Export { signal, request, items, receipts }
}

fn gauge(value: usize) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
