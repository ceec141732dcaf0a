//! Processors: what happens between the queue and the exporter.
//!
//! A processor is pure and synchronous. It is told what arrived and what time it is, and answers with the export
//! requests that are to leave now; it neither waits nor sends.

mod settling;

mod span_events;

mod work;

pub(crate) use settling::Settling;
pub(crate) use span_events::SpanEvents;
pub(crate) use work::Work;
