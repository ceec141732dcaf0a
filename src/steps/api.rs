//! The API of one receiver: its client, the bound of concurrent requests, and what the log says about it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, sleep_until};
use tracing::{debug, info, warn};

use super::Tried;
use crate::config::ProxySettings;
use crate::event::ApiOutcome;
use crate::exporter::{ApiClient, ApiError};
use crate::receiver::CircleCiApiConfig;
use crate::telemetry::LineLimit;

/// Maximum number of concurrent requests to one API.
pub(crate) const MAX_IN_FLIGHT: usize = 4;

/// Path of the user of a token, in API v2.
const WHOSE_TOKEN: &str = "/api/v2/me";

/// One API.
pub(super) struct Api {
    pub(super) receiver: String,
    /// Host and port.
    pub(super) host: String,
    pub(super) client: ApiClient,
    slots: Semaphore,
    /// End of the pause that the API asked for.
    closed_until: Mutex<Option<Instant>>,
    /// A failure was logged, so that the end of failures is to be logged, too.
    is_failing: AtomicBool,
    failures: LineLimit,
    given_up: LineLimit,
}

// === impl Api ===

impl Api {
    pub(super) fn new(
        receiver: &str,
        settings: &CircleCiApiConfig,
        proxy: &ProxySettings,
        wall_clock: fn() -> SystemTime,
    ) -> Result<Self, ApiError> {
        let CircleCiApiConfig { endpoint, ca_file, .. } = settings;
        Ok(Self {
            receiver: receiver.to_owned(),
            host: endpoint.host().unwrap_or_default().to_owned(),
            client: ApiClient::new(endpoint, ca_file.as_deref(), proxy, MAX_IN_FLIGHT, wall_clock)?,
            slots: Semaphore::new(MAX_IN_FLIGHT),
            closed_until: Mutex::default(),
            is_failing: AtomicBool::new(false),
            failures: LineLimit::default(),
            given_up: LineLimit::default(),
        })
    }

    /// Asks for the user of the token. `key` is that of the settings.
    pub(super) async fn try_token(&self, settings: &CircleCiApiConfig, key: &str) -> Tried {
        let response = self.client.get(WHOSE_TOKEN, settings.token_header(), settings.timeout).await;
        match response.map(|response| response.status) {
            Ok(200) => Tried::Works,
            Ok(status @ (401 | 403)) => Tried::Fails(format!(
                "{key}: {} returned {status}; set {key}.token to a valid personal API token",
                self.host
            )),
            Ok(status) => Tried::Unclear(format!(
                "{key}: {} returned {status} for {WHOSE_TOKEN}; is {key}.endpoint the URL of CircleCI or of CircleCI Server?",
                self.host
            )),
            Err(reason) => Tried::Fails(format!("{key}: {reason}")),
        }
    }

    /// Waits until a request may be sent.
    pub(super) async fn admit(&self) -> SemaphorePermit<'_> {
        loop {
            while let Some(end) = self.end_of_pause() {
                sleep_until(end).await;
            }
            let slot = self.slots.acquire().await.expect("the semaphore is never closed");
            // Another request may have been throttled meanwhile.
            if self.end_of_pause().is_none() {
                return slot;
            }
        }
    }

    /// Sends nothing for as long as the API asked.
    pub(super) fn pause(&self, pause: Duration) {
        let end = Instant::now() + pause;
        let mut closed = self.closed_until.lock().unwrap_or_else(PoisonError::into_inner);
        *closed = Some(closed.map_or(end, |other| other.max(end)));
    }

    fn end_of_pause(&self) -> Option<Instant> {
        let closed = self.closed_until.lock().unwrap_or_else(PoisonError::into_inner);
        closed.filter(|end| *end > Instant::now())
    }

    /// Reports a response that was of use.
    pub(super) fn succeeded(&self) {
        if self.is_failing.swap(false, Ordering::Relaxed) {
            info!(receiver = self.receiver, "step lookups succeed again");
        }
    }

    /// Reports an attempt that failed and is retried.
    pub(super) fn failed(&self, outcome: ApiOutcome, reason: &str) {
        let receiver = self.receiver.as_str();
        // The API may take a moment to know a job.
        let is_expected = matches!(outcome, ApiOutcome::Incomplete | ApiOutcome::NotFound);
        let admitted = if is_expected { None } else { self.failures.admit(std::time::Instant::now()) };
        let Some(suppressed) = admitted else {
            debug!(receiver, reason, "step lookup failed, retrying");
            return;
        };
        self.is_failing.store(true, Ordering::Relaxed);
        let (remedy, suppressed) = (self.remedy(outcome), suppressed.shown());
        warn!(receiver, reason, remedy, suppressed, "step lookup failed, retrying");
    }

    /// Reports a lookup that is not retried any more.
    pub(super) fn gave_up(&self, reason: &str, outcome: Option<ApiOutcome>) {
        let (receiver, remedy) = (self.receiver.as_str(), outcome.and_then(|outcome| self.remedy(outcome)));
        match self.given_up.admit(std::time::Instant::now()) {
            Some(suppressed) => {
                let suppressed = suppressed.shown();
                warn!(
                    receiver,
                    reason, remedy, suppressed, "step lookup given up; the job has no step spans"
                );
            }
            None => debug!(receiver, reason, remedy, "step lookup given up; the job has no step spans"),
        }
    }

    fn remedy(&self, outcome: ApiOutcome) -> Option<String> {
        let id = &self.receiver;
        match outcome {
            ApiOutcome::Unauthorized => Some(format!(
                "set receivers.{id}.api.token to a valid personal API token, then reload the configuration"
            )),
            ApiOutcome::NotFound => Some(format!(
                "check that the user of receivers.{id}.api.token may see the project, and that api.endpoint is its CircleCI"
            )),
            ApiOutcome::Unexpected => Some(format!(
                "check that receivers.{id}.api.endpoint is the URL of CircleCI or of CircleCI Server"
            )),
            ApiOutcome::Complete
            | ApiOutcome::Incomplete
            | ApiOutcome::Throttled
            | ApiOutcome::Unavailable => None,
        }
    }
}
