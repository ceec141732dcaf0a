//! What the log says about data that the downstream will not have.
//!
//! In: rejected exports and partial successes, one by one. Out: a line for each, up to [`LINES`] in a [`PERIOD`] for
//! each signal and kind; the next line after that says how many were left out. Leaves to others: the counts, which
//! are in the metrics, and the data, which is where rejected exports are kept.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tracing::warn;

use super::RejectedExport;
use super::response::PartialSuccess;
use crate::otlp::Signal;

/// With `delivery: single` every span is an export: a downstream that refuses them all must not fill the disk.
const LINES: u32 = 10;
const PERIOD: Duration = Duration::from_secs(60);

/// The lines about all signals.
#[derive(Default)]
pub(super) struct Losses {
    rejected: [Limit; Signal::ALL.len()],
    partial: [Limit; Signal::ALL.len()],
}

/// So many lines in a period.
#[derive(Default)]
struct Limit {
    period: Mutex<Period>,
}

#[derive(Default)]
struct Period {
    began: Option<Instant>,
    lines: u32,
    left_out: u64,
}

// === impl Losses ===

impl Losses {
    pub(super) fn rejected(&self, export: RejectedExport<'_>) {
        let Some(left_out) = self.rejected[export.signal as usize].admit() else { return };
        let (signal, items, reason) = (export.signal.as_str(), export.items, export.reason);
        let size_bytes = export.json.len();
        warn!(signal, items, size_bytes, reason, left_out = shown(left_out), "export rejected");
    }

    pub(super) fn partial(&self, signal: Signal, items: u64, partial: &PartialSuccess) {
        let Some(left_out) = self.partial[signal as usize].admit() else { return };
        let (rejected, reason) = (partial.rejected_items, partial.message.as_str());
        warn!(
            signal = signal.as_str(),
            items,
            rejected,
            reason,
            left_out = shown(left_out),
            "downstream took only a part of an export, or has a warning"
        );
    }
}

/// Nothing to say is not said.
fn shown(left_out: u64) -> Option<u64> {
    (left_out > 0).then_some(left_out)
}

// === impl Limit ===

impl Limit {
    /// Whether a line may be written, and if so how many were not since the last one.
    fn admit(&self) -> Option<u64> {
        self.period.lock().unwrap_or_else(PoisonError::into_inner).admit(Instant::now())
    }
}

// === impl Period ===

impl Period {
    fn admit(&mut self, now: Instant) -> Option<u64> {
        if self.began.is_none_or(|began| now.duration_since(began) >= PERIOD) {
            (self.began, self.lines) = (Some(now), 0);
        }
        if self.lines == LINES {
            self.left_out += 1;
            return None;
        }
        self.lines += 1;
        Some(std::mem::take(&mut self.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn says_how_many_lines_were_left_out_when_the_next_period_begins() {
        let mut period = Period::default();
        let now = Instant::now();
        let admitted: Vec<_> = (0..100).filter_map(|_| period.admit(now)).collect();
        assert_eq!(admitted, [0; LINES as usize]);
        assert_eq!(period.admit(now + PERIOD), Some(90));
        assert_eq!(period.admit(now + PERIOD), Some(0));
    }
}
