//! `queue.storage: memory`: a bound on bytes and nothing more. What is in it does not survive the process.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{Ledger, OfferError, Record, RecordId, Settled, Taken};
use crate::otlp::Signal;

/// Counts the bytes of records that were taken and are not settled.
pub(crate) struct MemoryQueue {
    ledger: Arc<MemoryLedger>,
    next_id: AtomicU64,
}

struct MemoryLedger {
    capacity_bytes: u64,
    kept_bytes: AtomicU64,
    observer: Arc<dyn Observer>,
}

/// Whoever counts what becomes of items.
pub(crate) trait Observer: Send + Sync {
    fn settled(&self, signal: Signal, fate: Settled, items: u32);
}

// === impl MemoryQueue ===

impl MemoryQueue {
    pub(crate) fn new(capacity_bytes: u64, observer: Arc<dyn Observer>) -> Self {
        let ledger = MemoryLedger { capacity_bytes, kept_bytes: AtomicU64::new(0), observer };
        Self { ledger: Arc::new(ledger), next_id: AtomicU64::new(0) }
    }

    /// Takes the record if there is room for all of it.
    pub(crate) fn offer(&self, record: &Record) -> Result<Taken, OfferError> {
        let bytes = record.body.len() as u64;
        let capacity_bytes = self.ledger.capacity_bytes;
        if bytes > capacity_bytes {
            return Err(OfferError::NeverFits { record_bytes: bytes, capacity_bytes });
        }
        self.ledger
            .kept_bytes
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |kept| {
                kept.checked_add(bytes).filter(|&sum| sum <= capacity_bytes)
            })
            .map_err(|kept_bytes| OfferError::Full { kept_bytes, capacity_bytes })?;
        let id = RecordId(self.next_id.fetch_add(1, Ordering::Relaxed));
        Ok(Taken::new(id, bytes, Arc::clone(&self.ledger) as Arc<dyn Ledger>))
    }

    pub(crate) fn kept_bytes(&self) -> u64 {
        self.ledger.kept_bytes.load(Ordering::Acquire)
    }

    pub(crate) fn capacity_bytes(&self) -> u64 {
        self.ledger.capacity_bytes
    }
}

// === impl MemoryLedger ===

impl Ledger for MemoryLedger {
    fn settled(&self, signal: Signal, fate: Settled, items: u32) {
        self.observer.settled(signal, fate, items);
    }

    fn acknowledge(&self, _record: RecordId, bytes: u64) {
        self.kept_bytes.fetch_sub(bytes, Ordering::AcqRel);
    }
}
