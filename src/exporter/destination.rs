//! The state of one signal's destination: open, or blocked by a response that concerns the destination and not the data.
//!
//! In: the outcome of each attempt. Out: a [`Clearance`] for each attempt: immediately while the destination is open; while it
//! is blocked, for one export at a time, `max_interval` after the response to the previous one. Promises: while a destination
//! is blocked, only that probe begins; any outcome of a probe other than [`Outcome::Blocked`] opens the destination for all
//! exports at once. The log has one ERROR line with the remedy, one a minute while the block lasts, and a line at its end.
//! Leaves to others: the bound on waiting data, which is the queue's.
//!
//! Exports take turns as the probe, so that one payload that a firewall rejects with 403 cannot delay all others.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, OwnedMutexGuard, watch};
use tokio::time::{Instant, sleep_until};
use tracing::{error, info};

use super::outcome::Outcome;
use crate::event::Signal;
use crate::telemetry::Metrics;

/// Interval between log lines while a destination is blocked.
const REMINDER: Duration = Duration::from_secs(60);

/// Destination of the requests of one signal.
pub(super) struct Destination {
    signal: Signal,
    /// Host and port.
    endpoint: String,
    probe_interval: Duration,
    state: watch::Sender<DestinationState>,
    /// Permit to send the next probe.
    probe: Arc<Mutex<()>>,
    metrics: Metrics,
}

struct DestinationState {
    /// Incremented when the destination is blocked or opened: outcomes of attempts of an earlier epoch do not count.
    epoch: u64,
    opened: Instant,
    block: Option<Block>,
}

struct Block {
    since: Instant,
    next_probe: Instant,
    next_line: Instant,
    /// Number of such responses since then.
    attempts: u64,
    cause: BlockCause,
}

/// The last response that blocked the destination.
#[derive(Default, Clone)]
struct BlockCause {
    status: Option<u16>,
    reason: String,
    remedy: String,
}

/// Permission to begin one attempt.
pub(super) struct Clearance {
    epoch: u64,
    /// Present when the attempt is a probe.
    probe: Option<OwnedMutexGuard<()>>,
}

// === impl Destination ===

impl Destination {
    pub(super) fn new(signal: Signal, endpoint: String, probe_interval: Duration, metrics: Metrics) -> Self {
        metrics.exporter_blocked(signal, false);
        let state = DestinationState { epoch: 0, opened: Instant::now(), block: None };
        Self {
            signal,
            endpoint,
            probe_interval,
            state: watch::Sender::new(state),
            probe: Arc::default(),
            metrics,
        }
    }

    /// Returns the time since which the destination is open; time before it does not count towards `max_elapsed_time`.
    pub(super) fn opened(&self) -> Instant {
        self.state.borrow().opened
    }

    /// Waits until an attempt may begin.
    pub(super) async fn clearance(&self) -> Clearance {
        loop {
            if let Some(epoch) = self.open_epoch() {
                return Clearance { epoch, probe: None };
            }
            tokio::select! {
                () = self.wait_until_open() => {}
                probe = Arc::clone(&self.probe).lock_owned() => {
                    if let Some(epoch) = self.wait_for_probe().await {
                        return Clearance { epoch, probe: Some(probe) };
                    }
                }
            }
        }
    }

    /// Returns false when the destination was blocked after the clearance was given.
    pub(super) fn admits(&self, clearance: &Clearance) -> bool {
        clearance.epoch == self.state.borrow().epoch
    }

    /// Records the outcome of an attempt.
    pub(super) fn record(&self, clearance: Clearance, outcome: &Outcome) {
        match outcome {
            Outcome::Blocked { reason, status, remedy } => {
                let status = status.map(|status| status.as_u16());
                let cause = BlockCause { status, reason: reason.clone(), remedy: remedy.clone() };
                self.block(cause, clearance.epoch, clearance.probe.is_some());
            }
            _ if clearance.probe.is_some() => self.open(),
            _ => {}
        }
        // The guard is released only now: the next probe must find the new state.
        drop(clearance);
    }

    fn open_epoch(&self) -> Option<u64> {
        let state = self.state.borrow();
        state.block.is_none().then_some(state.epoch)
    }

    /// Waits until a probe has opened the destination.
    async fn wait_until_open(&self) {
        let mut state = self.state.subscribe();
        // Cannot fail: the sender is in self.
        drop(state.wait_for(|state| state.block.is_none()).await);
    }

    /// Waits until the probe is due, and returns the epoch; returns `None` if the last probe opened the destination.
    async fn wait_for_probe(&self) -> Option<u64> {
        loop {
            let (epoch, next_probe, next_line) = self.blocked_until()?;
            if next_probe <= Instant::now() {
                return Some(epoch);
            }
            sleep_until(next_probe.min(next_line)).await;
            self.log_if_due();
        }
    }

    /// Returns the epoch and the times of the next probe and the next log line while the destination is blocked.
    fn blocked_until(&self) -> Option<(u64, Instant, Instant)> {
        let state = self.state.borrow();
        state.block.as_ref().map(|block| (state.epoch, block.next_probe, block.next_line))
    }

    /// Blocks the destination if its epoch is still the one in which the attempt began.
    fn block(&self, cause: BlockCause, epoch: u64, is_probe: bool) {
        let now = Instant::now();
        let next_probe = now + self.probe_interval;
        let flow = |cause: &BlockCause| self.metrics.flow.blocked(self.signal, &cause.reason, &cause.remedy);
        self.state.send_if_modified(|state| match &mut state.block {
            Some(block) => {
                block.attempts += 1;
                if is_probe {
                    block.next_probe = next_probe;
                    flow(&cause);
                    block.cause = cause;
                }
                false
            }
            None if state.epoch == epoch => {
                // Under the lock, so that the gauge changes in the order of the states.
                self.metrics.exporter_blocked(self.signal, true);
                flow(&cause);
                state.epoch += 1;
                state.block = Some(Block { since: now, next_probe, next_line: now, attempts: 1, cause });
                true
            }
            None => false,
        });
        self.log_if_due();
    }

    /// Logs that the destination is blocked, if a line is due.
    fn log_if_due(&self) {
        let now = Instant::now();
        let mut line = None;
        self.state.send_if_modified(|state| {
            if let Some(block) = state.block.as_mut().filter(|block| block.next_line <= now) {
                block.next_line = now + REMINDER;
                line = Some((block.cause.clone(), block.attempts, now.duration_since(block.since)));
            }
            false
        });
        let Some((BlockCause { status, reason, remedy }, attempts, blocked)) = line else { return };
        let (signal, endpoint, blocked_seconds) = (self.signal.as_str(), &self.endpoint, blocked.as_secs());
        error!(
            signal,
            endpoint,
            status,
            reason,
            remedy,
            attempts,
            blocked_seconds,
            "export blocked by downstream response"
        );
    }

    fn open(&self) {
        let now = Instant::now();
        let mut ended = None;
        self.state.send_modify(|state| {
            self.metrics.exporter_blocked(self.signal, false);
            self.metrics.flow.unblocked(self.signal);
            state.epoch += 1;
            state.opened = now;
            ended = state.block.take();
        });
        let Some(block) = ended else { return };
        let (signal, endpoint, attempts) = (self.signal.as_str(), &self.endpoint, block.attempts);
        let blocked_seconds = now.duration_since(block.since).as_secs();
        info!(signal, endpoint, attempts, blocked_seconds, "export unblocked");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(30);

    fn destination() -> Destination {
        Destination::new(Signal::Traces, "collector:4318".to_owned(), INTERVAL, Metrics::new())
    }

    fn blocked() -> Outcome {
        Outcome::Blocked { reason: "401".to_owned(), status: None, remedy: String::new() }
    }

    fn is_blocked(destination: &Destination) -> bool {
        destination.open_epoch().is_none()
    }

    #[tokio::test(start_paused = true)]
    async fn an_attempt_that_began_before_the_block_neither_ends_it_nor_moves_the_probe() {
        let destination = destination();
        let [first, second, third] =
            [destination.clearance().await, destination.clearance().await, destination.clearance().await];
        let began = Instant::now();
        destination.record(first, &blocked());
        tokio::time::advance(INTERVAL / 2).await;
        destination.record(second, &Outcome::Sent { partial: None });
        destination.record(third, &blocked());
        assert!(is_blocked(&destination));
        let probe = destination.clearance().await;
        assert!(probe.probe.is_some());
        assert_eq!(began.elapsed(), INTERVAL);
    }

    #[tokio::test(start_paused = true)]
    async fn an_attempt_that_began_before_the_fault_was_fixed_does_not_block_again() {
        let destination = destination();
        let [first, late] = [destination.clearance().await, destination.clearance().await];
        destination.record(first, &blocked());
        assert!(!destination.admits(&late), "it has not begun and must not begin");
        let probe = destination.clearance().await;
        destination.record(probe, &Outcome::Sent { partial: None });
        destination.record(late, &blocked());
        assert!(!is_blocked(&destination));
    }

    #[tokio::test(start_paused = true)]
    async fn the_next_export_probes_if_a_probe_is_abandoned() {
        let destination = destination();
        let first = destination.clearance().await;
        destination.record(first, &blocked());
        let abandoned = destination.clearance().await;
        assert!(tokio::time::timeout(INTERVAL * 9, destination.clearance()).await.is_err(), "one at a time");
        drop(abandoned);
        assert!(destination.clearance().await.probe.is_some());
    }
}
