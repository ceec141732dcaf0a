//! Encoder from OTLP/JSON to OTLP protobuf, directly from text to bytes along the [`schema`](super::schema);
//! [`decode()`] is the inverse.
//!
//! In: an export request that was read, with its edits made. Out: the same data as protobuf. Fields are in the order of
//! the text, which the format allows.

mod check;
mod decode;
mod repair;
mod request;
mod select;
mod wire;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::decode_hex;
use super::json::{Cursor, Fault};
use super::number::integer;
use super::schema::{Field, FieldType, Int, LINE, Message, MessageRole};
use super::walk::text_attribute;
use crate::event::Signal;
pub(crate) use decode::Decoded;
pub use decode::decode;
pub use request::ProtobufRequest;
pub(crate) use request::ReadProtobuf;

const VARINT: u32 = 0;
const FIXED64: u32 = 1;
const LENGTH: u32 = 2;
const FIXED32: u32 = 5;

const TOLERANT: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_decode_padding_mode(DecodePaddingMode::Indifferent)
    .with_decode_allow_trailing_bits(true);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, TOLERANT);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, TOLERANT);

/// Encodes an export request. Returns a fault when the text is not one.
pub fn encode(signal: Signal, json: &[u8]) -> Result<Vec<u8>, Fault> {
    let mut out = Vec::with_capacity(usual_bytes(json.len()));
    encode_onto(signal, json, &mut out).map(|()| out)
}

/// Returns the usual protobuf size of `json_bytes` bytes of JSON. Lines of the VCL need a little less.
pub(crate) fn usual_bytes(json_bytes: usize) -> usize {
    json_bytes / 8 * 5
}

/// Appends an encoded export request to others of its signal: together they are one request. Returns a fault when the
/// text is not one.
pub(crate) fn encode_onto(signal: Signal, json: &[u8], out: &mut Vec<u8>) -> Result<(), Fault> {
    let section = &LINE.fields[signal as usize];
    Cursor::new(json, 0).object(|cursor, _, key| {
        if key.raw(cursor.bytes()) != section.name.as_bytes() {
            return cursor.skip_value();
        }
        // Every request has its one list as field 1; only a line has three of them.
        let field = Field { number: 1, ..*section };
        value(cursor, &field, out)
    })
}

/// Decodes Base64 of either alphabet, with or without padding, as proto3 JSON allows.
pub(crate) fn base64_bytes(literal: &[u8]) -> Option<Vec<u8>> {
    STANDARD.decode(literal).or_else(|_| URL_SAFE.decode(literal)).ok()
}

fn message(cursor: &mut Cursor<'_>, message: &'static Message, out: &mut Vec<u8>) -> Result<(), Fault> {
    let mut next = 0;
    cursor.object(|cursor, _, key| {
        let name = key.unescaped(cursor.bytes());
        // Fields are mostly in the order of the schema.
        let (before, from_next) = message.fields.split_at(next);
        let is = |field: &Field| field.name.as_bytes() == &*name;
        let index = from_next.iter().position(is).map(|index| next + index);
        match index.or_else(|| before.iter().position(is)) {
            Some(index) => {
                next = index + 1;
                value(cursor, &message.fields[index], out)
            }
            None => cursor.skip_value(),
        }
    })
}

fn value(cursor: &mut Cursor<'_>, field: &Field, out: &mut Vec<u8>) -> Result<(), Fault> {
    if cursor.peek() == Some(b'n') {
        return cursor.word("null");
    }
    match field.kind {
        FieldType::Message(kind) => {
            tag(field.number, LENGTH, out);
            delimited(out, |out| message(cursor, kind, out))
        }
        FieldType::Messages(kind) => cursor.array(|cursor, _| {
            tag(field.number, LENGTH, out);
            if kind.role == MessageRole::KeyValue
                && let Some(attribute) = text_attribute(cursor.bytes(), cursor.at)
            {
                cursor.at = attribute.end;
                let bytes = cursor.bytes();
                return key_value(attribute.key.raw(bytes), attribute.value.raw(bytes), out);
            }
            delimited(out, |out| message(cursor, kind, out))
        }),
        FieldType::Strings => cursor.array(|cursor, _| string(cursor, field.number, out)),
        FieldType::String => string(cursor, field.number, out),
        FieldType::TraceId => hex::<16>(cursor, field, out),
        FieldType::SpanId | FieldType::ParentSpanId => hex::<8>(cursor, field, out),
        FieldType::Bytes => {
            let at = cursor.at;
            let text = cursor.string()?;
            let decoded = base64_bytes(&text.unescaped(cursor.bytes()));
            bytes(field.number, &decoded.ok_or_else(|| Fault::shape(at, "not Base64"))?, out);
            Ok(())
        }
        FieldType::Bool => {
            let word = if cursor.peek() == Some(b't') { "true" } else { "false" };
            cursor.word(word)?;
            tag(field.number, VARINT, out);
            out.push(u8::from(word == "true"));
            Ok(())
        }
        FieldType::Double => {
            tag(field.number, FIXED64, out);
            double(cursor, out)
        }
        FieldType::Int(int) => {
            tag(field.number, int.wire_type(), out);
            let number = number(cursor)?;
            int.write(number, out);
            Ok(())
        }
        FieldType::Enum(_) => {
            tag(field.number, VARINT, out);
            let number = number(cursor)?;
            Int::Int64.write(number, out);
            Ok(())
        }
        FieldType::Doubles => {
            tag(field.number, LENGTH, out);
            delimited(out, |out| cursor.array(|cursor, _| double(cursor, out)))
        }
        FieldType::Ints(int) => {
            tag(field.number, LENGTH, out);
            delimited(out, |out| {
                cursor.array(|cursor, _| {
                    let number = number(cursor)?;
                    int.write(number, out);
                    Ok(())
                })
            })
        }
    }
}

// === impl Int ===

impl Int {
    fn wire_type(self) -> u32 {
        match self {
            Self::Uint32 | Self::Sint32 | Self::Int64 | Self::Uint64 => VARINT,
            Self::Fixed32 => FIXED32,
            Self::Sfixed64 | Self::Fixed64 => FIXED64,
        }
    }

    /// Writes the value without a tag. The reader has checked its range: only sign extension is cut off.
    fn write(self, number: i128, out: &mut Vec<u8>) {
        match self {
            Self::Uint32 | Self::Int64 | Self::Uint64 => varint(number as u64, out),
            Self::Sint32 => varint(u64::from(((number << 1) ^ (number >> 127)) as u32), out),
            Self::Fixed32 => out.extend_from_slice(&(number as u32).to_le_bytes()),
            Self::Sfixed64 | Self::Fixed64 => out.extend_from_slice(&(number as u64).to_le_bytes()),
        }
    }
}

/// Reads an integer, with or without quotes.
fn number(cursor: &mut Cursor<'_>) -> Result<i128, Fault> {
    let at = cursor.at;
    let literal = literal(cursor)?;
    integer(literal).ok_or_else(|| Fault::shape(at, "not an integer"))
}

fn double(cursor: &mut Cursor<'_>, out: &mut Vec<u8>) -> Result<(), Fault> {
    let at = cursor.at;
    let literal = literal(cursor)?;
    // Rust reads the words of proto3 JSON unchanged: NaN, Infinity, -Infinity.
    let number: Option<f64> = std::str::from_utf8(literal).ok().and_then(|text| text.parse().ok());
    let number = number.ok_or_else(|| Fault::shape(at, "not a number"))?;
    out.extend_from_slice(&number.to_le_bytes());
    Ok(())
}

fn literal<'a>(cursor: &mut Cursor<'a>) -> Result<&'a [u8], Fault> {
    if cursor.peek() == Some(b'"') {
        let text = cursor.string()?;
        return Ok(text.raw(cursor.bytes()));
    }
    let (start, end) = cursor.number()?;
    Ok(&cursor.bytes()[start..end])
}

fn string(cursor: &mut Cursor<'_>, field: u32, out: &mut Vec<u8>) -> Result<(), Fault> {
    let text = cursor.string()?;
    bytes(field, &text.unescaped(cursor.bytes()), out);
    Ok(())
}

fn hex<const N: usize>(cursor: &mut Cursor<'_>, field: &Field, out: &mut Vec<u8>) -> Result<(), Fault> {
    let at = cursor.at;
    let text = cursor.string()?;
    let raw = text.raw(cursor.bytes());
    if !raw.is_empty() {
        let id = decode_hex::<N>(raw).ok_or_else(|| Fault::shape(at, "not a hexadecimal id"))?;
        bytes(field.number, &id, out);
    }
    Ok(())
}

/// Writes an attribute with a string value like [`message`], only faster.
fn key_value(key: &[u8], text: &[u8], out: &mut Vec<u8>) -> Result<(), Fault> {
    const KEY: u32 = 1;
    const VALUE: u32 = 2;
    const STRING_VALUE: u32 = 1;
    delimited(out, |out| {
        bytes(KEY, key, out);
        tag(VALUE, LENGTH, out);
        delimited(out, |out| bytes(STRING_VALUE, text, out));
    });
    Ok(())
}

fn bytes(field: u32, content: &[u8], out: &mut Vec<u8>) {
    tag(field, LENGTH, out);
    varint(content.len() as u64, out);
    out.extend_from_slice(content);
}

fn tag(field: u32, wire_type: u32, out: &mut Vec<u8>) {
    varint(u64::from(field << 3 | wire_type), out);
}

fn varint(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Writes content with its length in front. One byte is reserved for the length; content that needs a longer one is
/// moved.
fn delimited<R>(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>) -> R) -> R {
    let start = out.len();
    out.push(0);
    let result = write(out);
    let length = out.len() - start - 1;
    if let Ok(short @ 0..=0x7f) = u8::try_from(length) {
        out[start] = short;
        return result;
    }
    // Additional bytes of the length.
    let more = (length.ilog2() / 7) as usize;
    out.resize(out.len() + more, 0);
    out.copy_within(start + 1..start + 1 + length, start + 1 + more);
    let mut rest = length;
    for byte in &mut out[start..start + more] {
        *byte = rest as u8 | 0x80;
        rest >>= 7;
    }
    out[start + more] = rest as u8;
    result
}

#[cfg(test)]
pub(crate) mod tests {
    pub(crate) mod random;

    use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
    use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
    use opentelemetry_proto::tonic::common::v1::any_value::Value;
    use opentelemetry_proto::tonic::common::v1::{
        AnyValue, ArrayValue, InstrumentationScope, KeyValue, KeyValueList,
    };
    use opentelemetry_proto::tonic::metrics::v1::{metric::Data, number_data_point};
    use opentelemetry_proto::tonic::resource::v1::Resource;
    use opentelemetry_proto::tonic::trace::v1::span::{Event, Link};
    use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
    use proptest::prelude::*;
    use prost::Message as _;

    use super::*;

    fn key_value(key: &str, value: Option<Value>) -> KeyValue {
        KeyValue { key: key.to_owned(), value: Some(AnyValue { value }), ..KeyValue::default() }
    }

    proptest! {
        #[test]
        fn a_text_attribute_is_encoded_the_same_on_both_paths(key in ".{0,200}", text in ".{0,20000}|.{0,40}") {
            let json = |space: &str| {
                let [key, text] = [&key, &text].map(|text| serde_json::to_string(text).unwrap());
                format!(
                    "{{\"resourceSpans\":[{{\"resource\":{{\"attributes\":[{{\"key\":{space}{key},\"value\":\
                     {{\"stringValue\":{text}}}}}]}}}}]}}"
                )
            };
            let encoded = |space| encode(Signal::Traces, json(space).as_bytes());
            prop_assert_eq!(encoded(""), encoded(" "));
        }
    }

    #[test]
    fn every_field_of_a_span_is_encoded() {
        let json = r#"{"unknown":[1],"resourceSpans":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"é\n\ud83d\ude00"}}],
            "droppedAttributesCount":1},"schemaUrl":"u","scopeSpans":[{"scope":{"name":"n","version":"v"},"schemaUrl":"w","spans":[
            {"traceId":"0af7651916cd43dd8448eb211c80319c","spanId":"b7ad6b7169203331","traceState":"a=b","parentSpanId":"0102030405060708",
            "name":"x","kind":99,"startTimeUnixNano":"18446744073709551615","endTimeUnixNano":5,"flags":4294967295,"someday":{},
            "attributes":[{"key":"i","value":{"intValue":"-9223372036854775808"}},{"key":"d","value":{"doubleValue":"-Infinity"}},
            {"key":"b","value":{"boolValue":false}},{"key":"y","value":{"bytesValue":"aGk="}},{"key":"e","value":{}},
            {"key":"a","value":{"arrayValue":{"values":[{"intValue":0},{}]}}},{"key":"k","value":{"kvlistValue":{}}}],
            "droppedAttributesCount":2,"events":[{"timeUnixNano":"7","name":"ev"}],"droppedEventsCount":3,
            "links":[{"traceId":"0af7651916cd43dd8448eb211c80319c","spanId":"b7ad6b7169203332","flags":1}],"droppedLinksCount":4,
            "status":{"code":2,"message":"m"}}]}]}]}"#;
        let trace_id = vec![
            0x0a, 0xf7, 0x65, 0x19, 0x16, 0xcd, 0x43, 0xdd, 0x84, 0x48, 0xeb, 0x21, 0x1c, 0x80, 0x31, 0x9c,
        ];
        let span = Span {
            trace_id: trace_id.clone(),
            span_id: vec![0xb7, 0xad, 0x6b, 0x71, 0x69, 0x20, 0x33, 0x31],
            trace_state: "a=b".to_owned(),
            parent_span_id: vec![1, 2, 3, 4, 5, 6, 7, 8],
            flags: u32::MAX,
            name: "x".to_owned(),
            kind: 99,
            start_time_unix_nano: u64::MAX,
            end_time_unix_nano: 5,
            attributes: vec![
                key_value("i", Some(Value::IntValue(i64::MIN))),
                key_value("d", Some(Value::DoubleValue(f64::NEG_INFINITY))),
                key_value("b", Some(Value::BoolValue(false))),
                key_value("y", Some(Value::BytesValue(b"hi".to_vec()))),
                key_value("e", None),
                key_value(
                    "a",
                    Some(Value::ArrayValue(ArrayValue {
                        values: vec![AnyValue { value: Some(Value::IntValue(0)) }, AnyValue { value: None }],
                    })),
                ),
                key_value("k", Some(Value::KvlistValue(KeyValueList::default()))),
            ],
            dropped_attributes_count: 2,
            events: vec![Event { time_unix_nano: 7, name: "ev".to_owned(), ..Event::default() }],
            dropped_events_count: 3,
            links: vec![Link {
                trace_id,
                span_id: vec![0xb7, 0xad, 0x6b, 0x71, 0x69, 0x20, 0x33, 0x32],
                flags: 1,
                ..Link::default()
            }],
            dropped_links_count: 4,
            status: Some(Status { message: "m".to_owned(), code: 2 }),
        };
        let expected = ExportTraceServiceRequest {
            resource_spans: vec![ResourceSpans {
                resource: Some(Resource {
                    attributes: vec![key_value("service.name", Some(Value::StringValue("é\n😀".to_owned())))],
                    dropped_attributes_count: 1,
                    ..Resource::default()
                }),
                scope_spans: vec![ScopeSpans {
                    scope: Some(InstrumentationScope {
                        name: "n".to_owned(),
                        version: "v".to_owned(),
                        ..InstrumentationScope::default()
                    }),
                    spans: vec![span],
                    schema_url: "w".to_owned(),
                }],
                schema_url: "u".to_owned(),
            }],
        };
        let bytes = encode(Signal::Traces, json.as_bytes()).unwrap();
        assert_eq!(ExportTraceServiceRequest::decode(&bytes[..]).unwrap(), expected);
    }

    #[test]
    fn the_length_of_a_message_is_encoded_in_the_fewest_bytes() {
        for name_bytes in (90..140).chain(16_350..16_400).chain(2_097_130..2_097_150) {
            let name = "x".repeat(name_bytes);
            let json =
                format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{{"name":"{name}"}},{{}}]}}]}}]}}"#);
            let spans = vec![Span { name, ..Span::default() }, Span::default()];
            let scope_spans = vec![ScopeSpans { spans, ..ScopeSpans::default() }];
            let resource_spans = vec![ResourceSpans { scope_spans, ..ResourceSpans::default() }];
            let request = ExportTraceServiceRequest { resource_spans };
            assert!(
                encode(Signal::Traces, json.as_bytes()).unwrap() == request.encode_to_vec(),
                "{name_bytes}"
            );
        }
    }

    #[test]
    fn every_field_of_a_log_record_is_encoded() {
        let json = r#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"timeUnixNano":"1","observedTimeUnixNano":"2","severityNumber":9,
            "severityText":"INFO","body":{"stringValue":"b"},"attributes":[{"key":"a","value":{"intValue":"1"}}],"droppedAttributesCount":3,
            "flags":1,"traceId":"0af7651916cd43dd8448eb211c80319c","spanId":"b7ad6b7169203331","eventName":"e"}]}]}]}"#;
        let bytes = encode(Signal::Logs, json.as_bytes()).unwrap();
        let request = ExportLogsServiceRequest::decode(&bytes[..]).unwrap();
        let record = &request.resource_logs[0].scope_logs[0].log_records[0];
        assert_eq!(
            (record.time_unix_nano, record.observed_time_unix_nano, record.severity_number),
            (1, 2, 9)
        );
        assert_eq!((&*record.severity_text, &*record.event_name, record.flags), ("INFO", "e", 1));
        assert_eq!(record.body, Some(AnyValue { value: Some(Value::StringValue("b".to_owned())) }));
        assert_eq!(record.attributes, [key_value("a", Some(Value::IntValue(1)))]);
        assert_eq!(
            (record.dropped_attributes_count, record.trace_id.len(), record.span_id.len()),
            (3, 16, 8)
        );
    }

    #[test]
    fn metric_points_of_every_kind_are_encoded() {
        let json = r#"{"resourceMetrics":[{"scopeMetrics":[{"metrics":[
            {"name":"g","unit":"1","gauge":{"dataPoints":[{"timeUnixNano":"3","asInt":"-4","exemplars":[{"asDouble":0.5}]}]}},
            {"sum":{"dataPoints":[{"asDouble":0,"startTimeUnixNano":"1"}],"aggregationTemporality":2,"isMonotonic":true}},
            {"histogram":{"dataPoints":[{"count":"3","sum":0,"bucketCounts":["1","2"],"explicitBounds":[0.5],"min":-1}]}},
            {"exponentialHistogram":{"dataPoints":[{"scale":-3,"zeroCount":"1","positive":{"offset":-2,"bucketCounts":["300"]}}]}},
            {"summary":{"dataPoints":[{"count":"1","quantileValues":[{"quantile":0.5,"value":2}]}]}}]}]}]}"#;
        let bytes = encode(Signal::Metrics, json.as_bytes()).unwrap();
        let request = ExportMetricsServiceRequest::decode(&bytes[..]).unwrap();
        let metrics = &request.resource_metrics[0].scope_metrics[0].metrics;
        let Some(Data::Gauge(gauge)) = &metrics[0].data else { panic!() };
        assert_eq!(gauge.data_points[0].value, Some(number_data_point::Value::AsInt(-4)));
        assert_eq!(gauge.data_points[0].exemplars.len(), 1);
        let Some(Data::Sum(sum)) = &metrics[1].data else { panic!() };
        assert_eq!((sum.aggregation_temporality, sum.is_monotonic), (2, true));
        assert_eq!(sum.data_points[0].value, Some(number_data_point::Value::AsDouble(0.0)));
        let Some(Data::Histogram(histogram)) = &metrics[2].data else { panic!() };
        let point = &histogram.data_points[0];
        assert_eq!((point.count, point.sum, point.min, point.max), (3, Some(0.0), Some(-1.0), None));
        assert_eq!((&point.bucket_counts[..], &point.explicit_bounds[..]), (&[1, 2][..], &[0.5][..]));
        let Some(Data::ExponentialHistogram(histogram)) = &metrics[3].data else { panic!() };
        let point = &histogram.data_points[0];
        let positive = point.positive.as_ref().unwrap();
        assert_eq!(
            (point.scale, point.zero_count, positive.offset, &positive.bucket_counts[..]),
            (-3, 1, -2, &[300][..])
        );
        let Some(Data::Summary(summary)) = &metrics[4].data else { panic!() };
        assert_eq!(
            (
                summary.data_points[0].quantile_values[0].quantile,
                summary.data_points[0].quantile_values[0].value
            ),
            (0.5, 2.0)
        );
    }
}
