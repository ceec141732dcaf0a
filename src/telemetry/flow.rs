//! Flow of data to the downstream, per signal: the last success, and the obstacle that keeps data in the queue; and the size of
//! rejected input.
//!
//! In: outcomes of attempts, and the state of the queue whenever it is read. Out: both with the time since when.
//! Promises: recorded whether or not a page is open, so that a page that opens late shows when an outage began; a success
//! takes no lock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crate::event::{RejectedState, Signal};

/// Recipient of reports. Clones share the state.
#[derive(Clone)]
pub(crate) struct Flow {
    shared: Arc<FlowState>,
}

struct FlowState {
    began: Instant,
    signals: [SignalFlow; Signal::ALL.len()],
    /// Time since which the queue is known to accept nothing.
    queue: Mutex<Option<Instant>>,
    rejected: OnceLock<RejectedProbe>,
}

/// Callback that returns the state of the rejected-lines file; `None` if rejected input is kept elsewhere.
type RejectedProbe = Box<dyn Fn() -> Option<RejectedState> + Send + Sync>;

#[derive(Debug, Default)]
struct SignalFlow {
    /// Milliseconds from `began` to the last success, plus one; zero if there was none.
    last_success: AtomicU64,
    obstacles: Mutex<Obstacles>,
}

#[derive(Debug, Default)]
struct Obstacles {
    outage: Option<Obstacle>,
    block: Option<Obstacle>,
}

/// Condition that keeps the data of a signal in the queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Obstacle {
    pub(crate) since: Instant,
    /// Last response, or the reason that there was none.
    pub(crate) reason: String,
    /// Change that ends it; `None` if the downstream is away and the relay retries.
    pub(crate) remedy: Option<String>,
}

// === impl Flow ===

impl Flow {
    pub(crate) fn new() -> Self {
        let shared = FlowState {
            began: Instant::now(),
            signals: Default::default(),
            queue: Mutex::default(),
            rejected: OnceLock::new(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Records that the downstream accepted an export.
    pub(crate) fn sent(&self, signal: Signal) {
        let millis = u64::try_from(self.shared.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.shared.signals[signal as usize].last_success.store(millis.saturating_add(1), Ordering::Relaxed);
    }

    /// Records a failed attempt that is retried.
    pub(crate) fn failed(&self, signal: Signal, reason: &str) {
        record(&mut self.obstacles(signal).outage, reason, None);
    }

    /// Records the end of an outage.
    pub(crate) fn recovered(&self, signal: Signal) {
        self.obstacles(signal).outage = None;
    }

    /// Records a response that blocks the destination.
    pub(crate) fn blocked(&self, signal: Signal, reason: &str, remedy: &str) {
        record(&mut self.obstacles(signal).block, reason, Some(remedy));
    }

    /// Records that the destination is no longer blocked.
    pub(crate) fn unblocked(&self, signal: Signal) {
        self.obstacles(signal).block = None;
    }

    /// Returns the time since the last success; `None` if there was none.
    pub(crate) fn since_success(&self, signal: Signal) -> Option<Duration> {
        let millis =
            self.shared.signals[signal as usize].last_success.load(Ordering::Relaxed).checked_sub(1)?;
        Some(self.shared.began.elapsed().saturating_sub(Duration::from_millis(millis)))
    }

    /// Returns what keeps the data of a signal in the queue. A block comes first, because it has a remedy.
    pub(crate) fn obstacle(&self, signal: Signal) -> Option<Obstacle> {
        let obstacles = self.obstacles(signal);
        obstacles.block.clone().or_else(|| obstacles.outage.clone())
    }

    /// Records whether the queue accepts data, and returns the time for which it is known to accept none.
    pub(crate) fn queue(&self, accepts: bool) -> Option<Duration> {
        let mut since = lock(&self.shared.queue);
        if accepts {
            *since = None;
            return None;
        }
        Some(since.get_or_insert_with(Instant::now).elapsed())
    }

    /// Sets the source of the state of the rejected-lines file; only the first call has an effect.
    pub(crate) fn observe_rejected(&self, probe: impl Fn() -> Option<RejectedState> + Send + Sync + 'static) {
        drop(self.shared.rejected.set(Box::new(probe)));
    }

    /// Returns the state of the rejected-lines file, if its source is set.
    pub(crate) fn rejected(&self) -> Option<RejectedState> {
        self.shared.rejected.get().and_then(|probe| probe())
    }

    fn obstacles(&self, signal: Signal) -> MutexGuard<'_, Obstacles> {
        lock(&self.shared.signals[signal as usize].obstacles)
    }
}

impl std::fmt::Debug for Flow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Flow").finish_non_exhaustive()
    }
}

/// Records the latest reason of an obstacle, and keeps the time at which it began.
fn record(obstacle: &mut Option<Obstacle>, reason: &str, remedy: Option<&str>) {
    let since = obstacle.as_ref().map_or_else(Instant::now, |obstacle| obstacle.since);
    *obstacle = Some(Obstacle { since, reason: reason.to_owned(), remedy: remedy.map(str::to_owned) });
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every change is one assignment, so that a panic leaves nothing incomplete.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_obstacle_keeps_its_beginning_and_its_latest_reason() {
        let flow = Flow::new();
        assert_eq!(flow.obstacle(Signal::Traces), None);
        flow.failed(Signal::Traces, "status 503");
        let first = flow.obstacle(Signal::Traces).unwrap();
        flow.failed(Signal::Traces, "connection refused");
        let later = flow.obstacle(Signal::Traces).unwrap();
        assert_eq!((later.since, later.reason.as_str()), (first.since, "connection refused"));
        assert_eq!(flow.obstacle(Signal::Logs), None, "signals are independent");
        flow.recovered(Signal::Traces);
        assert_eq!(flow.obstacle(Signal::Traces), None);
    }

    #[test]
    fn a_block_is_shown_before_an_outage() {
        let flow = Flow::new();
        flow.failed(Signal::Logs, "status 503");
        flow.blocked(Signal::Logs, "status 401", "set the headers");
        assert_eq!(flow.obstacle(Signal::Logs).unwrap().remedy.as_deref(), Some("set the headers"));
        flow.unblocked(Signal::Logs);
        assert_eq!(flow.obstacle(Signal::Logs).unwrap().reason, "status 503");
    }

    #[test]
    fn the_last_success_is_known_only_after_one() {
        let flow = Flow::new();
        assert_eq!(flow.since_success(Signal::Metrics), None);
        flow.sent(Signal::Metrics);
        assert!(flow.since_success(Signal::Metrics).is_some());
        assert_eq!(flow.since_success(Signal::Traces), None);
    }

    #[test]
    fn a_queue_that_accepts_again_is_no_longer_counted_as_stopped() {
        let flow = Flow::new();
        assert_eq!(flow.queue(true), None);
        assert!(flow.queue(false).is_some());
        assert_eq!(flow.queue(true), None);
        assert!(lock(&flow.shared.queue).is_none());
    }
}
