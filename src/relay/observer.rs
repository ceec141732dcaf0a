//! Observer of one request: it passes the outcome to metrics, log, inspector and self-tracing, once, at the end, on every
//! path.
//!
//! In: a body and its reading, before anything is done with it; then the [`Answer`]. Out: counts, log lines, one report and the
//! attributes of the request's span.
//! Promises: every unit and every item is counted on every path; nothing is copied when the inspector is not in use.

mod report;

use tracing::{debug, warn};

pub(super) use self::report::{RequestReport, counts, observe_declined};
use super::{Answer, Arrival, LimitedCause, Relay};
use crate::event::{RecordId, RequestOutcome, Signal, Transport, UnitOutcome, WebhookEvent};
use crate::receiver::{Ignored, Reading, Receiver, Rejected};
use crate::telemetry::Metrics;
use crate::telemetry::inspect::view::Counts;
use crate::telemetry::line_limit::Suppressed;
use crate::telemetry::traces::OwnSpan;

/// Observer of one request.
pub(super) struct RequestObserver<'a> {
    metrics: &'a Metrics,
    /// Admits a log line of a cause, within the limits of the request's receiver.
    admit_line: Box<dyn Fn(LimitedCause) -> Option<Suppressed> + Send + Sync + 'a>,
    receiver: &'a dyn Receiver,
    transport: Transport,
    span: OwnSpan,
    size_bytes: usize,
    /// `Some` for a webhook, which is counted as such; everything else is counted in units.
    event: Option<WebhookEvent>,
    counts: Counts,
    /// The items are counted already, because the queue accepted some of them only.
    items_are_counted: bool,
    report: Option<RequestReport<'a>>,
}

// === impl RequestObserver ===

impl<'a> RequestObserver<'a> {
    /// Begins with what was read. `size_bytes` is the size of the body as it was read.
    pub(super) fn begin(
        relay: &'a Relay,
        receiver: &'a dyn Receiver,
        arrival: &Arrival,
        reading: &Reading,
        size_bytes: usize,
    ) -> Self {
        let index = arrival.index;
        let shown = (&arrival.body.bytes, size_bytes);
        arrival.span.text("spanrelay.receiver", receiver.id());
        arrival.span.number("spanrelay.lines.rejected", Rejected::units(&reading.rejected));
        Self {
            metrics: &relay.metrics,
            admit_line: Box::new(move |cause| relay.limits.admit(Some(index), cause)),
            receiver,
            transport: arrival.transport,
            span: arrival.span.clone(),
            size_bytes,
            event: reading.event,
            counts: counts(reading),
            items_are_counted: false,
            report: RequestReport::begin(&relay.metrics.inspector, receiver, shown, reading),
        }
    }

    /// Notes what is left of the reading after the queue rejected units.
    #[cfg(feature = "kafka")]
    pub(super) fn reread(&mut self, reading: &Reading) {
        self.counts = counts(reading);
    }

    /// Counts items of a request of which the queue accepted a part only, so that it is refused as a whole.
    #[cfg(feature = "kafka")]
    pub(super) fn queued_in_part(&mut self, items: impl Iterator<Item = (Signal, u32, bool)>) {
        self.items_are_counted = true;
        for (signal, count, is_accepted) in items {
            match is_accepted {
                true => self.metrics.accepted(self.origin(), signal, count),
                false => self.metrics.refused(self.origin(), signal, count),
            }
        }
    }

    /// Notes the number of the record in the queue, where there is one.
    pub(super) fn queued(&mut self, record: Option<RecordId>) {
        if let Some(report) = &mut self.report {
            report.queued(record);
        }
    }

    /// Ends with the result of the request.
    pub(super) fn finish(self, answer: &Answer) {
        let outcome = answer.outcome();
        match (outcome, answer) {
            (RequestOutcome::Accepted | RequestOutcome::Partial, _) if self.accepted_units() > 0 => {
                self.accepted(answer.rejected());
            }
            (RequestOutcome::Partial | RequestOutcome::Rejected, _) => self.rejected(answer.rejected()),
            // Its units are not counted, because the sender retries.
            (RequestOutcome::Refused, _) if !self.items_are_counted => {
                self.each_signal(|signal, count| self.metrics.refused(self.origin(), signal, count));
            }
            (_, Answer::Ignored(reason)) => self.log_ignored(*reason),
            _ => {}
        }
        if let Some(event) = self.event {
            // A webhook is one unit: its parts do not count.
            let outcome = if outcome == RequestOutcome::Partial { RequestOutcome::Accepted } else { outcome };
            self.metrics.webhook(event, outcome);
        }
        if let Some(report) = self.report {
            report.finish(self.counts, answer);
        }
    }

    /// Returns the labels of its items.
    fn origin(&self) -> [&str; 2] {
        [self.receiver.id(), self.transport.as_str()]
    }

    fn accepted_units(&self) -> u64 {
        self.counts.accepted + self.counts.repaired
    }

    /// Counts a request that the queue accepted.
    fn accepted(&self, rejected: &[Rejected]) {
        self.span.number("spanrelay.lines.accepted", self.accepted_units());
        self.each_signal(|signal, count| self.metrics.accepted(self.origin(), signal, count));
        // Spans that were rejected from units that were otherwise accepted.
        let items = Rejected::items(rejected);
        if items > 0 {
            let items = u32::try_from(items).unwrap_or(u32::MAX);
            self.metrics.refused(self.origin(), Signal::Traces, items);
        }
        let Counts { spans, log_records, metric_points, .. } = self.counts;
        let (receiver, lines, size_bytes) = (self.receiver.id(), self.accepted_units(), self.size_bytes);
        let count = count(rejected);
        debug!(receiver, lines, spans, log_records, metric_points, rejected = count, size_bytes, "accepted");
        self.rejected(rejected);
    }

    /// Counts the units of a body that was read to its end, and logs the first rejected one.
    fn rejected(&self, rejected: &[Rejected]) {
        if self.event.is_none() {
            let units = [self.counts.accepted, self.counts.repaired, Rejected::units(rejected) as u64];
            for (outcome, count) in UnitOutcome::ALL.into_iter().zip(units) {
                self.metrics.lines(self.receiver.id(), outcome, count);
            }
        }
        if let Some(first) = rejected.first() {
            self.log_rejected(first, count(rejected));
        }
    }

    fn each_signal(&self, count: impl Fn(Signal, u32)) {
        let Counts { spans, log_records, metric_points, .. } = self.counts;
        for (signal, items) in Signal::ALL.into_iter().zip([spans, log_records, metric_points]) {
            if items > 0 {
                count(signal, u32::try_from(items).unwrap_or(u32::MAX));
            }
        }
    }

    fn log_ignored(&self, ignored: Ignored) {
        let (receiver, reason) = (self.receiver.id(), ignored.as_str());
        if ignored.is_routine {
            debug!(receiver, reason, "webhook ignored");
            return;
        }
        match (self.admit_line)(LimitedCause::IgnoredWebhook) {
            Some(suppressed) => warn!(receiver, reason, suppressed = suppressed.shown(), "webhook ignored"),
            None => debug!(receiver, reason, "webhook ignored"),
        }
    }

    /// Logs the first rejected line: a batch of ten thousand bad lines is one line in the log.
    fn log_rejected(&self, first: &Rejected, rejected: usize) {
        let receiver = self.receiver.id();
        let Rejected { line: first_line, column: first_column, reason, .. } = first;
        let remedy = first.diagnose(self.receiver).map(|diagnosis| diagnosis.advice);
        match (self.admit_line)(LimitedCause::RejectedInput) {
            Some(suppressed) => {
                let suppressed = suppressed.shown();
                warn!(
                    receiver,
                    size_bytes = self.size_bytes,
                    rejected,
                    first_line,
                    first_column,
                    reason,
                    remedy,
                    suppressed,
                    "rejected input lines"
                );
            }
            None => {
                let size_bytes = self.size_bytes;
                debug!(
                    receiver,
                    size_bytes, rejected, first_line, first_column, reason, remedy, "rejected input lines"
                );
            }
        }
    }
}

/// Returns the number of units, items and sections that some rejections stand for.
fn count(rejected: &[Rejected]) -> usize {
    rejected.iter().map(|rejected| rejected.scope.count()).sum()
}
