//! Settings that the inspector shows.

use super::announce::host_of;
use crate::config::Config;
use crate::event::Signal;
use crate::relay::Instance;
use crate::telemetry::inspect::{Setting, view};

/// Returns the part of the configuration that the inspector shows.
pub(super) fn setting(config: &Config, receivers: &[Instance]) -> Setting {
    let (span_events, exporter) = (&config.processors.span_events, &config.exporters.otlp_http);
    // The receivers of one section have one id.
    let sections = receivers.chunk_by(|one, other| one.receiver.id() == other.receiver.id());
    let receivers = sections.map(|section| view::ReceiverSetting {
        id: section[0].receiver.id().to_owned(),
        path: section.iter().map(|one| one.receiver.path()).collect::<Vec<_>>().join(" "),
    });
    let downstream = Signal::ALL.map(|signal| {
        let endpoint = exporter.of(signal).endpoint;
        view::Downstream { signal: signal.as_str(), endpoint: host_of(endpoint) }
    });
    let values = match config.telemetry.inspect.show_values {
        true => view::Values::Shown,
        false => view::Values::Hidden,
    };
    Setting { values, wait: span_events.wait, receivers: receivers.collect(), downstream: downstream.into() }
}
