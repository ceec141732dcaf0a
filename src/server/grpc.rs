//! OTLP/gRPC on the public port: calls of `Export` as the requests of OTLP/HTTP, and their responses as gRPC's.
//!
//! In: requests with the content type of gRPC to one of the three methods. Out: the request that OTLP/HTTP would send, so that
//! authentication, limits, the queue and the metrics are the same; and the response with its gRPC status.

use std::convert::Infallible;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use http::uri::PathAndQuery;
use http::{Request, Response, Uri};
use http_body::Body;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Either, Full};
use prost::Message as _;
use serde::Deserialize;

use super::body::ReadError;
use crate::event::Signal;
use crate::grpc::{self, Status};

/// Mark of a request that is a call, and of its response.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call;

/// Body of the relay's own errors.
#[derive(Deserialize)]
struct RefusalBody {
    reason: String,
}

/// Returns whether a client sends a request as a call, of whatever method.
pub(super) fn is_call(headers: &HeaderMap) -> bool {
    format(headers).is_some()
}

/// Returns what follows the name of gRPC in the content type of a call.
fn format(headers: &HeaderMap) -> Option<&[u8]> {
    headers.get(CONTENT_TYPE)?.as_bytes().strip_prefix(grpc::CONTENT_TYPE.as_bytes())
}

/// Turns a call of `Export` into the request that OTLP/HTTP would send; leaves other requests alone.
pub(super) fn as_http<B>(mut request: Request<B>) -> Request<B> {
    let Some(format) = format(request.headers()) else { return request };
    let Some(signal) = Signal::ALL.into_iter().find(|signal| grpc::method(*signal) == request.uri().path())
    else {
        return request;
    };
    // `application/grpc`, with or without its format. Another format is not accepted by OTLP/HTTP either.
    if matches!(format, b"" | b"+proto") || format.starts_with(b";") {
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
    }
    if let Some(encoding) = request.headers_mut().remove(grpc::ENCODING) {
        request.headers_mut().insert(CONTENT_ENCODING, encoding);
    }
    let mut parts = request.uri().clone().into_parts();
    parts.path_and_query = PathAndQuery::try_from(format!("/v1/{signal}")).ok();
    if let Ok(uri) = Uri::from_parts(parts) {
        *request.uri_mut() = uri;
    }
    request.extensions_mut().insert(Call);
    request
}

/// Returns the message of a call, and whether it is compressed.
pub(super) fn message(mut body: Bytes) -> Result<(Bytes, bool), ReadError> {
    let (Ok(is_compressed), Ok(length)) = (body.try_get_u8(), body.try_get_u32()) else {
        return Err(ReadError::CutShort);
    };
    if usize::try_from(length) != Ok(body.len()) {
        return Err(ReadError::CutShort);
    }
    Ok((body, is_compressed == 1))
}

/// Turns the response to a [`Call`] into one of gRPC; leaves other responses alone.
pub(super) async fn as_call<B>(
    response: Response<B>,
) -> Result<Response<Either<B, UnsyncBoxBody<Bytes, Infallible>>>, Infallible>
where
    B: Body<Data = Bytes> + Send,
{
    let is_call = response.extensions().get::<Call>().is_some();
    Ok(if is_call { respond(response).await.map(Either::Right) } else { response.map(Either::Left) })
}

/// Returns the response of gRPC that says the same.
async fn respond<B>(response: Response<B>) -> Response<UnsyncBoxBody<Bytes, Infallible>>
where
    B: Body<Data = Bytes> + Send,
{
    let (parts, body) = response.into_parts();
    let body = whole(body).await;
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(grpc::CONTENT_TYPE));
    if parts.status.is_success() {
        let framed = [&grpc::prefix(body.len(), false)[..], &body].concat();
        let trailers = HeaderMap::from_iter([(grpc::STATUS, HeaderValue::from(0))]);
        let body = Full::new(Bytes::from(framed)).with_trailers(std::future::ready(Some(Ok(trailers))));
        return with_headers(headers, body.boxed_unsync());
    }
    let retry_after = parts.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    let code = code_of(parts.status.as_u16(), retry_after.is_some());
    let text = match serde_json::from_slice::<RefusalBody>(&body) {
        Ok(refusal) => refusal.reason,
        Err(_) => Status::decode(body).map(|status| status.message).unwrap_or_default(),
    };
    headers.insert(grpc::STATUS, HeaderValue::from(u16::from(code)));
    if let Ok(text) = HeaderValue::try_from(grpc::percent_encoded(&text)) {
        headers.insert(grpc::MESSAGE, text);
    }
    let status = Status::new(i32::from(code), text);
    let details =
        retry_after.and_then(|seconds| status.with_retry_delay(Duration::from_secs(seconds)).to_header());
    if let Some(details) = details {
        headers.insert(grpc::DETAILS, details);
    }
    // Without a message the status is in the headers.
    with_headers(headers, Full::default().boxed_unsync())
}

fn with_headers(
    headers: HeaderMap,
    body: UnsyncBoxBody<Bytes, Infallible>,
) -> Response<UnsyncBoxBody<Bytes, Infallible>> {
    let mut response = Response::new(body);
    *response.headers_mut() = headers;
    response
}

/// Reads the body of one of the relay's own responses.
async fn whole<B: Body<Data = Bytes>>(body: B) -> Bytes {
    let mut body = std::pin::pin!(body);
    let mut whole = BytesMut::new();
    while let Some(Ok(frame)) = body.frame().await {
        whole.extend_from_slice(frame.data_ref().map_or(&[], |data| data));
    }
    whole.freeze()
}

/// Returns the code of gRPC that means what the status does.
fn code_of(status: u16, is_temporary: bool) -> u8 {
    const INVALID_ARGUMENT: u8 = 3;
    const DEADLINE_EXCEEDED: u8 = 4;
    const PERMISSION_DENIED: u8 = 7;
    const RESOURCE_EXHAUSTED: u8 = 8;
    const UNIMPLEMENTED: u8 = 12;
    const INTERNAL: u8 = 13;
    const UNAVAILABLE: u8 = 14;
    const UNAUTHENTICATED: u8 = 16;
    match status {
        401 => UNAUTHENTICATED,
        403 => PERMISSION_DENIED,
        404 | 405 | 415 => UNIMPLEMENTED,
        408 => DEADLINE_EXCEEDED,
        413 | 429 => RESOURCE_EXHAUSTED,
        503 if is_temporary => RESOURCE_EXHAUSTED,
        503 => UNAVAILABLE,
        500..=599 => INTERNAL,
        _ => INVALID_ARGUMENT,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::StatusCode;

    fn call(content_type: &str, path: &str) -> Request<()> {
        Request::post(path)
            .header("content-type", content_type)
            .header("grpc-encoding", "gzip")
            .body(())
            .unwrap()
    }

    #[test]
    fn a_call_becomes_the_request_of_otlp_http() {
        for content_type in ["application/grpc", "application/grpc+proto", "application/grpc;charset=utf-8"] {
            for signal in Signal::ALL {
                let method = grpc::method(signal);
                let request = as_http(call(content_type, &format!("http://relay:3000{method}")));
                assert_eq!(request.uri().path(), format!("/v1/{signal}"));
                assert_eq!(request.headers()["content-type"], "application/x-protobuf");
                assert_eq!(request.headers()["content-encoding"], "gzip");
                assert!(request.extensions().get::<Call>().is_some());
            }
        }
    }

    #[test]
    fn other_requests_are_left_alone() {
        for (content_type, path) in [
            ("application/json", grpc::method(Signal::Traces)),
            ("application/grpc", "/fastly"),
            ("application/grpc", "/a.B/C"),
        ] {
            let request = as_http(call(content_type, path));
            assert_eq!(request.uri().path(), path);
            assert_eq!(request.headers()["content-type"], content_type);
            assert!(request.extensions().get::<Call>().is_none());
        }
    }

    #[test]
    fn a_body_is_one_message_with_its_length() {
        assert_eq!(message(Bytes::from_static(b"\x00\0\0\0\x02ab")), Ok((Bytes::from_static(b"ab"), false)));
        assert_eq!(message(Bytes::from_static(b"\x01\0\0\0\0")), Ok((Bytes::new(), true)));
        for body in [&b""[..], b"\0\0\0\0", b"\0\0\0\0\x02a", b"\0\0\0\0\x01ab"] {
            assert_eq!(message(Bytes::copy_from_slice(body)), Err(ReadError::CutShort), "{body:?}");
        }
    }

    #[tokio::test]
    async fn a_success_is_a_message_with_its_status_behind_it() {
        let response = respond(Response::new(Full::new(Bytes::from_static(b"ab")))).await;
        assert_eq!(
            (response.status(), &response.headers()["content-type"]),
            (StatusCode::OK, &HeaderValue::from_static(grpc::CONTENT_TYPE))
        );
        let mut body = response.into_body();
        let data = body.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(data, &b"\0\0\0\0\x02ab"[..]);
        let trailers = body.frame().await.unwrap().unwrap().into_trailers().unwrap();
        assert_eq!(trailers["grpc-status"], "0");
    }

    #[tokio::test]
    async fn a_failure_has_its_code_its_reason_and_its_delay_in_the_headers() {
        let status = Status::new(8, "the queue is full: é".to_owned());
        let refused = Response::builder()
            .status(503)
            .header("retry-after", "7")
            .body(Full::new(Bytes::from(status.encode_to_vec())))
            .unwrap();
        let response = respond(refused).await;
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["grpc-status"], "8");
        assert_eq!(response.headers()["grpc-message"], "the queue is full: %C3%A9");
        let details = Status::of_header(&response.headers()["grpc-status-details-bin"]).unwrap();
        assert_eq!(details.retry_delay(), Some(Duration::from_secs(7)));
        assert!(response.into_body().is_end_stream());
    }

    #[test]
    fn every_status_has_its_code() {
        for (status, code) in [
            (400, 3),
            (401, 16),
            (404, 12),
            (405, 12),
            (408, 4),
            (413, 8),
            (415, 12),
            (429, 8),
            (500, 13),
            (503, 14),
        ] {
            assert_eq!(code_of(status, false), code, "{status}");
        }
        assert_eq!(code_of(503, true), 8);
    }
}
