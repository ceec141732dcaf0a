//! Reads the bodies of the downstream's responses: partial successes and error messages.
//!
//! In: any response body. Out: the partial success or message in it, if any. Promises: reads at most [`MAX_RESPONSE_BYTES`],
//! never fails on an unknown body, and uses the content type of the response, because backends respond to JSON with protobuf
//! and report errors as plain text.

use std::fmt::Write;

use bytes::Bytes;
use http::response::Parts;
use http::{HeaderMap, header};
use http_body::Body;
use http_body_util::BodyExt;
use prost::Message;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::grpc;

/// Maximum response size that OTLP/HTTP recommends to clients.
pub(super) const MAX_RESPONSE_BYTES: usize = 4 * 1024 * 1024;
/// Maximum length of a downstream's message in a log line or a reason.
const MAX_MESSAGE_CHARS: usize = 256;

/// A partial success, or a success with a warning if the count is zero.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PartialSuccess {
    pub(super) rejected_items: u64,
    /// Safe to log.
    pub(super) message: String,
}

/// Format of a body.
enum BodyFormat {
    Json,
    Protobuf,
    Text,
    /// No content type: JSON if it parses as such.
    Unspecified,
}

/// `Export{Trace,Logs,Metrics}ServiceResponse` in JSON. Values stay raw, so that an invalid one does not affect the others.
#[derive(Deserialize)]
struct JsonResponse<'a> {
    #[serde(borrow, rename = "partialSuccess", alias = "partial_success")]
    partial_success: Option<JsonPartialSuccess<'a>>,
}

#[derive(Deserialize)]
struct JsonPartialSuccess<'a> {
    #[serde(
        borrow,
        rename = "rejectedSpans",
        alias = "rejectedLogRecords",
        alias = "rejectedDataPoints",
        alias = "rejected_spans",
        alias = "rejected_log_records",
        alias = "rejected_data_points"
    )]
    rejected: Option<&'a RawValue>,
    #[serde(borrow, rename = "errorMessage", alias = "error_message")]
    message: Option<&'a RawValue>,
}

/// `google.rpc.Status` in JSON.
#[derive(Deserialize)]
struct JsonStatus<'a> {
    #[serde(borrow)]
    message: Option<&'a RawValue>,
}

/// `Export{Trace,Logs,Metrics}ServiceResponse`: the three are one message on the wire
/// (opentelemetry-proto, collector/*/v1/*_service.proto).
#[derive(Clone, PartialEq, Message)]
struct ProtobufResponse {
    #[prost(message, optional, tag = "1")]
    partial_success: Option<ProtobufPartialSuccess>,
}

#[derive(Clone, PartialEq, Message)]
struct ProtobufPartialSuccess {
    #[prost(int64, tag = "1")]
    rejected: i64,
    #[prost(string, tag = "2")]
    message: String,
}

/// `google.rpc.Status`, without the code and the details, which are not used.
#[derive(Clone, PartialEq, Message)]
struct ProtobufStatus {
    #[prost(string, tag = "2")]
    message: String,
}

/// Reads the whole body. Returns `None` if it breaks off or is too large for a response to an export.
pub(super) async fn read_body<B>(body: B) -> Option<Vec<u8>>
where
    B: Body<Data = Bytes> + Unpin,
{
    read_within(body, MAX_RESPONSE_BYTES).await
}

/// Reads the whole body. Returns `None` if it breaks off or has more than `max_bytes`.
pub(super) async fn read_within<B>(mut body: B, max_bytes: usize) -> Option<Vec<u8>>
where
    B: Body<Data = Bytes> + Unpin,
{
    let mut whole = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.ok()?.into_data() else { continue };
        if whole.len() + data.len() > max_bytes {
            return None;
        }
        whole.extend_from_slice(&data);
    }
    Some(whole)
}

/// Returns the partial success in the body of a 2xx.
pub(super) fn partial_success(headers: &HeaderMap, body: &[u8]) -> Option<PartialSuccess> {
    // The most frequent bodies of every format; in other formats they mean nothing.
    if matches!(body, b"" | b"{}" | br#"{"partialSuccess":{}}"#) {
        return None;
    }
    let (rejected_items, message) = match format_of(headers) {
        BodyFormat::Json | BodyFormat::Unspecified => {
            let partial = serde_json::from_slice::<JsonResponse<'_>>(body).ok()?.partial_success?;
            (partial.rejected.and_then(count_of).unwrap_or(0), partial.message.and_then(string_of))
        }
        BodyFormat::Protobuf => {
            let partial = ProtobufResponse::decode(body).ok()?.partial_success?;
            (u64::try_from(partial.rejected).unwrap_or(0), Some(partial.message))
        }
        BodyFormat::Text => return None,
    };
    let message = message.unwrap_or_default();
    // An empty partial success is a full success.
    (rejected_items > 0 || !message.is_empty())
        .then(|| PartialSuccess { rejected_items, message: printable(&message) })
}

/// Describes an unsuccessful response as `<who> returned 400: <its message>`, safe to log.
pub(super) fn failure_reason(who: &str, parts: &Parts, body: &[u8]) -> String {
    let (code, headers) = (grpc::Code::said(parts), &parts.headers);
    match error_message(headers, body) {
        Some(message) => format!("{who} returned {code}: {message}"),
        None => format!("{who} returned {code}"),
    }
}

/// Returns the message in the body of an error, safe to log.
fn error_message(headers: &HeaderMap, body: &[u8]) -> Option<String> {
    let message = match format_of(headers) {
        BodyFormat::Json => json_message(body)?,
        // TLS ports respond so to plain HTTP.
        BodyFormat::Unspecified => {
            json_message(body).unwrap_or_else(|| String::from_utf8_lossy(body).into_owned())
        }
        BodyFormat::Protobuf => ProtobufStatus::decode(body).ok()?.message,
        BodyFormat::Text => String::from_utf8_lossy(body).into_owned(),
    };
    let message = message.trim();
    (!message.is_empty()).then(|| printable(message))
}

fn json_message(body: &[u8]) -> Option<String> {
    string_of(serde_json::from_slice::<JsonStatus<'_>>(body).ok()?.message?)
}

/// Returns one line of at most [`MAX_MESSAGE_CHARS`] characters, escaped so that it cannot control a terminal or forge a log
/// line.
pub(super) fn printable(text: &str) -> String {
    let mut line = String::with_capacity(text.len().min(2 * MAX_MESSAGE_CHARS));
    let mut characters = text.chars();
    for character in characters.by_ref().take(MAX_MESSAGE_CHARS) {
        match character {
            '"' | '\'' => line.push(character),
            _ => write!(line, "{}", character.escape_debug()).expect("writing to memory cannot fail"),
        }
    }
    if characters.next().is_some() {
        line.push('…');
    }
    line
}

fn format_of(headers: &HeaderMap) -> BodyFormat {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    let media_type = content_type.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
    match media_type.as_str() {
        "application/x-protobuf" | "application/protobuf" => BodyFormat::Protobuf,
        "text/plain" | "text/html" => BodyFormat::Text,
        "" => BodyFormat::Unspecified,
        _ => BodyFormat::Json,
    }
}

/// Parses an int64 in JSON: a string, or a number.
fn count_of(value: &RawValue) -> Option<u64> {
    value.get().trim_matches('"').parse().ok()
}

fn string_of(value: &RawValue) -> Option<String> {
    serde_json::from_str(value.get()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(content_type: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, content_type.parse().unwrap());
        headers
    }

    fn partial(rejected_items: u64, message: &str) -> Option<PartialSuccess> {
        Some(PartialSuccess { rejected_items, message: message.to_owned() })
    }

    #[test]
    fn reads_rejected_counts_as_strings_and_as_numbers_of_every_signal() {
        let json = headers("application/json; charset=utf-8");
        for (body, expected) in [
            (r#"{"partialSuccess":{"rejectedSpans":"3","errorMessage":"too old"}}"#, partial(3, "too old")),
            (r#"{"partialSuccess":{"rejectedLogRecords":2}}"#, partial(2, "")),
            (r#"{"partial_success":{"rejected_data_points":"1","error_message":"x"}}"#, partial(1, "x")),
            (
                r#"{"partialSuccess":{"rejectedSpans":0,"errorMessage":"deprecated"}}"#,
                partial(0, "deprecated"),
            ),
            (r#"{"partialSuccess":{"rejectedSpans":-4,"errorMessage":7}}"#, None),
            (
                r#"{"partialSuccess":{"rejectedSpans":[],"errorMessage":"odd count"}}"#,
                partial(0, "odd count"),
            ),
            (r#"{"partialSuccess":{}}"#, None),
            (r#"{"partialSuccess":null}"#, None),
            ("{}", None),
            ("", None),
            ("<html>", None),
        ] {
            assert_eq!(partial_success(&json, body.as_bytes()), expected, "{body}");
        }
    }

    #[test]
    fn reads_protobuf_by_the_content_type_of_the_response() {
        let wanted = ProtobufPartialSuccess { rejected: 5, message: "full".to_owned() };
        let body = ProtobufResponse { partial_success: Some(wanted) }.encode_to_vec();
        assert_eq!(partial_success(&headers("application/x-protobuf"), &body), partial(5, "full"));
        assert_eq!(partial_success(&headers("application/json"), &body), None);
        assert_eq!(partial_success(&headers("application/x-protobuf"), b"{}"), None);
    }

    #[test]
    fn the_wire_format_is_that_of_opentelemetry() {
        use opentelemetry_proto::tonic::collector::logs::v1::{
            ExportLogsPartialSuccess, ExportLogsServiceResponse,
        };
        let theirs = ExportLogsServiceResponse {
            partial_success: Some(ExportLogsPartialSuccess {
                rejected_log_records: 9,
                error_message: "no".into(),
            }),
        };
        let read = partial_success(&headers("application/x-protobuf"), &theirs.encode_to_vec());
        assert_eq!(read, partial(9, "no"));
    }

    #[test]
    fn finds_the_message_of_an_error_in_each_format() {
        let status = ProtobufStatus { message: "bad span".to_owned() }.encode_to_vec();
        let said = |content_type, body: &[u8]| error_message(&headers(content_type), body);
        assert_eq!(said("application/x-protobuf", &status).as_deref(), Some("bad span"));
        assert_eq!(said("application/json", br#"{"code":3,"message":"bad id"}"#).as_deref(), Some("bad id"));
        assert_eq!(said("text/plain", b"404 page not found\n").as_deref(), Some("404 page not found"));
        assert_eq!(said("", br#"{"message":"bad id"}"#).as_deref(), Some("bad id"));
        assert_eq!(
            said("", b"Client sent an HTTP request\n").as_deref(),
            Some("Client sent an HTTP request")
        );
        assert_eq!(said("application/json", b"garbage"), None);
        assert_eq!(said("application/x-protobuf", b"\xff\xff\xff"), None);
        assert_eq!(said("text/plain", b"  "), None);
    }

    #[test]
    fn a_message_of_the_downstream_cannot_forge_a_log_line() {
        let escaped = printable("a\r\n2026 ERROR \u{1b}[31m\u{202e}\"é\"");
        assert_eq!(escaped, "a\\r\\n2026 ERROR \\u{1b}[31m\\u{202e}\"é\"");
        let long = printable(&"é".repeat(10_000));
        assert_eq!(long.chars().count(), MAX_MESSAGE_CHARS + 1);
        assert!(long.ends_with('…'));
    }

    #[tokio::test]
    async fn ignores_a_body_that_is_too_large_for_a_response() {
        let body = |bytes: usize| http_body_util::Full::new(Bytes::from(vec![b' '; bytes]));
        assert_eq!(read_body(body(MAX_RESPONSE_BYTES)).await.map(|b| b.len()), Some(MAX_RESPONSE_BYTES));
        assert_eq!(read_body(body(MAX_RESPONSE_BYTES + 1)).await, None);
    }
}
