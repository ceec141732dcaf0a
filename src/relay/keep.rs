//! Rejected input of a request, written to the rejected lines.

use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use futures_util::future::OptionFuture;
use tokio::task::spawn_blocking;

use super::{ReceiverIndex, Relay};
use crate::receiver::{Reading, Rejected};
use crate::rejected::{Input, Rejection};

/// A body as it is stored.
#[derive(Clone)]
pub(super) struct Kept {
    pub(super) bytes: Bytes,
    /// Length of a body whose bytes must not be kept.
    pub(super) withheld: Option<usize>,
    /// The event as it was sent, for its lookup. It is not stored.
    pub(super) event: Bytes,
}

// === impl Relay ===

impl Relay {
    /// Writes rejected units to the rejected lines, before the response is sent.
    pub(super) async fn keep_rejected(
        self: &Arc<Self>,
        index: ReceiverIndex,
        received: SystemTime,
        body: &Kept,
        reading: &Reading,
    ) {
        // Routine events would fill the file, and then rejected input would be discarded.
        let ignored = reading.ignored.filter(|ignored| !ignored.is_routine);
        let whole = ignored.map(|reason| (reason.as_str(), body.clone()));
        self.write_rejected(index, received, whole, reading.rejected.clone()).await;
    }

    /// Writes a whole body with a reason, and parts of one, to the rejected lines.
    pub(super) async fn write_rejected(
        self: &Arc<Self>,
        index: ReceiverIndex,
        received: SystemTime,
        whole: Option<(&'static str, Kept)>,
        rejected: Vec<Rejected>,
    ) {
        if whole.is_none() && rejected.is_empty() {
            return;
        }
        let relay = Arc::clone(self);
        let written = spawn_blocking(move || {
            let receiver = relay.receiver(index);
            let receiver = receiver.id();
            let whole = whole.iter().map(|(reason, body)| Rejection {
                receiver,
                position: None,
                reason,
                input: body.input(),
            });
            let parts = rejected.iter().map(|rejected| Rejection {
                receiver,
                position: Some((rejected.line, rejected.column)),
                reason: &rejected.reason,
                input: rejected.input(),
            });
            relay.rejected.write(received, whole.chain(parts))
        });
        match written.await {
            Ok(kept) => drop(OptionFuture::from(kept).await),
            Err(failure) => std::panic::resume_unwind(failure.into_panic()),
        }
    }
}

// === impl Kept ===

impl Kept {
    /// Returns the body for the rejected lines.
    fn input(&self) -> Input<'_> {
        self.withheld.map_or(Input::Bytes(&self.bytes), Input::Withheld)
    }
}

impl From<Bytes> for Kept {
    fn from(bytes: Bytes) -> Self {
        Self { event: bytes.clone(), bytes, withheld: None }
    }
}

// === impl Rejected ===

impl Rejected {
    /// Returns the input for the rejected lines.
    fn input(&self) -> Input<'_> {
        let withheld = self.scrubbed.and_then(|scrubbed| scrubbed.withheld);
        withheld.map_or(Input::Bytes(&self.input), Input::Withheld)
    }
}
