//! CircleCI webhooks: one signed event is one span.
//!
//! In: the headers and the bytes of one webhook. Out: a [`Reading`] with one item, or one rejection, or the reason why
//! the event is ignored.
//! Promises: the signature is checked over the raw bytes, before anything is parsed; the same event always results in
//! the same span; a member that is missing, or has an unexpected type, is left out and never fails the event, unless it
//! is an id that the span needs; invalid UTF-8 or JSON is repaired where its meaning is clear.
//! With `api`, the event of a job comes with a [`Lookup`] of its steps, whose responses are read here, too, and whose result
//! is read again with the [parameters](Receiver::parameters) [`SPANS`].
//! Left to others: sending the requests of a lookup (steps), recognising redeliveries by their id (relay), holding the events of cancelled workflows (processor),
//! responses (server).

mod signature;

mod webhook;

mod vcs;

mod spans;

mod attributes;

mod config;

mod traceparent;

mod supersede;

mod lookup;

mod job_details;

mod steps;

mod step_ids;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

pub(crate) use config::{CircleCiApiConfig, CircleCiConfig};
pub(crate) use lookup::{Looked, Lookup};
pub(crate) use traceparent::traceparent;

use self::signature::SCHEME;
use self::webhook::Webhook;
use super::webhook::payload::repair;
use super::webhook::signature::Verifier;
use super::webhook::{of_spans, rejected, with_spans};
use super::{
    AtRoot, Check, Credentials, Identity, Ignored, Page, PageText, Reading, Receiver, Requests, Source,
    Withheld, source,
};
use crate::event::{KeptHeaders, WebhookEvent};

/// CircleCI as a source.
pub(crate) const SOURCE: Source = Source {
    kind: config::KIND,
    build: |section, limits| {
        let config = source::section(section);
        let receiver =
            |config| Arc::new(CircleCi::new(config).withholding(&limits.withheld)) as Arc<dyn Receiver>;
        config.map(receiver).into_iter().collect()
    },
    requests: Requests::Webhooks(webhook::EVENTS),
    at_root: AtRoot::Headers(&["circleci-signature", "circleci-event-type"]),
    pages: &[Page {
        name: "traceparent",
        path: "/traceparent",
        template: "/traceparent/{workflow}/{job}",
        text: PageText::Shell(|ids| {
            ids.split_once('/').and_then(|(workflow, job)| traceparent(workflow, job))
        }),
    }],
    check: Some(Check {
        receiver: |_| Box::new(CircleCi::new(&offline())),
        recognizes: Some(webhook::recognizes),
    }),
};

/// Configuration for `spanrelay check`, which has no signature and waits for no later event.
fn offline() -> CircleCiConfig {
    CircleCiConfig { allow_unsigned: true, cancel_settle: Duration::ZERO, ..CircleCiConfig::default() }
}

/// One configured `circleci` or `circleci/NAME` receiver.
pub(crate) struct CircleCi {
    identity: Identity,
    service_name: String,
    cancel_settle: Duration,
    api: Option<CircleCiApiConfig>,
    /// Attributes whose values are in no name of a span.
    withheld: Withheld,
}

/// Parameters of a record whose body is the result of a lookup, an export request, and not a webhook.
const SPANS: &[u8] = b"spans";

// === impl CircleCi ===

impl CircleCi {
    pub(crate) fn new(config: &CircleCiConfig) -> Self {
        Self {
            identity: Identity::new(
                &SOURCE,
                &config.endpoint,
                Credentials::Signature(Verifier::new(&SCHEME, &config.secrets, config.allow_unsigned)),
            ),
            service_name: config.service_name.clone(),
            cancel_settle: config.cancel_settle,
            api: config.api.clone(),
            withheld: Withheld::default(),
        }
    }

    fn withholding(self, withheld: &Withheld) -> Self {
        Self { withheld: withheld.clone(), ..self }
    }
}

impl Receiver for CircleCi {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Uses the event type in the body: the header that repeats it is not signed.
    fn read(&self, body: &Bytes) -> Reading {
        let repaired = repair(body);
        let webhook = match Webhook::read(&repaired) {
            Ok(webhook) => webhook,
            Err(malformed) => {
                let event = Some(WebhookEvent::UNKNOWN);
                return Reading { rejected: rejected(malformed, body), event, ..Reading::default() };
            }
        };
        let reading = Reading {
            event: Some(webhook.event),
            event_id: webhook.id.as_deref().map(str::to_owned),
            ..Reading::default()
        };
        if webhook.event == WebhookEvent::UNKNOWN {
            return Reading { ignored: Some(Ignored::UNKNOWN_EVENT_TYPE), ..reading };
        }
        let Some(request) = spans::export_request(&webhook, &self.service_name, &self.withheld) else {
            return Reading { ignored: Some(Ignored::NO_ID), ..reading };
        };
        let supersede = supersede::supersede(&webhook, self.id(), self.cancel_settle);
        with_spans(Reading { supersede, ..reading }, body, request, repaired.repairs)
    }

    fn read_as(&self, body: &Bytes, parameters: &[u8], _headers: &KeptHeaders) -> Reading {
        if parameters == SPANS { of_spans(body) } else { self.read(body) }
    }

    fn lookup(&self, event: &Bytes) -> Option<Lookup> {
        let lookup = Lookup::new(event, &self.service_name, self.api.as_ref()?)?;
        Some(lookup.withholding(&self.withheld))
    }

    fn lookup_parameters(&self) -> Bytes {
        Bytes::from_static(SPANS)
    }
}

#[cfg(test)]
mod tests;
