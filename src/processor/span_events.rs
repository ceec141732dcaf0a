//! Conversion of log events to events of the spans that they belong to.
//!
//! In: the lines of one accepted request at a time, and the current time. Out: [`Export`]s, with the receipts of
//! everything in them.
//!
//! Promises:
//! - A line with spans is exported as one request, `wait` after it arrived; nothing that arrives later extends that.
//!   Lines are exported in the order of their arrival. Metrics are exported at once, and so is every line whose
//!   [`Passage`] is straight: it takes no part in matching.
//! - A log record that names a span becomes an event of the oldest held span with the same trace id and span id, or
//!   else of the first such span that arrives while the record itself is held, also for `wait`. It is exported once and
//!   never lost: a record whose span did not arrive is treated as `unmatched` says.
//! - Held data takes at most `max_held_bytes` after each call. Above that, the oldest lines are exported at once, with
//!   the events that they have. A line that alone exceeds the limit is exported after it was matched with the rest of
//!   its request, instead of evicting everything else.
//! - The cost of a span or a record does not depend on how many are held, or on how often its ids are repeated.
//!
//! Left to others: the form of an event ([`Logs::event`]), and calling [`SpanEvents::expire`] in time. The module reads
//! no clock: the caller passes the time.

mod log_exit;

mod hold;

mod entry;

mod index;

mod arrivals;

mod steps;

use std::time::{Duration, Instant};

use self::arrivals::Position;
use self::entry::{HeldEntry, HeldLogs, HeldSpans};
use self::hold::Hold;
use self::log_exit::LogExit;
use super::Work;
use crate::config::SpanEventsConfig;
use crate::event::{LogEventOutcome, Settled, Signal};
use crate::exporter::{Carried, Export};
use crate::otlp::{ExportRequest, Logs, Metrics, Traces};
use crate::queue::Part;
use crate::receiver::Passage;
use crate::telemetry::Metrics as Telemetry;

/// Longest effective `wait`, because an [`Instant`] cannot be arbitrarily far in the future.
const LONGEST_WAIT: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Attaches log events to their spans.
pub(crate) struct SpanEvents {
    wait: Duration,
    max_held_bytes: u64,
    keep_logs: bool,
    hold: Hold,
    log_exit: LogExit,
    /// Spans and bytes of it in the metrics.
    published: (i64, i64),
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
            published: (0, 0),
            telemetry,
        }
    }

    /// Accepts the lines of one request, in its order. Adds the exports that are ready to `out`.
    pub(crate) fn accept(&mut self, now: Instant, request: Vec<Work>, out: &mut Vec<Export>) {
        // Spans that are due must not be matched, even if this call is late.
        self.release_due(now, out);
        let deadline = now + self.wait;
        let mut oversized = Vec::new();
        let mut logs = Vec::new();
        // All spans first, so that no record waits for a span of its own request.
        for work in request {
            out.extend(work.metrics.map(|(points, part)| export_metrics(points, part)));
            if work.passage == Passage::Straight {
                out.extend(work.traces.map(|(traces, part)| export_traces(traces, part)));
                out.extend(work.logs.and_then(|(records, part)| export_logs(records, part)));
                out.extend(
                    work.protobuf.map(|(request, part)| export(request.signal(), request.into(), part)),
                );
                continue;
            }
            match work.traces {
                Some((traces, part)) if traces.span_count() == 0 => part.close(),
                Some((traces, part)) => {
                    let spans = HeldSpans::new(traces, part);
                    oversized.extend(self.accept_spans(spans, deadline, out));
                }
                None => {}
            }
            logs.extend(work.logs);
        }
        for (records, part) in logs {
            let mut logs = HeldLogs::new(records, part);
            logs.keep_logs = self.keep_logs;
            self.accept_logs(logs, deadline, out);
        }
        // With a `wait` of zero, everything is released here.
        self.release_due(now, out);
        for position in oversized {
            if let Some(spans) = self.hold.take(position) {
                self.release(spans, out);
            }
        }
        self.release_excess(out);
        self.publish();
    }

    /// Releases everything whose deadline has passed.
    pub(crate) fn expire(&mut self, now: Instant, out: &mut Vec<Export>) {
        self.release_due(now, out);
        self.publish();
    }

    /// Releases everything.
    pub(crate) fn flush(&mut self, out: &mut Vec<Export>) {
        while let Some(entry) = self.hold.take_oldest() {
            self.release(entry, out);
        }
        self.publish();
    }

    /// Lets go of the oldest. Returns `false` if nothing is held.
    #[cfg(feature = "kafka")]
    pub(crate) fn release_oldest(&mut self, out: &mut Vec<Export>) -> bool {
        let Some(entry) = self.hold.take_oldest() else { return false };
        self.release(entry, out);
        self.publish();
        true
    }

    /// Returns the next time at which [`expire`](Self::expire) has something to do.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.hold.oldest_deadline()
    }

    /// Returns the number of spans that are held for their log events.
    pub(crate) fn held_spans(&self) -> usize {
        self.hold.span_count()
    }

    /// Returns the memory that held spans and log records take, in bytes.
    pub(crate) fn held_bytes(&self) -> usize {
        self.hold.bytes()
    }

    /// Holds spans, and returns their position when they must not stay held after their request.
    fn accept_spans(
        &mut self,
        spans: HeldSpans,
        deadline: Instant,
        out: &mut Vec<Export>,
    ) -> Option<Position> {
        let oversized = self.is_excess(spans.bytes_to_hold());
        let met = self.hold.keep_spans(spans, deadline);
        self.count_attached(met.attached);
        for logs in met.decided {
            self.log_exit.release(logs, out);
        }
        oversized.then_some(met.position)
    }

    fn accept_logs(&mut self, mut logs: HeldLogs, deadline: Instant, out: &mut Vec<Export>) {
        let attached = self.hold.attach(&mut logs);
        self.count_attached(attached);
        // All spans of the request are held already, so that logs too large to be held are already matched with them.
        if logs.is_decided() || self.is_excess(logs.bytes_to_hold()) {
            self.log_exit.release(logs, out);
        } else {
            self.hold.keep_logs(logs, deadline);
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

    fn release(&self, entry: HeldEntry, out: &mut Vec<Export>) {
        match entry {
            HeldEntry::Spans(spans) => out.push(spans.into_export()),
            HeldEntry::Logs(logs) => self.log_exit.release(*logs, out),
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

    /// Adds what has changed to the metrics, which may count others too.
    fn publish(&mut self) {
        self.publish_as(gauge(self.held_spans()), gauge(self.held_bytes()));
    }

    fn publish_as(&mut self, spans: i64, bytes: i64) {
        let (known_spans, known_bytes) = std::mem::replace(&mut self.published, (spans, bytes));
        self.telemetry.held_spans.add(spans - known_spans);
        self.telemetry.held_bytes.add(bytes - known_bytes);
    }
}

impl Drop for SpanEvents {
    fn drop(&mut self) {
        self.publish_as(0, 0);
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

/// Exports a document unchanged.
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
