//! The queue of `queue.storage: memory`: only a limit on bytes. Its contents do not survive the process.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use tracing::debug;

use super::drain_rate::DrainRate;
use super::{Ledger, OfferError, Record, Taken};
use crate::event::{QueueState, RecordId, Settled, Signal};
use crate::telemetry::Metrics;

/// Counts the bytes of records that were accepted and are not settled.
pub(crate) struct MemoryQueue {
    books: Arc<Books>,
}

struct Books {
    capacity_bytes: u64,
    kept: Mutex<KeptRecord>,
    metrics: Metrics,
}

#[derive(Default)]
struct KeptRecord {
    bytes: u64,
    next_id: u64,
    /// Time of arrival of each record that has unresolved items.
    since: BTreeMap<RecordId, Instant>,
    drain_rate: DrainRate,
    /// A record was rejected for lack of room, and no record has left since.
    full: bool,
}

// === impl MemoryQueue ===

impl MemoryQueue {
    pub(crate) fn new(capacity_bytes: u64, metrics: Metrics) -> Self {
        Self { books: Arc::new(Books { capacity_bytes, kept: Mutex::default(), metrics }) }
    }

    /// Accepts the record if there is room for all of it.
    pub(crate) fn offer(&self, record: &Record) -> Result<Taken, OfferError> {
        let bytes = record.body.len() as u64;
        let capacity_bytes = self.books.capacity_bytes;
        if bytes > capacity_bytes {
            return Err(OfferError::NeverFits { record_bytes: bytes, capacity_bytes });
        }
        let mut kept = self.books.lock();
        if bytes > capacity_bytes - kept.bytes {
            kept.full = true;
            return Err(OfferError::Full { kept_bytes: kept.bytes, capacity_bytes });
        }
        kept.bytes += bytes;
        let id = RecordId(kept.next_id);
        kept.next_id += 1;
        kept.since.insert(id, Instant::now());
        Ok(Taken::new(id, bytes, Arc::clone(&self.books) as Arc<dyn Ledger>))
    }

    pub(crate) fn state(&self) -> QueueState {
        let kept = self.books.lock();
        QueueState {
            kept_bytes: kept.bytes,
            capacity_bytes: self.books.capacity_bytes,
            oldest: kept.since.first_key_value().map_or(Duration::ZERO, |(_, since)| since.elapsed()),
            failure: None,
            full: kept.full,
        }
    }

    /// Returns the time until a tenth of the queue is free, at the recent drain rate.
    pub(crate) fn retry_after_seconds(&self) -> u64 {
        let room = self.books.capacity_bytes / 10;
        self.books.lock().drain_rate.seconds_until(Instant::now(), room)
    }
}

// === impl Books ===

impl Books {
    fn lock(&self) -> MutexGuard<'_, KeptRecord> {
        self.kept.lock().expect("nothing panics while it holds the lock")
    }
}

impl Ledger for Books {
    fn settled(&self, _: RecordId, signal: Signal, items: Range<u32>, outcome: Settled) {
        self.metrics.settled(signal, outcome, items.end - items.start);
    }

    fn idle(&self, record: RecordId) {
        self.lock().since.remove(&record);
    }

    fn acknowledge(&self, record: RecordId, bytes: u64) {
        let mut kept = self.lock();
        kept.bytes -= bytes;
        kept.full = false;
        kept.since.remove(&record);
        kept.drain_rate.released(Instant::now(), bytes);
    }

    fn release(&self, record: RecordId, bytes: u64) {
        // There is no other copy of the record, so that its bytes are free.
        let mut kept = self.lock();
        kept.bytes -= bytes;
        kept.full = false;
        kept.since.remove(&record);
        debug!(record = record.0, "record left the memory queue undelivered");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::UNIX_EPOCH;

    use bytes::Bytes;

    use super::*;
    use crate::event::KeptHeaders;

    fn record(bytes: usize) -> Record {
        Record {
            receiver: Arc::from("fastly"),
            received: UNIX_EPOCH,
            reading: Bytes::new(),
            headers: KeptHeaders::default(),
            body: Bytes::from(vec![0; bytes]),
        }
    }

    fn queue() -> MemoryQueue {
        MemoryQueue::new(100, Metrics::new())
    }

    #[test]
    fn a_record_that_does_not_fit_is_rejected_and_takes_no_room() {
        let queue = queue();
        let first = queue.offer(&record(60)).unwrap();
        assert!(matches!(
            queue.offer(&record(41)),
            Err(OfferError::Full { kept_bytes: 60, capacity_bytes: 100 })
        ));
        assert!(matches!(queue.offer(&record(101)), Err(OfferError::NeverFits { .. })));
        queue.offer(&record(40)).unwrap().seal();
        assert_eq!(queue.state().kept_bytes, 60);
        first.seal();
        assert_eq!(queue.state(), QueueState { capacity_bytes: 100, ..QueueState::default() });
    }

    #[test]
    fn a_record_stays_until_its_last_receipt_is_settled() {
        let queue = queue();
        let taken = queue.offer(&record(10)).unwrap();
        let [mut one, other] = [(Signal::Logs, 3), (Signal::Traces, 1)]
            .map(|(signal, items)| taken.part(signal, 0..items).into_receipts().remove(0));
        taken.seal();
        let rest = one.split_at(1);
        assert_eq!((one.items(), rest.items()), (1, 2));
        one.settle(Settled::Delivered);
        other.settle(Settled::Delivered);
        assert_eq!(queue.state().kept_bytes, 10);
        rest.settle(Settled::Attached);
        assert_eq!(queue.state().kept_bytes, 0);
    }

    #[test]
    fn a_held_record_takes_room_and_has_no_age_once_its_items_are_resolved() {
        let queue = queue();
        let ages = || queue.books.lock().since.len();
        let taken = queue.offer(&record(10)).unwrap();
        let hold = taken.hold();
        let receipt = taken.part(Signal::Traces, 0..1).into_receipts().remove(0);
        taken.seal();
        assert_eq!(ages(), 1);
        receipt.settle(Settled::Delivered);
        assert_eq!((ages(), queue.state().kept_bytes), (0, 10));
        hold.release();
        assert_eq!((ages(), queue.state().kept_bytes), (0, 0));
        // A hold that is released first changes nothing.
        let taken = queue.offer(&record(10)).unwrap();
        let hold = taken.hold();
        let receipt = taken.part(Signal::Traces, 0..1).into_receipts().remove(0);
        taken.seal();
        hold.release();
        assert_eq!((ages(), queue.state().kept_bytes), (1, 10));
        receipt.settle(Settled::Delivered);
        assert_eq!((ages(), queue.state().kept_bytes), (0, 0));
    }

    #[test]
    fn a_record_whose_last_receipt_is_dropped_takes_no_more_room() {
        let queue = queue();
        let taken = queue.offer(&record(10)).unwrap();
        let part = taken.part(Signal::Traces, 0..1);
        taken.seal();
        assert_eq!(queue.state().kept_bytes, 10);
        drop(part);
        assert_eq!(queue.state().kept_bytes, 0);
    }
}
