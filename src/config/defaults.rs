//! Default values.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::{
    BatchConfig, CircleCiConfig, FastlyConfig, InspectConfig, LogFormat, LogsConfig, QueueConfig,
    RetryConfig, ServerConfig, SpanEventsConfig, Storage, Sync, TelemetryConfig, Unmatched,
};

/// Default of `queue.storage`.
const DEFAULT_STORAGE: Storage = Storage::Disk;

/// Default of `exporters.otlp_http.endpoint`: a Collector on the same host.
pub(super) const ENDPOINT: &str = "http://localhost:4318";

/// Default of `exporters.otlp_http.timeout`.
pub(super) const EXPORT_TIMEOUT: Duration = Duration::from_secs(10);

/// Default of `exporters.otlp_http.max_in_flight`.
pub(super) const MAX_IN_FLIGHT: usize = 32;

/// Default of `exporters.otlp_http.permanent_status_codes`.
pub(super) const PERMANENT_STATUS_CODES: [u16; 3] = [400, 413, 422];

/// Default of `receivers.circleci.cancel_settle`: in a report, jobs ended less than 40 s after one another.
const CANCEL_SETTLE: Duration = Duration::from_secs(60);

/// Default of `telemetry.traces.sampling_ratio`.
pub(super) const SAMPLING_RATIO: f64 = 1.0;

/// Default of `telemetry.endpoint`: the Collector's health check port.
const TELEMETRY: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 13133);

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            endpoint: SocketAddr::from((Ipv4Addr::LOCALHOST, 3000)),
            // Fastly's maximum batch size.
            max_request_body_size: 100 * MIB,
            max_line_size: MIB,
            max_concurrent_requests: 1024,
            header_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(60),
            // CircleCI's timeout is 10 s.
            request_timeout: Duration::from_secs(9),
            tls: None,
        }
    }
}

impl FastlyConfig {
    /// Returns the defaults for a component id.
    pub(crate) fn new(id: &str) -> Self {
        Self {
            id: id.to_owned(),
            path: format!("/{id}"),
            service_ids: vec!["*".to_owned()],
            auth: None,
            repair: true,
            rate_limit: None,
        }
    }
}

impl CircleCiConfig {
    pub(super) fn new(id: &str) -> Self {
        Self {
            id: id.to_owned(),
            path: format!("/{id}"),
            secrets: Vec::new(),
            allow_unsigned: false,
            service_name: "circleci".to_owned(),
            cancel_settle: CANCEL_SETTLE,
            rate_limit: None,
        }
    }
}

impl Default for SpanEventsConfig {
    fn default() -> Self {
        Self {
            // Fastly posts every 5 s: a span and its log can be two batches apart.
            wait: Duration::from_secs(10),
            max_held_bytes: 64 * MIB,
            unmatched: Unmatched::ForwardLog,
            keep_logs: false,
        }
    }
}

impl Default for QueueConfig {
    fn default() -> Self {
        Self {
            storage: DEFAULT_STORAGE,
            directory: PathBuf::from("spanrelay-data"),
            max_size: GIB,
            sync: Sync::Always,
            rejected_max_size: GIB,
        }
    }
}

impl Default for BatchConfig {
    fn default() -> Self {
        Self { max_events: 512, max_bytes: 4 * MIB, timeout: Duration::from_millis(200) }
    }
}

impl Default for RetryConfig {
    fn default() -> Self {
        Self {
            initial_interval: Duration::from_secs(1),
            max_interval: Duration::from_secs(30),
            multiplier: 1.5,
            randomization_factor: 0.5,
            max_elapsed_time: Duration::ZERO,
        }
    }
}

impl Default for TelemetryConfig {
    fn default() -> Self {
        Self {
            endpoint: SocketAddr::from(TELEMETRY),
            logs: LogsConfig::default(),
            traces: None,
            inspect: InspectConfig::default(),
        }
    }
}

impl Default for LogsConfig {
    fn default() -> Self {
        Self { level: tracing::Level::INFO, format: LogFormat::Text }
    }
}
