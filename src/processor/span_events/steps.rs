//! Counter of accesses to held data, in tests only: a test can show without a clock that the number of accesses does
//! not grow with the amount of held data.

#[cfg(test)]
use std::sync::atomic::{AtomicUsize, Ordering};

#[derive(Debug, Default)]
pub(super) struct AccessCount {
    #[cfg(test)]
    count: AtomicUsize,
}

// === impl AccessCount ===

impl AccessCount {
    pub(super) fn step(&self) {
        #[cfg(test)]
        self.count.fetch_add(1, Ordering::Relaxed);
    }

    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }
}
