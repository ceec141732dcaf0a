//! Outcomes: how units, requests, items, exports and lookups end.
//!
//! Labels of metrics, words of the log and of documents derive from them.

use serde::{Serialize, Serializer};

/// Outcome of a unit when it is received. Every unit has exactly one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UnitOutcome {
    Accepted,
    Repaired,
    Rejected,
}

/// Outcome of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum RequestOutcome {
    /// Everything was accepted.
    Accepted,
    /// A part was accepted.
    Partial,
    /// Rejected as a whole: the body was unusable.
    Rejected,
    /// The body was empty.
    Empty,
    /// The event was accepted before.
    Duplicate,
    /// Authentic, but nothing to relay.
    Ignored,
    /// The queue did not accept it.
    Refused,
    /// Token or signature is missing or wrong.
    Unauthorized,
    /// Rejected before a receiver read it.
    Declined,
}

/// Outcome of a log record that names a span.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogEventOutcome {
    Attached,
    Forwarded,
    Carrier,
    Dropped,
}

/// The outcome of an item, worst first. The queue stores the numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Settled {
    /// The downstream will never accept it.
    Rejected = 0,
    /// The configuration says to drop it.
    Dropped = 1,
    /// A later event made the same span.
    Superseded = 2,
    /// The downstream accepted it.
    Delivered = 3,
    /// A log event that was delivered as an event of a span.
    Attached = 4,
}

/// Result of one attempt to export, by what it says about the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ExportOutcome {
    Sent,
    Throttled,
    Retryable,
    /// The destination or its configuration is at fault.
    Blocked,
    Permanent,
}

/// Result of one request to the API of a sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ApiOutcome {
    /// The response has everything.
    Complete,
    /// The response describes something that has not ended yet.
    Incomplete,
    NotFound,
    /// The token is missing, wrong, or lacks a permission.
    Unauthorized,
    Throttled,
    /// A server error or no response.
    Unavailable,
    /// Another status, or a body of another form.
    Unexpected,
}

/// Outcome of a lookup of a job's steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LookupOutcome {
    Found,
    /// The job has no steps.
    Empty,
    GivenUp,
    /// Too many lookups were pending, or the relay stopped and the queue did not keep them.
    Dropped,
}

// === impl UnitOutcome ===

impl UnitOutcome {
    pub(crate) const ALL: [Self; 3] = [Self::Accepted, Self::Repaired, Self::Rejected];

    /// Returns its name in labels and documents.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Repaired => "repaired",
            Self::Rejected => "rejected",
        }
    }
}

impl Serialize for UnitOutcome {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

// === impl RequestOutcome ===

impl RequestOutcome {
    /// Outcomes of webhooks, each of which is one unit.
    pub(crate) const OF_WEBHOOKS: [Self; 6] =
        [Self::Accepted, Self::Duplicate, Self::Ignored, Self::Rejected, Self::Unauthorized, Self::Refused];

    /// Returns its name in labels and documents.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Partial => "partial",
            Self::Rejected => "rejected",
            Self::Empty => "empty",
            Self::Duplicate => "duplicate",
            Self::Ignored => "ignored",
            Self::Refused => "refused",
            Self::Unauthorized => "unauthorized",
            Self::Declined => "declined",
        }
    }
}

impl Serialize for RequestOutcome {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

// === impl LogEventOutcome ===

impl LogEventOutcome {
    pub(crate) const ALL: [Self; 4] = [Self::Attached, Self::Forwarded, Self::Carrier, Self::Dropped];

    /// Returns its name in labels.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Attached => "attached",
            Self::Forwarded => "forwarded",
            Self::Carrier => "carrier",
            Self::Dropped => "dropped",
        }
    }
}

// === impl Settled ===

impl Settled {
    /// Returns the outcome of an item that was exported twice, as a span event and as a log: one success is enough.
    pub(crate) fn better(self, other: Self) -> Self {
        self.max(other)
    }
}

// === impl ExportOutcome ===

impl ExportOutcome {
    /// Every outcome, in the order of the declaration.
    pub(crate) const ALL: [Self; 5] =
        [Self::Sent, Self::Throttled, Self::Retryable, Self::Blocked, Self::Permanent];

    /// Returns its name in labels.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Throttled => "throttled",
            Self::Retryable => "retryable",
            Self::Blocked => "blocked",
            Self::Permanent => "permanent",
        }
    }
}

// === impl ApiOutcome ===

impl ApiOutcome {
    /// Every outcome, in the order of the declaration.
    pub(crate) const ALL: [Self; 7] = [
        Self::Complete,
        Self::Incomplete,
        Self::NotFound,
        Self::Unauthorized,
        Self::Throttled,
        Self::Unavailable,
        Self::Unexpected,
    ];

    /// Returns its name in labels.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Incomplete => "incomplete",
            Self::NotFound => "not_found",
            Self::Unauthorized => "unauthorized",
            Self::Throttled => "throttled",
            Self::Unavailable => "unavailable",
            Self::Unexpected => "unexpected",
        }
    }
}

// === impl LookupOutcome ===

impl LookupOutcome {
    /// Every outcome, in the order of the declaration.
    pub(crate) const ALL: [Self; 4] = [Self::Found, Self::Empty, Self::GivenUp, Self::Dropped];

    /// Returns its name in labels.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Found => "found",
            Self::Empty => "empty",
            Self::GivenUp => "given_up",
            Self::Dropped => "dropped",
        }
    }
}
