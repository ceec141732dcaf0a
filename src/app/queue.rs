//! Opening of the queue, and how much of it may be in memory.

use super::StartError;
use crate::config::{Config, Storage};
use crate::queue::{MemoryLimits, Queue};
use crate::telemetry::Metrics;

/// Opens the queue on a blocking thread, because it reads the whole file: about a second per gigabyte.
pub(super) async fn open(config: &Config, metrics: Metrics) -> Result<Queue, StartError> {
    let (queue, memory) = (config.queue.clone(), memory_limits(config));
    let opened = tokio::task::spawn_blocking(move || Queue::open(&queue, memory, metrics)).await;
    match opened {
        Ok(opened) => Ok(opened?),
        Err(failure) => std::panic::resume_unwind(failure.into_panic()),
    }
}

/// Returns how much of the queue may be in memory: the other half of the bytes in flight is for requests, also while the
/// downstream is away.
pub(super) fn memory_limits(config: &Config) -> MemoryLimits {
    let all_bytes = config.server.max_inflight_bytes / 2;
    let exporting_bytes = match config.queue.storage {
        Storage::Memory => all_bytes,
        Storage::Disk | Storage::Kafka => config.queue.max_memory_bytes.min(all_bytes),
    };
    MemoryLimits { all_bytes, exporting_bytes }
}
