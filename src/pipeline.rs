//! Drives the processor: hands it what was taken, wakes it when something has waited long enough, passes on what
//! it lets go of.
//!
//! The processor itself knows neither tasks nor clocks. Both channels need no bound of their own: what is in them
//! holds receipts, and their records count against the queue's bound.

use std::time::Instant;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio_util::sync::CancellationToken;

use crate::exporter::Export;
use crate::processor::{SpanEvents, Work};
use crate::telemetry::Inspector;

/// Runs until `drain` says that no more work will come; then everything that is held leaves, and the channel to
/// the exporter closes.
pub(crate) async fn run(
    mut processor: SpanEvents,
    mut work: UnboundedReceiver<Vec<Work>>,
    exports: UnboundedSender<Vec<Export>>,
    inspector: Inspector,
    drain: CancellationToken,
) {
    let mut out = Vec::new();
    loop {
        let due = processor.next_deadline();
        tokio::select! {
            request = work.recv() => match request {
                Some(request) => processor.accept(Instant::now(), request, &mut out),
                None => break,
            },
            () = sleep_until(due) => processor.expire(Instant::now(), &mut out),
            // What is in the channel already still comes out of it.
            () = drain.cancelled(), if !work.is_closed() => work.close(),
        }
        send(&mut out, &exports, &inspector);
        if exports.is_closed() {
            // Nothing can leave any more. With the channel closed the relay is not ready.
            return;
        }
    }
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
    use crate::config::SpanEventsConfig;
    use crate::telemetry::{Inspector, Metrics};

    #[tokio::test]
    #[expect(clippy::disallowed_methods, reason = "as app.rs makes them")]
    async fn ends_when_nothing_can_leave_any_more() {
        let (work, incoming) = tokio::sync::mpsc::unbounded_channel();
        let (exports, outgoing) = tokio::sync::mpsc::unbounded_channel();
        let processor = SpanEvents::new(&SpanEventsConfig::default(), Metrics::new());
        let running =
            tokio::spawn(run(processor, incoming, exports, Inspector::new(), CancellationToken::new()));
        drop(outgoing);
        work.send(Vec::new()).expect("it runs");
        running.await.expect("it does not panic");
        assert!(work.is_closed());
    }
}
