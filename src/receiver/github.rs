//! GitHub Actions webhooks: a workflow run and each of its jobs become spans once they have completed.
//!
//! In: the headers and the bytes of one webhook. Out: a [`Reading`] with one item, or one rejection, or the reason that the
//! event is ignored.
//! Promises: the signature is verified over the bytes as they came, before anything is parsed; ids are computed from
//! GitHub's own, so that a redelivery makes the same spans; a member that is missing, `null` or of another type is left out
//! and never fails the event, unless it is an id that spans are made of.
//! Leaves to others: recognizing redeliveries by their id (relay), responses (server).
//!
//! GitHub names the type and the id of an event in headers, which the queue keeps with the body.

mod config;

mod event;

mod ids;

mod signature;

mod spans;

use std::sync::Arc;

use bytes::Bytes;

use self::config::GithubConfig;
use self::event::{Event, Subject};
use self::ids::traceparent;
use self::signature::SCHEME;
use super::webhook::payload::{self, repair};
use super::webhook::signature::Verifier;
use super::webhook::{rejected, with_spans};
use super::{
    AtRoot, Check, Credentials, Identity, Ignored, Page, PageText, Reading, Receiver, Requests, Source,
    Withheld, source,
};
use crate::event::{KeptHeaders, WebhookEvent};

/// Header with the type of an event.
const EVENT: &str = "x-github-event";
/// Header with the id of an event, which a redelivery repeats.
const DELIVERY: &str = "x-github-delivery";

/// Reason for ignoring the events of runs and jobs that are queued or in progress.
const NOT_COMPLETED: Ignored =
    Ignored::routine("the run or the job is not completed; spans are made of completed ones");

/// GitHub as a source.
pub(crate) const SOURCE: Source = Source {
    kind: config::KIND,
    build: |section, limits| {
        let config = source::section(section);
        let receiver =
            |config| Arc::new(Github::new(config).withholding(&limits.withheld)) as Arc<dyn Receiver>;
        config.map(receiver).into_iter().collect()
    },
    requests: Requests::Webhooks(event::EVENTS),
    at_root: AtRoot::Headers(&[EVENT]),
    pages: &[Page {
        name: "traceparent",
        path: "/traceparent/github",
        template: "/traceparent/github/{run_id}/{run_attempt}/{job_id}",
        text: PageText::Shell(traceparent),
    }],
    check: Some(Check {
        receiver: |_| {
            Box::new(Github::new(&GithubConfig { allow_unsigned: true, ..GithubConfig::default() }))
        },
        recognizes: Some(|body| event::type_of(body).is_some()),
    }),
};

/// One configured `github` or `github/NAME` receiver.
struct Github {
    identity: Identity,
    service_name: String,
    /// Attributes whose values are in no name of a span.
    withheld: Withheld,
}

// === impl Github ===

impl Github {
    fn new(config: &GithubConfig) -> Self {
        Self {
            identity: Identity::new(
                &SOURCE,
                &config.endpoint,
                Credentials::Signature(Verifier::new(&SCHEME, &config.secrets, config.allow_unsigned)),
            ),
            service_name: config.service_name.clone(),
            withheld: Withheld::default(),
        }
    }

    fn withholding(self, withheld: &Withheld) -> Self {
        Self { withheld: withheld.clone(), ..self }
    }
}

impl Receiver for Github {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn kept_headers(&self) -> &'static [&'static str] {
        &[EVENT, DELIVERY]
    }

    /// Reads a body without its headers. Its members tell the type of the event.
    fn read(&self, body: &Bytes) -> Reading {
        let mut headers = KeptHeaders::default();
        if let Some(kind) = event::type_of(body) {
            headers.keep(EVENT, kind);
        }
        self.read_as(body, &[], &headers)
    }

    fn read_as(&self, body: &Bytes, _parameters: &[u8], headers: &KeptHeaders) -> Reading {
        let delivery = headers.get(DELIVERY).filter(|id| !id.is_empty());
        let (kind, event_id) = (event::kind(headers.get(EVENT)), delivery.map(str::to_owned));
        let reading = Reading { event: Some(kind), event_id, ..Reading::default() };
        let repaired = repair(body);
        let object = match payload::object(&repaired) {
            Ok(object) => object,
            Err(malformed) => {
                return Reading { rejected: rejected(event::explained(malformed, body), body), ..reading };
            }
        };
        if kind == WebhookEvent::UNKNOWN {
            return Reading { ignored: Some(Ignored::UNKNOWN_EVENT_TYPE), ..reading };
        }
        let event = Event::read(kind, object, delivery);
        if matches!(event.content, Subject::Unfinished) {
            return Reading { ignored: Some(NOT_COMPLETED), ..reading };
        }
        match spans::export_request(&event, &self.service_name, &self.withheld) {
            Some(request) => with_spans(reading, body, request, repaired.repairs),
            None => Reading { ignored: Some(Ignored::NO_ID), ..reading },
        }
    }
}

#[cfg(test)]
mod tests;
