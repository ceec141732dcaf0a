//! Where log records go that wait no longer.
//!
//! In: logs of which every record was attached, names no span, or has waited long enough. Out: at most one request
//! for `/v1/logs` and one for `/v1/traces`.
//! Promises: every record that was not attached is in exactly one request, or is settled as dropped. One that left as a
//! log before a restart does not do so again. The receipts go with the requests, so no record counts before it is
//! delivered.

use super::entry::{Fate, WaitingLogs};
use crate::config::{SpanEventsConfig, Unmatched};
use crate::event::{Settled, Signal};
use crate::exporter::{Carried, Export};
use crate::queue::{Half, Receipt};
use crate::telemetry::metrics::{LogEventOutcome, Metrics};

/// The ways out that are configured.
pub(super) struct LogExit {
    unmatched: Unmatched,
    keep_logs: bool,
    metrics: Metrics,
}

/// How a record leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Log,
    Event,
    Nowhere,
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
        let was_log = |record: usize| part.settled_half(record) == Some(Half::Log);
        let way = |record: usize| match fates.get(record) {
            None | Some(Fate::Log) => Way::Log,
            Some(Fate::Attached) => Way::Event,
            Some(Fate::Waits) => match outcome {
                Some(LogEventOutcome::Forwarded) => Way::Log,
                // An event of a span that stands in for its own is an event like those that were attached.
                Some(LogEventOutcome::Carrier) => Way::Event,
                Some(LogEventOutcome::Attached | LogEventOutcome::Dropped) | None => Way::Nowhere,
            },
        };
        for record in (0..fates.len()).filter(|&record| way(record) == Way::Log && was_log(record)) {
            // Its log decides: it has no span to be an event of.
            part.receipt(record).of_events().settle(Settled::Rejected);
        }
        let leaves_as_log = |record: usize| match way(record) {
            Way::Log => !was_log(record),
            Way::Event => self.keep_logs && !was_log(record),
            Way::Nowhere => false,
        };
        let receipts = part.receipts((0..fates.len()).filter(|&record| leaves_as_log(record)));
        let items = receipts.iter().map(Receipt::items).sum();
        out.extend(document.into_request(leaves_as_log).map(|request| Export {
            signal: Signal::Logs,
            request,
            items,
            receipts: Carried::in_order(receipts, Settled::Delivered).into_vec(),
        }));
        part.close();
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
                    let receipts =
                        logs.part.receipts(records()).into_iter().map(Receipt::of_events).collect();
                    let receipts = Carried::in_order(receipts, Settled::Delivered).into_vec();
                    Export { signal: Signal::Traces, request, items: logs.waiting, receipts }
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
