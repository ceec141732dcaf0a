//! Reports requests whose data was not accepted: counted, logged with a remedy, and shown by the inspector.
//!
//! In: a receiver, where one was found, and a [`Declined`]. Out: a line at `warn` and what the inspector shows.
//! Promises: every cause of every receiver has a limit of its own, so that a flood of one hides no other; the
//! number of limits is fixed by the configuration.
//! Left to others: statuses (`server::reply`), and the metric of all responses, which follows from them.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Instant;

use tracing::{debug, warn};

use super::{Answer, ReceiverIndex, Relay, Throttled, observer};
use crate::event::{RequestOutcome, WebhookEvent};
use crate::queue::OfferError;
use crate::receiver::{Receiver, Unauthorized};
use crate::telemetry::line_limit::{LineLimit, Suppressed};

/// Log lines per minute about rejected input. Each has its own reason, and the first of them rarely explains all.
const REJECTED_INPUT_LINES: u32 = 10;

/// A request whose data was not accepted, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Declined {
    pub(crate) cause: LimitedCause,
    pub(crate) reason: String,
    /// Method and path, for the inspector alone: the client chose them, so that they are not logged.
    pub(crate) request: Option<String>,
    /// The configuration key of the limit or rule that rejected the request.
    pub(crate) key: Option<Cow<'static, str>>,
    /// Advice to the operator, where there is an obvious one.
    pub(crate) remedy: Option<Cow<'static, str>>,
}

/// Kinds of reasons, each with its own limit of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LimitedCause {
    UnknownPath,
    MalformedHead,
    LengthRequired,
    Unauthorized,
    Overloaded,
    InflightFull,
    Throttled,
    UnknownMediaType,
    UnknownEncoding,
    CorruptEncoding,
    TooLarge,
    TooSlow,
    CutShort,
    TimedOut,
    QueueFull,
    QueueUnwritable,
    IgnoredWebhook,
    RejectedInput,
}

/// Limits of all receivers, and those of requests that reached none.
pub(super) struct LineLimits {
    by_receiver: Box<[Arc<CauseLimits>]>,
    no_receiver: CauseLimits,
}

struct CauseLimits([LineLimit; LimitedCause::COUNT]);

// === impl LimitedCause ===

impl LimitedCause {
    const COUNT: usize = Self::RejectedInput as usize + 1;

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::UnknownPath => "unknown_path",
            Self::MalformedHead => "malformed_head",
            Self::LengthRequired => "length_required",
            Self::Unauthorized => "unauthorized",
            Self::Overloaded => "overloaded",
            Self::InflightFull => "inflight_full",
            Self::Throttled => "throttled",
            Self::UnknownMediaType => "unknown_media_type",
            Self::UnknownEncoding => "unknown_encoding",
            Self::CorruptEncoding => "corrupt_encoding",
            Self::TooLarge => "too_large",
            Self::TooSlow => "too_slow",
            Self::CutShort => "cut_short",
            Self::TimedOut => "timed_out",
            Self::QueueFull => "queue_full",
            Self::QueueUnwritable => "queue_unwritable",
            Self::IgnoredWebhook => "ignored_webhook",
            Self::RejectedInput => "rejected_input",
        }
    }
}

// === impl Declined ===

impl Declined {
    fn unauthorized(receiver: &dyn Receiver, refusal: Unauthorized) -> Self {
        let id = receiver.id();
        let remedy = match receiver.source().webhooks() {
            Some(_) => format!(
                "make the webhook's secret one of receivers.{id}.secrets, and let nothing in between change the body"
            ),
            None => {
                format!("send the header configured in receivers.{id}.auth; its value must match exactly")
            }
        };
        Self {
            cause: LimitedCause::Unauthorized,
            reason: refusal.0.to_owned(),
            request: None,
            key: None,
            remedy: Some(remedy.into()),
        }
    }

    fn throttled(receiver: &dyn Receiver, refusal: Throttled) -> Self {
        let key = format!("receivers.{}.rate_limit", receiver.id());
        let remedy = format!("raise {key}, or have the sender post less often with more at a time");
        Self {
            cause: LimitedCause::Throttled,
            reason: refusal.to_string(),
            request: None,
            key: Some(key.into()),
            remedy: Some(remedy.into()),
        }
    }

    fn by_the_queue(refusal: &OfferError) -> Self {
        let (cause, key) = match refusal {
            OfferError::Full { .. } => (LimitedCause::QueueFull, Some("queue.max_size")),
            OfferError::NeverFits { .. } => (LimitedCause::TooLarge, Some("queue.max_size")),
            OfferError::Unwritable { .. } => (LimitedCause::QueueUnwritable, None),
        };
        Self { cause, reason: refusal.to_string(), request: None, key: key.map(Cow::Borrowed), remedy: None }
    }
}

// === impl LineLimits ===

impl LineLimits {
    /// Creates the limits for receivers with these ids, in the order of the registry. Receivers with the same id share
    /// their limits.
    pub(super) fn new<'a>(ids: impl IntoIterator<Item = &'a str>) -> Self {
        let mut known: Vec<(&str, Arc<CauseLimits>)> = Vec::new();
        let by_receiver = ids.into_iter().map(|id| {
            if let Some((_, limits)) = known.iter().find(|(other, _)| *other == id) {
                return Arc::clone(limits);
            }
            let limits = Arc::new(CauseLimits::default());
            known.push((id, Arc::clone(&limits)));
            limits
        });
        Self { by_receiver: by_receiver.collect(), no_receiver: CauseLimits::default() }
    }

    pub(super) fn admit(&self, receiver: Option<ReceiverIndex>, cause: LimitedCause) -> Option<Suppressed> {
        let limits = receiver.map_or(&self.no_receiver, |index| &self.by_receiver[index.0]);
        limits.0[cause as usize].admit(Instant::now())
    }
}

impl Default for CauseLimits {
    fn default() -> Self {
        let mut limits = [const { LineLimit::new(1) }; LimitedCause::COUNT];
        limits[LimitedCause::RejectedInput as usize] = LineLimit::new(REJECTED_INPUT_LINES);
        Self(limits)
    }
}

// === impl Relay ===

impl Relay {
    /// Reports a request that ended before its body was read by a receiver, or that found no receiver.
    pub(crate) fn declined(&self, receiver: Option<ReceiverIndex>, declined: Declined) {
        let found = receiver.map(|index| self.receiver(index));
        if let (LimitedCause::Overloaded, Some(found)) = (declined.cause, &found) {
            self.metrics.overloaded(found.id());
        }
        self.log_declined(receiver, found.as_deref().map(Receiver::id), &declined);
        let outcome = match declined.cause {
            LimitedCause::Unauthorized => RequestOutcome::Unauthorized,
            _ => RequestOutcome::Declined,
        };
        let Declined { reason, request, remedy, .. } = declined;
        let reason = request.map_or_else(|| reason.clone(), |request| format!("{request}: {reason}"));
        observer::observe_declined(&self.metrics.inspector, found.as_deref(), outcome, reason, remedy);
    }

    /// Logs that the queue did not accept a request, and returns the answer.
    pub(super) fn unavailable(&self, index: ReceiverIndex, refusal: &OfferError) -> Answer {
        self.log_declined(Some(index), Some(self.receiver(index).id()), &Declined::by_the_queue(refusal));
        let reason = match refusal {
            OfferError::Full { .. } => "the queue is full; retry the same request later",
            OfferError::Unwritable { .. } => "the queue cannot write; retry the same request later",
            OfferError::NeverFits { .. } => {
                let reason = "the request is larger than the whole queue (queue.max_size)".to_owned();
                return Answer::TooLarge { reason };
            }
        };
        Answer::Unavailable {
            reason: reason.to_owned(),
            retry_after_seconds: self.queue.retry_after_seconds(),
        }
    }

    /// Logs a rejected request, if the limit of its cause allows.
    fn log_declined(&self, index: Option<ReceiverIndex>, receiver: Option<&str>, declined: &Declined) {
        let Declined { cause, reason, key, remedy, .. } = declined;
        let (cause, key, remedy) = (*cause, key.as_deref(), remedy.as_deref());
        match self.limits.admit(index, cause) {
            Some(suppressed) => {
                let (cause, suppressed) = (cause.as_str(), suppressed.shown());
                warn!(receiver, cause, key, reason, remedy, suppressed, "request rejected");
            }
            None => debug!(receiver, cause = cause.as_str(), key, reason, remedy, "request rejected"),
        }
    }

    pub(super) fn unauthorized(&self, index: ReceiverIndex, receiver: &dyn Receiver, refusal: Unauthorized) {
        if receiver.source().webhooks().is_some() {
            // The event type in the request is not trustworthy.
            self.metrics.webhook(WebhookEvent::UNKNOWN, RequestOutcome::Unauthorized);
        }
        self.declined(Some(index), Declined::unauthorized(receiver, refusal));
    }

    pub(super) fn throttled(&self, index: ReceiverIndex, receiver: &dyn Receiver, refusal: Throttled) {
        self.metrics.throttled(receiver.id());
        self.declined(Some(index), Declined::throttled(receiver, refusal));
    }
}
