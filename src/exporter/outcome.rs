//! What an answer of the downstream means for the data.
//!
//! In: a status code. Out: whether the data is taken, is to be sent again, or will never be taken. The table is
//! [`meaning_of`] and nothing else in the program knows it.

use std::time::Duration;

use http::StatusCode;

use super::response::PartialSuccess;
use crate::telemetry::inspect::view::Attempt;
use crate::telemetry::metrics::ExportOutcome;

/// How one attempt ended; after the last attempt, how the export ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The downstream took it, perhaps without some items.
    Sent { partial: Option<PartialSuccess> },
    /// The downstream asks for patience.
    Throttled { reason: String, retry_after: Option<Duration> },
    /// It was not taken, and that says nothing about the data.
    Retryable { reason: String, retry_after: Option<Duration> },
    /// The same request will never be taken.
    Permanent { reason: String },
    /// Not taken for longer than the configuration allows.
    GivenUp { reason: String },
}

/// The one table of status codes (OTLP/HTTP, "Failures": 429, 502, 503 and 504 are retryable, all other 4xx and
/// 5xx must not be retried).
pub(super) fn meaning_of(status: StatusCode) -> ExportOutcome {
    match status.as_u16() {
        200..=299 => ExportOutcome::Sent,
        429 => ExportOutcome::Throttled,
        502..=504 => ExportOutcome::Retryable,
        400..=599 => ExportOutcome::Permanent,
        // A redirect (never followed: it would take the data and the headers to another host) or a number that
        // HTTP does not define judges the address, not the data. Asking again loses nothing.
        _ => ExportOutcome::Retryable,
    }
}

// === impl Outcome ===

impl Outcome {
    /// What a response with this status amounts to.
    pub(super) fn of_response(
        status: StatusCode,
        reason: String,
        retry_after: Option<Duration>,
        partial: Option<PartialSuccess>,
    ) -> Self {
        match meaning_of(status) {
            ExportOutcome::Sent => Self::Sent { partial },
            ExportOutcome::Throttled => Self::Throttled { reason, retry_after },
            ExportOutcome::Retryable => Self::Retryable { reason, retry_after },
            ExportOutcome::Permanent => Self::Permanent { reason },
        }
    }

    /// The label that metrics give it.
    pub(super) fn label(&self) -> ExportOutcome {
        match self {
            Self::Sent { .. } => ExportOutcome::Sent,
            Self::Throttled { .. } => ExportOutcome::Throttled,
            Self::Retryable { .. } => ExportOutcome::Retryable,
            Self::Permanent { .. } | Self::GivenUp { .. } => ExportOutcome::Permanent,
        }
    }

    /// What the inspector is told of the attempt.
    pub(super) fn as_attempt(&self, took: Duration) -> Attempt {
        let answer = match self {
            Self::Sent { partial: None } => "taken".to_owned(),
            Self::Sent { partial: Some(PartialSuccess { rejected_items, message }) } => {
                format!("taken, but for {rejected_items} items: {message}")
            }
            Self::Throttled { reason, retry_after: Some(wait) }
            | Self::Retryable { reason, retry_after: Some(wait) } => {
                format!("{reason}; come again in {} s", wait.as_secs())
            }
            Self::Throttled { reason, .. }
            | Self::Retryable { reason, .. }
            | Self::Permanent { reason }
            | Self::GivenUp { reason } => reason.clone(),
        };
        Attempt {
            outcome: self.label().as_str(),
            is_final: !matches!(self, Self::Throttled { .. } | Self::Retryable { .. }),
            answer,
            took_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statuses_that_mean(meaning: ExportOutcome) -> Vec<u16> {
        (100..600)
            .filter(|&code| meaning_of(StatusCode::from_u16(code).expect("three digits")) == meaning)
            .collect()
    }

    #[test]
    fn every_2xx_is_sent_and_nothing_else_is() {
        assert_eq!(statuses_that_mean(ExportOutcome::Sent), (200..300).collect::<Vec<_>>());
    }

    #[test]
    fn only_429_is_throttled() {
        assert_eq!(statuses_that_mean(ExportOutcome::Throttled), [429]);
    }

    #[test]
    fn of_the_errors_only_502_503_and_504_are_retried() {
        let mut retried = statuses_that_mean(ExportOutcome::Retryable);
        retried.retain(|&code| code >= 400);
        assert_eq!(retried, [502, 503, 504]);
    }

    #[test]
    fn a_redirect_loses_no_data() {
        for code in [101, 301, 302, 307, 308] {
            let status = StatusCode::from_u16(code).expect("three digits");
            assert_eq!(meaning_of(status), ExportOutcome::Retryable, "{code}");
        }
    }

    #[test]
    fn bad_data_server_errors_and_request_timeouts_are_permanent() {
        let permanent = statuses_that_mean(ExportOutcome::Permanent);
        for code in [400, 401, 403, 404, 405, 408, 413, 415, 422, 500, 501, 505, 599] {
            assert!(permanent.contains(&code), "{code}");
        }
    }
}
