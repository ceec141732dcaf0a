//! Classifies responses by what they mean for the data.
//!
//! In: a status. Out: an [`Outcome`]: the data is delivered, must be retried, is condemned, or the destination is at fault. The
//! only table of statuses is [`classify_status`].

use std::time::Duration;

use http::StatusCode;

use super::response::PartialSuccess;
use crate::event::ExportOutcome;

/// Result of one attempt; after the last attempt, result of the export.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Delivered, perhaps without some items.
    Sent { partial: Option<PartialSuccess> },
    /// Not delivered: the downstream asks for fewer requests.
    Throttled { reason: String, retry_after: Option<Duration> },
    /// Not delivered, which says nothing about the data.
    Retryable { reason: String, retry_after: Option<Duration> },
    /// Not delivered, because the destination or its configuration is at fault: no data would be accepted.
    Blocked { reason: String, status: Option<StatusCode>, remedy: String },
    /// Rejected permanently: sending the same data again does not help.
    Permanent { reason: String },
    /// Not accepted for longer than the configuration allows.
    GivenUp { reason: String },
}

/// Classifies a status. The statuses in `permanent` condemn the data, except 429, 502, 503 and 504, which OTLP defines as
/// retryable.
pub(super) fn classify_status(status: StatusCode, permanent: &[u16]) -> ExportOutcome {
    match status.as_u16() {
        200..=299 => ExportOutcome::Sent,
        429 => ExportOutcome::Throttled,
        502..=504 => ExportOutcome::Retryable,
        code if permanent.contains(&code) => ExportOutcome::Permanent,
        500..=599 => ExportOutcome::Retryable,
        // A client error, a redirect (never followed: it would send data and headers to another host) or a number that HTTP
        // does not define.
        _ => ExportOutcome::Blocked,
    }
}

// === impl Outcome ===

impl Outcome {
    /// Returns what the attempt says about the data. Permanent if the export was given up.
    pub(super) fn kind(&self) -> ExportOutcome {
        match self {
            Self::Sent { .. } => ExportOutcome::Sent,
            Self::Throttled { .. } => ExportOutcome::Throttled,
            Self::Retryable { .. } => ExportOutcome::Retryable,
            Self::Blocked { .. } => ExportOutcome::Blocked,
            Self::Permanent { .. } | Self::GivenUp { .. } => ExportOutcome::Permanent,
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

    fn statuses_of_kind(kind: ExportOutcome) -> Vec<u16> {
        (100..1000).filter(|&code| classify_status(status(code), &PERMANENT) == kind).collect()
    }

    #[test]
    fn only_2xx_is_delivered() {
        assert_eq!(statuses_of_kind(ExportOutcome::Sent), (200..300).collect::<Vec<_>>());
    }

    #[test]
    fn only_429_is_throttled_and_every_5xx_is_retried() {
        assert_eq!(statuses_of_kind(ExportOutcome::Throttled), [429]);
        assert_eq!(statuses_of_kind(ExportOutcome::Retryable), (500..600).collect::<Vec<_>>());
    }

    #[test]
    fn only_permanent_status_codes_condemn_the_data() {
        assert_eq!(statuses_of_kind(ExportOutcome::Permanent), PERMANENT);
        assert_eq!(classify_status(status(400), &[]), ExportOutcome::Blocked);
        assert_eq!(classify_status(status(501), &[501]), ExportOutcome::Permanent);
        for code in [429, 502, 503, 504] {
            assert_ne!(classify_status(status(code), &[code]), ExportOutcome::Permanent, "{code}");
        }
    }

    #[test]
    fn every_other_status_blocks_the_destination() {
        let blocked = statuses_of_kind(ExportOutcome::Blocked);
        for code in [101, 301, 302, 307, 308, 401, 403, 404, 405, 407, 408, 415, 418, 451, 600, 999] {
            assert!(blocked.contains(&code), "{code}");
        }
    }
}
