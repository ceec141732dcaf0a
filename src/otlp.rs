//! OTLP, read and written without a model: a request is text, and what must change in it is an edit at a byte
//! range.

pub(crate) mod json;

mod schema;

mod splice;

mod walk;

mod twins;

mod document;

pub(crate) mod protobuf;

mod ids;
mod members;
pub(crate) mod number;

pub(crate) use document::{
    DroppedSpan, ExportRequest, Line, LineReader, Logs, Metrics, Mismatch, Request, SpanEvent, Traces,
    read_request, signal_of,
};
pub(crate) use ids::{SpanId, TraceId, decode_hex, encode_hex};
#[cfg(test)]
pub(crate) use json::MAX_DEPTH;
pub(crate) use schema::{Field, Kind, LINE, Message};
pub(crate) use splice::Origins;
#[cfg(test)]
pub(crate) use walk::MAX_ITEMS;
pub(crate) use walk::{field_named, is_free_text};

use std::fmt;

/// What a piece of telemetry is; each signal has its own path downstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Signal {
    Traces,
    Logs,
    Metrics,
}

impl Signal {
    pub(crate) const ALL: [Self; 3] = [Self::Traces, Self::Logs, Self::Metrics];

    /// The word that stands for it in paths (`/v1/traces`) and labels.
    pub(crate) fn as_str(self) -> &'static str {
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
