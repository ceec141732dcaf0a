//! The remedy for each response that blocks the destination: the key to change, and its value.
//!
//! In: a status, and the settings of the signal. Out: a sentence for the log. Promises: it contains neither a path that may be
//! secret nor a header.

use http::StatusCode;

use crate::config::{Compression, Encoding, Protocol, SignalExport};
use crate::event::Signal;

/// The remedies of one signal.
pub(super) struct Remedies {
    protocol: Protocol,
    /// Description of the path: `the path /v1/traces`, or without the path if it is the operator's own.
    path: String,
    /// Keys that set the address.
    address: String,
    has_headers: bool,
    format: String,
}

// === impl Remedies ===

impl Remedies {
    pub(super) fn new(signal: Signal, export: &SignalExport<'_>) -> Self {
        Self {
            protocol: export.protocol,
            path: path_of(signal, export),
            address: address_keys(signal, export),
            has_headers: !export.headers.is_empty(),
            format: format_remedy(export),
        }
    }

    /// Returns the remedy for plain HTTP that was sent to a port for TLS.
    pub(super) fn tls_port(&self) -> String {
        let section = self.protocol.section();
        format!("this port speaks TLS: write https:// in {section}.endpoint, or set the port for plain HTTP")
    }

    /// Returns the remedy for a failure of TLS without specific advice.
    pub(super) fn tls(&self) -> String {
        let section = self.protocol.section();
        format!("check {section}.endpoint and {section}.tls")
    }

    /// Returns the remedy for a response with this status.
    pub(super) fn of(&self, status: StatusCode) -> String {
        let Self { path, address, .. } = self;
        let section = self.protocol.section();
        match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN if self.has_headers => {
                format!("credentials rejected: check {section}.headers")
            }
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                format!("authentication required: set {section}.headers")
            }
            StatusCode::NOT_FOUND | StatusCode::UNSUPPORTED_MEDIA_TYPE if self.protocol == Protocol::Grpc => {
                format!("the server does not have OTLP/gRPC: check {address}, or use exporters.otlp_http")
            }
            StatusCode::NOT_FOUND => format!("{path} was not found: check {address}"),
            StatusCode::METHOD_NOT_ALLOWED => {
                format!("{path} does not accept POST: check {address}")
            }
            StatusCode::PROXY_AUTHENTICATION_REQUIRED => {
                format!(
                    "a proxy requires authentication: set a proxy-authorization header, or check {address}"
                )
            }
            StatusCode::UNSUPPORTED_MEDIA_TYPE => self.format.clone(),
            status if status.is_redirection() => {
                format!("redirects are not followed: set {address} to the final address")
            }
            _ if self.protocol == Protocol::Grpc => format!("check {address} and {section}.headers"),
            status if status.is_client_error() => format!(
                "check {address} and exporters.otlp_http.headers; if this response is about the data, add {} to \
                 exporters.otlp_http.permanent_status_codes",
                status.as_str()
            ),
            _ => format!("not a response to an OTLP/HTTP export: check {address}"),
        }
    }
}

fn path_of(signal: Signal, export: &SignalExport<'_>) -> String {
    let usual = format!("/v1/{signal}");
    if export.endpoint.path() == usual {
        format!("the path {usual}")
    } else {
        "the configured path".to_owned()
    }
}

fn address_keys(signal: Signal, export: &SignalExport<'_>) -> String {
    if export.protocol == Protocol::Grpc {
        return format!("exporters.otlp_grpc.endpoint, or {signal}_endpoint where that is set");
    }
    if export.endpoint.path().ends_with(&format!("/v1/{signal}")) {
        format!("exporters.otlp_http.endpoint, or {signal}_endpoint where that is set")
    } else {
        format!("exporters.otlp_http.{signal}_endpoint")
    }
}

fn format_remedy(export: &SignalExport<'_>) -> String {
    let (encoding, other) = match export.encoding {
        Encoding::Json => ("JSON", "protobuf"),
        Encoding::Protobuf => ("protobuf", "json"),
    };
    let coding = match export.compression {
        Compression::None => {
            return format!(
                "the downstream does not accept {encoding}: set exporters.otlp_http.encoding: {other}"
            );
        }
        Compression::Gzip => "gzip",
        Compression::Zstd => "zstd",
    };
    format!(
        "the downstream does not accept {encoding} or {coding}: set exporters.otlp_http.encoding: {other}, or \
         exporters.otlp_http.compression: none"
    )
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::super::tests::config_for;
    use super::*;
    use crate::config::ExporterConfig;

    fn remedy(status: u16, adjust: impl FnOnce(&mut ExporterConfig)) -> String {
        let mut config = config_for("http://collector:4318");
        adjust(&mut config);
        let status = StatusCode::from_u16(status).unwrap();
        Remedies::new(Signal::Traces, &config.of(Signal::Traces)).of(status)
    }

    #[test]
    fn names_the_key_to_change_for_each_status() {
        type Adjust = fn(&mut ExporterConfig);
        let with_headers: Adjust = |config: &mut ExporterConfig| {
            drop(config.settings.headers.insert("x-key", HeaderValue::from_static("k")))
        };
        let with_path: Adjust = |config: &mut ExporterConfig| {
            config.traces_endpoint = "https://vendor/s3cret/ingest".parse().unwrap();
        };
        let with_protobuf: Adjust = |config: &mut ExporterConfig| config.encoding = Encoding::Protobuf;
        let with_gzip: Adjust = |config: &mut ExporterConfig| config.settings.compression = Compression::Gzip;
        let unchanged: Adjust = |_| {};
        let rows: [(u16, Adjust, &str); 13] = [
            (401, unchanged, "authentication required: set exporters.otlp_http.headers"),
            (401, with_headers, "credentials rejected: check exporters.otlp_http.headers"),
            (403, with_headers, "credentials rejected: check exporters.otlp_http.headers"),
            (
                404,
                unchanged,
                "the path /v1/traces was not found: check exporters.otlp_http.endpoint, or \
                 traces_endpoint where that is set",
            ),
            (404, with_path, "the configured path was not found: check exporters.otlp_http.traces_endpoint"),
            (
                405,
                unchanged,
                "the path /v1/traces does not accept POST: check exporters.otlp_http.endpoint, or \
                 traces_endpoint where that is set",
            ),
            (
                407,
                with_path,
                "a proxy requires authentication: set a proxy-authorization header, or check \
                 exporters.otlp_http.traces_endpoint",
            ),
            (
                415,
                unchanged,
                "the downstream does not accept JSON: set exporters.otlp_http.encoding: protobuf",
            ),
            (
                415,
                with_protobuf,
                "the downstream does not accept protobuf: set exporters.otlp_http.encoding: json",
            ),
            (
                415,
                with_gzip,
                "the downstream does not accept JSON or gzip: set exporters.otlp_http.encoding: protobuf, or \
                 exporters.otlp_http.compression: none",
            ),
            (
                307,
                with_path,
                "redirects are not followed: set exporters.otlp_http.traces_endpoint to the final address",
            ),
            (
                451,
                with_path,
                "check exporters.otlp_http.traces_endpoint and exporters.otlp_http.headers; if this response is \
                 about the data, add 451 to exporters.otlp_http.permanent_status_codes",
            ),
            (
                101,
                with_path,
                "not a response to an OTLP/HTTP export: check exporters.otlp_http.traces_endpoint",
            ),
        ];
        for (status, adjust, expected) in rows {
            assert_eq!(remedy(status, adjust), expected);
        }
    }
}
