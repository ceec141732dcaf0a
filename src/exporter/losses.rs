//! What the log says about data that the downstream will not have.
//!
//! In: rejected exports and partial successes, one by one. Out: a line for each, up to [`LINES`] in a minute for
//! each signal and kind; the next line after that says how many were left out. Leaves to others: the counts, which
//! are in the metrics, and the data, which is where rejected exports are kept.

use tokio::time::Instant;
use tracing::warn;

use super::RejectedExport;
use super::response::PartialSuccess;
use crate::otlp::Signal;
use crate::telemetry::LineLimit;

/// With `delivery: single` every span is an export: a downstream that refuses them all must not fill the disk.
const LINES: u32 = 10;

/// The lines about all signals.
pub(super) struct Losses {
    rejected: [LineLimit; Signal::ALL.len()],
    partial: [LineLimit; Signal::ALL.len()],
}

// === impl Losses ===

impl Losses {
    pub(super) fn rejected(&self, export: RejectedExport<'_>) {
        let Some(left_out) = self.rejected[export.signal as usize].admit(now()) else { return };
        let (signal, items, reason) = (export.signal.as_str(), export.items, export.reason);
        let size_bytes = export.json.len();
        warn!(signal, items, size_bytes, reason, left_out = left_out.shown(), "export rejected");
    }

    pub(super) fn partial(&self, signal: Signal, items: u64, partial: &PartialSuccess) {
        let Some(left_out) = self.partial[signal as usize].admit(now()) else { return };
        let (rejected, reason) = (partial.rejected_items, partial.message.as_str());
        warn!(
            signal = signal.as_str(),
            items,
            rejected,
            reason,
            left_out = left_out.shown(),
            "downstream took only a part of an export, or has a warning"
        );
    }
}

impl Default for Losses {
    fn default() -> Self {
        let limits = || Signal::ALL.map(|_| LineLimit::new(LINES));
        Self { rejected: limits(), partial: limits() }
    }
}

/// Virtual where time is.
fn now() -> std::time::Instant {
    Instant::now().into_std()
}
