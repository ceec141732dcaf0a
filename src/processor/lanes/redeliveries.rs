//! Events that this worker has read already, by their sender's id.
//!
//! All records of an event have one key, and so one partition: whichever front accepted a redelivery, the worker that read the
//! event reads it too. Bounded in number; what is forgotten is relayed again, with the same span ids.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sha2::{Digest, Sha256};

use crate::event::RecordId;
use crate::queue::{Headers, Taken};

const MAX_EVENTS: usize = 10_000;

#[derive(Debug, Default)]
pub(super) struct Redeliveries(Arc<Mutex<ReadEvents>>);

#[derive(Debug, Default)]
struct ReadEvents {
    /// The record that brought the event, and its partition.
    records: HashMap<RedeliveryKey, (RecordId, i32)>,
    order: VecDeque<RedeliveryKey>,
}

/// Half a digest: the length of what is kept must not be the sender's to choose.
type RedeliveryKey = [u8; 16];

// === impl Redeliveries ===

impl Redeliveries {
    /// Returns `true` if another record brought the event before, and else remembers this one.
    pub(super) fn is_known(&self, headers: &Headers, record: &Taken, partition: i32) -> bool {
        let Some(key) = key(headers) else { return false };
        let mut events = self.lock();
        if let Some((first, _)) = events.records.get(&key) {
            return *first != record.id();
        }
        if events.order.len() >= MAX_EVENTS
            && let Some(oldest) = events.order.pop_front()
        {
            events.records.remove(&oldest);
        }
        events.order.push_back(key);
        events.records.insert(key, (record.id(), partition));
        false
    }

    /// Has the event forgotten when the downstream rejects its span, so that a redelivery is exported again.
    pub(super) fn forget_when_rejected(&self, headers: &Headers, record: &mut Taken) {
        let Some(key) = key(headers) else { return };
        let events = Arc::clone(&self.0);
        record.on_rejected(move || {
            events.lock().unwrap_or_else(PoisonError::into_inner).records.remove(&key);
        });
    }

    /// Forgets the events of partitions whose next owner decides about them.
    pub(super) fn forget(&self, partitions: &[i32]) {
        let mut events = self.lock();
        events.records.retain(|_, (_, partition)| !partitions.contains(partition));
        let ReadEvents { records, order } = &mut *events;
        order.retain(|key| records.contains_key(key));
    }

    fn lock(&self) -> MutexGuard<'_, ReadEvents> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the key of an event. The same id of another receiver is another event.
fn key(headers: &Headers) -> Option<RedeliveryKey> {
    let id = headers.event_id.as_ref()?;
    let digest = Sha256::new().chain_update(&headers.receiver).chain_update([0]).chain_update(id).finalize();
    digest.first_chunk().copied()
}
