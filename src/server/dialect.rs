//! In whose words a sender is answered.
//!
//! Senders of OTLP expect the bodies that its specification names, in the encoding of their own request; all others
//! get this service's. What these bodies say is decided in [`super::reply`].

use http::HeaderMap;
use http::header::CONTENT_TYPE;
use prost::Message;
use serde_json::json;

use crate::config::Encoding;
use crate::event::{Signal, SourceKind};

const JSON: &str = "application/json";
const PROTOBUF: &str = "application/x-protobuf";

/// The words of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    /// JSON with a `reason`.
    Own,
    Otlp(Otlp),
}

/// How a sender of OTLP speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Otlp {
    signal: Signal,
    encoding: Encoding,
}

/// The body is neither of what OTLP is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the content type must be {JSON} or {PROTOBUF}")]
pub(super) struct UnknownMediaType;

/// `google.rpc.Status` (google/rpc/status.proto), without details.
#[derive(Clone, PartialEq, Message)]
struct Status {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
}

/// `Export{Trace,Logs,Metrics}ServiceResponse`: the three are one message on the wire
/// (opentelemetry-proto, collector/*/v1/*_service.proto).
#[derive(Clone, PartialEq, Message)]
struct ExportResponse {
    #[prost(message, optional, tag = "1")]
    partial_success: Option<PartialSuccess>,
}

#[derive(Clone, PartialEq, Message)]
struct PartialSuccess {
    #[prost(int64, tag = "1")]
    rejected: i64,
    #[prost(string, tag = "2")]
    error_message: String,
}

// === impl Dialect ===

impl Dialect {
    /// The words for a sender that speaks to a receiver of this kind.
    pub(super) fn of(kind: SourceKind, headers: &HeaderMap) -> Result<Self, UnknownMediaType> {
        let SourceKind::Otlp(signal) = kind else { return Ok(Self::Own) };
        let given =
            headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).ok_or(UnknownMediaType)?;
        // What follows the semicolon, such as a charset, changes nothing: JSON is UTF-8 in any case.
        let essence = given.split(';').next().unwrap_or_default().trim();
        let encoding = if essence.eq_ignore_ascii_case(JSON) {
            Encoding::Json
        } else if essence.eq_ignore_ascii_case(PROTOBUF) {
            Encoding::Protobuf
        } else {
            return Err(UnknownMediaType);
        };
        Ok(Self::Otlp(Otlp { signal, encoding }))
    }

    /// What the body is written in. All that is not OTLP is some form of JSON.
    pub(super) fn encoding(self) -> Encoding {
        match self {
            Self::Own => Encoding::Json,
            Self::Otlp(otlp) => otlp.encoding,
        }
    }
}

// === impl Otlp ===

impl Otlp {
    pub(super) fn content_type(self) -> &'static str {
        match self.encoding {
            Encoding::Json => JSON,
            Encoding::Protobuf => PROTOBUF,
        }
    }

    /// Whether a place in what was read is a place in what was sent.
    pub(super) fn has_places(self) -> bool {
        self.encoding == Encoding::Json
    }

    /// The word for what the signal consists of.
    pub(super) fn items(self) -> &'static str {
        match self.signal {
            Signal::Traces => "spans",
            Signal::Logs => "log records",
            Signal::Metrics => "data points",
        }
    }

    /// The body of a success: everything was taken.
    pub(super) fn success(self) -> Vec<u8> {
        match self.encoding {
            Encoding::Json => b"{}".to_vec(),
            Encoding::Protobuf => ExportResponse::default().encode_to_vec(),
        }
    }

    /// The body of a success from which some items are excepted.
    pub(super) fn partial_success(self, rejected: usize, error_message: String) -> Vec<u8> {
        let rejected = i64::try_from(rejected).unwrap_or(i64::MAX);
        match self.encoding {
            Encoding::Json => {
                let count = match self.signal {
                    Signal::Traces => "rejectedSpans",
                    Signal::Logs => "rejectedLogRecords",
                    Signal::Metrics => "rejectedDataPoints",
                };
                // A number of 64 bits is a string in proto3 JSON.
                let partial = json!({ count: rejected.to_string(), "errorMessage": error_message });
                json!({ "partialSuccess": partial }).to_string().into()
            }
            Encoding::Protobuf => {
                let partial_success = Some(PartialSuccess { rejected, error_message });
                ExportResponse { partial_success }.encode_to_vec()
            }
        }
    }

    /// The body of a failure: `code` is one of `google.rpc.Code`.
    pub(super) fn failure(self, code: i32, message: &str) -> Vec<u8> {
        match self.encoding {
            Encoding::Json => json!({ "code": code, "message": message }).to_string().into(),
            Encoding::Protobuf => Status { code, message: message.to_owned() }.encode_to_vec(),
        }
    }
}
