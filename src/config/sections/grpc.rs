//! `exporters.otlp_grpc`: the keys of `otlp_http` without those of HTTP.

use std::time::Duration;

use http::Uri;

use super::super::declare::section;
use super::super::kind::{Count, Headers, Positive, Url, authorize};
use super::super::section::Section;
use super::exporters::{
    BatchConfig, Compression, DeliveryMode, Encoding, ExporterConfig, Protocol, RetryConfig, SignalConfig,
    TlsClientConfig, authorization, check_pair,
};

/// Default of `otlp_grpc.endpoint`.
const GRPC_COLLECTOR: &str = "http://localhost:4317";

section! {
    /// `exporters.otlp_grpc`
    pub(crate) struct GrpcConfig => check_grpc {
        /// URL of the server, without a path: `http://` for plain HTTP/2, `https://` for TLS. A user name and password in it become an
        /// `authorization` header.
        endpoint: Url = Uri::from_static(GRPC_COLLECTOR);
        /// URL of the server for traces; by default `endpoint`.
        traces_endpoint: Option<Url>, sample("http://localhost:4317");
        /// URL of the server for logs.
        logs_endpoint: Option<Url>, sample("http://localhost:4317");
        /// URL of the server for metrics.
        metrics_endpoint: Option<Url>, sample("http://localhost:4317");
        /// Number of units per request: `single` is one request per accepted line or webhook, `batch` many, limited by `batch`.
        delivery: DeliveryMode = DeliveryMode::Single;
        /// Limits of a batch, for `delivery: batch`.
        batch: BatchConfig;
        /// Compression of messages: `none`, `gzip` or `zstd`.
        compression: Compression = Compression::None;
        /// Metadata of each request.
        headers: Headers, sample("{ \"x-honeycomb-team\": \"${env:HONEYCOMB_KEY}\" }"), live;
        /// Timeout of one attempt.
        timeout: Positive = Duration::from_secs(10);
        /// Maximum number of concurrent requests, over all signals. While the attempts of a signal fail, it has at most a third of
        /// them.
        max_in_flight: Count = 32;
        /// Retries after temporary errors and failed connections.
        retry_on_failure: RetryConfig;
        /// PEM files for TLS, which are read again when they change.
        tls: TlsClientConfig;
        /// Settings for traces only.
        traces: GrpcSignalConfig, partly_live;
        /// Settings for logs only.
        logs: GrpcSignalConfig, partly_live;
        /// Settings for metrics only.
        metrics: GrpcSignalConfig, partly_live;
    }
}

section! {
    /// Settings of one signal; `None` falls back to the common setting.
    pub(crate) struct GrpcSignalConfig {
        /// Compression of messages.
        compression: Option<Compression>, sample("none");
        /// Metadata, in addition to the common ones; they take precedence.
        headers: Headers, sample("{}"), live;
        /// Timeout of one attempt.
        timeout: Option<Positive>, sample("10s");
        /// PEM files for TLS, each of which falls back to the common one.
        tls: TlsClientConfig;
    }
}

// === impl GrpcConfig ===

impl GrpcConfig {
    /// Returns the settings in the form that the exporter has in common. The paths of the endpoints are those of the gRPC methods.
    pub(super) fn exporter(&self) -> ExporterConfig {
        let signal = |own: &GrpcSignalConfig| SignalConfig {
            encoding: None,
            compression: own.compression,
            headers: own.headers.clone(),
            timeout: own.timeout,
            tls: own.tls.clone(),
        };
        let endpoint = |own: &Option<Uri>| own.as_ref().unwrap_or(&self.endpoint).clone();
        ExporterConfig {
            protocol: Protocol::Grpc,
            endpoint: self.endpoint.clone(),
            traces_endpoint: endpoint(&self.traces_endpoint),
            logs_endpoint: endpoint(&self.logs_endpoint),
            metrics_endpoint: endpoint(&self.metrics_endpoint),
            encoding: Encoding::Protobuf,
            delivery: self.delivery,
            batch: self.batch.clone(),
            compression: self.compression,
            headers: self.headers.clone(),
            timeout: self.timeout,
            max_in_flight: self.max_in_flight,
            retry_on_failure: self.retry_on_failure.clone(),
            tls: self.tls.clone(),
            traces: signal(&self.traces),
            logs: signal(&self.logs),
            metrics: signal(&self.metrics),
            ..ExporterConfig::default()
        }
    }
}

fn check_grpc(grpc: &mut GrpcConfig, section: &Section<'_>) {
    let common = grpc.headers.clone();
    let keys = ["endpoint", "traces_endpoint", "logs_endpoint", "metrics_endpoint"];
    let authorizations = keys.map(|key| section.value(key).and_then(|field| authorization(&field)));
    let [base, of_signals @ ..] = authorizations;
    let owns = [&mut grpc.traces, &mut grpc.logs, &mut grpc.metrics];
    for (own, of_signal) in owns.into_iter().zip(of_signals) {
        authorize(&mut own.headers, of_signal.or_else(|| base.clone()).as_deref(), &common);
    }
    let urls = [
        Some(&grpc.endpoint),
        grpc.traces_endpoint.as_ref(),
        grpc.logs_endpoint.as_ref(),
        grpc.metrics_endpoint.as_ref(),
    ];
    for (key, url) in keys.into_iter().zip(urls) {
        if url.is_some_and(|url| !matches!(url.path_and_query().map_or("", |path| path.as_str()), "" | "/")) {
            section.problem_at(
                key,
                "has a path; the methods of OTLP/gRPC have fixed ones, so write http://HOST:PORT",
            );
        }
    }
    check_pair(section, "tls", &grpc.tls);
    for (key, own) in [("traces", &grpc.traces), ("logs", &grpc.logs), ("metrics", &grpc.metrics)] {
        if own.tls.cert_file.is_some() || own.tls.key_file.is_some() {
            check_pair(section, key, &own.tls.clone().or(&grpc.tls));
        }
    }
}
