//! Where log records go that wait no longer.
//!
//! In: logs of which every record was attached, names no span, or has waited long enough. Out: at most one request
//! for `/v1/logs` and one for `/v1/traces`.
//! Promises: every record that was not attached is in exactly one request, or is settled as dropped. The receipt
//! goes with the requests, so no record counts before it is delivered.

use super::entry::{Fate, WaitingLogs};
use crate::config::{SpanEventsConfig, Unmatched};
use crate::exporter::Export;
use crate::otlp::Signal;
use crate::queue::{Receipt, Settled};
use crate::telemetry::metrics::{LogEventOutcome, Metrics};

/// The ways out that are configured.
pub(super) struct LogExit {
    unmatched: Unmatched,
    keep_logs: bool,
    metrics: Metrics,
}

// === impl LogExit ===

impl LogExit {
    pub(super) fn new(config: &SpanEventsConfig, metrics: Metrics) -> Self {
        Self { unmatched: config.unmatched, keep_logs: config.keep_logs, metrics }
    }

    /// Sends what is left of the logs on their way.
    pub(super) fn release(&self, mut logs: WaitingLogs, out: &mut Vec<Export>) {
        let outcome = self.settle_unmatched(&mut logs, out);
        let WaitingLogs { logs: document, fates, receipt, .. } = logs;
        let leaves_as_log = |record: usize| match fates.get(record) {
            None | Some(Fate::NamesNoSpan) => true,
            Some(Fate::Attached) => self.keep_logs,
            Some(Fate::Waits) => match outcome {
                Some(LogEventOutcome::Forwarded) => true,
                // An event of a span that stands in for its own is an event like those that were attached.
                Some(LogEventOutcome::Carrier) => self.keep_logs,
                Some(LogEventOutcome::Attached | LogEventOutcome::Dropped) | None => false,
            },
        };
        let items = (0..fates.len()).filter(|&record| leaves_as_log(record)).count();
        match document.into_request(leaves_as_log) {
            // With `keep_logs` the receipt may be one of no items: each record counts once, with its span, but is
            // not done before its log has been delivered too.
            Some(request) => out.push(Export {
                signal: Signal::Logs,
                request,
                items: u32::try_from(items).unwrap_or(u32::MAX),
                receipts: vec![(receipt, Settled::Delivered)],
            }),
            None => settle_nothing(receipt),
        }
    }

    /// Decides about the records whose span did not come, if there are any.
    fn settle_unmatched(&self, logs: &mut WaitingLogs, out: &mut Vec<Export>) -> Option<LogEventOutcome> {
        if logs.waiting == 0 {
            return None;
        }
        let outcome = match self.unmatched {
            Unmatched::ForwardLog => LogEventOutcome::Forwarded,
            Unmatched::CarrierSpan => {
                let unmatched = |record: usize| logs.fates.get(record) == Some(&Fate::Waits);
                let carriers = logs.logs.carrier_spans(unmatched);
                let outcome =
                    if carriers.is_some() { LogEventOutcome::Carrier } else { LogEventOutcome::Forwarded };
                out.extend(carriers.map(|request| Export {
                    signal: Signal::Traces,
                    request,
                    items: logs.waiting,
                    receipts: vec![(logs.receipt.split_off(logs.waiting), Settled::Delivered)],
                }));
                outcome
            }
            Unmatched::Drop => {
                logs.receipt.split_off(logs.waiting).settle(Settled::Dropped);
                LogEventOutcome::Dropped
            }
        };
        self.metrics.log_events(outcome, logs.waiting);
        Some(outcome)
    }
}

/// Closes a receipt on which no item is left: all of them have gone elsewhere.
pub(super) fn settle_nothing(receipt: Receipt) {
    debug_assert_eq!(receipt.items(), 0, "items without a request");
    receipt.settle(Settled::Dropped);
}
