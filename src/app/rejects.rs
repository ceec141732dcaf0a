//! Rejected exports, kept with the other rejected input.

use std::sync::Arc;

use super::wall_clock;
use crate::exporter::{RejectSink, RejectedExport};
use crate::rejected::{DOWNSTREAM, Input, RejectedLines, Rejection};

/// Writes exports that the downstream rejected for good to the rejected lines. The exporter logs them.
pub(super) struct KeepRejects(pub(super) Arc<RejectedLines>);

// === impl KeepRejects ===

impl RejectSink for KeepRejects {
    fn reject(&self, export: RejectedExport<'_>) {
        let rejection = Rejection {
            receiver: DOWNSTREAM,
            position: None,
            reason: export.reason,
            input: Input::Bytes(export.json),
        };
        // An append without a sync: tens of microseconds on a task that has just waited for a response.
        drop(self.0.write(wall_clock(), [rejection]));
    }
}
