//! Log lines about data that the downstream rejected.
//!
//! In: rejected exports and partial successes, one by one. Out: a line for each, up to [`LINES`] a minute for each signal and
//! kind; the next line reports how many were suppressed. Leaves to others: counting, which the metrics do, and keeping the
//! data, which the store of rejected exports does.

use tokio::time::Instant;
use tracing::warn;

use super::RejectedExport;
use super::response::PartialSuccess;
use crate::event::Signal;
use crate::telemetry::LineLimit;

/// Maximum number of lines a minute. With `delivery: single` every span is an export: a downstream that rejects all of them
/// must not fill the disk with logs.
const LINES: u32 = 10;

/// Rate limits of the lines, by signal.
pub(super) struct Losses {
    rejected: [LineLimit; Signal::ALL.len()],
    partial: [LineLimit; Signal::ALL.len()],
}

// === impl Losses ===

impl Losses {
    pub(super) fn rejected(&self, export: RejectedExport<'_>) {
        let Some(suppressed) = self.rejected[export.signal as usize].admit(now()) else { return };
        let (signal, items, reason) = (export.signal.as_str(), export.items, export.reason);
        let size_bytes = export.json.len();
        warn!(signal, items, size_bytes, reason, suppressed = suppressed.shown(), "export rejected");
    }

    pub(super) fn partial(&self, signal: Signal, items: u64, partial: &PartialSuccess) {
        let Some(suppressed) = self.partial[signal as usize].admit(now()) else { return };
        let (rejected, reason) = (partial.rejected_items, partial.message.as_str());
        warn!(
            signal = signal.as_str(),
            items,
            rejected,
            reason,
            suppressed = suppressed.shown(),
            "partial success"
        );
    }
}

impl Default for Losses {
    fn default() -> Self {
        let limits = || Signal::ALL.map(|_| LineLimit::new(LINES));
        Self { rejected: limits(), partial: limits() }
    }
}

/// Returns tokio's time, which is virtual in tests.
fn now() -> std::time::Instant {
    Instant::now().into_std()
}
