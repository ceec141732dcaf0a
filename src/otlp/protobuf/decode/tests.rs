use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use proptest::prelude::*;
use prost::Message as _;

use super::super::tests::random::Random;
use super::super::{bytes, encode};
use super::*;

const NO_LIMIT: usize = usize::MAX;

fn json(signal: Signal, body: &[u8]) -> Result<String, DecodeError> {
    decode(signal, body, NO_LIMIT).map(|it| String::from_utf8(it.json).unwrap())
}

/// Returns a message with one field with this content.
fn field(number: u32, content: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    bytes(number, content, &mut out);
    out
}

/// Returns a request with one span that has these fields.
fn span(fields: &[u8]) -> Vec<u8> {
    field(1, &field(2, &field(2, fields)))
}

fn span_json(fields: &str) -> String {
    format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{{{fields}}}]}}]}}]}}"#)
}

/// Returns the debug form of prost's reading, which distinguishes -0.0 from 0.0 and represents NaN.
fn by_prost(signal: Signal, body: &[u8]) -> Option<String> {
    match signal {
        Signal::Traces => ExportTraceServiceRequest::decode(body).ok().map(|it| format!("{it:?}")),
        Signal::Logs => ExportLogsServiceRequest::decode(body).ok().map(|it| format!("{it:?}")),
        Signal::Metrics => ExportMetricsServiceRequest::decode(body).ok().map(|it| format!("{it:?}")),
    }
}

/// Returns the same request as encoded by prost.
fn rewritten_by_prost(signal: Signal, body: &[u8]) -> Vec<u8> {
    match signal {
        Signal::Traces => ExportTraceServiceRequest::decode(body).unwrap().encode_to_vec(),
        Signal::Logs => ExportLogsServiceRequest::decode(body).unwrap().encode_to_vec(),
        Signal::Metrics => ExportMetricsServiceRequest::decode(body).unwrap().encode_to_vec(),
    }
}

fn any_signal() -> impl Strategy<Value = Signal> {
    proptest::sample::select(&Signal::ALL[..])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn decoding_to_json_and_encoding_again_loses_nothing(signal in any_signal(), seed: u64) {
        let body = Random(seed).request(signal);
        for body in [rewritten_by_prost(signal, &body), body] {
            let json = decode(signal, &body, NO_LIMIT).unwrap().json;
            let back = encode(signal, &json).unwrap();
            let meant = by_prost(signal, &body);
            prop_assert!(meant.is_some());
            prop_assert_eq!(by_prost(signal, &back), meant);
        }
    }

    #[test]
    fn repeated_conversion_between_json_and_protobuf_is_stable(signal in any_signal(), seed: u64) {
        let json = decode(signal, &Random(seed).request(signal), NO_LIMIT).unwrap().json;
        let again = decode(signal, &encode(signal, &json).unwrap(), NO_LIMIT).unwrap().json;
        prop_assert_eq!(String::from_utf8(again), String::from_utf8(json));
    }

    #[test]
    fn no_bytes_cause_a_panic(signal in any_signal(), body in proptest::collection::vec(any::<u8>(), 0..200)) {
        drop(decode(signal, &body, NO_LIMIT));
    }

    #[test]
    fn requests_that_prost_accepts_are_decoded_to_the_same_values(
        signal in any_signal(), seed: u64, at: proptest::sample::Index, byte: u8, cut: proptest::sample::Index, cuts: bool,
    ) {
        let mut body = Random(seed).request(signal);
        *at.get_mut(&mut body) = byte;
        if cuts {
            body.truncate(cut.index(body.len()));
        }
        let json = decode(signal, &body, NO_LIMIT);
        if let Some(meant) = by_prost(signal, &body) {
            // Indexes into the dictionary of profiles have no meaning for the other signals.
            prop_assume!(!meant.replace("key_strindex: 0", "").to_lowercase().contains("strindex"));
            // The JSON reader rejects ids of another length, and has reasons for them.
            if let Ok(back) = encode(signal, &json.unwrap().json) {
                prop_assert_eq!(by_prost(signal, &back), Some(meant));
            }
        }
    }

    #[test]
    fn the_output_is_bounded(signal in any_signal(), seed: u64, max_json_bytes in 0_usize..2000) {
        let body = Random(seed).request(signal);
        let json = decode(signal, &body, NO_LIMIT).unwrap().json;
        // No field grows by more than the difference between its name and its number.
        prop_assert!(json.len() <= 15 * body.len() + 64, "{} from {}", json.len(), body.len());
        match decode(signal, &body, max_json_bytes) {
            Ok(Decoded { json, .. }) => prop_assert!(json.len() <= max_json_bytes + 15 * body.len()),
            Err(error) => {
                prop_assert_eq!(error.cause, DecodeCause::TooLarge { max_json_bytes });
                prop_assert!(error.at <= body.len());
                prop_assert!(json.len() > max_json_bytes);
            }
        }
    }
}

// --- by example ---

#[test]
fn an_empty_message_is_an_empty_request() {
    assert_eq!(json(Signal::Logs, b"").unwrap(), r#"{"resourceLogs":[]}"#);
    assert_eq!(json(Signal::Traces, b"\x0a\x00").unwrap(), r#"{"resourceSpans":[{}]}"#);
}

#[test]
fn json_is_canonical() {
    let mut fields = field(1, &[0xAB; 16]);
    fields.extend(field(2, &[1, 2, 3, 4, 5, 6, 7, 8]));
    fields.extend(field(4, b""));
    fields.extend(field(5, "\u{1}\"é".as_bytes()));
    fields.extend(b"\x30\x63\x39\xff\xff\xff\xff\xff\xff\xff\xff\x50\x02");
    fields.extend(field(9, &[field(1, b"k"), field(2, &field(7, b"hi"))].concat()));
    fields.extend(field(
        9,
        &[field(1, b"n"), field(2, b"\x18\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01")].concat(),
    ));
    let expected = span_json(concat!(
        r#""traceId":"abababababababababababababababab","spanId":"0102030405060708","name":"\u0001\"é","kind":99,"#,
        r#""startTimeUnixNano":"18446744073709551615","attributes":[{"key":"k","value":{"bytesValue":"aGk="}},"#,
        r#"{"key":"n","value":{"intValue":"-1"}}],"droppedAttributesCount":2"#
    ));
    assert_eq!(json(Signal::Traces, &span(&fields)).unwrap(), expected);
}

#[test]
fn fields_with_default_values_are_kept() {
    // A number point with asInt 0, and a histogram point with sum 0 and without min.
    let gauge = field(5, &field(1, b"\x31\0\0\0\0\0\0\0\0"));
    let histogram = field(9, &field(1, b"\x29\0\0\0\0\0\0\0\0"));
    let metrics =
        field(1, &field(2, &[field(2, &gauge), field(2, &histogram), field(2, &field(7, b""))].concat()));
    let expected = concat!(
        r#"{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"gauge":{"dataPoints":[{"asInt":"0"}]}},"#,
        r#"{"histogram":{"dataPoints":[{"sum":0.0}]}},{"sum":{}}]}]}]}"#
    );
    assert_eq!(json(Signal::Metrics, &metrics).unwrap(), expected);
}

#[test]
fn the_last_scalar_and_oneof_member_win_and_messages_are_merged() {
    let name = [field(5, b"first"), field(5, b"last")].concat();
    assert_eq!(json(Signal::Traces, &span(&name)).unwrap(), span_json(r#""name":"last""#));

    let status = [field(15, &field(2, b"m")), field(5, b"between"), field(15, b"\x18\x02")].concat();
    let expected = span_json(r#""name":"between","status":{"message":"m","code":2}"#);
    assert_eq!(json(Signal::Traces, &span(&status)).unwrap(), expected);

    let list = |element: &[u8]| field(5, &field(1, &field(1, element)));
    let value = |parts: &[Vec<u8>]| span(&field(9, &field(2, &parts.concat())));
    let merged = value(&[field(1, b"s"), list(b"a"), list(b"b")]);
    let strings = r#"{"stringValue":"a"},{"stringValue":"b"}"#;
    let expected =
        span_json(&format!(r#""attributes":[{{"value":{{"arrayValue":{{"values":[{strings}]}}}}}}]"#));
    assert_eq!(json(Signal::Traces, &merged).unwrap(), expected);

    let interrupted = value(&[list(b"a"), field(1, b"s"), list(b"b")]);
    let expected = span_json(r#""attributes":[{"value":{"arrayValue":{"values":[{"stringValue":"b"}]}}}]"#);
    assert_eq!(json(Signal::Traces, &interrupted).unwrap(), expected);
}

fn cause(body: &[u8]) -> Result<String, DecodeCause> {
    json(Signal::Traces, body).map_err(|error| error.cause)
}

#[test]
fn invalid_requests_are_rejected_with_a_reason() {
    for (body, fault) in [
        (&b"{}"[..], WireFault::CutShort),
        (b"\x0a", WireFault::CutShort),
        (b"\x0a\x05ab", WireFault::CutShort),
        (b"\x00", WireFault::NoField),
        (b"\x0c", WireFault::Group),
        (b"\x13\x1c", WireFault::Group),
        (b"\x13\x08\x01", WireFault::CutShort),
        (b"\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", WireFault::Overlong),
    ] {
        assert_eq!(cause(body), Err(DecodeCause::Wire(fault)), "{body:?}");
    }
    assert_eq!(cause(b"\x08\x01"), Err(DecodeCause::WireType));
    let repaired = decode(Signal::Traces, &span(&field(5, b"a\xff\xe2\x82b")), NO_LIMIT).unwrap();
    assert!(
        repaired.is_repaired && String::from_utf8(repaired.json).unwrap().contains("\"a\u{fffd}\u{fffd}b\"")
    );
}

/// Every fault is put at a known offset, behind a good request of 100 bytes and more.
#[test]
fn a_fault_is_located_by_byte_and_field() {
    let good = span(&[field(1, &[7; 16]), field(2, &[7; 8]), field(5, &[b'n'; 100])].concat());
    let wrap = |spans: &[u8]| field(1, &field(2, spans));
    let good_span = field(2, &field(5, b"n"));
    let in_span = "resourceSpans[1].scopeSpans[0].spans[1]";
    let value = |value: &[u8]| field(9, &field(2, value));
    for (bad, at, what) in [
        (b"\x28\x01".to_vec(), 0, format!("not OTLP: wrong wire type, in {in_span}.name")),
        (b"\x2a\x09n".to_vec(), 0, format!("not protobuf: the message ends inside a field, in {in_span}")),
        (
            [field(5, b"n"), b"\x2c".to_vec()].concat(),
            3,
            format!("not protobuf: a group is not closed correctly, or is nested too deeply, in {in_span}"),
        ),
        (
            // In the second attribute, behind two bytes each for it, its value and the length of that.
            [value(b"\x10\x01"), value(b"\x18\x01\x0d")].concat(),
            6 + 4 + 2,
            format!("not protobuf: the message ends inside a field, in {in_span}.attributes[1].value"),
        ),
        (
            // The status comes in two pieces; the fault is in the second.
            [field(15, b"\x12\x01m"), field(15, b"\x18\x01\x1a\x01x")].concat(),
            5 + 2 + 2,
            format!("not OTLP: wrong wire type, in {in_span}.status.code"),
        ),
    ] {
        let bad_span = field(2, &bad);
        let body = [good.clone(), wrap(&[good_span.clone(), bad_span].concat())].concat();
        let expected = body.len() - bad.len() + at;
        let error = json(Signal::Traces, &body).unwrap_err();
        assert_eq!((error.to_string(), error.at), (format!("{what} at byte {expected}"), expected));
    }
    let error = json(Signal::Traces, &[&good[..], b"\x0a\x05ab"].concat()).unwrap_err();
    let expected = format!("not protobuf: the message ends inside a field, at byte {}", good.len());
    assert_eq!(error.to_string(), expected);
}

#[test]
fn a_fault_in_packed_numbers_names_their_list() {
    let point = |counts: &[u8]| field(1, &field(2, &field(2, &field(9, &field(1, &field(6, counts))))));
    let body = point(&[[1; 8].as_slice(), &[2; 3]].concat());
    let error = json(Signal::Metrics, &body).unwrap_err();
    let path = "resourceMetrics[0].scopeMetrics[0].metrics[0].histogram.dataPoints[0].bucketCounts";
    let expected =
        format!("not protobuf: the message ends inside a field, in {path} at byte {}", body.len() - 3);
    assert_eq!(error.to_string(), expected);
}

#[test]
fn deep_nesting_is_rejected_at_the_same_depth_as_json() {
    let nested = |levels: usize| {
        let mut value = field(1, b"x");
        for _ in 0..levels {
            value = field(5, &field(1, &value));
        }
        span(&field(9, &[field(1, b"k"), field(2, &value)].concat()))
    };
    let deepest = (1..100).take_while(|levels| json(Signal::Traces, &nested(*levels)).is_ok()).count();
    assert_eq!(cause(&nested(deepest + 1)), Err(DecodeCause::TooDeep));
    let text = json(Signal::Traces, &nested(deepest)).unwrap();
    assert!(encode(Signal::Traces, text.as_bytes()).is_ok());
    assert!(deepest > 30, "{deepest}");
    let error = json(Signal::Traces, &nested(5_000)).unwrap_err();
    assert_eq!(error.cause, DecodeCause::TooDeep);
    assert!(error.to_string().len() < 400, "{error}");
}

#[test]
fn split_messages_that_would_be_copied_repeatedly_are_rejected() {
    // At every level the value is in two parts, one of them empty.
    let mut value = field(1, &[b'x'; 20_000]);
    for _ in 0..10 {
        value = [field(6, b""), field(6, &field(1, &[field(2, b""), field(2, &value)].concat()))].concat();
    }
    let body = span(&field(9, &field(2, &value)));
    assert_eq!(cause(&body), Err(DecodeCause::TooManyParts));
}
