//! Configuration: one YAML file with the Collector's vocabulary, `${env:NAME}`, `${file:PATH}`, `--set`, and the
//! environment table.
//!
//! In: [`Sources`]. Out: a validated, complete [`Config`] and notes for the log; or a [`ConfigError`] with every problem.
//! Nothing else in the program reads its configuration from files or from the environment.
//!
//! Stages: `yaml` parses text into a tree with line numbers, `merge` joins the trees of several files, `interpolate` replaces
//! variables in them, `overrides` writes `--set` into them, and the sections that `declare`'s macro declares read it, key by key. Without a file the tree is
//! `config/local.yaml`, and `deployment` writes the environment table into it; that module documents which variable
//! wins. With a file, variables are ignored except where the file references them, so that a stray variable never
//! redirects a configured relay.
//!
//! Each key is declared once, in `sections`: reading, printing, reloading, the JSON Schema, the example and the reference
//! are derived from the declaration.
//!
//! A key without a value (`wait:`) counts as absent. A receiver without a value (`fastly:`) is enabled with defaults.

mod load;

mod merge;

mod reload;

mod yaml;

mod interpolate;

mod overrides;

mod deployment;

pub(crate) mod declare;

pub(crate) mod kind;

mod sections;

mod receivers;

pub(crate) mod section;

pub(crate) mod field;

pub(crate) mod tree;

mod generate;

mod endpoint;

pub(crate) mod own_address;

mod units;

mod problem;

mod proxy;

mod env;

pub(crate) mod secret;

pub(crate) mod terminal;

pub use env::Environment;
pub(crate) use generate::schema;
pub use load::{Loaded, Sources};
pub(crate) use own_address::is_loopback;
pub use problem::ConfigError;
pub(crate) use proxy::ProxySettings;
pub use receivers::ReceiverKind;
pub(crate) use receivers::{
    Instances, ReceiverCommon, ReceiverConfig, ReceiverSection, ReceiversConfig, Resubmit, SectionVariable,
    VariableForm,
};
pub(crate) use reload::Reloaded;
pub(crate) use secret::Secret;
pub use sections::Encoding;
pub(crate) use sections::*;
pub(crate) use units::format_duration;

use declare::{Keys as _, section};
use section::Section;

use crate::event::Signal;

section! {
    /// Validated configuration with all defaults filled in.
    pub struct Config => check {
        /// Addresses and limits of the front door.
        server: ServerConfig;
        /// Sources. A receiver that is not configured is disabled; its paths return 404. `fastly:` without a value is enabled
        /// with defaults. Further instances have names of letters, digits, `-` and `_`: `fastly/www` has the path
        /// `/fastly/www` unless `path` is set. Each receiver needs its own path; `/`, `/.well-known/…`, `/traceparent/…` and
        /// `/v1/…` are reserved.
        receivers: ReceiversConfig, required("");
        /// Processing between receivers and exporters.
        processors: ProcessorsConfig;
        /// Accepted data that is not delivered yet.
        queue: QueueConfig;
        /// Destinations.
        exporters: ExportersConfig;
        /// Health, metrics and inspector of the relay itself.
        telemetry: TelemetryConfig;
    }
}

// === impl Config ===

impl Config {
    /// Returns the configuration as YAML, without its secrets.
    pub fn to_yaml(&self) -> String {
        self.to_tree().to_yaml()
    }

    /// Returns for each signal whether requests in protobuf stay protobuf: where the downstream wants protobuf, and the queue is
    /// the relay's own. The messages of a shared queue are JSON, and so is what attributes are scrubbed in.
    pub(crate) fn keeps_protobuf(&self) -> [bool; Signal::ALL.len()] {
        let is_json = self.queue.storage == Storage::Kafka || !self.processors.attributes.is_empty();
        Signal::ALL
            .map(|signal| !is_json && self.exporters.otlp_http.of(signal).encoding == Encoding::Protobuf)
    }
}

/// Checks the constraints between sections.
fn check(config: &mut Config, section: &Section<'_>) {
    let Config { server, receivers, queue, telemetry, processors, .. } = config;
    for note in receivers.iter().filter_map(|receiver| receiver.note(server)) {
        section.note(note);
    }
    for receiver in receivers.iter() {
        if let Some((key, what)) = receiver.unsupported(queue) {
            section.problem_at(&format!("receivers.{}.{key}", receiver.id()), what);
        }
    }
    if queue.max_size < server.max_request_body_size {
        section.note(
            "queue: max_size is smaller than server.max_request_body_size: the largest bodies never fit and are always \
             rejected with 413",
        );
    }
    if queue.keep_unparsed && processors.attributes.withheld().next().is_some() {
        section.note(
            "queue: keep_unparsed is true: input that cannot be parsed is kept in the rejected lines with the values that \
             processors.attributes removes; set keep_unparsed: false to keep only its position, reason and length",
        );
    }
    let (own, public) = (telemetry.endpoint, server.endpoint);
    let same_host = own.ip() == public.ip() || own.ip().is_unspecified() || public.ip().is_unspecified();
    if own.port() == public.port() && own.port() != 0 && same_host {
        let what = "the same address as server.endpoint; health and metrics need their own";
        section.problem_at("telemetry.endpoint", what);
    }
    let target = telemetry.traces.as_ref().map(|traces| &traces.endpoint);
    for (key, own) in [("server.endpoint", public), ("telemetry.endpoint", own)] {
        // The ports may still be 0.
        if target.is_some_and(|target| own_address::is_named(target, own)) {
            let what = format!("is {key} of this relay; self-tracing cannot be exported to the relay itself");
            section.problem_at("telemetry.traces.endpoint", what);
        }
    }
}

#[cfg(test)]
mod tests;
