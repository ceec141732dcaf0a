//! Opening of the queue, and how much of it may be in memory.

use super::StartError;
use crate::config::{Config, Storage};
use crate::queue::Queue;
use crate::telemetry::Metrics;

/// Memory for bodies being exported, in addition to held spans, if the queue is on disk.
const IN_FLIGHT_BYTES: u64 = 64 * 1024 * 1024;

/// Opens the queue on a blocking thread, because it reads the whole file: about a second per gigabyte.
pub(super) async fn open(config: &Config, metrics: Metrics) -> Result<Queue, StartError> {
    let (queue, memory_bytes) = (config.queue.clone(), memory_bytes(config));
    let opened = tokio::task::spawn_blocking(move || Queue::open(&queue, memory_bytes, metrics)).await;
    match opened {
        Ok(opened) => Ok(opened?),
        Err(failure) => std::panic::resume_unwind(failure.into_panic()),
    }
}

/// Returns how much of the queue may be in memory: the other half of the bytes in flight is for requests, also while the
/// downstream is away.
pub(super) fn memory_bytes(config: &Config) -> u64 {
    let half = config.server.max_inflight_bytes / 2;
    match config.queue.storage {
        Storage::Memory => half,
        Storage::Disk | Storage::Kafka => {
            half.min(config.processors.span_events.max_held_bytes.saturating_add(IN_FLIGHT_BYTES))
        }
    }
}
