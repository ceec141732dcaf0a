//! Drain rate of a queue, from which the `Retry-After` of a full queue follows.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Period that the rate is measured over.
const WINDOW: Duration = Duration::from_secs(30);
/// Granularity of the measurement, so that its memory does not depend on the load.
const STEP: Duration = Duration::from_secs(1);
/// Upper limit, and the result while nothing is released at all: senders such as CircleCI retry on their own, and when
/// the downstream recovers, senders should not wait much longer.
const LONGEST_SECONDS: u64 = 60;

/// Bytes released recently.
#[derive(Debug, Default)]
pub(super) struct DrainRate {
    steps: VecDeque<(Instant, u64)>,
}

// === impl DrainRate ===

impl DrainRate {
    pub(super) fn released(&mut self, now: Instant, bytes: u64) {
        match self.steps.back_mut() {
            Some((start, sum)) if now.saturating_duration_since(*start) < STEP => *sum += bytes,
            _ => self.steps.push_back((now, bytes)),
        }
        self.forget(now);
    }

    /// Returns the whole seconds until about `bytes` more will have been released, from 1 to 60.
    pub(super) fn seconds_until(&mut self, now: Instant, bytes: u64) -> u64 {
        self.forget(now);
        let Some((first, _)) = self.steps.front() else { return LONGEST_SECONDS };
        let released: u64 = self.steps.iter().map(|(_, bytes)| bytes).sum();
        let seconds = now.saturating_duration_since(*first).max(STEP).as_secs_f64();
        let wait = bytes as f64 * seconds / released.max(1) as f64;
        // A cast from a float saturates.
        (wait.ceil() as u64).clamp(1, LONGEST_SECONDS)
    }

    fn forget(&mut self, now: Instant) {
        while self.steps.front().is_some_and(|(start, _)| now.saturating_duration_since(*start) > WINDOW) {
            self.steps.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_follows_from_how_fast_the_queue_drains() {
        let start = Instant::now();
        let mut rate = DrainRate::default();
        assert_eq!(rate.seconds_until(start, 1), LONGEST_SECONDS);
        for second in 0..10 {
            rate.released(start + Duration::from_secs(second), 100);
        }
        let now = start + Duration::from_secs(10);
        assert_eq!(rate.seconds_until(now, 500), 5);
        assert_eq!(rate.seconds_until(now, 0), 1);
        assert_eq!(rate.seconds_until(now, u64::MAX), LONGEST_SECONDS);
        assert_eq!(rate.seconds_until(now + WINDOW * 2, 500), LONGEST_SECONDS);
    }
}
