//! Processing without a server: from bytes through receiver and processor to exports, in one call.

use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;

use super::findings::{Finding, LineOutcome, Outgoing};
use crate::config::{ProcessorsConfig, ServerConfig, SpanEventsConfig};
use crate::processor::{SpanEvents, Work};
use crate::queue::Taken;
use crate::receiver::{Diagnosis, Item, Limits, Reading, Rejected, Source};
use crate::telemetry::Metrics;

/// Result of processing one body.
#[derive(Debug, Default)]
pub(crate) struct Offline {
    pub(crate) findings: Vec<Finding>,
    pub(crate) outgoing: Vec<Outgoing>,
}

/// Reads the body with the receiver's default settings, and attaches the log events to the spans of the same body.
pub(crate) fn relay_offline(source: &Source, body: &Bytes) -> Offline {
    let Some(check) = &source.check else { return Offline::default() };
    let receiver = (check.receiver)(Limits::of(&ServerConfig::default(), &ProcessorsConfig::default()));
    Offline::new(receiver.read(body), |part| receiver.diagnose(part), attach)
}

/// Processes the items as one request with `wait: 0s`.
fn attach(mut items: Vec<Item>) -> Vec<Outgoing> {
    let arrival = now();
    items.iter_mut().for_each(|item| item.set_arrival(arrival));
    let config =
        SpanEventsConfig { wait: Duration::ZERO, max_held_bytes: u64::MAX, ..SpanEventsConfig::default() };
    let nothing_kept = Taken::outside_queue();
    let request = Work::of(&nothing_kept, items);
    let mut exports = Vec::new();
    let mut processor = SpanEvents::new(&config, Metrics::new());
    processor.accept(Instant::now(), request, &mut exports);
    processor.flush(&mut exports);
    exports
        .into_iter()
        .map(|export| Outgoing { signal: export.signal, json: export.request.into_json() })
        .collect()
}

/// Returns the time of arrival of the input.
#[expect(clippy::disallowed_methods, reason = "the input has no time of arrival")]
fn now() -> SystemTime {
    SystemTime::now()
}

// === impl Offline ===

impl Offline {
    pub(super) fn new(
        reading: Reading,
        diagnose: impl Fn(&Rejected) -> Option<Diagnosis>,
        attach: impl FnOnce(Vec<Item>) -> Vec<Outgoing>,
    ) -> Self {
        let Reading { mut items, rejected, ignored, .. } = reading;
        let accepted = items.iter_mut().map(|item| {
            let repairs = std::mem::take(&mut item.repairs);
            let outcome =
                if repairs.is_empty() { LineOutcome::Accepted } else { LineOutcome::Repaired(repairs) };
            Finding { line: item.line, outcome }
        });
        let rejected = rejected.into_iter().map(|part| Finding {
            line: part.line,
            outcome: LineOutcome::Rejected {
                scope: part.scope,
                column: part.column,
                diagnosis: diagnose(&part),
                reason: part.reason,
            },
        });
        let ignored = ignored.map(|why| Finding { line: 1, outcome: LineOutcome::Ignored(why) });
        let findings = accepted.chain(rejected).chain(ignored).collect();
        Self { findings, outgoing: attach(items) }
    }
}
