//! Schema of OTLP's messages as one table: names of the JSON mapping, numbers and types of protobuf
//! (opentelemetry-proto 1.11, `trace.proto`, `logs.proto`, `metrics.proto`, `common.proto`, `resource.proto`).
//!
//! Both the reader of lines and the protobuf encoder follow this table, so that they know the same fields.

mod int;

pub(crate) use int::Int;

/// A message and its fields.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) fields: &'static [Field],
    /// Special handling by the reader.
    pub(crate) role: MessageRole,
}

/// A field of a message.
#[derive(Debug)]
pub(crate) struct Field {
    pub(crate) name: &'static str,
    /// Name of the field in earlier versions of OTLP.
    pub(crate) legacy: Option<&'static str>,
    pub(crate) number: u32,
    pub(crate) kind: FieldType,
    pub(crate) group: Group,
}

/// Membership of a field in a `oneof`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Group {
    Alone,
    /// Member of the message's `oneof`; no message of OTLP has two.
    OneOf,
}

/// The type of a field.
#[derive(Debug, Clone, Copy)]
pub(crate) enum FieldType {
    Message(&'static Message),
    Messages(&'static Message),
    String,
    Strings,
    Bool,
    Double,
    Doubles,
    /// Base64 in JSON.
    Bytes,
    /// Hexadecimal in JSON, 16 bytes.
    TraceId,
    /// Hexadecimal in JSON, 8 bytes.
    SpanId,
    /// [`FieldType::SpanId`] that may be missing.
    ParentSpanId,
    Int(Int),
    Ints(Int),
    /// Names of the field's numbers; JSON must use the numbers.
    Enum(&'static [(&'static str, i32)]),
}

/// Messages that the reader handles specially.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MessageRole {
    Plain,
    /// A whole line: one member for each signal.
    Line,
    /// Container for the list in its second field.
    Container,
    /// Message with exactly one member.
    AnyValue,
    KeyValue,
    Span,
    Link,
    LogRecord,
    Status,
    Metric,
    Point,
}

const fn message(fields: &'static [Field]) -> Message {
    Message { fields, role: MessageRole::Plain }
}

const fn with_role(role: MessageRole, fields: &'static [Field]) -> Message {
    Message { fields, role }
}

const fn field(name: &'static str, number: u32, kind: FieldType) -> Field {
    Field { name, legacy: None, number, kind, group: Group::Alone }
}

const fn renamed(name: &'static str, legacy: &'static str, number: u32, kind: FieldType) -> Field {
    Field { name, legacy: Some(legacy), number, kind, group: Group::Alone }
}

const fn one_of(name: &'static str, number: u32, kind: FieldType) -> Field {
    Field { name, legacy: None, number, kind, group: Group::OneOf }
}

/// A line: the three signals in one object, which no single OTLP request has, but lines do.
pub(crate) static LINE: Message = with_role(
    MessageRole::Line,
    &[
        field("resourceSpans", 1, FieldType::Messages(&RESOURCE_SPANS)),
        field("resourceLogs", 1, FieldType::Messages(&RESOURCE_LOGS)),
        field("resourceMetrics", 1, FieldType::Messages(&RESOURCE_METRICS)),
    ],
);

// trace.proto

static RESOURCE_SPANS: Message = with_role(
    MessageRole::Container,
    &[
        field("resource", 1, FieldType::Message(&RESOURCE)),
        renamed("scopeSpans", "instrumentationLibrarySpans", 2, FieldType::Messages(&SCOPE_SPANS)),
        field("schemaUrl", 3, FieldType::String),
    ],
);

static SCOPE_SPANS: Message = with_role(
    MessageRole::Container,
    &[
        renamed("scope", "instrumentationLibrary", 1, FieldType::Message(&SCOPE)),
        field("spans", 2, FieldType::Messages(&SPAN)),
        field("schemaUrl", 3, FieldType::String),
    ],
);

static SPAN: Message = with_role(
    MessageRole::Span,
    &[
        field("traceId", 1, FieldType::TraceId),
        field("spanId", 2, FieldType::SpanId),
        field("traceState", 3, FieldType::String),
        field("parentSpanId", 4, FieldType::ParentSpanId),
        field("name", 5, FieldType::String),
        field("kind", 6, FieldType::Enum(SPAN_KINDS)),
        field("startTimeUnixNano", 7, FieldType::Int(Int::Fixed64)),
        field("endTimeUnixNano", 8, FieldType::Int(Int::Fixed64)),
        field("attributes", 9, FieldType::Messages(&KEY_VALUE)),
        field("droppedAttributesCount", 10, FieldType::Int(Int::Uint32)),
        field("events", 11, FieldType::Messages(&EVENT)),
        field("droppedEventsCount", 12, FieldType::Int(Int::Uint32)),
        field("links", 13, FieldType::Messages(&LINK)),
        field("droppedLinksCount", 14, FieldType::Int(Int::Uint32)),
        field("status", 15, FieldType::Message(&STATUS)),
        field("flags", 16, FieldType::Int(Int::Fixed32)),
    ],
);

/// Index of `events` in [`SPAN`], whose position the reader notes.
pub(crate) const SPAN_EVENTS: usize = 10;

pub(crate) static EVENT: Message = message(&[
    field("timeUnixNano", 1, FieldType::Int(Int::Fixed64)),
    field("name", 2, FieldType::String),
    field("attributes", 3, FieldType::Messages(&KEY_VALUE)),
    field("droppedAttributesCount", 4, FieldType::Int(Int::Uint32)),
]);

static LINK: Message = with_role(
    MessageRole::Link,
    &[
        field("traceId", 1, FieldType::TraceId),
        field("spanId", 2, FieldType::SpanId),
        field("traceState", 3, FieldType::String),
        field("attributes", 4, FieldType::Messages(&KEY_VALUE)),
        field("droppedAttributesCount", 5, FieldType::Int(Int::Uint32)),
        field("flags", 6, FieldType::Int(Int::Fixed32)),
    ],
);

static STATUS: Message = with_role(
    MessageRole::Status,
    &[field("message", 2, FieldType::String), field("code", 3, FieldType::Enum(STATUS_CODES))],
);

const SPAN_KINDS: &[(&str, i32)] = &[
    ("SPAN_KIND_UNSPECIFIED", 0),
    ("SPAN_KIND_INTERNAL", 1),
    ("SPAN_KIND_SERVER", 2),
    ("SPAN_KIND_CLIENT", 3),
    ("SPAN_KIND_PRODUCER", 4),
    ("SPAN_KIND_CONSUMER", 5),
];

const STATUS_CODES: &[(&str, i32)] =
    &[("STATUS_CODE_UNSET", 0), ("STATUS_CODE_OK", 1), ("STATUS_CODE_ERROR", 2)];

// logs.proto

static RESOURCE_LOGS: Message = with_role(
    MessageRole::Container,
    &[
        field("resource", 1, FieldType::Message(&RESOURCE)),
        renamed("scopeLogs", "instrumentationLibraryLogs", 2, FieldType::Messages(&SCOPE_LOGS)),
        field("schemaUrl", 3, FieldType::String),
    ],
);

static SCOPE_LOGS: Message = with_role(
    MessageRole::Container,
    &[
        renamed("scope", "instrumentationLibrary", 1, FieldType::Message(&SCOPE)),
        renamed("logRecords", "logs", 2, FieldType::Messages(&LOG_RECORD)),
        field("schemaUrl", 3, FieldType::String),
    ],
);

static LOG_RECORD: Message = with_role(
    MessageRole::LogRecord,
    &[
        field("timeUnixNano", 1, FieldType::Int(Int::Fixed64)),
        field("severityNumber", 2, FieldType::Enum(SEVERITY_NUMBERS)),
        field("severityText", 3, FieldType::String),
        field("body", 5, FieldType::Message(&ANY_VALUE)),
        field("attributes", 6, FieldType::Messages(&KEY_VALUE)),
        field("droppedAttributesCount", 7, FieldType::Int(Int::Uint32)),
        field("flags", 8, FieldType::Int(Int::Fixed32)),
        field("traceId", 9, FieldType::TraceId),
        field("spanId", 10, FieldType::SpanId),
        field("observedTimeUnixNano", 11, FieldType::Int(Int::Fixed64)),
        field("eventName", 12, FieldType::String),
    ],
);

const SEVERITY_NUMBERS: &[(&str, i32)] = &[
    ("SEVERITY_NUMBER_UNSPECIFIED", 0),
    ("SEVERITY_NUMBER_TRACE", 1),
    ("SEVERITY_NUMBER_TRACE2", 2),
    ("SEVERITY_NUMBER_TRACE3", 3),
    ("SEVERITY_NUMBER_TRACE4", 4),
    ("SEVERITY_NUMBER_DEBUG", 5),
    ("SEVERITY_NUMBER_DEBUG2", 6),
    ("SEVERITY_NUMBER_DEBUG3", 7),
    ("SEVERITY_NUMBER_DEBUG4", 8),
    ("SEVERITY_NUMBER_INFO", 9),
    ("SEVERITY_NUMBER_INFO2", 10),
    ("SEVERITY_NUMBER_INFO3", 11),
    ("SEVERITY_NUMBER_INFO4", 12),
    ("SEVERITY_NUMBER_WARN", 13),
    ("SEVERITY_NUMBER_WARN2", 14),
    ("SEVERITY_NUMBER_WARN3", 15),
    ("SEVERITY_NUMBER_WARN4", 16),
    ("SEVERITY_NUMBER_ERROR", 17),
    ("SEVERITY_NUMBER_ERROR2", 18),
    ("SEVERITY_NUMBER_ERROR3", 19),
    ("SEVERITY_NUMBER_ERROR4", 20),
    ("SEVERITY_NUMBER_FATAL", 21),
    ("SEVERITY_NUMBER_FATAL2", 22),
    ("SEVERITY_NUMBER_FATAL3", 23),
    ("SEVERITY_NUMBER_FATAL4", 24),
];

// metrics.proto

static RESOURCE_METRICS: Message = with_role(
    MessageRole::Container,
    &[
        field("resource", 1, FieldType::Message(&RESOURCE)),
        renamed("scopeMetrics", "instrumentationLibraryMetrics", 2, FieldType::Messages(&SCOPE_METRICS)),
        field("schemaUrl", 3, FieldType::String),
    ],
);

static SCOPE_METRICS: Message = with_role(
    MessageRole::Container,
    &[
        renamed("scope", "instrumentationLibrary", 1, FieldType::Message(&SCOPE)),
        field("metrics", 2, FieldType::Messages(&METRIC)),
        field("schemaUrl", 3, FieldType::String),
    ],
);

static METRIC: Message = with_role(
    MessageRole::Metric,
    &[
        field("name", 1, FieldType::String),
        field("description", 2, FieldType::String),
        field("unit", 3, FieldType::String),
        one_of("gauge", 5, FieldType::Message(&GAUGE)),
        one_of("sum", 7, FieldType::Message(&SUM)),
        one_of("histogram", 9, FieldType::Message(&HISTOGRAM)),
        one_of("exponentialHistogram", 10, FieldType::Message(&EXPONENTIAL_HISTOGRAM)),
        one_of("summary", 11, FieldType::Message(&SUMMARY)),
        field("metadata", 12, FieldType::Messages(&KEY_VALUE)),
    ],
);

static GAUGE: Message = message(&[field("dataPoints", 1, FieldType::Messages(&NUMBER_POINT))]);

static SUM: Message = message(&[
    field("dataPoints", 1, FieldType::Messages(&NUMBER_POINT)),
    field("aggregationTemporality", 2, FieldType::Enum(TEMPORALITIES)),
    field("isMonotonic", 3, FieldType::Bool),
]);

static HISTOGRAM: Message = message(&[
    field("dataPoints", 1, FieldType::Messages(&HISTOGRAM_POINT)),
    field("aggregationTemporality", 2, FieldType::Enum(TEMPORALITIES)),
]);

static EXPONENTIAL_HISTOGRAM: Message = message(&[
    field("dataPoints", 1, FieldType::Messages(&EXPONENTIAL_HISTOGRAM_POINT)),
    field("aggregationTemporality", 2, FieldType::Enum(TEMPORALITIES)),
]);

static SUMMARY: Message = message(&[field("dataPoints", 1, FieldType::Messages(&SUMMARY_POINT))]);

const TEMPORALITIES: &[(&str, i32)] = &[
    ("AGGREGATION_TEMPORALITY_UNSPECIFIED", 0),
    ("AGGREGATION_TEMPORALITY_DELTA", 1),
    ("AGGREGATION_TEMPORALITY_CUMULATIVE", 2),
];

static NUMBER_POINT: Message = with_role(
    MessageRole::Point,
    &[
        field("startTimeUnixNano", 2, FieldType::Int(Int::Fixed64)),
        field("timeUnixNano", 3, FieldType::Int(Int::Fixed64)),
        one_of("asDouble", 4, FieldType::Double),
        field("exemplars", 5, FieldType::Messages(&EXEMPLAR)),
        one_of("asInt", 6, FieldType::Int(Int::Sfixed64)),
        field("attributes", 7, FieldType::Messages(&KEY_VALUE)),
        field("flags", 8, FieldType::Int(Int::Uint32)),
    ],
);

static HISTOGRAM_POINT: Message = with_role(
    MessageRole::Point,
    &[
        field("startTimeUnixNano", 2, FieldType::Int(Int::Fixed64)),
        field("timeUnixNano", 3, FieldType::Int(Int::Fixed64)),
        field("count", 4, FieldType::Int(Int::Fixed64)),
        field("sum", 5, FieldType::Double),
        field("bucketCounts", 6, FieldType::Ints(Int::Fixed64)),
        field("explicitBounds", 7, FieldType::Doubles),
        field("exemplars", 8, FieldType::Messages(&EXEMPLAR)),
        field("attributes", 9, FieldType::Messages(&KEY_VALUE)),
        field("flags", 10, FieldType::Int(Int::Uint32)),
        field("min", 11, FieldType::Double),
        field("max", 12, FieldType::Double),
    ],
);

static EXPONENTIAL_HISTOGRAM_POINT: Message = with_role(
    MessageRole::Point,
    &[
        field("attributes", 1, FieldType::Messages(&KEY_VALUE)),
        field("startTimeUnixNano", 2, FieldType::Int(Int::Fixed64)),
        field("timeUnixNano", 3, FieldType::Int(Int::Fixed64)),
        field("count", 4, FieldType::Int(Int::Fixed64)),
        field("sum", 5, FieldType::Double),
        field("scale", 6, FieldType::Int(Int::Sint32)),
        field("zeroCount", 7, FieldType::Int(Int::Fixed64)),
        field("positive", 8, FieldType::Message(&BUCKETS)),
        field("negative", 9, FieldType::Message(&BUCKETS)),
        field("flags", 10, FieldType::Int(Int::Uint32)),
        field("exemplars", 11, FieldType::Messages(&EXEMPLAR)),
        field("min", 12, FieldType::Double),
        field("max", 13, FieldType::Double),
        field("zeroThreshold", 14, FieldType::Double),
    ],
);

static BUCKETS: Message = message(&[
    field("offset", 1, FieldType::Int(Int::Sint32)),
    field("bucketCounts", 2, FieldType::Ints(Int::Uint64)),
]);

static SUMMARY_POINT: Message = with_role(
    MessageRole::Point,
    &[
        field("startTimeUnixNano", 2, FieldType::Int(Int::Fixed64)),
        field("timeUnixNano", 3, FieldType::Int(Int::Fixed64)),
        field("count", 4, FieldType::Int(Int::Fixed64)),
        field("sum", 5, FieldType::Double),
        field("quantileValues", 6, FieldType::Messages(&QUANTILE)),
        field("attributes", 7, FieldType::Messages(&KEY_VALUE)),
        field("flags", 8, FieldType::Int(Int::Uint32)),
    ],
);

static QUANTILE: Message =
    message(&[field("quantile", 1, FieldType::Double), field("value", 2, FieldType::Double)]);

static EXEMPLAR: Message = message(&[
    field("timeUnixNano", 2, FieldType::Int(Int::Fixed64)),
    one_of("asDouble", 3, FieldType::Double),
    field("spanId", 4, FieldType::SpanId),
    field("traceId", 5, FieldType::TraceId),
    one_of("asInt", 6, FieldType::Int(Int::Sfixed64)),
    field("filteredAttributes", 7, FieldType::Messages(&KEY_VALUE)),
]);

// common.proto and resource.proto

static RESOURCE: Message = message(&[
    field("attributes", 1, FieldType::Messages(&KEY_VALUE)),
    field("droppedAttributesCount", 2, FieldType::Int(Int::Uint32)),
    field("entityRefs", 3, FieldType::Messages(&ENTITY_REF)),
]);

static ENTITY_REF: Message = message(&[
    field("schemaUrl", 1, FieldType::String),
    field("type", 2, FieldType::String),
    field("idKeys", 3, FieldType::Strings),
    field("descriptionKeys", 4, FieldType::Strings),
]);

static SCOPE: Message = message(&[
    field("name", 1, FieldType::String),
    field("version", 2, FieldType::String),
    field("attributes", 3, FieldType::Messages(&KEY_VALUE)),
    field("droppedAttributesCount", 4, FieldType::Int(Int::Uint32)),
]);

static KEY_VALUE: Message = with_role(
    MessageRole::KeyValue,
    &[field("key", 1, FieldType::String), field("value", 2, FieldType::Message(&ANY_VALUE))],
);

static ANY_VALUE: Message = with_role(
    MessageRole::AnyValue,
    &[
        one_of("stringValue", 1, FieldType::String),
        one_of("intValue", 3, FieldType::Int(Int::Int64)),
        one_of("boolValue", 2, FieldType::Bool),
        one_of("doubleValue", 4, FieldType::Double),
        one_of("arrayValue", 5, FieldType::Message(&ARRAY_VALUE)),
        one_of("kvlistValue", 6, FieldType::Message(&KEY_VALUE_LIST)),
        one_of("bytesValue", 7, FieldType::Bytes),
    ],
);

static ARRAY_VALUE: Message = message(&[field("values", 1, FieldType::Messages(&ANY_VALUE))]);

static KEY_VALUE_LIST: Message = message(&[field("values", 1, FieldType::Messages(&KEY_VALUE))]);
