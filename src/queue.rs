//! The queue: what was accepted and is not yet settled.
//!
//! In: one [`Record`] per accepted request, offered before the sender gets its 2xx. Out: [`Receipt`]s, one for every
//! part of the record that has a fate of its own. When all receipts of a record are settled the record is
//! acknowledged and its space is free again.
//!
//! Promises: what was offered and taken stays until it is settled; when there is no room the sender is told so
//! before its data is taken. A receipt that is dropped without being settled (a task died, the process is
//! stopping) never acknowledges its record.

mod memory;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;

use crate::otlp::Signal;

pub(crate) use memory::MemoryQueue;

/// What the sender said, and to whom.
#[derive(Debug, Clone)]
pub(crate) struct Record {
    /// The id of the receiver that took it.
    pub(crate) receiver: Arc<str>,
    /// The decoded body.
    pub(crate) body: Bytes,
}

/// Why the queue does not take a record.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OfferError {
    #[error("queue is full: {kept_bytes} of {capacity_bytes} bytes are in use")]
    Full { kept_bytes: u64, capacity_bytes: u64 },
    #[error("a request of {record_bytes} bytes can never fit into a queue of {capacity_bytes} bytes")]
    NeverFits { record_bytes: u64, capacity_bytes: u64 },
}

/// What became of a part of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Settled {
    /// The downstream took it.
    Delivered,
    /// A log event that left as an event of a span.
    Attached,
    /// The downstream will never take it.
    Rejected,
    /// The configuration says to drop it.
    Dropped,
}

/// How full a queue is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct QueueState {
    pub(crate) kept_bytes: u64,
    pub(crate) capacity_bytes: u64,
    /// Age of the oldest record that is not settled; zero when there is none.
    pub(crate) oldest: Duration,
}

/// A record that the queue has taken.
pub(crate) struct Taken {
    record: Arc<Pending>,
}

/// The duty to settle one part of a record: so many items of one signal. Dropping it unsettled leaves the record
/// in the queue.
#[must_use = "a receipt that is not settled keeps its record in the queue"]
pub(crate) struct Receipt {
    record: Arc<Pending>,
    signal: Signal,
    items: u32,
}

/// What a queue does when the last part of one of its records is settled, and with each part before.
pub(crate) trait Ledger: Send + Sync {
    /// `items` of a record have met their fate.
    fn settled(&self, signal: Signal, fate: Settled, items: u32);

    /// Nothing of the record is left to do.
    fn acknowledge(&self, record: RecordId, bytes: u64);
}

/// The place of a record in its queue; later records have larger ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct RecordId(pub(crate) u64);

struct Pending {
    id: RecordId,
    bytes: u64,
    /// Receipts that were given out and not settled, and one for [`Taken`] itself.
    open: AtomicUsize,
    ledger: Arc<dyn Ledger>,
}

// === impl Taken ===

impl Taken {
    pub(crate) fn new(id: RecordId, bytes: u64, ledger: Arc<dyn Ledger>) -> Self {
        Self { record: Arc::new(Pending { id, bytes, open: AtomicUsize::new(1), ledger }) }
    }

    /// The queue's number for this record.
    pub(crate) fn id(&self) -> RecordId {
        self.record.id
    }

    /// A receipt for some items of this record.
    pub(crate) fn receipt(&self, signal: Signal, items: u32) -> Receipt {
        self.record.open.fetch_add(1, Ordering::Relaxed);
        Receipt { record: Arc::clone(&self.record), signal, items }
    }

    /// No more receipts will be asked for. A record without any is acknowledged at once.
    pub(crate) fn seal(self) {
        self.record.close_one();
    }
}

// === impl Receipt ===

impl Receipt {
    pub(crate) fn signal(&self) -> Signal {
        self.signal
    }

    /// The record that it is a part of.
    pub(crate) fn record(&self) -> RecordId {
        self.record.id
    }

    pub(crate) fn items(&self) -> u32 {
        self.items
    }

    /// Takes `items` off this receipt into one of their own.
    pub(crate) fn split_off(&mut self, items: u32) -> Self {
        self.items = self.items.saturating_sub(items);
        self.record.open.fetch_add(1, Ordering::Relaxed);
        Self { record: Arc::clone(&self.record), signal: self.signal, items }
    }

    /// The items have met their fate.
    pub(crate) fn settle(self, fate: Settled) {
        self.record.ledger.settled(self.signal, fate, self.items);
        self.record.close_one();
    }
}

impl std::fmt::Debug for Receipt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Receipt({} {} of record {})", self.items, self.signal, self.record.id.0)
    }
}

// === impl Pending ===

impl Pending {
    fn close_one(&self) {
        if self.open.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.ledger.acknowledge(self.id, self.bytes);
        }
    }
}
