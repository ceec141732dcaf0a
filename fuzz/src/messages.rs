//! Messages of OTLP/JSON, written down independently of the relay, so that a mistake in one table is not in the
//! other.
//!
//! Source: opentelemetry-proto 1.11, the `.proto` files and the section on JSON encoding of its specification.

use std::collections::HashMap;
use std::sync::LazyLock;

/// One message per line: its name, then `field:Type`. `field|old` had another name once, `[]` is a list, `?` is a
/// member of the message's `oneof`.
const TABLE: &str = "
    Line resourceSpans:ResourceSpans[] resourceLogs:ResourceLogs[] resourceMetrics:ResourceMetrics[]
    ResourceSpans resource:Resource scopeSpans|instrumentationLibrarySpans:ScopeSpans[] schemaUrl:string
    ScopeSpans scope|instrumentationLibrary:Scope spans:Span[] schemaUrl:string
    Span traceId:traceId spanId:spanId traceState:string parentSpanId:parentSpanId name:string kind:SPAN_KIND startTimeUnixNano:u64 endTimeUnixNano:u64 attributes:KeyValue[] droppedAttributesCount:u32 events:Event[] droppedEventsCount:u32 links:Link[] droppedLinksCount:u32 status:Status flags:u32
    Event timeUnixNano:u64 name:string attributes:KeyValue[] droppedAttributesCount:u32
    Link traceId:traceId spanId:spanId traceState:string attributes:KeyValue[] droppedAttributesCount:u32 flags:u32
    Status message:string code:STATUS_CODE
    ResourceLogs resource:Resource scopeLogs|instrumentationLibraryLogs:ScopeLogs[] schemaUrl:string
    ScopeLogs scope|instrumentationLibrary:Scope logRecords|logs:LogRecord[] schemaUrl:string
    LogRecord timeUnixNano:u64 observedTimeUnixNano:u64 severityNumber:SEVERITY_NUMBER severityText:string body:AnyValue attributes:KeyValue[] droppedAttributesCount:u32 flags:u32 traceId:traceId spanId:spanId eventName:string
    ResourceMetrics resource:Resource scopeMetrics|instrumentationLibraryMetrics:ScopeMetrics[] schemaUrl:string
    ScopeMetrics scope|instrumentationLibrary:Scope metrics:Metric[] schemaUrl:string
    Metric name:string description:string unit:string gauge?:Gauge sum?:Sum histogram?:Histogram exponentialHistogram?:ExponentialHistogram summary?:Summary metadata:KeyValue[]
    Gauge dataPoints:NumberPoint[]
    Sum dataPoints:NumberPoint[] aggregationTemporality:AGGREGATION_TEMPORALITY isMonotonic:bool
    Histogram dataPoints:HistogramPoint[] aggregationTemporality:AGGREGATION_TEMPORALITY
    ExponentialHistogram dataPoints:ExponentialPoint[] aggregationTemporality:AGGREGATION_TEMPORALITY
    Summary dataPoints:SummaryPoint[]
    NumberPoint attributes:KeyValue[] startTimeUnixNano:u64 timeUnixNano:u64 asDouble?:double asInt?:i64 exemplars:Exemplar[] flags:u32
    HistogramPoint attributes:KeyValue[] startTimeUnixNano:u64 timeUnixNano:u64 count:u64 sum:double bucketCounts:u64[] explicitBounds:double[] exemplars:Exemplar[] flags:u32 min:double max:double
    ExponentialPoint attributes:KeyValue[] startTimeUnixNano:u64 timeUnixNano:u64 count:u64 sum:double scale:i32 zeroCount:u64 positive:Buckets negative:Buckets flags:u32 exemplars:Exemplar[] min:double max:double zeroThreshold:double
    Buckets offset:i32 bucketCounts:u64[]
    SummaryPoint attributes:KeyValue[] startTimeUnixNano:u64 timeUnixNano:u64 count:u64 sum:double quantileValues:Quantile[] flags:u32
    Quantile quantile:double value:double
    Exemplar filteredAttributes:KeyValue[] timeUnixNano:u64 asDouble?:double asInt?:i64 spanId:spanId traceId:traceId
    Resource attributes:KeyValue[] droppedAttributesCount:u32 entityRefs:EntityRef[]
    EntityRef schemaUrl:string type:string idKeys:string[] descriptionKeys:string[]
    Scope name:string version:string attributes:KeyValue[] droppedAttributesCount:u32
    KeyValue key:string value:AnyValue
    AnyValue stringValue?:string boolValue?:bool intValue?:i64 doubleValue?:double arrayValue?:ArrayValue kvlistValue?:KeyValueList bytesValue?:bytes
    ArrayValue values:AnyValue[]
    KeyValueList values:KeyValue[]
";

/// Names of the values of each enum, from 0 on, after the enum's own name.
const ENUMS: &str = "
    SPAN_KIND UNSPECIFIED INTERNAL SERVER CLIENT PRODUCER CONSUMER
    STATUS_CODE UNSET OK ERROR
    SEVERITY_NUMBER UNSPECIFIED TRACE TRACE2 TRACE3 TRACE4 DEBUG DEBUG2 DEBUG3 DEBUG4 INFO INFO2 INFO3 INFO4 WARN WARN2 WARN3 WARN4 ERROR ERROR2 ERROR3 ERROR4 FATAL FATAL2 FATAL3 FATAL4
    AGGREGATION_TEMPORALITY UNSPECIFIED DELTA CUMULATIVE
";

/// A field of a message.
#[derive(Debug)]
pub(super) struct Field {
    pub(super) name: &'static str,
    pub(super) old_name: Option<&'static str>,
    pub(super) kind: Kind,
    pub(super) is_list: bool,
    pub(super) is_one_of: bool,
}

/// The type of a field, or of its elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Message(&'static str),
    String,
    Bool,
    Double,
    Bytes,
    TraceId,
    SpanId,
    ParentSpanId,
    /// Numbers of 64 bits are in quotes, or small enough for a double.
    Wide {
        signed: bool,
    },
    /// Numbers of 32 bits are not in quotes.
    Narrow {
        signed: bool,
    },
    Enum(&'static str),
}

/// Spelling of a key of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spelling {
    Right,
    /// An old name, or snake case.
    Old,
}

/// All messages by name.
static MESSAGES: LazyLock<HashMap<&'static str, Vec<Field>>> = LazyLock::new(|| {
    let lines = TABLE.lines().map(str::split_whitespace);
    lines.filter_map(|mut words| Some((words.next()?, words.map(Field::of).collect()))).collect()
});

static NAMES: LazyLock<HashMap<&'static str, Vec<&'static str>>> = LazyLock::new(|| {
    let lines = ENUMS.lines().map(str::split_whitespace);
    lines.filter_map(|mut words| Some((words.next()?, words.collect()))).collect()
});

/// Returns the fields of a message.
pub(super) fn fields(message: &str) -> &'static [Field] {
    &MESSAGES[message]
}

/// Returns the field of a message that a key names, in any spelling.
pub(super) fn field(message: &str, key: &str) -> Option<(&'static Field, Spelling)> {
    let fields = fields(message);
    if let Some(field) = fields.iter().find(|field| field.name == key) {
        return Some((field, Spelling::Right));
    }
    let is_old = |field: &&Field| field.old_name == Some(key) || snake_case(field.name) == key;
    fields.iter().find(is_old).map(|field| (field, Spelling::Old))
}

/// Returns the number of an enum's value.
pub(super) fn number_of(enumeration: &str, name: &str) -> Option<usize> {
    let word = name.strip_prefix(enumeration)?.strip_prefix('_')?;
    NAMES[enumeration].iter().position(|known| *known == word)
}

/// Returns every known key, including old ones.
pub(super) fn keys() -> Vec<&'static str> {
    let mut keys: Vec<&str> =
        MESSAGES.values().flatten().flat_map(|field| [Some(field.name), field.old_name]).flatten().collect();
    keys.sort_unstable();
    keys.dedup();
    keys
}

fn snake_case(name: &str) -> String {
    name.chars().fold(String::new(), |mut snake, character| {
        if character.is_ascii_uppercase() {
            snake.push('_');
        }
        snake.push(character.to_ascii_lowercase());
        snake
    })
}

// === impl Field ===

impl Field {
    fn of(word: &'static str) -> Self {
        let (names, kind) = word.split_once(':').expect("a field has a type");
        let (names, is_one_of) = names.strip_suffix('?').map_or((names, false), |names| (names, true));
        let (name, old_name) = names.split_once('|').map_or((names, None), |(name, old)| (name, Some(old)));
        let (kind, is_list) = kind.strip_suffix("[]").map_or((kind, false), |kind| (kind, true));
        Self { name, old_name, kind: Kind::of(kind), is_list, is_one_of }
    }
}

// === impl Kind ===

impl Kind {
    fn of(word: &'static str) -> Self {
        match word {
            "string" => Self::String,
            "bool" => Self::Bool,
            "double" => Self::Double,
            "bytes" => Self::Bytes,
            "traceId" => Self::TraceId,
            "spanId" => Self::SpanId,
            "parentSpanId" => Self::ParentSpanId,
            "u64" => Self::Wide { signed: false },
            "i64" => Self::Wide { signed: true },
            "u32" => Self::Narrow { signed: false },
            "i32" => Self::Narrow { signed: true },
            word if word.contains('_') => Self::Enum(word),
            word => Self::Message(word),
        }
    }

    /// Returns the smallest and the largest number of an integer kind.
    pub(super) fn range(self) -> (i128, i128) {
        match self {
            Self::Wide { signed: false } => (0, i128::from(u64::MAX)),
            Self::Wide { signed: true } => (i128::from(i64::MIN), i128::from(i64::MAX)),
            Self::Narrow { signed: false } => (0, i128::from(u32::MAX)),
            _ => (i128::from(i32::MIN), i128::from(i32::MAX)),
        }
    }
}
