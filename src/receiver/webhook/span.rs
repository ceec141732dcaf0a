//! Builds the export request of a webhook's spans, as OTLP/JSON in its canonical form.
//!
//! In: [`Span`]s. Out: JSON text: ids in lower-case hexadecimal, 64-bit integers as decimal strings, enums as numbers, no
//! `null`, and no member that has its default value.
//! Promises: equal spans give equal bytes; a span never ends before it starts.
//! Leaves to others: the names, ids and values of the spans, which differ by source.
//!
//! The attribute names that sources share are those of open-telemetry/semantic-conventions 1.44 (`cicd.*`, `vcs.*`,
//! `error.type`).

use std::borrow::Cow;
use std::fmt;

use serde::{Serialize, Serializer};

use super::super::Withheld;
use super::vcs::Vcs;
use crate::otlp::{SpanId, TraceId};

/// One span.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::receiver) struct Span<'a> {
    #[serde(serialize_with = "as_string")]
    pub(in crate::receiver) trace_id: TraceId,
    #[serde(serialize_with = "as_string")]
    pub(in crate::receiver) span_id: SpanId,
    #[serde(serialize_with = "present_as_string", skip_serializing_if = "Option::is_none")]
    pub(in crate::receiver) parent_span_id: Option<SpanId>,
    pub(in crate::receiver) name: Cow<'a, str>,
    #[serde(serialize_with = "as_number")]
    pub(in crate::receiver) kind: SpanKind,
    #[serde(flatten)]
    pub(in crate::receiver) times: Times,
    #[serde(skip_serializing_if = "SpanAttributes::is_empty")]
    pub(in crate::receiver) attributes: SpanAttributes<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::receiver) status: Option<ErrorStatus>,
}

/// Start and end of a span, in Unix nanoseconds. Zero is OTLP's value for an unknown time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::receiver) struct Times {
    #[serde(serialize_with = "as_string", skip_serializing_if = "is_zero")]
    start_time_unix_nano: u64,
    #[serde(serialize_with = "as_string", skip_serializing_if = "is_zero")]
    end_time_unix_nano: u64,
}

/// `SpanKind`, by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::receiver) enum SpanKind {
    Internal = 1,
    Server = 2,
}

/// `Status` with the code `ERROR`.
#[derive(Debug)]
pub(in crate::receiver) struct ErrorStatus;

/// The attributes of a span or a resource, in the order in which they were added.
#[derive(Debug, Default, Serialize)]
#[serde(transparent)]
pub(in crate::receiver) struct SpanAttributes<'a>(Vec<KeyValue<'a>>);

#[derive(Debug, Serialize)]
struct KeyValue<'a> {
    key: &'static str,
    value: AnyValue<'a>,
}

#[derive(Debug, Serialize)]
enum AnyValue<'a> {
    #[serde(rename = "stringValue")]
    String(Cow<'a, str>),
    #[serde(rename = "intValue")]
    Int(#[serde(serialize_with = "as_string")] i64),
    #[serde(rename = "boolValue")]
    Bool(bool),
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TracesRequest<'a> {
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
    attributes: SpanAttributes<'a>,
}

#[derive(Serialize)]
struct ScopeSpans<'a> {
    scope: InstrumentationScope,
    spans: &'a [Span<'a>],
}

#[derive(Serialize)]
struct InstrumentationScope {
    name: &'static str,
}

/// Removes from names of the form `kind: value` a value that only attributes hold that are withheld.
pub(in crate::receiver) fn withhold_names(spans: &mut [Span<'_>], withheld: &Withheld) {
    if withheld.is_empty() {
        return;
    }
    for span in spans {
        let Some((kind, value)) = span.name.split_once(": ") else { continue };
        let keys: Vec<&str> = span.attributes.keys_of(value).collect();
        if !keys.is_empty() && keys.iter().all(|key| withheld.contains(key)) {
            span.name = Cow::Owned(kind.to_owned());
        }
    }
}

/// Returns the request that exports these spans of one service. `scope` is the name of the instrumentation scope; it
/// has no version, so that an event results in the same bytes in every release.
pub(in crate::receiver) fn export_request(
    scope: &'static str,
    service_name: &str,
    spans: &[Span<'_>],
) -> Vec<u8> {
    let mut attributes = SpanAttributes::default();
    attributes.text("service.name", Some(service_name));
    let request = TracesRequest {
        resource_spans: [ResourceSpans {
            resource: Resource { attributes },
            scope_spans: [ScopeSpans { scope: InstrumentationScope { name: scope }, spans }],
        }],
    };
    serde_json::to_vec(&request).expect("structs, strings and numbers always have a JSON form")
}

// === impl Times ===

impl Times {
    /// Returns the times of a span; an end before the start becomes the start.
    pub(in crate::receiver) fn new(start: u64, end: u64) -> Self {
        Self { start_time_unix_nano: start, end_time_unix_nano: end.max(start) }
    }
}

// === impl SpanAttributes ===

impl<'a> SpanAttributes<'a> {
    /// Adds a string, if it is present. No key may be added twice.
    pub(in crate::receiver) fn text(&mut self, key: &'static str, value: Option<impl Into<Cow<'a, str>>>) {
        self.0.extend(value.map(|text| KeyValue { key, value: AnyValue::String(text.into()) }));
    }

    /// Adds an integer, if it is present. No key may be added twice.
    pub(in crate::receiver) fn integer(&mut self, key: &'static str, value: Option<i64>) {
        self.0.extend(value.map(|number| KeyValue { key, value: AnyValue::Int(number) }));
    }

    /// Adds a boolean, if it is present. No key may be added twice.
    pub(in crate::receiver) fn boolean(&mut self, key: &'static str, value: Option<bool>) {
        self.0.extend(value.map(|flag| KeyValue { key, value: AnyValue::Bool(flag) }));
    }

    /// Adds the code that was built.
    pub(in crate::receiver) fn vcs(&mut self, vcs: &'a Vcs<'_>) {
        self.text("vcs.provider.name", vcs.provider.as_deref());
        self.text("vcs.repository.url.full", vcs.repository_url.as_deref());
        self.text("vcs.ref.head.name", vcs.head.as_ref().map(|head| &*head.name));
        self.text("vcs.ref.head.type", vcs.head.as_ref().and_then(|head| head.kind));
        self.text("vcs.ref.head.revision", vcs.revision.as_deref());
    }

    /// Adds name, id and address of the run of a pipeline.
    pub(in crate::receiver) fn pipeline_run(
        &mut self,
        name: Option<&'a str>,
        id: Option<impl Into<Cow<'a, str>>>,
        url: Option<&'a str>,
    ) {
        self.text("cicd.pipeline.name", name);
        self.text("cicd.pipeline.run.id", id);
        self.text("cicd.pipeline.run.url.full", url);
    }

    /// Adds the result of a pipeline.
    pub(in crate::receiver) fn pipeline_result(&mut self, result: Option<&'a str>) {
        self.text("cicd.pipeline.result", result);
    }

    /// Adds name, id and result of the run of a task, which is a job.
    pub(in crate::receiver) fn task_run(
        &mut self,
        name: Option<&'a str>,
        id: Option<impl Into<Cow<'a, str>>>,
        result: Option<&'a str>,
    ) {
        self.text("cicd.pipeline.task.name", name);
        self.text("cicd.pipeline.task.run.id", id);
        self.text("cicd.pipeline.task.run.result", result);
    }

    /// Adds the kind of an error.
    pub(in crate::receiver) fn error_type(&mut self, kind: Option<&'a str>) {
        self.text("error.type", kind);
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the keys of the attributes with this text.
    fn keys_of(&self, text: &str) -> impl Iterator<Item = &'static str> {
        let is_it = move |value: &AnyValue<'_>| matches!(value, AnyValue::String(other) if other == text);
        self.0.iter().filter(move |attribute| is_it(&attribute.value)).map(|attribute| attribute.key)
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

fn as_number<S: Serializer>(kind: &SpanKind, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u8(*kind as u8)
}

fn is_zero(nanoseconds: &u64) -> bool {
    *nanoseconds == 0
}
