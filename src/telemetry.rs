//! The relay's own telemetry: metrics, logs, and the endpoint that serves health and metrics.

pub(crate) mod admin;
pub(crate) mod logging;
pub(crate) mod metrics;

pub(crate) use admin::Admin;
pub(crate) use metrics::Metrics;
