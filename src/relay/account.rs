//! Metrics and log lines of a request: once, at its end, on every path.

use tracing::{debug, warn};

use super::Cause;
use crate::event::{Signal, WebhookEvent};
use crate::receiver::{Ignored, Item, Reading, Receiver, Rejected};
use crate::telemetry::Metrics;
use crate::telemetry::line_limit::Suppressed;
use crate::telemetry::metrics::{LineOutcome, WebhookOutcome};

/// Callback that admits a log line of this cause, within the limits of the request's receiver.
pub(super) type AdmitLine<'a> = &'a (dyn Fn(Cause) -> Option<Suppressed> + Sync + 'a);

/// Account of one request.
pub(super) struct Account<'a> {
    metrics: &'a Metrics,
    admit_line: AdmitLine<'a>,
    source: &'a dyn Receiver,
    pub(super) receiver: &'a str,
    size_bytes: usize,
    /// `Some` for a webhook, which is counted as such; everything else is counted in lines.
    event: Option<WebhookEvent>,
}

/// Number of items of each signal.
#[derive(Debug, Default, Clone, Copy)]
struct Items {
    spans: u32,
    log_records: u32,
    metric_points: u32,
}

// === impl Account ===

impl<'a> Account<'a> {
    pub(super) fn new(
        metrics: &'a Metrics,
        admit_line: AdmitLine<'a>,
        source: &'a dyn Receiver,
        reading: &Reading,
        size_bytes: usize,
    ) -> Self {
        Self { metrics, admit_line, source, receiver: source.id(), size_bytes, event: reading.event }
    }

    pub(super) fn webhook(&self, outcome: WebhookOutcome) {
        if let Some(event) = self.event {
            self.metrics.webhook(event, outcome);
        }
    }

    /// Counts a request of which nothing was usable.
    pub(super) fn rejected(&self, rejected: &[Rejected]) {
        if let Some(first) = rejected.first() {
            self.webhook(WebhookOutcome::Rejected);
            self.lines(&[], rejected);
            self.log_rejected(first, count(rejected));
        }
    }

    /// Counts a request that the queue rejected. Its lines are not counted, because the sender retries.
    pub(super) fn refused(&self, items: &[Item]) {
        Items::of(items).each(|signal, count| self.metrics.refused(self.receiver, signal, count));
    }

    /// Counts a request that the queue accepted.
    pub(super) fn accepted(&self, reading: &Reading) {
        let items = Items::of(&reading.items);
        items.each(|signal, count| self.metrics.accepted(self.receiver, signal, count));
        self.refused_items(reading);
        self.webhook(WebhookOutcome::Accepted);
        self.lines(&reading.items, &reading.rejected);
        let (lines, rejected) = (reading.items.len(), count(&reading.rejected));
        let Items { spans, log_records, metric_points } = items;
        let (receiver, size_bytes) = (self.receiver, self.size_bytes);
        debug!(receiver, lines, spans, log_records, metric_points, rejected, size_bytes, "accepted");
        if let Some(first) = reading.rejected.first() {
            self.log_rejected(first, rejected);
        }
    }

    /// Counts spans that were rejected from units that were otherwise accepted.
    fn refused_items(&self, reading: &Reading) {
        let partial = Rejected::items(&reading.rejected);
        if partial > 0 {
            let partial = u32::try_from(partial).unwrap_or(u32::MAX);
            self.metrics.refused(self.receiver, Signal::Traces, partial);
        }
    }

    pub(super) fn log_ignored(&self, ignored: Ignored) {
        let (receiver, reason) = (self.receiver, ignored.as_str());
        if ignored.is_routine {
            debug!(receiver, reason, "webhook ignored");
            return;
        }
        match (self.admit_line)(Cause::IgnoredWebhook) {
            Some(suppressed) => warn!(receiver, reason, suppressed = suppressed.shown(), "webhook ignored"),
            None => debug!(receiver, reason, "webhook ignored"),
        }
    }

    fn lines(&self, items: &[Item], rejected: &[Rejected]) {
        if self.event.is_some() {
            return;
        }
        let repaired = items.iter().filter(|item| !item.repairs.is_empty()).count();
        self.metrics.lines(self.receiver, LineOutcome::Accepted, items.len() - repaired);
        self.metrics.lines(self.receiver, LineOutcome::Repaired, repaired);
        self.metrics.lines(self.receiver, LineOutcome::Rejected, Rejected::units(rejected));
    }

    /// Logs the first rejected line: a batch of ten thousand bad lines is one line in the log.
    fn log_rejected(&self, first: &Rejected, rejected: usize) {
        let receiver = self.receiver;
        let Rejected { line: first_line, column: first_column, reason, .. } = first;
        let remedy = self.source.diagnose(first).map(|diagnosis| diagnosis.advice);
        match (self.admit_line)(Cause::RejectedInput) {
            Some(suppressed) => {
                let suppressed = suppressed.shown();
                warn!(
                    receiver,
                    rejected, first_line, first_column, reason, remedy, suppressed, "rejected input lines"
                );
            }
            None => {
                debug!(receiver, rejected, first_line, first_column, reason, remedy, "rejected input lines");
            }
        }
    }
}

/// Returns the number of units, items and sections that some rejections stand for.
fn count(rejected: &[Rejected]) -> usize {
    rejected.iter().map(|rejected| rejected.scope.count()).sum()
}

/// Counts items of a record that an earlier process accepted and this process exports.
pub(super) fn recovered(metrics: &Metrics, items: impl Iterator<Item = (Signal, u32)>) {
    items.for_each(|(signal, count)| metrics.recovered(signal, count));
}

// === impl Items ===

impl Items {
    fn of(items: &[Item]) -> Self {
        items.iter().fold(Self::default(), |sum, item| Self {
            spans: sum.spans + item.counts()[Signal::Traces as usize],
            log_records: sum.log_records + item.counts()[Signal::Logs as usize],
            metric_points: sum.metric_points + item.counts()[Signal::Metrics as usize],
        })
    }

    fn each(self, count: impl Fn(Signal, u32)) {
        for (signal, items) in [
            (Signal::Traces, self.spans),
            (Signal::Logs, self.log_records),
            (Signal::Metrics, self.metric_points),
        ] {
            if items > 0 {
                count(signal, items);
            }
        }
    }
}
