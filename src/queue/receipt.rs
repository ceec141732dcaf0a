//! Receipts: the items of a record that are still unresolved.
//!
//! A record is acknowledged when all of its receipts are settled and its [`RecordHold`]s are released. A receipt that is dropped without being settled,
//! because its task died or the process is stopping, never acknowledges its record: a queue on disk keeps that record.
//!
//! Items have *ordinals*: the spans, log records and data points of a record are numbered, separately for each signal,
//! in the order of the body. A [`Part`] covers the items of one document. It issues [`Receipt`]s, each for a contiguous
//! range of ordinals, and splits the range where the outcomes of its items differ.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use smallvec::SmallVec;

use super::progress::{Half, Progress, Tracker};
use crate::budget::Charge;
use crate::event::{RecordId, Settled, Signal};
use crate::telemetry::traces::Cause;

/// A record that the queue has accepted.
pub(crate) struct Taken {
    record: Arc<Pending>,
}

/// The items of one document of a record. Dropping it leaves the record in the queue.
#[must_use = "a part that is not closed keeps its record in the queue"]
pub(crate) struct Part {
    record: Arc<Pending>,
    signal: Signal,
    ordinals: Ordinals,
}

/// The duty to settle a contiguous range of items. Dropping it unsettled leaves the record in the queue.
#[must_use = "a receipt that is not settled keeps its record in the queue"]
pub(crate) struct Receipt {
    record: Arc<Pending>,
    signal: Signal,
    half: Half,
    /// The ordinal of the first item.
    first: u32,
    items: u32,
}

/// The duty to do something else before a record may leave the queue. Dropping it leaves the record in the queue.
#[must_use = "a hold that is not released keeps its record in the queue"]
pub(crate) struct RecordHold {
    record: Arc<Pending>,
}

/// The owner of records, which is notified of every outcome.
pub(crate) trait Ledger: Send + Sync {
    /// Called when items of a record are resolved. Each item is reported once.
    fn settled(&self, record: RecordId, signal: Signal, items: Range<u32>, outcome: Settled);

    /// Called when some items of a record are settled and others are not. A queue that outlives the process stores the
    /// progress.
    fn progressed(&self, _record: RecordId, _progress: &Arc<Tracker>) {}

    /// Called when all items of a record are resolved and only holds keep it in the queue.
    fn idle(&self, _record: RecordId) {}

    /// Called when all items of the record are resolved and no hold is left.
    fn acknowledge(&self, record: RecordId, bytes: u64);

    /// Called when no receipt is left that could settle the rest of the record.
    fn release(&self, record: RecordId, bytes: u64);
}

/// The ordinals of a document's items, in the order of the document.
#[derive(Debug)]
enum Ordinals {
    Run {
        first: u32,
        items: u32,
    },
    /// Some of the document's items were resolved earlier.
    Scattered(Box<[u32]>),
}

/// Ledger of records that are in no queue.
struct NoLedger;

struct Pending {
    id: RecordId,
    bytes: u64,
    /// Number of parts and receipts that were issued and not settled, plus one for [`Taken`] itself.
    open: AtomicUsize,
    /// Number of holds among them.
    holds: AtomicUsize,
    cause: Cause,
    /// Charge of the body, which the record keeps in memory.
    charge: Option<Charge>,
    tracker: Arc<Tracker>,
    /// Callback for when an item of the record is rejected.
    on_rejected: Option<Box<dyn Fn() + Send + Sync>>,
    ledger: Arc<dyn Ledger>,
}

// === impl Taken ===

impl Taken {
    pub(crate) fn new(id: RecordId, bytes: u64, ledger: Arc<dyn Ledger>) -> Self {
        let (open, holds, tracker) = (AtomicUsize::new(1), AtomicUsize::new(0), Arc::default());
        let (cause, charge, on_rejected) = (Cause::Unknown, None, None);
        Self {
            record: Arc::new(Pending { id, bytes, open, holds, cause, charge, tracker, on_rejected, ledger }),
        }
    }

    /// Creates a record that is in no queue, so that nobody hears of its outcome.
    pub(crate) fn outside_queue() -> Self {
        Self::new(RecordId(0), 0, Arc::new(NoLedger))
    }

    /// Returns the queue's number for this record.
    pub(crate) fn id(&self) -> RecordId {
        self.record.id
    }

    /// Sets the request that the record came in with, for self-tracing. Must be called before the first part is issued.
    pub(crate) fn caused_by(&mut self, cause: Cause) {
        if let Some(record) = Arc::get_mut(&mut self.record) {
            record.cause = cause;
        }
    }

    /// Keeps the charge of the body until the record is out of memory. Must be called before the first part is created.
    pub(crate) fn keep(&mut self, charge: Charge) {
        if let Some(record) = Arc::get_mut(&mut self.record) {
            record.charge = Some(charge);
        }
    }

    /// Sets a callback for when an item of the record is rejected. Must be set before the first part is issued.
    pub(crate) fn on_rejected(&mut self, observer: impl Fn() + Send + Sync + 'static) {
        if let Some(record) = Arc::get_mut(&mut self.record) {
            record.on_rejected = Some(Box::new(observer));
        }
    }

    /// Starts from earlier progress: resolved items are in no part. Must be called before the first part is issued.
    pub(crate) fn resume(&self, progress: Progress) {
        self.record.tracker.resume(progress);
    }

    /// Makes the queue store the progress, even when nothing is resolved.
    pub(crate) fn store_progress(&self) {
        self.record.ledger.progressed(self.record.id, &self.record.tracker);
    }

    /// Returns a part for those of the items that are not resolved.
    pub(crate) fn part(&self, signal: Signal, items: Range<u32>) -> Part {
        let open = self.record.tracker.open(signal, items.clone());
        let ordinals = match &open[..] {
            [] => Ordinals::Run { first: items.start, items: 0 },
            [run] => Ordinals::Run { first: run.start, items: run.end - run.start },
            _ => Ordinals::Scattered(open.into_iter().flatten().collect()),
        };
        Part { record: self.record.open_one(), signal, ordinals }
    }

    /// Keeps the record in the queue until the hold is released, even when all of its items are resolved.
    pub(crate) fn hold(&self) -> RecordHold {
        self.record.holds.fetch_add(1, Ordering::Relaxed);
        RecordHold { record: self.record.open_one() }
    }

    /// Declares that no more parts will be requested. A record without parts is acknowledged at once.
    pub(crate) fn seal(self) {
        self.record.close_one();
    }
}

// === impl Part ===

impl Part {
    pub(crate) fn items(&self) -> u32 {
        match &self.ordinals {
            Ordinals::Run { items, .. } => *items,
            Ordinals::Scattered(ordinals) => u32::try_from(ordinals.len()).unwrap_or(u32::MAX),
        }
    }

    /// Returns whether the item with this ordinal belongs to the part.
    pub(crate) fn contains(&self, ordinal: u32) -> bool {
        match &self.ordinals {
            Ordinals::Run { first, items } => ordinal.checked_sub(*first).is_some_and(|index| index < *items),
            Ordinals::Scattered(ordinals) => ordinals.binary_search(&ordinal).is_ok(),
        }
    }

    /// Returns a receipt for one item, by its index in the document.
    pub(crate) fn receipt(&self, index: usize) -> Receipt {
        self.run(self.ordinal(index), 1)
    }

    /// Returns receipts for some items, by their ascending indexes in the document: one for each run of ordinals.
    pub(crate) fn receipts(&self, indexes: impl Iterator<Item = usize>) -> SmallVec<[Receipt; 1]> {
        let mut receipts = SmallVec::<[Receipt; 1]>::new();
        for ordinal in indexes.map(|index| self.ordinal(index)) {
            match receipts.last_mut() {
                Some(last) if last.first + last.items == ordinal => last.items += 1,
                _ => receipts.push(self.run(ordinal, 1)),
            }
        }
        receipts
    }

    /// Returns receipts for all items.
    pub(crate) fn into_receipts(self) -> SmallVec<[Receipt; 1]> {
        match self.ordinals {
            Ordinals::Run { first, items } => {
                let Self { record, signal, .. } = self;
                SmallVec::from_buf([Receipt { record, signal, half: Half::Log, first, items }])
            }
            Ordinals::Scattered(_) => {
                let receipts = self.receipts(0..self.items() as usize);
                self.close();
                receipts
            }
        }
    }

    /// Announces that a log record is exported both as an event and as a log: it is resolved when both are settled.
    pub(crate) fn share(&self, index: usize) {
        debug_assert_eq!(self.signal, Signal::Logs, "only log records have halves");
        self.record.tracker.share(self.ordinal(index));
    }

    /// Returns the half of a log record that was settled before a restart.
    pub(crate) fn settled_half(&self, index: usize) -> Option<Half> {
        self.record.tracker.half(self.ordinal(index))
    }

    /// Declares that no more receipts will be requested.
    pub(crate) fn close(self) {
        self.record.close_one();
    }

    fn ordinal(&self, index: usize) -> u32 {
        match &self.ordinals {
            Ordinals::Run { first, .. } => first + u32::try_from(index).unwrap_or(u32::MAX),
            Ordinals::Scattered(ordinals) => ordinals[index],
        }
    }

    fn run(&self, first: u32, items: u32) -> Receipt {
        Receipt { record: self.record.open_one(), signal: self.signal, half: Half::Log, first, items }
    }
}

impl std::fmt::Debug for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Part({} {} of record {})", self.items(), self.signal, self.record.id.0)
    }
}

// === impl Receipt ===

impl Receipt {
    /// Returns the record that the receipt belongs to.
    pub(crate) fn record(&self) -> RecordId {
        self.record.id
    }

    /// Returns the request that the record came in with.
    pub(crate) fn cause(&self) -> Cause {
        self.record.cause
    }

    pub(crate) fn items(&self) -> u32 {
        self.items
    }

    /// Converts the receipt to one for log records that are exported as span events.
    pub(crate) fn of_events(mut self) -> Self {
        self.half = Half::Event;
        self
    }

    /// Keeps the first `items` and returns a receipt for the others.
    pub(crate) fn split_at(&mut self, items: u32) -> Self {
        let kept = items.min(self.items);
        let rest = Self {
            record: self.record.open_one(),
            signal: self.signal,
            half: self.half,
            first: self.first + kept,
            items: self.items - kept,
        };
        self.items = kept;
        rest
    }

    /// Reports the outcome of the items.
    pub(crate) fn settle(self, outcome: Settled) {
        let Self { record, signal, half, first, items } = self;
        for (range, outcome) in record.tracker.settle(signal, half, first..first + items, outcome) {
            if outcome == Settled::Rejected
                && let Some(observer) = &record.on_rejected
            {
                observer();
            }
            record.ledger.settled(record.id, signal, range, outcome);
        }
        if !record.close_one() {
            record.ledger.progressed(record.id, &record.tracker);
        }
    }
}

impl std::fmt::Debug for Receipt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { signal, first, items, .. } = self;
        write!(f, "Receipt({items} {signal} from {first} of record {})", self.record.id.0)
    }
}

// === impl NoLedger ===

impl Ledger for NoLedger {
    fn settled(&self, _: RecordId, _: Signal, _: Range<u32>, _: Settled) {}

    fn acknowledge(&self, _: RecordId, _: u64) {}

    fn release(&self, _: RecordId, _: u64) {}
}

// === impl RecordHold ===

impl RecordHold {
    /// Returns the request that the record came in with.
    pub(crate) fn cause(&self) -> Cause {
        self.record.cause
    }

    /// Lets the record leave the queue once its items are resolved.
    pub(crate) fn release(self) {
        self.record.holds.fetch_sub(1, Ordering::Relaxed);
        self.record.close_one();
    }
}

impl std::fmt::Debug for RecordHold {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Hold(record {})", self.record.id.0)
    }
}

// === impl Pending ===

impl Pending {
    fn open_one(self: &Arc<Self>) -> Arc<Self> {
        self.open.fetch_add(1, Ordering::Relaxed);
        Arc::clone(self)
    }

    /// Returns whether it was the last open part or receipt.
    fn close_one(&self) -> bool {
        let left = self.open.fetch_sub(1, Ordering::AcqRel) - 1;
        let last = left == 0;
        if !last && left == self.holds.load(Ordering::Relaxed) {
            self.ledger.idle(self.id);
        }
        if last {
            // Closed before the record leaves the queue: none of its progress may be stored after that.
            self.tracker.close();
            self.ledger.acknowledge(self.id, self.bytes);
        }
        last
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if *self.open.get_mut() > 0 {
            self.ledger.release(self.id, self.bytes);
        }
    }
}
