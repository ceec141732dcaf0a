//! Where log records go that wait no longer.
//!
//! In: logs of which every record was attached, names no span, or has waited long enough. Out: at most one request
//! for `/v1/logs` and one for `/v1/traces`.
//! Promises: every record that was not attached is in exactly one request, or is settled as dropped. The receipts
//! go with the requests, so no record counts before it is delivered.

use super::entry::{Fate, WaitingLogs};
use crate::config::{SpanEventsConfig, Unmatched};
use crate::exporter::{Carried, Export};
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
    pub(super) fn release(&self, logs: WaitingLogs, out: &mut Vec<Export>) {
        let outcome = self.settle_unmatched(&logs, out);
        let WaitingLogs { logs: document, fates, part, .. } = logs;
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
        let receipts = part.receipts((0..fates.len()).filter(|&record| leaves_as_log(record)));
        let items = receipts.iter().map(Receipt::items).sum();
        part.close();
        out.extend(document.into_request(leaves_as_log).map(|request| Export {
            signal: Signal::Logs,
            request,
            items,
            receipts: Carried::in_order(receipts, Settled::Delivered).into_vec(),
        }));
    }

    /// Decides about the records whose span did not come, if there are any.
    fn settle_unmatched(&self, logs: &WaitingLogs, out: &mut Vec<Export>) -> Option<LogEventOutcome> {
        if logs.waiting == 0 {
            return None;
        }
        let unmatched = |record: usize| logs.fates.get(record) == Some(&Fate::Waits);
        let records = || (0..logs.fates.len()).filter(|&record| unmatched(record));
        let outcome = match self.unmatched {
            Unmatched::ForwardLog => LogEventOutcome::Forwarded,
            Unmatched::CarrierSpan => {
                let carriers = logs.logs.carrier_spans(unmatched);
                let outcome =
                    if carriers.is_some() { LogEventOutcome::Carrier } else { LogEventOutcome::Forwarded };
                out.extend(carriers.map(|request| {
                    if self.keep_logs {
                        records().for_each(|record| logs.part.share(record));
                    }
                    let receipts = Carried::in_order(logs.part.receipts(records()), Settled::Delivered);
                    Export {
                        signal: Signal::Traces,
                        request,
                        items: logs.waiting,
                        receipts: receipts.into_vec(),
                    }
                }));
                outcome
            }
            Unmatched::Drop => {
                for receipt in logs.part.receipts(records()) {
                    receipt.settle(Settled::Dropped);
                }
                LogEventOutcome::Dropped
            }
        };
        self.metrics.log_events(outcome, logs.waiting);
        Some(outcome)
    }
}
