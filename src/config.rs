//! Configuration: one YAML file in the Collector's words, `${env:NAME}`, `--set`, and the environment table.
//!
//! In: [`Sources`]. Out: a [`Config`] that is checked and complete, and notes for the log; or a [`ConfigError`] with every
//! problem. Nothing else in the program reads its configuration from files or from the environment.
//!
//! The way of a value: `yaml` reads text into a tree that knows its lines, `interpolate` replaces variables in it,
//! `overrides` writes `--set` into it, and `sections` reads it, key by key, into the types below. Without a file the tree
//! is `config/local.yaml`, and `deployment` writes the environment table into it; that module says which variable wins.
//! With a file only the file speaks, so that a stray variable never redirects a configured relay.
//!
//! A key without a value (`wait:`) is a key that is not there. A receiver without a value (`fastly:`) is on, with defaults.

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

/// Everything that an operator can decide, checked and complete.
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
    /// In bytes; of the body as sent, and again of the body after decompression.
    pub(crate) max_request_body_size: u64,
    /// In bytes, of one line.
    pub(crate) max_line_size: u64,
    pub(crate) max_concurrent_requests: usize,
    pub(crate) header_timeout: Duration,
    pub(crate) body_timeout: Duration,
    /// From the last byte of the body to the answer.
    pub(crate) request_timeout: Duration,
    /// Absent: plain HTTP/1.1 and h2c.
    pub(crate) tls: Option<TlsServerConfig>,
}

/// `server.tls`
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TlsServerConfig {
    /// The relay's certificate and those that lead to its authority.
    pub(crate) cert_file: PathBuf,
    pub(crate) key_file: PathBuf,
    /// Set: senders must show a certificate of one of these authorities.
    pub(crate) client_ca_file: Option<PathBuf>,
}

/// `receivers`: the configured ones, in the order of the file.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct ReceiversConfig {
    pub(crate) fastly: Vec<FastlyConfig>,
    pub(crate) circleci: Vec<CircleCiConfig>,
    pub(crate) otlp: Option<OtlpConfig>,
}

/// `receivers.fastly` and `receivers.fastly/NAME`
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct FastlyConfig {
    /// `fastly` or `fastly/NAME`.
    pub(crate) id: String,
    pub(crate) path: String,
    /// Service ids, or `*`.
    pub(crate) service_ids: Vec<String>,
    pub(crate) auth: Option<AuthConfig>,
    pub(crate) repair: bool,
    pub(crate) rate_limit: Option<RateLimitConfig>,
}

/// `auth`: a header that must have one of these values.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct AuthConfig {
    pub(crate) header: HeaderName,
    pub(crate) values: Vec<Secret>,
}

/// `rate_limit` of a receiver
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct RateLimitConfig {
    pub(crate) requests_per_second: f64,
    /// Requests that may come at once after a quiet time; at least 1.
    pub(crate) burst: usize,
}

/// `receivers.circleci` and `receivers.circleci/NAME`
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct CircleCiConfig {
    /// `circleci` or `circleci/NAME`.
    pub(crate) id: String,
    pub(crate) path: String,
    /// Any of these may have signed.
    pub(crate) secrets: Vec<Secret>,
    pub(crate) allow_unsigned: bool,
    pub(crate) service_name: String,
    /// How long the event of a cancelled workflow is held for a later one. Zero: not at all.
    pub(crate) cancel_settle: Duration,
    pub(crate) rate_limit: Option<RateLimitConfig>,
}

/// `receivers.otlp`. There is one: its paths are those of OTLP/HTTP.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct OtlpConfig {
    pub(crate) auth: Option<AuthConfig>,
    /// Of all signals together.
    pub(crate) rate_limit: Option<RateLimitConfig>,
}

/// `processors.span_events`
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SpanEventsConfig {
    /// Zero: match within one request and hold nothing.
    pub(crate) wait: Duration,
    pub(crate) max_held_bytes: u64,
    pub(crate) unmatched: Unmatched,
    pub(crate) keep_logs: bool,
}

/// `processors.span_events.unmatched`: where a log event goes whose span did not come.
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
    /// In bytes.
    pub(crate) max_size: u64,
    pub(crate) sync: Sync,
    /// In bytes, of the rejected-lines file.
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
    /// Complete addresses: the base endpoint and the signal's path are already joined.
    pub(crate) traces_endpoint: Uri,
    pub(crate) logs_endpoint: Uri,
    pub(crate) metrics_endpoint: Uri,
    pub(crate) encoding: Encoding,
    pub(crate) delivery: Delivery,
    pub(crate) batch: BatchConfig,
    pub(crate) compression: Compression,
    /// Values are marked sensitive.
    pub(crate) headers: HeaderMap,
    /// Headers of one signal only (`OTEL_EXPORTER_OTLP_TRACES_HEADERS` and its kin); they win over `headers`.
    pub(crate) signal_headers: SignalHeaders,
    /// What else differs for one signal; [`ExporterConfig::of`] has it applied.
    pub(crate) signals: SignalOverrides,
    /// Of one attempt.
    pub(crate) timeout: Duration,
    pub(crate) max_in_flight: usize,
    /// Requests on one connection that wait for an answer; more than one is HTTP/1.1 pipelining.
    pub(crate) max_pipelined: usize,
    pub(crate) retry_on_failure: RetryConfig,
    /// Statuses that condemn the data; any other 4xx or 5xx keeps it in the queue.
    pub(crate) permanent_status_codes: Vec<u16>,
    pub(crate) tls: TlsClientConfig,
}

/// Headers that only requests of one signal carry.
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

/// What differs for one signal; `None` is as for the others.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct SignalOverride {
    pub(crate) encoding: Option<Encoding>,
    pub(crate) compression: Option<Compression>,
    pub(crate) timeout: Option<Duration>,
    /// File by file: one that is `None` is as for the others.
    pub(crate) tls: TlsClientConfig,
}

/// The settings that requests of one signal are sent with.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SignalExport<'a> {
    pub(crate) endpoint: &'a Uri,
    pub(crate) encoding: Encoding,
    pub(crate) compression: Compression,
    /// Of one attempt.
    pub(crate) timeout: Duration,
    pub(crate) headers: HeaderMap,
    pub(crate) tls: TlsClientConfig,
}

/// How OTLP is written: `exporters.otlp_http.encoding`, and what senders may choose from.
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
    /// In bytes, before compression.
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
    /// Part of the interval by which it is varied at random, 0 to 1.
    pub(crate) randomization_factor: f64,
    /// Zero: never give up.
    pub(crate) max_elapsed_time: Duration,
}

/// `exporters.otlp_http.tls`
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct TlsClientConfig {
    /// Instead of the system's roots.
    pub(crate) ca_file: Option<PathBuf>,
    pub(crate) cert_file: Option<PathBuf>,
    pub(crate) key_file: Option<PathBuf>,
}

/// `telemetry`
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TelemetryConfig {
    pub(crate) endpoint: SocketAddr,
    pub(crate) logs: LogsConfig,
    /// Absent: the relay makes no traces of its own.
    pub(crate) traces: Option<TracesConfig>,
    pub(crate) inspect: InspectConfig,
}

/// `telemetry.traces`: the relay's own, not those that it relays.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TracesConfig {
    /// A complete address.
    pub(crate) endpoint: Uri,
    /// Values are marked sensitive.
    pub(crate) headers: HeaderMap,
    /// Part of the requests that become a trace, 0 to 1.
    pub(crate) sampling_ratio: f64,
    /// Of one request.
    pub(crate) timeout: Duration,
    pub(crate) tls: TlsClientConfig,
}

/// `telemetry.inspect`
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct InspectConfig {
    /// Whether the inspector shows the values of attributes and the text of lines.
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
    /// Its id.
    pub(crate) const ID: &'static str = "otlp";
}

// === impl ExporterConfig ===

impl ExporterConfig {
    /// What holds for `signal`: its own settings where it has any, else the common ones.
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
    /// File by file, this one or else `other`'s.
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
