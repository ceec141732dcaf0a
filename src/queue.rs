//! The queue: records that were accepted and are not yet settled.
//!
//! In: one [`Record`] per accepted request, offered before the sender gets its 2xx. It holds the decoded body, as the
//! sender sent it, and how the body was read, so that receivers can read it again. Out: [`Receipt`]s for ranges of its
//! items. When all items of a record are resolved, the record is acknowledged and its space is freed.
//!
//! # Promises
//!
//! - An accepted record stays in the queue until it is settled, however long that takes. Nothing is dropped for age.
//! - When the queue is full or the disk fails, the request is rejected before any of its data is accepted.
//! - `storage: disk` with `sync: always`: accepted records survive `kill -9` and power loss. They are delivered at
//!   least once. [`Progress`] within a record is stored, too: only what the downstream accepted in the last tenth of a
//!   second before the process died can be delivered twice. A relay that drains delivers nothing twice.
//! - `sync: interval`: records accepted in the last half second can be lost when the process or the machine dies.
//! - `sync: never`: accepted records survive the death of the process; when the machine dies, some of them may be lost.
//! - `storage: memory`: nothing survives the process.
//! - Damage costs only the records that it touches. They are set aside in files named `*.damaged-*`, logged and
//!   counted.

mod disk;

#[cfg(feature = "kafka")]
mod kafka;

mod memory;

mod progress;

mod ranges;

mod receipt;

mod drain_rate;

use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;

use crate::config::{QueueConfig, Storage};
use crate::event::{KeptHeaders, QueueState, RecordId};
use crate::telemetry::Metrics;

pub(crate) use disk::{DiskQueue, OpenError};
pub use disk::{decode_frame, encode_frame};
#[cfg(feature = "kafka")]
pub(crate) use kafka::{
    DeadLetterEntry, DeadLetterReader, EncodedHeaders, Fetched, Headers, KafkaOpenError, KafkaQueue,
    KafkaReader, ReaderEvent, TopicCheck, TopicMessage, WriteError, millis,
};
pub(crate) use memory::MemoryQueue;
pub(crate) use progress::{Half, Progress, Runs, Tracker};
pub(crate) use receipt::{Ledger, Part, Receipt, RecordHold, Taken};

/// One accepted request as the queue keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The id of the receiver that read the body.
    pub receiver: Arc<str>,
    /// Time of arrival.
    pub received: SystemTime,
    /// The receiver's description of how it read the body; opaque to the queue.
    pub reading: Bytes,
    /// Headers that the receiver reads the body by.
    pub headers: KeptHeaders,
    /// The decoded body.
    pub body: Bytes,
}

/// A record that was read from disk.
pub(crate) struct Stored {
    pub(crate) record: Record,
    /// The items that were resolved before the record was read.
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
    #[cfg(feature = "kafka")]
    Kafka(Arc<KafkaQueue>),
}

/// A record that the queue has accepted.
pub(crate) enum Offered {
    /// The record is processed from memory.
    Live(Taken),
    /// There is no memory left for the record: it is read from disk later, in order.
    Stored,
}

/// Limits for the bodies of records in memory.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MemoryLimits {
    /// Records of any kind.
    pub(crate) all_bytes: u64,
    /// Records that are exported or wait for that; those of held spans do not count.
    pub(crate) exporting_bytes: u64,
}

/// The reason why the queue rejects a record.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OfferError {
    #[error("the queue is full: {kept_bytes} of {capacity_bytes} bytes are in use")]
    Full { kept_bytes: u64, capacity_bytes: u64 },
    #[error("a request of {record_bytes} bytes can never fit into a queue of {capacity_bytes} bytes")]
    NeverFits { record_bytes: u64, capacity_bytes: u64 },
    #[error("the queue cannot write: {reason}")]
    Unwritable { reason: Arc<str> },
}

// === impl MemoryLimits ===

impl MemoryLimits {
    fn half(self) -> Self {
        Self { all_bytes: self.all_bytes / 2, exporting_bytes: self.exporting_bytes / 2 }
    }
}

// === impl OfferError ===

impl OfferError {
    /// Returns the reason as one word, for metrics and logs.
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
    /// Returns the queue's number for the record, where it is known already.
    pub(crate) fn record(&self) -> Option<RecordId> {
        match self {
            Self::Live(taken) => Some(taken.id()),
            Self::Stored => None,
        }
    }
}

// === impl Queue ===

impl Queue {
    /// Opens the queue that the configuration describes.
    pub(crate) fn open(
        config: &QueueConfig,
        memory: MemoryLimits,
        metrics: Metrics,
    ) -> Result<Self, OpenError> {
        match config.storage {
            Storage::Memory => {
                Ok(Self::Memory(MemoryQueue::new(config.max_size.min(memory.all_bytes), metrics)))
            }
            Storage::Disk => DiskQueue::open(config, memory, metrics).map(Self::Disk),
            // The shared queue is opened with more than this; a build without it has none.
            Storage::Kafka => Err(OpenError::WithoutKafka),
        }
    }

    /// Accepts the record if there is room for it. Once this returns, the record is as safe as the queue promises.
    pub(crate) async fn offer(&self, record: Record) -> Result<Offered, OfferError> {
        match self {
            Self::Memory(queue) => queue.offer(&record).map(Offered::Live),
            Self::Disk(queue) => queue.offer(record).await,
            #[cfg(feature = "kafka")]
            Self::Kafka(_) => {
                Err(OfferError::Unwritable { reason: "a shared queue accepts messages only".into() })
            }
        }
    }

    pub(crate) fn state(&self) -> QueueState {
        match self {
            Self::Memory(queue) => queue.state(),
            Self::Disk(queue) => queue.state(),
            #[cfg(feature = "kafka")]
            Self::Kafka(queue) => queue.state(),
        }
    }

    /// Returns the seconds after which a sender should retry, derived from how fast the queue drains.
    pub(crate) fn retry_after_seconds(&self) -> u64 {
        match self {
            Self::Memory(queue) => queue.retry_after_seconds(),
            Self::Disk(queue) => queue.retry_after_seconds(),
            #[cfg(feature = "kafka")]
            Self::Kafka(queue) => queue.retry_after_seconds(),
        }
    }

    /// Returns whether records are still in the queue when another process opens it.
    pub(crate) fn outlives_the_process(&self) -> bool {
        !matches!(self, Self::Memory(_))
    }

    /// Returns the next record that is only on disk, oldest first, once there is memory for it. Waits until there is
    /// such a record; a queue in memory waits forever.
    pub(crate) async fn next_stored(&self) -> Stored {
        match self {
            Self::Memory(_) => std::future::pending().await,
            Self::Disk(queue) => queue.next_stored().await,
            #[cfg(feature = "kafka")]
            Self::Kafka(_) => std::future::pending().await,
        }
    }

    /// Notes the memory of held spans and log records, in bytes. Their bodies do not count as exported, so that the downstream
    /// gets the others meanwhile.
    pub(crate) fn holds(&self, bytes: u64) {
        if let Self::Disk(queue) = self {
            queue.holds(bytes);
        }
    }

    /// Returns the queue that several relays share, if it is one.
    #[cfg(feature = "kafka")]
    pub(crate) fn shared(&self) -> Option<&Arc<KafkaQueue>> {
        match self {
            Self::Kafka(queue) => Some(queue),
            Self::Memory(_) | Self::Disk(_) => None,
        }
    }

    /// Stores what is settled and closes the files.
    pub(crate) async fn close(&self) {
        match self {
            Self::Memory(_) => {}
            Self::Disk(queue) => queue.close().await,
            #[cfg(feature = "kafka")]
            Self::Kafka(queue) => queue.close().await,
        }
    }
}
