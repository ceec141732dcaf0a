//! The parts of gRPC that the exporter and the server share: methods, headers, the prefix of messages and statuses.
//!
//! In: bytes and header values. Out: the same in gRPC's terms. Leaves to others: what a status means for the data, and
//! requests and responses as a whole.
//!
//! Formats: gRPC over HTTP/2 (grpc/doc/PROTOCOL-HTTP2.md), `google.rpc.Status` and `google.rpc.RetryInfo`.

use std::fmt::Write as _;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use bytes::Bytes;
use http::header::{HeaderName, HeaderValue};
use prost::Message;

use crate::event::Signal;

/// Length of the prefix of a message.
pub(crate) const PREFIX_BYTES: usize = 5;
/// Content type of calls and responses; the format of messages may follow.
pub(crate) const CONTENT_TYPE: &str = "application/grpc";
/// Header that names the compression of messages.
pub(crate) const ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
/// Header or trailer with the number of the status.
pub(crate) const STATUS: HeaderName = HeaderName::from_static("grpc-status");
/// Header or trailer with the percent-encoded text of the status.
pub(crate) const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
/// Header or trailer with a [`Status`].
pub(crate) const DETAILS: HeaderName = HeaderName::from_static("grpc-status-details-bin");

/// `google.rpc.Status` (google/rpc/status.proto).
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Status {
    #[prost(int32, tag = "1")]
    pub(crate) code: i32,
    #[prost(string, tag = "2")]
    pub(crate) message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<Any>,
}

/// `google.protobuf.Any`
#[derive(Clone, PartialEq, Message)]
struct Any {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "bytes", tag = "2")]
    value: Bytes,
}

/// `google.rpc.RetryInfo`
#[derive(Clone, PartialEq, Message)]
struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    delay: Option<RetryDelay>,
}

/// `google.protobuf.Duration`
#[derive(Clone, PartialEq, Message)]
struct RetryDelay {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

/// Returns the path of the method that takes a signal.
pub(crate) fn method(signal: Signal) -> &'static str {
    match signal {
        Signal::Traces => "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
        Signal::Logs => "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
        Signal::Metrics => "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
    }
}

/// Returns the prefix of a message: one byte that says whether it is compressed, and its length.
pub(crate) fn prefix(length: usize, is_compressed: bool) -> [u8; PREFIX_BYTES] {
    // Messages are smaller than 4 GiB: the sender's request bounds a unit.
    let [a, b, c, d] = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
    [u8::from(is_compressed), a, b, c, d]
}

/// Encodes characters that a `grpc-message` cannot hold.
pub(crate) fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b' '..=b'~' if byte != b'%' => encoded.push(char::from(byte)),
            _ => write!(encoded, "%{byte:02X}").expect("writing to a string never fails"),
        }
    }
    encoded
}

/// Returns the text of a `grpc-message`.
pub(crate) fn percent_decoded(value: &HeaderValue) -> String {
    let mut decoded = Vec::with_capacity(value.len());
    let mut rest = value.as_bytes();
    while let [byte, after @ ..] = rest {
        let hex = after.get(..2).filter(|_| *byte == b'%').and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                decoded.push(byte);
                rest = after.get(2..).unwrap_or_default();
            }
            None => {
                decoded.push(*byte);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

// === impl Status ===

impl Status {
    pub(crate) fn new(code: i32, message: String) -> Self {
        Self { code, message, details: Vec::new() }
    }

    /// Adds the delay after which the call may be repeated.
    pub(crate) fn with_retry_delay(mut self, delay: Duration) -> Self {
        let seconds = i64::try_from(delay.as_secs()).unwrap_or(i64::MAX);
        // Fewer than a billion.
        let nanos = i32::try_from(delay.subsec_nanos()).unwrap_or(0);
        let info = RetryInfo { delay: Some(RetryDelay { seconds, nanos }) };
        let type_url = "type.googleapis.com/google.rpc.RetryInfo".to_owned();
        self.details.push(Any { type_url, value: info.encode_to_vec().into() });
        self
    }

    /// Returns the delay after which the call may be repeated, if the status asks for one.
    pub(crate) fn retry_delay(self) -> Option<Duration> {
        let is_info = |detail: &Any| detail.type_url.ends_with("/google.rpc.RetryInfo");
        let info = self.details.into_iter().find(is_info)?;
        let delay = RetryInfo::decode(info.value).ok()?.delay.unwrap_or_default();
        let (seconds, nanos) = (u64::try_from(delay.seconds), u32::try_from(delay.nanos));
        Some(Duration::new(seconds.unwrap_or(0), nanos.unwrap_or(0)))
    }

    /// Writes the status as the value of [`DETAILS`].
    pub(crate) fn to_header(&self) -> Option<HeaderValue> {
        HeaderValue::try_from(STANDARD_NO_PAD.encode(self.encode_to_vec())).ok()
    }

    /// Reads the value of [`DETAILS`], with or without padding.
    pub(crate) fn of_header(value: &HeaderValue) -> Option<Self> {
        let encoded = value.as_bytes();
        let encoded = encoded.strip_suffix(b"==").or(encoded.strip_suffix(b"=")).unwrap_or(encoded);
        Self::decode(&*STANDARD_NO_PAD.decode(encoded).ok()?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_comes_back_from_its_header_with_its_delay() {
        let delay = Duration::new(2, 1);
        let status = Status::new(8, "full".to_owned()).with_retry_delay(delay);
        let header = status.to_header().unwrap();
        for padding in ["", "="] {
            let padded = header.to_str().unwrap().to_owned() + padding;
            let read = Status::of_header(&padded.parse().unwrap()).unwrap();
            assert_eq!(read, status);
            assert_eq!(read.retry_delay(), Some(delay));
        }
        assert_eq!(Status::new(8, String::new()).retry_delay(), None);
    }

    #[test]
    fn a_status_is_encoded_as_its_schema_says() {
        let url = b"type.googleapis.com/google.rpc.RetryInfo";
        let bytes = [b"\x08\x08\x12\x04full\x1a\x30\x0a\x28", &url[..], b"\x12\x04\x0a\x02\x08\x07"].concat();
        let status = Status::new(8, "full".to_owned()).with_retry_delay(Duration::from_secs(7));
        assert_eq!(status.encode_to_vec(), bytes);
    }

    #[test]
    fn any_text_comes_back_from_its_percent_encoding() {
        for text in ["", "a b%c", "the queue is full: é", "%C3%A9"] {
            let encoded = percent_encoded(text);
            assert!(encoded.bytes().all(|byte| matches!(byte, b' '..=b'~')), "{encoded}");
            assert_eq!(percent_decoded(&encoded.parse().unwrap()), text);
        }
    }
}
