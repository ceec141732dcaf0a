//! Receipts: who still owes what to which record.
//!
//! A record is acknowledged when all of its receipts are settled. One that is dropped without being settled, because
//! its task died or the process is stopping, never acknowledges: what a queue on disk keeps it then still has.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::otlp::Signal;
use crate::telemetry::traces::Cause;

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

    /// Nobody is left who could settle the rest of the record.
    fn release(&self, record: RecordId, bytes: u64);
}

/// The place of a record in its queue; later records have larger ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct RecordId(pub(crate) u64);

struct Pending {
    id: RecordId,
    bytes: u64,
    /// Receipts that were given out and not settled, and one for [`Taken`] itself.
    open: AtomicUsize,
    cause: Cause,
    ledger: Arc<dyn Ledger>,
}

// === impl Taken ===

impl Taken {
    pub(crate) fn new(id: RecordId, bytes: u64, ledger: Arc<dyn Ledger>) -> Self {
        let open = AtomicUsize::new(1);
        Self { record: Arc::new(Pending { id, bytes, open, cause: Cause::Unknown, ledger }) }
    }

    /// The queue's number for this record.
    pub(crate) fn id(&self) -> RecordId {
        self.record.id
    }

    /// For own traces: which request brought it. To be said before the first receipt is given out.
    pub(crate) fn caused_by(&mut self, cause: Cause) {
        if let Some(record) = Arc::get_mut(&mut self.record) {
            record.cause = cause;
        }
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
    /// Whose items they are.
    #[cfg(test)]
    pub(crate) fn signal(&self) -> Signal {
        self.signal
    }

    /// The record that it is a part of.
    pub(crate) fn record(&self) -> RecordId {
        self.record.id
    }

    /// Which request brought it.
    pub(crate) fn cause(&self) -> Cause {
        self.record.cause
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

impl Drop for Pending {
    fn drop(&mut self) {
        if *self.open.get_mut() > 0 {
            self.ledger.release(self.id, self.bytes);
        }
    }
}
