//! Receivers: authentication of requests, and reading of their contents.
//!
//! A receiver is pure: it maps bytes and headers to values, does no I/O, reads no clock and knows neither queue nor
//! exporter. So the accepted bytes can be read again after a restart with the same result.
//!
//! A new source is a folder in `receiver/` with its section of the configuration, a row in [`SOURCES`], and a folder of
//! fixtures.

pub(crate) mod circleci;
pub(crate) mod fastly;
mod github;
pub(crate) mod otlp;

mod source;

mod token;

mod withheld;

mod webhook;

use std::ops::Range;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::HeaderMap;

pub(crate) use self::circleci::{CircleCiApiConfig, CircleCiConfig, Looked, Lookup};
pub(crate) use self::source::{
    AtRoot, Check, Limits, Page, PageText, Policy, Requests, Source, at_root, build, pages,
};
use self::token::Token;
use self::webhook::signature::Verifier;
pub use self::webhook::signature::sign;
pub(crate) use self::withheld::{Scrubbing, Withheld};
use crate::config::{Encoding, ReceiverEndpoint, ReceiverKind};
use crate::event::{KeptHeaders, RejectCode, Repair, Signal, WebhookEvent};
use crate::otlp::{Logs, Metrics, ProtobufRequest, TraceId, Traces};

/// The registry of sources. Nothing else in the program has to change when a source is added.
pub(crate) static SOURCES: &[Source] = &[fastly::SOURCE, circleci::SOURCE, github::SOURCE, otlp::SOURCE];

/// Kinds of receivers for the configuration.
pub static RECEIVERS: &[ReceiverKind] = &kinds();

const fn kinds() -> [ReceiverKind; SOURCES.len()] {
    let mut kinds = [SOURCES[0].kind; SOURCES.len()];
    let mut row = 0;
    while row < SOURCES.len() {
        kinds[row] = SOURCES[row].kind;
        row += 1;
    }
    kinds
}

/// One configured source.
pub trait Receiver: Send + Sync {
    /// Returns what distinguishes it from other receivers.
    fn identity(&self) -> &Identity;

    /// Returns the id in the configuration: `fastly`, `fastly/www`, `circleci`.
    fn id(&self) -> &str {
        &self.identity().id
    }

    /// Returns the path of its requests.
    fn path(&self) -> &str {
        &self.identity().path
    }

    /// Returns its row of the registry.
    fn source(&self) -> &'static Source {
        self.identity().source
    }

    /// Returns the signal of its requests, for a receiver of OTLP.
    fn signal(&self) -> Option<Signal> {
        self.identity().signal
    }

    /// Checks the headers for credentials. Called before any of the body is read.
    fn admit(&self, headers: &HeaderMap) -> Result<(), Unauthorized> {
        match &self.identity().credentials {
            Credentials::Token(token) => token.check(headers),
            // The signature covers the body, so that the headers alone prove nothing.
            Credentials::Signature(_) => Ok(()),
        }
    }

    /// Checks that the body, as received and before any decoding, is authentic.
    fn verify(&self, headers: &HeaderMap, wire: &[u8]) -> Result<(), Unauthorized> {
        match &self.identity().credentials {
            Credentials::Token(_) => Ok(()),
            Credentials::Signature(verifier) => verifier.verify(headers, wire),
        }
    }

    /// Returns the likely cause of a rejection, where it is known.
    fn diagnose(&self, _rejected: &Rejected) -> Option<Diagnosis> {
        None
    }

    /// Returns whether a field of rejected JSON would have become an attribute that is withheld. `path` is its name, with those
    /// of the objects around it, joined by dots.
    fn withholds(&self, _path: &str, _is_object: bool) -> bool {
        false
    }

    /// Returns the ranges of a rejected line that would have become attributes that are withheld. `None` if the receiver cannot
    /// parse the line.
    fn withheld_in(&self, _line: &str) -> Option<Vec<Range<usize>>> {
        None
    }

    /// Returns the names of the headers that are needed for reading a body, in lower case: at most
    /// [`KeptHeaders::MAX`]. The queue stores their values.
    fn kept_headers(&self) -> &'static [&'static str] {
        &[]
    }

    /// Reads a decoded body. Bad input is part of the result; reading never fails as a whole. Uses the bytes alone, so
    /// that it can be repeated when nothing else is known.
    fn read(&self, body: &Bytes) -> Reading;

    /// Returns the settings that [`read`](Self::read) depends on, for [`read_as`](Self::read_as): at most 65,535 bytes.
    fn parameters(&self) -> Bytes {
        Bytes::new()
    }

    /// Reads a body that was received with these headers when the receiver had these [parameters](Self::parameters).
    /// Empty ones are the current ones.
    fn read_as(&self, body: &Bytes, _parameters: &[u8], _headers: &KeptHeaders) -> Reading {
        self.read(body)
    }

    /// Starts the lookup of further spans of an event in its sender's API. `None` if there is nothing to look up.
    fn lookup(&self, _event: &Bytes) -> Option<Lookup> {
        None
    }

    /// Returns the [parameters](Self::parameters) of a record that holds the result of a lookup.
    fn lookup_parameters(&self) -> Bytes {
        Bytes::new()
    }

    /// Reads a decoded body on arrival, and returns the form of it to keep, with the parameters for which
    /// [`read_as`](Self::read_as) gives the same result.
    fn receive(&self, body: &Bytes, _encoding: Encoding, headers: &KeptHeaders) -> Received {
        let reading = self.read_as(body, &[], headers);
        Received { kept: body.clone(), parameters: self.parameters(), reading }
    }
}

/// Place of a receiver among others, and the credentials that its requests need.
pub struct Identity {
    /// Row of the registry.
    source: &'static Source,
    /// Id in the configuration, which receivers of several signals share.
    id: String,
    path: String,
    signal: Option<Signal>,
    credentials: Credentials,
}

/// Credentials of requests.
enum Credentials {
    /// A header with one of the configured values.
    Token(Token),
    /// An HMAC of the body under one of the configured secrets.
    Signature(Verifier),
}

/// Returns the headers that the receiver needs for reading a body. A header with several lines is ambiguous and is
/// treated as absent.
pub(crate) fn kept_headers(receiver: &dyn Receiver, headers: &HeaderMap) -> KeptHeaders {
    let mut kept = KeptHeaders::default();
    for name in receiver.kept_headers() {
        let mut lines = headers.get_all(*name).iter();
        if let (Some(line), None) = (lines.next(), lines.next())
            && let Ok(value) = line.to_str()
        {
            kept.keep(name, value);
        }
    }
    kept
}

/// Result of [`Receiver::receive`].
#[derive(Debug)]
pub struct Received {
    /// The body as the queue keeps it.
    pub kept: Bytes,
    /// Parameters for reading it again.
    pub parameters: Bytes,
    /// Result of reading the body.
    pub reading: Reading,
}

/// Error of a request that is not authentic. The reason is for the sender and contains no secret and no expected value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unauthorized(pub(crate) &'static str);

/// Result of reading one request body.
#[derive(Debug, Default)]
pub struct Reading {
    /// Accepted items, in the order of the body.
    pub items: Vec<Item>,
    /// Rejected parts, in the order of the body; [sections](Scope::Section) last.
    pub rejected: Vec<Rejected>,
    /// The whole body is a valid request without content for its receiver. It is the only entry of `rejected`, and the
    /// sender gets a warning.
    pub(crate) is_foreign: bool,
    /// The sender's own id of the event, if redeliveries can be recognised by it.
    pub event_id: Option<String>,
    /// Rule by which the event supersedes others that make the same span.
    pub(crate) supersede: Option<Supersede>,
    /// Reason why an authentic event results in no telemetry.
    pub ignored: Option<Ignored>,
    /// Kind of event, for receivers of webhooks.
    pub event: Option<WebhookEvent>,
}

/// One accepted line of a batch, one webhook, or one OTLP request.
#[derive(Debug)]
pub struct Item {
    /// Line of its start in the body, from 1.
    pub line: u32,
    /// Spans of the unit.
    pub traces: Option<Traces>,
    /// Log records of the unit.
    pub logs: Option<Logs>,
    /// Metrics of the unit.
    pub metrics: Option<Metrics>,
    /// A request that is exported as it is, instead of the documents above. Only with [`Passage::Straight`].
    pub protobuf: Option<ProtobufRequest>,
    /// Repairs that made it valid; empty for a line that was valid.
    pub repairs: Vec<Repair>,
    /// Matching of spans and log records.
    pub passage: Passage,
}

/// Rule by which an event supersedes others that make the same span.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Supersede {
    pub(crate) event: WebhookEvent,
    pub(crate) key: SupersedeKey,
    /// Rank among events with the same key: the highest is kept; of equal ones, the one that arrived later.
    pub(crate) rank: (u64, u64),
    /// Time to hold the event after its arrival.
    pub(crate) hold: Duration,
    /// The event is held even if no other event with its key is.
    pub(crate) begins_hold: bool,
}

/// Identifies the span that several events make.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct SupersedeKey {
    /// The id of the receiver.
    pub(crate) receiver: String,
    pub(crate) trace_id: TraceId,
}

/// Matching of spans and log records.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Passage {
    /// Log records that name a span become its events.
    #[default]
    Joined,
    /// No matching: everything is exported unchanged and at once.
    Straight,
}

/// The extent of a rejection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// A whole unit, or a part of the body that is not one. Every unit is accepted, or rejected by one entry of this
    /// scope.
    Unit,
    /// One span or log record of a unit that has another entry or an item.
    Item,
    /// A section of another signal in an OTLP request with content of its own signal. Not a rejected item of that
    /// signal.
    Section,
    /// Several units that follow each other, with the position and the reason of the first.
    Units {
        /// Number of units.
        count: u32,
        /// Line of the last one.
        last_line: u32,
    },
    /// Several items of one unit that follow each other, with the position and the reason of the first.
    Items {
        /// Number of items.
        count: u32,
    },
}

/// A unit, or a part of one, that is rejected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// Extent of the rejection.
    pub scope: Scope,
    /// Line of the body, from 1.
    pub line: u32,
    /// Column in bytes, from 1.
    pub column: u32,
    pub(crate) code: RejectCode,
    /// Offset of the fault in the input. The column does not tell it where a line has several units, or a unit several
    /// lines.
    pub(crate) at: usize,
    /// Reason for the sender; it repeats nothing of the input.
    pub reason: String,
    /// The bytes that were rejected.
    pub input: Bytes,
    /// Set once the input was scrubbed.
    pub(crate) scrubbed: Option<Scrubbing>,
}

/// Likely cause of a rejection or a repair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Diagnosis {
    /// The cause in one word, for scripts.
    pub(crate) mistake: &'static str,
    /// Advice to the operator.
    pub(crate) advice: &'static str,
}

/// The reason why an authentic request is accepted without making telemetry of it. Sources may have their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ignored {
    reason: &'static str,
    /// The sender has no setting against such events, so that they are no reason for a warning.
    pub(crate) is_routine: bool,
}

// === impl Identity ===

impl Identity {
    /// Creates the identity of a receiver at a path of its own.
    fn new(source: &'static Source, endpoint: &ReceiverEndpoint, credentials: Credentials) -> Self {
        let ReceiverEndpoint { id, path, rate_limit: _ } = endpoint.clone();
        Self { source, id, path, signal: None, credentials }
    }
}

// === impl Item ===

impl Item {
    /// Sets the time of arrival, which is used for log events without a time.
    pub(crate) fn set_arrival(&mut self, received: SystemTime) {
        if let Some(logs) = &mut self.logs {
            let arrival = received.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            logs.set_arrival(u64::try_from(arrival.as_nanos()).unwrap_or(u64::MAX));
        }
    }
}

// === impl Rejected ===

impl Rejected {
    /// Returns the number of units among some rejections.
    pub fn units(rejected: &[Self]) -> usize {
        let scopes = rejected.iter().map(|rejected| rejected.scope);
        scopes.filter(|scope| matches!(scope, Scope::Unit | Scope::Units { .. })).map(Scope::count).sum()
    }

    /// Number of items among some rejections.
    pub(crate) fn items(rejected: &[Self]) -> usize {
        let scopes = rejected.iter().map(|rejected| rejected.scope);
        scopes.filter(|scope| matches!(scope, Scope::Item | Scope::Items { .. })).map(Scope::count).sum()
    }
}

// === impl Scope ===

impl Scope {
    /// Number of units, items or sections that an entry stands for.
    pub(crate) fn count(self) -> usize {
        match self {
            Self::Unit | Self::Item | Self::Section => 1,
            Self::Units { count, .. } | Self::Items { count } => count as usize,
        }
    }
}

// === impl Item ===

impl Item {
    /// Returns the number of spans, log records and data points.
    pub fn counts(&self) -> [u32; Signal::ALL.len()] {
        let mut counts = [
            self.traces.as_ref().map_or(0, Traces::span_count),
            self.logs.as_ref().map_or(0, Logs::record_count),
            self.metrics.as_ref().map_or(0, Metrics::point_count),
        ];
        if let Some(request) = &self.protobuf {
            counts[request.signal() as usize] += request.item_count();
        }
        counts
    }
}

// === impl Supersede ===

impl Supersede {
    /// Returns the text that a record carries.
    pub(crate) fn to_text(&self) -> String {
        let Self { event, key: _, rank: (first, second), hold, begins_hold } = self;
        format!("{} {first} {second} {} {begins_hold}", event.as_str(), hold.as_millis())
    }

    /// Reads what [`to_text`](Self::to_text) wrote of the event with this key.
    pub(crate) fn from_text(text: &str, key: SupersedeKey) -> Option<Self> {
        let [event, first, second, hold, begins_hold] = *text.split(' ').collect::<Vec<_>>() else {
            return None;
        };
        Some(Self {
            event: SOURCES
                .iter()
                .filter_map(Source::webhooks)
                .flatten()
                .find(|known| known.as_str() == event)
                .copied()?,
            key,
            rank: (first.parse().ok()?, second.parse().ok()?),
            hold: Duration::from_millis(hold.parse().ok()?),
            begins_hold: begins_hold.parse().ok()?,
        })
    }

    /// Shortens the hold by the time since the arrival.
    ///
    /// Events that an earlier process held at the same time may all be due by now. They are read one after another, so
    /// that each is held for a moment in which the others supersede it.
    pub(crate) fn arrived(&mut self, age: Duration, in_earlier_process: bool) {
        const MOMENT: Duration = Duration::from_secs(5);
        let least = if in_earlier_process { MOMENT.min(self.hold) } else { Duration::ZERO };
        self.hold = self.hold.saturating_sub(age).max(least);
    }
}

// === impl Ignored ===

impl Ignored {
    /// The event type is not one that the relay knows.
    pub const UNKNOWN_EVENT_TYPE: Self = Self { reason: "unknown event type", is_routine: false };
    /// The event carries no id, or none that spans can be made of.
    pub const NO_ID: Self =
        Self { reason: "the event has no id that spans can be made of", is_routine: false };

    /// Returns the reason for ignoring events that the sender has no setting against.
    pub(crate) const fn routine(reason: &'static str) -> Self {
        Self { reason, is_routine: true }
    }

    pub(crate) fn as_str(self) -> &'static str {
        self.reason
    }
}
