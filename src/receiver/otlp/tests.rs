use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use proptest::prelude::*;
use prost::Message as _;

use super::*;
use crate::config::{AuthConfig, Secret};
use crate::event::Signal;
use crate::otlp::protobuf::encode;
use crate::otlp::protobuf::tests::random::Random;
use crate::otlp::walk::MAX_ITEMS;

const MAX_BODY_BYTES: usize = 1 << 20;
const TRACE: &str = r#""traceId":"0af7651916cd43dd8448eb211c80319c","spanId":"b7ad6b7169203331""#;

fn otlp(signal: Signal) -> Otlp {
    Otlp::new(&OtlpConfig::default(), signal, MAX_BODY_BYTES)
}

/// Returns a receiver of requests that are exported as protobuf.
fn keeping(signal: Signal) -> Otlp {
    otlp(signal).keeping_protobuf(true)
}

fn receive(signal: Signal, body: &str) -> Received {
    otlp(signal).receive(&Bytes::copy_from_slice(body.as_bytes()), Encoding::Json, &KeptHeaders::default())
}

fn receive_protobuf(signal: Signal, body: &[u8]) -> Received {
    otlp(signal).receive(&Bytes::copy_from_slice(body), Encoding::Protobuf, &KeptHeaders::default())
}

fn spans(spans: &str) -> String {
    format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{spans}]}}]}}]}}"#)
}

fn logs(records: &str) -> String {
    format!(r#"{{"resourceLogs":[{{"scopeLogs":[{{"logRecords":[{records}]}}]}}]}}"#)
}

/// Returns the exported requests, each with its signal and the number of its items.
fn leaving(reading: Reading) -> Vec<(Signal, u32, String)> {
    let text = |json: Bytes| String::from_utf8(json.to_vec()).unwrap();
    let mut leaving = Vec::new();
    for item in reading.items {
        assert_eq!(item.passage, Passage::Straight);
        leaving.extend(item.traces.map(|it| (Signal::Traces, it.span_count(), text(it.into_json()))));
        leaving.extend(
            item.logs.map(|it| (Signal::Logs, it.record_count(), text(it.into_json(|_| true).unwrap()))),
        );
        leaving.extend(item.metrics.map(|it| (Signal::Metrics, it.point_count(), text(it.into_json()))));
    }
    leaving
}

fn only_reason(received: &Received) -> &str {
    assert!(received.reading.items.is_empty());
    let [rejected] = &received.reading.rejected[..] else { panic!("{received:?}") };
    &rejected.reason
}

fn two_spans() -> ExportTraceServiceRequest {
    let span = |id: u8| Span {
        trace_id: vec![7; 16],
        span_id: vec![id; 8],
        name: "é".to_owned(),
        ..Span::default()
    };
    let scope_spans = vec![ScopeSpans { spans: vec![span(1), span(2)], ..ScopeSpans::default() }];
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans { scope_spans, ..ResourceSpans::default() }],
    }
}

#[test]
fn canonical_requests_of_every_signal_are_exported_byte_for_byte() {
    let gauge = r#"{"gauge":{"dataPoints":[{"asInt":"0"},{"asDouble":"NaN"}]}}"#;
    let metrics = format!(r#"{{ "resourceMetrics":[{{"scopeMetrics":[{{"metrics":[{gauge}]}}]}}]}}"#);
    for (signal, items, body) in [
        (Signal::Traces, 2, spans(&format!(r#"{{{TRACE}, "name":"\u00e9","x":1e2}},{{{TRACE}}}"#))),
        (Signal::Logs, 2, logs(&format!(r#"{{{TRACE},"body":{{"stringValue":"b"}}}},{{}}"#))),
        (Signal::Metrics, 2, metrics),
    ] {
        let received = receive(signal, &body);
        assert_eq!(received.kept, body);
        assert!(received.reading.rejected.is_empty());
        assert_eq!(leaving(received.reading), [(signal, items, body)]);
    }
}

#[test]
fn a_metric_without_data_points_is_an_item_and_leaves_unchanged() {
    for (items, metrics) in [
        (1, r#"{"name":"bare","unit":"1"}"#),
        (1, "{}"),
        (1, r#"{"gauge":{}}"#),
        (1, r#"{"sum":{"isMonotonic":true}}"#),
        (3, r#"{"name":"bare"},{"gauge":{"dataPoints":[{"asInt":"1"}]}},{"summary":{}}"#),
    ] {
        let body = format!(r#"{{"resourceMetrics":[{{"scopeMetrics":[{{"metrics":[{metrics}]}}]}}]}}"#);
        let protobuf = crate::otlp::protobuf::encode(Signal::Metrics, body.as_bytes()).unwrap();
        for received in [receive(Signal::Metrics, &body), receive_protobuf(Signal::Metrics, &protobuf)] {
            assert!(received.reading.rejected.is_empty(), "{received:?}");
            assert_eq!(leaving(received.reading), [(Signal::Metrics, items, body.clone())]);
        }
    }
}

#[test]
fn an_empty_request_has_no_items_and_is_not_rejected() {
    for body in [
        "{}",
        " {} \r\n",
        r#"{"resourceSpans":[]}"#,
        r#"{"resourceSpans":null}"#,
        r#"{"resourceSpans":[{}]}"#,
        r#"{"resourceSpans":[{"resource":{"attributes":[]}}]}"#,
        r#"{"resourceSpans":[{"scopeSpans":[{"scope":{"name":"n"},"spans":[]}]}]}"#,
    ] {
        let reading = receive(Signal::Traces, body).reading;
        assert!(reading.items.is_empty() && reading.rejected.is_empty(), "{body}");
    }
    for body in [&b""[..], b"\x0a\x00"] {
        let reading = receive_protobuf(Signal::Metrics, body).reading;
        assert!(reading.items.is_empty() && reading.rejected.is_empty(), "{body:?}");
    }
}

#[test]
fn sections_of_other_signals_are_rejected_and_the_signal_s_own_is_not() {
    let record = logs(&format!("{{{TRACE}}}"));
    let own = record.strip_prefix('{').unwrap().strip_suffix('}').unwrap();
    let bad = spans("{}");
    let foreign = bad.strip_prefix('{').unwrap().strip_suffix('}').unwrap();
    for (body, places) in [
        (format!("{{{own},{foreign}}}"), vec![own.len() + 2]),
        (format!(r#"{{"resource_metrics":17,{own}}}"#), vec![1]),
        (format!(r#"{{"resourceSpans":[],{own},"resourceMetrics":{{}}}}"#), vec![]),
        (format!(r#"{{{foreign} ,{own}, "resourceMetrics":[1]}}"#), vec![1, own.len() + foreign.len() + 5]),
    ] {
        let received = receive(Signal::Logs, &body);
        assert_eq!(received.kept.trim_ascii(), record.as_bytes(), "{body}");
        let rejected = &received.reading.rejected;
        let found: Vec<usize> = rejected.iter().map(|rejected| rejected.column as usize - 1).collect();
        assert_eq!(found, places, "{body}");
        assert!(rejected.iter().all(|it| body.as_bytes()[it.column as usize - 1..].starts_with(&it.input)));
        assert!(rejected.iter().all(|it| it.scope == Scope::Section), "{rejected:?}");
        assert!(rejected.iter().all(|it| it.reason.contains("send them to /v1/")), "{rejected:?}");
        assert_eq!(leaving(received.reading), [(Signal::Logs, 1, record.clone())]);
    }
}

#[test]
fn a_request_without_content_for_its_signal_gets_a_warning_and_is_kept() {
    let record = logs("{}");
    for body in [&record, r#"{"someday":[1]}"#, r#"{"message":"hello"}"#, r#"{"resourceMetrics":17}"#] {
        let received = receive(Signal::Traces, body);
        assert!(received.reading.is_foreign, "{body}");
        assert_eq!(only_reason(&received), "no resourceSpans in a request for traces");
        assert_eq!(received.reading.rejected[0].input, body.as_bytes());
    }
    let received = receive_protobuf(Signal::Traces, b"\x12\x00");
    assert!(received.reading.is_foreign && received.reading.rejected.len() == 1);
}

#[test]
fn foreign_content_in_an_otherwise_empty_request_gets_a_warning_and_is_kept() {
    const REASON: &str = "only content that does not belong in a request for traces";
    let additional = logs("{}").replacen('{', r#"{"resourceSpans":[{"scopeSpans":[]}],"#, 1);
    for body in [
        &logs(r#"{"body":{"stringValue":"b"}}"#).replace("resourceLogs", "resourceSpans"),
        &additional,
        r#"{"resourceSpans":[{"x":1}]}"#,
        r#"{"resourceSpans":[{"scopeSpans":[],"scopeLogs":[{"logRecords":[{"body":{}}]}]}]}"#,
        r#"{"resourceSpans":[{"scopeSpans":[{"logRecords":[{"eventName":"e"}]}]}]}"#,
        r#"{"resource_spans":[{"scopeSpans":[{"spans":[],"x":true}]}],"resourceSpans":[]}"#,
        r#"{"resourceSpans":[],"scopeSpans":[{"spans":[{"name":"n"}]}]}"#,
    ] {
        let received = receive(Signal::Traces, body);
        assert!(received.reading.is_foreign, "{body}");
        assert_eq!(only_reason(&received), REASON, "{body}");
        assert_eq!(received.reading.rejected[0].scope, Scope::Unit);
        assert_eq!(received.reading.rejected[0].input, body.as_bytes());
    }
    for body in [&b"\x0a\x00\x12\x01x"[..], b"\x0a\x03\x7a\x01x"] {
        let received = receive_protobuf(Signal::Traces, body);
        assert!(received.reading.is_foreign, "{body:?}");
        assert_eq!(only_reason(&received), REASON, "{body:?}");
    }
    let point =
        r#"{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"someday":{"dataPoints":[{"x":1}]}}]}]}]}"#;
    assert!(receive(Signal::Metrics, point).reading.is_foreign);
    // Field 13 of a metric.
    let point = b"\x0a\x07\x12\x05\x12\x03\x6a\x01x";
    let received = receive_protobuf(Signal::Metrics, point);
    assert!(received.reading.is_foreign && received.reading.items.is_empty(), "{received:?}");
}

#[test]
fn unknown_content_with_a_span_or_in_an_empty_list_gets_no_warning() {
    let span = spans(&format!("{{{TRACE}}}")).replacen('{', r#"{"x":1,"#, 1);
    let reading = receive(Signal::Traces, &span).reading;
    assert!(reading.rejected.is_empty() && !reading.is_foreign);
    assert_eq!(leaving(reading), [(Signal::Traces, 1, span)]);
    for body in [r#"{"resourceSpans":[{"scopeLogs":[{}]}]}"#, r#"{"resourceSpans":[],"x":null}"#] {
        let reading = receive(Signal::Traces, body).reading;
        assert!(reading.items.is_empty() && reading.rejected.is_empty(), "{body}");
    }
}

#[test]
fn bad_spans_take_precedence_over_a_section_of_another_signal() {
    let section = logs("{}");
    let section = section.strip_prefix('{').unwrap().strip_suffix('}').unwrap();
    for (good, scopes) in [
        (format!(",{{{TRACE}}}"), [Scope::Item, Scope::Section]),
        (String::new(), [Scope::Unit, Scope::Section]),
    ] {
        let body = spans(&format!("{{\"traceId\":\"00\"}}{good}")).replacen('{', &format!("{{{section},"), 1);
        let reading = receive(Signal::Traces, &body).reading;
        let found: Vec<Scope> = reading.rejected.iter().map(|part| part.scope).collect();
        assert_eq!(found, scopes, "{body}");
        assert!(!reading.is_foreign && reading.items.is_empty() == good.is_empty());
    }
}

#[test]
fn invalid_text_is_replaced_anywhere_in_either_encoding() {
    let span = |name: &[u8], key: &[u8]| {
        [
            br#"{"resourceSpans":[{"scopeSpans":[{"spans":[{"#,
            TRACE.as_bytes(),
            br#","name":""#,
            name,
            br#"","x"#,
            key,
            br#"":{"y":""#,
            key,
            br#""}}]}]}]}"#,
        ]
        .concat()
    };
    let meant = |name: &str, key: &str| String::from_utf8(span(name.as_bytes(), key.as_bytes())).unwrap();
    for (name, key, name_meant, key_meant, repair) in [
        (&b"a\\ud83d"[..], &b""[..], "a\\ufffd", "", Repair::LoneSurrogate),
        (b"\\ude00 \\ud83d\\ude00", b"\\uD83D", "\\ufffd \\ud83d\\ude00", "\\ufffd", Repair::LoneSurrogate),
        (b"\\ud83d\\ud83d\\ude00", b"", "\\ufffd\\ud83d\\ude00", "", Repair::LoneSurrogate),
        (b"\\\\ud83d\xff", b"\xe2\x82", "\\\\ud83d\u{fffd}", "\u{fffd}", Repair::InvalidUtf8),
    ] {
        let reading = otlp(Signal::Traces)
            .receive(&span(name, key).into(), Encoding::Json, &KeptHeaders::default())
            .reading;
        assert_eq!(reading.rejected, []);
        assert_eq!(reading.items[0].repairs, [repair]);
        assert_eq!(leaving(reading), [(Signal::Traces, 1, meant(name_meant, key_meant))]);
    }
    let mut request = two_spans().encode_to_vec();
    let name = request.windows(2).position(|it| it == "é".as_bytes()).unwrap();
    request[name] = 0xff;
    let reading = receive_protobuf(Signal::Traces, &request).reading;
    assert_eq!((reading.rejected.len(), &reading.items[0].repairs[..]), (0, &[Repair::InvalidUtf8][..]));
    assert!(leaving(reading)[0].2.contains("\u{fffd}\u{fffd}"));
}

#[test]
fn positions_are_those_of_the_received_body() {
    let bad = r#"{"traceId":"00"}"#;
    let body = [
        b"\n{\"\xff\":\"\xe2\x82\xff\",\"resourceLogs\":[7],\"resourceSpans\":[{\"scopeSpans\":[{\"spans\":["
            .as_slice(),
        bad.as_bytes(),
        b"]}]}]}",
    ]
    .concat();
    let reading = otlp(Signal::Traces)
        .receive(&Bytes::from(body.clone()), Encoding::Json, &KeptHeaders::default())
        .reading;
    let place = body.windows(bad.len()).position(|it| it == bad.as_bytes()).unwrap();
    let span = reading.rejected.iter().find(|it| it.input == bad).expect("the span is rejected");
    assert_eq!(span.column as usize, place + 1 + r#"{"traceId":"#.len());
}

#[test]
fn a_kept_request_is_read_equally_by_the_receiver_of_any_path() {
    let span = format!("{{{TRACE}}}");
    for (signal, encoding, body) in [
        (Signal::Traces, Encoding::Json, Bytes::from(spans(&span))),
        (Signal::Logs, Encoding::Json, Bytes::from(format!("\n{}", logs("{},{}")))),
        (
            Signal::Logs,
            Encoding::Json,
            r#"{"resourceSpans":1,"resource_logs":[{"scope_logs":[{"logRecords":[{}]}]}]}"#.into(),
        ),
        (Signal::Traces, Encoding::Protobuf, two_spans().encode_to_vec().into()),
        // A protobuf request that a JSON reader would not reject at its start.
        (Signal::Logs, Encoding::Protobuf, encode(Signal::Logs, logs("{}").as_bytes()).unwrap().into()),
    ] {
        let received = otlp(signal).receive(&body, encoding, &KeptHeaders::default());
        let first = leaving(received.reading);
        assert_eq!(first.len(), 1, "{body:?}");
        for other in Signal::ALL {
            assert_eq!(leaving(otlp(other).read(&received.kept)), first, "{body:?}");
        }
    }
}

#[test]
fn protobuf_is_exported_as_the_json_of_the_same_request() {
    let request = two_spans();
    let [(signal, count, json)] =
        &leaving(receive_protobuf(Signal::Traces, &request.encode_to_vec()).reading)[..]
    else {
        panic!()
    };
    assert_eq!((*signal, *count), (Signal::Traces, 2));
    let back = encode(Signal::Traces, json.as_bytes()).unwrap();
    assert_eq!(ExportTraceServiceRequest::decode(&back[..]).unwrap(), request);
}

#[test]
fn spans_without_valid_ids_are_rejected_and_their_neighbours_are_not() {
    let body = spans(&format!("{{{TRACE}}},\n{{\"traceId\":\"00\"}}"));
    let reading = receive(Signal::Traces, &body).reading;
    let [rejected] = &reading.rejected[..] else { panic!() };
    let at = rejected.column as usize - 1;
    assert_eq!((rejected.line, &body.as_bytes()[at..at + 4]), (1, &b"\"00\""[..]));
    assert_eq!(rejected.reason, "traceId is not 32 hexadecimal digits, or all zero");
    assert_eq!(leaving(reading), [(Signal::Traces, 1, spans(&format!("{{{TRACE}}}")))]);

    let mut request = two_spans();
    request.resource_spans[0].scope_spans[0].spans[1].span_id = vec![1; 5];
    let reading = receive_protobuf(Signal::Traces, &request.encode_to_vec()).reading;
    assert_eq!(reading.rejected.len(), 1);
    assert_eq!(leaving(reading)[0].1, 1);
}

#[test]
fn a_log_record_with_invalid_ids_loses_them_and_is_kept() {
    let record = LogRecord { trace_id: vec![1; 3], event_name: "e".to_owned(), ..LogRecord::default() };
    let scope_logs = vec![ScopeLogs { log_records: vec![record], ..ScopeLogs::default() }];
    let request = ExportLogsServiceRequest {
        resource_logs: vec![ResourceLogs { scope_logs, ..ResourceLogs::default() }],
    };
    let reading = receive_protobuf(Signal::Logs, &request.encode_to_vec()).reading;
    assert_eq!(leaving(reading), [(Signal::Logs, 1, logs(r#"{"eventName":"e"}"#))]);
}

#[test]
fn trailing_data_after_a_request_is_not_silently_dropped() {
    let one = spans(&format!("{{{TRACE}}}"));
    for rest in ["{}", "garbage", "]", ","] {
        let received = receive(Signal::Traces, &format!("{one}\n{rest}"));
        assert_eq!(only_reason(&received), "trailing data after the request", "{rest}");
        assert_eq!(received.reading.rejected[0].column as usize, one.len() + 2);
    }
    let twice = format!(
        r#"{},"resource_spans":[],"resourceSpans":[{{"schemaUrl":"u"}}]}}"#,
        one.strip_suffix('}').unwrap()
    );
    assert_eq!(receive(Signal::Traces, &twice).reading.items[0].traces.as_ref().unwrap().span_count(), 1);
}

#[test]
fn an_invalid_request_is_rejected_as_a_whole() {
    for body in
        ["", "[]", "null", "x", "{", r#"{"resourceSpans":{}}"#, r#"{"resourceSpans":[1]}"#, "\u{feff}{}"]
    {
        let received = receive(Signal::Traces, body);
        assert!(!only_reason(&received).is_empty(), "{body}");
        assert_eq!(received.reading.rejected[0].input, body);
    }
    assert!(only_reason(&receive_protobuf(Signal::Traces, b"{}")).starts_with("not protobuf: "));
}

#[test]
fn only_empty_records_can_be_too_many() {
    let records = |record: &str, count: usize| logs(&vec![record; count].join(","));
    let reading = receive(Signal::Logs, &records(r#"{"flags":1}"#, MAX_ITEMS + MAX_ITEMS / 2)).reading;
    assert_eq!(reading.items[0].logs.as_ref().unwrap().record_count() as usize, MAX_ITEMS + MAX_ITEMS / 2);
    let beyond = receive(Signal::Logs, &records("{}", 2 * MAX_ITEMS));
    assert!(only_reason(&beyond).ends_with("spans and log records"), "{beyond:?}");
}

#[test]
fn protobuf_that_grows_beyond_the_limit_is_rejected() {
    let narrow = Otlp::new(&OtlpConfig::default(), Signal::Traces, 10);
    let received =
        narrow.receive(&two_spans().encode_to_vec().into(), Encoding::Protobuf, &KeptHeaders::default());
    assert!(
        only_reason(&received).starts_with("too large: more than 80 bytes as JSON, in resourceSpans[0].")
    );
}

#[test]
fn a_client_needs_one_of_the_configured_tokens_if_there_are_any() {
    let auth = AuthConfig { header: AUTHORIZATION, values: vec![Secret::new("one"), Secret::new("two")] };
    let guarded =
        Otlp::new(&OtlpConfig { auth: Some(auth), ..OtlpConfig::default() }, Signal::Logs, MAX_BODY_BYTES);
    let with = |value: &'static str| HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_static(value))]);
    assert_eq!((guarded.path(), guarded.id()), ("/v1/logs", "otlp"));
    assert!(guarded.admit(&with("two")).is_ok());
    assert!(guarded.admit(&with("three")).is_err());
    assert!(guarded.admit(&HeaderMap::new()).is_err());
    assert!(otlp(Signal::Logs).admit(&HeaderMap::new()).is_ok());
}

proptest! {
    #[test]
    fn no_body_causes_a_panic_and_a_kept_body_is_read_equally(
        body in proptest::collection::vec(any::<u8>(), 0..64),
        text in r#"[ \n]?\{("resource(Spans|Logs)":(\[(\{\}|1)?\]|\{|1),?|"x":1,?){0,3}\}?[ x]?"#,
    ) {
        for signal in Signal::ALL {
            for (body, encoding) in [(&body[..], Encoding::Json), (&body, Encoding::Protobuf), (text.as_bytes(), Encoding::Json)] {
                let received = otlp(signal).receive(&Bytes::copy_from_slice(body), encoding, &KeptHeaders::default());
                if !received.reading.items.is_empty() {
                    let again = leaving(otlp(signal).read(&received.kept));
                    prop_assert_eq!(again, leaving(received.reading));
                }
            }
        }
    }
}

#[test]
fn a_list_may_have_any_number_of_attributes_in_either_encoding() {
    const COUNT: usize = 20_000;
    let attribute = |n: usize| format!(r#"{{"key":"{n}","value":{{"intValue":"1"}}}}"#);
    let attributes = (0..COUNT).map(attribute).collect::<Vec<_>>().join(",");
    let json = spans(&format!(r#"{{{TRACE},"name":"a","attributes":[{attributes}]}}"#));
    let mut request = two_spans();
    request.resource_spans[0].scope_spans[0].spans[0].attributes =
        (0..COUNT).map(|n| KeyValue { key: n.to_string(), ..KeyValue::default() }).collect();
    let [(_, _, left)] = &leaving(receive(Signal::Traces, &json).reading)[..] else { panic!() };
    assert_eq!(*left, json);
    let [(_, _, left)] = &leaving(receive_protobuf(Signal::Traces, &request.encode_to_vec()).reading)[..]
    else {
        panic!()
    };
    let back = encode(Signal::Traces, left.as_bytes()).unwrap();
    assert_eq!(ExportTraceServiceRequest::decode(&back[..]).unwrap(), request);
}

/// Returns the exported requests, each with its signal and the number of its items, as the JSON that they are after a
/// conversion to protobuf: without empty lists.
fn meaning(reading: Reading) -> Vec<(Signal, u32, String)> {
    let text = |json: Vec<u8>| String::from_utf8(json).unwrap();
    let protobuf = reading.items.iter().filter_map(|item| item.protobuf.as_ref());
    let mut all: Vec<_> = protobuf.map(|it| (it.signal(), it.item_count(), text(it.to_json()))).collect();
    all.extend(leaving(reading).into_iter().map(|(signal, items, json)| {
        let protobuf = encode(signal, json.as_bytes()).unwrap();
        (signal, items, text(decode(signal, &protobuf, usize::MAX).unwrap().json))
    }));
    all
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn protobuf_that_stays_protobuf_says_the_same_as_by_way_of_json(
        seed: u64, signal in proptest::sample::select(&Signal::ALL[..]), change in 0..8_u8, place: usize,
    ) {
        let mut random = Random(seed);
        let mut body = match change {
            0 => random.request(signal),
            1..=4 => random.request_with_defects(signal),
            _ => random.proper_request(signal),
        };
        if change > 5 {
            // Invalid text, an invalid id, or an invalid length.
            let place = place % body.len();
            body[place] = if change == 6 { 0xff } else { 0 };
        }
        let body = Bytes::from(body);
        let headers = KeptHeaders::default();
        let [decoded, kept] = [otlp(signal), keeping(signal)]
            .map(|receiver| receiver.receive(&body, Encoding::Protobuf, &headers));
        let is_kept = kept.reading.items.iter().any(|item| item.protobuf.is_some());
        if is_kept {
            prop_assert_eq!(&kept.kept, &body);
        }
        // The column is that of the request in the form in which it is kept.
        let of_rejected = |it: &Rejected| (it.scope, it.line, it.code, it.reason.clone(), it.input.clone());
        let notes = |reading: &Reading| {
            let items: Vec<_> = reading.items.iter().map(|it| (it.line, it.counts())).collect();
            (items, reading.rejected.iter().map(of_rejected).collect::<Vec<_>>(), reading.is_foreign)
        };
        let repairs = |reading: &Reading| reading.items.first().map(|item| item.repairs.clone());
        prop_assert_eq!(notes(&decoded.reading), notes(&kept.reading));
        prop_assert_eq!(repairs(&decoded.reading), repairs(&kept.reading));
        let (items, rejected) = (notes(&kept.reading).0, kept.reading.rejected.clone());
        let repairs_before = repairs(&kept.reading);
        let expected = meaning(decoded.reading);
        prop_assert_eq!(&meaning(kept.reading), &expected);
        if !items.is_empty() {
            // After a restart, of any path and for any downstream.
            for again in Signal::ALL.into_iter().flat_map(|signal| [otlp(signal), keeping(signal)]) {
                let reading = again.read_as(&kept.kept, &kept.parameters, &headers);
                prop_assert_eq!(&notes(&reading).0, &items);
                prop_assert_eq!(&reading.rejected, &rejected);
                // Text that is kept as JSON was repaired before.
                if is_kept {
                    prop_assert_eq!(repairs(&reading), repairs_before.clone());
                }
                prop_assert_eq!(&meaning(reading), &expected);
            }
        }
    }
}

#[test]
fn protobuf_stays_protobuf_unless_it_needs_a_change() {
    let request = two_spans();
    let body = Bytes::from(request.encode_to_vec());
    let received = keeping(Signal::Traces).receive(&body, Encoding::Protobuf, &KeptHeaders::default());
    assert_eq!((&received.kept, received.reading.items[0].counts()), (&body, [2, 0, 0]));
    let kept = received.reading.items[0].protobuf.as_ref().unwrap();
    assert_eq!((kept.bytes(), kept.bytes().as_ptr()), (&body, body.as_ptr()));

    let mut bad = request;
    bad.resource_spans[0].scope_spans[0].spans[1].span_id = vec![1; 5];
    let name = bad.resource_spans[0].scope_spans[0].spans[1].name.clone();
    // With an unknown field.
    let body = Bytes::from([&bad.encode_to_vec()[..], b"\xfa\x06\x01x"].concat());
    let received = keeping(Signal::Traces).receive(&body, Encoding::Protobuf, &KeptHeaders::default());
    assert_eq!((&received.kept, received.reading.items[0].counts()), (&body, [1, 0, 0]));
    let [rejected] = &received.reading.rejected[..] else { panic!() };
    assert!(std::str::from_utf8(&rejected.input).unwrap().contains(&name));
    bad.resource_spans[0].scope_spans[0].spans.pop();
    let expected = [&bad.encode_to_vec()[..], b"\xfa\x06\x01x"].concat();
    assert_eq!(received.reading.items[0].protobuf.as_ref().unwrap().bytes()[..], expected);
}

#[test]
fn protobuf_that_no_encoder_writes_is_decoded() {
    // The name twice.
    let span = [two_spans().resource_spans[0].scope_spans[0].spans[0].encode_to_vec(), b"\x2a\x01n".to_vec()];
    let wrapped = |inner: &[u8], number: u8| [&[number << 3 | 2, inner.len() as u8][..], inner].concat();
    let body = Bytes::from(wrapped(&wrapped(&wrapped(&span.concat(), 2), 2), 1));
    let received = keeping(Signal::Traces).receive(&body, Encoding::Protobuf, &KeptHeaders::default());
    assert!(received.parameters.is_empty() && received.reading.items[0].protobuf.is_none());
    assert!(leaving(received.reading)[0].2.contains(r#""name":"n""#));
}
