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
use self::log_exit::{LogExit, settle_nothing};
use crate::config::SpanEventsConfig;
use crate::exporter::Export;
use crate::otlp::{Logs, Metrics, Signal, Traces};
use crate::queue::{Receipt, Settled, Taken};
use crate::receiver::{Item, Passage};
use crate::telemetry::metrics::{LogEventOutcome, Metrics as Telemetry};

/// A longer `wait` is as good as this one, and an [`Instant`] cannot be any distance away.
const LONGEST_WAIT: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// One accepted line, each of its documents with a receipt for exactly the items in it: spans, log records or
/// metric points.
#[derive(Debug, Default)]
pub(crate) struct Work {
    pub(crate) traces: Option<(Traces, Receipt)>,
    pub(crate) logs: Option<(Logs, Receipt)>,
    pub(crate) metrics: Option<(Metrics, Receipt)>,
    pub(crate) passage: Passage,
}

/// Puts log events onto their spans.
pub(crate) struct SpanEvents {
    wait: Duration,
    max_held_bytes: u64,
    hold: Hold,
    log_exit: LogExit,
    telemetry: Telemetry,
}

// === impl Work ===

impl Work {
    /// An item of a record, each of its documents with its receipt.
    pub(crate) fn new(item: Item, record: &Taken) -> Self {
        let receipt = |signal, items| record.receipt(signal, items);
        Self {
            traces: item.traces.map(|traces| {
                let receipt = receipt(Signal::Traces, traces.span_count());
                (traces, receipt)
            }),
            logs: item.logs.map(|logs| {
                let receipt = receipt(Signal::Logs, logs.record_count());
                (logs, receipt)
            }),
            metrics: item.metrics.map(|metrics| {
                let receipt = receipt(Signal::Metrics, metrics.point_count());
                (metrics, receipt)
            }),
            passage: item.passage,
        }
    }
}

// === impl SpanEvents ===

impl SpanEvents {
    pub(crate) fn new(config: &SpanEventsConfig, telemetry: Telemetry) -> Self {
        Self {
            wait: config.wait.min(LONGEST_WAIT),
            max_held_bytes: config.max_held_bytes,
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
            out.extend(work.metrics.map(|(points, receipt)| export_metrics(points, receipt)));
            if work.passage == Passage::Straight {
                out.extend(work.traces.map(|(traces, receipt)| export_traces(traces, receipt)));
                out.extend(work.logs.and_then(|(records, receipt)| export_logs(records, receipt)));
                continue;
            }
            match work.traces {
                Some((traces, receipt)) if traces.span_count() == 0 => settle_nothing(receipt),
                Some((traces, receipt)) => {
                    let spans = WaitingSpans::new(traces, receipt, deadline);
                    oversized.extend(self.accept_spans(spans, out));
                }
                None => {}
            }
            logs.extend(work.logs);
        }
        for (records, receipt) in logs {
            self.accept_logs(WaitingLogs::new(records, receipt, deadline), out);
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

fn export_traces(traces: Traces, receipt: Receipt) -> Export {
    let items = traces.span_count();
    Export {
        signal: Signal::Traces,
        request: traces.into_request(),
        items,
        receipts: vec![(receipt, Settled::Delivered)],
    }
}

fn export_logs(records: Logs, receipt: Receipt) -> Option<Export> {
    let items = records.record_count();
    let Some(request) = records.into_request(|_| true) else {
        settle_nothing(receipt);
        return None;
    };
    Some(Export { signal: Signal::Logs, request, items, receipts: vec![(receipt, Settled::Delivered)] })
}

fn export_metrics(points: Metrics, receipt: Receipt) -> Export {
    let items = points.point_count();
    Export {
        signal: Signal::Metrics,
        request: points.into_request(),
        items,
        receipts: vec![(receipt, Settled::Delivered)],
    }
}

fn gauge(value: usize) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
