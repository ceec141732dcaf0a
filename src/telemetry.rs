//! The relay's own telemetry: metrics, logs, and the endpoint that serves health and metrics.

pub(crate) mod metrics;

pub(crate) use metrics::Metrics;
