//! The pause before an export is retried, and the decision to give up.
//!
//! In: the outcome of an attempt. Out: a pause, or the end. Pauses grow from `initial_interval` to `max_interval` by
//! `multiplier`, each varied at random by `randomization_factor`, so that exports that failed together are not retried
//! together. `Retry-After` is a lower bound. Only `max_elapsed_time` limits the age of data, and time in which the destination
//! was blocked does not count.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::{HeaderMap, header};
use tokio::time::{Instant, Sleep};
use tower::retry::Policy;
use tower::util::rng::{HasherRng, Rng};

use super::destination::Destination;
use super::outcome::Outcome;
use super::stack::ExportBody;
use crate::config::RetryConfig;

/// Maximum pause that a downstream may ask for: a wrong date must not stop the relay for a day. It can ask for another pause
/// at the next attempt.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(600);
/// Minimum pause between attempts, even if none is configured: a downstream that rejects immediately would otherwise get
/// thousands of requests a second.
const MIN_PAUSE: Duration = Duration::from_millis(1);

/// Retry policy of one export; the stack clones an unused one for each.
#[derive(Clone)]
pub(super) struct Backoff {
    config: RetryConfig,
    destination: Arc<Destination>,
    streak: Option<Streak>,
}

/// Attempts of one export.
#[derive(Clone)]
struct Streak {
    began: Instant,
    interval: Duration,
    rng: Option<HasherRng>,
}

/// Parses `Retry-After`, in seconds or as a date (RFC 9110, section 10.2.3). Anything else, and a date in the past, is
/// ignored.
pub(super) fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let value = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // Only digits: a value that does not fit is very long.
        Duration::from_secs(value.parse().unwrap_or(u64::MAX))
    } else {
        httpdate::parse_http_date(value).ok()?.duration_since(now).ok()?
    };
    Some(wait.min(MAX_RETRY_AFTER))
}

// === impl Backoff ===

impl Backoff {
    pub(super) fn new(config: RetryConfig, destination: Arc<Destination>) -> Self {
        Self { config, destination, streak: None }
    }

    /// Returns the pause before the next attempt, or `None` if it would end after `max_elapsed_time`.
    fn pause(&mut self, at_least: Option<Duration>) -> Option<Duration> {
        let streak = self.streak.get_or_insert_with(|| Streak::begin(&self.config));
        // Its own generator for each export that failed: clones of one would all return the same numbers.
        let random = streak.rng.get_or_insert_default().next_f64();
        let pause = varied(streak.interval, self.config.randomization_factor, random)
            .max(at_least.unwrap_or_default())
            .max(MIN_PAUSE);
        streak.interval = grown(streak.interval, &self.config);

        let limit = self.config.max_elapsed_time;
        // Time in which the destination was at fault does not count.
        let elapsed = streak.began.max(self.destination.opened()).elapsed();
        (limit.is_zero() || elapsed.saturating_add(pause) <= limit).then_some(pause)
    }
}

impl Policy<ExportBody, Outcome, Infallible> for Backoff {
    type Future = Sleep;

    fn retry(&mut self, _body: &mut ExportBody, result: &mut Result<Outcome, Infallible>) -> Option<Sleep> {
        let Ok(Outcome::Throttled { reason, retry_after } | Outcome::Retryable { reason, retry_after }) =
            result
        else {
            return None;
        };
        if let Some(pause) = self.pause(*retry_after) {
            return Some(tokio::time::sleep(pause));
        }
        let limit = self.config.max_elapsed_time;
        let reason = format!("given up after max_elapsed_time {limit:?}: {reason}");
        *result = Ok(Outcome::GivenUp { reason });
        None
    }

    fn clone_request(&mut self, body: &ExportBody) -> Option<ExportBody> {
        // Called before each attempt: the first call is the beginning of the export.
        self.streak.get_or_insert_with(|| Streak::begin(&self.config));
        Some(body.clone())
    }
}

// === impl Streak ===

impl Streak {
    fn begin(config: &RetryConfig) -> Self {
        let interval = config.initial_interval.min(config.max_interval);
        Self { began: Instant::now(), interval, rng: None }
    }
}

/// Varies `interval` evenly by up to `factor` of itself in both directions, as the Collector does.
fn varied(interval: Duration, factor: f64, random: f64) -> Duration {
    let factor = factor.clamp(0.0, 1.0);
    let seconds = interval.as_secs_f64() * (1.0 - factor + 2.0 * factor * random);
    Duration::try_from_secs_f64(seconds).unwrap_or(interval)
}

fn grown(interval: Duration, config: &RetryConfig) -> Duration {
    let seconds = interval.as_secs_f64() * config.multiplier.max(1.0);
    Duration::try_from_secs_f64(seconds).map_or(config.max_interval, |next| next.min(config.max_interval))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Signal;
    use crate::telemetry::Metrics;

    const NOW_UNIX_SECONDS: u64 = 1_445_412_480; // Wed, 21 Oct 2015 07:28:00 GMT

    fn config() -> RetryConfig {
        RetryConfig {
            initial_interval: Duration::from_secs(1),
            max_interval: Duration::from_secs(30),
            multiplier: 2.0,
            randomization_factor: 0.5,
            max_elapsed_time: Duration::ZERO,
        }
    }

    fn backoff(config: RetryConfig) -> Backoff {
        let destination =
            Destination::new(Signal::Traces, String::new(), config.max_interval, Metrics::new());
        Backoff::new(config, Arc::new(destination))
    }

    fn parsed(value: &str) -> Option<Duration> {
        let mut headers = HeaderMap::new();
        headers.insert(header::RETRY_AFTER, value.parse().unwrap());
        retry_after(&headers, SystemTime::UNIX_EPOCH + Duration::from_secs(NOW_UNIX_SECONDS))
    }

    #[test]
    fn honours_retry_after_in_seconds_and_as_a_date() {
        assert_eq!(parsed("7"), Some(Duration::from_secs(7)));
        assert_eq!(parsed("0"), Some(Duration::ZERO));
        assert_eq!(parsed("Wed, 21 Oct 2015 07:28:09 GMT"), Some(Duration::from_secs(9)));
        assert_eq!(parsed("Wednesday, 21-Oct-15 07:28:09 GMT"), Some(Duration::from_secs(9)));
    }

    #[test]
    fn ignores_a_retry_after_that_is_negative_in_the_past_or_invalid() {
        for value in ["-5", "1.5", "soon", "", "Wed, 21 Oct 2015 07:27:59 GMT", "+3", "3 s"] {
            assert_eq!(parsed(value), None, "{value:?}");
        }
        assert_eq!(retry_after(&HeaderMap::new(), SystemTime::UNIX_EPOCH), None);
    }

    #[test]
    fn caps_a_retry_after_that_would_stop_the_relay() {
        for value in ["86400", "99999999999999999999999", "Mon, 21 Oct 2115 07:28:00 GMT"] {
            assert_eq!(parsed(value), Some(MAX_RETRY_AFTER), "{value}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn pauses_grow_up_to_the_maximum_and_stay_within_the_jitter() {
        let mut backoff = backoff(config());
        for base in [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0] {
            let pause = backoff.pause(None).unwrap().as_secs_f64();
            assert!((base * 0.5..=base * 1.5).contains(&pause), "{pause} around {base}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn exports_that_failed_together_are_not_retried_together() {
        let policy = backoff(config());
        let mut pauses: Vec<_> = (0..32).map(|_| policy.clone().pause(None).unwrap()).collect();
        pauses.sort_unstable();
        pauses.dedup();
        assert!(pauses.len() > 16, "{} different pauses", pauses.len());
    }

    #[tokio::test(start_paused = true)]
    async fn retry_after_is_a_lower_bound_and_not_an_upper_bound() {
        let mut backoff = backoff(config());
        assert_eq!(backoff.pause(Some(Duration::from_secs(60))), Some(Duration::from_secs(60)));
        let pause = backoff.pause(Some(Duration::from_millis(1))).unwrap();
        assert!(pause >= Duration::from_secs(1), "{pause:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn gives_up_only_if_max_elapsed_time_is_set() {
        let mut forever = backoff(config());
        let mut limited = backoff(RetryConfig { max_elapsed_time: Duration::from_secs(60), ..config() });
        assert!(forever.pause(None).is_some());
        assert!(limited.pause(None).is_some());
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(limited.pause(None), None);
        tokio::time::advance(Duration::from_secs(365 * 86_400)).await;
        assert!(forever.pause(None).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn extreme_settings_neither_panic_nor_flood_the_downstream() {
        let mut backoff = backoff(RetryConfig {
            initial_interval: Duration::ZERO,
            max_interval: Duration::MAX,
            multiplier: f64::INFINITY,
            randomization_factor: 7.0,
            max_elapsed_time: Duration::MAX,
        });
        for _ in 0..10 {
            assert!(backoff.pause(None).unwrap_or(Duration::MAX) >= MIN_PAUSE);
        }
    }
}
