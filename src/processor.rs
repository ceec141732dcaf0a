//! Processors, between the queue and the exporter.
//!
//! A processor is pure and synchronous: it gets the work that arrived and the current time, and returns the export
//! requests that are ready. It neither waits nor sends; the [`driver`] does. [`Attributes`] differ: the relay applies them
//! before anything is stored.

mod attributes;

mod driver;

#[cfg(feature = "kafka")]
mod lanes;

mod settling;

mod span_events;

mod work;

pub(crate) use attributes::{Attributes, Scrubbed};
pub(crate) use driver::run;
#[cfg(feature = "kafka")]
pub(crate) use lanes::{Lanes, run_lanes};
pub(crate) use settling::Settling;
pub(crate) use span_events::SpanEvents;
pub(crate) use work::Work;
