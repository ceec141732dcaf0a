//! Reader of OTLP/JSON into protobuf types, by name and without the relay's own code, for comparing a JSON request with
//! a protobuf request.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{
    AnyValue, ArrayValue, EntityRef, InstrumentationScope, KeyValue, KeyValueList, any_value,
};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::metrics::v1::{
    Exemplar, ExponentialHistogram, ExponentialHistogramDataPoint, Gauge, Histogram, HistogramDataPoint,
    Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, Summary, SummaryDataPoint, exemplar,
    exponential_histogram_data_point::Buckets, metric, number_data_point,
    summary_data_point::ValueAtQuantile,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use prost::Message;
use serde_json::Value;

/// Returns the canonical protobuf encoding of a JSON request for this path.
pub(crate) fn encoded(path: &str, json: &Value) -> Vec<u8> {
    match path {
        "/v1/traces" => traces(json).encode_to_vec(),
        "/v1/logs" => logs(json).encode_to_vec(),
        "/v1/metrics" => metrics(json).encode_to_vec(),
        other => panic!("no signal goes to {other}"),
    }
}

/// Decodes and encodes a protobuf request for this path: the same data in the canonical encoding.
pub(crate) fn reencoded(path: &str, body: &[u8]) -> Vec<u8> {
    match path {
        "/v1/traces" => ExportTraceServiceRequest::decode(body).unwrap().encode_to_vec(),
        "/v1/logs" => ExportLogsServiceRequest::decode(body).unwrap().encode_to_vec(),
        "/v1/metrics" => ExportMetricsServiceRequest::decode(body).unwrap().encode_to_vec(),
        other => panic!("no signal goes to {other}"),
    }
}

fn traces(json: &Value) -> ExportTraceServiceRequest {
    let scope_spans = |json: &Value| ScopeSpans {
        scope: json.get("scope").map(scope),
        spans: list(json, "spans", span),
        schema_url: text(json, "schemaUrl"),
    };
    let resource_spans = |json: &Value| ResourceSpans {
        resource: json.get("resource").map(resource),
        scope_spans: list(json, "scopeSpans", scope_spans),
        schema_url: text(json, "schemaUrl"),
    };
    ExportTraceServiceRequest { resource_spans: list(json, "resourceSpans", resource_spans) }
}

fn logs(json: &Value) -> ExportLogsServiceRequest {
    let scope_logs = |json: &Value| ScopeLogs {
        scope: json.get("scope").map(scope),
        log_records: list(json, "logRecords", log_record),
        schema_url: text(json, "schemaUrl"),
    };
    let resource_logs = |json: &Value| ResourceLogs {
        resource: json.get("resource").map(resource),
        scope_logs: list(json, "scopeLogs", scope_logs),
        schema_url: text(json, "schemaUrl"),
    };
    ExportLogsServiceRequest { resource_logs: list(json, "resourceLogs", resource_logs) }
}

fn metrics(json: &Value) -> ExportMetricsServiceRequest {
    let scope_metrics = |json: &Value| ScopeMetrics {
        scope: json.get("scope").map(scope),
        metrics: list(json, "metrics", metric_of),
        schema_url: text(json, "schemaUrl"),
    };
    let resource_metrics = |json: &Value| ResourceMetrics {
        resource: json.get("resource").map(resource),
        scope_metrics: list(json, "scopeMetrics", scope_metrics),
        schema_url: text(json, "schemaUrl"),
    };
    ExportMetricsServiceRequest { resource_metrics: list(json, "resourceMetrics", resource_metrics) }
}

fn resource(json: &Value) -> Resource {
    Resource {
        attributes: attributes(json),
        dropped_attributes_count: number(json, "droppedAttributesCount"),
        entity_refs: list(json, "entityRefs", entity_ref),
    }
}

fn entity_ref(json: &Value) -> EntityRef {
    let texts = |key| list(json, key, |text| text.as_str().unwrap().to_owned());
    EntityRef {
        schema_url: text(json, "schemaUrl"),
        r#type: text(json, "type"),
        id_keys: texts("idKeys"),
        description_keys: texts("descriptionKeys"),
    }
}

fn scope(json: &Value) -> InstrumentationScope {
    InstrumentationScope {
        name: text(json, "name"),
        version: text(json, "version"),
        attributes: attributes(json),
        dropped_attributes_count: number(json, "droppedAttributesCount"),
    }
}

fn span(json: &Value) -> Span {
    Span {
        trace_id: hex(json, "traceId"),
        span_id: hex(json, "spanId"),
        trace_state: text(json, "traceState"),
        parent_span_id: hex(json, "parentSpanId"),
        flags: number(json, "flags"),
        name: text(json, "name"),
        kind: number(json, "kind"),
        start_time_unix_nano: number(json, "startTimeUnixNano"),
        end_time_unix_nano: number(json, "endTimeUnixNano"),
        attributes: attributes(json),
        dropped_attributes_count: number(json, "droppedAttributesCount"),
        events: list(json, "events", |json| Event {
            time_unix_nano: number(json, "timeUnixNano"),
            name: text(json, "name"),
            attributes: attributes(json),
            dropped_attributes_count: number(json, "droppedAttributesCount"),
        }),
        dropped_events_count: number(json, "droppedEventsCount"),
        links: list(json, "links", |json| Link {
            trace_id: hex(json, "traceId"),
            span_id: hex(json, "spanId"),
            trace_state: text(json, "traceState"),
            attributes: attributes(json),
            dropped_attributes_count: number(json, "droppedAttributesCount"),
            flags: number(json, "flags"),
        }),
        dropped_links_count: number(json, "droppedLinksCount"),
        status: json
            .get("status")
            .map(|json| Status { message: text(json, "message"), code: number(json, "code") }),
    }
}

fn log_record(json: &Value) -> LogRecord {
    LogRecord {
        time_unix_nano: number(json, "timeUnixNano"),
        observed_time_unix_nano: number(json, "observedTimeUnixNano"),
        severity_number: number(json, "severityNumber"),
        severity_text: text(json, "severityText"),
        body: json.get("body").map(any_value),
        attributes: attributes(json),
        dropped_attributes_count: number(json, "droppedAttributesCount"),
        flags: number(json, "flags"),
        trace_id: hex(json, "traceId"),
        span_id: hex(json, "spanId"),
        event_name: text(json, "eventName"),
    }
}

fn metric_of(json: &Value) -> Metric {
    let one = |key: &str| json.get(key);
    let temporality = |json: &Value| number(json, "aggregationTemporality");
    let data = one("gauge")
        .map(|json| metric::Data::Gauge(Gauge { data_points: list(json, "dataPoints", number_point) }))
        .or(one("sum").map(|json| {
            metric::Data::Sum(Sum {
                data_points: list(json, "dataPoints", number_point),
                aggregation_temporality: temporality(json),
                is_monotonic: json["isMonotonic"].as_bool().unwrap_or_default(),
            })
        }))
        .or(one("histogram").map(|json| {
            metric::Data::Histogram(Histogram {
                data_points: list(json, "dataPoints", histogram_point),
                aggregation_temporality: temporality(json),
            })
        }))
        .or(one("exponentialHistogram").map(|json| {
            metric::Data::ExponentialHistogram(ExponentialHistogram {
                data_points: list(json, "dataPoints", exponential_point),
                aggregation_temporality: temporality(json),
            })
        }))
        .or(one("summary").map(|json| {
            metric::Data::Summary(Summary { data_points: list(json, "dataPoints", summary_point) })
        }));
    Metric {
        name: text(json, "name"),
        description: text(json, "description"),
        unit: text(json, "unit"),
        metadata: list(json, "metadata", key_value),
        data,
    }
}

fn number_point(json: &Value) -> NumberDataPoint {
    NumberDataPoint {
        attributes: attributes(json),
        start_time_unix_nano: number(json, "startTimeUnixNano"),
        time_unix_nano: number(json, "timeUnixNano"),
        exemplars: list(json, "exemplars", exemplar_of),
        flags: number(json, "flags"),
        value: json
            .get("asDouble")
            .map(|value| number_data_point::Value::AsDouble(double(value)))
            .or(json.get("asInt").map(|value| number_data_point::Value::AsInt(integer(value)))),
    }
}

fn histogram_point(json: &Value) -> HistogramDataPoint {
    HistogramDataPoint {
        attributes: attributes(json),
        start_time_unix_nano: number(json, "startTimeUnixNano"),
        time_unix_nano: number(json, "timeUnixNano"),
        count: number(json, "count"),
        sum: json.get("sum").map(double),
        bucket_counts: list(json, "bucketCounts", integer),
        explicit_bounds: list(json, "explicitBounds", double),
        exemplars: list(json, "exemplars", exemplar_of),
        flags: number(json, "flags"),
        min: json.get("min").map(double),
        max: json.get("max").map(double),
    }
}

fn exponential_point(json: &Value) -> ExponentialHistogramDataPoint {
    let buckets = |json: &Value| Buckets {
        offset: number(json, "offset"),
        bucket_counts: list(json, "bucketCounts", integer),
    };
    ExponentialHistogramDataPoint {
        attributes: attributes(json),
        start_time_unix_nano: number(json, "startTimeUnixNano"),
        time_unix_nano: number(json, "timeUnixNano"),
        count: number(json, "count"),
        sum: json.get("sum").map(double),
        scale: number(json, "scale"),
        zero_count: number(json, "zeroCount"),
        positive: json.get("positive").map(buckets),
        negative: json.get("negative").map(buckets),
        flags: number(json, "flags"),
        exemplars: list(json, "exemplars", exemplar_of),
        min: json.get("min").map(double),
        max: json.get("max").map(double),
        zero_threshold: json.get("zeroThreshold").map(double).unwrap_or_default(),
    }
}

fn summary_point(json: &Value) -> SummaryDataPoint {
    SummaryDataPoint {
        attributes: attributes(json),
        start_time_unix_nano: number(json, "startTimeUnixNano"),
        time_unix_nano: number(json, "timeUnixNano"),
        count: number(json, "count"),
        sum: json.get("sum").map(double).unwrap_or_default(),
        quantile_values: list(json, "quantileValues", |json| ValueAtQuantile {
            quantile: json.get("quantile").map(double).unwrap_or_default(),
            value: json.get("value").map(double).unwrap_or_default(),
        }),
        flags: number(json, "flags"),
    }
}

fn exemplar_of(json: &Value) -> Exemplar {
    Exemplar {
        filtered_attributes: list(json, "filteredAttributes", key_value),
        time_unix_nano: number(json, "timeUnixNano"),
        span_id: hex(json, "spanId"),
        trace_id: hex(json, "traceId"),
        value: json
            .get("asDouble")
            .map(|value| exemplar::Value::AsDouble(double(value)))
            .or(json.get("asInt").map(|value| exemplar::Value::AsInt(integer(value)))),
    }
}

fn attributes(json: &Value) -> Vec<KeyValue> {
    list(json, "attributes", key_value)
}

fn key_value(json: &Value) -> KeyValue {
    KeyValue { key: text(json, "key"), value: json.get("value").map(any_value), ..KeyValue::default() }
}

fn any_value(json: &Value) -> AnyValue {
    let value = json.as_object().unwrap().iter().next().map(|(kind, value)| match kind.as_str() {
        "stringValue" => any_value::Value::StringValue(value.as_str().unwrap().to_owned()),
        "boolValue" => any_value::Value::BoolValue(value.as_bool().unwrap()),
        "intValue" => any_value::Value::IntValue(integer(value)),
        "doubleValue" => any_value::Value::DoubleValue(double(value)),
        "bytesValue" => any_value::Value::BytesValue(STANDARD.decode(value.as_str().unwrap()).unwrap()),
        "arrayValue" => any_value::Value::ArrayValue(ArrayValue { values: list(value, "values", any_value) }),
        "kvlistValue" => {
            any_value::Value::KvlistValue(KeyValueList { values: list(value, "values", key_value) })
        }
        other => panic!("no attribute has a {other}"),
    });
    AnyValue { value }
}

fn list<T>(json: &Value, key: &str, element: impl Fn(&Value) -> T) -> Vec<T> {
    json.get(key).map_or(Vec::new(), |list| list.as_array().unwrap().iter().map(element).collect())
}

fn text(json: &Value, key: &str) -> String {
    json.get(key).map_or("", |text| text.as_str().unwrap()).to_owned()
}

fn hex(json: &Value, key: &str) -> Vec<u8> {
    let digits = text(json, key);
    let byte = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).unwrap();
    (0..digits.len()).step_by(2).map(byte).collect()
}

fn number<T: TryFrom<i128> + Default>(json: &Value, key: &str) -> T {
    json.get(key).map_or_else(T::default, integer)
}

/// Parses a number, with or without quotes.
fn integer<T: TryFrom<i128>>(json: &Value) -> T {
    let digits = json.as_str().map_or_else(|| json.to_string(), str::to_owned);
    let number: i128 = digits.parse().unwrap_or_else(|error| panic!("{digits}: {error}"));
    T::try_from(number).unwrap_or_else(|_| panic!("{digits} does not fit"))
}

fn double(json: &Value) -> f64 {
    json.as_f64().unwrap_or_else(|| json.as_str().unwrap().parse().unwrap())
}
