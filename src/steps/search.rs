//! One lookup: attempts, the pauses between them, and the decision to give up.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep};
use tower::util::rng::{HasherRng, Rng};

use super::api::Api;
use crate::event::{ApiOutcome, LookupOutcome};
use crate::receiver::{Looked, Lookup};
use crate::relay::{PendingLookup, Relay};
use crate::telemetry::Metrics;

/// Number of attempts after which an incomplete description of a job is as good as it gets.
const MAX_INCOMPLETE: u32 = 6;
/// Number of attempts after which a job that the API does not know is not going to appear.
const MAX_NOT_FOUND: u32 = 5;

/// Pauses between attempts, which double.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    pub(super) first: Duration,
    pub(super) longest: Duration,
}

/// A lookup with what it needs.
pub(super) struct Search {
    pub(super) relay: Arc<Relay>,
    pub(super) api: Arc<Api>,
    pub(super) metrics: Metrics,
    pub(super) pace: Pace,
    /// Time at which failures are not retried any more.
    pub(super) until: Instant,
}

/// An attempt that does not end the search.
struct Missed {
    outcome: ApiOutcome,
    /// The failure in one line.
    reason: String,
    /// Spans of an incomplete description.
    spans: Option<Bytes>,
}

// === impl Pace ===

impl Default for Pace {
    fn default() -> Self {
        Self { first: Duration::from_secs(1), longest: Duration::from_secs(60) }
    }
}

// === impl Search ===

impl Search {
    /// Asks the API until it has described the job completely, or until it is time to give up. Returns the export request with the
    /// spans, or the outcome of a lookup without spans.
    pub(super) async fn run(&self, pending: &PendingLookup) -> Result<Bytes, LookupOutcome> {
        let mut random = HasherRng::default();
        let mut pause = self.pace.first;
        let (mut incomplete, mut not_found) = (0, 0);
        loop {
            // New settings apply to the next attempt.
            let Some(lookup) = self.relay.lookup(pending) else { return Err(LookupOutcome::Empty) };
            let Missed { outcome, reason, spans } = match self.attempt(lookup).await {
                Ok(found) => return found.ok_or(LookupOutcome::Empty),
                Err(missed) => missed,
            };
            incomplete += u32::from(outcome == ApiOutcome::Incomplete);
            not_found += u32::from(outcome == ApiOutcome::NotFound);
            if outcome == ApiOutcome::Incomplete && (incomplete >= MAX_INCOMPLETE || self.is_over()) {
                return spans.ok_or(LookupOutcome::Empty);
            }
            if not_found >= MAX_NOT_FOUND || self.is_over() {
                self.api.gave_up(&reason, Some(outcome));
                return Err(LookupOutcome::GivenUp);
            }
            self.api.failed(outcome, &reason);
            // Between half and all of the pause, so that jobs that failed together are not retried together.
            sleep(pause.mul_f64(0.5 + 0.5 * random.next_f64())).await;
            pause = (pause * 2).min(self.pace.longest);
        }
    }

    /// Returns `true` when failures are not retried any more.
    pub(super) fn is_over(&self) -> bool {
        Instant::now() >= self.until
    }

    /// Sends the requests of one attempt.
    async fn attempt(&self, mut lookup: Lookup) -> Result<Option<Bytes>, Missed> {
        loop {
            let request = lookup.request();
            let limit = lookup.api().timeout;
            let slot = self.api.admit().await;
            let response = self.api.client.get(&request.path, request.headers, limit).await;
            let answer = response.as_ref().ok().map(|response| (response.status, &*response.body));
            let (outcome, looked) = lookup.respond(answer);
            if outcome == ApiOutcome::Throttled
                && let Some(pause) = response.as_ref().ok().and_then(|response| response.retry_after)
            {
                self.api.pause(pause);
            }
            drop(slot);
            self.metrics.steps.request(request.api, outcome);
            let reason = || match &response {
                Ok(response) if outcome == ApiOutcome::Incomplete => {
                    format!("{} returned {} for a job that has not ended", self.api.host, response.status)
                }
                Ok(response) if outcome == ApiOutcome::Unexpected && response.status == 200 => {
                    format!("{} returned 200 without a description of the job", self.api.host)
                }
                Ok(response) => format!("{} returned {}", self.api.host, response.status),
                Err(reason) => reason.clone(),
            };
            match looked {
                Looked::Further(further) => lookup = *further,
                Looked::Found(found) if found.is_final => {
                    self.api.succeeded();
                    return Ok(found.request);
                }
                Looked::Found(found) => {
                    return Err(Missed { outcome, reason: reason(), spans: found.request });
                }
                Looked::Failed => return Err(Missed { outcome, reason: reason(), spans: None }),
            }
        }
    }
}
