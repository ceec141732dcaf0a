//! Exports data downstream: export requests become POSTs, and receipts are settled by the responses.
//!
//! In: [`Export`]s. Out: one OTLP/HTTP request for each, or merged ones with `delivery: batch`.
//! Promises: every export ends once, delivered or rejected, unless the process stops first; then its receipts stay
//! unsettled and the queue still has it. Data is rejected for the responses in `permanent_status_codes` only, and item by
//! item. At most `max_in_flight` requests are on the wire.
//!
//! The way of an export: [`delivery`] receives it from the channel and, with `delivery: batch`, merges it with others
//! ([`batch`]) without copying them ([`slices`]). Then the tower [`stack`] of its signal, outermost first:
//!
//! 1. [`observe`]: counts the end of an export once and settles its receipts, however many attempts it took; a request
//!    whose data was condemned becomes two; rejected data is logged ([`losses`])
//! 2. [`retry`]: sends again, with growing pauses, what was not accepted through no fault of the data
//! 3. [`attempt`]: waits until the [`destination`] admits it and for one of the [`slots`] on the wire, measures the attempt and
//!    makes an [`outcome`] of its response ([`response`]) or [`fault`]; one that the destination is at fault for ([`remedy`], [`tls_port`]) is repeated
//! 4. the timeout of one attempt
//! 5. the POST ([`otlp_http`]) on a pooled connection ([`client`])
//!
//! Self-traces are exported separately ([`aside`]): below them is only the POST. So are the refused exports that
//! `spanrelay replay` sends again ([`resend`]).

mod delivery;

mod batch;

mod slices;

mod encode;

mod compress;

mod observe;

mod losses;

mod stack;

mod otlp_http;

mod client;

mod aside;

mod resend;

mod retry;

mod attempt;

mod destination;

mod remedy;

mod tls_port;

mod slots;

mod outcome;

mod response;

mod fault;

mod outage;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use smallvec::SmallVec;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio_util::sync::CancellationToken;

use crate::config::{Delivery as DeliveryConfig, ExporterConfig};
use crate::otlp::{ExportRequest, Signal};
use crate::queue::{Receipt, RecordId, Settled};
use crate::telemetry::Metrics;
use crate::telemetry::inspect::view::Departure;
use crate::telemetry::traces::Cause;

pub(crate) use aside::{Aside, AsideError};
use batch::Batcher;
use client::TlsError;
use delivery::Delivery;
use observe::Observe;
use otlp_http::Post;
pub(crate) use resend::{Resender, Resent};
use stack::SendExports;

/// One request that is to leave.
#[derive(Debug)]
pub(crate) struct Export {
    pub(crate) signal: Signal,
    pub(crate) request: ExportRequest,
    /// Spans, log records or metric points in it.
    pub(crate) items: u32,
    /// Receipts of the items, and of the log records that are events of them.
    pub(crate) receipts: Vec<Carried>,
}

/// A receipt that travels with an export.
#[derive(Debug)]
pub(crate) struct Carried {
    pub(crate) receipt: Receipt,
    /// The outcome once the downstream has accepted the export. When it never will, all receipts are rejected.
    pub(crate) outcome: Settled,
    /// Index of the item in the export that its first item leaves with. The others leave with those that follow.
    pub(crate) at: u32,
}

/// An export that the downstream will never take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RejectedExport<'a> {
    pub(crate) signal: Signal,
    pub(crate) items: u32,
    pub(crate) json: &'a Bytes,
    /// `downstream answered 400: <its message>`; one line, fit for a log.
    pub(crate) reason: &'a str,
}

/// Where rejected exports are kept. Called once for each, before its receipts are settled, from the task that sent
/// it: what takes long belongs elsewhere.
pub(crate) trait RejectSink: Send + Sync {
    fn reject(&self, export: RejectedExport<'_>);
}

/// Why the exporter cannot be built from its configuration.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExporterError {
    #[error("exporters.otlp_http: the endpoint for {signal} must be http:// or https:// and a host")]
    Address { signal: Signal },
    #[error("exporters.otlp_http: TLS for {signal} cannot be set up")]
    Tls {
        signal: Signal,
        #[source]
        source: TlsError,
    },
}

/// What is wrong with the files of `tls`, for whoever has no exporter to build.
pub(crate) fn tls_problems(config: &ExporterConfig) -> Vec<ExporterError> {
    client::tls_problems(&Signal::ALL.map(|signal| config.of(signal)))
}

/// Sends exports until there are no more.
pub(crate) struct Exporter {
    config: ExporterConfig,
    posts: [Post; Signal::ALL.len()],
    metrics: Metrics,
    rejects: Arc<dyn RejectSink>,
    wall_clock: fn() -> SystemTime,
}

// === impl Carried ===

impl Carried {
    /// Receipts that cover the items of an export from the first on.
    pub(crate) fn in_order(receipts: SmallVec<[Receipt; 1]>, outcome: Settled) -> SmallVec<[Self; 1]> {
        let mut next = 0;
        receipts
            .into_iter()
            .map(|receipt| {
                let at = next;
                next += receipt.items();
                Self { receipt, outcome, at }
            })
            .collect()
    }

    /// The downstream has accepted the export.
    pub(crate) fn settle(self) {
        self.receipt.settle(self.outcome);
    }

    /// Keeps what leaves with the first `items` of the export and returns what leaves with the others.
    fn split_at(mut self, items: u32) -> (Option<Self>, Option<Self>) {
        match items.checked_sub(self.at) {
            None | Some(0) => {
                self.at -= items;
                (None, Some(self))
            }
            Some(kept) if kept >= self.receipt.items() => (Some(self), None),
            Some(kept) => {
                let rest = Self { receipt: self.receipt.split_at(kept), outcome: self.outcome, at: 0 };
                (Some(self), Some(rest))
            }
        }
    }
}

// === impl Export ===

impl Export {
    /// Two exports: the first `items` of this one, and the others, each with the receipts that belong to it. The export
    /// itself when one of the two would be empty.
    pub(crate) fn split_at(self, items: u32) -> Result<[Self; 2], Self> {
        if items == 0 || items >= self.items {
            return Err(self);
        }
        let signal = self.signal;
        let first = self.request.select(signal, |item| item < items);
        let (Some(first), Some(second)) = (first, self.request.select(signal, |item| item >= items)) else {
            return Err(self);
        };
        let (mut kept, mut rest) = (Vec::new(), Vec::new());
        for carried in self.receipts {
            let (one, other) = carried.split_at(items);
            kept.extend(one);
            rest.extend(other);
        }
        let second = Self { signal, request: second, items: self.items - items, receipts: rest };
        Ok([Self { signal, request: first, items, receipts: kept }, second])
    }

    /// What the inspector is told of it when it leaves the processor.
    pub(crate) fn departure(&self) -> Departure<'_> {
        let records = self.receipts.iter().map(|carried| carried.receipt.record()).collect();
        Departure { signal: self.signal, items: self.items, json: self.request.json(), records }
    }

    /// The requests whose data is in it.
    fn causes(&self) -> impl Iterator<Item = Cause> {
        self.receipts.iter().map(|carried| carried.receipt.cause())
    }

    /// What the inspector knows it by.
    fn identity(&self) -> (Option<RecordId>, &Bytes) {
        (self.receipts.first().map(|carried| carried.receipt.record()), self.request.json())
    }
}

// === impl Exporter ===

impl Exporter {
    /// Reads certificates; connects to nothing yet. `wall_clock` is asked only for a `Retry-After` that is a date.
    pub(crate) fn new(
        config: &ExporterConfig,
        metrics: Metrics,
        rejects: Arc<dyn RejectSink>,
        wall_clock: fn() -> SystemTime,
    ) -> Result<Self, ExporterError> {
        let posts = otlp_http::posts(config)?;
        Ok(Self { config: config.clone(), posts, metrics, rejects, wall_clock })
    }

    /// Runs until the other side of the channel is gone and every export has ended, or until `stop` says to abandon
    /// what is left: attempts in flight are dropped and their receipts stay unsettled.
    ///
    /// Exports that become ready together come together, in one message. The channel needs no bound of its own: every
    /// export holds receipts, and their records count against the
    /// queue's bound until they are settled.
    pub(crate) async fn run(self, exports: UnboundedReceiver<Vec<Export>>, stop: CancellationToken) {
        let Self { config, posts, metrics, rejects, wall_clock } = self;
        let stacks = stack::stacks(&posts, &config, &metrics, wall_clock);
        deliver(Observe::new(stacks, &config, metrics, rejects), &config, exports, stop).await;
    }
}

async fn deliver<S: SendExports>(
    sender: Observe<S>,
    config: &ExporterConfig,
    exports: UnboundedReceiver<Vec<Export>>,
    stop: CancellationToken,
) {
    let batcher = match config.delivery {
        DeliveryConfig::Single => None,
        DeliveryConfig::Batch => Some(Batcher::new(config.batch.clone())),
    };
    Delivery::new(sender, batcher, config.max_in_flight).run(exports, stop).await;
}
