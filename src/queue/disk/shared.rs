//! Accounts of the queue, shared by request handlers, the feed and the writer.
//!
//! In: records that were written, read and settled. Out: whether there is room, which record to read next, and the
//! [`Ledger`] that receipts report to.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Instant, SystemTime};

use tokio::sync::Notify;
use tracing::{error, warn};

use super::backlog::Backlog;
use super::files::Files;
use super::index::{RecordReadError, RecordReader};
use super::notes::Notes;
use super::record;
use super::writer::WriterCommand;
use crate::event::{RecordId, Settled, Signal};
use crate::queue::drain_rate::DrainRate;
use crate::queue::{
    Ledger, MemoryLimits, OfferError, Offered, Origin, Progress, Record, Stored, Taken, Tracker,
};
use crate::telemetry::Metrics;

/// State shared by request handlers, the feed and the writer.
pub(super) struct Shared {
    pub(super) files: Arc<dyn Files>,
    pub(super) reader: RecordReader,
    pub(super) capacity_bytes: u64,
    pub(super) memory: MemoryLimits,
    pub(super) metrics: Metrics,
    /// First id of this process; smaller ids were written by earlier ones.
    pub(super) first_id: u64,
    pub(super) state: Mutex<LogState>,
    /// Notified when there is room in memory, or something to read.
    pub(super) changed: Notify,
    /// Items and records that were settled.
    pub(super) notes: Notes,
    /// Unbounded, because every put is a request that waits for its reply, and other commands are few.
    pub(super) commands: Sender<WriterCommand>,
}

#[derive(Default)]
pub(super) struct LogState {
    /// Bytes stored and reserved: an offer counts even before it is written.
    pub(super) kept_bytes: u64,
    pub(super) live: BTreeMap<RecordId, Live>,
    pub(super) live_bytes: u64,
    /// The part of them that is held. Counts what the processor allocates too, so it may be larger.
    pub(super) held_bytes: u64,
    /// The next record to read and the size of its body, if it did not fit into memory.
    pub(super) awaits_room: Option<(RecordId, u64)>,
    pub(super) backlog: Backlog,
    /// Records that are left for the next start.
    pub(super) parked: BTreeSet<RecordId>,
    /// Time of arrival of the oldest parked record.
    pub(super) parked_since: Option<SystemTime>,
    /// Records that are neither live nor in the backlog, with their times of arrival or earlier times: confirmed by the
    /// writer and not yet seen by the caller of `offer`, or being read.
    pub(super) in_transit: BTreeMap<RecordId, Option<SystemTime>>,
    pub(super) drain_rate: DrainRate,
    pub(super) failure: Option<Arc<str>>,
    /// A record was rejected for lack of room, and no record has left since.
    pub(super) full: bool,
}

/// A record that is being processed from memory.
pub(super) struct Live {
    pub(super) stored_bytes: u64,
    pub(super) memory_bytes: u64,
    pub(super) received: SystemTime,
    /// All of its items are resolved.
    pub(super) is_idle: bool,
}

/// Bytes of the queue that an offer has reserved, and gives back when the offer fails.
pub(super) struct Reservation<'a> {
    pub(super) shared: &'a Shared,
    pub(super) bytes: u64,
}

// === impl LogState ===

impl LogState {
    /// Returns the time of arrival of the oldest record that has unresolved items, or a time slightly before that while some records
    /// are on disk only.
    pub(super) fn since(&self) -> Option<SystemTime> {
        let live = self.live.values().find(|live| !live.is_idle).map(|live| live.received);
        let in_transit = self.in_transit.values().flatten().min().copied();
        [live, in_transit, self.backlog.since(), self.parked_since].into_iter().flatten().min()
    }

    /// Leaves a record on disk for the next start.
    fn park(&mut self, id: RecordId, received: Option<SystemTime>) {
        self.parked.insert(id);
        self.parked_since = self.parked_since.into_iter().chain(received).min();
    }
}

// === impl Reservation ===

impl<'a> Reservation<'a> {
    pub(super) fn new(shared: &'a Shared, bytes: u64) -> Result<Self, OfferError> {
        let capacity_bytes = shared.capacity_bytes;
        // The length field of a frame has four bytes.
        if bytes > capacity_bytes.min(u64::from(u32::MAX)) {
            return Err(OfferError::NeverFits { record_bytes: bytes, capacity_bytes });
        }
        let mut state = shared.lock();
        if let Some(reason) = &state.failure {
            return Err(OfferError::Unwritable { reason: Arc::clone(reason) });
        }
        if bytes > capacity_bytes.saturating_sub(state.kept_bytes) {
            state.full = true;
            return Err(OfferError::Full { kept_bytes: state.kept_bytes, capacity_bytes });
        }
        state.kept_bytes += bytes;
        Ok(Self { shared, bytes })
    }

    /// Keeps the bytes of a record that is written; they are given back when the record is acknowledged.
    pub(super) fn keep(mut self) -> u64 {
        std::mem::take(&mut self.bytes)
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.shared.lock().kept_bytes -= self.bytes;
        }
    }
}

// === impl LogState ===

impl LogState {
    /// Returns `true` if a body fits into memory with those that are there. A body that is larger than that is alone in memory.
    fn fits(&self, bytes: u64, memory: MemoryLimits) -> bool {
        let exporting_bytes = self.live_bytes.saturating_sub(self.held_bytes);
        self.live.is_empty()
            || (self.live_bytes.saturating_add(bytes) <= memory.all_bytes
                && exporting_bytes.saturating_add(bytes) <= memory.exporting_bytes)
    }
}

// === impl Shared ===

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, LogState> {
        self.state.lock().expect("nothing panics while it holds the lock")
    }

    pub(super) fn failure(&self) -> Option<Arc<str>> {
        self.lock().failure.clone()
    }

    pub(super) fn set_failure(&self, failure: Option<Arc<str>>) {
        self.lock().failure = failure;
        self.changed.notify_one();
    }

    pub(super) fn kept_bytes(&self) -> u64 {
        self.lock().kept_bytes
    }

    /// Returns whether the record was confirmed to its sender and is not settled.
    pub(super) fn knows(&self, id: RecordId) -> bool {
        let state = self.lock();
        state.live.contains_key(&id)
            || state.parked.contains(&id)
            || state.in_transit.contains_key(&id)
            || state.backlog.contains(id.0)
    }

    /// Notes a record that is safe and whose sender is about to get its response.
    pub(super) fn confirmed(&self, id: RecordId, received: Option<SystemTime>) {
        self.lock().in_transit.insert(id, received);
    }

    /// Returns a record that could not be read to the front of the backlog.
    pub(super) fn put_back(&self, id: RecordId) {
        let mut state = self.lock();
        let received = state.in_transit.remove(&id).flatten();
        state.backlog.add(id.0, received);
    }

    /// Processes a record that was just written from memory, if there is room, or else adds it to the backlog.
    pub(super) fn admit(self: &Arc<Self>, id: RecordId, live: Live) -> Offered {
        let mut state = self.lock();
        // While older records wait on disk, half of the memory is reserved for them; otherwise new records would always
        // be first.
        let room = if state.backlog.is_empty() { self.memory } else { self.memory.half() };
        if state.awaits_room.is_none() && state.fits(live.memory_bytes, room) {
            return Offered::Live(self.insert_live(&mut state, id, live));
        }
        state.in_transit.remove(&id);
        state.backlog.add(id.0, Some(live.received));
        drop(state);
        self.changed.notify_one();
        Offered::Stored
    }

    pub(super) fn insert_live(self: &Arc<Self>, state: &mut LogState, id: RecordId, live: Live) -> Taken {
        let stored_bytes = live.stored_bytes;
        state.live_bytes += live.memory_bytes;
        state.in_transit.remove(&id);
        state.live.insert(id, live);
        Taken::new(id, stored_bytes, Arc::clone(self) as Arc<dyn Ledger>)
    }

    pub(super) fn holds(&self, bytes: u64) {
        let mut state = self.lock();
        state.held_bytes = bytes;
        self.made_room(state);
    }

    /// Wakes the feed if a record waits on disk for room in memory. Without one, nothing needs to wake up for each request.
    fn made_room(&self, state: MutexGuard<'_, LogState>) {
        let is_awaited = !state.backlog.is_empty();
        drop(state);
        if is_awaited {
            self.changed.notify_one();
        }
    }

    pub(super) fn next_to_read(&self) -> Option<RecordId> {
        let mut state = self.lock();
        // No body is empty.
        if !state.fits(1, self.memory) {
            return None;
        }
        let since = state.backlog.since();
        let id = state.backlog.pop().map(RecordId)?;
        let needs = state.awaits_room.filter(|(other, _)| *other == id).map_or(0, |(_, bytes)| bytes);
        if !state.fits(needs, self.memory) {
            state.backlog.add(id.0, since);
            return None;
        }
        state.awaits_room = None;
        state.in_transit.insert(id, since);
        Some(id)
    }

    /// Reads a record that is only on disk. Returns `None` when the record is damaged or missing, or does not
    /// fit into memory now.
    pub(super) fn read(self: &Arc<Self>, id: RecordId) -> Result<Option<Stored>, io::Error> {
        let stored = match self.reader.read(id.0) {
            Ok(stored) => stored,
            Err(RecordReadError::Unavailable(error)) => {
                warn!(record = id.0, %error, "reading a queued record failed");
                return Err(error);
            }
            Err(RecordReadError::Missing) => {
                self.give_up(id, None, "missing");
                return Ok(None);
            }
            Err(RecordReadError::Damaged(stored)) => {
                self.give_up(id, stored.as_deref(), "wrong checksum");
                return Ok(None);
            }
        };
        let stored_bytes = stored.len() as u64;
        match record::decode(&stored) {
            Ok(record) => Ok(self.revive(id, stored_bytes, record)),
            Err(error) => {
                self.give_up(id, Some(&stored), &crate::telemetry::logging::chain(&error).to_string());
                Ok(None)
            }
        }
    }

    /// Returns `None` if the record does not fit into memory now. It stays the next one to read.
    fn revive(self: &Arc<Self>, id: RecordId, stored_bytes: u64, record: Record) -> Option<Stored> {
        let memory_bytes = record.body.len() as u64;
        let live = Live { stored_bytes, memory_bytes, received: record.received, is_idle: false };
        let progress =
            self.reader.progress(id.0).map_or_else(Progress::default, |bytes| decode_progress(id, &bytes));
        let mut state = self.lock();
        if !state.fits(memory_bytes, self.memory) {
            state.awaits_room = Some((id, memory_bytes));
            state.in_transit.remove(&id);
            state.backlog.add(id.0, Some(record.received));
            return None;
        }
        state.backlog.popped(record.received);
        let taken = self.insert_live(&mut state, id, live);
        let origin = match id.0 < self.first_id {
            true => Origin::EarlierProcess,
            false => Origin::ThisProcess,
        };
        Some(Stored { record, progress, taken, origin })
    }

    /// Sets aside a record that cannot be read, so that an operator can inspect it and it does not block the queue.
    fn give_up(&self, id: RecordId, stored: Option<&[u8]>, reason: &str) {
        self.metrics.damaged_record();
        let file = format!("record.damaged-{}", id.0);
        let kept = stored.is_some_and(|stored| self.keep(&file, stored).is_ok());
        error!(record = id.0, reason, file, kept, "damaged queue record set aside");
        let mut state = self.lock();
        let received = state.in_transit.remove(&id).flatten();
        let Some(stored) = stored.filter(|_| kept) else {
            // There is no other copy: the next start may be able to read it.
            state.park(id, received);
            return;
        };
        let bytes = stored.len() as u64;
        state.kept_bytes = state.kept_bytes.saturating_sub(bytes);
        self.notes.done(id, bytes, &self.commands);
    }

    fn keep(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let file = self.files.create(name)?;
        file.write_all_at(0, bytes)?;
        file.sync()?;
        self.files.sync_directory()
    }
}

/// Decodes progress. Unreadable progress costs duplicates, not data.
fn decode_progress(id: RecordId, bytes: &[u8]) -> Progress {
    Progress::decode(bytes).unwrap_or_else(|| {
        warn!(record = id.0, "record progress unreadable; its items may be delivered twice");
        Progress::default()
    })
}

impl Ledger for Shared {
    fn settled(&self, _: RecordId, signal: Signal, items: Range<u32>, outcome: Settled) {
        self.metrics.settled(signal, outcome, items.end - items.start);
    }

    fn progressed(&self, record: RecordId, progress: &Arc<Tracker>) {
        if progress.claim() {
            self.notes.progress(record, Arc::clone(progress), &self.commands);
        }
    }

    fn idle(&self, record: RecordId) {
        if let Some(live) = self.lock().live.get_mut(&record) {
            live.is_idle = true;
        }
    }

    fn acknowledge(&self, record: RecordId, bytes: u64) {
        let mut state = self.lock();
        if let Some(live) = state.live.remove(&record) {
            state.live_bytes -= live.memory_bytes;
        }
        state.kept_bytes -= bytes;
        state.full = false;
        state.drain_rate.released(Instant::now(), bytes);
        self.made_room(state);
        self.notes.done(record, bytes, &self.commands);
    }

    fn release(&self, record: RecordId, _bytes: u64) {
        // The record stays on disk for the next start. If it caused a failure now, it would cause it again at once.
        let mut state = self.lock();
        if let Some(live) = state.live.remove(&record) {
            state.live_bytes -= live.memory_bytes;
            state.park(record, Some(live.received));
        }
        self.made_room(state);
    }
}
