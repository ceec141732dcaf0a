//! `encoding: protobuf`: what arrives is decoded with the types of OpenTelemetry itself.

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point;
use opentelemetry_proto::tonic::metrics::v1::{
    Gauge, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message;

use super::collector::{Answer, Collector, Recorded};
use super::*;

const SPAN: &str = r#"{"resourceSpans":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"\u00e9dge"}}]},
    "scopeSpans":[{"spans":[{"traceId":"0af7651916cd43dd8448eb211c80319c","spanId":"b7ad6b7169203331","name":"GET","kind":2,
    "startTimeUnixNano":"18446744073709551615"}]}]}]}"#;
const RECORD: &str =
    r#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"timeUnixNano":1,"body":{"intValue":"-9"}}]}]}]}"#;
const POINT: &str = r#"{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"name":"m","gauge":{"dataPoints":[{"asInt":"-4"}]}}]}]}]}"#;

fn span() -> ResourceSpans {
    let name = AnyValue { value: Some(Value::StringValue("édge".to_owned())) };
    let attribute = KeyValue { key: "service.name".to_owned(), value: Some(name), ..KeyValue::default() };
    let span = Span {
        trace_id: 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c_u128.to_be_bytes().to_vec(),
        span_id: 0xb7ad_6b71_6920_3331_u64.to_be_bytes().to_vec(),
        name: "GET".to_owned(),
        kind: 2,
        start_time_unix_nano: u64::MAX,
        ..Span::default()
    };
    ResourceSpans {
        resource: Some(Resource { attributes: vec![attribute], ..Resource::default() }),
        scope_spans: vec![ScopeSpans { spans: vec![span], ..ScopeSpans::default() }],
        ..ResourceSpans::default()
    }
}

fn record() -> ResourceLogs {
    let body = Some(AnyValue { value: Some(Value::IntValue(-9)) });
    let record = LogRecord { time_unix_nano: 1, body, ..LogRecord::default() };
    let scope_logs = vec![ScopeLogs { log_records: vec![record], ..ScopeLogs::default() }];
    ResourceLogs { scope_logs, ..ResourceLogs::default() }
}

fn point() -> ResourceMetrics {
    let value = Some(number_data_point::Value::AsInt(-4));
    let data_points = vec![NumberDataPoint { value, ..NumberDataPoint::default() }];
    let data = Some(Data::Gauge(Gauge { data_points }));
    let metric = Metric { name: "m".to_owned(), data, ..Metric::default() };
    let scope_metrics = vec![ScopeMetrics { metrics: vec![metric], ..ScopeMetrics::default() }];
    ResourceMetrics { scope_metrics, ..ResourceMetrics::default() }
}

/// The one request for a path, decompressed and decoded.
fn decoded<M: Message + Default>(requests: &[Recorded], path: &str) -> M {
    let [request] = requests.iter().filter(|request| request.path == path).collect::<Vec<_>>()[..] else {
        panic!("one request for {path}: {requests:?}");
    };
    assert_eq!(request.headers["content-type"], "application/x-protobuf");
    match request.headers.get("content-encoding") {
        None => M::decode(request.body.as_ref()),
        Some(coding) => {
            assert_eq!(coding, "gzip");
            M::decode(gunzipped(&request.body).as_ref())
        }
    }
    .unwrap()
}

#[tokio::test]
async fn protobuf_carries_the_same_data_single_or_in_batches_compressed_or_not() {
    for (delivery, compression, events) in [
        (DeliveryMode::Single, Compression::None, 1),
        (DeliveryMode::Single, Compression::Gzip, 1),
        (DeliveryMode::Batch, Compression::None, 3),
        (DeliveryMode::Batch, Compression::Gzip, 3),
    ] {
        let collector = Collector::start(|_, _| Answer::ok()).await;
        let mut config = config_for(&collector.url());
        (config.encoding, config.settings.delivery, config.settings.compression) =
            (Encoding::Protobuf, delivery, compression);
        let rig = Rig::start(&config);
        for _ in 0..events {
            rig.export(Signal::Traces, SPAN, 1);
            rig.export(Signal::Logs, RECORD, 1);
            rig.export(Signal::Metrics, POINT, 1);
        }
        assert_eq!(drained(rig).await.count(Settled::Delivered), 3 * events);

        let requests = collector.requests();
        let traces: ExportTraceServiceRequest = decoded(&requests, "/v1/traces");
        let logs: ExportLogsServiceRequest = decoded(&requests, "/v1/logs");
        let metrics: ExportMetricsServiceRequest = decoded(&requests, "/v1/metrics");
        assert_eq!(traces.resource_spans, vec![span(); events]);
        assert_eq!(logs.resource_logs, vec![record(); events]);
        assert_eq!(metrics.resource_metrics, vec![point(); events]);
    }
}

#[tokio::test]
async fn only_the_event_that_has_no_protobuf_form_is_rejected_from_a_batch() {
    let collector = Collector::start(|_, _| Answer::ok()).await;
    let mut config = config_for(&collector.url());
    (config.encoding, config.settings.delivery) = (Encoding::Protobuf, DeliveryMode::Batch);
    let rig = Rig::start(&config);
    let bad = r#"{"resourceSpans":[{"scopeSpans":[{"spans":[{"kind":"?"}]}]}]}"#;
    [SPAN, bad, SPAN].iter().for_each(|json| rig.export(Signal::Traces, json, 1));
    let ended = drained(rig).await;
    assert_eq!((ended.count(Settled::Delivered), ended.count(Settled::Rejected)), (2, 1));
    let [(json, reason)] = &ended.rejects[..] else { panic!("one reject: {:?}", ended.rejects) };
    assert_eq!(json, bad);
    assert!(reason.starts_with("not encodable as protobuf: "), "{reason}");
    assert_eq!(collector.requests().len(), 2);
}

#[tokio::test]
async fn protobuf_of_a_sender_is_merged_with_json_and_sent_as_it_is() {
    for (delivery, encoding) in [
        (DeliveryMode::Single, Encoding::Protobuf),
        (DeliveryMode::Batch, Encoding::Protobuf),
        (DeliveryMode::Batch, Encoding::Json),
    ] {
        let collector = Collector::start(|_, _| Answer::ok()).await;
        let mut config = config_for(&collector.url());
        (config.encoding, config.settings.delivery) = (encoding, delivery);
        let rig = Rig::start(&config);
        // An unknown field at the end.
        let message = ExportTraceServiceRequest { resource_spans: vec![span()] }.encode_to_vec();
        let message = Bytes::from([&message[..], b"\xfa\x06\x01x"].concat());
        let read = crate::otlp::ProtobufRequest::read(Signal::Traces, &message).unwrap();
        rig.send(Signal::Traces, read.request.into(), 1);
        if delivery == DeliveryMode::Batch {
            rig.export(Signal::Traces, SPAN, 1);
        }
        let ended = drained(rig).await;
        let requests = collector.requests();
        let [sent] = &requests[..] else { panic!("one request: {requests:?}") };
        match (delivery, encoding) {
            (DeliveryMode::Single, _) => assert_eq!(sent.body[..], message),
            (DeliveryMode::Batch, Encoding::Protobuf) => {
                assert!(sent.body.starts_with(&message), "the bytes of the sender");
                let decoded: ExportTraceServiceRequest = decoded(&requests, "/v1/traces");
                assert_eq!(decoded.resource_spans, vec![span(); 2]);
                assert_eq!(ended.count(Settled::Delivered), 2);
            }
            (DeliveryMode::Batch, Encoding::Json) => {
                let json: serde_json::Value = serde_json::from_slice(&sent.body).unwrap();
                assert_eq!(json["resourceSpans"].as_array().map(Vec::len), Some(2));
                assert_eq!(json["resourceSpans"][0], json["resourceSpans"][1]);
            }
        }
    }
}
