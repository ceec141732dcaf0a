//! Drives the processors: passes on what was accepted, wakes them when something was held long enough, and sends what
//! they let go of to the exporter.
//!
//! Processors know neither tasks nor clocks. Both channels need no bound of their own: what is in them
//! holds receipts, and their records count against the queue's bound.

use std::time::Instant;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio_util::sync::CancellationToken;

use crate::exporter::Export;
use crate::processor::{Settling, SpanEvents, Work};
use crate::telemetry::Inspector;

/// Runs until `drain` says that no more work will come; then held work is exported or stays in the queue, and the
/// channel to the exporter closes.
pub(crate) async fn run(
    mut settling: Settling,
    mut processor: SpanEvents,
    mut work: UnboundedReceiver<Vec<Work>>,
    exports: UnboundedSender<Vec<Export>>,
    inspector: Inspector,
    drain: CancellationToken,
) {
    let mut out = Vec::new();
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
            // What is in the channel already still comes out of it.
            () = drain.cancelled(), if !work.is_closed() => work.close(),
        }
        send(&mut out, &exports, &inspector);
        if exports.is_closed() {
            // Nothing can leave any more. With the channel closed the relay is not ready.
            return;
        }
    }
    processor.accept(Instant::now(), settling.drain(), &mut out);
    processor.flush(&mut out);
    send(&mut out, &exports, &inspector);
}

fn send(out: &mut Vec<Export>, exports: &UnboundedSender<Vec<Export>>, inspector: &Inspector) {
    if out.is_empty() {
        return;
    }
    if let Some(watching) = inspector.watching() {
        out.iter().for_each(|export| watching.left(export.departure()));
    }
    let ready = std::mem::take(out);
    // When the exporter was told to stop, the receipts are dropped unsettled: what a queue keeps it still has.
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
    #[expect(clippy::disallowed_methods, reason = "as app.rs makes them")]
    async fn ends_when_nothing_can_leave_any_more() {
        let (work, incoming) = tokio::sync::mpsc::unbounded_channel();
        let (exports, outgoing) = tokio::sync::mpsc::unbounded_channel();
        let settling = Settling::new(Storage::Memory, Metrics::new());
        let processor = SpanEvents::new(&SpanEventsConfig::default(), Metrics::new());
        let running = tokio::spawn(run(
            settling,
            processor,
            incoming,
            exports,
            Inspector::new(),
            CancellationToken::new(),
        ));
        drop(outgoing);
        work.send(Vec::new()).expect("it runs");
        running.await.expect("it does not panic");
        assert!(work.is_closed());
    }
}
