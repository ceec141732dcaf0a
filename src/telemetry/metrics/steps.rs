//! Metrics of the lookups of steps. They stay zero without `receivers.circleci.api`.

use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry};

use super::register;
use crate::event::{ApiOutcome, LookupOutcome};

/// Versions of the API, as labels.
const APIS: [&str; 3] = ["v3", "v1.1", "v2"];

/// Counts of the lookups.
#[derive(Clone)]
pub(crate) struct StepMetrics {
    pub(crate) pending: IntGauge,
    lookups: [IntCounter; LookupOutcome::ALL.len()],
    requests: IntCounterVec,
}

// === impl StepMetrics ===

impl StepMetrics {
    pub(super) fn new(registry: &Registry) -> Self {
        let counters = |name, help, labels: &[&str]| {
            register(registry, IntCounterVec::new(Opts::new(name, help), labels))
        };
        let lookups = counters(
            "spanrelay_step_lookups_total",
            "Lookups of the steps of a job, by outcome.",
            &["outcome"],
        );
        let requests = counters(
            "spanrelay_step_requests_total",
            "Requests to CircleCI's API, by its version and outcome.",
            &["api", "outcome"],
        );
        for api in APIS {
            ApiOutcome::ALL
                .iter()
                .for_each(|outcome| drop(requests.with_label_values(&[api, outcome.as_str()])));
        }
        Self {
            pending: register(
                registry,
                IntGauge::new("spanrelay_step_lookups_pending", "Jobs whose steps are being looked up."),
            ),
            lookups: LookupOutcome::ALL.map(|outcome| lookups.with_label_values(&[outcome.as_str()])),
            requests,
        }
    }

    /// Counts the end of a lookup.
    pub(crate) fn ended(&self, outcome: LookupOutcome) {
        self.lookups[outcome as usize].inc();
    }

    /// Counts a request.
    pub(crate) fn request(&self, api: &'static str, outcome: ApiOutcome) {
        self.requests.with_label_values(&[api, outcome.as_str()]).inc();
    }
}
