//! The relay's own telemetry: metrics, logs, traces and the inspector.

pub(crate) mod certificates;
pub(crate) mod flow;
pub(crate) mod inspect;
pub(crate) mod line_limit;
pub(crate) mod logging;
pub(crate) mod metrics;
pub(crate) mod traces;

pub(crate) use flow::Flow;
pub(crate) use inspect::Inspector;
pub(crate) use line_limit::LineLimit;
pub(crate) use metrics::Metrics;
