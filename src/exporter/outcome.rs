//! The meaning of a response for the data.
//!
//! In: a status. Out: an [`Outcome`]: the data is delivered, is to be sent again, is condemned, or the destination is at
//! fault. The table is [`meaning_of`]; nothing else in the program knows it.

use std::time::Duration;

use http::StatusCode;

use super::response::PartialSuccess;
use crate::telemetry::inspect::view::Attempt;
use crate::telemetry::metrics::ExportOutcome;

/// Result of one attempt; after the last attempt, result of the export.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Delivered, perhaps without some items.
    Sent { partial: Option<PartialSuccess> },
    /// The downstream asks for fewer requests.
    Throttled { reason: String, retry_after: Option<Duration> },
    /// Not delivered, which says nothing about the data.
    Retryable { reason: String, retry_after: Option<Duration> },
    /// Not delivered, because the destination or its configuration is at fault: no data would be accepted.
    Blocked { reason: String, status: Option<StatusCode>, remedy: String },
    /// Rejected for good: repeating the same data does not help.
    Permanent { reason: String },
    /// Not accepted for longer than the configuration allows.
    GivenUp { reason: String },
}

/// An [`Outcome`] without its circumstances.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning {
    Sent,
    Throttled,
    Retryable,
    Blocked,
    Permanent,
}

/// The one table of statuses. `permanent` are those that condemn the data; 429, 502, 503 and 504 never do, because OTLP
/// defines them as retryable.
pub(super) fn meaning_of(status: StatusCode, permanent: &[u16]) -> Meaning {
    match status.as_u16() {
        200..=299 => Meaning::Sent,
        429 => Meaning::Throttled,
        502..=504 => Meaning::Retryable,
        code if permanent.contains(&code) => Meaning::Permanent,
        500..=599 => Meaning::Retryable,
        // An error of the client, a redirect (never followed: it would send data and headers to another host) or a number
        // that HTTP does not define.
        _ => Meaning::Blocked,
    }
}

// === impl Meaning ===

impl Meaning {
    /// The label in the metrics.
    pub(super) fn label(self) -> ExportOutcome {
        match self {
            Self::Sent => ExportOutcome::Sent,
            Self::Throttled => ExportOutcome::Throttled,
            Self::Retryable => ExportOutcome::Retryable,
            Self::Blocked => ExportOutcome::Blocked,
            Self::Permanent => ExportOutcome::Permanent,
        }
    }
}

// === impl Outcome ===

impl Outcome {
    pub(super) fn meaning(&self) -> Meaning {
        match self {
            Self::Sent { .. } => Meaning::Sent,
            Self::Throttled { .. } => Meaning::Throttled,
            Self::Retryable { .. } => Meaning::Retryable,
            Self::Blocked { .. } => Meaning::Blocked,
            Self::Permanent { .. } | Self::GivenUp { .. } => Meaning::Permanent,
        }
    }

    /// The attempt as the inspector shows it.
    pub(super) fn as_attempt(&self, took: Duration) -> Attempt {
        let answer = match self {
            Self::Sent { partial: None } => "taken".to_owned(),
            Self::Sent { partial: Some(PartialSuccess { rejected_items, message }) } => {
                format!("taken, but for {rejected_items} items: {message}")
            }
            Self::Throttled { reason, retry_after: Some(wait) }
            | Self::Retryable { reason, retry_after: Some(wait) } => {
                format!("{reason}; retry after {} s", wait.as_secs())
            }
            Self::Throttled { reason, .. }
            | Self::Retryable { reason, .. }
            | Self::Permanent { reason }
            | Self::GivenUp { reason } => reason.clone(),
            Self::Blocked { reason, remedy, .. } => format!("{reason}; {remedy}"),
        };
        let meaning = self.meaning();
        Attempt {
            outcome: meaning.label().as_str(),
            is_final: matches!(meaning, Meaning::Sent | Meaning::Permanent),
            answer,
            took_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PERMANENT: [u16; 3] = [400, 413, 422];

    fn status(code: u16) -> StatusCode {
        StatusCode::from_u16(code).expect("three digits")
    }

    fn statuses_that_mean(meaning: Meaning) -> Vec<u16> {
        (100..1000).filter(|&code| meaning_of(status(code), &PERMANENT) == meaning).collect()
    }

    #[test]
    fn every_2xx_is_delivered_and_nothing_else_is() {
        assert_eq!(statuses_that_mean(Meaning::Sent), (200..300).collect::<Vec<_>>());
    }

    #[test]
    fn only_429_is_throttled_and_every_5xx_is_retried() {
        assert_eq!(statuses_that_mean(Meaning::Throttled), [429]);
        assert_eq!(statuses_that_mean(Meaning::Retryable), (500..600).collect::<Vec<_>>());
    }

    #[test]
    fn only_permanent_status_codes_condemn_the_data() {
        assert_eq!(statuses_that_mean(Meaning::Permanent), PERMANENT);
        assert_eq!(meaning_of(status(400), &[]), Meaning::Blocked);
        assert_eq!(meaning_of(status(501), &[501]), Meaning::Permanent);
        for code in [429, 502, 503, 504] {
            assert_ne!(meaning_of(status(code), &[code]), Meaning::Permanent, "{code}");
        }
    }

    #[test]
    fn whatever_else_is_the_fault_of_the_destination() {
        let blocked = statuses_that_mean(Meaning::Blocked);
        for code in [101, 301, 302, 307, 308, 401, 403, 404, 405, 407, 408, 415, 418, 451, 600, 999] {
            assert!(blocked.contains(&code), "{code}");
        }
    }
}
