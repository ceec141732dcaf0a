//! Log lines about a failing downstream, rate-limited.
//!
//! In: the outcomes of attempts. Out: a line when an outage begins, one a minute while it lasts, and one when it ends. Leaves to
//! others: a destination that is at fault ([`destination`](super::destination)).

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tracing::{info, warn};

use super::outcome::Outcome;
use crate::event::Signal;
use crate::telemetry::Flow;

/// Interval between log lines about an endpoint, even if it fails and recovers every second.
const REMINDER: Duration = Duration::from_secs(60);

/// The state of one signal's endpoint.
pub(super) struct Outage {
    signal: Signal,
    /// Host and port.
    endpoint: String,
    /// Separate, so that a success takes no lock.
    failing: AtomicBool,
    streak: Mutex<OutageStreak>,
    flow: Flow,
}

#[derive(Default)]
struct OutageStreak {
    since: Option<Instant>,
    attempts: u64,
    /// The beginning was logged, so the end must be, too.
    announced: bool,
    last_line: Option<Instant>,
}

/// Log line to write.
#[derive(Debug, PartialEq, Eq)]
enum OutageLine {
    Failing { attempts: u64, since: Duration },
    Recovered { after: Duration },
}

// === impl Outage ===

impl Outage {
    pub(super) fn new(signal: Signal, endpoint: String, flow: Flow) -> Self {
        Self { signal, endpoint, failing: AtomicBool::new(false), streak: Mutex::default(), flow }
    }

    /// Reports whether the last attempt that says something about an outage failed.
    pub(super) fn is_failing(&self) -> bool {
        self.failing.load(Ordering::Acquire)
    }

    /// Records the outcome of an attempt. A response that condemns the data shows that the downstream works; one that blocks
    /// the destination says nothing about an outage.
    pub(super) fn record(&self, outcome: &Outcome) {
        match outcome {
            Outcome::Throttled { reason, .. } | Outcome::Retryable { reason, .. } => self.failed(reason),
            Outcome::Sent { .. } => {
                self.flow.sent(self.signal);
                self.recovered();
            }
            Outcome::Permanent { .. } | Outcome::GivenUp { .. } => self.recovered(),
            Outcome::Blocked { .. } => {}
        }
    }

    fn failed(&self, reason: &str) {
        self.failing.store(true, Ordering::Release);
        self.flow.failed(self.signal, reason);
        let line = self.with_streak(|streak| streak.fail(Instant::now()));
        if let Some(OutageLine::Failing { attempts, since }) = line {
            let (signal, endpoint) = (self.signal.as_str(), self.endpoint.as_str());
            let failing_seconds = since.as_secs();
            warn!(signal, endpoint, reason, attempts, failing_seconds, "export failed, retrying");
        }
    }

    fn recovered(&self) {
        if !self.is_failing() {
            return;
        }
        self.failing.store(false, Ordering::Release);
        self.flow.recovered(self.signal);
        if let Some(OutageLine::Recovered { after }) = self.with_streak(|streak| streak.end(Instant::now())) {
            let (signal, endpoint) = (self.signal.as_str(), self.endpoint.as_str());
            info!(signal, endpoint, failed_seconds = after.as_secs(), "export recovered");
        }
    }

    fn with_streak<T>(&self, with: impl FnOnce(&mut OutageStreak) -> T) -> T {
        with(&mut self.streak.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

// === impl OutageStreak ===

impl OutageStreak {
    fn fail(&mut self, now: Instant) -> Option<OutageLine> {
        let began = *self.since.get_or_insert(now);
        self.attempts += 1;
        if self.last_line.is_some_and(|last| now.duration_since(last) < REMINDER) {
            return None;
        }
        self.last_line = Some(now);
        self.announced = true;
        Some(OutageLine::Failing { attempts: self.attempts, since: now.duration_since(began) })
    }

    fn end(&mut self, now: Instant) -> Option<OutageLine> {
        let began = self.since.take()?;
        self.attempts = 0;
        std::mem::take(&mut self.announced)
            .then(|| OutageLine::Recovered { after: now.duration_since(began) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn logs_the_beginning_once_and_the_end_once() {
        let mut streak = OutageStreak::default();
        let now = Instant::now();
        assert_eq!(streak.fail(now), Some(OutageLine::Failing { attempts: 1, since: Duration::ZERO }));
        assert_eq!(streak.fail(now + SECOND), None);
        assert_eq!(streak.end(now + 2 * SECOND), Some(OutageLine::Recovered { after: 2 * SECOND }));
        assert_eq!(streak.end(now + 3 * SECOND), None);
    }

    #[tokio::test(start_paused = true)]
    async fn logs_once_a_minute_during_an_outage() {
        let mut streak = OutageStreak::default();
        let now = Instant::now();
        let lines: Vec<_> = (0..180).filter_map(|second| streak.fail(now + second * SECOND)).collect();
        assert_eq!(lines.len(), 3, "{lines:?}");
        assert_eq!(lines[2], OutageLine::Failing { attempts: 121, since: 120 * SECOND });
    }

    #[tokio::test(start_paused = true)]
    async fn a_downstream_that_flaps_does_not_fill_the_log() {
        let mut streak = OutageStreak::default();
        let now = Instant::now();
        let lines = (0..50).filter(|second| {
            let failed = streak.fail(now + *second * SECOND);
            let ended = streak.end(now + *second * SECOND);
            failed.is_some() || ended.is_some()
        });
        assert_eq!(lines.count(), 1);
    }
}
