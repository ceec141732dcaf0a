//! The outermost service of the way out: sees each export begin and end, once.
//!
//! In: a [`Batch`] with its receipts. Out: what is left to send, which is nothing, or the halves of a batch that was
//! refused. Promises: items are counted and receipts settled exactly once, on every path, whatever happens below;
//! an export that is dropped on the way (the process is stopping) settles nothing.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use tower::{Service, ServiceExt};

use super::batch::Batch;
use super::compress::Compressors;
use super::encode::Encoder;
use super::losses::Losses;
use super::outcome::Outcome;
use super::response::{PartialSuccess, printable};
use super::stack::{SendExports, WatchedBody};
use super::{Carried, RejectSink, RejectedExport};
use crate::config::ExporterConfig;
use crate::otlp::Signal;
use crate::queue::Settled;
use crate::telemetry::Metrics;
use crate::telemetry::inspect::Watch;
use crate::telemetry::inspect::view::ExportEnd;

/// The middleware.
#[derive(Clone)]
pub(super) struct Observe<S> {
    /// One for each signal.
    encoders: [Encoder; Signal::ALL.len()],
    stacks: Arc<[S; Signal::ALL.len()]>,
    books: Arc<Books>,
}

/// Where the ends of exports are written down.
pub(super) struct Books {
    metrics: Metrics,
    rejects: Arc<dyn RejectSink>,
    losses: Losses,
}

// === impl Observe ===

impl<S> Observe<S> {
    pub(super) fn new(
        stacks: [S; Signal::ALL.len()],
        config: &ExporterConfig,
        metrics: Metrics,
        rejects: Arc<dyn RejectSink>,
    ) -> Self {
        let compressors = Arc::new(Compressors::new());
        let encoders =
            Signal::ALL.map(|signal| Encoder::new(signal, &config.of(signal), Arc::clone(&compressors)));
        Self {
            encoders,
            stacks: Arc::new(stacks),
            books: Arc::new(Books { metrics, rejects, losses: Losses::default() }),
        }
    }
}

impl<S> Service<Batch> for Observe<S>
where
    S: SendExports,
{
    type Response = Option<[Batch; 2]>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Option<[Batch; 2]>, Infallible>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // each export waits for a clone of its own to be ready
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, batch: Batch) -> Self::Future {
        let signal = batch.signal();
        let encoder = self.encoders[signal as usize].clone();
        let stack = self.stacks[signal as usize].clone();
        let books = Arc::clone(&self.books);
        Box::pin(async move {
            let watch = books.metrics.inspector.sending(|| batch.identities());
            let attempts = books.metrics.traces.export(|| batch.causes());
            // not in a layer of its own: an encoding that fails is one more way for an export to end
            let pieces = encoder.pieces(&batch);
            let outcome = match encoder.body(pieces).await {
                Ok(body) => stack.oneshot(WatchedBody { body, watch: watch.clone(), attempts }).await?,
                Err(error) => Outcome::Permanent { reason: printable(&error.to_string()) },
            };
            Ok(books.close(batch, outcome, &watch))
        })
    }
}

// === impl Books ===

impl Books {
    fn close(&self, batch: Batch, outcome: Outcome, watch: &Watch) -> Option<[Batch; 2]> {
        match outcome {
            Outcome::Sent { partial } => {
                watch.ended(ExportEnd::Delivered);
                self.sent(batch, partial);
            }
            Outcome::Permanent { reason } => match batch.split() {
                // One bad event must not cost its neighbours, and only alone can it be told which it was.
                Ok(halves) => {
                    watch.ended(ExportEnd::Split);
                    return Some(halves);
                }
                Err(alone) => {
                    watch.ended(ExportEnd::Rejected);
                    self.rejected(alone, &reason);
                }
            },
            Outcome::GivenUp { reason } => {
                watch.ended(ExportEnd::Rejected);
                self.rejected(batch, &reason);
            }
            // the layers below end no export with these; if they ever do, the receipts stay with the queue
            Outcome::Throttled { .. } | Outcome::Retryable { .. } | Outcome::Blocked { .. } => {}
        }
        None
    }

    /// Delivered, also when the downstream threw a part of it away: OTLP forbids to send that again.
    fn sent(&self, batch: Batch, partial: Option<PartialSuccess>) {
        let signal = batch.signal();
        let items = batch.items();
        let rejected = partial.as_ref().map_or(0, |partial| partial.rejected_items).min(items);
        self.metrics.sent(signal, count(items - rejected));
        if let Some(partial) = partial {
            self.metrics.send_failed(signal, count(rejected));
            self.losses.partial(signal, items, &partial);
        }
        batch.exports().flat_map(|export| export.receipts).for_each(Carried::settle);
    }

    fn rejected(&self, batch: Batch, reason: &str) {
        for export in batch.exports() {
            let (signal, items) = (export.signal, export.items);
            self.metrics.send_failed(signal, items);
            let rejected = RejectedExport { signal, items, json: export.request.json(), reason };
            self.losses.rejected(rejected);
            self.rejects.reject(rejected);
            for carried in export.receipts {
                carried.receipt.settle(Settled::Rejected);
            }
        }
    }
}

fn count(items: u64) -> u32 {
    u32::try_from(items).unwrap_or(u32::MAX)
}
