//! An export request with one span, as OTLP/JSON in its canonical form.
//!
//! In:  a [`Span`]. Out: JSON text: ids in lower-case hexadecimal, 64-bit integers as decimal strings, enums as
//! numbers, no `null`, and nothing that has its default value.
//! Promises: the same span gives the same bytes.
//! Leaves to others: what is in the span ([`spans`](super::spans), [`attributes`](super::attributes)).

use std::borrow::Cow;
use std::fmt;

use serde::{Serialize, Serializer};

use crate::otlp::{SpanId, TraceId};

/// `InstrumentationScope.name`. Without a version: the same event makes the same bytes in every release.
const SCOPE: &str = "spanrelay/circleci";

/// One span.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Span<'a> {
    #[serde(serialize_with = "as_string")]
    pub(super) trace_id: TraceId,
    #[serde(serialize_with = "as_string")]
    pub(super) span_id: SpanId,
    #[serde(serialize_with = "present_as_string", skip_serializing_if = "Option::is_none")]
    pub(super) parent_span_id: Option<SpanId>,
    pub(super) name: Cow<'a, str>,
    #[serde(serialize_with = "as_number")]
    pub(super) kind: Kind,
    /// Zero is OTLP's word for unknown.
    #[serde(serialize_with = "as_string", skip_serializing_if = "is_zero")]
    pub(super) start_time_unix_nano: u64,
    #[serde(serialize_with = "as_string", skip_serializing_if = "is_zero")]
    pub(super) end_time_unix_nano: u64,
    #[serde(skip_serializing_if = "Attributes::is_empty")]
    pub(super) attributes: Attributes<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) status: Option<ErrorStatus>,
}

/// `SpanKind`, by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Internal = 1,
    Server = 2,
}

/// `Status` with the code `ERROR`.
#[derive(Debug)]
pub(super) struct ErrorStatus;

/// The attributes of a span or a resource, in the order in which they were added.
#[derive(Debug, Default, Serialize)]
#[serde(transparent)]
pub(super) struct Attributes<'a>(Vec<KeyValue<'a>>);

#[derive(Debug, Serialize)]
struct KeyValue<'a> {
    key: &'static str,
    value: AnyValue<'a>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
enum AnyValue<'a> {
    StringValue(Cow<'a, str>),
    IntValue(#[serde(serialize_with = "as_string")] i64),
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ExportRequest<'a> {
    resource_spans: [ResourceSpans<'a>; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ResourceSpans<'a> {
    resource: Resource<'a>,
    scope_spans: [ScopeSpans<'a>; 1],
}

#[derive(Serialize)]
struct Resource<'a> {
    attributes: Attributes<'a>,
}

#[derive(Serialize)]
struct ScopeSpans<'a> {
    scope: Scope,
    spans: [Span<'a>; 1],
}

#[derive(Serialize)]
struct Scope {
    name: &'static str,
}

// === impl Span ===

impl Span<'_> {
    /// The request that carries this span alone, from this service.
    pub(super) fn into_request(self, service_name: &str) -> Vec<u8> {
        let mut attributes = Attributes::default();
        attributes.text("service.name", Some(Cow::Borrowed(service_name)));
        let request = ExportRequest {
            resource_spans: [ResourceSpans {
                resource: Resource { attributes },
                scope_spans: [ScopeSpans { scope: Scope { name: SCOPE }, spans: [self] }],
            }],
        };
        serde_json::to_vec(&request).expect("structs, strings and numbers always have a JSON form")
    }
}

// === impl Attributes ===

impl<'a> Attributes<'a> {
    /// Adds a string, if it is there. No key may be added twice.
    pub(super) fn text(&mut self, key: &'static str, value: Option<Cow<'a, str>>) {
        self.0.extend(value.map(|text| KeyValue { key, value: AnyValue::StringValue(text) }));
    }

    /// Adds an integer, if it is there. No key may be added twice.
    pub(super) fn integer(&mut self, key: &'static str, value: Option<i64>) {
        self.0.extend(value.map(|number| KeyValue { key, value: AnyValue::IntValue(number) }));
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

// === impl ErrorStatus ===

impl Serialize for ErrorStatus {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        const STATUS_CODE_ERROR: u8 = 2;
        serializer.collect_map([("code", STATUS_CODE_ERROR)])
    }
}

fn as_string<T: fmt::Display, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

fn present_as_string<S: Serializer>(id: &Option<SpanId>, serializer: S) -> Result<S::Ok, S::Error> {
    match id {
        Some(id) => serializer.collect_str(id),
        None => serializer.serialize_none(),
    }
}

fn as_number<S: Serializer>(kind: &Kind, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u8(*kind as u8)
}

fn is_zero(nanoseconds: &u64) -> bool {
    *nanoseconds == 0
}
