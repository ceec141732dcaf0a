//! The partitions that this worker owns, shared by the thread that reads and the receipts that report outcomes.
//!
//! Promises: an outcome that arrives after its partition was revoked changes nothing, because the next owner reports it;
//! outcomes whose commit was refused are taken back from the counts.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::super::{Ledger, Progress, Taken, Tracker};
use super::offsets::{ArrivedRecord, Commit, Offsets, OpenRecord};
use crate::event::{RecordId, Settled, Signal};
use crate::telemetry::Metrics;

/// Items by signal.
type SignalItems = [u32; Signal::ALL.len()];

/// All partitions.
pub(crate) struct Partitions {
    state: Mutex<BTreeMap<i32, Partition>>,
    /// Bytes of records that are read and not resolved.
    open_bytes: AtomicU64,
    /// Bytes of them that are held for their counterparts, as their holder says.
    pub(super) held_bytes: AtomicU64,
    /// Rejected records that the brokers have not acknowledged. No commit may overtake them.
    pub(super) dead_letters: AtomicU64,
    metrics: Metrics,
}

struct Partition {
    ledger: Arc<Assigned>,
    offsets: Offsets,
    committed: Option<Commit>,
    /// Items that were resolved since the last acknowledged commit.
    uncommitted: SignalItems,
    is_at_end: bool,
}

/// One assignment of a partition. A later assignment of the same partition is another one.
struct Assigned {
    partition: i32,
    partitions: Arc<Partitions>,
}

/// A commit of several partitions that was sent.
#[derive(Debug, Default)]
pub(super) struct Sent(Vec<(i32, Commit, SignalItems)>);

/// A record that was read, and how.
pub(super) enum Read {
    /// The partition was revoked, or an earlier owner resolved the record.
    Skipped,
    New {
        taken: Taken,
        progress: Progress,
        is_redelivered: bool,
    },
}

// === impl Partitions ===

impl Partitions {
    pub(super) fn new(metrics: Metrics) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::default(),
            open_bytes: AtomicU64::new(0),
            held_bytes: AtomicU64::new(0),
            dead_letters: AtomicU64::new(0),
            metrics,
        })
    }

    pub(super) fn assign(self: &Arc<Self>, partition: i32, offsets: Offsets) {
        let ledger = Arc::new(Assigned { partition, partitions: Arc::clone(self) });
        let assigned = Partition {
            ledger,
            offsets,
            committed: None,
            uncommitted: SignalItems::default(),
            is_at_end: false,
        };
        let replaced = self.lock().insert(partition, assigned);
        self.forget(replaced.as_ref());
    }

    /// Removes a partition. Outcomes that no commit covers will be reported by its next owner.
    pub(super) fn revoke(&self, partition: i32) {
        let revoked = self.lock().remove(&partition);
        self.forget(revoked.as_ref());
    }

    fn forget(&self, partition: Option<&Partition>) {
        let Some(partition) = partition else { return };
        let bytes: u64 = partition.offsets.open().map(|open| open.bytes).sum();
        self.open_bytes.fetch_sub(bytes, Ordering::Relaxed);
        for (signal, items) in
            Signal::ALL.into_iter().zip(partition.uncommitted).filter(|(_, items)| *items > 0)
        {
            self.metrics.recovered(signal, items);
        }
    }

    /// Records a record that was read from the log.
    pub(super) fn read(&self, partition: i32, offset: u64, time: i64, bytes: u64) -> Read {
        let mut state = self.lock();
        let Some(owned) = state.get_mut(&partition) else { return Read::Skipped };
        owned.is_at_end = false;
        match owned.offsets.read(offset, OpenRecord { time, bytes, ..OpenRecord::default() }) {
            ArrivedRecord::Resolved => Read::Skipped,
            ArrivedRecord::Unresolved { progress, is_redelivered } => {
                self.open_bytes.fetch_add(bytes, Ordering::Relaxed);
                let ledger = Arc::clone(&owned.ledger) as Arc<dyn Ledger>;
                let taken = Taken::new(RecordId::in_partition(partition, offset), bytes, ledger);
                Read::New { taken, progress, is_redelivered }
            }
        }
    }

    /// Returns the next offset to be read of a partition.
    pub(super) fn position(&self, partition: i32) -> Option<u64> {
        self.lock().get(&partition)?.offsets.position()
    }

    /// Passes over offsets that were deleted. Returns the number of those that were not resolved.
    pub(super) fn skip_to(&self, partition: i32, offset: u64) -> u64 {
        self.lock().get_mut(&partition).map_or(0, |owned| owned.offsets.skip_to(offset))
    }

    /// Records whether a partition was read to its end, or all of them.
    pub(super) fn set_at_end(&self, partition: Option<i32>, is_at_end: bool) {
        let mut state = self.lock();
        let chosen = state.iter_mut().filter(|(number, _)| partition.is_none_or(|chosen| chosen == **number));
        chosen.for_each(|(_, owned)| owned.is_at_end = is_at_end);
    }

    pub(super) fn is_at_end(&self, partition: i32) -> bool {
        self.lock().get(&partition).is_some_and(|owned| owned.is_at_end)
    }

    pub(super) fn numbers(&self) -> Vec<i32> {
        self.lock().keys().copied().collect()
    }

    /// Returns the number of unresolved records below the end of a partition.
    pub(super) fn lag(&self, partition: i32, end: u64) -> u64 {
        self.lock().get(&partition).map_or(0, |owned| end.saturating_sub(owned.offsets.low()))
    }

    /// Bytes of records that are on their way to the downstream, beyond those that are held.
    pub(super) fn exporting_bytes(&self) -> u64 {
        self.open_bytes().saturating_sub(self.held_bytes.load(Ordering::Relaxed))
    }

    pub(super) fn open_bytes(&self) -> u64 {
        self.open_bytes.load(Ordering::Relaxed)
    }

    /// Returns the timestamp of the oldest record that is read and not resolved, in milliseconds.
    pub(super) fn oldest(&self) -> Option<i64> {
        self.lock().values().flat_map(|owned| owned.offsets.open()).map(|open| open.time).min()
    }

    /// Returns `true` if records of these partitions may still be resolved by this process.
    pub(super) fn are_in_progress(&self, partitions: &[i32]) -> bool {
        let state = self.lock();
        let owned = partitions.iter().filter_map(|partition| state.get(partition));
        owned.flat_map(|owned| owned.offsets.open()).any(|open| !open.is_released)
    }

    /// Returns what is to be committed of these partitions, or of all.
    pub(super) fn to_commit(&self, chosen: Option<&[i32]>) -> Sent {
        if self.dead_letters.load(Ordering::Acquire) > 0 {
            return Sent::default();
        }
        let state = self.lock();
        let chosen = state.iter().filter(|(number, _)| chosen.is_none_or(|chosen| chosen.contains(number)));
        let commits = chosen.filter_map(|(number, owned)| {
            let commit = owned.offsets.commit()?;
            (owned.committed.as_ref() != Some(&commit)).then_some((*number, commit, owned.uncommitted))
        });
        Sent(commits.collect())
    }

    /// Records that the brokers acknowledged a commit.
    pub(super) fn committed(&self, sent: Sent) {
        let mut state = self.lock();
        for (partition, commit, items) in sent.0 {
            let Some(owned) = state.get_mut(&partition) else { continue };
            owned.committed = Some(commit);
            for (uncommitted, items) in owned.uncommitted.iter_mut().zip(items) {
                *uncommitted = uncommitted.saturating_sub(items);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<i32, Partition>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Sent ===

impl Sent {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn commits(&self) -> impl Iterator<Item = (i32, &Commit)> {
        self.0.iter().map(|(partition, commit, _)| (*partition, commit))
    }
}

// === impl Assigned ===

impl Assigned {
    /// Calls `change` unless the partition was revoked.
    fn change(&self, change: impl FnOnce(&mut Partition)) {
        let mut state = self.partitions.lock();
        if let Some(owned) = state.get_mut(&self.partition)
            && std::ptr::eq(&raw const *owned.ledger, self)
        {
            change(owned);
        }
    }
}

impl Ledger for Assigned {
    fn settled(&self, _: RecordId, signal: Signal, items: Range<u32>, outcome: Settled) {
        let items = items.end - items.start;
        self.change(|owned| {
            owned.uncommitted[signal as usize] = owned.uncommitted[signal as usize].saturating_add(items);
            self.partitions.metrics.settled(signal, outcome, items);
        });
    }

    fn progressed(&self, record: RecordId, progress: &Arc<Tracker>) {
        self.change(|owned| {
            if let Some(open) = owned.offsets.open_mut(record.offset())
                && open.tracker.is_none()
            {
                open.tracker = Some(Arc::clone(progress));
            }
        });
    }

    fn acknowledge(&self, record: RecordId, bytes: u64) {
        self.change(|owned| {
            if owned.offsets.resolve(record.offset()).is_some() {
                self.partitions.open_bytes.fetch_sub(bytes, Ordering::Relaxed);
            }
        });
    }

    fn release(&self, record: RecordId, bytes: u64) {
        // The record stays unresolved, for the next owner of the partition.
        self.change(|owned| {
            if let Some(open) = owned.offsets.open_mut(record.offset())
                && !open.is_released
            {
                (open.is_released, open.bytes) = (true, 0);
                self.partitions.open_bytes.fetch_sub(bytes, Ordering::Relaxed);
            }
        });
    }
}
