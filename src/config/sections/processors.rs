//! `processors`: scrubbing of attributes, and matching of log events with their spans.

use std::time::Duration;

use super::super::declare::{choice, section};
use super::super::kind::{Size, Time};
use super::attributes::AttributesConfig;

section! {
    /// `processors`
    pub(crate) struct ProcessorsConfig {
        /// Attaches log events to the spans that they name, as span events.
        span_events: SpanEventsConfig;
        /// Scrubs attributes before they are stored: a removed value is neither exported, nor in the queue, the rejected lines or
        /// the inspector.
        attributes: AttributesConfig, partly_live;
    }
}

section! {
    /// `processors.span_events`
    pub(crate) struct SpanEventsConfig {
        /// Maximum time to hold a span or a log event for its counterpart. Fastly posts every 5 s, so the two can be two batches
        /// apart. `0s` matches within one request and holds nothing.
        wait: Time = Duration::from_secs(10);
        /// Maximum size of held spans and log events; beyond it the oldest are exported without waiting.
        max_held_bytes: Size = 64 << 20;
        /// Treatment of a log event whose span did not arrive: `forward_log` (as a log), `carrier_span` (an event on a
        /// zero-length span) or `drop`.
        unmatched: Unmatched = Unmatched::ForwardLog;
        /// Also exports log events that became span events as logs.
        keep_logs: bool = false;
    }
}

choice! {
    /// `processors.span_events.unmatched`: treatment of a log event whose span did not arrive.
    pub(crate) enum Unmatched {
        ForwardLog = "forward_log",
        CarrierSpan = "carrier_span",
        Drop = "drop",
    }
}
