//! Metrics of `queue.storage: kafka`. They stay zero with another queue.

use prometheus::{IntCounter, IntGauge, Registry};

use super::register;

/// Counts of the queue that several relays share.
#[derive(Clone)]
#[cfg_attr(not(feature = "kafka"), expect(dead_code, reason = "a build without the queue shows zeroes"))]
pub(crate) struct KafkaMetrics {
    pub(crate) lag: IntGauge,
    pub(crate) assigned: IntGauge,
    pub(crate) rebalances: IntCounter,
    /// Records that an earlier owner of their partition had read.
    pub(crate) redelivered: IntCounter,
    /// Records that were deleted before they were read.
    pub(crate) lost: IntCounter,
    /// Bodies of which a part was written.
    pub(crate) partial_bodies: IntCounter,
}

// === impl KafkaMetrics ===

impl KafkaMetrics {
    pub(super) fn new(registry: &Registry) -> Self {
        let gauge = |name, help| register(registry, IntGauge::new(name, help));
        let counter = |name, help| register(registry, IntCounter::new(name, help));
        Self {
            lag: gauge(
                "spanrelay_kafka_lag_records",
                "Records of the assigned partitions that are not resolved, read or not.",
            ),
            assigned: gauge("spanrelay_kafka_assigned_partitions", "Partitions assigned to this worker."),
            rebalances: counter("spanrelay_kafka_rebalances_total", "Changes of this worker's assignment."),
            redelivered: counter(
                "spanrelay_kafka_redelivered_records_total",
                "Records read again because an earlier owner of their partition had not resolved them.",
            ),
            lost: counter(
                "spanrelay_kafka_lost_records_total",
                "Records that the topic's retention deleted before they were read.",
            ),
            partial_bodies: counter(
                "spanrelay_kafka_partial_bodies_total",
                "Requests rejected with 503 of which some records were written, and may be delivered twice.",
            ),
        }
    }
}
