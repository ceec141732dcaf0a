//! `exporters.otlp_grpc`: the keys of `otlp_http` without those of HTTP.

use http::Uri;

use super::super::declare::{Flat, section};
use super::super::kind::{Url, authorize};
use super::super::section::Section;
use super::exporters::{
    Encoding, ExportSettings, ExporterConfig, Protocol, SignalConfig, SignalSettings, authorization,
    check_tls,
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
        /// Settings that do not depend on the protocol.
        settings: Flat<ExportSettings>, partly_live;
        /// Settings for traces only.
        traces: SignalSettings, partly_live;
        /// Settings for logs only.
        logs: SignalSettings, partly_live;
        /// Settings for metrics only.
        metrics: SignalSettings, partly_live;
    }
}

// === impl GrpcConfig ===

impl GrpcConfig {
    /// Returns the settings in the form that the exporter has in common. The paths of the endpoints are those of the gRPC methods.
    pub(super) fn exporter(&self) -> ExporterConfig {
        let signal = |own: &SignalSettings| SignalConfig { encoding: None, settings: own.clone() };
        let endpoint = |own: &Option<Uri>| own.as_ref().unwrap_or(&self.endpoint).clone();
        ExporterConfig {
            protocol: Protocol::Grpc,
            endpoint: self.endpoint.clone(),
            traces_endpoint: endpoint(&self.traces_endpoint),
            logs_endpoint: endpoint(&self.logs_endpoint),
            metrics_endpoint: endpoint(&self.metrics_endpoint),
            encoding: Encoding::Protobuf,
            settings: self.settings.clone(),
            traces: signal(&self.traces),
            logs: signal(&self.logs),
            metrics: signal(&self.metrics),
            ..ExporterConfig::default()
        }
    }
}

fn check_grpc(grpc: &mut GrpcConfig, section: &Section<'_>) {
    let common = grpc.settings.headers.clone();
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
    check_tls(section, &grpc.settings, [&grpc.traces, &grpc.logs, &grpc.metrics]);
}
