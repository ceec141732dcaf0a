//! OTLP/gRPC of the downstream: calls as the requests that OTLP/HTTP would be, and the responses to them.

use std::io;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use http::{Method, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as AnyValue;
use prost::Message;
use serde_json::{Value, json};

use crate::harness::Recorded;

/// Codes of a status.
const OK: u8 = 0;
pub(super) const INVALID_ARGUMENT: u8 = 3;
pub(super) const RESOURCE_EXHAUSTED: u8 = 8;
pub(super) const UNAVAILABLE: u8 = 14;

/// `google.rpc.Status` with a `RetryInfo` of one second.
const RETRY_IN_ONE_SECOND: &str = "CAgaMAoodHlwZS5nb29nbGVhcGlzLmNvbS9nb29nbGUucnBjLlJldHJ5SW5mbxIECgIIAQ==";

/// Length of the header of a message.
const PREFIX_BYTES: usize = 5;

/// Message of a response without a partial success, with its header.
pub(super) const EMPTY_RESPONSE: &[u8] = &[0; PREFIX_BYTES];

/// Path of each signal over HTTP, and its method over gRPC.
pub(super) const METHODS: [(&str, &str); 3] = [
    ("/v1/traces", "/opentelemetry.proto.collector.trace.v1.TraceService/Export"),
    ("/v1/logs", "/opentelemetry.proto.collector.logs.v1.LogsService/Export"),
    ("/v1/metrics", "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export"),
];

/// Body of a response.
type AnswerBody = UnsyncBoxBody<Bytes, io::Error>;

/// Returns whether a request is a call.
pub(super) fn is_call(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|value| value == "application/grpc")
}

/// Returns a call, or a request in protobuf, as a request of OTLP/HTTP whose JSON has the names of the items.
pub(super) fn as_request(path: &str, headers: HeaderMap, body: &Bytes) -> Recorded {
    let prefix = if is_call(&headers) { PREFIX_BYTES } else { 0 };
    let message = body.get(prefix..).unwrap_or_default();
    let path = METHODS.iter().find(|(_, method)| *method == path).map_or(path, |(path, _)| path);
    let json = match path {
        "/v1/traces" => traces(message),
        "/v1/logs" => logs(message),
        "/v1/metrics" => metrics(message),
        other => panic!("no signal goes to {other}"),
    };
    let body = json.to_string().into();
    Recorded { method: Method::POST, path: path.to_owned(), headers, body }
}

fn traces(message: &[u8]) -> Value {
    let request = ExportTraceServiceRequest::decode(message).unwrap();
    let scopes = request.resource_spans.into_iter().flat_map(|resource| resource.scope_spans);
    let spans = scopes.flat_map(|scope| scope.spans).map(|span| {
        let events: Vec<Value> = span.events.iter().map(|event| json!({ "name": event.name })).collect();
        json!({ "name": span.name, "events": events })
    });
    json!({ "resourceSpans": [{ "scopeSpans": [{ "spans": spans.collect::<Vec<_>>() }] }] })
}

fn logs(message: &[u8]) -> Value {
    let request = ExportLogsServiceRequest::decode(message).unwrap();
    let scopes = request.resource_logs.into_iter().flat_map(|resource| resource.scope_logs);
    let records = scopes.flat_map(|scope| scope.log_records).map(|record| {
        match record.body.and_then(|body| body.value) {
            _ if !record.event_name.is_empty() => json!({ "eventName": record.event_name }),
            Some(AnyValue::StringValue(text)) => json!({ "body": { "stringValue": text } }),
            _ => json!({}),
        }
    });
    json!({ "resourceLogs": [{ "scopeLogs": [{ "logRecords": records.collect::<Vec<_>>() }] }] })
}

fn metrics(message: &[u8]) -> Value {
    let request = ExportMetricsServiceRequest::decode(message).unwrap();
    let scopes = request.resource_metrics.into_iter().flat_map(|resource| resource.scope_metrics);
    let metrics = scopes.flat_map(|scope| scope.metrics).map(|metric| json!({ "name": metric.name }));
    json!({ "resourceMetrics": [{ "scopeMetrics": [{ "metrics": metrics.collect::<Vec<_>>() }] }] })
}

/// Returns the response to a call that was accepted.
pub(super) fn accepted() -> Response<AnswerBody> {
    let trailers = HeaderMap::from_iter([("grpc-status".parse().unwrap(), HeaderValue::from(u16::from(OK)))]);
    let frames = [Frame::data(Bytes::from_static(EMPTY_RESPONSE)), Frame::trailers(trailers)].map(Ok);
    with_body(StreamBody::new(futures_util::stream::iter(frames)).boxed_unsync())
}

/// Returns the response to a call that failed, which has no message.
pub(super) fn failed(code: u8) -> Response<AnswerBody> {
    let mut response = with_body(Full::default().map_err(|never| match never {}).boxed_unsync());
    response.headers_mut().insert("grpc-status", u16::from(code).into());
    response
}

/// Returns the response to a call that is to be repeated in a second.
pub(super) fn throttled() -> Response<AnswerBody> {
    let mut response = failed(RESOURCE_EXHAUSTED);
    response.headers_mut().insert("grpc-status-details-bin", HeaderValue::from_static(RETRY_IN_ONE_SECOND));
    response
}

/// Returns a response with this body.
pub(super) fn with_body(body: AnswerBody) -> Response<AnswerBody> {
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}
