//! Idle connections, from the longest idle one.
//!
//! In: connections as they become idle. Out: at the bound on connections, the one to close for a new one.
//! Promises: a connection with a request in progress is never closed; the cost of a request is constant, and the list is
//! never longer than twice the open connections.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use super::pulse::Pulse;

/// Length from which outdated entries are removed.
const COMPACT_FROM: usize = 64;

/// Idle connections in the order in which they became idle.
#[derive(Debug, Default)]
pub(super) struct IdleConnections {
    list: Mutex<List>,
    /// Notified when a connection was added.
    added: Notify,
    /// Notified when a connection that was to be closed is busy again.
    missed: Notify,
}

#[derive(Debug, Default)]
struct List {
    entries: VecDeque<IdleConnection>,
    /// Number of entries at which outdated ones are removed.
    compact_at: usize,
}

/// A connection that became idle. Outdated once it had a request since, or is closed.
#[derive(Debug)]
struct IdleConnection {
    pulse: Weak<Pulse>,
    idle_period: u64,
}

// === impl IdleConnections ===

impl IdleConnections {
    /// Adds a connection that became idle now.
    pub(super) fn add(&self, pulse: &Arc<Pulse>, idle_period: u64) {
        self.list().add(IdleConnection { pulse: Arc::downgrade(pulse), idle_period });
        self.added.notify_one();
    }

    /// Waits for a free slot and closes the longest idle connection if there is none. Waits for a connection to become idle
    /// while all of them are busy.
    pub(super) async fn slot(&self, slots: &Arc<Semaphore>) -> OwnedSemaphorePermit {
        let mut free = std::pin::pin!(Arc::clone(slots).acquire_owned());
        loop {
            let next = if self.close_longest() { &self.missed } else { &self.added };
            tokio::select! {
                biased;
                slot = free.as_mut() => return slot.expect("the semaphore is never closed"),
                () = next.notified() => {}
            }
        }
    }

    /// Closes the longest idle connection. Returns `false` if there is none.
    pub(super) fn close_longest(&self) -> bool {
        loop {
            let Some(longest) = self.list().entries.pop_front() else { return false };
            if longest.pulse.upgrade().is_some_and(|pulse| pulse.evict(longest.idle_period)) {
                return true;
            }
        }
    }

    /// Reports that a connection that was to be closed is busy again, so that another one is closed.
    pub(super) fn missed(&self) {
        self.missed.notify_one();
    }

    fn list(&self) -> MutexGuard<'_, List> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl List ===

impl List {
    fn add(&mut self, entry: IdleConnection) {
        if self.entries.len() >= self.compact_at.max(COMPACT_FROM) {
            self.entries.retain(IdleConnection::is_current);
            self.compact_at = 2 * self.entries.len();
        }
        self.entries.push_back(entry);
    }
}

// === impl IdleConnection ===

impl IdleConnection {
    fn is_current(&self) -> bool {
        self.pulse.upgrade().is_some_and(|pulse| pulse.is_idle_since(self.idle_period))
    }
}
