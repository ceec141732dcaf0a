//! Who is turned away at the door: counted, logged with what helps, and told to the inspector. Of those who are too
//! many the log has one line a minute for each limit.

use std::time::Instant;

use tracing::warn;

use super::{RateLimit, Throttled, watched};
use crate::receiver::{Receiver, Unauthorized, WebhookEvent};
use crate::telemetry::inspect::view::RequestOutcome;
use crate::telemetry::metrics::WebhookOutcome;
use crate::telemetry::{LineLimit, Metrics};

const OVERLOADED: &str = "as many requests as may be are in progress";
const OVERLOADED_KEY: &str = "server.max_concurrent_requests";

/// A sender was refused for what it showed of itself.
pub(super) fn unauthorized(metrics: &Metrics, receiver: &dyn Receiver, refusal: Unauthorized) {
    if receiver.takes_webhooks() {
        // What it claims to be is not to be believed.
        metrics.webhook(WebhookEvent::Unknown, WebhookOutcome::Unauthorized);
    }
    let (id, reason) = (receiver.id(), refusal.0);
    let advice = match receiver.takes_webhooks() {
        true => format!(
            "the secret of the webhook must be one of receivers.{id}.secrets, and nothing on the way may change the body"
        ),
        false => {
            format!("the sender must have the header of receivers.{id}.auth with one of its values, whole")
        }
    };
    warn!(receiver = id, reason, advice, "unauthorized");
    watched::turned_away(
        &metrics.inspector,
        Some(receiver),
        RequestOutcome::Unauthorized,
        reason.to_owned(),
        Some(advice.into()),
    );
}

/// The receiver takes no more requests for now.
pub(super) fn throttled(metrics: &Metrics, receiver: &dyn Receiver, limit: &RateLimit, refusal: Throttled) {
    let id = receiver.id();
    metrics.throttled(id);
    let key = format!("receivers.{id}.rate_limit");
    let advice = format!("raise {key}, or have the sender come less often or with more at a time");
    too_many(metrics, receiver, &limit.lines, &key, refusal.to_string(), advice);
}

/// As many requests as there may be are in progress.
pub(super) fn overloaded(metrics: &Metrics, receiver: &dyn Receiver, lines: &LineLimit) {
    metrics.overloaded(receiver.id());
    let advice = format!(
        "raise {OVERLOADED_KEY} if there is memory for it, or look for senders that are slow; webhooks get half of it"
    );
    too_many(metrics, receiver, lines, OVERLOADED_KEY, OVERLOADED.to_owned(), advice);
}

fn too_many(
    metrics: &Metrics,
    receiver: &dyn Receiver,
    lines: &LineLimit,
    key: &str,
    reason: String,
    advice: String,
) {
    if let Some(left_out) = lines.admit(Instant::now()) {
        let left_out = left_out.shown();
        warn!(receiver = receiver.id(), key, reason, advice, left_out, "request turned away");
    }
    let outcome = RequestOutcome::TurnedAway;
    watched::turned_away(&metrics.inspector, Some(receiver), outcome, reason, Some(advice.into()));
}
