//! `exporters`: endpoints and how to export to them.

use std::fmt::Display;
use std::path::Path;
use std::time::Duration;

use http::{HeaderMap, Uri};
use serde_json::json;

use super::super::declare::{Flat, Shape, choice, section};
use super::super::endpoint::Endpoint;
use super::super::field::Field;
use super::super::kind::{
    Count, File, Fraction, Headers, Kind, Multiplier, Positive, Size, Time, Url, authorize, derived, kind,
    plain,
};
use super::super::proxy::ProxySettings;
use super::super::section::Section;
use super::super::tree::Tree;
use super::grpc::GrpcConfig;
use crate::event::Signal;

/// Default of `endpoint`: a Collector on the same host.
const COLLECTOR: &str = "http://localhost:4318";

/// Port of OTLP/gRPC.
pub(crate) const GRPC_PORT: u16 = 4317;

/// Statuses that OTLP/HTTP defines as retryable.
const ALWAYS_RETRIED: [u16; 4] = [429, 502, 503, 504];

/// Statuses about the endpoint, the credentials or the format, independent of the data.
const OF_THE_DESTINATION: [u16; 6] = [401, 403, 404, 405, 407, 415];

section! {
    /// `exporters`: one of the two.
    pub(crate) struct ExportersConfig => check_exporters {
        /// OTLP/HTTP to a Collector or a vendor.
        otlp_http: HttpExporter, partly_live;
        /// OTLP/gRPC to a Collector or a vendor, instead of `otlp_http`.
        otlp_grpc: Option<GrpcConfig>, partly_live;
    }
}

section! {
    /// `exporters.otlp_http`
    pub(crate) struct ExporterConfig => check {
        /// Protocol: HTTP, or gRPC where these settings are those of `otlp_grpc`.
        protocol: Protocol = Protocol::Http;
        /// Base URL; `/v1/traces`, `/v1/logs` and `/v1/metrics` are appended. A user name and password in it become an
        /// `authorization` header.
        endpoint: Url = Uri::from_static(COLLECTOR);
        /// Complete URL for traces, used unchanged; by default `endpoint` with the path of the signal.
        traces_endpoint: Url = Uri::from_static("http://localhost:4318/v1/traces"), sample("http://localhost:4318/v1/traces");
        /// Complete URL for logs.
        logs_endpoint: Url = Uri::from_static("http://localhost:4318/v1/logs"), sample("http://localhost:4318/v1/logs");
        /// Complete URL for metrics.
        metrics_endpoint: Url = Uri::from_static("http://localhost:4318/v1/metrics"), sample("http://localhost:4318/v1/metrics");
        /// Encoding of requests: `json` or `protobuf`.
        encoding: Encoding = Encoding::Json;
        /// Settings that do not depend on the protocol.
        settings: Flat<ExportSettings>, partly_live;
        /// Response statuses that reject data for good: 400 to 599 without 429, 502, 503 and 504. After any other error the data
        /// stays in the queue.
        permanent_status_codes: Vec<PermanentStatus> = vec![400, 413, 422];
        /// Settings for traces only.
        traces: SignalConfig, partly_live;
        /// Settings for logs only.
        logs: SignalConfig, partly_live;
        /// Settings for metrics only.
        metrics: SignalConfig, partly_live;
        /// Proxies of the environment.
        proxy: ProxySettings;
    }
}

section! {
    /// Keys that `otlp_http` and `otlp_grpc` have in common.
    pub(crate) struct ExportSettings {
        /// Number of units per request: `single` is one request per accepted line or webhook, `batch` many, limited by `batch`.
        delivery: DeliveryMode = DeliveryMode::Single;
        /// Limits of a batch, for `delivery: batch`.
        batch: BatchConfig;
        /// Compression of requests: `none`, `gzip` or `zstd`.
        compression: Compression = Compression::None;
        /// Headers of each request, or its gRPC metadata.
        headers: Headers, sample("{ \"x-honeycomb-team\": \"${env:HONEYCOMB_KEY}\" }"), live;
        /// Timeout of one attempt.
        timeout: Positive = Duration::from_secs(10);
        /// Maximum number of concurrent requests, over all signals. While the attempts of a signal fail, it has at most a third of
        /// them.
        max_in_flight: Count = 32;
        /// Retries after temporary errors, such as 429, 5xx or UNAVAILABLE, and failed connections.
        retry_on_failure: RetryConfig;
        /// PEM files for TLS, which are read again when they change.
        tls: TlsClientConfig;
    }
}

section! {
    /// Settings of one signal of `otlp_http`; `None` falls back to the common setting.
    pub(crate) struct SignalConfig {
        /// Encoding of requests.
        encoding: Option<Encoding>, sample("json");
        /// Settings that do not depend on the protocol.
        settings: Flat<SignalSettings>, partly_live;
    }
}

section! {
    /// Settings of one signal; `None` falls back to the common setting.
    pub(crate) struct SignalSettings {
        /// Compression of requests.
        compression: Option<Compression>, sample("none");
        /// Headers or metadata, in addition to the common ones; they take precedence.
        headers: Headers, sample("{}"), live;
        /// Timeout of one attempt.
        timeout: Option<Positive>, sample("10s");
        /// PEM files for TLS, each of which falls back to the common one.
        tls: TlsClientConfig;
    }
}

section! {
    /// `exporters.otlp_http.batch`
    pub(crate) struct BatchConfig {
        /// Number of lines at which a batch is sent.
        max_events: Count = 512;
        /// Size before compression at which a batch is sent.
        max_bytes: Size = 4 << 20;
        /// Age at which a batch is sent.
        timeout: Positive = Duration::from_millis(200);
    }
}

section! {
    /// `exporters.otlp_http.retry_on_failure`
    pub(crate) struct RetryConfig => check_retry {
        /// First pause.
        initial_interval: Positive = Duration::from_secs(1);
        /// Longest pause. Also the time between two probes of a destination that is at fault (3xx, 401, 403, 404 and the like).
        max_interval: Positive = Duration::from_secs(30);
        /// Factor from each pause to the next, 1 to 100.
        multiplier: Multiplier = 1.5;
        /// Fraction of a pause by which it varies at random, 0 to 1.
        randomization_factor: Fraction = 0.5;
        /// Maximum time of failed attempts, after which the data goes to the rejected input; `0s` never gives up. Time in which the
        /// destination is at fault does not count.
        max_elapsed_time: Time = Duration::ZERO;
    }
}

section! {
    /// TLS files of a client.
    pub(crate) struct TlsClientConfig {
        /// Trusted authorities, instead of the system's.
        ca_file: Option<File>, sample("/etc/spanrelay/ca.pem");
        /// The relay's client certificate; needs `key_file`.
        cert_file: Option<File>, sample("/etc/spanrelay/client.pem");
        /// Private key of the client certificate.
        key_file: Option<File>, sample("/etc/spanrelay/client.key");
    }
}

choice! {
    /// OTLP encoding: `exporters.otlp_http.encoding`, and the encodings that the OTLP receiver accepts.
    pub enum Encoding {
        /// JSON.
        Json = "json",
        /// Protobuf.
        Protobuf = "protobuf",
    }
}

choice! {
    /// `exporters.otlp_http.delivery`
    pub(crate) enum DeliveryMode {
        Single = "single",
        Batch = "batch",
    }
}

choice! {
    /// `exporters.otlp_http.compression`
    pub(crate) enum Compression {
        None = "none",
        Gzip = "gzip",
        Zstd = "zstd",
    }
}

kind! {
    /// Status that can reject data for good.
    PermanentStatus: u16, permanent_status, plain,
    json!({ "type": "integer", "minimum": 400, "maximum": 599, "not": { "enum": ALWAYS_RETRIED } })
}

/// Protocol of exports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http,
    Grpc,
}

/// `otlp_http`. Its settings are not printed where `otlp_grpc` replaces them.
pub(crate) struct HttpExporter;

/// Effective export settings of one signal.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SignalExport<'a> {
    pub(crate) protocol: Protocol,
    pub(crate) endpoint: &'a Uri,
    pub(crate) encoding: Encoding,
    pub(crate) compression: Compression,
    /// Timeout of one attempt.
    pub(crate) timeout: Duration,
    pub(crate) headers: HeaderMap,
    pub(crate) tls: TlsClientConfig,
    pub(crate) proxy: &'a ProxySettings,
}

// === impl ExporterConfig ===

impl ExporterConfig {
    /// Returns the effective settings for `signal`: its own where set, else the common ones.
    pub(crate) fn of(&self, signal: Signal) -> SignalExport<'_> {
        let (endpoint, own) = match signal {
            Signal::Traces => (&self.traces_endpoint, &self.traces),
            Signal::Logs => (&self.logs_endpoint, &self.logs),
            Signal::Metrics => (&self.metrics_endpoint, &self.metrics),
        };
        let (common, settings) = (&self.settings, &own.settings);
        let mut headers = common.headers.clone();
        headers.extend(settings.headers.clone());
        SignalExport {
            protocol: self.protocol,
            endpoint,
            encoding: own.encoding.unwrap_or(self.encoding),
            compression: settings.compression.unwrap_or(common.compression),
            timeout: settings.timeout.unwrap_or(common.timeout),
            headers,
            tls: settings.tls.clone().or(&common.tls),
            proxy: &self.proxy,
        }
    }

    /// Returns the TLS settings, the common ones and those of each signal, with the keys of their sections.
    pub(crate) fn tls_sections(&self) -> [(String, &TlsClientConfig); 4] {
        let section = self.protocol.section();
        [
            (section.to_owned(), &self.settings.tls),
            (format!("{section}.traces"), &self.traces.settings.tls),
            (format!("{section}.logs"), &self.logs.settings.tls),
            (format!("{section}.metrics"), &self.metrics.settings.tls),
        ]
    }

    fn of_mut(&mut self, signal: Signal) -> (&'static str, &mut Uri, &mut SignalConfig) {
        match signal {
            Signal::Traces => ("traces_endpoint", &mut self.traces_endpoint, &mut self.traces),
            Signal::Logs => ("logs_endpoint", &mut self.logs_endpoint, &mut self.logs),
            Signal::Metrics => ("metrics_endpoint", &mut self.metrics_endpoint, &mut self.metrics),
        }
    }
}

// === impl Protocol ===

impl Protocol {
    /// Returns the name of the exporter.
    pub(crate) fn name(self) -> &'static str {
        self.section().trim_start_matches("exporters.")
    }

    /// Returns the key of the section that configures the exporter.
    pub(crate) fn section(self) -> &'static str {
        match self {
            Self::Http => "exporters.otlp_http",
            Self::Grpc => "exporters.otlp_grpc",
        }
    }
}

// === impl Kind ===

derived!(Protocol);

impl Kind for HttpExporter {
    type Value = ExporterConfig;

    const IS_SECTION: bool = true;

    fn read(field: &Field<'_>) -> Option<ExporterConfig> {
        <ExporterConfig as Kind>::read(field)
    }

    fn read_key(section: &mut Section<'_>, name: &'static str, target: &mut ExporterConfig) {
        <ExporterConfig as Kind>::read_key(section, name, target);
    }

    fn to_tree(value: &ExporterConfig) -> Tree {
        match value.protocol {
            Protocol::Http => <ExporterConfig as Kind>::to_tree(value),
            Protocol::Grpc => Tree::Absent,
        }
    }

    fn shape() -> Shape {
        <ExporterConfig as Kind>::shape()
    }

    fn reload(old: &mut ExporterConfig, new: &ExporterConfig) {
        <ExporterConfig as Kind>::reload(old, new);
    }
}

// === impl TlsClientConfig ===

impl TlsClientConfig {
    /// Returns the files that are set, with their keys.
    pub(crate) fn files(&self) -> impl Iterator<Item = (&'static str, &Path)> {
        let Self { ca_file, cert_file, key_file } = self;
        let files = [("ca_file", ca_file), ("cert_file", cert_file), ("key_file", key_file)];
        files.into_iter().filter_map(|(name, path)| Some((name, path.as_deref()?)))
    }

    /// Returns these settings, with each missing file taken from `other`.
    pub(super) fn or(self, other: &Self) -> Self {
        Self {
            ca_file: self.ca_file.or_else(|| other.ca_file.clone()),
            cert_file: self.cert_file.or_else(|| other.cert_file.clone()),
            key_file: self.key_file.or_else(|| other.key_file.clone()),
        }
    }
}

fn permanent_status(field: &Field<'_>) -> Option<u16> {
    let code = field.error_status()?;
    if ALWAYS_RETRIED.contains(&code) {
        field.problem(format!("{code} cannot be permanent: OTLP defines 429, 502, 503 and 504 as retryable"));
        return None;
    }
    Some(code)
}

fn check_exporters(exporters: &mut ExportersConfig, section: &Section<'_>) {
    let Some(grpc) = &exporters.otlp_grpc else { return };
    if section.value("otlp_http").is_some() {
        section.problem_at("otlp_grpc", "replaces otlp_http; remove one of the two");
    }
    exporters.otlp_http = grpc.exporter();
}

fn check(exporter: &mut ExporterConfig, section: &Section<'_>) {
    resolve_endpoints(exporter, section);
    for code in exporter.permanent_status_codes.iter().filter(|code| OF_THE_DESTINATION.contains(code)) {
        section.note(format!(
            "permanent_status_codes has {code}, so a wrong endpoint or credential will reject data instead of \
             keeping it in the queue"
        ));
    }
    let of_signals = [&exporter.traces, &exporter.logs, &exporter.metrics].map(|own| &own.settings);
    check_tls(section, &exporter.settings, of_signals);
}

/// Checks that certificates and keys of clients are given together; `of_signals` are those of traces, logs and metrics.
pub(super) fn check_tls(
    section: &Section<'_>,
    common: &ExportSettings,
    of_signals: [&SignalSettings; Signal::ALL.len()],
) {
    check_pair(section, "tls", &common.tls);
    for (key, own) in ["traces", "logs", "metrics"].into_iter().zip(of_signals) {
        // A signal may combine the common certificate with its own key.
        if own.tls.cert_file.is_some() || own.tls.key_file.is_some() {
            check_pair(section, key, &own.tls.clone().or(&common.tls));
        }
    }
}

/// Sets the URL of each signal without one to the base with the signal's path, and moves credentials from URLs to headers.
fn resolve_endpoints(exporter: &mut ExporterConfig, section: &Section<'_>) {
    let base = match section.value("endpoint") {
        Some(field) => field.parsed_quietly(Endpoint::parse),
        None => Endpoint::parse(COLLECTOR).ok(),
    };
    let path = exporter.endpoint.path().trim_end_matches('/');
    if Signal::ALL.iter().any(|signal| path.ends_with(&format!("/v1/{signal}"))) {
        section.note("endpoint ends in a signal path, which is appended once more; use traces_endpoint, logs_endpoint or metrics_endpoint for complete URLs");
    }
    let common = exporter.settings.headers.clone();
    let mut unusable_base = None;
    for signal in Signal::ALL {
        let (key, endpoint, own) = exporter.of_mut(signal);
        let authorization = if let Some(field) = section.value(key) {
            authorization(&field)
        } else {
            match base.as_ref().map(|base| base.join(signal)) {
                Some(Ok(joined)) => {
                    *endpoint = joined.uri;
                    joined.authorization
                }
                Some(Err(what)) => {
                    unusable_base = Some(what);
                    continue;
                }
                None => continue,
            }
        };
        authorize(&mut own.settings.headers, authorization.as_deref(), &common);
        let subject = format_args!("{signal} are exported by OTLP/HTTP to");
        note_grpc_port(section, endpoint, subject, "configure otlp_grpc instead, or use port 4318");
    }
    if let Some(what) = unusable_base {
        section.problem_at("endpoint", what);
    }
}

/// Notes that an endpoint has the port of OTLP/gRPC. The note begins with `subject` and ends with `remedy`.
pub(super) fn note_grpc_port(section: &Section<'_>, endpoint: &Uri, subject: impl Display, remedy: &str) {
    if endpoint.port_u16() == Some(GRPC_PORT) {
        section.note(format!("{subject} port {GRPC_PORT}, the default of OTLP/gRPC; {remedy}"));
    }
}

/// Returns the `authorization` header for the user in a URL.
pub(super) fn authorization(field: &Field<'_>) -> Option<String> {
    field.parsed_quietly(Endpoint::parse)?.authorization
}

fn check_retry(retry: &mut RetryConfig, section: &Section<'_>) {
    if retry.max_interval < retry.initial_interval {
        section.problem_at("max_interval", "must be at least initial_interval");
    }
}

pub(super) fn check_pair(section: &Section<'_>, key: &str, tls: &TlsClientConfig) {
    if tls.cert_file.is_some() != tls.key_file.is_some() {
        section.problem_at(key, "cert_file and key_file belong together; give both or neither");
    }
}
