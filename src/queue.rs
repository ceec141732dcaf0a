//! The queue: what was accepted and is not yet settled.
//!
//! In: one [`Record`] per accepted request, offered before the sender gets its 2xx: the decoded body, as the sender
//! sent it, and how it was read, so that receivers can read it again. Out: [`Receipt`]s for ranges of its items. When all
//! items of a record are resolved the record is acknowledged and its space is free again.
//!
//! # Promises
//!
//! - What was offered and taken stays until it is settled, however long that takes. Nothing is dropped for age.
//! - When there is no room, or the disk does not take it, the sender is told so before its data is taken.
//! - `storage: disk` with `sync: always`: what was taken survives `kill -9` and power loss. It is delivered at least
//!   once. [`Progress`] within a record is stored, too: what can be delivered twice is what the downstream had accepted
//!   in the last tenth of a second before the process died. A relay that drains delivers nothing twice.
//! - `sync: interval`: what was taken in the last half second can be lost when the process or the machine dies.
//! - `sync: never`: what was taken survives the death of the process; when the machine dies, parts of it may be lost.
//! - `storage: memory`: nothing survives the process.
//! - Damage costs the records that it touches and no others. They are set aside under a clear name, logged and counted.

mod disk;

mod memory;

mod progress;

mod receipt;

mod drain_rate;

use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;

use crate::config::{QueueConfig, Storage};
use crate::event::{QueueState, RecordId};
use crate::telemetry::Metrics;

pub(crate) use disk::{DiskQueue, OpenError};
#[cfg(any(test, feature = "internals"))]
pub(crate) use disk::{decode_frame, encode_frame};
pub(crate) use memory::MemoryQueue;
pub(crate) use progress::{Half, Progress, Runs, Tracker};
pub(crate) use receipt::{Ledger, Part, Receipt, Taken};

/// What the sender said, to whom, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    /// The id of the receiver that took it.
    pub(crate) receiver: Arc<str>,
    pub(crate) received: SystemTime,
    /// How the body was read; the queue stores it as it is.
    pub(crate) reading: Bytes,
    /// The decoded body.
    pub(crate) body: Bytes,
}

/// A record that was read from disk.
pub(crate) struct Stored {
    pub(crate) record: Record,
    /// The items of it that were resolved before.
    pub(crate) progress: Progress,
    pub(crate) taken: Taken,
    pub(crate) origin: Origin,
}

/// The process that wrote a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    EarlierProcess,
    ThisProcess,
}

/// A queue of either kind.
pub(crate) enum Queue {
    Memory(MemoryQueue),
    Disk(DiskQueue),
}

/// A record that the queue has.
pub(crate) enum Offered {
    /// Go on with it in memory.
    Live(Taken),
    /// There is no room for more in memory: it will be read from disk in its turn.
    Stored,
}

/// Why the queue does not take a record.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OfferError {
    #[error("the queue is full: {kept_bytes} of {capacity_bytes} bytes are in use")]
    Full { kept_bytes: u64, capacity_bytes: u64 },
    #[error("a request of {record_bytes} bytes can never fit into a queue of {capacity_bytes} bytes")]
    NeverFits { record_bytes: u64, capacity_bytes: u64 },
    #[error("the queue cannot write: {reason}")]
    Unwritable { reason: Arc<str> },
}

// === impl OfferError ===

impl OfferError {
    /// One word for it.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Full { .. } => "full",
            Self::NeverFits { .. } => "too_large",
            Self::Unwritable { .. } => "unwritable",
        }
    }
}

// === impl Offered ===

impl Offered {
    /// The queue's number for the record, where it is known already.
    pub(crate) fn record(&self) -> Option<RecordId> {
        match self {
            Self::Live(taken) => Some(taken.id()),
            Self::Stored => None,
        }
    }
}

// === impl Queue ===

impl Queue {
    /// Opens the queue that the configuration describes. `memory_bytes` is how much of the records may be in memory at
    /// a time when they are on disk.
    pub(crate) fn open(config: &QueueConfig, memory_bytes: u64, metrics: Metrics) -> Result<Self, OpenError> {
        match config.storage {
            Storage::Memory => Ok(Self::Memory(MemoryQueue::new(config.max_size, metrics))),
            Storage::Disk => DiskQueue::open(config, memory_bytes, metrics).map(Self::Disk),
        }
    }

    /// Takes the record, if there is room for it. Once this returns, the record is as safe as the queue promises.
    pub(crate) async fn offer(&self, record: Record) -> Result<Offered, OfferError> {
        match self {
            Self::Memory(queue) => queue.offer(&record).map(Offered::Live),
            Self::Disk(queue) => queue.offer(record).await,
        }
    }

    pub(crate) fn state(&self) -> QueueState {
        match self {
            Self::Memory(queue) => queue.state(),
            Self::Disk(queue) => queue.state(),
        }
    }

    /// In how many seconds a sender should come again, from how fast the queue drains.
    pub(crate) fn retry_after_seconds(&self) -> u64 {
        match self {
            Self::Memory(queue) => queue.retry_after_seconds(),
            Self::Disk(queue) => queue.retry_after_seconds(),
        }
    }

    /// The next record that is on disk only, oldest first, once there is room for it in memory. Waits until there is
    /// one; for ever with a queue that keeps nothing.
    pub(crate) async fn next_stored(&self) -> Stored {
        match self {
            Self::Memory(_) => std::future::pending().await,
            Self::Disk(queue) => queue.next_stored().await,
        }
    }

    /// Notes what is settled and lets go of the files.
    pub(crate) async fn close(&self) {
        if let Self::Disk(queue) = self {
            queue.close().await;
        }
    }
}
