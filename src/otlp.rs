//! OTLP, read and written without a data model: a request is text, and changes are edits at byte ranges.

pub(crate) mod json;

mod schema;

mod splice;

pub(crate) mod walk;

mod merge;

mod document;

pub(crate) mod protobuf;

mod ids;
mod key_path;
mod members;
pub(crate) mod number;

pub(crate) use document::{DroppedSpan, Metrics, Mismatch, Request, SpanEvent, Traces};
pub use document::{ExportRequest, Line, LineReader, Logs, read_request, signal_of};
pub(crate) use ids::{SpanId, TraceId, decode_hex, encode_hex};
pub(crate) use key_path::KeyPath;
pub use protobuf::ProtobufRequest;
pub(crate) use protobuf::ReadProtobuf;
pub(crate) use schema::{Field, FieldType, LINE, Message};
pub(crate) use splice::{Edits, Origins, Removals};
pub(crate) use walk::{field_named, is_free_text, text_attribute};
