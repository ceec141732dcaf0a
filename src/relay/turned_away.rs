//! Who is turned away at the door: counted, logged with what helps, and told to the inspector.

use crate::receiver::{Receiver, Unauthorized, WebhookEvent};
use crate::telemetry::Metrics;
use crate::telemetry::inspect::view::RequestOutcome;
use crate::telemetry::metrics::WebhookOutcome;

use tracing::warn;

use super::watched;

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
