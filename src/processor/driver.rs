//! Drives the processors: passes accepted work to them, wakes them when a hold expires, forwards what they release.
//!
//! The processors know neither tasks nor clocks. The two channels need no bound of their own: their messages hold
//! receipts, whose records count against the bound of the queue.

use std::time::Instant;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio_util::sync::CancellationToken;

use super::{Settling, SpanEvents, Work};
use crate::exporter::Export;
use crate::telemetry::Inspector;

/// Runs until `drain` signals that no more work will come, then exports what is held or leaves it in the queue, and
/// closes the channel to the exporter. Tells `holds` the memory of what is held, in bytes, each time it changes.
pub(crate) async fn run(
    mut settling: Settling,
    mut processor: SpanEvents,
    (mut work, exports): (UnboundedReceiver<Vec<Work>>, UnboundedSender<Vec<Export>>),
    inspector: Inspector,
    holds: impl Fn(usize),
    drain: CancellationToken,
) {
    let mut out = Vec::new();
    let mut held_bytes = 0;
    loop {
        let due = [settling.next_deadline(), processor.next_deadline()].into_iter().flatten().min();
        tokio::select! {
            request = work.recv() => match request {
                Some(request) => {
                    let now = Instant::now();
                    processor.accept(now, settling.accept(now, request), &mut out);
                }
                None => break,
            },
            () = sleep_until(due) => {
                let now = Instant::now();
                processor.expire(now, &mut out);
                processor.accept(now, settling.expire(now), &mut out);
            }
            // A closed channel still yields the remaining messages.
            () = drain.cancelled(), if !work.is_closed() => work.close(),
        }
        let bytes = processor.held_bytes();
        if std::mem::replace(&mut held_bytes, bytes) != bytes {
            holds(bytes);
        }
        send(&mut out, &exports, &inspector);
        if exports.is_closed() {
            // The exporter is gone. Closing the channel makes the relay not ready.
            return;
        }
    }
    processor.accept(Instant::now(), settling.drain(), &mut out);
    processor.flush(&mut out);
    send(&mut out, &exports, &inspector);
}

pub(super) fn send(out: &mut Vec<Export>, exports: &UnboundedSender<Vec<Export>>, inspector: &Inspector) {
    if out.is_empty() {
        return;
    }
    if let Some(watching) = inspector.watching() {
        out.iter().for_each(|export| watching.left(export.departure()));
    }
    let ready = std::mem::take(out);
    // If the exporter has stopped, the receipts are dropped unsettled, so the queue keeps the records.
    let _stopped = exports.send(ready);
}

async fn sleep_until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{SpanEventsConfig, Storage};
    use crate::telemetry::{Inspector, Metrics};

    #[tokio::test]
    #[expect(clippy::disallowed_methods, reason = "the same channels as in app.rs")]
    async fn ends_when_the_exporter_is_gone() {
        let (work, incoming) = tokio::sync::mpsc::unbounded_channel();
        let (exports, outgoing) = tokio::sync::mpsc::unbounded_channel();
        let settling = Settling::new(Storage::Memory, Metrics::new());
        let processor = SpanEvents::new(&SpanEventsConfig::default(), Metrics::new());
        let running = tokio::spawn(run(
            settling,
            processor,
            (incoming, exports),
            Inspector::new(),
            |_| {},
            CancellationToken::new(),
        ));
        drop(outgoing);
        work.send(Vec::new()).expect("the driver runs");
        running.await.expect("the driver does not panic");
        assert!(work.is_closed());
    }
}
