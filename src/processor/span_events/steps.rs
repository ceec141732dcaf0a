//! Counts how often the places of what is held are touched, in tests only: so that a test can show that this does
//! not grow with what is held, without a clock.

#[cfg(test)]
use std::sync::atomic::{AtomicUsize, Ordering};

#[derive(Debug, Default)]
pub(super) struct Steps {
    #[cfg(test)]
    count: AtomicUsize,
}

// === impl Steps ===

impl Steps {
    pub(super) fn step(&self) {
        #[cfg(test)]
        self.count.fetch_add(1, Ordering::Relaxed);
    }

    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }
}
