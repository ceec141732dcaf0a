//! A source: everything that the rest of the program must know about one kind of receiver.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use http::HeaderMap;

use super::{Receiver, SOURCES, Withheld};
use crate::config::{ProcessorsConfig, ReceiverConfig, ReceiverKind, ReceiversConfig, ServerConfig};
use crate::event::{Signal, WebhookEvent};

/// One row of the registry of sources.
pub struct Source {
    /// Name and configuration section.
    pub(crate) kind: ReceiverKind,
    /// Builds the receivers of one section, one for each path. Sections of other sources make none.
    pub(crate) build: fn(&dyn ReceiverConfig, &Limits) -> Vec<Arc<dyn Receiver>>,
    pub(crate) requests: Requests,
    pub(crate) at_root: AtRoot,
    /// Routes for `GET`, which have no receiver.
    pub(crate) pages: &'static [Page],
    /// Reading without a relay; `None` if `spanrelay check` does not support the source.
    pub(crate) check: Option<Check>,
}

/// Settings of other sections that receivers depend on: bounds in bytes, what stays protobuf, and what must not be stored.
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    pub(crate) max_line_bytes: usize,
    pub(crate) max_body_bytes: usize,
    /// Signals that are exported as protobuf, so that such requests need not be decoded.
    pub(crate) keeps_protobuf: [bool; Signal::ALL.len()],
    pub(crate) withheld: Withheld,
}

/// Form of a source's requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Requests {
    /// A batch, whose units are counted as lines.
    Batches {
        /// The source accepts `PUT` as well as `POST`.
        put: bool,
    },
    /// A single event. The events are those that the source knows, for metrics.
    Webhooks(&'static [WebhookEvent]),
}

/// Requests to `POST /` that the first receiver of a source accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AtRoot {
    /// Requests with one of these headers.
    Headers(&'static [&'static str]),
    /// Requests that no other source accepts.
    Rest,
    /// No requests.
    Nothing,
}

/// A route for `GET`.
pub(crate) struct Page {
    /// Name in logs.
    pub(crate) name: &'static str,
    pub(crate) path: &'static str,
    /// Route in self-traces.
    pub(crate) template: &'static str,
    pub(crate) text: PageText,
}

/// Text of a [`Page`].
#[derive(Clone, Copy)]
pub(crate) enum PageText {
    /// The text depends on the configuration only.
    Fixed(fn(&ReceiversConfig) -> String),
    /// A line that a shell executes, from the part of the path after the page's own path and a slash. `None` if that part is
    /// invalid.
    Shell(fn(&str) -> Option<String>),
}

/// Reading for `spanrelay check`.
pub(crate) struct Check {
    /// Creates the receiver with default settings. It accepts unsigned requests.
    pub(crate) receiver: fn(Limits) -> Box<dyn Receiver>,
    /// Recognizes a body of this source; `None` for a source of bodies that no other source recognizes.
    pub(crate) recognizes: Option<fn(&[u8]) -> bool>,
}

/// Treatment of a receiver's requests by the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Policy {
    /// Name of the source.
    pub(crate) source: &'static str,
    pub(crate) requests: Requests,
    /// Signal of an OTLP receiver, whose responses are those that OTLP specifies.
    pub(crate) otlp: Option<Signal>,
}

/// Returns the section as that of one source.
pub(super) fn section<C: ReceiverConfig>(section: &dyn ReceiverConfig) -> Option<&C> {
    (section as &dyn Any).downcast_ref()
}

/// Builds the receivers of one section.
pub(crate) fn build(section: &dyn ReceiverConfig, limits: &Limits) -> Vec<Arc<dyn Receiver>> {
    SOURCES.iter().flat_map(|source| (source.build)(section, limits)).collect()
}

/// Returns the source that accepts a request to `POST /` with these headers.
pub(crate) fn at_root(headers: &HeaderMap) -> Option<&'static Source> {
    let has_header = |source: &&Source| match source.at_root {
        AtRoot::Headers(names) => names.iter().any(|name| headers.contains_key(*name)),
        AtRoot::Rest | AtRoot::Nothing => false,
    };
    let rest = || SOURCES.iter().find(|source| source.at_root == AtRoot::Rest);
    SOURCES.iter().find(has_header).or_else(rest)
}

/// Returns the pages of all sources, each with whether its source has a receiver.
pub(crate) fn pages(receivers: &ReceiversConfig) -> impl Iterator<Item = (&'static Page, bool)> {
    SOURCES.iter().flat_map(|source| {
        let is_configured = receivers.has(source.name());
        source.pages.iter().map(move |page| (page, is_configured))
    })
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

// === impl Source ===

impl Source {
    /// Returns the part of a receiver's id before the slash.
    pub(crate) const fn name(&self) -> &'static str {
        self.kind.name()
    }

    /// Returns the events of a source of webhooks.
    pub(crate) fn webhooks(&self) -> Option<&'static [WebhookEvent]> {
        match self.requests {
            Requests::Webhooks(events) => Some(events),
            Requests::Batches { .. } => None,
        }
    }
}

// === impl Limits ===

impl Limits {
    /// Returns the settings of these sections.
    pub(crate) fn of(server: &ServerConfig, processors: &ProcessorsConfig) -> Self {
        let bytes = |size: u64| usize::try_from(size).unwrap_or(usize::MAX);
        Self {
            max_line_bytes: bytes(server.max_line_size),
            max_body_bytes: bytes(server.max_request_body_size),
            keeps_protobuf: [false; Signal::ALL.len()],
            withheld: Withheld::new(processors.attributes.withheld()),
        }
    }

    /// Sets the signals whose requests in protobuf stay protobuf.
    pub(crate) fn keeping_protobuf(self, keeps_protobuf: [bool; Signal::ALL.len()]) -> Self {
        Self { keeps_protobuf, ..self }
    }
}

// === impl Page ===

impl Page {
    /// Returns `true` for the paths that lead to the page. A malformed path of a shell line is one of them.
    pub(crate) fn covers(&self, path: &str) -> bool {
        match (path.strip_prefix(self.path), self.text) {
            (Some(rest), PageText::Shell(_)) => rest.is_empty() || rest.starts_with('/'),
            (Some(rest), PageText::Fixed(_)) => rest.is_empty(),
            (None, _) => false,
        }
    }
}

// === impl Policy ===

impl Policy {
    pub(crate) fn of(receiver: &dyn Receiver) -> Self {
        let source = receiver.source();
        Self { source: source.name(), requests: source.requests, otlp: receiver.signal() }
    }

    pub(crate) fn is_webhook(self) -> bool {
        matches!(self.requests, Requests::Webhooks(_))
    }

    pub(crate) fn accepts_put(self) -> bool {
        self.requests == Requests::Batches { put: true }
    }
}
