//! Export of log records that are no longer held.
//!
//! In: logs of which every record was attached, names no span, or was held long enough. Out: at most one request for
//! `/v1/logs` and one for `/v1/traces`.
//! Promises: every record that was not attached is in exactly one request, or is settled as dropped. A record that was
//! exported as a log before a restart is not exported as a log again. The receipts are part of the requests, so that no
//! record is settled before it is delivered.

use super::entry::{HeldLogs, RecordState};
use crate::config::{SpanEventsConfig, Unmatched};
use crate::event::{LogEventOutcome, Settled, Signal};
use crate::exporter::{Carried, Export};
use crate::queue::{Half, Receipt};
use crate::telemetry::Metrics;

/// The configured rules for exporting log records.
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

    /// Exports the rest of the logs.
    pub(super) fn release(&self, logs: HeldLogs, out: &mut Vec<Export>) {
        let unmatched = self.settle_unmatched(&logs, out);
        let HeldLogs { logs: document, states, part, .. } = logs;
        let was_log = |record: usize| part.settled_half(record) == Some(Half::Log);
        let outcome_of = |record: usize| match states.get(record) {
            None | Some(RecordState::Log) => Some(LogEventOutcome::Forwarded),
            Some(RecordState::Attached) => Some(LogEventOutcome::Attached),
            Some(RecordState::Pending) => unmatched,
        };
        let is_log_again =
            |&record: &usize| outcome_of(record) == Some(LogEventOutcome::Forwarded) && was_log(record);
        for record in (0..states.len()).filter(is_log_again) {
            // The log decides the outcome: the record has no span to be an event of.
            part.receipt(record).of_events().settle(Settled::Rejected);
        }
        let exports_log = |record: usize| match outcome_of(record) {
            Some(LogEventOutcome::Forwarded) => !was_log(record),
            // A carrier span stands in for the record's own span, so that its event is treated like an attached one.
            Some(LogEventOutcome::Attached | LogEventOutcome::Carrier) => self.keep_logs && !was_log(record),
            Some(LogEventOutcome::Dropped) | None => false,
        };
        let receipts = part.receipts((0..states.len()).filter(|&record| exports_log(record)));
        let items = receipts.iter().map(Receipt::items).sum();
        out.extend(document.into_request(exports_log).map(|request| Export {
            signal: Signal::Logs,
            request,
            items,
            receipts: Carried::in_order(receipts, Settled::Delivered).into_vec(),
        }));
        part.close();
    }

    /// Handles the records whose span did not arrive, if there are any, and returns their outcome.
    fn settle_unmatched(&self, logs: &HeldLogs, out: &mut Vec<Export>) -> Option<LogEventOutcome> {
        if logs.pending == 0 {
            return None;
        }
        let unmatched = |record: usize| logs.states.get(record) == Some(&RecordState::Pending);
        let records = || (0..logs.states.len()).filter(|&record| unmatched(record));
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
                    let receipts =
                        logs.part.receipts(records()).into_iter().map(Receipt::of_events).collect();
                    let receipts = Carried::in_order(receipts, Settled::Delivered).into_vec();
                    Export { signal: Signal::Traces, request, items: logs.pending, receipts }
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
        self.metrics.log_events(outcome, logs.pending);
        Some(outcome)
    }
}
