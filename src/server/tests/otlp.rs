//! Responses for OTLP clients.

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceResponse;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message;
use serde_json::json;

use super::*;
use crate::event::RejectCode;
use crate::receiver::{Rejected, Scope};

const JSON: &str = "content-type: application/json\r\n";
const PROTOBUF: &str = "content-type: application/x-protobuf\r\n";

/// Decoded `google.rpc.Status`.
#[derive(Clone, PartialEq, Message)]
struct Status {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
}

fn with_otlp(script: Script) -> Script {
    Script { receivers: "{otlp: {AUTH}}", ..script }
}

async fn house(reading: impl Fn() -> Reading + Send + Sync + 'static) -> House {
    House::open(with_otlp(Script::reading(reading)), config()).await
}

fn rejected(scope: Scope, reason: &str) -> Rejected {
    let (code, reason) = (RejectCode::Other, reason.to_owned());
    Rejected { scope, line: 1, column: 7, code, at: 6, reason, input: Bytes::new(), scrubbed: None }
}

fn json_of(seen: &Seen) -> Value {
    assert_eq!(seen.header("content-type"), Some("application/json"), "{seen:?}");
    serde_json::from_str(&seen.body).unwrap()
}

fn protobuf_of<M: Message + Default>(seen: &Seen) -> M {
    assert_eq!(seen.header("content-type"), Some("application/x-protobuf"), "{seen:?}");
    M::decode(seen.body.as_bytes()).unwrap()
}

#[tokio::test]
async fn a_success_is_an_empty_response_in_the_encoding_of_the_request() {
    let house = house(Reading::default).await;
    for path in ["/v1/traces", "/v1/logs", "/v1/metrics"] {
        let seen = house.ask(post_with(path, JSON, b"{}")).await;
        assert_eq!((seen.status, json_of(&seen)), (200, json!({})));
        let seen = house.ask(post_with(path, PROTOBUF, b"")).await;
        assert_eq!((seen.status, seen.header("content-length")), (200, Some("0")));
        assert_eq!(protobuf_of::<ExportTraceServiceResponse>(&seen).partial_success, None);
    }
    let taken: Vec<_> = house.taken().into_iter().map(|(path, body)| (path, body.len())).collect();
    assert_eq!(taken[..3], [("/v1/traces", 2), ("/v1/traces", 0), ("/v1/logs", 2)]);
}

#[tokio::test]
async fn a_partial_success_has_count_and_reason() {
    let bad = || vec![rejected(Scope::Item, "bad id"), rejected(Scope::Item, "other")];
    let house = house(move || Reading { rejected: bad(), ..accepted(1) }).await;
    for (path, count, message) in [
        ("/v1/traces", "rejectedSpans", "2 spans were rejected: bad id (at byte 7)"),
        ("/v1/logs", "rejectedLogRecords", "2 log records were rejected: bad id (at byte 7)"),
        ("/v1/metrics", "rejectedDataPoints", "2 data points were rejected: bad id (at byte 7)"),
    ] {
        let seen = house.ask(post_with(path, JSON, b"{}")).await;
        let expected = json!({ "partialSuccess": { count: "2", "errorMessage": message } });
        assert_eq!((seen.status, json_of(&seen)), (200, expected));
    }
    let seen = house.ask(post_with("/v1/logs", PROTOBUF, b"")).await;
    let partial = protobuf_of::<ExportLogsServiceResponse>(&seen).partial_success.unwrap();
    assert_eq!(
        (partial.rejected_log_records, partial.error_message.as_str()),
        (2, "2 log records were rejected: bad id")
    );
}

#[tokio::test]
async fn a_section_of_another_signal_is_named_and_not_counted_as_a_rejected_item() {
    let section = |name: &str| rejected(Scope::Section, name);
    let item = || rejected(Scope::Item, "bad id");
    for (parts, count, json_message, protobuf_message) in [
        (vec![section("logs")], 0, "logs (at byte 7)", "logs"),
        (
            vec![section("logs"), section("metrics"), section("logs")],
            0,
            "logs (at byte 7); metrics (at byte 7)",
            "logs; metrics",
        ),
        (
            vec![item(), item(), section("logs")],
            2,
            "2 spans were rejected: bad id (at byte 7); logs (at byte 7)",
            "2 spans were rejected: bad id; logs",
        ),
    ] {
        let house = house(move || Reading { rejected: parts.clone(), ..accepted(1) }).await;
        let seen = house.ask(post_with("/v1/traces", JSON, b"{}")).await;
        let partial = json!({ "rejectedSpans": count.to_string(), "errorMessage": json_message });
        assert_eq!((seen.status, json_of(&seen)), (200, json!({ "partialSuccess": partial })));
        let seen = house.ask(post_with("/v1/traces", PROTOBUF, b"")).await;
        let partial = protobuf_of::<ExportTraceServiceResponse>(&seen).partial_success.unwrap();
        assert_eq!((partial.rejected_spans, partial.error_message.as_str()), (count, protobuf_message));
    }
}

#[tokio::test]
async fn a_request_with_nothing_for_its_signal_gets_a_warning() {
    let nothing = || vec![rejected(Scope::Unit, "no spans")];
    let house = house(move || Reading { rejected: nothing(), is_foreign: true, ..Reading::default() }).await;
    let seen = house.ask(post_with("/v1/traces", JSON, b"{\"x\":1}")).await;
    let expected =
        json!({ "partialSuccess": { "rejectedSpans": "0", "errorMessage": "no spans (at byte 7)" } });
    assert_eq!((seen.status, json_of(&seen)), (200, expected));
    let seen = house.ask(post_with("/v1/traces", PROTOBUF, b"x")).await;
    let partial = protobuf_of::<ExportTraceServiceResponse>(&seen).partial_success.unwrap();
    assert_eq!((partial.rejected_spans, partial.error_message.as_str()), (0, "no spans"));
}

#[tokio::test]
async fn bad_data_is_a_400_with_a_status_in_the_encoding_of_the_request() {
    let bad = || vec![rejected(Scope::Unit, "not a \"request\"")];
    let house = house(move || Reading { rejected: bad(), ..Reading::default() }).await;
    let seen = house.ask(post_with("/v1/traces", JSON, b"[")).await;
    let expected = json!({ "code": 3, "message": "not a \"request\" (at byte 7)" });
    assert_eq!((seen.status, json_of(&seen)), (400, expected));
    let seen = house.ask(post_with("/v1/traces", PROTOBUF, b"[")).await;
    let expected = Status { code: 3, message: "not a \"request\"".to_owned() };
    assert_eq!((seen.status, protobuf_of::<Status>(&seen)), (400, expected));
}

#[tokio::test]
async fn a_full_queue_is_a_503_with_retry_after_and_a_status() {
    let full = Script { queue_bytes: 1, ..Script::reading(|| accepted(1)) };
    let house = House::open(with_otlp(full), config()).await;
    assert_eq!(house.ask(post_with("/v1/metrics", JSON, b"1")).await.status, 200);
    let message = "the queue is full; retry the same request later".to_owned();
    for headers in [JSON, PROTOBUF] {
        let seen = house.ask(post_with("/v1/metrics", headers, b"1")).await;
        assert_eq!((seen.status, seen.header("retry-after")), (503, Some("60")));
        match headers {
            JSON => assert_eq!(json_of(&seen), json!({ "code": 14, "message": message })),
            _ => assert_eq!(protobuf_of::<Status>(&seen), Status { code: 14, message: message.clone() }),
        }
    }
}

#[tokio::test]
async fn every_rejection_before_the_relay_is_a_status_too() {
    let limited = ServerConfig { max_request_body_size: 4, ..config() };
    let house =
        House::open(with_otlp(Script { asks_authorization: true, ..Script::default() }), limited).await;
    let allowed = format!("authorization: yes\r\n{PROTOBUF}");
    for (headers, body, status, code) in [
        (PROTOBUF.to_owned(), &b"12345"[..], 401, 16),
        (allowed.clone(), b"12345", 413, 3),
        (format!("{allowed}content-encoding: br\r\n"), b"1", 415, 3),
        (format!("{allowed}content-encoding: zstd\r\n"), b"1", 400, 3),
        (format!("{allowed}host: second\r\n"), b"1", 400, 3),
    ] {
        let seen = house.ask(post_with("/v1/traces", &headers, body)).await;
        let told: Status = protobuf_of(&seen);
        assert_eq!((seen.status, told.code), (status, code), "{headers}");
        assert!(!told.message.is_empty(), "{headers}");
    }
    assert!(house.taken().is_empty());
}

#[tokio::test]
async fn only_the_two_media_types_of_otlp_are_accepted_with_any_parameters() {
    let house = house(Reading::default).await;
    for kind in ["application/json; charset=utf-8", "Application/JSON", "application/x-protobuf;v=1"] {
        let seen = house.ask(post_with("/v1/logs", &format!("content-type: {kind}\r\n"), b"")).await;
        assert_eq!(seen.status, 200, "{kind}");
    }
    for headers in ["", "content-type: text/plain\r\n", "content-type: application/x-ndjson\r\n"] {
        let seen = house.ask(post_with("/v1/logs", headers, b"{}")).await;
        assert_eq!(seen.status, 415, "{headers}");
        assert_eq!(seen.reason(), "the content type must be application/json or application/x-protobuf");
    }
    assert_eq!(house.taken().len(), 3);
}

#[tokio::test]
async fn methods_other_than_post_are_not_allowed() {
    let house = house(Reading::default).await;
    for method in ["GET", "PUT", "DELETE"] {
        let seen = house.ask(request(method, "/v1/traces", "")).await;
        assert_eq!((seen.status, seen.header("allow")), (405, Some("post")), "{method}");
    }
}

#[tokio::test]
async fn missing_credentials_take_precedence_over_the_content_type() {
    let house =
        House::open(with_otlp(Script { asks_authorization: true, ..Script::default() }), config()).await;
    assert_eq!(house.ask(post_with("/v1/traces", "", b"{}")).await.status, 401);
}

#[tokio::test]
async fn the_root_is_never_otlp() {
    let house = house(Reading::default).await;
    assert_eq!(house.ask(post_with("/", PROTOBUF, b"")).await.status, 404);
}
