//! The time of a partition: how far its log was read.
//!
//! In: timestamps of records, and times up to which the partition was read to its end. Out: an [`Instant`] for processors
//! that know no other time. Promises: time never goes back; a partition that is not read stands still, however long.

use std::time::{Duration, Instant};

/// The clock of a partition.
#[derive(Debug)]
pub(super) struct LogClock {
    /// Stands for `first`.
    base: Instant,
    /// The first time that was seen, in milliseconds since 1970.
    first: Option<i64>,
    /// The latest.
    latest: i64,
}

// === impl LogClock ===

impl LogClock {
    pub(super) fn start() -> Self {
        Self { base: Instant::now(), first: None, latest: 0 }
    }

    /// The log was read up to this time.
    pub(super) fn advance(&mut self, time: i64) {
        self.first.get_or_insert(time);
        self.latest = self.latest.max(time);
    }

    pub(super) fn now(&self) -> Instant {
        let since = self.first.map_or(0, |first| self.latest.saturating_sub(first));
        let since = Duration::from_millis(u64::try_from(since).unwrap_or_default());
        // A timestamp of another age is a mistake of its writer.
        self.base.checked_add(since).unwrap_or(self.base)
    }

    /// Returns how long ago this was, by the log.
    pub(super) fn age(&self, time: i64) -> Duration {
        Duration::from_millis(u64::try_from(self.latest.saturating_sub(time)).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_that_of_the_log_and_never_goes_back() {
        let mut clock = LogClock::start();
        let begin = clock.now();
        assert_eq!(clock.now(), begin);
        clock.advance(1_700_000_000_000);
        assert_eq!(clock.now(), begin);
        clock.advance(1_700_000_003_000);
        clock.advance(1_700_000_001_000);
        assert_eq!(clock.now() - begin, Duration::from_secs(3));
        assert_eq!(clock.age(1_700_000_001_000), Duration::from_secs(2));
        assert_eq!(clock.age(1_800_000_000_000), Duration::ZERO);
        clock.advance(i64::MAX);
        assert!(clock.now() >= begin);
    }
}
