//! Dialects: the format of response bodies.
//!
//! OTLP clients expect the bodies that the specification defines, in the encoding of their request; all others get the
//! relay's own JSON. [`super::reply`] decides what the bodies say.

use http::HeaderMap;
use http::header::CONTENT_TYPE;
use prost::Message;
use serde_json::json;

use crate::config::Encoding;
use crate::event::Signal;
use crate::grpc::Status;
use crate::receiver::Policy;

const JSON: &str = "application/json";
const PROTOBUF: &str = "application/x-protobuf";

/// Format of a response body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    /// JSON with a `reason`.
    Own,
    Otlp(OtlpDialect),
}

/// Signal and encoding of an OTLP request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct OtlpDialect {
    signal: Signal,
    encoding: Encoding,
}

/// Error for a body in neither encoding of OTLP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the content type must be {JSON} or {PROTOBUF}")]
pub(super) struct UnknownMediaType;

/// `Export{Trace,Logs,Metrics}ServiceResponse`: the three are the same message on the wire (opentelemetry-proto,
/// collector/*/v1/*_service.proto).
#[derive(Clone, PartialEq, Message)]
struct ExportResponse {
    #[prost(message, optional, tag = "1")]
    partial_success: Option<PartialSuccessMessage>,
}

#[derive(Clone, PartialEq, Message)]
struct PartialSuccessMessage {
    #[prost(int64, tag = "1")]
    rejected: i64,
    #[prost(string, tag = "2")]
    error_message: String,
}

// === impl Dialect ===

impl Dialect {
    /// Returns the dialect for a client of a receiver with this policy.
    pub(super) fn of(policy: Policy, headers: &HeaderMap) -> Result<Self, UnknownMediaType> {
        let Some(signal) = policy.otlp else { return Ok(Self::Own) };
        let given =
            headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).ok_or(UnknownMediaType)?;
        // Parameters such as a charset change nothing: JSON is always UTF-8.
        let essence = given.split(';').next().unwrap_or_default().trim();
        let encoding = if essence.eq_ignore_ascii_case(JSON) {
            Encoding::Json
        } else if essence.eq_ignore_ascii_case(PROTOBUF) {
            Encoding::Protobuf
        } else {
            return Err(UnknownMediaType);
        };
        Ok(Self::Otlp(OtlpDialect { signal, encoding }))
    }

    /// Returns the encoding of the body. All bodies that are not OTLP are some form of JSON.
    pub(super) fn encoding(self) -> Encoding {
        match self {
            Self::Own => Encoding::Json,
            Self::Otlp(otlp) => otlp.encoding,
        }
    }
}

// === impl OtlpDialect ===

impl OtlpDialect {
    pub(super) fn content_type(self) -> &'static str {
        match self.encoding {
            Encoding::Json => JSON,
            Encoding::Protobuf => PROTOBUF,
        }
    }

    /// Returns whether positions in the read text are positions in the body.
    pub(super) fn has_places(self) -> bool {
        self.encoding == Encoding::Json
    }

    /// Returns the word for the items of the signal.
    pub(super) fn items(self) -> &'static str {
        match self.signal {
            Signal::Traces => "spans",
            Signal::Logs => "log records",
            Signal::Metrics => "data points",
        }
    }

    /// Returns the body of a success.
    pub(super) fn success(self) -> Vec<u8> {
        match self.encoding {
            Encoding::Json => b"{}".to_vec(),
            Encoding::Protobuf => ExportResponse::default().encode_to_vec(),
        }
    }

    /// Returns the body of a partial success.
    pub(super) fn partial_success(self, rejected: usize, error_message: String) -> Vec<u8> {
        let rejected = i64::try_from(rejected).unwrap_or(i64::MAX);
        match self.encoding {
            Encoding::Json => {
                let count = match self.signal {
                    Signal::Traces => "rejectedSpans",
                    Signal::Logs => "rejectedLogRecords",
                    Signal::Metrics => "rejectedDataPoints",
                };
                // 64-bit numbers are strings in proto3 JSON.
                let partial = json!({ count: rejected.to_string(), "errorMessage": error_message });
                json!({ "partialSuccess": partial }).to_string().into()
            }
            Encoding::Protobuf => {
                let partial_success = Some(PartialSuccessMessage { rejected, error_message });
                ExportResponse { partial_success }.encode_to_vec()
            }
        }
    }

    /// Returns the body of a failure; `code` is a `google.rpc.Code`.
    pub(super) fn failure(self, code: i32, message: &str) -> Vec<u8> {
        match self.encoding {
            Encoding::Json => json!({ "code": code, "message": message }).to_string().into(),
            Encoding::Protobuf => Status::new(code, message.to_owned()).encode_to_vec(),
        }
    }
}
