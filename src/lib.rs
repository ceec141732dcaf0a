//! spanrelay stands in front of an OpenTelemetry Collector and takes what a Collector cannot take: Fastly
//! log batches and CircleCI webhooks.

// The modules stand in the order in which the data passes them.
pub mod config;

mod app;
pub mod cli;

mod server;

mod receiver;

mod relay;

mod queue;

mod rejected;

mod pipeline;

mod processor;

mod otlp;

mod exporter;

mod telemetry;

pub use app::{App, StartError};
