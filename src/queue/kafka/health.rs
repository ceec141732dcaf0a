//! State of the connection to the brokers, and what they said last.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use tracing::{error, info};

/// Availability of the topic, by the last look at it and the last error.
#[derive(Debug, Default)]
pub(crate) struct Health(Mutex<HealthState>);

#[derive(Debug, Default)]
struct HealthState {
    failure: Option<Arc<str>>,
    /// The topic may not be used as it is configured, whatever else works.
    refusal: Option<Arc<str>>,
    /// Failure of the consumer alone.
    reading: Option<Arc<str>>,
    /// Last reason that librdkafka gave; more precise than the error of a request that failed because of it.
    last_reason: Option<String>,
    is_fatal: bool,
    /// A write has failed, and none has succeeded since.
    is_unproven: bool,
}

// === impl Health ===

impl Health {
    pub(super) fn failure(&self) -> Option<Arc<str>> {
        let state = self.lock();
        state.refusal.clone().or_else(|| state.failure.clone()).or_else(|| state.reading.clone())
    }

    /// Failure of the way to the topic, which is reason enough not to try.
    pub(super) fn write_failure(&self) -> Option<Arc<str>> {
        let state = self.lock();
        state.refusal.clone().or_else(|| state.failure.clone())
    }

    /// Records a failure. It is logged when it begins, and when its reason changes.
    pub(super) fn failed(&self, reason: &str) {
        let mut state = self.lock();
        let reason = match &state.last_reason {
            Some(last) if !reason.contains(last.as_str()) => format!("{reason} ({last})"),
            _ => reason.to_owned(),
        };
        if state.failure.is_none() {
            error!(reason, "kafka unavailable");
        }
        state.failure = Some(reason.into());
    }

    /// Records that a write failed. The metadata of the topic may look fine all the same, when the brokers that keep it are
    /// away: only another write shows that writes succeed.
    pub(super) fn write_failed(&self, reason: &str) {
        self.failed(reason);
        self.lock().is_unproven = true;
    }

    /// Returns `true` if a write is needed to show that writes succeed.
    pub(super) fn is_unproven(&self) -> bool {
        self.lock().is_unproven
    }

    /// Records that the topic can be used.
    pub(super) fn works(&self) {
        let mut state = self.lock();
        state.is_unproven = false;
        state.last_reason = None;
        if state.failure.take().is_some() {
            info!("kafka available again");
        }
    }

    /// Records that the topic must not be used.
    pub(super) fn refused(&self, reason: &str) {
        let mut state = self.lock();
        if state.refusal.is_none() {
            error!(reason, "kafka unavailable");
        }
        state.refusal = Some(reason.into());
    }

    /// Records a failure of the consumer, or that it works.
    pub(super) fn reading(&self, failure: Option<String>) {
        let mut state = self.lock();
        if let (None, Some(reason)) = (&state.reading, &failure) {
            error!(reason, "kafka unavailable");
        }
        state.reading = failure.map(Into::into);
    }

    /// Records what librdkafka reports by itself.
    pub(super) fn reported(&self, error: &KafkaError, reason: &str) {
        let mut state = self.lock();
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::AllBrokersDown) => {}
            Some(RDKafkaErrorCode::Fatal) => state.is_fatal = true,
            _ => state.last_reason = Some(reason.to_owned()),
        }
    }

    /// Returns `true` once after an error that no client survives.
    pub(super) fn take_fatal(&self) -> bool {
        std::mem::take(&mut self.lock().is_fatal)
    }

    pub(super) fn last_reason(&self) -> Option<String> {
        self.lock().last_reason.clone()
    }

    fn lock(&self) -> MutexGuard<'_, HealthState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
