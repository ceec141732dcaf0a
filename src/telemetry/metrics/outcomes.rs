//! What can become of what is counted: the values of the label `outcome`.

/// What became of a line at the door. Every line has exactly one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LineOutcome {
    Accepted,
    Repaired,
    Rejected,
}

/// What became of a log record that names a span.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogEventOutcome {
    Attached,
    Forwarded,
    Carrier,
    Dropped,
}

/// What became of a webhook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WebhookOutcome {
    Accepted,
    Duplicate,
    Ignored,
    Rejected,
    Unauthorized,
    Refused,
    /// Accepted, and replaced by a later event that makes the same span.
    Superseded,
}

/// How one attempt to export ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ExportOutcome {
    Sent,
    Throttled,
    Retryable,
    Blocked,
    Permanent,
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

// === impl ExportOutcome ===

impl ExportOutcome {
    /// In the order of their declaration.
    pub(super) const ALL: [Self; 5] =
        [Self::Sent, Self::Throttled, Self::Retryable, Self::Blocked, Self::Permanent];

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
