//! Rate limit of a receiver: a token bucket.
//!
//! In: the time of each request. Out: whether it is admitted, or else when to retry.
//! Promises: at most `burst` requests at once and `requests_per_second` over time, whoever sends them; the only state
//! is one instant. The caller passes the time.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::config::RateLimitConfig;

/// The bucket of one receiver, stored as the time at which it will be full.
#[derive(Debug)]
pub(crate) struct RateLimit {
    /// Time in which one token is added.
    interval: Duration,
    /// Time in which an empty bucket fills.
    refill: Duration,
    full_at: Mutex<Option<Instant>>,
}

/// Error of a request for which there is no token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("rate limit of this receiver exceeded; retry in {retry_after_seconds} s")]
pub(crate) struct Throttled {
    /// Seconds until there is a token; at least 1.
    pub(crate) retry_after_seconds: u64,
}

// === impl RateLimit ===

impl RateLimit {
    pub(crate) fn new(config: RateLimitConfig) -> Self {
        let interval = Duration::from_secs_f64(config.requests_per_second.recip());
        let burst = u32::try_from(config.burst).unwrap_or(u32::MAX);
        Self { interval, refill: interval.saturating_mul(burst), full_at: Mutex::default() }
    }

    /// Takes a token, if there is one.
    pub(crate) fn take(&self, now: Instant) -> Result<(), Throttled> {
        let mut full_at = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        let next = full_at.map_or(now, |full_at| full_at.max(now)) + self.interval;
        let missing = (next - now).saturating_sub(self.refill);
        if missing.is_zero() {
            *full_at = Some(next);
            return Ok(());
        }
        let whole_seconds = missing.as_secs() + u64::from(missing.subsec_nanos() > 0);
        Err(Throttled { retry_after_seconds: whole_seconds })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(requests_per_second: f64, burst: usize) -> RateLimit {
        RateLimit::new(RateLimitConfig { requests_per_second, burst })
    }

    /// Returns how many of a hundred requests at this time are admitted.
    fn admitted(limit: &RateLimit, now: Instant) -> usize {
        (0..100).filter(|_| limit.take(now).is_ok()).count()
    }

    #[test]
    fn admits_a_burst_at_once_and_then_the_configured_rate() {
        let (limit, start) = (limit(4.0, 10), Instant::now());
        assert_eq!(admitted(&limit, start), 10);
        assert_eq!(admitted(&limit, start + Duration::from_millis(249)), 0);
        assert_eq!(admitted(&limit, start + Duration::from_millis(250)), 1);
        assert_eq!(admitted(&limit, start + Duration::from_millis(1250)), 4);
    }

    #[test]
    fn never_admits_more_than_a_burst_after_any_pause() {
        let (limit, start) = (limit(4.0, 10), Instant::now());
        assert_eq!(admitted(&limit, start + Duration::from_secs(3600)), 10);
        assert_eq!(admitted(&limit, start + Duration::from_secs(7200)), 10);
    }

    #[test]
    fn a_retry_after_the_returned_whole_seconds_is_admitted() {
        for (requests_per_second, burst, seconds) in [(4.0, 1, 1), (1.0, 3, 1), (0.1, 1, 10), (0.4, 2, 3)] {
            let (limit, start) = (limit(requests_per_second, burst), Instant::now());
            assert_eq!(admitted(&limit, start), burst);
            assert_eq!(limit.take(start), Err(Throttled { retry_after_seconds: seconds }));
            assert_eq!(limit.take(start + Duration::from_secs(seconds)), Ok(()));
        }
    }

    #[test]
    fn a_throttled_request_takes_no_token() {
        let (limit, start) = (limit(1.0, 1), Instant::now());
        for half_seconds in 0..100 {
            let now = start + Duration::from_millis(500) * half_seconds;
            assert_eq!(limit.take(now).is_ok(), half_seconds % 2 == 0, "{half_seconds}");
        }
    }

    #[test]
    fn the_limits_of_the_configuration_work() {
        let start = Instant::now();
        assert_eq!(admitted(&limit(1_000_000.0, 1_000_000), start), 100);
        let slow = limit(0.0003, 1_000_000);
        assert_eq!(admitted(&slow, start), 100);
    }
}
