//! Observer of one export attempt: metrics, log, inspector and self-tracing get its result here, once, at its end.
//!
//! In: the beginning of an attempt, what is known of its response, and its [`Outcome`]. Out: counts, log lines, a span and an
//! entry of the inspector. Promises: an attempt that is dropped, because the process is stopping, is counted nowhere, and its span
//! ends. Leaves to others: a destination that is at fault ([`destination`](super::super::destination)), whose log lines and gauge
//! follow its state; the end of an export ([`observe`](super::super::observe)).

use std::time::Duration;

use http::StatusCode;
use tokio::time::Instant;

use super::super::batch::Batch;
use super::super::outage::Outage;
use super::super::outcome::Outcome;
use super::super::response::PartialSuccess;
use crate::event::{ExportOutcome, Signal};
use crate::telemetry::Metrics;
use crate::telemetry::inspect::ExportWatch;
use crate::telemetry::inspect::view::{AttemptView, ExportState};
use crate::telemetry::traces::{Attempts, OwnSpan};

/// Observer of one export and its attempts. Clones observe the same export.
#[derive(Debug, Clone)]
pub(in crate::exporter) struct ExportObserver {
    watch: ExportWatch,
    attempts: Attempts,
}

/// Observer of the attempts of one signal.
pub(in crate::exporter) struct SignalObserver {
    signal: Signal,
    /// Host and port.
    endpoint: String,
    outage: Outage,
    metrics: Metrics,
}

/// Observer of one attempt.
pub(super) struct AttemptObserver<'a> {
    signal: &'a SignalObserver,
    watch: &'a ExportWatch,
    span: OwnSpan,
    began: Instant,
}

// === impl ExportObserver ===

impl ExportObserver {
    pub(in crate::exporter) fn begin(metrics: &Metrics, batch: &Batch) -> Self {
        Self {
            watch: metrics.inspector.sending(|| batch.identities()),
            attempts: metrics.traces.export(|| batch.causes()),
        }
    }

    /// Ends with the state in which the inspector shows the export from now on.
    pub(in crate::exporter) fn finish(&self, state: ExportState) {
        self.watch.ended(state);
    }
}

// === impl SignalObserver ===

impl SignalObserver {
    /// Creates the observer. `endpoint` is host and port.
    pub(in crate::exporter) fn new(signal: Signal, endpoint: String, metrics: Metrics) -> Self {
        let outage = Outage::new(signal, endpoint.clone(), metrics.flow.clone());
        Self { signal, endpoint, outage, metrics }
    }

    /// Reports whether the last attempt that says something about an outage failed.
    pub(super) fn is_failing(&self) -> bool {
        self.outage.is_failing()
    }

    /// Begins an attempt to send a body of this size.
    pub(super) fn begin<'a>(&'a self, export: &'a ExportObserver, size_bytes: usize) -> AttemptObserver<'a> {
        let span = self.span(&export.attempts, size_bytes);
        AttemptObserver { signal: self, watch: &export.watch, span, began: Instant::now() }
    }

    /// Begins the span of an attempt. It omits the path of the endpoint, which may be a vendor's secret.
    fn span(&self, attempts: &Attempts, size_bytes: usize) -> OwnSpan {
        let (span, earlier) = attempts.begin(|| format!("export {}", self.signal));
        if span.is_recorded() {
            let (host, port) = self.endpoint.rsplit_once(':').unwrap_or((&self.endpoint, ""));
            span.text("http.request.method", "POST");
            span.text("server.address", host);
            span.number("server.port", port.parse::<u16>().unwrap_or_default());
            span.number("http.request.body.size", size_bytes);
            span.text("spanrelay.signal", self.signal.as_str());
            if earlier > 0 {
                span.number("http.request.resend_count", earlier);
            }
        }
        span
    }
}

// === impl AttemptObserver ===

impl AttemptObserver<'_> {
    /// Returns the time at which the attempt began.
    pub(super) fn began(&self) -> Instant {
        self.began
    }

    /// Notes the status of the response.
    pub(super) fn responded(&self, status: StatusCode) {
        self.span.number("http.response.status_code", status.as_u16());
    }

    /// Notes that the attempt failed: the status of its response, or another word for the error.
    pub(super) fn failed(&self, error_type: &str, reason: &str) {
        self.span.failed(error_type, reason);
    }

    /// Ends with the outcome of the attempt.
    pub(super) fn finish(self, outcome: &Outcome) {
        let took = self.began.elapsed();
        let Self { signal: of, watch, span, .. } = self;
        of.metrics.export_attempt(of.signal, outcome.kind(), took);
        of.outage.record(outcome);
        span.text("spanrelay.outcome", outcome.kind().as_str());
        span.end();
        watch.attempt(of.signal, || view(outcome, took));
    }
}

/// Describes an attempt for the inspector.
fn view(outcome: &Outcome, took: Duration) -> AttemptView {
    let answer = match outcome {
        Outcome::Sent { partial: None } => "accepted".to_owned(),
        Outcome::Sent { partial: Some(PartialSuccess { rejected_items, message }) } => {
            format!("accepted, except {rejected_items} items: {message}")
        }
        Outcome::Throttled { reason, retry_after: Some(wait) }
        | Outcome::Retryable { reason, retry_after: Some(wait) } => {
            format!("{reason}; retry after {} s", wait.as_secs())
        }
        Outcome::Throttled { reason, .. }
        | Outcome::Retryable { reason, .. }
        | Outcome::Permanent { reason }
        | Outcome::GivenUp { reason } => reason.clone(),
        Outcome::Blocked { reason, remedy, .. } => format!("{reason}; {remedy}"),
    };
    let kind = outcome.kind();
    AttemptView {
        outcome: kind.as_str(),
        is_final: matches!(kind, ExportOutcome::Sent | ExportOutcome::Permanent),
        answer,
        took_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
    }
}
