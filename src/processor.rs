//! Processors: what happens between the queue and the exporter.

mod span_events;
