//! The outermost service of the stack: observes the beginning and the end of each export.
//!
//! In: a [`Batch`] with its receipts. Out: what is left to send: nothing, or the halves of a batch that was rejected.
//! Promises: items are counted and receipts settled exactly once, on every path; an export that is dropped before its end,
//! because the process is stopping, settles nothing.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use tower::{Service, ServiceExt};

use super::attempt::ExportObserver;
use super::batch::Batch;
use super::compress::Compressors;
use super::encode::Encoder;
use super::losses::Losses;
use super::outcome::Outcome;
use super::response::{PartialSuccess, printable};
use super::stack::{ExportBody, SendExports};
use super::{Carried, RejectSink, RejectedExport};
use crate::config::ExporterConfig;
use crate::event::{Settled, Signal};
use crate::telemetry::Metrics;
use crate::telemetry::inspect::view::ExportState;

/// Middleware that encodes batches and observes their exports.
#[derive(Clone)]
pub(super) struct Observe<S> {
    encoders: [Encoder; Signal::ALL.len()],
    stacks: Arc<[S; Signal::ALL.len()]>,
    observer: Arc<Observer>,
}

/// Observer of the ends of exports.
pub(super) struct Observer {
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
            observer: Arc::new(Observer { metrics, rejects, losses: Losses::default() }),
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
        // Each export polls its own clone of the stack for readiness.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, batch: Batch) -> Self::Future {
        let signal = batch.signal();
        let encoder = self.encoders[signal as usize].clone();
        let stack = self.stacks[signal as usize].clone();
        let observer = Arc::clone(&self.observer);
        Box::pin(async move {
            let of_export = ExportObserver::begin(&observer.metrics, &batch);
            // Not in a separate layer: a failed encoding is an outcome of the export.
            let plain = encoder.plain(&batch);
            let outcome = match encoder.body(plain).await {
                Ok(body) => stack.oneshot(ExportBody { body, observer: of_export.clone() }).await?,
                Err(error) => Outcome::Permanent { reason: printable(&error.to_string()) },
            };
            Ok(observer.finish(batch, outcome, &of_export))
        })
    }
}

// === impl Observer ===

impl Observer {
    fn finish(&self, batch: Batch, outcome: Outcome, export: &ExportObserver) -> Option<[Batch; 2]> {
        match outcome {
            Outcome::Sent { partial } => {
                export.finish(ExportState::Delivered);
                self.sent(batch, partial);
            }
            Outcome::Permanent { reason } => match batch.split() {
                // A bad item must not affect the others, and it is identified only when it is sent alone.
                Ok(halves) => {
                    export.finish(ExportState::Queued);
                    return Some(halves);
                }
                Err(single) => {
                    export.finish(ExportState::Rejected);
                    self.rejected(single, &reason);
                }
            },
            Outcome::GivenUp { reason } => {
                export.finish(ExportState::Rejected);
                self.rejected(batch, &reason);
            }
            // The layers below never return these; if they did, the queue would keep the data.
            Outcome::Throttled { .. } | Outcome::Retryable { .. } | Outcome::Blocked { .. } => {}
        }
        None
    }

    /// Records a delivery, even if the downstream rejected a part of it: OTLP forbids retrying a partial success.
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
            let json = export.request.json();
            let rejected = RejectedExport { signal, items, json: &json, reason };
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
