//! Slots on the wire: how many requests may await a response at the same time.
//!
//! In: attempts. Out: a slot for each, in the order of asking. Promises: over all signals at most `max_in_flight` slots are
//! taken; a signal whose attempts fail takes at most a third of them, so that an endpoint that hangs leaves the others theirs.

use std::sync::Arc;

use tokio::sync::{Semaphore, SemaphorePermit};

use crate::event::Signal;

/// Slots for the requests of one signal.
pub(super) struct Slots {
    /// Shared by all signals.
    wire: Arc<Semaphore>,
    /// Additional limit of this signal while its attempts fail.
    failing: Semaphore,
}

/// A slot on the wire, until it is dropped.
pub(super) struct Slot<'a> {
    _wire: SemaphorePermit<'a>,
    _failing: Option<SemaphorePermit<'a>>,
}

// === impl Slots ===

impl Slots {
    /// Returns the slots of each signal; together they are `max_in_flight`.
    pub(super) fn for_all_signals(max_in_flight: usize) -> [Arc<Self>; Signal::ALL.len()] {
        let wire = Arc::new(Semaphore::new(max_in_flight));
        let while_failing = (max_in_flight / Signal::ALL.len()).max(1);
        Signal::ALL
            .map(|_| Arc::new(Self { wire: Arc::clone(&wire), failing: Semaphore::new(while_failing) }))
    }

    /// Waits for a slot. `is_failing` reports whether the attempts of this signal fail.
    pub(super) async fn acquire(&self, is_failing: impl Fn() -> bool) -> Slot<'_> {
        loop {
            // First, so that what waits for it keeps no slot from other signals.
            let failing = if is_failing() { Some(permit(&self.failing).await) } else { None };
            let wire = permit(&self.wire).await;
            // Otherwise the attempts began to fail during the wait.
            if failing.is_some() || !is_failing() {
                return Slot { _wire: wire, _failing: failing };
            }
        }
    }
}

async fn permit(semaphore: &Semaphore) -> SemaphorePermit<'_> {
    semaphore.acquire().await.expect("the semaphore is never closed")
}
