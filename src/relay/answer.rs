//! Answers to requests, in the words of the relay.

use crate::event::RequestOutcome;
use crate::receiver::{Ignored, Rejected};

/// Result of a request, from which the response follows. `server/reply.rs` maps it to a status code.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// All units were accepted.
    Accepted,
    /// There are no units.
    Empty,
    /// The event was accepted before.
    Duplicate,
    /// Some units were accepted.
    Partial { accepted: usize, rejected: Vec<Rejected> },
    /// No unit was usable.
    Unusable { rejected: Vec<Rejected> },
    /// The request is authentic, but there is nothing to relay.
    Ignored(Ignored),
    /// None of it was accepted; the client can retry after this many seconds.
    Unavailable { reason: String, retry_after_seconds: u64 },
    /// None of it was accepted, and the same request never can be.
    TooLarge { reason: String },
}

// === impl Answer ===

impl Answer {
    /// Returns the outcome without its details.
    pub(super) fn outcome(&self) -> RequestOutcome {
        match self {
            Self::Accepted => RequestOutcome::Accepted,
            Self::Empty => RequestOutcome::Empty,
            Self::Duplicate => RequestOutcome::Duplicate,
            Self::Partial { .. } => RequestOutcome::Partial,
            Self::Unusable { .. } => RequestOutcome::Rejected,
            Self::Ignored(_) => RequestOutcome::Ignored,
            Self::Unavailable { .. } | Self::TooLarge { .. } => RequestOutcome::Refused,
        }
    }

    /// Returns the parts of the body that were rejected.
    pub(super) fn rejected(&self) -> &[Rejected] {
        match self {
            Self::Partial { rejected, .. } | Self::Unusable { rejected } => rejected,
            _ => &[],
        }
    }
}
