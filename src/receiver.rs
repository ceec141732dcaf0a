//! Receivers: who sent this, and what does it hold?
//!
//! A receiver is pure. It sees bytes and headers and answers with values; it does no I/O, reads no clock and knows
//! neither queue nor exporter. So the accepted bytes can be read again after a restart and give the same items.
//!
//! A new source is a folder below `receiver/` with its section of the configuration, a row in [`SOURCES`], and a folder of
//! fixtures.

pub(crate) mod circleci;
pub(crate) mod fastly;
mod github;
pub(crate) mod otlp;

mod source;

mod token;

mod webhook;

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::HeaderMap;

use self::fastly::Mistake;
pub(crate) use self::source::{
    AtRoot, Check, Limits, Page, PageText, Policy, Requests, Source, at_root, build, pages,
};
pub(crate) use self::webhook::signature::sign;
use crate::config::{Encoding, ReceiverKind};
use crate::event::{KeptHeaders, RejectCode, Repair, Signal, WebhookEvent};
use crate::otlp::{Logs, Metrics, TraceId, Traces};

/// The registry of sources. Nothing else in the program has to change when a source is added.
pub(crate) static SOURCES: &[Source] = &[fastly::SOURCE, circleci::SOURCE, github::SOURCE, otlp::SOURCE];

/// Kinds of receivers, as the configuration knows them.
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
pub(crate) trait Receiver: Send + Sync {
    /// The id in the configuration: `fastly`, `fastly/www`, `circleci`.
    fn id(&self) -> &str;

    /// The path that it takes requests on.
    fn path(&self) -> &str;

    /// The row of the registry that it belongs to.
    fn source(&self) -> &'static Source;

    /// The signal of its requests, for a receiver of OTLP.
    fn signal(&self) -> Option<Signal> {
        None
    }

    /// Whether the headers alone show a sender that may come in. Asked before any of the body is read.
    fn admit(&self, headers: &HeaderMap) -> Result<(), Unauthorized>;

    /// Whether the body, as it came over the wire and before any decoding, is from who it claims to be from.
    fn verify(&self, headers: &HeaderMap, wire: &[u8]) -> Result<(), Unauthorized>;

    /// What the sender did wrong, where that can be told.
    fn mistake(&self, _rejected: &Rejected) -> Option<Mistake> {
        None
    }

    /// Names of the headers by which the receiver reads a body, in lower case: at most [`KeptHeaders::MAX`]. The queue
    /// stores their values.
    fn kept_headers(&self) -> &'static [&'static str] {
        &[]
    }

    /// What the decoded body holds. Bad input is a value in the answer; reading never fails as a whole. It goes by the
    /// bytes alone, so that it can be done again when nothing else is known any more.
    fn read(&self, body: &Bytes) -> Reading;

    /// Settings that [`read`](Self::read) goes by, for [`read_as`](Self::read_as): at most 65,535 bytes.
    fn parameters(&self) -> Bytes {
        Bytes::new()
    }

    /// Reads a body as this receiver did when it came with these headers and the receiver had these
    /// [parameters](Self::parameters). Empty ones are those that it has now.
    fn read_as(&self, body: &Bytes, _parameters: &[u8], _headers: &KeptHeaders) -> Reading {
        self.read(body)
    }

    /// Takes a decoded body that has just come: what is to be kept of it, and what it holds. Where bytes alone do not
    /// tell how they are to be read, what is kept is another form of the body: one that [`read_as`](Self::read_as) gives
    /// the same for.
    fn receive(&self, body: &Bytes, _encoding: Encoding, headers: &KeptHeaders) -> Received {
        Received { kept: body.clone(), reading: self.read_as(body, &[], headers) }
    }
}

/// Returns the headers that the receiver reads a body by. A header with several lines could be read in several ways, so it
/// counts as absent.
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

/// A body that has just come.
#[derive(Debug)]
pub(crate) struct Received {
    /// What the queue keeps.
    pub(crate) kept: Bytes,
    pub(crate) reading: Reading,
}

/// A sender that is turned away. The reason is for the sender and names no secret and no expected value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Unauthorized(pub(crate) &'static str);

/// What a receiver made of one request body.
#[derive(Debug, Default)]
pub(crate) struct Reading {
    /// What goes on, in the order of the body.
    pub(crate) items: Vec<Item>,
    /// What does not, in the order of the body; [sections](Scope::Section) last.
    pub(crate) rejected: Vec<Rejected>,
    /// The whole body is a valid request without anything in it that its receiver is there for. It is the one entry of
    /// `rejected`, and the sender gets a warning.
    pub(crate) is_foreign: bool,
    /// The sender's own id of the event, where redelivery of the same event is known by it.
    pub(crate) event_id: Option<String>,
    /// How the event replaces, and is replaced by, others that make the same span.
    pub(crate) supersede: Option<Supersede>,
    /// Authentic, but nothing that this relay turns into telemetry.
    pub(crate) ignored: Option<Ignored>,
    /// The kind of webhook, for receivers of webhooks.
    pub(crate) event: Option<WebhookEvent>,
}

/// One accepted line of a batch, one webhook, or one OTLP request.
#[derive(Debug)]
pub(crate) struct Item {
    /// Where it began in the body; 1 is the first line.
    pub(crate) line: u32,
    pub(crate) traces: Option<Traces>,
    pub(crate) logs: Option<Logs>,
    pub(crate) metrics: Option<Metrics>,
    /// What was mended to make it valid; empty for a line that was valid as it came.
    pub(crate) repairs: Vec<Repair>,
    pub(crate) passage: Passage,
}

/// How an event replaces others that make the same span.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Supersede {
    pub(crate) event: WebhookEvent,
    pub(crate) key: SupersedeKey,
    /// Of two events with the same key, the one with the higher rank stays; of equal ones, the one that came later.
    pub(crate) rank: (u64, u64),
    /// How long it is held after its arrival.
    pub(crate) hold: Duration,
    /// Whether it is held when no other event with its key is.
    pub(crate) begins_hold: bool,
}

/// Names the span that several events make.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct SupersedeKey {
    /// The id of the receiver.
    pub(crate) receiver: String,
    pub(crate) trace_id: TraceId,
}

/// Whether spans and log records wait for each other on their way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Passage {
    /// Log records that name a span become its events.
    #[default]
    Joined,
    /// Everything leaves as what it came as, and at once.
    Straight,
}

/// The extent of a rejection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// A whole unit, or a piece of the body that is none. Every unit is accepted, or rejected by one entry of this scope.
    Unit,
    /// One span or log record of a unit that has an entry or an item of its own.
    Item,
    /// A section of another signal, beside what an OTLP request holds for its own: no item of that.
    Section,
    /// Several units that follow each other, with the position and the reason of the first.
    Units { count: u32, last_line: u32 },
    /// Several items of one unit that follow each other, with the position and the reason of the first.
    Items { count: u32 },
}

/// A unit, or a part of one, that is not relayed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rejected {
    pub(crate) scope: Scope,
    /// 1 is the first line of the body.
    pub(crate) line: u32,
    /// In bytes; 1 is the first byte of the line.
    pub(crate) column: u32,
    pub(crate) code: RejectCode,
    /// Offset of the fault in the input. The column does not tell it where a line has several units, or a unit several
    /// lines.
    pub(crate) at: usize,
    /// What is wrong, for the sender; nothing of the input is repeated in it.
    pub(crate) reason: String,
    /// The bytes that were rejected.
    pub(crate) input: Bytes,
}

/// The reason that an authentic request is accepted without making any telemetry of it. Sources may have their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ignored(pub(crate) &'static str);

// === impl Item ===

impl Item {
    /// Sets the time of arrival, which log events without a time of their own get.
    pub(crate) fn set_arrival(&mut self, received: SystemTime) {
        if let Some(logs) = &mut self.logs {
            let arrival = received.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            logs.set_arrival(u64::try_from(arrival.as_nanos()).unwrap_or(u64::MAX));
        }
    }
}

// === impl Rejected ===

impl Rejected {
    /// Number of units among some rejections.
    pub(crate) fn units(rejected: &[Self]) -> usize {
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
    /// Spans, log records and data points in it.
    pub(crate) fn counts(&self) -> [u32; Signal::ALL.len()] {
        [
            self.traces.as_ref().map_or(0, Traces::span_count),
            self.logs.as_ref().map_or(0, Logs::record_count),
            self.metrics.as_ref().map_or(0, Metrics::point_count),
        ]
    }
}

// === impl Supersede ===

impl Supersede {
    /// Returns the text that a record of a shared queue carries.
    #[cfg(feature = "kafka")]
    pub(crate) fn to_text(&self) -> String {
        let Self { event, key: _, rank: (first, second), hold, begins_hold } = self;
        format!("{} {first} {second} {} {begins_hold}", event.as_str(), hold.as_millis())
    }

    /// Reads what [`to_text`](Self::to_text) wrote of the event with this key.
    #[cfg(feature = "kafka")]
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

    /// Counts the hold from the arrival, which is this long ago.
    ///
    /// Events that an earlier process held together may all be due by now. They are read one after another, so each is
    /// held for a moment in which the others find it.
    pub(crate) fn arrived(&mut self, age: Duration, in_earlier_process: bool) {
        const MOMENT: Duration = Duration::from_secs(5);
        let least = if in_earlier_process { MOMENT.min(self.hold) } else { Duration::ZERO };
        self.hold = self.hold.saturating_sub(age).max(least);
    }
}

// === impl Ignored ===

impl Ignored {
    /// The event type is not one that the relay knows.
    pub(crate) const UNKNOWN_EVENT_TYPE: Self = Self("unknown event type");
    /// The event carries no id, or none that spans can be made of.
    pub(crate) const NO_ID: Self = Self("the event has no id that spans can be made of");

    pub(crate) fn as_str(self) -> &'static str {
        self.0
    }
}
