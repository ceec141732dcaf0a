//! Configuration: one YAML file with the Collector's vocabulary, `${env:NAME}`, `--set`, and the environment table.
//!
//! In: [`Sources`]. Out: a validated, complete [`Config`] and notes for the log; or a [`ConfigError`] with every problem.
//! Nothing else in the program reads its configuration from files or from the environment.
//!
//! Stages: `yaml` parses text into a tree with line numbers, `interpolate` replaces variables in it, `overrides` writes
//! `--set` into it, and `sections` reads it, key by key, into the types below. Without a file the tree is
//! `config/local.yaml`, and `deployment` writes the environment table into it; that module documents which variable
//! wins. With a file, variables are ignored except where the file references them, so that a stray variable never
//! redirects a configured relay.
//!
//! A key without a value (`wait:`) counts as absent. A receiver without a value (`fastly:`) is enabled with defaults.

mod load;

pub(crate) mod reload;

mod yaml;

mod interpolate;

mod overrides;

mod deployment;

mod sections;

mod section;

mod field;

mod defaults;

mod names;

mod endpoint;

pub(crate) mod own_address;

mod units;

mod print;

mod problem;

mod env;

pub(crate) mod secret;

pub(crate) mod terminal;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use http::{HeaderMap, HeaderName, Uri};

pub use env::Environment;
pub use load::{Loaded, Sources};
pub use problem::ConfigError;
pub(crate) use secret::Secret;
pub(crate) use units::format_duration;

use crate::otlp::Signal;

/// Validated configuration with all defaults filled in.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    pub(crate) server: ServerConfig,
    pub(crate) receivers: ReceiversConfig,
    pub(crate) span_events: SpanEventsConfig,
    pub(crate) queue: QueueConfig,
    pub(crate) exporter: ExporterConfig,
    pub(crate) telemetry: TelemetryConfig,
}

/// `server`
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ServerConfig {
    pub(crate) endpoint: SocketAddr,
    /// Maximum size of a body in bytes, checked as sent and again after decompression.
    pub(crate) max_request_body_size: u64,
    /// Maximum size of one line in bytes.
    pub(crate) max_line_size: u64,
    pub(crate) max_concurrent_requests: usize,
    pub(crate) header_timeout: Duration,
    pub(crate) body_timeout: Duration,
    /// Timeout from the last byte of the body to the response.
    pub(crate) request_timeout: Duration,
    /// TLS settings; `None` for plain HTTP/1.1 and h2c.
    pub(crate) tls: Option<TlsServerConfig>,
}

/// `server.tls`
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TlsServerConfig {
    /// Certificate chain of the relay.
    pub(crate) cert_file: PathBuf,
    pub(crate) key_file: PathBuf,
    /// Authorities for client certificates; if set, clients must present one.
    pub(crate) client_ca_file: Option<PathBuf>,
}

/// `receivers`, in the order of the file.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct ReceiversConfig {
    pub(crate) fastly: Vec<FastlyConfig>,
    pub(crate) circleci: Vec<CircleCiConfig>,
    pub(crate) otlp: Option<OtlpConfig>,
}

/// `receivers.fastly` and `receivers.fastly/NAME`
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct FastlyConfig {
    /// Component id: `fastly` or `fastly/NAME`.
    pub(crate) id: String,
    pub(crate) path: String,
    /// Service ids, or `*`.
    pub(crate) service_ids: Vec<String>,
    pub(crate) auth: Option<AuthConfig>,
    pub(crate) repair: bool,
    pub(crate) rate_limit: Option<RateLimitConfig>,
}

/// `auth` of a receiver: a header and its allowed values.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct AuthConfig {
    pub(crate) header: HeaderName,
    pub(crate) values: Vec<Secret>,
}

/// `rate_limit` of a receiver
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct RateLimitConfig {
    pub(crate) requests_per_second: f64,
    /// Maximum number of requests in a burst; at least 1.
    pub(crate) burst: usize,
}

/// `receivers.circleci` and `receivers.circleci/NAME`
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct CircleCiConfig {
    /// Component id: `circleci` or `circleci/NAME`.
    pub(crate) id: String,
    pub(crate) path: String,
    /// Signing secrets; any of them is accepted.
    pub(crate) secrets: Vec<Secret>,
    pub(crate) allow_unsigned: bool,
    pub(crate) service_name: String,
    /// Time to hold the event of a cancelled workflow for a later one. Zero exports each event.
    pub(crate) cancel_settle: Duration,
    pub(crate) rate_limit: Option<RateLimitConfig>,
}

/// `receivers.otlp`. It has no named instances, because OTLP/HTTP defines its paths.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct OtlpConfig {
    pub(crate) auth: Option<AuthConfig>,
    /// Rate limit of all signals together.
    pub(crate) rate_limit: Option<RateLimitConfig>,
}

/// `processors.span_events`
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SpanEventsConfig {
    /// Maximum time to hold a span. Zero matches within one request only and holds nothing.
    pub(crate) wait: Duration,
    pub(crate) max_held_bytes: u64,
    pub(crate) unmatched: Unmatched,
    pub(crate) keep_logs: bool,
}

/// `processors.span_events.unmatched`: treatment of a log event whose span did not arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unmatched {
    ForwardLog,
    CarrierSpan,
    Drop,
}

/// `queue`
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct QueueConfig {
    pub(crate) storage: Storage,
    pub(crate) directory: PathBuf,
    /// Capacity of the queue in bytes.
    pub(crate) max_size: u64,
    pub(crate) sync: Sync,
    /// Maximum size of the rejected-lines file in bytes.
    pub(crate) rejected_max_size: u64,
}

/// `queue.storage`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Storage {
    Disk,
    Memory,
}

/// `queue.sync`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sync {
    Always,
    Interval,
    Never,
}

/// `exporters.otlp_http`
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ExporterConfig {
    /// Complete URL for traces. In this and the next two, base endpoint and path are already joined.
    pub(crate) traces_endpoint: Uri,
    pub(crate) logs_endpoint: Uri,
    pub(crate) metrics_endpoint: Uri,
    pub(crate) encoding: Encoding,
    pub(crate) delivery: Delivery,
    pub(crate) batch: BatchConfig,
    pub(crate) compression: Compression,
    /// Headers of every request; values are marked sensitive.
    pub(crate) headers: HeaderMap,
    /// Headers of one signal (`OTEL_EXPORTER_OTLP_TRACES_HEADERS` and the like); they take precedence over `headers`.
    pub(crate) signal_headers: SignalHeaders,
    /// Other settings per signal; [`ExporterConfig::of`] applies them.
    pub(crate) signals: SignalOverrides,
    /// Timeout of one attempt.
    pub(crate) timeout: Duration,
    pub(crate) max_in_flight: usize,
    pub(crate) retry_on_failure: RetryConfig,
    /// Statuses that condemn the data; any other 4xx or 5xx keeps it in the queue.
    pub(crate) permanent_status_codes: Vec<u16>,
    pub(crate) tls: TlsClientConfig,
}

/// Headers per signal.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct SignalHeaders {
    pub(crate) traces: HeaderMap,
    pub(crate) logs: HeaderMap,
    pub(crate) metrics: HeaderMap,
}

/// `exporters.otlp_http.traces`, `.logs` and `.metrics`
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct SignalOverrides {
    pub(crate) traces: SignalOverride,
    pub(crate) logs: SignalOverride,
    pub(crate) metrics: SignalOverride,
}

/// Settings of one signal; `None` falls back to the common setting.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct SignalOverride {
    pub(crate) encoding: Option<Encoding>,
    pub(crate) compression: Option<Compression>,
    pub(crate) timeout: Option<Duration>,
    /// TLS files, each of which falls back to the common one.
    pub(crate) tls: TlsClientConfig,
}

/// Effective export settings of one signal.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SignalExport<'a> {
    pub(crate) endpoint: &'a Uri,
    pub(crate) encoding: Encoding,
    pub(crate) compression: Compression,
    /// Timeout of one attempt.
    pub(crate) timeout: Duration,
    pub(crate) headers: HeaderMap,
    pub(crate) tls: TlsClientConfig,
}

/// OTLP encoding: `exporters.otlp_http.encoding`, and the encodings that the OTLP receiver accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    Json,
    Protobuf,
}

/// `exporters.otlp_http.delivery`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Delivery {
    Single,
    Batch,
}

/// `exporters.otlp_http.batch`
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct BatchConfig {
    pub(crate) max_events: usize,
    /// Maximum size of a batch in bytes, before compression.
    pub(crate) max_bytes: u64,
    pub(crate) timeout: Duration,
}

/// `exporters.otlp_http.compression`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compression {
    None,
    Gzip,
    Zstd,
}

/// `exporters.otlp_http.retry_on_failure`
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct RetryConfig {
    pub(crate) initial_interval: Duration,
    pub(crate) max_interval: Duration,
    pub(crate) multiplier: f64,
    /// Fraction of the interval by which it varies at random, 0 to 1.
    pub(crate) randomization_factor: f64,
    /// Maximum time to retry. Zero never gives up.
    pub(crate) max_elapsed_time: Duration,
}

/// `exporters.otlp_http.tls`
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct TlsClientConfig {
    /// Trusted authorities, instead of the system's.
    pub(crate) ca_file: Option<PathBuf>,
    pub(crate) cert_file: Option<PathBuf>,
    pub(crate) key_file: Option<PathBuf>,
}

/// `telemetry`
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TelemetryConfig {
    pub(crate) endpoint: SocketAddr,
    pub(crate) logs: LogsConfig,
    /// Self-tracing settings; `None` disables self-tracing.
    pub(crate) traces: Option<TracesConfig>,
    pub(crate) inspect: InspectConfig,
}

/// `telemetry.traces`: self-tracing, as opposed to the relayed traces.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TracesConfig {
    /// Complete URL.
    pub(crate) endpoint: Uri,
    /// Headers of every request; values are marked sensitive.
    pub(crate) headers: HeaderMap,
    /// Fraction of the requests that are traced, 0 to 1.
    pub(crate) sampling_ratio: f64,
    /// Timeout of one request.
    pub(crate) timeout: Duration,
    pub(crate) tls: TlsClientConfig,
}

/// `telemetry.inspect`
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct InspectConfig {
    /// Shows attribute values and the text of lines in the inspector.
    pub(crate) show_values: bool,
}

/// `telemetry.logs`
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct LogsConfig {
    pub(crate) level: tracing::Level,
    pub(crate) format: LogFormat,
}

/// `telemetry.logs.format`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

// === impl OtlpConfig ===

impl OtlpConfig {
    /// Component id.
    pub(crate) const ID: &'static str = "otlp";
}

// === impl ExporterConfig ===

impl ExporterConfig {
    /// Returns the effective settings for `signal`: its own where set, else the common ones.
    pub(crate) fn of(&self, signal: Signal) -> SignalExport<'_> {
        let (endpoint, own_headers, own) = match signal {
            Signal::Traces => (&self.traces_endpoint, &self.signal_headers.traces, &self.signals.traces),
            Signal::Logs => (&self.logs_endpoint, &self.signal_headers.logs, &self.signals.logs),
            Signal::Metrics => (&self.metrics_endpoint, &self.signal_headers.metrics, &self.signals.metrics),
        };
        let mut headers = self.headers.clone();
        headers.extend(own_headers.clone());
        SignalExport {
            endpoint,
            encoding: own.encoding.unwrap_or(self.encoding),
            compression: own.compression.unwrap_or(self.compression),
            timeout: own.timeout.unwrap_or(self.timeout),
            headers,
            tls: own.tls.clone().or(&self.tls),
        }
    }
}

// === impl TlsClientConfig ===

impl TlsClientConfig {
    /// Returns these settings, with each missing file taken from `other`.
    fn or(self, other: &Self) -> Self {
        Self {
            ca_file: self.ca_file.or_else(|| other.ca_file.clone()),
            cert_file: self.cert_file.or_else(|| other.cert_file.clone()),
            key_file: self.key_file.or_else(|| other.key_file.clone()),
        }
    }
}

#[cfg(test)]
mod tests;
