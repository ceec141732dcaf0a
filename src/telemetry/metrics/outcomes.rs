//! Values of the label `outcome`.

/// Outcome of a unit when it is received. Every unit has exactly one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LineOutcome {
    Accepted,
    Repaired,
    Rejected,
}

/// Outcome of a log record that names a span.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogEventOutcome {
    Attached,
    Forwarded,
    Carrier,
    Dropped,
}

/// Outcome of a webhook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WebhookOutcome {
    Accepted,
    Duplicate,
    Ignored,
    Rejected,
    Unauthorized,
    Refused,
    /// The webhook was accepted, and replaced by a later event for the same span.
    Superseded,
}

// === impl LineOutcome ===

impl LineOutcome {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Repaired => "repaired",
            Self::Rejected => "rejected",
        }
    }
}

// === impl LogEventOutcome ===

impl LogEventOutcome {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Attached => "attached",
            Self::Forwarded => "forwarded",
            Self::Carrier => "carrier",
            Self::Dropped => "dropped",
        }
    }
}

// === impl WebhookOutcome ===

impl WebhookOutcome {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Duplicate => "duplicate",
            Self::Ignored => "ignored",
            Self::Rejected => "rejected",
            Self::Unauthorized => "unauthorized",
            Self::Refused => "refused",
            Self::Superseded => "superseded",
        }
    }
}
