//! OTLP/gRPC: calls of `Export` as HTTP/2 requests, and their responses as OTLP/HTTP would have sent them.
//!
//! In: encoded messages, and the responses to them. Out: messages with gRPC's prefix; responses whose HTTP status means what
//! the gRPC code means, so that everything above sees one protocol. Promises: a call without a gRPC status keeps its HTTP
//! status; one that breaks off or hangs after its message was delivered.

use bytes::{Buf, Bytes, BytesMut};
use http::header::{self, HeaderMap, HeaderValue};
use http::response::Parts;
use http::{Response, StatusCode};
use http_body::Body;
use http_body_util::{BodyExt, Full};
use tokio::time::{Instant, timeout_at};

use super::response::MAX_RESPONSE_BYTES;
use super::slices::Slices;
use crate::grpc::{CONTENT_TYPE, DETAILS, MESSAGE, STATUS, Status, percent_decoded, prefix};

/// Words of gRPC libraries in RESOURCE_EXHAUSTED about a message that is too large for them.
const TOO_LARGE: &str = "larger than max";

/// A gRPC status code, kept with the response that was made of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Code(u8);

/// Returns a message with its prefix.
pub(super) fn frame(message: &Slices, is_compressed: bool) -> Slices {
    let prefix = Bytes::copy_from_slice(&prefix(message.remaining(), is_compressed));
    std::iter::once(prefix).chain(message.iter().cloned()).collect::<Vec<_>>().into()
}

/// Reads the response to a call, and returns what OTLP/HTTP would have responded. The attempt ends at the deadline.
pub(super) async fn read<B>(response: Response<B>, deadline: Instant) -> Response<Full<Bytes>>
where
    B: Body<Data = Bytes> + Unpin,
{
    let (mut parts, mut body) = response.into_parts();
    let mut message = BytesMut::new();
    // A response without a message has its status in the headers.
    let mut trailers = parts.headers.clone();
    let mut status_due = None;
    loop {
        if status_due.is_none() && is_whole(&message) {
            // A server that responds with a message has accepted the data: the status must not be missed together with the
            // deadline, because the call would be repeated.
            let now = Instant::now();
            status_due = Some(now + deadline.saturating_duration_since(now) / 2);
        }
        let frame = match status_due {
            None => body.frame().await,
            Some(due) => timeout_at(due, body.frame()).await.ok().flatten(),
        };
        let Some(Ok(frame)) = frame else { break };
        match frame.into_data() {
            Ok(data) if message.len() + data.len() <= MAX_RESPONSE_BYTES => message.extend_from_slice(&data),
            Ok(_) => break,
            Err(frame) => trailers.extend(frame.into_trailers().unwrap_or_default()),
        }
    }
    let message = unframed(message.freeze());
    let Some(code) = Code::of(&trailers) else {
        // From a proxy, or a server without gRPC. A message with a 200 is a response to the call nevertheless.
        let is_call = parts.headers.get(header::CONTENT_TYPE).is_some_and(is_grpc);
        if parts.status.is_success() && !(is_call && message.is_some()) {
            parts.status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        }
        return Response::from_parts(parts, Full::new(message.unwrap_or_default()));
    };
    let text = trailers.get(MESSAGE).map_or_else(String::new, percent_decoded);
    let delay = trailers.get(DETAILS).and_then(Status::of_header).and_then(Status::retry_delay);
    parts.status = code.http_status(&text, delay.is_some());
    parts.extensions.insert(code);
    parts.headers = HeaderMap::new();
    if let Some(delay) = delay {
        let seconds = delay.as_secs() + u64::from(delay.subsec_nanos() > 0);
        parts.headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    let (content_type, body) = match code {
        Code(0) => ("application/x-protobuf", message.unwrap_or_default()),
        _ => ("text/plain", Bytes::from(text)),
    };
    parts.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    Response::from_parts(parts, Full::new(body))
}

fn is_grpc(content_type: &HeaderValue) -> bool {
    content_type.as_bytes().starts_with(CONTENT_TYPE.as_bytes())
}

/// Returns whether a body has a whole message.
fn is_whole(mut body: &[u8]) -> bool {
    let has_length = body.try_get_u8().is_ok_and(|flag| flag <= 1);
    has_length
        && body
            .try_get_u32()
            .is_ok_and(|length| usize::try_from(length).is_ok_and(|length| length <= body.len()))
}

/// Returns the first message of a body, if it is there whole and not compressed.
fn unframed(mut body: Bytes) -> Option<Bytes> {
    if body.try_get_u8().ok()? != 0 {
        return None;
    }
    let length = usize::try_from(body.try_get_u32().ok()?).ok()?;
    (length <= body.len()).then(|| body.split_to(length))
}

// === impl Code ===

impl Code {
    fn of(trailers: &HeaderMap) -> Option<Self> {
        let code = trailers.get(STATUS)?.to_str().ok()?.parse().ok()?;
        Some(Self(code))
    }

    /// Returns the name that gRPC gives the code.
    pub(super) fn name(self) -> &'static str {
        const NAMES: [&str; 17] = [
            "OK",
            "CANCELLED",
            "UNKNOWN",
            "INVALID_ARGUMENT",
            "DEADLINE_EXCEEDED",
            "NOT_FOUND",
            "ALREADY_EXISTS",
            "PERMISSION_DENIED",
            "RESOURCE_EXHAUSTED",
            "FAILED_PRECONDITION",
            "ABORTED",
            "OUT_OF_RANGE",
            "UNIMPLEMENTED",
            "INTERNAL",
            "UNAVAILABLE",
            "DATA_LOSS",
            "UNAUTHENTICATED",
        ];
        NAMES.get(usize::from(self.0)).copied().unwrap_or("an unknown gRPC status")
    }

    /// Returns the status of a response in the words of its protocol.
    pub(super) fn said(parts: &Parts) -> &str {
        parts.extensions.get::<Self>().map_or(parts.status.as_str(), |code| code.name())
    }

    /// Returns the status with which OTLP/HTTP says the same.
    ///
    /// The codes that the OTLP specification repeats are temporary. RESOURCE_EXHAUSTED is so only with a delay there, but without
    /// one a message may be too large, or the server overloaded; only the first is about the data.
    fn http_status(self, message: &str, has_delay: bool) -> StatusCode {
        match self.0 {
            0 => StatusCode::OK,
            3 => StatusCode::BAD_REQUEST,
            16 => StatusCode::UNAUTHORIZED,
            7 => StatusCode::FORBIDDEN,
            12 => StatusCode::NOT_FOUND,
            8 if !has_delay && message.contains(TOO_LARGE) => StatusCode::PAYLOAD_TOO_LARGE,
            8 => StatusCode::TOO_MANY_REQUESTS,
            1 | 4 | 10 | 11 | 14 | 15 => StatusCode::SERVICE_UNAVAILABLE,
            2 | 13 => StatusCode::INTERNAL_SERVER_ERROR,
            _ => StatusCode::CONFLICT,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::time::Duration;

    use futures_util::stream::{self, StreamExt};
    use http_body::Frame;
    use http_body_util::StreamBody;

    use super::super::outcome::classify_status;
    use super::super::response::read_body;
    use super::*;
    use crate::event::ExportOutcome;

    const PERMANENT: [u16; 3] = [400, 413, 422];

    fn deadline() -> Instant {
        Instant::now() + Duration::from_secs(10)
    }

    /// The response to a call whose trailers are these.
    async fn responded(message: &[u8], trailers: &[(&'static str, &str)]) -> Response<Full<Bytes>> {
        let mut map = HeaderMap::new();
        for (name, value) in trailers {
            map.insert(*name, value.parse().unwrap());
        }
        let body: Vec<u8> =
            frame(&Bytes::copy_from_slice(message).into(), false).iter().flatten().copied().collect();
        let (one, other) = body.split_at(3);
        let frames = [one, other].map(|part| Frame::data(Bytes::copy_from_slice(part))).into_iter();
        let frames = frames.chain([Frame::trailers(map)]).map(Ok::<_, Infallible>);
        read(Response::new(StreamBody::new(stream::iter(frames))), deadline()).await
    }

    async fn text(response: Response<Full<Bytes>>) -> String {
        String::from_utf8(read_body(response.into_body()).await.unwrap()).unwrap()
    }

    #[tokio::test]
    async fn a_response_with_status_ok_is_its_message() {
        let response = responded(b"message", &[("grpc-status", "0")]).await;
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["content-type"], "application/x-protobuf");
        assert_eq!(text(response).await, "message");
    }

    #[tokio::test]
    async fn every_code_means_what_the_specification_says() {
        for (codes, outcome) in [
            (&[0][..], ExportOutcome::Sent),
            (&[3], ExportOutcome::Permanent),
            (&[5, 6, 7, 9, 12, 16, 17, 99], ExportOutcome::Blocked),
            (&[8], ExportOutcome::Throttled),
            (&[1, 2, 4, 10, 11, 13, 14, 15], ExportOutcome::Retryable),
        ] {
            for code in codes {
                let response = responded(b"", &[("grpc-status", &code.to_string())]).await;
                assert_eq!(classify_status(response.status(), &PERMANENT), outcome, "{code}");
            }
        }
    }

    #[tokio::test]
    async fn a_message_that_is_too_large_is_at_fault_itself() {
        let said = "grpc: received message larger than max (5000000 vs. 4194304)";
        let response = responded(b"", &[("grpc-status", "8"), ("grpc-message", said)]).await;
        assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
        assert_eq!(text(response).await, said);
    }

    #[tokio::test]
    async fn the_text_of_an_error_is_decoded() {
        let response = responded(b"", &[("grpc-status", "16"), ("grpc-message", "a%20b%C3%A9%2")]).await;
        assert_eq!(response.extensions().get::<Code>().unwrap().name(), "UNAUTHENTICATED");
        assert_eq!(text(response).await, "a bé%2");
    }

    #[tokio::test]
    async fn a_delay_is_waited_for_in_whole_seconds() {
        let status = Status::new(8, String::new()).with_retry_delay(Duration::new(2, 1));
        for padding in ["", "="] {
            let details = status.to_header().unwrap().to_str().unwrap().to_owned() + padding;
            let response =
                responded(b"", &[("grpc-status", "8"), ("grpc-status-details-bin", &details)]).await;
            assert_eq!(response.headers()["retry-after"], "3");
            assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
        }
    }

    #[tokio::test]
    async fn a_server_that_speaks_no_grpc_is_a_destination_at_fault() {
        let page = Response::new(Full::new(Bytes::from_static(b"<html>")));
        assert_eq!(read(page, deadline()).await.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
        let mut proxy = Response::new(Full::new(Bytes::from_static(b"bad gateway")));
        *proxy.status_mut() = StatusCode::BAD_GATEWAY;
        assert_eq!(read(proxy, deadline()).await.status(), StatusCode::BAD_GATEWAY);
    }

    #[tokio::test]
    async fn a_message_whose_trailers_are_lost_was_delivered() {
        let body: Vec<u8> = frame(&Bytes::new().into(), false).iter().flatten().copied().collect();
        let mut response = Response::new(Full::new(Bytes::from(body)));
        response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc+proto"));
        assert_eq!(read(response, deadline()).await.status(), StatusCode::OK);
    }

    #[tokio::test(start_paused = true)]
    async fn a_message_whose_trailers_do_not_come_was_delivered_before_the_deadline() {
        let body: Vec<u8> = frame(&Bytes::new().into(), false).iter().flatten().copied().collect();
        for length in 0..=body.len() {
            let part = Frame::data(Bytes::copy_from_slice(&body[..length]));
            let frames = stream::iter([Ok::<_, Infallible>(part)]).chain(stream::pending());
            let mut response = Response::new(StreamBody::new(frames));
            response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
            let deadline = deadline();
            let read = tokio::time::timeout_at(deadline, read(response, deadline)).await;
            let status = read.map(|response| response.status());
            assert_eq!(status.ok(), (length == body.len()).then_some(StatusCode::OK), "{length}");
        }
    }
}
