//! Values that every module may know: signals, kinds of webhooks, repairs, and outcomes of items.
//!
//! This module uses no other module, so that the others can share these values without knowing each other.

mod outcome;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

pub(crate) use outcome::{
    ApiOutcome, ExportOutcome, LogEventOutcome, LookupOutcome, RequestOutcome, Settled, UnitOutcome,
};

/// Protocol of a request: the label `transport` of the Collector's metrics of receivers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    Http,
    Grpc,
}

/// The kind of a piece of telemetry. Each signal has its own path downstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Signal {
    /// Spans.
    Traces,
    /// Log records.
    Logs,
    /// Data points.
    Metrics,
}

/// The kind of a webhook. Sources declare theirs as constants, so that input never becomes a metric label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct WebhookEvent(&'static str);

/// A repair of a unit whose meaning was unambiguous.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Repair {
    TrailingComma,
    ControlCharacter,
    HexEscape,
    /// A backslash that begins no JSON escape.
    LooseBackslash,
    InvalidUtf8,
    LoneSurrogate,
    /// VCL's `(null)` where a value or a parent id belongs.
    NullWord,
    UnescapedQuote,
    /// `NaN` or `Infinity` without the quotes that JSON needs.
    BareNumberWord,
    /// A number or a boolean in a string field, or a string in a number or boolean field.
    ValueType,
    /// A span link without valid ids, for which a Collector rejects the whole request.
    InvalidLink,
    /// An invalid trace or span id of a log record or an exemplar.
    InvalidId,
    /// A key that appears twice in one object, with different values.
    RepeatedKey,
}

/// The kind of fault that input was rejected for. Advice is chosen by it; reasons are only for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RejectCode {
    /// The text ends inside a value.
    CutOff,
    TrailingComma,
    ControlCharacter,
    /// An escape that JSON does not have.
    Escape,
    /// Another text in the place of a value.
    NoValue,
    /// Another text in the place of a comma, a colon, a key or a closing bracket.
    NoSeparator,
    /// Text that contains no JSON object.
    NoObject,
    /// Text before an object on its line.
    TextBefore,
    /// Text after the end of an object.
    TextAfter,
    /// An object without any section of OTLP.
    NoSection,
    /// Sections without spans, log records and metrics.
    NoItems,
    TraceId,
    SpanId,
    /// A unit longer than `server.max_line_size`.
    TooLong,
    /// Any other fault, for which there is no advice.
    Other,
}

/// Values of the headers that a receiver reads a body by, stored with the body. Names are in lower case.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KeptHeaders(Vec<(Box<str>, Box<str>)>);

/// Number of a record in its queue. Later records have larger numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct RecordId(pub(crate) u64);

/// Fill level of a queue.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct QueueState {
    pub(crate) kept_bytes: u64,
    pub(crate) capacity_bytes: u64,
    /// Age of the oldest record that is not resolved; zero if there is none.
    pub(crate) oldest: Duration,
    /// Reason that the queue can accept nothing now.
    pub(crate) failure: Option<Arc<str>>,
    /// A record did not fit, and no space has been freed since.
    pub(crate) full: bool,
}

/// Size of the rejected input that is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RejectedState {
    pub(crate) kept_bytes: u64,
    pub(crate) capacity_bytes: u64,
}

// === impl Transport ===

impl Transport {
    /// Returns its name in labels.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Grpc => "grpc",
        }
    }
}

// === impl Signal ===

impl Signal {
    /// All signals, in the order of the declaration.
    pub const ALL: [Self; 3] = [Self::Traces, Self::Logs, Self::Metrics];

    /// Returns its name in paths (`/v1/traces`) and labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Traces => "traces",
            Self::Logs => "logs",
            Self::Metrics => "metrics",
        }
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

// === impl WebhookEvent ===

impl WebhookEvent {
    /// Event of a type that its source does not know.
    pub(crate) const UNKNOWN: Self = Self("unknown");

    /// Creates the kind of event that a source calls by this name.
    pub(crate) const fn new(name: &'static str) -> Self {
        Self(name)
    }

    /// Returns the event type as the source writes it.
    pub fn as_str(self) -> &'static str {
        self.0
    }
}

// === impl KeptHeaders ===

impl KeptHeaders {
    /// Maximum number of headers.
    pub(crate) const MAX: usize = 3;
    /// Maximum length of a value, in bytes.
    const MAX_VALUE_BYTES: usize = 256;

    /// Adds a header. A second one of the same name, a value that is too long, and headers beyond the maximum are left out.
    pub fn keep(&mut self, name: &str, value: &str) {
        let is_new = self.get(name).is_none();
        if is_new && self.0.len() < Self::MAX && value.len() <= Self::MAX_VALUE_BYTES {
            self.0.push((name.into(), value.into()));
        }
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.iter().find(|(known, _)| *known == name).map(|(_, value)| value)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (&**name, &**value))
    }
}

// === impl Repair ===

impl Repair {
    /// Returns the description that `spanrelay check` prints.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TrailingComma => "removed a trailing comma",
            Self::ControlCharacter => "escaped a raw control character",
            Self::HexEscape => "rewrote a \\xHH escape",
            Self::LooseBackslash => "escaped a loose backslash",
            Self::InvalidUtf8 => "replaced invalid UTF-8",
            Self::LoneSurrogate => "replaced a lone surrogate",
            Self::NullWord => "read (null) as no value",
            Self::UnescapedQuote => "escaped a quote inside a string",
            Self::BareNumberWord => "quoted NaN or Infinity",
            Self::ValueType => "gave a value the type of its field",
            Self::InvalidLink => "removed a span link without valid ids",
            Self::InvalidId => "removed an id that is not hexadecimal, of the wrong length or all zero",
            Self::RepeatedKey => "kept the last value of a repeated key",
        }
    }
}

// === impl RecordId ===

#[cfg(feature = "kafka")]
impl RecordId {
    /// Number of bits of an offset: enough for a million records per second during eight years.
    const OFFSET_BITS: u32 = 48;

    /// Returns the number of a record in a partitioned log.
    pub(crate) fn in_partition(partition: i32, offset: u64) -> Self {
        Self(
            u64::from(partition.unsigned_abs()) << Self::OFFSET_BITS
                | offset & ((1 << Self::OFFSET_BITS) - 1),
        )
    }

    /// Returns the offset of a record in its partition.
    pub(crate) fn offset(self) -> u64 {
        self.0 & ((1 << Self::OFFSET_BITS) - 1)
    }
}

// === impl QueueState ===

impl QueueState {
    /// Returns `true` if the queue can accept data.
    pub(crate) fn accepts(&self) -> bool {
        self.failure.is_none() && !self.is_full()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.full || self.kept_bytes >= self.capacity_bytes
    }
}
