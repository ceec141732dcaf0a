//! What an answer of the downstream means for the data, and for the operator.
//!
//! In: a status code. Out: whether the data is taken, is to be sent again, or will never be taken; and what is to be
//! mended when the answer judges the configuration. The tables are [`meaning_of`] and [`hints`]; nothing else in the
//! program knows them.

use std::time::Duration;

use http::StatusCode;

use super::response::PartialSuccess;
use crate::config::{Compression, Encoding, SignalExport};
use crate::otlp::Signal;
use crate::telemetry::inspect::view::Attempt;
use crate::telemetry::metrics::ExportOutcome;

/// How one attempt ended; after the last attempt, how the export ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The downstream took it, perhaps without some items.
    Sent { partial: Option<PartialSuccess> },
    /// The downstream asks for patience.
    Throttled { reason: String, retry_after: Option<Duration> },
    /// It was not taken, and that says nothing about the data.
    Retryable { reason: String, retry_after: Option<Duration> },
    /// The same request will never be taken.
    Permanent { reason: String },
    /// Not taken for longer than the configuration allows.
    GivenUp { reason: String },
}

/// The one table of status codes (OTLP/HTTP, "Failures": 429, 502, 503 and 504 are retryable, all other 4xx and
/// 5xx must not be retried).
pub(super) fn meaning_of(status: StatusCode) -> ExportOutcome {
    match status.as_u16() {
        200..=299 => ExportOutcome::Sent,
        429 => ExportOutcome::Throttled,
        502..=504 => ExportOutcome::Retryable,
        400..=599 => ExportOutcome::Permanent,
        // A redirect (never followed: it would take the data and the headers to another host) or a number that
        // HTTP does not define judges the address, not the data. Asking again loses nothing.
        _ => ExportOutcome::Retryable,
    }
}

/// What to mend when the downstream refuses with one of these: they judge the address, the credentials or the format,
/// and so whatever is sent.
pub(super) fn hints(signal: Signal, export: &SignalExport<'_>) -> [(StatusCode, String); 5] {
    let (path, address) = (path_of(signal, export), address_keys(signal, export));
    let credentials = if export.headers.is_empty() {
        "the downstream wants credentials: set exporters.otlp_http.headers"
    } else {
        "the downstream refused the credentials: check exporters.otlp_http.headers"
    };
    [
        (StatusCode::UNAUTHORIZED, credentials.to_owned()),
        (StatusCode::FORBIDDEN, credentials.to_owned()),
        (StatusCode::NOT_FOUND, format!("the downstream does not know {path}: check {address}")),
        (StatusCode::METHOD_NOT_ALLOWED, format!("the downstream takes no POST at {path}: check {address}")),
        (StatusCode::UNSUPPORTED_MEDIA_TYPE, format_hint(export)),
    ]
}

/// A path of the vendor's own may be a secret.
fn path_of(signal: Signal, export: &SignalExport<'_>) -> String {
    let usual = format!("/v1/{signal}");
    if export.endpoint.path() == usual {
        format!("the path {usual}")
    } else {
        "the configured path".to_owned()
    }
}

/// The keys that the address can have come from.
fn address_keys(signal: Signal, export: &SignalExport<'_>) -> String {
    if export.endpoint.path().ends_with(&format!("/v1/{signal}")) {
        format!("exporters.otlp_http.endpoint, or {signal}_endpoint where that is set")
    } else {
        format!("exporters.otlp_http.{signal}_endpoint")
    }
}

fn format_hint(export: &SignalExport<'_>) -> String {
    let (encoding, other) = match export.encoding {
        Encoding::Json => ("JSON", "protobuf"),
        Encoding::Protobuf => ("protobuf", "json"),
    };
    let coding = match export.compression {
        Compression::None => {
            return format!("the downstream takes no {encoding}: set exporters.otlp_http.encoding: {other}");
        }
        Compression::Gzip => "gzip",
        Compression::Zstd => "zstd",
    };
    format!(
        "the downstream takes no {encoding} or no {coding}: set exporters.otlp_http.encoding: {other}, or \
         exporters.otlp_http.compression: none"
    )
}

// === impl Outcome ===

impl Outcome {
    /// What a response with this status amounts to.
    pub(super) fn of_response(
        status: StatusCode,
        reason: String,
        retry_after: Option<Duration>,
        partial: Option<PartialSuccess>,
    ) -> Self {
        match meaning_of(status) {
            ExportOutcome::Sent => Self::Sent { partial },
            ExportOutcome::Throttled => Self::Throttled { reason, retry_after },
            ExportOutcome::Retryable => Self::Retryable { reason, retry_after },
            ExportOutcome::Permanent => Self::Permanent { reason },
        }
    }

    /// The label that metrics give it.
    pub(super) fn label(&self) -> ExportOutcome {
        match self {
            Self::Sent { .. } => ExportOutcome::Sent,
            Self::Throttled { .. } => ExportOutcome::Throttled,
            Self::Retryable { .. } => ExportOutcome::Retryable,
            Self::Permanent { .. } | Self::GivenUp { .. } => ExportOutcome::Permanent,
        }
    }

    /// What the inspector is told of the attempt.
    pub(super) fn as_attempt(&self, took: Duration) -> Attempt {
        let answer = match self {
            Self::Sent { partial: None } => "taken".to_owned(),
            Self::Sent { partial: Some(PartialSuccess { rejected_items, message }) } => {
                format!("taken, but for {rejected_items} items: {message}")
            }
            Self::Throttled { reason, retry_after: Some(wait) }
            | Self::Retryable { reason, retry_after: Some(wait) } => {
                format!("{reason}; come again in {} s", wait.as_secs())
            }
            Self::Throttled { reason, .. }
            | Self::Retryable { reason, .. }
            | Self::Permanent { reason }
            | Self::GivenUp { reason } => reason.clone(),
        };
        Attempt {
            outcome: self.label().as_str(),
            is_final: !matches!(self, Self::Throttled { .. } | Self::Retryable { .. }),
            answer,
            took_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::super::tests::config_for;
    use super::*;
    use crate::config::ExporterConfig;

    fn statuses_that_mean(meaning: ExportOutcome) -> Vec<u16> {
        (100..600)
            .filter(|&code| meaning_of(StatusCode::from_u16(code).expect("three digits")) == meaning)
            .collect()
    }

    #[test]
    fn every_2xx_is_sent_and_nothing_else_is() {
        assert_eq!(statuses_that_mean(ExportOutcome::Sent), (200..300).collect::<Vec<_>>());
    }

    #[test]
    fn only_429_is_throttled() {
        assert_eq!(statuses_that_mean(ExportOutcome::Throttled), [429]);
    }

    #[test]
    fn of_the_errors_only_502_503_and_504_are_retried() {
        let mut retried = statuses_that_mean(ExportOutcome::Retryable);
        retried.retain(|&code| code >= 400);
        assert_eq!(retried, [502, 503, 504]);
    }

    fn hint(status: u16, adjust: impl FnOnce(&mut ExporterConfig)) -> Option<String> {
        let mut config = config_for("http://collector:4318");
        adjust(&mut config);
        let rows = hints(Signal::Traces, &config.of(Signal::Traces));
        rows.into_iter().find_map(|(row, text)| (row == status).then_some(text))
    }

    #[test]
    fn a_refusal_of_the_configuration_says_what_to_mend() {
        type Adjust = fn(&mut ExporterConfig);
        let with_headers: Adjust =
            |config: &mut ExporterConfig| drop(config.headers.insert("x-key", HeaderValue::from_static("k")));
        let with_path: Adjust = |config: &mut ExporterConfig| {
            config.traces_endpoint = "https://vendor/s3cret/ingest".parse().unwrap();
        };
        let with_protobuf: Adjust = |config: &mut ExporterConfig| config.encoding = Encoding::Protobuf;
        let with_gzip: Adjust = |config: &mut ExporterConfig| config.compression = Compression::Gzip;
        let unchanged: Adjust = |_| {};
        let rows: [(u16, Adjust, &str); 9] = [
            (401, unchanged, "the downstream wants credentials: set exporters.otlp_http.headers"),
            (401, with_headers, "the downstream refused the credentials: check exporters.otlp_http.headers"),
            (403, with_headers, "the downstream refused the credentials: check exporters.otlp_http.headers"),
            (
                404,
                unchanged,
                "the downstream does not know the path /v1/traces: check exporters.otlp_http.endpoint, or \
                 traces_endpoint where that is set",
            ),
            (
                404,
                with_path,
                "the downstream does not know the configured path: check exporters.otlp_http.traces_endpoint",
            ),
            (
                405,
                unchanged,
                "the downstream takes no POST at the path /v1/traces: check exporters.otlp_http.endpoint, or \
                 traces_endpoint where that is set",
            ),
            (415, unchanged, "the downstream takes no JSON: set exporters.otlp_http.encoding: protobuf"),
            (415, with_protobuf, "the downstream takes no protobuf: set exporters.otlp_http.encoding: json"),
            (
                415,
                with_gzip,
                "the downstream takes no JSON or no gzip: set exporters.otlp_http.encoding: protobuf, or \
                 exporters.otlp_http.compression: none",
            ),
        ];
        for (status, adjust, expected) in rows {
            assert_eq!(hint(status, adjust).as_deref(), Some(expected));
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(meaning_of(status), ExportOutcome::Permanent);
        }
    }

    #[test]
    fn a_refusal_of_the_data_has_no_hint() {
        for status in [200, 400, 408, 413, 422, 429, 500, 501, 503] {
            assert_eq!(hint(status, |_| {}), None, "{status}");
        }
    }

    #[test]
    fn a_redirect_loses_no_data() {
        for code in [101, 301, 302, 307, 308] {
            let status = StatusCode::from_u16(code).expect("three digits");
            assert_eq!(meaning_of(status), ExportOutcome::Retryable, "{code}");
        }
    }

    #[test]
    fn bad_data_server_errors_and_request_timeouts_are_permanent() {
        let permanent = statuses_that_mean(ExportOutcome::Permanent);
        for code in [400, 401, 403, 404, 405, 408, 413, 415, 422, 500, 501, 505, 599] {
            assert!(permanent.contains(&code), "{code}");
        }
    }
}
